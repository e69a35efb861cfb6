"""Pictures: adversarial examples beside the clean ones, and robust accuracy against eps."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from itertools import cycle
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from advlib.evaluation.plotting import COLORS, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = {"grey": COLORS[4], "blue": COLORS[0], "orange": COLORS[1], "green": COLORS[2], "pink": COLORS[3]}


class Column(NamedTuple):
    """What one attack made of some digits."""

    title: str
    subtitle: str
    x_adv: Tensor  # (N, 1, H, W)
    prediction: list[int]  # N classes
    amplitude: float  # the largest change there can be; the colours of the differences span it


class Panel(NamedTuple):
    """Some curves of robust accuracy against eps."""

    title: str
    axis: str
    curves: dict[str, list[tuple[float, float]]]  # name: (eps, robust accuracy) pairs, eps increasing


def require_matplotlib() -> None:
    """Checks that matplotlib is there, without importing it.

    Raises:
        ModuleNotFoundError: If it is not, with what to install.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            'the pictures are drawn with matplotlib, which is not installed: pip install "advlib-torch[demo]"',
            name="matplotlib",
        )


def _figure(width: float, height: float, **options: Any) -> Figure:
    """A figure of its own, outside pyplot: the program's backend and open figures are left alone."""
    require_matplotlib()
    return new_figure(width, height, **options)


def draw_digits(path: str | PathLike[str], x: Tensor, y: Sequence[int], columns: Sequence[Column]) -> None:
    """Draws a row for each digit: clean, then for each attack the adversarial digit and the difference.

    Args:
        path: The file to write.
        x: ``(N, 1, H, W)`` clean digits in [0, 1].
        y: Their N true classes.
        columns: What the attacks made of them.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    cell, tight, wide, caption, head, foot, margin = 1.0, 0.06, 0.26, 0.24, 0.66, 0.5, 0.22  # inches
    group = 2 * cell + tight
    width = 2 * margin + cell + len(columns) * (wide + group)
    height = head + len(x) * (cell + caption) + foot
    figure = _figure(width, height)

    def axes(left: float, row: int) -> Any:
        bottom = height - head - row * (cell + caption) - caption - cell
        made = figure.add_axes((left / width, bottom / height, cell / width, cell / height))
        made.set(xticks=[], yticks=[])
        for spine in made.spines.values():
            spine.set(color="#bbbbbb", linewidth=0.6)
        return made

    def heading(left: float, text: str, above: float, **style: Any) -> None:
        figure.text(left / width, 1 - (head - above) / height, text, ha="center", va="baseline", **style)

    def digit(left: float, row: int, image: Tensor, truth: int, prediction: int) -> None:
        at = axes(left, row)
        at.imshow(image.cpu().numpy(), cmap="gray", vmin=0, vmax=1)
        wrong = prediction != truth
        style = {"color": _COLORS["orange"], "fontweight": "bold"} if wrong else {"color": INK}
        at.set_title(f"{truth} → {prediction}", fontsize=10, pad=3, **style)

    heading(margin + cell / 2, "clean", 0.35, fontsize=12, fontweight="bold", color=INK)
    heading(margin + cell / 2, "label → prediction", 0.12, fontsize=8.5, color=INK)
    for row, (image, truth) in enumerate(zip(x, y, strict=True)):
        digit(margin, row, image[0], truth, truth)
    for number, column in enumerate(columns):
        left = margin + cell + wide + number * (wide + group)
        right = left + cell + tight
        heading(left + group / 2, column.title, 0.35, fontsize=12, fontweight="bold", color=INK)
        heading(left + group / 2, column.subtitle, 0.12, fontsize=9.5, color=INK)
        for row, truth in enumerate(y):
            digit(left, row, column.x_adv[row, 0], truth, column.prediction[row])
            change = (column.x_adv[row, 0] - x[row, 0]).cpu().numpy()
            drawn = axes(right, row).imshow(change, cmap="RdBu_r", vmin=-column.amplitude, vmax=column.amplitude)
        if len(x):
            bar = figure.add_axes((right / width, 0.33 / height, cell / width, 0.08 / height))
            figure.colorbar(drawn, cax=bar, orientation="horizontal", ticks=[-column.amplitude, 0, column.amplitude])
            bar.set_xticklabels([f"\N{MINUS SIGN}{column.amplitude:g}", "0", f"+{column.amplitude:g}"], fontsize=8)
            bar.tick_params(length=2, pad=2)
            figure.text((left + cell / 2) / width, 0.33 / height, "difference:", ha="center", fontsize=9, color=INK)
    figure.savefig(path, dpi=200)


def draw_curves(path: str | PathLike[str], panels: Sequence[Panel]) -> None:
    """Draws robust accuracy against eps, one curve for each attack.

    Args:
        path: The file to write.
        panels: One for each network and norm, two side by side.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    names = dict.fromkeys(name for panel in panels for name in panel.curves)
    styles = dict(zip(names, cycle(zip(_COLORS.values(), "os^Dv", strict=True)), strict=False))
    rows = math.ceil(len(panels) / 2)
    figure = _figure(10.8, 4.2 * rows, layout="constrained")
    grid = figure.subplots(rows, 2, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=True):
        for name, curve in panel.curves.items():
            eps, accuracy = zip(*curve, strict=True)
            percent = [100 * share for share in accuracy]
            color, marker = styles[name]
            line = axes.plot(eps, percent, color=color, marker=marker, markersize=5, linewidth=2, label=name)
            line[0].set(zorder=3, clip_on=False)  # points at 0 and 100 % show whole
        axes.set_title(panel.title, fontsize=12, pad=10)
        axes.set_xlabel(panel.axis, fontsize=11)
        axes.set(ylim=(0, 100))
        axes.margins(x=0.02)
        axes.grid(color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=11)
    for axes in grid[:, 0]:
        axes.set_ylabel("robust accuracy (%)", fontsize=11)
    figure.savefig(path, dpi=200)
