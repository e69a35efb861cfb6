"""What transfers from one CIFAR-10 network to others, beside torchattacks' attacks of the same names, and ensembles.

All attacks take the same eps, steps, step size and decay, and peers the parameters that advlib's take, so far as they
have them. Of each target: the share of its correct images that are fooled, and its mean cross-entropy, which tells
attacks apart that fool the same images. Passes are images through the source, there and back. Rows that the file of
results holds are not measured again, so that a run may be stopped and continued.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import common
import torch
from torch import Tensor, nn
from torch.nn import functional

import advlib
from advlib import Linf
from advlib.evaluation import transfer_matrix
from advlib.losses import over_members
from advlib.models import Counted, Ensemble

SOURCES = ("cifar10_resnet20", "cifar10_resnet32", "cifar10_resnet44")
TARGETS = ("cifar10_resnet56", "cifar10_wide_sgd")
STEPS, STEP_SIZE = 10, 2 / 255

last = {"steps": STEPS, "step_size": STEP_SIZE}
OURS: dict[str, Callable[..., Tensor]] = {
    "MI-FGSM": partial(advlib.mim, keep="last", **last),
    "NI-FGSM": partial(advlib.ni_fgsm, **last),
    "DI-FGSM": partial(advlib.di_fgsm, **last),
    "SI-NI-FGSM": partial(advlib.si_ni_fgsm, **last),
    "VMI-FGSM": partial(advlib.vmi_fgsm, samples=5, **last),
    "BSR": partial(advlib.bsr, copies=10, **last),
    "SIA": partial(advlib.sia, copies=10, **last),
    "SSA": partial(advlib.ssa, copies=10, **last),
    "Admix": partial(advlib.admix, mixed=2, **last),
    "TI-FGSM": partial(advlib.ti_fgsm, **last),
    "TI-FGSM, 15": partial(advlib.ti_fgsm, size=15, **last),
    "VNI-FGSM": partial(advlib.vmi_fgsm, samples=5, nesterov=True, **last),
    "SSA, 8/255": partial(advlib.ssa, copies=10, sigma=8 / 255, **last),
    "BIM": partial(advlib.bim, keep="last", **last),
}


def peers() -> dict[str, Callable[..., Tensor]]:
    """Torchattacks' attacks, called as ours are."""
    import torchattacks

    def run(name: str, **settings: object) -> Callable[..., Tensor]:
        def attack(model: nn.Module, x: Tensor, y: Tensor, threat: Linf) -> Tensor:
            torch.manual_seed(0)
            made = getattr(torchattacks, name)(model, eps=threat.eps, alpha=STEP_SIZE, steps=STEPS, **settings)
            return threat.project(made(x, y), x)  # rounding alone

        return attack

    return {
        "BIM": run("BIM"),
        "MI-FGSM": run("MIFGSM", decay=1.0),
        "NI-FGSM": run("NIFGSM", decay=1.0),
        "VMI-FGSM": run("VMIFGSM", decay=1.0, N=5),
        "VNI-FGSM": run("VNIFGSM", decay=1.0, N=5),
        "DI-FGSM": run("DIFGSM", decay=1.0),
        "TI-FGSM, 15": run("TIFGSM", decay=1.0, diversity_prob=0.0),
        "SI-NI-FGSM": run("SINIFGSM", decay=1.0),
    }


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], "transfer.json")
    common.add_networks(options, required=True)
    options.add_argument("--images", type=int, default=50, help="test images")
    options.add_argument("--eps", type=float, default=8 / 255, help="radius in Linf")
    options.add_argument("--sources", nargs="*", default=["cifar10_resnet20"], help="networks that all attacks run on")
    given: argparse.Namespace = options.parse_args()
    environment = common.environment(given)
    x, y = common.test_images(given.data, "cifar10", given.images)
    networks = {name: common.load(given.zoo, name) for name in (*SOURCES, *TARGETS)}
    targets = {name: networks[name] for name in TARGETS}
    members = [networks[name] for name in SOURCES]
    theirs = peers()
    runs = [
        (source, kind, name, networks[source], attack)
        for source in given.sources
        for name in OURS
        for kind, attack in (("advlib", OURS[name]), ("torchattacks", theirs.get(name)))
        if attack is not None
    ]
    together = [(name, "advlib", "MI-FGSM", networks[name], OURS["MI-FGSM"]) for name in SOURCES]
    in_losses = {"loss": over_members(), "logits_of": lambda output: output.mean(1)}
    for mean in ("logits", "probabilities", "losses"):
        attack = partial(OURS["MI-FGSM"], **(in_losses if mean == "losses" else {}))
        together.append((f"all three, mean of {mean}", "advlib", "MI-FGSM", Ensemble(members, mean), attack))
    runs = [*runs[:8], *together, *runs[8:]]

    settings = {"images": given.images, "eps": given.eps, "steps": STEPS, "step_size": STEP_SIZE}
    rows: list[dict[str, object]] = []
    if given.out.exists():
        found = json.loads(given.out.read_text())
        rows = found["rows"] if found["settings"] == common._rounded(settings) else []
    done = {(row["source"], row["by"], row["attack"]) for row in rows}
    for source, by, name, model, attack in runs:
        if (source, by, name) in done:
            continue
        done.add((source, by, name))
        counted, start = Counted(model), time.process_time()
        seeded = partial(attack, generator=torch.Generator().manual_seed(0)) if by == "advlib" else attack
        matrix = transfer_matrix({source: counted}, targets, x, y, Linf(given.eps), seeded)
        seconds = time.process_time() - start
        row: dict[str, object] = {"source": source, "by": by, "attack": name}
        row["passes"] = (counted.forwards + counted.backwards) / len(x)
        for number, target in enumerate(TARGETS):
            row[target] = 100 * float(matrix.rates[0, number])
            with torch.no_grad():
                row[f"{target}, loss"] = float(functional.cross_entropy(networks[target](matrix.x_adv[0]), y))
        rows.append({**row, "seconds": seconds})
        common.save(given.out, {"environment": environment, "settings": settings, "rows": rows})
    common.table(f"Fooled at Linf {given.eps:.4f}, {given.images} images", rows)


if __name__ == "__main__":
    main()
