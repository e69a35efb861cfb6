"""SPSA (Uesato et al., 2018, arXiv:1802.05666): Adam on gradients that are estimated from scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.gradients import finite_differences
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, Threat
from advlib.threats.base import column

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AdamState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    length: Tensor  # (N,) about how far a step moves each feature
    mean: Tensor  # (N, ...) Adam's mean of gradients
    square: Tensor  # (N, ...) Adam's mean of their squares
    step: Tensor  # (N,) updates made


@dataclass(frozen=True)
class AdamAscent(Rule[AdamState]):
    """Climbs with Adam, whose means smooth poor estimates of gradients, and projects back onto the threat model.

    Args:
        step_size: How far a step moves each feature; None for ``eps``.
    """

    step_size: float | None = None

    def start(self, task: Task, point: Tensor, noise: Noise) -> AdamState:
        if isinstance(task.threat, L0):
            raise ValueError("SPSA needs an Linf, L2 or L1 ball, got L0: take sparse_rs")
        step, still = torch.zeros_like(task.x.flatten(1)[:, 0]), torch.zeros_like(point)
        length = task.threat.scale(task.x) if self.step_size is None else step + self.step_size
        return AdamState(point, length, still, still, step)

    def update(self, state: AdamState, feedback: Feedback, task: Task, noise: Noise) -> AdamState:
        gradient, step = feedback.gradient, state.step + 1
        mean = torch.lerp(state.mean, gradient, 0.1)  # this and the next: Adam's own (Kingma & Ba, 1412.6980)
        square = torch.lerp(state.square, gradient.square(), 0.001)
        spread = (square / column(1 - 0.999**step, square)).sqrt() + 1e-8
        way = column(state.length / (1 - 0.9**step), mean) * mean / spread
        return AdamState(task.threat.project(state.query + way, task.x), state.length, mean, square, step)


def spsa(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 20,
    step_size: float | None = None,
    samples: int = 128,
    delta: float = 0.01,
    loss: str | Loss = "margin",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Climbs the loss with Adam along gradients estimated from scores, without a backward pass.

    Solves, per example, ``max loss(model(x_adv), y)`` over ball, bounds and mask. A step asks about the point that it
    is at, and about ``samples`` pairs of points around it, along random signs and against them. These may be outside
    ball and bounds by ``delta``; what comes back is inside.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An Linf, L2 or L1 ball, in the units of ``x``.
        steps: Updates of one run, each of ``1 + 2 * samples`` queries; the last point takes one more.
        step_size: How far a step moves each feature, before it is projected. None means ``eps``; the paper's is 0.01.
        samples: Pairs of points a step (128 here; the paper takes thousands, and fewer find more in as many queries).
        delta: How far the points of a pair are from their middle in each feature (0.01, as in the paper).
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`. ``keep`` defaults to ``"first"``: a row's queries end
            with the step of its first success.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the first success, or the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, ``eps`` is infinite and ``step_size`` None,
            or the threat model is L0.

    Example:
        >>> x_adv = spsa(model, x, y, Linf(8 / 255), steps=4, samples=16)
    """
    settings: dict[str, Any] = {"gradient": finite_differences(samples, delta), "keep": "first", **options}
    return search(model, x, y, threat, AdamAscent(step_size), steps=steps, loss=loss, **settings).x_adv
