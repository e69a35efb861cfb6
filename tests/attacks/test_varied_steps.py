"""Restarts of attacks that begin each run at the same point take other steps."""

import math

import pytest
import torch
from by_hand import asked, halfspace, points

from advlib import L0, L1, L2, Linf, fmn, pdpgd, sigma_zero
from advlib.noise import Key, Noise
from advlib.rules import cosine, updates, varied

BOUNDS = (-3.0, 1.0)
CASES = [*((attack, norm, 0.06) for attack in (fmn, pdpgd) for norm in (Linf, L2, L1, L0)), (sigma_zero, L0, 1.0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_half_and_twice_a_quarter_and_four_times(dtype):
    lengths = torch.tensor([3.0, 5.0, 7.0, 9.0, 11.0, 13.0], dtype=dtype)
    each = [varied(lengths[restart], restart) for restart in range(6)]
    expected = torch.tensor([3.0, 2.5, 14.0, 2.25, 44.0, 1.625], dtype=dtype)
    assert torch.equal(torch.stack(each), expected)
    assert torch.equal(varied(lengths, torch.arange(6)), expected)


@pytest.mark.parametrize(("attack", "norm", "first"), CASES)
def test_each_run_is_that_of_its_step(attack, norm, first):
    def run(**settings):
        return asked(attack, halfspace, points([0.0, 0.0]), norm(math.inf, BOUNDS), steps=30, **settings)[0]

    alone = [point for step_size in (first, first / 2, 2 * first) for point in run(step_size=step_size)]
    together = run(step_size=first, restarts=3)
    assert points(*together).flatten().tolist() == pytest.approx(points(*alone).flatten().tolist(), abs=1e-12)
    assert together[: len(together) // 3] != together[len(together) // 3 : 2 * len(together) // 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lengths_fall_by_the_updates_made_of_a_number_or_row_by_row(dtype):
    like, row = torch.zeros(3, dtype=dtype), torch.arange(3)
    assert [updates(Noise(Key(), row, step=step), like) for step in (1, 5)] == [0, 4]
    made = updates(Noise(Key(), row, step=torch.tensor([1, 3, 5])), like)
    assert made.dtype == dtype
    expected = torch.tensor([1.0, 0.5, 0.0], dtype=dtype)
    torch.testing.assert_close(cosine(made, 4), expected)
    assert [cosine(step, 4) for step in (0, 2, 4)] == pytest.approx(expected.tolist())
