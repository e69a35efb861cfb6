"""Adversarial training (Goodfellow et al., 1412.6572; Kurakin et al., 1611.01236; Madry et al., 1706.06083)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from advlib.attacks import pgd
from advlib.defenses.base import Attack, Attacking, BatchNormMode, LossOutput, both, check_number, given
from advlib.evaluator import Model, precise
from advlib.noise import Key, Noise
from advlib.threats import Threat


def mixed_loss(logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, adversarial_weight: float) -> Tensor:
    """``(1 - w) CE(clean) + w CE(adversarial)`` (Goodfellow et al., 1412.6572, section 6).

    Args:
        logits: ``(N, C)`` at clean inputs; not needed for weight 1.
        logits_adv: ``(N, C)`` at perturbed inputs.
        y: ``(N,)`` labels, or ``(N, C)`` probabilities.
        adversarial_weight: The weight ``w`` in [0, 1].

    Example:
        >>> mixed_loss(None, logits_adv, y, adversarial_weight=1.0).shape
        torch.Size([])
    """
    loss = functional.cross_entropy(logits_adv, y)
    if logits is None:
        return loss
    return (1 - adversarial_weight) * functional.cross_entropy(logits, y) + adversarial_weight * loss


def noisy_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    noise: float = 2.0,
    step_size: float = 1.0,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Tensor:
    """N-FGSM (de Jorge et al., 2202.01181): strong noise, one step, and no projection back onto the ball.

    A perturbation to train with and no attack: points lie up to ``noise + step_size`` radii away from ``x``, which is
    what keeps single-step training from collapsing.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: ``(N, ...)`` clean inputs.
        y: ``(N,)`` integer labels.
        threat: The ball to be robust in; ``eps`` a number.
        noise: Radius of the uniform noise, in radii of the ball (2, as in 2202.01181).
        step_size: Length of the step, in radii of the ball (1, as in 2202.01181).
        generator: Source of the noise; None means torch's global generator.
        **options: Any of :class:`~advlib.search.SearchOptions`.

    Returns:
        ``(N, ...)`` points within the bounds.

    Example:
        >>> objective = AdversarialTraining(partial(noisy_fgsm, threat=Linf(0.1)))
    """
    chance = Noise(Key(generator), torch.arange(len(x), device=x.device))
    start = dataclasses.replace(threat, eps=noise * threat.eps).sample(x, chance)
    return pgd(
        model,
        x,
        y,
        dataclasses.replace(threat, eps=(noise + step_size) * threat.eps),
        steps=1,
        step_size=step_size * float(threat.eps),
        random_start=False,
        init=start,
        **{"keep": "last", **options},
    )


@dataclass(frozen=True)
class AdversarialTraining(Attacking):
    """Cross-entropy at the points that an attack finds, mixed with that at the clean inputs.

    What it is depends on the attack:

    - PGD: ``partial(pgd, threat=Linf(eps), steps=10, step_size=eps / 4, keep="last")`` (Madry et al.), the defence
      that has held, within its norm ball.
    - FGSM with a random start: ``partial(pgd, threat=Linf(eps), steps=1, step_size=1.25 * eps, keep="last")`` (Wong et
      al., 2001.03994). It can collapse: watch it with ``Trainer(collapse_guard=...)``.
    - N-FGSM: ``partial(noisy_fgsm, threat=Linf(eps))`` (de Jorge et al., 2202.01181).
    - FGSM alone: ``partial(fgsm, threat=Linf(eps))`` with weight 0.5. Historical: it falls to PGD.

    Args:
        attack: Called as ``attack(model, x, y)``.
        adversarial_weight: Weight of the perturbed inputs in [0, 1] (1, as in 1706.06083; 1412.6572 has 0.5). With 1,
            clean inputs are not looked at.
        bn: What BatchNorm uses inside the attack: ``"eval"``, running statistics, or ``"batch"``, the batch's own.

    Raises:
        TypeError: If the attack is not callable or lacks its threat model.
        ValueError: If the weight or ``bn`` is out of range.

    Example:
        >>> objective = AdversarialTraining(partial(pgd, threat=Linf(0.1), steps=3, keep="last"))
        >>> objective(model, x, y).loss.backward()
    """

    attack: Attack
    adversarial_weight: float = 1.0
    bn: BatchNormMode = "eval"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("adversarial_weight", self.adversarial_weight, most=1.0)

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None) -> LossOutput:
        x_adv = given(x_adv)
        if self.adversarial_weight == 1:
            logits, logits_adv = None, precise(model(x_adv))
        else:
            logits, logits_adv = both(model, x, x_adv)
        loss = mixed_loss(logits, logits_adv, y, adversarial_weight=self.adversarial_weight)
        return LossOutput(loss, logits, logits_adv, x_adv)
