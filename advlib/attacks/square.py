"""The square attack (Andriushchenko et al., 2019, arXiv:1912.00049; in L1, Croce & Hein, 2021, arXiv:2103.01208)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.windows import Span, planes, pyramid, sides, span, tiles, window
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, L1, Linf, Threat
from advlib.threats.base import choose, clamp, column

if TYPE_CHECKING:
    from typing_extensions import Unpack

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: section 5 of the paper
_MULTIPLIER, _PRIME = 48271, 2**31 - 1  # of the minimal standard generator (Park, Miller & Stockmeyer, 1993)


class SquareState(NamedTuple):
    query: Tensor  # (N, ...) the proposal
    best: Tensor  # (N, ...) what it was made from
    loss: Tensor  # (N,) the loss there
    step: Tensor  # (N,) proposals made, -1 before the stripes
    windows: Tensor  # (N, K, 3) from which proposal on windows have which height and width
    chance: Tensor  # (N, 5 + C) int64, what the random numbers of the next step are made from


@dataclass(frozen=True)
class SquareSearch(Rule[SquareState]):
    """Changes one random window after the other, and keeps what raises the loss.

    It asks about its starting point first. With ``stripes=False`` it goes on from there, so that
    ``search(..., init=best, rule=SquareSearch(None, 0.03, stripes=False))`` tries squares around the best point of
    another attack.

    Args:
        steps: Length of the schedule along which the windows shrink; None for windows of one size.
        share: Share of the plane that a window covers, at first where there is a schedule.
        stripes: Whether to begin with stripes (in L2 and L1, tiles) all over the plane.

    Raises:
        ValueError: If ``share`` is no share, or when it starts, if the threat model is L0 or ``eps`` infinite.
    """

    steps: int | None
    share: float = 0.8
    stripes: bool = True

    order = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of the plane in a window must be in (0, 1], got {self.share}: 0.8")

    def start(self, task: Task, point: Tensor, noise: Noise) -> SquareState:
        if isinstance(task.threat, L0):
            raise ValueError("the square attack needs an Linf, L2 or L1 ball, got L0: use jsma or salt_and_pepper")
        if bool(torch.isinf(torch.as_tensor(task.threat.eps)).any()):
            raise ValueError(f"the square attack needs a finite eps, got {task.threat.eps}: give eps a number")
        step = torch.zeros_like(point.flatten(1)[:, 0])
        drawn = noise.stream(3).uniform(point.new_empty(len(point), 5 + planes(point).shape[1]))
        chance = 1 + (drawn.double() * (_PRIME - 1)).long()
        turns = [0, *(-(-turn * self.steps // 10_000) for turn in _HALVINGS)] if self.steps is not None else [0]
        begin, (lines, columns) = point.new_tensor(turns), planes(point).shape[2:]
        size = sides(self.shares(begin), lines, columns, odd=not isinstance(task.threat, Linf))
        windows = torch.stack([begin, *size], 1).expand(len(point), -1, -1)
        if not self.stripes:
            return SquareState(point, point, step - torch.inf, step, windows, chance)
        opening = _stripes if isinstance(task.threat, Linf) else _tiles
        first = opening(task, noise.stream(4), noise.stream(5)).reshape(point.shape)
        return SquareState(point, first, step + torch.inf, step - 1, windows, chance)

    def update(self, state: SquareState, feedback: Feedback, task: Task, noise: Noise) -> SquareState:
        better = feedback.loss > state.loss
        best = choose(better, state.query, state.best)
        opening = state.step < 0  # nothing can be better than the stripes yet, which come next, whatever their loss
        loss = torch.where(opening, -torch.inf, torch.where(better, feedback.loss, state.loss))
        plane, linf = planes(best), isinstance(task.threat, Linf)
        size = (state.step.unsqueeze(1) >= state.windows[:, 1:, 0]).sum(1)
        _, height, width = state.windows.gather(1, size.view(-1, 1, 1).expand(-1, 1, 3)).squeeze(1).unbind(1)
        # Drawing anew takes as long as a small network's forward pass, and all at the start more room than the images.
        drawn = state.chance * _MULTIPLIER % _PRIME
        chance = (drawn >> 7).to(best.dtype) * 2.0**-24  # uniform in [0, 1)
        down = span(plane.shape[2], height, chance[:, 0])
        across = span(plane.shape[3], torch.where(opening, 0, width), chance[:, 1])
        propose = _vertices if linf else _summed if isinstance(task.threat, L1) else _transfers
        query = propose(plane, down, across, task, chance[:, 2:])
        return SquareState(query.reshape(best.shape), best, loss, state.step + 1, state.windows, drawn)

    def shares(self, step: Tensor) -> Tensor:
        """The share of the plane, ``(N,)``, that is changed after ``step`` proposals."""
        if self.steps is None:
            return torch.full_like(step, self.share)
        return self.share * scheduled(step, self.steps, {turn: 0.5**k for k, turn in enumerate(_HALVINGS, 1)})


def scheduled(step: Tensor, steps: int, values: Mapping[int, float]) -> Tensor:
    """The value, ``(N,)``, of the last moment that ``step`` has reached, 1 before the first.

    Moments are of 10,000 steps, rescaled to ``steps``, in order. (Without a table: a copy of one from the host could
    not be recorded.)
    """
    value = torch.ones_like(step)
    for moment, later in values.items():
        value = torch.where(10_000 * step >= moment * steps, later, value)
    return value


def _stripes(task: Task, noise: Noise, _: Noise) -> Tensor:
    """Vertical stripes one wide, each channel at either end."""
    low, high = (planes(end) for end in task.threat.box(task.x))
    return torch.where(noise.uniform(low[:, :, :1]) < 0.5, low, high)


def _vertices(best: Tensor, down: Span, across: Span, task: Task, chance: Tensor) -> Tensor:
    """Windows at the ends of ball and bounds, each channel at one end (algorithm 2)."""
    low, high = (planes(end) for end in task.threat.box(task.x))
    up = chance[:, 3:] < 0.5
    # A proposal that changes nothing is drawn again, as the paper does: that its color is the one of the window's first
    # and last pixels tells so where it matters, in small windows, without a look at all of them.
    lines, columns = best.shape[2:]
    first = torch.add(across.first, down.first, alpha=columns)
    last = first + torch.add(across.size, down.size, alpha=columns) - (columns + 1)
    corners = torch.cat([first, last], 1).long().clamp(0, lines * columns - 1)  # a window may have no columns
    pixels = corners.unsqueeze(1).expand(-1, best.shape[1], -1)
    least, most, color = (plane.flatten(2).gather(2, pixels) for plane in (low, high, best))
    same = (color == torch.where(up.unsqueeze(2), most, least)).flatten(1).all(1, keepdim=True)
    ends = torch.lerp(low, high, (up ^ same).to(best.dtype).unsqueeze(2).unsqueeze(3))  # exactly one or the other
    painted = down.inside.to(best.dtype).unsqueeze(2) * across.inside.unsqueeze(1)
    return torch.lerp(best, ends, painted.unsqueeze(1))


def _power(threat: Threat) -> int:
    """How fast pyramids rise: that of 2103.01208 in L1, where changes are sparse, and of 1912.00049 in L2."""
    return 4 if threat.p == 1 else 2


def _tiles(task: Task, noise: Noise, more: Noise) -> Tensor:
    """Pyramids of random sign in a grid all over the plane."""
    x = planes(task.x)
    down, across = tiles(x.shape[2], x), tiles(x.shape[3], x)
    ways = (x.new_full((1, 1), way, dtype=torch.bool) for way in (False, True))
    beside, above = (pyramid(down.span, across.span, way, _power(task.threat)).unsqueeze(1) for way in ways)
    grid = x.new_empty(len(x), x.shape[1], down.number, across.number)
    sign, turned = noise.signs(grid), more.uniform(grid[:, :1]) < 0.5
    sign, turned = (value[:, :, down.tile][:, :, :, across.tile] for value in (sign, turned))
    first = beside[:, :, down.tile == 0][:, :, :, across.tile == 0]
    return _moved(x, torch.where(turned, above, beside) * sign, first, task)


def _transfers(best: Tensor, down: Span, across: Span, task: Task, chance: Tensor) -> Tensor:
    """Pyramids in one window, paid for by the change in it, in another window, and what is left (algorithm 3)."""
    x, p, (lines, columns) = planes(task.x), task.threat.p, best.shape[2:]
    painted = window(down, across)
    beside = span(columns, across.size.squeeze(1), chance[:, 1])
    other = window(span(lines, down.size.squeeze(1), chance[:, 0]), beside)
    change = best - x
    old, given = change * painted, change * (painted | other)
    spent = _mass(change, p).sum(1, keepdim=True)
    unused = (task.threat.radius(task.x).flatten(1) ** p - spent).clamp_min(0)
    new = pyramid(down, across, chance[:, 2:3] < 0.5, _power(task.threat)).unsqueeze(1)
    sign = torch.where(chance[:, 3:] < 0.5, -1.0, 1.0).to(x).unsqueeze(2).unsqueeze(3)
    direction = old / _length(old, p) + sign * (new / _length(new, p))
    point = _stretched(direction, _mass(given, p) + unused / x.shape[1], task)
    paint, elsewhere = painted.to(x.dtype), other.to(x.dtype)
    moved = torch.lerp(torch.lerp(best, x, elsewhere), point, paint).reshape(task.x.shape)
    # rounding adds up over the proposals, and may leave the ball: towards x there is no bound in the way
    length, radius = task.threat.distance(moved, task.x), task.threat.radius(task.x).flatten()
    kept = torch.where(length > radius, radius / length, 1)
    return clamp(torch.lerp(task.x, moved, column(kept, moved)), *task.threat.limits(task.x))


def _stretched(direction: Tensor, mass: Tensor, task: Task) -> Tensor:
    """``x`` and a change along ``direction``, whose p-th powers sum to ``mass`` in each channel.

    What the bounds cut off is not lost, as it is in the paper, but stretches the rest: half of the pixels of a digit
    have no room in half of the directions.
    """
    x, p = planes(task.x), task.threat.p
    low, high = (planes(end.expand_as(task.x)) for end in task.threat.limits(task.x))
    length = (mass ** (1 / p)).unsqueeze(2).unsqueeze(3)
    once = clamp(x + direction * (length / _length(direction, p)), low, high) - x
    return x + once * (length / _length(once, p))


def _mass(change: Tensor, p: float) -> Tensor:
    """``(N, C)`` sums of the p-th powers."""
    mass: Tensor = torch.linalg.vector_norm(change, ord=p, dim=(2, 3)) ** p
    return mass


def _length(change: Tensor, p: float) -> Tensor:
    """``(N, C, 1, 1)`` norms, 1 where they are zero."""
    length: Tensor = torch.linalg.vector_norm(change, ord=p, dim=(2, 3), keepdim=True)
    return torch.where(length > 0, length, 1)


def _summed(best: Tensor, down: Span, across: Span, task: Task, chance: Tensor) -> Tensor:
    """Two more pyramids in each channel, for which the whole change pays in the projection.

    In 2103.01208 change in the window and in another one pays before the projection; this breaks more.
    """
    heights = pyramid(down, across, chance[:, 2:3] < 0.5, _power(task.threat)).unsqueeze(1)
    sign = torch.where(chance[:, 3:] < 0.5, -1.0, 1.0).to(best).unsqueeze(2).unsqueeze(3)
    return _moved(best, sign * heights, heights, task)


def _moved(start: Tensor, change: Tensor, single: Tensor, task: Task) -> Tensor:
    """``start`` and a change along pyramids, each as large as a channel's share of the ball, projected.

    Args:
        start: ``(N, C, H, W)`` points inside the threat model.
        change: ``(N, C, H, W)`` pyramids and zeros.
        single: What is to have the length of a share, without the sign.
        task: The rows.
    """
    p = task.threat.p
    length = torch.linalg.vector_norm(single, ord=p, dim=(2, 3), keepdim=True)
    share = planes(task.threat.radius(task.x)) / start.shape[1] ** (1 / p)
    point = start + change * (share / torch.where(length > 0, length, 1))
    return task.threat.project(point.reshape(task.x.shape), task.x)


def square(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 5000,
    p_init: float = 0.8,
    loss: str | Loss = "margin",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Searches at random, without gradients: changes a square window, and keeps it if the loss rises.

    Solves, per example, ``max loss(model(x_adv), y)`` over ball, bounds and mask, from values of the loss alone. In
    Linf a window moves to vertices of ball and bounds. In L2 it takes over the change of another window, and what the
    bounds cut off goes to the rest of it; in L1 pyramids are added in it, and the sum is projected. The last two
    dimensions are the plane of the windows, all before them its channels; features ``(N, D)`` are a plane of one line.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An Linf, L2 or L1 ball with a finite ``eps``, in the units of ``x``.
        steps: Proposals; the clean input is asked about before them, and the last one after (5000, as in AutoAttack).
        p_init: Share of the plane in the first windows (0.8, as in AutoAttack); it falls to 1/512 of that.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`, such as ``targeted`` or ``generator``. ``keep``
            defaults to ``"first"``: a row's queries end with its first success.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the first success, or the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, ``p_init`` is no share, ``eps`` is
            infinite, or the threat model is L0.

    Example:
        >>> x_adv = square(model, x, y, Linf(8 / 255), steps=1000)
    """
    settings: dict[str, Any] = {"keep": "first", **options}
    return search(model, x, y, threat, SquareSearch(steps, p_init), steps=steps, loss=loss, **settings).x_adv
