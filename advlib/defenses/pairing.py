"""Logit pairing and squeezing (Kannan et al., 2018, arXiv:1803.06373)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from advlib.defenses.adversarial import mixed_loss
from advlib.defenses.base import Attack, Attacking, BatchNormMode, LossOutput, Objective, both, check_number, given
from advlib.evaluator import Model, precise


def logit_pairing_loss(logits: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference of paired logits (Kannan et al., 1803.06373, section 4).

    Args:
        logits: ``(N, C)``.
        other: ``(N, C)``, row ``i`` the partner of row ``i``.

    Raises:
        ValueError: If the rows are not paired.

    Example:
        >>> logit_pairing_loss(torch.zeros(2, 3), torch.ones(2, 3))
        tensor(1.)
    """
    if logits.shape != other.shape:
        raise ValueError(f"logits must be paired row by row, got {tuple(logits.shape)} and {tuple(other.shape)}")
    return functional.mse_loss(logits, other)


def logit_squeezing_loss(logits: Tensor) -> Tensor:
    """Mean squared logit (Kannan et al., 1803.06373, section 4.2).

    Example:
        >>> logit_squeezing_loss(torch.ones(2, 3))
        tensor(1.)
    """
    return logits.square().mean()


@dataclass(frozen=True)
class AdversarialLogitPairing(Attacking):
    """Adversarial training that also pulls the logits of an input and of its perturbed form together.

    Engstrom et al. (1807.10272) broke it on ImageNet; judge it by many steps and restarts.

    Args:
        attack: Called as ``attack(model, x, y)``.
        weight: Weight of the pairing (0.5, as in 1803.06373).
        adversarial_weight: Weight of the perturbed inputs in the cross-entropy (0.5, as in 1803.06373).
        bn: What BatchNorm uses inside the attack: ``"eval"``, running statistics, or ``"batch"``, the batch's own.

    Raises:
        TypeError: If the attack is not callable or lacks its threat model.
        ValueError: If a weight is negative or ``bn`` unknown.

    Example:
        >>> AdversarialLogitPairing(partial(pgd, threat=Linf(0.1), steps=3, keep="last"))(model, x, y).loss.backward()
    """

    attack: Attack
    weight: float = 0.5
    adversarial_weight: float = 0.5
    bn: BatchNormMode = "eval"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("weight", self.weight)
        check_number("adversarial_weight", self.adversarial_weight, most=1.0)

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None) -> LossOutput:
        x_adv = given(x_adv)
        logits, logits_adv = both(model, x, x_adv)
        loss = mixed_loss(logits, logits_adv, y, adversarial_weight=self.adversarial_weight)
        return LossOutput(loss + self.weight * logit_pairing_loss(logits, logits_adv), logits, logits_adv, x_adv)


@dataclass(frozen=True)
class _NoisyInputs(Objective):
    """Cross-entropy at noisy inputs, plus a penalty on their logits."""

    weight: float = 0.5
    noise: float = 0.5

    def __post_init__(self) -> None:
        check_number("weight", self.weight)
        check_number("noise", self.noise)

    @abstractmethod
    def _penalty(self, logits: Tensor) -> Tensor:
        """What is added to the loss, ``weight`` times."""

    def perturb(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return x.detach() + self.noise * torch.randn_like(x)

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None) -> LossOutput:
        x_adv = given(x_adv)
        logits = precise(model(x_adv))
        loss = functional.cross_entropy(logits, y) + self.weight * self._penalty(logits)
        return LossOutput(loss, None, logits, x_adv)


class CleanLogitPairing(_NoisyInputs):
    """Pairs the logits of different noisy inputs. Historical: it hides the gradient.

    It falls to PGD with many restarts and steps (Mosbach et al., 1810.12042).

    Args:
        weight: Weight of the pairing (0.5, as in 1803.06373).
        noise: Standard deviation of the Gaussian noise on the inputs, in their units (0.5, as in 1803.06373).

    Raises:
        ValueError: If a parameter is negative.

    Example:
        >>> CleanLogitPairing()(model, x, y).loss.backward()
    """

    def _penalty(self, logits: Tensor) -> Tensor:
        half = len(logits) // 2  # batches are shuffled, so that the halves are random partners
        return logit_pairing_loss(logits[:half], logits[half : 2 * half]) if half else logits.sum() * 0


class LogitSqueezing(_NoisyInputs):
    """Keeps the logits of noisy inputs small. Historical: it hides the gradient.

    It falls to PGD with many restarts and steps (Mosbach et al., 1810.12042).

    Args:
        weight: Weight of the squared logits (0.5, as in 1803.06373).
        noise: Standard deviation of the Gaussian noise on the inputs, in their units (0.5, as in 1803.06373).

    Raises:
        ValueError: If a parameter is negative.

    Example:
        >>> LogitSqueezing()(model, x, y).loss.backward()
    """

    def _penalty(self, logits: Tensor) -> Tensor:
        return logit_squeezing_loss(logits)
