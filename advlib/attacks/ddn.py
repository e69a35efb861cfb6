"""Decoupled direction and norm, DDN (Rony et al., 2018, arXiv:1811.09600): minimum-norm in L2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.losses import Loss
from advlib.noise import Noise
from advlib.rules import cosine, updates
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L2, Threat
from advlib.threats.base import clamp, column
from advlib.threats.l2 import norm

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LAST_LENGTH = 0.01  # the last step's length, as in the paper


class DDNState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    radius: Tensor  # (N,) radius of the sphere that it lies on


@dataclass(frozen=True)
class DecoupledNorm(Rule[DDNState]):
    """Shrinks the radius after a success, grows it after a failure, and turns the direction in between.

    Args:
        steps: Updates of one run.
        gamma: By what share the radius changes; it falls along the cosine of the steps' lengths.
        eps_init: The first radius.
    """

    steps: int
    gamma: float = 0.05  # this and the next: the paper's
    eps_init: float = 1.0

    wanders = True

    def start(self, task: Task, point: Tensor, noise: Noise) -> DDNState:
        if not isinstance(task.threat, L2):
            raise ValueError(f"DDN needs an L2 ball, got {type(task.threat).__name__}: take fmn, which has every norm")
        return DDNState(point, torch.full_like(task.x.flatten(1)[:, 0], self.eps_init))

    def update(self, state: DDNState, feedback: Feedback, task: Task, noise: Noise) -> DDNState:
        x, threat = task.x, task.threat
        length = _LAST_LENGTH + (1 - _LAST_LENGTH) * cosine(updates(noise, x), self.steps)
        change = self.gamma * length
        radius = torch.where(feedback.success, (1 - change) * state.radius, (1 + change) * state.radius)
        moved = threat.move(state.query, feedback.gradient, length)
        share = radius / norm((moved - x).flatten(1)).clamp_min(torch.finfo(x.dtype).tiny)
        query = torch.lerp(x, moved, column(share, x))
        return DDNState(clamp(query, *threat.limits(x)), radius)


def ddn(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    gamma: float = 0.05,
    eps_init: float = 1.0,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Finds near inputs in L2 that change the prediction, on a sphere whose radius follows the boundary.

    Solves, per example, ``min ||x_adv - x||_2`` such that the model errs, over ball, bounds and mask. Each step turns
    the direction towards the gradient of the loss, and sets the point on a sphere around ``x`` that shrinks after a
    success and grows after a failure, within the bounds. A step takes one forward and one backward pass.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L2` ball; its ``eps`` is the largest distance of interest, ``inf`` for the
            nearest adversarial inputs wherever they are. The search takes the same way whatever it is.
        steps: Updates of one run (100; the paper takes 100, 300 and 1,000).
        gamma: By what share the radius changes at first (0.05, as in the paper). It falls to a hundredth of this along
            the cosine of the steps' lengths; the paper's stays, and ends with a radius that is off by up to as much.
        eps_init: The first radius, in the units of ``x`` (1, as in the paper, for inputs in [0, 1]).
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`. ``keep`` defaults to ``"nearest"``; ``"first"`` stops a
            row at its first success within ``eps``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is not L2, ``keep`` is ``"last"``, ``x`` leaves the bounds, or shapes and values
            disagree.

    Example:
        >>> x_adv = ddn(model, x, y, L2(torch.inf), steps=200)
    """
    settings: dict[str, Any] = {"keep": "nearest", **options}
    rule = DecoupledNorm(steps, gamma, eps_init)
    return search(model, x, y, threat, rule, steps=steps, loss=loss, **settings).x_adv
