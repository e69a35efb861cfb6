"""RayS, the ray search (Chen & Gu, 2020, arXiv:2006.12792): minimum-norm in Linf, from labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.labels import LabelOptions, Walk, search_labels
from advlib.search import Model
from advlib.threats import Linf, Threat
from advlib.threats.base import choose, column

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Rays(NamedTuple):
    """Where each row's search is; a row asks one question a step."""

    row: Tensor  # (n,) indices of the rows
    way: Tensor  # (n, ...) the signs of the shortest ray
    trial: Tensor  # (n, ...) the signs of the ray that is asked about
    length: Tensor  # (n,) of the shortest ray; infinite before one succeeds
    probe: Tensor  # (n,) length at which the trial is asked about
    least: Tensor  # (n,) largest length at which the trial failed, 0 before it does
    most: Tensor  # (n,) smallest length at which it succeeded, infinite before it does
    step: Tensor  # (n,) how much nearer the next question is while none has failed
    blocks: Tensor  # (n,) how many blocks the features are in
    block: Tensor  # (n,) which of them is turned
    idle: Tensor  # (n,) blocks turned since the shortest ray became shorter


@dataclass(frozen=True)
class RaySearch:
    """Turns the signs of one block of features after the other, in ever smaller blocks, and keeps what is nearer.

    A ray leads from ``x`` in a direction of signs, each feature as far as bounds and mask let it. A turned ray is first
    asked about at the length of the shortest one. If it succeeds there, its own length is searched from there on, in
    steps that double until one fails, and then by bisection.

    Args:
        tolerance: The last interval of the search for a ray's length, as a share of it.
    """

    tolerance: float = 1e-3  # the authors', of the largest length there is

    def __call__(self, walk: Walk) -> None:
        free = (walk.low < walk.high).flatten(1)
        place, count = free.cumsum(1) - 1, free.sum(1)  # of each feature among those that may change
        span = _span(walk)
        row = torch.arange(len(walk.x), device=walk.x.device)
        x = walk.x
        way = torch.ones_like(x) if walk.init is None else _signs(walk.init - x)
        zero, none = torch.zeros_like(span), torch.zeros_like(row)
        inf = zero + torch.inf
        r = _Rays(row, way, way, inf, span, zero, inf, zero, none + 1, none - 1, none)
        started = walk.init is not None
        while True:
            going = (walk.left(r.row) > 0) & (r.idle < 2 * count[r.row])
            if not bool(going.all()):
                r = _Rays(*(part[going] for part in r))
            if len(r.row) == 0:
                return
            x = walk.x[r.row]
            success = walk.ask(walk.inside(torch.addcmul(x, column(r.probe, x), r.trial), r.row), r.row)
            r = self._next(r, success, place[r.row], count[r.row], span[r.row])
            if not started:
                r, started = self._started(walk, r), True

    def _started(self, walk: Walk, r: _Rays) -> _Rays:
        """Turns the first ray, where it has failed, towards a random success."""
        walk.start()
        found = walk.distance[r.row].isfinite()  # by the first ray, which stays, or at random
        return r._replace(trial=choose(found, _signs(walk.best[r.row] - walk.x[r.row]), r.trial))

    def _next(self, r: _Rays, success: Tensor, place: Tensor, count: Tensor, span: Tensor) -> _Rays:
        most = torch.where(success, r.probe, r.most)
        least = torch.where(success, r.least, r.probe)
        found = most.isfinite()
        over = torch.where(found, most - least <= self.tolerance * most, True)

        # the search for the length of a trial that has succeeded
        step = torch.where(r.most.isfinite(), 2 * r.step, self.tolerance * most)
        step = torch.where(r.length.isfinite(), step, torch.inf)
        probe = torch.where(least > 0, (least + most) / 2, torch.maximum(most - step, most / 2))

        # the next trial
        won = over & found
        way = choose(won, r.trial, r.way)
        length = torch.where(won, most, r.length)
        shorter = won & (most < r.length)
        block = r.block + 1
        ends = block >= r.blocks
        blocks = torch.where(ends, torch.minimum(2 * r.blocks, count), r.blocks)
        block = torch.where(ends, 0, block)
        turned = (place * blocks.unsqueeze(1)) // count.unsqueeze(1) == block.unsqueeze(1)
        trial = way * torch.where(turned, -1.0, 1.0).to(way).reshape(way.shape)
        fresh = torch.where(length.isfinite(), length, span)
        zero = torch.zeros_like(length)
        return _Rays(
            r.row,
            way,
            choose(over, trial, r.trial),
            length,
            torch.where(over, fresh, probe),
            torch.where(over, zero, least),
            torch.where(over, torch.inf, most),
            torch.where(over, zero, step),
            torch.where(over, blocks, r.blocks),
            torch.where(over, block, r.block),
            torch.where(shorter, 0, r.idle + over),
        )


def _signs(change: Tensor) -> Tensor:
    """The direction of a change, in which no feature stays where it is: a sign of 0 could not be turned."""
    return torch.copysign(torch.ones_like(change), change)


def _span(walk: Walk) -> Tensor:
    """``(N,)`` a length at which a ray has left the bounds; without bounds, twice the size of the largest feature."""
    space = (walk.high - walk.low).flatten(1).amax(1)
    return torch.where(space.isfinite(), space, 2 + 2 * walk.x.flatten(1).abs().amax(1))


def ray_search(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    tolerance: float = 1e-3,
    **options: Unpack[LabelOptions],
) -> Tensor:
    """Finds near inputs that change the prediction, from labels alone, in Linf: the shortest ray of signs.

    Solves, per example, ``min ||x_adv - x||`` such that the model errs, over ball, bounds and mask, among points that
    lie as far in each feature, up or down, as bounds and mask let them. Blocks of features are turned one after the
    other, and what makes the ray shorter is kept. The first ray goes up in all features, as in the paper; where it
    fails, towards a random success.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, or a :class:`~advlib.oracles.LabelOracle`.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.Linf` ball; its ``eps`` is the largest distance of interest, ``inf`` for the
            nearest adversarial inputs wherever they are.
        tolerance: The last interval of the search for a ray's length, as a share of it (0.001; the authors' is 0.001 of
            the bounds).
        **options: Any of :class:`~advlib.attacks.labels.LabelOptions`, such as ``queries`` (1,000) and ``init``, of
            which only the direction counts.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is not Linf, ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = ray_search(model, x, y, Linf(torch.inf), queries=200)
    """
    if not isinstance(threat, Linf):
        raise ValueError(
            f"the ray search needs an Linf ball, got {type(threat).__name__}: surfree or hop_skip_jump in L2"
        )
    return search_labels(model, x, y, threat, RaySearch(tolerance), **options).x_adv
