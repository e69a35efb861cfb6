"""Choices between points and their mixture in Triton: one program a block of features of one row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from advlib.kernels.launch import block_of, options

Two = tuple[Tensor, Tensor]

_BLOCK = 1024  # features of a program


@triton.jit
def _place(features, blocks, BLOCK: tl.constexpr):
    """A program's row, the places of its features in the tensor, and which of them are in the row."""
    row = (tl.program_id(0) // blocks).to(tl.int64)
    at = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return row, row * features + at, at < features


@triton.jit
def _keep_better(better, new, new_other, old, old_other, kept, kept_other, features, blocks, BLOCK: tl.constexpr):
    row, at, inside = _place(features, blocks, BLOCK)
    if tl.load(better + row):
        tl.store(kept + at, tl.load(new + at, mask=inside), mask=inside)
        tl.store(kept_other + at, tl.load(new_other + at, mask=inside), mask=inside)
    else:
        tl.store(kept + at, tl.load(old + at, mask=inside), mask=inside)
        tl.store(kept_other + at, tl.load(old_other + at, mask=inside), mask=inside)


@triton.jit
def _lerp(start, end, weight):
    """As torch.lerp, which is exact at both ends."""
    return tl.where(weight < 0.5, start + weight * (end - start), end - (end - start) * (1 - weight))


@triton.jit
def _extrapolate(ahead, previous, point, share, mixed, features, blocks, BLOCK: tl.constexpr):
    row, at, inside = _place(features, blocks, BLOCK)
    here = tl.load(point + at, mask=inside)
    again = here + (here - tl.load(previous + at, mask=inside))
    tl.store(mixed + at, _lerp(tl.load(ahead + at, mask=inside), again, tl.load(share + row)), mask=inside)


def keep_better(better: Tensor, new: Two, old: Two) -> Two:
    """Two tensors, taken from ``new`` where ``better`` says so and from ``old`` elsewhere."""
    tensors = tuple(tensor.contiguous() for tensor in (*new, *old))
    kept = (torch.empty_like(tensors[0]), torch.empty_like(tensors[1]))
    if kept[0].numel():
        features = kept[0][0].numel()
        block, blocks = _blocks(features)
        with torch.cuda.device_of(kept[0]):
            _keep_better[(len(better) * blocks,)](
                *(better.contiguous(), *tensors, *kept, features, blocks, block),
                **options(block),
            )
    return kept


def extrapolate(ahead: Tensor, previous: Tensor, point: Tensor, share: Tensor) -> Tensor:
    """``share`` of the way from ``ahead`` to as far beyond ``point`` as that is from ``previous``."""
    ahead, previous, point = ahead.contiguous(), previous.contiguous(), point.contiguous()
    mixed = torch.empty_like(ahead)
    if mixed.numel():
        features = mixed[0].numel()
        block, blocks = _blocks(features)
        with torch.cuda.device_of(mixed):
            _extrapolate[(len(share) * blocks,)](
                *(ahead, previous, point, share.to(ahead).contiguous(), mixed, features, blocks, block),
                **options(block),
            )
    return mixed


def _blocks(features: int) -> tuple[int, int]:
    """How many features a program takes, and how many programs a row."""
    block = block_of(features, _BLOCK)
    return block, triton.cdiv(features, block)
