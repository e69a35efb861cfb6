"""Primal-dual proximal gradient descent, PDPGD (Matyasko & Chau, 2021, arXiv:2106.01538): minimum-norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.noise import Noise
from advlib.rules import varied
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, Threat
from advlib.threats.base import clamp, column

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LAST, _LAST_DUAL = 0.01, 0.1  # the last steps, in units of the first: the authors'
_LAST_IN_L0 = 0.3  # a feature at zero comes back by a single step, or never
_FARTHEST = math.log(1e6)  # so that odds that have swung far come back in time: likewise
_NEWTON = 8  # steps
_SPARSER = 4.0  # the power of 2/3 is shrunk by this much less than a length: more ends early on too few features
_SPREAD = 5.0  # a feature with hardly a gradient shrinks this much faster than that with the largest, and no more


class PDPGDState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    mean: Tensor  # (N, ...) Adam's mean of gradients
    square: Tensor  # (N, ...) Adam's mean of their squares
    odds: Tensor  # (N,) logarithm of the margin's weight over the norm's
    weight: Tensor  # (N,) running mean of the margin's weight, where the two sum to 1
    first: Tensor  # (N,) length of the run's first step
    step: Tensor  # (N,) updates made


@dataclass(frozen=True)
class PrimalDual(Rule[PDPGDState]):
    """Climbs the margin with Adam, and shrinks the change by the norm's proximal operator, in turn.

    The margin's weight grows after a failure, the norm's after a success.

    Args:
        steps: Updates of one run.
        step_size: Adam's first step; it falls to a hundredth of it, in L0 to three tenths. Restarts vary it.
        odds: The margin's weight over the norm's at the start.
        dual_step_size: How much the logarithm of these odds moves at the first step; it falls to a tenth of it.
        confidence: The margin that counts as a success.
    """

    steps: int
    step_size: float = 0.1  # this and the next two: the authors'
    odds: float = 100.0
    dual_step_size: float = 0.1
    confidence: float = 0.0

    wanders = True

    def start(self, task: Task, point: Tensor, noise: Noise) -> PDPGDState:
        zero, still = torch.zeros_like(task.x.flatten(1)[:, 0]), torch.zeros_like(point)
        odds = zero + math.log(self.odds)
        first = varied(zero + self.step_size, noise.restart)
        return PDPGDState(point, still, still, odds, torch.sigmoid(odds), first, zero)

    def success(self, feedback: Feedback, task: Task) -> Tensor:
        return feedback.reached & (feedback.loss >= self.confidence)

    def update(self, state: PDPGDState, feedback: Feedback, task: Task, noise: Noise) -> PDPGDState:
        s, x, threat = state, task.x, task.threat
        low, high = threat.limits(x)
        step, share, failed = s.step + 1, s.step / self.steps, (~feedback.success).to(x)
        # The slope of the softplus of what the margin lacks, as in the paper, turns into that of what it lacks: the
        # former also climbs after a success, which finds other ways, and ends a little beyond the boundary.
        wanted = torch.lerp(torch.sigmoid(self.confidence - feedback.loss), failed, share * share)
        gradient = column(wanted, x) * feedback.gradient
        if threat.p == 2:
            gradient = column(s.weight, x) * gradient - column(1 - s.weight, x) * threat.steepest(s.query - x)
        mean, square = torch.lerp(s.mean, gradient, 0.1), torch.lerp(s.square, gradient * gradient, 0.001)  # Adam's own
        scale = square.sqrt().clamp_min(torch.finfo(x.dtype).tiny ** 0.5)
        length = s.first * (_LAST_IN_L0 if threat.p == 0 else _LAST) ** share * (1 - 0.999**step).sqrt()
        moved = torch.addcdiv(s.query, column(length / (1 - 0.9**step), x) * mean, scale)
        if threat.p != 2:
            by = length * (1 - s.weight) / s.weight
            moved = x + shrunk(clamp(moved, low, high) - x, by, scale, threat)

        odds = s.odds + self.dual_step_size * (1 - (1 - _LAST_DUAL) * share) * (2 * failed - 1)
        odds = torch.clamp(odds, -_FARTHEST, _FARTHEST)
        weight = torch.lerp(s.weight, torch.sigmoid(odds), 0.1)  # as the authors do: at once, it swings
        return PDPGDState(clamp(moved, low, high), mean, square, odds, weight, s.first, step)


def shrunk(change: Tensor, by: Tensor, scale: Tensor, threat: Threat) -> Tensor:
    """The change after the proximal operator of the norm, ``(N, ...)``.

    It is the operator in the metric in which Adam steps, where a feature with less of a gradient moves more easily. In
    L1 each feature falls towards zero on its own; in L0 each, or each pixel, by the operator of its size to the power
    of 2/3, which takes the small ones to zero and lets the large ones stay. In Linf the largest fall to one height:
    they sum, weighed by ``scale``, to ``by`` less.

    Args:
        change: ``(N, ...)`` what shrinks.
        by: ``(N,)`` how far, as Adam's steps are measured.
        scale: ``(N, ...)`` what Adam divides gradients by.
        threat: The threat model of the norm.
    """
    if threat.p < 2:
        floor = column(scale.flatten(1).amax(1) / _SPREAD, scale)
        limit = column(by, scale) / torch.maximum(scale, floor)
        if threat.p == 1:
            return change - clamp(change, -limit, limit)
        size = change.abs()
        if isinstance(threat, L0) and threat.per_pixel:
            size, limit = torch.linalg.vector_norm(change, dim=1, keepdim=True), limit.amin(1, keepdim=True)
        return change * (_left(size, limit / _SPARSER) / size.clamp_min(torch.finfo(size.dtype).tiny))
    size, weight = change.flatten(1).abs(), scale.flatten(1)
    height = torch.zeros_like(by)
    for _ in range(_NEWTON):  # on a convex piecewise linear function, from below: never beyond the root
        over = (size - height[:, None]).clamp_min(0)
        rise = ((weight * over).sum(1) - by) / (weight * over.sign()).sum(1).clamp_min(torch.finfo(by.dtype).tiny)
        height = torch.maximum(height, height + rise)
    limit = column(height, change)
    return clamp(change, -limit, limit)


def _left(size: Tensor, by: Tensor) -> Tensor:
    """What minimizes ``by * left ** (2 / 3) + (left - size) ** 2 / 2``, in closed form (Cao et al., 2013)."""
    twice = 2 * by
    angle = torch.acosh(27 / 16 * size.square() * twice**-1.5) / 3  # NaN for what ends at zero
    root = 2 / 3**0.5 * twice**0.25 * torch.cosh(angle).sqrt()
    left = ((root + (2 * size / root - root.square()).clamp_min(0).sqrt()) / 2) ** 3
    return torch.where(size > 2 / 3 * (3 * twice**3) ** 0.25, torch.minimum(left, size), 0)


def pdpgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 500,
    step_size: float = 0.1,
    odds: float = 100.0,
    dual_step_size: float = 0.1,
    confidence: float = 0.0,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Finds the nearest inputs that change the prediction, as a game between the margin and the norm.

    Looks, per example, for ``min ||x_adv - x||`` such that the model errs, over ball, bounds and mask. Each step climbs
    the softplus of the margin with Adam, and in L1 and Linf shrinks the change by the norm's proximal operator, in L0
    by that of the sum of powers of 2/3; in L2 Adam descends the norm with it. The weight of the one over the other
    grows after a failure and falls after a success, row by row. A step takes a forward and a backward pass.

    It departs from the paper in that the softplus turns into a hinge, with the square of the steps; and that the
    operators are exact in Adam's metric, but in L1 and L0 no feature falls more than five times as far as another.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: A norm ball; its ``eps`` is the largest distance of interest, ``inf`` for the nearest adversarial inputs
            wherever they are. The search takes the same way whatever it is.
        steps: Updates (500, as in the paper).
        step_size: Adam's first step, in the units of ``x``; it falls to a hundredth of it, in L0 to three tenths. Each
            of the ``restarts`` takes another: half of it, twice, a quarter, and so on. On networks trained
            adversarially three runs of 332 steps end nearer than one of 999; in L2 elsewhere they may end far away.
        odds: The margin's weight over the norm's at the start.
        dual_step_size: How much the logarithm of these odds moves at the first step; it falls to a tenth of it.
        confidence: How far the wrong class's logit is to be ahead.
        **options: Any of :class:`~advlib.search.SearchOptions`. ``keep`` defaults to ``"nearest"``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type, or a loss is given.
        ValueError: If ``keep`` is ``"last"``, ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = pdpgd(model, x, y, L1(torch.inf))
    """
    if "loss" in options:
        raise TypeError("pdpgd follows the margin and takes no loss: leave it out")
    rule = PrimalDual(steps, step_size, odds, dual_step_size, confidence)
    settings: dict[str, Any] = {"keep": "nearest", **options}
    return search(model, x, y, threat, rule, steps=steps, loss="margin", **settings).x_adv
