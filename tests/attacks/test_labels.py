"""What attacks that see labels alone share: where they start, what they spend, and what comes back."""

import math
import warnings

import pytest
import torch
from by_hand import WIDE, Y, curved, halfspace, points

import advlib
from advlib import L1, L2, Linf
from advlib.attacks.labels import search_labels, smooth_noise
from advlib.attacks.surfree import SurFree
from advlib.models import Counted
from advlib.noise import Key, Noise
from advlib.oracles import LabelOracle, OracleError
from tests.laws.table import batch, build, classes, seeded

ATTACKS = {
    "hop_skip_jump in L2": (advlib.hop_skip_jump, L2),
    "hop_skip_jump in Linf": (advlib.hop_skip_jump, Linf),
    "boundary_attack": (advlib.boundary_attack, L2),
    "surfree": (advlib.surfree, L2),
    "ray_search": (advlib.ray_search, Linf),
}
each = pytest.mark.parametrize(("attack", "norm"), ATTACKS.values(), ids=ATTACKS)
MODEL, X = build((12,)), batch((12,))
LABELS = classes(MODEL, X)


def run(attack, model=MODEL, x=X, y=LABELS, threat=None, norm=L2, **settings):
    return attack(model, x, y, threat or norm(math.inf), **{"generator": seeded(), "queries": 100, **settings})


@each
@pytest.mark.parametrize("queries", [1, 2, 3, 20, 100])
def test_no_row_asks_more_than_its_queries(attack, norm, queries):
    asked = []

    def model(z):
        asked.extend(map(tuple, z.tolist()))
        return MODEL(z)

    one = slice(0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if queries < 20 else "error")
        x_adv = run(attack, model, X[one], LABELS[one], norm=norm, queries=queries)
    assert queries * 0.7 - 1 <= len(asked) <= queries
    assert asked[0] == tuple(X[0].tolist())
    if queries > 3:
        assert asked[-1] == tuple(x_adv[0].tolist())  # asked about once more
        assert asked.count(asked[-1]) == 2


@each
def test_rows_that_are_wrong_already_come_back_after_one_question(attack, norm):
    y = (LABELS + 1) % 5
    counted = Counted(MODEL)
    assert torch.equal(run(attack, counted, y=y, norm=norm), X)
    assert counted.forwards == len(X)
    y[0] = LABELS[0]
    mixed = run(attack, y=y, norm=norm)
    assert torch.equal(mixed[1:], X[1:])
    assert torch.equal(mixed[:1], run(attack, x=X[:1], y=y[:1], norm=norm))


@each
def test_what_comes_back_is_the_nearest_success_asked_about(attack, norm):
    seen = []

    def model(z):
        seen.append(z.clone())
        return MODEL(z)

    threat = norm(math.inf)
    x_adv = run(attack, model, X[:1], LABELS[:1], threat)
    seen = torch.cat(seen)
    distance = torch.where(MODEL(seen).argmax(1) != LABELS[0], threat.distance(seen, X[:1].expand_as(seen)), math.inf)
    assert torch.equal(x_adv[0], seen[distance.argmin()])
    assert threat.contains(seen, X[:1].expand_as(seen)).all()  # within bounds


@each
def test_the_way_is_the_same_whatever_the_ball(attack, norm):
    anywhere = run(attack, norm=norm)
    far = norm(math.inf).distance(anywhere, X)
    eps = torch.where(torch.arange(6) % 2 == 0, 1.001, 0.999) * far
    x_adv = run(attack, threat=norm(eps))
    assert torch.equal(x_adv[::2], anywhere[::2])
    assert torch.equal(x_adv[1::2], X[1::2])


@each
def test_first_stops_at_a_success_within_eps(attack, norm):
    far = norm(math.inf).distance(run(attack, norm=norm), X)
    nearest, first = Counted(MODEL), Counted(MODEL)
    run(attack, nearest, threat=norm(1.5 * far))
    x_adv = run(attack, first, threat=norm(1.5 * far), keep="first")
    assert first.forwards < 0.9 * nearest.forwards
    assert norm(1.5 * far).contains(x_adv, X).all()
    assert (MODEL(x_adv).argmax(1) != LABELS).all()
    assert (norm(math.inf).distance(x_adv, X) > far).any()


@each
def test_bounds_may_be_any(attack, norm):
    """The same inputs in other units: from 0 to 4 in place of 0 to 1."""
    other = run(attack, lambda z: MODEL(z / 4), 4 * X, threat=norm(math.inf, bounds=(0.0, 4.0)))
    assert torch.allclose(other / 4, run(attack, norm=norm), rtol=0, atol=1e-12)


@each
@pytest.mark.parametrize("bounds", [WIDE, None])
def test_a_start_is_found_far_outside(attack, norm, bounds):
    x = points([0.1, 0.2])
    x_adv = run(attack, lambda z: halfspace(z / 10), x, Y, norm(math.inf, bounds=bounds), queries=200)
    assert halfspace(x_adv / 10).argmax(1) == 1
    assert norm(math.inf, bounds=bounds).distance(x_adv, x) < 5


@each
def test_the_search_starts_at_init(attack, norm):
    """Random points are never a success here: the class is left in a corner alone."""

    def model(z):
        far = (z[:, :6] - 0.99).amin(1, keepdim=True)
        return torch.cat([0 * far, far], dim=1)

    x, y = X.clone(), torch.zeros(6, dtype=torch.int64)
    x[:, 6:] = 0.5
    init = torch.ones_like(x)
    x_adv = run(attack, model, x, y, norm=norm, init=init, queries=300)
    assert (model(x_adv).argmax(1) == 1).all()
    assert (x_adv[:, :6] >= 0.99).all()
    assert norm(1.0).distance(x_adv, x).mean() < norm(1.0).distance(init, x).mean()


@each
def test_a_start_that_is_no_success_says_so(attack, norm):
    seen = []

    def model(z):
        seen.append(z.clone())
        return torch.stack([z[:, 0] < 2, z[:, 0] >= 2], dim=1).double()

    with pytest.warns(UserWarning, match=r"init is no success on 6 of 6 rows, .* nothing about robustness. Give init="):
        assert torch.equal(run(attack, model, y=0 * LABELS, norm=norm, init=X.flip(0), queries=20), X)
    if attack is not advlib.ray_search:  # which takes its direction alone
        assert torch.equal(torch.cat(seen), torch.cat([X, X.flip(0)]))
    with pytest.warns(UserWarning, match=r"no start was found, a random point that is a success, on 6 of 6 rows"):
        assert torch.equal(run(attack, model, y=0 * LABELS, norm=norm), X)


@each
def test_targeted_reaches_the_class_wanted(attack, norm):
    x, wanted = points([0.1, 0.2, -0.3]), torch.tensor([2])
    threat = norm(math.inf, bounds=(-1.0, 1.0))
    start = points([1.0, 0.9, 1.0])
    assert curved(start).argmax(1) == 2
    x_adv = run(attack, curved, x, wanted, threat, init=start, targeted=True)
    assert curved(x_adv).argmax(1) == 2
    assert threat.distance(x_adv, x) < threat.distance(start, x)


@pytest.mark.parametrize("batch_size", [1, 2, None])
@pytest.mark.parametrize("at_once", [True, False])
def test_of_points_as_near_the_first_comes_back(batch_size, at_once):
    near = points([0.5, 1.0], [1.0, 0.5], [1.0, 1.0])

    def method(walk):
        rows = torch.zeros(3, dtype=torch.int64)
        for part in [slice(0, 3)] if at_once else [slice(0, 1), slice(1, 2), slice(2, 3)]:
            assert walk.ask(near[part], rows[part]).all()

    result = search_labels(
        lambda z: 9 * halfspace(z - 0.4), points([0.5, 0.5]) - 0.25, Y, L2(9.0), method, batch_size=batch_size
    )
    assert torch.equal(result.x_adv, near[:1])


def test_random_starts_go_on_until_one_succeeds():
    """One more each time, in rows of their own: 1, 2, 4, ..., up to 100 in all."""
    asked = []

    def model(z):
        asked.append(len(z))
        return torch.stack([z[:, 0] < 2, z[:, 0] >= 2], dim=1).double()

    with pytest.warns(UserWarning, match="no start"):
        run(advlib.surfree, model, x=X[:2], y=0 * LABELS[:2], queries=1000)
    assert asked == [2, 2, 4, 8, 16, 32, 64, 74]


def test_a_row_that_has_a_start_looks_for_no_other():
    """All points but the input are of class 1, so the first row needs one, and the second tries all 100."""
    asked = []

    def model(z):
        asked.append(len(z))
        same = (z == 0.5).all(1)
        return torch.stack([same, ~same, 0 * same], dim=1).double()

    x, wanted = torch.full((2, 3), 0.5), torch.tensor([1, 2])
    with pytest.warns(UserWarning, match="no start was found, .* on 1 of 2 rows"):
        search_labels(model, x, wanted, L2(math.inf), lambda walk: walk.start(), targeted=True)
    assert asked == [2, 2, 2, 4, 8, 16, 32, 37, 1]


def test_without_bounds_random_starts_lie_on_either_side_of_the_input():
    seen = []

    def model(z):
        seen.append(z.clone())
        return torch.stack([z[:, 0] < 1e9, z[:, 0] >= 1e9], dim=1).double()

    x = torch.full((1, 1000), 3.0, dtype=torch.float64)
    with pytest.warns(UserWarning, match="no start"):
        search_labels(model, x, Y, L2(math.inf, bounds=None), lambda walk: walk.start(), generator=seeded())
    change = torch.cat(seen)[1:] - 3
    for kind in (0, 1):
        up = (change[kind::4] > 0).double().mean(1)
        assert torch.allclose(up, up.new_tensor(0.5), atol=0.08)


def test_bisection_ends_at_the_tolerance():
    """The boundary is at 0.3; an eighth of the way is left after three questions."""
    seen = []

    def model(z):
        seen.extend(z.flatten().tolist())
        return torch.cat([0.3 - z, z - 0.3], dim=1)

    def method(walk):
        assert walk.to_boundary(walk.start(), 0.125).point.item() == 0.375

    search_labels(model, points([0.0]), Y, L2(math.inf), method, init=points([1.0]))
    assert seen == [0.0, 1.0, 0.5, 0.25, 0.375, 0.375]  # the last is to see whether it still is a success


def test_smooth_noise_has_no_other_frequencies():
    like, noise = torch.zeros(50, 2, 8, 6, dtype=torch.float64), Noise(Key(seeded()), torch.arange(50))
    assert torch.equal(smooth_noise(noise, like, 1.0), noise.normal(like))
    assert torch.equal(smooth_noise(noise, like[:, 0, 0], 0.5), noise.normal(like[:, 0, 0]))
    down, across = (
        (math.pi / size * (torch.arange(size).double() + 0.5) * torch.arange(size).double()[:, None]).cos()
        for size in (8, 6)
    )
    size = (down @ smooth_noise(noise, like, 0.5) @ across.T).abs()
    assert size[..., :4, :3].min() > 1e-6
    size[..., :4, :3] = 0
    assert size.max() < 1e-12


def test_random_starts_are_no_more_than_the_questions():
    counted = Counted(lambda z: torch.cat([0 * z[:, :1] + 1, 0 * z[:, :1]], dim=1))
    with pytest.warns(UserWarning, match="no start"):
        run(advlib.surfree, counted, x=X[:2], y=0 * LABELS[:2], queries=20)
    assert counted.forwards == 2 * 19  # one would be for the last look


@each
def test_a_row_does_not_depend_on_how_many_others_are_asked_about(attack, norm):
    y = (LABELS + 1) % 5  # wrong already, and done
    y[5] = LABELS[5]
    assert torch.equal(run(attack, y=y, norm=norm)[5], run(attack, norm=norm)[5])


def test_random_starts_are_of_four_kinds():
    seen = []

    def model(z):
        seen.append(z.clone())
        return torch.stack([z[:, 0] < 2, z[:, 0] >= 2], dim=1).double()

    x = torch.full((1, 1000), 0.5, dtype=torch.float64)
    low, high = 0 * x[0] - 1, 0 * x[0] + 1
    low[:500], high[500:] = 0.25, 0.75
    with pytest.warns(UserWarning, match="no start"):
        run(advlib.surfree, model, x, Y, L2(math.inf, bounds=(low, high)), queries=1000)
    tried = torch.cat(seen)[1:]
    share = (tried - low) / (high - low)
    assert ((share >= 0) & (share <= 1)).all()
    uniform, ends, level = share[::4], share[1::4], share[3::4]
    assert torch.allclose(uniform.mean(1), uniform.new_tensor(0.5), atol=0.05)
    assert torch.allclose(uniform.var(1), uniform.new_tensor(1 / 12), atol=0.02)
    assert set(ends.flatten().tolist()) == {0, 1}
    spread = (tried[2::4] - x).abs().mean(1)
    assert spread.min() < 0.05 < 0.3 < spread.max()
    assert torch.allclose(level, level[:, :1].expand_as(level))
    assert level[:, 0].min() < 0.2 < 0.8 < level[:, 0].max()
    assert len(tried.unique(dim=0)) == 100


@each
def test_an_oracle_tells_as_much_as_the_model(attack, norm):
    assert torch.equal(run(attack, LabelOracle(MODEL), norm=norm), run(attack, norm=norm))


@each
def test_the_budget_of_an_oracle_is_shared_among_rows(attack, norm):
    oracle = LabelOracle(MODEL, budget=6 * 40 + 5)
    x_adv = run(attack, oracle, norm=norm, queries=1000)
    assert torch.equal(x_adv, run(attack, norm=norm, queries=40))
    assert oracle.queries <= 6 * 40
    poor = LabelOracle(MODEL, budget=5)
    with pytest.warns(UserWarning, match="no start"):
        assert torch.equal(run(attack, poor, norm=norm), X)
    assert poor.queries == 0


@each
def test_what_was_found_is_kept_where_the_model_fails(attack, norm):
    answers = []

    def model(z):
        if sum(answers) > 150:
            raise OSError("unplugged")
        answers.append(len(z))
        return MODEL(z)

    with pytest.raises(OracleError, match=r"failed after 1\d\d queries: OSError: unplugged") as caught:
        run(attack, LabelOracle(model), norm=norm, batch_size=20)
    result = caught.value.result
    assert result.success.all()
    assert (MODEL(result.x_adv).argmax(1) != LABELS).all()
    assert result.forwards.sum() == sum(answers) == caught.value.queries
    assert result.loss is None
    assert torch.equal(result.distance, norm(math.inf).distance(result.x_adv, X))


@each
def test_answers_at_random_are_told_from_others(attack, norm):
    noise = seeded()

    def model(z):
        return MODEL(z) + 0.03 * torch.randn(len(z), 5, generator=noise, dtype=z.dtype)

    with pytest.warns(UserWarning, match=r"answers at random: on \d of 6 rows .* asked again. Attack a majority vote"):
        run(attack, model, norm=norm, queries=300)


def test_the_result_below():
    result = search_labels(MODEL, X, LABELS, L2(1.0), SurFree(), queries=50, generator=seeded())
    assert torch.equal(result.success, MODEL(result.x_adv).argmax(1) != LABELS)
    assert torch.equal(result.forwards, torch.full((6,), 50))
    assert not result.backwards.any()


def test_logits_are_read_where_they_are():
    expected = run(advlib.surfree)
    assert torch.equal(
        run(advlib.surfree, lambda z: {"logits": MODEL(z)}, logits_of=lambda out: out["logits"]), expected
    )


WRONG_NORMS = {
    "hop_skip_jump": (L1, "HopSkipJump needs an L2 or Linf ball, got L1"),
    "boundary_attack": (Linf, "boundary attack needs an L2 ball, got Linf: ray_search or hop_skip_jump in Linf"),
    "surfree": (Linf, "SurFree needs an L2 ball, got Linf: ray_search or hop_skip_jump in Linf"),
    "ray_search": (L2, "ray search needs an Linf ball, got L2: surfree or hop_skip_jump in L2"),
}


@pytest.mark.parametrize("name", WRONG_NORMS)
def test_norms_that_an_attack_does_not_know(name):
    norm, message = WRONG_NORMS[name]
    with pytest.raises(ValueError, match=message):
        run(getattr(advlib, name), norm=norm)


def test_bad_input():
    with pytest.raises(ValueError, match="queries must be a whole number of at least 1, got 0"):
        run(advlib.surfree, queries=0)
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        run(advlib.surfree, batch_size=0)
    with pytest.raises(ValueError, match="keep must be 'nearest' or 'first', got 'strongest'"):
        run(advlib.surfree, keep="strongest")
    with pytest.raises(ValueError, match="init must match x"):
        run(advlib.surfree, init=X[:2])
    for attack in (advlib.surfree, advlib.hop_skip_jump, advlib.boundary_attack):
        for share in (0.0, 1.5):
            with pytest.raises(ValueError, match=rf"frequencies must be a share in \(0, 1\], got {share}"):
                run(attack, frequencies=share)
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        run(advlib.hop_skip_jump, samples=1)


@pytest.mark.parametrize("attack", [advlib.surfree, advlib.hop_skip_jump, advlib.boundary_attack])
def test_images_are_searched_in_low_frequencies(attack):
    """A linear model looks at the mean and at the highest frequency; the lower half sees the mean alone."""
    highest = (math.pi / 8 * (torch.arange(8.0) + 0.5) * 7).cos()
    weight = torch.stack([torch.ones(8, 8), highest[:, None] * highest]).flatten(1).double()

    def model(z):
        lead = z.flatten(1) @ weight.sum(0, keepdim=True).T - 6
        return torch.cat([0 * lead, lead], dim=1)

    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    threat = L2(math.inf, bounds=WIDE)
    for share, low in ((0.5, True), (1.0, False)):
        x_adv = run(attack, model, x, Y, threat, init=torch.ones_like(x), frequencies=share, queries=400)
        change = x_adv.flatten(1) @ weight.T
        assert change[0, 0] > 1
        assert (change[0, 1].abs() < 1e-6) == low
