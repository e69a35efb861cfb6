"""Gradient sources that look at transformed copies; they compose with any rule, and with any other source.

Scale invariance on diverse inputs, smoothed for translation invariance, in PGD:

    >>> copies = averaged(scales(5), source=averaged([resize_and_pad()], judge=False))
    >>> x_adv = pgd(model, x, y, Linf(0.1), steps=3, gradient=translation_invariant(source=copies))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from advlib.gradients import Ask, Estimate, GradientSource, autograd
from advlib.noise import Noise
from advlib.transforms.images import DRAWS, Transform, as_images, on_lines, places, unchanged

_STREAM = 2**15  # the first noise stream of these sources, above those of the sources inside them


def _looks(
    transforms: Sequence[Transform], source: GradientSource, ask: Ask, x: Tensor, noise: Noise
) -> list[Estimate]:
    """What a source sees through each transform; no two looks share noise, nor do a look and the source inside it."""
    noise = noise.stream(max(noise.branch, _STREAM))
    seen = []
    for index, transform in enumerate(transforms):
        own = noise._replace(step=noise.step * len(transforms) + index)

        def through(points: Tensor, transform: Transform = transform, own: Noise = own) -> Any:
            with torch.autocast(points.device.type, enabled=False):
                moved = transform(points, own)
            return ask(moved)

        seen.append(source(through, x, own.stream(own.branch + DRAWS)))
    return seen


def _mean(each: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(parts).mean(0) for parts in zip(*each, strict=True))


def averaged(
    transforms: Sequence[Transform], source: GradientSource = autograd, *, judge: bool = True
) -> GradientSource:
    """The mean gradient over transformed copies of the input.

    What the model says, and so success and loss, is about the input itself.

    Args:
        transforms: One for each copy: ``[resize_and_pad()] * 4``.
        source: What looks at each copy; another average for transforms of transforms, of which the inner are applied
            first.
        judge: Whether the input itself is asked about, which takes a forward pass unless the first transform is
            :func:`unchanged`, as in :func:`scales`. Without, values and logits are those of the first copy: no loss
            where nothing is judged by them, as inside another average or with ``keep="last"``.

    Raises:
        ValueError: If there is no transform.

    Example:
        >>> x_adv = pgd(model, x, y, Linf(0.1), gradient=averaged([block_shuffle()] * 4))
    """
    if not transforms:
        raise ValueError("averaged needs at least one transform, got none: [unchanged] is the plain gradient")

    def mean(ask: Ask, x: Tensor, noise: Noise) -> Estimate:
        seen = _looks(transforms, source, ask, x, noise)
        here, forwards = seen[0], sum(look.forwards for look in seen)
        if judge and (transforms[0] is not unchanged or source is not autograd):
            with torch.no_grad():
                output, values = ask(x)
            here, forwards = here._replace(output=output, values=values), forwards + 1
        gradients = _mean(look.gradients for look in seen)
        return here._replace(gradients=gradients, forwards=forwards, backwards=sum(look.backwards for look in seen))

    return mean


def around(transforms: Sequence[Transform], source: GradientSource = autograd) -> GradientSource:
    """The gradient, and behind it the mean gradient over transformed copies, for rules that use both.

    Args:
        transforms: One for each copy.
        source: What looks at the input and at each copy.

    Raises:
        ValueError: If there is no transform.
    """
    if not transforms:
        raise ValueError("around needs at least one transform, got none")

    def both(ask: Ask, x: Tensor, noise: Noise) -> Estimate:
        here, *copies = seen = _looks([unchanged, *transforms], source, ask, x, noise)
        return here._replace(
            gradients=here.gradients + _mean(look.gradients for look in copies),
            forwards=sum(look.forwards for look in seen),
            backwards=sum(look.backwards for look in seen),
        )

    return both


def translation_invariant(size: int | None = None, source: GradientSource = autograd) -> GradientSource:
    """The gradient smoothed by a Gaussian, in place of a mean over shifted copies (Dong et al., 1904.02884).

    Args:
        size: Width of the Gaussian in pixels, odd; its ends are three standard deviations away, as the authors run it.
            None for a twentieth of the image's longer side (15 for the 299 pixels of the paper), at least 3.
        source: Whose gradient is smoothed.

    Raises:
        ValueError: If ``size`` is even or below 3.

    Example:
        >>> x_adv = mim(model, x, y, Linf(0.1), gradient=translation_invariant(5))
    """
    if size is not None and (size < 3 or size % 2 == 0):
        raise ValueError(f"size must be odd and at least 3, got {size}: the Gaussian has its peak in the middle")

    def smoothed(ask: Ask, x: Tensor, noise: Noise) -> Estimate:
        seen = source(ask, x, noise)
        sides = as_images(x).shape[2:]
        reach = max(1, round(max(sides) / 40)) if size is None else size // 2
        maps = [_gaussian(side, reach, x) for side in sides]
        with torch.autocast(x.device.type, enabled=False):
            return seen._replace(gradients=tuple(on_lines(gradient, *maps) for gradient in seen.gradients))

    return smoothed


def _gaussian(side: int, reach: int, like: Tensor) -> Tensor:
    """``(side, side)``, each line a Gaussian around the diagonal, zero more than ``reach`` away from it.

    Its sum is of no importance, since every rule normalises the gradient or takes its sign.
    """
    apart = (places(side, like)[:, None] - places(side, like)).abs()
    return torch.exp(-((3 * apart / reach) ** 2) / 2) * (apart <= reach)
