"""Gradient sources: what the adversary can see.

A source is a callable ``source(ask, x, noise) -> Estimate``. ``ask(points)`` runs the model on ``(N, ...)`` points,
row i being row i of the attack, and returns the model's output and the objectives' values, ``(N,)`` each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from advlib.noise import Noise

_STREAM = 256  # the first noise stream that belongs to gradient sources

Ask = Callable[[Tensor], tuple[Any, tuple[Tensor, ...]]]


class Estimate(NamedTuple):
    """What a source saw at the points it was asked about."""

    output: Any  # what the model returned, detached: a tensor, or a mean over several answers
    values: tuple[Tensor, ...]  # (N,) one per objective
    gradients: tuple[Tensor, ...]  # (N, ...) one per objective
    forwards: int  # forward passes each row took
    backwards: int  # backward passes each row took


class GradientSource(Protocol):
    """A callable ``source(ask, x, noise) -> Estimate``."""

    def __call__(self, ask: Ask, x: Tensor, noise: Noise, /) -> Estimate: ...


def _gradient(value: Tensor, x: Tensor, ones: Tensor, retain: bool) -> Tensor:
    """The gradient of each row's value with respect to that row; zeros where no path leads to ``x``."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(value, x, ones, retain_graph=retain, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def autograd(ask: Ask, x: Tensor, noise: Noise) -> Estimate:
    """The exact gradient: one forward pass, and one backward pass to the inputs alone for each objective."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        output, values = ask(x)
    last, forwards, ones = len(values) - 1, 1, torch.ones_like(values[0])
    try:
        gradients = tuple(_gradient(value, x, ones, retain=i < last) for i, value in enumerate(values))
    except RuntimeError as error:
        if "donated" not in str(error):
            raise
        # the graph of a compiled model can be walked only once: one forward pass for each objective
        with torch.enable_grad():
            gradients = tuple(_gradient(ask(x)[1][i], x, ones, retain=False) for i in range(len(values)))
        forwards += len(values)
    return Estimate(_detached(output), tuple(v.detach() for v in values), gradients, forwards, len(values))


def _detached(output: Any) -> Any:
    return output.detach() if isinstance(output, Tensor) else output


def _mean(items: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.stack(parts).mean(0) for parts in zip(*items, strict=True))


def eot(samples: int) -> GradientSource:
    """Expectation over transformation: the mean gradient over repeated passes (Athalye et al., 1707.07397).

    For models that answer at random. Values and logits are means over the same passes, so success means that
    the mean logits err.

    Args:
        samples: Forward and backward passes a step.

    Raises:
        ValueError: If ``samples`` is below 1.

    Example:
        >>> x_adv = pgd(model, x, y, Linf(0.1), gradient=eot(4))
    """
    _at_least_one(samples)

    def source(ask: Ask, x: Tensor, noise: Noise) -> Estimate:
        seen = [autograd(ask, x, noise) for _ in range(samples)]
        output = seen[0].output
        if isinstance(output, Tensor):
            output = torch.stack([estimate.output for estimate in seen]).mean(0)
        values, gradients = (_mean([getattr(e, part) for e in seen]) for part in ("values", "gradients"))
        return Estimate(output, values, gradients, samples, samples * len(values))

    return source


def finite_differences(
    samples: int = 64, delta: float = 0.01, antithetic: bool = True, gaussian: bool = False
) -> GradientSource:
    """Estimates gradients from values alone, along random signs (SPSA, Uesato et al., 1802.05666).

    The mean over ``samples`` directions ``u`` of ``(f(x + delta u) - f(x - delta u)) / (2 delta) u``, or of
    ``(f(x + delta u) - f(x)) / delta u`` if not ``antithetic``. The antithetic pairs are those of NES (Ilyas et
    al., 1804.08598). Points may leave the bounds by ``delta``.

    Args:
        samples: Directions a step. A step takes ``1 + 2 * samples`` forward passes, ``1 + samples`` if not
            antithetic, and no backward pass. 1802.05666 uses 2,048, less for small inputs.
        delta: Length of each difference, in the units of x (0.01, as in 1802.05666).
        antithetic: Whether differences are two-sided.
        gaussian: Whether directions are standard normal, as in NES, in place of random signs.

    Raises:
        ValueError: If ``samples`` is below 1 or ``delta`` is not positive.

    Example:
        >>> x_adv = pgd(model, x, y, Linf(0.1), gradient=finite_differences(32))
    """
    _at_least_one(samples)
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}: give the length of a difference, such as 0.01")

    def source(ask: Ask, x: Tensor, noise: Noise) -> Estimate:
        output, values = ask(x)
        slopes = [torch.zeros_like(x) for _ in values]
        for sample in range(samples):
            draw = noise.stream(_STREAM + sample)
            direction = draw.normal(x) if gaussian else draw.signs(x)
            ahead = ask(x + delta * direction)[1]
            behind, width = (ask(x - delta * direction)[1], 2 * delta) if antithetic else (values, delta)
            for slope, high, low in zip(slopes, ahead, behind, strict=True):
                rate = ((high - low) / (width * samples)).reshape(-1, *[1] * (x.ndim - 1))
                slope += rate * direction
        forwards = 1 + samples * (2 if antithetic else 1)
        return Estimate(_detached(output), values, tuple(slopes), forwards, 0)

    return source


def _at_least_one(samples: int) -> None:
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")


def jacobian(model: Callable[[Tensor], Tensor], x: Tensor, classes: Tensor) -> Tensor:
    """The rows of the Jacobian of the logits that are asked for, all examples at once.

    One forward pass, and one backward pass for each column of ``classes``.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Inputs, ``(N, ...)``.
        classes: Classes whose gradients are wanted: ``(k,)`` for all examples alike, or ``(N, k)``.

    Returns:
        ``(N, k, ...)`` gradients, detached.

    Raises:
        ValueError: If ``classes`` has another shape.

    Example:
        >>> jacobian(model, x, torch.tensor([0, 1])).shape[:2] == (len(x), 2)
        True
    """
    classes = torch.as_tensor(classes, device=x.device)
    fits = classes.ndim == 1 or (classes.ndim == 2 and len(classes) == len(x))
    if not fits or classes.shape[-1] == 0:
        raise ValueError(
            f"classes must have shape (k,) or (N, k), k at least 1, got {tuple(classes.shape)} for N={len(x)}"
        )
    with torch.inference_mode(False), torch.enable_grad():
        classes = classes.clone().expand(len(x), -1)
        x = x.detach().clone().requires_grad_()
        values = model(x).gather(1, classes).unbind(1)
        last, ones = len(values) - 1, torch.ones_like(values[0])
        return torch.stack([_gradient(value, x, ones, retain=i < last) for i, value in enumerate(values)], dim=1)
