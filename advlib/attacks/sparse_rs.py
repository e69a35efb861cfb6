"""Sparse-RS (Croce et al., 2020, arXiv:2006.12834): random search over few features, pixels, or a patch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.sparse_patch import SparsePatchSearch
from advlib.attacks.square import scheduled
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, Linf, Patch, Threat
from advlib.threats.base import choose, tensor_like

if TYPE_CHECKING:
    from typing_extensions import Unpack

# What the share of exchanged pixels is divided by after so many of 10,000 queries: the authors' schedule
_DIVISORS = {0: 2, 50: 4, 200: 5, 500: 6, 1000: 8, 2000: 10, 4000: 12, 6000: 15, 8000: 20}


class SparseState(NamedTuple):
    query: Tensor  # (N, ...) the proposal
    best: Tensor  # (N, ...) what it was made from
    loss: Tensor  # (N,) the loss there
    proposed: Tensor  # (N, U) bool, the units that the proposal changes
    chosen: Tensor  # (N, U) bool, the units that the best point changes
    step: Tensor  # (N,) proposals made, -1 before the first point of eps changed units


@dataclass(frozen=True)
class SparseSearch(Rule[SparseState]):
    """Exchanges some of the changed units, features or pixels, for others at random ends of the bounds.

    Args:
        steps: Length of the schedule along which fewer and fewer are exchanged.
        share: Share of the changed units that is exchanged, at first divided by 2, in the end by 20.

    Raises:
        ValueError: If ``share`` is no share, or when it starts, if the threat model is not L0 with finite bounds.
    """

    steps: int
    share: float = 0.3

    order = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of changed units to exchange must be in (0, 1], got {self.share}: 0.3")

    def start(self, task: Task, point: Tensor, noise: Noise) -> SparseState:
        if not isinstance(task.threat, L0):
            raise ValueError("sparse_rs changes few features: take an L0 ball, or square for Linf, L2 and L1")
        task.threat.finite_bounds(task.x)
        step = torch.zeros_like(point.flatten(1)[:, 0])
        none = torch.zeros_like(_free(task))
        first, chosen = _exchanged(task.x, none, _most(task), task, noise.stream(3), noise.stream(4))
        return SparseState(point, first, step - torch.inf, none, chosen, step - 1)

    def update(self, state: SparseState, feedback: Feedback, task: Task, noise: Noise) -> SparseState:
        opening = state.step < 0  # the random point comes next, whatever the loss at the clean one
        better = (feedback.loss > state.loss) & ~opening
        best = choose(better, state.query, state.best)
        chosen = torch.where(better.unsqueeze(1), state.proposed, state.chosen)
        loss = torch.where(better, feedback.loss, state.loss)
        most = _most(task)
        count = torch.minimum((self.shares(state.step) * most).floor().clamp_min(1), most) * ~opening
        query, proposed = _exchanged(best, chosen, count, task, noise, noise.stream(1))
        return SparseState(query, best, loss, proposed, chosen, state.step + 1)

    def shares(self, step: Tensor) -> Tensor:
        """The share of the changed units, ``(N,)``, that is exchanged after ``step`` proposals."""
        return self.share / scheduled(step, self.steps, _DIVISORS)


def _units(value: Tensor, task: Task) -> Tensor:
    """``(N, ...)`` as ``(N, C, U)``: of each counted unit, all its channels."""
    value = value.expand_as(task.x)
    return value.flatten(2) if getattr(task.threat, "per_pixel", False) else value.flatten(1).unsqueeze(1)


def _free(task: Task) -> Tensor:
    """The units that may change, ``(N, U)`` bool."""
    low, high = (_units(end, task) for end in task.threat.limits(task.x))
    return (low < high).any(1)


def _most(task: Task) -> Tensor:
    """How many units change, ``(N,)``: as many as ball and mask allow."""
    return torch.minimum(tensor_like(task.threat.eps, task.x).floor(), _free(task).sum(1).to(task.x))


def _first(keys: Tensor, count: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """The ``count`` units, ``(N,)``, with the largest keys: their indices, ``(N, K)``, and which of these count."""
    eps, units = task.threat.eps, keys.shape[1]
    most = units if isinstance(eps, Tensor) else int(min(eps, units))
    return keys.topk(most, dim=1).indices, torch.arange(most, device=keys.device) < count.unsqueeze(1)


def _exchanged(
    best: Tensor, chosen: Tensor, count: Tensor, task: Task, noise: Noise, more: Noise
) -> tuple[Tensor, Tensor]:
    """A point where ``count`` chosen units are as in ``x`` again, and as many others at random ends of the bounds.

    Where all free units are chosen, those that were given up are chosen anew.

    Returns:
        The point, and its changed units, ``(N, U)`` bool.
    """
    x, point = _units(task.x, task), _units(best, task)
    low, high = (_units(end, task) for end in task.threat.limits(task.x))
    key, other = noise.uniform(x.new_empty(len(x), 2, x.shape[2])).unbind(1)
    index, kept = _first(torch.where(chosen, key, -1.0), count, task)
    given_up = torch.zeros_like(chosen).scatter(1, index, kept)
    wide = index.unsqueeze(1).expand(-1, x.shape[1], -1)
    point = point.scatter(2, wide, torch.where(kept.unsqueeze(1), x.gather(2, wide), point.gather(2, wide)))

    key = torch.where(_free(task) & ~chosen, 1 + other, torch.where(given_up, other, -1.0))
    index, kept = _first(key, count, task)
    wide = index.unsqueeze(1).expand(-1, x.shape[1], -1)
    clean, least, most = (value.gather(2, wide) for value in (x, low, high))
    up = more.uniform(clean) < 0.5
    same = (torch.where(up, most, least) == clean).all(1, keepdim=True)  # the opposite color changes the unit
    color = torch.where(up ^ same, most, least)
    point = point.scatter(2, wide, torch.where(kept.unsqueeze(1), color, point.gather(2, wide)))
    left = chosen & ~given_up
    return point.reshape(best.shape), left.scatter(1, index, kept | left.gather(1, index))


def sparse_rs(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat | Patch,
    *,
    steps: int = 10_000,
    alpha: float | None = None,
    loss: str | Loss = "margin",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Searches at random, without gradients, over few features or pixels, or a patch, at the ends of the bounds.

    Solves, per example, ``max loss(model(x_adv), y)`` over ball, bounds and mask, from values of the loss alone. The
    best point so far changes ``eps`` features, or pixels where the threat model counts these. A query exchanges some of
    them for others, each channel of which goes to either end of the bounds, and is kept if the loss rises. On a patch a
    query paints a square, or every fifth time moves the patch.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L0` ball with finite bounds, or an upright :class:`~advlib.threats.Patch`.
        steps: Proposals (10,000, as in the paper; 100,000 in its targeted attacks, 50,000 on patches); the clean input
            is asked about before them, and the last one after.
        alpha: Share of the changed features that is exchanged, divided by 2 at first and by 20 in the end; or of the
            patch that is painted at first. None means 0.3, or 0.4 of a patch, as in the paper's untargeted attacks; it
            takes 0.1 in targeted ones.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable. The authors take
            ``"cross_entropy"`` in targeted attacks.
        **options: Any of :class:`~advlib.search.SearchOptions`, such as ``targeted`` or ``generator``. ``keep``
            defaults to ``"first"``: a row's queries end with its first success.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the first success, or the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, ``alpha`` is no share, or the threat model
            is not L0 with finite bounds.

    Example:
        >>> x_adv = sparse_rs(model, x, y, L0(10, per_pixel=True), steps=1000)
    """
    settings: dict[str, Any] = {"keep": "first", **options}
    if isinstance(threat, Patch):
        threat.check(x)
        rule: Rule[Any] = SparsePatchSearch(threat, steps, 0.4 if alpha is None else alpha)
        threat = Linf(math.inf, bounds=threat.bounds)
    else:
        rule = SparseSearch(steps, 0.3 if alpha is None else alpha)
    return search(model, x, y, threat, rule, steps=steps, loss=loss, **settings).x_adv
