"""Which model to use, by how many of the inputs it meets are adversarial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from advlib.evaluation.plotting import INK, percent_axes
from advlib.evaluation.result import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Stretch:
    """A range of shares of adversarial inputs in which the same models are the best choice.

    Args:
        models: Their names; more than one only if they are equal in both accuracies.
        start: The least share.
        stop: The greatest share.
    """

    models: tuple[str, ...]
    start: float
    stop: float


@dataclass(frozen=True)
class Tradeoff:
    """The result of :func:`tradeoff`.

    Args:
        models: Clean and robust accuracy of each model.
        best: Which models are the best choice, from no adversarial inputs to nothing else.
        never: The models that another one beats, or equals, at every share: nobody needs them.

    Example:
        >>> choice = tradeoff({"plain": (0.75, 0.0), "robust": (0.5, 0.25)})
        >>> choice.transitions, choice.never, choice.accuracy(0.25)
        ((0.5,), (), 0.5625)
    """

    models: dict[str, tuple[float, float]]
    best: tuple[Stretch, ...]
    never: tuple[str, ...]

    @property
    def transitions(self) -> tuple[float, ...]:
        """The shares of adversarial inputs at which another model becomes the best choice."""
        return tuple(stretch.start for stretch in self.best[1:])

    def accuracy(self, share: float) -> float:
        """The accuracy of the best choice at some share of adversarial inputs: the upper envelope.

        Raises:
            ValueError: If the share is not in [0, 1].
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be in [0, 1], got {share}: divide a percentage by 100")
        return max((1 - share) * clean + share * robust for clean, robust in self.models.values())

    def __str__(self) -> str:
        width = max(map(len, ("model", *self.models)))
        lines = [f"{'model':{width}}   clean  robust  best choice between"]
        where = {name: stretch for stretch in self.best for name in stretch.models}
        for name, (clean, robust) in self.models.items():
            range_ = f"{_percent(where[name].start)} and {_percent(where[name].stop)}" if name in where else "never"
            lines.append(f"{name:{width}}  {100 * clean:6.2f}  {100 * robust:6.2f}  {range_}")
        return "\n".join([*lines, "(accuracies in %; shares of adversarial inputs)"])

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draws accuracy against the share of adversarial inputs, the upper envelope and the transition points.

        Args:
            axes: Where to draw; by default in a new figure.

        Returns:
            Where it was drawn; ``axes.figure.savefig(path)`` writes it.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
        """
        axes = percent_axes(axes, "adversarial inputs (%)", "accuracy (%)")
        for name, (clean, robust) in self.models.items():
            style = "--" if name in self.never else "-"
            axes.plot((0, 100), (100 * clean, 100 * robust), style, linewidth=1.8, label=name)
        corners = [0.0, *self.transitions, 1.0]
        tops = [100 * self.accuracy(share) for share in corners]
        shares = [100 * share for share in corners]
        axes.plot(shares, tops, color=INK, linewidth=6, alpha=0.15, solid_joinstyle="round", label="best choice")
        axes.plot(shares[1:-1], tops[1:-1], "o", color=INK, markersize=5)
        for share, top in zip(shares[1:-1], tops[1:-1], strict=True):
            axes.annotate(_percent(share / 100), (share, top), (6, 5), textcoords="offset points", fontsize=9)
        axes.set_xlim(0, 100)
        axes.legend(frameon=False)
        return axes


def tradeoff(models: Mapping[str, tuple[float, float] | Evaluation]) -> Tradeoff:
    """Compares models by accuracy on a mixture of clean and adversarial inputs.

    A model with clean accuracy ``c`` and robust accuracy ``r`` is right about ``(1 - s) c + s r`` of the inputs if a
    share ``s`` of them is adversarial. That is a straight line for each model; their upper envelope says which is the
    best choice where, and which never is. With two models the choice changes at ``s = dc / (dc + dr)``, ``dc`` being
    what the robust one loses on clean inputs and ``dr`` what it gains on adversarial ones. It is computed in exact
    arithmetic, so that ties are ties.

    Args:
        models: By name, ``(clean accuracy, robust accuracy)`` as shares, or an :class:`~advlib.evaluation.Evaluation`;
            all under the same threat model and measured on the same rows.

    Returns:
        A :class:`Tradeoff`.

    Raises:
        TypeError: If an entry is neither a pair of numbers nor an evaluation.
        ValueError: If there is no model, or an accuracy is impossible.

    Example:
        >>> from advlib.evaluation import tradeoff
        >>> print(tradeoff({"plain": (0.98, 0.03), "robust": (0.96, 0.7), "noisy": (0.96, 0.1)}))
        model    clean  robust  best choice between
        plain    98.00    3.00  0 % and 2.9 %
        robust   96.00   70.00  2.9 % and 100 %
        noisy    96.00   10.00  never
        (accuracies in %; shares of adversarial inputs)
    """
    if not isinstance(models, Mapping):
        raise TypeError(f"models must be a dict of (clean, robust) by name, got {type(models).__name__}")
    if not models:
        raise ValueError("there must be models to compare, got none")
    pairs = {name: _accuracies(name, entry) for name, entry in models.items()}
    lines = {name: (_exact(clean), _exact(robust)) for name, (clean, robust) in pairs.items()}
    share, line = Fraction(0), max(lines.values())  # of equal ones without an adversary, the more robust one
    ends: list[tuple[Fraction, tuple[Fraction, Fraction]]] = [(share, line)]
    while above := [other for other in lines.values() if other[1] > line[1]]:
        share, _, line = min((_crossing(line, other), -other[1], other) for other in above)
        ends.append((share, line))
    stops = [float(share) for share, _ in ends[1:]] + [1.0]
    best = tuple(
        Stretch(tuple(name for name, other in lines.items() if other == line), float(start), stop)
        for (start, line), stop in zip(ends, stops, strict=True)
    )
    chosen = {name for stretch in best for name in stretch.models}
    return Tradeoff(pairs, best, tuple(name for name in pairs if name not in chosen))


def _exact(share: float) -> Fraction:
    """The share of some rows that a float stands for."""
    return Fraction(share).limit_denominator(10**6)


def _crossing(line: tuple[Fraction, Fraction], other: tuple[Fraction, Fraction]) -> Fraction:
    """The share at which a more robust model overtakes."""
    loss, gain = line[0] - other[0], other[1] - line[1]
    return loss / (loss + gain)


def _accuracies(name: str, entry: tuple[float, float] | Evaluation) -> tuple[float, float]:
    if isinstance(entry, Evaluation):
        return entry.clean_accuracy, entry.robust_accuracy
    try:
        clean, robust = (float(value) for value in entry)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name!r} must have a pair (clean accuracy, robust accuracy), or an Evaluation, got {entry!r}"
        ) from None
    if not 0 <= robust <= clean <= 1:
        raise ValueError(
            f"accuracies must satisfy 0 <= robust <= clean <= 1, got clean {clean:.6g} and robust {robust:.6g} for "
            f"{name!r}: give (clean, robust) in this order, as shares, measured on the same rows"
        )
    return clean, robust


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
