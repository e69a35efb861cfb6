"""Losses: what the adversary looks for. One number per example; larger means closer to success.

Every loss is called as ``loss(output, y, target=None)`` with ``output`` what the model returned, ``y`` the ``(N,)``
true classes and ``target`` the ``(N,)`` classes to aim at, and returns ``(N,)`` values that are never reduced. With
``target`` a loss grows as the model leans towards that class. Where ``y`` equals ``target`` the true class is
unknown, and the class to beat is the best other one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from advlib.kernels import margins
from advlib.kernels.margins import pick


class Loss(Protocol):
    """A callable ``loss(output, y, target=None) -> (N,)``, larger as the attack comes nearer to success."""

    def __call__(self, output: Any, y: Tensor, target: Tensor | None = None, /) -> Tensor: ...


def unchanged(output: Any) -> Tensor:
    """What a model returns, where that is logits."""
    logits: Tensor = output
    return logits


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """The cross-entropy of the true class, or minus that of the target (Goodfellow et al., 1412.6572).

    Example:
        >>> cross_entropy(torch.zeros(1, 2), torch.tensor([0]))
        tensor([0.6931])
    """
    if target is None:
        return functional.cross_entropy(logits, y, reduction="none")
    return -functional.cross_entropy(logits, target, reduction="none")


def margin(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """The best other logit minus the true one (Carlini & Wagner, 1608.04644): positive once the model errs.

    Example:
        >>> margin(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1]))
        tensor([-1.])
    """
    return margins.margin(logits, y, target)


def probability_margin(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """The margin between softmax probabilities, in [-1, 1] (Ma et al., PMA, 2411.15210).

    Example:
        >>> probability_margin(torch.zeros(1, 2), torch.tensor([1]))
        tensor([0.])
    """
    return margins.probability_margin(logits, y, target)


def dlr(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """The difference of logits ratio (Croce & Hein, 2003.01690): a margin free of the logits' scale.

    Untargeted, the margin over the gap between the largest and the third largest logit (equation 6); with a
    target, over the gap between the largest and the mean of the third and fourth (equation 7).

    Raises:
        ValueError: With fewer than three classes, or four with a target.

    Example:
        >>> dlr(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1]))
        tensor([-0.5000])
    """
    needed = 3 if target is None else 4
    if logits.shape[1] < needed:
        raise ValueError(
            f"dlr compares {needed} classes or more{' with a target' if target is not None else ''}, the model "
            f"has {logits.shape[1]}: use loss='margin'"
        )
    return margins.dlr(logits, y, target)


def log_odds(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """The log-odds, ``log(p / (1 - p))``, of the likeliest wrong class, or of the target.

    They order points as the confidence ``p`` does, which saturates where they go on growing: in float32 ``p`` is 1 from
    log-odds of 17.

    Example:
        >>> log_odds(torch.tensor([[0.0, 100.0]]), torch.tensor([0]))
        tensor([100.])
    """
    aim = logits.scatter(1, y.unsqueeze(1), -torch.inf).argmax(1) if target is None else target
    return pick(logits, aim) - logits.scatter(1, aim.unsqueeze(1), -torch.inf).logsumexp(1)


def divergence(logits: Tensor, logits_adv: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the perturbed answer from the clean one, ``(N,)``.

    Args:
        logits: ``(N, C)`` at clean inputs.
        logits_adv: ``(N, C)`` at perturbed inputs.

    Example:
        >>> divergence(torch.zeros(1, 2), torch.zeros(1, 2))
        tensor([0.])
    """
    target, guess = logits.log_softmax(1), logits_adv.log_softmax(1)
    return functional.kl_div(guess, target, reduction="none", log_target=True).sum(1)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "probability_margin": probability_margin,
    "dlr": dlr,
    "log_odds": log_odds,
}


def over_members(loss: str | Loss = "cross_entropy") -> Loss:
    """The mean of a loss over the members of an :class:`~advlib.models.Ensemble` with ``mean="losses"``.

    Args:
        loss: Of one member's logits: a name, or a callable.

    Example:
        >>> each = torch.tensor([[[0.0, 2.0], [3.0, 0.0]]])  # one row, two members, two classes
        >>> over_members("margin")(each, torch.tensor([0]))
        tensor([-0.5000])
    """
    of_one = resolve(loss)

    def mean(output: Any, y: Tensor, target: Tensor | None = None) -> Tensor:
        return torch.stack([of_one(logits, y, target) for logits in output.unbind(1)]).mean(0)

    return mean


def resolve(loss: str | Loss, logits_of: Callable[[Any], Tensor] | None = None) -> Loss:
    """The loss of that name, or the callable itself; advlib's own losses read the logits with ``logits_of``.

    Raises:
        ValueError: If no loss has that name.
        TypeError: If ``loss`` is neither a name nor a callable.
    """
    message = f"loss must be one of {', '.join(LOSSES)}, or a callable, got {loss!r}"
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(message)
        loss = LOSSES[loss]
    if not callable(loss):
        raise TypeError(message)
    if logits_of is None or loss not in LOSSES.values():
        return loss
    on_logits = loss
    return lambda output, y, target=None: on_logits(logits_of(output), y, target)
