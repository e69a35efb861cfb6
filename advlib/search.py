"""The one entrance: a rule steps, the driver asks, judges, restarts, counts, and returns what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from advlib.acceleration import current
from advlib.checks import check_counts, check_init
from advlib.driver import Driver
from advlib.evaluator import Evaluator as Evaluator
from advlib.evaluator import Feedback as Feedback
from advlib.evaluator import GradientMaskingWarning as GradientMaskingWarning
from advlib.evaluator import Model as Model
from advlib.evaluator import Task as Task
from advlib.evaluator import guard as guard
from advlib.gradients import GradientSource, autograd
from advlib.losses import Loss
from advlib.rules import Keep as Keep
from advlib.rules import Rule as Rule
from advlib.rules import State as State
from advlib.rules import Trace as Trace
from advlib.slots import AcceleratedDriver
from advlib.threats import Threat


@dataclass(frozen=True)
class SearchResult:
    """What a search found, row by row.

    Args:
        x_adv: ``(N, ...)`` points inside the threat model.
        success: ``(N,)`` bool, whether the goal is reached at ``x_adv``; None with ``keep="last"``, whose last
            point the model was not asked about.
        loss: ``(N,)`` the loss at ``x_adv``, minus infinity where nothing was found worth keeping; None with
            ``keep="last"``.
        distance: ``(N,)`` distance from ``x`` in the threat model's norm.
        forwards: ``(N,)`` forward passes spent on each row.
        backwards: ``(N,)`` backward passes spent on each row.
    """

    x_adv: Tensor
    success: Tensor | None
    loss: Tensor | None
    distance: Tensor
    forwards: Tensor
    backwards: Tensor


class SearchOptions(TypedDict, total=False):
    """What every gradient attack takes besides its own parameters; see :func:`search`."""

    targeted: bool
    target: Tensor | None
    gradient: GradientSource
    keep: Keep
    restarts: int
    init: Tensor | None
    batch_size: int | None
    logits_of: Callable[[Any], Tensor] | None
    generator: torch.Generator | None
    trace: Callable[[Trace], None] | None


def search(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    rule: Rule[Any],
    *,
    steps: int,
    loss: str | Loss = "cross_entropy",
    gradient: GradientSource = autograd,
    targeted: bool = False,
    target: Tensor | None = None,
    keep: Keep = "strongest",
    restarts: int = 1,
    random_start: bool = False,
    init: Tensor | None = None,
    batch_size: int | None = None,
    logits_of: Callable[[Any], Tensor] | None = None,
    generator: torch.Generator | None = None,
    trace: Callable[[Trace], None] | None = None,
) -> SearchResult:
    """Runs a rule against a model: the driver of every gradient attack.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: Where the adversary may look.
        rule: Where it steps next.
        steps: Updates per restart.
        loss: What it looks for: a name from :data:`advlib.losses.LOSSES`, or a callable.
        gradient: What it can see: a source from :mod:`advlib.gradients`.
        targeted: Whether the goal is to reach class ``y`` in place of leaving it.
        target: ``(N,)`` classes that the loss aims at in an untargeted attack.
        keep: What comes back for each row: ``"strongest"``, a success before a failure, then the largest loss;
            ``"first"``, the same, but a row stops at its first success; ``"nearest"``, the nearest success, or
            the clean row; ``"last"``, the last iterate, which the model is not asked about.
        restarts: Independent runs, of which each row keeps its best.
        random_start: Whether a run starts from a random point of the ball in place of ``x``.
        init: ``(N, ...)`` points from which the first run starts, brought inside the threat model.
        batch_size: Rows asked at once; None means all. It does not change the result beyond the model's own
            rounding.
        logits_of: How logits are read from what the model returns, where that is more than logits.
        generator: Source of the call's one random key; None means torch's global generator.
        trace: Called with a :class:`Trace` after every question.

    Returns:
        A :class:`SearchResult`. Points lie inside the threat model and, but for ``keep="last"``, are points
        that the model was asked about.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument or what the model returns is out of place; nothing has been changed then.
        RuntimeError: If the rule returns points outside the threat model.

    Example:
        >>> result = search(model, x, y, Linf(0.1), MyRule(), steps=20)
    """
    check_counts(steps=steps, restarts=restarts, batch_size=batch_size)
    if keep not in Keep.__args__:  # type: ignore[attr-defined]
        raise ValueError(f"keep must be one of {', '.join(Keep.__args__)}, got {keep!r}")  # type: ignore[attr-defined]
    if keep == "last" and restarts > 1:
        raise ValueError(f"keep='last' compares nothing, so it takes restarts=1, got {restarts}")
    if keep == "last" and rule.wanders:
        raise ValueError("keep='last' returns the last point, which may be outside with this rule: keep='strongest'")
    evaluator = Evaluator(
        model,
        x,
        y,
        threat,
        loss=loss,
        gradient=gradient,
        targeted=targeted,
        target=target,
        logits_of=logits_of,
        generator=generator,
    )
    check_init(init, x)
    driver = Driver(evaluator, rule, steps, keep, random_start, init, trace)
    acceleration = current()
    if acceleration is not None:
        driver = AcceleratedDriver.of(driver, acceleration)
    with evaluator:
        best = driver.attack(torch.arange(len(x), device=x.device), restarts, batch_size)
        inside = evaluator.threat.contains(best.x_adv, evaluator.x)
        if not bool(inside.all()):
            raise RuntimeError(
                f"{type(rule).__name__} left the threat model on {int((~inside).sum())} of {len(x)} rows: a rule "
                "must bring its query back with task.threat.project(query, task.x)"
            )
        # the clean rows are the caller's: a result must not change with them
        x_adv = best.x_adv.clone() if best.x_adv.data_ptr() == evaluator.x.data_ptr() else best.x_adv
        judged = keep != "last"
        return evaluator.concluded(
            SearchResult(
                x_adv,
                best.success if judged else None,
                best.loss if judged else None,
                evaluator.threat.distance(x_adv, evaluator.x),
                evaluator.forwards,
                evaluator.backwards,
            )
        )
