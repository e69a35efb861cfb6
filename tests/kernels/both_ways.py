"""Runs one function as torch and as Triton, interpreted on the CPU, and compares what comes back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # triton reads it as it is imported
pytest.importorskip("triton")

DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(CUDA, reason="Triton compiles in this process")),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
DTYPES = [torch.float32, torch.float64]


def _poison(buffer: torch.Tensor) -> torch.Tensor:
    return buffer.fill_(torch.nan if buffer.is_floating_point() else -(2**40))


@contextlib.contextmanager
def kernels(choice: str) -> Iterator[None]:
    """Chooses torch or Triton; what a kernel leaves unwritten stands out."""
    empty, empty_like = torch.empty, torch.empty_like
    with (
        mock.patch.dict(os.environ, ADVLIB_KERNELS=choice),
        mock.patch.object(torch, "empty", lambda *size, **options: _poison(empty(*size, **options))),
        mock.patch.object(torch, "empty_like", lambda like, **options: _poison(empty_like(like, **options))),
        np.errstate(all="ignore"),  # the interpreter computes with numpy, which warns of what is not finite
    ):
        yield


def both(function: Callable[[], Any]) -> tuple[Any, Any]:
    """What torch makes of it, and what Triton does."""
    with kernels("torch"):
        expected = function()
    with kernels("triton"):
        return expected, function()


def close(found: torch.Tensor, expected: torch.Tensor, units: float, size: float = 0.0) -> None:
    """Equal up to ``units`` in the last place, of each number or of ``size``; NaN to NaN."""
    unit = units * torch.finfo(expected.dtype).eps
    torch.testing.assert_close(found, expected, rtol=unit, atol=unit * size, equal_nan=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
