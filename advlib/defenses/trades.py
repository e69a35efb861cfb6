"""TRADES (Zhang et al., 2019, arXiv:1901.08573): cross-entropy plus what an attack can change about the answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from advlib.defenses.base import Attack, Attacking, BatchNormMode, LossOutput, attacked, both, check_number, given
from advlib.evaluator import Model, precise
from advlib.losses import Loss, divergence


def trades_loss(logits: Tensor, logits_adv: Tensor, y: Tensor, *, beta: float) -> Tensor:
    """``CE(clean) + beta * KL(clean || adversarial)`` (Zhang et al., 1901.08573, equation 5).

    Args:
        logits: ``(N, C)`` at clean inputs.
        logits_adv: ``(N, C)`` at perturbed inputs.
        y: ``(N,)`` labels, or ``(N, C)`` probabilities.
        beta: Weight of the second term.

    Example:
        >>> trades_loss(logits, logits, y, beta=6.0) == functional.cross_entropy(logits, y)
        tensor(True)
    """
    return functional.cross_entropy(logits, y) + beta * divergence(logits, logits_adv).mean()


def divergence_from(logits: Tensor) -> Loss:
    """The divergence from given clean answers as a loss for an attack on the same rows.

    Args:
        logits: ``(N, C)`` at clean inputs, without a graph.

    Raises:
        ValueError: From the loss, if it is asked about other rows.
    """

    def loss(output: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        if len(output) != len(logits):
            raise ValueError(
                f"the inner attack must keep all {len(logits)} rows together, got {len(output)}: configure it with "
                "keep='last' and without batch_size"
            )
        return divergence(logits, output)

    return loss


@dataclass(frozen=True)
class TRADES(Attacking):
    """Cross-entropy on clean inputs, plus the divergence that an attack on it finds.

    The attack climbs the divergence, as in the paper. The clean answer that it is measured from is computed once.

    Args:
        attack: A gradient attack that takes ``loss=``, called as ``attack(model, x, y, loss=...)``; it needs a random
            start, since the divergence has no gradient at ``x``. The paper's is
            ``partial(pgd, threat=Linf(eps), steps=10, step_size=eps / 4, keep="last")``.
        beta: Weight of the divergence (6, the paper's ``1 / lambda`` on CIFAR-10).
        bn: What BatchNorm uses inside the attack: ``"eval"``, running statistics, or ``"batch"``, the batch's own.

    Raises:
        TypeError: If the attack is not callable or lacks its threat model.
        ValueError: If ``beta`` is negative or ``bn`` unknown.

    Example:
        >>> TRADES(partial(pgd, threat=Linf(0.1), steps=3, keep="last"))(model, x, y).loss.backward()
    """

    attack: Attack
    beta: float = 6.0
    bn: BatchNormMode = "eval"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("beta", self.beta)

    def perturb(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        def attack(model: Model, x: Tensor, y: Tensor) -> Tensor:
            with torch.no_grad():
                logits = precise(model(x))
            return self.attack(model, x, y, loss=divergence_from(logits))

        return attacked(attack, model, x, y, self.bn)

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None) -> LossOutput:
        x_adv = given(x_adv)
        logits, logits_adv = both(model, x, x_adv)
        return LossOutput(trades_loss(logits, logits_adv, y, beta=self.beta), logits, logits_adv, x_adv)
