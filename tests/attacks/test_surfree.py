"""SurFree by hand, in two dimensions, where there is one plane. That it reaches the closed form is a law."""

import math

import pytest
import torch
from by_hand import WIDE, Y, halfspace, points

from advlib import L2, surfree
from tests.laws.table import seeded

X = points([0.0, 0.0])
INIT = points([1.0, 0.0])


def asked(model, x, threat, **settings):
    """The points that the model is asked about, and the result."""
    seen = []

    def watched(z):
        seen.extend(z.unbind())
        return model(z)

    return seen, surfree(watched, x, Y, threat, generator=seeded(), **settings)


def success(point):
    return bool(halfspace(point[None]).argmax(1) == 1)


def on_circle(point, angle):
    """Where the ray at an angle to the one to ``point`` leaves the circle of which that is a diameter."""
    turn = points([math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)])
    return math.cos(angle) * turn @ point


@pytest.mark.parametrize("angle", [30.0, 10.0])
def test_planes(angle):
    """Follows every question of a run; which side of the plane comes first is drawn."""
    settings = {} if angle == 30.0 else {"angle": angle}
    seen, x_adv = asked(halfspace, X, L2(math.inf, WIDE), init=INIT, queries=80, **settings)
    least, most = 0.0, 1.0
    assert torch.equal(seen[1], INIT[0])
    number = 2
    while most - least > 0.01:
        middle = (least + most) / 2
        assert torch.allclose(seen[number], middle * INIT[0])
        least, most = (least, middle) if 3 * middle > 1 else (middle, most)
        number += 1
    point, widest = most * INIT[0], math.radians(angle)
    turned = {1: 0, -1: 0}
    while number < 79:
        first = seen[number]
        side = 1 if torch.allclose(first, on_circle(point, widest)) else -1
        turned[side] += 1
        found, size = None, 0.0
        for sign in (side, -side):
            if number == 79:
                break
            assert torch.allclose(seen[number], on_circle(point, sign * widest), atol=1e-12)
            number += 1
            if success(seen[number - 1]):
                found, size, large = seen[number - 1], widest, 2 * widest
                break
        if found is None:
            widest *= 0.9
            continue
        widest = min(widest / 0.9, math.pi / 4)
        for _ in range(min(2, 79 - number)):
            middle = (size + large) / 2
            assert torch.allclose(seen[number], on_circle(point, sign * middle), atol=1e-12)
            if success(seen[number]):
                found, size = seen[number], middle
            else:
                large = middle
            number += 1
        point = found
    assert torch.equal(seen[79], x_adv[0])
    assert 0.2 <= x_adv.norm().item() < 0.2002
    assert turned[1] > 3 < turned[-1]


def test_the_widest_angle_is_half_a_right_one():
    """Success everywhere but at x itself: it would grow until its bisection comes out on the other side of x."""

    def model(z):
        lead = z.abs().sum(1, keepdim=True) - 1e-30
        return torch.cat([0 * lead, lead], dim=1)

    seen, _ = asked(model, X, L2(math.inf, WIDE), init=INIT, queries=60)
    lengths = torch.stack(seen)[8:].norm(dim=1)  # from the end of the bisection
    expected, widest = [lengths[0].item()], math.pi / 6
    for _ in range(10):  # planes: the widest angle, and two bisections on towards twice as much
        point = expected[-1]
        expected += [point * math.cos(share * widest) for share in (1, 1.5, 1.75)]
        widest = min(widest / 0.9, math.pi / 4)
    assert lengths[:31].tolist() == pytest.approx(expected)


def test_a_point_that_the_bounds_cut_counts_as_it_is():
    """Success within a band that the circle meets beyond the bounds alone, where clamping makes it no nearer."""

    def model(z):
        lead = (z[:, :1] - 0.2).clamp(max=0.01) + 0 * z[:, 1:]
        return torch.cat([0 * lead, lead], dim=1)

    x, threat = points([0.0, 0.9]), L2(math.inf)
    seen, x_adv = asked(model, x, threat, init=points([0.9, 0.2]), queries=200)
    assert threat.contains(torch.stack(seen), x.expand(len(seen), -1)).all()
    assert x_adv[0].tolist() == pytest.approx([0.2, 0.9], abs=3e-3)


def test_masked_features_take_no_part_in_planes():
    mask = torch.tensor([True, True, False, False, False, False])

    def model(z):
        return halfspace(z[:, :2])

    x = torch.zeros(1, 6, dtype=torch.float64)
    init = torch.cat([INIT, torch.zeros(1, 4).double()], dim=1)
    seen, x_adv = asked(model, x, L2(math.inf, WIDE, mask=mask), init=init, queries=80)
    assert x_adv.norm().item() < 0.2002
    first = torch.stack(seen)[9:11].norm(dim=1)
    start = torch.stack(seen)[:9].norm(dim=1)
    least = min(length for length in start.tolist() if length > 1 / 3)
    assert first[0].item() == pytest.approx(least * math.cos(math.pi / 6))  # the other direction has its whole length
