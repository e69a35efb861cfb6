"""The momentum iterative method, MI-FGSM (Dong et al., 2017, arXiv:1710.06081), also with Nesterov's momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.bim import constant_length
from advlib.kernels.dispatch import fused
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import Threat
from advlib.threats.base import choose, column, normalized

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MIMState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    length: Tensor  # (N,) length of a step
    momentum: Tensor  # (N, ...) decayed sum of gradients, each divided by its L1 norm
    position: Tensor  # (N, ...) where the search is; the query, unless that looks ahead
    step: Tensor  # (N,) updates made


def accumulated(momentum: Tensor, gradient: Tensor, decay: float) -> Tensor:
    """``(N, ...)`` the momentum decayed, plus the gradient over its L1 norm (the paper's equation 6), row by row."""
    if fused("momentum", momentum, gradient):
        from advlib.kernels import triton_steps

        return triton_steps.momentum(momentum, gradient, decay)
    gradient = normalized(gradient)
    size = gradient.flatten(1).abs().sum(1).clamp_min(1)  # at least 1 in every row that is not zero
    return decay * momentum + gradient / column(size, gradient)


@dataclass(frozen=True)
class MomentumIterative(Rule[MIMState]):
    """Steps along a decayed sum of normalised gradients (the paper's equations 6 and 7).

    Args:
        steps: Updates of one run.
        step_size: Length of a step in the threat's norm; None for ``eps / steps``.
        decay: What is kept of the momentum at each step, the paper's mu.
        nesterov: Whether the gradient is taken a step ahead along the momentum (1908.06281), within ball and bounds.
            The last query is where the search is.
    """

    steps: int
    step_size: float | None
    decay: float
    nesterov: bool = False

    def start(self, task: Task, point: Tensor, noise: Noise) -> MIMState:
        length = constant_length(self.step_size, self.steps, task)
        return MIMState(point, length, torch.zeros_like(point), point, torch.zeros_like(length))

    def update(self, state: MIMState, feedback: Feedback, task: Task, noise: Noise) -> MIMState:
        momentum = accumulated(state.momentum, feedback.gradient, self.decay)
        here, step = task.threat.step(state.position, momentum, state.length, task.x), state.step + 1
        query = here
        if self.nesterov:
            ahead = task.threat.step(here, momentum, self.decay * state.length, task.x)
            query = choose(step < self.steps, ahead, here)
        return MIMState(query, state.length, momentum, here, step)


def mim(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    nesterov: bool = False,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Iterates with momentum, which keeps the direction stable; made to transfer between models.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates (10, section 4.1 of the paper).
        step_size: Length of a step in the norm of ``threat`` (for L0, in the units of ``x``). None means
            ``eps / steps``, as in the paper (for L0, four widths of the bounds over ``steps``).
        decay: What is kept of the momentum at each step (1.0, section 4.1 of the paper).
        nesterov: Whether the gradient is taken a step ahead; see :func:`~advlib.attacks.ni_fgsm`.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` None.

    Example:
        >>> x_adv = mim(model, x, y, Linf(8 / 255), steps=10)
    """
    rule = MomentumIterative(steps, step_size, decay, nesterov)
    return search(model, x, y, threat, rule, steps=steps, loss=loss, **options).x_adv
