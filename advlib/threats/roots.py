"""Roots of increasing functions, one per row, in a fixed number of vectorised steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advlib.kernels.looks import may_look

_STEPS = 48  # were every Newton step bad, half of these would still bisect the bracket to 24 bits


def increasing_root(
    function: Callable[[Tensor], tuple[Tensor, Tensor]],
    low: Tensor,
    high: Tensor,
    start: Tensor,
    tolerance: Tensor,
    middle: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Finds where an increasing, piecewise linear function crosses zero, in each row.

    Newton's method lands exactly once it reaches the right piece. It is kept inside a bracket and gives way to
    bisection wherever it leaves the bracket or fails to halve the value, so that no arrangement of pieces
    defeats it. Nothing branches on data while a graph is
    traced; on a CPU the loop ends early once every row is within ``tolerance``.

    Args:
        function: Maps ``(N, 1)`` points to their ``(N, 1)`` values and slopes.
        low: ``(N, 1)`` points at which the function is at most zero.
        high: ``(N, 1)`` points at which it is at least zero.
        start: ``(N, 1)`` the first points tried.
        tolerance: ``(N, 1)`` absolute values below which a point counts as a root.
        middle: The bisection point of a bracket: arithmetic or geometric.

    Returns:
        ``(N, 1)`` points, each the one tried whose value came nearest zero.
    """
    point = root = start
    nearest = torch.full_like(low, float("inf"))
    for _ in range(_STEPS):
        value, slope = function(point)
        size = value.abs()
        slow = size > nearest / 2
        nearer = (size < nearest) & (nearest > tolerance)  # a row that has arrived stays, whatever the others do
        root, nearest = torch.where(nearer, point, root), torch.where(nearer, size, nearest)
        if may_look(low) and bool((nearest <= tolerance).all()):
            break
        below = value <= 0
        low, high = torch.where(below, point, low), torch.where(below, high, point)
        newton = point - value / slope
        usable = (newton > low) & (newton < high) & ~slow
        point = torch.where(usable, newton, middle(low, high))
    return root
