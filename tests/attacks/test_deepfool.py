"""DeepFool by hand, on models small enough to compute on paper. That it reaches the closed form is a law."""

import math
from functools import partial

import by_hand
import pytest
import torch
from by_hand import WIDE, Y, beside_the_closed_form, classifier, points

from advlib import L0, L1, L2, Linf, deepfool
from advlib.attacks.deepfool import DeepFool
from advlib.models import Counted
from advlib.search import search

asked = partial(by_hand.asked, deepfool)


HALFSPACE = classifier([[3.0, 4.0]], [-1.0])  # from the origin: 0.2 away in L2, 1/7 in Linf
SEVERAL = classifier([[0.5, 0.5], [0.9, 0.9], [0.0, 1.0]], [-0.9, -1.0, -1.0])


@pytest.mark.parametrize(
    ("threat", "nearest"), [(Linf(math.inf, WIDE), (1 / 7, 1 / 7)), (L2(math.inf, WIDE), (0.12, 0.16))]
)
@pytest.mark.parametrize("beyond", [0.001, 0.02])
def test_the_nearest_point_of_a_boundary_and_a_little_beyond(threat, nearest, beyond):
    settings = {} if beyond == 0.001 else {"overshoot": beyond}
    seen, x_adv = asked(HALFSPACE, points([0.0, 0.0]), threat, **settings)
    assert seen == [[0.0, 0.0], pytest.approx([(1 + beyond) * part for part in nearest])]
    assert x_adv[0].tolist() == seen[1]


def test_the_overshoot_does_not_add_up():
    """A boundary at 4 that seems nearer: the way goes on from the point on the linearized boundary."""

    def model(z):
        return torch.cat([0 * z, z.sqrt() - 2], dim=1)

    seen, x_adv = asked(model, points([1.0]), L2(math.inf, (0.0, 50.0)), overshoot=0.1)
    assert seen[:2] == [[1.0], [pytest.approx(1 + 1.1 * 2)]]
    slope = 1 / (2 * math.sqrt(3.2))
    point = 3 + (2 - math.sqrt(3.2) + slope * 0.2) / slope
    assert seen[2:] == [[pytest.approx(1 + 1.1 * (point - 1))]]
    assert x_adv.item() == seen[2][0] > 4


@pytest.mark.parametrize(("norm", "nearest"), [(Linf, 1 / 1.8), (L2, 0.9 / 1.62)])
def test_of_several_boundaries_the_nearest_in_the_norm(norm, nearest):
    """The first lead is the least behind, but its slope is smallest; the last is nearest in neither norm."""
    seen, _ = asked(SEVERAL, points([0.0, 0.0]), norm(math.inf, WIDE))
    assert seen[1] == pytest.approx([1.001 * nearest] * 2)


def test_candidates_are_those_that_lead_most():
    seen, _ = asked(SEVERAL, points([0.0, 0.0]), L2(math.inf, WIDE), candidates=1)
    assert seen[1] == pytest.approx([1.001 * 0.9] * 2)
    for candidates, passes in ((1, 1), (2, 2), (9, 3)):
        counted = Counted(SEVERAL)
        deepfool(counted, points([0.0, 0.0]), Y, L2(math.inf, WIDE), candidates=candidates)
        assert (counted.forwards, counted.backwards) == (2, 2 * passes)


@pytest.mark.parametrize("norm", [Linf, L2])
def test_closed_form_with_features_at_either_bound(norm):
    distance, least = beside_the_closed_form(deepfool, norm)
    ratio = distance / least
    assert ratio.min() > 1 - 1e-9
    assert ratio.max() < 1.01


@pytest.mark.parametrize("norm", [Linf, L2])
def test_every_point_asked_about_is_within_bounds_and_mask(norm):
    """The overshoot too: the boundary is just before the bound of the first feature; the third may not move."""
    model = classifier([[1.0, 0.01, 1.0]], [-1.99])
    x, mask = points([0.7, 0.0, 0.99]), torch.tensor([True, True, False])
    seen, x_adv = asked(model, x, norm(math.inf, mask=mask), overshoot=0.1)
    seen = points(*seen)
    assert norm(math.inf, mask=mask).contains(seen, x.expand_as(seen)).all()
    assert (seen == 1).any()
    assert model(x_adv).argmax(1).item() == 1


@pytest.mark.parametrize("norm", [Linf, L2])
def test_the_way_is_the_same_whatever_the_ball(norm):
    path, anywhere = asked(HALFSPACE, points([0.0, 0.0]), norm(math.inf, WIDE), init=points([-4.0, 0.0]))
    far = norm(math.inf).distance(anywhere, torch.zeros(1, 2)).item()
    seen, x_adv = asked(HALFSPACE, points([0.0, 0.0]), norm(1.01 * far, WIDE), init=points([-4.0, 0.0]))
    assert seen == path
    assert torch.equal(x_adv, anywhere)
    _, x_adv = asked(HALFSPACE, points([0.0, 0.0]), norm(0.98 * far, WIDE), init=points([-4.0, 0.0]))
    assert torch.equal(x_adv, torch.zeros_like(x_adv))


def test_a_row_without_a_success_in_the_ball_comes_back_clean():
    """Though a point within it raised the loss: the boundary, at 4, seems to be at 3 at first."""

    def model(z):
        return torch.cat([0 * z, z.sqrt() - 2], dim=1)

    x = points([1.0])
    assert deepfool(model, x, Y, L2(2.5, (0.0, 50.0))).item() == 1
    assert deepfool(model, x, Y, L2(3.5, (0.0, 50.0))).item() == pytest.approx(4, rel=1e-2)
    assert deepfool(model, x, Y, L2(2.5, (0.0, 50.0)), keep="strongest").item() == pytest.approx(3.002)


def test_a_row_that_is_done_stays_until_it_is_dropped():
    class Kept(DeepFool):
        def finished(self, state):
            return None

    seen = []

    def watched(z):
        seen.append(z[0].tolist())
        return HALFSPACE(z)

    search(watched, points([0.0, 0.0]), Y, L2(math.inf, WIDE), Kept(), steps=3, keep="nearest")
    assert seen[1] == seen[2] == seen[3] != seen[0]


def test_targeted_reaches_the_class_wanted():
    model = classifier([[1.0, 0.0], [0.0, 1.0]], [-1.0, -2.0])
    x_adv = deepfool(model, points([0.0, 0.0]), torch.tensor([2]), L2(math.inf, WIDE), targeted=True)
    assert x_adv[0].tolist() == pytest.approx([0.0, 2.002])


def test_rows_stop_at_their_first_success_and_without_a_gradient_stay():
    """Of three rows one is wrong already, and one has no slope to follow."""

    def model(z):
        return torch.cat([0 * z[:, :1], (z - 1).clamp_min(-1).sum(1, keepdim=True)], dim=1)

    x = points([2.0], [0.5], [-1.0])
    with pytest.warns(UserWarning, match="1 of 3 rows never had a nonzero, finite gradient"):
        found = search(model, x, Y.repeat(3), L2(math.inf, WIDE), DeepFool(), steps=5, keep="nearest")
    assert found.x_adv.flatten().tolist() == pytest.approx([2.0, 0.5 + 1.001 * 0.5, -1.0])
    assert found.forwards.tolist() == [1, 2, 6]
    assert found.success.tolist() == [True, True, False]


def test_logits_are_read_from_what_the_model_returns():
    x, threat = points([0.0, 0.0]), L2(math.inf, WIDE)
    packed = deepfool(lambda z: {"logits": SEVERAL(z)}, x, Y, threat, logits_of=lambda output: output["logits"])
    assert torch.equal(packed, deepfool(SEVERAL, x, Y, threat))


def test_what_it_does_not_take():
    x = points([0.0, 0.0])
    for threat in (L1(1.0), L0(1)):
        with pytest.raises(ValueError, match="DeepFool needs a Linf or L2 ball, got L"):
            deepfool(HALFSPACE, x, Y, threat)
    with pytest.raises(TypeError, match="takes no loss"):
        deepfool(HALFSPACE, x, Y, L2(1.0), loss="margin")
    with pytest.raises(ValueError, match="candidates must be a whole number of at least 1, got 0"):
        deepfool(HALFSPACE, x, Y, L2(1.0), candidates=0)
