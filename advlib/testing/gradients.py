"""An assertion that what attacks follow, the gradient with respect to the input, is there and is right."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from advlib.checks import check_inputs
from advlib.evaluator import Model, guard, precise
from advlib.losses import Loss, cross_entropy, margin
from advlib.noise import Key, Noise
from advlib.threats.base import column

_DIRECTIONS = 4
# A central difference of step h errs by h² and by rounding over h: about 1e-9 with the first numbers.
_STEP, _TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}, {torch.float64: 1e-3, torch.float32: 0.2}
_JITTER = 1e-3  # of the inputs' range: off the ties of flat regions, where one-sided slopes differ


def assert_gradients_reach_input(model: Model, x: Tensor, y: Tensor) -> None:
    """Asserts that every row's loss has a gradient with respect to its input, and that the gradient is right.

    Where it is missing, zero, not finite or wrong, attacks that follow it find nothing, and the model looks more robust
    than it is. The cross-entropy and the margin are looked at; the margin's gradient is compared with central
    differences along random directions, in float64 on a copy of the model where it can be had.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits; of a module the message names a layer to suspect.
        x: Inputs, ``(N, ...)``, float32 or float64.
        y: ``(N,)`` true classes.

    Raises:
        AssertionError: If the gradient fails on a row, with the numbers, the layer, and what to do.
        TypeError: If ``x`` is no float32 or float64 tensor.
        ValueError: If ``x`` has no rows, or values that are not finite.

    Example:
        >>> assert_gradients_reach_input(model, x, y)
    """
    __tracebackhide__ = True
    check_inputs(x)
    if len(x) == 0:
        raise ValueError("there must be rows to look at, got none")
    with guard(model), torch.enable_grad():
        x, y = x.detach().clone(), y.to(torch.int64, copy=True)
        by_margin, by_entropy = (_look(model, x, y, loss) for loss in (margin, cross_entropy))
        lost = by_margin.lost()
        if lost:
            raise AssertionError(f"the margin {lost}\n  {_suspect(model, x, y)}")
        lost = by_entropy.lost()
        if lost:
            lead = -float(margin(by_margin.logits, y).median())
            raise AssertionError(
                f"the cross-entropy {lost}, but the margin has one\n  the true logit leads by {lead:.4g} on the median "
                "row: the cross-entropy is saturated, and attacks on it fail. Divide the logits by a constant, or "
                "attack with loss='margin'"
            )
        wrong = _disagreement(*_in_double(model, x), y)
    if wrong:
        raise AssertionError(
            f"{wrong}\n  part of the model is hidden from autograd or has a stand-in for its gradient (detach(), "
            "no_grad(), rounding, BPDA, a custom backward), or is random (then fix its seed): look there, or attack "
            "with gradient=advlib.gradients.finite_differences()"
        )


class _Sight(NamedTuple):
    """What a loss shows at the inputs."""

    logits: Tensor  # (N, C)
    gradient: Tensor | None  # (N, ...), None where no path leads from the input to the loss

    def lost(self) -> str:
        """What is wrong with the gradient, if anything is."""
        total = len(self.logits)
        if self.gradient is None:
            return "does not depend on the input as autograd sees it: no gradient on any row"
        flat = self.gradient.flatten(1)
        infinite = ~flat.isfinite().all(1)
        zero = (flat == 0).all(1)
        if not bool((infinite | zero).any()):
            return ""
        rows = (infinite | zero).nonzero().squeeze(1).tolist()
        return (
            f"has no usable gradient on {len(rows)} of {total} rows (zero on {int(zero.sum())}, NaN or infinite on "
            f"{int(infinite.sum())}; first at row {rows[0]})"
        )


def _look(model: Model, x: Tensor, y: Tensor, loss: Loss) -> _Sight:
    x = x.detach().requires_grad_()
    logits = precise(model(x))
    value = loss(logits, y).sum()
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, x, allow_unused=True)
    return _Sight(logits.detach(), gradient)


def _in_double(model: Model, x: Tensor) -> tuple[Model, Tensor]:
    """The model and the inputs in float64, or as they are where the model cannot."""
    try:
        double = copy.deepcopy(model).double() if isinstance(model, nn.Module) else model
        if double(x[:1].double()).dtype == torch.float64:
            return double, x.double()
    except (RuntimeError, TypeError):  # a function of float32 weights, or a model that cannot be copied
        pass
    return model, x


def _disagreement(model: Model, x: Tensor, y: Tensor) -> str:
    noise = Noise(Key(torch.Generator().manual_seed(0)), torch.arange(len(x), device=x.device))
    width = float(x.amax() - x.amin()) or float(x.abs().amax()) or 1.0
    x = x + _JITTER * width * (2 * noise.uniform(x) - 1)
    gradient = _look(model, x, y, margin).gradient
    if gradient is None:
        return "in float64 the margin does not depend on the input as autograd sees it"
    features = x[0].numel()
    typical = gradient.flatten(1).norm(dim=1) / features**0.5  # size of the slope along a random direction
    length = _STEP[x.dtype] * width * features**0.5  # each feature moves by about the step
    wrong, worst, said = torch.zeros_like(y, dtype=torch.bool), 0.0, ""
    for index in range(_DIRECTIONS):
        direction = noise.stream(1 + index).normal(x)
        direction = direction / column(direction.flatten(1).norm(dim=1), x)
        with torch.no_grad():
            ends = [margin(precise(model(x + way * length * direction)), y) for way in (1, -1)]
        measured, promised = (ends[0] - ends[1]) / (2 * length), (gradient * direction).flatten(1).sum(1)
        scale = torch.maximum(typical, measured.abs()).clamp_min(torch.finfo(x.dtype).tiny)
        apart = ((measured - promised).abs() / scale).nan_to_num(torch.inf)
        wrong |= apart > _TOLERANCE[x.dtype]
        row = int(apart.argmax())
        if float(apart[row]) > worst:
            worst = float(apart[row])
            said = f"{float(promised[row]):.4g} at row {row}, where central differences in {x.dtype} measure "
            said += f"{float(measured[row]):.4g}"
    if not bool(wrong.any()):
        return ""
    return (
        f"the gradient is wrong on {int(wrong.sum())} of {len(x)} rows: along a random direction it promises a slope "
        f"of {said}"
    )


# -- the layer to suspect -----------------------------------------------------------------------------------------


class _Output(NamedTuple):
    """What a layer returned."""

    name: str
    value: Tensor
    led: bool  # whether a path from the model's input led to its own


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[_Output]]:
    """The outputs of the layers, in the order in which they are called; paths from weights are cut meanwhile."""
    outputs: list[_Output] = []

    def record(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, value: Any) -> None:
            if isinstance(value, Tensor) and value.is_floating_point():
                led = any(isinstance(part, Tensor) and part.requires_grad for part in inputs)
                outputs.append(_Output(f"{name or 'the model'} ({type(layer).__name__})", value, led))

        return hook

    leaves = [(name, layer) for name, layer in model.named_modules() if not any(layer.children())]
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles = [layer.register_forward_hook(record(name)) for name, layer in leaves]
    try:
        for parameter in weights:
            parameter.requires_grad_(False)
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
        for parameter in weights:
            parameter.requires_grad_(True)


def _suspect(model: Model, x: Tensor, y: Tensor) -> str:
    """Where the path from the input ends, or the gradient is lost on its way back."""
    look = "look for detach(), no_grad(), rounding, argmax or saturation"
    mend = "put advlib.models.BPDA around what has no gradient, and drop a last softmax"
    if not isinstance(model, nn.Module):
        return f"the model is no nn.Module, so no layer can be named: {look}; {mend}"
    with _recorded(model) as outputs:
        value = margin(precise(model(x.detach().requires_grad_())), y).sum()
    cut = next((index for index, output in enumerate(outputs) if not output.value.requires_grad), len(outputs))
    if value.requires_grad:
        cut = 1 + max((index for index, output in enumerate(outputs) if not _usable(value, output.value)), default=-1)
    before = outputs[cut - 1].name if cut else "the input"
    if cut == len(outputs):
        return f"suspect what runs after {before}: {look}; {mend}"
    inside = value.requires_grad or outputs[cut].led
    place = outputs[cut].name if inside else f"what runs between {before} and {outputs[cut].name}"
    return f"suspect {place}: the gradient is there on one side of it, and lost on the other; {look}; {mend}"


def _usable(value: Tensor, output: Tensor) -> bool:
    """Whether every row has a finite gradient that is not zero at a layer's output."""
    if not output.requires_grad:  # beside the path from the input
        return True
    (gradient,) = torch.autograd.grad(value, output, retain_graph=True, allow_unused=True)
    if gradient is None:  # nor does it lead to the logits
        return True
    flat = gradient.reshape(len(gradient), -1)
    return bool((flat.isfinite().all(1) & (flat != 0).any(1)).all())
