"""Reasons not to trust a robust accuracy: what a model shows that hides its gradients, looked for at little cost.

The limits are calibrated in ``benchmarks/masking.py``, on models built to mask their gradients and on honest ones.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advlib.attacks.baselines import UniformNoise
from advlib.attacks.fgsm import FGSM
from advlib.attacks.pgd import ProjectedGradient
from advlib.evaluation.result import Finding, Stage
from advlib.evaluation.rows import Rows
from advlib.evaluator import guard, precise
from advlib.losses import margin
from advlib.search import SearchResult, search
from advlib.threats import Linf, Threat

SAMPLE = 32  # rows that are looked at
_FEW = 8  # rows without which means say nothing


class Sign(NamedTuple):
    """What was measured, and the finding that it makes above a limit."""

    value: float
    limit: float
    finding: Finding


def diagnose(rows: Rows) -> tuple[Finding, ...]:
    """Looks at some rows of a block that has been attacked for signs of gradient masking."""
    return tuple(sign.finding for sign in signs(rows) if sign.value > sign.limit)


def signs(rows: Rows) -> list[Sign]:
    """All that is measured, as far as there are rows to measure it on."""
    sample = _spread((rows.correct & ~rows.certified).nonzero().squeeze(1))
    if len(sample) == 0:
        return []
    slope = _slope(rows, rows.x[sample], rows.y[sample])
    found = [_probabilities(rows), _autograd_inside(rows, sample), _randomness(rows, sample)]
    found += [_vanishing(slope), _wrong_slope(rows, sample, slope), _saturation(rows, sample)]
    looks = [_blind_steps(rows), _huge_ball(rows, sample), _unconverged(rows)]
    return found + [sign for sign in looks if sign is not None]


def _spread(rows: Tensor) -> Tensor:
    """At most SAMPLE of some rows, from all over the block, since data may come sorted by class."""
    return rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]


def random_share(stages: dict[str, Stage]) -> float:
    """The larger share that random squares broke, three rows at least, of those that gradient attacks had left."""
    squares = [stages[name] for name in ("squares", "trip-wire") if name in stages]
    return max((stage.broken / stage.rows for stage in squares if stage.broken >= 3), default=0.0)


def random_search(stages: dict[str, Stage]) -> Finding | None:
    """Judges by what random squares broke, over all blocks."""
    share = random_share(stages)
    if share <= 0.03:
        return None
    return Finding(
        "random search",
        "unreliable",
        f"random squares broke {100 * share:.1f} % of the rows that the gradient attacks had left",
        "The gradients do not lead to what breaks the model",
        "Run square with 5,000 steps, and a transfer attack from an undefended model",
    )


def _probabilities(rows: Rows) -> Sign:
    probable = (rows.logits >= 0).all(1) & ((rows.logits.sum(1) - 1).abs() < 1e-4)
    finding = Finding(
        "softmax output",
        "suspicious",
        "the model returns probabilities",
        "Their gradients vanish where the model is confident, and losses made for logits are weak on them",
        "Drop the last softmax and evaluate again",
    )
    return Sign(float(probable.double().mean()), 0.99, finding)


def _autograd_inside(rows: Rows, sample: Tensor) -> Sign:
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
    finding = Finding(
        "autograd in forward",
        "suspicious",
        f"the forward pass itself calls autograd.{', '.join(sorted(called))}",
        "The model changes its input or itself as it answers, and gradients through that may be wrong or missing",
        "Attack the model without its inner optimisation, and with gradient=finite_differences()",
    )
    return Sign(len(called), 0, finding)


def _randomness(rows: Rows, sample: Tensor) -> Sign:
    first, again = (rows.ask(rows.x[sample], "findings") for _ in range(2))
    scale = (first.amax(1) - first.amin(1)).clamp_min(torch.finfo(first.dtype).tiny)
    change = float(((again - first).abs().amax(1) / scale).amax())
    finding = Finding(
        "randomness",
        "unreliable",
        f"asked twice, the model gave answers up to {100 * change:.2g} % of their range apart",
        "One pass is no measure of a random model, neither for its answer nor for its gradient",
        "Attack with gradient=eot(20) and judge by the mean of many answers, or turn the randomness off",
    )
    return Sign(change, 1e-3, finding)


def _slope(rows: Rows, points: Tensor, y: Tensor) -> Tensor:
    """The gradient of the margin, ``(n, ...)``, zero where there is none."""
    size, slopes = rows.batch_size or len(points), []
    for part, labels in zip(torch.split(points, size), torch.split(y, size), strict=True):
        part = part.detach().requires_grad_()
        with guard(rows.model), torch.enable_grad(), torch.autocast(part.device.type, enabled=False):
            value = margin(precise(rows.model(part)), labels).sum()
            gradient = None
            if value.requires_grad:
                (gradient,) = torch.autograd.grad(value, part, allow_unused=True)
        slopes.append(torch.zeros_like(part) if gradient is None else gradient)
    rows.count("findings", forward=len(points), backward=len(points))
    return torch.cat(slopes).detach()


def _vanishing(slope: Tensor) -> Sign:
    flat = slope.flatten(1)
    still = ~flat.isfinite().all(1) | (flat == 0).all(1)
    finding = Finding(
        "vanishing gradients",
        "unreliable",
        f"on {int(still.sum())} of {len(still)} rows the margin has no gradient, or one that is not finite",
        "Something on the way from input to logits is constant, saturated or not differentiable",
        "Put advlib.models.BPDA around it, or attack with gradient=finite_differences()",
    )
    return Sign(float(still.double().mean()), 0.05, finding)


def _wrong_slope(rows: Rows, sample: Tensor, slope: Tensor) -> Sign:
    """Compares what the gradient says of a small step with what it does, and of a step as wide as the ball.

    A stand-in for the gradient of a quantiser is wrong for a small step, but right for a wide one.
    """
    threat, x, y = rows.threat.rows(sample), rows.x[sample], rows.y[sample]
    width = _width(rows).expand_as(rows.x)[sample]
    low, high = threat.limits(x)
    inside = x + 0.02 * torch.where((high - low).isfinite(), (low + high) / 2 - x, 0)  # a kink may lie at the bounds
    exact = _slope(rows, inside, y).nan_to_num()
    small = 1e-4 * width * exact.sign()
    wrong = (_kept(rows, y, inside - small, inside + small, exact) - 1).abs() > 0.5
    slope = slope.nan_to_num()
    wide = threat.step(x, slope, threat.scale(x), x)
    kept = _kept(rows, y, x, wide, slope)
    wrong &= (kept < 0.25) | (kept > 4)
    finding = Finding(
        "wrong gradients",
        "unreliable",
        f"on {int(wrong.sum())} of {len(wrong)} rows a step along the gradient does not change the margin as the "
        "gradient says",
        "Part of the model is hidden from autograd, or so rough that its gradient means nothing",
        "Look for detach(), rounding or sorting in the model; attack with gradient=finite_differences()",
    )
    return Sign(float(wrong.double().mean()), 0.2, finding)


def _kept(rows: Rows, y: Tensor, start: Tensor, end: Tensor, slope: Tensor) -> Tensor:
    """How much of the rise that the gradient promises from one point to another there is, ``(n,)``; NaN for none."""
    rise = margin(rows.ask(end, "findings"), y) - margin(rows.ask(start, "findings"), y)
    return rise / ((end - start) * slope).flatten(1).sum(1)


def _saturation(rows: Rows, sample: Tensor) -> Sign:
    lead = -float(margin(rows.logits[sample], rows.y[sample]).median())
    finding = Finding(
        "saturated cross-entropy",
        "suspicious",
        f"the true logit leads by {lead:.3g} on the median row, so that all other probabilities are zero in float32",
        "The cross-entropy has no gradient there, as after distillation at a high temperature: attacks on it fail, and "
        "the figures of others who used them mean nothing",
        "Compare with loss='margin' or 'dlr', as this evaluation did, or divide the logits by a constant",
    )
    return Sign(lead, 100, finding)  # exp(-104) is the first to be no float32


def _blind_steps(rows: Rows) -> Sign:
    """What one step or noise breaks of what the iterations left."""
    left = _spread(rows.left())
    rows.attack("one step", left, FGSM(), 1)
    rows.attack("noise", left, UniformNoise(), 3)
    broken = len(left) - len(rows.left(left))
    finding = Finding(
        "weak iterations",
        "unreliable",
        f"a single step or noise broke {broken} of {len(left)} rows that the iterative attacks had left",
        "The iterations do not optimise what they are meant to",
        "Run square, and attacks with gradient=finite_differences()",
    )
    return Sign(broken, 1, finding)


def _huge_ball(rows: Rows, sample: Tensor) -> Sign | None:
    """Among all points within bounds and mask, gradients find one that breaks a row, if an input is known to.

    The ball is one of Linf whatever the norm: it holds the same points, and its steps are the least easily led astray.
    """
    huge = Linf(float(_width(rows).amax()), rows.threat.bounds, rows.threat.mask)
    other = (rows.logits.argmax(1) != rows.y[sample].unsqueeze(1)).float().argmax(1)
    within = huge.rows(sample).contains(rows.x[other], rows.x[sample])
    some = sample[within & (rows.logits[other].argmax(1) != rows.y[sample])]
    if len(some) == 0:
        return None
    standing = int((~_given(_compared(rows, some, huge, 20).success)).sum())
    finding = Finding(
        "accuracy at a huge eps",
        "unreliable",
        f"with everything within the bounds allowed, gradients broke only {len(some) - standing} of {len(some)} rows",
        "They lead nowhere: an input of another class would have done",
        "Put advlib.models.BPDA around what is not differentiable, or attack with gradient=finite_differences()",
    )
    return Sign(standing / len(some), 0.1, finding)


def _width(rows: Rows) -> Tensor:
    """How far each feature may move within bounds and mask, or ten times how far it does where that is infinite."""
    low, high = rows.threat.limits(rows.x)
    moves = 10 * (rows.x.amax(0, keepdim=True) - rows.x.amin(0, keepdim=True))
    return torch.where((high - low).isfinite(), high - low, moves)


def _unconverged(rows: Rows) -> Sign | None:
    """Whether four times the steps climb much further."""
    left = _spread(rows.left())
    if len(left) < _FEW:
        return None
    short, long = (_given(_compared(rows, left, rows.threat, steps, keep="strongest").loss) for steps in (10, 40))
    clean = margin(rows.logits[left], rows.y[left])
    climbed, more = float((short - clean).mean()), float((long - short).mean())
    finding = Finding(
        "unconverged",
        "suspicious",
        f"40 steps raise the margin by {climbed + more:.3g} where 10 raise it by {climbed:.3g}",
        "The loss is still rising when the attacks stop: the surface is rough or steep",
        "Evaluate with budget='thorough', and pgd with more steps and smaller ones",
    )
    return Sign(more / max(climbed, torch.finfo(clean.dtype).tiny), 0.25, finding)


def _compared(rows: Rows, some: Tensor, threat: Threat, steps: int, **options: Any) -> SearchResult:
    """Gradient steps beside the evaluation, whose points count for nothing."""
    found = search(
        rows.model,
        rows.x[some],
        rows.y[some],
        threat.rows(some),
        ProjectedGradient(steps),
        steps=steps,
        **{"keep": "first", "loss": "margin", "batch_size": rows.batch_size, **options},
    )
    rows.count("findings", forward=int(found.forwards.sum()), backward=int(found.backwards.sum()))
    return found


def _given(value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError("keep='last' judges nothing")
    return value
