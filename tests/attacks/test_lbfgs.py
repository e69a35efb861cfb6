"""The L-BFGS attack by hand, on models small enough to compute on paper. That it reaches the closed form is a law."""

import math

import by_hand
import pytest
import torch
from by_hand import WIDE, Y, beside_the_closed_form, curved, halfspace, points
from torch import nn

import advlib
from advlib import L2, Linf, lbfgs
from advlib.losses import cross_entropy
from tests.laws.table import batch

ORIGIN = points([0.0, 0.0])


def asked(threat, model=halfspace, x=ORIGIN, **settings):
    return by_hand.asked(lbfgs, model, x, threat, **settings)


def weight_of(end):
    """The c of which a point on the way from the origin along (3, 4) is the minimum, from the stationary equation."""
    length = end.norm()
    margin = 5 * length - 1
    return float(2 * length / (5 * torch.sigmoid(-margin)))


def test_a_search_ends_where_the_gradient_is_zero():
    """There 2 * distance = c * 5 * (1 - p)."""
    for c in (0.01, 0.1, 0.5):
        end = points(*asked(L2(math.inf, WIDE), steps=60, searches=1, c=c)[0])[-1]
        assert weight_of(end) == pytest.approx(c, rel=1e-3)


@pytest.mark.parametrize(
    ("c", "tried"),
    [
        (0.01, [0.01, 0.1, 1.0, 0.1**0.5, 10**-0.75]),  # the least that is enough is 0.16
        (3.0, [3.0, 0.3, 0.03, 0.03 * 10**0.5, 0.03 * 10**0.75]),
    ],
)
def test_the_weights_that_are_tried(c, tried):
    """Ten times until one is enough or a tenth until one is not, then the geometric mean of these two."""
    least = 2 * 0.2 / (5 * 0.5)
    for count in range(1, 6):
        seen, x_adv = asked(L2(math.inf, WIDE), steps=200 * count, searches=count, c=c)
        assert weight_of(points(*seen)[-1]) == pytest.approx(tried[count - 1], rel=1e-3)
        enough = [one for one in tried[:count] if one > least]
        if enough:
            assert x_adv.norm() >= 0.2
            assert weight_of(x_adv[0]) <= 1.001 * min(enough)


def test_a_search_begins_at_the_lowest_point_of_the_one_before():
    first, _ = asked(L2(math.inf, WIDE), steps=5, searches=1)
    both, _ = asked(L2(math.inf, WIDE), steps=10, searches=2)
    assert both[:5] == first
    margin = points(*first) @ points(3.0, 4.0) - 1
    values = points(*first).square().sum(1) + nn.functional.softplus(-margin)
    assert values.argmin() > 0
    assert both[5] == first[values.argmin()]


def test_as_near_as_the_closed_form():
    found, least = beside_the_closed_form(lbfgs, L2, steps=100)
    assert (found / least).max() < 1.001


def test_no_more_steps_than_told_and_no_more_passes_than_steps():
    for steps in (1, 2, 7, 40):
        seen = asked(L2(math.inf, WIDE), curved, points([0.2, 0.1, 0.3]), steps=steps)[0]
        assert len(seen) == steps


def test_the_nearest_comes_back_of_all_points_asked_about():
    seen, x_adv = asked(L2(math.inf, WIDE), curved, points([0.2, 0.1, 0.3]), steps=40)
    seen = points(*seen)
    far = (seen - points([0.2, 0.1, 0.3])).norm(dim=1)[curved(seen).argmax(1) != 0]
    assert far[-1] > far.min()
    assert (x_adv - points([0.2, 0.1, 0.3])).norm() == far.min()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_exactly_at_the_bounds(dtype):
    x = torch.tensor([[0.0, 1.0, 0.0, 1.0]], dtype=dtype)
    weight = torch.tensor([1.0, -1.0, -2.0, 2.0], dtype=dtype)  # the last two have no room

    def model(z):
        lead = (z - x) @ weight - 0.5
        return torch.stack([0 * lead, lead], dim=1)

    x_adv = lbfgs(model, x, Y, L2(math.inf))
    assert x_adv.dtype == dtype
    assert L2(math.inf).distance(x_adv, x).item() == pytest.approx(0.5 / 2**0.5, rel=0.01)
    assert torch.equal(x_adv[:, 2:], x[:, 2:])


def test_a_targeted_attack_by_the_cross_entropy():
    """With log-odds, softplus(-loss) is the cross-entropy of the wanted class."""
    torch.manual_seed(0)
    model, x = nn.Linear(6, 4).double(), batch((6,), rows=3)
    wanted = (model(x).argmax(1) + 1) % 4
    threat = L2(math.inf, WIDE)
    x_adv = lbfgs(model, x, wanted, threat, loss="log_odds", targeted=True)
    assert (model(x_adv).argmax(1) == wanted).all()
    end = by_hand.asked(lbfgs, model, x[:1], threat, wanted[:1], loss="log_odds", targeted=True, searches=1)[0][-1]
    end = points(end).requires_grad_()
    value = (end - x[:1]).square().sum() - cross_entropy(model(end), wanted[:1], wanted[:1]).sum()
    assert torch.autograd.grad(value, end)[0].abs().max() < 1e-4


def test_the_way_is_the_same_whatever_the_ball():
    path, anywhere = asked(L2(math.inf, WIDE))
    seen, x_adv = asked(L2(0.21, WIDE))
    assert seen == path
    assert torch.equal(x_adv, anywhere)
    assert asked(L2(0.19, WIDE))[1].abs().max() == 0


def test_rows_that_are_wrong_already_are_asked_about_once():
    x = points([1.0, 1.0], [0.0, 0.0])
    seen = []

    def watched(z):
        seen.append(z[0].tolist())
        return halfspace(z)

    x_adv = lbfgs(watched, x, Y.repeat(2), L2(math.inf, WIDE), steps=30)
    assert torch.equal(x_adv[0], x[0])
    assert seen.count([1.0, 1.0]) == 1


def test_other_gradients_other_outputs():
    source = advlib.gradients.finite_differences()
    x_adv = lbfgs(lambda z: halfspace(z.detach()), ORIGIN, Y, L2(math.inf, WIDE), steps=100, gradient=source)
    assert x_adv.norm().item() == pytest.approx(0.2, rel=0.01)  # autograd has none to give
    x_adv = lbfgs(lambda z: {"scores": halfspace(z)}, ORIGIN, Y, L2(math.inf, WIDE), logits_of=lambda o: o["scores"])
    assert x_adv.norm().item() == pytest.approx(0.2, rel=0.01)


def test_what_it_does_not_take():
    with pytest.raises(ValueError, match="lbfgs needs an L2 ball, got Linf"):
        lbfgs(halfspace, ORIGIN, Y, Linf(1.0))
    for name in ("steps", "searches", "batch_size"):
        with pytest.raises(ValueError, match=name):
            lbfgs(halfspace, ORIGIN, Y, L2(1.0), **{name: 0})
