"""Boundaries between the true class and the others: how far each leads, and which is nearest once linearized."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advlib.losses import margin
from advlib.search import Feedback, Task
from advlib.threats import Threat


def steepness(gradient: Tensor, threat: Threat) -> Tensor:
    """How much the last dimension of a gradient rises per length in the threat's norm; in L0, per change 1 wide."""
    if threat.p == 2:
        slope: Tensor = torch.linalg.vector_norm(gradient, dim=-1)
        return slope
    return gradient.abs().sum(-1) if threat.p == math.inf else gradient.abs().amax(-1)


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
    slope = steepness(gradients.flatten(2), threat)
    index = (leads.abs() / slope.clamp_min(torch.finfo(slope.dtype).tiny)).argmin(1)
    row = torch.arange(len(index), device=index.device)
    return leads[row, index], gradients[row, index]
