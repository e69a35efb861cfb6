"""Auto-PGD beside the reference: robust accuracy, samples that pass forward, and seconds, on the same images.

The reference is APGDAttack and APGDAttack_targeted of pyautoattack (AutoAttack by its authors, packaged), called as
AutoAttack calls them: 100 steps, one run, in L1 through the wider balls. advlib runs with ``keep="first"``, since the
reference too stops at rows that break, though only between runs. An image that the network gets wrong without an attack
counts as an error for both. Results are written after each line, so that a run may be cut short.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable

import common
import torch
from torch import Tensor, nn

import advlib
from advlib.models import Counted
from advlib.threats import Threat

STEPS = 100
ATTACKS: dict[str, dict[str, object]] = {
    "APGD-CE": {},
    "APGD-DLR": {"loss": "dlr"},
    "APGD-T": {"loss": "dlr", "targets": 9},
}
CASES: list[tuple[str, str, list[Threat]]] = [
    ("mnist_cnn_a_adv", "mnist", [advlib.Linf(0.3), advlib.L2(1.5), advlib.L1(10.0)]),
    ("cifar10_cnn_a_adv", "cifar10", [advlib.Linf(2 / 255), advlib.L1(4.0)]),
    ("cifar10_resnet2b", "cifar10", [advlib.Linf(2 / 255), advlib.L2(0.25)]),
]


def reference(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, attack: str, seed: int) -> Tensor:
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    settings = {
        "n_iter": STEPS,
        "norm": type(threat).__name__,
        "eps": float(threat.eps),
        "seed": seed,
        "device": x.device,
        "use_largereps": isinstance(threat, advlib.L1),
    }
    if attack == "APGD-T":
        return APGDAttack_targeted(model, n_target_classes=9, **settings).perturb(x, y)
    return APGDAttack(model, loss="ce" if attack == "APGD-CE" else "dlr", **settings).perturb(x, y)


def ours(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, attack: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    options = ATTACKS[attack]
    return advlib.apgd(model, x, y, threat, steps=STEPS, keep="first", generator=generator, **options)


def measured(
    call: Callable[..., Tensor], model: nn.Module, x: Tensor, y: Tensor, threat: Threat, attack: str, seed: int
) -> dict[str, float]:
    """Percentage of images still right, samples forward per image, seconds; points outside count as no attack."""
    counted = Counted(model).eval()
    start = time.perf_counter()
    x_adv = call(counted, x, y, threat, attack, seed).detach().clamp(0, 1)  # the reference rounds beyond the bounds
    seconds = time.perf_counter() - start
    with torch.no_grad():
        wrong = (model(x_adv).argmax(1) != y) & threat.contains(x_adv, x) | (model(x).argmax(1) != y)
    robust = 100 * (1 - wrong.double().mean().item())
    return {"robust": robust, "forwards": counted.forwards / len(x), "seconds": seconds}


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "apgd.json")
    common.add_networks(options)
    options.add_argument("--images", type=int, default=500)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--attacks", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    options.add_argument("--networks", nargs="*", default=[name for name, _, _ in CASES])
    given = options.parse_args()
    found = common.environment(given)
    try:
        found["pyautoattack"] = importlib.metadata.version("pyautoattack")
    except importlib.metadata.PackageNotFoundError:
        print("pyautoattack is not installed, so its columns stay empty: pip install pyautoattack")
    if given.zoo and given.data:
        cases = [
            (name, common.load(given.zoo, name), *common.test_images(given.data, data, given.images), threats)
            for name, data, threats in CASES
            if name in given.networks
        ]
    else:
        case = common.standard_and_robust(None, None, given.images, "cpu")[1]
        threats = [advlib.Linf(case.eps), advlib.L2(1.5), advlib.L1(10.0)]
        cases = [(case.name, case.model, case.x, case.y, threats)]
    rows: list[dict[str, object]] = []
    for attack in given.attacks:
        for name, model, x, y, threats in cases:
            for threat in threats:
                for seed in range(given.seeds):
                    x = x.contiguous()  # the reference fails on other layouts in L1
                    mine = measured(ours, model, x, y, threat, attack, seed)
                    text = f"{type(threat).__name__}({threat.eps:.4g})"
                    row = {"attack": attack, "network": name, "threat": text, "images": len(x), "seed": seed, **mine}
                    if "pyautoattack" in found:
                        theirs = measured(reference, model, x, y, threat, attack, seed)
                        row |= {f"reference {key}": value for key, value in theirs.items()}
                    rows.append(row)
                    print(row, flush=True)
                    common.save(given.out, {"environment": found, "steps": STEPS, "rows": rows})
    common.table("Robust accuracy in percent, forward samples per image, seconds", rows)


if __name__ == "__main__":
    main()
