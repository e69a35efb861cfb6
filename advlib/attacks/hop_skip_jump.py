"""HopSkipJump (Chen et al., 2019, arXiv:1904.02144): minimum-norm in L2 and Linf, from labels alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from advlib.attacks.labels import LabelOptions, Side, Walk, check_frequencies, search_labels, smooth_noise
from advlib.search import Model
from advlib.threats import L2, Linf, Threat
from advlib.threats.base import column

if TYPE_CHECKING:
    from typing_extensions import Unpack

_HALVINGS = 20  # of a step that does not succeed; the paper sets no end
_SPARE = 5  # questions kept for such a step
_TOLERANCE = 1e-3  # the largest, for inputs of few features


@dataclass(frozen=True)
class HopSkipJump:
    """Estimates the boundary's normal from the labels around a point of it, steps along that, and bisects back.

    Args:
        samples: Questions of the first estimate; the n-th takes the root of n times as many.
        memory: What is kept of the sum of all earlier estimates.
        frequencies: Share of the frequencies, the lowest, from which samples are drawn for images.
    """

    samples: int = 50
    memory: float = 0.8
    frequencies: float = 0.5

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"an estimate takes at least 2 samples, got {self.samples}")
        check_frequencies(self.frequencies)

    def __call__(self, walk: Walk) -> None:
        power = -2.0 if isinstance(walk.threat, Linf) else -1.5  # of theta, section 4.1 of the paper
        features = (walk.low < walk.high).flatten(1).sum(1).clamp_min(1).to(walk.x)
        tolerance = (features**power).clamp(4 * torch.finfo(walk.x.dtype).eps, _TOLERANCE)
        spare = (-tolerance.log2()).ceil().long() + _SPARE
        normal, estimates = torch.zeros_like(walk.x), 0
        side = walk.start()
        while True:
            side = walk.to_boundary(side, tolerance[side.row])
            estimates += 1
            count = (walk.left(side.row) - spare[side.row]).clamp_max(int(self.samples * math.sqrt(estimates)))
            able = (count >= 2).nonzero().squeeze(1)
            if len(able) == 0:
                return
            side, count = side.take(able), count[able]
            length = walk.threat.distance(side.point, side.x)
            estimate = self._estimate(walk, side, length / features[side.row], count)  # delta in section 4.1
            normal[side.row] = self.memory * normal[side.row] + estimate
            way = walk.threat.rows(side.row).steepest(normal[side.row])
            side = _jump(walk, side, way, length / math.sqrt(estimates))

    def _estimate(self, walk: Walk, side: Side, delta: Tensor, count: Tensor) -> Tensor:
        """The sum of random directions, each times its answer less the mean answer (equation 16 of the paper).

        Args:
            walk: What is asked.
            side: Rows, and points on the boundary.
            delta: ``(n,)`` length of the directions.
            count: ``(n,)`` how many.
        """
        sample = torch.arange(len(count), device=count.device).repeat_interleave(count)
        number = torch.arange(len(sample), device=count.device) - (count.cumsum(0) - count)[sample]
        number += walk.asked(side.row)[sample]
        answers, ways, signs = torch.zeros_like(side.x), torch.zeros_like(side.x), torch.zeros_like(delta)
        for part, question in zip(*(torch.split(v, walk.batch_size) for v in (sample, number)), strict=True):
            row, point, length = side.row[part], side.point[part], column(delta[part], side.x)
            drawn = smooth_noise(walk.noise(row, question), point, self.frequencies)
            drawn = drawn / column(torch.linalg.vector_norm(drawn.flatten(1), dim=1), drawn)
            asked = walk.inside(torch.addcmul(point, length, drawn), row)
            way = asked - point
            sign = torch.where(walk.ask(asked, row), 1.0, -1.0).to(delta)
            answers.index_add_(0, part, column(sign, way) * way)
            ways.index_add_(0, part, way)
            signs.index_add_(0, part, sign)
        mean = signs / count
        mean = torch.where(mean.abs() == 1, 0, mean)  # where all answers are equal, their mean way
        return (answers - column(mean, ways) * ways) / column(delta, ways)


def _jump(walk: Walk, side: Side, way: Tensor, length: Tensor) -> Side:
    """Steps along ``way``, of half the length until it succeeds; where none does, the point stays."""
    point, length = side.point.clone(), length.clone()
    todo = torch.arange(len(length), device=length.device)
    for _ in range(_HALVINGS):
        todo = todo[walk.left(side.row[todo]) > 0]
        if len(todo) == 0:
            break
        row = side.row[todo]
        ahead = walk.inside(torch.addcmul(side.point[todo], column(length[todo], way), way[todo]), row)
        success = walk.ask(ahead, row)
        point[todo[success]] = ahead[success]
        todo = todo[~success]
        length[todo] /= 2
    return side._replace(point=point)


def hop_skip_jump(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    samples: int = 50,
    memory: float = 0.8,
    frequencies: float = 0.5,
    **options: Unpack[LabelOptions],
) -> Tensor:
    """Finds near inputs that change the prediction, from labels alone, in L2 or Linf.

    Solves, per example, ``min ||x_adv - x||`` such that the model errs, over ball, bounds and mask. From a point on the
    boundary, it asks about random points around, of which the labels tell the boundary's normal; steps along it; and
    bisects towards ``x`` until it is on the boundary again.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, or a :class:`~advlib.oracles.LabelOracle`.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L2` or :class:`~advlib.threats.Linf` ball; its ``eps`` is the largest
            distance of interest, ``inf`` for the nearest adversarial inputs wherever they are.
        samples: Questions of the first estimate (50; the paper takes 100); the n-th takes the root of n times as many.
        memory: What is kept of the sum of all earlier estimates (0.8; the paper keeps none).
        frequencies: Share of the frequencies, the lowest, from which samples are drawn for images (0.5, as in SurFree;
            1 for the paper's white noise). The last two dimensions are the image.
        **options: Any of :class:`~advlib.attacks.labels.LabelOptions`, such as ``queries`` (1,000) and ``init``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is neither L2 nor Linf, ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = hop_skip_jump(model, x, y, L2(torch.inf), queries=200)
    """
    if not isinstance(threat, L2 | Linf):
        raise ValueError(f"HopSkipJump needs an L2 or Linf ball, got {type(threat).__name__}")
    return search_labels(model, x, y, threat, HopSkipJump(samples, memory, frequencies), **options).x_adv
