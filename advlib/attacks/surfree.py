"""SurFree (Maho et al., 2020, arXiv:2011.12807): minimum-norm in L2, from labels alone, without a gradient estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.labels import LabelOptions, Walk, check_frequencies, search_labels, smooth_noise
from advlib.search import Model
from advlib.threats import L2, Threat
from advlib.threats.base import choose, column

if TYPE_CHECKING:
    from typing_extensions import Unpack

_TOLERANCE = 0.01  # of the bisection that leads from the start to the boundary, as a share of the way
_WIDEST = math.pi / 4  # of angles: its bisection looks up to twice as far, where the circle is back at x


class _Arcs(NamedTuple):
    """Where each row's search is; a row asks one question a step."""

    row: Tensor  # (n,) indices of the rows
    point: Tensor  # (n, ...) the success that this plane leads through
    found: Tensor  # (n, ...) the nearest success in this plane
    across: Tensor  # (n, ...) the plane's other direction: of length 1, orthogonal to the way from x to the point
    widest: Tensor  # (n,) the first angle tried in a plane
    angle: Tensor  # (n,) the angle asked about, in the direction of its sign
    least: Tensor  # (n,) the largest angle that succeeded, 0 before one does
    most: Tensor  # (n,) the largest that may
    tries: Tensor  # (n,) questions asked since the plane was drawn, or since the first success in it


@dataclass(frozen=True)
class SurFree:
    """Follows circles through ``x`` and the nearest success, in random planes, as far as they succeed.

    On the circle whose diameter leads from ``x`` to a success every other point is nearer to ``x``, the further along
    the more. In each plane the widest angle is tried on either side, then the largest that succeeds is bisected. The
    widest angle becomes smaller after a plane without a success, and larger after one where it succeeds.

    Args:
        angle: The first widest angle, in degrees.
        growth: By what the widest angle is multiplied, or divided.
        bisections: Questions asked about the largest angle of a plane.
        frequencies: Share of the frequencies, the lowest, from which planes are drawn for images.
    """

    angle: float = 30.0  # this and the last: the paper's
    growth: float = 0.9
    bisections: int = 2
    frequencies: float = 0.5

    def __post_init__(self) -> None:
        check_frequencies(self.frequencies)

    def __call__(self, walk: Walk) -> None:
        side = walk.start()
        row, _, point = walk.going(walk.to_boundary(side, _TOLERANCE))
        zero = torch.zeros_like(walk.distance[row])
        widest = zero + math.radians(self.angle)
        r = _Arcs(row, point, point, point, widest, zero, zero, zero, torch.zeros_like(row))
        r = self._turned(walk, r, torch.ones_like(row, dtype=torch.bool))
        while True:
            going = walk.left(r.row) > 0
            if not bool(going.all()):
                r = _Arcs(*(part[going] for part in r))
            if len(r.row) == 0:
                return
            asked = self._on_circle(walk, r)
            nearer = walk.ask(asked, r.row)  # whatever the bounds cut off brings a point nearer still
            r = self._next(r, asked, nearer)
            r = self._turned(walk, r, r.tries < 0)

    def _on_circle(self, walk: Walk, r: _Arcs) -> Tensor:
        """Where the circle is, at an angle as seen from ``x``, whose diameter leads from ``x`` to the point."""
        x = walk.x[r.row]
        along = torch.lerp(x, r.point, column(r.angle.cos() ** 2, x))
        aside = walk.threat.distance(r.point, x) * r.angle.cos() * r.angle.sin()
        return walk.inside(torch.addcmul(along, column(aside, x), r.across), r.row)

    def _next(self, r: _Arcs, asked: Tensor, nearer: Tensor) -> _Arcs:
        """The next angle in the plane; ``tries`` is -1 where there is none."""
        first, size = nearer & (r.least == 0), r.angle.abs()
        least = torch.where(nearer, size, r.least)
        found = least > 0
        most = torch.where(first, 2 * size, torch.where(nearer, r.most, size))
        tries = torch.where(first, 0, r.tries + 1)
        over = tries >= torch.where(found, self.bisections, 2)
        change = torch.where(first, 1 / self.growth, torch.where(over & ~found, self.growth, 1.0))
        nearest = choose(nearer, asked, r.found)
        return r._replace(
            found=nearest,
            point=choose(over, nearest, r.point),
            widest=(r.widest * change).clamp_max(_WIDEST),
            angle=torch.where(found, r.angle.sign() * (least + most) / 2, -r.angle),
            least=least,
            most=most,
            tries=torch.where(over, -1, tries),
        )

    def _turned(self, walk: Walk, r: _Arcs, over: Tensor) -> _Arcs:
        """Another plane, drawn at random, for the rows that are through with theirs."""
        index = over.nonzero().squeeze(1)
        if len(index) == 0:
            return r
        row, point = r.row[index], r.point[index]
        x = walk.x[row]
        way = walk.threat.rows(row).steepest(point - x)
        drawn = smooth_noise(walk.noise(row, walk.asked(row)), x, self.frequencies) * (walk.low[row] < walk.high[row])
        across = walk.threat.rows(row).steepest(drawn - column((drawn * way).flatten(1).sum(1), x) * way)
        new = r._replace(across=r.across.index_copy(0, index, across))
        return new._replace(
            angle=torch.where(over, r.widest, r.angle),
            least=torch.where(over, 0, r.least),
            tries=torch.where(over, 0, r.tries),
        )


def surfree(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    angle: float = 30.0,
    frequencies: float = 0.5,
    **options: Unpack[LabelOptions],
) -> Tensor:
    """Finds near inputs that change the prediction, from labels alone, in L2: along circles in random planes.

    Solves, per example, ``min ||x_adv - x||_2`` such that the model errs, over ball, bounds and mask. It estimates no
    gradient: on a circle through ``x`` and an adversarial point, every other point is nearer to ``x``.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, or a :class:`~advlib.oracles.LabelOracle`.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L2` ball; its ``eps`` is the largest distance of interest, ``inf`` for the
            nearest adversarial inputs wherever they are.
        angle: The first angle tried, in degrees (30).
        frequencies: Share of the frequencies, the lowest, from which planes are drawn for images (0.5, as in the
            paper). The last two dimensions are the image.
        **options: Any of :class:`~advlib.attacks.labels.LabelOptions`, such as ``queries`` (1,000) and ``init``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is not L2, ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = surfree(model, x, y, L2(torch.inf), queries=200)
    """
    if not isinstance(threat, L2):
        raise ValueError(f"SurFree needs an L2 ball, got {type(threat).__name__}: ray_search or hop_skip_jump in Linf")
    return search_labels(model, x, y, threat, SurFree(angle, frequencies=frequencies), **options).x_adv
