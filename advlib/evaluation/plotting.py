"""What plots share, axes that a user may give included. Matplotlib is imported only when something is drawn."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#222222"
# Okabe & Ito's colours, told apart by colour-blind readers too
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#767676", "#56B4E9", "#E69F00")


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """A figure outside pyplot, so that the program's backend and open figures are left alone."""
    figure: Figure = of_plot("matplotlib.figure").Figure(figsize=(width, height), facecolor="white", **options)
    return figure


def of_plot(name: str) -> ModuleType:
    """A module that comes with the extra ``plot``.

    Raises:
        ModuleNotFoundError: If it is not installed, with what to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'figures and pictures need {name}, which is not installed: pip install "advlib-torch[plot]"',
            name=error.name,
        ) from error


def percent_axes(axes: Axes | None, xlabel: str, ylabel: str) -> Axes:
    """The axes given, or those of a new figure, with a vertical axis from 0 to 100 %."""
    if axes is None:
        axes = new_figure(6.4, 4.2, layout="constrained").add_subplot()
    if not axes.lines:  # what is already drawn keeps its colours
        axes.set_prop_cycle(color=COLORS)
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 100))
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
