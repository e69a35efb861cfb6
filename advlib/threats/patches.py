"""Patches: a window of each image is the adversary's (Brown et al., 2017, arXiv:1712.09665)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advlib.noise import Key, Noise
from advlib.threats.images import check_bounds, check_images, check_share, check_within, pixels, sampled, turned

_ROUNDING = 1e-4  # of a pixel: coordinates of turned patches are rounded


class Placement(NamedTuple):
    """How a patch lies on each image.

    Example:
        >>> upright = Placement(*torch.tensor([[1.0], [2.0], [0.0], [1.0]]))
        >>> Patch(2).apply(torch.zeros(1, 1, 3, 5), torch.ones(1, 2, 2), upright)[0, 0]
        tensor([[0., 0., 0., 0., 0.],
                [0., 0., 1., 1., 0.],
                [0., 0., 1., 1., 0.]])
    """

    top: Tensor  # (N,) the first row of pixels that it covers when upright and of full size
    left: Tensor  # (N,) the first column
    angle: Tensor  # (N,) degrees by which it is turned around its middle, counterclockwise
    scale: Tensor  # (N,) its size around the same middle, as a share of the full one


@dataclass(frozen=True)
class Patch:
    """A rectangle of any content that lies somewhere on the image: a threat model that is no norm ball.

    Its attacks are :func:`~advlib.attacks.patch`, with a patch for each image, and
    :func:`~advlib.attacks.universal_patch`, with one for all.

    Args:
        size: Side of a square in pixels, or height and width.
        location: Row and column of its first pixel; None for anywhere.
        rotation: Largest angle by which it is turned, in degrees, either way.
        scale: Smallest size that it has, as a share of ``size``.
        bounds: Lowest and highest value of its pixels.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If a side is below 1, a location negative, ``rotation`` not in [0, 180], ``scale`` not in (0, 1], or
            the bounds infinite or not in order.

    Example:
        >>> x, white = torch.zeros(1, 1, 3, 4), torch.ones(1, 2, 2)
        >>> Patch(2, location=(1, 0)).apply(x, white)[0, 0]
        tensor([[0., 0., 0., 0.],
                [1., 1., 0., 0.],
                [1., 1., 0., 0.]])
    """

    size: int | tuple[int, int]
    location: tuple[int, int] | None = None
    rotation: float = 0.0
    scale: float = 1.0
    bounds: tuple[float, float] = (0.0, 1.0)

    attack: ClassVar[str] = "advlib.patch, or advlib.universal_patch"

    def __post_init__(self) -> None:
        _check_pair("size", self.sides, 1, "Patch(5), or Patch((4, 6)) for height and width")
        if self.location is not None:
            _check_pair("location", self.location, 0, "the row and column of the first pixel, location=(0, 0)")
        check_share("rotation", self.rotation, 180.0, "degrees, in [0, 180]")
        check_share("scale", self.scale, 1.0, "a share of size, in (0, 1]")
        if self.scale == 0:
            raise ValueError("scale must be a share of size, in (0, 1], got 0: 1.0 for a patch of one size")
        check_bounds(self.bounds)

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def check(self, x: Tensor) -> None:
        """Checks that ``x`` are images within the bounds that the patch fits on.

        Raises:
            ValueError: If they are not.
        """
        check_images(x)
        ends = [first + side for first, side in zip(self.location or (0, 0), self.sides, strict=True)]
        if ends[0] > x.shape[2] or ends[1] > x.shape[3]:
            raise ValueError(
                f"the patch must lie on the images, which are {x.shape[2]}x{x.shape[3]}, got {self}: make it smaller"
            )
        check_within(x, self.bounds)

    def placement(self, x: Tensor, unit: Tensor) -> Placement:
        """The placement that four numbers in [-1, 1] stand for: row, column, angle and scale.

        Args:
            x: The images, ``(N, C, H, W)``.
            unit: ``(N, 4)``. With uniform numbers, each place, angle and scale is as likely.
        """
        share = (unit + 1) / 2
        rooms = [have - side for have, side in zip(x.shape[2:], self.sides, strict=True)]
        places = [(part * (room + 1)).floor().clamp_max(room) for part, room in zip(share.T, rooms, strict=False)]
        if self.location is not None:
            places = [torch.full_like(place, at) for place, at in zip(places, self.location, strict=True)]
        top, left = places
        return Placement(top, left, self.rotation * unit[:, 2], self.scale + (1 - self.scale) * share[:, 3])

    def placements(self, x: Tensor, generator: torch.Generator | None = None) -> Placement:
        """A random placement for each image, every one that is allowed as likely."""
        noise = Noise(Key(generator), torch.arange(len(x), device=x.device))
        return self.placement(x, 2 * noise.uniform(x.new_empty(len(x), 4)) - 1)

    def apply(self, x: Tensor, patch: Tensor, placement: Placement | None = None) -> Tensor:
        """Images with the patch on them, differentiable in the patch.

        Args:
            x: Images, ``(N, C, H, W)``.
            patch: ``(C, height, width)`` for all, or ``(N, C, height, width)``. What is beyond the bounds is clamped.
            placement: How it lies; None draws :meth:`placements` from torch's global generator.
        """
        check_images(x)
        top, left, angle, scale = self.placements(x) if placement is None else placement
        half = [(side - 1) / 2 for side in self.sides]
        far = [at - (first.view(-1, 1, 1) + mid) for at, first, mid in zip(pixels(x), (top, left), half, strict=True)]
        down, across = (at / scale.view(-1, 1, 1) for at in turned((far[0], far[1]), angle))
        inside = (down.abs() <= half[0] + 0.5) & (across.abs() <= half[1] + 0.5)
        at = (down.clamp(-half[0], half[0]) + half[0], across.clamp(-half[1], half[1]) + half[1])
        whole = (len(x), *x.shape[2:])
        looked_up = sampled(patch.to(x).expand(len(x), -1, -1, -1), (at[0].expand(whole), at[1].expand(whole)))
        return torch.lerp(x, looked_up.clamp(*self.bounds), inside.unsqueeze(1).to(x.dtype))  # exactly one of them

    def contains(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Tells on which rows all changes lie in one window, within the bounds: ``(N,)`` bool.

        The window is that of the patch, or of the patch at its widest where it may be turned.
        """
        changed = (x_adv != x).any(1)
        fits = ((x_adv >= self.bounds[0]) & (x_adv <= self.bounds[1])).flatten(1).all(1)
        for lines, side, other, first in zip(
            (changed.any(2), changed.any(1)), self.sides, self.sides[::-1], self.location or (None, None), strict=True
        ):
            place = torch.arange(lines.shape[1], device=x.device)
            # at an angle a the patch is side * cos(a) + other * sin(a) high, most where the tangent is other / side
            widest = math.atan2(other, side)
            long = math.hypot(side, other) * math.cos(widest - min(widest, math.radians(self.rotation))) + _ROUNDING
            if first is None:
                last = torch.where(lines, place, -1).amax(1)
                span = last - torch.where(lines, place, lines.shape[1]).amin(1) + 1
                fits = fits & (span <= (int(long) + 1 if self.rotation else side))
            else:
                beyond = (place - (first + (side - 1) / 2)).abs() > long / 2
                fits = fits & ~(lines & beyond).any(1)
        return fits


def _check_pair(name: str, pair: object, least: int, example: str) -> None:
    whole = isinstance(pair, tuple) and len(pair) == 2 and all(type(value) is int for value in pair)
    if not whole:
        raise TypeError(f"{name} must be whole numbers of pixels, got {pair!r}: {example}")
    if min(pair) < least:  # type: ignore[call-overload]
        raise ValueError(f"{name} must be at least {least} pixels, got {pair!r}: {example}")
