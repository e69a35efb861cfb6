"""DDN by hand, on models small enough to compute on paper. That it reaches the closed form is a law."""

import math
from functools import partial

import by_hand
import pytest
import torch
from by_hand import WIDE, Y, beside_the_closed_form, curved, halfspace, points

from advlib import L2, Linf, ddn
from advlib.models import Counted

asked = partial(by_hand.asked, ddn)


def length(step, steps):
    return 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2


@pytest.mark.parametrize(("gamma", "eps_init"), [(0.05, 1.0), (0.2, 0.3)])
def test_the_radius_shrinks_after_a_success_and_grows_after_a_failure_by_less_and_less(gamma, eps_init):
    seen, x_adv = asked(halfspace, points([0.0, 0.0]), L2(math.inf, WIDE), steps=60, gamma=gamma, eps_init=eps_init)
    radius, path = eps_init, [0.0]
    for step in range(60):
        change = gamma * length(step, 60)
        radius *= 1 - change if path[-1] > 0.2 else 1 + change
        path.append(radius)
    assert points(*seen).norm(dim=1).tolist() == pytest.approx(path)
    assert points(*seen[1:])[:, 0].tolist() == pytest.approx([0.6 * radius for radius in path[1:]])
    assert x_adv.norm().item() == pytest.approx(min(radius for radius in path if radius > 0.2))


def test_the_defaults_are_the_papers():
    seen, _ = asked(halfspace, points([0.0, 0.0]), L2(math.inf, WIDE))
    assert len(seen) == 101
    assert seen[1] == pytest.approx([1.05 * 0.6, 1.05 * 0.8])


def test_a_step_turns_the_direction():
    """From (0, 1), a success, by the unit gradient to (0.6, 1.8), and back to the smaller sphere."""
    settings = {"steps": 4, "init": points([0.0, 1.0])}
    seen, _ = asked(halfspace, points([0.0, 0.0]), L2(math.inf, WIDE), **settings)
    size = math.hypot(0.6, 1.8)
    first = [0.95 * 0.6 / size, 0.95 * 1.8 / size]
    assert seen[1] == pytest.approx(first)
    turned = [first[0] + length(1, 4) * 0.6, first[1] + length(1, 4) * 0.8]
    radius = 0.95 * (1 - 0.05 * length(1, 4)) / math.hypot(*turned)
    assert seen[2] == pytest.approx([radius * part for part in turned])


def test_the_loss_can_be_chosen():
    x, threat = points([0.1, 0.2, -0.3]), L2(math.inf, WIDE)
    entropy, chosen = (asked(curved, x, threat, steps=3, loss=loss)[0] for loss in ("cross_entropy", "margin"))
    assert entropy[1] != pytest.approx(chosen[1])
    assert entropy == asked(curved, x, threat, steps=3)[0]


def test_what_comes_back_is_the_nearest_success_asked_about():
    x = points([0.1, 0.2, -0.3])
    seen, x_adv = asked(curved, x, L2(math.inf, WIDE), steps=30)
    seen = points(*seen)
    distance = torch.where(curved(seen).argmax(1) != 0, (seen - x).norm(dim=1), math.inf)
    assert torch.equal(x_adv[0], seen[distance.argmin()])


def test_closed_form_with_features_at_either_bound():
    distance, least = beside_the_closed_form(ddn, L2, steps=300)
    ratio = distance / least
    assert ratio.min() > 1 - 1e-9
    assert ratio.max() < 1.01


def test_every_point_asked_about_is_within_bounds_and_mask():
    x, mask = points([0.9, 0.1, 0.4]), torch.tensor([True, True, False])
    threat = L2(math.inf, mask=mask)
    seen, _ = asked(curved, x, threat, steps=10)
    seen = points(*seen)
    assert threat.contains(seen, x.expand_as(seen)).all()
    assert (seen == 1).any()


def test_the_way_is_the_same_whatever_the_ball():
    """The first points are outside it."""
    x = points([0.0, 0.0])
    path, anywhere = asked(halfspace, x, L2(math.inf, WIDE), init=points([-4.0, 0.0]))
    far = anywhere.norm().item()
    seen, x_adv = asked(halfspace, x, L2(1.01 * far, WIDE), init=points([-4.0, 0.0]))
    assert seen == path
    assert torch.equal(x_adv, anywhere)
    _, x_adv = asked(halfspace, x, L2(0.99 * far, WIDE), init=points([-4.0, 0.0]))
    assert torch.equal(x_adv, x)


def test_each_row_has_a_radius_of_its_own():
    x = points([0.0, 0.0], [-1.0, -2.0], [1.0, 1.0])
    together = ddn(halfspace, x, Y.repeat(3), L2(math.inf, WIDE), steps=80)
    for row in range(3):
        assert torch.equal(together[row : row + 1], ddn(halfspace, x[row : row + 1], Y, L2(math.inf, WIDE), steps=80))
    assert torch.equal(together[2], x[2])  # wrong already


def test_targeted_reaches_the_class_wanted():
    x_adv = ddn(curved, points([0.1, 0.2, -0.3]), torch.tensor([2]), L2(math.inf, WIDE), targeted=True)
    assert curved(x_adv).argmax(1).tolist() == [2]


def test_first_stops_at_a_success_within_eps():
    counted = Counted(halfspace)
    x_adv = ddn(counted, points([0.0, 0.0]), Y, L2(2.0, WIDE), keep="first")
    assert counted.forwards == 2
    assert x_adv.norm().item() == pytest.approx(1.05)


def test_it_needs_an_l2_ball():
    with pytest.raises(ValueError, match="DDN needs an L2 ball, got Linf: take fmn"):
        ddn(halfspace, points([0.0, 0.0]), Y, Linf(1.0))
