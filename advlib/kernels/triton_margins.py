"""Leads between logits and their gradients in Triton: one program a row, which it holds in registers."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from advlib.kernels.launch import options


@triton.jit
def _largest(values):
    """The largest of the values, NaN if there is one among them: a maximum in Triton may pass over it."""
    nan = values != values
    return tl.max(tl.where(nan, -float("inf"), values), axis=0) + tl.sum(tl.where(nan, values, 0.0), axis=0)


@triton.jit
def _picked(values, column, at, classes):
    """The value of one class, NaN where there is no such class."""
    value = tl.sum(tl.where(column == at, values, 0.0), axis=0)
    return tl.where((at >= 0) & (at < classes), value, float("nan"))


@triton.jit
def _next(values, column, left, BLOCK: tl.constexpr):
    """The largest value among the columns left, and the first that holds it."""
    value = tl.max(tl.where(left & (values == values), values, -float("inf")), axis=0)
    return value, tl.min(tl.where(left & (values == value), column, BLOCK), axis=0)


@triton.jit
def _lead_kernel(
    logits,
    y,
    target,
    value,
    gradient,
    classes,
    SOFTMAX: tl.constexpr,
    RATIO: tl.constexpr,
    TARGETED: tl.constexpr,
    GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    there = column < classes
    scores = tl.load(logits + row * classes + column, mask=there, other=0.0)
    if SOFTMAX:
        power = tl.where(there, tl.exp(scores - _largest(tl.where(there, scores, -float("inf")))), 0.0)
        scores = power / tl.sum(power, axis=0)

    true = tl.load(y + row)
    aim = tl.load(target + row)  # the true class again where there is no target
    rest = tl.where(there & (column != aim), scores, -float("inf"))
    best = _largest(rest)
    tied = (there & (rest == best)).to(scores.dtype)  # where all are minus infinity, the class left out is one of them
    share = tied / tl.sum(tied, axis=0)  # NaN where the best is
    other = tl.where(column != aim, share, 0.0)
    wanted = (column == aim).to(scores.dtype)
    if TARGETED:
        unknown = true == aim
        lead = _picked(scores, column, aim, classes)
        lead -= tl.where(unknown, best, _picked(scores, column, true, classes))
        slope = wanted - other * unknown.to(scores.dtype) - ((column == true) & (true != aim)).to(scores.dtype)
    else:
        lead = best - _picked(scores, column, aim, classes)
        slope = other - wanted

    if SOFTMAX:
        slope = scores * (slope - tl.sum(scores * slope, axis=0))
    if RATIO:
        first, at_first = _next(scores, column, there, BLOCK)
        left = there & (column != at_first)
        _second, at_second = _next(scores, column, left, BLOCK)
        left = left & (column != at_second)
        floor, at_third = _next(scores, column, left, BLOCK)
        falling = (column == at_third).to(scores.dtype)
        if TARGETED:
            left = left & (column != at_third)
            fourth, at_fourth = _next(scores, column, left, BLOCK)
            floor = (floor + fourth) / 2
            falling = (falling + (column == at_fourth).to(scores.dtype)) / 2
        nan = tl.sum(tl.where(there & (scores != scores), scores, 0.0), axis=0)
        gap = first - floor + 1e-12 + nan  # 1e-12: the authors' code
        lead = lead / gap
        turn = (column == at_first).to(scores.dtype) - falling
        slope = slope / gap - tl.where(turn != 0, lead / gap * turn, 0.0)

    tl.store(value + row, lead)
    if GRADIENT:
        tl.store(gradient + row * classes + column, slope, mask=there)


def _launch(
    logits: Tensor, y: Tensor, target: Tensor | None, softmax: bool, ratio: bool, gradient: bool
) -> tuple[Tensor, Tensor]:
    logits, classes = logits.contiguous(), logits.shape[1]
    value = torch.empty_like(logits[:, 0])
    slope = torch.empty_like(logits) if gradient else value
    block = triton.next_power_of_2(classes)
    with torch.cuda.device_of(logits):
        _lead_kernel[(len(logits),)](
            logits,
            y.contiguous(),
            (y if target is None else target).contiguous(),
            value,
            slope,
            classes,
            SOFTMAX=softmax,
            RATIO=ratio,
            TARGETED=target is not None,
            GRADIENT=gradient,
            BLOCK=block,
            **options(block),
        )
    return value, slope


class _Lead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, y: Tensor, target: Tensor | None, softmax: bool, ratio: bool) -> Tensor:
        value, slope = _launch(logits, y, target, softmax, ratio, True)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, rise: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return rise.unsqueeze(1) * slope, None, None, None, None


def lead(logits: Tensor, y: Tensor, target: Tensor | None, *, softmax: bool = False, ratio: bool = False) -> Tensor:
    """``(N,)`` leads between logits, between their probabilities, or as a ratio; differentiable once."""
    if torch.is_grad_enabled() and logits.requires_grad:
        found: Tensor = _Lead.apply(logits, y, target, softmax, ratio)
        return found
    return _launch(logits, y, target, softmax, ratio, False)[0]
