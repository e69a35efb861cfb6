"""The worst rotations and translations (Engstrom et al., 2017, arXiv:1712.02779)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.baselines import UniformNoise
from advlib.attacks.pgd import ProjectedGradient
from advlib.attacks.transformed import Transformed
from advlib.checks import check_inputs
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task
from advlib.threats.motions import Spatial

if TYPE_CHECKING:
    from typing_extensions import Unpack

_METHODS = ("grid", "random", "gradient")


def grid(counts: Sequence[int]) -> Tensor:
    """The points of a grid over [-1, 1] in each dimension, ``(K, P)``, the farthest from zeros first.

    The point of zeros is left out, unless there is no other.

    Args:
        counts: Points along each dimension, odd numbers, so that 0 is one of them.

    Raises:
        ValueError: If a count is even or below 1.

    Example:
        >>> grid((3, 1))
        tensor([[-1.,  0.],
                [ 1.,  0.]], dtype=torch.float64)
    """
    if not all(isinstance(count, int) and count > 0 and count % 2 for count in counts):
        raise ValueError(f"grid must hold odd numbers of points, so that 0 is one of them, got {counts}: (31, 5, 5)")
    halves = [count // 2 for count in counts]
    axes = [torch.arange(-half, half + 1, dtype=torch.float64) / max(half, 1) for half in halves]
    points = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    order = points.square().sum(1).argsort(descending=True, stable=True)
    return points[order[: max(len(points) - 1, 1)]]


class GridState(NamedTuple):
    query: Tensor  # (N, 1 + P) where the model is asked next
    step: Tensor  # (N,) points of the grid asked about


@dataclass(frozen=True)
class GridSearch(Rule[GridState]):
    """Asks a :class:`~advlib.attacks.transformed.Transformed` model about one point after another, the origin first.

    Args:
        points: ``(K, count)`` numbers in [-1, 1]; with ``steps=K`` it asks about all of them.
    """

    points: Tensor

    order = 0

    def start(self, task: Task, point: Tensor, noise: Noise) -> GridState:
        return GridState(point, torch.zeros_like(task.row))

    def update(self, state: GridState, feedback: Feedback, task: Task, noise: Noise) -> GridState:
        return GridState(torch.cat([task.x[:, :1], self.points[state.step]], dim=1), state.step + 1)


def spatial(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Spatial,
    *,
    method: Literal["grid", "random", "gradient"] = "grid",
    counts: tuple[int, int, int] = (31, 5, 5),
    steps: int = 10,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Looks for the rotation and translation of each image that the model gets most wrong.

    The image as it is comes first, so a row that is wrong already comes back unchanged. Each row has its own
    transformation. The grid begins at the corners, where most images break, and finds more than as many random
    transformations do (``benchmarks/beyond_balls.py``).

    Args:
        model: Callable from images ``(N, C, H, W)`` to ``(N, classes)`` logits.
        x: Clean images, ``(N, C, H, W)``, float32 or float64.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The largest angle and shift, a :class:`~advlib.threats.Spatial`.
        method: ``"grid"`` asks about every point of a grid; ``"random"`` about uniform angles and shifts, the paper's
            worst of k; ``"gradient"`` climbs the loss over angle and shift from random ones, the paper's first-order
            attack.
        counts: Points of the grid in angle, shift down and shift across, odd numbers (31, 5 and 5, as in the paper).
        steps: Random transformations tried (10, as in the paper), or gradient steps a restart. The grid has its own
            number.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions` but ``init``. ``keep`` defaults to ``"first"``: a row
            stops where it succeeds. ``"nearest"`` keeps the success whose angle and shifts are the smallest shares of
            their limits. The gradient method gains from ``restarts``.

    Returns:
        ``(N, C, H, W)`` images: on each row the first success, or the strongest transformation asked about.

    Raises:
        TypeError: If the threat model is not :class:`~advlib.threats.Spatial`, ``init`` is given, or another argument
            is of the wrong type.
        ValueError: If ``x`` are no images, ``translation`` reaches their sides, a count is even, ``method`` is another
            word, or shapes and values disagree.

    Example:
        >>> x_adv = spatial(model, x, y, Spatial(rotation=30, translation=3))
    """
    if not isinstance(threat, Spatial):
        raise TypeError(f"spatial turns and shifts images, so it needs Spatial(rotation, translation), got {threat!r}")
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    check_inputs(x)
    threat.check(x)

    def transform(images: Tensor, unit: Tensor) -> Tensor:
        return threat.apply(images, *(limit * part for limit, part in zip(threat.limits, unit.unbind(1), strict=True)))

    moved = Transformed(model, x, transform, len(threat.limits))
    settings: dict[str, Any] = {"keep": "first", "loss": loss, **options}
    rule: Rule[Any] = UniformNoise()
    if method == "gradient":
        rule, settings = ProjectedGradient(steps), {"random_start": True, **settings}
    elif method == "grid":
        points = grid([count if limit else 1 for count, limit in zip(counts, threat.limits, strict=True)])
        rule, steps = GridSearch(points.to(x)), len(points)
    return moved.attacked(y, rule, steps=steps, **settings).x_adv
