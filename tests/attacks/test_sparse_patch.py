"""Sparse-RS over patches: what its proposals paint and where they move, and how near they come to a known optimum."""

from types import SimpleNamespace

import pytest
import torch

from advlib import Linf, Patch, sparse_rs
from advlib.attacks.sparse_patch import SparsePatchSearch
from advlib.oracles import ScoreOracle
from advlib.search import search
from tests.laws.table import seeded


def flat(z):
    return torch.stack([0 * z.flatten(1)[:, 0] + 3, 0 * z.flatten(1)[:, 0]], 1)


def asked(model, x, threat, steps, rule=None, **settings):
    """All points that the model is asked about, the states in between, and the result."""
    seen, states = [], []

    class Watched(SparsePatchSearch):
        def finished(self, state):
            states.append(state)

    def watched(z):
        seen.append(z.clone())
        return model(z)

    y, rule = torch.zeros(len(x), dtype=torch.int64), Watched(threat, steps, **settings)
    result = search(watched, x, y, Linf(torch.inf), rule, steps=steps, loss="margin", generator=seeded())
    return seen, states, result


X = (1.5 * torch.rand(20, 2, 9, 11, dtype=torch.float64, generator=seeded()) - 0.25).clamp(0.1, 0.9)


def cut(image, place, sides=(4, 5)):
    top, left = (int(at) for at in place)
    return image[:, top : top + sides[0], left : left + sides[1]]


def test_squares_and_every_fifth_time_a_move():
    """The model is flat, so that every proposal is made from the first patch."""
    threat = Patch((4, 5))
    seen, states, result = asked(flat, X, threat, 200)
    assert torch.equal(seen[0], X)
    assert torch.equal(result.x_adv, X)
    for here in seen[1:]:
        assert threat.contains(here, X).all()
    first, corner = states[0].content, states[0].corner
    assert ((first == 0) | (first == 1)).all()
    assert 0.3 < first.mean() < 0.7
    colors = [len(set(map(tuple, patch.flatten(1).T.tolist()))) for patch in first]
    assert max(colors) > 2  # of several squares
    assert corner.min() == 0
    assert corner.amax(0).tolist() == [5, 6]
    for row in range(len(X)):
        assert torch.equal(cut(seen[1][row], corner[row]), first[row])
    sizes, shifts = [], []
    for step, (here, state) in enumerate(zip(seen[2:], states[1:], strict=True)):
        assert torch.equal(state.content, first)
        if step % 5 == 4:
            assert torch.equal(state.painted, first)
            shifts.append((state.moved - corner).abs())
        else:
            assert torch.equal(state.moved, corner)
            other = state.painted != first
            assert other.flatten(1).any(1).all()
            for row in range(len(X)):
                assert torch.equal(cut(here[row], corner[row]), state.painted[row])
                lines, columns = (other[row].any(0).any(axis).nonzero().flatten() for axis in (1, 0))
                height, width = (int(ends[-1] - ends[0]) + 1 for ends in (lines, columns))
                sizes.append((step, height, width))
                inside = state.painted[row, :, lines[0] : lines[-1] + 1, columns[0] : columns[-1] + 1]
                assert (inside.flatten(1) == inside[:, 0, :1]).all()
    assert max(max(height, width) for step, height, width in sizes if step == 0) == 3  # 40 % of 20 pixels: 2.8 squared
    assert all(height == width == 1 for step, height, width in sizes if step > 12)
    assert max(map(max, ((height, width) for step, height, width in sizes))) == 3
    far = torch.stack(shifts)  # at first up to 0.75 of 9 and 11 pixels, in the end 1
    assert (far[:5].amax((0, 1)) >= 5).all()
    assert far[-1].max() == 1
    assert far[len(far) // 2 :].amax((0, 1)).tolist() <= [3, 4]


def test_a_proposal_is_kept_only_if_it_is_better():
    script = iter([-2.0, -6.0, -7.0, -4.0, -4.0, -3.0, -5.0, -9.0])
    model = lambda z: torch.tensor([[0.0, next(script)]], dtype=z.dtype).expand(len(z), 2)  # noqa: E731
    _, states, result = asked(model, X[:2], Patch(4), 7)
    assert [state.loss[0].item() for state in states] == [-torch.inf, -6, -6, -4, -4, -3, -3]
    assert torch.equal(result.x_adv, X[:2])
    for position, source in enumerate([0, 0, 0, 2, 2, 4, 4]):  # which proposal each best is
        assert torch.equal(states[position].content, states[source].painted)
        assert torch.equal(states[position].corner, states[source].moved)


def test_a_better_place_is_kept():
    """The lead rises with the place of the one dark patch, down and to the right."""
    x, threat = torch.ones(3, 1, 12, 12, dtype=torch.float64), Patch(3)
    weight = torch.arange(12.0).double().view(12, 1) + torch.arange(12.0).double() + 1
    model = lambda z: torch.stack([0 * z[:, 0, 0, 0] + 1e5, ((1 - z[:, 0]) * weight).sum((1, 2))], 1)  # noqa: E731
    x_adv = sparse_rs(model, x, torch.zeros(3).long(), threat, steps=300, generator=seeded())
    assert threat.contains(x_adv, x).all()
    assert (x_adv[:, :, 9:, 9:] == 0).all()


@pytest.mark.parametrize("targeted", [False, True])
def test_a_patch_at_a_given_place_reaches_the_optimum_of_a_linear_model(targeted):
    weight = torch.randn(2, 9, 11, dtype=torch.float64, generator=seeded(3))
    threat = Patch((2, 3), location=(4, 5), bounds=(0.1, 0.9))
    oracle = ScoreOracle(lambda z: torch.stack([0 * z[:, 0, 0, 0] + 100, (z * weight).sum((1, 2, 3))], 1))
    y = torch.full((20,), int(targeted))
    x_adv = sparse_rs(oracle, X, y, threat, steps=250, targeted=targeted, generator=seeded())
    best = X.clone()
    best[:, :, 4:6, 5:8] = torch.where(weight > 0, 0.9, 0.1)[:, 4:6, 5:8].double()
    torch.testing.assert_close(x_adv, best)


def test_rows_stop_at_their_first_success():
    x = torch.full((30, 1, 6, 6), 0.5, dtype=torch.float64)
    x[0] = 0.9
    model = lambda z: torch.stack([0 * z[:, 0, 0, 0] + 20.4, z.sum((1, 2, 3))], 1)  # noqa: E731
    rows = []
    watched = lambda z: rows.append(len(z)) or model(z)  # noqa: E731
    x_adv = sparse_rs(watched, x, torch.zeros(30).long(), Patch(3), steps=200, generator=seeded())
    assert (model(x_adv).argmax(1) == 1).all()
    assert torch.equal(x_adv[0], x[0])
    assert rows[:2] == [30, 29]
    assert rows[-1] < 10
    assert len(rows) < 100


def test_alpha_is_the_share_that_is_painted_first():
    for alpha, side in ((None, 6), (0.09, 3)):
        seen, y = [], torch.zeros(20, dtype=torch.int64)
        model = lambda z, seen=seen: seen.append(z.clone()) or flat(z)  # noqa: E731
        settings = {} if alpha is None else {"alpha": alpha}
        threat = Patch(9, location=(0, 0))
        sparse_rs(model, X, y, threat, steps=2, generator=seeded(), **settings)
        lines = (seen[2] != seen[1]).any(1).any(2)
        assert lines.sum(1).max() == side  # 40 % of 81 pixels: 5.7 squared


@pytest.mark.parametrize(
    ("threat", "message"),
    [
        (Patch(3, rotation=5.0), "sparse_rs paints upright patches of full size, got Patch"),
        (Patch(3, scale=0.5), "sparse_rs paints upright patches of full size, got Patch"),
        (Patch(12), "the patch must lie on the images"),
    ],
)
def test_bad_input(threat, message):
    with pytest.raises(ValueError, match=message):
        sparse_rs(flat, X, torch.zeros(20).long(), threat)


def test_moves_stay_within_the_image():
    rule, task = SparsePatchSearch(Patch(3), 100), SimpleNamespace(x=torch.zeros(2, 1, 8, 8, dtype=torch.float64))
    corner = torch.tensor([[0.0, 1.0], [5.0, 4.0]], dtype=torch.float64)
    chance = torch.tensor([[0.0, 0.0], [0.999, 0.999]], dtype=torch.float64)
    moved = rule._moved(corner, chance, torch.zeros(2, dtype=torch.float64), task)
    assert moved.tolist() == [[0.0, 0.0], [5.0, 5.0]]


def test_a_color_is_the_pixels_own_only_where_all_channels_agree():
    rule = SparsePatchSearch(Patch(1), 100)
    content = torch.tensor([[[[0.0]], [[1.0]]], [[[0.0]], [[0.0]]]])  # black is one channel's own, and both channels'
    chance = torch.cat([torch.zeros(2, 5), torch.full((2, 2), 0.9)], 1)  # black is drawn
    painted = rule._painted(content, torch.ones(2), chance).flatten(1)
    assert painted.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_the_first_patch_is_tried_as_it_is():
    _, states, _ = asked(flat, X, Patch((4, 5), location=(1, 1)), 3)
    assert torch.equal(states[0].painted, states[0].content)
    assert (states[1].painted != states[1].content).flatten(1).any(1).all()
