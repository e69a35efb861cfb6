"""The attacks that the laws hold for. A new attack adds one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import advlib
from advlib import L0, L1, L2, Linf
from advlib.attacks.auto_attack import in_turn
from advlib.threats import Threat

NORMS: dict[str, Callable[..., Threat]] = {
    "linf": partial(Linf, 0.1),
    "l2": partial(L2, 0.5),
    "l1": partial(L1, 1.0, sparsity=0.2),
    "l0": partial(L0, 4),
}
LENGTHS = ("linf", "l2", "l1")
SHAPES = {"features": (12,), "image": (3, 4, 3), "volume": (2, 3, 2, 2)}
CLASSES = 5
NO_START = "no start was found"  # what an attack that sees labels alone warns of, where that may well happen


@dataclass(frozen=True)
class Row:
    """One attack: how it is called in the laws, and what it is."""

    attack: Callable[..., Tensor]
    norms: tuple[str, ...] = ("linf", "l2", "l1", "l0")
    random: bool = False  # draws noise as it is called here
    gradients: bool = True  # follows gradients
    targets: bool = True  # has a targeted form that moves towards the class
    loss: bool = True  # takes a loss
    keeps: bool = True  # takes keep=, and the other options of a search
    minimal: bool = False  # looks for the nearest success: a row without one is clean, so the laws allow it more eps
    enough: int = 40  # steps with which it reaches the nearest success on a linear model
    counts: str = "steps"  # what these are called
    within: float = 1.01  # how near it comes with them
    settings: dict[str, Any] = field(default_factory=dict)

    def threat(self, norm: str) -> Threat:
        """The threat model of the laws in a norm."""
        threat = NORMS[norm]()
        return replace(threat, eps=8 * threat.eps) if self.minimal else threat


def towards_the_mirror(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, **settings: Any) -> Tensor:
    """A feature adversary whose guide is the row itself, upside down."""
    return advlib.feature_adversary(model, x, y, threat, guide=1 - x, **settings)


# what AutoAttack runs, but shorter
SHORT_AUTO_ATTACK = (
    partial(advlib.apgd, steps=3, keep="first"),
    partial(advlib.apgd, steps=3, loss="dlr", targets=2, keep="first"),
    partial(advlib.fab, steps=4, targets=1, keep="first"),
    partial(advlib.square, steps=4),
)


def admix_of_a_pool(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, **settings: Any) -> Tensor:
    """Admix with images of its own to mix in, so that a row does not depend on the others."""
    pool = batch(x.shape[1:], rows=16, dtype=x.dtype, seed=2)
    return advlib.admix(model, x, y, threat, others=(pool, torch.arange(16) % CLASSES), **settings)


STRONGEST = {"steps": 3, "keep": "strongest", "loss": "margin"}
TWO = ("linf", "l2")  # the rule is that of mim, which is tried in all


def labels_only(
    attack: Callable[..., Tensor],
    norms: tuple[str, ...],
    random: bool,
    enough: int,
    within: float = 1.01,
    **settings: Any,
) -> Row:
    """The row of an attack that sees labels alone; targeted, it needs a start in the class."""
    return Row(
        attack,
        norms,
        random,
        gradients=False,
        targets=False,
        loss=False,
        keeps=False,
        minimal=True,
        enough=enough,
        within=within,
        counts="queries",
        settings={"queries": 60, **settings},
    )


ATTACKS: dict[str, Row] = {
    "fgsm": Row(advlib.fgsm),
    "bim": Row(advlib.bim, settings={"steps": 5}),
    "mim": Row(advlib.mim, settings={"steps": 5}),
    "mim, nesterov": Row(advlib.mim, settings={"steps": 5, "nesterov": True}),
    "ni_fgsm": Row(advlib.ni_fgsm, TWO, settings=STRONGEST),
    "ti_fgsm": Row(advlib.ti_fgsm, TWO, settings=STRONGEST),
    "si_ni_fgsm": Row(advlib.si_ni_fgsm, TWO, settings={**STRONGEST, "copies": 2}),
    "vmi_fgsm": Row(advlib.vmi_fgsm, TWO, random=True, settings={**STRONGEST, "samples": 2}),
    "di_fgsm": Row(advlib.di_fgsm, TWO, random=True, settings={**STRONGEST, "low": 0.3, "probability": 1.0}),
    "admix": Row(admix_of_a_pool, TWO, random=True, settings={**STRONGEST, "copies": 2, "mixed": 2}),
    "ssa": Row(advlib.ssa, TWO, random=True, settings={**STRONGEST, "copies": 2}),
    "ssa, last": Row(advlib.ssa, ("linf",), random=True, settings={"steps": 3, "copies": 2}),
    "bsr": Row(advlib.bsr, TWO, random=True, settings={**STRONGEST, "copies": 2}),
    "sia": Row(advlib.sia, TWO, random=True, settings={**STRONGEST, "copies": 2}),
    "sparse_l1_descent": Row(advlib.sparse_l1_descent, ("l1",), settings={"steps": 5, "sparsity": 0.2}),
    "pgd": Row(advlib.pgd, random=True, settings={"steps": 5}),
    "pgd, fixed start": Row(advlib.pgd, settings={"steps": 5, "random_start": False}),
    "pgd, restarts, first": Row(advlib.pgd, random=True, settings={"steps": 4, "restarts": 2, "keep": "first"}),
    "pgd, last": Row(advlib.pgd, random=True, settings={"steps": 4, "keep": "last"}),
    "fab": Row(advlib.fab, LENGTHS, loss=False, minimal=True, settings={"steps": 8}),
    "fab, targets": Row(
        advlib.fab, LENGTHS, targets=False, loss=False, minimal=True, settings={"steps": 8, "targets": 2}
    ),
    "fab, restarts": Row(
        advlib.fab, LENGTHS, random=True, loss=False, minimal=True, settings={"steps": 8, "restarts": 2}
    ),
    "deepfool": Row(advlib.deepfool, ("linf", "l2"), loss=False, minimal=True, settings={"steps": 30}),
    "ddn": Row(advlib.ddn, ("l2",), minimal=True, settings={"steps": 8, "gamma": 0.3}),  # far from the radius of 1
    "fmn": Row(advlib.fmn, minimal=True, enough=100, settings={"steps": 30}),
    "ead": Row(advlib.ead, ("l1",), loss=False, minimal=True, enough=1000, settings={"steps": 18}),
    "pdpgd": Row(advlib.pdpgd, loss=False, minimal=True, enough=1000, settings={"steps": 100}),
    "carlini_wagner": Row(
        advlib.carlini_wagner, ("linf", "l2", "l0"), loss=False, minimal=True, enough=1500, settings={"steps": 60}
    ),
    "lbfgs": Row(advlib.lbfgs, ("l2",), keeps=False, minimal=True, enough=150, settings={"steps": 40}),
    "sigma_zero": Row(advlib.sigma_zero, ("l0",), loss=False, minimal=True, settings={"steps": 8}),
    "apgd": Row(advlib.apgd, LENGTHS, True, settings={"steps": 12}),
    "apgd, fixed start": Row(advlib.apgd, LENGTHS, settings={"steps": 12, "random_start": False}),
    "apgd, targets": Row(
        advlib.apgd, LENGTHS, True, targets=False, settings={"steps": 8, "targets": 3, "loss": "dlr", "keep": "first"}
    ),
    "max_confidence": Row(advlib.max_confidence, loss=False, settings={"steps": 4}),
    "virtual_adversarial_perturbation": Row(
        advlib.virtual_adversarial_perturbation,
        random=True,
        gradients=False,  # they are those of a divergence, which may rise as the true class gets surer
        targets=False,
        loss=False,
        keeps=False,  # where logits are huge the divergence has no gradient
        settings={"steps": 3},
    ),
    "feature_adversary": Row(
        towards_the_mirror,
        gradients=False,  # they are those of a distance between representations, whatever the class
        targets=False,
        loss=False,
        settings={"steps": 4},
    ),
    "jsma": Row(advlib.jsma, norms=("l0",), loss=False),
    "jsma, decreasing": Row(advlib.jsma, norms=("l0",), loss=False, settings={"theta": -0.3, "keep": "strongest"}),
    "square": Row(advlib.square, LENGTHS, random=True, gradients=False, settings={"steps": 30}),
    "spsa": Row(advlib.spsa, LENGTHS, random=True, gradients=False, settings={"steps": 3, "samples": 4}),
    "nes": Row(advlib.nes, random=True, gradients=False, settings={"steps": 3, "samples": 4}),
    "simba": Row(advlib.simba, LENGTHS, random=True, gradients=False, settings={"steps": 30, "basis": "dct"}),
    "simba, pixels": Row(
        advlib.simba,
        LENGTHS,
        random=True,
        gradients=False,
        settings={"steps": 30, "basis": "pixels", "step_size": 0.05},
    ),
    "sparse_rs": Row(advlib.sparse_rs, ("l0",), random=True, gradients=False, settings={"steps": 30}),
    "auto_attack": Row(
        in_turn, LENGTHS, True, targets=False, loss=False, keeps=False, settings={"attacks": SHORT_AUTO_ATTACK}
    ),
    # in Linf the sign of the smallest weight, a hundredth of them all, is the last to be told
    "hop_skip_jump": labels_only(advlib.hop_skip_jump, ("linf", "l2"), True, enough=4000, within=1.02, samples=10),
    "boundary_attack": labels_only(advlib.boundary_attack, ("l2",), True, enough=2000),
    "surfree": labels_only(advlib.surfree, ("l2",), True, enough=1000),
    "ray_search": labels_only(advlib.ray_search, ("linf",), True, enough=500),
    "uniform_noise": Row(advlib.uniform_noise, random=True, gradients=False, targets=False, settings={"steps": 3}),
    "gaussian_noise": Row(advlib.gaussian_noise, LENGTHS, True, False, False, {"steps": 3}),
    "salt_and_pepper": Row(advlib.salt_and_pepper, random=True, gradients=False, targets=False, settings={"steps": 3}),
}


def call(name: str, *args: Any, **kwargs: Any) -> Tensor:
    """Runs an attack of the table with its settings."""
    row = ATTACKS[name]
    return row.attack(*args, **{**row.settings, **kwargs})


def build(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """A small smooth network, with batch normalisation and dropout, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        features = int(torch.tensor(shape).prod())
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(features, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(), nn.Linear(16, CLASSES)
        )
        model[2].running_mean.normal_(0, 0.2)
        model[2].running_var.uniform_(0.5, 1.5)
    return model.to(dtype).eval()


def batch(shape: tuple[int, ...], rows: int = 6, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """Inputs in [0, 1], some features exactly at either end."""
    values = torch.rand(rows, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (1.2 * values - 0.1).clamp(0, 1).to(dtype)


def classes(model: nn.Module, x: Tensor) -> Tensor:
    """What the model says, so that every row starts out right."""
    with torch.no_grad():
        return model(x).argmax(1)


def every(
    *,
    shapes: tuple[str, ...] = tuple(SHAPES),
    norms: tuple[str, ...] = tuple(NORMS),
    where: Callable[[Row], bool] = lambda row: True,
) -> Any:
    """Parametrizes a law over attack × norm × shape."""
    cases = [
        pytest.param(name, row.threat(norm), SHAPES[shape], id=f"{name}-{norm}-{shape}")
        for name, row in ATTACKS.items()
        if where(row)
        for norm in row.norms
        if norm in norms
        for shape in shapes
    ]
    return pytest.mark.parametrize(("name", "threat", "shape"), cases)


def seeded(seed: int = 7) -> torch.Generator:
    """A generator in a known state."""
    return torch.Generator().manual_seed(seed)
