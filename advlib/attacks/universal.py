"""Universal perturbations (Moosavi-Dezfooli et al., 2016, arXiv:1610.08401): one for all inputs."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from advlib.checks import check_counts
from advlib.evaluator import Evaluator, GradientMaskingWarning, Model, without_gradient_warnings
from advlib.losses import Loss, margin
from advlib.threats import L1, L2, Linf, Threat


def nearly_fooled(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """A smooth count of the rows on which the model errs: the sigmoid of the margin, free of the logits' scale.

    Rows that are fooled already, and rows that are far from it, hardly count: a perturbation for all has nothing to win
    there. The scale is that of the largest logit above the mean; 4 fooled more than 2 on a network for MNIST.

    Args:
        logits: ``(N, C)`` scores of the classes.
        y: ``(N,)`` true classes.
        target: ``(N,)`` classes to reach, if any.

    Example:
        >>> nearly_fooled(torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([0]))
        tensor([0.5000])
    """
    height = (logits.amax(1) - logits.mean(1)).detach()  # of two classes, the ratio is a constant
    return torch.sigmoid(4 * margin(logits, y, target) / height.clamp_min(torch.finfo(logits.dtype).tiny))


def universal_perturbation(
    model: Model,
    batches: Collection[tuple[Tensor, Tensor]],
    threat: Threat,
    *,
    epochs: int = 10,
    step_size: float | None = None,
    loss: str | Loss = nearly_fooled,
    logits_of: Callable[[Any], Tensor] | None = None,
) -> Tensor:
    """Finds one perturbation that makes the model err on as many inputs as it can, unseen ones too.

    Solves ``max_delta mean(loss(model(clip(x + delta)), y))`` over the ball and the mask, by steepest ascent over
    batches (Shafahi et al., 2018, arXiv:1811.11304), each step along the sum of a batch's gradients. The first paper
    adds up perturbations of DeepFool, one input after the other; ``benchmarks/universal.py`` compares the two.

    Add it to any inputs and clip: ``(x + delta).clamp(0, 1)`` lies within ``threat``.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        batches: Pairs of inputs ``(N, ...)``, float32 or float64, and labels ``(N,)``, such as a DataLoader or a list.
            Labels that the model itself gives count changes of its answers, which is the fooling rate of the paper.
        threat: An Linf, L2 or L1 ball with one finite ``eps``; the bounds are those of the perturbed inputs.
        epochs: How often the batches are gone through, at one forward and one backward pass for each input.
        step_size: Length of every step in the threat's norm; None for a cosine from ``2 * eps`` down to 0.
        loss: What is increased on average: a name from :data:`advlib.losses.LOSSES`, or a callable. The default is a
            smooth count of errors; cross-entropy goes on rising on inputs that are fooled already.
        logits_of: How logits are read from what the model returns, where that is more than logits.

    Returns:
        The perturbation, shaped as one input.

    Raises:
        TypeError: If an argument is of the wrong type, or ``batches`` has no length.
        ValueError: If the threat model is another, or differs from row to row, there are no inputs, ``x`` leaves the
            bounds, or shapes and values disagree.

    Example:
        >>> delta = universal_perturbation(model, [(x, y)], Linf(0.2), epochs=5)
        >>> x_adv = (x + delta).clamp(0, 1)
    """
    check_counts(epochs=epochs)
    if not isinstance(threat, Linf | L2 | L1):
        raise ValueError(f"a universal perturbation takes an Linf, L2 or L1 ball, got {threat!r}: Linf(0.1)")
    if not isinstance(batches, Collection):
        raise TypeError(
            f"batches must be pairs that can be gone through several times, got {type(batches).__name__}: list(batches)"
        )
    if loss is nearly_fooled and logits_of is not None:  # as a named loss would
        read = logits_of
        loss = lambda output, y, target=None: nearly_fooled(read(output), y, target)  # noqa: E731
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    delta: Tensor | None = None
    moved, total = False, epochs * len(batches)
    with torch.inference_mode(False), torch.no_grad(), without_gradient_warnings():
        for epoch in range(epochs):
            for number, (x, y) in enumerate(batches):
                if parameter is not None:
                    x, y = x.to(parameter.device), y.to(parameter.device)
                if delta is None:
                    delta = torch.zeros_like(x[:1])
                    ball = dataclasses.replace(threat, bounds=None).aligned(delta)  # the perturbation's own
                with Evaluator(model, x, y, threat, loss=loss, logits_of=logits_of) as evaluator:
                    wanted = evaluator.x + delta
                    points = torch.clamp(wanted, *evaluator.threat.limits(evaluator.x))
                    _, gradients = evaluator.value_and_grad(points)
                gradient = (gradients * (points == wanted)).sum(0, keepdim=True)
                moved = moved or bool(gradient.any())
                length = step_size
                if length is None:
                    done = (epoch * len(batches) + number) / total
                    length = float(ball.scale(delta)) * (1 + math.cos(math.pi * done))
                delta = ball.project(delta + length * ball.steepest(gradient), torch.zeros_like(delta))
    if delta is None:
        raise ValueError("there must be inputs, got no batches: look at the loader")
    if not moved:
        warnings.warn(
            "no input ever had a nonzero, finite gradient: the perturbation is zero, which says nothing about "
            "robustness. Try loss='margin', or advlib.models.BPDA around a non-differentiable layer",
            GradientMaskingWarning,
            stacklevel=2,
        )
    return delta[0]
