"""Steps, projections and momentum in Triton. Imported where a kernel is chosen, never by ``import advlib``.

Each kernel computes what the torch code beside its use says, ``Threat.step``, ``L2.project`` and ``mim``'s momentum,
NaN included; sums are accumulated in float64. But for the step in Linf, a program does one row, a block of features at
a time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from advlib.kernels.launch import block_of, options, strided

_BLOCK = 4096  # most features that a program looks at together
_STEPS = 48  # as advlib.threats.roots takes at most


def linf_step(x_adv: Tensor, grad: Tensor, length: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """A step along the sign of the gradient, clamped.

    Args:
        x_adv: ``(N, ...)`` where the step starts.
        grad: ``(N, ...)`` gradients.
        length: ``(N,)`` lengths of the steps.
        low: ``(N, ...)`` lowest values by ball and bounds.
        high: ``(N, ...)`` highest values.
    """
    x_adv, grad, low, high = _rows(x_adv, grad, low, high)
    out = torch.empty_like(x_adv)
    if out.numel():
        features = out[0].numel()
        block = block_of(features, _BLOCK)
        blocks = triton.cdiv(features, block)
        length = length.expand(len(out))
        with torch.cuda.device_of(out):
            _linf_step[(len(out) * blocks,)](
                x_adv, grad, length, low, high, out, features, blocks, length.stride(0), block, **options(block)
            )
    return out


def l2_step(
    x_adv: Tensor, grad: Tensor, length: Tensor, x: Tensor, radius: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """A step along the gradient, projected onto the L2 ball and the bounds.

    Args:
        x_adv: ``(N, ...)`` where the step starts.
        grad: ``(N, ...)`` gradients.
        length: ``(N,)`` lengths of the steps.
        x: ``(N, ...)`` centres.
        radius: As in :func:`l2_project`.
        low: Likewise.
        high: Likewise.
    """
    x_adv, grad = _rows(x_adv, grad)
    moved = torch.empty_like(x_adv)
    if moved.numel():
        features = moved[0].numel()
        block = block_of(features, _BLOCK)
        length = length.expand(len(moved))
        with torch.cuda.device_of(moved):
            _l2_move[(len(moved),)](x_adv, grad, length, moved, features, length.stride(0), block, **options(block))
    return l2_project(moved, x, radius, low, high)


def l2_project(x_adv: Tensor, x: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The point of the L2 ball within the bounds nearest to ``x_adv``.

    Args:
        x_adv: ``(N, ...)`` points.
        x: ``(N, ...)`` centres, within the bounds.
        radius: ``(N,)`` or ``(1,)`` radii of the balls.
        low: Lowest values: one number, or ``(N, ...)`` or ``(1, ...)`` that broadcast against ``x``.
        high: Highest values, likewise.
    """
    x_adv, x = _rows(x_adv, x)
    out = torch.empty_like(x_adv)
    if out.numel():
        features = out[0].numel()
        block = block_of(features, _BLOCK)
        numbers = torch.finfo(out.dtype)
        (low, *low_strides), (high, *high_strides) = strided(low, x), strided(high, x)
        radius = radius.expand(len(out))
        strides = (*low_strides, *high_strides, radius.stride(0))
        with torch.cuda.device_of(out):
            _l2_project[(len(out),)](
                *(x_adv, x, low, high, radius, out, features, *strides),
                *(_STEPS, 2 * numbers.eps, numbers.max, block),
                **options(block),
            )
    return out


def momentum(before: Tensor, grad: Tensor, decay: float) -> Tensor:
    """The momentum before, decayed, plus the gradient divided by its L1 norm, row by row.

    Args:
        before: ``(N, ...)`` the momentum so far.
        grad: ``(N, ...)`` gradients.
        decay: What is kept of the momentum.
    """
    before, grad = _rows(before, grad)
    out = torch.empty_like(before)
    if out.numel():
        features = out[0].numel()
        block = block_of(features, _BLOCK)
        with torch.cuda.device_of(out):
            _momentum[(len(out),)](before, grad, out, features, decay, block, **options(block))
    return out


def _rows(*tensors: Tensor) -> list[Tensor]:
    """The same numbers, row after row in memory, in the shape of the first."""
    return [tensor.expand_as(tensors[0]).contiguous() for tensor in tensors]


@triton.jit
def _clamp(value, low, high):  # as torch.clamp, NaN is kept
    value = tl.where((value >= low) | (value != value), value, low)
    return tl.where((value <= high) | (value != value), value, high)


@triton.jit
def _sign(value):
    return tl.where(value > 0, 1.0, tl.where(value < 0, -1.0, 0.0)).to(value.dtype)


@triton.jit
def _largest(grad, features, BLOCK: tl.constexpr):
    """The largest absolute entry of a row, or 1 where there is none above 0."""
    largest = tl.zeros([BLOCK], grad.dtype.element_ty)
    for start in range(0, features, BLOCK):
        at = start + tl.arange(0, BLOCK)
        largest = tl.maximum(largest, tl.abs(tl.load(grad + at, mask=at < features, other=0)))
    found = tl.max(largest, axis=0)
    return tl.where(found > 0, found, 1.0)


@triton.jit
def _linf_step(x_adv, grad, length, low, high, out, features, blocks, length_stride, BLOCK: tl.constexpr):
    row = (tl.program_id(0) // blocks).to(tl.int64)
    at = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < features
    at += row * features
    step = tl.load(length + row * length_stride) * _sign(tl.load(grad + at, mask=inside))
    moved = tl.load(x_adv + at, mask=inside) + step
    moved = _clamp(moved, tl.load(low + at, mask=inside), tl.load(high + at, mask=inside))
    tl.store(out + at, moved, mask=inside)


@triton.jit
def _l2_move(x_adv, grad, length, out, features, length_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    x_adv += row * features
    grad += row * features
    out += row * features
    largest = _largest(grad, features, BLOCK)
    square = tl.zeros([BLOCK], tl.float64)
    for start in range(0, features, BLOCK):
        at = start + tl.arange(0, BLOCK)
        slope = (tl.load(grad + at, mask=at < features, other=0) / largest).to(tl.float64)
        square += slope * slope
    norm = tl.sqrt(tl.sum(square, axis=0)).to(largest.dtype)
    norm = tl.where(norm < 1, 1.0, norm)  # NaN is kept
    step = tl.load(length + row * length_stride)
    for start in range(0, features, BLOCK):
        at = start + tl.arange(0, BLOCK)
        direction = tl.load(grad + at, mask=at < features) / largest / norm
        tl.store(out + at, tl.load(x_adv + at, mask=at < features) + step * direction, mask=at < features)


@triton.jit
def _momentum(before, grad, out, features, DECAY: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    before += row * features
    grad += row * features
    out += row * features
    largest = _largest(grad, features, BLOCK)
    total = tl.zeros([BLOCK], tl.float64)
    for start in range(0, features, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.abs(tl.load(grad + at, mask=at < features, other=0) / largest).to(tl.float64)
    size = tl.sum(total, axis=0).to(largest.dtype)
    size = tl.where(size < 1, 1.0, size)  # NaN is kept
    decay = tl.full((), DECAY, largest.dtype)
    for start in range(0, features, BLOCK):
        at = start + tl.arange(0, BLOCK)
        added = tl.load(grad + at, mask=at < features) / largest / size
        tl.store(out + at, decay * tl.load(before + at, mask=at < features) + added, mask=at < features)


@triton.jit
def _change(x_adv, x, at, features):
    """How far the features ``at`` of a row are from its centre."""
    return tl.load(x_adv + at, mask=at < features, other=0) - tl.load(x + at, mask=at < features, other=0)


@triton.jit
def _filled(x_adv, x, low, high, at, features, low_feature, high_feature, length, unit, scale):
    """The changes of the features ``at``, without sign: ``scale`` times their magnitude, and what bounds leave of it.

    Returns both those and the most that they can be.
    """
    change = _change(x_adv, x, at, features)
    center = tl.load(x + at, mask=at < features, other=0)
    up = tl.load(high + at * high_feature, mask=at < features, other=0) - center
    down = center - tl.load(low + at * low_feature, mask=at < features, other=0)
    capacity = tl.where(change < 0, down, up) / unit
    wanted = scale * (tl.abs(change) / length)
    return tl.where(capacity < wanted, capacity, wanted), capacity  # NaN is kept


@triton.jit
def _l2_project(
    x_adv,
    x,
    low,
    high,
    radius,
    out,
    features,
    low_row,
    low_feature,
    high_row,
    high_feature,
    radius_row,
    STEPS: tl.constexpr,
    TOLERANCE: tl.constexpr,
    LARGEST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    x_adv += row * features
    x += row * features
    out += row * features
    low += row * low_row
    high += row * high_row
    eps = tl.load(radius + row * radius_row)

    length = tl.zeros([BLOCK], eps.dtype)
    square = tl.zeros([BLOCK], tl.float64)
    for start in range(0, features, BLOCK):
        at = start + tl.arange(0, BLOCK)
        bottom = tl.load(low + at * low_feature, mask=at < features, other=0)
        top = tl.load(high + at * high_feature, mask=at < features, other=0)
        boxed = _clamp(tl.load(x_adv + at, mask=at < features, other=0), bottom, top)
        change = (boxed - tl.load(x + at, mask=at < features, other=0)).to(tl.float64)
        square += change * change
        length = tl.maximum(length, tl.abs(_change(x_adv, x, at, features)))
    outside = tl.sqrt(tl.sum(square, axis=0)).to(eps.dtype) > eps

    if outside:
        largest = tl.max(length, axis=0)
        largest = tl.where(largest > 0, largest, 1.0)
        unit = tl.where(eps > 0, eps, 1.0)

        square = tl.zeros([BLOCK], tl.float64)
        for start in range(0, features, BLOCK):
            at = start + tl.arange(0, BLOCK)
            magnitude = (tl.abs(_change(x_adv, x, at, features)) / largest).to(tl.float64)
            square += magnitude * magnitude
        least = 1 / tl.maximum(tl.sum(square, axis=0), 1.0)
        most = tl.minimum((largest / unit).to(tl.float64), 1e150)
        most = tl.maximum(most * most, least)

        point = least
        root = least
        nearest = tl.full((), float("inf"), tl.float64)
        step = tl.full((), 0, tl.int32)
        while (step < STEPS) & (nearest > TOLERANCE) & (eps > 0):
            scale = tl.minimum(tl.sqrt(point), LARGEST).to(eps.dtype)
            square = tl.zeros([BLOCK], tl.float64)
            growing = tl.zeros([BLOCK], tl.float64)
            for start in range(0, features, BLOCK):
                at = start + tl.arange(0, BLOCK)
                filled, capacity = _filled(
                    x_adv, x, low, high, at, features, low_feature, high_feature, largest, unit, scale
                )
                wide = filled.to(tl.float64)
                square += wide * wide
                growing += tl.where(filled < capacity, wide * wide, 0.0)
            value = tl.sum(square, axis=0) - 1
            slope = tl.sum(growing, axis=0) / point
            size = tl.abs(value)
            slow = size > nearest / 2
            root = tl.where(size < nearest, point, root)
            nearest = tl.where(size < nearest, size, nearest)
            least = tl.where(value <= 0, point, least)
            most = tl.where(value <= 0, most, point)
            newton = point - value / slope
            middle = tl.sqrt(least) * tl.sqrt(most)
            point = tl.where((newton > least) & (newton < most) & (slow == 0), newton, middle)
            step += 1

        scale = tl.minimum(tl.sqrt(root), LARGEST).to(eps.dtype)
        square = tl.zeros([BLOCK], tl.float64)
        for start in range(0, features, BLOCK):
            at = start + tl.arange(0, BLOCK)
            filled, capacity = _filled(
                x_adv, x, low, high, at, features, low_feature, high_feature, largest, unit, scale
            )
            square += filled.to(tl.float64) * filled.to(tl.float64)
        norm = tl.sqrt(tl.sum(square, axis=0)).to(eps.dtype)
        for start in range(0, features, BLOCK):
            at = start + tl.arange(0, BLOCK)
            filled, capacity = _filled(
                x_adv, x, low, high, at, features, low_feature, high_feature, largest, unit, scale
            )
            change = eps * (filled / norm) * _sign(_change(x_adv, x, at, features))
            moved = tl.load(x + at, mask=at < features, other=0) + change
            bottom = tl.load(low + at * low_feature, mask=at < features, other=0)
            top = tl.load(high + at * high_feature, mask=at < features, other=0)
            tl.store(out + at, _clamp(moved, bottom, top), mask=at < features)
    else:
        for start in range(0, features, BLOCK):
            at = start + tl.arange(0, BLOCK)
            bottom = tl.load(low + at * low_feature, mask=at < features, other=0)
            top = tl.load(high + at * high_feature, mask=at < features, other=0)
            boxed = _clamp(tl.load(x_adv + at, mask=at < features, other=0), bottom, top)
            tl.store(out + at, boxed, mask=at < features)
