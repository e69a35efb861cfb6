"""Samples are uniform in the ball, over the features that may move, then brought within the bounds."""

import math

import pytest
import torch
from hypothesis import given
from scipy import stats
from threat_problems import ALL, CONVEX, DTYPES, make, noise, problems

from advlib.threats import L0, L1, L2, Linf

ROWS = 4000
ORDER = {"Linf": math.inf, "L2": 2, "L1": 1}


def uniform(numbers):
    return stats.kstest(numbers.flatten().double().numpy(), "uniform").pvalue > 1e-3


def drawn(norm, features, mask=None, eps=0.3):
    """``(ROWS, features)`` changes in units of eps."""
    x = torch.full((ROWS, features), 0.5)
    return (make(norm, eps, None, mask).sample(x, noise(ROWS)) - x) / eps


@given(problems(finite=True))
def test_inside(problem):
    point = problem.threat.sample(problem.x, noise(len(problem.x)))
    assert point.dtype == problem.x.dtype
    assert point.shape == problem.x.shape
    assert problem.threat.contains(point, problem.x).all()


@pytest.mark.parametrize("norm", CONVEX)
@pytest.mark.parametrize("features", [1, 2, 5, 300])
def test_radii_of_a_uniform_point(norm, features):
    """A ball of radius r holds r^D of the volume, so the radii's D-th powers are uniform."""
    radius = torch.linalg.vector_norm(drawn(norm, features).double(), ORDER[norm], dim=1)
    assert uniform(radius**features)


@pytest.mark.parametrize("norm", CONVEX)
def test_marginals_of_a_uniform_point(norm):
    """What one coordinate of a uniform point in three dimensions is distributed as, for every coordinate."""
    law = {
        "Linf": stats.uniform(-1, 2),
        "L2": stats.beta(2, 2, -1, 2),  # density 3/4 (1 - v^2)
        "L1": stats.rv_histogram(_tent(), density=False),
    }[norm]
    change = drawn(norm, 3)
    for feature in range(3):
        assert stats.kstest(change[:, feature].double().numpy(), law.cdf).pvalue > 1e-3
    assert torch.corrcoef(change.T).fill_diagonal_(0).abs().max() < 4 / ROWS**0.5


def _tent():
    """Density 3/2 (1 - |v|)^2 in narrow bins, with their edges."""
    edges = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    below = torch.where(edges < 0, (1 + edges) ** 3, 2 - (1 - edges.abs()) ** 3) / 2
    return below.diff().numpy(), edges.numpy()


@pytest.mark.parametrize("norm", CONVEX)
def test_directions_are_isotropic(norm):
    """Every octant of the ball gets its share."""
    octant = ((drawn(norm, 3) > 0) * torch.tensor([1, 2, 4])).sum(1)
    assert stats.chisquare(torch.bincount(octant, minlength=8).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("norm", CONVEX)
@pytest.mark.parametrize("per_row", [False, True])
def test_only_free_features_count_as_dimensions(norm, per_row):
    mask = torch.tensor([True, False, True, False, False])
    if per_row:  # odd rows have three free features
        mask = mask.repeat(ROWS, 1)
        mask[1::2, 4] = True
    change = drawn(norm, 5, mask)
    assert not change[~mask.expand_as(change)].any()
    radius = torch.linalg.vector_norm(change.double(), ORDER[norm], dim=1)
    assert uniform(radius[::2] ** 2)
    assert uniform(radius[1::2] ** (3 if per_row else 2))


def test_features_that_bounds_pin_are_no_dimensions():
    x = torch.full((ROWS, 3), 0.5)
    pinned = torch.tensor([0.0, 0.5, 0.0]), torch.tensor([1.0, 0.5, 1.0])
    radius = L2(0.3, bounds=pinned).distance(L2(0.3, bounds=pinned).sample(x, noise(ROWS)), x)
    assert uniform((radius / 0.3) ** 2)


@pytest.mark.parametrize("norm", CONVEX)
def test_bounds_cut_feature_by_feature(norm):
    """Points beyond a bound come to rest on it, and the other features stay where they were."""
    x = torch.tensor([[0.1, 0.5, 0.9]]).repeat(ROWS, 1)
    free, cut = (make(norm, 0.3, bounds).sample(x, noise(ROWS)) for bounds in (None, (0.0, 1.0)))
    assert torch.equal(cut, free.clamp(0, 1))
    assert (cut == 0).any()
    assert (cut == 1).any()


def test_linf_near_a_bound_by_hand():
    """From 0.05 with eps 0.1, a quarter of the ball lies below 0."""
    point = Linf(0.1).sample(torch.full((ROWS, 1), 0.05), noise(ROWS))
    assert (point == 0).double().mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / ROWS) ** 0.5)
    assert uniform(point[point > 0] / 0.15)


def changed_units(threat, x, seed=0):
    change = threat.sample(x, noise(len(x), seed)) != x
    return change.any(1).flatten(1) if threat.per_pixel else change.flatten(1)


@pytest.mark.parametrize("eps", [0, 1, 3, 7, 100])
@pytest.mark.parametrize("per_row", [False, True])
def test_l0_changes_exactly_eps_features_each_as_often(eps, per_row):
    x = torch.full((ROWS, 7), 0.5)
    changed = changed_units(L0(torch.full((ROWS,), float(eps)) if per_row else eps), x)
    assert (changed.sum(1) == min(eps, 7)).all()
    if 0 < eps < 7:  # pairs too: each pair of features together as often as any other
        together = (changed.double().T @ changed.double())[tuple(torch.triu_indices(7, 7, 1))]
        assert stats.chisquare(changed.sum(0).numpy()).pvalue > 1e-3
        assert eps == 1 or stats.chisquare(together.numpy()).pvalue > 1e-3


def test_l0_values_are_uniform_within_the_bounds():
    low, high = torch.tensor([-1.0, 0.0, 0.25]), torch.tensor([1.0, 0.5, 1.0])
    x = torch.full((ROWS, 3), 0.375)
    point = L0(2, bounds=(low, high)).sample(x, noise(ROWS))
    for feature in range(3):
        moved = point[:, feature][point[:, feature] != 0.375]
        assert uniform((moved - low[feature]) / (high[feature] - low[feature]))


def test_l0_rows_have_their_own_eps():
    eps = torch.tensor([0.0, 1.0, 2.0, 5.0])
    assert changed_units(L0(eps), torch.full((4, 5), 0.5)).sum(1).tolist() == [0, 1, 2, 5]


def test_l0_chooses_among_free_features():
    mask = torch.tensor([True, False, True, True, False, True])
    x = torch.full((ROWS, 6), 0.5)
    changed = changed_units(L0(2, mask=mask), x)
    assert (changed.sum(1) == 2).all()
    assert not changed[:, ~mask].any()
    assert stats.chisquare(changed[:, mask].sum(0).numpy()).pvalue > 1e-3
    assert (changed_units(L0(5, mask=mask), x).sum(1) == 4).all()  # no more than there are


def test_l0_pixels_change_in_all_free_channels_each_as_often():
    x = torch.full((ROWS, 3, 2, 2), 0.5)
    mask = torch.ones(3, 2, 2, dtype=torch.bool)
    mask[:, 0, 0] = False  # this pixel is out of bounds
    mask[0, 1, 1] = False  # of this one, two channels are left
    threat = L0(2, per_pixel=True, mask=mask)
    changed = changed_units(threat, x)
    assert (changed.sum(1) == 2).all()
    assert stats.chisquare(changed[:, 1:].sum(0).numpy()).pvalue > 1e-3
    moved = threat.sample(x, noise(ROWS)) != x
    assert torch.equal(moved, changed.reshape(ROWS, 1, 2, 2) & mask)


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_rows_sample_depends_on_its_index_only(norm, dtype):
    x = torch.rand(6, 2, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    threat = make(norm, torch.tensor([1.0, 2.0, 0.0, 3.0, 4.0, 1.0])).at(x)
    together = threat.sample(x, noise(6))
    for index in ([5, 1], [3]):
        index = torch.tensor(index)
        alone = threat.rows(index).sample(x[index], noise(6)._replace(row=index))
        assert torch.equal(alone, together[index])


@pytest.mark.parametrize("norm", ALL)
def test_steps_and_keys_give_other_samples(norm):
    x = torch.full((5, 2, 3), 0.5)
    places = [noise(5), noise(5, seed=1), noise(5)._replace(step=1), noise(5)._replace(restart=1)]
    threat = make(norm, 3.0) if norm.startswith("L0") else make(norm, 0.3)
    samples = torch.stack([threat.sample(x, place).flatten(1) for place in places])
    for feature in samples.flatten(1).T:
        assert len(feature[feature != 0.5].unique()) == (feature != 0.5).sum()


@pytest.mark.parametrize("norm", ALL)
def test_nothing_free_gives_x(norm, monkeypatch):
    x = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))
    threat = make(norm, 2.0, mask=torch.zeros(2, 4, dtype=torch.bool))
    assert torch.equal(threat.sample(x, noise(3)), x)
    monkeypatch.setattr("advlib.noise.Noise.uniform", lambda self, like: torch.zeros_like(like))
    assert torch.equal(threat.sample(x, noise(3)), x)  # whatever is drawn: nothing is divided by zero


@pytest.mark.parametrize("norm", ALL)
def test_all_noise_zero_stays_inside(norm, monkeypatch):
    monkeypatch.setattr("advlib.noise.Noise.uniform", lambda self, like: torch.zeros_like(like))
    x = torch.full((2, 2, 3), 0.5)
    assert make(norm, 2.0).contains(make(norm, 2.0).sample(x, noise(2)), x).all()


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("eps", [math.inf, torch.tensor([1.0, math.inf])])
def test_infinite_eps(norm, eps):
    with pytest.raises(ValueError, match=r"a uniform point of the L\w+ ball needs a finite eps, got .*inf"):
        make(norm, eps).sample(torch.zeros(2, 3, 2), noise(2))


@pytest.mark.parametrize("bounds", [None, (0.0, math.inf), (torch.tensor([-math.inf, 0.0]), 1.0)])
@pytest.mark.parametrize("bind", [False, True])
def test_l0_without_bounds(bounds, bind):
    x = torch.zeros(3, 2)
    threat = L0(1, bounds).at(x) if bind else L0(1, bounds)
    with pytest.raises(ValueError, match="L0 without bounds lets a feature move without limit: give bounds="):
        threat.sample(x, noise(3))


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 2, 1), (2, 3, 2, 2, 2)])
def test_shapes(norm, shape):
    assert make(norm, 1.0).sample(torch.full(shape, 0.5), noise(shape[0])).shape == shape


@pytest.mark.parametrize("threat", [Linf(0.2), L2(1.0), L1(3.0), L0(5), L0(5, per_pixel=True)])
def test_layouts(threat):
    x = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = threat.sample(x, noise(3))
    assert torch.equal(threat.sample(x.to(memory_format=torch.channels_last), noise(3)), expected)
    assert torch.equal(threat.sample(x.mT.contiguous().mT, noise(3)), expected)
