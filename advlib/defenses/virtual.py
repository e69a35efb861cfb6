"""Virtual adversarial training (Miyato et al., 2015, arXiv:1507.00677), for unlabelled inputs too."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from advlib.attacks.virtual import virtual_adversarial_perturbation
from advlib.defenses.base import BatchNormMode, LossOutput, Objective, attacked, both, check_mode, check_number, given
from advlib.evaluator import Model
from advlib.losses import divergence
from advlib.threats import L2

UNLABELLED = -1


@dataclass(frozen=True)
class VirtualAdversarialTraining(Objective):
    """Cross-entropy on the labelled rows, plus the divergence along its steepest direction on all rows.

    The direction, which needs no label, is the dominant eigenvector of the divergence's Hessian, found by the power
    method on differences of gradients. It is not a defence against attacks with a budget of their own; it was made to
    learn from unlabelled inputs, rows whose label is -1.

    Args:
        eps: Euclidean length of the perturbation, in the units of ``x``; bounds are not held.
        weight: Weight of the divergence (1, as in 1507.00677).
        iterations: Rounds of the power method (1, as in 1507.00677).
        xi: Length of the difference (1e-6 is the paper's; 1e-3 keeps float32 gradients above their rounding).
        bn: What BatchNorm uses while the direction is sought: ``"eval"``, running statistics, or ``"batch"``.

    Raises:
        ValueError: If a parameter is out of range.

    Example:
        >>> VirtualAdversarialTraining(eps=2.0)(model, x, torch.full_like(y, -1)).loss.backward()
    """

    eps: float
    weight: float = 1.0
    iterations: int = 1
    xi: float = 1e-3
    bn: BatchNormMode = "eval"

    def __post_init__(self) -> None:
        check_number("eps", self.eps)
        check_number("weight", self.weight)
        check_number("iterations", self.iterations, least=1)
        check_number("xi", self.xi, least=1e-12)
        check_mode(self.bn)

    def perturb(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return attacked(self._direction, model, x, y, self.bn)

    def _direction(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        threat, nobody = L2(self.eps, bounds=None), torch.zeros_like(y)  # a label may be missing, and none is looked at
        with torch.no_grad():
            begin = x + self.eps * threat.steepest(torch.randn_like(x))
        # In half precision, the difference of two gradients this close is nothing but rounding.
        with torch.autocast(x.device.type, enabled=False):
            return virtual_adversarial_perturbation(
                model, x, nobody, threat, steps=self.iterations, xi=self.xi, init=begin, keep="last"
            )

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None) -> LossOutput:
        x_adv = given(x_adv)
        logits, logits_adv = both(model, x, x_adv)
        loss = self.weight * divergence(logits.detach(), logits_adv).mean()
        if y.ndim == 2 or bool((y != UNLABELLED).any()):
            loss = loss + functional.cross_entropy(logits, y, ignore_index=UNLABELLED if y.ndim == 1 else -100)
        return LossOutput(loss, logits, logits_adv, x_adv)
