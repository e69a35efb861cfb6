"""FAB by hand, on models small enough to compute on paper. That it reaches the closed form is a law."""

import math
from functools import partial

import by_hand
import pytest
import torch
from by_hand import WIDE, Y, classifier, curved, points

from advlib import L0, L1, L2, Linf, fab
from advlib.attacks.fab import FastAdaptiveBoundary
from advlib.models import Counted
from advlib.search import search

asked = partial(by_hand.asked, fab)


HALFSPACE = classifier([[3.0, 4.0]], [-1.0])  # from the origin: 0.2 away in L2, 1/7 in Linf, 0.25 in L1


@pytest.mark.parametrize(
    ("threat", "nearest"),
    [(Linf(math.inf, WIDE), (1 / 7, 1 / 7)), (L2(math.inf, WIDE), (0.12, 0.16)), (L1(math.inf, WIDE), (0.0, 0.25))],
)
def test_the_first_step_and_a_step_back(threat, nearest):
    seen, _ = asked(HALFSPACE, points([0.0, 0.0]), threat, steps=6)
    assert seen[0] == [0.0, 0.0]
    assert seen[1] == pytest.approx([1.05 * part for part in nearest])
    # back to 0.945 of the way, and on by 1.05 of the 0.055 that are missing; from x it would be 1.05
    share = 0.055 / 1.055
    along = (1 - share) * (0.945 + 1.05 * 0.055) + share * 1.05
    assert seen[2] == pytest.approx([along * part for part in nearest])


def test_parameters():
    """A step that ends on the boundary, or beyond; no step back; no pull towards x."""
    settings = {"alpha_max": 0.0, "eta": 2.0, "beta": 1.0}
    seen, _ = asked(HALFSPACE, points([0.0, 0.0]), L2(math.inf, WIDE), steps=6, **settings)
    assert seen[1] == pytest.approx([0.24, 0.32])
    assert seen[2] == pytest.approx([0.0, 0.0], abs=1e-12)  # from twice as far, back by twice the way


@pytest.mark.parametrize(("start", "share"), [(0.5, 0.1), (0.95, 0.05 / 1.05)])
def test_the_pull_towards_x_is_bounded_and_small_where_the_boundary_is_near(start, share):
    """The boundary is at 1 on the first axis; the second is where the search has strayed."""
    model = classifier([[1.0, 0.0]], [-1.0])
    seen, _ = asked(model, points([0.0, 0.0]), L2(math.inf, WIDE), steps=6, init=points([start, 0.5]))
    assert seen[0] == pytest.approx([start, 0.5])
    along = (1 - share) * (start + 1.05 * (1 - start)) + share * 1.05
    assert seen[1] == pytest.approx([along, (1 - share) * 0.5])


@pytest.mark.parametrize(
    ("threat", "nearest"),
    [
        (Linf(math.inf, WIDE), [1 / 1.8, 1 / 1.8]),
        (L2(math.inf, WIDE), [0.9 / 1.62, 0.9 / 1.62]),
        (L1(math.inf, WIDE), [0.0, 1.0]),
    ],
)
def test_of_several_boundaries_the_nearest_in_the_norm(threat, nearest):
    """The first lead is the least behind, 1 against 1 and 1, but its slope is smallest."""
    model = classifier([[0.5, 0.5], [0.9, 0.9], [0.0, 1.0]], [-0.9, -1.0, -1.0])
    seen, _ = asked(model, points([0.0, 0.0]), threat, steps=4)
    assert seen[1] == pytest.approx([1.05 * part for part in nearest])


def test_the_final_search_on_a_line():
    """It aims a thousandth beyond where the lead should be zero, where rounding cannot undo the success."""
    model = classifier([[1.0]], [-1.0])
    seen, x_adv = asked(model, points([0.0]), L2(math.inf, WIDE), steps=3)
    assert seen == [[0.0], [pytest.approx(1.05)], [pytest.approx(1.001)], [pytest.approx(1.001)]]
    assert x_adv.item() == pytest.approx(1.001)


def test_the_final_search_learns_from_a_point_that_falls_short():
    def cliff(z):
        lead = z - 1 - 0.5 * (z < 1.04)
        return torch.cat([0 * lead, lead], dim=1)

    seen, x_adv = asked(cliff, points([0.0]), L2(math.inf, WIDE), steps=4)
    path = [point[0] for point in seen]
    assert path[:3] == pytest.approx([0, 1.575, 1.001])  # where it should be just positive it is -0.499
    zero = 1.001 + 0.499 / (0.499 + 0.575) * (1.575 - 1.001)
    assert path[3] == pytest.approx(1.001 * zero)  # a success, with a lead of path[3] - 1
    zero = 1.001 + 0.499 / (0.499 + path[3] - 1) * (path[3] - 1.001)
    assert path[4] == pytest.approx(1.001 * zero)
    assert x_adv.item() == path[4]


def test_the_final_search_halves_where_another_class_than_the_one_aimed_at_is_reached():
    model = classifier([[1.0], [2.0]], [-2.0, -1.5])  # class 1 leads class 0 from 2 on, class 2 from 0.75 on
    settings = {"keep": "nearest", "target": Y + 1, "init": points([1.0])}
    found = search(model, points([0.0]), Y, L2(math.inf, WIDE), FastAdaptiveBoundary(2), steps=2, **settings)
    assert found.x_adv.item() == pytest.approx(1.001 * (0.5005 + 0.5 * 0.4995))  # 1 is a success, 0.5005 short


@pytest.mark.parametrize("threat", [Linf(math.inf, WIDE), L2(math.inf, WIDE), L1(math.inf, WIDE)])
def test_what_comes_back_is_the_nearest_success_asked_about(threat):
    """And not the point before it or after it."""
    x = points([0.1, 0.2, -0.3])
    seen, x_adv = asked(curved, x, threat, steps=12)
    seen = points(*seen)
    distance = torch.where(curved(seen).argmax(1) != 0, threat.distance(seen, x.expand_as(seen)), math.inf)
    assert torch.equal(x_adv[0], seen[distance.argmin()])
    assert distance.argmin() > 1


def test_a_success_farther_away_is_not_the_best():
    """Of the line's points 1.05, 1.005 and 1.009 the second: the final search starts from it."""
    best = []

    class Watched(FastAdaptiveBoundary):
        def finished(self, state):
            best.append((state.distance.item(), state.best.norm().item()))

    search(HALFSPACE, points([0.0, 0.0]), Y, L2(math.inf, WIDE), Watched(8), steps=5, keep="nearest")
    distance = [far / 0.2 for far, _ in best]
    assert distance == [math.inf, pytest.approx(1.05), pytest.approx(1.005213, rel=1e-5), distance[2], distance[2]]
    assert [length for _, length in best[1:]] == pytest.approx([far for far, _ in best[1:]])


@pytest.mark.parametrize("norm", [Linf, L2, L1])
@pytest.mark.parametrize("targets", [0, 2])
def test_the_way_is_the_same_whatever_the_ball(norm, targets):
    """It leads outside and back: the first points are too far, and so is where it begins."""
    x, init = points([0.1, 0.2, -0.3]), points([-4.0, 0.0, 4.0])
    path, anywhere = asked(curved, x, norm(math.inf, WIDE), steps=12, init=init, targets=targets)
    eps = 1.01 * norm(math.inf).distance(anywhere, x).item()
    seen, x_adv = asked(curved, x, norm(eps, WIDE), steps=12, init=init, targets=targets)
    assert seen == path
    assert torch.equal(x_adv, anywhere)
    assert (norm(math.inf).distance(points(*seen), x) > eps).any()
    _, x_adv = asked(curved, x, norm(0.98 * eps, WIDE), steps=12, init=init, targets=targets)
    assert torch.equal(x_adv, x)


@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_every_point_asked_about_is_within_bounds_and_mask(norm):
    """The overshoot too: the boundary is just before the bound of the first feature; the third may not move."""
    model = classifier([[1.0, 0.01, 1.0]], [-1.99])
    x, mask = points([0.7, 0.0, 0.99]), torch.tensor([True, True, False])
    seen, _ = asked(model, x, norm(math.inf, mask=mask), steps=6)
    seen = points(*seen)
    assert norm(math.inf, mask=mask).contains(seen, x.expand_as(seen)).all()
    assert (seen == 1).any()


def test_one_class_at_a_time_costs_one_backward_pass_a_step():
    model = classifier([[0.5, 0.5], [0.9, 0.9], [0.0, 1.0]], [-0.9, -1.0, -1.0])
    x, threat, counted = points([0.0, 0.0]), L2(math.inf, WIDE), Counted(model)
    fab(counted, x, Y, threat, steps=7)
    assert (counted.forwards, counted.backwards) == (8, 7 * 3)
    counted = Counted(model)
    in_turn = fab(counted, x, Y, threat, steps=7, targets=2)
    assert (counted.forwards, counted.backwards) == (1 + 2 * 8, 2 * 7)
    # the two likeliest classes are the first, and of the others, which tie, the second: the nearest of these is found
    assert in_turn[0].tolist() == pytest.approx([0.9 / 1.62, 0.9 / 1.62], rel=2e-3)


def test_targeted_reaches_the_class_wanted():
    model = classifier([[1.0, 0.0], [0.0, 1.0]], [-1.0, -2.0])
    x_adv = fab(model, points([0.0, 0.0]), torch.tensor([2]), L2(math.inf, WIDE), targeted=True)
    assert model(x_adv).argmax(1).tolist() == [2]
    assert x_adv[0].tolist() == pytest.approx([0.0, 2.0], abs=3e-3)


def test_restarts_begin_within_half_of_eps():
    x, threat = points([0.5, 0.25]).repeat(200, 1), Linf(0.2)
    starts = []

    def model(z):
        starts.append(z.detach().clone())
        return HALFSPACE(z - 20)  # nothing to be found

    fab(model, x, Y.repeat(200), threat, steps=1, restarts=3, generator=torch.Generator().manual_seed(0))
    first, second, third = starts[::2]
    assert torch.equal(first, x)
    for start in (second, third):
        assert 0.09 < (start - x).abs().max() <= 0.1
        assert len(start.unique(dim=0)) == 200
    assert not torch.equal(second, third)
    init = x + 0.1
    starts.clear()
    fab(model, x, Y.repeat(200), threat, steps=1, restarts=2, init=init)
    assert torch.equal(starts[0], init)
    with pytest.raises(ValueError, match="needs a finite eps"):
        fab(model, x, Y.repeat(200), Linf(math.inf), restarts=2)


def test_rows_that_are_wrong_already_are_asked_about_once():
    x = points([1.0, 1.0], [0.0, 0.0])
    found = search(HALFSPACE, x, Y.repeat(2), L2(math.inf, WIDE), FastAdaptiveBoundary(5), steps=5, keep="nearest")
    assert torch.equal(found.x_adv[0], x[0])
    assert found.forwards.tolist() == [1, 6]


def test_first_stops_at_a_success_within_eps():
    counted = Counted(HALFSPACE)
    x_adv = fab(counted, points([0.0, 0.0]), Y, L2(0.25, WIDE), keep="first")
    assert counted.forwards == 2
    assert x_adv.norm().item() == pytest.approx(0.21)


def test_logits_are_read_from_what_the_model_returns():
    x, threat = points([0.0, 0.0]), L2(math.inf, WIDE)
    plain = fab(HALFSPACE, x, Y, threat, steps=5)
    packed = fab(lambda z: {"logits": HALFSPACE(z)}, x, Y, threat, steps=5, logits_of=lambda output: output["logits"])
    assert torch.equal(packed, plain)


def test_what_it_does_not_take():
    x = points([0.0, 0.0])
    with pytest.raises(ValueError, match="FAB needs a norm, which L0 is not: Linf, L2 or L1"):
        fab(HALFSPACE, x, Y, L0(1))
    with pytest.raises(TypeError, match="takes no loss"):
        fab(HALFSPACE, x, Y, L2(1.0), loss="margin")
    with pytest.raises(ValueError, match="may lie outside the ball"):
        fab(HALFSPACE, x, Y, L2(1.0), keep="last")
