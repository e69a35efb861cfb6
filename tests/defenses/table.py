"""The training objectives that the laws hold for. A new objective adds one row."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advlib import Linf, fgsm, pgd
from advlib.defenses import (
    MART,
    TRADES,
    AdversarialLogitPairing,
    AdversarialTraining,
    CleanLogitPairing,
    DefensiveDistillation,
    EnsembleAdversarialTraining,
    FreeAdversarialTraining,
    LabelSmoothing,
    LogitSqueezing,
    Objective,
    Standard,
    VirtualAdversarialTraining,
    noisy_fgsm,
)

THREAT = Linf(0.1)
SHAPE = (2, 3, 2)
CLASSES = 3
ATTACK = partial(pgd, threat=THREAT, steps=2, step_size=0.05, keep="last")
SINGLE = partial(fgsm, threat=THREAT)


def build(dtype: torch.dtype = torch.float64, seed: int = 0, classes: int = CLASSES) -> nn.Sequential:
    """A small smooth network with batch normalisation, in training mode; statistics away from their start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(12, 8),
            nn.BatchNorm1d(8),
            nn.Tanh(),
            nn.Linear(8, 8),
            nn.BatchNorm1d(8),
            nn.Tanh(),
            nn.Linear(8, classes),
        )
        for layer in (model[2], model[5]):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.3, 1.5)
    return model.to(dtype).train()


def inputs(rows: int = 6, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """``(rows, *SHAPE)`` inputs in [0, 1]."""
    return torch.rand(rows, *SHAPE, dtype=torch.float64, generator=seeded(seed)).to(dtype)


def classes(rows: int = 6) -> Tensor:
    """``(rows,)`` labels, every class among them."""
    return torch.arange(rows) % CLASSES


def soft(rows: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    """``(rows, CLASSES)`` probabilities."""
    return torch.randn(rows, CLASSES, dtype=torch.float64, generator=seeded(5)).mul(2).softmax(1).to(dtype)


def seeded(seed: int = 7) -> torch.Generator:
    """A generator in a known state."""
    return torch.Generator().manual_seed(seed)


def other(seed: int, dtype: torch.dtype) -> nn.Module:
    """A trained model beside the one in training."""
    return build(dtype, seed).eval()


OBJECTIVES: list[tuple[str, Callable[[torch.dtype], Objective]]] = [
    ("standard", lambda dtype: Standard()),
    ("standard at a temperature", lambda dtype: Standard(temperature=20.0)),
    ("label smoothing", lambda dtype: LabelSmoothing()),
    ("adversarial training", lambda dtype: AdversarialTraining(ATTACK)),
    ("adversarial training, mixed", lambda dtype: AdversarialTraining(SINGLE, adversarial_weight=0.5)),
    ("adversarial training, noisy", lambda dtype: AdversarialTraining(partial(noisy_fgsm, threat=THREAT))),
    ("ensemble", lambda dtype: EnsembleAdversarialTraining([other(3, dtype), other(4, dtype)], SINGLE)),
    ("free", lambda dtype: FreeAdversarialTraining(THREAT, replays=2)),
    ("trades", lambda dtype: TRADES(ATTACK)),
    ("mart", lambda dtype: MART(ATTACK)),
    ("adversarial logit pairing", lambda dtype: AdversarialLogitPairing(ATTACK)),
    ("clean logit pairing", lambda dtype: CleanLogitPairing()),
    ("logit squeezing", lambda dtype: LogitSqueezing()),
    ("distillation", lambda dtype: DefensiveDistillation(other(3, dtype), temperature=20.0)),
    ("virtual", lambda dtype: VirtualAdversarialTraining(eps=0.5)),
]
PERTURBING = [name for name, make in OBJECTIVES if not name.startswith(("standard", "label", "distillation"))]
ATTACKING = [name for name, make in OBJECTIVES if hasattr(make(torch.float64), "attack")]


def make(name: str, dtype: torch.dtype = torch.float64, **changes: Any) -> Objective:
    """An objective of the table, with some of its parameters changed."""
    return dataclasses.replace(dict(OBJECTIVES)[name](dtype), **changes)


def every(names: list[str] | None = None) -> Any:
    """Parametrizes a law over the objectives."""
    return pytest.mark.parametrize("name", [name for name, _ in OBJECTIVES] if names is None else names)


def every_mode(names: list[str] | None = None) -> Any:
    """Parametrizes a law over the objectives and what BatchNorm does inside their attack, where they have a choice."""
    cases = []
    for name, factory in OBJECTIVES:
        if names is None or name in names:
            choice = "bn" in {field.name for field in dataclasses.fields(factory(torch.float64))}
            for mode in ("eval", "batch") if choice else (None,):
                changes = {} if mode is None else {"bn": mode}
                cases.append(pytest.param(name, changes, id=f"{name}-{mode}" if mode else name))
    return pytest.mark.parametrize(("name", "changes"), cases)


Snapshot = tuple[dict[str, Any], dict[str, Tensor], list[Any]]


def snapshot(model: nn.Module) -> Snapshot:
    """Parameters and buffers, gradients, and every flag of a model."""
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    flags = [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()]
    flags += [p.requires_grad for p in model.parameters()]
    return copy.deepcopy(model.state_dict()), gradients, flags


def same(before: Snapshot, after: Snapshot) -> bool:
    """Whether nothing has changed, to the last bit."""
    states = all(
        old.keys() == new.keys() and all(torch.equal(old[key], new[key]) for key in old)
        for old, new in zip(before[:2], after[:2], strict=True)
    )
    return states and before[2] == after[2]
