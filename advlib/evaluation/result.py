"""What an evaluation found, row by row, and how far it is to be trusted."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from advlib.evaluation.intervals import clopper_pearson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from advlib.evaluation.curves import Curve
    from advlib.evaluation.export import SavedPictures
    from advlib.evaluator import Model
    from advlib.threats import Threat

Verdict = Literal["reliable", "suspicious", "unreliable"]

CLEAN = "clean"  # what broke a row that the model errs on unperturbed
_FLAGS = ("correct", "robust", "certified")
_VERDICTS: tuple[Verdict, ...] = ("reliable", "suspicious", "unreliable")


@dataclass(frozen=True)
class Stage:
    """One stage of an evaluation, over all blocks of rows.

    Args:
        name: What it did.
        rows: Rows that it was run on, as often as it was run on them.
        broken: Rows that it broke.
        forward_samples: Inputs that went through the model.
        backward_samples: Inputs whose gradient was taken.
        seconds: How long it took.
    """

    name: str
    rows: int
    broken: int
    forward_samples: int
    backward_samples: int
    seconds: float

    def __add__(self, other: Stage) -> Stage:
        """The two together, under the name of the first."""
        mine, others = (dataclasses.astuple(stage)[1:] for stage in (self, other))
        return Stage(self.name, *(a + b for a, b in zip(mine, others, strict=True)))


@dataclass(frozen=True)
class Finding:
    """A reason not to trust the robust accuracy.

    Args:
        name: What was looked for.
        verdict: What it makes of the evaluation: ``"suspicious"`` or ``"unreliable"``.
        seen: What was seen.
        meaning: What that usually means.
        remedy: What to run next.
    """

    name: str
    verdict: Verdict
    seen: str
    meaning: str
    remedy: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of :func:`~advlib.evaluate`. Rows are in the order of the inputs.

    Args:
        threat: The threat model, as text.
        budget: The budget it was given.
        seed: First seed of the generator that it was given, or of torch's global one.
        versions: Of advlib, Python and torch, and the device it ran on.
        y: ``(N,)`` true classes.
        correct: ``(N,)`` bool, whether the model is right about the clean row.
        robust: ``(N,)`` bool, whether it is right about the clean row, and no attack broke it.
        broken_by: What broke each row: the name of a stage, ``"clean"`` where the model errs unperturbed, and ``""``
            where nothing did.
        predicted: ``(N,)`` the class that the model gives ``x_adv``.
        distance: ``(N,)`` distance of ``x_adv`` from ``x`` in the threat's norm, infinite where nothing broke the row.
        samples: ``(N,)`` forward and backward passes that stages spent on each row.
        certified: ``(N,)`` bool, rows that were given as proved robust, and never attacked.
        stages: What was done, in order.
        findings: Reasons not to trust the robust accuracy.
        x: ``(N, ...)`` the clean rows; not part of the JSON, and None where the result was read from it or was not to
            hold examples.
        x_adv: ``(N, ...)`` the point that broke each row, and the clean row elsewhere; None where ``x`` is.

    Example:
        >>> result = advlib.evaluate(model, x, y, Linf(8 / 255), progress=False)
        >>> table = str(result)
    """

    threat: str
    budget: str
    seed: int
    versions: dict[str, str]
    y: Tensor
    correct: Tensor
    robust: Tensor
    broken_by: tuple[str, ...]
    predicted: Tensor
    distance: Tensor
    samples: Tensor
    certified: Tensor
    stages: tuple[Stage, ...]
    findings: tuple[Finding, ...]
    x: Tensor | None = dataclasses.field(default=None, repr=False)
    x_adv: Tensor | None = dataclasses.field(default=None, repr=False)

    @property
    def clean_accuracy(self) -> float:
        """Share of the rows that the model is right about, unperturbed."""
        return float(self.correct.double().mean())

    @property
    def robust_accuracy(self) -> float:
        """Share of the rows that the model is right about and that no attack broke.

        An upper bound on the share that no perturbation breaks: another attack may break more.
        """
        return float(self.robust.double().mean())

    @property
    def clean_interval(self) -> tuple[float, float]:
        """95 % confidence interval (Clopper and Pearson) of the clean accuracy on data like these."""
        return clopper_pearson(int(self.correct.sum()), len(self.correct))

    @property
    def robust_interval(self) -> tuple[float, float]:
        """95 % confidence interval (Clopper and Pearson) of the accuracy under this evaluation on data like these."""
        return clopper_pearson(int(self.robust.sum()), len(self.robust))

    @property
    def forward_samples(self) -> int:
        """Inputs that went through the model."""
        return sum(stage.forward_samples for stage in self.stages)

    @property
    def backward_samples(self) -> int:
        """Inputs whose gradient was taken."""
        return sum(stage.backward_samples for stage in self.stages)

    @property
    def seconds(self) -> float:
        """How long the stages took."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def verdict(self) -> Verdict:
        """The worst that a finding says of the robust accuracy, or ``"reliable"``."""
        return max((finding.verdict for finding in self.findings), key=_VERDICTS.index, default="reliable")

    def __str__(self) -> str:
        rows = [("stage", "rows", "broken", "forward", "backward", "seconds")]
        rows += [
            (
                s.name,
                f"{s.rows:,}",
                f"{s.broken:,}",
                f"{s.forward_samples:,}",
                f"{s.backward_samples:,}",
                f"{s.seconds:.1f}",
            )
            for s in self.stages
        ]
        width = [max(len(row[column]) for row in rows) for column in range(6)]
        table = [
            row[0].ljust(width[0]) + "".join("  " + row[column].rjust(width[column]) for column in range(1, 6))
            for row in rows
        ]
        lines = [
            f"{self.threat}, {self.budget} budget, {len(self.correct):,} rows",
            f"clean accuracy   {_percent(self.clean_accuracy)}  {_range(self.clean_interval)}",
            f"robust accuracy  {_percent(self.robust_accuracy)}  {_range(self.robust_interval)}, an upper bound",
            f"verdict          {self.verdict}",
            *(f"  {finding.name}: {finding.seen}. {finding.meaning}. {finding.remedy}." for finding in self.findings),
            "",
            *table,
        ]
        if bool(self.certified.any()):
            lines.insert(3, f"certified        {_percent(float(self.certified.double().mean()))}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """The result as JSON, without the adversarial examples."""
        fields = {name: getattr(self, name) for name in _saved()}
        for name in _FLAGS:
            fields[name] = fields[name].int().tolist()
        for name in ("y", "predicted", "samples"):
            fields[name] = fields[name].tolist()
        fields["distance"] = [value if math.isfinite(value) else None for value in self.distance.tolist()]
        for name in ("stages", "findings"):
            fields[name] = [dataclasses.asdict(part) for part in fields[name]]
        figures = ("clean_accuracy", "robust_accuracy", "clean_interval", "robust_interval", "verdict")
        return json.dumps({**{name: getattr(self, name) for name in figures}, **fields})

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """The result that :meth:`to_json` wrote; ``x`` and ``x_adv`` are None.

        Raises:
            ValueError: If the text is no such result.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            for name in _FLAGS:
                fields[name] = torch.tensor(fields[name], dtype=torch.bool)
            for name in ("y", "predicted", "samples"):
                fields[name] = torch.tensor(fields[name], dtype=torch.int64)
            lengths = [math.inf if value is None else value for value in fields["distance"]]
            fields["distance"] = torch.tensor(lengths, dtype=torch.float64)
            fields["stages"] = tuple(Stage(**stage) for stage in fields["stages"])
            fields["findings"] = tuple(Finding(**finding) for finding in fields["findings"])
            fields["broken_by"] = tuple(fields["broken_by"])
            return cls(**{name: fields[name] for name in _saved()})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the text must be what to_json() wrote, got {text[:60]!r}: {error}") from error

    def plot(self) -> Figure:
        """Draws how the accuracy fell: the share of rows still right after so many passes on each.

        Returns:
            A matplotlib figure, made outside ``pyplot``: ``figure.savefig(path)``.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.

        Example:
            >>> result = advlib.evaluate(model, x, y, Linf(0.1), budget="quick", progress=False)
            >>> result.plot().savefig("fall.png")
        """
        from advlib.evaluation.figures import plot

        return plot(self)

    def save(self, path: str | PathLike[str], *, title: str = "Robustness", curve: Curve | None = None) -> None:
        """Writes the result as one HTML page that holds all it shows and loads nothing.

        Args:
            path: The file to write; it appears complete or not at all.
            title: Heading of the page, such as the model's name.
            curve: Robust accuracy against eps, to be drawn as well.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
            OSError: If the file cannot be written.
            TypeError: If ``curve`` is anything else.

        Example:
            >>> result = advlib.evaluate(model, x, y, Linf(0.1), budget="quick", progress=False)
            >>> result.save("report.html", title="A linear model")
        """
        from advlib.evaluation.report import save

        save(self, path, title, curve)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Writes a table with one line for each row: label, what broke it, prediction, distance and passes.

        The columns are those of this class; ``distance`` is empty where nothing broke the row.

        Args:
            path: The file to write; it appears complete or not at all.

        Raises:
            OSError: If the file cannot be written.

        Example:
            >>> result = advlib.evaluate(model, x, y, Linf(0.1), budget="quick", progress=False)
            >>> result.to_csv("rows.csv")
        """
        from advlib.evaluation.export import write_table

        write_table(self, path)

    def save_examples(self, path: str | PathLike[str]) -> None:
        """Writes ``x``, ``x_adv``, ``y``, ``predicted``, ``correct``, ``robust`` and ``distance`` for ``numpy.load``.

        Args:
            path: The ``.npz`` file to write; it appears complete or not at all.

        Raises:
            OSError: If the file cannot be written.
            ValueError: If the result holds no examples.

        Example:
            >>> result = advlib.evaluate(model, x, y, Linf(0.1), budget="quick", progress=False)
            >>> result.save_examples("examples.npz")
        """
        from advlib.evaluation.export import write_examples

        write_examples(self, path)

    def save_pictures(self, folder: str | PathLike[str], model: Model, threat: Threat) -> SavedPictures:
        """Writes what broke rows as 8-bit PNG files: those that, when rounded, still do, inside the threat model.

        Rounds to the nearest grey level, or where this leaves the threat model, towards the clean picture. A file's
        name tells row, label and prediction, as in ``017_3_as_8.png``.

        Args:
            folder: Where the files go; it is made if need be.
            model: The model that was evaluated.
            threat: The threat model that it was evaluated within.

        Returns:
            How many survive: ``SavedPictures(broken, inside, breaking, saved)``.

        Raises:
            ModuleNotFoundError: If Pillow, which comes with matplotlib, is not installed.
            OSError: If the folder cannot be written.
            TypeError: If ``threat`` is no threat model.
            ValueError: If the result holds no examples, they are no images with values in [0, 1], or ``threat`` reads
                otherwise than the one that was evaluated.

        Example:
            >>> result = advlib.evaluate(model, x, y, Linf(0.1), budget="quick", progress=False)
            >>> survived = result.save_pictures("pictures", model, Linf(0.1))
            >>> survived.saved <= survived.broken
            True
        """
        from advlib.evaluation.export import write_pictures

        return write_pictures(self, folder, model, threat)

    def broken(self) -> dict[str, int]:
        """How many rows each stage broke, the clean errors included, most first."""
        return dict(Counter(name for name in self.broken_by if name).most_common())


def _saved() -> list[str]:
    """The fields that are part of the JSON."""
    return [field.name for field in dataclasses.fields(Evaluation) if field.name not in ("x", "x_adv")]


def _percent(share: float) -> str:
    return f"{100 * share:6.2f} %"


def _range(interval: tuple[float, float]) -> str:
    return f"({100 * interval[0]:.2f} to {100 * interval[1]:.2f} %)"
