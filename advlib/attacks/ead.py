"""The elastic-net attack, EAD (Chen et al., 2017, arXiv:1709.04114): minimum-norm L1, or L1 and L2 together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.checks import check_counts
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L1, L2, Threat
from advlib.threats.base import choose, clamp, column

if TYPE_CHECKING:
    from typing_extensions import Unpack


class EADState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next: the point with its momentum
    point: Tensor  # (N, ...) the point without
    best: Tensor  # (N, ...) the nearest success
    distance: Tensor  # (N,) its distance, infinite where there is none
    step: Tensor  # (N,) updates made in this round
    c: Tensor  # (N,) weight of the margin
    length: Tensor  # (N,) this round's first step
    reached: Tensor  # (N,) bool, whether the second half of this round has brought a success
    failed: Tensor  # (N,) the largest c with which a round brought none
    enough: Tensor  # (N,) the smallest with which one did


@dataclass(frozen=True)
class ElasticNet(Rule[EADState]):
    """Descends ``||d||_1 + ||d||_2**2 / beta - c * margin`` of the change ``d``, the margin only up to a success.

    Of these the L1 norm by shrinking each change (ISTA), the rest by its gradient, with momentum (FISTA). It goes in
    rounds, each with a ``c`` of its own, and each from the nearest success so far with half the step.

    Args:
        per_round: Updates of one round.
        beta: Weight of the L1 norm, where that of the squared L2 norm is 1.
        step_size: The first round's first step; within a round steps fall to 0.
        c: The first weight of the margin.
        confidence: The margin that counts as a success.
    """

    per_round: int
    beta: float = 10.0
    step_size: float = 0.1
    c: float = 0.1
    confidence: float = 0.0

    wanders = True

    def start(self, task: Task, point: Tensor, noise: Noise) -> EADState:
        if not isinstance(task.threat, (L1, L2)):
            raise ValueError("ead weighs L1 against L2: take one of these, fab or fmn for Linf, sigma_zero for L0")
        zero = torch.zeros_like(task.x.flatten(1)[:, 0])
        step_size = min(self.step_size, self.beta / 2)  # beyond, the descent of the squared norm overshoots
        far, c, length = zero + torch.inf, zero + self.c, zero + step_size
        return EADState(point, point, point, far, zero, c, length, zero > 0, zero, far)

    def success(self, feedback: Feedback, task: Task) -> Tensor:
        return feedback.reached & (feedback.loss >= self.confidence)

    def update(self, state: EADState, feedback: Feedback, task: Task, noise: Noise) -> EADState:
        s, x, success = self._judged(state, feedback, task), task.x, feedback.success
        change, limits = s.query - x, task.threat.limits(x)
        length = s.length * (1 - s.step / self.per_round)
        smooth = 2 / self.beta * change - column(s.c * ~success, x) * feedback.gradient
        change, limit = change - column(length, x) * smooth, column(length, x)
        point = clamp(x + change - clamp(change, -limit, limit), *limits)
        momentum = column(s.step / (s.step + 3), x)  # as in the paper
        query, step = clamp(torch.lerp(point, 2 * point - s.point, momentum), *limits), s.step + 1

        ended, found = step >= self.per_round, s.distance.isfinite()
        failed = torch.where(ended & ~s.reached, s.c, s.failed)
        enough = torch.where(ended & s.reached, s.c, s.enough)
        c = torch.where(ended, torch.where(enough.isinf(), 10 * s.c, (failed + enough) / 2), s.c)
        back = ended & found
        return EADState(
            choose(back, s.best, query),
            point,
            s.best,
            s.distance,
            torch.where(ended, 0, step),
            c,
            torch.where(back, s.length / 2, s.length),
            s.reached & ~ended,
            failed,
            enough,
        )

    def _judged(self, s: EADState, feedback: Feedback, task: Task) -> EADState:
        """The state after the answer."""
        distance = feedback.distance
        nearer = feedback.success & (distance < s.distance)
        best, distance = choose(nearer, s.query, s.best), torch.where(nearer, distance, s.distance)
        late = 2 * s.step >= self.per_round  # a round begins at a success, which says nothing of its c
        return s._replace(best=best, distance=distance, reached=(s.reached | feedback.success) & late)

    def finished(self, state: EADState) -> Tensor:
        return state.distance == 0


def ead(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 1000,
    rounds: int = 9,
    beta: float = 10.0,
    step_size: float = 0.1,
    confidence: float = 0.0,
    c: float = 0.1,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Finds near inputs that change the prediction, by the elastic net: few features, and none too far.

    Looks, per example, for ``min beta * ||x_adv - x||_1 + ||x_adv - x||_2**2`` such that the model errs, over ball,
    bounds and mask, and returns the success that is nearest in the norm of ``threat``. A step takes a forward and a
    backward pass.

    It departs from the paper where that brings it nearer: changes shrink by the step times the norm's weight, where the
    paper's shrink by the weight alone whatever the step; points are judged with their momentum, which saves a forward
    pass a step; a round begins at the best so far, not at ``x``; and each row has its own ``c``.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L1` or :class:`~advlib.threats.L2` ball: by its norm the nearest success is
            chosen; its ``eps`` is the largest distance of interest, ``inf`` for the nearest adversarial inputs wherever
            they are. The search takes the same way whatever it is.
        steps: Updates in all.
        rounds: Into how many rounds, each with its own ``c``, they are split (9, as in the paper).
        beta: Weight of the L1 norm, where that of the squared L2 norm is 1.
        step_size: The first step, in the units of ``x``; ``beta / 2`` where that is less.
        confidence: How far the wrong class's logit is to be ahead (kappa in the paper).
        c: The first weight of the margin.
        **options: Any of :class:`~advlib.search.SearchOptions`. ``keep`` defaults to ``"nearest"``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type, or a loss is given.
        ValueError: If the threat model is Linf or L0, ``keep`` is ``"last"``, ``x`` leaves the bounds, or shapes and
            values disagree.

    Example:
        >>> x_adv = ead(model, x, y, L1(torch.inf))
    """
    if "loss" in options:
        raise TypeError("ead follows the margin and takes no loss: leave it out")
    check_counts(steps=steps, rounds=rounds)
    rule = ElasticNet(math.ceil(steps / rounds), beta, step_size, c, confidence)
    settings: dict[str, Any] = {"keep": "nearest", **options}
    return search(model, x, y, threat, rule, steps=steps, loss="margin", **settings).x_adv
