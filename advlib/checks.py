"""Checks of what a user gives, whatever the threat model: each error says what came, and the mend."""

from __future__ import annotations

import torch
from torch import Tensor


def check_inputs(x: Tensor) -> None:
    """Checks that ``x`` can be attacked at all, whatever the threat model.

    Raises:
        TypeError: If it is no float32 or float64 tensor.
        ValueError: If it has no rows, or values that are not finite.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor (N, ...), got {type(x).__name__}: torch.as_tensor(x)")
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"x must be float32 or float64, got {x.dtype}: keep inputs in float32, scaled into the bounds, and "
            "run the model under torch.autocast if it is to compute in half precision"
        )
    if x.ndim < 2:
        raise ValueError(f"x must have a row per example, (N, ...), got shape {tuple(x.shape)}: x.unsqueeze(0)")
    if not bool(x.isfinite().all()):
        raise ValueError("x must be finite, got NaN or infinite values: look at how the inputs are made")


def check_counts(**counts: int | None) -> None:
    """Checks that parameters which are given are counts.

    Raises:
        ValueError: If one is no whole number of at least 1.
    """
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"{name} must be a whole number of at least 1, got {count!r}")


def check_labels(name: str, labels: Tensor, x: Tensor) -> Tensor:
    """A copy of labels as int64, where they are one class per row.

    Raises:
        TypeError: If they are no integers.
        ValueError: If there is not one per row, or they are on another device.
    """
    if not isinstance(labels, Tensor):
        raise TypeError(f"{name} must be a tensor of labels (N,), got {type(labels).__name__}: torch.tensor({name})")
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        raise TypeError(
            f"{name} must hold integer class labels, got {labels.dtype}: {name}.argmax(1) if they are one-hot, "
            f"{name}.long() if they are numbers"
        )
    if labels.shape != x.shape[:1]:
        raise ValueError(
            f"{name} must have shape ({len(x)},), one label per row of x, got {tuple(labels.shape)}: "
            f"{name}.argmax(1) if they are one-hot"
        )
    if labels.device != x.device:
        raise ValueError(f"{name} must be on the device of x, {x.device}, got {labels.device}: {name}.to(x.device)")
    return labels.to(torch.int64, copy=True)


def check_init(init: Tensor | None, x: Tensor) -> None:
    """Checks that starting points, where they are given, are like ``x``.

    Raises:
        ValueError: If they are of another shape or dtype, or on another device.
    """
    if init is not None and (init.shape, init.dtype, init.device) != (x.shape, x.dtype, x.device):
        raise ValueError(
            f"init must match x in shape, dtype and device, got {tuple(init.shape)} {init.dtype} on "
            f"{init.device} for {tuple(x.shape)} {x.dtype} on {x.device}"
        )
