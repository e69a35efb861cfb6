"""The fast minimum-norm attack, FMN (Pintor et al., 2021, arXiv:2102.12827), in L0, L1, L2 and Linf."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.boundaries import steepness
from advlib.kernels.looks import may_look
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.rules import cosine, updates, varied
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, L2, Linf, Threat
from advlib.threats.base import clamp, column
from advlib.threats.l1 import movable
from advlib.threats.l2 import norm

if TYPE_CHECKING:
    from typing_extensions import Unpack

_EUCLIDEAN = L2(torch.inf)
_LAST_LENGTH = 0.01  # this, of the first step's length, and the next: the authors' code
_LAST_GAMMA = 0.001
_FIRST_LENGTH = {math.inf: 2.0, 2.0: 1.0, 1.0: 0.3, 0.0: 10.0}  # best on networks of benchmarks/minimum_norm.py


class FMNState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    radius: Tensor  # (N,) radius of the ball that it was projected onto
    nearest: Tensor  # (N,) distance of the nearest success, infinite where there is none
    first: Tensor  # (N,) length of the run's first step, in units of the radius and in L0 of the bounds' width
    width: Tensor  # (N,) in L0 the widest that a feature may change, 1 elsewhere


@dataclass(frozen=True)
class FastMinimumNorm(Rule[FMNState]):
    """Climbs inside a ball around ``x`` that shrinks after a success and grows after a failure.

    Before the first success the ball reaches a little beyond the linearized boundary.

    Args:
        steps: Updates of one run.
        step_size: Length of the first step, in units of the radius and in L0 of the bounds' width; lengths fall along a
            cosine to a hundredth of it. None for one that depends on the norm. Restarts vary it.
        gamma: By what share the radius changes at first; the share falls along the same cosine to 0.001.
    """

    steps: int
    step_size: float | None = None
    gamma: float = 0.05  # the paper's

    wanders = True

    def start(self, task: Task, point: Tensor, noise: Noise) -> FMNState:
        zero = torch.zeros_like(task.x.flatten(1)[:, 0])
        width = _width(task) if isinstance(task.threat, L0) else zero + 1
        length = _FIRST_LENGTH[task.threat.p] if self.step_size is None else self.step_size
        first = varied(zero + length, noise.restart)
        return FMNState(point, task.threat.distance(point, task.x), zero + torch.inf, first, width)

    def update(self, state: FMNState, feedback: Feedback, task: Task, noise: Noise) -> FMNState:
        s, x, threat = state, task.x, task.threat
        nearest = torch.minimum(s.nearest, feedback.distance.masked_fill(~feedback.success, torch.inf))
        decay = cosine(updates(noise, x), self.steps)
        gamma = _LAST_GAMMA + (self.gamma - _LAST_GAMMA) * decay
        # a point as far as the nearest success would be a second one, and rounding would choose between the two
        needed, far = torch.minimum(s.radius, nearest), nearest == torch.inf
        smaller, larger = (1 - gamma) * needed, (1 + gamma) * s.radius
        if not may_look(far) or bool(far.any()):
            # beyond, since from a point just short of the boundary the next would be just short of it again
            boundary = (1 + gamma) * (feedback.distance + boundary_distance(feedback, task) / s.width)
            larger = torch.where(far, torch.nan_to_num(boundary), larger)  # a model may return NaN
        if isinstance(threat, L0):  # a count grows by one at least
            larger = torch.maximum(larger, s.radius + 1)
        radius = torch.where(feedback.success, smaller, larger)
        unit = s.width if isinstance(threat, L0) else radius
        length = s.first * (_LAST_LENGTH + (1 - _LAST_LENGTH) * decay) * unit
        length = length.clamp_max(torch.finfo(length.dtype).max)
        moved = self._moved(s.query, feedback.gradient, length, threat)
        return FMNState(self._inside(moved, radius, task), radius, nearest, s.first, s.width)

    def _inside(self, moved: Tensor, radius: Tensor, task: Task) -> Tensor:
        x, threat = task.x, task.threat
        if not isinstance(threat, L2):
            return threat.resized(radius).project(moved, x)
        # ends as near as the projection, which takes longer than a small model's pass
        boxed = clamp(moved, *threat.limits(x))
        share = radius / norm((boxed - x).flatten(1)).clamp_min(torch.finfo(x.dtype).tiny)
        return torch.lerp(x, boxed, column(share.clamp_max(1), x))

    def _moved(self, point: Tensor, gradient: Tensor, length: Tensor, threat: Threat) -> Tensor:
        if isinstance(threat, L0):  # features at their bounds would keep others from being tried
            gradient = movable(threat, gradient, point)
        return (threat if isinstance(threat, Linf) else _EUCLIDEAN).move(point, gradient, length)

    def finished(self, state: FMNState) -> Tensor:
        return state.nearest.logical_not()


def boundary_distance(feedback: Feedback, task: Task) -> Tensor:
    """``(N,)`` distance at which the linearized loss is zero, bounds aside; in L0, were each change 1 wide."""
    slope = steepness(feedback.gradient.flatten(1), task.threat)
    return feedback.loss.abs() / slope.clamp_min(torch.finfo(slope.dtype).tiny)


def _width(task: Task) -> Tensor:
    """``(N,)`` the widest that a feature may change."""
    low, high = task.threat.limits(task.x)
    return (high - low).expand_as(task.x).flatten(1).amax(1)


def fmn(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    step_size: float | None = None,
    gamma: float = 0.05,
    loss: str | Loss = "margin",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Finds near inputs that change the prediction, inside a ball that follows the boundary; in every norm.

    Solves, per example, ``min ||x_adv - x||`` such that the model errs, over ball, bounds and mask. Each step climbs
    the loss and projects onto the intersection of the bounds with a ball around ``x``, whose radius shrinks after a
    success and grows after a failure, by less and less. A step takes one forward and one backward pass.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: A ball in any norm; its ``eps`` is the largest distance of interest, ``inf`` for the nearest adversarial
            inputs wherever they are. The search takes the same way whatever it is.
        steps: Updates of one run (100; the paper takes up to 1,000, and the points keep coming nearer).
        step_size: Length of the first step, in units of the radius; the lengths fall along a cosine to a hundredth of
            it. None takes 2 in Linf, 1 in L2 and 0.3 in L1, and in L0 10 of the bounds' widths. The length is that of
            the step's largest change in Linf, where it follows the gradient's sign, and Euclidean in the other norms.
            The paper's steps are of a length of their own, Euclidean in every norm, to be tuned to each network: at its
            1, the attack ends several times as far away on networks with nearby boundaries. Each of the ``restarts``
            takes another: half of it, twice, a quarter, and so on; three runs of 332 steps end nearer than one of 999.
        gamma: By what share the radius changes at first (0.05, as in the paper); it falls along the same cosine.
        loss: What is increased; it should be zero at the boundary, as the margin is, the paper's.
        **options: Any of :class:`~advlib.search.SearchOptions`. ``keep`` defaults to ``"nearest"``; ``"first"`` stops a
            row at its first success within ``eps``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``keep`` is ``"last"``, ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = fmn(model, x, y, L0(torch.inf), steps=200)
    """
    settings: dict[str, Any] = {"keep": "nearest", **options}
    rule = FastMinimumNorm(steps, step_size, gamma)
    return search(model, x, y, threat, rule, steps=steps, loss=loss, **settings).x_adv
