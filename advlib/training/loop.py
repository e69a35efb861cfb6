"""One run of a Trainer: its epochs, what it remembers of them, and what a checkpoint keeps of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from advlib.defenses.base import Attack
from advlib.training.checkpoint import (
    State,
    check_architecture,
    check_finite,
    check_settings,
    read_checkpoint,
    write_checkpoint,
)
from advlib.training.metrics import Metrics, Row
from advlib.training.processes import gathered, length, rank, samplers, synchronize_buffers, total
from advlib.training.randomness import random_state, restore_random_state
from advlib.training.steps import Stepper, Sums
from advlib.training.validation import accuracies, correct, pair

Stopped = Literal["early", "collapse"]
COLLAPSED = 0.5  # share of the best accuracy on a training batch below which training has collapsed
LEARNED = 0.2  # accuracy on a training batch from which on it can


@dataclass
class Progress:
    """Where a run stands."""

    epoch: int = 0  # complete epochs
    batch: int = 0  # batches taken in the epoch under way
    step: int = 0  # optimizer steps
    sums: Sums = field(default_factory=Sums)
    seconds: float = 0.0  # spent on the batches of the epoch under way
    history: list[Row] = field(default_factory=list)
    best_epoch: int | None = None
    best_score: float | None = None
    best_state: State | None = None
    good_epoch: int = 0  # of the collapse guard's last good check
    good_score: float = 0.0  # the guard's best
    good_state: State | None = None
    stopped: Stopped | None = None


@dataclass
class Loop:
    """The epochs of one call of :meth:`advlib.training.Trainer.fit`, which documents the parts."""

    stepper: Stepper
    frozen: list[nn.Module]  # modules that stay in evaluation
    streams: list[torch.Generator]
    settings: dict[str, str]  # what a checkpoint must agree on
    attack: Attack | None
    collapse_guard: Attack | None
    metrics: Metrics | None
    awp_gamma: float
    awp_warmup: int
    patience: int | None
    checkpoint: Path | None
    every: int | None
    progress: Progress = field(default_factory=Progress)
    _start: dict[str, Any] | None = None  # the state of chance before the epoch's first batch
    _now: dict[str, Any] | None = None  # the one to go on with, after a checkpoint was read

    @property
    def delivered(self) -> nn.Module:
        """The model whose accuracy counts: the average, where there is one."""
        average = self.stepper.average
        return self.stepper.module if average is None else average.module

    def run(self, train: Iterable[Any], validation: Iterable[Any] | None, epochs: int, bar: tqdm[Any]) -> None:
        """Trains until ``epochs`` are complete, or something stops it."""
        while self.progress.epoch < epochs and not self._stop():
            last = self._epoch(train, bar)
            self._finish_epoch(last, validation, bar)
        if (state := self.progress.best_state) is not None and validation is not None:
            self.stepper.module.load_state_dict(state)
        elif self.delivered is not self.stepper.module and self.progress.step > 0:
            self.stepper.module.load_state_dict(self.delivered.state_dict())

    def _stop(self) -> bool:
        run = self.progress
        if run.stopped == "collapse" and self.collapse_guard is not None:
            return True
        late = self.patience is not None and run.epoch - (run.best_epoch or 0) >= self.patience
        run.stopped = "early" if late else None
        return late

    def _epoch(self, train: Iterable[Any], bar: tqdm[Any]) -> Any:
        """Takes the batches that are left of the epoch, and returns the last one."""
        run, stepper = self.progress, self.stepper
        for part in (train, *samplers(train)):
            if callable(set_epoch := getattr(part, "set_epoch", None)):
                set_epoch(run.epoch)
        stepper.wrapped.train()
        for module in self.frozen:
            module.training = False
        batches, batch = self._batches(train)
        gamma = self.awp_gamma if run.epoch >= self.awp_warmup else 0.0
        started = time.perf_counter()
        for batch in batches:
            x, y = pair(batch, stepper.device)
            before = run.step
            for _ in range(stepper.objective.replays):
                run.step += 1
                where = f"epoch {run.epoch + 1}, batch {run.batch + 1} (step {run.step})"
                stepper.take(x, y, run.sums, where, gamma)
            run.batch += 1
            run.seconds, started = run.seconds + time.perf_counter() - started, time.perf_counter()
            # After the last batch the guard still needs it, and chance may not draw it again: its turn comes soon.
            guarded = self.collapse_guard is not None and run.batch == length(train)
            if self.every is not None and run.step // self.every > before // self.every and not guarded:
                self.save()
            bar.update()
            if run.sums.rows:
                bar.set_postfix(self._shown(), refresh=False)
        if batch is None:
            raise ValueError("train must yield at least one batch, got none: look at its length and drop_last")
        stepper.settle(run.sums)
        return batch

    def _batches(self, train: Iterable[Any]) -> tuple[Any, Any]:
        """An iterator over what is left of the epoch, and the batch before that."""
        run, device, batch = self.progress, self.stepper.device, None
        resumed = self._now
        if resumed is not None:
            restore_random_state(self._start if run.batch and self._start else resumed, self.streams, device)
        if resumed is None or run.batch == 0:
            self._start = random_state(self.streams, device)
        batches = iter(train)
        for taken in range(run.batch):
            batch = next(batches, None)
            if batch is None:
                raise ValueError(
                    f"train must yield the batches it did when the checkpoint was written, {run.batch} of which were "
                    f"taken, got {taken}: resume with the same data and batch size, or start with resume=False"
                )
        if resumed is not None and run.batch:
            restore_random_state(resumed, self.streams, device)
        self._now = None
        return batches, batch

    def _finish_epoch(self, last: Any, validation: Iterable[Any] | None, bar: tqdm[Any]) -> None:
        run, stepper, started = self.progress, self.stepper, time.perf_counter()
        synchronize_buffers(stepper.module, stepper.average)
        check_finite(stepper.module, run.step)
        rows, seconds = run.sums.rows, run.seconds
        row: Row = {
            "epoch": run.epoch + 1,
            "step": run.step,
            "loss": run.sums.loss / rows,
            "learning_rate": float(stepper.optimizer.param_groups[0]["lr"]),
            "seconds": seconds,
            "images_per_second": rows / stepper.objective.replays / max(seconds, 1e-9),
        }
        state = _copied(self.delivered) if validation is not None else None  # before a collapse is undone
        if validation is not None:
            clean, robust = accuracies(self.delivered, validation, self.attack, stepper.device)
            row["clean_accuracy"] = clean
            if self.attack is not None:
                row["robust_accuracy"] = robust
        if self.collapse_guard is not None:
            row["guard_accuracy"] = self._guard(last)
        if validation is not None and run.stopped is None and (run.best_score is None or robust > run.best_score):
            run.best_epoch, run.best_score, run.best_state = run.epoch + 1, robust, state
        row["seconds"] += time.perf_counter() - started
        run.history.append(row)
        run.epoch, run.batch, run.sums, run.seconds = run.epoch + 1, 0, Sums(), 0.0
        self._start = None
        bar.set_postfix(self._shown())
        if self.metrics is not None and rank() == 0:
            self.metrics(dict(row))
        self.save()

    def _guard(self, last: Any) -> float:
        """Accuracy on a training batch under the guard's attack; undoes the epoch if it has collapsed."""
        run, stepper = self.progress, self.stepper
        x, y = pair(last, stepper.device)
        _, robust = correct(stepper.module, x, y, self.collapse_guard)
        hits, rows = total(torch.stack([robust.sum(), torch.tensor(len(x), device=x.device)]), stepper.device).tolist()
        score = float(hits / rows)
        models = {"model": stepper.module, "average": stepper.average}
        if run.good_state is not None and run.good_score >= LEARNED and score < COLLAPSED * run.good_score:
            for name, model in models.items():
                if model is not None:
                    model.load_state_dict(run.good_state[name])
            run.stopped = "collapse"
        else:
            run.good_epoch, run.good_score = run.epoch + 1, max(score, run.good_score)
            run.good_state = {name: _copied(model) for name, model in models.items() if model is not None}
        return score

    def _shown(self) -> dict[str, str]:
        """What the progress bar shows beside the batches."""
        run = self.progress
        last = run.history[-1] if run.history else {}
        loss = run.sums.loss / run.sums.rows if run.sums.rows else last.get("loss", float("nan"))
        names = {"clean": "clean_accuracy", "robust": "robust_accuracy"}
        shares = {short: f"{last[name]:.1%}" for short, name in names.items() if name in last}
        return {"epoch": str(run.epoch + bool(run.batch)), "loss": f"{loss:.3f}", **shares}

    def save(self) -> None:
        """Writes a checkpoint, if there is to be one, of losses and weights that were found finite."""
        run, stepper = self.progress, self.stepper
        stepper.settle(run.sums)
        synchronize_buffers(stepper.module, stepper.average)
        check_finite(stepper.module, run.step)
        if self.checkpoint is None:
            return
        objective = getattr(stepper.objective, "state_dict", None)
        now = random_state(self.streams, stepper.device)
        process = {"start": self._start, "now": now, "objective": _moved(objective() if objective else None, "cpu")}
        processes = gathered(process)
        if rank() == 0:
            parts = {name: None if part is None else part.state_dict() for name, part in self._parts().items()}
            progress = {**vars(run), "sums": vars(run.sums)}
            state = {"settings": self.settings, "progress": progress, "processes": processes, **parts}
            write_checkpoint(self.checkpoint, state)

    def restore(self, path: Path) -> None:
        """Goes on where a checkpoint was written.

        Raises:
            ValueError: If the file is damaged, or of another run.
        """
        stepper, state = self.stepper, read_checkpoint(path)
        check_settings(path, state["settings"], self.settings)
        check_architecture(path, state["model"], stepper.module)
        for name, part in self._parts().items():
            if part is not None:
                part.load_state_dict(state[name])
        self.progress = Progress(**{**state["progress"], "sums": Sums(**state["progress"]["sums"])})
        process = state["processes"][rank()]
        self._start, self._now = process["start"], process["now"]
        if process["objective"] is not None:
            stepper.objective.load_state_dict(_moved(process["objective"], stepper.device))  # type: ignore[attr-defined]

    def _parts(self) -> dict[str, Any]:
        stepper = self.stepper
        parts = {"optimizer": stepper.optimizer, "scheduler": stepper.scheduler, "average": stepper.average}
        return {**parts, "model": stepper.module}


def _copied(model: nn.Module) -> State:
    """A model's state as it is now, in main memory."""
    state = model.state_dict()
    for name, value in state.items():
        state[name] = value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else deepcopy(value)
    return state


def _moved(state: Any, device: torch.device | str) -> Any:
    """The same state, with its tensors on a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {name: _moved(value, device) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_moved(value, device) for value in state)
    return state
