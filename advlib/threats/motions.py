"""Rotations and translations (Engstrom et al., 2017, arXiv:1712.02779)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from advlib.threats.base import tensor_like
from advlib.threats.images import check_images, check_share, pixels, sampled, turned


@dataclass(frozen=True)
class Spatial:
    """Images turned around their middle, then shifted: a threat model that is no norm ball.

    What moves in from outside is 0, black where inputs are in [0, 1], as in the paper. Between pixels images are
    interpolated bilinearly, so values stay between 0 and those of ``x``. Its attack is :func:`~advlib.attacks.spatial`.

    Args:
        rotation: Largest angle, in degrees, either way. (30 in the paper.)
        translation: Largest shift, in pixels, each of up, down, left and right. (3 in the paper on MNIST and CIFAR-10,
            24 on ImageNet.)

    Raises:
        TypeError: If one is no number.
        ValueError: If ``rotation`` is not in [0, 180], or ``translation`` negative or not finite.

    Example:
        >>> x = torch.eye(3).reshape(1, 1, 3, 3)
        >>> Spatial(30, 3).apply(x, angle=0, down=0, across=1)[0, 0]
        tensor([[0., 1., 0.],
                [0., 0., 1.],
                [0., 0., 0.]])
    """

    rotation: float = 30.0
    translation: float = 3.0

    attack: ClassVar[str] = "advlib.spatial"

    def __post_init__(self) -> None:
        check_share("rotation", self.rotation, 180.0, "degrees, in [0, 180]")
        check_share("translation", self.translation, sys.float_info.max, "pixels, finite and at least 0")

    @property
    def limits(self) -> tuple[float, float, float]:
        """The largest angle, shift down and shift across."""
        return self.rotation, self.translation, self.translation

    def check(self, x: Tensor) -> None:
        """Checks that ``x`` are images that a translation leaves something of.

        Raises:
            ValueError: If not.
        """
        check_images(x)
        if self.translation >= min(x.shape[2:]):
            raise ValueError(
                f"translation must be less than the sides of the images, {x.shape[2]}x{x.shape[3]}, got "
                f"{self.translation}: it is in pixels"
            )

    def apply(
        self, x: Tensor, angle: float | Tensor = 0.0, down: float | Tensor = 0.0, across: float | Tensor = 0.0
    ) -> Tensor:
        """Turned and shifted images, differentiable in everything; with zeros, exactly ``x``.

        The limits of this threat model are not looked at.

        Args:
            x: Images, ``(N, C, H, W)``.
            angle: Degrees, counterclockwise: a number, or one per row, ``(N,)``.
            down: Pixels, likewise.
            across: Pixels to the right, likewise.
        """
        check_images(x)
        turn, *shifts = (tensor_like(value, x) for value in (angle, down, across))
        middle = [(side - 1) / 2 for side in x.shape[2:]]
        below, beside = (at - (mid + by.view(-1, 1, 1)) for at, mid, by in zip(pixels(x), middle, shifts, strict=True))
        below, beside = turned((below, beside), turn)
        whole = (len(x), *x.shape[2:])
        return sampled(x, ((below + middle[0]).expand(whole), (beside + middle[1]).expand(whole)))
