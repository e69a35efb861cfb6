"""The L1 ball: the absolute changes sum to at most eps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advlib.kernels.dispatch import fused
from advlib.kernels.looks import may_look, may_wait
from advlib.noise import Noise
from advlib.threats.base import Threat, clamp, column, normalized, room, rounding
from advlib.threats.reach import by_order
from advlib.threats.roots import increasing_root


def movable(threat: Threat, grad: Tensor, x_adv: Tensor | None) -> Tensor:
    """``grad`` with zeros where a feature at ``x_adv`` has no room, beyond rounding, to move along it."""
    if x_adv is None:
        return grad
    least = rounding(x_adv).clamp_min(torch.finfo(x_adv.dtype).tiny)
    ahead = clamp(torch.addcmul(x_adv, grad.sign(), least, value=2), *threat.limits(x_adv))
    return ahead.sub_(x_adv).abs_().gt_(least).mul_(grad)  # room takes longer


def largest(grad: Tensor, share: float) -> Tensor:
    """``grad`` with zeros outside the ``share`` of features, at least one, whose entries are largest."""
    flat = grad.flatten(1)
    count = max(1, round(share * flat.shape[1]))
    if count == flat.shape[1]:
        return grad
    index = flat.abs().topk(count, dim=1).indices
    return torch.zeros_like(flat).scatter_(1, index, flat.gather(1, index)).reshape(grad.shape)


def check_sparsity(share: float) -> None:
    """Checks that a sparse step's share of the features is one.

    Raises:
        ValueError: If it is not.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"sparsity must be a share of the features in [0, 1], got {share}: 0.01 moves one percent")


@dataclass(frozen=True)
class L1(Threat):
    """Perturbations whose absolute values sum to at most ``eps``.

    Args:
        sparsity: Share of the features that one steepest step moves, at least one feature.

    Example:
        >>> x, x_adv = torch.zeros(1, 2), torch.tensor([[0.5, 0.75]])
        >>> L1(0.75).project(x_adv, x)
        tensor([[0.2500, 0.5000]])
    """

    sparsity: float = 0.01  # Tramer & Boneh 2019 (1904.13000): the 99th percentile of the gradient

    p: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sparsity(self.sparsity)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        low, high = self.box(x)
        if fused("l1_project", x_adv, x):
            from advlib.kernels import triton_l1

            return triton_l1.project(x_adv, x, low, high, self.radius(x))
        boxed = clamp(x_adv, low, high)
        radius = self.radius(x).flatten(1)
        outside = _norm((boxed - x).flatten(1)) > radius
        if may_look(outside) and not bool(outside.any()):
            return boxed
        radius = torch.where(outside, radius, 1)  # infinite radii would poison the arithmetic
        delta = (x_adv - x).flatten(1)
        magnitude = delta.abs()
        capacity = room(x_adv - x, x, (low, high)).flatten(1)

        def excess(shift: Tensor) -> tuple[Tensor, Tensor]:
            kept = torch.minimum((magnitude + shift).clamp_min(0), capacity)
            growing = kept.sign() * (capacity - kept).sign()  # in a third of the time that comparisons take
            return kept.sum(1, keepdim=True) - radius, growing.sum(1, keepdim=True)

        unit = torch.finfo(x.dtype).eps
        zero = torch.zeros_like(radius.expand(len(x), 1))
        least = unit * radius / magnitude.shape[1]  # a threshold below this changes nothing
        shift = increasing_root(
            excess,
            -magnitude.amax(1, keepdim=True),
            zero,
            zero,
            tolerance=torch.where(outside, 4 * unit * radius, math.inf),
            middle=lambda a, b: -torch.sqrt(-a) * torch.sqrt(torch.maximum(-b, least)),
        )
        kept = _refined(magnitude + shift, capacity, radius)
        kept = kept * (radius / _norm(kept).clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1)
        shrunk = clamp(x + (kept * delta.sign()).reshape(x.shape), low, high)
        return torch.where(column(outside, x), shrunk, boxed)

    def steepest(self, grad: Tensor, x_adv: Tensor | None = None) -> Tensor:
        step = largest(normalized(movable(self, grad, x_adv)), self.sparsity)
        length = _norm(step.flatten(1)).clamp_min(1)  # at least 1 in every row that is not zero
        return step / column(length, step)

    def maximize(self, grad: Tensor, x: Tensor) -> Tensor:
        low, high = self.box(x)
        capacity = torch.minimum(room(grad, x, (low, high)), self.radius(x))
        flat, capacity = grad.flatten(1), torch.where(grad != 0, capacity, 0).flatten(1)
        if may_wait() and not bool(capacity.isfinite().all()):
            raise ValueError("a linear function has no maximum with eps=inf and no bounds: give one of them")
        index = flat.abs().argsort(1, descending=True)
        sorted_capacity = capacity.gather(1, index).double()
        used = sorted_capacity.cumsum(1) - sorted_capacity
        left = (self.radius(x).flatten(1) - used).clamp_min(0)
        amount = torch.minimum(left, sorted_capacity).to(x.dtype)
        change = torch.zeros_like(flat).scatter_(1, index, amount) * flat.sign()
        return clamp(x + change.reshape(x.shape), low, high)

    def _least_change(self, magnitude: Tensor, capacity: Tensor, rise: Tensor) -> Tensor:
        flat, limit = magnitude.flatten(1), capacity.flatten(1)
        share = by_order(flat, flat * limit, rise.flatten(1))
        return (share * limit).reshape(magnitude.shape)

    def _sample_ball(self, x: Tensor, free: Tensor, noise: Noise) -> Tensor:
        # n exponentials over their sum with one more: uniform in the simplex
        size = torch.where(free, noise.exponential(x), 0)
        slack = noise.stream(1).exponential(x.new_empty(len(x), 1))
        total = (_norm(size.flatten(1)) + slack).clamp_min(torch.finfo(x.dtype).tiny)
        change = size * noise.stream(2).signs(x) / column(total, x)
        return x + self.radius(x) * change

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return _norm((x_adv - x).flatten(1)).squeeze(1)


def _refined(raised: Tensor, capacity: Tensor, radius: Tensor) -> Tensor:
    """``raised`` within [0, ``capacity``], after one step that evens out the rounding of a threshold far above eps."""
    kept = torch.minimum(raised.clamp_min(0), capacity)
    missing = radius - kept.sum(1, keepdim=True)
    moving = torch.where(missing > 0, (raised >= 0) & (raised < capacity), (raised > 0) & (raised <= capacity))
    step = missing / moving.sum(1, keepdim=True).clamp_min(1)
    return torch.minimum(torch.where(moving, kept + step, kept).clamp_min(0), capacity)


def _norm(flat: Tensor) -> Tensor:
    """``(N, 1)`` sums of absolute values of rows, accumulated in float64."""
    return flat.abs().sum(1, keepdim=True, dtype=torch.float64).to(flat.dtype)
