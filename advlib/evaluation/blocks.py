"""Blocks of rows that are done, and the folder in which an evaluation that may be killed keeps what it knows."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from advlib.evaluation.result import Finding, Stage
from advlib.evaluation.rows import Rows
from advlib.evaluator import Model, guard
from advlib.training.checkpoint import describe, read_checkpoint, write_checkpoint

_PROBES = 16  # rows whose logits tell one function from another


@dataclass(frozen=True)
class Block:
    """What is kept of a block of rows: every tensor has one row per example."""

    x: Tensor | None  # (N, ...) clean inputs, where examples are wanted
    x_adv: Tensor | None  # (N, ...) what broke them
    y: Tensor  # (N,)
    correct: Tensor  # (N,) bool
    robust: Tensor  # (N,) bool
    broken_by: list[str]
    predicted: Tensor  # (N,)
    distance: Tensor  # (N,)
    samples: Tensor  # (N,)
    certified: Tensor  # (N,) bool
    stages: dict[str, Stage]
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, rows: Rows, findings: tuple[Finding, ...]) -> Block:
        """What is kept of rows that are done; on the CPU but for the examples."""
        names = ("y", "correct", "robust", "predicted", "distance", "samples", "certified")
        told = {name: getattr(rows, name).cpu() for name in names}
        return cls(rows.x, rows.x_adv, broken_by=rows.broken_by, stages=rows.stages, findings=findings, **told)

    def without_examples(self) -> Block:
        """The same without the inputs and what broke them."""
        return dataclasses.replace(self, x=None, x_adv=None)


class Chance(NamedTuple):
    """Where an evaluation's random numbers come from."""

    seed: int  # of the generator it was given, or of torch's global one, to be told
    key: int  # drawn from it; each block's generator is seeded with this and the block's number


class Folder:
    """Where blocks that are done are kept, and the state of those under way; each file is whole or not there.

    Args:
        path: The folder; it is made if it is not there.
        settings: What has to be the same for the results to belong together, by name, in words.
        chance: Where random numbers come from.
        given: Whether they have to be those; else an evaluation found in the folder goes on with its own.

    Attributes:
        chance: Where random numbers come from.

    Raises:
        ValueError: If the folder holds an evaluation with other settings; the message names the first.
        OSError: If it cannot be written to.
    """

    def __init__(self, path: Path, settings: dict[str, str], chance: Chance, given: bool) -> None:
        self.path, self.chance = path, chance
        path.mkdir(parents=True, exist_ok=True)
        head = path / "evaluation.pt"
        if not head.exists():
            write_checkpoint(head, {"settings": settings, "chance": list(chance)})
            return
        found = read_checkpoint(head)
        self.chance = Chance(*found["chance"])
        if given:
            settings = {**settings, "key": f"{chance.key}"}
        known = {**found["settings"], "key": f"{self.chance.key}"}
        for name, value in settings.items():
            if known[name] != value:
                raise ValueError(
                    f"{path} must hold an evaluation with this {name}, {value}, got one with {known[name]}: evaluate "
                    "with the settings that it was begun with, or give an empty folder"
                )

    def done(self, index: int, data: str, x: Tensor) -> Block | None:
        """The block of that number, with the inputs that it was of, if it was done; see :func:`data_of`."""
        found = self._read(index, "block", data)
        if found is None:
            return None
        stages = {name: Stage(**stage) for name, stage in found.pop("stages").items()}
        findings = tuple(Finding(**finding) for finding in found.pop("findings"))
        found["x_adv"] = found["x_adv"].to(x.device)
        return Block(x=x, stages=stages, findings=findings, **found)

    def resume(self, index: int, data: str, rows: Rows) -> None:
        """Gives rows the state that they had in a killed run, if there was one, and keeps it from now on."""
        found = self._read(index, "stage", data)
        if found is not None:
            rows.restore(found)
        rows.keep = lambda rows: self._write(index, "stage", data, rows.snapshot())

    def finish(self, index: int, data: str, block: Block) -> None:
        """Keeps a block that is done, in place of its state under way."""
        state = {field.name: getattr(block, field.name) for field in dataclasses.fields(block)}
        state |= {
            "stages": {name: dataclasses.asdict(stage) for name, stage in block.stages.items()},
            "findings": [dataclasses.asdict(finding) for finding in block.findings],
        }
        del state["x"]
        self._write(index, "block", data, state)
        self._file(index, "stage").unlink(missing_ok=True)

    def _file(self, index: int, kind: str) -> Path:
        return self.path / f"{kind}-{index:06d}.pt"

    def _write(self, index: int, kind: str, data: str, state: dict[str, Any]) -> None:
        write_checkpoint(self._file(index, kind), {"data": data, "state": state})

    def _read(self, index: int, kind: str, data: str) -> dict[str, Any] | None:
        file = self._file(index, kind)
        if not file.exists():
            return None
        try:
            found = read_checkpoint(file)
        except ValueError as error:
            warnings.warn(f"{file} is damaged, and its rows are evaluated again: {error.__cause__}", stacklevel=2)
            return None
        if found["data"] != data:
            raise ValueError(
                f"{file} must be of the same inputs and labels in the same order, got it of others: evaluate the data "
                "that it was begun with, without shuffling, or give an empty folder"
            )
        state: dict[str, Any] = found["state"]
        return state


def data_of(x: Tensor, y: Tensor) -> str:
    """What inputs and labels are, in a few words that take reading them all."""
    return f"{describe(x)}, {describe(y.cpu())}"


def settings_of(model: Model, x: Tensor, **others: object) -> dict[str, str]:
    """What makes an evaluation this one, in words: the model by its weights, or a function by its answers.

    Args:
        model: The model.
        x: The first rows, which a function is asked about.
        **others: Other settings.
    """
    if isinstance(model, nn.Module):
        weights = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        digest = hashlib.sha256(describe(weights).encode()).hexdigest()[:16]
        words = f"{type(model).__name__} {digest}"
    else:
        with guard(model):
            answers = model(x[:_PROBES])
        shown = answers.double().mean(0) if isinstance(answers, Tensor) else torch.zeros(0)
        words = "function with mean answers " + " ".join(f"{value:.3g}" for value in shown.tolist())
    return {"model": words, **{name: describe(value) for name, value in others.items()}}
