"""Where the numbers of a run go: any callable that takes one flat dictionary per epoch."""

from __future__ import annotations

import csv
from collections.abc import Callable
from os import PathLike
from pathlib import Path

Row = dict[str, float]
Metrics = Callable[[Row], object]


class CSVWriter:
    """Appends one line per epoch to a file, under a header that is written once.

    TensorBoard takes two lines in its place::

        writer = torch.utils.tensorboard.SummaryWriter()
        metrics = lambda row: [writer.add_scalar(name, value, row["step"]) for name, value in row.items()]

    Args:
        path: The file. One that is there is continued, as a resumed run needs.

    Raises:
        ValueError: When called, if the file's header names other columns.

    Example:
        >>> metrics = CSVWriter("run.csv")  # for Trainer(model, optimizer, objective, metrics=metrics)
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def __call__(self, row: Row) -> None:
        """Writes one line."""
        header = None
        if self.path.exists():
            with self.path.open(newline="") as file:
                header = next(csv.reader(file), None)
        if header is not None and header != list(row):
            raise ValueError(
                f"{self.path} must have the columns of this run, {','.join(row)}, got {','.join(header)}: "
                "give each run a file of its own"
            )
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if header is None:
                writer.writerow(row)
            writer.writerow(row.values())
