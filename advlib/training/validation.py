"""Clean and robust accuracy during a run, on data that is not for testing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from advlib.defenses.base import Attack, check_batch, labels
from advlib.evaluator import guard
from advlib.training.processes import rows_to_count, total


def pair(batch: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs and labels of one batch, on the model's device.

    Raises:
        TypeError: If the batch is not a pair of tensors.
        ValueError: If inputs and labels are not as many.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not all(isinstance(b, Tensor) for b in batch):
        what = [type(b).__name__ for b in batch] if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise TypeError(
            f"a batch must be a pair of tensors (x, y), got {what}: wrap the loader so that it yields pairs"
        )
    x, y = (tensor.to(device, non_blocking=True) for tensor in batch)
    check_batch(x, y)
    return x, y


def correct(model: nn.Module, x: Tensor, y: Tensor, attack: Attack | None) -> tuple[Tensor, Tensor]:
    """Which rows the model classifies correctly, and which of those still do under attack, ``(N,)`` bool each."""
    y = labels(y)
    with guard(model):
        clean = model(x).argmax(1) == y
        if attack is None:
            return clean, clean
        with torch.enable_grad():
            x_adv = attack(model, x, y).detach()
        return clean, clean & (model(x_adv).argmax(1) == y)


def accuracies(
    model: nn.Module, batches: Iterable[Any], attack: Attack | None, device: torch.device
) -> tuple[float, float]:
    """Clean and robust accuracy over all processes, the latter the former where there is no attack.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits; evaluated in evaluation mode, and left as it was.
        batches: Pairs ``(x, y)``.
        attack: Called as ``attack(model, x, y)``.
        device: Where the model is.

    Raises:
        ValueError: If there are no batches.
    """
    sums, left = torch.zeros(3, dtype=torch.long, device=device), rows_to_count(batches)
    for batch in batches:
        clean, robust = correct(model, *pair(batch, device), attack)
        kept = int(min(left, len(clean)))
        left -= kept
        sums += torch.stack([clean[:kept].sum(), robust[:kept].sum(), torch.tensor(kept, device=device)])
    clean_rows, robust_rows, rows = total(sums, device).tolist()
    if rows == 0:
        raise ValueError("validation must yield at least one batch, got none: look at its length and drop_last")
    return clean_rows / rows, robust_rows / rows
