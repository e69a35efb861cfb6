"""The simple black-box attack, SimBA (Guo et al., 2019, arXiv:1905.07121): one direction after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.windows import planes
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, Threat
from advlib.threats.base import choose, clamp

if TYPE_CHECKING:
    from typing_extensions import Unpack

Basis = Literal["pixels", "dct"]


class SimBAState(NamedTuple):
    query: Tensor  # (N, ...) the proposal
    best: Tensor  # (N, ...) what it was made from
    loss: Tensor  # (N,) the loss there
    directions: Tensor  # (N, D) all of them, in the order in which they are asked about
    total: Tensor  # (N,) how many of them can move anything
    place: Tensor  # (N,) of the proposal's direction, going on beyond that; -1 before the first
    since: Tensor  # (N,) place of the last direction that was kept
    last: Tensor  # (N,) bool, whether there is no other way to go along this direction


@dataclass(frozen=True)
class SimpleSearch(Rule[SimBAState]):
    """Goes one step along a direction, or against it, if that raises the loss; each direction once before any again.

    Along comes first, unless there is less than half as much room that way; where there is none it is not asked about.
    A row is done once all directions have been tried from where it is.

    Args:
        step_size: Length of a step, in L2.
        basis: The directions: single features, or the cosines of each channel's plane, low frequencies first.

    Raises:
        ValueError: If there is no such basis, or when it starts, if the threat model is L0.
    """

    step_size: float
    basis: Basis

    order = 0

    def __post_init__(self) -> None:
        if self.basis not in Basis.__args__:  # type: ignore[attr-defined]
            raise ValueError(f"basis must be 'pixels' or 'dct', got {self.basis!r}")

    def start(self, task: Task, point: Tensor, noise: Noise) -> SimBAState:
        if isinstance(task.threat, L0):
            raise ValueError("SimBA needs an Linf, L2 or L1 ball, got L0: take sparse_rs")
        low, high = (end.expand_as(point).flatten(1) for end in task.threat.limits(task.x))
        keys, free = noise.stream(3).uniform(low), low < high
        if self.basis == "dct":
            keys, free = keys + _rings(point), torch.ones_like(free)
        order = torch.where(free, keys, torch.inf).argsort(1)
        zero = torch.zeros_like(order[:, 0])
        loss = torch.full_like(keys[:, 0], -torch.inf)
        return SimBAState(point, point, loss, order, free.sum(1).clamp_min(1), zero - 1, zero - 1, zero == 0)

    def update(self, state: SimBAState, feedback: Feedback, task: Task, noise: Noise) -> SimBAState:
        better = feedback.loss > state.loss
        best = choose(better, state.query, state.best)
        loss = torch.where(better, feedback.loss, state.loss)
        since = torch.where(better, state.place, state.since)
        again = ~better & ~state.last
        place = state.place + (~again).long()
        index = state.directions.gather(1, (place % state.total).unsqueeze(1))
        direction = self.step_size * (_wave(index, best) if self.basis == "dct" else _pixel(index, best))
        low, high = task.threat.box(task.x)
        ways = [clamp(best + way, low, high) for way in (direction, -direction)]
        up, down = ((point - best).abs().flatten(1).sum(1) for point in ways)
        query = task.threat.project(choose((2 * up >= down) ^ again, *ways), task.x)
        last = again | (torch.minimum(up, down) == 0)
        return SimBAState(query, best, loss, state.directions, state.total, place, since, last)

    def finished(self, state: SimBAState) -> Tensor:
        return state.place - state.since > state.total


def _pixel(index: Tensor, like: Tensor) -> Tensor:
    """One feature of each row, ``(N, ...)``."""
    return torch.zeros_like(like.flatten(1)).scatter_(1, index, 1.0).reshape(like.shape)


def _wave(index: Tensor, like: Tensor) -> Tensor:
    """One orthonormal cosine of one channel's plane, ``(N, ...)``: a column of the inverse DCT."""
    channels, lines, columns = planes(like).shape[1:]
    down, across = _cosine(index // columns % lines, lines, like), _cosine(index % columns, columns, like)
    wave = down.unsqueeze(2) * across.unsqueeze(1)
    channel = torch.arange(channels, device=like.device) == index // (lines * columns)
    return (wave.unsqueeze(1) * channel.unsqueeze(2).unsqueeze(3)).reshape(like.shape)


def _cosine(frequency: Tensor, length: int, like: Tensor) -> Tensor:
    """Unit vectors of the discrete cosine transform, ``(N, length)``."""
    place = torch.arange(length, device=like.device).to(like) + 0.5
    height = torch.where(frequency > 0, 2.0, 1.0).to(like).div(length).sqrt()
    return height * torch.cos(math.pi / length * place * frequency)


def _rings(like: Tensor) -> Tensor:
    """In which turn each frequency comes, ``(1, D)``: the lowest eighth of either side, then a 32nd more at a time."""
    channels, lines, columns = planes(like).shape[1:]
    high = [32 * torch.arange(length, device=like.device) // length for length in (lines, columns)]
    ring = (torch.maximum(high[0].unsqueeze(1), high[1]) - 3).clamp_min(0)
    return ring.expand(channels, lines, columns).reshape(1, -1)


def simba(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 5000,
    step_size: float = 0.2,
    basis: Basis = "dct",
    loss: str | Loss = "margin",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Searches without gradients along the directions of a basis, one after the other, each way.

    Solves, per example, ``max loss(model(x_adv), y)`` over ball, bounds and mask. A query is one step along a
    direction, drawn without replacement, from the best point so far; where the loss does not rise, the next goes the
    other way. When all directions are used up they come again, and a row ends when none of them helps.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An L2, Linf or L1 ball, ``eps`` in the units of ``x``. The paper has no radius but a number of steps,
            which keeps ``k`` steps within ``sqrt(k) * step_size`` in L2; ``L2(inf)`` is that.
        steps: Proposals; the clean input is asked about before them, and the last one after.
        step_size: Length of a step in L2, before it is projected (0.2, as in the paper).
        basis: ``"dct"``, the cosines of each plane, those of the lowest eighth of frequencies first and then a 32nd
            more at a time; or ``"pixels"``, single features in any order. Both are the paper's. The last two dimensions
            are the plane, all before them its channels; features ``(N, D)`` are a plane of one line.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable. The paper's, the probability
            of the class, is in the order of ``"cross_entropy"``, which found less.
        **options: Any of :class:`~advlib.search.SearchOptions`, such as ``targeted`` or ``generator``. ``keep``
            defaults to ``"first"``: a row's queries end with its first success.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the first success, or the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, there is no such basis, or the threat model
            is L0.

    Example:
        >>> x_adv = simba(model, x, y, L2(2.0), steps=1000)
    """
    settings: dict[str, Any] = {"keep": "first", **options}
    return search(model, x, y, threat, SimpleSearch(step_size, basis), steps=steps, loss=loss, **settings).x_adv
