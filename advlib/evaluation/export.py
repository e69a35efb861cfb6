"""A result as files: a table of its rows, its adversarial examples, and pictures that survive 8 bits."""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from advlib.evaluation.evaluate import text_of
from advlib.evaluation.plotting import of_plot
from advlib.evaluation.result import CLEAN, Evaluation
from advlib.evaluator import Model, guard, precise
from advlib.threats import Threat

_ASKED = 100  # pictures that the model is asked about at once
_LEVELS = 255


class SavedPictures(NamedTuple):
    """How many adversarial examples survive in 8 bits."""

    broken: int  # rows that an attack broke, all of which were tried
    inside: int  # those that are still inside the threat model when rounded
    breaking: int  # those that still break the model when rounded
    saved: int  # those that do both, each of which is a picture now


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[IO[bytes]]:
    """A file beside ``path`` that takes its place at the end, if nothing went wrong; it fails at once or not at all.

    Raises:
        OSError: If there can be no such file.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    try:
        if target.is_dir():
            raise OSError(errno.EISDIR, "it is a folder")
        file = (beside := target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")).open("xb")
    except OSError as error:
        raise _unwritable(error, path) from error
    try:
        with file:
            yield file
        beside.replace(target)
    except BaseException:
        beside.unlink()
        raise


def _unwritable(error: OSError, path: str | PathLike[str]) -> OSError:
    text = f"path must be one that can be written ({error.strerror}): look at the name, the folder and its permissions"
    return OSError(error.errno, text, str(path))


def writable(folder: Path) -> Path:
    """Makes the folder and writes into it, so that a mistake shows before the work and not after."""
    try:
        _make(folder)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"the folder {folder} cannot be written ({reason}): choose another with --out") from error
    return folder


def _make(folder: Path) -> None:
    """Makes a folder in which a file can be written."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_table(result: Evaluation, path: str | PathLike[str]) -> None:
    """Writes a line for each row; see :meth:`Evaluation.to_csv`."""
    names = ("row", "label", "correct", "robust", "certified", "broken_by", "predicted", "distance", "samples")
    flags = ([str(flag).lower() for flag in getattr(result, name).tolist()] for name in names[2:5])
    lengths = [value if math.isfinite(value) else "" for value in result.distance.tolist()]
    columns = (result.y.tolist(), *flags, result.broken_by, result.predicted.tolist(), lengths, result.samples.tolist())
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(names)
    writer.writerows((row, *values) for row, values in enumerate(zip(*columns, strict=True)))
    with replacing(path) as file:
        file.write(table.getvalue().encode())


def write_examples(result: Evaluation, path: str | PathLike[str]) -> None:
    """Writes the rows and what broke them as arrays; see :meth:`Evaluation.save_examples`."""
    x, x_adv = examples(result)
    names = ("y", "predicted", "correct", "robust", "distance")
    arrays = {"x": x, "x_adv": x_adv, **{name: getattr(result, name) for name in names}}
    with replacing(path) as file:
        np.savez(file, **{name: value.cpu().numpy() for name, value in arrays.items()})


def write_pictures(result: Evaluation, folder: str | PathLike[str], model: Model, threat: Threat) -> SavedPictures:
    """Writes what broke rows as PNG files; see :meth:`Evaluation.save_pictures`."""
    x, x_adv = examples(result)
    if not isinstance(threat, Threat):
        raise TypeError(f"threat must be a threat model such as advlib.Linf(8/255), got {threat!r}")
    if (given := text_of(threat)) != result.threat:
        raise ValueError(f"threat must be the one that was evaluated, {result.threat}, got {given}")
    if not is_pictures(x):
        raise ValueError(
            f"pictures must be (1, H, W) or (3, H, W), got rows of shape {tuple(x.shape[1:])}: save_examples keeps "
            "inputs of any shape"
        )
    of_plot("PIL.Image")
    broken = attacked(result).to(x.device)
    if bool((x.amin() < 0) | (x.amax() > 1) | (x_adv.amin() < 0) | (x_adv.amax() > 1)):
        raise ValueError(
            f"pictures must lie in [0, 1], got values in [{min(x.min(), x_adv.min()):.6g}, "
            f"{max(x.max(), x_adv.max()):.6g}]: save_examples keeps them as they are"
        )
    target = Path(folder)
    try:
        _make(target)  # fails before the model is asked
    except OSError as error:
        raise _unwritable(error, folder) from error
    if len(broken) == 0:
        return SavedPictures(0, 0, 0, 0)
    within, y = threat.aligned(x).rows(broken), result.y.to(x.device)[broken]
    grey = _rounded(x_adv[broken], x[broken], within)
    points = grey.to(x) / _LEVELS
    logits = _asked(model, points)
    predicted = logits.argmax(1)
    inside, errs = within.contains(points, x[broken]), (predicted != y) & ~logits.isnan().any(1)
    width = len(str(len(x) - 1))
    for at in (inside & errs).nonzero().squeeze(1).tolist():
        with replacing(target / f"{int(broken[at]):0{width}d}_{int(y[at])}_as_{int(predicted[at])}.png") as file:
            file.write(png(grey[at]))
    return SavedPictures(len(broken), int(inside.sum()), int(errs.sum()), int((inside & errs).sum()))


def _rounded(x_adv: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """The nearest grey levels, ``(N, ...)``, or those on the way to ``x`` where these leave the threat model.

    Where ``x`` has grey levels itself, the latter never do: every change shrinks.
    """
    nearest = (_LEVELS * x_adv).round()
    clean = (_LEVELS * x).round()
    change = _LEVELS * x_adv - clean
    smaller = clean + change.sign() * (change.abs() + 1e-3).floor()  # a whole level may come as 0.9999 of one
    inside = threat.contains(nearest / _LEVELS, x)
    return torch.where(inside.reshape(-1, *[1] * (x.ndim - 1)), nearest, smaller).to(torch.uint8)


def _asked(model: Model, points: Tensor) -> Tensor:
    """The logits of a model at some points, as an evaluation asks for them."""
    with guard(model), torch.autocast(points.device.type, enabled=False):
        return torch.cat([precise(model(part)) for part in torch.split(points, _ASKED)])


def examples(result: Evaluation) -> tuple[Tensor, Tensor]:
    """The clean rows of a result and the points that broke them.

    Raises:
        ValueError: If it holds none.
    """
    if result.x is None or result.x_adv is None:
        raise ValueError(
            "the result must hold its examples, got one without, as from JSON or evaluate(examples=False): evaluate "
            "again with examples=True"
        )
    return result.x, result.x_adv


def attacked(result: Evaluation) -> Tensor:
    """The rows that an attack broke, as an index."""
    return torch.tensor([row for row, name in enumerate(result.broken_by) if name not in ("", CLEAN)]).long()


def is_pictures(x: Tensor) -> bool:
    """Whether rows look like grey or coloured images."""
    return x.ndim == 4 and x.shape[1] in (1, 3)


def png(grey: Tensor) -> bytes:
    """An image, ``(1, H, W)`` or ``(3, H, W)`` uint8, as a PNG file."""
    levels = grey.permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    picture = of_plot("PIL.Image").fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    picture.save(file, "png", optimize=True)
    return file.getvalue()
