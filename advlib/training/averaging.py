"""Averages of the weights over a run (Polyak & Juditsky, 1992), whose robust accuracy overfits less (2010.03593)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def warmed_up_average(decay: float) -> Callable[..., None]:
    """An exponential moving average that forgets the first steps sooner: ``min(decay, (1 + t) / (10 + t))``.

    Args:
        decay: What the average keeps of itself at each step once warmed up, in (0, 1).

    Returns:
        A ``multi_avg_fn`` for :class:`torch.optim.swa_utils.AveragedModel`. Integer tensors, such as BatchNorm's count
        of batches, are copied.

    Raises:
        ValueError: If ``decay`` is not in (0, 1).

    Example:
        >>> averaged, current = torch.tensor([0.0]), torch.tensor([1.0])
        >>> warmed_up_average(0.995)([averaged], [current], 1)
        >>> round(float(averaged), 3)  # 2 / 11 of itself is kept
        0.818
    """
    if not 0 < decay < 1:
        raise ValueError(f"averaging must be a decay in (0, 1), got {decay}: 0.995, or None for no average")

    @torch.no_grad()
    def average(averaged: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)
            return
        t = torch.as_tensor(steps, device=averaged[0].device).float()
        weight = 1 - torch.clamp((1 + t) / (10 + t), max=decay)  # on the device: a number would have to be waited for
        change = torch._foreach_sub(current, averaged)
        torch._foreach_mul_(change, weight.to(averaged[0].dtype))
        torch._foreach_add_(averaged, change)

    return average


def averaged_model(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of a model that follows it at a distance: weights and buffers, BatchNorm's statistics among them.

    Args:
        model: The model in training; call ``update_parameters(model)`` after each step.
        decay: What the average keeps of itself at each step, in (0, 1).

    Raises:
        ValueError: If ``decay`` is not in (0, 1).

    Example:
        >>> average = averaged_model(model, 0.995)
        >>> average.update_parameters(model)
    """
    return AveragedModel(model, multi_avg_fn=warmed_up_average(decay), use_buffers=True)
