"""The Linf ball: every feature may change by at most eps."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advlib.kernels.dispatch import fused
from advlib.kernels.looks import may_wait
from advlib.noise import Noise
from advlib.threats.base import Threat, clamp
from advlib.threats.reach import by_level


@dataclass(frozen=True)
class Linf(Threat):
    """Perturbations whose largest absolute entry is at most ``eps``.

    Args:
        ball: Lowest and highest values by ball and bounds, on the result of :meth:`Threat.at` only.

    Example:
        >>> x, x_adv = torch.full((1, 3), 0.95), torch.tensor([[0.5, 0.96, 2.0]])
        >>> Linf(0.1).project(x_adv, x)
        tensor([[0.8500, 0.9600, 1.0000]])
    """

    ball: tuple[Tensor, Tensor] | None = dataclasses.field(default=None, repr=False, kw_only=True)

    p: ClassVar[float] = math.inf

    def at(self, x: Tensor) -> Linf:
        threat = super().at(x)
        return dataclasses.replace(threat, ball=threat.box(x))

    def rows(self, index: Tensor) -> Linf:
        ball = None if self.ball is None else (self.ball[0][index], self.ball[1][index])
        return dataclasses.replace(super().rows(index), ball=ball)

    def resized(self, eps: float | Tensor) -> Linf:
        return dataclasses.replace(self, eps=eps, ball=None)

    def box(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.ball is not None:
            return self.ball
        low, high = self.limits(x)
        ball_low, ball_high = x - self.radius(x), x + self.radius(x)
        return torch.maximum(torch.minimum(ball_low, high), low), torch.minimum(torch.maximum(ball_high, low), high)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        low, high = self.box(x)
        return clamp(x_adv, low, high)

    def steepest(self, grad: Tensor, x_adv: Tensor | None = None) -> Tensor:
        return grad.sign()

    def step(self, x_adv: Tensor, grad: Tensor, length: Tensor, x: Tensor) -> Tensor:
        if not fused("linf_step", x_adv, grad, x):
            return super().step(x_adv, grad, length, x)
        from advlib.kernels import triton_steps

        return triton_steps.linf_step(x_adv, grad, length, *self.box(x))

    def maximize(self, grad: Tensor, x: Tensor) -> Tensor:
        low, high = self.box(x)
        corner = torch.where(grad > 0, high, torch.where(grad < 0, low, x))
        if may_wait() and not bool(corner.isfinite().all()):
            raise ValueError("a linear function has no maximum with eps=inf and no bounds: give one of them")
        return corner

    def _least_change(self, magnitude: Tensor, capacity: Tensor, rise: Tensor) -> Tensor:
        flat, limit = magnitude.flatten(1), capacity.flatten(1)
        return by_level(flat, flat.new_ones(()), limit, rise.flatten(1)).reshape(magnitude.shape)

    def _sample_ball(self, x: Tensor, free: Tensor, noise: Noise) -> Tensor:
        return x + self.radius(x) * (2 * noise.uniform(x) - 1)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x_adv - x).abs().flatten(1).amax(1)
