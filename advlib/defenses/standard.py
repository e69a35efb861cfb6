"""Training on clean inputs, and label smoothing (Szegedy et al., 2015, arXiv:1512.00567)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from advlib.defenses.base import LossOutput, Objective, check_number
from advlib.evaluator import Model, precise


@dataclass(frozen=True)
class Standard(Objective):
    """Cross-entropy on clean inputs: no defence, and what the others are compared with.

    Args:
        temperature: What logits are divided by; above 1 it is the first stage of defensive distillation.

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> Standard()(model, x, y).loss.backward()
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None = None) -> LossOutput:
        logits = precise(model(x))
        return LossOutput(functional.cross_entropy(logits / self.temperature, y), logits)


@dataclass(frozen=True)
class LabelSmoothing(Objective):
    """Cross-entropy against smoothed labels. Historical as a defence: it hides the gradient.

    It withstands single steps and little noise (Warde-Farley & Goodfellow, 2016), and falls to
    ``pgd(..., loss="margin", restarts=10)``.

    Args:
        smoothing: Share of the probability spread over all classes (0.1, as in 1512.00567).

    Raises:
        ValueError: If ``smoothing`` is not in [0, 1].

    Example:
        >>> LabelSmoothing(0.1)(model, x, y).loss.backward()
    """

    smoothing: float = 0.1

    def __post_init__(self) -> None:
        check_number("smoothing", self.smoothing, most=1.0)

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None = None) -> LossOutput:
        logits = precise(model(x))
        return LossOutput(functional.cross_entropy(logits, y, label_smoothing=self.smoothing), logits)


def check_temperature(temperature: float) -> None:
    """Checks a temperature.

    Raises:
        ValueError: If it is not positive and finite.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1.0 leaves logits as they are")
