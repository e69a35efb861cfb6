"""The command line: ``advlib demo``, or ``python -m advlib demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import advlib


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments; None means those of the process.

    Returns:
        The exit status: 0, or 1 if the command could not do its work. Wrong arguments exit with 2.
    """
    args = _parser().parse_args(argv)
    try:
        status: int = args.command(args)
    except (OSError, ModuleNotFoundError) as error:  # a folder or a package is not there: nobody needs a traceback
        print(f"advlib: error: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="advlib", description="How robust is a PyTorch model, really?")
    parser.add_argument("--version", action="version", version=f"advlib {advlib.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="train a small network on real digits, cleanly and adversarially, attack it, and picture the result",
        description="Trains a small convolutional network on 4,000 MNIST digits, first on clean and then on "
        "adversarial images, attacks both networks with noise, FGSM, PGD and JSMA over a range of eps, prints what "
        "each attack achieved and cost, and writes report.json, robustness.png and digits-*.png. Takes less than two "
        "minutes and downloads nothing.",
    )
    demo.add_argument(
        "--out", type=Path, default=Path("advlib-demo"), metavar="DIR", help="folder to write into (%(default)s)"
    )
    demo.add_argument(
        "--images", type=_positive, default=500, metavar="N", help="test images to attack, at most 1000 (%(default)s)"
    )
    demo.add_argument(
        "--seed", type=int, default=0, help="seed of the weights, the data's order and the attacks (%(default)s)"
    )
    demo.add_argument("--quiet", action="store_true", help="no progress bars")
    demo.set_defaults(command=_demo)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _demo(args: argparse.Namespace) -> int:
    from advlib.demo import demo  # here, since only this command needs it

    report = demo(args.out, images=args.images, seed=args.seed, progress=not args.quiet)
    print(f"\nA network of {report.parameters:,} parameters, {report.images:,} test digits:\n")
    for network in report.networks:
        print(
            f"{network.name}: trained in {network.train_seconds:.1f} s, classifies {network.clean_accuracy:.1%} "
            "of the clean digits correctly"
        )
    print()
    print(report.table())
    print(
        "\nRobust accuracy: still classified correctly under attack, out of all test digits.\n"
        "Mean distance: how far an attack moved the digits that it broke, in the norm of its threat model.\n"
        "Samples: digits that passed forward and backward through the network."
    )
    print(f"\n{report.seconds:.0f} s in all. Written to {args.out}: report.json, robustness.png, digits-*.png")
    return 0
