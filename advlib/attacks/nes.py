"""The NES attack (Ilyas et al., 2018, arXiv:1804.08598): momentum on gradients that are estimated from scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from advlib.attacks.mim import MomentumIterative
from advlib.gradients import finite_differences
from advlib.losses import Loss
from advlib.search import Model, SearchOptions, search
from advlib.threats import Threat

if TYPE_CHECKING:
    from typing_extensions import Unpack

_STEPS_TO_THE_BORDER = 5  # a step of 0.01 where eps is 0.05: the authors' code, as are the defaults below


def nes(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 40,
    step_size: float | None = None,
    samples: int = 25,
    delta: float = 0.001,
    decay: float = 0.9,
    loss: str | Loss = "margin",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Climbs the loss with momentum along gradients estimated from scores, without a backward pass.

    Solves, per example, ``max loss(model(x_adv), y)`` over ball, bounds and mask: :func:`~advlib.attacks.mim` along
    gradients from ``samples`` pairs of points, normally distributed around the one that a step is at. These may be
    outside ball and bounds; what comes back is inside. The authors' code also halves its steps while the loss stalls.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        steps: Updates of one run, each of ``1 + 2 * samples`` queries; the last point takes one more.
        step_size: Length of a step in the norm of ``threat`` (for L0, in the units of ``x``). None means ``eps / 5``,
            the authors' 0.01 where ``eps`` is 0.05 (for L0, four fifths of the bounds' width).
        samples: Pairs of points a step (25: the authors' population of 50).
        delta: Standard deviation of these points in each feature (0.001, as the authors').
        decay: What is kept of the momentum at each step (0.9, as the authors'). As in ``mim``, gradients are of one
            length, and none is scaled down by what is not kept.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable. The authors' is
            ``"cross_entropy"``, which found less.
        **options: Any of :class:`~advlib.search.SearchOptions`. ``keep`` defaults to ``"first"``: a row's queries end
            with the step of its first success.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the first success, or the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``eps`` is infinite and
            ``step_size`` None.

    Example:
        >>> x_adv = nes(model, x, y, Linf(8 / 255), steps=4, samples=10)
    """
    source = finite_differences(samples, delta, gaussian=True)
    settings: dict[str, Any] = {"gradient": source, "keep": "first", **options}
    rule = MomentumIterative(_STEPS_TO_THE_BORDER, step_size, decay)
    return search(model, x, y, threat, rule, steps=steps, loss=loss, **settings).x_adv
