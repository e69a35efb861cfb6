"""The projection onto the L1 ball within bounds by the kernel: torch's."""

import math

import pytest
import torch

from advlib.kernels.dispatch import differentiated
from advlib.threats import L1
from tests.kernels.both_ways import DEVICES, DTYPES, both, close, kernels, seeded

EPS = [0.0, 1e-3, 0.3, 5.0, math.inf]


def problem(features, spread, dtype, seed=0):
    """Five rows, with features at their bounds, some that cannot move, some that did not, and a row of ties."""
    generator = seeded(seed)

    def uniform():
        return torch.rand(5, features, generator=generator, dtype=torch.float64)

    low = uniform() / 2 - 0.5
    high = low + uniform() * (uniform() < 0.9)
    x = low + uniform() * (high - low)
    edge = uniform()
    x = torch.where(edge < 0.15, low, torch.where(edge > 0.85, high, x))
    change = spread * torch.randn(5, features, generator=generator, dtype=torch.float64) * (uniform() < 0.8)
    change[1] = spread * change[1].sign()
    low, high, x, change = (part.to(dtype) for part in (low, high, x, change))
    return low, high, x, x + change


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("features", [1, 7, 40])
def test_radii_of_all_sizes(features, spread, dtype, device):
    low, high, x, x_adv = (part.to(device) for part in problem(features, spread, dtype))
    eps = torch.tensor(EPS, dtype=dtype, device=device)
    for bounds, inside in (((low, high), x), ((-0.5, 1.0), x.clamp(-0.5, 1.0)), (None, x)):
        threat = L1(eps, bounds=bounds)
        expected, found = both(lambda t=threat, x=inside: t.project(x_adv, x))
        close(found, expected, 8, size=1 + spread)
        assert torch.equal(found[0], inside[0])  # eps is 0
        assert torch.equal(found[4], expected[4])  # eps is infinite
        assert threat.contains(found, inside).all()
        close(threat.distance(found, inside), threat.distance(expected, inside), 64, size=1.0)  # no less than it may


@pytest.mark.parametrize("device", DEVICES)
def test_bounds_and_masks_of_all_shapes(device):
    shape = (3, 2, 2, 3)
    x = torch.rand(shape, generator=seeded(), dtype=torch.float64).to(device)
    x_adv = x + torch.randn(shape, generator=seeded(1), dtype=torch.float64).to(device)
    low = -torch.rand(shape, generator=seeded(2), dtype=torch.float64).to(device)
    mask = (torch.rand(shape, generator=seeded(3)) < 0.7).to(device)
    for bounds in ((0.0, 1.0), (low[0], 1.0), (low[:1, :, :1, :1], 2.0), (low, low + 2), (low[:, :1, :1, :1], 1.0)):
        for masked in (None, mask[0], mask):
            for threat in (L1(0.7, bounds=bounds, mask=masked), L1(0.7, bounds=bounds, mask=masked).at(x)):
                expected, found = both(lambda t=threat: t.project(x_adv, x))
                close(found, expected, 16, size=1.0)


@pytest.mark.parametrize("device", DEVICES)
def test_by_hand(device):
    """A soft threshold of 0.25 would give 0.75 and 0.25; the bound keeps 0.5, so the threshold falls to 0."""
    x, x_adv = torch.zeros(2, 2, device=device), torch.tensor([[1.0, 0.5], [1.0, -0.5]], device=device)
    with kernels("triton"):
        assert L1(1.0, bounds=(-1.0, 0.5)).project(x_adv, x).tolist() == [[0.5, 0.5], [0.5, -0.5]]
        assert L1(1.0, bounds=None).project(x_adv, x).tolist() == [[0.75, 0.25], [0.75, -0.25]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_more_features_than_one_block(dtype, device, monkeypatch):
    from advlib.kernels import triton_l1

    monkeypatch.setattr(triton_l1, "_BLOCK", 16)
    low, high, x, x_adv = (part.to(device) for part in problem(41, 1.0, dtype))
    expected, found = both(lambda: L1(0.7, bounds=(low, high)).project(x_adv, x))
    close(found, expected, 8, size=1.0)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_not_finite(device):
    """A NaN stays where it is, and its row is not projected; other rows do not notice."""
    low, high, x, x_adv = (part.to(device) for part in problem(7, 1.0, torch.float64))
    x_adv[2, 3] = math.nan
    expected, found = both(lambda: L1(0.3, bounds=(low, high)).project(x_adv, x))
    assert found.isnan().nonzero().tolist() == [[2, 3]]
    close(found, expected, 8, size=1.0)


@pytest.mark.parametrize("device", DEVICES)
def test_layouts(device):
    x = torch.rand(3, 4, 2, 2, generator=seeded()).to(device).contiguous(memory_format=torch.channels_last)
    x_adv = (x + 1).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for points in (x_adv, x_adv[:0]):
        expected, found = both(lambda p=points: L1(0.7).project(p, x[: len(p)]))
        close(found, expected, 8, size=1.0)


def test_what_autograd_records_is_left_to_torch():
    x = torch.zeros(1, 2)
    x_adv = torch.tensor([[0.75, 0.5]], requires_grad=True)
    assert differentiated(x_adv)
    with kernels("triton"):
        assert L1(1.0).project(x_adv, x).grad_fn is not None


@pytest.mark.parametrize("device", DEVICES)
def test_what_the_threshold_cannot_say_is_taken_from_those_that_it_leaves(device):
    """Thresholds are whole numbers here: with one less the sum is 1.7 short, with this 1.3 too much; the fourth is at 0."""
    x_adv = torch.tensor([[16777210.0, 16777208.0, 16777207.0, 16777206.0]], device=device)
    x = torch.zeros_like(x_adv)
    expected, found = both(lambda: L1(5.7, bounds=None).project(x_adv, x))
    close(found, expected, 8, size=1.0)
    close(
        found,
        torch.tensor([[4.0, 2.0, 1.0, 0.0]], device=device) - torch.tensor([1.3, 1.3, 1.3, 0.0], device=device) / 3,
        64,
    )
