"""What the laws are tried on: small networks and inputs, and what must not change about them."""

from __future__ import annotations

import dataclasses
import math
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from advlib.threats import Threat

Attack = Callable[..., Tensor]

CLASSES = 5
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}  # by which equal results may differ


@dataclass(frozen=True)
class Subject:
    """The attack under test, and what it is tried on."""

    attack: Attack
    threat: Threat
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    targeted: bool
    optimum: float

    def model(self) -> nn.Sequential:
        """A small smooth network with batch normalisation and dropout, in evaluation mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            features = math.prod(self.shape)
            first, second = nn.BatchNorm1d(16), nn.BatchNorm1d(16)
            for norm in (first, second):
                nn.init.normal_(norm.running_mean, 0, 0.2)  # type: ignore[arg-type]
                nn.init.uniform_(norm.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            model = nn.Sequential(
                nn.Flatten(),
                *(nn.Linear(features, 16), first, nn.Tanh(), nn.Dropout()),
                *(nn.Linear(16, 16), second, nn.Tanh(), nn.Linear(16, CLASSES)),
            )
        return model.to(self.device, self.dtype).eval()

    def batch(self, rows: int = 6) -> Tensor:
        """Inputs within the bounds, some features exactly at either end."""
        values = torch.rand(rows, *self.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        values = values.to(self.device, self.dtype)
        low, high = dataclasses.replace(self.threat, mask=None).limits(values)
        finite = (high - low).isfinite() & (high > low)
        inside = low + (high - low) * (1.2 * values - 0.1).clamp(0, 1)
        free = torch.maximum(torch.minimum(3 * values - 1, high), low)
        return torch.where(finite, torch.minimum(inside, high), free)

    def problem(self, rows: int = 6) -> tuple[nn.Sequential, Tensor, Tensor]:
        """A network, inputs, and what it says of them, so that every row starts out right."""
        model, x = self.model(), self.batch(rows)
        return model, x, predictions(model, x)

    def run(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat | None = None, **options: Any) -> Tensor:
        """The attack's result, from the same state of all global generators each time."""
        _seed(0)
        return self.attack(model, x, y, self.threat if threat is None else threat, **options)

    @cached_property
    def deterministic(self) -> bool:
        """Whether the state of the global generators changes neither the result nor what the model is asked."""
        first, second = (run_from(self, seed) for seed in (0, 1))
        same = len(first.asked) == len(second.asked) and torch.equal(first.x_adv, second.x_adv)
        return same and all(map(torch.equal, first.asked, second.asked))

    @property
    def rounding(self) -> float:
        return _ROUNDING[self.dtype]


# -- global generators ------------------------------------------------------------------------------------------------


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _states() -> dict[str, bytes]:
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": pickle.dumps(np.random.get_state()),
        "random": pickle.dumps(random.getstate()),
    }


@contextmanager
def random_state_kept() -> Iterator[None]:
    numpys, pythons = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            np.random.set_state(numpys)
            random.setstate(pythons)


class _Run(NamedTuple):
    """A run of the attack from one state of the generators."""

    x_adv: Tensor
    asked: list[Tensor]  # the points that the model was asked at
    before: dict[str, bytes]
    after: dict[str, bytes]


def run_from(subject: Subject, seed: int) -> _Run:
    model, x, y = subject.problem()
    asked: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].detach().clone()))
    _seed(seed)
    before = _states()
    return _Run(subject.attack(model, x, y, subject.threat).detach().clone(), asked, before, _states())


# -- what laws look at ------------------------------------------------------------------------------------------------


def predictions(model: nn.Module, x: Tensor) -> Tensor:
    if len(x) == 0:
        return torch.zeros(0, dtype=torch.int64, device=x.device)
    with torch.no_grad():
        y: Tensor = model(x).argmax(1)
    return y


def outside(threat: Threat, x_adv: Tensor, x: Tensor) -> Iterator[str]:
    """What is wrong with where a result lies."""
    if x_adv.shape != x.shape:
        yield f"shape {tuple(x_adv.shape)} for x of {tuple(x.shape)}"
        return
    x_adv = x_adv.detach().to(x)
    bad = ~threat.contains(x_adv, x)
    if not bool(bad.any()):
        return
    low, high = threat.limits(x)
    beyond = torch.maximum(low - x_adv, x_adv - high).clamp_min(0)
    broken = int((~x_adv.flatten(1).isfinite().all(1)).sum())
    yield (
        f"{int(bad.sum())} of {len(x)} rows are outside the threat model: up to "
        f"{float(threat.distance(x_adv, x).amax()):.6g} from x where eps is {threat.eps}, up to "
        f"{float(beyond.amax()):.3g} beyond bounds and mask, NaN or infinite on {broken} rows"
    )


def apart(subject: Subject, result: Tensor, expected: Tensor) -> Iterator[str]:
    """By how much two results differ that should be equal."""
    if result.shape != expected.shape:
        yield f"shape {tuple(result.shape)} in place of {tuple(expected.shape)}"
        return
    change = (result.detach().to(expected) - expected).abs().flatten(1).amax(1)
    bad = ~(change <= subject.rounding)
    if bool(bad.any()):
        yield f"{int(bad.sum())} of {len(bad)} rows differ, by up to {float(change.amax()):.3g}"


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that an attack must leave alone."""
    seen: dict[str, Any] = {f"the value of {name}": value.clone() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        seen[f"the gradient of {name}"] = None if parameter.grad is None else parameter.grad.clone()
        seen[f"requires_grad of {name}"] = parameter.requires_grad
    for name, module in model.named_modules():
        seen[f"the training flag of {name or 'the model'} ({type(module).__name__})"] = module.training
    return seen


def changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    def same(old: Any, new: Any) -> bool:
        return torch.equal(old, new) if isinstance(old, Tensor) and isinstance(new, Tensor) else old is new

    changed = [name for name in before if not same(before[name], after[name])]
    if changed:
        more = f", and {len(changed) - 3} more" if len(changed) > 3 else ""
        yield f"changed {', '.join(changed[:3])}{more}"


def in_training(subject: Subject) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A problem whose network is in training, but for a frozen normalization, with a gradient already there."""
    model, x, y = subject.problem()
    model.train()
    model[2].eval()
    model[1].weight.requires_grad_(False)
    model[8].weight.grad = torch.ones_like(model[8].weight)  # type: ignore[arg-type]
    return model, x, y
