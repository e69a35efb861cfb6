"""The boundary attack by hand, in two dimensions. That it reaches the closed form is a law."""

import math

import pytest
import torch
from by_hand import WIDE, Y, halfspace, points

from advlib import L2, boundary_attack
from tests.laws.table import seeded

X = points([0.0, 0.0])
INIT = points([1.0, 0.0])


def asked(model, x, threat, **settings):
    """The points that the model is asked about, and the result."""
    seen = []

    def watched(z):
        seen.extend(z.unbind())
        return model(z)

    return seen, boundary_attack(watched, x, Y, threat, generator=seeded(), **settings)


@pytest.mark.parametrize(("aside", "nearer"), [(0.1, 0.02), (0.5, 0.3)])
def test_a_walk(aside, nearer):
    """Follows every question of a run; to which side a step leads is drawn."""
    settings = {} if aside == 0.1 else {"aside": aside, "nearer": nearer}
    seen, x_adv = asked(halfspace, X, L2(math.inf, WIDE), init=INIT, queries=300, **settings)
    number, (least, most) = 2, (0.0, 1.0)
    while most - least > 0.01:
        middle = (least + most) / 2
        assert torch.allclose(seen[number], middle * INIT[0])
        least, most = (least, middle) if 3 * middle > 1 else (middle, most)
        number += 1
    point, sides, kept = most * INIT[0], {1: 0, -1: 0}, 0
    for step in range(1, 299 - number + 1):
        length, across = point.norm(), points([-point[1], point[0]])[0] / point.norm()
        side = 1 if seen[number] @ across > 0 else -1
        sides[side] += 1
        turned = point / length + side * aside * across
        sphere = length * turned / turned.norm()
        success = bool(halfspace(seen[number][None]).argmax(1) == 1)
        if step % 5 == 0:
            assert torch.allclose(seen[number], sphere)
            aside *= 1.3 if success else 1 / 1.3
        else:
            assert torch.allclose(seen[number], (1 - nearer) * sphere)
            point = seen[number] if success else point
            nearer = min(nearer * 1.05**3, 0.5) if success else nearer / 1.05
            kept += success
        number += 1
    assert number == 299
    assert torch.equal(seen[299], x_adv[0])
    assert sides[1] > 50 < sides[-1]
    assert kept > 5
    assert x_adv.norm().item() < 0.21


def test_the_step_towards_x_is_at_most_half_the_way():
    """Success everywhere but at x itself: it would grow without end."""

    def model(z):
        lead = z.abs().sum(1, keepdim=True) - 1e-30
        return torch.cat([0 * lead, lead], dim=1)

    seen, _ = asked(model, X, L2(math.inf, WIDE), init=INIT, queries=100, nearer=0.4)
    lengths = torch.stack(seen)[8:99].norm(dim=1)  # from the end of the bisection
    assert (lengths[1:4] / lengths[:3]).tolist() == pytest.approx([0.6, 1 - 0.4 * 1.05**3, 0.5])
    assert (lengths[1:] / lengths[:-1]).min() >= 0.5 - 1e-9


def test_a_row_whose_steps_are_nothing_is_done():
    """Success on a half-line alone, which no step aside meets."""

    def model(z):
        lead = torch.where(z[:, 1:] == 0, z[:, :1] - 0.5, -1.0)
        return torch.cat([0 * lead, lead], dim=1)

    seen, x_adv = asked(model, X, L2(math.inf, WIDE), init=INIT, queries=1000)
    assert x_adv[0].tolist() == pytest.approx([0.5, 0.0], abs=0.01)
    questions = math.ceil(math.log(0.02 / 1e-7) / math.log(1.05))  # four of five shorten the step towards x
    assert len(seen) == pytest.approx(10 + questions * 5 / 4, abs=2)


def test_masked_features_take_no_part_in_steps():
    mask = torch.tensor([True, True, False, False, False, False])

    def model(z):
        return halfspace(z[:, :2])

    x = torch.zeros(1, 6, dtype=torch.float64)
    init = torch.cat([INIT, torch.zeros(1, 4).double()], dim=1)
    seen, _ = asked(model, x, L2(math.inf, WIDE, mask=mask), init=init, queries=20)
    start = torch.stack(seen)[:9].norm(dim=1)
    least = min(length for length in start.tolist() if length > 1 / 3)
    assert seen[9].norm().item() == pytest.approx(0.98 * least)
    assert abs(math.atan2(seen[9][1], seen[9][0])) == pytest.approx(math.atan(0.1))
