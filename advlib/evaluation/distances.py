"""How near inputs of different classes lie, in each norm, beside noise that leaves the class alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from advlib.evaluation.plotting import COLORS, INK, new_figure
from advlib.noise import Key, Noise
from advlib.threats import L0, L1, L2, Linf, Threat

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NORMS: dict[str, Threat] = {"L0": L0(math.inf), "L1": L1(math.inf), "L2": L2(math.inf), "Linf": Linf(math.inf)}
_FIRST = 64  # features that are looked at before most pairs are given up
_HELD = 2**22  # numbers in the largest temporary tensors


@dataclass(frozen=True, eq=False)
class NearestPair:
    """The two inputs of different classes that are nearest in one norm.

    Args:
        rows: Their rows.
        labels: Their classes.
        distances: Their distance in each norm.
        x: ``(2, ...)`` the two.
    """

    rows: tuple[int, int]
    labels: tuple[int, int]
    distances: dict[str, float]
    x: Tensor


@dataclass(frozen=True, eq=False)
class ClassDistances:
    """The result of :func:`nearest_class_distances`.

    Args:
        pairs: The nearest pair in each norm, ``"L0"``, ``"L1"``, ``"L2"``, ``"Linf"``.
        radius: Linf radius of the noise before it is clipped.
        noise: Mean length of the clipped noise in each norm, over all rows.
        x_noise: ``(2, ...)`` one input, without and with noise.

    Example:
        >>> from advlib.evaluation import nearest_class_distances
        >>> found = nearest_class_distances(torch.eye(3), torch.tensor([0, 0, 1]))
        >>> found.least
        {'L0': 2.0, 'L1': 2.0, 'L2': 1.4142135623730951, 'Linf': 1.0}
    """

    pairs: dict[str, NearestPair]
    radius: float
    noise: dict[str, float]
    x_noise: Tensor

    @property
    def least(self) -> dict[str, float]:
        """The least distance between inputs of different classes in each norm."""
        return {norm: pair.distances[norm] for norm, pair in self.pairs.items()}

    @property
    def inverted(self) -> tuple[str, ...]:
        """The norms that call the noise larger than some change of class."""
        return tuple(norm for norm, distance in self.least.items() if self.noise[norm] > distance)

    def _rows(self) -> list[tuple[str, dict[str, float]]]:
        pairs = [(f"nearest in {norm}", pair.distances) for norm, pair in self.pairs.items()]
        return [*pairs, (f"noise within {self.radius:.3g}", self.noise)]

    def __str__(self) -> str:
        lines = [f"{'':20}" + "".join(f"{norm:>9}" for norm in NORMS) + "  rows"]
        for (name, distances), pair in zip(self._rows(), (*self.pairs.values(), None), strict=True):
            rows = "all, on average" if pair is None else f"{pair.rows[0]} and {pair.rows[1]}"
            lines.append(f"{name:20}" + "".join(f"{distances[norm]:9.4g}" for norm in NORMS) + f"  {rows}")
        called = ", ".join(self.inverted) or "no norm"
        return "\n".join([*lines, f"The noise is larger than the nearest change of class in: {called}"])

    def plot(self) -> Figure:
        """Draws the nearest pairs, the differences and the distances, for images.

        Orange is the least distance between classes in its norm, where the noise is larger.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
            ValueError: If the rows are no images ``(H, W)``, ``(1, H, W)`` or ``(3, H, W)``.
        """
        shape = tuple(self.x_noise.shape[1:])
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
            raise ValueError(
                f"only images (H, W), (1, H, W) or (3, H, W) can be drawn, got rows of {shape}: print(...)"
            )
        cell, gap, head, name, number = 0.95, 0.08, 0.42, 1.55, 0.72  # inches
        images = (*(pair.x for pair in self.pairs.values()), self.x_noise)
        width, height = name + 3 * (cell + gap) + 4 * number + 0.2, head + len(images) * (cell + gap) + 0.05
        figure = new_figure(width, height)
        numbers = [name + 3 * (cell + gap) + (place + 0.5) * number for place in range(4)]

        def text(left: float, bottom: float, content: str, **style: Any) -> None:
            figure.text(left / width, bottom / height, content, va="center", **style)

        for left, norm in zip(numbers, NORMS, strict=True):
            text(left, height - head / 2, norm, ha="center", fontweight="bold", fontsize=11)
        text(name + 2.5 * cell + 2 * gap, height - head / 2, "difference", ha="center", fontsize=10)
        for place, ((title, distances), pair) in enumerate(zip(self._rows(), images, strict=True)):
            bottom = height - head - (place + 1) * (cell + gap)
            change = pair[1] - pair[0]
            span = float(self.x_noise.new_tensor([1e-9]).maximum(change.abs().amax()))
            for column, (image, style) in enumerate(((pair[0], None), (pair[1], None), (change, span))):
                left = name + column * (cell + gap)
                axes = figure.add_axes((left / width, bottom / height, cell / width, cell / height))
                _draw(axes, image, style)
            text(0.12, bottom + cell / 2, title, fontsize=10)
            for left, norm in zip(numbers, NORMS, strict=True):
                own = title == f"nearest in {norm}"
                color = COLORS[1] if own and norm in self.inverted else INK
                text(
                    left,
                    bottom + cell / 2,
                    f"{distances[norm]:.3g}",
                    ha="center",
                    fontsize=11,
                    color=color,
                    fontweight="bold" if own else "normal",
                )
        return figure


def _draw(axes: Axes, image: Tensor, span: float | None) -> None:
    """An image, or where a span is given a difference, red where it is brighter."""
    pixels = image.movedim(0, -1) if image.ndim == 3 else image
    if span is not None and pixels.ndim == 3:
        pixels = pixels.mean(-1)
    shown = pixels.cpu().numpy()
    if span is None:
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(shown, cmap="RdBu_r", vmin=-span, vmax=span)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color="#bbbbbb", linewidth=0.6)


def nearest_class_distances(
    x: Tensor,
    y: Tensor,
    *,
    radius: float | None = None,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> ClassDistances:
    """Finds how near inputs of different classes lie, in each norm, and how large noise is beside that.

    A ball in which the class is to stay must not reach an input of another class. By this a norm is of use if harmless
    changes are small in it and changes of class large: Goodfellow (2018) compares with noise in the largest Linf ball
    in which the class is safe. By default that is half the least Linf distance, where balls around inputs of
    different classes touch.

    All pairs are compared, in chunks: distances on some of the features rule most of them out. Beyond a copy of
    ``x`` memory does not grow with it. Where pairs are equally near up to rounding, one of them is named.

    Args:
        x: Inputs, ``(N, ...)``, float32 or float64, within ``bounds``.
        y: ``(N,)`` classes.
        radius: Linf radius of the noise, uniform, then clipped to ``bounds``; None means half the least Linf distance.
        bounds: Lowest and highest value of a feature, or None.
        generator: Source of the noise's key; None means torch's global generator.

    Returns:
        A :class:`ClassDistances`.

    Raises:
        TypeError: If ``x`` holds no floats, or ``y`` no classes.
        ValueError: If there is only one class, ``x`` is not finite or leaves the bounds, or ``radius`` is negative.

    Example:
        >>> from advlib.evaluation import nearest_class_distances
        >>> x = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.25, 0.25]])
        >>> found = nearest_class_distances(x, torch.tensor([0, 1, 2]))
        >>> found.pairs["L0"].rows, found.pairs["Linf"].rows, found.radius
        ((0, 1), (0, 2), 0.125)
    """
    _check(x, y)
    ball = Linf(math.inf if radius is None else radius, bounds)
    ball.check(x)
    flat = x.flatten(1)
    ordered = flat[:, flat.var(0).argsort(descending=True)]  # what differs most rules out most
    pairs = {}
    for norm in NORMS:
        rows = _nearest(ordered, y, NORMS[norm])
        two = x[list(rows)]
        between = {name: float(of.distance(two[:1].double(), two[1:].double())) for name, of in NORMS.items()}
        pairs[norm] = NearestPair(rows, (int(y[rows[0]]), int(y[rows[1]])), between, two)
    noise = ball if radius is not None else ball.resized(pairs["Linf"].distances["Linf"] / 2)
    key, total, first = Key(generator), dict.fromkeys(NORMS, 0.0), pairs["Linf"].rows[0]
    for index in torch.split(torch.arange(len(x), device=x.device), max(1, _HELD // flat.shape[1])):
        noisy = noise.sample(x[index], Noise(key, index))
        for name, norm_ in NORMS.items():
            total[name] += float(norm_.distance(noisy, x[index]).double().sum())
        if index[0] <= first <= index[-1]:
            x_noise = torch.stack([x[first], noisy[first - int(index[0])]])
    return ClassDistances(pairs, float(noise.eps), {name: value / len(x) for name, value in total.items()}, x_noise)


def _nearest(x: Tensor, y: Tensor, norm: Threat) -> tuple[int, int]:
    """The rows of different classes that are nearest, ``x`` being ``(N, D)``."""
    features, power = x.shape[1], 2 if norm.p == 2 else 1
    least, nearest = math.inf, (0, 0)
    chunk = max(1, _HELD // len(x))
    for start in range(0, len(x), chunk):
        rows, others = x[start : start + chunk], x[start:]
        near = y[start : start + chunk, None] != y[start:]
        reach = x.new_zeros(near.shape)  # over the features seen so far, to the norm's power
        seen, stop = 0, _FIRST
        while seen < features and int(near.sum()) * features > (_HELD if seen else 0):
            part = torch.cdist(
                rows[:, seen:stop], others[:, seen:stop], norm.p, compute_mode="donot_use_mm_for_euclid_dist"
            )
            reach = reach.maximum(part) if math.isinf(norm.p) else reach + part**power
            near &= reach <= least**power * (1 + 1e-5)  # beyond rounding
            seen, stop = stop, 2 * stop
        if seen >= features and bool(near.any()):
            near &= reach == reach[near].amin()
        pairs = near.nonzero()[: max(1, _HELD // features)]
        if len(pairs):
            distance = norm.distance(rows[pairs[:, 0]], others[pairs[:, 1]])
            place = int(distance.argmin())
            if float(distance[place]) < least:
                least = float(distance[place])
                nearest = (start + int(pairs[place, 0]), start + int(pairs[place, 1]))
    return min(nearest), max(nearest)


def _check(x: Tensor, y: Tensor) -> None:
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a float32 or float64 tensor (N, ...), got {got}: x.float() / 255 for grey levels")
    if not isinstance(y, Tensor) or y.dtype.is_floating_point or y.dtype == torch.bool:
        got = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"y must be a tensor of integer classes (N,), got {got}: torch.as_tensor(y).long()")
    if x.ndim < 2 or y.shape != x.shape[:1]:
        raise ValueError(f"x must be (N, ...) and y (N,), got {tuple(x.shape)} and {tuple(y.shape)}")
    if not bool(x.isfinite().all()):
        raise ValueError("x must be finite, got NaN or infinite values: leave these rows out")
    if len(x) == 0 or bool((y == y[0]).all()):
        raise ValueError(f"there must be inputs of two classes or more, got {len(x)} rows of fewer: pass more of them")
