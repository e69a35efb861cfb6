"""The laws that an attack keeps, whoever wrote it: run on small models whose answers are known."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from advlib.losses import cross_entropy, margin
from advlib.testing.subject import (
    Attack,
    Subject,
    apart,
    changes,
    in_training,
    outside,
    predictions,
    random_state_kept,
    run_from,
    snapshot,
)
from advlib.threats import Threat


def assert_attack_valid(
    attack: Attack,
    threat: Threat,
    *,
    shape: tuple[int, ...] = (3, 8, 8),
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    targeted: bool = False,
    optimum: float = 0.95,
    skip: Collection[str] = (),
) -> None:
    """Asserts that an attack, whoever wrote it, keeps the laws in :data:`LAWS`.

    Every law is run, on small networks and linear models made here, and all that are broken are reported at once.

    Args:
        attack: Called as ``attack(model, x, y, threat)`` with an ``nn.Module``, inputs, labels and a threat model;
            returns inputs. To check another library's, write a function that makes it from ``threat.eps`` and runs it.
        threat: The threat model of the laws, finite, the same for all rows.
        shape: Shape of one input.
        dtype: Of inputs and models: float64, in which rows can be compared, or float32 for attacks that know no other.
        device: Where inputs and models are.
        targeted: Whether the attack also takes ``targeted=True``, with the wanted classes as ``y``.
        optimum: Share of the largest possible rise of the loss, on a linear model, that the attack must reach.
        skip: Names of laws that do not apply.

    Raises:
        AssertionError: If the attack breaks a law, with the numbers of each that it breaks.
        TypeError: If ``attack`` is not callable or ``threat`` no threat model.
        ValueError: If ``skip`` holds an unknown name.

    Example:
        >>> assert_attack_valid(fgsm, Linf(0.1), targeted=True)
        >>> assert_attack_valid(uniform_noise, Linf(0.1), skip={"optimum"})
    """
    __tracebackhide__ = True
    if not callable(attack):
        raise TypeError(f"attack must be a callable attack(model, x, y, threat), got {type(attack).__name__}")
    if not isinstance(threat, Threat):
        raise TypeError(f"threat must be a threat model such as advlib.Linf(8/255), got {threat!r}: wrap the radius")
    unknown = set(skip) - set(LAWS)
    if unknown:
        raise ValueError(f"skip must hold names of laws, {', '.join(LAWS)}, got {', '.join(sorted(unknown))}")
    subject = Subject(attack, threat, tuple(shape), dtype, torch.device(device), targeted, optimum)
    broken: dict[str, list[str]] = {}  # the laws that each problem breaks
    cause = None
    with random_state_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the laws ask for what attacks do well to warn of
        for name, law in _CHECKS.items():
            if name in skip:
                continue
            try:
                problems = list(law(subject))
            except Exception as error:  # whatever it is, the other laws are worth a look
                problems, cause = [f"raised {type(error).__name__}: {error}"], cause or error
            for problem in problems:
                broken.setdefault(problem, []).append(name)
    if broken:
        named = getattr(getattr(attack, "func", attack), "__name__", repr(attack))
        asked, lost = len(LAWS) - len(set(skip)), len(set().union(*broken.values()))
        lines = [
            f"{named} keeps {asked - lost} of {asked} laws under {threat}, and breaks:",
            *(f"- {', '.join(names)}: {problem}" for problem, names in broken.items()),
            "A law that does not apply is left out with skip={name}; advlib.testing.LAWS says what each asks.",
        ]
        raise AssertionError("\n".join(lines)) from cause


# -- the laws ---------------------------------------------------------------------------------------------------------


def _inside(subject: Subject) -> Iterator[str]:
    model, x, y = subject.problem(20)
    yield from outside(subject.threat, subject.run(model, x.clone(), y), x)


def _like_x(subject: Subject) -> Iterator[str]:
    model, x, y = subject.problem()
    x_adv = subject.run(model, x, y)
    for what in ("shape", "dtype", "device"):
        if getattr(x_adv, what) != getattr(x, what):
            yield f"{what} {getattr(x_adv, what)} for x of {getattr(x, what)}"
    if x_adv.requires_grad:
        yield "the result requires a gradient: detach it"
    if x_adv.data_ptr() == x.data_ptr():
        yield "the result is x itself or a view of it, not a tensor of its own"


def _eps_zero(subject: Subject) -> Iterator[str]:
    model, x, y = subject.problem()
    x_adv = subject.run(model, x.clone(), y, subject.threat.resized(0.0))
    if not torch.equal(x_adv, x):
        yield f"with eps=0 the result is not x, but up to {float((x_adv - x).abs().amax()):.3g} away"


def _alone(subject: Subject) -> Iterator[str]:
    if not subject.deterministic:
        return
    model, x, y = subject.problem()
    together = subject.run(model, x.clone(), y)
    alone = torch.cat([subject.run(model, x[i : i + 1].clone(), y[i : i + 1]) for i in range(len(x))])
    for problem in apart(subject, together, alone):
        yield f"{problem} from what each row gets alone: something is summed or scaled over the batch"


def _untouched(subject: Subject) -> Iterator[str]:
    model, x, y = in_training(subject)
    before, x_before, y_before = snapshot(model), x.clone(), y.clone()
    subject.run(model, x, y)
    yield from changes(before, snapshot(model))
    if not torch.equal(x, x_before):
        yield f"changed x, by up to {float((x - x_before).abs().amax()):.3g}: work on a copy"
    if x.requires_grad or x.grad is not None:
        yield "left x requiring a gradient, or with one: work on a detached copy"
    if not torch.equal(y, y_before):
        yield "changed y: work on a copy"


def _after_exception(subject: Subject) -> Iterator[str]:
    asked = 0

    def count(*_: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == fails_at:
            raise RuntimeError("the model fails, as the law has it")

    fails_at = 0
    model, x, y = in_training(subject)
    model.register_forward_hook(count)
    subject.run(model, x, y)
    fails_at, asked = min(asked, 2), 0  # in the midst of the attack, where it asks more than once
    model, x, y = in_training(subject)
    before = snapshot(model)
    model.register_forward_hook(count)
    with suppress(Exception):
        subject.run(model, x, y)
    for problem in changes(before, snapshot(model)):
        yield f"{problem} when the model raised: restore in a finally"


def _random_state(subject: Subject) -> Iterator[str]:
    first, again, other = (run_from(subject, seed) for seed in (0, 0, 1))
    if not torch.equal(first.x_adv, again.x_adv):
        yield "two runs from the same state of the global generators differ: what it draws cannot be repeated"
    for name in first.after:
        if subject.deterministic and first.after[name] != first.before[name]:
            yield f"changed {name}'s global generator, on whose state nothing depends: it seeds it, or draws in vain"
        elif first.before[name] != other.before[name] and first.after[name] == other.after[name]:
            yield f"left {name}'s global generator in one state whatever it was: never seed it"


def _no_gradients_around(mode: Callable[[], Any]) -> Callable[[Subject], Iterator[str]]:
    def law(subject: Subject) -> Iterator[str]:
        model, x, y = subject.problem()
        expected = subject.run(model, x.clone(), y)
        with mode():
            x_adv = subject.run(model, x.clone(), y.clone())
            if torch.is_grad_enabled():
                yield "left gradients turned on"
        yield from apart(subject, x_adv, expected)
        if x_adv.is_inference():
            yield "the result is an inference tensor, which no training step can take: clone it outside"

    return law


def _optimum(subject: Subject) -> Iterator[str]:
    x, features = subject.batch(8), math.prod(subject.shape)
    weight = torch.randn(features, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weight = (weight / weight.norm()).to(x)
    y = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    slope = -weight.reshape(1, *subject.shape).expand_as(x)
    best = ((subject.threat.maximize(slope, x) - x) * slope).flatten(1).sum(1)
    layer = nn.Linear(features, 2, device=x.device, dtype=x.dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([weight, -weight]))
        least = float((x.flatten(1) @ weight - best).amin())
        layer.bias.copy_(torch.tensor([0.1 - least, least - 0.1]))  # nothing breaks a row, so none stops early
    x_adv = subject.run(nn.Sequential(nn.Flatten(), layer), x.clone(), y)
    share = ((x_adv.to(x) - x) * slope).flatten(1).sum(1) / best
    if not bool((share >= subject.optimum).all()):
        short = int((share < subject.optimum).sum())
        yield (
            f"on a linear model it raises the loss by {float(share.amin()):.3f} to {float(share.amax()):.3f} of what "
            f"is possible within the threat model, on {short} of {len(x)} rows by less than {subject.optimum}: the "
            "wrong way, too few steps, or steps that the bounds cut short"
        )


class _Hidden(nn.Module):
    """A network whose gradient is missing, zero or NaN."""

    def __init__(self, model: nn.Module, kind: str) -> None:
        super().__init__()
        self.model, self.kind = model, kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "missing":
            logits: Tensor = self.model(x.detach())
            return logits
        if self.kind == "zero":
            logits = self.model(0 * x.round() + 0.5)
            return logits + 0 * x.sum()
        logits = self.model(x)
        return logits + 0 * (x - x).flatten(1).sum(1, keepdim=True).sqrt()  # the slope of a root at 0 is infinite


def _hidden(kind: str) -> Callable[[Subject], Iterator[str]]:
    def law(subject: Subject) -> Iterator[str]:
        model, x, _ = subject.problem()
        hidden = _Hidden(model, kind)
        yield from outside(subject.threat, subject.run(hidden, x.clone(), predictions(hidden, x)), x)

    return law


def _untargeted(subject: Subject) -> Iterator[str]:
    model, x, y = subject.problem(20)
    clean, attacked = _means(model, x, y, margin, subject.run(model, x.clone(), y))
    if not attacked > clean:
        yield f"the margin over the true class goes from {clean:.4g} to {attacked:.4g} on average: it does not rise"


def _targeted(subject: Subject) -> Iterator[str]:
    if not subject.targeted:
        return
    model, x, _ = subject.problem(20)
    with torch.no_grad():
        wanted = model(x).topk(2).indices[:, 1]  # the likeliest wrong class, which even a small ball may reach
    x_adv = subject.run(model, x.clone(), wanted, targeted=True)
    clean, attacked = _means(model, x, wanted, cross_entropy, x_adv)
    if not attacked < clean:
        yield f"the cross-entropy of the wanted class goes from {clean:.4g} to {attacked:.4g}: it does not fall"


def _means(
    model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor], x_adv: Tensor
) -> tuple[float, float]:
    with torch.no_grad():
        before, after = (float(loss(model(points.to(x)), y).mean()) for points in (x, x_adv))
    return before, after


def _rows(rows: int) -> Callable[[Subject], Iterator[str]]:
    def law(subject: Subject) -> Iterator[str]:
        model, x, y = subject.problem(rows)
        yield from outside(subject.threat, subject.run(model, x.clone(), y), x)

    return law


def _layout(subject: Subject) -> Iterator[str]:
    model, x, y = subject.problem()
    backwards = tuple(reversed(range(x.ndim)))
    laid_out = x.permute(backwards).contiguous().permute(backwards)
    for problem in apart(subject, subject.run(model, laid_out, y), subject.run(model, x.clone(), y)):
        yield f"on inputs that are not contiguous, {problem}"


LAWS: dict[str, str] = {
    "inside": "the result lies inside the threat model: ball, bounds, mask, and no NaN",
    "like x": "the result has the shape, dtype and device of x, no graph, and memory of its own",
    "eps zero": "with eps=0 the result is x, exactly",
    "alone": "each row of a batch gets what it would get alone; only asked of attacks that draw nothing at random",
    "untouched": "x, y, parameters, their gradients, training flags and normalization statistics stay as they are",
    "exception": "they do so where the model raises, too",
    "random state": "the global generators (torch, numpy, random) decide what is drawn, and are never seeded",
    "no_grad": "it works under torch.no_grad(), with the same result",
    "inference_mode": "it works under torch.inference_mode(), with the same result",
    "optimum": "on a linear model it reaches a stated share of the largest loss within the threat model",
    "no gradient": "where no path leads from the loss to x it returns a valid result",
    "zero gradient": "where the gradient is zero it returns a valid result",
    "NaN gradient": "where the gradient is NaN it returns a valid result",
    "untargeted": "it raises the margin over the true class",
    "targeted": "with targeted=True, if it takes that, it lowers the cross-entropy of the wanted class",
    "empty batch": "no rows give no rows",
    "one row": "a batch of one row gives a valid result",
    "layout": "inputs that are not contiguous give the same result",
}

_CHECKS: dict[str, Callable[[Subject], Iterator[str]]] = {
    "inside": _inside,
    "like x": _like_x,
    "eps zero": _eps_zero,
    "alone": _alone,
    "untouched": _untouched,
    "exception": _after_exception,
    "random state": _random_state,
    "no_grad": _no_gradients_around(torch.no_grad),
    "inference_mode": _no_gradients_around(torch.inference_mode),
    "optimum": _optimum,
    "no gradient": _hidden("missing"),
    "zero gradient": _hidden("zero"),
    "NaN gradient": _hidden("nan"),
    "untargeted": _untargeted,
    "targeted": _targeted,
    "empty batch": _rows(0),
    "one row": _rows(1),
    "layout": _layout,
}
