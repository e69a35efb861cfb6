"""What attacks that see labels alone share: where they start, what they may ask, and the nearest success so far."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypedDict

import torch
from torch import Tensor

from advlib.checks import check_counts, check_init
from advlib.evaluator import Evaluator, Feedback, Model, Task
from advlib.noise import Noise
from advlib.oracles import Oracle, OracleError
from advlib.search import SearchResult
from advlib.threats import Threat
from advlib.threats.base import clamp, column

_STARTS = 100  # random points tried, as many as in ART
_AT_ONCE = 256  # points asked about at once, where there are fewer rows


class LabelOptions(TypedDict, total=False):
    """What every attack that sees labels alone takes besides its own parameters; see :func:`search_labels`."""

    queries: int
    targeted: bool
    init: Tensor | None
    keep: Literal["nearest", "first"]
    batch_size: int | None
    logits_of: Callable[[Any], Tensor] | None
    generator: torch.Generator | None


class Side(NamedTuple):
    """Some rows, each with a point at which it succeeds."""

    row: Tensor  # (n,) indices of the rows
    x: Tensor  # (n, ...) their clean inputs
    point: Tensor  # (n, ...) successes

    def take(self, index: Tensor) -> Side:
        """The same for some of them."""
        return Side(self.row[index], self.x[index], self.point[index])


class Walk:
    """All rows of an attack: what each may still ask, and the nearest success that it has asked about.

    Args:
        evaluator: Asks and counts, inside its guard.
        queries: How many questions each row has, the first of which was about the clean input.
        init: ``(N, ...)`` points to start from, or None for random ones.
        keep: ``"nearest"``, or ``"first"`` if a row is done once it succeeds within ``eps``.
        batch_size: Points asked about at once, or None.
    """

    def __init__(
        self, evaluator: Evaluator, queries: int, init: Tensor | None, keep: str, batch_size: int | None
    ) -> None:
        self.x, self.init, self.queries = evaluator.x, init, queries
        self.threat = evaluator.threat.at(self.x)
        low, high = self.threat.limits(self.x)
        self.low, self.high = low.expand_as(self.x), high.expand_as(self.x)
        self.best = self.x.clone()
        self.distance = torch.full_like(self.x.flatten(1)[:, 0], torch.inf)
        self.batch_size = batch_size or max(_AT_ONCE, len(self.x))
        self._evaluator, self._keep = evaluator, keep

    def left(self, rows: Tensor) -> Tensor:
        """How many questions each of some rows still has, ``(n,)``: none if it is done."""
        left = self.queries - self._evaluator.forwards[rows]
        done = self.distance[rows] == 0
        if self._keep == "first":
            done |= self.threat.contains(self.best, self.x)[rows] & self.distance[rows].isfinite()
        return torch.where(done, 0, left)

    def going(self, side: Side) -> Side:
        """Those that still have a question."""
        left = self.left(side.row) > 0
        return side if bool(left.all()) else side.take(left.nonzero().squeeze(1))

    def inside(self, points: Tensor, rows: Tensor) -> Tensor:
        """Points of some rows, brought within bounds and mask."""
        return clamp(points, self.low[rows], self.high[rows])

    def noise(self, rows: Tensor, number: Tensor) -> Noise:
        """What rows may draw for a question of that number, ``(n,)`` each."""
        return Noise(self._evaluator.key, rows, step=number)

    def asked(self, rows: Tensor) -> Tensor:
        """How many questions each of some rows has asked, ``(n,)``."""
        return self._evaluator.forwards[rows]

    def ask(self, points: Tensor, rows: Tensor) -> Tensor:
        """Tells which points, within bounds and mask, are successes, ``(n,)`` bool, and remembers the nearest.

        Args:
            points: ``(n, ...)`` points.
            rows: ``(n,)`` the rows that they belong to, a row as often as it has points.
        """
        parts = zip(torch.split(points, self.batch_size), torch.split(rows, self.batch_size), strict=True)
        return torch.cat([self._ask(*part) for part in parts])

    def _ask(self, points: Tensor, rows: Tensor) -> Tensor:
        y = self._evaluator.y[rows]
        task = Task(points, y, None, self.threat, rows)
        told: Feedback = self._evaluator.feedback(points, task, lambda output, of: (), 0, self.noise(rows, rows))
        success = told.reached
        x = self.x[rows]
        distance = torch.where(success, self.threat.distance(points, x), torch.inf)
        nearest = self.distance.scatter_reduce(0, rows, distance, "amin")
        won = ((distance == nearest[rows]) & (distance < self.distance[rows])).nonzero().squeeze(1)
        first = torch.full_like(self._evaluator.y, len(rows)).scatter_reduce(0, rows[won], won, "amin")  # of a tie
        won = won[won == first[rows[won]]]
        self.best[rows[won]], self.distance = points[won], nearest
        return success

    def start(self) -> Side:
        """Finds a success for each row that the model gets right, at ``init`` or at random; rows without one go home.

        Random points are noise within the bounds, their ends, noise blended with the input, and one level for all
        features, in turn.
        """
        rows = torch.arange(len(self.x), device=self.x.device)
        if self.init is not None:
            rows = rows[self.left(rows) > 0]
            self.ask(self.inside(self.init[rows], rows), rows)
        tried = 0
        while self.init is None and tried < _STARTS:
            rows = rows[self.distance[rows].isinf() & (self.left(rows) > 0)]
            if len(rows) == 0:
                break
            count = min(tried + 1, _STARTS - tried, int(self.left(rows).amin()))
            owner = rows.repeat_interleave(count)
            number = torch.arange(tried, tried + count, device=rows.device).repeat(len(rows))
            self.ask(self._random(owner, number), owner)
            tried += count
        return self.begun()

    def begun(self) -> Side:
        """The rows that have a success and a question left."""
        rows = ((self.distance > 0) & self.distance.isfinite()).nonzero().squeeze(1)
        return self.going(Side(rows, self.x[rows], self.best[rows].clone()))

    def _random(self, rows: Tensor, number: Tensor) -> Tensor:
        x, low, high, noise = self.x[rows], self.low[rows], self.high[rows], self.noise(rows, number)
        one = x.new_empty(len(x), *[1] * (x.ndim - 1))
        kind, level, share = column(number % 4, x), noise.stream(1).uniform(one), noise.uniform(x)
        share = torch.where(kind == 1, share.round(), torch.where(kind == 3, level.expand_as(x), share))
        ends = torch.where(low.isfinite() & high.isfinite(), low + (high - low) * share, torch.inf)
        size = (1 + x.flatten(1).abs().amax(1)) * (1 + number)  # without bounds, further and further away
        point = torch.where(ends.isfinite(), ends, x + column(size, x) * (2 * share - 1))
        return self.inside(torch.where(kind == 2, torch.lerp(x, point, level.expand_as(x)), point), rows)

    def to_boundary(self, side: Side, tolerance: Tensor | float) -> Side:
        """Moves each point towards ``x`` as far as it goes on succeeding, by bisection.

        On the line to ``x``; in Linf, by all features that are beyond some radius moving to it.

        Args:
            side: The rows.
            tolerance: The last interval, as a share of the way.
        """
        least, most = torch.zeros_like(self.distance[side.row]), torch.ones_like(self.distance[side.row])
        point, (row, x, far) = side.point.clone(), side
        length = self.threat.distance(far, x)
        while True:
            todo = ((most - least > tolerance) & (self.left(row) > 0)).nonzero().squeeze(1)
            if len(todo) == 0:
                return Side(row, x, point)
            middle = (least[todo] + most[todo]) / 2
            if self.threat.p == math.inf:
                reach = column(middle * length[todo], x)
                between = torch.minimum(torch.maximum(far[todo], x[todo] - reach), x[todo] + reach)
            else:
                between = torch.lerp(x[todo], far[todo], column(middle, x))
            between = self.inside(between, row[todo])
            success = self.ask(between, row[todo])
            least[todo], most[todo] = (
                torch.where(success, least[todo], middle),
                torch.where(success, middle, most[todo]),
            )
            point[todo[success]] = between[success]

    def check_again(self) -> int:
        """Asks once more about what is about to come back, and tells how many rows are a success no more."""
        rows = ((self.distance > 0) & self.distance.isfinite()).nonzero().squeeze(1)
        return int((~self.ask(self.best[rows], rows)).sum()) if len(rows) else 0


def check_frequencies(share: float) -> None:
    """Checks what :func:`smooth_noise` is to draw.

    Raises:
        ValueError: If it is no share of the frequencies.
    """
    if not 0 < share <= 1:
        raise ValueError(f"frequencies must be a share in (0, 1], got {share}: 0.5 for the lower half")


def smooth_noise(noise: Noise, like: Tensor, share: float) -> Tensor:
    """Gaussian noise; of images, the ``share`` of it that has the lowest frequencies along either side.

    Boundaries of networks for images are nearer in smooth directions (Li et al., 2020, arXiv:2005.14137).
    """
    if like.ndim < 3 or share == 1:
        return noise.normal(like)
    down, across = (_waves(size, share, like) for size in like.shape[-2:])
    numbers = noise.normal(like.new_empty(*like.shape[:-2], len(down), len(across)))
    return down.T @ numbers @ across


def _waves(size: int, share: float, like: Tensor) -> Tensor:
    """The first rows of the cosine transform, ``(k, size)``."""
    place = torch.arange(size, device=like.device, dtype=like.dtype)
    return (math.pi / size * (place + 0.5) * place[: math.ceil(share * size), None]).cos()


def search_labels(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    method: Callable[[Walk], None],
    *,
    queries: int = 1000,
    targeted: bool = False,
    init: Tensor | None = None,
    keep: Literal["nearest", "first"] = "nearest",
    batch_size: int | None = None,
    logits_of: Callable[[Any], Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> SearchResult:
    """Runs a method that sees labels alone: the driver of attacks that ask many questions at once.

    The first question of each row is about the clean input, the last about the point that comes back: where it is no
    success the second time, the model answers at random, and a warning says so.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, of which only the place of the largest counts;
            a :class:`~advlib.oracles.LabelOracle` has no more than that.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: Where the adversary may look; ``eps`` is the largest distance of interest, and the search takes the
            same way whatever it is.
        method: What walks from the start, asking :class:`Walk`.
        queries: Questions that each row may ask. Of an oracle with a budget, no more than its share.
        targeted: Whether the goal is to reach class ``y`` in place of leaving it.
        init: ``(N, ...)`` points to start from, brought within bounds and mask: inputs of other classes, or if
            ``targeted`` of the wanted ones, which random points hardly ever are.
        keep: What comes back: ``"nearest"``, the nearest success within ``eps``, or the clean row; ``"first"``, the
            same, but a row is done at its first success within ``eps``.
        batch_size: Points asked about at once; None means as many as rows, and at least 256. It does not change the
            result beyond the model's own rounding.
        logits_of: How logits are read from what the model returns, where that is more than logits.
        generator: Source of the call's one random key; None means torch's global generator.

    Returns:
        A :class:`~advlib.search.SearchResult`, whose ``loss`` is None.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument or what the model returns is out of place.

    Example:
        >>> from advlib.attacks.surfree import SurFree
        >>> result = search_labels(model, x, y, L2(torch.inf), SurFree(), queries=50)
    """
    check_counts(queries=queries, batch_size=batch_size)
    if keep not in ("nearest", "first"):
        raise ValueError(
            f"keep must be 'nearest' or 'first', got {keep!r}: labels say nothing of how strong a point is"
        )
    evaluator = Evaluator(model, x, y, threat, targeted=targeted, logits_of=logits_of, generator=generator)
    check_init(init, x)
    if isinstance(evaluator.model, Oracle) and len(x):
        queries = int(min(queries, max(evaluator.model.left // len(x), 1)))
    with evaluator:
        walk = Walk(evaluator, queries - 1, None if init is None else init.detach(), keep, batch_size)
        lost = 0
        try:
            if len(x):
                walk.ask(evaluator.x, torch.arange(len(x), device=x.device))
                method(walk)
            if queries > 1:
                lost = walk.check_again()
        except OracleError as error:  # what was asked until then counts
            evaluator.interruption = error
        success = walk.distance.isfinite() & evaluator.threat.contains(walk.best, evaluator.x)
        x_adv = torch.where(column(success, x), walk.best, evaluator.x)
        result = SearchResult(
            x_adv,
            success,
            None,
            evaluator.threat.distance(x_adv, evaluator.x),
            evaluator.forwards,
            evaluator.backwards,
        )
        evaluator.concluded(result)
    _warn(int(walk.distance.isinf().sum()), init is not None, lost, len(x))
    return result


def _warn(nowhere: int, given: bool, lost: int, rows: int) -> None:
    if nowhere:
        what = "init is no success" if given else "no start was found, a random point that is a success,"
        warnings.warn(
            f"{what} on {nowhere} of {rows} rows, which come back as they were: that says nothing about robustness. "
            "Give init= inputs that the model puts into other classes (if targeted, into the wanted ones)",
            stacklevel=3,
        )
    if 10 * lost > rows:  # a few are the model's rounding in another batch
        warnings.warn(
            f"the model answers at random: on {lost} of {rows} rows the point found was a success when first asked "
            "about, and is none when asked again. Attack a majority vote over several answers",
            stacklevel=3,
        )
