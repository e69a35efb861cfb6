"""Recording without a CUDA device: a step traced to a graph of operations, which knows nothing of Python's decisions."""

from collections.abc import Callable
from unittest import mock

import torch
from torch.fx.experimental.proxy_tensor import make_fx

import advlib
from advlib import replay

RECORDINGS: list[torch.fx.GraphModule] = []  # made since the last call of `recorded`


def _copied(*values: object, **settings: object) -> None:
    raise RuntimeError(f"{values} copied from the host")


def trace(function: Callable, static: list[torch.Tensor], pool: None) -> Callable[[], None]:
    """Records a pure function as CUDA graphs do: what is no tensor is fixed, and no value may be looked at.

    Nor may one be made of Python's numbers: a copy from the host cannot be recorded.
    """
    with mock.patch.object(torch, "tensor", _copied), mock.patch.object(torch.Tensor, "new_tensor", _copied):
        graph = make_fx(function)(static)
    RECORDINGS.append(graph)

    def again() -> None:
        with torch.no_grad():
            replay.overwrite(static, graph(static))

    return again


def recorded(function, *args, **settings):
    """What a call finds where steps are recorded, and what is said of it."""
    RECORDINGS.clear()
    with advlib.accelerate(fold=False, channels_last=False) as acceleration:
        found = function(*args, **settings)
    return found, acceleration
