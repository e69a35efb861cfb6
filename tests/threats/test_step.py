"""A step goes along the steepest direction, from where it starts, by its own length, and ends inside."""

import pytest
import torch

from advlib import L0, L1, L2, Linf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("threat", [Linf(0.2), L2(0.4), L1(0.7, sparsity=0.2), L0(3, sparsity=0.2)], ids=str)
def test_steps_and_projects(threat, bound, dtype):
    rng = torch.Generator().manual_seed(0)
    x, x_adv = (torch.rand(4, 2, 5, generator=rng).to(dtype) for _ in range(2))
    x_adv[:, :, :2] = 1  # no room upward: sparse steps skip these
    grad = torch.randn(4, 2, 5, generator=rng).to(dtype)
    grad[3] = 0
    length = torch.tensor([0.0, 0.01, 0.3, 0.3], dtype=dtype)
    threat = threat.at(x) if bound else threat
    moved = x_adv + length[:, None, None] * threat.steepest(grad, x_adv)
    reached = threat.step(x_adv, grad, length, x)
    torch.testing.assert_close(reached, threat.project(moved, x))
    assert reached.dtype == dtype
    assert threat.contains(reached, x).all()


def test_one_length_for_all_rows():
    x, grad = torch.full((2, 2), 0.5), torch.tensor([[1.0, -1.0], [3.0, 0.0]])
    torch.testing.assert_close(Linf(0.2).step(x, grad, torch.tensor([0.25]), x), torch.tensor([[0.7, 0.3], [0.7, 0.5]]))


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.1), L1(0.1), L0(1)], ids=str)
def test_a_move_may_lead_out_and_takes_a_number_as_all_its_lengths(threat):
    x, grad = torch.full((2, 2), 0.5), torch.tensor([[1.0, -2.0], [3.0, 0.0]])
    moved = threat.move(x, grad, 7.0)
    torch.testing.assert_close(moved, x + 7 * threat.steepest(grad, x))
    torch.testing.assert_close(threat.move(x, grad, torch.tensor([7.0, 7.0])), moved)


@pytest.mark.parametrize("size", [1e-13, 1.0, 1e13, 1e-30])
def test_lengths_near_the_largest_number_and_gradients_of_any_size(size):
    grad = size * torch.tensor([[3.0, 0.0], [4.0, 3.0]])
    length = torch.tensor([torch.finfo(torch.float32).max, 5.0])
    moved = L2(0.1).move(torch.zeros(2, 2), grad, length)
    assert moved[0, 0] > 1e25
    assert moved[0, 1] == 0
    torch.testing.assert_close(moved[1], torch.tensor([4.0, 3.0]))


def test_a_zero_gradient_beside_it_changes_no_bit_of_a_move():
    rng = torch.Generator().manual_seed(0)
    x, grad = torch.rand(20, 7, generator=rng), torch.randn(20, 7, generator=rng)
    length = torch.rand(20, generator=rng)
    alone = L2(0.1).move(x, grad, length)
    beside = L2(0.1).move(torch.cat([x, x[:1]]), torch.cat([grad, 0 * grad[:1]]), torch.cat([length, length[:1]]))
    assert torch.equal(beside[:20], alone)
    assert torch.equal(beside[20], x[0])
