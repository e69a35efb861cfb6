"""Images resampled between their pixels, exactly where no interpolation is needed, and what threats on them check."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from advlib.threats.linf import Linf

Coordinates = tuple[Tensor, Tensor]  # (N, H, W) each: how far down and how far across, in pixels


def sampled(images: Tensor, at: Coordinates) -> Tensor:
    """Images at coordinates between their pixels, ``(N, C, H, W)``: bilinear, and 0 outside.

    At whole coordinates these are the pixels themselves, without rounding.

    Args:
        images: ``(N, C, ...)`` images, of any height and width.
        at: Where they are looked at, counted from the first pixel.
    """
    # grid_sample measures in halves of the sides less one, so where these are powers of two it rounds nothing
    height, width = (_power_of_two(side - 1) for side in images.shape[2:])
    padded = functional.pad(images, (0, width + 1 - images.shape[3], 0, height + 1 - images.shape[2]))
    down, across = at
    grid = torch.stack([across * (2 / width) - 1, down * (2 / height) - 1], dim=3)
    return functional.grid_sample(padded, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def turned(at: Coordinates, angle: Tensor) -> Coordinates:
    """Where the points ``at``, counted from the middle, came from when they were turned by ``angle``.

    Args:
        at: How far down and across from the middle.
        angle: ``(N,)`` degrees, counterclockwise.
    """
    radians = (angle.double() * (math.pi / 180)).view(-1, 1, 1)
    cos, sin = radians.cos().to(angle.dtype), radians.sin().to(angle.dtype)
    down, across = at
    return cos * down + sin * across, cos * across - sin * down


def pixels(like: Tensor) -> Coordinates:
    """The coordinates of the pixels of images ``(N, C, H, W)``, that broadcast against ``(N, H, W)``."""
    down = torch.arange(like.shape[2], dtype=like.dtype, device=like.device).view(1, -1, 1)
    across = torch.arange(like.shape[3], dtype=like.dtype, device=like.device).view(1, 1, -1)
    return down, across


def check_images(x: Tensor) -> None:
    """Checks that ``x`` are images ``(N, C, H, W)``.

    Raises:
        ValueError: If they are not.
    """
    if x.ndim != 4:
        raise ValueError(f"x must be images (N, C, H, W), got shape {tuple(x.shape)}: reshape it, or use a norm ball")


def check_share(name: str, value: object, largest: float, what: str) -> None:
    """Checks that a setting is a number from 0 to ``largest``.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is NaN, negative or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of {what}, got {value!r}")
    if not 0 <= value <= largest:
        raise ValueError(f"{name} must be {what}, got {value}")


def check_bounds(bounds: object) -> None:
    """Checks that bounds are two finite numbers in order.

    Raises:
        TypeError: If they are no two numbers.
        ValueError: If they are infinite, NaN or not in order.
    """
    if not isinstance(bounds, tuple) or len(bounds) != 2 or not all(isinstance(end, int | float) for end in bounds):
        raise TypeError(f"bounds must be two numbers (low, high), got {bounds!r}: bounds=(0.0, 1.0)")
    if not -math.inf < bounds[0] < bounds[1] < math.inf:
        raise ValueError(f"bounds must be finite and in order, low < high, got {bounds}: bounds=(0.0, 1.0)")


def check_within(x: Tensor, bounds: tuple[float, float]) -> None:
    """Checks that the inputs lie within the bounds.

    Raises:
        ValueError: If they do not.
    """
    Linf(0.0, bounds=bounds).check(x)


def _power_of_two(length: int) -> int:
    """The smallest power of two that is no less."""
    return 1 << max(length - 1, 0).bit_length()
