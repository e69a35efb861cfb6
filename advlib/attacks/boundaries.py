"""Boundaries between the true class and the others: how far each leads, and which is nearest once linearized."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advlib.losses import margin
from advlib.search import Feedback, Task
from advlib.threats import Threat

DUAL = {
    math.inf: 1.0,
    2.0: 2.0,
    1.0: math.inf,
    0.0: math.inf,
}  # the norm of a gradient in which a boundary's way is paid


def leads(logits: Tensor, task: Task, most: int | None = None) -> tuple[Tensor, ...]:
    """How far the logits of other classes are above that of the true one, ``(N,)`` each, the largest first.

    Args:
        logits: ``(N, C)``.
        task: The rows; with ``task.target`` that class alone counts.
        most: How many classes at most; None means all.
    """
    if task.target is not None:
        return (margin(logits, task.y, task.target),)
    own, others = task.y.unsqueeze(1), logits.shape[1] - 1
    ahead = (logits - logits.gather(1, own)).scatter(1, own, -torch.inf)
    return ahead.topk(others if most is None else min(most, others), dim=1).values.unbind(1)


def nearest_boundary(feedback: Feedback, threat: Threat) -> tuple[Tensor, Tensor]:
    """The lead and its gradient, ``(N,)`` and ``(N, ...)``, whose linearized zero is nearest in the threat's norm."""
    if len(feedback.values) == 1:
        return feedback.loss, feedback.gradient
    leads, gradients = torch.stack(feedback.values, 1), torch.stack(feedback.gradients, 1)
    slope = torch.linalg.vector_norm(gradients.flatten(2), ord=DUAL[threat.p], dim=2)
    index = (leads.abs() / slope.clamp_min(torch.finfo(slope.dtype).tiny)).argmin(1)
    row = torch.arange(len(index), device=index.device)
    return leads[row, index], gradients[row, index]
