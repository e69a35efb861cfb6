"""What one attack does between two questions: the contract that every attack's rule keeps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from advlib.evaluator import Feedback, Task
from advlib.losses import Loss
from advlib.noise import Noise

State = TypeVar("State", bound=tuple[Any, ...])
Keep = Literal["strongest", "first", "nearest", "last"]


class Rule(ABC, Generic[State]):
    """What one attack does between two queries.

    A state is a NamedTuple of row-first tensors, so that the driver may drop rows that are done. Its field
    ``query`` is where the model is asked next; a field ``candidate``, where a rule has one, is the point to be judged
    in place of the query, at the cost of a forward pass, and ``feedback.candidate`` what the model said about it.
    ``update`` must not branch on data. A rule that ``wanders`` also asks about points that are within bounds and
    mask but outside the ball; they are judged as no success, and never come back.
    """

    order: int = 1  # 1 needs gradients, 0 only values: no backward pass is run
    wanders: bool = False

    def aim(self, task: Task, restart: int) -> Task:
        """The task of one run, before it starts: a rule may aim each restart at another ``target``."""
        return task

    @abstractmethod
    def start(self, task: Task, point: Tensor, noise: Noise) -> State:
        """The first state of some rows.

        Args:
            task: The rows.
            point: ``(N, ...)`` where the search starts: the clean inputs, ``init``, or a random point.
            noise: What the rows may draw from at step 0.
        """

    def enter(self, init: Tensor, task: Task) -> Tensor:
        """Where a run starts that is told to at ``init``: within the threat model, or bounds and mask if it wanders."""
        if self.wanders:
            return torch.clamp(init, *task.threat.limits(task.x))
        return task.threat.project(init, task.x)

    def objectives(self, output: Any, task: Task, loss: Loss) -> tuple[Tensor, ...]:
        """What is evaluated and differentiated, ``(N,)`` values each; by default the one loss of the call."""
        return (loss(output, task.y, task.target),)

    def success(self, feedback: Feedback, task: Task) -> Tensor:
        """Tells which rows have reached the goal, ``(N,)`` bool; by default the class left, or the wanted one."""
        return feedback.reached

    @abstractmethod
    def update(self, state: State, feedback: Feedback, task: Task, noise: Noise) -> State:
        """The next state, from what the model said at ``state.query``."""

    def finished(self, state: State) -> Tensor | None:
        """Tells which rows are done, ``(N,)`` bool, or None for never.

        A row that is done is dropped without another question, so the rule must have left its query in place.
        """
        return None


class Trace(NamedTuple):
    """What ``trace=`` is called with after every question."""

    restart: int
    step: int  # 0 is the first point asked
    row: Tensor  # (n,) indices of the rows still running
    loss: Tensor  # (n,)
    success: Tensor  # (n,) bool


def updates(noise: Noise, like: Tensor) -> float | Tensor:
    """How many updates a run has made before this one, ``(N,)``, or a number where all rows have made as many."""
    made = noise.step - 1
    return made.to(like.dtype) if isinstance(made, Tensor) else made


def cosine(made: float | Tensor, steps: int) -> Any:
    """What falls along half a cosine from 1, where no update has been made, to 0 after ``steps`` of them."""
    angle = math.pi / steps * made
    return (1 + (torch.cos(angle) if isinstance(angle, Tensor) else math.cos(angle))) / 2


def varied(length: Tensor, restart: int | Tensor) -> Tensor:
    """The length, ``(N,)``, of a restart's first step: that of the first run, half of it, twice, a quarter, four times.

    Runs whose steps differ end in different places. Where the gradients of a network lead elsewhere from step to step,
    the nearest of three short runs is nearer than the end of a single long one.
    """
    exponent = (restart + 1) // 2 * (1 - 2 * (restart % 2))
    return length * torch.full_like(length, 2) ** exponent
