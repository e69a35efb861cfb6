"""What every norm ball has in common."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from advlib.kernels.looks import may_look, may_wait
from advlib.noise import Noise

Self = TypeVar("Self", bound="Threat")
Bounds = tuple["float | Tensor", "float | Tensor"]


def tensor_like(value: float | Tensor, like: Tensor) -> Tensor:
    """A number or tensor as a tensor with the dtype and device of ``like``, rounded once, to that dtype."""
    if isinstance(value, (int, float)):  # a tuple, since the compiler of torch 2.6 cannot trace a union
        return like.new_full((), value)  # written on the device: a copy from the host would wait for it
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def taken(value: float | Tensor, index: Tensor) -> float | Tensor:
    """The rows ``index`` of what has rows, the whole of what all rows share."""
    return value[index] if isinstance(value, Tensor) and value.ndim and len(value) > 1 else value


def column(value: Tensor, like: Tensor) -> Tensor:
    """Shapes one number per row, or one for all, so that it broadcasts against ``like``, ``(N, ...)``."""
    return value.reshape(-1, *[1] * (like.ndim - 1))


def rounding(x: Tensor) -> Tensor:
    """What rounding may make of a feature, ``(N, 1, ...)``: eight units in the last place of a row's largest."""
    return 8 * torch.finfo(x.dtype).eps * column(x.flatten(1).abs().amax(1), x)


def clamp(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``torch.clamp``, in a third of its time on a CPU where neighboring features share their bounds, or less."""
    if not low.ndim and not high.ndim and may_look(low):
        return torch.clamp(value, low.item(), high.item())
    if value.device.type != "cpu" or any(bound.ndim and bound.shape[-1] > 1 for bound in (low, high)):
        return torch.clamp(value, low, high)
    return torch.clamp_min(value, low).clamp_max_(high)


def choose(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """``torch.where`` with one condition per row, in half of its time on a CPU."""
    return blend(column(condition.to(yes.dtype), yes), yes, no)


def blend(share: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """``yes`` where ``share`` is 1 and ``no`` where it is 0, as ``torch.where``, in half of its time on a CPU."""
    if may_look(share):
        blended = torch.lerp(no, yes, share)  # exactly one or the other, where both are finite
        if math.isfinite(blended.sum().item()):
            return blended
    return torch.where(share > 0, yes, no)


@dataclass(frozen=True)
class Threat(ABC):
    """The points that the adversary may choose: a ball around ``x``, within bounds, where the mask allows.

    Args:
        eps: Radius of the ball: a number, or a tensor ``(N,)`` with one radius per row. ``inf`` is allowed.
        bounds: Lowest and highest value of a feature: numbers, tensors that broadcast against the features
            (or, with a leading row dimension, against the batch), or None.
        mask: Boolean tensor, True where a feature may change; shaped as the tensors in ``bounds``.
        bound: True on the result of :meth:`at` only.

    Raises:
        ValueError: If ``eps`` is negative or NaN, or the bounds are not in order.
        TypeError: If ``eps``, ``bounds`` or ``mask`` are of another type.
    """

    eps: float | Tensor
    bounds: Bounds | None = (0.0, 1.0)
    mask: Tensor | None = None
    bound: bool = dataclasses.field(default=False, repr=False, kw_only=True)

    p: ClassVar[float]  # the norm's order

    def __post_init__(self) -> None:
        if self.bound:  # made by `at` from a threat that was checked
            return
        name = type(self).__name__
        boolean = isinstance(self.eps, bool) or (isinstance(self.eps, Tensor) and self.eps.dtype == torch.bool)
        if boolean or not isinstance(self.eps, int | float | Tensor):
            raise TypeError(f"eps must be a number or a tensor of shape (N,), got {self.eps!r}: {name}(0.1)")
        eps = torch.as_tensor(self.eps)
        if eps.ndim > 1 or eps.isnan().any() or (eps < 0).any():
            raise ValueError(
                f"eps must be a number >= 0 or one per row, got {self.eps}: give the radius of the ball, in "
                "the units of x (8/255 for 8 grey levels on inputs in [0, 1])"
            )
        if self.bounds is not None:
            if not isinstance(self.bounds, tuple | list) or len(self.bounds) != 2:
                raise TypeError(f"bounds must be a pair (low, high) or None, got {self.bounds!r}")
            low, high = (torch.as_tensor(bound) for bound in self.bounds)
            if not (low.to(high.device) <= high).all():
                raise ValueError(f"bounds must be in order, low <= high, got {self.bounds}: swap them")
        if self.mask is not None and (not isinstance(self.mask, Tensor) or self.mask.dtype != torch.bool):
            raise TypeError("mask must be a boolean tensor, True where a feature may change: mask.bool()")

    # -- binding to a batch ------------------------------------------------------------------------------

    def aligned(self: Self, x: Tensor) -> Self:
        """The same threat with a leading row dimension on every tensor (1 where all rows share it).

        Raises:
            ValueError: If a tensor does not fit ``x``.
        """

        def fit(name: str, value: Tensor) -> Tensor:
            value = value.to(x.device) if value.dtype == torch.bool else value.to(x)
            value = value.reshape(*[1] * (x.ndim - value.ndim), *value.shape)
            if value.ndim != x.ndim or any(a not in (1, b) for a, b in zip(value.shape, x.shape, strict=True)):
                raise ValueError(
                    f"{name} must broadcast against x of shape {tuple(x.shape)}, got shape "
                    f"{tuple(value.shape)}: give one value per feature, or per row and feature"
                )
            return value

        eps, bounds, mask = self.eps, self.bounds, self.mask
        if isinstance(eps, Tensor):
            eps = eps.to(x).reshape(-1)
            if len(eps) not in (1, len(x)):
                raise ValueError(f"eps must hold one radius per row of x, got {len(eps)} for {len(x)} rows")
        if bounds is not None and any(isinstance(value, Tensor) for value in bounds):
            low, high = (fit("bounds", tensor_like(value, x)) for value in bounds)
            bounds = (low, high)
        if mask is not None:
            mask = fit("mask", mask)
        return dataclasses.replace(self, eps=eps, bounds=bounds, mask=mask)

    def at(self: Self, x: Tensor) -> Self:
        """The same threat bound to the batch ``x``: what does not depend on ``x_adv`` is computed once."""
        threat = self.aligned(x)
        return dataclasses.replace(threat, bounds=threat.limits(x), mask=None, bound=True)

    def rows(self: Self, index: Tensor) -> Self:
        """The same threat for the rows ``index``; call it on the result of :meth:`at` or :meth:`aligned`."""
        mask = None if self.mask is None else self.mask[index] if len(self.mask) > 1 else self.mask
        bounds = None if self.bounds is None else (taken(self.bounds[0], index), taken(self.bounds[1], index))
        return dataclasses.replace(self, eps=taken(self.eps, index), bounds=bounds, mask=mask)

    def resized(self: Self, eps: float | Tensor) -> Self:
        """The same threat, bound or not, with another radius."""
        return dataclasses.replace(self, eps=eps)

    @property
    def endless(self) -> bool:
        """Whether the ball is the whole space."""
        return not isinstance(self.eps, Tensor) and self.eps == math.inf

    def limits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of each feature by bounds and mask, whatever ``eps``."""
        if self.bound:
            return self.bounds  # type: ignore[return-value]
        threat = self.aligned(x)
        low, high = threat.bounds if threat.bounds is not None else (-math.inf, math.inf)
        low, high = tensor_like(low, x), tensor_like(high, x)
        if threat.mask is not None:
            low, high = torch.where(threat.mask, low, x), torch.where(threat.mask, high, x)
        return low, high

    def box(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest allowed value of each feature, as far as features can be told one by one."""
        return self.limits(x)

    # -- the geometry ------------------------------------------------------------------------------------

    @abstractmethod
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The point of ball ∩ bounds ∩ mask nearest to ``x_adv`` in the Euclidean distance, row by row.

        Args:
            x_adv: ``(N, ...)`` points.
            x: ``(N, ...)`` centres, within the bounds.
        """

    @abstractmethod
    def steepest(self, grad: Tensor, x_adv: Tensor | None = None) -> Tensor:
        """The unit step along ``grad`` in this norm, row by row; zero where ``grad`` is zero.

        Args:
            grad: ``(N, ...)`` finite gradients.
            x_adv: ``(N, ...)`` where the step starts. Sparse steps then skip features with no room to move.
        """

    def move(self, x_adv: Tensor, grad: Tensor, length: Tensor | float) -> Tensor:
        """The point that a step along the steepest direction leads to, wherever that is.

        Args:
            x_adv: ``(N, ...)`` where the step starts.
            grad: ``(N, ...)`` finite gradients.
            length: ``(N,)`` lengths of the steps in this norm, or one for all.
        """
        direction = self.steepest(grad, x_adv)
        if not isinstance(length, Tensor):
            return torch.add(x_adv, direction, alpha=length)
        return torch.addcmul(x_adv, column(length, direction), direction)

    def step(self, x_adv: Tensor, grad: Tensor, length: Tensor, x: Tensor) -> Tensor:
        """The same point, projected.

        Args:
            x_adv: ``(N, ...)`` where the step starts.
            grad: ``(N, ...)`` finite gradients.
            length: ``(N,)`` lengths of the steps in this norm.
            x: ``(N, ...)`` centres, within the bounds.
        """
        return self.project(self.move(x_adv, grad, length), x)

    @abstractmethod
    def maximize(self, grad: Tensor, x: Tensor) -> Tensor:
        """The point of ball ∩ bounds ∩ mask where the linear function ``<grad, x_adv>`` is largest.

        Features with a zero gradient stay where they are.

        Args:
            grad: ``(N, ...)`` finite gradients.
            x: ``(N, ...)`` centres, within the bounds.

        Raises:
            ValueError: If the maximum is infinite: ``eps=inf`` without bounds.
        """

    def reach(self, grad: Tensor, rise: Tensor, x_adv: Tensor) -> Tensor:
        """The point nearest to ``x_adv`` where the linear function ``<grad, .>`` is higher by ``rise``.

        Nearest in this norm, and within bounds and mask; the ball plays no part. Where the bounds do not let it rise so
        far, the point where it is highest. Features with a zero gradient stay where they are.

        Args:
            grad: ``(N, ...)`` finite gradients.
            rise: ``(N,)`` how far the linear function is to rise, or fall where negative.
            x_adv: ``(N, ...)`` where it starts, within bounds and mask.
        """
        # torch.where takes as long as ten of these products
        low, high = self.limits(x_adv)
        numbers = torch.finfo(grad.dtype)
        way = grad.sign() * column(rise, grad).sign()
        space = way * torch.clamp(way * numbers.max, low - x_adv, high - x_adv)
        size = grad.abs() * space.sign()
        largest = size.flatten(1).amax(1).clamp_min(numbers.tiny)
        magnitude = size / column(largest, size)  # neither its squares nor its sums under- or overflow
        total = column((rise.abs() / largest).clamp_max(numbers.max), size)
        capacity = torch.minimum(space, total / magnitude.clamp_min(numbers.tiny))  # enough to do all of it alone
        change = self._least_change(magnitude, capacity, total) * way
        return clamp(x_adv + change, low, high)

    @abstractmethod
    def _least_change(self, magnitude: Tensor, capacity: Tensor, rise: Tensor) -> Tensor:
        """The smallest changes up to ``capacity`` with which ``magnitude`` sums to ``rise``, or to the most there is.

        Args:
            magnitude: ``(N, ...)`` non-negative gradients, the largest of each row 1.
            capacity: ``(N, ...)`` non-negative limits, none beyond ``rise / magnitude``.
            rise: ``(N, 1, ...)`` non-negative.
        """

    @abstractmethod
    def _sample_ball(self, x: Tensor, free: Tensor, noise: Noise) -> Tensor:
        """Points uniform in the ball around ``x`` over the ``free`` features, ``(N, ...)`` bool; bounds aside."""

    @abstractmethod
    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """``(N,)`` distances in this threat's norm, to a few units in the last place."""

    def sample(self, x: Tensor, noise: Noise) -> Tensor:
        """Points uniform in the ball, brought within the bounds feature by feature.

        Raises:
            ValueError: If ``eps`` is infinite.
        """
        if may_wait() and bool(torch.isinf(torch.as_tensor(self.eps)).any()):
            raise ValueError(
                f"a uniform point of the {type(self).__name__} ball needs a finite eps, got {self.eps}: give eps a "
                "number, or start from x (random_start=False)"
            )
        low, high = self.box(x)
        return clamp(self._sample_ball(x, (low < high).expand_as(x), noise), low, high)

    def radius(self, x: Tensor) -> Tensor:
        """``eps`` as a tensor that broadcasts against ``x``."""
        return column(tensor_like(self.eps, x), x)

    def scale(self, x: Tensor) -> Tensor:
        """``(N,)`` the length that default step sizes are measured in: ``eps`` in most norms.

        Raises:
            ValueError: If it is infinite.
        """
        eps = self.radius(x).flatten().expand(len(x))
        if may_wait() and bool(eps.isinf().any()):
            raise ValueError(f"step_size=None needs a finite eps, got {self.eps}: give step_size a number")
        return eps

    def contains(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Tells which rows lie inside ball ∩ bounds ∩ mask: ``(N,)`` bool.

        Bounds and mask are held exactly. The distance may exceed ``eps`` by the rounding of
        ``x + perturbation`` alone, half a unit in the last place of each feature, and by a few units in the last
        place of ``eps``: ``u * (4 eps + max(|x_adv|) * D ** (1 / p))`` with ``u`` the dtype's machine epsilon and
        ``D`` the number of features. For Linf and float32 inputs in [0, 1] that is 1.2e-7. NaN and infinite
        values are outside.
        """
        beyond = clamp(x_adv, *self.limits(x)) - x_adv  # comparisons would take five times as long
        inside = beyond.flatten(1).abs().amax(1) == 0  # the amax of a row with a NaN is NaN
        return inside & self.holds(x_adv, x)

    def holds(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Tells which rows lie inside the ball, as :meth:`contains` does: ``(N,)`` bool."""
        distance = self._exact_distance(x_adv, x)
        return distance <= (math.inf if self.endless else self._radius_with_rounding(x_adv))

    def _exact_distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """``(N,)`` distances in this threat's norm, accumulated in float64."""
        return self.distance(x_adv, x)

    def _radius_with_rounding(self, x_adv: Tensor) -> Tensor:
        unit = torch.finfo(x_adv.dtype).eps
        features = math.prod(x_adv.shape[1:])
        largest = x_adv.flatten(1).abs().amax(1)
        eps = tensor_like(self.eps, x_adv)
        rounding: Tensor = unit * (4 * eps + largest * features ** (1 / self.p))
        return eps + rounding

    def check(self, x: Tensor) -> None:
        """Checks that the clean inputs lie within the bounds.

        Raises:
            ValueError: If they do not, with what to do about it.
        """
        if self.bounds is None:
            return
        low, high = (tensor_like(bound, x) for bound in self.aligned(x).bounds or ())
        if not bool(((x >= low) & (x <= high)).all()):
            raise ValueError(
                f"x has values in [{x.min():.6g}, {x.max():.6g}], outside the bounds "
                f"({low.min():.6g}, {high.max():.6g}): put normalisation inside the model with "
                f"advlib.models.Normalize, give the threat model the right bounds, or clamp x if it is rounding"
            )


def room(grad: Tensor, x: Tensor, box: tuple[Tensor, Tensor]) -> Tensor:
    """How far each feature may move from ``x`` along the sign of ``grad`` before it meets the box."""
    low, high = box
    way = torch.copysign(torch.ones((), dtype=grad.dtype, device=grad.device), grad)  # a fourth of torch.where's time
    return torch.maximum((high - x).mul_(way), (low - x).mul_(way))


def normalized(grad: Tensor) -> Tensor:
    """Each row divided by its largest entry, so that no square under- or overflows; zero rows stay zero."""
    largest = grad.flatten(1).abs().amax(1)
    return grad / column(torch.where(largest > 0, largest, 1), grad)
