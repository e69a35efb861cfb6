"""Distances, and which points lie inside a threat model."""

import math

import pytest
import torch
from threat_problems import ALL, DTYPES, make

from advlib.threats import L0, L1, L2, Linf
from advlib.threats.l2 import norm as length_of

X = [[0.5, 0.5, 0.5, 0.5], [0.25, 0.5, 0.0, 1.0]]
X_ADV = [[0.5, 0.25, 0.5, 0.625], [0.25, 0.5, 0.0, 0.0]]  # the largest change is negative


@pytest.mark.parametrize(
    ("norm", "expected"),
    [("Linf", [0.25, 1.0]), ("L2", [(5 / 64) ** 0.5, 1.0]), ("L1", [0.375, 1.0]), ("L0", [2.0, 1.0])],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_distance_by_hand(norm, expected, dtype):
    x, x_adv = torch.tensor(X, dtype=dtype), torch.tensor(X_ADV, dtype=dtype)
    distance = make(norm, 1.0).distance(x_adv, x)
    torch.testing.assert_close(distance, torch.tensor(expected, dtype=dtype), rtol=1e-7, atol=0)
    assert torch.equal(make(norm, 1.0).distance(x, x_adv), distance)
    images = x.reshape(2, 1, 2, 2), x_adv.reshape(2, 1, 2, 2)
    assert torch.equal(make(norm, 1.0).distance(*images), distance)


def test_pixel_distance_counts_a_pixel_once():
    x = torch.zeros(1, 3, 2, 2)
    x_adv = x.clone()
    x_adv[0, :, 0, 0] = 1.0
    x_adv[0, 1, 1, 1] = -1.0
    assert L0(1, per_pixel=True).distance(x_adv, x).tolist() == [2.0]
    assert L0(1).distance(x_adv, x).tolist() == [4.0]


def test_pixels_need_channels():
    with pytest.raises(ValueError, match=r"per_pixel=True needs inputs of shape \(N, C, ...\), got \(2, 3\)"):
        L0(1, per_pixel=True).distance(torch.zeros(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize(("threat", "scale"), [(L2(1.0), 1e25), (L2(1.0), 1e-25), (L1(1.0), 1e25), (L1(1.0), 1e-25)])
def test_distances_out_of_the_range_of_float32_squares(threat, scale):
    x_adv = scale * torch.tensor([[3.0, -4.0]])
    assert threat.distance(x_adv, torch.zeros(1, 2)).item() == pytest.approx(scale * (5 if threat.p == 2 else 7))


def test_distances_add_up_in_double_precision():
    """A million changes of 0.1: a float32 sum in one accumulator would be off by a percent."""
    x, x_adv = torch.zeros(1, 10**6), torch.full((1, 10**6), 0.1)
    assert L1(1.0).distance(x_adv, x).item() == pytest.approx(1e5, rel=1e-6)
    assert L2(1.0).distance(x_adv, x).item() == pytest.approx(100, rel=1e-6)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [-1, 1])
def test_eps_is_held_up_to_the_documented_rounding(norm, dtype, sign):
    threat, x = make(norm, 0.25, None), torch.full((1, 4), 0.5, dtype=dtype)
    unit = torch.finfo(dtype).eps
    allowed = unit * (4 * 0.25 + 0.75 * 4 ** (1 / threat.p))
    direction = sign * torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=dtype)
    for excess, inside in ((-0.1, True), (0.0, True), (0.5 * allowed, True), (2 * allowed, False), (0.1, False)):
        assert threat.contains(x + (0.25 + excess) * direction, x).item() is inside, excess


@pytest.mark.parametrize("levels", [1, 4, 8, 16, 100])
@pytest.mark.parametrize("bind", [False, True])
def test_grey_levels_hold_in_uint8(levels, bind):
    """All 256 grey levels, moved by whole levels however one writes that, are inside; one more level is not."""
    level = torch.arange(256)
    x = (level / 255).unsqueeze(1)
    threat = Linf(levels / 255)
    threat = threat.at(x) if bind else threat
    for sign in (-1, 1):
        moved = (level + sign * levels).clamp(0, 255)
        written = [moved / 255, moved * (1 / 255), (x[:, 0] + sign * levels / 255).clamp(0, 1)]
        written.append((moved.double() / 255).float())
        for x_adv in written:
            assert threat.contains(x_adv.unsqueeze(1), x).all()
            assert (level - (x_adv * 255).round()).abs().max() <= levels
        further = (level + sign * (levels + 1)).clamp(0, 255)
        outside = (further - level).abs() > levels
        assert torch.equal(threat.contains((further / 255).unsqueeze(1), x), ~outside)


@pytest.mark.parametrize("bits", [8, 16])
def test_results_stay_within_eps_when_saved(bits):
    """A projected or sampled point, rounded to integer levels, is within 8 of 255 levels, or that many of 65,535."""
    top = 2**bits - 1
    eps = 8 * top // 255
    rng = torch.Generator().manual_seed(0)
    level = torch.randint(0, top + 1, (50, 400), generator=rng)
    x = level / top
    threat = Linf(eps / top)
    for x_adv in (threat.project(torch.rand(x.shape, generator=rng), x), threat.maximize(torch.randn(x.shape), x)):
        saved = (x_adv * top).round()
        assert (saved - level).abs().max() == eps


@pytest.mark.parametrize("norm", ALL)
def test_bounds_and_mask_are_exact(norm):
    x = torch.full((1, 2, 2), 0.5)
    mask = torch.tensor([[True, False], [True, True]])
    bound = torch.tensor(0.75)
    threat = make(norm, 2.0, (0.25, 0.75), mask)
    for bind in (False, True):
        threat = threat.at(x) if bind else threat
        for value, feature, inside in [
            (bound, (0, 0, 0), True),
            (torch.nextafter(bound, torch.tensor(1.0)), (0, 0, 0), False),
            (torch.tensor(0.25), (0, 1, 1), True),
            (torch.nextafter(torch.tensor(0.25), torch.tensor(0.0)), (0, 1, 1), False),
            (torch.nextafter(torch.tensor(0.5), torch.tensor(1.0)), (0, 0, 1), False),  # masked
            (torch.tensor(0.5), (0, 0, 1), True),
        ]:
            x_adv = x.clone()
            x_adv[feature] = value
            assert threat.contains(x_adv, x).item() is inside


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("eps", [1.0, math.inf])
def test_nan_and_inf_are_outside(norm, bounds, eps):
    x = torch.full((3, 1, 2), 0.5)
    x_adv = x.clone()
    x_adv[0, 0, 0] = math.nan
    x_adv[1, 0, 1] = math.inf
    assert make(norm, eps, bounds).contains(x_adv, x).tolist() == [False, False, True]


@pytest.mark.parametrize("per_pixel", [False, True])
def test_l0_counts_exactly(per_pixel):
    x = torch.zeros(4, 2, 3)
    x_adv = x.clone()
    x_adv[1, 0, 0] = x_adv[2, :, 0] = x_adv[3, 0, 0] = x_adv[3, 1, 1] = 1e-30
    expected = [True, True, per_pixel, False]
    assert L0(1, per_pixel=per_pixel).contains(x_adv, x).tolist() == expected
    assert L0(torch.tensor([0.0, 1.0, 1.0, 2.0]), per_pixel=per_pixel).contains(x_adv, x).tolist() == [
        True,
        True,
        per_pixel,
        True,
    ]


@pytest.mark.parametrize("norm", ALL)
def test_rows_are_told_apart(norm):
    x = torch.full((3, 2, 2), 0.5)
    x_adv = x.clone()
    x_adv[1] = 0.9
    eps = torch.tensor([0.0, 0.1, 0.0]) if norm != "L0" else torch.tensor([0.0, 1.0, 0.0])
    assert make(norm, eps).contains(x_adv, x).tolist() == [True, False, True]


@pytest.mark.parametrize("norm", ALL)
def test_shapes(norm):
    for shape in [(0, 2, 3), (1, 2, 1), (2, 3, 2, 2, 2)]:
        x = torch.zeros(shape)
        assert make(norm, 1.0).distance(x, x).tolist() == [0.0] * shape[0]
        assert make(norm, 1.0).contains(x, x).tolist() == [True] * shape[0]


@pytest.mark.parametrize("norm", ALL)
def test_layouts(norm):
    rng = torch.Generator().manual_seed(0)
    x, x_adv = (torch.rand(3, 2, 4, 4, generator=rng) for _ in range(2))
    threat = make(norm, 1.0)
    for change in (lambda t: t.to(memory_format=torch.channels_last), lambda t: t.mT.contiguous().mT):
        torch.testing.assert_close(threat.distance(change(x_adv), change(x)), threat.distance(x_adv, x))
        assert torch.equal(threat.contains(change(x_adv), change(x)), threat.contains(x_adv, x))


def _far(rows):
    return torch.rand(rows, 3072, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("norm", "units"), [(L1, 0), (L2, 2)])
def test_distances_are_exact_to_the_last_places(norm, units):
    delta = _far(100)
    expected = torch.linalg.vector_norm(delta.double(), ord=norm.p, dim=1).float()
    found = norm(1.0).distance(delta, torch.zeros_like(delta))
    torch.testing.assert_close(found, expected, rtol=units * torch.finfo(torch.float32).eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sphere_in_many_dimensions_is_inside(dtype):
    """Numbers that are all alike round all alike: added one by one, they end some hundred last places off."""
    x_adv = torch.full((1, 150528), 0.031, dtype=dtype)
    for sign in (1, -1):
        eps = 0.031 * 150528**0.5 * (1 + sign * 16 * torch.finfo(dtype).eps)
        assert L2(eps, None).contains(x_adv, torch.zeros_like(x_adv)).item() is (sign == 1)


@pytest.mark.parametrize("norm", [L1, L2])
def test_what_is_inside_is_judged_in_double_precision(norm):
    """Radii so close to the distances that their last place decides."""
    delta = _far(100)
    distance = torch.linalg.vector_norm(delta.double(), ord=norm.p, dim=1).float()
    unit = torch.finfo(torch.float32).eps
    rounding = unit * delta.amax(1) * 3072 ** (1 / norm.p)
    counts = []
    for last_places in range(-4, 3):
        eps = (distance - rounding) / (1 + 4 * unit) + last_places * unit * distance / 2
        inside = norm(eps, None).contains(delta, torch.zeros_like(delta))
        assert torch.equal(inside, distance <= eps + unit * (4 * eps + delta.amax(1) * 3072 ** (1 / norm.p)))
        counts.append(int(inside.sum()))
    assert counts[0] < 10
    assert counts[-1] > 90


def test_a_norm_does_not_depend_on_the_other_rows():
    """Rows at zero, whose squares may have underflowed, are summed another way."""
    rows = torch.rand(50, 3072, generator=torch.Generator().manual_seed(0))
    assert torch.equal(length_of(torch.cat([rows, torch.zeros(1, 3072)]))[:50], length_of(rows))
