"""Figures of an evaluation: how its accuracy fell, and what a page needs to show figures as its own."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from advlib.evaluation.plotting import COLORS, INK, new_figure, of_plot, percent_axes
from advlib.evaluation.result import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from advlib.evaluation.curves import Curve

# What the page calls the colours of a figure, so that they follow light and dark
_SERIES = {color.lower(): f"series-{number}" for number, color in enumerate(COLORS)}
_COLORS = {"#000000": "ink", INK: "ink", "#e5e5e5": "grid", **_SERIES}


def plot(result: Evaluation) -> Figure:
    """Draws how the accuracy fell, to stand alone; see :meth:`Evaluation.plot`."""
    figure = draw_falls({"": result})
    title = f"{result.threat}, {result.budget} budget, {len(result.y):,} rows"
    figure.axes[0].set_title(title, fontsize=10, parse_math=False)
    return figure


def draw_falls(results: Mapping[str, Evaluation]) -> Figure:
    """Draws the share of rows still right against the passes spent on each; of a single result, its interval too."""
    figure, axes = _axes("passes through the model on each row", "rows still right (%)")
    lines = []
    ends = [int(result.samples.max()) for result in results.values()]
    for result, end in zip(results.values(), ends, strict=True):
        passes, right = fall(result)
        percent = [100 * share for share in (*right, right[-1])]
        lines += axes.step((*passes, end), percent, where="post", linewidth=2)
        if len(results) == 1:
            low, high = (100 * end for end in result.robust_interval)
            spread = [[percent[-1] - low], [high - percent[-1]]]
            axes.errorbar(end, percent[-1], spread, color=COLORS[0], capsize=3, clip_on=False, zorder=3)
    axes.set_xscale("log")
    axes.set_xlim(1, max(10, *ends))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _name(axes, lines, results)
    return figure


def fall(result: Evaluation) -> tuple[list[int], list[float]]:
    """The share of rows still right after one pass on each, and after the passes at which rows were broken."""
    attacked = result.correct & ~result.robust
    passes = sorted({1, *result.samples[attacked].tolist()})
    right = [1 - int((~result.correct | attacked & (result.samples <= at)).sum()) / len(result.y) for at in passes]
    return passes, right


def draw_curves(curves: Mapping[str, Curve], names: Iterable[str]) -> Figure:
    """Draws robust accuracy against eps, in the colours that :func:`draw_falls` gives results of these names."""
    figure, axes = _axes("", "")
    colors = {name: color for name, color in zip(names, cycle(COLORS), strict=False) if name in curves}
    for name in colors:
        curves[name].plot(axes)
    for line, band, color in zip(axes.lines, axes.collections, colors.values(), strict=True):
        line.set_color(color)
        band.set_color(color)
    _name(axes, axes.lines, colors)
    return figure


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """Axes small enough for the text to be read on a telephone."""
    figure = new_figure(4.6, 3.1, layout="constrained")
    return figure, percent_axes(figure.subplots(), xlabel, ylabel)


def _name(axes: Axes, lines: Sequence[Line2D], names: Iterable[str]) -> None:
    """Adds a legend where there is more than one line. No name is mathematics, nor hidden for how it begins."""
    if len(lines) > 1:
        legend = axes.legend(lines, ["" for _ in lines], frameon=False)
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_parse_math(False)
            text.set_text(name)


def svg(draw: Callable[[], Figure], alt: str, prefix: str) -> str:
    """A figure as a piece of HTML, whose colours and font are those of the page.

    Args:
        draw: Draws it, whatever the program's own style of figures.
        alt: What it shows, in words, escaped.
        prefix: What the names inside begin with, so that they differ from those of the page's other figures.
    """
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    file = io.StringIO()
    with of_plot("matplotlib.style").context(["default", {"svg.fonttype": "none", "svg.hashsalt": prefix}]):
        figure = draw()
        figure.patch.set_visible(False)
        figure.axes[0].patch.set_visible(False)
        figure.savefig(file, format="svg", metadata=nothing)  # the same text and names each time
    head, _, body = file.getvalue().partition("</style>")  # which would be the whole page's style
    box = head[head.index("viewBox=") :].split('"')[1]
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", body).replace("xlink:href", "href")
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", body)
    for color, name in _COLORS.items():
        body = body.replace(color, f"var(--{name})")
    return f'<svg viewBox="{box}" role="img" aria-label="{alt}"><defs>{body}'
