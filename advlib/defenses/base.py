"""What every training objective is: a perturbation of the batch, and a loss on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from advlib.evaluator import Model, guard, precise, unwrapped, without_gradient_warnings
from advlib.threats import Threat

Attack = Callable[..., Tensor]
BatchNormMode = Literal["eval", "batch"]


class LossOutput(NamedTuple):
    """What an objective computed on one batch.

    Example:
        >>> loss, logits, logits_adv, x_adv = objective(model, x, y)
    """

    loss: Tensor  # scalar, with a graph: call backward on it
    logits: Tensor | None  # (N, C) at the clean inputs; None where the objective does not ask about them
    logits_adv: Tensor | None = None  # (N, C) at the perturbed inputs
    x_adv: Tensor | None = None  # (N, ...) perturbed inputs, without a graph


class Objective(ABC):
    """What the defender minimises.

    ``objective(model, x, y)`` perturbs the batch and returns the loss; it never steps an optimizer, zeroes a
    gradient, or changes a mode. The two halves, :meth:`perturb` and :meth:`loss`, may be called one by one, as
    :func:`~advlib.defenses.awp` needs.
    """

    replays: int = 1  # how often a training loop takes each batch in a row

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> LossOutput:
        """The loss of one batch.

        Args:
            model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, in training mode.
            x: ``(N, ...)`` clean inputs.
            y: ``(N,)`` integer labels, or ``(N, C)`` class probabilities.
        """
        check_batch(x, y)
        return self.loss(model, x, y, self.perturb(model, x, y))

    def perturb(self, model: Model, x: Tensor, y: Tensor) -> Tensor | None:
        """The perturbed inputs, ``(N, ...)`` without a graph, or None for an objective that perturbs nothing."""
        return None

    @abstractmethod
    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None) -> LossOutput:
        """The loss at the clean and the perturbed inputs."""


def check_batch(x: Tensor, y: Tensor) -> None:
    """Checks that inputs and labels are paired.

    Raises:
        ValueError: If they are not.
    """
    if len(y) != len(x) or len(x) == 0:
        raise ValueError(f"a batch must pair each input with one label, got {len(x)} inputs and {len(y)} labels")


def given(x_adv: Tensor | None) -> Tensor:
    """The perturbed inputs, where an objective cannot do without.

    Raises:
        ValueError: If there are none.
    """
    if x_adv is None:
        raise ValueError("this objective compares clean with perturbed inputs: give it what its perturb() returned")
    return x_adv


def labels(y: Tensor) -> Tensor:
    """``(N,)`` integer labels, the likeliest class where ``y`` holds probabilities."""
    return y.argmax(1) if y.ndim == 2 else y


def check_attack(attack: Attack, *, needs_threat: bool = False) -> None:
    """Checks that an attack is ready to be called as ``attack(model, x, y)``.

    Args:
        attack: The attack.
        needs_threat: Whether one that is not of the library must have a threat model too.

    Raises:
        TypeError: If it is not callable, or lacks its threat model.
    """
    if not callable(attack):
        raise TypeError(
            f"attack must be a configured attack function, got {type(attack).__name__}: "
            "functools.partial(pgd, threat=Linf(8/255), steps=10, keep='last')"
        )
    configured = attack.keywords if isinstance(attack, partial) else {}
    home = getattr(attack.func if isinstance(attack, partial) else attack, "__module__", None) or ""
    needs_threat = needs_threat or home.startswith(("advlib.attacks", "advlib.defenses"))
    if needs_threat and not isinstance(configured.get("threat"), Threat):
        raise TypeError(
            "attack lacks its threat model: functools.partial(pgd, threat=Linf(8/255), steps=10, keep='last')"
        )


def check_number(name: str, value: float, *, least: float = 0.0, most: float = float("inf")) -> None:
    """Checks that a parameter lies within its range.

    Raises:
        ValueError: If it does not.
    """
    if not least <= value <= most or value == float("inf"):
        end = f"{most:g}]" if most < float("inf") else "inf)"
        raise ValueError(f"{name} must lie in [{least:g}, {end}, got {value}")


def check_mode(bn: str) -> None:
    """Checks how BatchNorm is to behave inside an attack.

    Raises:
        ValueError: If that is neither ``"eval"`` nor ``"batch"``.
    """
    if bn not in ("eval", "batch"):
        raise ValueError(
            f"bn must be 'eval' (running statistics inside the attack) or 'batch' (the batch's own), got {bn!r}"
        )


def attacked(attack: Attack, model: Model, x: Tensor, y: Tensor, bn: BatchNormMode) -> Tensor:
    """Runs an attack on a model in training, which is left as it was.

    Args:
        attack: Called as ``attack(model, x, y)``.
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: ``(N, ...)`` clean inputs.
        y: ``(N,)`` labels or ``(N, C)`` probabilities, of which the attack gets the likeliest class.
        bn: ``"eval"``: BatchNorm uses its running statistics inside the attack. ``"batch"``: layers in training
            use those of the batch, and leave the running ones alone.
    """
    inner: Model = unwrapped(model)
    layers = []
    if bn == "batch" and isinstance(model, nn.Module):
        layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
        asked, inner = inner, lambda points: asked(points)  # no module, whose layers an attack would set to evaluation
    # An attack of the library guards the model itself, a user's own need not.
    with without_gradient_warnings(), guard(model), batch_statistics(layers), torch.enable_grad():
        return attack(inner, x, labels(y)).detach()


class Attacking(Objective):
    """An objective on what an attack finds; a subclass is a dataclass and says which fields it has, in which order."""

    attack: Attack
    bn: BatchNormMode

    def __post_init__(self) -> None:
        check_attack(self.attack)
        check_mode(self.bn)

    def perturb(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return attacked(self.attack, model, x, y, self.bn)


@contextmanager
def batch_statistics(layers: list[_BatchNorm]) -> Iterator[None]:
    """Lets BatchNorm layers normalise by the batch without keeping its statistics."""
    before = [(layer.training, layer.track_running_stats) for layer in layers]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, (training, track) in zip(layers, before, strict=True):
            layer.training, layer.track_running_stats = training, track


def both(model: Model, x: Tensor, x_adv: Tensor) -> tuple[Tensor, Tensor]:
    """The logits at clean and perturbed inputs from one forward pass of the joined batch.

    One pass costs less than two, and lets DistributedDataParallel reduce gradients once. BatchNorm sees both
    halves (as in Kurakin et al., 1611.01236).
    """
    logits, logits_adv = precise(model(torch.cat([x, x_adv]))).chunk(2)
    return logits, logits_adv
