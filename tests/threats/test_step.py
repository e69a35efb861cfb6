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
