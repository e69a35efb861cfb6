"""Which code a kernel runs as: the torch reference, or Triton's on a CUDA device.

The environment variable ``ADVLIB_KERNELS`` says so, and is read at every call: ``torch``, never Triton; ``triton``,
always, or an error that says why not; ``auto``, the default, wherever Triton was measured to be the faster.
"""

from __future__ import annotations

import functools
import os
import sys

import torch
from torch import Tensor

# Kernels that `benchmarks/kernels.py --device cuda` found faster, end to end, than the reference under torch.compile.
# None has been measured yet.
MEASURED: frozenset[str] = frozenset()

_TYPES = (torch.float32, torch.float64)


def fused(name: str, *tensors: Tensor, differentiable: bool = False) -> bool:
    """Whether the Triton kernel ``name`` is to be used for these tensors.

    Where autograd records what is done with them, only a kernel that is ``differentiable`` is.

    Raises:
        ValueError: If ``ADVLIB_KERNELS`` is none of auto, torch and triton.
        RuntimeError: If it is triton, and triton cannot be imported or cannot compute with these tensors.
    """
    choice = os.environ.get("ADVLIB_KERNELS", "auto")
    if choice == "auto":
        return name in MEASURED and (differentiable or not differentiated(*tensors)) and _suits(tensors)
    if choice == "torch":
        return False
    if choice != "triton":
        raise ValueError(f"ADVLIB_KERNELS must be auto, torch or triton, got {choice!r}: unset it for auto")
    if not differentiable and differentiated(*tensors):
        return False
    _require(name, tensors)
    return True


def possible(*tensors: Tensor) -> bool:
    """Whether a Triton kernel can be used for these tensors at all, where the reference cannot."""
    return os.environ.get("ADVLIB_KERNELS", "auto") != "torch" and _suits(tensors)


def differentiated(*tensors: Tensor) -> bool:
    """Whether autograd records what is done with these tensors, which a kernel without a backward pass is not for."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


@functools.cache
def _missing() -> str:
    """Why triton cannot be imported; empty where it can."""
    try:
        import triton  # noqa: F401
    except Exception as error:  # a broken installation raises anything
        return f"{type(error).__name__}: {error}"
    return ""


def _traced() -> bool:
    """Whether a graph is being traced: what traces has kernels of its own to make of the reference."""
    if torch.compiler.is_compiling():
        return True
    make_fx = sys.modules.get("torch.fx.experimental.proxy_tensor")  # not imported: nothing traces with it
    return make_fx is not None and make_fx.get_proxy_mode() is not None


def _suits(tensors: tuple[Tensor, ...]) -> bool:
    if _traced():
        return False
    fit = all(tensor.is_cuda and tensor.is_contiguous() and tensor.dtype in _TYPES for tensor in tensors)
    return fit and not _missing()


def _require(name: str, tensors: tuple[Tensor, ...]) -> None:
    if _missing():
        raise RuntimeError(
            f"ADVLIB_KERNELS=triton needs triton, which cannot be imported ({_missing()}): install it, or set "
            "ADVLIB_KERNELS=auto"
        )
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    for tensor in tensors:
        if not tensor.is_cuda and not interpreted:
            raise RuntimeError(
                f"ADVLIB_KERNELS=triton needs tensors on a CUDA device, got one on {tensor.device} for the kernel "
                f"{name}: move model and inputs there, set TRITON_INTERPRET=1 before Python starts to have kernels "
                "interpreted, or set ADVLIB_KERNELS=auto"
            )
        if tensor.dtype not in _TYPES:
            raise RuntimeError(
                f"ADVLIB_KERNELS=triton takes float32 and float64, got {tensor.dtype} for the kernel {name}: convert "
                "it, or set ADVLIB_KERNELS=auto"
            )
