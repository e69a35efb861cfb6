"""Projection is the nearest point of ball, bounds and mask, row by row."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threat_problems import ALL, CONVEX, DTYPES, TOLERANCE, Problem, make, problems
from threat_solutions import gain, projection, projection_slsqp

from advlib.threats import L0, L1, L2, Linf


def points(problem, i):
    return problem.threat.project(problem.x_adv, problem.x)[i].double().numpy().ravel()


@given(problems())
def test_nearest_point(problem):
    for i in range(len(problem.x)):
        row, found = problem.row(i), points(problem, i)
        expected = projection(problem.norm, row)
        size = 1 + np.abs(row.x_adv).max()
        if problem.norm.startswith("L0"):  # ties leave more than one nearest point
            assert (row.low <= found).all()
            assert (found <= row.high).all()
            assert len(set(row.unit[found != row.x])) <= row.eps
            found, expected, size = gain(row, found), gain(row, expected), size**2
        np.testing.assert_allclose(found, expected, rtol=0, atol=4 * problem.tolerance * size)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_nearest_point_by_a_general_solver(norm, seed):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.uniform(size=(1, 5)))
    x_adv = x + torch.tensor(rng.normal(size=(1, 5)))
    problem = Problem(norm, make(norm, rng.uniform(0.1, 1)), x, x_adv, x)
    expected = projection_slsqp(norm, problem.row(0))
    np.testing.assert_allclose(points(problem, 0), expected, atol=1e-5)
    np.testing.assert_allclose(projection(norm, problem.row(0)), expected, atol=1e-5)


HAND = [  # threat, x, x_adv, expected
    (Linf(0.25), [0.5, 0.5, 0.875, 0.125], [0.625, 1.0, 2.0, -1.0], [0.625, 0.75, 1.0, 0.0]),
    (Linf(0.25, bounds=None), [0.5, 0.875], [-3.0, 3.0], [0.25, 1.125]),
    (L2(0.5, bounds=None), [0.0, 0.0], [3.0, 4.0], [0.3, 0.4]),
    (L2(0.5, bounds=None), [0.0, 0.0], [-0.3, 0.2], [-0.3, 0.2]),  # inside: not pushed out to the sphere
    # the first feature stops at its bound, the second takes the rest: sqrt(0.5^2 - 0.3^2) = 0.4
    (L2(0.5, bounds=(-0.3, 1.0)), [0.0, 0.0], [-4.0, 1.0], [-0.3, 0.4]),
    (L1(1.0, bounds=None), [0.0, 0.0, 0.0], [1.0, -0.75, 0.25], [0.625, -0.375, 0.0]),
    # soft threshold 0.25 would give 0.75, 0.25; the bound keeps 0.5, so the threshold falls to 0
    (L1(1.0, bounds=(-1.0, 0.5)), [0.0, 0.0], [1.0, 0.5], [0.5, 0.5]),
    (L0(1), [0.5, 0.5, 0.5], [0.9, 0.0, 0.5], [0.5, 0.0, 0.5]),
    # 1/8 of the way to 2.375 saves 1.5^2 - 1.375^2 = 0.36 of squared distance, all the way to 0 saves 0.25
    (L0(1), [0.875, 0.5], [2.375, 0.0], [1.0, 0.5]),
    (L0(1), [0.875, 0.375], [1.125, 0.0], [0.875, 0.0]),
    (L0(0), [0.5, 0.25], [1.0, 1.0], [0.5, 0.25]),
    (L0(math.inf), [0.5, 0.25], [1.0, 2.0], [1.0, 1.0]),
    (L0(1.5), [0.5, 0.25], [1.0, 0.0], [1.0, 0.25]),
    (L0(2), [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.75, 0.5], [0.5, 0.25, 0.75, 0.25]),  # of equal gains the first
]


@pytest.mark.parametrize(("threat", "x", "x_adv", "expected"), HAND)
@pytest.mark.parametrize("dtype", DTYPES)
def test_by_hand(threat, x, x_adv, expected, dtype):
    x, x_adv, expected = (torch.tensor([values], dtype=dtype) for values in (x, x_adv, expected))
    torch.testing.assert_close(threat.project(x_adv, x), expected, rtol=0, atol=TOLERANCE[dtype] / 10)


def test_pixels_by_hand():
    """Two channels, three pixels: the pixel with the largest squared change over both channels is kept."""
    x = torch.full((1, 2, 1, 3), 0.5)
    x_adv = torch.tensor([[[[0.9, 0.8, 0.5]], [[0.5, 0.8, 0.6]]]])  # squares 0.16, 0.18, 0.01
    expected = torch.tensor([[[[0.5, 0.8, 0.5]], [[0.5, 0.8, 0.5]]]])
    assert torch.equal(L0(1, per_pixel=True).project(x_adv, x), expected)


@given(problems())
def test_result_is_inside_and_the_clean_point_is_too(problem):
    threat, x = problem.threat, problem.x
    result = threat.project(problem.x_adv, x)
    assert result.dtype == x.dtype
    assert result.shape == x.shape
    assert threat.contains(result, x).all()
    assert threat.contains(x, x).all()


@given(problems())
def test_points_inside_come_back_exactly(problem):
    threat, x = problem.threat, problem.x
    projected = threat.project(problem.x_adv, x)
    halfway = projected if problem.norm.startswith("L0") else x + (projected - x) / 2
    assert torch.equal(threat.project(halfway, x), halfway)
    assert torch.equal(threat.project(x, x), x)
    again = threat.project(projected, x)  # on the sphere, up to rounding
    torch.testing.assert_close(again, projected, rtol=0, atol=problem.tolerance * (1 + projected.abs().max().item()))


@given(problems())
def test_eps_zero_returns_x_exactly(problem):
    threat = make(problem.norm, 0.0, problem.threat.bounds, problem.threat.mask)
    assert torch.equal(threat.project(problem.x_adv, problem.x), problem.x)


@given(problems())
def test_eps_inf_is_the_box(problem):
    threat = make(problem.norm, math.inf, problem.threat.bounds, problem.threat.mask)
    result = threat.project(problem.x_adv, problem.x)
    for i in range(len(result)):
        row = problem.row(i)
        np.testing.assert_array_equal(result[i].double().numpy().ravel(), np.clip(row.x_adv, row.low, row.high))


@given(problems())
def test_a_row_does_not_depend_on_the_batch(problem):
    together = problem.threat.at(problem.x).project(problem.x_adv, problem.x)
    for i in range(len(problem.x)):
        alone = problem.threat.aligned(problem.x).rows(torch.tensor([i]))
        assert torch.equal(alone.project(problem.x_adv[i : i + 1], problem.x[i : i + 1])[0], together[i])


@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_a_slow_row_does_not_refine_a_quick_one(norm):
    """Root finding stops row by row: a neighbor that takes many steps changes nothing, not by one bit."""
    rng = torch.Generator().manual_seed(0)
    x = torch.full((200, 40), 0.5, dtype=torch.float64)
    x_adv = x + torch.randn(x.shape, generator=rng, dtype=x.dtype) * 10 ** torch.linspace(-1, 6, 200).unsqueeze(1)
    together = make(norm, 0.7).project(x_adv, x)
    for i in range(0, 200, 7):
        assert torch.equal(make(norm, 0.7).project(x_adv[i : i + 1], x[i : i + 1])[0], together[i])


@given(problems(CONVEX), st.integers(0, 1000))
def test_no_inside_point_is_on_the_other_side(problem, seed):
    """The obtuse-angle criterion, which alone makes a point the projection onto a convex set."""
    x, dtype = problem.x, problem.x.dtype
    p = problem.threat.project(problem.x_adv, x).double()
    wanted = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    for i in range(len(x)):
        row = problem.row(i)
        away = row.x_adv - p[i].numpy().ravel()
        for other in (row.x, wanted[i].double().numpy().ravel(), row.x + row.grad):
            q = projection(problem.norm, row._replace(x_adv=other))
            size = (1 + np.abs(away).max()) * (1 + np.abs(q - row.x).max()) * len(away)
            assert away @ (q - p[i].numpy().ravel()) <= 4 * problem.tolerance * size


SCALES = [1e-30, 1e-20, 1e-10, 1.0, 1e10, 1e18]


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
def test_any_unit_of_x(norm, dtype, scale):
    """A problem in other units has the same solution in those units, where float32 squares under- or overflow too."""
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(20, 2, 4, generator=rng, dtype=torch.float64).to(dtype)
    x_adv = x + torch.randn(20, 2, 4, generator=rng, dtype=torch.float64).to(dtype)
    eps, unit = (2, 1) if norm.startswith("L0") else (0.7, scale)
    expected = make(norm, eps).project(x_adv, x)
    found = make(norm, eps * unit, (0.0, scale)).project(x_adv * scale, x * scale)
    torch.testing.assert_close(found / scale, expected, rtol=0, atol=4 * TOLERANCE[dtype])


@pytest.mark.parametrize("norm", ["L2", "L1", "L0"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bounds", [None, (-0.25, 0.25)])
def test_magnitudes_far_apart_in_one_row(norm, dtype, bounds):
    x = torch.zeros(2, 9, dtype=dtype)
    change = 10.0 ** torch.arange(-20, 21, 5, dtype=dtype)
    x_adv = torch.stack([change, -change.flip(0)])
    problem = Problem(norm, make(norm, 2 if norm == "L0" else 0.7, bounds), x, x_adv, x)
    for i in range(2):
        found, expected = points(problem, i), projection(norm, problem.row(i))
        assert problem.threat.contains(torch.tensor(found, dtype=dtype)[None], x[:1]).all()
        if norm == "L1" and bounds:  # the threshold is 1e10 less 0.2, more digits than x_adv has
            np.testing.assert_allclose(np.abs(found).sum(), np.abs(expected).sum(), rtol=1e-6)
        else:
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ratio", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_geometric_magnitudes_with_all_but_one_feature_at_its_bound(norm, dtype, ratio):
    """Newton's worst case: each step would reach the next of many pieces only."""
    features = 40
    magnitude = torch.tensor([max(ratio**i, 1e-18) for i in range(features)], dtype=dtype)
    capacity = torch.full((features,), 1e-3, dtype=dtype)
    capacity[-1] = 1.0
    x = torch.zeros(1, features, dtype=dtype)
    problem = Problem(norm, make(norm, 0.5, (-capacity, capacity)), x, 1e3 * magnitude[None], x)
    found, expected = points(problem, 0), projection(norm, problem.row(0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype])


def hard_for_newton(norm):
    """Feature k is ten times smaller in square than the one before and meets its bound nine times later.

    Each Newton step for L2 frees two features only.
    """
    k = torch.arange(40, dtype=torch.float64)
    capacity = 0.9 ** (k / 2)
    x = torch.zeros(1, 40, dtype=torch.float64)
    eps = 0.999 * torch.linalg.vector_norm(capacity, 2 if norm == "L2" else 1).item()
    return Problem(norm, make(norm, eps, (-capacity, capacity)), x, 1e30 * 10.0 ** (-k / 2)[None], x)


def test_where_newtons_method_is_slow():
    problem = hard_for_newton("L2")
    np.testing.assert_allclose(points(problem, 0), projection("L2", problem.row(0)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm", ["L2", "L1"])
@pytest.mark.parametrize("steps", range(1, 16))
def test_inside_even_where_root_finding_gives_up(norm, steps, monkeypatch):
    monkeypatch.setattr("advlib.threats.roots._STEPS", steps)
    problem = hard_for_newton(norm)
    assert problem.threat.contains(problem.threat.project(problem.x_adv, problem.x), problem.x).all()


@pytest.mark.parametrize("norm", ["L2", "L1"])
@given(st.data())
def test_each_feature_at_a_scale_of_its_own(norm, data):
    """Changes and bounds over many orders of magnitude; what rounding of x_adv alone could excuse is allowed."""
    dtype = data.draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    wide = data.draw(st.sampled_from([2, 6, 15]))
    change, low, high = (10.0 ** rng.uniform(-wide, wide, (3, 15)) for _ in range(3))
    x, x_adv, low, high = (
        torch.tensor(v, dtype=dtype) for v in (0 * change, change * rng.choice([-1, 1], change.shape), -low, high)
    )
    problem = Problem(norm, make(norm, 10.0 ** rng.uniform(-wide, wide), (low, high)), x, x_adv, x)
    assert problem.threat.contains(problem.threat.project(x_adv, x), x).all()
    for i in range(3):
        row, found = problem.row(i), points(problem, i)
        expected = projection(norm, row)
        size = min(row.eps, np.abs(np.clip(row.x_adv, row.low, row.high)).max())
        if norm == "L1":  # a threshold has the rounding of the changes it is taken from
            cut = np.abs(expected) < np.abs(np.clip(row.x_adv, row.low, row.high))
            size += np.abs(row.x_adv)[cut].max(initial=0)
        np.testing.assert_allclose(found, expected, rtol=0, atol=100 * problem.tolerance * size)


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("shape", [(0, 3, 4), (0, 2, 2, 2), (1, 2, 1), (3, 2, 4, 4), (2, 2, 3, 3, 3)])
def test_shapes(norm, shape):
    rng = torch.Generator().manual_seed(0)
    x, x_adv = (torch.rand(shape, generator=rng) for _ in range(2))
    assert make(norm, 1.0).project(2 * x_adv, x).shape == shape


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("layout", ["channels_last", "permuted", "expanded", "strided"])
def test_layouts(norm, layout):
    rng = torch.Generator().manual_seed(0)
    x, x_adv = (torch.rand(3, 2, 4, 4, generator=rng) for _ in range(2))
    change = {
        "channels_last": lambda t: t.to(memory_format=torch.channels_last),
        "permuted": lambda t: t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        "expanded": lambda t: t[:1, :, :, :1].expand(3, 2, 4, 4),
        "strided": lambda t: torch.stack([t, t], -1)[..., 0],
    }[layout]
    x, x_adv = change(x), change(2 * x_adv - 0.5)
    threat = make(norm, 1.0)
    expected = threat.project(x_adv.contiguous(), x.contiguous())
    assert torch.equal(threat.project(x_adv, x), expected)
    assert torch.equal(threat.at(x).project(x_adv, x), expected)
