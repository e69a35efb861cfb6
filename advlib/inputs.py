"""What the command line takes from outside: a model by its import path, inputs from a file, a threat in a word."""

from __future__ import annotations

import importlib
import math
import os
import sys
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from advlib import data
from advlib.evaluator import Model
from advlib.threats import L0, L1, L2, Linf, Threat

GRAMMAR = (
    "NORM:EPS[:LOW,HIGH], NORM one of linf, l2, l1, l0, EPS a number or a fraction in the units of the inputs, LOW and "
    "HIGH the bounds of a feature (0,1 unless told; none for no bounds): linf:8/255, l2:0.5, l0:20, linf:0.1:-1,1"
)
DATA = ("mnist", "digits")

_NORMS: dict[str, type[Threat]] = {"linf": Linf, "l2": L2, "l1": L1, "l0": L0}
_CHUNK = 250  # rows that are read at once


class InputError(ValueError):
    """An argument from outside names nothing that can be used; the message says what could."""


def threat_of(text: str) -> Threat:
    """The threat model that a word such as ``linf:8/255`` names.

    Raises:
        InputError: If it names none; the message shows the grammar.

    Example:
        >>> threat_of("linf:1/4:-1,1")
        Linf(eps=0.25, bounds=(-1.0, 1.0), mask=None)
    """
    norm, _, rest = text.partition(":")
    eps, _, bounds = rest.partition(":")
    try:
        ends: Any = (0.0, 1.0) if not bounds else None if bounds == "none" else tuple(map(_number, bounds.split(",")))
        return _NORMS[norm.lower()](_number(eps), bounds=ends)  # which refuses what is no radius, or no bounds
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        raise InputError(f"a threat model is {GRAMMAR}; got {text!r}") from error


def _number(text: str) -> float:
    value = float(Fraction(text)) if "/" in text else float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


def model_of(path: str) -> Model:
    """What the factory at ``package.module:factory`` makes; a model that stands there itself will do too.

    The current folder is on the import path.

    Raises:
        InputError: If there is no such module or factory, or it makes nothing that can be called.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise InputError(f"the model is package.module:factory, got {path!r}: name the function that makes it")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # it is there, and lacks something itself
        raise InputError(
            f"there is no module {error.name!r} on the import path or in {os.getcwd()}: look at the name, or go to the "
            "folder that it is in"
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        there = ", ".join(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise InputError(f"{module_name} has no factory {name!r}, but {there or 'none at all'}: name one of them")
    model = factory if isinstance(factory, nn.Module) else factory()
    if not callable(model):
        raise InputError(f"{path} must make a model, which can be called, got {type(model).__name__}: return the model")
    return model  # type: ignore[no-any-return]


class Batches:
    """Inputs and labels, a few rows at a time, so that a file may be larger than memory.

    Args:
        source: An ``.npz`` file with arrays ``x`` ``(N, ...)`` and ``y`` ``(N,)``, or ``"mnist"`` or ``"digits"``
            for the test images that advlib finds in other packages.
        rows: Only the first so many.

    Attributes:
        dataset: As long as there are rows, as that of a DataLoader.

    Raises:
        InputError: If the file is not there, or holds something else.
    """

    def __init__(self, source: str, rows: int | None) -> None:
        self._held: tuple[Tensor, Tensor] | None = None
        self._path = Path(source)
        if source in DATA:
            found = getattr(data, source)()
            self._held = found.x_test[:rows], found.y_test[:rows]
            self.dataset = range(len(self._held[0]))
            return
        shapes = {name: _header(self._path, name) for name in ("x", "y")}
        (x_shape, x_type), (y_shape, y_type) = shapes["x"], shapes["y"]
        if len(x_shape) < 2 or x_type.newbyteorder("=") not in (np.uint8, np.float32, np.float64):
            raise InputError(
                f"x in {source} must be one input a row, (N, ...), in float32, float64 or uint8, got {x_type} {x_shape}"
            )
        if y_shape != x_shape[:1] or y_type.kind not in "iu":
            raise InputError(
                f"y in {source} must be one integer class per row of x, ({x_shape[0]},), got {y_type} {y_shape}"
            )
        self.dataset = range(x_shape[0] if rows is None else min(rows, x_shape[0]))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._held is not None:
            yield self._held
            return
        left = len(self.dataset)
        with zipfile.ZipFile(self._path) as archive, archive.open("x.npy") as xs, archive.open("y.npy") as ys:
            x_form, y_form = _form(xs), _form(ys)
            while left > 0:
                count = min(left, _CHUNK)
                x, y = _read(xs, x_form, count), _read(ys, y_form, count)
                inputs = torch.from_numpy(x)
                yield inputs / 255 if x.dtype == np.uint8 else inputs, torch.from_numpy(y.astype(np.int64))
                left -= count


_Form = tuple[tuple[int, ...], np.dtype[Any]]


def _header(path: Path, name: str) -> _Form:
    """Shape and type of an array in an ``.npz`` file, without reading it."""
    known = f"an .npz file, numpy.savez({path.name!r}, x=..., y=...), or one of {', '.join(DATA)}"
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                there = ", ".join(sorted(member.removesuffix(".npy") for member in archive.namelist()))
                what = "labels" if name == "y" else "inputs"
                raise InputError(f"{path} must hold {what}, an array {name}, got {there}: data are {known}")
            with archive.open(f"{name}.npy") as file:
                return _form(file)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}: data are {known}") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}): data are {known}") from error


def _form(file: IO[bytes]) -> _Form:
    """What the header of an array says; the file then stands at its first number."""
    major, _ = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(file)
    if by_columns and len(shape) > 1:
        raise InputError("arrays must be stored row by row, got one by columns: numpy.ascontiguousarray before saving")
    if dtype.hasobject:
        raise InputError("arrays must hold numbers, got Python objects: numpy.asarray(..., dtype=...) before saving")
    return shape, dtype


def _read(file: IO[bytes], form: _Form, rows: int) -> np.ndarray[Any, Any]:
    shape, dtype = form
    size = rows * math.prod(shape[1:]) * dtype.itemsize
    content = file.read(size)
    if len(content) < size:
        raise InputError(f"the file ends before its {shape[0]} rows: it is damaged, take another copy")
    native = np.frombuffer(bytearray(content), dtype).reshape(rows, *shape[1:])
    return native.astype(dtype.newbyteorder("="), copy=False)
