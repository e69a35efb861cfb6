"""The L0 ball: at most eps features, or pixels, may change, by any amount within the bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advlib.kernels.looks import may_look, may_wait
from advlib.noise import Noise
from advlib.threats.base import Threat, blend, clamp, column, normalized, room, tensor_like
from advlib.threats.l1 import check_sparsity, largest
from advlib.threats.reach import by_order


@dataclass(frozen=True)
class L0(Threat):
    """Perturbations that change at most ``eps`` features.

    Args:
        sparsity: Share of the features that one steepest step moves, at least one feature.
        per_pixel: Count pixels, ``(N, C, ...)`` inputs' positions across all channels, in place of features.

    Example:
        >>> x, x_adv = torch.zeros(1, 3), torch.tensor([[0.25, 0.75, 0.5]])
        >>> L0(1).project(x_adv, x)
        tensor([[0.0000, 0.7500, 0.0000]])
    """

    sparsity: float = 1.0
    per_pixel: bool = False

    p: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sparsity(self.sparsity)

    def _counted(self, values: Tensor) -> Tensor:
        """Non-negative values per feature to values per counted unit, ``(N, units)``."""
        if not self.per_pixel:
            return values.flatten(1)
        if values.ndim < 3:
            raise ValueError(
                f"per_pixel=True needs inputs of shape (N, C, ...), got {tuple(values.shape)}: count features"
            )
        return values.sum(1).flatten(1)

    def _keep(self, gain: Tensor, like: Tensor) -> Tensor:
        """1 at the features of the ``eps`` units with the largest ``gain``, 0 elsewhere.

        Args:
            gain: ``(N, units)`` non-negative, zero only where it makes no difference whether the unit is kept.
            like: ``(N, ...)`` what the result broadcasts against.
        """
        units = gain.shape[1]
        kept = self.radius(like).flatten(1).floor().clamp_max(units).expand(len(gain), 1).long()
        count = min(int(kept.max()) + 1, units) if may_look(kept) and len(kept) else units
        values = gain.topk(count, dim=1).values
        following = values.gather(1, kept.clamp_max(count - 1))  # what the first unit gains that is not kept
        if may_look(kept):
            keep = torch.gt(gain, following, out=torch.empty_like(gain))  # in an eighth of the time of two steps
            tied = (values.gather(1, (kept - 1).clamp_min_(0)) == following) & (following > 0)
            rows = tied.squeeze(1).nonzero().squeeze(1)
            if len(rows):
                keep.index_copy_(0, rows, _first_of_equals(gain[rows], following[rows], kept[rows]))
        else:
            keep = _first_of_equals(gain, following, kept)
        return keep.reshape(len(like), 1, *like.shape[2:]) if self.per_pixel else keep.reshape(like.shape)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        boxed = clamp(x_adv, *self.box(x))
        wanted, possible = (x_adv - x).abs_(), (boxed - x).abs_()
        most = column(wanted.flatten(1).amax(1), x)  # no product overflows; where it is 0, all may be kept
        wanted, possible = wanted.div_(most), possible.div_(most)
        gain = torch.sub(wanted, possible, alpha=0.5).mul_(possible)  # half of the squared distance that keeping saves
        return blend(self._keep(self._counted(gain), x), boxed, x)

    def steepest(self, grad: Tensor, x_adv: Tensor | None = None) -> Tensor:
        if x_adv is not None:  # a feature at its bound keeps its gradient, by which the projection ranks it
            low, high = self.limits(x_adv)
            grad = torch.where(low < high, grad, 0)
        return largest(normalized(grad), self.sparsity)

    def maximize(self, grad: Tensor, x: Tensor) -> Tensor:
        change = torch.where(grad != 0, room(grad, x, self.box(x)) * grad.sign(), 0)
        if may_wait() and not bool(change.isfinite().all()):
            raise ValueError("a linear function has no maximum over L0 without bounds: give bounds=(low, high)")
        keep = self._keep(self._counted(change * normalized(grad)), x)
        return blend(keep, clamp(x + change, *self.box(x)), x)

    def _least_change(self, magnitude: Tensor, capacity: Tensor, rise: Tensor) -> Tensor:
        gain = self._counted(magnitude * capacity)
        share = by_order(gain, gain, rise.flatten(1))
        shape = (len(capacity), 1, *capacity.shape[2:]) if self.per_pixel else capacity.shape
        return share.reshape(shape) * capacity

    def scale(self, x: Tensor) -> Tensor:
        """``(N,)`` four times the largest width of a row's bounds, since ``eps`` is a count and no length.

        Steps well beyond the bounds let the gradient decide which features stay, not what is there already; four
        widths were best in ``benchmarks/pgd_strength.py``.
        """
        low, high = self.finite_bounds(x)
        return 4 * (high - low).expand_as(x).flatten(1).amax(1)

    def finite_bounds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of each feature.

        Raises:
            ValueError: If there are none.
        """
        low, high = self.limits(x)
        if may_wait() and not bool((low.isfinite() & high.isfinite()).all()):
            raise ValueError(
                "L0 without bounds lets a feature move without limit: give bounds=(low, high), or a step_size "
                "and random_start=False"
            )
        return low, high

    def _sample_ball(self, x: Tensor, free: Tensor, noise: Noise) -> Tensor:
        low, high = self.finite_bounds(x)
        value = low + (high - low) * noise.uniform(x)
        order = self._counted(torch.where(free, 1 + noise.stream(1).uniform(x), 0))
        if self.per_pixel:  # one draw per pixel, not a sum over its channels
            pixel = noise.stream(1).uniform(order)
            order = torch.where(order > 0, 1 + pixel, 0)
        return blend(self._keep(order, x), value, x)

    def changed(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Features that count as changed, ``(N, ...)`` bool: with ``per_pixel``, all those of a changed pixel."""
        changed = x_adv != x
        return changed.any(1, keepdim=True).expand_as(x) if self.per_pixel else changed

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        changed = (x_adv - x).ne_(0)  # several times faster than a count of booleans
        counted = self._counted(changed)
        return (counted.clamp_max(1) if self.per_pixel else counted).sum(1)

    def _radius_with_rounding(self, x_adv: Tensor) -> Tensor:
        return tensor_like(self.eps, x_adv)  # a count: nothing is rounded


def _first_of_equals(gain: Tensor, following: Tensor, kept: Tensor) -> Tensor:
    """1 at the ``kept`` largest of each row, of equal ones the first, else 0; ``following`` is the next largest."""
    above, equal = gain > following, gain == following
    left = kept - above.sum(1, keepdim=True)
    return (above | (equal & (equal.cumsum(1) <= left))).to(gain)
