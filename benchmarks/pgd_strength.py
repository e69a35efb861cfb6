"""How strong PGD-40 is: robust accuracy against other libraries' at their own step sizes, and against constant steps.

On two adversarially trained networks. An example that the network gets wrong without any attack counts as an error
for everyone, so all shares are of the same images. Everything random is repeated over five seeds; medians stand
in the tables, and the single values in the results.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import common
import numpy as np
import peers
import torch
from torch import Tensor, nn

import advlib
from advlib.threats import Threat

STEPS = 40

# Step sizes that users of each library meet, as shares of eps.
TYPICAL = {
    "torchattacks": (1 / 4, "default: alpha 2/255 at eps 8/255"),
    "Foolbox": (1 / 30, "default: rel_stepsize 0.01 / 0.3"),
    "CleverHans": (1 / 30, "its tutorials: eps_iter 0.01 at eps 0.3"),
    "CleverHans, eps/10": (1 / 10, "no default of its own"),
    "ART": (1 / 3, "default: eps_step 0.1 at eps 0.3"),
}
# Constant steps, as shares of what default steps are measured in: eps, or in L0 four times the width of the bounds.
# The first is 2.5 eps / 40, the length that Madry et al. (1706.06083) give for CIFAR-10.
CONSTANT = {"1/16": 1 / 16, "1/10": 1 / 10, "1/4": 1 / 4, "1/2": 1 / 2, "1": 1.0, "2": 2.0}

# What default steps in L0 might be measured in, in widths of the bounds.
L0_WIDTHS = (1, 2, 4, 8)


@dataclass(frozen=True)
class L0Widths(advlib.L0):
    """L0 whose default steps are measured in another number of widths of the bounds."""

    widths: float = 4

    def scale(self, x: Tensor) -> Tensor:
        return super().scale(x) * self.widths / 4


def robust(model: nn.Module, x_adv: Tensor, x: Tensor, y: Tensor, threat: Threat) -> float:
    """Percentage of images still right; a point outside the threat model counts as no attack."""
    with torch.no_grad():
        wrong = model(x).argmax(1) != y
        wrong |= (model(x_adv).argmax(1) != y) & threat.contains(x_adv, x)
    return 100 * (1 - wrong.float().mean().item())


def repeated(
    label: str, attack: Callable[[], Tensor], judge: Callable[[Tensor], float], seeds: int
) -> tuple[float, list[float]]:
    """The median robust accuracy over some seeds, and each."""
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        np.random.seed(seed)
        found.append(judge(attack()))
    print(f"{label}: {', '.join(f'{value:.1f}' for value in found)}", flush=True)
    return float(np.median(found)), found


def ours(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, **options: object) -> Callable[[], Tensor]:
    return functools.partial(advlib.pgd, model, x, y, threat, steps=STEPS, batch_size=250, **options)


def against_peers(case: common.Case, seeds: int, names: list[str]) -> list[dict[str, object]]:
    """Each peer at its own step size; advlib at the same, last iterate as theirs and strongest; advlib's default."""
    name, model, x, y, eps = case
    threat = advlib.Linf(eps)
    judge = functools.partial(robust, model, x=x, y=y, threat=threat)
    same = {"network": name, "eps": eps}
    rows: list[dict[str, object]] = []
    mine: dict[float, dict[str, tuple[float, list[float]]]] = {}
    for label, (share, source) in TYPICAL.items():
        peer = label.split(",")[0]
        if peer not in names:
            continue
        theirs = repeated(f"{name}, {label}", peers.PGD[peer](model, x, y, eps, share * eps, STEPS), judge, seeds)
        if share not in mine:
            mine[share] = {
                keep: repeated(
                    f"{name}, advlib, eps/{1 / share:g}, {keep}",
                    ours(model, x, y, threat, step_size=share * eps, keep=keep),
                    judge,
                    seeds,
                )
                for keep in ("last", "strongest")
            }
        last, strongest = mine[share]["last"], mine[share]["strongest"]
        rows.append(
            {
                **same,
                "attack": label,
                "step size": f"eps/{1 / share:g}",
                "robust accuracy": theirs[0],
                "advlib, last": last[0],
                "difference": last[0] - theirs[0],
                "advlib, strongest": strongest[0],
                "seeds": {"peer": theirs[1], "last": last[1], "strongest": strongest[1]},
                "source": source,
            }
        )
    median, values = repeated(f"{name}, advlib, default", ours(model, x, y, threat), judge, seeds)
    own = {"attack": "advlib", "step size": "default", "advlib, strongest": median, "seeds": {"strongest": values}}
    return [*rows, same | own]


def compared(
    case: common.Case, title: str, threats: dict[str, Threat], steps: dict[str, float | None], seeds: int
) -> dict[str, object]:
    """advlib with several step sizes, or several ways to measure them; which of them finds most errors."""
    name, model, x, y, _ = case
    found = {}
    for (label, step_size), threat in zip(steps.items(), threats.values(), strict=True):
        judge = functools.partial(robust, model, x=x, y=y, threat=threat)
        text = f"{name}, {threat!r}, {label}"
        found[label] = repeated(text, ours(model, x, y, threat, step_size=step_size), judge, seeds)
    medians = {label: median for label, (median, _) in found.items()}
    best = [label for label, median in medians.items() if median == min(medians.values())]
    row = {"network": name, "threat": title, "images": len(x), **medians, "lowest": ", ".join(best)}
    return row | {"seeds": {label: values for label, (_, values) in found.items()}}


def against_constants(case: common.Case, threat: Threat, seeds: int) -> dict[str, object]:
    """advlib's default step beside constant ones, in one norm."""
    scale = float(threat.scale(case.x).max())
    steps = {"default": None, **{label: share * scale for label, share in CONSTANT.items()}}
    text = f"{type(threat).__name__}({threat.eps:.4g})"
    return compared(case, text, dict.fromkeys(steps, threat), steps, seeds)


def against_widths(case: common.Case, threat: advlib.L0, seeds: int) -> dict[str, object]:
    """advlib's default step in L0, measured in several numbers of widths of the bounds."""
    threats: dict[str, Threat] = {str(widths): L0Widths(threat.eps, widths=widths) for widths in L0_WIDTHS}
    return compared(case, f"L0({threat.eps})", threats, dict.fromkeys(threats), seeds)


def shown(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows without what is too long for a table."""
    return [{key: value for key, value in row.items() if "seeds" not in key} for row in rows]


def cases(zoo: pathlib.Path | None, data: pathlib.Path | None, count: int) -> list[tuple[common.Case, list[Threat]]]:
    """The networks, and the threat models of the other norms."""
    if zoo and data:
        mnist, cifar = common.test_images(data, "mnist", count), common.test_images(data, "cifar10", count)
        return [
            (
                common.Case("cifar10_resnet2b", common.load(zoo, "cifar10_resnet2b"), *cifar, 2 / 255),
                [advlib.L2(0.25), advlib.L1(5), advlib.L0(10)],
            ),
            (
                common.Case("mnist_cnn_a_adv", common.load(zoo, "mnist_cnn_a_adv"), *mnist, 0.3),
                [advlib.L2(1.5), advlib.L1(10), advlib.L0(15)],
            ),
        ]
    case = common.standard_and_robust(None, None, count, "cpu")[1]
    return [(case, [advlib.L2(1.5), advlib.L1(10), advlib.L0(15)])]


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "pgd_strength.json")
    common.add_networks(options)
    options.add_argument("--images", type=int, default=1000, help="test images in Linf")
    options.add_argument("--other-images", type=int, default=300, help="of these, images in the other norms")
    options.add_argument("--seeds", type=int, default=5)
    given = options.parse_args()
    found = common.environment(given)
    beside, constant, widths = [], [], []
    for case, others in cases(given.zoo, given.data, given.images):
        beside += against_peers(case, given.seeds, list(found))
        fewer = case._replace(x=case.x[: given.other_images], y=case.y[: given.other_images])
        constant.append(against_constants(case, advlib.Linf(case.eps), given.seeds))
        constant += [against_constants(fewer, threat, given.seeds) for threat in others]
        widths += [against_widths(fewer, threat, given.seeds) for threat in others if isinstance(threat, advlib.L0)]
    common.table("Robust accuracy under PGD-40 in Linf, median of the seeds", shown(beside))
    common.table(
        "Robust accuracy under advlib's PGD-40: default step beside constant ones, in eps (L0: four widths)",
        shown(constant),
    )
    common.table("The same in L0: default steps measured in 1, 2, 4 or 8 widths of the bounds", shown(widths))
    tables = {"peers": beside, "constant steps": constant, "widths in L0": widths}
    common.save(given.out, {"environment": found, "steps": STEPS, **tables})


if __name__ == "__main__":
    main()
