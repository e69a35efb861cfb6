"""The driver where steps are recorded and replayed: a fixed number of slots, refilled as their rows are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advlib.acceleration import Acceleration
from advlib.driver import LOOK_EVERY, Best, Driver, joined, judged, merged, nothing, put, take
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


class Queue:
    """Which run begins next, and which are over.

    Rows of which no run is going on come first. Where there are none, a slot would be idle, and takes the next run of a
    row whose earlier ones are still going on. What it finds counts once those are over and have not made it needless.

    Args:
        rows: How many rows there are.
        restarts: Runs of each.
    """

    def __init__(self, rows: int, restarts: int) -> None:
        self._resting = dict.fromkeys(range(rows))  # rows of which no run is going on, in order, and more are to begin
        self._going: dict[int, None] = {}  # rows of which some are, in order, and more are to begin
        self._begun, self._ended, self._told = [0] * rows, [0] * rows, [0] * rows  # runs of each row
        self._needed = [restarts] * rows  # up to a row's first success, if that ends it
        self._over: dict[Run, list[Tensor]] = {}  # what they have found, until the row's earlier runs have told theirs

    def begin(self) -> Run | None:
        """The run that begins next; None where there is none."""
        waiting = self._resting or self._going
        if not waiting:
            return None
        place = next(iter(waiting))
        del waiting[place]
        run = (place, self._begun[place])
        self._begun[place] += 1
        if self._begun[place] < self._needed[place]:
            self._going[place] = None
        return run

    def end(self, run: Run, done: bool, found: list[Tensor]) -> None:
        """Takes what a run has found; ``done`` says that the row needs no later one."""
        place, restart = run
        self._over[run] = found
        self._ended[place] += 1
        if done:
            self._needed[place] = min(self._needed[place], restart + 1)
        if place in self._going:
            if self._begun[place] >= self._needed[place]:
                del self._going[place]
            elif self._ended[place] == self._begun[place]:
                del self._going[place]
                self._resting[place] = None

    def needless(self, run: Run) -> bool:
        """Whether an earlier run of the row has made this one needless."""
        return run[1] >= self._needed[run[0]]

    def due(self) -> dict[Run, list[Tensor]]:
        """What the next run of each row has found, where it is over."""
        due = {
            run: found for run, found in self._over.items() if run[1] == self._told[run[0]] and not self.needless(run)
        }
        for run in due:
            del self._over[run]
            self._told[run[0]] += 1
        return due


@dataclass(frozen=True)
class AcceleratedDriver(Driver):
    """Takes the steps of the driver that it extends, recorded, and against a cheaper copy of the model.

    Rules that end all rows together run in lockstep. Elsewhere a slot whose run is over takes the next one, of another
    row or another run of one, so that the batch keeps its size; its last question is asked with a gradient, as all are.
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
        # the next recorded run is written over this one
        best, point = Best(*(part.clone() for part in slots.best)), judged(slots.state).clone()
        return self._concluded(best, point, task, noise, None)

    def _loop(self, slots: Slots) -> Any:
        by = (self.rule, self.steps, self.keep)
        return self.acceleration.loop(self._advance, slots, self.evaluator, by)

    # -- rows that end one by one --------------------------------------------------------------------------

    def _refilled(self, rows: Tensor, restarts: int, size: int) -> Best:
        found, queue = nothing(self.evaluator.x[rows]), Queue(len(rows), restarts)
        runs = [queue.begin() for _ in range(size)]
        first = [place for place, restart in filter(None, runs) if restart == 0]
        slots = _resized(self._begun(rows, first, 0), list(range(len(first))), size)
        slots = self._refill(slots, rows, dict(enumerate(runs[len(first) :], len(first))))
        slots = self._advance(slots, self.evaluator.key)  # as a call: it checks what the model returns
        loop = self._loop(slots)
        while True:
            loop.load(slots, self.evaluator.key)
            loop.advance(LOOK_EVERY)
            slots = loop.tree
            live = slots.live.tolist()
            ended = {i: run for i, run in enumerate(runs) if run and not live[i]}
            if not ended:
                continue
            found = self._told(
                _rows(slots, torch.tensor(list(ended), device=rows.device)), ended.values(), queue, found
            )
            fresh = {i: queue.begin() for i, run in enumerate(runs) if run and (i in ended or queue.needless(run))}
            runs = [fresh.get(i, run) for i, run in enumerate(runs)]
            slots = self._refill(slots, rows, fresh)
            kept = [i for i, run in enumerate(runs) if run]
            if not kept:
                return found
            if len(kept) <= len(runs) // 2:
                smaller = slots_for(len(kept), size)
                slots, runs = _resized(slots, kept, smaller), [runs[i] for i in kept] + [None] * (smaller - len(kept))
                loop = self._loop(slots)

    def _told(self, over: Slots, runs: Iterable[Run], queue: Queue, found: Best) -> Best:
        """The best points once some runs are over, as if the runs of a row had come one after the other."""
        parts = (*over.best, over.task.row, over.forwards, over.backwards, over.moved)
        won = over.best.success.tolist() if self.keep == "first" else [False] * len(over.live)
        for run, done, *ended in zip(runs, won, *(torch.split(part, 1) for part in parts), strict=True):
            queue.end(run, done, ended)
        while due := queue.due():
            *best, row, forwards, backwards, moved = (torch.cat(part) for part in zip(*due.values(), strict=True))
            self.evaluator.count(row, forwards, backwards, moved)
            places = torch.tensor([place for place, _ in due], device=row.device)
            found = put(places, merged(take(found, places), Best(*best)), found)
        return found

    def _refill(self, slots: Slots, rows: Tensor, fresh: dict[int, Run | None]) -> Slots:
        """The slots once some of them have begun another run."""
        size = len(slots.live)
        by_restart = sorted(((i, run) for i, run in fresh.items() if run), key=lambda entry: entry[1][1])
        for restart, group in groupby(by_restart, key=lambda entry: entry[1][1]):
            entries = list(group)
            begun = leaves(self._begun(rows, [place for _, (place, _) in entries], restart))
            index = torch.tensor([i for i, _ in entries], device=rows.device)
            each = iter(begun)

            def placed(old: Tensor, each: Iterator[Tensor] = each, index: Tensor = index) -> Tensor:
                new = next(each)
                return old.index_copy(0, index, new) if old.ndim and len(old) == size else old  # or shared by all rows

            slots = mapped(slots, placed)
        return slots

    def _begun(self, rows: Tensor, places: list[int], restart: int) -> Slots:
        """Slots at the beginning of one run of some rows."""
        task = self.evaluator.task(rows[torch.tensor(places, device=rows.device)])
        return self._started(task, nothing(task.x), restart)

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
        best = self._judge(best, told, ~live)
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


def _resized(slots: Slots, kept: list[int], size: int) -> Slots:
    """Another number of slots: those kept, and idle ones, which repeat the first and count for nothing."""
    idle = size - len(kept)
    return _rows(slots, torch.tensor(kept + kept[:1] * idle, device=slots.live.device))
