"""The command line: ``advlib evaluate``, ``advlib compare``, ``advlib demo``; or ``python -m advlib ...``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import nn

import advlib
from advlib.evaluation import Evaluation, compare, robustness_curve
from advlib.evaluation.export import is_pictures, replacing, writable
from advlib.evaluation.plotting import new_figure
from advlib.evaluation.schedule import Budget
from advlib.evaluator import Model
from advlib.inputs import DATA, GRAMMAR, Batches, InputError, model_of, threat_of
from advlib.threats import Threat

_CURVE = 1000  # rows of the curve


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments; None means those of the process.

    Returns:
        The exit status: 0; 1 if the command could not do its work; 3 if the robust accuracy is below ``--fail-under``.
        Wrong arguments exit with 2.
    """
    args = _parser().parse_args(argv)
    try:
        status: int = args.command(args)
    except InputError as error:
        print(f"advlib: error: {error}", file=sys.stderr)
        return 2
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
        "each attack achieved and cost, evaluates both, and writes report.html, report.json, robustness.png and "
        "digits-*.png. Takes less than two minutes and downloads nothing.",
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

    evaluate = commands.add_parser(
        "evaluate",
        help="find out how robust a model is, and write a page about it",
        description="Evaluates a model and writes report.html, result.json, rows.csv, adversarial.npz, and pictures/ "
        "where the inputs are images. A killed command goes on where it was when it is typed again: what "
        "is known is kept in blocks/. Under torchrun, processes share the rows.",
        epilog="Exit status: 0; 1 if it could not be done; 2 for wrong arguments; 3 below --fail-under.",
    )
    evaluate.add_argument("model", metavar="MODULE:FACTORY", help="function that makes the model, on the import path")
    evaluate.add_argument(
        "--data",
        required=True,
        metavar="FILE.npz",
        help="arrays x (N, ...), in the units of --threat or uint8 for grey levels of [0, 1], and y (N,); or one of "
        f"{', '.join(DATA)}",
    )
    evaluate.add_argument("--threat", required=True, type=_threat, help=GRAMMAR)
    evaluate.add_argument("--budget", choices=get_args(Budget), default="standard", help="effort (%(default)s)")
    evaluate.add_argument("--out", type=Path, default=Path("advlib-report"), metavar="DIR", help="folder (%(default)s)")
    evaluate.add_argument("--rows", type=_positive, metavar="N", help="only the first N rows")
    evaluate.add_argument(
        "--batch-size", type=_positive, default=250, metavar="N", help="rows asked at once (%(default)s)"
    )
    evaluate.add_argument("--seed", type=int, default=0, help="seed of the attacks (%(default)s)")
    evaluate.add_argument("--device", help="where the model and its inputs go (cuda where there is one)")
    evaluate.add_argument(
        "--fail-under", type=_share, metavar="SHARE", help="exit with 3 if the robust accuracy is below, in [0, 1]"
    )
    evaluate.add_argument("--curve", action="store_true", help="the curve over eps too, of at most 1,000 rows")
    evaluate.add_argument(
        "--no-examples", action="store_true", help="no inputs in memory, and none written: for data larger than that"
    )
    evaluate.add_argument("--quiet", action="store_true", help="no progress bar")
    evaluate.set_defaults(command=_evaluate)

    compare = commands.add_parser("compare", help="several reports on one page")
    compare.add_argument("reports", nargs="+", type=Path, metavar="DIR", help="folders that evaluate wrote")
    compare.add_argument(
        "--out", type=Path, default=Path("advlib-comparison.html"), metavar="FILE", help="the page (%(default)s)"
    )
    compare.set_defaults(command=_compare)
    return parser


def _threat(text: str) -> Threat:
    try:
        return threat_of(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"must be a share in [0, 1], 0.4 for 40 %, got {text!r}")
    return share


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _evaluate(args: argparse.Namespace) -> int:
    folder = writable(args.out)
    new_figure(1, 1)  # a page needs matplotlib: it is better missed before the work than after
    batches, model = Batches(args.data, args.rows), model_of(args.model)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        return _in_processes(args, folder, batches, model)
    return _run(args, folder, batches, model, args.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _in_processes(args: argparse.Namespace, folder: Path, batches: Batches, model: Model) -> int:
    """The same under torchrun: each process has a device of its own, and the first one writes."""
    cuda = torch.cuda.is_available() and args.device != "cpu"
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    device = f"cuda:{int(os.environ['LOCAL_RANK'])}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    try:
        return _run(args, folder, batches, model, device, distributed=True)
    finally:
        torch.distributed.destroy_process_group()


def _run(
    args: argparse.Namespace, folder: Path, batches: Batches, model: Model, device: str, distributed: bool = False
) -> int:
    result = advlib.evaluate(
        model.to(device) if isinstance(model, nn.Module) else model,
        batches,
        threat=args.threat,
        budget=args.budget,
        batch_size=args.batch_size,
        generator=torch.Generator().manual_seed(args.seed),
        path=folder / "blocks",
        distributed=distributed,
        examples=not args.no_examples,
        progress=not args.quiet,
    )
    if not distributed or torch.distributed.get_rank() == 0:
        _write(args, folder, result, model)
    below = args.fail_under is not None and result.robust_accuracy < args.fail_under
    return 3 if below else 0


def _write(args: argparse.Namespace, folder: Path, result: Evaluation, model: Model) -> None:
    print(result)
    with replacing(folder / "result.json") as file:
        file.write(result.to_json().encode())
    result.to_csv(folder / "rows.csv")
    written = ["report.html", "result.json", "rows.csv"]
    curve = None
    if result.x is not None:
        result.save_examples(folder / "adversarial.npz")
        written.append("adversarial.npz")
        if is_pictures(result.x):
            kept = result.save_pictures(folder / "pictures", model, args.threat)
            written.append(f"pictures/ ({kept.saved} of {kept.broken} survive rounding to 8 bits)")
        if args.curve:
            few = slice(_CURVE)
            curve = robustness_curve(
                model, result.x[few], result.y[few].to(result.x.device), args.threat, progress=not args.quiet
            )
    result.save(folder / "report.html", title=args.model, curve=curve)
    print(f"\nWritten to {folder}: {', '.join(written)}")
    if args.fail_under is not None and result.robust_accuracy < args.fail_under:
        print(
            f"advlib: the robust accuracy, {result.robust_accuracy:.4f}, is below --fail-under {args.fail_under}",
            file=sys.stderr,
        )


def _compare(args: argparse.Namespace) -> int:
    results = {}
    names = [folder.resolve().name for folder in args.reports]
    for folder, name in zip(args.reports, names, strict=True):
        file = folder / "result.json"
        try:
            results[name if names.count(name) == 1 else str(folder)] = Evaluation.from_json(file.read_text())
        except FileNotFoundError as error:
            raise InputError(f"there is no {file}: give folders that advlib evaluate wrote") from error
        except ValueError as error:
            raise InputError(f"{file}: {error}") from error
    compare(results, args.out)
    print(f"Written to {args.out}: {', '.join(results)}")
    return 0


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
    written = "report.html, report.json, robustness.png, digits-*.png"
    print(f"\n{report.seconds:.0f} s in all. Written to {args.out}: {written}")
    return 0
