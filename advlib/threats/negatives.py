"""Negative images (Hosseini et al., 2017, arXiv:1703.06857)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advlib.threats.images import check_bounds, check_within


@dataclass(frozen=True)
class Negative:
    """The input and its negative, bright for dark: a threat model that is no norm ball.

    People know an object on a negative, and its shape is the same, so a model that does not has learned colors. Its
    attack is :func:`~advlib.attacks.negative`.

    Args:
        bounds: Lowest and highest value of a feature, whose sum minus ``x`` is the negative.

    Raises:
        TypeError: If the bounds are no two numbers.
        ValueError: If they are infinite or not in order.

    Example:
        >>> Negative().apply(torch.tensor([[0.0, 0.25]]))
        tensor([[1.0000, 0.7500]])
    """

    bounds: tuple[float, float] = (0.0, 1.0)

    attack: ClassVar[str] = "advlib.negative"

    def __post_init__(self) -> None:
        check_bounds(self.bounds)

    def check(self, x: Tensor) -> None:
        """Checks that the inputs lie within the bounds.

        Raises:
            ValueError: If they do not.
        """
        check_within(x, self.bounds)

    def apply(self, x: Tensor) -> Tensor:
        """The negative of inputs ``(N, ...)``."""
        low, high = self.bounds
        return torch.clamp(low + high - x, low, high)

    def contains(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Tells which rows are the input or its negative, ``(N,)`` bool."""
        same, turned = ((x_adv == point).flatten(1).all(1) for point in (x, self.apply(x)))
        return same | turned
