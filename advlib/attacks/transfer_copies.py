"""Attacks made to transfer that look at many random copies of the input; see :mod:`advlib.attacks.transfer_family`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from advlib.attacks.transfer_family import TransferCall, TransferOptions
from advlib.search import Model
from advlib.threats import Threat
from advlib.transforms import admixture, averaged, block_shuffle, block_structure, scales, spectrum

if TYPE_CHECKING:
    from typing_extensions import Unpack


def admix(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    mixed: int = 3,
    copies: int = 5,
    share: float = 0.2,
    others: tuple[Tensor, Tensor] | None = None,
    **options: Unpack[TransferOptions],
) -> Tensor:
    """Looks at the image mixed with a little of others, at several scales (Wang et al., 2021, arXiv:2102.00436).

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates, of ``mixed * copies`` forward and backward passes each (10, as in the paper).
        mixed: Other images mixed in (3, as in section 4.1 of the paper).
        copies: Scales of each (5, as in section 4.1 of the paper).
        share: How much of another image is added (0.2, as in section 4.1 of the paper).
        others: Images to draw from, and their labels; None for ``x`` and ``y`` themselves. Drawn are those of another
            class, where there are any.
        **options: Any of :class:`~advlib.attacks.transfer_family.TransferOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: the last point of each row.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` not given.

    Example:
        >>> x_adv = admix(model, x, y, Linf(8 / 255))
    """
    call = TransferCall(model, x, y, threat, steps, options)
    images, labels = (x, y) if others is None else others
    mixtures = averaged([admixture(images, labels, y, share)] * mixed, call.source, judge=False)
    return call.run(call.over(scales(copies), mixtures))


def ssa(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    copies: int = 20,
    sigma: float = 16 / 255,
    rho: float = 0.5,
    **options: Unpack[TransferOptions],
) -> Tensor:
    """Looks at copies whose frequencies are rescaled at random: the spectrum simulation attack (arXiv:2207.05382).

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates, of ``copies`` forward and backward passes each (10, as in the paper).
        copies: How many (20, as in section 4.1 of the paper).
        sigma: Standard deviation of the noise added (16/255, the paper's ``eps``).
        rho: Frequencies are multiplied by numbers from ``1 - rho`` to ``1 + rho`` (0.5, as in the paper).
        **options: Any of :class:`~advlib.attacks.transfer_family.TransferOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: the last point of each row.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` not given.

    Example:
        >>> x_adv = ssa(model, x, y, Linf(8 / 255), copies=5)
    """
    call = TransferCall(model, x, y, threat, steps, options)
    return call.run(call.over([spectrum(sigma, rho)] * copies))


def bsr(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    copies: int = 20,
    blocks: int = 2,
    angle: float = 24.0,
    **options: Unpack[TransferOptions],
) -> Tensor:
    """Looks at copies whose blocks are shuffled and turned a little (Wang et al., 2023, arXiv:2308.10299).

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates, of ``copies`` forward and backward passes each (10, as in the paper).
        copies: How many (20, as in section 4.1 of the paper).
        blocks: Blocks along each side (2, as in section 4.1 of the paper).
        angle: The largest angle of a block, in degrees (24, as in section 4.1 of the paper).
        **options: Any of :class:`~advlib.attacks.transfer_family.TransferOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: the last point of each row.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` not given.

    Example:
        >>> x_adv = bsr(model, x, y, Linf(8 / 255), copies=5)
    """
    call = TransferCall(model, x, y, threat, steps, options)
    return call.run(call.over([block_shuffle(blocks, angle)] * copies))


def sia(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 10,
    copies: int = 20,
    blocks: int = 3,
    radius: float = 16 / 255,
    **options: Unpack[TransferOptions],
) -> Tensor:
    """Looks at copies with a random change to each block: structure invariance (Wang et al., 2023, arXiv:2309.14700).

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates, of ``copies`` forward and backward passes each (10, as in the paper).
        copies: How many (20, as in section 4.1 of the paper).
        blocks: Blocks along each side (3, as in section 4.1 of the paper).
        radius: Largest noise that is added to a block (16/255, the paper's ``eps``).
        **options: Any of :class:`~advlib.attacks.transfer_family.TransferOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: the last point of each row.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` not given.

    Example:
        >>> x_adv = sia(model, x, y, Linf(8 / 255), copies=5)
    """
    call = TransferCall(model, x, y, threat, steps, options)
    return call.run(call.over([block_structure(blocks, radius)] * copies))
