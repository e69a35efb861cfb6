"""How little a linear function's features must move for it to rise by a given amount, row by row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advlib.threats.roots import increasing_root


def by_level(magnitude: Tensor, direction: Tensor, capacity: Tensor, rise: Tensor) -> Tensor:
    """Finds ``min(t * direction, capacity)`` with the ``t`` at which ``magnitude`` times it sums to ``rise``.

    The sum is piecewise linear and concave in ``t``, so Newton's method comes from below in a few steps, where sorting
    the corners would take several times as long.

    Args:
        magnitude: ``(N, D)`` non-negative gradients, the largest of each row 1.
        direction: What broadcasts against them, positive where they are.
        capacity: ``(N, D)`` non-negative limits; where they do not let the sum rise so far, they are the result.
        rise: ``(N, 1)`` non-negative.
    """
    numbers = torch.finfo(magnitude.dtype)
    most = (magnitude * capacity).sum(1, keepdim=True)
    steep = magnitude * direction

    def excess(t: Tensor) -> tuple[Tensor, Tensor]:
        filled = torch.minimum(t * direction, capacity)
        value = (magnitude * filled).sum(1, keepdim=True) - rise
        growing = (capacity - filled).sign()  # in a third of the time that a comparison takes
        return value, (steep * growing).sum(1, keepdim=True)

    low = rise / steep.sum(1, keepdim=True).clamp_min(1)  # at least 1 in every row that is not zero
    high = (capacity / direction.clamp_min(numbers.tiny)).amax(1, keepdim=True).clamp_max(numbers.max / 2)
    enough = rise < most
    start, tolerance = torch.where(enough, low, 2 * high), torch.where(enough, 4 * numbers.eps * rise, math.inf)
    level = increasing_root(excess, low, high, start, tolerance, middle=lambda a, b: a.sqrt() * b.sqrt())
    return torch.minimum(level * direction, capacity)


def by_order(order: Tensor, gain: Tensor, rise: Tensor) -> Tensor:
    """Shares in [0, 1] of ``gain``, taken whole in falling ``order`` until they sum to ``rise``; the last is a part.

    Args:
        order: ``(N, D)`` what is taken first.
        gain: ``(N, D)`` non-negative and finite.
        rise: ``(N, 1)`` non-negative.
    """
    index = order.argsort(1, descending=True)
    sorted_gain = gain.gather(1, index).double()
    missing = rise - (sorted_gain.cumsum(1) - sorted_gain)
    needed = missing > 4 * torch.finfo(gain.dtype).eps * rise  # nothing more is taken for the sake of rounding
    share = torch.where(needed & (sorted_gain > 0), missing / sorted_gain, 0).clamp_max(1).to(gain.dtype)
    return torch.zeros_like(gain).scatter_(1, index, share)
