"""The boundary attack (Brendel et al., 2017, arXiv:1712.04248): minimum-norm in L2, from labels alone."""

from __future__ import annotations

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
_EVERY = 5  # one question in so many is about the step aside alone
_ASIDE = 1.3  # by how much that step grows after a success, and shrinks after a failure: as many of either
_NEARER = 1.05  # by how much the other shrinks after a failure; it grows by the third power: one success in four
_SMALLEST = 1e-7  # of steps, where a row is done; as in the authors' code


class _Walkers(NamedTuple):
    """Where each row is; a row asks one question a step."""

    row: Tensor  # (n,) indices of the rows
    point: Tensor  # (n, ...) the nearest success
    aside: Tensor  # (n,) length of the step along the sphere around x, as a share of its radius
    nearer: Tensor  # (n,) length of the step towards x, likewise


@dataclass(frozen=True)
class BoundaryAttack:
    """A random walk along the boundary: a step aside, at the same distance from ``x``, and a step towards ``x``.

    Half of the steps aside are to succeed, and a quarter of both together: their lengths follow from what does.

    Args:
        aside: The first length of the step aside, as a share of the distance.
        nearer: The first length of the step towards ``x``, likewise.
        frequencies: Share of the frequencies, the lowest, from which steps aside are drawn for images.
    """

    aside: float = 0.1
    nearer: float = 0.02
    frequencies: float = 0.5

    def __post_init__(self) -> None:
        check_frequencies(self.frequencies)

    def __call__(self, walk: Walk) -> None:
        side = walk.to_boundary(walk.start(), _TOLERANCE)
        one = torch.ones_like(walk.distance[side.row])
        r, step = _Walkers(side.row, side.point, self.aside * one, self.nearer * one), 0
        while True:
            going = (walk.left(r.row) > 0) & (r.nearer > _SMALLEST)
            if not bool(going.all()):
                r = _Walkers(*(part[going] for part in r))
            if len(r.row) == 0:
                return
            step += 1
            r = self._stepped(walk, r, alone=step % _EVERY == 0)

    def _stepped(self, walk: Walk, r: _Walkers, alone: bool) -> _Walkers:
        row, x, threat = r.row, walk.x[r.row], walk.threat.rows(r.row)
        way, length = threat.steepest(r.point - x), threat.distance(r.point, x)
        drawn = smooth_noise(walk.noise(row, walk.asked(row)), x, self.frequencies) * (walk.low[row] < walk.high[row])
        across = threat.steepest(drawn - column((drawn * way).flatten(1).sum(1), x) * way)
        turned = threat.steepest(torch.addcmul(way, column(r.aside, x), across))
        if alone:
            success = walk.ask(walk.inside(torch.addcmul(x, column(length, x), turned), row), row)
            return r._replace(aside=r.aside * torch.where(success, _ASIDE, 1 / _ASIDE))
        asked = walk.inside(torch.addcmul(x, column(length * (1 - r.nearer), x), turned), row)
        success = walk.ask(asked, row)
        nearer = r.nearer * torch.where(success, _NEARER**3, 1 / _NEARER)
        return r._replace(point=choose(success, asked, r.point), nearer=nearer.clamp_max(0.5))


def boundary_attack(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    aside: float = 0.1,
    nearer: float = 0.02,
    frequencies: float = 0.5,
    **options: Unpack[LabelOptions],
) -> Tensor:
    """Finds near inputs that change the prediction, from labels alone, in L2: a random walk along the boundary.

    Solves, per example, ``min ||x_adv - x||_2`` such that the model errs, over ball, bounds and mask. The first of its
    kind; :func:`~advlib.attacks.surfree` takes fewer queries.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, or a :class:`~advlib.oracles.LabelOracle`.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L2` ball; its ``eps`` is the largest distance of interest, ``inf`` for the
            nearest adversarial inputs wherever they are.
        aside: The first length of the steps aside, as a share of the distance (0.1).
        nearer: The first length of the steps towards ``x``, likewise (0.02).
        frequencies: Share of the frequencies, the lowest, from which steps aside are drawn for images (0.5; 1 for the
            paper's white noise). The last two dimensions are the image.
        **options: Any of :class:`~advlib.attacks.labels.LabelOptions`, such as ``queries`` (1,000) and ``init``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is not L2, ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = boundary_attack(model, x, y, L2(torch.inf), queries=200)
    """
    if not isinstance(threat, L2):
        raise ValueError(
            f"the boundary attack needs an L2 ball, got {type(threat).__name__}: ray_search or hop_skip_jump in Linf"
        )
    return search_labels(model, x, y, threat, BoundaryAttack(aside, nearer, frequencies), **options).x_adv
