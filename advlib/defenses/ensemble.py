"""Ensemble adversarial training (Tramer et al., 2017, arXiv:1705.07204)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advlib.defenses.adversarial import mixed_loss
from advlib.defenses.base import Attack, Attacking, BatchNormMode, LossOutput, both, check_number, given
from advlib.evaluator import Model


@dataclass(frozen=True)
class EnsembleAdversarialTraining(Attacking):
    """Adversarial training on points made against other, trained models as often as against the model itself.

    Each batch draws one source at random, the model itself among them. It is a defence against transferred examples;
    a white-box attack breaks a network trained so on single steps.

    Args:
        sources: Trained models, callables from ``(N, ...)`` inputs to ``(N, C)`` logits.
        attack: Called as ``attack(source, x, y)``.
        adversarial_weight: Weight of the perturbed inputs in [0, 1] (0.5, as in 1705.07204).
        bn: What BatchNorm of the model uses inside the attack: ``"eval"``, running statistics, or ``"batch"``.

    Raises:
        TypeError: If the attack is not callable or lacks its threat model, or a source is not callable.
        ValueError: If there are no sources, or the weight or ``bn`` is out of range.

    Example:
        >>> objective = EnsembleAdversarialTraining([other], partial(fgsm, threat=Linf(0.1)))
        >>> objective(model, x, y).loss.backward()
    """

    sources: Sequence[Model]
    attack: Attack
    adversarial_weight: float = 0.5
    bn: BatchNormMode = "eval"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("adversarial_weight", self.adversarial_weight, most=1.0)
        if not self.sources:
            raise ValueError("sources must hold at least one trained model; without any it is AdversarialTraining")
        for source in self.sources:
            if not callable(source):
                raise TypeError(f"sources must hold models, callables to logits, got {type(source).__name__}")

    def perturb(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        choice = int(torch.randint(len(self.sources) + 1, ()))
        source = model if choice == len(self.sources) else self.sources[choice]
        return super().perturb(source, x, y)

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None) -> LossOutput:
        x_adv = given(x_adv)
        logits, logits_adv = both(model, x, x_adv)
        loss = mixed_loss(logits, logits_adv, y, adversarial_weight=self.adversarial_weight)
        return LossOutput(loss, logits, logits_adv, x_adv)
