"""Sigma-zero by hand, on models small enough to compute on paper."""

import math
from functools import partial

import by_hand
import pytest
import torch
from by_hand import Y, halfspace, points

from advlib import L0, L2, sigma_zero
from tests.laws.table import batch, classes

asked = partial(by_hand.asked, sigma_zero)
BOUNDS = (-1.0, 3.0)


def expected(steps, step_size, sigma, threshold, rate):
    """The points asked about, one number after another; bounds of width 4."""
    change, mean, square, path = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [[0.0, 0.0]]
    for step in range(steps):
        failed = 3 * 4 * change[0] + 4 * 4 * change[1] <= 1
        descent = [
            d * 2 * sigma / (d * d + sigma) ** 2 / 2 - failed * 4 * w for d, w in zip(change, (3, 4), strict=True)
        ]
        largest = max(abs(d) for d in descent) or 1
        mean = [0.9 * m + 0.1 * d / largest for m, d in zip(mean, descent, strict=True)]
        square = [0.999 * v + 0.001 * (d / largest) ** 2 for v, d in zip(square, descent, strict=True)]
        length = step_size * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2)
        rise, fall = 1 - 0.9 ** (step + 1), 1 - 0.999 ** (step + 1)
        way = [m / rise / max(math.sqrt(v / fall), 1e-8) for m, v in zip(mean, square, strict=True)]
        change = [min(max(d - length * part, -0.25), 0.75) for d, part in zip(change, way, strict=True)]
        threshold = max(threshold + rate * length * (-1 if failed else 1), 0)
        change = [d if abs(d) >= threshold else 0.0 for d in change]
        path.append([4 * d for d in change])
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"step_size": 1.0, "sigma": 1e-3, "threshold": 0.3, "rate": 0.01},  # the paper's
        {"step_size": 0.1, "sigma": 1e-2, "threshold": 0.08, "rate": 0.1},
        {"step_size": 0.04, "sigma": 1e-3, "threshold": 0.001, "rate": 0.1},  # falls to 0, and would below
    ],
)
def test_the_path(settings):
    seen, _ = asked(halfspace, points([0.0, 0.0]), L0(math.inf, BOUNDS), steps=12, **settings)
    path = expected(12, **settings)
    assert points(*seen).flatten().tolist() == pytest.approx(points(*path).flatten().tolist())
    assert any(3 * a + 4 * b > 1 for a, b in path[:-2])  # it has succeeded on the way, and failed again


def test_defaults_are_the_papers():
    x = points([0.0, 0.0])
    paper = {"step_size": 1.0, "sigma": 1e-3, "threshold": 0.3, "rate": 0.01}
    default, given = (asked(halfspace, x, L0(math.inf, BOUNDS), steps=9, **kwargs)[0] for kwargs in ({}, paper))
    assert default == given


def test_as_few_features_as_the_closed_form_on_linear_models():
    """The largest gains, gradient times room, in falling order until they reach the lead; some inputs at 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, generator=generator).double()
    x = batch((30,), rows=20)

    def model(z):
        return torch.stack([0 * z[:, 0], z @ weight - x @ weight - 4.0], dim=1)

    gain = torch.where(weight > 0, 1 - x, x) * weight.abs()
    reached = gain.sort(1, descending=True).values.cumsum(1) > 4.0
    fewest = 1 + (~reached).sum(1)
    result = sigma_zero(model, x, Y.expand(20), L0(math.inf), steps=300)
    assert (model(result).argmax(1) == 1).all()
    extra = (result != x).sum(1) - fewest  # a threshold for all of a row's features may keep one too many
    assert extra.min() == 0
    assert extra.max() <= 1
    assert (extra == 0).sum() >= 18
    nothing = sigma_zero(model, x, Y.expand(20), L0(fewest - 1.0), steps=300)
    assert torch.equal(nothing, x)


def test_pixels_in_place_of_features():
    """One pixel with two channels is cheaper than two pixels; counted feature by feature all cost the same."""
    weight = points([[1.0, 0.0, 0.9], [1.0, 0.0, 0.0]])

    def model(z):
        return torch.stack([0 * z[:, 0, 0], (z * weight).sum((1, 2)) - 1.5], dim=1)

    x = torch.zeros(1, 2, 3).double()
    threat = L0(math.inf, per_pixel=True)
    result = sigma_zero(model, x, Y, threat, steps=100)
    assert threat.distance(result, x).tolist() == [1]
    assert (result[0, :, 0] > 0).all()
    # a pixel is as large as its change is long: 0.22 and 0.22 are 0.31, beyond a threshold of 0.3
    seen, _ = asked(model, x, threat, steps=1, step_size=0.22)
    assert points(*seen)[1, :, 0].tolist() == pytest.approx([0.22, 0.22])
    seen, _ = asked(model, x, L0(math.inf), steps=1, step_size=0.22)
    assert points(*seen)[1].abs().max() == 0


def test_a_success_needs_the_confidence():
    result = sigma_zero(halfspace, points([0.0, 0.0]), Y, L0(math.inf, BOUNDS), steps=100, confidence=10.0)
    assert halfspace(result)[0, 1] >= 10
    assert (result != 0).sum() == 1


def test_a_mask_is_kept_and_a_target_reached():
    torch.manual_seed(0)
    model = torch.nn.Linear(12, 4).double()
    x, mask = batch((12,), rows=8), torch.arange(12) % 2 == 0
    wanted = (classes(model, x) + 1) % 4
    result = sigma_zero(model, x, wanted, L0(math.inf, (-2.0, 3.0), mask=mask), steps=200, targeted=True)
    assert (model(result).argmax(1) == wanted).all()
    assert torch.equal(result[:, ~mask], x[:, ~mask])


def test_the_way_is_the_same_whatever_the_ball():
    x = points([0.0, 0.0])
    path, anywhere = asked(halfspace, x, L0(math.inf, BOUNDS), steps=12)
    seen, x_adv = asked(halfspace, x, L0(1, BOUNDS), steps=12)
    assert seen == path
    assert torch.equal(x_adv, anywhere)
    assert max((points(*seen) != 0).sum(1)) == 2
    seen, _ = asked(halfspace, x, L0(1, BOUNDS), steps=1, init=points([0.5, 0.5]))
    assert seen[0] == [0.5, 0.5]


def test_what_it_does_not_take():
    x = points([0.0, 0.0])
    with pytest.raises(ValueError, match="take L0, or fmn"):
        sigma_zero(halfspace, x, Y, L2(1.0))
    with pytest.raises(ValueError, match="L0 without bounds"):
        sigma_zero(halfspace, x, Y, L0(1, None))
    with pytest.raises(TypeError, match="takes no loss"):
        sigma_zero(halfspace, x, Y, L0(1), loss="margin")
