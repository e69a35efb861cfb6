"""EAD by hand, on a model small enough to compute on paper. That it reaches the closed form is a law."""

import math

import by_hand
import pytest
import torch
from by_hand import Y, halfspace, points

from advlib import L1, L2, Linf, ead

BOUNDS = (-1.0, 0.3)


def asked(threat, **settings):
    """The points that the model is asked about, from the origin, and the result."""
    return by_hand.asked(ead, halfspace, points([0.0, 0.0]), threat, **settings)


def expected(per_round, rounds, beta, step_size, c):
    """The points asked about, one number after another."""
    point, query, best, far, path = [0.0, 0.0], [0.0, 0.0], None, math.inf, [[0.0, 0.0]]
    failed, enough = 0.0, math.inf
    for _ in range(rounds):
        reached = False
        for step in range(per_round):
            success = 3 * query[0] + 4 * query[1] > 1
            if success and sum(map(abs, query)) < far:
                best, far = query, sum(map(abs, query))
            reached = (reached or success) and 2 * step >= per_round
            length, before = step_size * (1 - step / per_round), point
            moved = [q - length * (2 * q / beta - (not success) * c * w) for q, w in zip(query, (3, 4), strict=True)]
            point = [math.copysign(max(abs(q) - length, 0), q) for q in moved]
            point = [min(max(q, -1.0), 0.3) for q in point]
            query = [q + step / (step + 3) * (q - old) for q, old in zip(point, before, strict=True)]
            query = [min(max(q, -1.0), 0.3) for q in query]
            path.append(query)
        failed, enough = (failed, c) if reached else (c, enough)
        c = 10 * c if enough == math.inf else (failed + enough) / 2
        if best:
            point = query = path[-1] = best
            step_size /= 2
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": 10.0, "step_size": 0.1, "c": 0.1},
        {"beta": 0.5, "step_size": 0.02, "c": 0.5},
        {"beta": 10.0, "step_size": 0.1, "c": 0.5},  # a round begins at a success, and ends without another
    ],
)
def test_the_path(settings):
    path = points(*expected(9, 5, **settings))
    seen, x_adv = asked(L1(math.inf, BOUNDS), steps=45, rounds=5, **settings)
    assert points(*seen).flatten().tolist() == pytest.approx(path.flatten().tolist(), abs=1e-12)
    success = path @ points(3.0, 4.0) > 1
    assert x_adv.abs().sum().item() == pytest.approx(path[success].abs().sum(1).min().item())


def test_defaults():
    given = {"steps": 1000, "rounds": 9, "beta": 10.0, "step_size": 0.1, "c": 0.1}
    assert asked(L1(math.inf, BOUNDS))[0] == asked(L1(math.inf, BOUNDS), **given)[0]


def test_the_norm_of_the_threat_model_chooses_the_nearest():
    """Where the L1 norm weighs little the nearest in L2 is near, which uses both features."""
    x_adv = asked(L2(math.inf, BOUNDS), beta=0.02)[1]
    assert x_adv.norm().item() == pytest.approx(0.2, rel=0.03)
    x_adv = asked(L1(math.inf, BOUNDS))[1]
    assert x_adv.abs().sum().item() == pytest.approx(0.25, rel=0.01)


def test_a_success_needs_the_confidence():
    x_adv = asked(L1(math.inf, BOUNDS), confidence=0.15)[1]
    assert 0.15 <= halfspace(x_adv)[0, 1] < 0.17


def test_the_way_is_the_same_whatever_the_ball():
    path, anywhere = asked(L1(math.inf, BOUNDS), steps=90)
    seen, x_adv = asked(L1(0.26, BOUNDS), steps=90)
    assert seen == path
    assert torch.equal(x_adv, anywhere)
    assert asked(L1(0.2, BOUNDS), steps=90)[1].abs().max() == 0
    assert asked(L1(0.2, BOUNDS), steps=1, init=points([0.3, 0.3]))[0][0] == [0.3, 0.3]


def test_rows_that_are_wrong_already_are_asked_about_once():
    seen = []

    def watched(z):
        seen.append(len(z))
        return halfspace(z)

    x = points([1.0, 1.0], [0.0, 0.0])
    assert torch.equal(ead(watched, x, Y.repeat(2), L1(math.inf), steps=5)[0], x[0])
    assert seen == [2, 1, 1, 1, 1, 1]


def test_what_it_does_not_take():
    x = points([0.0, 0.0])
    with pytest.raises(ValueError, match="ead weighs L1 against L2"):
        ead(halfspace, x, Y, Linf(1.0))
    with pytest.raises(ValueError, match="rounds"):
        ead(halfspace, x, Y, L1(1.0), rounds=0)
    with pytest.raises(TypeError, match="takes no loss"):
        ead(halfspace, x, Y, L1(1.0), loss="margin")
