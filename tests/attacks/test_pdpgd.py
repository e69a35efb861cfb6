"""PDPGD by hand, on models small enough to compute on paper. That it reaches the closed form is a law."""

import math

import by_hand
import numpy as np
import pytest
import torch
from by_hand import WIDE, Y, halfspace, points

from advlib import L0, L1, L2, Linf, pdpgd
from advlib.attacks.pdpgd import shrunk
from tests.laws.table import batch, classes

NORMS = {"linf": Linf, "l2": L2, "l1": L1, "l0": L0}
BOUNDS = (-1.0, 0.2)
SIZES = {
    "linf": lambda values: max(map(abs, values)),
    "l2": lambda values: math.hypot(*values),
    "l1": lambda values: sum(map(abs, values)),
    "l0": lambda values: sum(value != 0 for value in values),
}


def asked(threat, start=(0.0, 0.0), **settings):
    """The points that the model is asked about, and the result."""
    return by_hand.asked(pdpgd, halfspace, points(list(start)), threat, **settings)


def height(sizes, scale, by):
    """Where the larger of two alone is to fall to, or both together."""
    (low, one), (high, other) = sorted((abs(size), weight) for size, weight in zip(sizes, scale, strict=True))
    return max(high - by / other if other * (high - low) >= by else (one * low + other * high - by) / (one + other), 0)


def left_of(size, by):
    """What minimizes ``by / 4 * z ** (2 / 3) + (z - size) ** 2 / 2``: zero, or the cube of a root of the slope's quartic."""
    roots = np.roots([1.0, 0.0, 0.0, -size, by / 6])
    sizes = [0.0, *(float(root.real) ** 3 for root in roots if abs(root.imag) < 1e-9 and root.real > 0)]
    return min(sizes, key=lambda z: by / 4 * z ** (2 / 3) + (z - size) ** 2 / 2)


def expected(norm, steps, step_size, odds, dual_step_size, confidence):
    """The points asked about, one number after another."""
    z, mean, square = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    log, path = math.log(odds), [[0.0, 0.0]]
    weight = 1 / (1 + 1 / odds)
    for step in range(steps):
        lead = 3 * z[0] + 4 * z[1] - 1
        failed = not (lead > 0 and lead >= confidence)
        late = (step / steps) ** 2
        wanted = (1 - late) / (1 + math.exp(lead - confidence)) + late * failed
        gradient = [wanted * w for w in (3.0, 4.0)]
        length = step_size * (0.3 if norm == "l0" else 0.01) ** (step / steps)
        if norm == "l2":
            gradient = [
                weight * g - (1 - weight) * part / (math.hypot(*z) or 1) for g, part in zip(gradient, z, strict=True)
            ]
        mean = [0.9 * old + 0.1 * g for old, g in zip(mean, gradient, strict=True)]
        square = [0.999 * old + 0.001 * g * g for old, g in zip(square, gradient, strict=True)]
        scale = [math.sqrt(q / (1 - 0.999 ** (step + 1))) for q in square]
        rise = length / (1 - 0.9 ** (step + 1))
        z = [min(max(part + rise * m / size, -1.0), 0.2) for part, m, size in zip(z, mean, scale, strict=True)]
        by = length * (1 - weight) / weight
        if norm == "l1":
            z = [math.copysign(max(abs(part) - by / size, 0), part) for part, size in zip(z, scale, strict=True)]
        if norm == "l0":
            limits = [by / max(size, max(scale) / 5) for size in scale]
            z = [math.copysign(left_of(abs(part), limit), part) for part, limit in zip(z, limits, strict=True)]
        if norm == "linf":
            left = height(z, scale, by)
            z = [min(max(part, -left), left) for part in z]
        log += dual_step_size * (1 - 0.9 * step / steps) * (1 if failed else -1)
        log = min(max(log, -math.log(1e6)), math.log(1e6))
        weight += 0.1 * (1 / (1 + math.exp(-log)) - weight)
        path.append(z)
    return path


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "settings",
    [
        {"step_size": 0.1, "odds": 100.0, "dual_step_size": 0.1, "confidence": 0.0},
        {"step_size": 0.03, "odds": 20.0, "dual_step_size": 0.5, "confidence": 0.2},
        {"step_size": 0.2, "odds": 1e-5, "dual_step_size": 9.0, "confidence": 0.0},  # the odds reach their ends
    ],
)
def test_the_path(norm, settings):
    path = points(*expected(norm, 60, **settings))
    seen, x_adv = asked(NORMS[norm](math.inf, BOUNDS), steps=60, **settings)
    assert points(*seen).flatten().tolist() == pytest.approx(path.flatten().tolist(), abs=1e-9)
    success = path @ points(3.0, 4.0) - 1 > settings["confidence"]
    assert success.any()
    assert not success.all()
    nearest = min(SIZES[norm](point) for point in path[success].tolist())
    assert SIZES[norm](x_adv[0].tolist()) == pytest.approx(nearest)


@pytest.mark.parametrize("norm", NORMS)
def test_defaults(norm):
    given = {"steps": 500, "step_size": 0.1, "odds": 100.0, "dual_step_size": 0.1, "confidence": 0.0}
    threat = NORMS[norm](math.inf, BOUNDS)
    assert asked(threat)[0] == asked(threat, **given)[0]


def test_shrunk():
    """In L1 the share of the largest scale is 1, 1/2, and 1/5 in place of 1/10."""
    change, scale = points([0.5, -0.25, 0.5], [0.0, 0.0, 0.0]), points([10.0, 5.0, 1.0], [1.0, 1.0, 1.0])
    by = points(1.0, 1.0)
    assert shrunk(change, by, scale, L1(1.0))[0].tolist() == pytest.approx([0.4, -0.05, 0.0])
    assert shrunk(4 * change, by, scale, L1(1.0))[0].tolist() == pytest.approx([1.9, -0.8, 1.5])
    # 10 (0.5 - h) + (0.5 - h) = 1, and with all three 10 (0.5 - h) + (0.5 - h) + 5 (0.25 - h) = 4
    assert shrunk(change, by, scale, Linf(1.0))[0].tolist() == pytest.approx([0.5 - 1 / 11, -0.25, 0.5 - 1 / 11])
    height = (5.5 + 1.25 - 4) / 16
    assert shrunk(change, 4 * by, scale, Linf(1.0))[0].tolist() == pytest.approx([height, -height, height])
    for threat in (L1(1.0), L0(1.0), Linf(1.0)):
        assert shrunk(change, by, scale, threat)[1].tolist() == [0, 0, 0]
        assert shrunk(change, 100 * by, scale, threat).abs().max() == 0


def test_shrunk_in_l0():
    change, scale = points([0.5, -0.25, 0.02]), points([10.0, 5.0, 1.0])  # of which the last counts as 2
    kept = [left_of(0.5, 0.02), -left_of(0.25, 0.04), 0.0]
    assert shrunk(change, points(0.2), scale, L0(1.0))[0].tolist() == pytest.approx(kept)
    assert left_of(0.02, 0.1) == 0


def test_what_hardly_shrinks_in_l0_stays():
    change, scale = torch.tensor([[0.5, 0.0, -1e-3]]), torch.ones(1, 3)
    assert torch.equal(shrunk(change, torch.tensor([1e-30]), scale, L0(1.0)), change)


def test_pixels_shrink_as_one():
    """Channels of one pixel keep their shares; its largest scale counts."""
    change = points([3.0, 0.3, 0.1], [-4.0, 0.0, 0.0]).unsqueeze(0)  # two channels, three pixels
    scale = points([1.0, 2.0, 2.0], [2.0, 1.0, 1.0]).unsqueeze(0)
    found = shrunk(change, points(0.4), scale, L0(1.0, per_pixel=True))[0]
    share, other = left_of(5.0, 0.2) / 5, left_of(0.3, 0.2)
    assert found[0].tolist() == pytest.approx([3 * share, other, 0.0])
    assert found[1].tolist() == pytest.approx([-4 * share, 0.0, 0.0])


@pytest.mark.parametrize(("norm", "threat"), NORMS.items())
def test_reaches_the_closed_form_with_features_at_the_bounds(norm, threat):
    found, least = by_hand.beside_the_closed_form(pdpgd, threat, steps=1000)
    if norm == "l0":  # not convex: a feature at its bound can hide one that would do alone
        assert (found <= least + 1).all()
        assert (found == least).double().mean() >= 0.95
    else:
        assert (found / least).max() < 1.008


@pytest.mark.parametrize("norm", NORMS)
def test_a_success_needs_the_confidence(norm):
    x_adv = asked(NORMS[norm](math.inf, WIDE), steps=1000, confidence=2.0)[1]
    assert 2 <= halfspace(x_adv)[0, 1] < (3 if norm == "l0" else 2.03)  # in L0 no more costs nothing


@pytest.mark.parametrize("norm", NORMS)
def test_targeted_reaches_the_class_wanted(norm):
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(3)).tolist()
    model, x = by_hand.classifier(weight, [0.1, 0.0, -0.1]), batch((12,), rows=8)
    wanted = (classes(model, x) + 1) % 4
    x_adv = pdpgd(model, x, wanted, NORMS[norm](math.inf), steps=200, targeted=True)
    assert (model(x_adv).argmax(1) == wanted).all()


@pytest.mark.parametrize("norm", NORMS)
def test_features_without_a_gradient_stay(norm):
    x_adv = pdpgd(lambda z: halfspace(z[:, :2]), points([0.0, 0.0, 0.1]), Y, NORMS[norm](math.inf, BOUNDS), steps=30)
    assert x_adv[0, 2] == 0.1
    assert halfspace(x_adv[:, :2])[0, 1] > 0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])  # in L0 both features are needed, and there are no more
def test_the_way_is_the_same_whatever_the_ball(norm):
    threat = NORMS[norm](math.inf, BOUNDS)
    path, anywhere = asked(threat, steps=60)
    eps = 1.001 * threat.distance(anywhere, points([0.0, 0.0])).item()
    seen, x_adv = asked(NORMS[norm](eps, BOUNDS), steps=60)
    assert seen == path
    assert torch.equal(x_adv, anywhere)
    assert (threat.distance(points(*seen), points([0.0, 0.0])) > eps).any()
    assert asked(NORMS[norm](0.5 * eps, BOUNDS), steps=60)[1].abs().max() == 0
    assert asked(NORMS[norm](0.05, BOUNDS), steps=1, init=points([0.1, 0.1]))[0][0] == [0.1, 0.1]


def test_what_it_does_not_take():
    x = points([0.0, 0.0])
    with pytest.raises(TypeError, match="takes no loss"):
        pdpgd(halfspace, x, Y, L2(1.0), loss="margin")
    with pytest.raises(ValueError, match="keep"):
        pdpgd(halfspace, x, Y, L2(1.0), keep="last")
