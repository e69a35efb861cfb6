"""Masks for binary features, which may only be switched on, or only off."""

from __future__ import annotations

from torch import Tensor


def add_only(x: Tensor) -> Tensor:
    """The mask of the features that are 0, so that an adversary may only add features, as to a program that must run.

    Between 0 and 1 attacks may stop in the middle; :func:`~advlib.attacks.jsma`, whose steps are as wide as the bounds,
    does not, and around a model that rounds, ``nn.Sequential(BPDA(torch.round), model)``, what any attack finds may be
    rounded.

    Args:
        x: ``(N, ...)`` features, each 0 or 1.

    Returns:
        ``(N, ...)`` bool, for ``mask=`` of a threat model with bounds (0, 1).

    Raises:
        ValueError: If a feature is neither 0 nor 1.

    Example:
        >>> x = torch.tensor([[0.0, 1.0, 0.0]])
        >>> add_only(x)
        tensor([[ True, False,  True]])
        >>> threat = L0(2, mask=add_only(x))
    """
    return _binary(x) == 0


def remove_only(x: Tensor) -> Tensor:
    """The mask of the features that are 1, so that an adversary may only remove features; see :func:`add_only`.

    Args:
        x: ``(N, ...)`` features, each 0 or 1.

    Returns:
        ``(N, ...)`` bool, for ``mask=`` of a threat model with bounds (0, 1).

    Raises:
        ValueError: If a feature is neither 0 nor 1.

    Example:
        >>> remove_only(torch.tensor([[0.0, 1.0, 0.0]]))
        tensor([[False,  True, False]])
    """
    return _binary(x) == 1


def _binary(x: Tensor) -> Tensor:
    if not bool(((x == 0) | (x == 1)).all()):
        raise ValueError(
            f"x must hold zeros and ones, got values from {float(x.min()):.6g} to {float(x.max()):.6g}: "
            "(x > threshold).float()"
        )
    return x
