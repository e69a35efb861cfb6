"""Losses that compare logits: how far the class wanted is ahead of the class to beat, plain, in softmax, or as a ratio.

``y`` are the ``(N,)`` true classes, ``target`` the classes wanted or None. Where both are equal the true class is
unknown, and the class to beat is the best one but the target.

The Triton kernels compute value and gradient in one pass. Both are those of the reference, ties included: of several
best classes each gets an equal share of the gradient. Two choices among subgradients may differ from it: classes that
are not equal but whose probabilities round to the same number share in torch and may not in the kernel (or the other
way round), and of classes tied for a place in the denominator of a ratio torch's topk picks any, the kernel the first.
Second derivatives are not to be had of the kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advlib.kernels.dispatch import fused

_CLASSES = 2**13  # a row of logits is held in registers, from twice as many on in slow memory


def margin(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """``(N,)`` leads between logits."""
    if _fits("margin", logits, y, target):
        from advlib.kernels import triton_margins

        return triton_margins.lead(logits, y, target)
    return lead(logits, y, target)


def probability_margin(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """``(N,)`` leads between softmax probabilities."""
    if _fits("probability_margin", logits, y, target):
        from advlib.kernels import triton_margins

        return triton_margins.lead(logits, y, target, softmax=True)
    return lead(logits.softmax(1), y, target)


def dlr(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """``(N,)`` leads between logits over the gap from the largest to the third, or with a target to the two after."""
    if _fits("dlr", logits, y, target):
        from advlib.kernels import triton_margins

        return triton_margins.lead(logits, y, target, ratio=True)
    return lead_ratio(logits, y, target)


def pick(values: Tensor, index: Tensor) -> Tensor:
    """``(N,)`` the value of one class in each row."""
    return values.gather(1, index.unsqueeze(1)).squeeze(1)


def _best_other(values: Tensor, index: Tensor) -> Tensor:
    return values.scatter(1, index.unsqueeze(1), -torch.inf).amax(1)


def lead(values: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """How far the class wanted is ahead of the class to beat: the reference."""
    if target is None:
        return _best_other(values, y) - pick(values, y)
    rival = torch.where(y == target, _best_other(values, target), pick(values, y))
    return pick(values, target) - rival


def lead_ratio(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """The difference of logits ratio: the reference."""
    top = logits.topk(3 if target is None else 4, dim=1).values
    floor = top[:, 2] if target is None else (top[:, 2] + top[:, 3]) / 2
    return lead(logits, y, target) / (top[:, 0] - floor + 1e-12)  # 1e-12: the authors' code


def _fits(name: str, logits: Tensor, y: Tensor, target: Tensor | None) -> bool:
    """Whether the kernel is to be used; the reference takes, or refuses, all that it is not made for."""
    if logits.dtype not in (torch.float32, torch.float64) or not fused(name, logits, differentiable=True):
        return False
    labels = (y,) if target is None else (y, target)
    alike = all(
        label.shape == logits.shape[:1] and label.dtype == torch.int64 and label.device == logits.device
        for label in labels
    )
    return alike and logits.ndim == 2 and 0 < logits.shape[1] <= _CLASSES
