"""Projected gradient descent (Madry et al., 2017, arXiv:1706.06083)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import Threat
from advlib.threats.base import column

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PGDState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    step: Tensor  # (N,) updates made


@dataclass(frozen=True)
class ProjectedGradient(Rule[PGDState]):
    """Steps along the steepest direction of the norm, and projects back onto the threat model.

    Args:
        steps: Updates of one run.
        step_size: Length of a step in the threat's norm; None for a cosine from ``2 * eps`` down to 0.
    """

    steps: int
    step_size: float | None

    def start(self, task: Task, point: Tensor, noise: Noise) -> PGDState:
        return PGDState(point, torch.zeros_like(task.x.flatten(1)[:, 0]))

    def update(self, state: PGDState, feedback: Feedback, task: Task, noise: Noise) -> PGDState:
        direction = task.threat.steepest(feedback.gradient, state.query)
        moved = state.query + self.length(state.step, task) * direction
        return PGDState(task.threat.project(moved, task.x), state.step + 1)

    def length(self, step: Tensor, task: Task) -> Tensor | float:
        """The length of each row's next step, which broadcasts against x."""
        if self.step_size is not None:
            return self.step_size
        decay = 1 + torch.cos(math.pi * step / self.steps)
        return task.threat.scale(task.x) * column(decay, task.x)


def pgd(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = True,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """PGD."""
    rule = ProjectedGradient(steps, step_size)
    return search(
        model, x, y, threat, rule, steps=steps, loss=loss, random_start=random_start, **options
    ).x_adv
