"""AutoAttack beside the original: which images still stand, samples, and seconds beside those of its passes alone.

The original is AutoAttack of pyautoattack (its authors' code, packaged), version "standard", on the same images in one
batch. An image that the network gets wrong without an attack counts as an error for both. ``passes alone`` is a bare
loop of as many forward passes, and backward passes to the inputs, at the same batch sizes in the same order, run right
after the attack. Seconds are those of the processor, so give ``--threads 1``. Results are written after each line, and
lines of cases that are not run stay.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from typing import NamedTuple

import common
import torch
from torch import Tensor, nn

import advlib
from advlib.threats import Threat

CASES: dict[str, tuple[str, str, Threat]] = {
    "mnist_cnn_a_adv Linf": ("mnist_cnn_a_adv", "mnist", advlib.Linf(0.3)),
    "mnist_cnn_a_adv L2": ("mnist_cnn_a_adv", "mnist", advlib.L2(1.5)),
    "mnist_kw_0.1 Linf": ("mnist_kw_0.1", "mnist", advlib.Linf(0.1)),
    "cifar10_resnet2b Linf": ("cifar10_resnet2b", "cifar10", advlib.Linf(2 / 255)),
    "cifar10_cnn_a_adv Linf": ("cifar10_cnn_a_adv", "cifar10", advlib.Linf(2 / 255)),
}


class Pass(NamedTuple):
    rows: int
    backward: bool


class Recorded(nn.Module):
    """Notes what a model is asked, and makes gradients contiguous, since the original fails on others."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.passes: list[Pass] = []

    def forward(self, x: Tensor) -> Tensor:
        index = len(self.passes)
        self.passes.append(Pass(len(x), False))
        if x.requires_grad:
            x = x.view_as(x)

            def note(gradient: Tensor) -> Tensor:
                self.passes[index] = self.passes[index]._replace(backward=True)
                return gradient.contiguous()

            x.register_hook(note)
        return self.model(x)


def alone(model: nn.Module, x: Tensor, passes: list[Pass]) -> float:
    """Seconds that passes take in a bare loop."""
    start = time.process_time()
    for rows, backward in passes:
        point = x[:rows]
        if backward:
            point = point.detach().requires_grad_()
            torch.autograd.grad(model(point).sum(), point)
        else:
            with torch.no_grad():
                model(point)
    return time.process_time() - start


def ours(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> Tensor:
    return advlib.auto_attack(model, x, y, threat, generator=torch.Generator().manual_seed(seed))


def original(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> Tensor:
    from pyautoattack.autoattack import AutoAttack

    attack = AutoAttack(model, norm=type(threat).__name__, eps=float(threat.eps), seed=seed, version="standard")
    x_adv, _ = attack.run_standard_evaluation(x, y, batch_size=len(x))
    return x_adv.detach().clamp(0, 1)  # it rounds beyond the bounds


ATTACKS = {"advlib": ours, "pyautoattack": original}


def measured(name: str, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> dict[str, object]:
    """One attack on one case; points outside the threat model count as no attack."""
    recorded = Recorded(model).eval()
    start = time.process_time()
    x_adv = ATTACKS[name](recorded, x, y, threat, seed)
    seconds = time.process_time() - start
    with torch.no_grad():
        stands = (model(x).argmax(1) == y) & ((model(x_adv).argmax(1) == y) | ~threat.contains(x_adv, x))
    bare = alone(model, x, recorded.passes)
    return {
        "attack": name,
        "robust accuracy": 100 * stands.double().mean().item(),
        "forwards": sum(rows for rows, _ in recorded.passes),
        "backwards": sum(rows for rows, backward in recorded.passes if backward),
        "CPU seconds": seconds,
        "passes alone": bare,
        "ratio": seconds / bare,
        "stands": stands.nonzero().squeeze(1).tolist(),
    }


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "auto_attack.json")
    common.add_networks(options)
    options.add_argument("--images", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    options.add_argument("--attacks", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    given = options.parse_args()
    found = common.environment(given)
    if "pyautoattack" in given.attacks:
        found["pyautoattack"] = importlib.metadata.version("pyautoattack")
    if given.zoo and given.data:
        cases = {
            name: (
                common.load(given.zoo, network),
                *common.test_images(given.data, data, given.images),
                threat,
            )
            for name, (network, data, threat) in CASES.items()
            if name in given.cases
        }
    else:
        case = common.standard_and_robust(None, None, given.images, "cpu")[1]
        cases = {f"{case.name} Linf": (case.model, case.x, case.y, advlib.Linf(case.eps))}
    old = json.loads(given.out.read_text()) if given.out.exists() else {"environment": {}, "rows": []}
    rows: list[dict[str, object]] = old["rows"]
    for name, (model, x, y, threat) in cases.items():
        for attack in given.attacks:
            rows = [row for row in rows if (row["case"], row["attack"]) != (name, attack)]
            first = {"case": name, "eps": float(threat.eps), "images": len(x), "seed": given.seed}
            rows.append(first | measured(attack, model, x.contiguous(), y, threat, given.seed))
            print(line(rows[-1]), flush=True)
            content = {"environment": old["environment"] | found, "rows": compared(rows)}
            common.save(given.out, content)
    common.table("AutoAttack, version standard", [shown(row) for row in compared(rows)])


def compared(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows in order, advlib's with the images that only one of the two broke."""
    ordered = sorted(
        rows, key=lambda row: (list(CASES).index(row["case"]) if row["case"] in CASES else -1, row["attack"])
    )
    stands = {(row["case"], row["attack"]): set(row["stands"]) for row in ordered}
    for row in ordered:
        theirs = stands.get((row["case"], "pyautoattack"))
        if row["attack"] == "advlib" and theirs is not None:
            mine = stands[row["case"], "advlib"]
            row |= {"only it broke": len(theirs - mine), "it missed": len(mine - theirs)}
    return ordered


def shown(row: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in row.items() if key not in ("stands", "seed", "eps")}


def line(row: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in shown(row).items())


if __name__ == "__main__":
    main()
