"""The steepest step: of unit length in the norm, row by row, whatever the scale of the gradient."""

import pytest
import torch
from hypothesis import given
from threat_problems import ALL, DTYPES, make, problems

from advlib.threats import L0, L1, L2, Linf

DENSE = [Linf(0.1), L2(0.1), L1(0.1, sparsity=1.0), L0(1, sparsity=1.0)]


def length(norm, step):
    flat = step.flatten(1).double()
    order = {"Linf": torch.inf, "L2": 2, "L1": 1}.get(norm, torch.inf)  # an L0 step's largest entry is 1
    return torch.linalg.vector_norm(flat, order, dim=1)


@given(problems())
def test_unit_length_along_the_gradient_and_zero_for_zero(problem):
    step = problem.threat.steepest(problem.grad)
    moving = (problem.grad != 0).flatten(1).any(1)
    torch.testing.assert_close(length(problem.norm, step), moving.double(), rtol=0, atol=4 * problem.tolerance)
    assert (step * problem.grad >= 0).all()
    assert (step[problem.grad == 0] == 0).all()
    assert step.dtype == problem.x.dtype


@pytest.mark.parametrize(
    ("threat", "expected"),
    [
        (Linf(9.0), [1.0, 0.0, -1.0, 1.0]),
        (L2(9.0), [0.6, 0.0, -0.8, 0.0]),
        (L1(9.0, sparsity=0.5), [3 / 7, 0.0, -4 / 7, 0.0]),
        (L1(9.0), [0.0, 0.0, -1.0, 0.0]),  # one percent of four features: one
        (L0(9.0, sparsity=0.5), [0.75, 0.0, -1.0, 0.0]),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_by_hand(threat, expected, scale):
    grad = torch.tensor([[3.0, 0.0, -4.0, 1e-9]]) * scale
    torch.testing.assert_close(threat.steepest(grad), torch.tensor([expected]), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("threat", DENSE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_another_rows_gradient_changes_nothing(threat, dtype):
    """No norm is taken over the batch, nor floored by a number that a small gradient falls below."""
    rng = torch.Generator().manual_seed(0)
    grad = torch.randn(4, 3, 5, generator=rng, dtype=torch.float64).to(dtype)
    expected = threat.steepest(grad)
    for other in (1e6, 1e-6, 0.0):
        changed = torch.cat([grad[:2], other * grad[2:]])
        assert torch.equal(threat.steepest(changed)[:2], expected[:2])
    for row in range(4):
        assert torch.equal(threat.steepest(grad[row : row + 1])[0], expected[row])


@pytest.mark.parametrize("threat", DENSE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [2.0**-120, 2.0**-60, 2.0**60, 2.0**120])
def test_only_the_direction_counts(threat, dtype, scale):
    grad = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(threat.steepest(scale * grad), threat.steepest(grad))


@pytest.mark.parametrize("threat", DENSE)
def test_subnormal_gradients_give_a_full_step(threat):
    grad = torch.tensor([[1e-44, 0.0]])
    assert torch.equal(threat.steepest(grad), torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize("norm", [L1, L0])
@pytest.mark.parametrize(("share", "count"), [(1e-9, 1), (0.01, 2), (0.1, 20), (0.25, 50), (1.0, 200)])
def test_sparsity_is_a_share_of_the_features(norm, share, count):
    grad = torch.randn(3, 2, 10, 10, generator=torch.Generator().manual_seed(0))
    step = norm(5.0, sparsity=share).steepest(grad)
    moved = step.flatten(1) != 0
    assert moved.sum(1).tolist() == [count] * 3
    magnitude = grad.flatten(1).abs()
    still = torch.where(moved, 0, magnitude).amax(1)
    assert (torch.where(moved, magnitude, torch.inf).amin(1) >= still).all()


@pytest.mark.parametrize("bind", [True, False])
def test_l1_steps_skip_features_without_room(bind):
    x = torch.tensor([[1.0, 0.0, 0.5, 0.5, 0.5]])
    grad = torch.tensor([[9.0, -8.0, 7.0, 1.0, -2.0]])
    mask = torch.tensor([True, True, False, True, True])
    threat = L1(5.0, mask=mask, sparsity=0.2)
    threat = threat.at(x) if bind else threat
    assert torch.equal(threat.steepest(grad, x), torch.tensor([[0.0, 0.0, 0.0, 0.0, -1.0]]))
    assert torch.equal(threat.steepest(-grad, x), torch.tensor([[-1.0, 0.0, 0.0, 0.0, 0.0]]))
    at_corner = torch.tensor([[1.0, 0.0, 0.5, 1.0, 0.0]])
    assert torch.equal(threat.steepest(grad, at_corner), torch.zeros(1, 5))


def test_l1_steps_skip_room_that_is_only_rounding():
    x_adv = torch.tensor([[1 - 2.0**-24, 0.5]])
    assert L1(5.0, sparsity=0.5).steepest(torch.tensor([[2.0, 1.0]]), x_adv).tolist() == [[0.0, 1.0]]


def test_l0_steps_keep_features_at_their_bounds():
    """The projection ranks features by how far a step takes them, those at their bounds too."""
    x_adv, grad = torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[2.0, 1.0, -4.0]])
    assert L0(1).steepest(grad, x_adv).tolist() == [[0.5, 0.25, -1.0]]


@pytest.mark.parametrize("bind", [True, False])
def test_l0_steps_waste_no_share_on_features_that_cannot_move_at_all(bind):
    x, grad = torch.tensor([[0.5, 0.5, 0.25, 1.0]]), torch.tensor([[9.0, 1.0, 8.0, 2.0]])
    bounds = (torch.tensor([0.0, 0.0, 0.25, 0.0]), torch.tensor([1.0, 1.0, 0.25, 1.0]))
    threat = L0(1, bounds, mask=torch.tensor([False, True, True, True]), sparsity=0.25)
    threat = threat.at(x) if bind else threat
    assert threat.steepest(grad, x).tolist() == [[0.0, 0.0, 0.0, 1.0]]


@pytest.mark.parametrize("norm", [L1, L0])
@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_sparsity_out_of_range(norm, share):
    with pytest.raises(ValueError, match=r"sparsity must be a share of the features in \[0, 1\], got"):
        norm(1.0, sparsity=share)


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 2, 1), (2, 3, 2, 2, 2)])
def test_shapes(norm, shape):
    grad = torch.ones(shape)
    for x_adv in (None, torch.full(shape, 0.5)):
        assert make(norm, 1.0).steepest(grad, x_adv).shape == shape


@pytest.mark.parametrize("norm", ALL)
def test_layouts(norm):
    rng = torch.Generator().manual_seed(0)
    grad, x = (torch.rand(3, 2, 4, 4, generator=rng) for _ in range(2))
    threat, expected = make(norm, 1.0), make(norm, 1.0).steepest(grad, x)
    last = torch.channels_last
    assert torch.equal(threat.steepest(grad.to(memory_format=last), x.to(memory_format=last)), expected)
    assert torch.equal(threat.steepest(grad.mT.contiguous().mT, x), expected)
