"""Projected gradient descent (Madry et al., 2017, arXiv:1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from advlib.losses import Loss
from advlib.noise import Noise
from advlib.rules import cosine, updates
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import Threat

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PGDState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    length: Tensor  # (N,) the length that steps are measured in


@dataclass(frozen=True)
class ProjectedGradient(Rule[PGDState]):
    """Steps along the steepest direction of the norm, and projects back onto the threat model.

    Args:
        steps: Updates of one run.
        step_size: Length of every step in the threat's norm; None for a cosine from ``first * eps`` down to 0.
        first: Length of the first step of that cosine, in units of ``eps``.
    """

    steps: int
    step_size: float | None = None
    first: float = 2.0

    def start(self, task: Task, point: Tensor, noise: Noise) -> PGDState:
        if self.step_size is None:
            return PGDState(point, task.threat.scale(task.x))
        return PGDState(point, torch.full_like(task.x.flatten(1)[:, 0], self.step_size))

    def update(self, state: PGDState, feedback: Feedback, task: Task, noise: Noise) -> PGDState:
        length = state.length
        if self.step_size is None:
            length = length * (self.first * cosine(updates(noise, task.x), self.steps))
        return PGDState(task.threat.step(state.query, feedback.gradient, length, task.x), state.length)


def pgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = True,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Climbs the loss along the steepest direction of the norm, projecting back after each step.

    Solves, per example, ``max loss(model(x_adv), y)`` over ball, bounds and mask, from a random point of the ball.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates per restart (40, as in the paper's MNIST experiments).
        step_size: Length of every step, in the norm of ``threat`` (for L0, in the units of ``x``). None, the default,
            lets it fall from ``2 * eps`` to 0 along a cosine (for L0, from eight times the width of the bounds), which
            found at least as many errors as any constant length in ``benchmarks/pgd_strength.py``; the paper's is
            ``2.5 * eps / steps``.
        random_start: Whether each restart begins at a uniform point of the ball in place of ``x``.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`: ``restarts``, ``targeted``, ``keep``,
            ``generator``, ...

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite where a random
            start or a default step needs it.

    Example:
        >>> x_adv = pgd(model, x, y, Linf(8 / 255), steps=40)
    """
    rule = ProjectedGradient(steps, step_size)
    return search(model, x, y, threat, rule, steps=steps, loss=loss, random_start=random_start, **options).x_adv
