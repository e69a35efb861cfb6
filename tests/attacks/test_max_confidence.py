"""The most confident wrong answer: the optimum on linear models, which classes are tried, and beyond saturation."""

import pytest
import torch
from torch import nn

from advlib import L0, L1, L2, GradientMaskingWarning, Linf, max_confidence, pgd
from advlib.losses import log_odds
from advlib.models import Counted
from tests.laws.table import batch, build, classes, seeded

BALLS = [Linf(0.3), L2(1.0), L1(1.5, sparsity=0.5)]  # few features at once zigzag for long where there are only eight


def linear(count, seed=3):
    layer = nn.Linear(8, count).double()
    layer.weight.data = torch.randn(count, 8, generator=seeded(seed), dtype=torch.float64)
    layer.bias.data.zero_()
    return layer


def confidence(model, x, y):
    return log_odds(model(x).detach(), y)


def gap(model, x_adv, x, target, threat):
    """How far at most the log-odds of a class are from their largest value: on a linear model they are concave."""
    point = x_adv.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_odds(model(point), target, target).sum(), point)
    return (gradient * (threat.maximize(gradient, x) - x_adv)).sum(1)


@pytest.mark.parametrize("threat", [*BALLS, L0(2)], ids=["linf", "l2", "l1", "l0"])
def test_two_classes_reach_the_closed_form(threat):
    model, x = linear(2), batch((8,), rows=12)
    assert (x == 0).any()
    assert (x == 1).any()
    y = classes(model, x)
    way = (model.weight[1] - model.weight[0]).detach() * torch.where(y == 0, 1, -1)[:, None]
    best = confidence(model, threat.maximize(way, x), y)
    long = {"step_size": 1e6} if isinstance(threat, L0) else {}  # L0 is not convex
    found = confidence(model, max_confidence(model, x, y, threat, steps=60, **long), y)
    assert torch.allclose(found, best, atol=0.01 * (best - confidence(model, x, y)).max().item())


@pytest.mark.parametrize("threat", BALLS, ids=["linf", "l2", "l1"])
def test_many_classes_reach_the_optimum_of_each_and_of_all(threat):
    model, x = linear(4), batch((8,), rows=12)
    y = classes(model, x)
    reached = []
    for target in range(4):
        aim = torch.full_like(y, target)
        x_adv = max_confidence(model, x, aim, threat, targeted=True, steps=200)
        odds, clean = (log_odds(model(z), aim, aim).detach() for z in (x_adv, x))
        assert (gap(model, x_adv, x, aim, threat) < 0.03 * (odds - clean)).all()
        reached.append(torch.where(aim == y, -torch.inf, odds))
    best = torch.stack(reached).amax(0)
    found = max_confidence(model, x, y, threat, steps=200)
    wrong = (model(found).argmax(1) != y) & (best > 0)
    assert wrong.any()
    assert torch.allclose(confidence(model, found, y)[wrong], best[wrong])


def test_it_goes_on_after_a_success_and_from_a_wrong_answer():
    model, x = build((12,)), batch((12,))
    wrong = (classes(model, x) + 1) % 5
    x_adv = max_confidence(model, x, wrong, Linf(0.1))
    assert (confidence(model, x_adv, wrong) > confidence(model, x, wrong) + 0.03).all()


def test_it_goes_on_where_probabilities_are_all_one():
    model = linear(3).float()
    model.weight.data *= 1000
    x = batch((8,), rows=12).float()
    y = classes(model, x)
    threat = Linf(0.3)
    x_adv = max_confidence(model, x, y, threat, steps=60)
    with pytest.warns(GradientMaskingWarning):  # of the cross-entropy
        plain = pgd(model, x, y, threat, steps=60, random_start=False)
    odds = confidence(model, x_adv, y)
    assert (odds > 50).sum() >= 9
    assert (model(x_adv).softmax(1).amax(1)[odds > 50] == 1).all()
    assert (odds > confidence(model, plain, y) + 100).any()


def test_what_is_sure_already_gets_surer():
    model = linear(3).float()
    model.weight.data *= 1000
    x = batch((8,), rows=12).float()
    y = classes(model, x)
    sure = log_odds(model(x), y, y) > 120  # beyond what the gradient of the cross-entropy can tell
    x, y = x[sure], y[sure]
    assert len(x) > 3
    x_adv = max_confidence(model, x, y, Linf(0.1), targeted=True)
    assert (log_odds(model(x_adv), y, y) > log_odds(model(x), y, y) + 10).all()


@pytest.mark.parametrize(("targets", "runs"), [(None, 4), (2, 2), (9, 4)])
def test_what_it_costs(targets, runs):
    model, x = build((12,)), batch((12,))
    y, counted = classes(model, x), Counted(model)
    max_confidence(counted, x, y, Linf(0.1), steps=3, targets=targets, restarts=2)
    assert counted.forwards == len(x) * (1 + 2 * runs * (3 + 1))
    assert counted.backwards == len(x) * 2 * runs * 3


def test_a_class_that_is_unlikely_at_x_may_be_the_best():
    x, y = torch.full((1, 2), 0.5, dtype=torch.float64), torch.tensor([0])
    model = nn.Linear(2, 3, bias=False).double()
    model.weight.data = torch.tensor([[3.0, 3.0], [2.5, 2.5], [-9.0, 9.0]], dtype=torch.float64)
    assert model(x).argsort(descending=True).tolist() == [[0, 1, 2]]
    threat = Linf(0.4)
    assert model(max_confidence(model, x, y, threat)).argmax() == 2
    first = max_confidence(model, x, y, threat, targets=1)  # aims at class 1 alone
    assert log_odds(model(first), y, torch.tensor([1])) > log_odds(model(x), y, torch.tensor([1]))


def starts(model, x, y, **settings):
    seen = []

    def watched(z):
        seen.append(z.detach().clone())
        return model(z)

    max_confidence(watched, x, y, Linf(0.1), steps=2, generator=seeded(), **settings)
    return seen


@pytest.mark.parametrize("settings", [{"targets": 2}, {"targeted": True}], ids=["classes", "targeted"])
def test_the_first_run_at_each_class_starts_at_x_or_init_and_the_others_anywhere(settings):
    model, x = build((12,)), batch((12,))
    y, runs = classes(model, x), settings.get("targets", 1)
    first = 1 if "targets" in settings else 0  # the ranking
    for restarts, begin in ((1, x), (2, x), (2, (x + 0.05).clamp(0, 1))):
        given = {} if begin is x else {"init": begin}
        asked = starts(model, x, y, restarts=restarts, **settings, **given)[first::3]
        assert len(asked) == restarts * runs
        for number, point in enumerate(asked):
            assert torch.allclose(point, begin, rtol=0, atol=1e-9) == (number < runs)


def test_steps_of_one_length():
    model, x = build((12,)), batch((12,))
    asked = starts(model, x, classes(model, x), step_size=0.03, targets=1)
    assert (asked[2] - asked[1]).abs().amax() == pytest.approx(0.03)


def test_bad_input():
    model, x = build((12,)), batch((12,))
    y = classes(model, x)
    with pytest.raises(TypeError, match="takes no loss"):
        max_confidence(model, x, y, Linf(0.1), loss="margin")
    with pytest.raises(ValueError, match="leave targeted and target out"):
        max_confidence(model, x, y, Linf(0.1), targeted=True, targets=2)
    with pytest.raises(ValueError, match="at least 1"):
        max_confidence(model, x, y, Linf(0.1), targets=0)
