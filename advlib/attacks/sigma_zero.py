"""Sigma-zero (Cinà et al., 2024, arXiv:2402.01879): minimum-norm L0, by a smooth count and an adaptive threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.noise import Noise
from advlib.rules import cosine, varied
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, Threat
from advlib.threats.base import clamp, column, normalized

if TYPE_CHECKING:
    from typing_extensions import Unpack


_LAST = 0.1  # the last step, in units of the first: with Adam, a fall to 0 ends farther away


class SigmaZeroState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    mean: Tensor  # (N, ...) Adam's mean of gradients
    square: Tensor  # (N, ...) Adam's mean of their squares
    threshold: Tensor  # (N,) the share of the bounds' width below which a change is dropped
    first: Tensor  # (N,) length of the run's first step
    step: Tensor  # (N,) updates made


@dataclass(frozen=True)
class SigmaZero(Rule[SigmaZeroState]):
    """Descends a smooth count of the changes, and the margin until a success; drops changes below a threshold.

    The threshold rises after a success and falls after a failure. All lengths are in units of the bounds' width.

    Args:
        steps: Updates of one run.
        step_size: The first step's largest change; it falls to a tenth of that along a cosine. Restarts vary it.
        sigma: The squared change that counts as half a feature.
        threshold: The threshold at the start.
        rate: How much the threshold moves, in units of the step.
        confidence: The margin that counts as a success.
    """

    steps: int
    step_size: float = 1.0  # this and the next three: the paper's
    sigma: float = 1e-3
    threshold: float = 0.3
    rate: float = 0.01
    confidence: float = 0.0

    wanders = True

    def start(self, task: Task, point: Tensor, noise: Noise) -> SigmaZeroState:
        if not isinstance(task.threat, L0):
            raise ValueError("sigma_zero counts changed features: take L0, or fmn for L1, L2 and Linf")
        task.threat.finite_bounds(task.x)
        zero = torch.zeros_like(task.x.flatten(1)[:, 0])
        still = torch.zeros_like(point)
        return SigmaZeroState(
            point, still, still, zero + self.threshold, varied(zero + self.step_size, noise.restart), zero
        )

    def success(self, feedback: Feedback, task: Task) -> Tensor:
        return feedback.reached & (feedback.loss >= self.confidence)

    def update(self, state: SigmaZeroState, feedback: Feedback, task: Task, noise: Noise) -> SigmaZeroState:
        s, x, threat, failed = state, task.x, task.threat, (~feedback.success).to(task.x)
        low, high = threat.limits(x)
        width = high - low
        change = (s.query - x) / width.clamp_min(torch.finfo(x.dtype).tiny)  # no width where the mask forbids
        counted = 2 * self.sigma * change / (self._size(change, task).square() + self.sigma).square()
        descent = normalized(counted / math.prod(x.shape[1:]) - column(failed, x) * feedback.gradient * width)
        step = s.step + 1
        mean, square = torch.lerp(s.mean, descent, 0.1), torch.lerp(s.square, descent.square(), 0.001)  # Adam's own
        way = mean / (square / column(1 - 0.999**step, x)).sqrt().clamp_min(1e-8)
        length = s.first * (_LAST + (1 - _LAST) * cosine(s.step, self.steps))
        moved = clamp(x + width * (change - column(length / (1 - 0.9**step), x) * way), low, high)
        threshold = (s.threshold + self.rate * length * (1 - 2 * failed)).clamp_min(0)
        size = self._size((moved - x) / width.clamp_min(torch.finfo(x.dtype).tiny), task)
        kept = (size >= column(threshold, x)).to(x.dtype).expand_as(x)
        return SigmaZeroState(torch.lerp(x, moved, kept), mean, square, threshold, s.first, step)

    def _size(self, change: Tensor, task: Task) -> Tensor:
        """How large a change is, feature by feature, or pixel by pixel if these are counted."""
        if getattr(task.threat, "per_pixel", False):
            return change.square().sum(1, keepdim=True).sqrt()
        return change.abs()


def sigma_zero(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 1000,
    step_size: float = 1.0,
    sigma: float = 1e-3,
    threshold: float = 0.3,
    rate: float = 0.01,
    confidence: float = 0.0,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Finds inputs that change the prediction with as few features changed as it can.

    Looks, per example, for ``min ||x_adv - x||_0`` such that the model errs, over ball, bounds and mask: descends the
    margin until a success, and a smooth stand-in for the count of changed features, ``d**2 / (d**2 + sigma)`` summed
    over the changes ``d``; then drops the changes below a threshold, which rises after a success and falls after a
    failure. The descent is Adam's. A step takes a forward and a backward pass. All lengths are in units of the bounds'
    width.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L0` ball with finite bounds; its ``eps`` is the largest distance
            of interest, ``inf`` for the nearest adversarial inputs wherever they are. The search takes the same way
            whatever it is.
        steps: Updates (1000, as in the paper; 100 already come near).
        step_size: The first step's largest change (1.0, as in the paper); it falls to a tenth of that
            along a cosine. Each of the ``restarts`` takes another: half of it, twice, a quarter, and so on; two runs
            of 499 steps end nearer than one of 999 on most networks, and shorter ones too far away on deep ones.
        sigma: The squared change that counts as half a feature (0.001, as in the paper).
        threshold: The first threshold (0.3, as in the paper).
        rate: How much the threshold moves at each step, in units of the step (0.01, as in the paper).
        confidence: How far the wrong class's logit is to be ahead.
        **options: Any of :class:`~advlib.search.SearchOptions`. ``keep`` defaults to ``"nearest"``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type, or a loss is given.
        ValueError: If the threat model is not L0 or has no bounds, ``keep`` is ``"last"``, ``x`` leaves the bounds, or
            shapes and values disagree.

    Example:
        >>> x_adv = sigma_zero(model, x, y, L0(torch.inf))
    """
    if "loss" in options:
        raise TypeError("sigma_zero follows the margin and takes no loss: leave it out")
    rule = SigmaZero(steps, step_size, sigma, threshold, rate, confidence)
    settings: dict[str, Any] = {"keep": "nearest", **options}
    return search(model, x, y, threat, rule, steps=steps, loss="margin", **settings).x_adv
