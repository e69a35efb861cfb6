"""The nearest point where a linear function has risen, against linear programming, root finding and brute force."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threat_problems import ALL, DTYPES, make, problems
from threat_solutions import least_distance

from advlib.threats import L0, L1, L2, Linf
from advlib.threats.reach import by_order


def rises(threat, grad, x, share):
    """``share`` of the most that bounds and mask allow, or of an amount in the order of the gradient without bounds."""
    low, high = threat.limits(x)
    space = torch.where(grad * share > 0, high - x, torch.where(grad * share < 0, x - low, 0))
    most = (space * grad.abs()).nan_to_num(0, torch.inf).double().flatten(1).sum(1)
    return share * torch.where(most.isinf(), grad.abs().flatten(1).sum(1).double(), most).to(x.dtype)


@given(problems(), st.sampled_from([-3.0, -0.4, 0.0, 1e-3, 0.5, 0.99, 2.0]))
def test_nearest_point_at_which_it_has_risen(problem, share):
    threat, x, grad = problem.threat, problem.x, problem.grad
    rise = rises(threat, grad, x, share)
    point = threat.reach(grad, rise, x)
    low, high = threat.limits(x)
    assert point.dtype == x.dtype
    assert ((point >= low) & (point <= high) & point.isfinite()).all()
    assert torch.equal(point[grad == 0], x[grad == 0])
    for i in range(len(x)):
        row = problem.row(i)
        moved = point[i].double().numpy().ravel() - row.x
        most, least = least_distance(problem.norm, row, rise[i].item())
        size = 1 + abs(row.x).max() + abs(moved).max()
        slack = 4 * problem.tolerance * size
        assert row.grad @ moved == pytest.approx(most, abs=slack * abs(row.grad).sum())
        distance = threat.distance(point[i : i + 1], x[i : i + 1]).item()
        if problem.norm.startswith("L0"):  # no unit for the sake of rounding, but for a little more than that
            assert least_distance(problem.norm, row, 0.99999 * rise[i].item())[1] <= distance <= least
        else:  # HiGHS is good to 1e-7
            slack = max(slack, 1e-6 if problem.norm != "L2" else 0)
            assert distance == pytest.approx(least, abs=slack * len(moved))


X = [0.5, 0.5, 0.5, 0.9]


@pytest.mark.parametrize(
    ("threat", "grad", "rise", "expected"),
    [
        (Linf(0), [3.0, -4.0, 0.0, 1.0], 1.5, [0.7, 0.3, 0.5, 1.0]),  # 0.2 each of 7, and the last to its bound: 0.1
        (Linf(0), [3.0, -4.0, 0.0, 1.0], 3.7, [1.0, 0.0, 0.5, 1.0]),  # a little more than there is
        (L2(0), [3.0, -4.0, 0.0, 1.0], 3.7, [1.0, 0.0, 0.5, 1.0]),
        (L2(0), [3.0, -4.0, 0.0, 0.0], 2.5, [0.8, 0.1, 0.5, 0.9]),
        (L2(0), [3.0, -4.0, 0.0, 10.0], 2.25, [0.65, 0.3, 0.5, 1.0]),  # the last stops at its bound, having given 1.0
        (L1(0), [4.0, -3.0, 0.0, 2.0], 2.75, [1.0, 0.25, 0.5, 0.9]),  # the first to its bound, then the second
        (L0(0), [1.0, -2.0, 0.0, 6.0], 0.8, [0.5, 0.1, 0.5, 0.9]),  # together 0.5, 1.0 and 0.6: the second suffices
        (L0(0), [1.0, -2.0, 0.0, 6.0], 1.3, [0.5, 0.0, 0.5, 0.95]),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_by_hand(threat, grad, rise, expected, dtype):
    x, grad, rise, expected = (torch.tensor([v], dtype=dtype) for v in (X, grad, rise, expected))
    torch.testing.assert_close(threat.reach(grad, rise, x), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(threat.reach(-grad, -rise, x), expected, rtol=0, atol=1e-6)


def test_pixels_by_hand():
    x = torch.full((1, 2, 1, 2), 0.5)
    grad = torch.tensor([[[[3.0, 2.0]], [[0.0, -2.0]]]])  # pixels can give 1.5 and 2
    reached = L0(0, per_pixel=True).reach(grad, torch.tensor([1.0]), x)
    assert torch.equal(reached, torch.tensor([[[[0.5, 0.75]], [[0.5, 0.25]]]]))


@pytest.mark.parametrize("norm", ALL)
def test_where_the_bounds_are_in_the_way_it_rises_most(norm):
    x = torch.tensor([[[0.25, 1.0, 0.5]]])
    grad = torch.tensor([[[2.0, 3.0, -1.0]]])
    for rise in (1e9, math.inf):
        assert torch.equal(make(norm, 0.0).reach(grad, torch.tensor([rise]), x), torch.tensor([[[1.0, 1.0, 0.0]]]))


@pytest.mark.parametrize(("norm", "expected"), [("Linf", 0.25), ("L2", 0.25), ("L1", None), ("L0", None)])
def test_ties(norm, expected):
    """Equal gradients: Linf and L2 share, L1 and L0 may take any."""
    x, grad = torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64)
    point = make(norm, 0.0).reach(grad, torch.ones(1, dtype=torch.float64), x)
    assert point.sum().item() == pytest.approx(1)
    assert expected is None or torch.allclose(point, torch.full_like(point, expected))
    assert norm != "L0" or (point != 0).sum() == 1


@pytest.mark.parametrize(("threat", "dual"), [(Linf(0, None), 1), (L2(0, None), 2), (L1(0, None), math.inf)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-34, 1.0, 1e30])
def test_without_bounds_it_is_the_rise_over_the_dual_norm(threat, dual, dtype, scale):
    grad = scale * torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    rise = scale * torch.tensor([0.0, 1e-3, 0.3, -20.0, 1e3], dtype=dtype)
    point = threat.reach(grad, rise, torch.zeros_like(grad))
    expected = rise.double().abs() / torch.linalg.vector_norm(grad.double().flatten(1), dual, dim=1)
    torch.testing.assert_close(threat.distance(point, 0 * point).double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close((grad.double() * point.double()).flatten(1).sum(1), rise.double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("norm", ALL)
def test_a_large_gradient_without_room_does_not_hide_the_others(norm):
    x, grad = torch.tensor([[[1.0, 0.5, 0.5]]]), torch.tensor([[[1e20, 3e-24, 1e-24]]])
    rise = torch.tensor([1.5e-24])  # the second feature's alone
    point = make(norm, 0.0).reach(grad, rise, x)
    assert ((point - x) * grad).sum().item() == pytest.approx(1.5e-24, rel=1e-5, abs=0)


def test_taken_in_order():
    """Whole, and the last in part; a gain of nothing is never taken, though it comes first."""
    order, gain = torch.tensor([[3.0, 1.0, 2.0, 9.0]]), torch.tensor([[1.0, 2.0, 4.0, 0.0]])
    for rise, shares in ((0.25, [0.25, 0, 0, 0]), (5, [1, 0, 1, 0]), (5.5, [1, 0.25, 1, 0]), (99, [1, 1, 1, 0])):
        assert by_order(order, gain, torch.tensor([[float(rise)]])).tolist() == [shares]


def test_nothing_is_taken_for_the_sake_of_rounding():
    gain = torch.tensor([[0.2, 0.1, 0.05]])
    rise = torch.tensor([[0.3]])  # in float32 a little more than the first two
    assert rise.double() > gain[:, :2].double().sum()
    assert by_order(gain, gain, rise).tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("rise", [0.0, 1.0, -math.inf])
def test_zero_gradient_moves_nothing(norm, rise):
    x = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))
    for bounds in ((0.0, 1.0), None):
        assert torch.equal(make(norm, 1.0, bounds).reach(torch.zeros_like(x), torch.full((3,), rise), x), x)


@pytest.mark.parametrize("norm", ALL)
def test_no_rise_moves_nothing(norm):
    x = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(make(norm, 1.0).reach(x - 0.5, torch.zeros(3), x), x)


@pytest.mark.parametrize("norm", ALL)
def test_a_threat_bound_to_x_serves_any_point(norm):
    """Bounds and mask, not the ball: from a point outside it, and to one outside it."""
    rng = torch.Generator().manual_seed(0)
    x, other, grad = (torch.rand(5, 2, 4, generator=rng, dtype=torch.float64) for _ in range(3))
    mask = torch.rand(2, 4, generator=rng) < 0.7
    other, threat = torch.where(mask, other, x), make(norm, 0.01, mask=mask)
    rise = torch.linspace(-0.5, 0.5, 5, dtype=torch.float64)
    point = threat.at(x).reach(grad, rise, other)
    assert torch.equal(point, threat.reach(grad, rise, other))
    assert torch.equal(point[:, ~mask], x[:, ~mask])
    torch.testing.assert_close((grad * (point - other)).flatten(1).sum(1), rise)


@pytest.mark.parametrize("norm", ALL)
def test_a_row_does_not_depend_on_the_batch(norm):
    rng = torch.Generator().manual_seed(0)
    x, grad = (torch.rand(20, 2, 6, generator=rng) for _ in range(2))
    scale = 10 ** torch.linspace(-9, 9, 20)
    grad, rise = (grad - 0.5) * scale.reshape(-1, 1, 1), 0.7 * scale
    together = make(norm, 1.0).reach(grad, rise, x)
    for i in range(20):
        row = slice(i, i + 1)
        assert torch.equal(make(norm, 1.0).reach(grad[row], rise[row], x[row])[0], together[i])


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 2, 1), (2, 3, 2, 2, 2)])
def test_shapes(norm, shape):
    assert make(norm, 1.0).reach(torch.ones(shape), torch.ones(shape[0]), torch.full(shape, 0.5)).shape == shape


@pytest.mark.parametrize("norm", ALL)
def test_layouts(norm):
    rng = torch.Generator().manual_seed(0)
    grad, x = (torch.rand(3, 2, 4, 4, generator=rng) for _ in range(2))
    threat, rise = make(norm, 1.0), torch.tensor([0.1, -1.0, 3.0])
    expected, last = threat.reach(grad, rise, x), torch.channels_last
    assert torch.equal(threat.reach(grad.to(memory_format=last), rise, x.to(memory_format=last)), expected)
    assert torch.equal(threat.reach(grad.mT.contiguous().mT, rise, x), expected)


@pytest.mark.parametrize("norm", ALL)
def test_it_traces_as_one_graph(norm):
    x = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))
    threat, rise = make(norm, 1.0).at(x), torch.tensor([0.1, -1.0, 3.0])
    torch._dynamo.reset()
    traced = torch.compile(threat.reach, fullgraph=True, backend="eager")(x - 0.5, rise, x)
    assert torch.equal(traced, threat.reach(x - 0.5, rise, x))
