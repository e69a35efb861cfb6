"""What `evaluate` finds and costs beside AutoAttack, network by network.

The reference is AutoAttack of pyautoattack (its authors' code, packaged), version "standard", run stage by stage on the
same images, so that its first two stages (APGD on the cross-entropy, then targeted) stand beside it too. An image that
the network gets wrong without an attack counts as an error for all. "missed" are images that AutoAttack breaks and
`evaluate` does not, "extra" the reverse. Samples are forward plus backward; seconds are those of the processor, on one
thread with `--threads 1`. Results hold which images stand, and are written after each network; networks that are not
run keep their rows.
"""

from __future__ import annotations

import argparse
import json
import logging
import pathlib
import time
from collections.abc import Callable

import common
import torch
from torch import Tensor, nn

import advlib
import advlib.zoo
from advlib.models import Counted
from advlib.threats import Threat

# Network, radius in Linf: each adversarially trained or certified one at its own.
CASES = {
    "mnist_cnn_a_adv": 0.3,
    "mnist_kw_0.1": 0.1,
    "cifar10_resnet2b": 2 / 255,
    "cifar10_cnn_a_adv": 2 / 255,
    "cifar10_cnn_a_mix4": 4 / 255,
    "cifar10_wide_madry8": 8 / 255,
    "cifar10_base_kw": 2 / 255,
}
# A network trained in Linf on MNIST, in norms in which its gradients point the wrong way.
BLIND: dict[str, Threat] = {"L2": advlib.L2(1.5), "L1": advlib.L1(10.0), "L0": advlib.L0(15)}

STAGES = ("apgd-ce", "apgd-t", "fab-t", "square")
SEEDS = {"quick": 1, "standard": 3, "thorough": 1}


class Contiguous(nn.Module):
    """Gives an attack gradients in the layout of its points: the reference fails on others."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(lambda gradient: gradient.contiguous())
        return self.model(x)


def right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) == y


def reference(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> dict[str, object]:
    """AutoAttack, stage by stage on what the one before left."""
    from pyautoattack.autoattack import AutoAttack

    counted = Counted(Contiguous(model)).eval()
    standing, stages = right(model, x, y), []
    for name in STAGES:
        counted.forwards = counted.backwards = 0
        attack = AutoAttack(counted, norm=type(threat).__name__, eps=threat.eps, seed=0, version="standard")
        attack.attacks_to_run, left = [name], standing.nonzero().squeeze(1)
        start = time.process_time()
        if len(left):
            points, _ = attack.run_standard_evaluation(x[left], y[left], batch_size=len(x))
            standing[left] = right(model, points, y[left]) | ~threat.aligned(x).rows(left).contains(points, x[left])
        seconds = time.process_time() - start
        samples = counted.forwards + counted.backwards
        stages.append({"stage": name, "robust": percent(standing), "samples": samples, "seconds": seconds})
    return {
        "robust": percent(standing),
        "samples": sum(stage["samples"] for stage in stages),
        "seconds": sum(stage["seconds"] for stage in stages),
        "stages": stages,
        "standing": rows(standing),
    }


def l0_reference(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> dict[str, object]:
    """In L0, which AutoAttack has not: advlib's own PGD, 100 steps and 10 restarts."""
    counted, standing = Counted(model).eval(), right(model, x, y)
    left, start = standing.nonzero().squeeze(1), time.process_time()
    points = advlib.pgd(
        counted, x[left], y[left], threat, steps=100, restarts=10, loss="margin", keep="first", generator=seeded(0)
    )
    standing[left] = right(model, points, y[left])
    samples = counted.forwards + counted.backwards
    seconds = time.process_time() - start
    return {
        "robust": percent(standing),
        "samples": samples,
        "seconds": seconds,
        "stages": [],
        "standing": rows(standing),
    }


def ours(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, budget: str, seed: int) -> dict[str, object]:
    start = time.process_time()
    result = advlib.evaluate(model, x, y, threat, budget=budget, generator=seeded(seed), progress=False)
    return {
        "budget": budget,
        "seed": seed,
        "robust": percent(result.robust),
        "samples": result.forward_samples + result.backward_samples,
        "seconds": time.process_time() - start,
        "verdict": result.verdict,
        "findings": [finding.name for finding in result.findings],
        "standing": rows(result.robust),
    }


def measure(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    budgets: list[str],
    compare: Callable[..., dict[str, object]],
) -> dict[str, object]:
    found = {"images": len(x), "clean": percent(right(model, x, y)), "AutoAttack": compare(model, x, y, threat)}
    found["evaluate"] = [ours(model, x, y, threat, name, seed) for name in budgets for seed in range(SEEDS[name])]
    return found


def table(results: dict[str, dict[str, object]]) -> list[dict[str, object]]:
    """A row for each network and budget: means over the seeds, and the worst seed."""
    lines = []
    for name, found in results.items():
        aa = found["AutoAttack"]
        for budget in SEEDS:
            runs = [run for run in found["evaluate"] if run["budget"] == budget]
            if not runs:
                continue
            missed = [sum(a < b for a, b in zip(aa["standing"], run["standing"], strict=True)) for run in runs]
            extra = [sum(a > b for a, b in zip(aa["standing"], run["standing"], strict=True)) for run in runs]
            lines.append(
                {
                    "network": name,
                    "budget": budget,
                    "clean": found["clean"],
                    "APGD-CE, -T": aa["stages"][1]["robust"] if aa["stages"] else None,
                    "AutoAttack": aa["robust"],
                    "evaluate": mean(run["robust"] for run in runs),
                    "worst": max(run["robust"] for run in runs),
                    "missed": "/".join(map(str, missed)),
                    "extra": "/".join(map(str, extra)),
                    "x fewer samples": aa["samples"] / mean(run["samples"] for run in runs),
                    "x faster": aa["seconds"] / mean(run["seconds"] for run in runs),
                    "verdict": "/".join(sorted({run["verdict"] for run in runs})),
                }
            )
    return lines


def totals(results: dict[str, dict[str, object]]) -> dict[str, dict[str, float]]:
    """By budget, over the networks in Linf: how many times fewer samples and seconds in the sum."""
    found = {}
    for budget in SEEDS:
        pairs = []
        for name in CASES:
            runs = [run for run in results.get(name, {}).get("evaluate", []) if run["budget"] == budget]
            if runs:
                pairs.append((results[name]["AutoAttack"], runs))
        if pairs:
            found[budget] = {
                what: sum(aa[what] for aa, _ in pairs) / sum(mean(run[what] for run in runs) for _, runs in pairs)
                for what in ("samples", "seconds")
            }
    return found


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def percent(standing: Tensor) -> float:
    return 100 * standing.double().mean().item()


def rows(standing: Tensor) -> str:
    """One character for each image, 1 where it stands."""
    return "".join(map(str, standing.int().tolist()))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def main() -> None:
    options = common.parser(__doc__, "evaluation.json")
    common.add_networks(options)
    options.add_argument(
        "--blind", type=pathlib.Path, help="PGD.pt of the folder in which defences.py keeps its networks"
    )
    options.add_argument("--images", type=int, default=500, help="test images, 200 of them for the blind network")
    options.add_argument("--only", nargs="*", help="networks, or norms of the blind one; by default all")
    options.add_argument("--budgets", nargs="*", default=list(SEEDS), choices=list(SEEDS))
    given = options.parse_args()
    environment = common.environment(given)
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    results: dict[str, dict[str, object]] = {}
    if given.out.exists():
        results = json.loads(given.out.read_text())["networks"]
    for name, (model, x, y, threat) in chosen(given).items():
        if given.only and name not in given.only:
            continue
        compare = l0_reference if isinstance(threat, advlib.L0) else reference
        results[name] = measure(model, x.contiguous(), y, threat, given.budgets, compare)
        found = {"environment": environment, "totals": totals(results), "table": table(results), "networks": results}
        common.save(given.out, found)
        common.table(name, [line for line in table(results) if line["network"] == name])
    print(totals(results))


def chosen(given: argparse.Namespace) -> dict[str, tuple[nn.Module, Tensor, Tensor, Threat]]:
    """The networks at hand."""
    found: dict[str, tuple[nn.Module, Tensor, Tensor, Threat]] = {}
    if given.zoo and given.data:
        for name, eps in CASES.items():
            x, y = common.test_images(given.data, name.split("_")[0], given.images)
            found[name] = (common.load(given.zoo, name), x, y, advlib.Linf(eps))
    if given.blind and given.data:
        model = advlib.zoo.small_cnn()
        model.load_state_dict(torch.load(given.blind, weights_only=True)["weights"])
        x, y = common.test_images(given.data, "mnist", 200)
        found |= {f"blind in {norm}": (model.eval(), x, y, threat) for norm, threat in BLIND.items()}
    if not found:
        raise SystemExit("give --zoo and --data, and --blind for the network trained in another norm")
    return found


if __name__ == "__main__":
    main()
