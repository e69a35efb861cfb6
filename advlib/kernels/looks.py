"""Whether code may branch on what tensors hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_recording: ContextVar[bool] = ContextVar("recording", default=False)


@contextmanager
def recording() -> Iterator[None]:
    """Keeps code from looking at values while what it does is recorded, to be repeated on others."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


def may_wait() -> bool:
    """Whether code may look at values at all: not while it is traced or recorded."""
    return not (torch.compiler.is_compiling() or _recording.get())  # the compiler cannot follow the latter


def may_look(value: Tensor) -> bool:
    """Whether a look at values is free: on a CPU it waits for nothing."""
    return value.is_cpu and may_wait()
