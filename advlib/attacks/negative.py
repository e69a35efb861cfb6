"""Negative images (Hosseini et al., 2017, arXiv:1703.06857)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import Linf
from advlib.threats.negatives import Negative

if TYPE_CHECKING:
    from typing_extensions import Unpack


class NegativeState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next


@dataclass(frozen=True)
class AskNegative(Rule[NegativeState]):
    """Asks about the input, then about its negative."""

    threat: Negative

    order = 0

    def start(self, task: Task, point: Tensor, noise: Noise) -> NegativeState:
        return NegativeState(point)

    def update(self, state: NegativeState, feedback: Feedback, task: Task, noise: Noise) -> NegativeState:
        return NegativeState(self.threat.apply(task.x))


def negative(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Negative,
    *,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Tries the negative of each input, bright for dark.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The bounds, a :class:`~advlib.threats.Negative`.
        loss: What ranks the two where neither or both succeed: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions` but ``init``. ``keep`` defaults to ``"first"``: an input
            that is wrong already stays. With ``"last"`` the negatives come back, and the model is asked in vain.

    Returns:
        ``(N, ...)`` inputs and negatives, on each row the stronger one.

    Raises:
        TypeError: If the threat model is not :class:`~advlib.threats.Negative`, ``init`` is given, or another argument
            is of the wrong type.
        ValueError: If ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = negative(model, x, y, Negative())
    """
    if not isinstance(threat, Negative):
        raise TypeError(f"negative turns bright into dark, so it needs Negative(bounds), got {threat!r}")
    if options.get("init") is not None:
        raise TypeError("negative asks about x and its negative and takes no init: leave it out")
    settings: dict[str, Any] = {"keep": "first", **options}
    inside = Linf(math.inf, bounds=threat.bounds)
    return search(model, x, y, inside, AskNegative(threat), steps=1, loss=loss, **settings).x_adv
