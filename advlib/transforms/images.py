"""Input transforms: callables ``transform(x, noise)`` that change each row as its noise says, differentiably.

Images are the last two dimensions of ``x``; features ``(N, D)`` count as images one pixel high.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from advlib.checks import check_counts
from advlib.noise import Noise

Transform = Callable[[Tensor, Noise], Tensor]

DRAWS = 16  # streams that a transform may draw from, counted from its noise's own


def draw(noise: Noise, number: int, like: Tensor, *shape: int) -> Tensor:
    """A transform's draw of this number: uniform in [0, 1), ``(N, *shape)``."""
    return noise.stream(noise.branch + number).uniform(like.new_zeros(()).expand(len(like), *shape))


def as_images(x: Tensor) -> Tensor:
    """The same values as ``(N, C, H, W)``."""
    sides = x.shape[-2:] if x.ndim > 2 else (1, x.shape[-1])
    return x.reshape(len(x), -1, *sides)


def on_lines(x: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """A linear map of the columns, ``(H, H)`` or one for each image, and then one of the rows, ``(W, W)``."""
    columns, rows = (m.unsqueeze(1) if m.ndim == 3 else m for m in (columns, rows))
    return (columns @ as_images(x) @ rows.transpose(-1, -2)).reshape(x.shape)


def places(side: int, like: Tensor) -> Tensor:
    """``(side,)`` the numbers of a line's pixels, from 0."""
    return torch.arange(side, dtype=like.dtype, device=like.device)


def cosines(side: int, like: Tensor) -> Tensor:
    """``(side, side)``, the orthonormal discrete cosine transform, the lowest frequency first."""
    place = places(side, like)
    waves = torch.cos(math.pi / side * (place + 0.5) * place[:, None]) * math.sqrt(2 / side)
    return torch.cat([waves[:1] / math.sqrt(2), waves[1:]])


def interpolation(source: Tensor, side: int) -> Tensor:
    """The map of lines, ``(..., side)``, that reads between pixels, linearly, at ``source``, ``(...)``."""
    source = source.clamp(0, side - 1)
    return (1 - (source[..., None] - places(side, source)).abs()).clamp_min(0)


def unchanged(x: Tensor, noise: Noise) -> Tensor:
    """The transform that does nothing."""
    return x


def scales(copies: int = 5) -> list[Transform]:
    """The input, half of it, a quarter, and so on: scale invariance (Lin et al., 1908.06281).

    Args:
        copies: How many there are (5, as in section 4.1 of the paper).

    Raises:
        ValueError: If ``copies`` is no whole number of at least 1.

    Example:
        >>> x_adv = mim(model, x, y, Linf(0.1), gradient=averaged(scales(3)))
    """
    check_counts(copies=copies)

    def scaled(power: int) -> Transform:
        return lambda x, noise: x / 2**power

    return [unchanged, *(scaled(power) for power in range(1, copies))]


def resize_and_pad(low: float = 0.9, probability: float = 0.5) -> Transform:
    """Makes the image smaller and puts it anywhere on zeros: diverse inputs (Xie et al., 1803.06978).

    The paper enlarges images from 299 to at most 330 pixels; a network that takes one size sees the same when they
    shrink.

    Args:
        low: The smallest size, as a share of the image's (0.9, as 299 is of 330).
        probability: How often it is done (0.5, as in section 4.1 of the paper).

    Raises:
        ValueError: If ``low`` is not in (0, 1] or ``probability`` not in [0, 1].

    Example:
        >>> x_adv = mim(model, x, y, Linf(0.1), gradient=averaged([resize_and_pad()]))
    """
    if not (0 < low <= 1 and 0 <= probability <= 1):
        raise ValueError(f"low must be in (0, 1] and probability in [0, 1], got {low} and {probability}")

    def transform(x: Tensor, noise: Noise) -> Tensor:
        chance, share, *corner = draw(noise, 0, x, 4).unbind(1)
        maps = []
        for side, part in zip(as_images(x).shape[2:], corner, strict=True):
            least = max(1, int(low * side))
            size = torch.where(chance < probability, least + (share * (side - least)).floor(), side)
            offset = (part * (side - size + 1)).floor()
            within = places(side, x) - offset[:, None]
            shrunk = interpolation((within + 0.5) * (side / size)[:, None] - 0.5, side)
            maps.append(shrunk * ((within >= 0) & (within < size[:, None]))[..., None])
        return on_lines(x, *maps)

    return transform


def admixture(others: Tensor, labels: Tensor, y: Tensor, share: float = 0.2) -> Transform:
    """Adds a part of a random image of another class (Admix, Wang et al., 2102.00436).

    Args:
        others: ``(M, ...)`` images to draw from.
        labels: ``(M,)`` their classes.
        y: ``(N,)`` the classes of all rows of the call; a row for which there is no image of another class gets any.
        share: How much of the other image is added (0.2, as in section 4.1 of the paper).

    Example:
        >>> x_adv = mim(model, x, y, Linf(0.1), gradient=averaged([admixture(x, y, y)] * 3))
    """

    def transform(x: Tensor, noise: Noise) -> Tensor:
        sorted_labels, order = labels.sort(stable=True)
        own = y[noise.row].to(sorted_labels)
        first, last = (torch.searchsorted(sorted_labels, own, right=right) for right in (False, True))
        alike = (last - first) % len(labels)  # none to pass over where all are
        pick = (draw(noise, 0, x, 1)[:, 0] * (len(labels) - alike)).long()
        return x + share * others[order[pick + alike * (pick >= first)]]

    return transform


def spectrum(sigma: float = 16 / 255, rho: float = 0.5) -> Transform:
    """Adds noise, and rescales each frequency at random (SSA, Long et al., 2207.05382).

    Args:
        sigma: Standard deviation of the noise (16/255, the paper's ``eps``).
        rho: Frequencies are multiplied by numbers from ``1 - rho`` to ``1 + rho`` (0.5, as in the paper).

    Example:
        >>> x_adv = mim(model, x, y, Linf(0.1), gradient=averaged([spectrum()] * 4))
    """

    def transform(x: Tensor, noise: Noise) -> Tensor:
        bases = [cosines(side, x) for side in as_images(x).shape[2:]]
        waves = on_lines(x + sigma * noise.normal(x), *bases)
        factors = 1 - rho + 2 * rho * draw(noise, 1, x, *x.shape[1:])
        return on_lines(waves * factors, *(basis.T for basis in bases))

    return transform
