"""The L-BFGS attack (Szegedy et al., 2013, arXiv:1312.6199): minimum-norm in L2."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from torch import Tensor
from torch.nn.functional import softplus

from advlib.checks import check_counts
from advlib.evaluator import Evaluator
from advlib.gradients import GradientSource, autograd
from advlib.losses import Loss
from advlib.search import Model
from advlib.threats import L2, Threat

Flat = NDArray[np.float64]


class _Spent(Exception):
    """A search has asked all that it may."""


class _Row:
    """The search on one row: asks, judges, and keeps the nearest success."""

    def __init__(self, evaluator: Evaluator, index: Tensor) -> None:
        self.evaluator, self.index, self.task = evaluator, index, evaluator.task(index)
        self.best, self.distance = self.task.x, math.inf
        self.asked = 0

    def flat(self, values: Tensor) -> Flat:
        return np.asarray(values.expand_as(self.task.x).double().flatten().cpu())

    def minimum(self, start: Flat, c: float, limit: int) -> tuple[Flat, bool]:
        """The lowest point on the way down ``||x_adv - x||_2**2 - c * log(chance of success)``; if it is a success."""
        x, threat = self.task.x, self.task.threat
        lowest, end, succeeds = math.inf, start, False

        def ask(flat: Flat) -> tuple[float, Flat]:
            nonlocal lowest, end, succeeds
            if self.asked >= limit:  # scipy's own limits let the last line search end
                raise _Spent
            point = torch.tensor(flat, dtype=x.dtype, device=x.device).reshape(x.shape)  # a copy
            feedback = self.evaluator.ask(point, self.index, step=self.asked)
            self.asked += 1
            success, distance = bool(feedback.success), float(threat.distance(point, x))
            if success and distance < self.distance and bool(threat.contains(point, x)):
                self.best, self.distance = point, distance
            change, loss = point - x, feedback.loss
            value = float(change.double().square().sum() + c * softplus(-loss))
            if value < lowest:
                lowest, end, succeeds = value, flat.copy(), success
            return value, self.flat(2 * change - c * torch.sigmoid(-loss) * feedback.gradient)

        low, high = (self.flat(limit) for limit in threat.limits(x))
        with suppress(_Spent):
            minimize(ask, start, jac=True, method="L-BFGS-B", bounds=Bounds(low, high))
        return end, succeeds

    def search(self, steps: int, searches: int, c: float) -> None:
        """Ten times ``c`` or a tenth of it until one has failed and one was enough, then between them."""
        failed, enough, end = 0.0, math.inf, self.flat(self.task.x)
        for left in range(searches, 0, -1):
            end, succeeds = self.minimum(end, c, self.asked + math.ceil((steps - self.asked) / left))
            if self.distance == 0:
                break
            failed, enough = (failed, c) if succeeds else (c, enough)
            c = 10 * c if enough == math.inf else c / 10 if failed == 0 else math.sqrt(failed * enough)


def lbfgs(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 300,
    searches: int = 15,
    c: float = 1.0,
    loss: str | Loss = "margin",
    gradient: GradientSource = autograd,
    targeted: bool = False,
    logits_of: Callable[[Any], Tensor] | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Finds near inputs in L2 that change the prediction, by L-BFGS-B.

    Looks, per example, for ``min ||x_adv - x||_2`` such that the model errs, over ball, bounds and mask. For a weight
    ``c`` it minimizes ``||x_adv - x||_2**2 - c * log(p)`` within the bounds, with ``p`` the chance of success in the
    model's own eyes, by scipy's L-BFGS-B; and it searches for the smallest ``c`` that succeeds. A step takes a forward
    and a backward pass. Rows are asked about one by one, since each has its line search: expect the time of as many
    batches of one, and take :func:`~advlib.attacks.carlini_wagner` where that matters.

    It departs from the paper in the norm, of which the paper weighs the length and here the square is, so that it is
    smooth at ``x``, and in looking for the smallest ``c`` by bisection.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: An :class:`~advlib.threats.L2` ball; its ``eps`` is the largest distance of interest, ``inf`` for the
            nearest adversarial inputs wherever they are. The search takes the same way whatever it is.
        steps: Points that each row is asked about, at most.
        searches: How many weights ``c`` are tried. A minimum that is found early leaves its steps to the others.
        c: The first weight.
        loss: Of which ``p`` is ``1 / (1 + exp(-loss))``: the margin, as if there were two classes, another name from
            :data:`advlib.losses.LOSSES`, or a callable. With ``"log_odds"`` a targeted attack minimizes the
            cross-entropy as in the paper; the margin came nearer.
        gradient: What it can see: a source from :mod:`advlib.gradients`.
        targeted: Whether the goal is to reach class ``y`` in place of leaving it.
        logits_of: How logits are read from what the model returns, where that is more than logits.
        batch_size: Rows asked at once by attacks that ask several; here it changes nothing.
        generator: Source of the call's one random key, which random gradient sources need.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is not L2, ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = lbfgs(model, x, y, L2(torch.inf), steps=50)
    """
    check_counts(steps=steps, searches=searches, batch_size=batch_size)
    if not isinstance(threat, L2):
        raise ValueError(f"lbfgs needs an L2 ball, got {type(threat).__name__}: take fmn, which has every norm")
    goal: dict[str, Any] = {"targeted": targeted, "logits_of": logits_of, "generator": generator}
    with Evaluator(model, x, y, threat, loss=loss, gradient=gradient, **goal) as evaluator:
        x_adv = evaluator.x.clone()
        for index in torch.arange(len(x), device=x.device).unsqueeze(1):
            row = _Row(evaluator, index)
            row.search(steps, searches, c)
            x_adv[index] = row.best
        return x_adv
