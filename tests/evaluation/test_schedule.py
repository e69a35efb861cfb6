"""The schedule's parts: who is attacked with what, and the way back from beyond the boundary."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from advlib import L0, L1, L2, Linf, pgd
from advlib.evaluation import schedule
from advlib.evaluation.crossing import Crossing
from advlib.evaluation.rows import Rows
from advlib.evaluation.schedule import PLANS, Plan
from advlib.search import search


def rows_of(model, x, y, threat) -> Rows:
    none = torch.zeros(len(x), dtype=torch.bool)
    return Rows(model, x, y, threat, none, torch.Generator().manual_seed(0), None, lambda rows: None)


# -- the way back -----------------------------------------------------------------------------------------------


def hidden(z: torch.Tensor) -> torch.Tensor:
    """Two features. Class 1 below 0.3 in the first; but at 0.5 the slope points up, to a top below 0."""
    first = z[:, :1]
    lead = torch.where(first < 0.4, 10 * (0.3 - first), -1 - (first - 0.7).abs())
    return torch.cat([-lead, lead], dim=1)


CENTER = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
BEYOND = torch.tensor([[0.0, 0.5]], dtype=torch.float64)
LABEL = torch.tensor([0])


@pytest.mark.parametrize("threat", [Linf(0.25), L2(0.25), L1(0.25, sparsity=0.5)])
def test_the_way_back_finds_what_gradients_point_away_from(threat):
    x_adv = pgd(hidden, CENTER, LABEL, threat, random_start=False, loss="margin", step_size=0.02)
    assert hidden(x_adv).argmax(1).tolist() == [0]
    found = search(hidden, CENTER, LABEL, threat, Crossing(20), steps=20, loss="margin", keep="first", init=BEYOND)
    assert found.success.tolist() == [True]
    assert bool(threat.contains(found.x_adv, CENTER).all())


def test_the_ball_shrinks_to_eps_in_half_of_the_steps():
    asked = []

    def flat(z):
        asked.append((z - CENTER).norm().item())
        return torch.cat([z.sum(1, keepdim=True) * 1e-9 + 2, z.sum(1, keepdim=True) * 0], dim=1)

    search(flat, CENTER, LABEL, L2(0.1), Crossing(20), steps=20, init=BEYOND)
    assert asked[:2] == pytest.approx([0.5, 0.5 - 0.04])  # (0.5 - 0.1) / 10 less at each step
    assert asked[5] == pytest.approx(0.3)
    assert asked[10:] == pytest.approx([0.1] * 11)


def test_steps_on_the_way_back_shorten_to_nothing():
    def ramp(z):
        return torch.cat([-z[:, :1], z[:, :1]], dim=1)

    x = torch.zeros(1, 2, dtype=torch.float64)
    asked = []

    def watched(z):
        asked.append(z[0, 0].item())
        return ramp(z)

    search(watched, x, LABEL, L2(1.0, bounds=None), Crossing(10, step_size=0.01), steps=10, loss="margin")
    steps = [b - a for a, b in itertools.pairwise(asked)]
    assert steps == pytest.approx([0.01 * (1 - k / 10) for k in range(10)])


def test_donors_are_rows_that_the_model_gives_another_class_nearest_first():
    x = torch.tensor([[0.1], [0.2], [0.6], [0.9]], dtype=torch.float64)

    def model(z):
        return torch.cat([0.5 - z, z - 0.5], dim=1)

    rows = rows_of(model, x, torch.tensor([0, 0, 1, 0]), Linf(0.01))  # the model is wrong about the last
    assert schedule._others(rows)[:3].tolist() == [[2, 3, -1, -1], [2, 3, -1, -1], [1, 0, -1, -1]]


# -- where it aims ------------------------------------------------------------------------------------------------


def test_classes_are_tried_by_the_distance_of_their_boundary():
    model = nn.Linear(2, 4, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [0.9, 0.0], [-3.0, 3.0], [0.0, 9.0]]))
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)  # logits 1, 0.9, -3, 0: the true class leads by 0.1, 4, 1
    rows = rows_of(model, x, LABEL, Linf(0.01))  # distances 0.1 / 0.1, 4 / 7, 1 / 10
    assert schedule._by_distance(rows, torch.tensor([0])).tolist() == [[3, 2, 1]]
    rows = rows_of(model, x, LABEL, L2(0.01))  # 0.1 / 0.1, 4 / 5, 1 / 9.06
    assert schedule._by_distance(rows, torch.tensor([0])).tolist() == [[3, 2, 1]]


# -- who is attacked with what --------------------------------------------------------------------------------------


def steady(z: torch.Tensor) -> torch.Tensor:
    """Ten classes, the first ahead whatever the perturbation, by more the larger the first feature."""
    lead = 5 + z.flatten(1)[:, :1]
    return torch.cat([lead, z.flatten(1)[:, 1:10] * 0.01], dim=1)


def recorded(monkeypatch, plan: Plan, threat, model=steady, count: int = 100) -> list[tuple]:
    calls = []
    attack = Rows.attack

    def record(self, stage, some, rule, steps, **options):
        calls.append((stage, len(self.left(some)), type(rule).__name__, steps, options))
        attack(self, stage, some, rule, steps, **options)

    monkeypatch.setattr(Rows, "attack", record)
    x = torch.rand(count, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 0] = torch.linspace(0, 1, count, dtype=torch.float64)
    schedule.run(rows_of(model, x, torch.zeros(count, dtype=torch.int64), threat), plan)
    return calls


def test_rounds_go_to_the_nearest_rows_and_take_turns(monkeypatch):
    calls = recorded(monkeypatch, Plan(((0.3, 1), (0.1, 2)), trip_wire=3), Linf(0.01))
    assert [(stage, count, rule, steps) for stage, count, rule, steps, _ in calls] == [
        ("first", 100, "ProjectedGradient", 10),
        ("second", 100, "ProjectedGradient", 20),
        ("restarts", 30, "ProjectedGradient", 20),
        ("squares", 30, "SquareSearch", 50),
        ("polish", 30, "ProjectedGradient", 10),
        ("restarts", 10, "ProjectedGradient", 40),
        ("squares", 10, "SquareSearch", 50),
        ("polish", 10, "ProjectedGradient", 10),
        ("restarts", 10, "ProjectedGradient", 20),
        ("squares", 10, "SquareSearch", 50),
        ("polish", 10, "ProjectedGradient", 10),
        ("trip-wire", 100, "SquareSearch", 3),
    ]
    losses = [options.get("loss", "margin") for stage, *_, options in calls if stage == "restarts"]
    assert losses == ["cross_entropy", "dlr", "cross_entropy"]
    assert [options.get("loss", "margin") for *_, options in calls[:2]] == ["margin", "cross_entropy"]
    for stage, *_, options in calls:
        fresh = stage in ("first", "second", "restarts")
        assert options.get("random_start", False) == fresh
        assert ("init" in options) == (not fresh)


def test_targets_start_afresh_on_their_share_of_the_rows(monkeypatch):
    calls = recorded(monkeypatch, Plan(targets=0.2, classes=3), Linf(0.01))
    aimed = [(count, steps, options["random_start"]) for stage, count, _, steps, options in calls if stage == "targets"]
    assert aimed == [(20, 15, True)] * 3


def test_two_classes_have_no_ratio(monkeypatch):
    calls = recorded(monkeypatch, Plan(((0.1, 2),)), Linf(0.01), model=lambda z: steady(z)[:, :2])
    assert [options["loss"] for stage, *_, options in calls if stage == "restarts"] == ["cross_entropy", "margin"]


def test_l0_has_no_squares(monkeypatch):
    calls = recorded(monkeypatch, Plan(((0.1, 1),)), L0(1))
    assert [stage for stage, *_ in calls] == ["first", "second", "restarts", "polish"]


def crossings(monkeypatch, blind: int, plan: Plan) -> list[int]:
    """Rows that the way back is tried on, where it finds what nothing else does for the first ``blind`` rows."""
    tried = []

    def way_back(rows, some, donors):
        tried.append(len(rows.left(some)))
        broken = [row for row in rows.left(some).tolist() if row < blind][:10]
        rows.standing[broken] = False
        return len(broken)

    monkeypatch.setattr(schedule, "_way_back", way_back)
    x = torch.rand(100, 12, dtype=torch.float64)
    x[:, 0] = torch.linspace(0, 1, 100, dtype=torch.float64)
    schedule._cross(rows_of(steady, x, torch.zeros(100, dtype=torch.int64), Linf(0.01)), plan.crossings)
    return tried


def test_the_way_back_is_tried_on_all_only_where_it_pays_on_some(monkeypatch):
    assert crossings(monkeypatch, 0, Plan(crossings=4)) == [10]
    assert crossings(monkeypatch, 35, Plan(crossings=9)) == [10, 90, 80, 70, 65]
    assert crossings(monkeypatch, 100, Plan(crossings=3)) == [10, 90, 80, 70]
    assert crossings(monkeypatch, 100, Plan(crossings=0)) == []


def test_budgets_grow():
    quick, standard, thorough = (PLANS[name] for name in ("quick", "standard", "thorough"))
    effort = [sum(share * count for share, count in plan.rounds) for plan in (quick, standard, thorough)]
    assert effort == sorted(effort)
    assert quick.crossings <= standard.crossings <= thorough.crossings
    assert quick.classes <= standard.classes <= thorough.classes
