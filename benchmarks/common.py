"""What the benchmarks share: the environment they record, interleaved timing, tables, networks and data."""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import pathlib
import platform
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import peers
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

import advlib
import advlib.data
import advlib.zoo

RESULTS = pathlib.Path(__file__).parent / "results"


def parser(description: str, out: str) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads that torch uses")
    options.add_argument(
        "--steady-memory", action="store_true", help="make the C library keep freed memory: fewer page faults for all"
    )
    options.add_argument("--out", type=pathlib.Path, default=RESULTS / out, help="where the results are written")
    return options


def add_networks(options: argparse.ArgumentParser, required: bool = False) -> None:
    """The options that say which trained networks and which data are used."""
    zoo, data = (
        "folder with load_zoo.py, whose load(name) gives a network",
        "folder with mnist.npz and cifar10_lossless.npz",
    )
    options.add_argument("--zoo", type=pathlib.Path, required=required, help=zoo)
    options.add_argument("--data", type=pathlib.Path, required=required, help=data)


def environment(given: argparse.Namespace, device: str = "cpu") -> dict[str, object]:
    """Versions and machine, as the results record them. Sets the number of threads and the allocator."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler says when it starts and stops otherwise
    torch.set_num_threads(given.threads)
    if given.steady_memory:
        _keep_freed_memory()
    found = {
        "advlib": advlib.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        **peers.versions(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory": "kept by the C library" if given.steady_memory else "as the C library does by default",
    }
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _keep_freed_memory() -> None:
    """Asks glibc to give no memory back to the system.

    By default it gives back large blocks as they are freed, and the next step pays for them again, page by page, in
    an amount that depends on what happens to lie above them: by chance some contestants pay twice what others do.
    """
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, value in ((-1, 2**31 - 1), (-2, 2**28), (-3, 2**30)):  # trim threshold, top pad, mmap threshold
        mallopt(parameter, value)


def _cpu() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


# -- timing -----------------------------------------------------------------------------------------------------


def timed(call: Callable[[], object], device: str = "cpu") -> float:
    """Seconds that one call takes, until the device is done with it."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(
    contestants: dict[str, Callable[[], object]],
    rounds: dict[str, int],
    device: str = "cpu",
    title: str = "",
    clear: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each contestant, one of each per round in a shuffled order; the first, uncounted round warms up.

    Args:
        contestants: What is timed.
        rounds: In how many of the first rounds each takes part.
        device: What is waited for.
        title: What the progress bar is called.
        clear: Called before each contestant, outside the clock.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    shuffle = random.Random(0)
    total = len(contestants) + sum(rounds[name] for name in contestants)
    with tqdm(total=total, desc=title, disable=None) as bar:
        for number in range(-1, max(rounds.values())):
            names = [name for name in contestants if number < rounds[name]]
            shuffle.shuffle(names)
            for name in names:
                clear()
                elapsed = timed(contestants[name], device)
                if number >= 0:
                    seconds[name].append(elapsed)
                bar.update()
    return seconds


def ratios(seconds: dict[str, list[float]], floors: Sequence[str]) -> dict[str, list[float]]:
    """Each time over the mean of the floors' times in the same round."""
    base = np.mean([seconds[name] for name in floors], axis=0)
    return {name: list(np.array(values) / base[: len(values)]) for name, values in seconds.items()}


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the 20 % and 80 % quantiles around it."""
    median, low, high = np.quantile(values, [0.5, 0.2, 0.8])
    return float(median), float(low), float(high)


# -- tables -----------------------------------------------------------------------------------------------------


def table(title: str, rows: Sequence[dict[str, object]]) -> None:
    """Prints an aligned table; numbers are right-aligned, what a row lacks stays empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]
    text = [all(isinstance(row.get(column), str | None) for row in rows) for column in columns]
    print(f"\n{title}\n")
    for line in [columns, *cells]:
        aligned = (c.ljust(w) if t else c.rjust(w) for c, w, t in zip(line, widths, text, strict=True))
        print("  ".join(aligned).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def save(path: pathlib.Path, content: dict[str, object]) -> None:
    """Writes the results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(content), indent=1) + "\n")
    print(f"\nwritten to {path}")


def _rounded(value: object) -> object:
    """The same content with five significant digits in every float."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


# -- networks and data ------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """What is attacked."""

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    eps: float  # in Linf


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.shortcut(x)).relu()


class ResNet18(nn.Module):
    """The ResNet-18 (He et al., 1512.03385) that is usual on CIFAR-10: a 3x3 stem without pooling, width 64."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        blocks = [
            _Block(before, after, stride)
            for before, after, stride in (
                (64, 64, 1),
                (64, 64, 1),
                (64, 128, 2),
                (128, 128, 1),
                (128, 256, 2),
                (256, 256, 1),
                (256, 512, 2),
                (512, 512, 1),
            )
        ]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def load(folder: pathlib.Path, name: str) -> nn.Module:
    """A trained network from a folder with load_zoo.py."""
    spec = importlib.util.spec_from_file_location("load_zoo", folder / "load_zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name).eval()


def test_images(folder: pathlib.Path, name: str, count: int) -> tuple[Tensor, Tensor]:
    """The first test images and labels of mnist.npz or cifar10_lossless.npz, as (N, C, H, W) in [0, 1]."""
    with np.load(folder / {"mnist": "mnist.npz", "cifar10": "cifar10_lossless.npz"}[name]) as file:
        x, y = file["x_test"][:count], file["y_test"][:count]
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    pixels = np.ascontiguousarray(x, np.float32) / 255  # not the layout in which the file has them
    return torch.from_numpy(pixels), torch.from_numpy(y.astype(np.int64).reshape(-1))


def standard(digits: advlib.data.Dataset) -> nn.Module:
    """The small network, trained on clean digits."""
    return advlib.zoo.train(advlib.zoo.small_cnn(), digits.x_train, digits.y_train)


def standard_and_robust(zoo: pathlib.Path | None, data: pathlib.Path | None, count: int, device: str) -> list[Case]:
    """A standard network at Linf 0.1 and a robust one at 0.3 (at 0.2 if trained here), with MNIST test images."""
    if zoo and data:
        x, y = test_images(data, "mnist", count)
        networks = [
            (name, load(zoo, name), eps) for name, eps in (("mnist_convsmall_eran", 0.1), ("mnist_cnn_a_adv", 0.3))
        ]
    else:
        digits = advlib.data.mnist()
        x, y = digits.x_test[:count], digits.y_test[:count]
        networks = [("standard, trained here", standard(digits), 0.1)]
        networks += [("robust, trained here", adversarially_trained(digits, eps=0.2), 0.2)]
    return [Case(name, model.to(device), x.to(device), y.to(device), eps) for name, model, eps in networks]


def adversarially_trained(digits: advlib.data.Dataset, eps: float, epochs: int = 12) -> nn.Module:
    """The small network trained on PGD examples (Madry et al., 1706.06083), eps growing over the first half."""
    x, y = digits.x_train, digits.y_train
    model, generator = advlib.zoo.small_cnn(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(epochs):
        threat = advlib.Linf(eps * min(1.0, 2 * (epoch + 1) / epochs))
        for index in torch.randperm(len(x), generator=generator).split(64):
            x_adv = advlib.pgd(model, x[index], y[index], threat, steps=7, keep="last", generator=generator)
            optimizer.zero_grad()
            functional.cross_entropy(model(x_adv), y[index]).backward()
            optimizer.step()
    return model.eval()
