"""Philox4x32-10 in Triton: the uniform numbers of :mod:`advlib.noise`, bit for bit.

Imported where a kernel is chosen, never by ``import advlib``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 256  # most counters that a program looks at together, of four features each


def uniform(
    like: Tensor,
    row: Tensor,
    lane: int | Tensor,
    step: int | Tensor,
    key: tuple[int | Tensor, int | Tensor],
) -> Tensor:
    """Uniform numbers in [0, 1), of 24 bits each.

    Args:
        like: ``(N, ...)`` a tensor of the shape and dtype wanted, float32 or float64.
        row: ``(N,)`` int64, the second word of the counter; the first is a quarter of the feature's index.
        lane: The third word: one number, or an int64 tensor, one for all rows or ``(N,)``.
        step: The fourth word, likewise.
        key: Two numbers in [0, 2**32), or two tensors of one such number each.
    """
    out = torch.empty(like.shape, dtype=like.dtype, device=row.device)
    if out.numel():
        features = out[0].numel()
        counters = -(-features // 4)
        block = min(1 << (counters - 1).bit_length(), _BLOCK)
        blocks = -(-counters // block)
        lanes, lane_stride = _each(lane, row)
        steps, step_stride = _each(step, row)
        keyed = any(isinstance(word, Tensor) for word in key)
        low: int | Tensor
        low, high = (_signed(int(word)) for word in key) if not keyed else (_side_by_side(key, row), 0)
        with torch.cuda.device_of(out):
            _uniform[(len(out) * blocks,)](
                *(out, row.expand(len(out)).contiguous(), lanes, steps, low, high),
                *(features, blocks, lane_stride, step_stride),
                *(isinstance(lane, Tensor), isinstance(step, Tensor), keyed, block),
                num_warps=max(1, block // 64),
                enable_fp_fusion=False,  # said, or Triton 3.9 warns; there is no sum to fuse
            )
    return out


def _side_by_side(key: tuple[int | Tensor, int | Tensor], row: Tensor) -> Tensor:
    return torch.stack([torch.as_tensor(word, dtype=torch.int64, device=row.device) for word in key])


def _signed(word: int) -> int:
    """A word as the signed integer of its bits: of one type, whatever its size, so that one compiled kernel serves."""
    return word - (word >> 31 << 32)


def _each(value: int | Tensor, row: Tensor) -> tuple[int | Tensor, int]:
    """One word for all rows or one for each, as the kernel takes it, and how far apart these lie in memory."""
    if not isinstance(value, Tensor):
        return _signed(value), 0
    value = value.to(row).expand(len(row))
    return value, value.stride(0)


@triton.jit(do_not_specialize=["lane", "step", "low", "high"])
def _uniform(
    out,
    row,
    lane,
    step,
    low,
    high,
    features,
    blocks,
    lane_stride,
    step_stride,
    LANES: tl.constexpr,
    STEPS: tl.constexpr,
    KEYED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    index = (tl.program_id(0) // blocks).to(tl.int64)
    block = (tl.program_id(0) % blocks).to(tl.int64)
    if LANES:
        lane = tl.load(lane + index * lane_stride)
    if STEPS:
        step = tl.load(step + index * step_stride)
    if KEYED:
        high = tl.load(low + 1)
        low = tl.load(low)

    zero = tl.zeros([BLOCK], tl.uint32)
    c0 = (block * BLOCK + tl.arange(0, BLOCK)).to(tl.uint32)
    c1 = zero + tl.load(row + index).to(tl.uint32)
    c2 = zero + lane.to(tl.uint32)
    c3 = zero + step.to(tl.uint32)
    k0 = low.to(tl.uint32).to(tl.uint64)
    k1 = high.to(tl.uint32).to(tl.uint64)
    for _ in tl.static_range(10):
        first = c0.to(tl.uint64) * 0xD2511F53
        third = c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (third >> 32).to(tl.uint32) ^ c1 ^ k0.to(tl.uint32)
        c1 = third.to(tl.uint32)
        c2 = (first >> 32).to(tl.uint32) ^ c3 ^ k1.to(tl.uint32)
        c3 = first.to(tl.uint32)
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF

    words = tl.interleave(tl.interleave(c0, c2), tl.interleave(c1, c3))  # c0, c1, c2, c3 of each counter
    at = block * (4 * BLOCK) + tl.arange(0, 4 * BLOCK)
    number = (words >> 8).to(out.dtype.element_ty) * 5.9604644775390625e-08  # 2**-24
    tl.store(out + index * features + at, number, mask=at < features)
