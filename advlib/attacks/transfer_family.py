"""Attacks made to transfer: momentum, on a gradient that sees more than one copy of the input.

Each is the rule of :func:`~advlib.attacks.mim` with a source of :mod:`advlib.transforms`. They compose: ``gradient=``
is what looks at each copy. The last point comes back, as in the papers, since what it does to the source model matters
little; ``keep="strongest"`` for the one that the source model is worst at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.mim import MIMState, MomentumIterative
from advlib.gradients import GradientSource, autograd
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, SearchOptions, Task, search
from advlib.threats import Threat
from advlib.transforms import (
    Transform,
    around,
    averaged,
    resize_and_pad,
    scales,
    translation_invariant,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack


class TransferOptions(SearchOptions, total=False):
    """What the attacks made to transfer take besides ``steps`` and their own parameters.

    ``step_size``, ``decay`` and ``loss`` are those of :func:`~advlib.attacks.mim`, with its defaults; the rest are
    :class:`~advlib.search.SearchOptions`: ``gradient`` looks at each copy, and ``keep`` defaults to ``"last"``.
    """

    step_size: float | None
    decay: float
    loss: str | Loss


class VarianceState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    length: Tensor  # (N,) length of a step
    momentum: Tensor  # (N, ...) decayed sum of gradients, each divided by its L1 norm
    position: Tensor  # (N, ...) where the search is
    step: Tensor  # (N,) updates made
    variance: Tensor  # (N, ...) how far the mean gradient around the last query was from the gradient there


class VarianceTuned(MomentumIterative):
    """Adds to each gradient what the one before lacked to the mean around it (2103.15571, equation 7).

    It takes a source of two gradients, :func:`advlib.transforms.around`. The arguments are those of
    :class:`~advlib.attacks.mim.MomentumIterative`.
    """

    def start(self, task: Task, point: Tensor, noise: Noise) -> VarianceState:  # type: ignore[override]
        return VarianceState(*super().start(task, point, noise), torch.zeros_like(point))

    def update(  # type: ignore[override]
        self, state: VarianceState, feedback: Feedback, task: Task, noise: Noise
    ) -> VarianceState:
        here, near = feedback.gradients
        tuned = replace(feedback, gradients=(here + state.variance,))
        return VarianceState(*super().update(MIMState(*state[:5]), tuned, task, noise), near - here)


@dataclass(frozen=True)
class TransferCall:
    """One call of an attack of this family."""

    model: Model
    x: Tensor
    y: Tensor
    threat: Threat
    steps: int
    options: TransferOptions

    @property
    def source(self) -> GradientSource:
        """What looks at each copy."""
        return self.options.get("gradient", autograd)

    def over(self, transforms: Sequence[Transform], source: GradientSource | None = None) -> GradientSource:
        """The mean over copies; the model is asked about the input itself where a point of it is judged."""
        return averaged(transforms, source or self.source, judge=self.options.get("keep", "last") != "last")

    def run(
        self, gradient: GradientSource, kind: type[MomentumIterative] = MomentumIterative, nesterov: bool = False
    ) -> Tensor:
        """Searches with what is seen through ``gradient``."""
        settings: dict[str, Any] = {"step_size": None, "decay": 1.0, "keep": "last", **self.options}
        rule = kind(self.steps, settings.pop("step_size"), settings.pop("decay"), nesterov)
        settings["gradient"] = gradient
        return search(self.model, self.x, self.y, self.threat, rule, steps=self.steps, **settings).x_adv


def ni_fgsm(
    model: Model, x: Tensor, y: Tensor, threat: Threat, *, steps: int = 10, **options: Unpack[TransferOptions]
) -> Tensor:
    """Momentum that looks ahead, after Nesterov (Lin et al., 2019, arXiv:1908.06281).

    The gradient is taken where the momentum alone would lead. That point is brought within ball and bounds, which on
    CIFAR-10 transfers better than the paper's point outside (``benchmarks/transfer.py``).

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates, of a forward and a backward pass each (10, as in section 4.1 of the paper).
        **options: Any of :class:`~advlib.attacks.transfer_family.TransferOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: the last point of each row.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` not given.

    Example:
        >>> x_adv = ni_fgsm(model, x, y, Linf(8 / 255))
    """
    call = TransferCall(model, x, y, threat, steps, options)
    return call.run(call.source, nesterov=True)


def vmi_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    samples: int = 20,
    beta: float = 1.5,
    nesterov: bool = False,
    **options: Unpack[TransferOptions],
) -> Tensor:
    """Corrects each gradient by how far the one before was from the mean around it (Wang & He, arXiv:2103.15571).

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``; not L0, which has no neighbourhood to sample.
        steps: Updates, of ``samples + 1`` forward and backward passes each (10, as in the paper).
        samples: Neighbours of each query (20, as in section 4.1 of the paper).
        beta: How far away these are at most, in ``eps`` (1.5, as in section 4.1 of the paper), whatever the bounds.
        nesterov: Whether the query looks ahead, as the paper's VNI-FGSM does.
        **options: Any of :class:`~advlib.attacks.transfer_family.TransferOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: the last point of each row.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` not given.

    Example:
        >>> x_adv = vmi_fgsm(model, x, y, Linf(8 / 255), samples=5)
    """

    def neighbour(z: Tensor, noise: Noise) -> Tensor:
        near = replace(threat, bounds=None).aligned(x).rows(noise.row)
        return near.resized(beta * near.eps).sample(z, noise)

    call = TransferCall(model, x, y, threat, steps, options)
    return call.run(around([neighbour] * samples, call.source), VarianceTuned, nesterov)


def di_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    low: float = 0.9,
    probability: float = 0.5,
    **options: Unpack[TransferOptions],
) -> Tensor:
    """Looks at the image made smaller and moved at random: diverse inputs (Xie et al., 2018, arXiv:1803.06978).

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates, of a forward and a backward pass each (10, as in the paper).
        low: The smallest size, as a share of the image's (0.9, as 299 pixels are of 330).
        probability: How often it is done (0.5, as in section 4.1 of the paper).
        **options: Any of :class:`~advlib.attacks.transfer_family.TransferOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: the last point of each row.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` not given.

    Example:
        >>> x_adv = di_fgsm(model, x, y, Linf(8 / 255))
    """
    call = TransferCall(model, x, y, threat, steps, options)
    return call.run(call.over([resize_and_pad(low, probability)]))


def ti_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    size: int | None = None,
    **options: Unpack[TransferOptions],
) -> Tensor:
    """Smooths the gradient, as if it were a mean over shifted images (Dong et al., 2019, arXiv:1904.02884).

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates, of a forward and a backward pass each (10, as in the paper).
        size: Width of the Gaussian, odd; see :func:`advlib.transforms.translation_invariant`.
        **options: Any of :class:`~advlib.attacks.transfer_family.TransferOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: the last point of each row.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` not given.

    Example:
        >>> x_adv = ti_fgsm(model, x, y, Linf(8 / 255))
    """
    call = TransferCall(model, x, y, threat, steps, options)
    return call.run(translation_invariant(size, call.source))


def si_ni_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    copies: int = 5,
    **options: Unpack[TransferOptions],
) -> Tensor:
    """Looks ahead, at the image and at its half, quarter and so on (Lin et al., 2019, arXiv:1908.06281).

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates, of ``copies`` forward and backward passes each (10, as in the paper).
        copies: Scales, the first of them 1 (5, as in section 4.1 of the paper).
        **options: Any of :class:`~advlib.attacks.transfer_family.TransferOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: the last point of each row.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` not given.

    Example:
        >>> x_adv = si_ni_fgsm(model, x, y, Linf(8 / 255))
    """
    call = TransferCall(model, x, y, threat, steps, options)
    return call.run(call.over(scales(copies)), nesterov=True)
