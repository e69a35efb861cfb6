"""The state of chance in a process, taken and put back."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from advlib.training.processes import samplers


def generators(*holders: Any) -> list[torch.Generator]:
    """The generators that loaders, their samplers, configured attacks and objectives hold, each once."""
    found: dict[int, torch.Generator] = {}
    for holder in holders:
        for generator in _held(holder):
            found.setdefault(id(generator), generator)
    return list(found.values())


def _held(holder: Any) -> Iterator[torch.Generator]:
    if isinstance(holder, torch.Generator):
        yield holder
    elif isinstance(holder, partial):
        for value in (holder.func, *holder.args, *holder.keywords.values()):
            yield from _held(value)
    elif dataclasses.is_dataclass(holder) and not isinstance(holder, type):
        for field in dataclasses.fields(holder):
            yield from _held(getattr(holder, field.name))
    else:
        for part in (holder, *samplers(holder)):
            if isinstance(generator := getattr(part, "generator", None), torch.Generator):
                yield generator


def random_state(streams: list[torch.Generator], device: torch.device) -> dict[str, Any]:
    """The states of PyTorch's, Python's and numpy's global generators, and of the given ones."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "streams": [stream.get_state() for stream in streams],
    }


def restore_random_state(state: dict[str, Any], streams: list[torch.Generator], device: torch.device) -> None:
    """Puts back what :func:`random_state` took."""
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    for stream, found in zip(streams, state["streams"], strict=True):
        stream.set_state(found)
