"""The best pair by the kernel: the reference's, settled by the short list or not."""

import pytest
import torch

from advlib.kernels import pairs
from advlib.kernels.looks import recording
from advlib.kernels.pairs import best_pair
from tests.kernels.both_ways import DEVICES, DTYPES, both, close, kernels, seeded

FIELDS = {
    "independent": lambda u, v: (u, v),
    "two classes": lambda u, v: (u, u),
    "opposed": lambda u, v: (u, -u + 0.01 * v),
    "opposed with an offset": lambda u, v: (u, 1 - u),
    "opposed on a curve": lambda u, v: (u.exp(), (-u).exp()),
    "none helps": lambda u, v: (-u.abs(), -v.abs()),
    "zero": lambda u, v: (0 * u, 0 * v),
    "tiny": lambda u, v: (1e-30 * u, 1e-25 * v),
    "huge": lambda u, v: (1e30 * u, 1e25 * v),
    "badly scaled": lambda u, v: (u * 10 ** (3 * v), v * 10 ** (3 * u)),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", [2, 3, 6, 70])
def test_pairs_and_scores_are_the_references(features, dtype, device):
    """70 features are two blocks of firsts and two of seconds; some take no part, in one row none does."""
    fields = []
    for seed, field in enumerate(FIELDS.values()):
        u, v = torch.randn(2, 2, features, generator=seeded(seed), dtype=torch.float64)
        fields.append(field(u, v))
    a, b = (torch.cat(part).to(dtype) for part in zip(*fields, strict=True))
    a = a.masked_fill(torch.rand(a.shape, generator=seeded()) < 0.15, -torch.inf)
    a[0] = -torch.inf
    a, b = a.to(device), b.to(device)
    expected, found = both(lambda: best_pair(a, b))
    close(found.score, expected.score, 8)
    any_pair = expected.score > 0
    for pick in (torch.minimum, torch.maximum):
        alike = pick(expected.first, expected.second) == pick(found.first, found.second)
        assert alike[any_pair].all()
    for index in (found.first, found.second):
        assert ((index >= 0) & (index < features)).all()
    assert (found.first != found.second)[any_pair].all()


@pytest.mark.parametrize("device", DEVICES)
def test_of_equal_pairs_the_one_that_comes_first(device):
    ones = torch.ones(1, 100, device=device)
    with kernels("triton"):
        assert [part.item() for part in best_pair(ones, ones)] == [0, 1, 4]  # by the list
        place = torch.arange(100.0, device=device)
        a = torch.where((place == 50) | (place > 70), 2.0, 1.0).unsqueeze(0)
        b = 3 - a  # all pairs of a 1 and a 2 have the sums 3 and 3, and so the list settles nothing
        assert [part.item() for part in best_pair(a, b)] == [0, 50, 2.25]


@pytest.mark.parametrize("device", DEVICES)
def test_a_row_settled_by_its_list_and_one_that_is_not(device):
    """The list of the second row holds features that help nobody."""
    a = torch.cat([torch.arange(100.0, 88.0, -1.0), torch.tensor([1.0, 0.9]), torch.zeros(6)])
    b = torch.cat([torch.full((12,), -80.0), torch.tensor([1.0, 0.9]), torch.full((6,), -1.0)])
    a, b = torch.stack([a.abs(), a]), torch.stack([a.abs(), b])
    expected, found = both(lambda: best_pair(a.to(device), b.to(device)))
    assert found.first.tolist() == [0, 12]
    assert found.second.tolist() == [1, 13]
    close(found.score, expected.score, 8)


@pytest.mark.parametrize("device", DEVICES)
def test_values_that_do_not_lie_side_by_side(device):
    a, b = torch.randn(2, 9, 4, generator=seeded()).to(device)
    expected, found = both(lambda: best_pair(a.T, b.T))
    close(found.score, expected.score, 8)
    assert torch.equal(found.first.sort().values, expected.first.sort().values)


def test_what_the_kernel_is_not_made_for_goes_to_torch(monkeypatch):
    for rows, features in ((0, 5), (2, 1), (2, 0)):
        with kernels("triton"):
            assert best_pair(torch.ones(rows, features), torch.ones(rows, features)).score.tolist() == [0] * rows
    monkeypatch.setattr(pairs, "_FEATURES", 8)
    taken = []
    monkeypatch.setattr(pairs, "search_pair", lambda a, b: taken.append(a.shape[1]))
    with kernels("triton"):
        best_pair(torch.ones(1, 8), torch.ones(1, 8))
        best_pair(torch.ones(1, 9), torch.ones(1, 9))
    assert taken == [9]


def test_a_recorded_search_in_torch_says_that_it_looks_at_what_it_finds():
    a, b = torch.rand(2, 1, 9, generator=seeded(0))
    with recording(), pytest.raises(RuntimeError, match="cannot be recorded"):
        pairs.search_pair(a, b)
