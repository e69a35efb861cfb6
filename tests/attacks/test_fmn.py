"""FMN by hand, on models small enough to compute on paper. That it reaches the closed form is a law."""

import itertools
import math
from functools import partial

import by_hand
import pytest
import torch
from by_hand import WIDE, Y, beside_the_closed_form, curved, halfspace, points
from torch import nn

from advlib import L0, L1, L2, Linf, fmn
from advlib.attacks.fmn import FastMinimumNorm
from advlib.models import Counted
from advlib.search import search
from tests.laws.table import batch

asked = partial(by_hand.asked, fmn)
NORMS = [Linf, L2, L1, L0]


def decay(step, steps):
    return (1 + math.cos(math.pi * step / steps)) / 2


@pytest.mark.parametrize(
    ("norm", "size", "first"),
    [
        (Linf, None, [0.15, 0.15]),
        (Linf, 0.5, [0.075, 0.075]),
        (L2, None, [0.21 * 0.6, 0.21 * 0.8]),
        (L1, None, [0.3 * 0.2625 * 0.6, 0.3 * 0.2625 * 0.8]),
        (L1, 1.0, [0.105, 0.1575]),  # (0.1575, 0.21) less 0.0525 each: 0.2625 in all
    ],
)
def test_the_first_ball_reaches_a_little_beyond_the_linearized_boundary(norm, size, first):
    """And steps are measured in its radius."""
    seen, _ = asked(halfspace, points([0.0, 0.0]), norm(math.inf, WIDE), steps=5, step_size=size)
    assert seen[:2] == [[0.0, 0.0], pytest.approx(first)]


@pytest.mark.parametrize("norm", [Linf, L2, L1])
@pytest.mark.parametrize("gamma", [0.05, 0.4])
def test_the_radius_shrinks_after_a_success_and_grows_after_a_failure_by_less_and_less(norm, gamma):
    """On a line, where the boundary is at 1 and steps are so long that every point is at the radius."""

    def model(z):
        return torch.cat([0 * z, z - 1], dim=1)

    threat = norm(math.inf, WIDE)
    settings = {"gamma": gamma, "step_size": 100.0, "steps": 30}
    seen, x_adv = asked(model, points([0.0]), threat, **settings)
    path, nearest = [0.0, 1 + gamma], math.inf
    for step in range(1, 30):
        radius, change = path[-1], 0.001 + (gamma - 0.001) * decay(step, 30)
        if radius > 1:
            nearest = min(nearest, radius)
            path.append(nearest * (1 - change))
        else:
            path.append(radius * (1 + change))
    assert [point[0] for point in seen] == pytest.approx(path)
    assert x_adv.item() == pytest.approx(min(radius for radius in path if radius > 1))


def test_before_the_first_success_the_boundary_is_looked_for_anew():
    """It lies at 2.25, and seems to be at 1.75 from 1, and then at 2.2."""

    def model(z):
        return torch.cat([0 * z, z.sqrt() - 1.5], dim=1)

    seen, _ = asked(model, points([1.0]), L2(math.inf, (0.01, 50.0)), step_size=100.0, steps=1000, gamma=0.001)
    radius, path = 0.0, [1.0]
    for _ in range(3):
        at = path[-1]
        radius = 1.001 * (at - 1 + (1.5 - math.sqrt(at)) * 2 * math.sqrt(at))
        path.append(1 + radius)
    assert [point[0] for point in seen[:4]] == pytest.approx(path, rel=1e-4)


def test_the_lengths_of_steps_fall_to_a_hundredth():
    """Of a boundary too far to be met."""
    model = nn.Linear(1, 2).double()
    model.weight.data, model.bias.data = points([0.0], [1.0]), points(0.0, -1000.0)
    seen, x_adv = asked(model, points([0.0]), L2(math.inf, (-5000.0, 5000.0)), steps=10, step_size=0.001)
    moves = [after[0] - before[0] for before, after in itertools.pairwise(seen)]
    radius = [1000 * (1.001 + 0.049 * decay(step, 10)) for step in range(10)]
    assert moves == pytest.approx([0.001 * radius[step] * (0.01 + 0.99 * decay(step, 10)) for step in range(10)])
    assert x_adv.item() == 0


def test_after_a_success_inside_its_ball_the_ball_is_no_larger_than_it_needs_to_be():
    """The first ball reaches to 1.05, and the first step, to 0.1, succeeds."""

    def model(z):
        return torch.cat([0 * z, 0.01 * z - 0.01 + (z > 0.05)], dim=1)

    seen, _ = asked(model, points([0.0]), L2(math.inf, WIDE), steps=100, step_size=0.1 / 1.05)
    change = 0.001 + 0.049 * decay(1, 100)
    assert [point[0] for point in seen[:3]] == pytest.approx([0.0, 0.1, 0.1 * (1 - change)])


def test_in_l0_the_number_of_features_changes_by_one_at_least():
    """Of weights 3, 2 and 1 two features are needed to make up for 4."""
    model = nn.Linear(3, 2).double()
    model.weight.data, model.bias.data = points([0.0, 0.0, 0.0], [3.0, 2.0, 1.0]), points(0.0, -4.0)
    seen, x_adv = asked(model, points([0.0, 0.0, 0.0]), L0(math.inf), steps=20)
    counts = [sum(part != 0 for part in point) for point in seen]
    assert counts[:3] == [0, 1, 2]
    assert seen[1] == pytest.approx([1.0, 0, 0])
    reached = [3 * a + 2 * b + c > 4 for a, b, c in seen]
    first = reached.index(True)
    assert counts[first + 1] == counts[first] - 1
    assert (x_adv[0] > 0).tolist() == [True, True, False]


def test_in_l0_the_radius_also_changes_by_a_share():
    """Of 50 equal features 42 are needed: 6 % more than seem to be, 6 % less, and 6 % more than these."""
    model = nn.Linear(50, 2).double()
    model.weight.data = torch.stack([torch.zeros(50), torch.ones(50)]).double()
    model.bias.data = points(0.0, -41.5)
    seen, _ = asked(model, torch.zeros(1, 50).double(), L0(math.inf), steps=1000, gamma=0.06)
    counts = [sum(part != 0 for part in point) for point in seen[:4]]
    assert counts == [0, math.floor(1.06 * 41.5), 40, 42]


@pytest.mark.parametrize("norm", NORMS)
def test_closed_form_with_features_at_either_bound(norm):
    distance, least = beside_the_closed_form(fmn, norm, steps=200)
    ratio = distance / least
    assert ratio.min() > 1 - 1e-9
    if norm is L0:  # not convex: a feature at its bound can hide one that would do alone
        assert (distance <= least + 1).all()
        assert (ratio == 1).double().mean() > 0.95
    else:
        assert ratio.max() < 1.01


@pytest.mark.parametrize("norm", NORMS)
def test_what_comes_back_is_the_nearest_success_asked_about(norm):
    x, threat = points([0.1, 0.2, -0.3]), norm(math.inf, WIDE)
    seen, x_adv = asked(curved, x, threat, steps=30)
    seen = points(*seen)
    distance = torch.where(curved(seen).argmax(1) != 0, threat.distance(seen, x.expand_as(seen)), math.inf)
    assert distance.min() == threat.distance(x_adv, x)
    assert torch.equal(x_adv[0], seen[distance.argmin()])


@pytest.mark.parametrize("norm", NORMS)
def test_every_point_asked_about_is_within_bounds_and_mask(norm):
    x, mask = points([0.2, 0.1, 0.4]), torch.tensor([True, True, False])
    threat = norm(math.inf, mask=mask)
    seen, _ = asked(curved, x, threat, steps=10)
    seen = points(*seen)
    assert threat.contains(seen, x.expand_as(seen)).all()
    assert len(seen.unique(dim=0)) >= 2


@pytest.mark.parametrize("norm", NORMS)
def test_the_way_is_the_same_whatever_the_ball(norm):
    """It begins outside."""
    x, init = points([0.0, 0.0]), points([-4.0, 1.0])
    path, anywhere = asked(halfspace, x, norm(math.inf, WIDE), init=init)
    far = norm(math.inf).distance(anywhere, x).item()
    seen, x_adv = asked(halfspace, x, norm(1.01 * far, WIDE), init=init)
    assert seen == path
    assert torch.equal(x_adv, anywhere)
    _, x_adv = asked(halfspace, x, norm(0.99 * far, WIDE), init=init)
    assert torch.equal(x_adv, x)


@pytest.mark.parametrize("norm", NORMS)
def test_each_row_has_a_radius_of_its_own(norm):
    x, threat = points([0.0, 0.0], [-1.0, -2.0], [1.0, 1.0]), norm(math.inf, WIDE)
    found = search(halfspace, x, Y.repeat(3), threat, FastMinimumNorm(40), steps=40, loss="margin", keep="nearest")
    for row in range(3):
        alone = fmn(halfspace, x[row : row + 1], Y, threat, steps=40)
        assert torch.equal(found.x_adv[row : row + 1], alone)
    assert torch.equal(found.x_adv[2], x[2])
    assert found.forwards.tolist() == [41, 41, 1]  # the last is wrong already


def test_rows_without_a_gradient_stay():
    def model(z):
        return torch.cat([0 * z + 2, 0 * z], dim=1)

    x = points([0.5])
    for norm in NORMS:
        with pytest.warns(UserWarning, match="never had a nonzero, finite gradient"):
            assert torch.equal(fmn(model, x, Y, norm(math.inf), steps=5), x)


def test_targeted_reaches_the_class_wanted():
    x = points([0.1, 0.2, -0.3])
    x_adv = fmn(curved, x, torch.tensor([2]), L2(math.inf, WIDE), targeted=True)
    assert curved(x_adv).argmax(1).tolist() == [2]


def test_first_stops_at_a_success_within_eps():
    counted = Counted(halfspace)
    x_adv = fmn(counted, points([0.0, 0.0]), Y, L2(2.0, WIDE), keep="first")
    assert counted.forwards == 2
    assert x_adv.norm().item() == pytest.approx(0.21)


def test_a_model_that_returns_nan_leaves_the_row():
    def model(z):
        return halfspace(z) * torch.nan

    x = points([0.5, 0.25])
    for norm in NORMS:
        with pytest.warns(UserWarning, match="never had a nonzero, finite gradient"):
            assert torch.equal(fmn(model, x, Y, norm(math.inf), steps=5), x)


def test_in_l0_steps_are_as_wide_as_the_bounds():
    weight = torch.randn(1, 12, generator=torch.Generator().manual_seed(3)).tolist()
    model, x = by_hand.classifier(weight, [-3.0]), batch((12,), rows=1)
    small, near = asked(model, x, L0(math.inf, bounds=(0.0, 1.0)), steps=12)
    large, far = asked(lambda z: model(z / 8), 8 * x, L0(math.inf, bounds=(0.0, 8.0)), steps=12)
    assert torch.allclose(points(*large), 8 * points(*small))
    assert torch.allclose(far, 8 * near)
