"""Reasons not to trust a robust accuracy: what a model shows that hides its gradients, looked for at little cost.

The thresholds are calibrated in ``benchmarks/masking.py``, on models built to mask their gradients and on honest ones.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from advlib.attacks.baselines import UniformNoise
from advlib.attacks.fgsm import FGSM
from advlib.attacks.pgd import ProjectedGradient
from advlib.evaluation.result import Finding, Stage
from advlib.evaluation.rows import Rows
from advlib.evaluator import guard
from advlib.losses import cross_entropy, margin
from advlib.search import SearchResult, search
from advlib.threats import Threat
from advlib.threats.base import column

SAMPLE = 32  # rows that are looked at
_FEW = 8  # rows of the longer looks


def diagnose(rows: Rows) -> tuple[Finding, ...]:
    """Looks at the first rows of a block that has been attacked for signs of gradient masking."""
    sample = (rows.correct & ~rows.certified).nonzero().squeeze(1)[:SAMPLE]
    if len(sample) == 0:
        return ()
    found = [_probabilities(rows), _autograd_inside(rows, sample), _randomness(rows, sample)]
    found += [_vanishing(rows, sample), _wrong_slope(rows, sample), _saturation(rows, sample)]
    found += [_blind_steps(rows), _huge_ball(rows, sample), _unconverged(rows)]
    return tuple(finding for finding in found if finding is not None)


def trip_wire(stages: dict[str, Stage]) -> Finding | None:
    """Judges by what random search broke of the rows that every gradient attack had left, over all blocks."""
    wire = stages.get("trip-wire")
    if wire is None or wire.broken < 3 or wire.broken <= 0.03 * wire.rows:
        return None
    return Finding(
        "random search",
        "unreliable",
        f"random squares broke {wire.broken} of the {wire.rows} rows that the gradient attacks had left",
        "The gradients do not lead to what breaks the model",
        "Run square with 5,000 steps, and a transfer attack from an undefended model",
    )


def _probabilities(rows: Rows) -> Finding | None:
    values = rows.logits
    if not bool((values >= 0).all()) or float((values.sum(1) - 1).abs().amax()) > 1e-4:
        return None
    return Finding(
        "softmax output",
        "suspicious",
        "the model returns probabilities",
        "Their gradients vanish where the model is confident, and losses made for logits are weak on them",
        "Drop the last softmax and evaluate again",
    )


def _autograd_inside(rows: Rows, sample: Tensor) -> Finding | None:
    called: set[str] = set()
    codes = {torch.autograd.grad.__code__, torch.autograd.backward.__code__}

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in codes:
            called.add(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        rows.ask(rows.x[sample[:1]], "findings")
    finally:
        sys.setprofile(before)
    if not called:
        return None
    return Finding(
        "autograd in forward",
        "suspicious",
        f"the forward pass itself calls autograd.{', '.join(sorted(called))}",
        "The model changes its input or itself as it answers, and gradients through that may be wrong or missing",
        "Attack the model without its inner optimisation, and with gradient=finite_differences()",
    )


def _randomness(rows: Rows, sample: Tensor) -> Finding | None:
    first, again = (rows.ask(rows.x[sample], "findings") for _ in range(2))
    scale = (first.amax(1) - first.amin(1)).clamp_min(torch.finfo(first.dtype).tiny)
    changed = int(((again - first).abs().amax(1) > 1e-3 * scale).sum())
    if not changed:
        return None
    return Finding(
        "randomness",
        "unreliable",
        f"asked twice, the model answered differently on {changed} of {len(sample)} rows",
        "One pass is no measure of a random model, neither for its answer nor for its gradient",
        "Attack with gradient=eot(20) and judge by the mean of many answers, or turn the randomness off",
    )


def _slopes(rows: Rows, model: Any, points: Tensor, y: Tensor, loss: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """The loss, ``(n,)``, and its gradient, ``(n, ...)``, zero where there is none."""
    points = points.detach().requires_grad_()
    with guard(rows.model), torch.enable_grad(), torch.autocast(points.device.type, enabled=False):
        values = loss(model(points), y)
        gradient = None
        if values.requires_grad:
            (gradient,) = torch.autograd.grad(values.sum(), points, allow_unused=True)
    rows.count("findings", forward=len(points), backward=len(points))
    return values.detach(), torch.zeros_like(points) if gradient is None else gradient


def _moving(gradient: Tensor) -> Tensor:
    """Rows with a gradient that is finite and not zero, ``(n,)`` bool."""
    flat = gradient.flatten(1)
    return flat.isfinite().all(1) & (flat != 0).any(1)


def _vanishing(rows: Rows, sample: Tensor) -> Finding | None:
    still = ~_moving(_slopes(rows, rows.model, rows.x[sample], rows.y[sample], margin)[1])
    if int(still.sum()) <= 0.05 * len(sample):
        return None
    return Finding(
        "vanishing gradients",
        "unreliable",
        f"on {int(still.sum())} of {len(sample)} rows the margin has no gradient, or one that is not finite",
        "Something on the way from input to logits is constant, saturated or not differentiable",
        "Put advlib.models.BPDA around it, or attack with gradient=finite_differences()",
    )


def _saturation(rows: Rows, sample: Tensor) -> Finding | None:
    """Cross-entropy without a gradient even in float64; in float32 confident honest models lose it too."""
    if not isinstance(rows.model, nn.Module):
        return None
    model = copy.deepcopy(rows.model).double()
    points, y = rows.x[sample].double(), rows.y[sample]
    lost = _moving(_slopes(rows, model, points, y, margin)[1])
    lost &= ~_moving(_slopes(rows, model, points, y, cross_entropy)[1])
    if int(lost.sum()) <= 0.1 * len(sample):
        return None
    return Finding(
        "saturated cross-entropy",
        "suspicious",
        f"on {int(lost.sum())} of {len(sample)} rows the cross-entropy has no gradient, even in float64",
        "The logits are so large that the softmax is constant, as after distillation at a high temperature: attacks on "
        "the cross-entropy fail there, and the figures of others who used them mean nothing",
        "Compare with loss='margin' or 'dlr', as this evaluation did, or divide the logits by a constant",
    )


def _wrong_slope(rows: Rows, sample: Tensor) -> Finding | None:
    """Compares the gradient of the margin with the difference that a small step along it makes."""
    low, high = rows.threat.rows(sample).limits(rows.x[sample])
    inner = 0.02 * (torch.where((high - low).isfinite(), (low + high) / 2 - rows.x[sample], 0))
    points, y = rows.x[sample] + inner, rows.y[sample]  # a little inside the bounds
    gradient = _slopes(rows, rows.model, points, y, margin)[1].nan_to_num()
    length = gradient.flatten(1).norm(dim=1)
    moving = length > 0
    step = 1e-3 * gradient / column(torch.where(moving, length, 1), gradient)
    ahead, behind = (rows.ask(points + way * step, "findings") for way in (1, -1))
    slope = (margin(ahead, y) - margin(behind, y)) / 2e-3
    wrong = moving & ((slope - length).abs() > 0.5 * length)
    if int(wrong.sum()) <= 0.2 * len(sample):
        return None
    return Finding(
        "wrong gradients",
        "unreliable",
        f"on {int(wrong.sum())} of {len(sample)} rows a small step along the gradient does not change the margin as "
        "the gradient says",
        "Part of the model is hidden from autograd, or so rough that its gradient means nothing",
        "Look for detach(), rounding or sorting in the model; attack with gradient=finite_differences()",
    )


def _blind_steps(rows: Rows) -> Finding | None:
    """What one step or noise breaks of what the iterations left."""
    left = rows.left()[:SAMPLE]
    rows.attack("one step", left, FGSM(), 1)
    rows.attack("noise", left, UniformNoise(), 3)
    broken = len(left) - len(rows.left(left))
    if broken <= max(1, 0.03 * len(left)):
        return None
    return Finding(
        "weak iterations",
        "unreliable",
        f"a single step or noise broke {broken} of {len(left)} rows that the iterative attacks had left",
        "The iterations do not optimise what they are meant to",
        "Run square, and attacks with gradient=finite_differences()",
    )


def _huge_ball(rows: Rows, sample: Tensor) -> Finding | None:
    """Within a ball as wide as the bounds there is always something that breaks a row."""
    few = sample[:SAMPLE]
    found = _compared(rows, few, ProjectedGradient(20), 20, threat=dataclasses.replace(rows.threat, eps=_width(rows)))
    standing = int((~_given(found.success)).sum())
    if standing <= 0.1 * len(few):
        return None
    return Finding(
        "accuracy at a huge eps",
        "unreliable",
        f"with everything within the bounds allowed, gradients broke only {len(few) - standing} of {len(few)} rows",
        "They lead nowhere: any image of another class would have done",
        "Put advlib.models.BPDA around what is not differentiable, or attack with gradient=finite_differences()",
    )


def _width(rows: Rows) -> float:
    """The largest distance within the bounds, or ten times that between rows where there are none."""
    low, high = (end.expand_as(rows.x) for end in rows.threat.limits(rows.x))
    if bool((high - low).isfinite().all()):
        return float(rows.threat.distance(high, low).amax())
    return 10 * float(rows.threat.distance(rows.x.roll(1, 0), rows.x).amax())


def _unconverged(rows: Rows) -> Finding | None:
    """Whether four times the steps climb much further."""
    few = rows.left()[:_FEW]
    if len(few) < _FEW:
        return None
    short, long = (
        _given(_compared(rows, few, ProjectedGradient(steps), steps, keep="strongest").loss) for steps in (10, 40)
    )
    clean = margin(rows.logits[few], rows.y[few])
    climbed, more = float((short - clean).mean()), float((long - short).mean())
    if more <= 0.25 * climbed:
        return None
    return Finding(
        "unconverged",
        "suspicious",
        f"40 steps raise the margin by {climbed + more:.3g} where 10 raise it by {climbed:.3g}",
        "The loss is still rising when the attacks stop: the surface is rough or steep",
        "Evaluate with budget='thorough', and pgd with more steps and smaller ones",
    )


def _compared(
    rows: Rows, few: Tensor, rule: Any, steps: int, *, threat: Threat | None = None, **options: Any
) -> SearchResult:
    """A search beside the evaluation, whose points count for nothing."""
    options = {"keep": "first", "loss": "margin", **options}
    within = (rows.threat if threat is None else threat).rows(few)
    found = search(rows.model, rows.x[few], rows.y[few], within, rule, steps=steps, **options)
    rows.count("findings", forward=int(found.forwards.sum()), backward=int(found.backwards.sum()))
    return found


def _given(value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError("keep='last' judges nothing")
    return value
