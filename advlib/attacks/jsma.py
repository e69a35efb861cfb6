"""The Jacobian-based saliency map attack (Papernot et al., 2015, arXiv:1511.07528, algorithm 3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from advlib.checks import check_inputs
from advlib.kernels.looks import may_look
from advlib.kernels.pairs import best_pair
from advlib.losses import Loss, unchanged
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, Threat

if TYPE_CHECKING:
    from typing_extensions import Unpack


# A feature this near its bound, as a share of the bounds' width, is saturated: the budget is for those that can move.
# Digits hold many values of 0.99, on which an exact comparison with the bound would spend it.
_SATURATED = 0.05


class JSMAState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    stuck: Tensor  # (N,) bool, no pair of features helps any more


@dataclass(frozen=True)
class SaliencyMap(Rule[JSMAState]):
    """Moves the pair of features that favours the wanted class most, in proportion as it hurts the others.

    Args:
        theta: Change of each feature of the pair, positive or negative.
        logits_of: How logits are read from what the model returns.
    """

    theta: float
    logits_of: Callable[[Any], Tensor]

    def start(self, task: Task, point: Tensor, noise: Noise) -> JSMAState:
        return JSMAState(point, torch.zeros_like(task.y, dtype=torch.bool))

    def objectives(self, output: Any, task: Task, loss: Loss) -> tuple[Tensor, ...]:
        """The wanted class's logit, or minus that of the class to leave, and the sum of all."""
        logits = self.logits_of(output)
        aim = task.y if task.target is None else task.target
        wanted = logits.gather(1, aim.unsqueeze(1)).squeeze(1)
        return (-wanted if task.target is None else wanted), logits.sum(1)

    def update(self, state: JSMAState, feedback: Feedback, task: Task, noise: Noise) -> JSMAState:
        wanted, total = (gradient.flatten(1) for gradient in feedback.gradients)
        others = wanted + total if task.target is None else wanted - total
        if self.theta < 0:
            wanted, others = -wanted, -others
        first, second, score = best_pair(torch.where(self.domain(state.query, task), wanted, -torch.inf), others)
        query, index = state.query.flatten(1), torch.stack([first, second], dim=1)
        low, high = (bound.expand_as(task.x).flatten(1).gather(1, index) for bound in task.threat.limits(task.x))
        moved = query.gather(1, index) + self.theta * (score > 0).unsqueeze(1)
        query = query.scatter(1, index, torch.clamp(moved, low, high))
        return JSMAState(query.reshape(task.x.shape), state.stuck | (score <= 0))

    def domain(self, query: Tensor, task: Task) -> Tensor:
        """``(N, D)`` bool, the features not saturated; once the budget is spent, only those changed already."""
        threat = cast(L0, task.threat)
        low, high = threat.limits(task.x)
        room = high - query if self.theta > 0 else query - low
        domain = (room > torch.clamp(_SATURATED * (high - low), max=abs(self.theta) / 2)).flatten(1)
        spent = threat.radius(task.x).flatten() - threat.distance(query, task.x) < 2
        if may_look(spent) and not bool(spent.any()):
            return domain
        return domain & (threat.changed(query, task.x).flatten(1) | ~spent.unsqueeze(1))

    def finished(self, state: JSMAState) -> Tensor:
        return state.stuck


def jsma(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    theta: float = 1.0,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Changes few features, two at a time, chosen by the saliency of pairs in the Jacobian of the logits.

    At each step it takes, among the features with room to move, the pair ``p, q`` for which
    ``(a_p + a_q) (b_p + b_q)`` is largest and both sums are positive, where ``a`` is the gradient of the wanted
    class's logit and ``b`` minus that of the sum of the others, both reversed if ``theta`` is negative. The pair is the
    exact best one. Features within 5 % of their bound, or half of ``theta``, count as saturated. A step takes two
    backward passes whatever the number of classes. Untargeted, it leaves class ``y`` in place of reaching one (Wiyatno
    & Xu, 2018, arXiv:1808.07945): ``a`` is minus the gradient of ``y``'s logit.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L0` ball: the budget of features that may change. Since features change
            in pairs, an odd budget leaves one unused. (The paper's is 14.5 % of the features, on MNIST.)
        theta: Change of each of the two features, in the units of ``x``: positive to increase them, negative to
            decrease them (1.0, as in the paper: features go to the end of their bounds at once).
        **options: Any of :class:`~advlib.search.SearchOptions`, such as ``targeted``. ``keep`` defaults to
            ``"first"``: a row stops where it succeeds.

    Returns:
        ``(N, ...)`` inputs within ``threat``; a row without success is the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is not L0 or has no finite bounds, ``theta`` is 0, ``x`` leaves the bounds,
            or shapes and values disagree.

    Example:
        >>> x_adv = jsma(model, x, y, L0(20))
    """
    if not isinstance(threat, L0):
        raise ValueError(f"jsma changes few features, so it needs an L0 threat model, got {threat}: L0(20)")
    if not theta or not math.isfinite(theta):
        raise ValueError(
            f"theta must be a number other than 0, got {theta}: 1.0 increases features, -1.0 decreases them"
        )
    if "loss" in options:
        raise TypeError("jsma follows the logits themselves and takes no loss: leave it out")
    check_inputs(x)
    logits_of = options.get("logits_of") or unchanged
    settings: dict[str, Any] = {"keep": "first", **options}
    rule = SaliencyMap(theta, logits_of)
    return search(model, x, y, threat, rule, steps=_steps(x, threat, theta), **settings).x_adv


def _steps(x: Tensor, threat: L0, theta: float) -> int:
    """Steps after which the whole budget must be spent: its pairs, each moved across the width of the bounds."""
    budget = float(torch.as_tensor(threat.eps).max()) * (x.shape[1] if threat.per_pixel else 1)
    budget = min(budget, math.prod(x.shape[1:]))
    low, high = threat.finite_bounds(x)
    width = float((high - low).max())
    return max(1, int(budget) // 2 * math.ceil(width / abs(theta) - 1e-9))
