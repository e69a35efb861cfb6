"""Adversarial weight perturbation (Wu et al., 2020, arXiv:2004.05884), for any objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from advlib.defenses.base import batch_statistics, check_number


@contextmanager
def awp(model: nn.Module, loss: Callable[[], Tensor], gamma: float = 0.01) -> Iterator[None]:
    """Moves the weights along the gradient of the loss for the time of the block, and puts them back after it.

    Take the loss and its gradient inside the block, so that weights are sought at which even their neighbours do well.
    Each matrix or kernel moves by ``gamma`` times its norm; vectors, such as biases, stay. BatchNorm keeps no
    statistics of the pass that finds the direction.

    Args:
        model: The model in training.
        loss: Computes the loss on the batch, anew, as a scalar.
        gamma: Length of the move relative to each weight's norm (0.01, as in 2004.05884; 0.005 for TRADES).

    Raises:
        ValueError: If ``gamma`` is negative.

    Example:
        >>> x_adv = objective.perturb(model, x, y)
        >>> with awp(model, lambda: objective.loss(model, x, y, x_adv).loss):
        ...     objective.loss(model, x, y, x_adv).loss.backward()
    """
    check_number("gamma", gamma)
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    with torch.enable_grad(), batch_statistics(layers):
        gradients = torch.autograd.grad(loss(), weights, allow_unused=True) if weights else ()
    before = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    scale = gamma * torch.linalg.vector_norm(weight) / torch.linalg.vector_norm(gradient)
                    weight.add_(torch.nan_to_num(scale * gradient, nan=0.0, posinf=0.0, neginf=0.0))
        torch.clear_autocast_cache()  # it holds the weights as they were before the move
        yield
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)
        torch.clear_autocast_cache()
