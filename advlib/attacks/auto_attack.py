"""AutoAttack (Croce & Hein, 2020, arXiv:2003.01690; in L1, 2021, arXiv:2103.01208): one attack after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from advlib.attacks.apgd import apgd
from advlib.attacks.fab import fab
from advlib.attacks.square import square
from advlib.checks import check_counts
from advlib.evaluator import Evaluator, Model, without_gradient_warnings
from advlib.gradients import eot
from advlib.losses import dlr, margin
from advlib.noise import Key
from advlib.threats import L0, L1, Threat

Version = Literal["standard", "plus", "rand"]
Attack = Callable[..., Tensor]

_PASSES = 20  # with which the authors' code meets a random model


def ratio(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """The difference of logits ratio, or the margin where there are too few classes for it."""
    needed = 3 if target is None else 4
    return (dlr if logits.shape[1] >= needed else margin)(logits, y, target)


def attacks_of(version: Version, threat: Threat) -> tuple[Attack, ...]:
    """The attacks of a version in their order, with the settings of the authors' code."""
    first: dict[str, Any] = {"steps": 100, "keep": "first"}
    squares = partial(square, steps=5000)
    if version == "standard":
        sparse = isinstance(threat, L1)
        return (
            partial(apgd, restarts=5 if sparse else 1, **first),
            partial(apgd, loss=ratio, targets=5 if sparse else 9, **first),
            partial(fab, targets=9, **first),
            squares,
        )
    if version == "plus":
        return (
            partial(apgd, restarts=5, **first),
            partial(apgd, loss=ratio, restarts=5, **first),
            partial(fab, restarts=5, **first),
            squares,
            partial(apgd, loss=ratio, targets=9, **first),
            partial(fab, targets=9, **first),
        )
    # not the first success, which a random model may owe to luck, but the one with the largest mean loss
    return tuple(partial(apgd, loss=loss, steps=100, gradient=eot(_PASSES)) for loss in ("cross_entropy", ratio))


def in_turn(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    attacks: Sequence[Attack],
    *,
    passes: int = 1,
    logits_of: Callable[[Any], Tensor] | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Runs attacks one after the other, each on the rows that the model still gets right.

    After each attack the model is asked once more about what it found, which decides. See
    :func:`~advlib.attacks.auto_attack`.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``.
        y: ``(N,)`` true classes.
        threat: Where the adversary may look.
        attacks: Functions called as ``attack(model, x, y, threat, batch_size=..., generator=...)``.
        passes: Answers of the model whose mean logits decide, for random models.
        logits_of: How logits are read from what the model returns, where that is more than logits.
        batch_size: Rows asked at once; None means all.
        generator: Source of the call's one random key; None means torch's global generator.

    Returns:
        ``(N, ...)`` inputs within ``threat``: on each row the success, or the point with the largest margin of those
        that the attacks returned.

    Example:
        >>> x_adv = in_turn(model, x, y, Linf(0.1), [apgd, partial(square, steps=100)])
    """
    check_counts(batch_size=batch_size)
    with Evaluator(model, x, y, threat, loss="margin", logits_of=logits_of) as evaluator:
        x, y, threat = evaluator.x, evaluator.y, evaluator.threat
        own = torch.Generator().manual_seed(Key(generator).word)

        def answer(points: Tensor) -> Tensor:
            return evaluator.logits_of(evaluator.model(points))

        def judged(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            """Tells where the model errs, and the margins."""
            parts = torch.split(torch.arange(len(rows), device=x.device), batch_size or max(len(rows), 1))
            seen = [[evaluator.ask(points[i], rows[i], order=0).logits for i in parts] for _ in range(passes)]
            logits = torch.stack([torch.cat(logits) for logits in seen]).mean(0)
            errs = (logits.argmax(1) != y[rows]) & ~logits.isnan().any(1)
            return errs, margin(logits, y[rows])

        x_adv = x.clone()
        left = torch.arange(len(x), device=x.device)
        if len(left) == 0:
            return x_adv
        errs, best = judged(x, left)
        left = left[~errs]
        for attack in attacks:
            if len(left) == 0:
                break
            with without_gradient_warnings():  # the last words below are on all attacks
                found = attack(answer, x[left], y[left], threat.rows(left), batch_size=batch_size, generator=own)
            errs, reached = judged(found, left)
            better = errs | (reached > best[left])
            x_adv[left[better]], best[left[better]] = found[better], reached[better]
            left = left[~errs]
        for rows in torch.split(left, batch_size or max(len(left), 1)):
            evaluator.ask(x_adv[rows], rows)  # a row that is left for want of a gradient calls for a warning
        return x_adv


def auto_attack(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    version: Version = "standard",
    logits_of: Callable[[Any], Tensor] | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Runs the attacks of AutoAttack one after the other, each on the rows that the model still gets right.

    Solves, per example: find a point of ball, bounds and mask where the model errs. The attacks and their settings are
    the authors', and have none to tune, so that robust accuracy can be compared with published numbers:

    - ``"standard"``: :func:`apgd` on the cross-entropy, then on the difference of logits ratio at each of the 9
      likeliest wrong classes; :func:`fab` at 9 classes; :func:`square` with 5,000 proposals. In L1 the first has 5
      restarts, and the second 5 classes.
    - ``"plus"``: :func:`apgd` on the cross-entropy and on the ratio, and :func:`fab` on all classes at once, 5 restarts
      each; :func:`square`; then :func:`apgd` and :func:`fab` at 9 classes.
    - ``"rand"``, for random models: :func:`apgd` on the cross-entropy and on the ratio, on the mean gradient of 20
      passes. The mean logits of 20 passes decide.

    Gradient attacks take 100 steps. A model with fewer classes is attacked at all that it has; where it has too few for
    the ratio, three, or four when aimed, its place is taken by the margin (the authors' code refuses). A row that
    nothing breaks costs 6,900 forward and 1,900 backward passes of ``"standard"``; the others leave at their first
    success.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits.
        x: Clean inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` integer labels: the true classes.
        threat: An Linf, L2 or L1 ball, ``eps`` finite, in the units of ``x``.
        version: ``"standard"``, ``"plus"`` or ``"rand"``.
        logits_of: How logits are read from what the model returns, where that is more than logits.
        batch_size: Rows asked at once; None means all. It does not change the result beyond the model's own rounding.
        generator: Source of the call's one random key; None means torch's global generator.

    Returns:
        ``(N, ...)`` inputs within ``threat``: the clean row where the model errs on it; the success of the first attack
        that had one; or else the point with the largest margin of those that the attacks returned (the clean row in the
        authors' code).

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``version`` is another word, the threat model is an L0 ball or ``eps`` infinite, ``x`` leaves the
            bounds, or shapes and values disagree.

    Example:
        >>> x_adv = auto_attack(model, x, y, Linf(0.3), batch_size=200)
    """
    if version not in get_args(Version):
        raise ValueError(f"version must be one of {', '.join(get_args(Version))}, got {version!r}")
    if isinstance(threat, L0):
        raise ValueError("AutoAttack takes an Linf, L2 or L1 threat model, got L0: use advlib.pgd or advlib.jsma there")
    passes = _PASSES if version == "rand" else 1
    settings: dict[str, Any] = {"logits_of": logits_of, "batch_size": batch_size, "generator": generator}
    return in_turn(model, x, y, threat, attacks_of(version, threat), passes=passes, **settings)
