"""What momentum keeps and where it goes next, by the kernels: as by torch, bit for bit or nearly."""

import pytest
import torch

from advlib.kernels.bookkeeping import extrapolate, keep_better
from tests.kernels.both_ways import DEVICES, DTYPES, both, close, kernels, seeded

SHAPES = [(1, 1), (3, 7), (2, 3, 5, 2), (2, 1100), (0, 4)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_choices(shape, dtype, device):
    parts = torch.randn(4, *shape, generator=seeded(), dtype=dtype).to(device)
    better = (torch.arange(shape[0]) % 2 == 1).to(device)
    expected, found = both(lambda: keep_better(better, (parts[0], parts[1]), (parts[2], parts[3])))
    for part, other in zip(found, expected, strict=True):
        assert torch.equal(part, other)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_not_taken_does_not_count(device):
    new, old = torch.ones(2, 3, device=device), torch.zeros(2, 3, device=device)
    new[0], old[1] = torch.nan, torch.inf
    with kernels("triton"):
        kept, other = keep_better(torch.tensor([False, True], device=device), (new, new), (old, old))
    assert kept.tolist() == other.tolist() == [[0.0] * 3, [1.0] * 3]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_mixtures(shape, dtype, device):
    ahead, previous, point = torch.randn(3, *shape, generator=seeded(), dtype=dtype).to(device)
    for share in (0.0, 0.25, 0.75, 1.0):
        part = torch.full(shape[:1], share, device=device)  # float32, as torch.where makes it
        part[1:] = 0.25
        expected, found = both(lambda s=part: extrapolate(ahead, previous, point, s))
        close(found, expected, 2, size=4.0)


@pytest.mark.parametrize("device", DEVICES)
def test_the_ends_of_the_way_are_exact(device):
    point = torch.tensor([[0.1, 0.3], [0.1, 0.3]], device=device)
    with kernels("triton"):
        mixed = extrapolate(torch.full_like(point, 1e30), point, point, torch.tensor([0.0, 1.0], device=device))
    assert mixed.tolist() == [[torch.tensor(1e30).item()] * 2, point[1].tolist()]


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_not_finite(device):
    ahead, previous, point = torch.randn(3, 4, 3, generator=seeded()).to(device)
    ahead[0, 0], previous[1, 1], point[2, 2] = torch.nan, torch.inf, -torch.inf
    share = torch.tensor([0.25, 0.25, 0.0, 0.0], device=device)
    expected, found = both(lambda: extrapolate(ahead, previous, point, share))
    close(found, expected, 2, size=4.0)


@pytest.mark.parametrize("device", DEVICES)
def test_layouts(device):
    parts = [part.T for part in torch.randn(4, 7, 3, generator=seeded()).to(device)]
    better = torch.tensor([True, True, False, True, False], device=device)[::2]
    expected, found = both(lambda: keep_better(better, (parts[0], parts[1]), (parts[2], parts[3])))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    share = torch.tensor([0.0, 1.0, 0.25, 1.0, 0.5], device=device)[::2]
    expected, found = both(lambda: extrapolate(*parts[:3], share))
    close(found, expected, 2, size=4.0)


def test_what_autograd_records_is_left_to_torch():
    x = torch.ones(2, 3, requires_grad=True)
    better = torch.tensor([True, False])
    with kernels("triton"):
        assert extrapolate(x, x, x, torch.zeros(2)).grad_fn is not None
        assert keep_better(better, (x, x), (x, x))[1].grad_fn is not None
