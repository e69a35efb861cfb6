"""The most confident wrong answer, MaxConfidence (Goodfellow et al., 2019, arXiv:1903.06293)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torch import Tensor

from advlib.attacks.pgd import ProjectedGradient
from advlib.attacks.targets import search_targets
from advlib.search import Model, SearchOptions, search
from advlib.threats import Threat

if TYPE_CHECKING:
    from typing_extensions import Unpack


def max_confidence(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 40,
    step_size: float | None = None,
    targets: int | None = None,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Finds the inputs to which the model gives a wrong answer with the most confidence.

    Solves, per example, ``max p(wrong class | x_adv)`` over ball, bounds and mask and over all wrong classes, by a run
    of projected gradient ascent for each class. Where a model may decline to answer below some confidence, this is the
    strongest attack whatever that confidence is (section 3 of the paper), and one run serves for all confidences.

    The probability of a class saturates: near 1, neither it nor its logarithm can be told from 1 in float32, and its
    gradient vanishes. So each run climbs the class's :func:`~advlib.losses.log_odds`, which order points in the same
    way and do not saturate. On a linear model they are concave, and what is found is the optimum.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the only ones of interest if ``targeted``.
        threat: A ball in any norm.
        steps: Updates per class.
        step_size: Length of every step in the threat's norm; None for a cosine from ``2 * eps`` down to 0.
        targets: How many wrong classes are tried, those that the model finds likeliest at ``x``; None tries all, as in
            the paper.
        **options: Any of :class:`~advlib.search.SearchOptions`: ``targeted``, ``restarts`` (of each class, at random
            points after the first), ``generator``, ...

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the most confident wrong answer, or where there is none, the
        point at which a wrong class comes nearest to being the answer.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, shapes and values disagree, or ``targets`` comes with ``targeted``.

    Example:
        >>> x_adv = max_confidence(model, x, y, Linf(8 / 255), steps=20)
        >>> confidence = model(x_adv).softmax(1).amax(1)
    """
    if "loss" in options:
        raise TypeError("max_confidence climbs the log-odds of each class and takes no loss: leave it out")
    rule = ProjectedGradient(steps, step_size)
    settings: dict[str, Any] = {"loss": "log_odds", "steps": steps, **options}
    if options.get("restarts", 1) > 1:  # the driver starts the first run at init, and the others anywhere in the ball
        settings |= {"init": x if options.get("init") is None else options["init"], "random_start": True}
    if options.get("targeted") and targets is None:
        return search(model, x, y, threat, rule, **settings).x_adv
    return search_targets(
        model, x, y, threat, rule, targets=sys.maxsize if targets is None else targets, **settings
    ).x_adv
