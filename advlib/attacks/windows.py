"""Windows of a plane, one per row: where the square attack paints, and the pyramids that it paints."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def planes(value: Tensor) -> Tensor:
    """``(N, ...)`` as ``(N, C, H, W)``: the last two dimensions are the plane; features alone are a plane 1 high."""
    if value.ndim == 4:
        return value
    return value.reshape(len(value), -1, value.shape[-2] if value.ndim > 2 else 1, value.shape[-1])


class Span(NamedTuple):
    """Neighboring lines of a plane, others in each row."""

    first: Tensor  # (N, 1) number of the first line
    offset: Tensor  # (N, L) place of each line of the plane, counted from that one
    size: Tensor  # (N, 1) number of lines

    @property
    def inside(self) -> Tensor:
        """Which lines belong to it, ``(N, L)`` bool."""
        return (self.offset >= 0) & (self.offset < self.size)

    def at(self, share: Tensor) -> Tensor:
        """The line, ``(N,)``, at a ``share`` in [0, 1) of the span."""
        line = (share * self.size.squeeze(1)).floor() + self.first.squeeze(1)
        return line.long().clamp_max(self.offset.shape[1] - 1)  # a span without lines may begin beyond the last


def span(length: int, size: Tensor, share: Tensor) -> Span:
    """``size`` of ``length`` lines, ``(N,)``; with ``share`` uniform in [0, 1), each place is as likely."""
    first = (share * (length + 1 - size)).floor().unsqueeze(1)  # no share below 1 is rounded up to a whole
    return Span(first, torch.arange(length, device=size.device) - first, size.unsqueeze(1))


def window(down: Span, across: Span) -> Tensor:
    """The window that two spans cut out, ``(N, 1, H, W)`` bool."""
    return (down.inside.unsqueeze(2) & across.inside.unsqueeze(1)).unsqueeze(1)


def sides(share: Tensor, height: int, width: int, odd: bool) -> tuple[Tensor, Tensor]:
    """Height and width, ``(N,)``, of the windows that cover ``share`` of a plane.

    They are squares, of the nearest whole side, as long as the plane has room for them, and as high or wide as it is
    beyond.

    Args:
        share: ``(N,)`` shares in [0, 1].
        height: Lines of the plane.
        width: Columns of the plane.
        odd: Whether sides are odd and at least 3, so that a pyramid has a top and a foot.
    """
    area = share * (height * width)
    side = area.sqrt().round().clamp_min(1)
    if odd:
        side = (side + 1 - side % 2).clamp_min(3)
    short = min(height, width)
    long = torch.where(side > short, torch.maximum(side, (area / short).round()), side)
    tall, wide = (side, long) if height < width else (long, side)
    return tall.clamp_max(height), wide.clamp_max(width)


def _halved(lines: Span, split: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each line from the middle, and a sign; where split, of the two halves, whose signs differ."""
    first = torch.where(split, lines.size // 2, lines.size)
    second = lines.offset >= first
    place = torch.where(second, lines.offset - first, lines.offset)
    size = torch.where(second, lines.size - first, first)
    return (place - size // 2).abs(), torch.where(second, -1, 1)


def pyramid(down: Span, across: Span, split: Tensor, power: int) -> Tensor:
    """Two pyramids of opposite sign in each window, ``(N, H, W)``, and zeros around (1912.00049, equation 2).

    A pyramid of half width ``n`` is ``1 / (n + 1) ** power`` at its foot, and rises by ``1 / n ** power``, ...,
    ``1 / 1 ** power`` up to its top.

    Args:
        down: Lines of the windows.
        across: Columns of the windows.
        split: ``(N, 1)`` bool, whether one pyramid is above the other, in place of beside it.
        power: 2 in the paper.
    """
    (far_down, sign_down), (far_across, sign_across) = _halved(down, split), _halved(across, ~split)
    longest = max(down.offset.shape[1], across.offset.shape[1])
    steps = torch.arange(longest + 2, device=split.device).to(down.size).pow(-power)
    steps[0] = 0
    heights = steps.cumsum(0)  # below the top, from the distance to it
    top = heights[(torch.maximum(down.size, across.size) // 2 + 1).long()].unsqueeze(2)
    below_down, below_across = (heights[far.clamp_max(longest).long()] for far in (far_down, far_across))
    level = top - torch.maximum(below_down.unsqueeze(2), below_across.unsqueeze(1))
    return level * (down.inside * sign_down).unsqueeze(2) * (across.inside * sign_across).unsqueeze(1)


class Tiles(NamedTuple):
    """Lines in equal groups, with what is left over on both sides."""

    span: Span  # of one row: each line's place in its tile, -1 for a line of none
    tile: Tensor  # (L,) each line's tile
    number: int  # of tiles


def tiles(length: int, like: Tensor) -> Tiles:
    """Tiles of a fifth of the length, as in the authors' implementation, with numbers like ``like``."""
    size = max(1, length // 5)
    number = length // size
    place = torch.arange(length, device=like.device) - (length - number * size) // 2
    offset = torch.where((place >= 0) & (place < number * size), place % size, -1)
    one = Span(like.new_zeros(1, 1), offset.unsqueeze(0).to(like), like.new_full((1, 1), size))
    return Tiles(one, (place // size).clamp(0, number - 1), number)
