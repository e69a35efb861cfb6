"""The nearest point of L1 ball, bounds and mask in Triton: one program a row, which it passes over block by block."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from advlib.kernels.launch import block_of, options, strided

_BLOCK = 2048  # most features that a program looks at together
_STEPS = 48  # as advlib.threats.roots takes at most


@triton.jit
def _boxed(value, low, high, at, low_step, high_step, features):
    """A clamp to the bounds that keeps NaN, as torch's does."""
    bottom = tl.load(low + at * low_step, mask=at < features, other=0)
    top = tl.load(high + at * high_step, mask=at < features, other=0)
    value = tl.where(value < bottom, bottom, value)
    return tl.where(value > top, top, value)


@triton.jit
def _entries(x_adv, x, low, high, at, low_step, high_step, features, BITS: tl.constexpr):
    """How far some features have moved, and how far bounds let each go that way; both 0 beyond the row's end."""
    center = tl.load(x + at, mask=at < features, other=0)
    delta = tl.load(x_adv + at, mask=at < features, other=0) - center
    up = tl.load(high + at * high_step, mask=at < features, other=0) - center
    down = tl.load(low + at * low_step, mask=at < features, other=0) - center
    back = delta.to(BITS, bitcast=True) < 0  # a zero has a sign, as in torch.copysign
    return tl.abs(delta), tl.where(back, tl.maximum(-up, -down), tl.maximum(up, down))


@triton.jit
def _kept(raised, capacity):
    return tl.minimum(tl.maximum(raised, 0.0), capacity)


@triton.jit
def _moving(raised, capacity, residue):
    """Which features even out what is left over."""
    rising, falling = (raised >= 0) & (raised < capacity), (raised > 0) & (raised <= capacity)
    return tl.where(residue < 0, rising, falling)


@triton.jit
def _refined(raised, capacity, residue, more):
    kept = _kept(raised, capacity)
    return tl.minimum(tl.maximum(tl.where(_moving(raised, capacity, residue), kept + more, kept), 0.0), capacity)


@triton.jit
def _project(
    x_adv,
    x,
    low,
    high,
    radius,
    result,
    features,
    low_row,
    low_step,
    high_row,
    high_step,
    radius_row,
    STEPS: tl.constexpr,
    UNIT: tl.constexpr,
    TINY: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    x_adv += row * features
    x += row * features
    result += row * features
    low += row * low_row
    high += row * high_row
    radius = tl.load(radius + row * radius_row)
    dtype = radius.dtype

    # within the bounds: that is all where the ball holds it
    length = tl.zeros([BLOCK], tl.float64)
    largest = tl.zeros([BLOCK], dtype)
    for start in range(0, features, BLOCK):
        at = (start + tl.arange(0, BLOCK)).to(tl.int64)
        center, moved = tl.load(x + at, mask=at < features, other=0), tl.load(x_adv + at, mask=at < features, other=0)
        boxed = _boxed(moved, low, high, at, low_step, high_step, features)
        tl.store(result + at, boxed, mask=at < features)
        length += tl.abs(boxed - center).to(tl.float64)
        largest = tl.maximum(largest, tl.abs(moved - center))

    if tl.sum(length, axis=0).to(dtype) > radius:
        # advlib.threats.roots.increasing_root, of this row alone
        lower = -tl.max(largest, axis=0)
        upper = tl.full((), 0, dtype)
        point = upper
        root = upper
        residue = upper
        nearest = tl.full((), float("inf"), dtype)
        least = UNIT * radius / features  # a threshold below this changes nothing
        step = tl.full((), 0, tl.int32)
        while (step < STEPS) & (nearest > 4 * UNIT * radius) & (radius > 0):  # a radius of 0 leaves 0 of anything
            total = tl.zeros([BLOCK], dtype)
            growing = tl.zeros([BLOCK], dtype)
            for start in range(0, features, BLOCK):
                at = (start + tl.arange(0, BLOCK)).to(tl.int64)
                magnitude, capacity = _entries(x_adv, x, low, high, at, low_step, high_step, features, BITS)
                raised = magnitude + point
                total += _kept(raised, capacity)
                growing += ((raised > 0) & (raised < capacity)).to(dtype)
            value = tl.sum(total, axis=0) - radius
            size = tl.abs(value)
            slow = size > nearest / 2
            root = tl.where(size < nearest, point, root)
            residue = tl.where(size < nearest, value, residue)
            nearest = tl.where(size < nearest, size, nearest)
            lower = tl.where(value <= 0, point, lower)
            upper = tl.where(value <= 0, upper, point)
            newton = point - value / tl.sum(growing, axis=0)
            middle = -tl.sqrt(-lower) * tl.sqrt(tl.maximum(-upper, least))
            point = tl.where((newton > lower) & (newton < upper) & (slow == 0), newton, middle)
            step += 1

        count = tl.zeros([BLOCK], dtype)
        for start in range(0, features, BLOCK):
            at = (start + tl.arange(0, BLOCK)).to(tl.int64)
            magnitude, capacity = _entries(x_adv, x, low, high, at, low_step, high_step, features, BITS)
            count += _moving(magnitude + root, capacity, residue).to(dtype)
        more = -residue / tl.maximum(tl.sum(count, axis=0), 1.0)
        length = tl.zeros([BLOCK], tl.float64)
        for start in range(0, features, BLOCK):
            at = (start + tl.arange(0, BLOCK)).to(tl.int64)
            magnitude, capacity = _entries(x_adv, x, low, high, at, low_step, high_step, features, BITS)
            length += _refined(magnitude + root, capacity, residue, more).to(tl.float64)
        factor = tl.minimum(radius / tl.maximum(tl.sum(length, axis=0).to(dtype), TINY), 1.0)
        for start in range(0, features, BLOCK):
            at = (start + tl.arange(0, BLOCK)).to(tl.int64)
            magnitude, capacity = _entries(x_adv, x, low, high, at, low_step, high_step, features, BITS)
            kept = _refined(magnitude + root, capacity, residue, more) * factor
            center, moved = (
                tl.load(x + at, mask=at < features, other=0),
                tl.load(x_adv + at, mask=at < features, other=0),
            )
            way = (moved > center).to(dtype) - (moved < center).to(dtype)
            shrunk = _boxed(center + kept * way, low, high, at, low_step, high_step, features)
            tl.store(result + at, shrunk, mask=at < features)


def project(x_adv: Tensor, x: Tensor, low: Tensor, high: Tensor, radius: Tensor) -> Tensor:
    """The nearest points of L1 ball and box.

    Args:
        x_adv: ``(N, ...)`` points.
        x: ``(N, ...)`` centres, within the bounds.
        low: Lowest values: one number, or ``(N, ...)`` or ``(1, ...)`` that broadcast against ``x``.
        high: Highest values, likewise.
        radius: One number, or one per row.
    """
    x_adv, x = x_adv.contiguous(), x.expand_as(x_adv).contiguous()
    result = torch.empty_like(x_adv)
    if result.numel() == 0:
        return result
    radius = radius.reshape(-1).expand(len(x))
    features = result[0].numel()
    (low, *low_strides), (high, *high_strides) = strided(low, x), strided(high, x)
    block = block_of(features, _BLOCK)
    numbers = torch.finfo(x.dtype)
    with torch.cuda.device_of(x):
        _project[(len(x),)](
            *(x_adv, x, low, high, radius, result, features, *low_strides, *high_strides, radius.stride(0)),
            STEPS=_STEPS,
            UNIT=numbers.eps,
            TINY=numbers.tiny,
            BITS=tl.int32 if x.dtype == torch.float32 else tl.int64,
            BLOCK=block,
            **options(block),
        )
    return result
