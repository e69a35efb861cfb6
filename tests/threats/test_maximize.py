"""The maximum of a linear function over ball, bounds and mask, against linear programming and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from threat_problems import ALL, CONVEX, DTYPES, TOLERANCE, Problem, make, noise, problems
from threat_solutions import linear_maximum, linear_maximum_slsqp

from advlib.threats import L0, L1, L2, Linf


def unlimited(problem, i):
    """Whether the problem has no maximum, or for L0 none that does not depend on the missing bounds."""
    row = problem.row(i)
    pulled = np.where(row.grad > 0, row.high, np.where(row.grad < 0, row.low, 0))
    return np.isinf(pulled).any() and (problem.norm.startswith("L0") or row.eps == np.inf)


@given(problems())
def test_largest_value(problem):
    threat, x, grad = problem.threat, problem.x, problem.grad
    if any(unlimited(problem, i) for i in range(len(x))):
        with pytest.raises(ValueError, match="a linear function has no maximum"):
            threat.maximize(grad, x)
        return
    best = threat.maximize(grad, x)
    assert best.dtype == x.dtype
    assert threat.contains(best, x).all()
    assert torch.equal(best[grad == 0], x[grad == 0])
    for i in range(len(x)):
        row = problem.row(i)
        found = row.grad @ (best[i].double().numpy().ravel() - row.x)
        size = np.abs(row.grad).sum() * (1 + np.abs(best[i].numpy()).max())
        # HiGHS is good to 1e-7
        tolerance = 1e-7 if problem.norm in ("Linf", "L1") else problem.tolerance
        assert found == pytest.approx(linear_maximum(problem.norm, row), abs=max(tolerance, problem.tolerance) * size)


@given(problems(finite=True))
def test_no_other_point_is_better(problem):
    threat, x, grad = problem.threat, problem.x, problem.grad
    if any(unlimited(problem, i) for i in range(len(x))):
        return
    best = ((threat.maximize(grad, x) - x).double() * grad).flatten(1).sum(1)
    slack = 4 * problem.tolerance * (1 + x.abs().max()) * grad.abs().flatten(1).sum(1)
    others = [threat.project(problem.x_adv, x), threat.project(x + grad, x)]
    others += [threat.sample(x, noise(len(x), seed)) for seed in range(5)]
    for other in others:
        assert (((other - x).double() * grad).flatten(1).sum(1) <= best + slack).all()


@pytest.mark.parametrize("seed", range(6))
def test_l2_in_a_box_by_a_general_solver(seed):
    rng = np.random.default_rng(seed)
    x, grad = torch.tensor(rng.uniform(size=(1, 5))), torch.tensor(rng.normal(size=(1, 5)))
    problem = Problem("L2", L2(rng.uniform(0.1, 1)), x, x, grad)
    found = (grad * (problem.threat.maximize(grad, x) - x)).sum().item()
    assert found == pytest.approx(linear_maximum_slsqp(problem.row(0)), abs=1e-6)


@pytest.mark.parametrize(("threat", "dual"), [(Linf(0.3, None), 1), (L2(0.3, None), 2), (L1(0.3, None), math.inf)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_without_bounds_it_is_eps_times_the_dual_norm(threat, dual, dtype, scale):
    grad = scale * torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    x = torch.zeros_like(grad)
    value = (threat.maximize(grad, x).double() * grad.double()).flatten(1).sum(1)
    expected = 0.3 * torch.linalg.vector_norm(grad.double().flatten(1), dual, dim=1)
    torch.testing.assert_close(value, expected, rtol=4 * TOLERANCE[dtype], atol=0)


@pytest.mark.parametrize(
    ("threat", "grad", "expected"),  # from 0.5, 0.5, 0.5 and 0.9
    [
        (Linf(0.25), [3.0, -4.0, 0.0, 1.0], [0.75, 0.25, 0.5, 1.0]),
        (L2(0.5), [3.0, -4.0, 0.0, 0.0], [0.8, 0.1, 0.5, 0.9]),
        (L2(0.5), [0.0, -4.0, 0.0, 1000.0], [0.5, 0.5 - 0.24**0.5, 0.5, 1.0]),  # the last stops at its bound
        (L1(0.75), [4.0, -3.0, 0.0, 2.0], [1.0, 0.25, 0.5, 0.9]),  # 0.5 to the first, to its bound, then the second
        (L0(1), [1.0, -2.0, 0.0, 6.0], [0.5, 0.0, 0.5, 0.9]),  # gains 0.5, 1.0 and 0.6: room counts
        (L0(2), [1.0, -2.0, 0.0, 6.0], [0.5, 0.0, 0.5, 1.0]),
    ],
)
def test_by_hand(threat, grad, expected):
    x, grad = torch.tensor([[0.5, 0.5, 0.5, 0.9]]), torch.tensor([grad])
    torch.testing.assert_close(threat.maximize(grad, x), torch.tensor([expected]), rtol=0, atol=1e-6)


def test_pixels_by_hand():
    x = torch.full((1, 2, 1, 2), 0.5)
    grad = torch.tensor([[[[3.0, 2.0]], [[0.0, -2.0]]]])  # pixel gains 1.5 and 2
    assert torch.equal(L0(1, per_pixel=True).maximize(grad, x), torch.tensor([[[[0.5, 1.0]], [[0.5, 0.0]]]]))


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("eps", [0.0, 2.0, math.inf])
def test_zero_gradient_moves_nothing(norm, eps):
    x = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(make(norm, eps).maximize(torch.zeros_like(x), x), x)
    assert torch.equal(make(norm, eps, None).maximize(torch.zeros_like(x), x), x)


@pytest.mark.parametrize("norm", ALL)
def test_eps_zero_returns_x(norm):
    x = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(make(norm, 0.0).maximize(torch.ones_like(x), x), x)


@pytest.mark.parametrize("norm", CONVEX)
@pytest.mark.parametrize("eps", [math.inf, torch.tensor([1.0, math.inf])])
def test_no_maximum(norm, eps):
    with pytest.raises(ValueError, match="no maximum with eps=inf and no bounds: give one of them"):
        make(norm, eps, None).maximize(torch.ones(2, 3), torch.zeros(2, 3))


def test_no_maximum_for_l0_without_bounds():
    with pytest.raises(ValueError, match="no maximum over L0 without bounds: give bounds="):
        L0(1, None).maximize(torch.ones(2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("norm", ALL)
def test_a_row_does_not_depend_on_the_batch(norm):
    rng = torch.Generator().manual_seed(0)
    x, grad = (torch.rand(20, 2, 6, generator=rng) for _ in range(2))
    grad = (grad - 0.5) * 10 ** torch.linspace(-9, 9, 20).reshape(-1, 1, 1)
    together = make(norm, 1.0).maximize(grad, x)
    for i in range(20):
        assert torch.equal(make(norm, 1.0).maximize(grad[i : i + 1], x[i : i + 1])[0], together[i])


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 2, 1), (2, 3, 2, 2, 2)])
def test_shapes(norm, shape):
    assert make(norm, 1.0).maximize(torch.ones(shape), torch.full(shape, 0.5)).shape == shape


@pytest.mark.parametrize("norm", ALL)
def test_layouts(norm):
    rng = torch.Generator().manual_seed(0)
    grad, x = (torch.rand(3, 2, 4, 4, generator=rng) for _ in range(2))
    threat, expected = make(norm, 1.0), make(norm, 1.0).maximize(grad, x)
    last = torch.channels_last
    assert torch.equal(threat.maximize(grad.to(memory_format=last), x.to(memory_format=last)), expected)
    assert torch.equal(threat.maximize(grad.mT.contiguous().mT, x), expected)
