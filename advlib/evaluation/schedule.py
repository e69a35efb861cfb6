"""What is tried on a block of rows, cheapest first, and where the effort goes.

Most of a strong evaluation is spent on rows that nothing breaks. So each stage takes the rows that are left, later ones
only those nearest to breaking: the largest margin found so far tells well which rows can still break. What finds the
last ones is variety: slopes of several losses, random squares from the best point so far, and a few gradient steps
from there. The numbers are from ``benchmarks/evaluation.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from advlib.attacks.pgd import ProjectedGradient
from advlib.attacks.square import SquareSearch
from advlib.attacks.targets import ranked_classes
from advlib.evaluation.crossing import Crossing
from advlib.evaluation.rows import Rows
from advlib.evaluator import guard
from advlib.gradients import jacobian
from advlib.threats import L0

STAGES = ("clean", "first", "second", "crossing", "targets", "restarts", "squares", "polish", "trip-wire")

_LIKELY = 9  # wrong classes whose boundaries are compared, as many as AutoAttack aims at

Budget = Literal["quick", "standard", "thorough"]


@dataclass(frozen=True)
class Plan:
    """How much of each stage a budget buys; shares are of the rows left when the stage begins.

    Args:
        rounds: Shares of the nearest rows, and how many rounds they get, in turn.
        targets: Share of the nearest rows that are pushed towards single classes.
        classes: Towards how many.
        crossings: From how many inputs of another class, the nearest first, the way back to a row is tried; after the
            first, only as long as the one before broke a fiftieth of its rows.
        trip_wire: Squares tried on every row left.
    """

    rounds: tuple[tuple[float, int], ...] = ()
    targets: float = 0.0
    classes: int = 0
    crossings: int = 0
    trip_wire: int = 10


PLANS: dict[Budget, Plan] = {
    "quick": Plan(crossings=1),
    "standard": Plan(((0.3, 2), (0.16, 3), (0.08, 5), (0.04, 10)), 0.5, 2, 4),
    "thorough": Plan(((0.5, 2), (0.25, 4), (0.1, 25), (0.03, 200)), 1.0, 9, 16, 30),
}


def check_budget(budget: Budget) -> Plan:
    """The plan of that name.

    Raises:
        ValueError: If there is none.
    """
    if budget not in PLANS:
        raise ValueError(f"budget must be one of {', '.join(get_args(Budget))}, got {budget!r}")
    return PLANS[budget]


def run(rows: Rows, plan: Plan) -> None:
    """Attacks a block of rows. What it bases on their state goes through ``rows.decide``, so that it can be resumed."""
    rows.attack("first", rows.left(), ProjectedGradient(10), 10, random_start=True)
    rows.attack("second", rows.left(), ProjectedGradient(20), 20, random_start=True, loss="cross_entropy")
    _cross(rows, plan.crossings)
    if plan.targets:
        _aim(rows, plan)
    left, turn = rows.decide(lambda: len(rows.left())), 0
    for share, count in plan.rounds:
        near = rows.decide(partial(rows.nearest, share, left))
        for _ in range(count):
            _round(rows, near, turn)
            turn += 1
    if not isinstance(rows.threat, L0):
        rows.attack("trip-wire", rows.left(), _squares(), plan.trip_wire, init=rows.best)


def _aim(rows: Rows, plan: Plan) -> None:
    """Fresh starts towards the classes whose linearized boundaries are nearest to the nearest rows."""
    near = rows.decide(lambda: rows.nearest(plan.targets))
    if len(near) == 0:
        return
    classes = rows.decide(lambda: _nearest_classes(rows, near))
    target = rows.y.unsqueeze(1).repeat(1, classes.shape[1]).index_copy(0, near, classes)
    for index in range(min(plan.classes, classes.shape[1])):
        rows.attack("targets", near, ProjectedGradient(15), 15, random_start=True, target=target[:, index])


def _nearest_classes(rows: Rows, some: Tensor) -> Tensor:
    """The likeliest wrong classes by the distance of their linearized boundary (Melamed et al., 2024, 2407.02240)."""
    parts = torch.split(some, rows.batch_size or len(some))
    return torch.cat([_by_distance(rows, part) for part in parts])


def _by_distance(rows: Rows, some: Tensor) -> Tensor:
    y, logits = rows.y[some].unsqueeze(1), rows.logits[some]
    likely = ranked_classes(logits, rows.y[some])[:, :_LIKELY]
    with guard(rows.model):
        slopes = jacobian(rows.model, rows.x[some], torch.cat([y, likely], dim=1)).nan_to_num()
    rows.count("targets", forward=len(some), backward=len(some) * slopes.shape[1])
    rows.samples[some] += 1 + slopes.shape[1]
    apart = logits.gather(1, y) - logits.gather(1, likely)
    rates = []
    for slope in slopes[:, 1:].unbind(1):
        slope = slope - slopes[:, 0]
        rates.append((rows.threat.steepest(slope) * slope).flatten(1).sum(1))  # along the steepest step of the norm
    rate = torch.stack(rates, dim=1).clamp_min(torch.finfo(logits.dtype).tiny)
    return likely.gather(1, (apart / rate).argsort(1))


def _cross(rows: Rows, crossings: int) -> None:
    """From inputs that the model gives another class, in a ball that shrinks around the row (see Crossing)."""
    order = _others(rows)
    if crossings == 0 or _way_back(rows, rows.decide(lambda: rows.nearest(0.1)), order[:, 0]) == 0:
        return  # gradients see as much from here
    for index in range(min(crossings, order.shape[1])):
        if _way_back(rows, rows.decide(rows.left), order[:, index]) < 1 / 50:
            return


def _way_back(rows: Rows, some: Tensor, donors: Tensor) -> float:
    """Tries the way back from one donor for each row, and tells what share of the rows it broke."""
    some = some[donors[some] >= 0]
    rows.attack("crossing", some, Crossing(20), 20, init=rows.x[donors])
    return rows.decide(lambda: 1 - len(rows.left(some)) / max(len(some), 1))


def _others(rows: Rows) -> Tensor:
    """The rows of the block that the model gives another class than a row's own, nearest first, then -1."""
    flat, answers = rows.x.flatten(1), rows.logits.argmax(1)
    apart = torch.cdist(flat, flat).masked_fill(rows.y.unsqueeze(1) == answers, math.inf)
    far, order = apart.sort(dim=1, stable=True)
    return order.masked_fill(far.isinf(), -1)


def _round(rows: Rows, near: Tensor, turn: int) -> None:
    """A fresh start with the slope of one loss or another, then squares from the best point, then a few steps."""
    loss, steps = (("cross_entropy", 20), ("dlr", 40))[turn % 2]
    if loss == "dlr" and rows.logits.shape[1] < 3:
        loss = "margin"
    rows.attack("restarts", near, ProjectedGradient(steps), steps, random_start=True, loss=loss)
    if not isinstance(rows.threat, L0):
        rows.attack("squares", near, _squares(), 50, init=rows.best)
    rows.attack("polish", near, ProjectedGradient(10, first=0.5), 10, init=rows.best)


def _squares() -> SquareSearch:
    return SquareSearch(None, 0.03, stripes=False)
