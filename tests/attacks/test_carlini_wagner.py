"""Carlini and Wagner's attacks by hand, on models small enough to compute on paper. The closed form in L2 and Linf is a law."""

import math

import by_hand
import pytest
import torch
from by_hand import WIDE, Y, beside_the_closed_form, halfspace, points

from advlib import L0, L1, L2, Linf, carlini_wagner
from tests.laws.table import batch

BOUNDS = (-1.0, 0.3)


def asked(threat, model=halfspace, x=None, **settings):
    """The points that the model is asked about, from the origin, and the result."""
    return by_hand.asked(carlini_wagner, model, points([0.0, 0.0]) if x is None else x, threat, **settings)


def expected(linf, per_round, rounds, step_size, c, bounds=BOUNDS):
    """The points asked about, one number after another."""
    query, best, far, path = [0.0, 0.0], None, math.inf, [[0.0, 0.0]]
    for turn in range(rounds):
        mean, square = [0.0, 0.0], [0.0, 0.0]
        for step in range(per_round):
            success = 3 * query[0] + 4 * query[1] > 1
            distance = max(map(abs, query)) if linf else math.hypot(*query)
            if success and distance < far:
                best, far = query, distance
            fallen = (1 + math.cos(math.pi * step / per_round)) / 2
            limit, moved = (1 - 0.1 * fallen) * far, []
            for i, weight in enumerate((3, 4)):
                pull = math.copysign(abs(query[i]) > limit, query[i]) if linf else 2 * query[i]
                gradient = pull - (not success) * c * weight
                mean[i] = 0.9 * mean[i] + 0.1 * gradient
                square[i] = 0.999 * square[i] + 0.001 * gradient**2
                unbiased = mean[i] / (1 - 0.9 ** (step + 1))
                spread = math.sqrt(square[i] / (1 - 0.999 ** (step + 1)))
                longest = min(step_size * 0.7**turn, 0.2 * far if linf else math.inf)
                moved.append(min(max(query[i] - longest * fallen * unbiased / spread, bounds[0]), bounds[1]))
            c *= 0.95 if success else 1.05
            query = moved
            path.append(query)
        if best:
            query = path[-1] = best
    return path


@pytest.mark.parametrize(("norm", "power"), [(L2, 2), (Linf, math.inf)])
@pytest.mark.parametrize(
    "settings",
    [
        {"step_size": 0.05, "c": 0.1},
        {"step_size": 0.2, "c": 1.0},
        {"step_size": 0.03, "c": 0.1},  # the first round ends without a success, and the next goes on from there
    ],
)
def test_the_path(norm, power, settings):
    path = points(*expected(norm is Linf, 7, 4, **settings))
    seen, x_adv = asked(norm(math.inf, BOUNDS), steps=28, rounds=4, **settings)
    assert points(*seen).flatten().tolist() == pytest.approx(path.flatten().tolist(), abs=1e-12)
    lengths = torch.linalg.vector_norm(path[path @ points(3.0, 4.0) > 1], power, dim=1)
    assert torch.linalg.vector_norm(x_adv, power).item() == pytest.approx(lengths.min().item())


@pytest.mark.parametrize(
    ("norm", "given"),
    [
        (L2, {"rounds": 9, "step_size": 1.0}),
        (Linf, {"rounds": 1, "step_size": 0.02}),
        (L0, {"rounds": 6, "step_size": 0.5}),
    ],
)
def test_defaults(norm, given):
    threat = norm(math.inf, BOUNDS)
    assert asked(threat, steps=60)[0] == asked(threat, steps=60, c=1.0, confidence=0.0, **given)[0]
    if norm is Linf:
        assert len(asked(threat)[0]) == 1001


@pytest.mark.parametrize("norm", [L2, Linf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_exactly_at_the_bounds_move(norm, dtype):
    """As many would in the change of variable by a tanh, which has no slope there."""
    x = torch.tensor([[0.0, 1.0, 0.0, 1.0]], dtype=dtype)
    weight = torch.tensor([1.0, -1.0, 2.0, -2.0], dtype=dtype)

    def model(z):
        lead = (z - x) @ weight - 1.5
        return torch.stack([0 * lead, lead], dim=1)

    x_adv = carlini_wagner(model, x, Y, norm(math.inf), steps=600)
    least = {L2: 1.5 / 10**0.5, Linf: 1.5 / 6}[norm]
    assert norm(math.inf).distance(x_adv, x).item() == pytest.approx(least, rel=0.01)


@pytest.mark.parametrize("norm", [L2, Linf, L0])
def test_logits_that_are_all_negative(norm):
    seen, x_adv = asked(norm(math.inf, BOUNDS), steps=30)
    shifted, same = asked(norm(math.inf, BOUNDS), lambda z: halfspace(z) - 100, steps=30)
    assert points(*shifted).flatten().tolist() == pytest.approx(points(*seen).flatten().tolist(), abs=1e-9)
    assert x_adv.flatten().tolist() == pytest.approx(same.flatten().tolist(), abs=1e-9)
    assert x_adv.abs().max() > 0


@pytest.mark.parametrize("norm", [L2, Linf])
def test_a_success_needs_the_confidence(norm):
    x_adv = asked(norm(math.inf, BOUNDS), steps=400, confidence=0.15)[1]
    assert 0.15 <= halfspace(x_adv)[0, 1] < 0.16


def test_steps_suit_boundaries_that_are_far_nearer_than_the_first():
    def near(z):
        lead = z @ points(3.0, 4.0) - 0.001
        return torch.stack([0 * lead, lead], dim=1)

    x_adv = carlini_wagner(near, points([0.0, 0.0]), Y, Linf(math.inf, BOUNDS), steps=300)
    assert x_adv.abs().max().item() < 0.001 / 7 * 1.01


def test_a_row_goes_its_own_way():
    """None stops, changes its weight or begins a round because of others."""
    x, y = points([0.0, 0.0], [0.3, 0.0], [-0.9, -0.9]), Y.repeat(3)
    for norm in (L2, Linf, L0):
        together = carlini_wagner(halfspace, x, y, norm(math.inf, BOUNDS), steps=40)
        for row in range(3):
            alone = carlini_wagner(halfspace, x[row : row + 1], Y, norm(math.inf, BOUNDS), steps=40)
            assert torch.equal(together[row], alone[0])


def test_without_bounds():
    x_adv = asked(L2(math.inf, None), steps=600)[1]
    assert x_adv.norm().item() == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize("norm", [L2, Linf])
def test_whatever_the_scale_of_the_logits(norm, scale):
    """The weight of the margin comes near what it has to be."""
    x_adv = asked(norm(math.inf, BOUNDS), lambda z: scale * halfspace(z), steps=1000)[1]
    assert norm(math.inf).distance(x_adv, torch.zeros(1, 2)).item() <= {L2: 0.2, Linf: 1 / 7}[norm] * 1.15


def test_as_few_features_as_the_closed_form():
    """The largest products of weight and room, in falling order until they reach the lead; inputs at 0 and 1 included."""
    found, fewest = beside_the_closed_form(carlini_wagner, L0, steps=200)
    extra = found - fewest
    assert extra.min() == 0
    assert extra.max() <= 1
    assert (extra == 0).sum() >= 37


def five(z):
    """Class 1 where the weighted sum of five features is above 2: by the two heaviest, in full, and no fewer."""
    lead = z.flatten(1) @ points(0.1, 1.5, 0.2, 1.0, 0.3) - 2
    return torch.stack([0 * lead, lead], dim=1)


def test_features_are_given_up_by_their_worth():
    seen, x_adv = asked(L0(math.inf), five, torch.zeros(1, 5).double(), steps=40, rounds=4)
    assert x_adv.nonzero()[:, 1].tolist() == [1, 3]
    counts = (points(*seen) != 0).sum(1).tolist()
    success = (points(*seen) @ points(0.1, 1.5, 0.2, 1.0, 0.3) > 2).tolist()
    # all five until the first success; then those worth at least half the mean, less the least
    first = success.index(True)
    assert set(counts[1 : first + 1]) == {5}
    assert counts[first + 1] == 2
    # fewer never succeed, and after each round of ten steps half the share is tried, then less, but always one less
    second = first + 1 + success[first + 1 :].index(True)
    assert counts[second] == 2
    assert set(counts[second + 1 :]) == {1}
    assert not any(success[second + 1 :])


def test_half_the_share_after_a_round_without_success():
    """The worth of the five is 1, 1, 1, 0.3 and 0.1, its mean 0.68: half of it leaves three, too few, a fourth four."""
    weight = points(1.0, 1.0, 1.0, 0.3, 0.1)

    def model(z):
        lead = z @ weight - 3.1
        return torch.stack([0 * lead, lead], dim=1)

    seen, x_adv = asked(L0(math.inf), model, torch.zeros(1, 5).double(), steps=60, rounds=6, c=100.0)
    moved = (points(*seen) != 0).int()
    counts = moved.sum(1).tolist()
    assert [n for i, n in enumerate(counts) if n != counts[i - 1]] == [0, 5, 3, 4, 3]
    assert counts.count(3) >= 10  # a round and what came after
    assert x_adv.nonzero()[:, 1].tolist() == [0, 1, 2, 3]


def test_pixels_in_place_of_features():
    """One pixel with two channels is cheaper than two pixels; counted feature by feature all cost the same."""
    weight = points([[1.0, 0.0, 0.9], [1.0, 0.0, 0.0]])

    def model(z):
        return torch.stack([0 * z[:, 0, 0], (z * weight).sum((1, 2)) - 1.5], dim=1)

    x = torch.zeros(1, 2, 3).double()
    threat = L0(math.inf, per_pixel=True)
    x_adv = carlini_wagner(model, x, Y, threat, steps=100)
    assert threat.distance(x_adv, x).tolist() == [1]
    assert (x_adv[0, :, 0] > 0).all()


def test_a_pixel_is_worth_as_much_as_its_channels_together():
    """The first, 1.2, is enough alone, though neither of its channels is worth as much as the second's, 1."""
    weight = points([[0.6, 1.0], [0.6, 0.0]])

    def model(z):
        lead = (z * weight).sum((1, 2)) - 1.15
        return torch.stack([0 * lead, lead], dim=1)

    x = torch.zeros(1, 2, 2).double()
    x_adv = carlini_wagner(model, x, Y, L0(math.inf, per_pixel=True), steps=40, rounds=4, c=100.0)
    assert x_adv.abs().sum(1).nonzero()[:, 1].tolist() == [0]


def test_a_mask_is_kept_and_a_target_reached():
    torch.manual_seed(0)
    model = torch.nn.Linear(12, 4).double()
    x, mask = batch((12,), rows=8), torch.arange(12) % 2 == 0
    wanted = (model(x).argmax(1) + 1) % 4
    for norm in (L2, Linf, L0):
        x_adv = carlini_wagner(
            model, x, wanted, norm(math.inf, (-9.0, 9.0), mask=mask), steps=60, step_size=1.0, targeted=True
        )
        assert (model(x_adv).argmax(1) == wanted).all()
        assert torch.equal(x_adv[:, ~mask], x[:, ~mask])


@pytest.mark.parametrize(("norm", "enough", "little"), [(L2, 0.21, 0.19), (Linf, 0.16, 0.1), (L0, 1, 0)])
def test_the_way_is_the_same_whatever_the_ball(norm, enough, little):
    path, anywhere = asked(norm(math.inf, WIDE), steps=90)
    seen, x_adv = asked(norm(enough, WIDE), steps=90)
    assert seen == path
    assert torch.equal(x_adv, anywhere)
    assert asked(norm(little, WIDE), steps=90)[1].abs().max() == 0
    assert asked(norm(little, WIDE), steps=1, init=points([0.3, 0.3]))[0][0] == [0.3, 0.3]


def test_rows_that_are_wrong_already_are_asked_about_once():
    seen = []

    def watched(z):
        seen.append(len(z))
        return halfspace(z)

    x = points([1.0, 1.0], [0.0, 0.0])
    assert torch.equal(carlini_wagner(watched, x, Y.repeat(2), L2(math.inf), steps=5)[0], x[0])
    assert seen == [2, 1, 1, 1, 1, 1]


def test_a_row_without_a_gradient_stays_where_it_is():
    def flat(z):
        return torch.stack([3 + 0 * z[:, 0], 0 * z[:, 0]], dim=1)

    x = batch((3,), rows=2)
    for norm in (L2, Linf, L0):
        with pytest.warns(UserWarning, match="never had a nonzero"):
            assert torch.equal(carlini_wagner(flat, x, Y.repeat(2), norm(math.inf), steps=20), x)


def test_what_it_does_not_take():
    x = points([0.0, 0.0])
    with pytest.raises(ValueError, match="take ead for L1"):
        carlini_wagner(halfspace, x, Y, L1(1.0))
    with pytest.raises(ValueError, match="rounds"):
        carlini_wagner(halfspace, x, Y, L2(1.0), rounds=0)
    with pytest.raises(TypeError, match="takes no loss"):
        carlini_wagner(halfspace, x, Y, L2(1.0), loss="margin")
