"""Input transforms of blocks: each image is cut at random places, and something happens to every block."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from advlib.checks import check_counts
from advlib.noise import Noise
from advlib.transforms.images import Transform, as_images, cosines, draw, interpolation, on_lines, places


def _lengths(chance: Tensor, side: int) -> Tensor:
    """Cuts a line into parts, none twice as long as another but for rounding: from ``(..., parts)`` in [0, 1)."""
    ends = (1 + chance).cumsum(-1)
    ends = (ends * (side / ends[..., -1:])).round().long()
    return torch.diff(ends, dim=-1, prepend=torch.zeros_like(ends[..., :1]))


def _part_of(lengths: Tensor, side: int) -> Tensor:
    """``(..., side)`` which part each pixel of a line belongs to."""
    place = torch.arange(side, device=lengths.device)
    return (place[:, None] >= lengths.cumsum(-1)[..., None, :-1]).sum(-1)


def _rearranged(lengths: Tensor, order: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Puts the parts of lines, ``(..., parts)``, in another order.

    Returns:
        ``(..., side)`` which part comes to lie at each pixel, and which pixel of the line before.
    """
    after = lengths.gather(-1, order)
    slot = _part_of(after, side)
    part = order.gather(-1, slot)
    moved = (lengths.cumsum(-1) - lengths).gather(-1, part) - (after.cumsum(-1) - after).gather(-1, slot)
    return part, torch.arange(side, device=lengths.device) + moved


def _at(values: Tensor, index: Tensor) -> Tensor:
    """What rows of values, ``(N, ...)`` numbered in order, hold at ``index``, ``(N, H, W)``."""
    return values.flatten(1).gather(1, index.flatten(1)).reshape(index.shape)


def _span(lengths: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last pixel of the parts ``index`` of lines."""
    last = lengths.cumsum(-1) - 1
    return _at(last - lengths + 1, index), _at(last, index)


def block_shuffle(blocks: int = 2, angle: float = 24.0) -> Transform:
    """Cuts the image into blocks, shuffles them and turns each a little (BSR, Wang et al., 2308.10299).

    Strips are shuffled, and within each its blocks. What a turned block leaves uncovered is zero.

    Args:
        blocks: How many along each side (2, as in section 4.1 of the paper).
        angle: The largest angle, in degrees (24, as in section 4.1 of the paper).

    Raises:
        ValueError: If ``blocks`` is no whole number of at least 1.

    Example:
        >>> x_adv = mim(model, x, y, Linf(0.1), gradient=averaged([block_shuffle()] * 4))
    """
    check_counts(blocks=blocks)

    def transform(x: Tensor, noise: Noise) -> Tensor:
        images = as_images(x)
        height, width = images.shape[2:]
        tall, wide = _lengths(draw(noise, 0, x, blocks), height), _lengths(draw(noise, 1, x, blocks, blocks), width)
        turn = (2 * draw(noise, 2, x, blocks, blocks) - 1) * math.radians(angle)
        strip, row = _rearranged(tall, draw(noise, 3, x, blocks).argsort(1), height)
        part, column = _rearranged(wide, draw(noise, 4, x, blocks, blocks).argsort(2), width)

        # for each pixel, from which strip, block and place comes what is to lie there
        strip = strip[:, :, None].expand(-1, -1, width)
        block, column = strip * blocks + part.gather(1, strip), column.gather(1, strip)
        (top, bottom), (left, right) = _span(tall, strip), _span(wide, block)
        down, across = row[:, :, None] - (top + bottom) / 2, column - (left + right) / 2
        sine, cosine = _at(turn, block).sin(), _at(turn, block).cos()
        y = (top + bottom) / 2 + cosine * down - sine * across
        z = (left + right) / 2 + sine * down + cosine * across
        inside = (y > top - 0.5) & (y < bottom + 0.5) & (z > left - 0.5) & (z < right + 0.5)
        y, z = y.clamp(top, bottom), z.clamp(left, right)  # nothing is read from the block beside
        grid = torch.stack([(2 * z + 1) / width - 1, (2 * y + 1) / height - 1], dim=3)
        return (functional.grid_sample(images, grid, align_corners=False) * inside[:, None]).reshape(x.shape)

    return transform


def block_structure(blocks: int = 3, radius: float = 16 / 255) -> Transform:
    """Cuts the image into blocks and does one of ten things to each (SIA, Wang et al., 2309.14700).

    A block is shifted around itself vertically or horizontally, flipped vertically, horizontally or both, scaled by a
    random factor, made coarser by 0.8 or bare of its 40 % highest frequencies (both taken from the whole image so
    changed), or noise is added, or a tenth of its pixels are dropped.

    Args:
        blocks: How many along each side (3, as in section 4.1 of the paper).
        radius: Largest noise that is added (16/255, the paper's ``eps``).

    Raises:
        ValueError: If ``blocks`` is no whole number of at least 1.

    Example:
        >>> x_adv = mim(model, x, y, Linf(0.1), gradient=averaged([block_structure()] * 4))
    """
    check_counts(blocks=blocks)

    def transform(x: Tensor, noise: Noise) -> Tensor:
        images = as_images(x)
        height, width = images.shape[2:]
        tall, wide = _lengths(draw(noise, 0, x, blocks), height), _lengths(draw(noise, 1, x, blocks), width)
        strip = _part_of(tall, height)[:, :, None].expand(-1, -1, width)
        part = _part_of(wide, width)[:, None].expand(-1, height, -1)
        block = strip * blocks + part
        kind = _at((10 * draw(noise, 2, x, blocks, blocks)).long(), block)
        amount, chance = _at(draw(noise, 3, x, blocks, blocks), block), as_images(draw(noise, 4, x, *x.shape[1:]))

        row = _within(_span(tall, strip), kind == 0, (kind == 2) | (kind == 4), amount, 1)
        column = _within(_span(wide, part), kind == 1, (kind == 3) | (kind == 4), amount, 2)
        source = (row * width + column).flatten(1)[:, None].expand(-1, images.shape[1], -1)
        moved = images.flatten(2).gather(2, source).reshape(images.shape)
        kind, amount = kind[:, None], amount[:, None]
        moved = torch.where(kind == 5, amount * moved, moved)
        moved = torch.where(kind == 6, on_lines(images, *(_coarser(side, x) for side in (height, width))), moved)
        moved = torch.where(kind == 7, on_lines(images, *(_smoother(side, x) for side in (height, width))), moved)
        moved = torch.where(kind == 8, moved + radius * (2 * chance - 1), moved)
        return torch.where(kind == 9, moved * (chance >= 0.1) / 0.9, moved).reshape(x.shape)

    return transform


def _within(span: tuple[Tensor, Tensor], shifted: Tensor, flipped: Tensor, amount: Tensor, dim: int) -> Tensor:
    """``(N, H, W)`` the pixel of its block's span that each pixel takes its value from, along one dimension."""
    first, last = span
    place = torch.arange(first.shape[dim], device=first.device)
    place = place[:, None] if dim == 1 else place
    length = last - first + 1
    shift = (amount * length).long() * shifted
    return torch.where(flipped, first + last - place, first + (place - first + shift) % length)


def _coarser(side: int, like: Tensor) -> Tensor:
    """The map of lines to 0.8 of their pixels, and back."""
    small = int(0.8 * side) + 1
    there = interpolation((places(small, like) + 0.5) * side / small - 0.5, side)
    return interpolation((places(side, like) + 0.5) * small / side - 0.5, small) @ there


def _smoother(side: int, like: Tensor) -> Tensor:
    """The map of lines that drops the 40 % highest of their frequencies."""
    basis = cosines(side, like)[: side - int(0.4 * side)]
    return basis.T @ basis
