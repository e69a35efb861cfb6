"""An assertion on the robust accuracy of a model."""

from __future__ import annotations

import torch
from torch import Tensor

from advlib.evaluation import Evaluation, evaluate
from advlib.evaluation.schedule import Budget
from advlib.evaluator import Model
from advlib.threats import Threat

_SHOWN = 10  # rows that a message names


def assert_robust(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    at_least: float,
    budget: Budget = "quick",
    batch_size: int | None = None,
) -> Evaluation:
    """Asserts that a share of the rows is classified correctly, whatever the adversary was seen to do.

    Runs :func:`~advlib.evaluate` with a fixed key, so the same model and rows give the same answer every time.

    Args:
        model: Callable from ``(N, ...)`` inputs to ``(N, C)`` logits, with normalisation inside.
        x: Inputs, ``(N, ...)``, float32 or float64, within ``threat.bounds``.
        y: ``(N,)`` true classes.
        threat: Where the adversary may look, with a finite ``eps``.
        at_least: Least robust accuracy that passes, in [0, 1].
        budget: As in :func:`~advlib.evaluate`; a stronger one may break more rows, and never fewer than it finds.
        batch_size: Rows asked at once; None means all, up to 1,000.

    Returns:
        The :class:`~advlib.evaluation.Evaluation`, for assertions of your own.

    Raises:
        AssertionError: If fewer rows stand, or the verdict is ``"unreliable"``: the model hides its gradients, so
            that the rows which stand prove nothing. The message holds the numbers, what broke the rows, and what to
            do next.
        ValueError: If ``at_least`` is out of range, or an argument does not suit :func:`~advlib.evaluate`.

    Example:
        >>> result = assert_robust(model, x, y, Linf(1e-4), at_least=1.0)
        >>> result.robust_accuracy
        1.0
    """
    __tracebackhide__ = True
    if isinstance(at_least, bool) or not isinstance(at_least, int | float) or not 0 <= at_least <= 1:
        raise ValueError(f"at_least must be a share of the rows, in [0, 1], got {at_least!r}: 0.4 for 40 %")
    key = torch.Generator().manual_seed(0)
    result = evaluate(
        model, x, y, threat, budget=budget, batch_size=batch_size, generator=key, examples=False, progress=False
    )
    low, unreliable = result.robust_accuracy < at_least, result.verdict == "unreliable"
    if low or unreliable:
        raise AssertionError("\n".join(_message(result, at_least, low)))
    return result


def _message(result: Evaluation, at_least: float, low: bool) -> list[str]:
    total, standing = len(result.robust), int(result.robust.sum())
    share, (least, most) = result.robust_accuracy, result.robust_interval
    number = f"robust accuracy {share:.2%} ({standing} of {total} rows, 95 % interval {least:.2%} to {most:.2%})"
    if low:
        lines = [f"{number} is below at_least={at_least:.2%}"]
    else:
        lines = [f"{number} reaches at_least={at_least:.2%}, but the evaluation is unreliable: it proves nothing"]
    lines.append(f"  {result.threat}, {result.budget} budget, clean accuracy {result.clean_accuracy:.2%}")
    if standing < total:
        lines.append("  broken by: " + ", ".join(f"{name} {count} rows" for name, count in result.broken().items()))
        rows = (~result.robust).nonzero().squeeze(1).tolist()
        named = ", ".join(str(row) for row in rows[:_SHOWN])
        lines.append(f"  broken rows: {named}{f', and {len(rows) - _SHOWN} more' if len(rows) > _SHOWN else ''}")
    for finding in result.findings:
        lines.append(f"  {finding.verdict}: {finding.name}: {finding.seen}. {finding.meaning}.")
    return [*lines, f"  next: {_next_step(result, at_least, low)}"]


def _next_step(result: Evaluation, at_least: float, low: bool) -> str:
    if not low:
        worst = next(finding for finding in result.findings if finding.verdict == "unreliable")
        return f"{worst.remedy}. If the model means it, mend the model: a hidden gradient is no defence."
    if result.clean_accuracy < at_least:
        return (
            f"the model errs unperturbed on {1 - result.clean_accuracy:.2%} of the rows, more than at_least allows: "
            "look at the labels, at normalization (inside the model: advlib.models.Normalize), and at the training."
        )
    if result.robust_interval[1] >= at_least:
        return (
            f"at_least lies within the interval, so {len(result.robust)} rows are too few to tell: give more rows, or "
            f"ask for at_least={int(100 * result.robust_interval[0]) / 100}, which chance alone does not undo."
        )
    return (
        "train with advlib.defenses.AdversarialTraining against this threat model, ask for a smaller eps, or look at "
        "the points that break the rows: advlib.evaluate(model, x, y, threat).x_adv."
    )
