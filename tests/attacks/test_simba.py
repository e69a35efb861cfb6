"""SimBA: its bases, and the points that it asks about, on models small enough to follow by hand."""

import math

import pytest
import scipy.fft
import torch

from advlib import L0, L1, L2, Linf, simba
from advlib.attacks.simba import SimpleSearch, _rings, _wave
from advlib.oracles import ScoreOracle
from advlib.search import search
from tests.laws.table import seeded


def flat(z):
    return torch.stack([0 * z.flatten(1)[:, 0] + 3, 0 * z.flatten(1)[:, 0]], 1)


def leading(lead):
    """A model of two classes, the second ahead by ``lead``."""
    return lambda z: torch.stack([0 * lead(z), lead(z)], 1)


def asked(model, x, threat, steps, **settings):
    """All points that the model is asked about, and what comes back."""
    seen = []

    def watched(z):
        seen.append(z.clone())
        return model(z)

    y = torch.zeros(len(x), dtype=torch.int64)
    return seen, simba(watched, x, y, threat, steps=steps, **{"generator": seeded(), **settings})


@pytest.mark.parametrize("shape", [(6,), (2, 3, 4), (2, 2, 2, 3)])
def test_waves_are_the_columns_of_the_inverse_cosine_transform(shape):
    like = torch.zeros(1, *shape, dtype=torch.float64)
    features = like.numel()
    waves = torch.cat([_wave(torch.tensor([[index]]), like) for index in range(features)])
    axes = (-1,) if len(shape) == 1 else (-2, -1)
    units = torch.eye(features, dtype=torch.float64).reshape(features, *shape).numpy()
    torch.testing.assert_close(waves, torch.from_numpy(scipy.fft.idctn(units, axes=axes, norm="ortho")))
    torch.testing.assert_close(waves.flatten(1) @ waves.flatten(1).T, torch.eye(features, dtype=torch.float64))


def test_low_frequencies_come_first():
    """Of a side of 32, four; then one more at a time, as in the paper; of 64, eight, and then two."""
    ring = _rings(torch.zeros(1, 2, 32, 64)).reshape(2, 32, 64)
    assert torch.equal(ring[0], ring[1])
    assert ring[0, :, 0].tolist() == [0, 0, 0, *range(29)]
    assert ring[0, 0].tolist() == [0] * 6 + [number // 2 for number in range(58)]
    assert ring[0, 5, 9] == max(ring[0, 5, 0], ring[0, 0, 9])
    x = torch.full((3, 1, 32, 32), 0.5, dtype=torch.float64)
    seen, _ = asked(flat, x, L2(5.0), steps=60, keep="strongest")
    first = seen[1:33:2]  # the model is flat, so that each direction is asked about both ways
    content = scipy.fft.dctn(torch.stack(first).sub(0.5).numpy(), axes=(-2, -1), norm="ortho")[:, :, 0]
    assert abs(content[:, :, :4, :4]).sum() == pytest.approx(16 * 3 * 0.2)
    places = abs(content).reshape(16, 3, -1).argmax(2)
    assert all(len(set(row)) == 16 for row in places.T)
    assert len({tuple(row) for row in places.T}) == 3  # in another order on each row
    fifth = scipy.fft.dctn((seen[33] - 0.5).numpy(), axes=(-2, -1), norm="ortho")
    assert abs(fifth[:, :, :5, :5]).sum() == pytest.approx(3 * 0.2)


def test_each_direction_is_asked_about_once_and_each_way():
    x = torch.full((2, 5), 0.5, dtype=torch.float64)
    seen, found = asked(flat, x, L2(1.0), steps=40, basis="pixels")
    assert len(seen) == 1 + 2 * 5  # then there is nothing left to try
    assert torch.equal(found, x)
    moves = torch.stack(seen[1:]) - x
    torch.testing.assert_close(moves[::2], -moves[1::2])
    torch.testing.assert_close(moves[::2].sum(0), torch.full_like(x, 0.2))
    assert ((moves != 0).sum(2) == 1).all()


def test_a_step_is_kept_if_the_loss_rises_and_only_then():
    """The lead rises with feature 0, falls with feature 1, and does not know feature 2."""
    x = torch.tensor([[0.5, 0.5, 0.5]], dtype=torch.float64)
    model = leading(lambda z: z[:, 0] - z[:, 1] - 9)
    seen, found = asked(model, x, Linf(0.3, bounds=None), steps=100, basis="pixels", keep="strongest")
    best, loss = seen[0] + 9, -math.inf
    for here in seen:
        assert not torch.equal(here, best)
        assert here is seen[0] or ((here - best).abs() > 1e-9).sum() == 1
        assert here is seen[0] or (here - best).abs().max() <= 0.2 + 1e-9
        value = (here[:, 0] - here[:, 1]).item()
        best, loss = (here, value) if value > loss else (best, loss)
    torch.testing.assert_close(found, torch.tensor([[0.8, 0.2, 0.5]], dtype=torch.float64))
    # kept: two steps of features 0 and 1 each, 0.2 and the rest; a last look each way at all three that can move
    assert len(seen) < 1 + 2 * 3 * 3
    assert torch.equal(best, found)


def test_the_other_way_only_after_a_failure():
    x = torch.full((1, 4), 0.5, dtype=torch.float64)
    seen, _ = asked(leading(lambda z: z.sum(1) - 9), x, L2(3.0, bounds=None), steps=3, basis="pixels")
    assert torch.allclose(seen[-1].sum(), x.sum() + 3 * 0.2)
    seen, _ = asked(leading(lambda z: -z.sum(1) - 9), x, L2(3.0, bounds=None), steps=4, basis="pixels")
    sums = [round((here - x).sum().item(), 6) for here in seen]
    assert sums == [0.0, 0.2, -0.2, 0.0, -0.4]


def test_ways_without_room_are_not_asked_about():
    """At 0 there is only up, at 1 only down; what has little room comes second."""
    x = torch.tensor([[0.0, 1.0, 0.9, 0.0, 0.5]], dtype=torch.float64)
    mask = torch.tensor([True, True, True, False, True])
    seen, _ = asked(flat, x, L2(1.0, mask=mask), steps=40, basis="pixels", step_size=0.3)
    moves = [tuple(round(value, 6) for value in (here - x)[0].tolist()) for here in seen[1:]]
    assert len(moves) == 6
    assert set(moves) == {
        *[(0.3, 0, 0, 0, 0), (0, -0.3, 0, 0, 0), (0, 0, -0.3, 0, 0), (0, 0, 0.1, 0, 0)],
        *[(0, 0, 0, 0, 0.3), (0, 0, 0, 0, -0.3)],
    }
    assert moves.index((0, 0, -0.3, 0, 0)) + 1 == moves.index((0, 0, 0.1, 0, 0))


def test_all_cosines_are_tried_under_a_mask():
    x = torch.full((1, 6), 0.5, dtype=torch.float64)
    seen, _ = asked(flat, x, L2(1.0, mask=torch.tensor([True, True] + 4 * [False])), steps=40)
    assert len(seen) == 1 + 2 * 6
    assert all(((here == x) | (torch.arange(6) < 2)).all() for here in seen)


def test_nothing_free_ends_at_once():
    x = torch.full((1, 4), 0.5, dtype=torch.float64)
    seen, found = asked(flat, x, L2(1.0, mask=torch.zeros(4, dtype=torch.bool)), steps=9, basis="pixels")
    assert len(seen) <= 3
    assert torch.equal(found, x)


@pytest.mark.parametrize("basis", ["pixels", "dct"])
@pytest.mark.parametrize("threat", [Linf(0.3), L2(0.5), L2(math.inf), L1(0.6)])
def test_it_reaches_the_optimum_of_a_linear_model(basis, threat):
    """Over several passes, through an oracle that has no gradient; what one direction cannot mend is left."""
    weight = torch.tensor([0.5, -1.0, 2.0, 0.25, -1.5, 0.1], dtype=torch.float64)
    x = torch.tensor([[0.5] * 6, [0.0, 0.1, 0.9, 1.0, 0.5, 0.5]], dtype=torch.float64)
    oracle = ScoreOracle(leading(lambda z: z @ weight - 9))
    settings = {"step_size": 0.1, "basis": basis, "keep": "strongest", "generator": seeded()}
    found = simba(oracle, x, torch.zeros(2).long(), threat, steps=400, **settings)
    best = ((threat.maximize(weight.expand_as(x), x) - x) * weight).sum(1)
    share = ((found - x) * weight).sum(1) / best
    assert (share <= 1 + 1e-9).all()
    assert (share > 0.9).all(), share


def test_rows_stop_at_their_first_success():
    x = torch.tensor([[0.9, 0.5], [0.5, 0.5], [0.1, 0.1]], dtype=torch.float64)
    y, model = torch.zeros(3, dtype=torch.int64), leading(lambda z: z.sum(1) - 1.15)
    rule = SimpleSearch(0.2, "pixels")
    result = search(model, x, y, Linf(0.3), rule, steps=100, loss="margin", keep="first", generator=seeded())
    assert result.success.tolist() == [True, True, False]
    assert result.forwards.tolist()[:2] == [1, 2]
    assert (result.backwards == 0).all()
    assert result.forwards[2] < 20  # at the corner there is nothing left to try
    torch.testing.assert_close(result.x_adv[2], torch.full((2,), 0.4, dtype=torch.float64))
    rows = []
    simba(lambda z: rows.append(len(z)) or model(z), x, y, Linf(0.3), steps=100, basis="pixels", generator=seeded())
    assert sum(rows) == result.forwards.sum()


def test_what_is_given_reaches_the_search():
    x = torch.full((1, 8), 0.5, dtype=torch.float64)
    model = leading(lambda z: z[:, 0] - 50)
    default, moved = asked(model, x, Linf(0.1), steps=60)
    assert moved[0, 0] > 0.5
    torch.testing.assert_close(default[1], x + 0.2 / math.sqrt(8))  # the lowest of the cosines
    _, same = asked(lambda z: model(z).float(), x, Linf(0.1), steps=60, loss="cross_entropy")
    assert torch.equal(same, x)  # the probability of the class is 1 wherever it looks
    _, lowered = asked(model, x, Linf(0.1), steps=60, basis="pixels", loss=lambda logits, y, target=None: -logits[:, 1])
    assert lowered[0, 0] < 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(threat=L0(3)), "SimBA needs an Linf, L2 or L1 ball, got L0: take sparse_rs"),
        (dict(basis="fourier"), "basis must be 'pixels' or 'dct', got 'fourier'"),
    ],
)
def test_bad_input(settings, message):
    with pytest.raises(ValueError, match=message):
        simba(flat, torch.full((2, 4), 0.5), torch.zeros(2).long(), **{"threat": Linf(0.1), **settings})
