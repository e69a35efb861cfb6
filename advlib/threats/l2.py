"""The L2 ball: the Euclidean length of the perturbation is at most eps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advlib.noise import Noise
from advlib.threats.base import Threat, column, normalized, room
from advlib.threats.roots import increasing_root


def _norm(flat: Tensor) -> Tensor:
    """``(N, 1)`` Euclidean norms of rows, accumulated in float64."""
    length: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True, dtype=torch.float64)
    return length.to(flat.dtype)


def _fill(magnitude: Tensor, capacity: Tensor, radius: Tensor, active: Tensor, most: Tensor) -> Tensor:
    """Finds ``min(s * magnitude, capacity)`` with the ``s`` at which its norm is ``radius``.

    This is the form of both the projection onto ball ∩ box and the maximum of a linear function there. The
    square of the norm is piecewise linear and concave in ``s * s``.

    Args:
        magnitude: ``(N, D)`` non-negative directions, the largest of each row 1.
        capacity: ``(N, D)`` non-negative limits.
        radius: ``(N, 1)``.
        active: ``(N, 1)`` bool, the rows whose result matters.
        most: ``(N, 1)`` largest ``s`` to consider.
    """
    square, target = magnitude * magnitude, radius * radius

    def excess(t: Tensor) -> tuple[Tensor, Tensor]:
        amount = t.sqrt() * magnitude
        filled = torch.minimum(amount, capacity)
        growing = torch.where(amount < capacity, square, 0)
        return (filled * filled).sum(1, keepdim=True) - target, growing.sum(1, keepdim=True)

    tiny = torch.finfo(magnitude.dtype).tiny
    least = target / square.sum(1, keepdim=True).clamp_min(tiny)
    high = torch.maximum(most * most, least)
    tolerance = torch.where(active, 2 * torch.finfo(magnitude.dtype).eps * target, math.inf)
    root = increasing_root(
        excess, least, high, least, tolerance, middle=lambda a, b: a.clamp_min(tiny).sqrt() * b.sqrt()
    )
    filled = torch.minimum(root.sqrt() * magnitude, capacity)
    return filled * (radius / _norm(filled).clamp_min(tiny)).clamp_max(1)


@dataclass(frozen=True)
class L2(Threat):
    """Perturbations whose Euclidean norm over all features is at most ``eps``.

    Example:
        >>> x, x_adv = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
        >>> L2(0.5).project(x_adv, x)
        tensor([[0.3000, 0.4000]])
    """

    p: ClassVar[float] = 2.0

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        box = self.box(x)
        boxed = torch.clamp(x_adv, *box)
        radius = self.radius(x).flatten(1)
        outside = _norm((boxed - x).flatten(1)) > radius
        delta = (x_adv - x).flatten(1)
        length = delta.abs().amax(1, keepdim=True)
        length = torch.where(length > 0, length, 1)
        capacity = room(x_adv - x, x, box).flatten(1)
        radius = torch.where(outside, radius, 1)  # infinite radii would poison the arithmetic
        filled = _fill(delta.abs() / length, capacity, radius, outside, length)
        scaled = torch.clamp(x + (filled * delta.sign()).reshape(x.shape), *box)
        return torch.where(column(outside, x), scaled, boxed)

    def steepest(self, grad: Tensor, x_adv: Tensor | None = None) -> Tensor:
        grad = normalized(grad)
        length = _norm(grad.flatten(1)).clamp_min(1)  # at least 1 in every row that is not zero
        return grad / column(length, grad)

    def maximize(self, grad: Tensor, x: Tensor) -> Tensor:
        box = self.box(x)
        flat = normalized(grad.double()).flatten(1)
        capacity = torch.where(grad != 0, room(grad, x, box), 0).double().flatten(1)
        radius = self.radius(x).flatten(1).to(flat)
        reach = torch.linalg.vector_norm(capacity, dim=1, keepdim=True)
        if not bool(torch.minimum(reach, radius).isfinite().all()):
            raise ValueError("a linear function has no maximum with eps=inf and no bounds: give one of them")
        outside = reach > radius
        magnitude = flat.abs()
        ratio = torch.where(magnitude > 0, capacity / magnitude, 0).amax(1, keepdim=True)
        most = torch.where(ratio.isfinite(), ratio, 1e150)
        filled = torch.where(
            outside, _fill(magnitude, capacity, torch.where(outside, radius, 1), outside, most), capacity
        )
        return torch.clamp(x + (filled * flat.sign()).reshape(x.shape).to(x.dtype), *box)

    def _sample_ball(self, x: Tensor, free: Tensor, noise: Noise) -> Tensor:
        direction = torch.where(free, noise.normal(x), 0)
        features = free.flatten(1).sum(1).clamp_min(1)
        radius = noise.stream(1).uniform(x.new_empty(len(x), 1)).squeeze(1) ** (1 / features)
        return x + self.radius(x) * self.steepest(direction) * column(radius.to(x), x)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return _norm((x_adv - x).flatten(1)).squeeze(1)
