"""The fast adaptive boundary attack, FAB (Croce & Hein, 2019, arXiv:1907.02044): minimum-norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.boundaries import leads, nearest_boundary
from advlib.attacks.targets import search_targets
from advlib.losses import Loss, unchanged
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import L0, Threat
from advlib.threats.base import choose, clamp, column

if TYPE_CHECKING:
    from typing_extensions import Unpack

_FINAL_STEPS = 3  # as in the paper


class FABState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next
    best: Tensor  # (N, ...) the nearest success
    distance: Tensor  # (N,) its distance, infinite where there is none
    lead: Tensor  # (N,) its lead
    short: Tensor  # (N,) the distance on the way from x to it at which there is no success
    short_lead: Tensor  # (N,) the lead there
    step: Tensor  # (N,) questions asked


@dataclass(frozen=True)
class FastAdaptiveBoundary(Rule[FABState]):
    """Goes to the linearised boundary, and a little towards where it is nearest to ``x``; steps back after a success.

    A lead is how far the logit of another class is above that of the true one: there is an objective for each other
    class, or with ``task.target`` for that class alone. The last three steps search the segment between ``x`` and the
    nearest success. The way there may lead outside the ball: held inside, it often ends at the border.

    Args:
        steps: Updates of one run.
        alpha_max: Largest share of the way that belongs to the boundary's point nearest to ``x``.
        eta: How far beyond the boundary a step goes, 1 for just on it.
        beta: What is kept of the perturbation after a success.
        logits_of: How logits are read from what the model returns.
    """

    steps: int
    alpha_max: float = 0.1  # this and the next two: the paper's
    eta: float = 1.05
    beta: float = 0.9
    logits_of: Callable[[Any], Tensor] = unchanged

    wanders = True

    def start(self, task: Task, point: Tensor, noise: Noise) -> FABState:
        if isinstance(task.threat, L0):
            raise ValueError("FAB needs a norm, which L0 is not: Linf, L2 or L1, or jsma for few features")
        if int(noise.restart) > 0:  # random points lie within half the radius (as in the paper)
            point = torch.lerp(task.x, point, 0.5)
        zero = torch.zeros_like(task.x.flatten(1)[:, 0])
        return FABState(point, point, zero + torch.inf, zero, zero, zero, zero)

    def objectives(self, output: Any, task: Task, loss: Loss) -> tuple[Tensor, ...]:
        """The leads, the largest first."""
        return leads(self.logits_of(output), task)

    def update(self, state: FABState, feedback: Feedback, task: Task, noise: Noise) -> FABState:
        s, x, threat, success = state, task.x, task.threat, feedback.success
        lead, gradient = nearest_boundary(feedback, threat)
        # The paper asks again at the point stepped back to; the gradient in front, a tenth of the way on, serves too.
        part = torch.where(success, self.beta, 1.0).to(lead)
        point = torch.lerp(x, s.query, column(part, x))
        lead_at_x = lead - (gradient * (s.query - x)).flatten(1).sum(1)
        near = threat.reach(gradient, -torch.lerp(lead_at_x, lead, part), point)
        far = threat.reach(gradient, -lead_at_x, x)
        here, there = threat.distance(near, point), threat.distance(far, x)
        share = here / (here + there).clamp_min(torch.finfo(x.dtype).tiny)
        ahead = torch.lerp(
            torch.lerp(point, near, self.eta),
            torch.lerp(x, far, self.eta),
            column(share.clamp_max(self.alpha_max), x),
        )

        s = self._judged(s, feedback, task, lead_at_x)
        searches, ahead = self._searches(s), clamp(ahead, *threat.limits(x))
        part = torch.where(searches, self._between(s) / s.distance.clamp_min(torch.finfo(x.dtype).tiny), 0)
        return s._replace(query=choose(searches, torch.lerp(x, s.best, column(part, x)), ahead))

    def _searches(self, s: FABState) -> Tensor:
        """``(N,)`` bool, the rows whose query belongs to the final search."""
        return (s.step > self.steps - _FINAL_STEPS) & s.distance.isfinite()

    def _judged(self, s: FABState, feedback: Feedback, task: Task, lead_at_x: Tensor) -> FABState:
        """The state after the answer: a nearer success, or a point of the final search that falls short."""
        length, lead, success = feedback.distance, feedback.loss, feedback.success
        nearer = success & (length < s.distance)
        final = self._searches(s)
        return FABState(
            s.query,
            choose(nearer, s.query, s.best),
            torch.where(nearer, length, s.distance),
            torch.where(nearer, lead, s.lead),
            torch.where(final & ~success, length, s.short),
            torch.where(final, torch.where(success, s.short_lead, lead), lead_at_x),
            s.step + 1,
        )

    def _between(self, s: FABState) -> Tensor:
        """Just beyond where the lead would be zero, were it linear between a failure and the best success.

        A thousandth beyond: nearer, the model's rounding in another batch decides whether it is a success.
        """
        crossed = (s.short_lead < 0) & (s.lead > 0)  # aimed at one class, another may have been reached
        zero = torch.where(crossed, s.short_lead / (s.short_lead - s.lead), 0.5)
        return torch.minimum(1.001 * torch.lerp(s.short, s.distance, zero), s.distance)

    def finished(self, state: FABState) -> Tensor:
        return state.distance == 0


def fab(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 100,
    targets: int = 0,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Finds the nearest inputs that change the prediction, along the linearised boundaries between classes.

    Solves, per example, ``min ||x_adv - x||`` such that the model errs, over ball, bounds and mask. At each step it
    linearises the nearest boundary, finds the points of it, within the bounds, that are nearest to where it is and to
    ``x``, goes to a mean of the two, a little beyond, and steps back towards ``x`` after a success.

    A step takes a forward pass, and a backward pass for each other class. With ``targets`` it is one of each: every run
    aims at one class, as the targeted attack in AutoAttack does (Croce & Hein, 2020, arXiv:2003.01690).

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: A :class:`~advlib.threats.Linf`, :class:`~advlib.threats.L2` or :class:`~advlib.threats.L1` ball; its
            ``eps`` is the largest distance of interest, ``inf`` for the nearest adversarial inputs wherever they are.
            The search takes the same way whatever it is.
        steps: Updates of one run (100, as in AutoAttack), of which the last three search between ``x`` and the best.
        targets: How many wrong classes to aim at, one after the other, the likeliest first; 0 looks at all at once.
        alpha_max: Largest share of a step that goes to the boundary's point nearest to ``x`` (0.1, as in the paper).
        eta: Length of a step, in the way to the boundary (1.05, as in the paper).
        beta: What is kept of the perturbation after a success (0.9, as in the paper).
        **options: Any of :class:`~advlib.search.SearchOptions`. ``keep`` defaults to ``"nearest"``; ``"first"`` stops a
            row at its first success within ``eps``, which is all that robust accuracy asks. Of the ``restarts``, for
            each target, the first starts at ``x``, and the others within half of ``eps``.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the nearest success, or the clean row where there is none.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If the threat model is L0, ``eps`` is infinite with ``restarts``, ``keep`` is ``"last"``, ``x``
            leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = fab(model, x, y, L2(torch.inf), targets=9)
    """
    if "loss" in options:
        raise TypeError("fab follows the differences of logits and takes no loss: leave it out")
    if options.get("keep") == "last":
        raise ValueError("fab's last point may lie outside the ball: take keep='nearest', or 'first' or 'strongest'")
    rule = FastAdaptiveBoundary(steps, alpha_max, eta, beta, options.get("logits_of") or unchanged)
    settings: dict[str, Any] = {"keep": "nearest", **options}
    if options.get("restarts", 1) > 1:  # the driver starts the first run at init, and the others anywhere in the ball
        settings |= {"init": x if options.get("init") is None else options["init"], "random_start": True}
    if targets:
        return search_targets(model, x, y, threat, rule, targets=targets, steps=steps, **settings).x_adv
    return search(model, x, y, threat, rule, steps=steps, **settings).x_adv
