"""The basic iterative method, or iterative FGSM (Kurakin et al., 2016, arXiv:1607.02533)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import Threat

if TYPE_CHECKING:
    from typing_extensions import Unpack


class BIMState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    length: Tensor  # (N,) length of a step


def constant_length(step_size: float | None, steps: int, task: Task) -> Tensor:
    """``(N,)`` steps of ``step_size``, or by default of ``eps / steps``, just enough to reach the border."""
    if step_size is None:
        return task.threat.scale(task.x) / steps
    return torch.full_like(task.x.flatten(1)[:, 0], step_size)


@dataclass(frozen=True)
class BasicIterative(Rule[BIMState]):
    """Takes steps of one length along the steepest direction of the norm.

    Args:
        steps: Updates of one run.
        step_size: Length of a step in the threat's norm; None for ``eps / steps``.
    """

    steps: int
    step_size: float | None

    def start(self, task: Task, point: Tensor, noise: Noise) -> BIMState:
        return BIMState(point, constant_length(self.step_size, self.steps, task))

    def update(self, state: BIMState, feedback: Feedback, task: Task, noise: Noise) -> BIMState:
        return BIMState(task.threat.step(state.query, feedback.gradient, state.length, task.x), state.length)


def bim(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    step_size: float | None = None,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Takes small steps of equal length from the clean input: PGD without the random start.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates.
        step_size: Length of a step in the norm of ``threat`` (for L0, in the units of ``x``). None means
            ``eps / steps`` (for L0, four widths of the bounds over ``steps``): just enough to reach the border. The
            paper steps by one grey level, 1/255.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` None.

    Example:
        >>> x_adv = bim(model, x, y, Linf(8 / 255), steps=10)
    """
    rule = BasicIterative(steps, step_size)
    return search(model, x, y, threat, rule, steps=steps, loss=loss, **options).x_adv
