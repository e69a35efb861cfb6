"""The way back from beyond the boundary, for threat models in which gradients near ``x`` point the wrong way.

A network trained in one norm can have adversarial examples in another that no gradient at ``x`` or around it points to:
trained in Linf on MNIST, its gradients ask to darken strokes, while what breaks it is to brighten a few pixels of the
background. From an input of another class the way back to ``x`` finds them, as in boundary attacks (Brendel et al.,
2017, arXiv:1712.04248), but with gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advlib.noise import Noise
from advlib.search import Feedback, Rule, Task


class CrossingState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    far: Tensor  # (N,) distance of the first point from x
    step: Tensor  # (N,) updates made


@dataclass(frozen=True)
class Crossing(Rule[CrossingState]):
    """Steps up the loss in a ball around ``x`` that shrinks from where it starts to ``eps``.

    Args:
        steps: Updates of one run.
        step_size: Length of a step at first, in the threat model's scale.
        shrinking: Share of the steps in which the ball shrinks.
    """

    steps: int
    step_size: float = 0.5
    shrinking: float = 0.5

    wanders = True

    def start(self, task: Task, point: Tensor, noise: Noise) -> CrossingState:
        far = task.threat.distance(point, task.x)
        return CrossingState(point, far, torch.zeros_like(far))

    def update(self, state: CrossingState, feedback: Feedback, task: Task, noise: Noise) -> CrossingState:
        step, eps = state.step + 1, task.threat.radius(task.x).flatten()
        left = (1 - step / (self.shrinking * self.steps)).clamp_min(0)
        ball = task.threat.resized(eps + left * (state.far - eps))
        length = self.step_size * task.threat.scale(task.x) * (1 - state.step / self.steps)
        return CrossingState(ball.step(state.query, feedback.gradient, length, task.x), state.far, step)
