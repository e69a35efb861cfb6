"""How near FAB's points are: distances and robust accuracy beside the FAB-T of the reference AutoAttack.

Both aim at nine classes in turn, for 100 steps each, and no image leaves before the last class. An image that the
network gets wrong without any attack is at distance 0, for both. A pass is one image through the network, there or
back.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Callable
from typing import NamedTuple

import common
import torch
from torch import Tensor, nn

import advlib
from advlib.attacks.fab import FastAdaptiveBoundary
from advlib.attacks.targets import search_targets
from advlib.models import Counted
from advlib.threats import Threat

STEPS = 100
TARGETS = 9
NORMS = {torch.inf: "Linf", 2.0: "L2", 1.0: "L1"}


class Run(NamedTuple):
    """One network in one norm; ``threat.eps`` is where robust accuracy is taken."""

    network: str
    model: nn.Module
    x: Tensor
    y: Tensor
    threat: Threat


def ours(run: Run, model: nn.Module) -> list[Tensor]:
    anywhere = type(run.threat)(torch.inf)
    rule = FastAdaptiveBoundary(STEPS)
    found = search_targets(
        model, run.x, run.y, anywhere, rule, targets=TARGETS, steps=STEPS, keep="nearest", batch_size=200
    )
    return [found.x_adv]


def reference(run: Run, model: nn.Module) -> list[Tensor]:
    """Its own loop over classes drops images within eps, so the distance of these would be that of the first class."""
    from pyautoattack.fab_pt import FABAttack_PT

    attack = FABAttack_PT(model, norm=NORMS[run.threat.p], n_iter=STEPS, targeted=True, device="cpu")
    found = []
    for rank in range(2, 2 + TARGETS):  # 1 is the class predicted
        attack.target_class = rank
        with torch.no_grad():
            found.append(attack.attack_single_run(run.x, run.y, is_targeted=True))
    return found


ATTACKS: dict[str, Callable[[Run, nn.Module], list[Tensor]]] = {"advlib": ours, "pyautoattack": reference}


def distances(run: Run, points: list[Tensor]) -> Tensor:
    """``(N,)`` distance of the nearest point that the network gets wrong, infinite where there is none."""
    nearest = torch.full((len(run.x),), torch.inf)
    for x_adv in points:
        with torch.no_grad():
            wrong = run.model(x_adv).argmax(1) != run.y
        wrong &= ((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(1)
        nearest = torch.minimum(nearest, torch.where(wrong, run.threat.distance(x_adv, run.x), torch.inf))
    return nearest


def measured(run: Run, name: str) -> dict[str, object]:
    counted = Counted(run.model)
    start = time.process_time()
    points = ATTACKS[name](run, counted)
    seconds = time.process_time() - start
    distance = distances(run, points)
    row: dict[str, object] = {
        "network": run.network,
        "threat": f"{NORMS[run.threat.p]}({run.threat.eps:.4g})",
        "attack": name,
        "images": len(run.x),
        "robust accuracy": 100 * (distance > run.threat.eps * (1 + 1e-6)).double().mean().item(),
        "median distance": distance.median().item(),
        "mean distance": distance.double().mean().item(),
        "forwards": counted.forwards / len(run.x),
        "backwards": counted.backwards / len(run.x),
        "CPU seconds": seconds,
    }
    print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def key(row: dict[str, object]) -> tuple[str, ...]:
    """What tells a row of the results from another."""
    return tuple(str(row[part]) for part in ("network", "threat", "attack"))


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "fab.json")
    common.add_networks(options)
    options.add_argument("--images", type=int, default=200)
    options.add_argument(
        "--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS), help="others' rows stay in the results"
    )
    options.add_argument("--norms", nargs="+", choices=list(NORMS.values()), default=list(NORMS.values()))
    options.add_argument("--networks", nargs="+", help="all by default")
    given = options.parse_args()
    found = common.environment(given)
    if "pyautoattack" in given.attacks:
        found["pyautoattack"] = importlib.metadata.version("pyautoattack")
    if given.zoo and given.data:
        sources = {
            "mnist_cnn_a_adv": ("mnist", [advlib.Linf(0.3), advlib.L2(2.0), advlib.L1(10.0)]),
            "cifar10_resnet2b": ("cifar10", [advlib.Linf(2 / 255), advlib.L2(0.25), advlib.L1(4.0)]),
        }
        cases = [
            (name, common.load(given.zoo, name), *common.test_images(given.data, data, given.images), threats)
            for name, (data, threats) in sources.items()
        ]
    else:
        case = common.standard_and_robust(None, None, given.images, "cpu")[1]
        cases = [(case.name, case.model, case.x, case.y, [advlib.Linf(0.2), advlib.L2(1.5), advlib.L1(10.0)])]

    old = json.loads(given.out.read_text()) if given.out.exists() else {"rows": [], "environment": {}}
    rows = old["rows"]
    for name, model, x, y, threats in cases:
        for threat in threats:
            if NORMS[threat.p] not in given.norms or name not in (given.networks or [name]):
                continue
            new = [measured(Run(name, model, x, y, threat), attack) for attack in given.attacks]
            done = {key(row) for row in new}
            rows = [row for row in rows if key(row) not in done] + new
            # written as it goes: the whole takes most of an hour on two cores
            ordered = sorted(rows, key=key)
            common.save(
                given.out,
                {"environment": old["environment"] | found, "steps": STEPS, "targets": TARGETS, "rows": ordered},
            )
    common.table("FAB-T, 9 classes of 100 steps", ordered)


if __name__ == "__main__":
    main()
