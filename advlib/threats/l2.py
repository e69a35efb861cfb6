"""The L2 ball: the Euclidean length of the perturbation is at most eps."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advlib.kernels.dispatch import fused
from advlib.kernels.looks import may_look, may_wait
from advlib.noise import Noise
from advlib.threats.base import Threat, clamp, column, normalized, room
from advlib.threats.reach import by_level
from advlib.threats.roots import increasing_root


@functools.cache
def _safe(dtype: torch.dtype) -> tuple[float, float]:
    """What sums of squares lie strictly between if they have neither under- nor overflowed."""
    numbers = torch.finfo(dtype)
    return numbers.tiny / numbers.eps, numbers.max


def _all_safe(square: Tensor) -> bool:
    """Whether no sum of squares has under- or overflowed."""
    if not square.numel():
        return True
    low, high = _safe(square.dtype)
    least, most = torch.aminmax(square)
    return low < least.item() and most.item() < high


def _squared(flat: Tensor) -> Tensor:
    """``(N,)`` sums of squares of rows, in their own precision: torch adds in pairs."""
    return (flat * flat).sum(1)  # linalg.vecdot takes half precision under autocast


def _exact_norm(flat: Tensor) -> Tensor:
    """``(N,)`` Euclidean norms of rows, accumulated in float64."""
    return _squared(flat.double()).sqrt().to(flat.dtype)  # torch's vector_norm adds one by one


def _halved(grad: Tensor) -> Tensor:
    """Each row halved or doubled until its largest entry is about 1: no square under- or overflows, no bit changes."""
    most = math.frexp(torch.finfo(grad.dtype).max)[1] - 2  # older torch multiplies by the power, which must be finite
    _, exponent = torch.frexp(grad.flatten(1).abs().amax(1))
    return torch.ldexp(grad, column(-exponent.clamp(-most, most), grad))


def norm(flat: Tensor) -> Tensor:
    """``(N,)`` Euclidean norms of rows, to a few units in the last place."""
    if not may_look(flat):
        return _exact_norm(flat)
    square = _squared(flat)  # in less than half of the time
    if _all_safe(square):
        return square.sqrt()
    low, high = _safe(square.dtype)
    return torch.where((square > low) & (square < high), square.sqrt(), _exact_norm(flat))


def _with_length(grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients times powers of two, no bit of them changed, and their norms, ``(N,)``; 1 where they are zero."""
    square = _squared(grad.flatten(1))
    if not may_look(square) or not _all_safe(square):
        grad = _halved(grad)
        square = _squared(grad.flatten(1))
        square = torch.where(square == 0, 1, square + 0 * square)  # NaN if infinite, as the gradient is then
    return grad, square.sqrt()


def _fill(magnitude: Tensor, capacity: Tensor, active: Tensor, most: Tensor) -> Tensor:
    """Finds ``min(s * magnitude, capacity)`` with the ``s`` at which its norm is 1.

    This is the form of both the projection onto ball ∩ box and the maximum of a linear function there, in units
    of ``eps`` so that squares neither under- nor overflow. The square of the norm is piecewise linear and concave
    in ``s * s``, which is kept in float64 for its range.

    Args:
        magnitude: ``(N, D)`` non-negative directions, the largest of each row 1.
        capacity: ``(N, D)`` non-negative limits.
        active: ``(N, 1)`` bool, the rows whose result matters.
        most: ``(N, 1)`` largest ``s`` to consider.
    """
    dtype = torch.finfo(magnitude.dtype)

    def amount(t: Tensor) -> Tensor:
        return t.sqrt().clamp_max(dtype.max).to(magnitude.dtype) * magnitude

    def excess(t: Tensor) -> tuple[Tensor, Tensor]:
        filled = torch.minimum(amount(t), capacity)
        square = filled * filled
        growing = square * (capacity - filled).sign()  # in a third of the time that a comparison takes
        return square.sum(1, keepdim=True).double() - 1, growing.sum(1, keepdim=True).double() / t

    least = norm(magnitude).unsqueeze(1).double().clamp_min(1) ** -2  # the norm is at least 1 where a row is active
    high = torch.maximum(most.double().clamp_max(1e150) ** 2, least)
    tolerance = torch.where(active, 2 * dtype.eps, math.inf)
    root = increasing_root(excess, least, high, least, tolerance, middle=lambda a, b: a.sqrt() * b.sqrt())
    filled = torch.minimum(amount(root), capacity)
    return filled / norm(filled).unsqueeze(1)


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
        if fused("l2_project", x_adv, x):
            from advlib.kernels import triton_steps

            return triton_steps.l2_project(x_adv, x, self.radius(x).flatten(), *self.box(x))
        box = self.box(x)
        boxed = clamp(x_adv, *box)
        radius = self.radius(x).flatten(1)
        outside = norm((boxed - x).flatten(1)).unsqueeze(1) > radius
        if may_look(outside) and not bool(outside.any()):
            return boxed
        delta = (x_adv - x).flatten(1)
        length = delta.abs().amax(1, keepdim=True)
        length = torch.where(length > 0, length, 1)
        capacity = room(x_adv - x, x, box).flatten(1)
        radius = torch.where(outside, radius, 1)  # infinite radii would poison the arithmetic
        unit = torch.where(radius > 0, radius, 1)
        filled = radius * _fill(delta.abs() / length, capacity / unit, outside & (radius > 0), length / unit)
        scaled = clamp(x + (filled * delta.sign()).reshape(x.shape), *box)
        if may_look(outside) and bool(outside.all()):
            return scaled
        return torch.where(column(outside, x), scaled, boxed)

    def steepest(self, grad: Tensor, x_adv: Tensor | None = None) -> Tensor:
        grad, length = _with_length(grad)
        return grad / column(length, grad)

    def move(self, x_adv: Tensor, grad: Tensor, length: Tensor | float) -> Tensor:
        grad, unit = _with_length(grad)
        share = (length / unit).clamp_max(torch.finfo(grad.dtype).max)
        return torch.addcmul(x_adv, column(share, grad), grad)

    def step(self, x_adv: Tensor, grad: Tensor, length: Tensor, x: Tensor) -> Tensor:
        if not fused("l2_step", x_adv, grad, x):
            return super().step(x_adv, grad, length, x)
        from advlib.kernels import triton_steps

        return triton_steps.l2_step(x_adv, grad, length, x, self.radius(x).flatten(), *self.box(x))

    def maximize(self, grad: Tensor, x: Tensor) -> Tensor:
        box = self.box(x)
        flat = normalized(grad.double()).flatten(1)
        capacity = torch.where(grad != 0, room(grad, x, box), 0).double().flatten(1)
        radius = self.radius(x).flatten(1).to(flat)
        reach = torch.linalg.vector_norm(capacity, dim=1, keepdim=True)
        if may_wait() and not bool(torch.minimum(reach, radius).isfinite().all()):
            raise ValueError("a linear function has no maximum with eps=inf and no bounds: give one of them")
        outside = (reach > radius) & (radius > 0)
        unit, magnitude = torch.where(outside, radius, 1), flat.abs()
        most = torch.where(magnitude > 0, capacity / magnitude, 0).amax(1, keepdim=True) / unit
        filled = torch.where(outside, unit * _fill(magnitude, capacity / unit, outside, most), capacity)
        filled = torch.where(radius > 0, filled, 0)
        return clamp(x + (filled * flat.sign()).reshape(x.shape).to(x.dtype), *box)

    def _least_change(self, magnitude: Tensor, capacity: Tensor, rise: Tensor) -> Tensor:
        flat, limit = magnitude.flatten(1), capacity.flatten(1)
        return by_level(flat, flat, limit, rise.flatten(1)).reshape(magnitude.shape)

    def _sample_ball(self, x: Tensor, free: Tensor, noise: Noise) -> Tensor:
        direction = torch.where(free, noise.normal(x), 0)
        features = free.flatten(1).sum(1).clamp_min(1)
        radius = noise.stream(1).uniform(x.new_empty(len(x), 1)).squeeze(1) ** (1 / features)
        return x + self.radius(x) * self.steepest(direction) * column(radius.to(x), x)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return norm((x_adv - x).flatten(1))

    def _exact_distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return _exact_norm((x_adv - x).flatten(1))
