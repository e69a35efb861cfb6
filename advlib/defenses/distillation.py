"""Defensive distillation (Papernot et al., 2015, arXiv:1511.04508). Historical: it hides the gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from advlib.defenses.base import LossOutput, Objective
from advlib.defenses.standard import Standard, check_temperature
from advlib.evaluator import Model, guard, precise


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy between the teacher's and the student's answers, both softened (1511.04508, equation 5).

    Args:
        student_logits: ``(N, C)``.
        teacher_logits: ``(N, C)``, to which no gradient flows.
        temperature: What the logits of both are divided by.

    Raises:
        ValueError: If the numbers of classes or rows differ.

    Example:
        >>> distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2), temperature=20.0)
        tensor(0.6931)
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"teacher and student must give logits of one shape, got {tuple(teacher_logits.shape)} from the teacher "
            f"and {tuple(student_logits.shape)} from the student: train a teacher with the same classes"
        )
    target = (teacher_logits.detach() / temperature).softmax(1)
    return functional.cross_entropy(student_logits / temperature, target)


@dataclass(frozen=True)
class DefensiveDistillation(Objective):
    """The second stage: a student learns the softened answers of a teacher trained at the same temperature.

    Historical. Deployed at temperature 1, the student's logits are so large that its softmax has no gradient left in
    float32; ``pgd(..., loss="margin")``, or transfer from another model, breaks it (Carlini & Wagner, 1607.04311).

    Args:
        teacher: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, trained with
            ``Standard(temperature=temperature)``.
        temperature: What the logits of both are divided by in training (100, as in 1511.04508 on MNIST).

    Raises:
        TypeError: If the teacher is not callable.
        ValueError: If the temperature is not positive, or teacher and student differ in their classes.

    Example:
        >>> DefensiveDistillation(teacher, temperature=100.0)(model, x, y).loss.backward()
    """

    teacher: Model
    temperature: float = 100.0

    def __post_init__(self) -> None:
        if not callable(self.teacher):
            raise TypeError(f"teacher must be a callable to logits, got {type(self.teacher).__name__}")
        check_temperature(self.temperature)

    def loss(self, model: Model, x: Tensor, y: Tensor, x_adv: Tensor | None = None) -> LossOutput:
        with guard(self.teacher):
            teacher_logits = precise(self.teacher(x))
        logits = precise(model(x))
        return LossOutput(distillation_loss(logits, teacher_logits, temperature=self.temperature), logits)


def distill(
    teacher: nn.Module, student: nn.Module, fit: Callable[[nn.Module, Objective], object], *, temperature: float = 100.0
) -> nn.Module:
    """Both stages of defensive distillation. Historical: see :class:`DefensiveDistillation`.

    Args:
        teacher: An untrained model.
        student: An untrained model, usually of the same architecture.
        fit: Called as ``fit(model, objective)`` for the teacher and then for the student; it trains the model.
        temperature: What logits are divided by in both trainings (100, as in 1511.04508 on MNIST).

    Returns:
        The student, in evaluation mode, to be deployed at temperature 1, as it is.

    Raises:
        ValueError: If the temperature is not positive, or teacher and student differ in their classes.

    Example:
        >>> student = distill(teacher, student, lambda model, objective: fit(model, objective))
    """
    fit(teacher, Standard(temperature))
    fit(student, DefensiveDistillation(teacher, temperature))
    return student.eval()
