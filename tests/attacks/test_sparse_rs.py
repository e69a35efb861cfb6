"""Sparse-RS: which units its proposals change, and to what; its schedule; how near it comes to known optima."""

import math

import pytest
import torch

from advlib import L0, Linf, Patch, sparse_rs
from advlib.attacks.sparse_rs import SparseSearch
from advlib.oracles import ScoreOracle
from advlib.search import search
from tests.laws.table import seeded


def flat(z):
    return torch.stack([0 * z.flatten(1)[:, 0] + 3, 0 * z.flatten(1)[:, 0]], 1)


def asked(model, x, threat, steps, rule=None):
    """All points that the model is asked about, whatever it finds."""
    seen = []

    def watched(z):
        seen.append(z.clone())
        return model(z)

    y, rule = torch.zeros(len(x), dtype=torch.int64), rule or SparseSearch(steps)
    result = search(watched, x, y, threat, rule, steps=steps, loss="margin", generator=seeded())
    return seen, result


def images(*shape):
    """Inputs of which a quarter are at either end of the bounds."""
    values = torch.rand(*shape, dtype=torch.float64, generator=seeded())
    return (2 * values - 0.5).clamp(0, 1)


@pytest.mark.parametrize(("per_pixel", "shape"), [(False, (3, 4, 5)), (True, (3, 4, 5)), (False, (30,))])
def test_a_proposal_exchanges_units_at_the_ends_of_the_bounds(per_pixel, shape):
    """The model is flat, so that every proposal is made from the first point, of which it keeps all but some units."""
    x, threat = images(40, *shape), L0(10, per_pixel=per_pixel)
    steps = 100
    seen, _ = asked(flat, x, threat, steps, SparseSearch(steps, share=0.8))
    clean, first, *others = seen
    assert torch.equal(clean, x)
    assert (threat.distance(first, x) == 10).all()
    changed = threat.changed(first, x)
    assert (((first == 0) | (first == 1)) | ~changed).all()
    units = changed[:, 0].flatten(1) if per_pixel else changed.flatten(1)
    assert units.double().mean(0).std() < 0.1  # no unit is chosen more often than others
    assert 0.4 < first[changed].mean() < 0.6
    # 0.8 / 2 of 10, up to the 50th of 10,000 queries, then 0.8 / 4 of 10, ..., and in the end 1
    exchanged = [4, 2, *[1] * 99]
    for count, other in zip(exchanged, others, strict=False):
        now = threat.changed(other, x)
        assert (threat.distance(other, x) == 10).all()
        given_up, added = changed & ~now, now & ~changed
        for part in (given_up, added):
            size = part[:, 0].flatten(1).sum(1) if per_pixel else part.flatten(1).sum(1)
            assert (size == count).all()
        assert torch.equal(other[changed & now], first[changed & now])
        assert ((other == 0) | (other == 1))[added].all()
    assert len({tuple(row.flatten().tolist()) for row in torch.stack(others)[:, 0]}) > 60


def test_the_schedule_is_the_papers():
    """Divided by 2, 4, 5, 6, 8, 10, 12, 15 and 20, after 50, 200, ..., 8,000 of 10,000 proposals; or of any other number."""
    rule = SparseSearch(10_000, share=0.3)
    steps = torch.tensor(
        [0, 49, 50, 199, 200, 499, 500, 999, 1000, 1999, 2000, 3999, 4000, 5999, 6000, 7999, 8000, 9999]
    )
    divisors = torch.tensor([2, 2, 4, 4, 5, 5, 6, 6, 8, 8, 10, 10, 12, 12, 15, 15, 20, 20])
    torch.testing.assert_close(rule.shares(steps.double()), 0.3 / divisors.double())
    torch.testing.assert_close(
        SparseSearch(100, 0.3).shares(torch.tensor([0.0, 0.4, 1, 80])), 0.3 / torch.tensor([2.0, 2, 4, 20])
    )


def scripted(losses):
    script = iter(losses)

    def model(z):
        loss = next(script)
        return torch.tensor([[0.0, loss]], dtype=z.dtype).expand(len(z), 2)

    return model


def test_a_proposal_is_kept_only_if_it_is_better():
    """The first point is kept in any case, and may be worse than the clean input, which still comes back."""
    x, states = torch.full((2, 20), 0.5, dtype=torch.float64), []

    class Watched(SparseSearch):
        def finished(self, state):
            states.append(state)

    model = scripted([-2.0, -6.0, -7.0, -4.0, -4.0, -3.0, -5.0])
    _, result = asked(model, x, L0(3), 6, Watched(6))
    assert [state.loss[0].item() for state in states] == [-math.inf, -6, -6, -4, -4, -3]
    assert torch.equal(result.x_adv, x)
    assert result.loss.tolist() == [-2, -2]
    queries, bests = [state.query for state in states], [state.best for state in states]
    for position, source in enumerate([0, 0, 0, 2, 2, 4]):  # which query each best is
        assert torch.equal(bests[position], queries[source])
        assert torch.equal(states[position].chosen, bests[position] != x)
    assert torch.equal(queries[0], bests[0])


def test_all_free_units_may_be_chosen():
    """Then a proposal colors some of them anew; masked ones are never touched, with whatever eps."""
    x = torch.full((3, 2, 2, 3), 0.5, dtype=torch.float64)
    mask = torch.zeros(2, 2, 3, dtype=torch.bool)
    mask[0, 0, :2] = mask[1, 1, 2] = True
    for eps in (3, 5.5, math.inf, torch.tensor([3.0, 4.0, 100.0])):
        threat = L0(eps, mask=mask, per_pixel=True)
        seen, _ = asked(flat, x, threat, 30)
        for here in seen[1:]:
            assert torch.equal(here != x, mask.expand_as(x))
        assert len({tuple(here[0].flatten().tolist()) for here in seen[1:]}) > 1


def test_a_pixel_takes_any_colors_but_its_own():
    x = torch.full((2000, 2, 1, 1), 0.5, dtype=torch.float64)
    x[:, 0], x[1000:, 1] = 0.0, 1.0
    colors = asked(flat, x, L0(1, per_pixel=True), 1)[0][1].flatten(1).int()
    for rows, shares in ((colors[:1000], [0.25, 0.25, 0.25, 0.25]), (colors[1000:], [0.25, 0.0, 0.5, 0.25])):
        found = [
            (rows == rows.new_tensor(color)).all(1).double().mean().item() for color in ((0, 0), (0, 1), (1, 0), (1, 1))
        ]
        assert found == pytest.approx(shares, abs=0.05)


def test_a_radius_per_row():
    x, eps = images(4, 30), torch.tensor([0.0, 1.0, 4.9, 20.0])
    seen, _ = asked(flat, x, L0(eps), 40)
    for here in seen[1:]:
        assert (here != x).sum(1).tolist() == [0, 1, 4, 20]
    seen, _ = asked(flat, x, L0(0), 5)
    assert all(torch.equal(here, x) for here in seen)


def test_a_patch_within_bounds_of_its_own():
    x, threat = 2 * images(2, 1, 4, 4) - 1, Patch(2, bounds=(-1.0, 1.0))
    model = lambda z: torch.stack([0 * z[:, 0, 0, 0] + 99, -z.sum((1, 2, 3))], 1)  # noqa: E731
    x_adv = sparse_rs(model, x, torch.zeros(2).long(), threat, steps=50, generator=seeded())
    assert threat.contains(x_adv, x).all()
    assert ((x_adv == -1).sum((1, 2, 3)) >= 4).all()


WEIGHT = torch.randn(36, dtype=torch.float64, generator=seeded(3))


@pytest.mark.parametrize("per_pixel", [False, True])
@pytest.mark.parametrize("targeted", [False, True])
def test_it_comes_near_the_optimum_of_a_linear_model(per_pixel, targeted):
    """From the scores that an oracle gives, which has no gradient."""
    x, threat = images(4, 3, 3, 4), L0(4, per_pixel=per_pixel)
    value = lambda z: z.flatten(1) @ WEIGHT  # noqa: E731
    y = torch.full((4,), int(targeted))
    oracle = ScoreOracle(lambda z: torch.stack([100 - value(z), value(z)], 1))
    x_adv = sparse_rs(oracle, x, y, threat, steps=600, targeted=targeted, generator=seeded())
    best = value(threat.maximize(WEIGHT.reshape(3, 3, 4).expand_as(x), x)) - value(x)
    share = (value(x_adv) - value(x)) / best
    assert (share <= 1 + 1e-9).all()
    # a pixel that is changed keeps its colors as long as no other one is better
    assert share.mean() > (0.8 if per_pixel else 0.95), share.tolist()


def test_rows_stop_at_their_first_success_without_gradients():
    x = torch.full((40, 16), 0.5, dtype=torch.float64)
    x[0] = 0.9
    y = torch.zeros(40, dtype=torch.int64)
    model = lambda z: torch.stack([0 * z[:, 0] + 10.9, z.sum(1)], 1)  # noqa: E731
    result = search(model, x, y, L0(6), SparseSearch(200), steps=200, loss="margin", keep="first", generator=seeded())
    assert result.success.all()
    assert result.forwards[0] == 1
    assert torch.equal(result.x_adv[0], x[0])
    assert result.forwards[1:].min() < 20 < result.forwards.max() < 200
    assert (result.backwards == 0).all()
    queries = []
    sparse_rs(lambda z: queries.append(len(z)) or model(z), x, y, L0(6), steps=200, generator=seeded())
    assert sum(queries) == result.forwards.sum()
    assert len(queries) == result.forwards.max()


def test_alpha_is_the_share_that_is_exchanged():
    x, y = images(2, 40), torch.zeros(2, dtype=torch.int64)
    for alpha, count in ((0.3, 3), (0.8, 8)):
        seen = []
        model = lambda z, seen=seen: seen.append(z.clone()) or flat(z)  # noqa: E731
        settings = {} if alpha == 0.3 else {"alpha": alpha}
        sparse_rs(model, x, y, L0(20), steps=3, generator=seeded(), **settings)
        now, first = seen[2] != x, seen[1] != x
        assert (now & ~first).sum(1).tolist() == [count] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(threat=Linf(0.1)), "sparse_rs changes few features: take an L0 ball, or square for Linf, L2 and L1"),
        (dict(threat=L0(3, bounds=None)), "L0 without bounds"),
        (dict(alpha=0.0), r"share of changed units to exchange must be in \(0, 1\], got 0.0"),
        (dict(alpha=1.5), r"must be in \(0, 1\], got 1.5"),
    ],
)
def test_bad_input(settings, message):
    with pytest.raises(ValueError, match=message):
        sparse_rs(flat, torch.full((2, 4), 0.5), torch.zeros(2).long(), **{"threat": L0(2), **settings})
