"""The one loop: a rule steps, the driver asks, judges, restarts, counts, and returns what was asked for."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import torch
from torch import Tensor

from advlib.checks import check_counts, check_init
from advlib.evaluator import Evaluator as Evaluator
from advlib.evaluator import Feedback as Feedback
from advlib.evaluator import GradientMaskingWarning as GradientMaskingWarning
from advlib.evaluator import Model as Model
from advlib.evaluator import Task as Task
from advlib.evaluator import guard as guard
from advlib.gradients import GradientSource, autograd
from advlib.losses import Loss
from advlib.noise import Noise
from advlib.oracles import OracleError
from advlib.threats import Threat
from advlib.threats.base import choose, column

State = TypeVar("State", bound=tuple[Any, ...])
Keep = Literal["strongest", "first", "nearest", "last"]

_CHECK_EVERY = 8  # steps between looks at which rows are done, where a look would wait for the device


class Rule(ABC, Generic[State]):
    """What one attack does between two queries.

    A state is a NamedTuple of row-first tensors, so that the driver may drop rows that are done. Its field
    ``query`` is where the model is asked next; a field ``candidate``, where a rule has one, is the point to be judged
    in place of the query, at the cost of a forward pass, and ``feedback.candidate`` what the model said about it.
    ``update`` must not branch on data. A rule that ``wanders`` also asks about points that are within bounds and
    mask but outside the ball; they are judged as no success, and never come back.
    """

    order: int = 1  # 1 needs gradients, 0 only values: no backward pass is run
    wanders: bool = False

    @abstractmethod
    def start(self, task: Task, point: Tensor, noise: Noise) -> State:
        """The first state of some rows.

        Args:
            task: The rows.
            point: ``(N, ...)`` where the search starts: the clean inputs, ``init``, or a random point.
            noise: What the rows may draw from at step 0.
        """

    def enter(self, init: Tensor, task: Task) -> Tensor:
        """Where a run starts that is told to at ``init``: within the threat model, or bounds and mask if it wanders."""
        if self.wanders:
            return torch.clamp(init, *task.threat.limits(task.x))
        return task.threat.project(init, task.x)

    def objectives(self, output: Any, task: Task, loss: Loss) -> tuple[Tensor, ...]:
        """What is evaluated and differentiated, ``(N,)`` values each; by default the one loss of the call."""
        return (loss(output, task.y, task.target),)

    def success(self, feedback: Feedback, task: Task) -> Tensor:
        """Tells which rows have reached the goal, ``(N,)`` bool; by default the class left, or the wanted one."""
        return feedback.reached

    @abstractmethod
    def update(self, state: State, feedback: Feedback, task: Task, noise: Noise) -> State:
        """The next state, from what the model said at ``state.query``."""

    def finished(self, state: State) -> Tensor | None:
        """Tells which rows are done, ``(N,)`` bool, or None for never.

        A row that is done is dropped without another question, so the rule must have left its query in place.
        """
        return None


class Trace(NamedTuple):
    """What ``trace=`` is called with after every question."""

    restart: int
    step: int  # 0 is the first point asked
    row: Tensor  # (n,) indices of the rows still running
    loss: Tensor  # (n,)
    success: Tensor  # (n,) bool


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


class _Best(NamedTuple):
    """The best point of each row so far."""

    x_adv: Tensor
    success: Tensor
    score: Tensor
    loss: Tensor


def _take(rows: Any, index: Tensor) -> Any:
    """The same NamedTuple of row-first tensors for some of its rows."""
    return type(rows)(*(part[index] for part in rows))


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
    driver = _Driver(evaluator, rule, steps, keep, random_start, init, trace)
    with evaluator:
        row = torch.arange(len(x), device=x.device)
        batches = torch.split(row, batch_size or max(len(x), 1))
        parts = [driver.attack(rows, restarts) for rows in batches]
        best = parts[0] if len(parts) == 1 else _Best(*(torch.cat(part) for part in zip(*parts, strict=True)))
        inside = evaluator.threat.contains(best.x_adv, evaluator.x)
        if not bool(inside.all()):
            raise RuntimeError(
                f"{type(rule).__name__} left the threat model on {int((~inside).sum())} of {len(x)} rows: a rule "
                "must bring its query back with task.threat.project(query, task.x)"
            )
        judged = keep != "last"
        return evaluator.concluded(
            SearchResult(
                best.x_adv,
                best.success if judged else None,
                best.loss if judged else None,
                evaluator.threat.distance(best.x_adv, evaluator.x),
                evaluator.forwards,
                evaluator.backwards,
            )
        )


def _judged(state: Any) -> Tensor:
    """The points of a state that may be returned."""
    point: Tensor = state.candidate if hasattr(state, "candidate") else state.query
    return point


@dataclass(frozen=True)
class _Driver:
    evaluator: Evaluator
    rule: Rule[Any]
    steps: int
    keep: Keep
    random_start: bool
    init: Tensor | None
    trace: Callable[[Trace], None] | None

    def attack(self, rows: Tensor, restarts: int) -> _Best:
        """The best points of some rows over all restarts."""
        task = self.evaluator.task(rows if len(rows) < len(self.evaluator.x) else None)
        worst = torch.full_like(task.x.flatten(1)[:, 0], -torch.inf)
        best = _Best(task.x, torch.zeros_like(worst, dtype=torch.bool), worst, worst)
        if len(rows) == 0:
            return best
        for restart in range(restarts):
            if self.keep != "first" or restart == 0:
                best = self._run(task, best, restart)
                continue
            todo = (~best.success).nonzero().squeeze(1)
            if len(todo) == 0:
                break
            again = self._run(task.take(todo), _take(best, todo), restart)
            best = _Best(*(old.index_copy(0, todo, new) for old, new in zip(best, again, strict=True)))
        return best

    def _run(self, task: Task, best: _Best, restart: int) -> _Best:
        """One run of the rule; rows that are done leave the batch, and are put on the shelf meanwhile."""
        if self.evaluator.interruption is not None:
            return best
        noise = Noise(self.evaluator.key, task.row, restart)
        state = self.rule.start(task, self._point(task, restart, noise), noise)
        shelf, place = best, torch.arange(len(task.x), device=task.x.device)
        done: Tensor | None = None  # rows that wait to be dropped
        try:
            for step in range(self.steps):
                noise = noise._replace(row=task.row, step=step + 1)
                feedback = self._ask(state.query, task, self.rule.order, noise)
                if hasattr(state, "candidate"):
                    feedback = dataclasses.replace(feedback, candidate=self._ask(state.candidate, task, 0, noise))
                best = self._judge(best, _judged(state), feedback.candidate or feedback, task, restart, step, done)
                state = self.rule.update(state, feedback, task, noise)
                del feedback  # its gradients would be held through the next forward pass
                finished = self.rule.finished(state)
                if self.keep == "first":
                    finished = best.success if finished is None else finished | best.success
                if finished is None:
                    continue
                done = finished if done is None else done | finished
                if not self._may_look(step):
                    continue
                left, done = (~done).nonzero().squeeze(1), None
                if len(left) == len(finished):
                    continue
                shelf = _Best(*(old.index_copy(0, place, new) for old, new in zip(shelf, best, strict=True)))
                if len(left) == 0:
                    return shelf
                state, task, best, place = _take(state, left), task.take(left), _take(best, left), place[left]
            point = _judged(state)
            if self.keep == "last":
                best = best._replace(x_adv=point.detach())
            else:
                feedback = self._ask(point, task, 0, noise)
                best = self._judge(best, point, feedback, task, restart, self.steps, done)
        except OracleError as error:  # what was asked until then counts
            self.evaluator.interruption = error
        if len(place) == len(shelf.success):
            return best
        return _Best(*(old.index_copy(0, place, new) for old, new in zip(shelf, best, strict=True)))

    def _point(self, task: Task, restart: int, noise: Noise) -> Tensor:
        if self.init is not None and restart == 0:
            return self.rule.enter(self.init[task.row], task)
        return task.threat.sample(task.x, noise.stream(255)) if self.random_start else task.x

    def _may_look(self, step: int) -> bool:
        """Whether to look at which rows are done: always on a CPU, now and then where a look costs a wait."""
        return self.evaluator.x.device.type == "cpu" or step % _CHECK_EVERY == _CHECK_EVERY - 1

    def _chosen(self, better: Tensor, point: Tensor, best: Tensor) -> Tensor:
        """The point in the rows where it is better, and the best so far in the others."""
        if better.device.type == "cpu":  # elsewhere a look would wait for the device
            if bool(better.all()):
                return point
            chosen = choose(better, point, best)
            if bool(chosen.sum().isfinite()):  # a rule may propose what is not
                return chosen
        return torch.where(column(better, point), point, best)

    def _ask(self, points: Tensor, task: Task, order: int, noise: Noise) -> Feedback:
        def objectives(output: Any, of: Task) -> tuple[Tensor, ...]:
            return self.rule.objectives(output, of, self.evaluator.loss)

        def judge(feedback: Feedback) -> Tensor:
            return self.rule.success(feedback, task)

        return self.evaluator.feedback(points, task, objectives, order, noise, judge)

    def _judge(
        self, best: _Best, point: Tensor, feedback: Feedback, task: Task, restart: int, step: int, done: Tensor | None
    ) -> _Best:
        """The better of the best so far and the point just asked about, row by row."""
        if self.trace is not None:
            self.trace(Trace(restart, step, task.row, feedback.loss, feedback.success))
        if self.keep == "last":
            return best._replace(x_adv=point)
        loss = torch.nan_to_num(feedback.loss, nan=-torch.inf, neginf=-torch.inf, posinf=torch.inf)
        success = feedback.success
        score = loss
        if self.keep == "nearest" or self.rule.wanders:
            distance = task.threat.distance(point, task.x)
            inside = task.threat.contains(point, task.x, distance)
            success, loss = success & inside, torch.where(inside, loss, -torch.inf)
            score = torch.where(success, -distance, -torch.inf) if self.keep == "nearest" else loss
        better = torch.where(success == best.success, score > best.score, success)
        if done is not None:
            better = better & ~done
        x_adv = self._chosen(better, point.detach(), best.x_adv)
        kept = torch.where(better, loss, best.loss)
        scores = kept if score is loss else torch.where(better, score, best.score)
        return _Best(x_adv, success | best.success, scores, kept)
