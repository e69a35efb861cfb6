"""The square attack by hand: schedule, windows, what they paint in each norm, what is kept, and known optima."""

import itertools
import math

import pytest
import torch

from advlib import L0, L1, L2, Linf, square
from advlib.attacks.square import SquareSearch
from advlib.attacks.windows import planes, pyramid, sides, span, tiles
from advlib.models import Counted
from advlib.noise import Noise
from advlib.search import Evaluator, Feedback, search


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


# -- windows ------------------------------------------------------------------------------------------------------


def test_shares_halve_at_the_papers_times_rescaled_to_the_steps():
    times = [0, 9, 10, 49, 50, 199, 200, 499, 500, 999, 1000, 1999, 2000, 3999, 4000, 5999, 6000, 7999, 8000, 9999]
    halvings = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    expected = [0.8 / 2**k for k in halvings]
    assert SquareSearch(10_000, 0.8).shares(numbers(*times)).tolist() == pytest.approx(expected)
    assert SquareSearch(1000, 0.4).shares(numbers(0, 1, 5, 20)).tolist() == pytest.approx([0.4, 0.2, 0.1, 0.05])
    assert SquareSearch(None, 0.3).shares(numbers(0, 5000)).tolist() == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize(
    ("plane", "odd", "expected"),
    [
        ((28, 28), False, [(25, 25), (9, 9), (1, 1), (1, 1)]),  # sqrt(0.8 * 784) = 25.04, ...
        ((28, 28), True, [(25, 25), (9, 9), (3, 3), (3, 3)]),
        ((32, 32), False, [(29, 29), (10, 10), (1, 1), (1, 1)]),
        ((32, 32), True, [(29, 29), (11, 11), (3, 3), (3, 3)]),
        ((1, 12), False, [(1, 10), (1, 1), (1, 1), (1, 1)]),
        ((1, 12), True, [(1, 10), (1, 3), (1, 3), (1, 3)]),
        ((10, 2), False, [(8, 2), (1, 1), (1, 1), (1, 1)]),
        ((2, 10), True, [(2, 8), (2, 3), (2, 3), (2, 3)]),
        ((4, 4), True, [(4, 4), (3, 3), (3, 3), (3, 3)]),
    ],
)
def test_sides_are_the_nearest_whole_ones(plane, odd, expected):
    height, width = sides(numbers(0.8, 0.1, 0.8 / 512, 1e-9), *plane, odd)
    assert list(zip(height.tolist(), width.tolist(), strict=True)) == expected


def test_a_span_lies_anywhere_within_the_lines():
    lines = span(5, numbers(3, 3, 3, 5, 1), numbers(0.0, 0.5, 0.99, 0.9, 0.99))
    assert lines.inside.int().tolist() == [
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [0, 0, 0, 0, 1],
    ]
    assert lines.at(numbers(0.0, 0.4, 0.99, 0.5, 0.7)).tolist() == [0, 2, 4, 2, 4]
    for almost in (torch.tensor([1 - 2**-24]), numbers(1 - 2**-53)):  # the largest shares there are
        for length in range(1, 300):
            assert span(length, torch.ones(1), almost).inside[0].nonzero().item() == length - 1
            assert span(length, torch.zeros(1), almost).at(almost).item() == length - 1


def pyramid_of_the_paper(height, width, power):
    """The sum over the levels around each place, place by place; 1912.00049, before equation 2."""
    n = max(height, width) // 2
    eta = torch.zeros(height, width, dtype=torch.float64)
    for r, s in itertools.product(range(1, height + 1), range(1, width + 1)):
        top = n - max(abs(r - height // 2 - 1), abs(s - width // 2 - 1))
        eta[r - 1, s - 1] = sum(1 / (n + 1 - k) ** power for k in range(top + 1))
    return eta


@pytest.mark.parametrize("power", [2, 4])
@pytest.mark.parametrize("side", [3, 5, 7])
def test_pyramids_are_those_of_the_paper(side, power):
    down, across = span(9, numbers(side, side), numbers(0.5, 0.5)), span(9, numbers(side, side), numbers(0.0, 0.99))
    painted = pyramid(down, across, torch.tensor([[True], [False]]), power)
    half, first = side // 2, (9 - side + 1) // 2
    expected = torch.zeros(2, 9, 9, dtype=torch.float64)
    # the paper counts levels of both halves from the half width of the whole square
    above = torch.cat([pyramid_of_the_paper(half, side, power), -pyramid_of_the_paper(side - half, side, power)])
    expected[0, first : first + side, :side] = above
    expected[1, first : first + side, 9 - side :] = above.T
    torch.testing.assert_close(painted, expected)


def test_tiles_leave_an_even_border():
    even = tiles(28, numbers(0))
    assert even.span.offset[0].tolist() == [-1, *[0, 1, 2, 3, 4] * 5, -1, -1]
    assert even.tile[1:26].tolist() == [tile for tile in range(5) for _ in range(5)]
    assert (even.number, even.span.size.item()) == (5, 5)
    assert tiles(3, numbers(0)).span.offset[0].tolist() == [0, 0, 0]


def test_the_plane_is_the_last_two_dimensions():
    assert planes(torch.zeros(2, 7)).shape == (2, 1, 1, 7)
    assert planes(torch.zeros(2, 3, 7)).shape == (2, 1, 3, 7)
    assert planes(torch.zeros(2, 4, 3, 7)).shape == (2, 4, 3, 7)
    assert planes(torch.zeros(2, 5, 4, 3, 7)).shape == (2, 20, 3, 7)


# -- one proposal, from numbers chosen by hand --------------------------------------------------------------------


def flat(z):
    return torch.stack([z.flatten(1).sum(1) * 0, z.flatten(1).sum(1) * 0 - 1], 1)


PRIME = 2**31 - 1


def before(chosen):
    """The state of the generator from which the next numbers are those chosen, in [0, 1)."""
    following = (chosen * 2**24).long() * 2**7 + 2**6
    return following * pow(48271, -1, PRIME) % PRIME


def proposal(threat, x, best, chosen, share, steps=None, step=0.0):
    """The point asked about next, if the loss at ``best`` is the best so far and ``chosen`` are the random numbers."""
    rule, rows = SquareSearch(steps, share, stripes=False), len(x)
    with Evaluator(flat, x, torch.zeros(rows, dtype=torch.int64), threat) as evaluator:
        task = evaluator.task()
        low = torch.zeros(rows, dtype=torch.float64)
        feedback = Feedback(x, task, (low - 2,), (), flat(x))
        noise = Noise(evaluator.key, task.row)
        start = rule.start(task, torch.full_like(x, 9.0), noise)
        state = start._replace(best=best, loss=low, step=low + step, chance=before(chosen).expand(rows, -1))
        return rule.update(state, feedback, task, noise).query


def test_linf_paints_one_square_one_color_per_channel():
    x = torch.full((1, 2, 4, 4), 0.5, dtype=torch.float64)
    x[0, 0, 1, 2] = 0.95
    chosen = numbers(0.4, 0.9, 0.0, 0.0, 0.0, 0.2, 0.7)  # rows from 1 of 0 to 2, columns from 2; up, and down
    painted = proposal(Linf(0.1), x, x, chosen, 0.25)
    expected = x.clone()
    expected[0, 0, 1:3, 2:4], expected[0, 1, 1:3, 2:4] = 0.6, 0.4
    expected[0, 0, 1, 2] = 1.0  # the end of the bounds
    torch.testing.assert_close(painted, expected)


def test_numbers_are_those_of_the_minimal_standard_generator():
    """From 1 its 10,000th is 399268537, as in C++, whose ``minstd_rand`` it is."""
    x = torch.full((1, 1, 1, 1), 0.5)
    rule = SquareSearch(None, 1.0, stripes=False)
    with Evaluator(flat, x, torch.zeros(1, dtype=torch.int64), Linf(0.1)) as evaluator:
        task = evaluator.task()
        noise = Noise(evaluator.key, task.row)
        state, feedback = rule.start(task, x, noise), Feedback(x, task, (torch.zeros(1),), (), flat(x))
        state = state._replace(chance=torch.ones_like(state.chance))
        for _ in range(10_000):
            state = rule.update(state, feedback, task, noise)
    assert state.chance.unique().tolist() == [399268537]


def test_numbers_begin_anywhere_in_the_cycle_of_the_generator():
    x = torch.full((2000, 1, 2, 2), 0.5)
    with Evaluator(flat, x, torch.zeros(2000, dtype=torch.int64), Linf(0.1)) as evaluator:
        task = evaluator.task()
        chance = SquareSearch(None).start(task, x, Noise(evaluator.key, task.row)).chance
    assert chance.shape == (2000, 6)
    assert len(chance.unique()) > 0.99 * chance.numel()
    assert chance.double().mean().item() == pytest.approx(PRIME / 2, rel=0.02)
    assert 1 <= chance.min().item() < PRIME / 100
    assert 0.99 * PRIME < chance.max().item() < PRIME


def test_no_number_is_where_the_generator_would_stay(monkeypatch):
    monkeypatch.setattr(Noise, "uniform", lambda noise, like: torch.zeros_like(like))
    x = torch.full((2, 1, 2, 2), 0.5)
    with Evaluator(flat, x, torch.zeros(2, dtype=torch.int64), Linf(0.1)) as evaluator:
        task = evaluator.task()
        assert SquareSearch(None).start(task, x, Noise(evaluator.key, task.row)).chance.unique().tolist() == [1]


def test_the_largest_number_is_below_one():
    x = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    painted = proposal(Linf(0.1), x, x, numbers(*[1 - 2.0**-24] * 6), 0.25)
    assert (painted != x)[0, 0].nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


def test_windows_shrink_at_the_times_of_their_shares():
    steps = 317
    rule, step = SquareSearch(steps, 0.8, stripes=False), torch.arange(steps, dtype=torch.float64)
    x = torch.full((steps, 1, 20, 20), 0.5, dtype=torch.float64)
    with Evaluator(flat, x, torch.zeros(steps, dtype=torch.int64), Linf(0.1)) as evaluator:
        task = evaluator.task()
        noise = Noise(evaluator.key, task.row)
        state = rule.start(task, x, noise)._replace(step=step)
        feedback = Feedback(x, task, (step - 2,), (), flat(x))
        query = rule.update(state, feedback, task, noise).query
    height, width = sides(rule.shares(step), 20, 20, odd=False)
    assert torch.equal((query != x).flatten(1).sum(1), (height * width).long())


def test_linf_never_asks_about_what_it_has():
    """The color of the window's first and last pixels is not painted over it."""
    x, chosen = torch.full((1, 2, 4, 4), 0.5, dtype=torch.float64), numbers(0.4, 0.9, 0.0, 0.0, 0.0, 0.2, 0.7)
    first, last, other = (1, 2), (2, 3), (2, 2)
    for held, color in (((first, last), [0.4, 0.6]), ((first, other), [0.6, 0.4]), ((last, other), [0.6, 0.4])):
        best = x.clone()
        for row, column in held:
            best[0, 0, row, column], best[0, 1, row, column] = 0.6, 0.4
        painted = proposal(Linf(0.1), x, best, chosen, 0.25)
        assert painted[0, :, 1, 2].tolist() == pytest.approx(color)
    best[0, 0, 1:3, 2:4], best[0, 1, 1:3, 2:4] = 0.6, 0.6  # the same in one channel only
    painted = proposal(Linf(0.1), x, best, chosen, 0.25)
    assert painted[0, :, 1, 2].tolist() == pytest.approx([0.6, 0.4])


def test_a_window_without_columns_begins_within_the_plane():
    x = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    chosen = numbers(0.99, 0.99, 0.0, 0.0, 0.0, 0.2)  # the last place there is, where the stripes come next
    assert torch.equal(proposal(Linf(0.1), x, x, chosen, 0.25, step=-1.0), x)


def transferred(x, best, eps, p, first, second, side, split, signs):
    """Algorithm 3 of 1912.00049, channel by channel, in the p-norm; without bounds."""
    power = {1: 4, 2: 2}[p]
    norm = lambda value: value.abs().pow(p).sum() ** (1 / p)  # noqa: E731
    half = side // 2
    eta = torch.cat([pyramid_of_the_paper(half, side, power), -pyramid_of_the_paper(side - half, side, power)])
    eta = eta if split else eta.T
    w1, w2 = torch.zeros(x.shape[2:], dtype=torch.bool), torch.zeros(x.shape[2:], dtype=torch.bool)
    w1[first[0] : first[0] + side, first[1] : first[1] + side] = True
    w2[second[0] : second[0] + side, second[1] : second[1] + side] = True
    change = (best - x)[0].clone()
    unused = eps**p - norm(change) ** p
    for channel, sign in zip(change, signs, strict=True):
        available = (norm(channel[w1 | w2]) ** p + unused / len(signs)) ** (1 / p)
        wanted = sign * (eta / norm(eta)).flatten()
        if norm(channel[w1]) > 0:
            wanted = wanted + channel[w1] / norm(channel[w1])
        channel[w2] = 0
        channel[w1] = wanted / norm(wanted) * available
    return x + change


@pytest.mark.parametrize("p", [2])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("filled", [0.0, 0.7, 1.0])
def test_l2_moves_the_change_of_one_window_to_another(p, split, apart, filled):
    x = torch.rand(1, 2, 8, 9, dtype=torch.float64, generator=seeded())
    change = torch.randn(x.shape, dtype=torch.float64, generator=seeded(1))
    change[0, 1, :4] = 0  # a window without a change yet
    ball = {1: L1, 2: L2}[p](1.5, bounds=None)
    change = filled * 1.5 * change / ball.distance(change, 0 * change)
    second = (5, 6) if apart else (2, 3)
    places = [0.01 + a / (n - 2) for a, n in zip((1, 2, *second), (8, 9, 8, 9), strict=True)]
    chosen = numbers(*places, 0.3 if split else 0.6, 0.2, 0.8)
    got = proposal(ball, x, x + change, chosen, 9 / 72)
    expected = transferred(x, x + change, 1.5, p, (1, 2), second, 3, split, (-1, 1))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("p", [2])
def test_what_the_bounds_cut_off_goes_to_the_rest_of_the_window(p):
    """At 0, only one of the two pyramids has room; it gets what both were to have."""
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    ball = {1: L1, 2: L2}[p](0.6)
    got = proposal(ball, x, x, numbers(0.5, 0.5, 0.0, 0.0, 0.3, 0.7), 25 / 64)
    assert ball.distance(got, x).item() == pytest.approx(0.6)
    free = proposal({1: L1, 2: L2}[p](0.6, bounds=None), x, x, numbers(0.5, 0.5, 0.0, 0.0, 0.3, 0.7), 25 / 64)
    risen = free.clamp_min(0)
    torch.testing.assert_close(got, risen * 0.6 / ball.distance(risen, x))
    assert ball.distance(risen, x) < 0.5


@pytest.mark.parametrize("threat", [L1(1.5, bounds=None), L1(1.5)])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("filled", [0.0, 1.0])
def test_l1_adds_pyramids_and_project(threat, split, filled):
    """Each channel gets those of equation 2, as long as its share of the ball; at 0, only one of them has room."""
    x = torch.rand(1, 2, 8, 9, dtype=torch.float64, generator=seeded())
    x[0, 0, 1:4, 2:5] = 0
    best = threat.project(x + filled * torch.randn(x.shape, dtype=torch.float64, generator=seeded(1)), x)
    eta = torch.cat([pyramid_of_the_paper(1, 3, power := 4 // int(threat.p)), -pyramid_of_the_paper(2, 3, power)])
    eta = 1.5 / 2 ** (1 / threat.p) * (eta if split else eta.T) / torch.linalg.vector_norm(eta, ord=threat.p)
    moved = best.clone()
    moved[0, 0, 1:4, 2:5] -= eta
    moved[0, 1, 1:4, 2:5] += eta
    chosen = numbers(1.01 / 6, 2.01 / 7, 0.0, 0.0, 0.3 if split else 0.6, 0.2, 0.7)
    got = proposal(threat, x, best, chosen, 9 / 72)
    torch.testing.assert_close(got, threat.project(moved, x))


# -- the search ---------------------------------------------------------------------------------------------------


def asked(threat, x, steps, rule=None, model=flat, **options):
    """All points that the model is asked about."""
    seen = []
    recorded = lambda z: seen.append(z.clone()) or model(z)  # noqa: E731
    y = torch.zeros(len(x), dtype=torch.int64)
    settings = {"steps": steps, "loss": "margin", "generator": seeded(), **options}
    search(recorded, x, y, threat, rule or SquareSearch(steps), **settings)
    return seen


def test_linf_begins_with_vertical_stripes():
    x = torch.rand(20, 3, 6, 7, dtype=torch.float64, generator=seeded())
    clean, stripes, *others = asked(Linf(0.2), x, 30)
    assert torch.equal(clean, x)
    low, high = (x - 0.2).clamp_min(0), (x + 0.2).clamp_max(1)
    assert ((stripes == low) | (stripes == high)).all()
    up = (stripes == high).double()
    assert torch.equal(up, up[:, :, :1].expand_as(up))
    assert up.mean().item() == pytest.approx(0.5, abs=0.1)
    assert len({tuple(row.flatten().tolist()) for row in up[:, :, 0]}) == 20
    for other in others:  # none is better, so each is the stripes and one window
        assert ((other == low) | (other == high)).all()
        assert (other != stripes).flatten(1).any(1).all()


def test_single_pixels_change_and_all_of_them_alike():
    x = torch.full((80, 1, 4, 5), 0.5, dtype=torch.float64)
    _, stripes, *others = asked(Linf(0.1), x, 200, SquareSearch(None, 0.05))
    changes = torch.stack([other != stripes for other in others]).flatten(2)
    assert (changes.sum(2) == 1).all()
    share = changes.double().mean((0, 1))
    assert share.min() > 0.04
    assert share.max() < 0.06


@pytest.mark.parametrize("threat", [L2(0.7, bounds=None), L1(3.0, bounds=None)])
def test_l2_and_l1_begin_with_tiles_on_the_sphere(threat):
    x = torch.zeros(30, 3, 17, 16, dtype=torch.float64)
    _, opening, *others = asked(threat, x, 5)
    assert threat.distance(opening, x).tolist() == pytest.approx([threat.eps] * 30)
    assert (opening[:, :, :1] == 0).all()
    assert (opening[:, :, 16:] == 0).all()
    p, tile = threat.p, opening[:, :, 4:7, :3]
    above = torch.cat([pyramid_of_the_paper(1, 3, 4 // int(p)), -pyramid_of_the_paper(2, 3, 4 // int(p))])
    above = threat.eps / 3 ** (1 / p) * above / torch.linalg.vector_norm(above, ord=p)
    kinds = torch.stack([sign * way for sign in (1, -1) for way in (above, above.T)])
    kinds = threat.resized(threat.eps / 75 ** (1 / p)).project(kinds, 0 * kinds)  # of 3 x 25 tiles, all alike
    found = [torch.isclose(tile, kind.expand_as(tile)).flatten(2).all(2) for kind in kinds]
    assert torch.stack(found).any(0).all()
    assert all(kind.any() for kind in found)
    for other in others:
        assert threat.contains(other, x).all()


def scripted(losses):
    script = iter(losses)

    def model(z):
        loss = next(script)
        return torch.tensor([[0.0, loss]], dtype=z.dtype).expand(len(z), 2)

    return model


@pytest.mark.parametrize(
    ("stripes", "kept"), [(True, [-math.inf, -6, -6, -4, -4, -3]), (False, [-2, -2, -2, -2, -2, -2])]
)
def test_a_proposal_is_kept_only_if_it_is_better(stripes, kept):
    """The stripes are kept in any case, and may be worse than the clean input, which still comes back."""
    states = []

    class Watched(SquareSearch):
        def finished(self, state):
            states.append(state)

    x = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64)
    rule, model = Watched(6, stripes=stripes), scripted([-2.0, -6.0, -7.0, -4.0, -4.0, -3.0, -5.0])
    y = torch.zeros(2, dtype=torch.int64)
    result = search(model, x, y, Linf(0.1), rule, steps=6, loss="margin", generator=seeded())
    assert [state.loss[0].item() for state in states] == kept
    assert torch.equal(result.x_adv, x)
    assert result.loss.tolist() == [-2, -2]
    if stripes:
        queries = [state.query for state in states]
        bests = [state.best for state in states]
        for position, source in enumerate([0, 0, 0, 2, 2, 4]):  # which query each best is
            assert torch.equal(bests[position], queries[source])


def test_it_goes_on_from_a_point():
    x = torch.full((3, 1, 6, 6), 0.5, dtype=torch.float64)
    init = x + 0.09 * torch.rand(x.shape, dtype=torch.float64, generator=seeded())
    first, *others = asked(Linf(0.1), x, 60, SquareSearch(None, 0.25, stripes=False), init=init)
    assert torch.equal(first, init)
    for other in others:
        changed = (other != first).flatten(1)
        assert (changed.sum(1) == 9).all()
        assert torch.isclose((other - x).abs().flatten(1)[changed], torch.tensor(0.1, dtype=torch.float64)).all()


def test_rows_stop_at_their_first_success_without_gradients():
    x = torch.full((50, 1, 4, 4), 0.5, dtype=torch.float64)
    y = torch.zeros(50, dtype=torch.int64)
    model = lambda z: torch.stack([0.09 * 8 - (z - 0.5).flatten(1)[:, :10].sum(1), 0 * z[:, 0, 0, 0]], 1)  # noqa: E731
    result = search(model, x, y, Linf(0.1), SquareSearch(200), steps=200, loss="margin", keep="first")
    assert result.success.all()
    assert result.forwards.min() < 20 < result.forwards.max() < 200
    assert (result.backwards == 0).all()
    settings = {"steps": 200, "generator": seeded(5)}
    counted = Counted(model)
    together = square(counted, x, y, Linf(0.1), **settings)
    assert (model(together).argmax(1) == 1).all()
    assert counted.forwards < 50 * 100
    settings["generator"] = seeded(5)
    apart = square(model, x, y, Linf(0.1), batch_size=20, **settings)  # each row has numbers of its own
    assert torch.equal(apart, together)
    with pytest.raises(AssertionError):  # p_init is passed on
        torch.testing.assert_close(
            square(model, x, y, Linf(0.1), steps=9, generator=seeded()),
            square(model, x, y, Linf(0.1), steps=9, generator=seeded(), p_init=0.1),
        )


def test_restarts_draw_anew():
    x = torch.full((1, 1, 6, 6), 0.5, dtype=torch.float64)
    seen = asked(Linf(0.1), x, 1, restarts=2)
    assert not torch.equal(seen[1], seen[3])


WEIGHT = torch.randn(48, dtype=torch.float64, generator=seeded(3))


@pytest.mark.parametrize(
    ("threat", "shape", "reached"),
    [
        *[(Linf(0.2), shape, 1 - 1e-9) for shape in ((48,), (3, 4, 4), (1, 6, 8))],
        *[(L2(0.5), (48,), 0.8), (L2(0.5), (1, 6, 8), 0.7), (L2(0.5), (3, 4, 4), 0.55)],
        *[(L1(1.0), (48,), 0.8), (L1(1.0), (1, 6, 8), 0.6), (L1(1.0), (3, 4, 4), 0.3)],
    ],
)
def test_it_comes_near_the_optimum_of_a_linear_model(threat, shape, reached):
    """In Linf it is reached, feature by feature; in L2 and L1 windows have 3 x 3 features."""
    x = (1.2 * torch.rand(4, *shape, dtype=torch.float64, generator=seeded()) - 0.1).clamp(0, 1)
    value = lambda z: z.flatten(1) @ WEIGHT  # noqa: E731
    model = lambda z: torch.stack([100 - value(z), value(z)], 1)  # noqa: E731
    y = torch.zeros(4, dtype=torch.int64)
    x_adv = square(model, x, y, threat, steps=800, generator=seeded())
    best = value(threat.maximize(WEIGHT.reshape(shape).expand_as(x), x)) - value(x)
    share = (value(x_adv) - value(x)) / best
    assert (share <= 1 + 1e-9).all()
    assert share.mean() >= reached, share.tolist()


def test_masked_features_leave_their_share_to_the_others():
    x = torch.full((4, 1, 6, 6), 0.5, dtype=torch.float64)
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[1:5, 1:5] = True
    for threat in (L2(0.4, mask=mask), L1(0.4, mask=mask), Linf(0.1, mask=mask)):
        _, first, *_ = asked(threat, x, 2)
        assert ((first == x) | mask).all()
        assert threat.distance(first, x).tolist() == pytest.approx([float(threat.eps)] * 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(threat=L0(3)), "square attack needs an Linf, L2 or L1 ball, got L0: use jsma or salt_and_pepper"),
        (dict(threat=L2(math.inf)), "square attack needs a finite eps, got inf: give eps a number"),
        (dict(threat=Linf(torch.tensor([0.1, math.inf]))), "needs a finite eps"),
        (dict(p_init=0.0), r"share of the plane in a window must be in \(0, 1\], got 0.0"),
        (dict(p_init=1.5), r"must be in \(0, 1\], got 1.5"),
        (dict(p_init=math.nan), r"must be in \(0, 1\], got nan"),
        (dict(steps=0), "steps must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_input(settings, message):
    x = torch.full((2, 1, 4, 4), 0.5)
    with pytest.raises(ValueError, match=message):
        square(flat, x, torch.zeros(2, dtype=torch.int64), **{"threat": Linf(0.1), **settings})
