"""The driver where steps are recorded and replayed: a fixed number of slots, refilled as their rows are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advlib.acceleration import Acceleration
from advlib.driver import LOOK_EVERY, Best, Driver, joined, judged, nothing, put, take
from advlib.evaluator import Model, Task
from advlib.noise import Key, Noise
from advlib.replay import leaves, mapped
from advlib.rules import Rule

Run = tuple[int, int]  # the place of a row, and which of its runs


class Slots(NamedTuple):
    """What goes on in each slot."""

    state: Any
    task: Task
    best: Best
    restart: Tensor  # (B,) which run of its row
    step: Tensor  # (B,) questions answered in this run
    live: Tensor  # (B,) bool, whether the run goes on
    forwards: Tensor  # (B,) passes of this run
    backwards: Tensor  # (B,)
    moved: Tensor  # (B,) questions of this run whose gradient was not zero


def slots_for(rows: int, most: int | None) -> int:
    """How many slots some rows get: at most ``most``, and one of four sizes per octave, so that few are recorded."""
    grain = 1 << max(rows.bit_length() - 3, 0)
    slots = -(-rows // grain) * grain
    return slots if most is None else min(slots, most)


@dataclass(frozen=True)
class AcceleratedDriver(Driver):
    """Takes the steps of the driver that it extends, recorded, and against a cheaper copy of the model.

    Rules that end all rows together run in lockstep. Elsewhere a slot whose row is done takes the next one, so that
    the batch keeps its size; its last question is asked with a gradient, as all are.
    """

    acceleration: Acceleration
    stand_in: Model

    @classmethod
    def of(cls, driver: Driver, acceleration: Acceleration) -> AcceleratedDriver:
        """The same driver, accelerated."""
        stand_in = acceleration.stand_in(driver.evaluator.model, driver.evaluator.x)
        parts = {field.name: getattr(driver, field.name) for field in fields(driver)}
        return cls(**parts, acceleration=acceleration, stand_in=stand_in)

    def attack(self, rows: Tensor, restarts: int, batch_size: int | None) -> Best:
        model, self.evaluator.model = self.evaluator.model, self.stand_in
        with self.acceleration.products():
            best = self._searched(rows, restarts, batch_size)
        self.evaluator.model = model
        exact = self.stand_in is model and self.acceleration.precision is None
        if exact or len(rows) == 0:
            return best
        return self._confirmed(best, rows, restarts, batch_size)

    def _confirmed(self, best: Best, rows: Tensor, restarts: int, batch_size: int | None) -> Best:
        """The best points as the model itself judges them; rows that it does not see as won are attacked again."""
        asked = []
        for part in torch.split(torch.arange(len(rows), device=rows.device), batch_size or len(rows)):
            task = self.evaluator.task(rows[part])
            noise = Noise(self.evaluator.key, task.row)
            asked.append(self._concluded(nothing(task.x), best.x_adv[part], task, noise, None))
        held = joined(asked)
        lost = (best.success & ~held.success).nonzero().squeeze(1)
        if len(lost) == 0:
            return held
        return put(lost, self._searched(rows[lost], restarts, batch_size), held)

    @property
    def _records(self) -> bool:
        return self.trace is None and self.acceleration.records(self.evaluator)

    def _searched(self, rows: Tensor, restarts: int, batch_size: int | None) -> Best:
        one_by_one = self.keep == "first" or type(self.rule).finished is not Rule.finished
        if self._records and one_by_one and self.keep != "last" and len(rows):
            return self._refilled(rows, restarts, slots_for(len(rows), batch_size))
        return super().attack(rows, restarts, batch_size)

    # -- all rows in lockstep ------------------------------------------------------------------------------

    def _run(self, task: Task, best: Best, restart: int) -> Best:
        if not self._records or type(self.rule).finished is not Rule.finished:
            return super()._run(task, best, restart)
        slots = self._started(task, best, restart)
        task, noise = slots.task, Noise(self.evaluator.key, task.row, restart)
        slots = self._advance(slots, self.evaluator.key)  # as a call: it checks what the model returns
        if self.steps > 1:
            loop = self._loop(slots)
            loop.load(slots, self.evaluator.key)
            loop.advance(self.steps - 1)
            slots = loop.tree
        self._count(slots)
        point = judged(slots.state).clone()  # the next recorded run is written over this one
        return self._concluded(slots.best, point, task, noise, None)

    def _loop(self, slots: Slots) -> Any:
        by = (self.rule, self.steps, self.keep)
        return self.acceleration.loop(self._advance, slots, self.evaluator, by)

    # -- rows that end one by one --------------------------------------------------------------------------

    def _refilled(self, rows: Tensor, restarts: int, size: int) -> Best:
        found = nothing(self.evaluator.x[rows])
        waiting = deque((place, 0) for place in range(len(rows)))
        runs: list[Run | None] = [waiting.popleft() for _ in range(min(size, len(waiting)))]
        slots = self._begun(rows, list(range(len(runs))), 0, found)
        slots, runs = _resized(slots, runs, list(range(len(runs))), size)
        slots = self._advance(slots, self.evaluator.key)  # as a call: it checks what the model returns
        loop = self._loop(slots)
        while True:
            loop.load(slots, self.evaluator.key)
            loop.advance(LOOK_EVERY)
            slots = loop.tree
            live = slots.live.tolist()
            ended = [i for i, run in enumerate(runs) if run and not live[i]]
            if not ended:
                continue
            over = _rows(slots, torch.tensor(ended, device=rows.device))
            self._count(over)
            of = [run for run in (runs[i] for i in ended) if run]
            places = torch.tensor([place for place, _ in of], device=rows.device)
            found = put(places, over.best, found)
            settled = over.best.success.tolist() if self.keep == "first" else [False] * len(of)
            for (place, restart), done in zip(of, settled, strict=True):
                if not done and restart + 1 < restarts:
                    waiting.append((place, restart + 1))
            for i in ended:
                runs[i] = waiting.popleft() if waiting else None
            slots = self._refill(slots, rows, [(i, run) for i in ended if (run := runs[i])], found)
            kept = [i for i, run in enumerate(runs) if run]
            if not kept:
                return found
            if len(kept) <= len(runs) // 2:
                slots, runs = _resized(slots, runs, kept, slots_for(len(kept), size))
                loop = self._loop(slots)

    def _refill(self, slots: Slots, rows: Tensor, fresh: list[tuple[int, Run]], found: Best) -> Slots:
        """The slots once some of them have begun another run."""
        size = len(slots.live)
        by_restart = sorted(fresh, key=lambda entry: entry[1][1])
        for restart, group in groupby(by_restart, key=lambda entry: entry[1][1]):
            entries = list(group)
            begun = leaves(self._begun(rows, [place for _, (place, _) in entries], restart, found))
            index = torch.tensor([i for i, _ in entries], device=rows.device)
            each = iter(begun)

            def placed(old: Tensor, each: Iterator[Tensor] = each, index: Tensor = index) -> Tensor:
                new = next(each)
                return old.index_copy(0, index, new) if old.ndim and len(old) == size else old  # or shared by all rows

            slots = mapped(slots, placed)
        return slots

    def _begun(self, rows: Tensor, places: list[int], restart: int, found: Best) -> Slots:
        """Slots at the beginning of one run of some rows."""
        index = torch.tensor(places, device=rows.device)
        return self._started(self.evaluator.task(rows[index]), take(found, index), restart)

    # -- one step ------------------------------------------------------------------------------------------

    def _started(self, task: Task, best: Best, restart: int) -> Slots:
        task = self.rule.aim(task, restart)
        noise = Noise(self.evaluator.key, task.row, restart)
        state = self.rule.start(task, self._point(task, restart, noise), noise)
        zero = torch.zeros_like(task.row)
        return Slots(state, task, best, zero + restart, zero, zero == 0, zero, zero, zero)

    def _advance(self, slots: Slots, key: Key) -> Slots:
        """One question and one update in every slot: a pure function of tensors."""
        state, task, best, live = slots.state, slots.task, slots.best, slots.live
        noise = Noise(key, task.row, slots.restart, slots.step + 1)
        feedback = self._question(state, task, noise, self.evaluator.answer)
        told = feedback.candidate or feedback
        best = self._judge(best, judged(state), told, task, ~live)
        state = self.rule.update(state, feedback, task, noise)
        finished = self.rule.finished(state)
        done = slots.step == self.steps  # this question was about the last point
        done = done if finished is None else done | finished
        done = done | best.success if self.keep == "first" else done
        forwards = feedback.forwards + (told.forwards if told is not feedback else 0)
        moved = slots.moved + (live & feedback.moved) if self.rule.order else slots.moved
        return Slots(
            state,
            task,
            best,
            slots.restart,
            slots.step + 1,
            live & ~done,
            slots.forwards + forwards * live,
            slots.backwards + feedback.backwards * live,
            moved,
        )

    def _count(self, slots: Slots) -> None:
        self.evaluator.count(slots.task.row, slots.forwards, slots.backwards, slots.moved)


def _rows(slots: Slots, index: Tensor) -> Slots:
    return Slots(
        take(slots.state, index),
        slots.task.take(index),
        take(slots.best, index),
        *(part[index] for part in slots[3:]),
    )


def _resized(slots: Slots, runs: list[Run | None], kept: list[int], size: int) -> tuple[Slots, list[Run | None]]:
    """Another number of slots: those kept, and idle ones, which repeat the first and count for nothing."""
    idle = size - len(kept)
    index = torch.tensor(kept + kept[:1] * idle, device=slots.live.device)
    return _rows(slots, index), [runs[i] for i in kept] + [None] * idle
