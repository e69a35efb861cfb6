"""Wrappers that change what a model computes, so that attacks see the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """A model that normalises its inputs itself: ``model((x - mean) / std)``.

    Attacks work in the units of ``x``, within bounds such as [0, 1]; normalisation belongs inside the model.

    Args:
        model: The network that expects normalised inputs.
        mean: One value per channel (dimension 1), or one number.
        std: The same for the standard deviation, positive.

    Raises:
        ValueError: If ``std`` is not positive, or the shapes of ``mean`` and ``std`` differ.

    Example:
        >>> model = Normalize(nn.Flatten(), mean=[0.5], std=[0.25])
        >>> model(torch.ones(1, 1, 1, 2))
        tensor([[2., 2.]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float] | float, std: Sequence[float] | float) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.get_default_dtype()).reshape(-1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.get_default_dtype()).reshape(-1))
        if self.mean.shape != self.std.shape or not (self.std > 0).all():
            raise ValueError(f"mean and std must match and std be positive, got mean {mean} and std {std}")

    def forward(self, x: Tensor) -> Any:
        shape = (-1, *[1] * (x.ndim - 2))
        return self.model((x - self.mean.reshape(shape)) / self.std.reshape(shape))


class Ensemble(nn.Module):
    """Several models as one, for attacks that are to fool all of them, and others (Liu et al., 1611.02770).

    With ``mean="losses"``, the output is every member's logits, ``(N, K, C)``; attacks then take
    ``loss=over_members("cross_entropy")``, from :mod:`advlib.losses`, and ``logits_of=lambda output: output.mean(1)``.

    Args:
        models: Models with the same classes.
        mean: What is averaged: ``"logits"``, ``"probabilities"``, whose logarithm is the output, or ``"losses"``.

    Raises:
        ValueError: If there is no model, or ``mean`` is another word.

    Example:
        >>> Ensemble([nn.Identity(), nn.Identity()])(torch.tensor([[1.0, 2.0]]))
        tensor([[1., 2.]])
    """

    def __init__(self, models: Sequence[nn.Module], mean: str = "logits") -> None:
        super().__init__()
        if not models:
            raise ValueError("an ensemble needs at least one model, got none")
        if mean not in ("logits", "probabilities", "losses"):
            raise ValueError(f"mean must be 'logits', 'probabilities' or 'losses', got {mean!r}")
        self.models = nn.ModuleList(models)
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.stack([model(x) for model in self.models])
        if self.mean == "losses":
            return logits.transpose(0, 1)
        if self.mean == "logits":
            return logits.mean(0)
        return logits.log_softmax(-1).logsumexp(0) - torch.tensor(float(len(self.models))).log().to(logits)


class _Substituted(torch.autograd.Function):
    """Returns the exact value, and passes the gradient to the stand-in."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, stand_in: Tensor) -> Tensor:
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, Tensor]:
        return None, gradients[0]


class BPDA(nn.Module):
    """A non-differentiable layer with a differentiable stand-in for its backward pass (1802.00420).

    The forward pass is exactly that of ``layer``; the backward pass is that of ``stand_in``.

    Args:
        layer: The defence's own computation: a quantiser, a JPEG codec, any callable on tensors.
        stand_in: A differentiable callable close to it, by default the identity.

    Raises:
        ValueError: When called, if the two return different shapes.

    Example:
        >>> model = nn.Sequential(BPDA(lambda x: (x * 7).round() / 7), nn.Flatten())
        >>> model(torch.full((1, 1, 1), 0.5))
        tensor([[0.5714]])
    """

    def __init__(self, layer: Callable[[Tensor], Tensor], stand_in: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.stand_in = nn.Identity() if stand_in is None else stand_in

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            exact = self.layer(x)
        smooth = self.stand_in(x)
        if exact.shape != smooth.shape:
            raise ValueError(
                f"layer and stand_in must return the same shape, got {tuple(exact.shape)} and {tuple(smooth.shape)}"
            )
        return _Substituted.apply(exact, smooth)  # type: ignore[no-any-return, no-untyped-call]


class Logits(nn.Module):
    """The logits of a model that returns an object with a ``logits`` attribute, as Hugging Face models do.

    Example:
        >>> from types import SimpleNamespace
        >>> Logits(lambda x: SimpleNamespace(logits=x))(torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    def __init__(self, model: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        output = self.model(x)
        if not isinstance(output, Tensor) and not hasattr(output, "logits"):
            raise TypeError(
                f"the model must return an object with logits, got {type(output).__name__}: give the attack "
                "logits_of=, a callable from what the model returns to the logits"
            )
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        return logits


class Counted(nn.Module):
    """Counts the samples that pass through a model, forward and backward.

    Args:
        model: The model to count.

    Example:
        >>> counted = Counted(nn.Flatten())
        >>> _ = counted(torch.zeros(5, 2, 2))
        >>> counted.forwards, counted.backwards
        (5, 0)
    """

    def __init__(self, model: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model = model
        self.forwards = 0
        self.backwards = 0

    def _count_backward(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)

    def forward(self, x: Tensor) -> Any:
        self.forwards += len(x)
        if x.requires_grad:
            x = x.view_as(x)  # a node of its own, so that the hook dies with this pass
            x.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return self.model(x)
