"""The loop under every search: ask, judge, update, restart, and let go of rows that are done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advlib.evaluator import Evaluator, Feedback, Task
from advlib.kernels.looks import may_look
from advlib.noise import Noise
from advlib.oracles import OracleError
from advlib.rules import Keep, Rule, Trace
from advlib.threats.base import choose

LOOK_EVERY = 8  # steps between looks at which rows are done, where a look would wait for the device


class Best(NamedTuple):
    """The best point of each row so far."""

    x_adv: Tensor
    success: Tensor
    score: Tensor
    loss: Tensor


def take(rows: Any, index: Tensor) -> Any:
    """The same NamedTuple of row-first tensors for some of its rows."""
    return type(rows)(*(part[index] for part in rows))


def put(index: Tensor, new: Best, into: Best) -> Best:
    """The best points with those of some rows replaced."""
    return Best(*(old.index_copy(0, index, part) for old, part in zip(into, new, strict=True)))


def joined(parts: Sequence[Best]) -> Best:
    """The best points of several batches, one after the other."""
    return parts[0] if len(parts) == 1 else Best(*(torch.cat(part) for part in zip(*parts, strict=True)))


def merged(best: Best, new: Best, done: Tensor | None = None) -> Best:
    """Of two points of each row the better one: a success before a failure, then the higher score, then the first.

    Args:
        best: The points so far.
        new: Other points.
        done: ``(N,)`` bool, the rows that keep what they have; None for none.
    """
    better = torch.where(new.success == best.success, new.score > best.score, new.success)
    return replaced(best, new, better, done)


def replaced(best: Best, new: Best, better: Tensor, done: Tensor | None = None) -> Best:
    """The points so far, but on the rows that are ``better``, ``(N,)`` bool, and not ``done``: there the new ones."""
    if done is not None:
        better = better & ~done
    many = better.count_nonzero().item() if may_look(better) else None
    if many == 0:
        return best
    x_adv = new.x_adv if many == better.numel() else choose(better, new.x_adv, best.x_adv)
    loss = torch.where(better, new.loss, best.loss)
    score = loss if new.score is new.loss else torch.where(better, new.score, best.score)
    return Best(x_adv, best.success | (better & new.success), score, loss)


def nothing(x: Tensor) -> Best:
    """The best points of rows about which nothing was asked: the clean ones."""
    worst = torch.full_like(x.flatten(1)[:, 0], -torch.inf)
    return Best(x, torch.zeros_like(worst, dtype=torch.bool), worst, worst)


def judged(state: Any) -> Tensor:
    """The points of a state that may be returned."""
    point: Tensor = state.candidate if hasattr(state, "candidate") else state.query
    return point


@dataclass(frozen=True)
class Driver:
    evaluator: Evaluator
    rule: Rule[Any]
    steps: int
    keep: Keep
    random_start: bool
    init: Tensor | None
    trace: Callable[[Trace], None] | None

    def attack(self, rows: Tensor, restarts: int, batch_size: int | None) -> Best:
        """The best points of some rows, a batch of them at a time."""
        return joined([self._attack(part, restarts) for part in torch.split(rows, batch_size or max(len(rows), 1))])

    def _attack(self, rows: Tensor, restarts: int) -> Best:
        """The best points of one batch over all restarts."""
        task = self.evaluator.task(rows if len(rows) < len(self.evaluator.x) else None)
        best = nothing(task.x)
        if len(rows) == 0:
            return best
        for restart in range(restarts):
            if self.keep != "first" or restart == 0:
                best = self._run(task, best, restart)
                continue
            todo = (~best.success).nonzero().squeeze(1)
            if len(todo) == 0:
                break
            again = self._run(task.take(todo), take(best, todo), restart)
            best = put(todo, again, best)
        return best

    def _run(self, task: Task, best: Best, restart: int) -> Best:
        """One run of the rule; rows that are done leave the batch, and are put on the shelf meanwhile."""
        if self.evaluator.interruption is not None:
            return best
        task = self.rule.aim(task, restart)
        noise = Noise(self.evaluator.key, task.row, restart)
        state = self.rule.start(task, self._point(task, restart, noise), noise)
        shelf, place = best, torch.arange(len(task.x), device=task.x.device)
        done: Tensor | None = None  # rows that wait to be dropped
        try:
            for step in range(self.steps):
                noise = noise._replace(row=task.row, step=step + 1)
                feedback = self._question(state, task, noise, self.evaluator.feedback)
                told = feedback.candidate or feedback
                if self.trace is not None:
                    self.trace(Trace(restart, step, task.row, told.loss, told.success))
                best = self._judge(best, told, done)
                state = self.rule.update(state, feedback, task, noise)
                del feedback, told  # its gradients would be held through the next forward pass
                finished = self.rule.finished(state)
                if self.keep == "first":
                    finished = best.success if finished is None else finished | best.success
                if finished is None:
                    continue
                done = finished if done is None else done | finished
                if not self._may_look(step):
                    continue
                if not bool(done.any()):
                    done = None
                    continue
                left, done = (~done).nonzero().squeeze(1), None
                shelf = put(place, best, shelf)
                if len(left) == 0:
                    return shelf
                state, task, best, place = take(state, left), task.take(left), take(best, left), place[left]
            best = self._concluded(best, judged(state), task, noise, done)
        except OracleError as error:  # what was asked until then counts
            self.evaluator.interruption = error
        if len(place) == len(shelf.success):
            return best
        return put(place, best, shelf)

    def _point(self, task: Task, restart: int, noise: Noise) -> Tensor:
        if self.init is not None and restart == 0:
            return self.rule.enter(self.init[task.row], task)
        return task.threat.sample(task.x, noise.stream(255)) if self.random_start else task.x

    def _may_look(self, step: int) -> bool:
        """Whether to look at which rows are done: always on a CPU, now and then where a look costs a wait."""
        return self.evaluator.x.is_cpu or step % LOOK_EVERY == LOOK_EVERY - 1

    def _question(self, state: Any, task: Task, noise: Noise, ask: Callable[..., Feedback]) -> Feedback:
        """What the model says where the rule wants to know it."""
        feedback = self._ask(state.query, task, self.rule.order, noise, ask)
        if hasattr(state, "candidate"):
            feedback = dataclasses.replace(feedback, candidate=self._ask(state.candidate, task, 0, noise, ask))
        return feedback

    def _ask(self, points: Tensor, task: Task, order: int, noise: Noise, ask: Callable[..., Feedback]) -> Feedback:
        def objectives(output: Any, of: Task) -> tuple[Tensor, ...]:
            return self.rule.objectives(output, of, self.evaluator.loss)

        def judge(feedback: Feedback) -> Tensor:
            return self.rule.success(feedback, task)

        return ask(points, task, objectives, order, noise, judge)

    def _concluded(self, best: Best, point: Tensor, task: Task, noise: Noise, done: Tensor | None) -> Best:
        """The best points once the last one is known, about which the model is asked but for ``keep="last"``."""
        if self.keep == "last":
            return best._replace(x_adv=point.detach())
        feedback = self._ask(point, task, 0, noise, self.evaluator.feedback)
        if self.trace is not None:
            self.trace(Trace(int(noise.restart), self.steps, task.row, feedback.loss, feedback.success))
        return self._judge(best, feedback, done)

    def _judge(self, best: Best, feedback: Feedback, done: Tensor | None) -> Best:
        """The better of the best so far and the point just asked about, row by row."""
        if self.keep == "last":
            return best._replace(x_adv=feedback.point)
        point, success, loss = feedback.point.detach(), feedback.success, feedback.loss
        threat, x = feedback.task.threat, feedback.task.x
        if self.keep == "nearest":
            score = -feedback.distance
            nearer = success & (score > best.score)
            if not threat.endless:
                nearer = nearer & threat.holds(point, x)
            return replaced(best, Best(point, nearer, score, loss), nearer, done)
        loss = torch.nan_to_num(loss, nan=-torch.inf, neginf=-torch.inf, posinf=torch.inf)
        if self.rule.wanders:  # but keeps to bounds and mask
            inside = threat.holds(point, x)
            success, loss = success & inside, torch.where(inside, loss, -torch.inf)
        return merged(best, Best(point, success, loss, loss), done)
