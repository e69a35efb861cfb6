"""The rows of one block while an evaluation is under way: what is known of each, and what it has cost."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from advlib.evaluation.result import CLEAN, Stage
from advlib.evaluator import Evaluator, Model, guard, precise
from advlib.losses import LOSSES, Loss, margin
from advlib.search import Rule, SearchResult, search
from advlib.threats import Threat

T = TypeVar("T")

_STATE = (
    *("x_adv", "best", "margin", "standing", "broken_by", "predicted", "distance", "samples"),
    *("attacks", "decisions"),
)


def ranked_by_margin(loss: Loss) -> Loss:
    """A loss with the slope of another one, and the value of the margin, by which points and rows are compared."""

    def ranked(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        slope = loss(logits, y, target)
        return slope + (margin(logits, y) - slope).detach()

    return ranked


class Rows:
    """A block of rows under attack. A row leaves as soon as a point that breaks it has been verified.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: ``(N, ...)`` clean inputs.
        y: ``(N,)`` true classes.
        threat: Where the adversary may look.
        certified: ``(N,)`` bool, rows that are not attacked.
        generator: Source of all keys.
        batch_size: Rows asked at once.
        tell: Called whenever some rows are settled.

    Attributes:
        keep: Called after every attack, for who may want to go on from there: see :meth:`snapshot`.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        certified: Tensor,
        generator: torch.Generator,
        batch_size: int | None,
        tell: Callable[[Rows], None],
    ) -> None:
        with Evaluator(model, x, y, threat) as evaluator, _full_precision(x):  # which checks everything
            parts = torch.split(torch.arange(len(x), device=x.device), batch_size or max(len(x), 1))
            logits = [evaluator.ask(x[part], part, order=0).logits for part in parts]
        self.model, self.x, self.y, self.threat = evaluator.model, evaluator.x, evaluator.y, evaluator.threat
        self.logits = torch.cat(logits)
        self.certified, self.generator, self.batch_size, self.tell = certified, generator, batch_size, tell
        self.keep: Callable[[Rows], None] | None = None
        self.attacks, self.decisions = 0, list[Any]()
        self._attack_due, self._decision_due = 0, 0  # counted again by a schedule that is run after `restore`
        self.stages: dict[str, Stage] = {}
        self.x_adv = self.x.clone()
        self.broken_by = [""] * len(x)
        self.predicted = self.logits.argmax(1)
        self.distance = self.x.new_full((len(x),), math.inf, dtype=torch.float64)
        self.samples = torch.ones_like(self.y)
        self.correct = (self.predicted == self.y) & ~self.logits.isnan().any(1)
        if bool((certified & ~self.correct).any()):
            wrong = int((certified & ~self.correct).sum())
            raise ValueError(
                f"a certified row must be one that the model is right about, got {wrong} that it errs on unperturbed: "
                "look whether certified and x are in the same order"
            )
        self.standing = self.correct & ~certified
        for row in (~self.correct).nonzero().squeeze(1).tolist():
            self.broken_by[row] = CLEAN
        self.distance[~self.correct] = 0
        self.best = self.x.clone()  # the point of each row with the largest margin
        self.margin = margin(self.logits, self.y)
        self.count(CLEAN, rows=len(x), broken=int((~self.correct).sum()), forward=len(x))

    @property
    def robust(self) -> Tensor:
        """Rows that the model is right about, and that nothing broke, ``(N,)`` bool."""
        return self.standing | (self.correct & self.certified)

    def left(self, rows: Tensor | None = None) -> Tensor:
        """Those of some rows that nothing has broken yet, as an index; by default of all."""
        return self.standing.nonzero().squeeze(1) if rows is None else rows[self.standing[rows]]

    def nearest(self, share: float, of: int | None = None) -> Tensor:
        """The rows left with the largest margins, at least one as long as there are any.

        Args:
            share: How many, as a share of ``of``.
            of: A number of rows; by default of those left.
        """
        left = self.left()
        count = math.ceil(share * (len(left) if of is None else of))
        return left[self.margin[left].topk(min(count, len(left))).indices]

    def attack(self, stage: str, rows: Tensor, rule: Rule[Any], steps: int, **options: Any) -> None:
        """Runs a rule on those of ``rows`` that are left.

        Args:
            stage: Name that its cost and what it breaks go under.
            rows: Index of rows.
            rule: Where it steps next.
            steps: Updates.
            **options: Of :func:`~advlib.search.search`; what has a row for each row of the block is indexed.
        """
        self._attack_due += 1
        if self._attack_due <= self.attacks:  # the snapshot was taken after it
            return
        self.attacks += 1
        rows = self.left(rows)
        if len(rows) == 0:
            return
        by = options.pop("loss", "margin")
        loss = ranked_by_margin(LOSSES[by]) if by != "margin" else margin
        for name in ("init", "target"):
            if options.get(name) is not None:
                options[name] = options[name][rows]
        with self._stage(stage, len(rows)):
            found = search(
                self.model,
                self.x[rows],
                self.y[rows],
                self.threat.rows(rows),
                rule,
                steps=steps,
                loss=loss,
                generator=self.generator,
                batch_size=self.batch_size,
                **{"keep": "first", **options},
            )
            self.count(stage, forward=int(found.forwards.sum()), backward=int(found.backwards.sum()))
            self.samples[rows] += found.forwards + found.backwards
            self.take(stage, rows, found)
        if self.keep is not None:
            self.keep(self)

    def decide(self, value: Callable[[], T]) -> T:
        """What a schedule bases its next attacks on; after :meth:`restore`, as it was decided then."""
        self._decision_due += 1
        if self._decision_due > len(self.decisions):
            self.decisions.append(value())
        decided: T = self.decisions[self._decision_due - 1]
        return decided

    def take(self, stage: str, rows: Tensor, found: SearchResult) -> None:
        """Takes over what a search found on some rows, once it is verified."""
        success, loss = found.success, found.loss
        if success is None or loss is None:
            raise ValueError("keep='last' judges nothing: search with keep='first'")
        better = ~success & (loss > self.margin[rows])
        self.best[rows[better]], self.margin[rows[better]] = found.x_adv[better], loss[better]
        if bool(success.any()):
            self.verify(stage, rows[success], found.x_adv[success])

    def verify(self, stage: str, rows: Tensor, points: Tensor) -> None:
        """Asks the user's own model once more, in full precision, and lets rows leave that it errs on."""
        logits, threat, x = self.ask(points, stage), self.threat.rows(rows), self.x[rows]
        self.samples[rows] += 1
        predicted = logits.argmax(1)
        errs = (predicted != self.y[rows]) & ~logits.isnan().any(1) & threat.contains(points, x)
        broken = rows[errs]
        self.x_adv[broken], self.standing[broken], self.predicted[broken] = points[errs], False, predicted[errs]
        self.distance[broken] = threat.distance(points, x)[errs].double()
        for row in broken.tolist():
            self.broken_by[row] = stage
        self.count(stage, broken=len(broken))
        self.tell(self)

    def ask(self, points: Tensor, stage: str) -> Tensor:
        """The logits at some points, in full precision."""
        self.count(stage, forward=len(points))
        parts = torch.split(points, self.batch_size or len(points))
        with guard(self.model), _full_precision(points):
            return torch.cat([precise(self.model(part)) for part in parts])

    @contextmanager
    def _stage(self, name: str, rows: int) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.count(name, rows=rows, seconds=time.perf_counter() - start)

    def count(
        self, name: str, rows: int = 0, broken: int = 0, forward: int = 0, backward: int = 0, seconds: float = 0
    ) -> None:
        old = self.stages.get(name, Stage(name, 0, 0, 0, 0, 0.0))
        self.stages[name] = old + Stage(name, rows, broken, forward, backward, seconds)

    def snapshot(self) -> dict[str, Any]:
        """All that is known, from which :meth:`restore` goes on."""
        state: dict[str, Any] = {name: getattr(self, name) for name in _STATE}
        state["stages"] = [dataclasses.asdict(stage) for stage in self.stages.values()]
        return {**state, "generator": self.generator.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over a snapshot of the same rows; the schedule, run from its beginning, then goes on from there."""
        device = self.x.device
        for name in _STATE:
            value = state[name]
            setattr(self, name, value.to(device) if isinstance(value, Tensor) else value)
        self.decisions = [part.to(device) if isinstance(part, Tensor) else part for part in self.decisions]
        self.stages = {stage["name"]: Stage(**stage) for stage in state["stages"]}
        self.generator.set_state(state["generator"])
        self.tell(self)


def _full_precision(x: Tensor) -> AbstractContextManager[None]:
    """Autocast off, where the user has it on."""
    context: AbstractContextManager[None] = torch.autocast(x.device.type, enabled=False)
    return context
