"""Several processes that train one model, and one that notices nothing of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler

T = TypeVar("T")


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 is the one that writes and prints."""
    return distributed.get_rank() if world_size() > 1 else 0


def total(values: Tensor, device: torch.device) -> Tensor:
    """The sum over the processes, the same in all of them, on the CPU.

    Args:
        values: One shape in all processes.
        device: Where the processes exchange tensors.
    """
    if world_size() > 1:
        values = values.to(device)
        distributed.all_reduce(values)
    return values.cpu()


def gathered(value: T) -> list[T]:
    """What each process holds, by rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def synchronize_buffers(*models: nn.Module | None) -> None:
    """Gives every process the buffers of the first one: each sees its own batches, and BatchNorm drifts apart."""
    if world_size() > 1:
        for model in models:
            for buffer in model.buffers() if model is not None else ():
                distributed.broadcast(buffer, 0)


def samplers(batches: Iterable[Any]) -> list[Any]:
    """What decides the order of a loader, from the outside in: its samplers, where it has any."""
    batch_sampler = getattr(batches, "batch_sampler", None)
    candidates = getattr(batches, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)
    return [candidate for candidate in candidates if candidate is not None]


def length(batches: Iterable[Any]) -> int | None:
    """How many batches there are, where that is known."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:  # a loader of an iterable dataset has the method, too
        return None


def check_sharded(name: str, batches: Iterable[Any]) -> None:
    """Checks that each process gets a part of the data of its own.

    Raises:
        ValueError: If a loader gives every process the same rows.
    """
    if world_size() == 1 or not isinstance(batches, DataLoader) or isinstance(batches.dataset, IterableDataset):
        return
    if not any(hasattr(sampler, "num_replicas") for sampler in samplers(batches)):
        raise ValueError(
            f"{name} must give each of the {world_size()} processes rows of its own, got a DataLoader without a "
            "DistributedSampler: DataLoader(dataset, sampler=DistributedSampler(dataset), ...)"
        )


def rows_to_count(batches: Iterable[Any]) -> float:
    """How many rows of this process's share are not repetitions, which DistributedSampler appends to even it out."""
    sampler = getattr(batches, "sampler", None)
    if isinstance(sampler, DistributedSampler):
        return len(range(sampler.rank, len(sampler.dataset), sampler.num_replicas))  # type: ignore[arg-type]
    return float("inf")
