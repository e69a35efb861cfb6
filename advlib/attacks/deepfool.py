"""DeepFool (Moosavi-Dezfooli et al., 2015, arXiv:1511.04599): minimum-norm, from one linearization to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.boundaries import leads, nearest_boundary
from advlib.checks import check_counts
from advlib.losses import Loss, unchanged
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L2, Linf, Threat
from advlib.threats.base import choose, clamp, column

if TYPE_CHECKING:
    from typing_extensions import Unpack


class DeepFoolState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next: a little beyond the point, seen from x
    point: Tensor  # (N, ...) on the boundary linearized last
    done: Tensor  # (N,) bool, whether the query is a success


@dataclass(frozen=True)
class DeepFool(Rule[DeepFoolState]):
    """Goes to the nearest of the linearized boundaries, until the model errs a little beyond it.

    A lead is how far the logit of another class is above that of the true one: there is an objective for each of the
    classes that lead most where the search is, or with ``task.target`` for that class alone. The overshoot is for the
    model to be asked at, and does not add up: the way goes on from the point without it.

    Args:
        candidates: How many classes are looked at.
        overshoot: How far beyond the point the model is asked, as a share of its perturbation.
        logits_of: How logits are read from what the model returns.
    """

    candidates: int = 9
    overshoot: float = 0.001
    logits_of: Callable[[Any], Tensor] = unchanged

    wanders = True

    def start(self, task: Task, point: Tensor, noise: Noise) -> DeepFoolState:
        if not isinstance(task.threat, Linf | L2):
            name = type(task.threat).__name__
            raise ValueError(f"DeepFool needs a Linf or L2 ball, got {name}: take fmn, which has every norm")
        return DeepFoolState(point, point, torch.zeros_like(task.y, dtype=torch.bool))

    def objectives(self, output: Any, task: Task, loss: Loss) -> tuple[Tensor, ...]:
        """The largest leads, in falling order."""
        return leads(self.logits_of(output), task, self.candidates)

    def update(self, state: DeepFoolState, feedback: Feedback, task: Task, noise: Noise) -> DeepFoolState:
        s, x, done = state, task.x, state.done | feedback.success
        lead, gradient = nearest_boundary(feedback, task.threat)
        unit, limits = task.threat.steepest(gradient), task.threat.limits(x)
        slope = (gradient * unit).flatten(1).sum(1)
        # on from the query, which is beyond the point by the overshoot
        way = torch.where(slope > 0, -lead / slope, 0) + self.overshoot * task.threat.distance(s.point, x)
        point = clamp(torch.addcmul(s.point, column(way, x), unit), *limits)
        ahead = clamp(torch.lerp(x, point, 1 + self.overshoot), *limits)
        return DeepFoolState(choose(done, s.query, ahead), point, done)

    def finished(self, state: DeepFoolState) -> Tensor:
        return state.done


def deepfool(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 50,
    candidates: int = 9,
    overshoot: float = 0.001,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Finds near inputs that change the prediction, from one linearized boundary to the next.

    Solves, per example, ``min ||x_adv - x||`` such that the model errs, over ball, bounds and mask, as if the model
    were linear: each step goes to the nearest of the linearized boundaries, as far as the bounds allow, and the first
    success ends it. It takes few steps, and ends farther away than :func:`~advlib.attacks.fab` or
    :func:`~advlib.attacks.fmn`. A step takes a forward pass, and a backward pass for each candidate; all rows go at
    once.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: A :class:`~advlib.threats.Linf` or :class:`~advlib.threats.L2` ball; its ``eps`` is the largest distance
            of interest, ``inf`` for the nearest adversarial inputs wherever they are. The search takes the same way
            whatever it is.
        steps: Updates at most (50, as in the authors' code).
        candidates: How many of the other classes are looked at, those with the largest logits where the search is
            (9, as in the authors' code).
        overshoot: How far beyond the boundary the model is asked, as a share of the perturbation. The paper's 0.02 ends
            a few steps earlier, and up to so much farther away.
        **options: Any of :class:`~advlib.search.SearchOptions` but ``loss``. ``keep`` defaults to ``"nearest"``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is L1 or L0, ``candidates`` is no whole number of at least 1, ``keep`` is
            ``"last"``, ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = deepfool(model, x, y, L2(torch.inf))
    """
    if "loss" in options:
        raise TypeError("deepfool follows the differences of logits and takes no loss: leave it out")
    check_counts(candidates=candidates)
    rule = DeepFool(candidates, overshoot, options.get("logits_of") or unchanged)
    settings: dict[str, Any] = {"keep": "nearest", **options}
    return search(model, x, y, threat, rule, steps=steps, **settings).x_adv
