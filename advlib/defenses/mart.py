"""MART (Wang et al., "Improving adversarial robustness requires revisiting misclassified examples", ICLR 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from advlib.defenses.base import Attack, Attacking, BatchNormMode, LossOutput, both, check_number, given, labels
from advlib.evaluator import Model
from advlib.losses import divergence

_SLACK = 1e-4  # keeps the logarithm of 1 - p finite, as in the authors' code


def mart_loss(logits: Tensor, logits_adv: Tensor, y: Tensor, *, beta: float) -> Tensor:
    """Boosted cross-entropy, plus the divergence weighted by how wrong the clean answer is (equation 11).

    Args:
        logits: ``(N, C)`` at clean inputs.
        logits_adv: ``(N, C)`` at perturbed inputs.
        y: ``(N,)`` labels, or ``(N, C)`` probabilities.
        beta: Weight of the second term, the paper's lambda.

    Example:
        >>> mart_loss(logits, logits_adv, y, beta=5.0).shape
        torch.Size([])
    """
    true = labels(y).unsqueeze(1)
    rival = logits_adv.softmax(1).scatter(1, true, 0).amax(1)
    boosted = functional.cross_entropy(logits_adv, y) - torch.log(1 + _SLACK - rival).mean()
    doubt = 1 - logits.softmax(1).gather(1, true).squeeze(1)
    return boosted + beta * (divergence(logits, logits_adv) * doubt).mean()


@dataclass(frozen=True)
class MART(Attacking):
    """Adversarial training that weighs inputs by how badly the clean ones are classified.

    Args:
        attack: Called as ``attack(model, x, y)``; the paper's is PGD-10 on cross-entropy.
        beta: Weight of the divergence (5, the paper's lambda).
        bn: What BatchNorm uses inside the attack: ``"eval"``, running statistics, or ``"batch"``, the batch's own.

    Raises:
        TypeError: If the attack is not callable or lacks its threat model.
        ValueError: If ``beta`` is negative or ``bn`` unknown.

    Example:
        >>> MART(partial(pgd, threat=Linf(0.1), steps=3, keep="last"))(model, x, y).loss.backward()
    """

    attack: Attack
    beta: float = 5.0
    bn: BatchNormMode = "eval"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("beta", self.beta)

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None) -> LossOutput:
        x_adv = given(x_adv)
        logits, logits_adv = both(model, x, x_adv)
        return LossOutput(mart_loss(logits, logits_adv, y, beta=self.beta), logits, logits_adv, x_adv)
