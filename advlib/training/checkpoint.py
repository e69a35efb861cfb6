"""Checkpoints: whole or not there, and of this run or refused."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import types
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FORMAT = "advlib.training/1"
State = dict[str, Any]


def write_checkpoint(path: Path, state: State) -> None:
    """Writes a file that is either the old one or the new one, whatever happens meanwhile.

    Args:
        path: The file. A neighbour with the suffix ``.tmp`` is written first, and takes its name.
        state: Tensors, numbers and text, in dictionaries and lists.

    Raises:
        TypeError: If the state holds something that a checkpoint cannot.
    """
    state = {"format": FORMAT, **{name: plain(part, name) for name, part in state.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    if os.name == "posix":  # so that the new name, too, outlives a power failure
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_checkpoint(path: Path) -> State:
    """Reads what :func:`write_checkpoint` wrote; no code in the file is run.

    Raises:
        ValueError: If the file is damaged, or something else.
    """
    mend = "take another copy of it, or start afresh with resume=False"
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()  # torch.load does not look at the checksums
            if damaged is not None:
                raise ValueError(f"{damaged} does not have its checksum")
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file raises whatever the reader trips over
            raise ValueError(f"{path} must be a complete checkpoint, got a damaged file ({error}): {mend}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} must be a checkpoint of a Trainer, got another file: {mend}")
    return state


def plain(value: Any, name: str) -> Any:
    """The same value from types that can be read back without running code.

    Raises:
        TypeError: If there is no such value.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (Counter, OrderedDict)) or type(value) is dict:
        copy = type(value)({key: plain(part, f"{name}.{key}") for key, part in value.items()})
        if hasattr(value, "_metadata"):  # the versions of a model's modules
            copy._metadata = value._metadata  # type: ignore[union-attr]
        return copy
    if type(value) in (list, tuple, set):
        return type(value)(plain(part, name) for part in value)
    if value is None or isinstance(value, (Tensor, torch.Size, torch.dtype, torch.device)):
        return value
    if type(value) in (bool, int, float, complex, str, bytes):
        return value
    raise TypeError(
        f"a checkpoint holds tensors, numbers and text, got {type(value).__name__} in {name}: "
        "leave it out of state_dict(), or train without checkpoint="
    )


def describe(value: Any) -> str:
    """What an objective is, in words that are the same in every process: no memory addresses.

    Args:
        value: A dataclass, a configured function, or what their parameters hold.

    Example:
        >>> describe(Standard(temperature=2.0))
        'Standard(temperature=2.0)'
    """
    if isinstance(value, Tensor):
        digest = hashlib.sha256(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()[:8]
        return f"tensor({list(value.shape)}, {value.dtype}, {digest})"
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)):
        return value.__qualname__
    if isinstance(value, partial):
        parts = [describe(part) for part in value.args]
        parts += [f"{name}={describe(part)}" for name, part in sorted(value.keywords.items())]
        return f"{describe(value.func)}({', '.join(parts)})"
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value) if field.compare]
        return f"{type(value).__name__}({', '.join(f'{name}={describe(getattr(value, name))}' for name in fields)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{describe(key)}: {describe(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(describe(part) for part in value) + "]"
    if value is None or isinstance(value, (bool, int, float, complex, str, torch.dtype)):
        return repr(value)
    return type(value).__name__


def check_settings(path: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Checks that a checkpoint is of a run like this one.

    Raises:
        ValueError: If it is not; the message names the first setting that differs.
    """
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ValueError(
                f"{path} must be of a run with this {name}, {value}, got {found.get(name)}: "
                "resume with the settings it was written with, or start afresh with resume=False"
            )


def check_architecture(path: Path, found: Mapping[str, Any], model: nn.Module) -> None:
    """Checks that a checkpoint's weights fit the model.

    Raises:
        ValueError: If they do not; the message names the first difference.
    """
    wanted = model.state_dict()
    for name in [*wanted, *found]:
        shapes = [_shape(state[name]) if name in state else "nothing" for state in (wanted, found)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{path} must be of a model of this architecture: {name} is {shapes[0]} here, and {shapes[1]} in the "
                "checkpoint: make the model as it was, or start afresh with resume=False"
            )


def check_finite(model: nn.Module, step: int) -> None:
    """Checks that weights are worth keeping: a gradient can break them after a loss that was finite.

    Raises:
        FloatingPointError: If they are not.
    """
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
            raise FloatingPointError(
                f"{name} holds NaN or infinite values after step {step}, and no checkpoint was written over the last "
                "good one: lower the learning rate, or clip gradients"
            )


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
