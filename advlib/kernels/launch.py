"""How Triton kernels are launched."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def block_of(features: int, most: int) -> int:
    """How many features a program looks at together: a power of two, at most ``most``."""
    return min(1 << (features - 1).bit_length(), most)


def options(block: int) -> dict[str, Any]:
    """Warps by the size of a block. Without fused multiply-adds kernels round as the reference does on a CPU."""
    return {"num_warps": max(1, min(16, block // 256)), "enable_fp_fusion": False}


def strided(bound: Tensor, x: Tensor) -> tuple[Tensor, int, int]:
    """A bound, and how far apart its rows and features lie in memory: 0 where all share one value."""
    if bound.numel() == 1:
        return bound, 0, 0
    bound = bound.expand(len(bound), *x.shape[1:]).contiguous()
    return bound, bound[0].numel() if len(bound) > 1 else 0, 1
