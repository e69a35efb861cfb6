"""The fast gradient sign method (Goodfellow et al., 2014, arXiv:1412.6572), in every norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from advlib.losses import Loss
from advlib.noise import Noise
from advlib.search import Feedback, Model, Rule, SearchOptions, Task, search
from advlib.threats import Threat

if TYPE_CHECKING:
    from typing_extensions import Unpack


class FGSMState(NamedTuple):
    query: Tensor  # (N, ...) where the model is asked next


class FGSM(Rule[FGSMState]):
    """Goes to where the loss, were it linear, would be largest."""

    def start(self, task: Task, point: Tensor, noise: Noise) -> FGSMState:
        return FGSMState(point)

    def update(self, state: FGSMState, feedback: Feedback, task: Task, noise: Noise) -> FGSMState:
        return FGSMState(task.threat.maximize(feedback.gradient, task.x))


def fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    loss: str | Loss = "cross_entropy",
    **options: Unpack[SearchOptions],
) -> Tensor:
    """Perturbs the inputs in one step, to the maximum of the linearised loss.

    Solves, per example, ``max <g, x_adv - x>`` over ball, bounds and mask, with ``g`` the gradient of the loss at
    ``x``. In Linf that is ``x + eps * sign(g)`` within the bounds, in L2 without active bounds
    ``x + eps * g / ||g||``; in L1 and L0 the features with most to gain are changed as far as the bounds allow.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes, or the wanted ones if ``targeted``.
        threat: The norm ball, in the units of ``x``.
        loss: What is increased: a name from :data:`advlib.losses.LOSSES`, or a callable.
        **options: Any of :class:`~advlib.search.SearchOptions`. ``keep`` defaults to ``"last"``: the one step is
            taken whether it helps or not, for one forward and one backward pass.

    Returns:
        ``(N, ...)`` inputs within ``threat``.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``x`` leaves the bounds, or shapes and values disagree.

    Example:
        >>> x_adv = fgsm(model, x, y, Linf(8 / 255))
    """
    settings: dict[str, Any] = {"keep": "last", **options}
    return search(model, x, y, threat, FGSM(), steps=1, loss=loss, **settings).x_adv
