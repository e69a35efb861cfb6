"""Sparse L1 descent, SLIDE (Tramèr & Boneh, 2019, arXiv:1904.13000)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import Tensor

from advlib.attacks.pgd import ProjectedGradient
from advlib.losses import Loss
from advlib.search import Model, SearchOptions, search
from advlib.threats import L1, Threat

if TYPE_CHECKING:
    from typing_extensions import Unpack


def sparse_l1_descent(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 20,
    step_size: float | None = None,
    sparsity: float = 0.01,
    random_start: bool = False,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Climbs the loss in L1 along the few features with the largest gradients, projecting back after each step.

    Solves, per example, ``max loss(model(x_adv), y)`` over ball, bounds and mask. Features without room to move are
    passed over, as in the paper. It is :func:`~advlib.attacks.pgd` with a share of features of its own: they move in
    proportion to their gradients, where the paper's move by as much each.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L1` ball; its ``sparsity`` makes way for the one given here.
        steps: Updates per restart.
        step_size: Length of every step, in L1. None lets it fall from ``2 * eps`` to 0 along a cosine.
        sparsity: Share of the features that a step moves, at least one (0.01: the 99th percentile, as in the paper).
        random_start: Whether each restart begins at a uniform point of the ball in place of ``x``.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the strongest point asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is not L1, ``sparsity`` is no share, ``x`` leaves the bounds, shapes and values
            disagree, or ``eps`` is infinite where a random start or a default step needs it.

    Example:
        >>> x_adv = sparse_l1_descent(model, x, y, L1(10.0))
    """
    if not isinstance(threat, L1):
        raise ValueError(
            f"sparse L1 descent needs an L1 ball, got {type(threat).__name__}: take pgd, which has every norm"
        )
    threat = dataclasses.replace(threat, sparsity=sparsity)
    rule = ProjectedGradient(steps, step_size)
    return search(model, x, y, threat, rule, steps=steps, loss=loss, random_start=random_start, **options).x_adv
