"""SPSA and NES: the points that they ask about, beside Adam and momentum by hand, from scores alone."""

import math

import pytest
import torch

from advlib import L0, L1, L2, Linf, nes, spsa
from advlib.attacks.spsa import AdamAscent
from advlib.gradients import finite_differences
from advlib.oracles import ScoreOracle
from advlib.search import search
from tests.laws.table import seeded

Y = torch.zeros(2, dtype=torch.int64)


def hill(z):
    """One feature; the lead of class 1 is highest at 3, and never above 0."""
    lead = -(z[:, 0] - 3).square() - 0.5
    return torch.stack([0 * lead, lead], dim=1)


def asked(attack, model, x, threat, **settings):
    """All points that the model is asked about, and what comes back."""
    seen = []

    def watched(z):
        seen.append(z.clone())
        return model(z)

    return seen, attack(watched, x, Y[: len(x)], threat, generator=seeded(), **settings)


def test_spsa_is_adam_on_the_slope():
    """In one feature a two-sided difference is exact on a parabola, so all that is left is Adam, and the bounds."""
    x = torch.tensor([[0.2], [5.5]], dtype=torch.float64)
    threat = Linf(2.5, bounds=(0.0, 6.0))
    seen, _ = asked(spsa, hill, x, threat, steps=12, step_size=0.4, samples=1, delta=0.02, keep="strongest")
    visited = seen[::3]
    for row, start in enumerate(x[:, 0].tolist()):
        point, mean, square = start, 0.0, 0.0
        for step, here in enumerate(visited, start=1):
            assert here[row].item() == pytest.approx(point, abs=1e-7)
            slope = -2 * (point - 3)
            mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
            point += 0.4 * (mean / (1 - 0.9**step)) / (math.sqrt(square / (1 - 0.999**step)) + 1e-8)
            point = min(max(point, start - 2.5, 0.0), start + 2.5, 6.0)
    torch.testing.assert_close((seen[1] - x).abs(), torch.full_like(x, 0.02))
    assert len(visited) == 13
    assert visited[-1].tolist() != x.tolist()


@pytest.mark.parametrize(("attack", "delta"), [(spsa, 0.01), (nes, 0.001)])
def test_pairs_lie_around_the_point_and_not_elsewhere(attack, delta):
    x = torch.full((2, 40), 0.5, dtype=torch.float64)
    model = lambda z: torch.stack([0 * z[:, 0] + 9, z.sum(1) - z.square().sum(1)], 1)  # noqa: E731
    seen, _ = asked(attack, model, x, Linf(0.3), steps=4, samples=3, keep="strongest")
    assert len(seen) == 4 * 7 + 1
    for step in range(4):
        here, *around = seen[7 * step : 7 * step + 7]
        for ahead, behind in zip(around[::2], around[1::2], strict=True):
            torch.testing.assert_close((ahead + behind) / 2, here)
            away = (ahead - here) / delta
            assert away.std().item() == pytest.approx(1, abs=0.4)
            exact = torch.isclose(away.abs(), torch.ones_like(away), rtol=1e-6).all()
            assert bool(exact) == (attack is spsa)  # signs, or normal numbers
        assert not torch.equal(around[0], around[2])
    later = seen[7]
    assert not torch.equal(later, x)


def test_nes_steps_a_fifth_of_the_radius_along_its_momentum():
    x = torch.tensor([[0.3, 0.6]], dtype=torch.float64)
    model = lambda z: torch.stack([0 * z[:, 0] + 9, z[:, 0] - z[:, 1]], 1)  # noqa: E731
    for threat, length in ((Linf(0.2), 0.04), (Linf(torch.tensor([0.1])), 0.02)):
        seen, _ = asked(nes, model, x, threat, steps=3, samples=40, keep="strongest")
        way = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
        for step, here in enumerate(seen[::81]):
            torch.testing.assert_close(here, x + step * length * way)
    seen, _ = asked(nes, model, x, Linf(0.2), steps=2, samples=40, step_size=0.07, keep="strongest")
    torch.testing.assert_close(seen[81], x + 0.07 * way)


def test_nes_keeps_nine_tenths_of_its_momentum():
    """The slope turns where the feature passes 0.35: two steps up outweigh one down, unless they are forgotten."""
    x = torch.tensor([[0.3]], dtype=torch.float64)
    model = lambda z: torch.stack([0 * z[:, 0] + 9, -(z[:, 0] - 0.35).abs()], 1)  # noqa: E731
    for decay, third in ((None, 0.42), (0.9, 0.42), (0.0, 0.34)):
        settings = {} if decay is None else {"decay": decay}
        seen, _ = asked(nes, model, x, Linf(0.2), steps=3, samples=1, keep="strongest", **settings)
        assert [round(here.item(), 6) for here in seen[::3]] == [0.3, 0.34, 0.38, third]


def test_a_step_of_spsa_is_as_long_as_the_radius():
    x = torch.tensor([[0.3, 0.6], [0.3, 0.6]], dtype=torch.float64)
    model = lambda z: torch.stack([0 * z[:, 0] + 9, z[:, 0]], 1)  # noqa: E731
    threat = Linf(torch.tensor([0.1, 0.2]))
    for settings, lengths in (({}, (0.1, 0.2)), ({"step_size": 0.05}, (0.05, 0.05))):
        seen, _ = asked(spsa, model, x, threat, steps=1, samples=1, keep="strongest", **settings)
        assert seen[3][:, 0].tolist() == pytest.approx([0.3 + length for length in lengths], abs=1e-6)


class Refuses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        return z.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError("a backward pass was run")


@pytest.mark.parametrize("attack", [spsa, nes])
@pytest.mark.parametrize("threat", [Linf(0.2), L2(0.4), L1(0.5)])
def test_scores_are_enough(attack, threat):
    """The optimum of a linear model from values alone; the same through an oracle, which has no gradient to give."""
    weight = torch.tensor([0.5, -1.0, 2.0, 0.25, -1.5, 0.1], dtype=torch.float64)
    inner = lambda z: torch.stack([0 * z[:, 0] + 9, z @ weight], 1)  # noqa: E731
    x = torch.full((2, 6), 0.5, dtype=torch.float64)
    settings = {"steps": 20, "samples": 12, "step_size": 0.03, "keep": "strongest"}
    models = (lambda z: inner(Refuses.apply(z)), ScoreOracle(inner))
    found = [attack(model, x, Y, threat, generator=seeded(), **settings) for model in models]
    assert torch.equal(*found)
    best = ((threat.maximize(weight.expand_as(x), x) - x) * weight).sum(1)
    share = ((found[0] - x) * weight).sum(1) / best
    assert (share <= 1 + 1e-9).all()
    assert (share > (0.75 if threat.p == 1 else 0.9)).all(), share


@pytest.mark.parametrize("attack", [spsa, nes])
def test_a_row_stops_at_its_first_success(attack):
    """Row 0 is wrong from the start, row 1 after a step, row 2 never; each step costs 1 + 2 * 4 queries."""
    x = torch.tensor([[0.9], [0.45], [0.1]], dtype=torch.float64)
    model = lambda z: torch.stack([0 * z[:, 0] + 0.5, z[:, 0]], 1)  # noqa: E731
    rows = []
    watched = lambda z: rows.append(len(z)) or model(z)  # noqa: E731
    x_adv = attack(watched, x, torch.zeros(3).long(), Linf(0.1), steps=3, step_size=0.1, samples=4, generator=seeded())
    assert rows == 9 * [3] + 9 * [2] + 9 * [1] + [1]
    assert x_adv.flatten().tolist() == pytest.approx([0.9, 0.55, 0.2], abs=1e-6)


def test_what_is_given_reaches_the_search():
    """The margin's slope is 1 however sure the model is; that of the cross-entropy, asked for by name, is not."""
    x = torch.tensor([[0.5]], dtype=torch.float64)
    model = lambda z: torch.stack([0 * z[:, 0] + 40, z[:, 0]], 1)  # noqa: E731
    for attack in (spsa, nes):
        moved = attack(model, x, Y[:1], Linf(0.1), steps=2, samples=4, generator=seeded())
        assert moved.item() > 0.5
        settings = {"loss": "cross_entropy", "samples": 4, "generator": seeded()}
        by_name = attack(model, x, Y[:1], Linf(0.1), steps=2, **settings)
        assert torch.equal(by_name, x)
        aside = attack(model, x, Y[:1] + 1, Linf(0.1), steps=2, samples=4, targeted=True, generator=seeded())
        assert aside.item() > 0.5


def test_another_source_of_gradients_may_be_given():
    x = torch.full((1, 3), 0.5, dtype=torch.float64)
    model = lambda z: torch.stack([0 * z[:, 0] + 9, z.sum(1)], 1)  # noqa: E731
    rows = []
    watched = lambda z: rows.append(len(z)) or model(z)  # noqa: E731
    spsa(watched, x, Y[:1], Linf(0.1), steps=2, gradient=finite_differences(5, antithetic=False), generator=seeded())
    assert len(rows) == 2 * 6 + 1


def test_flat_models_leave_adam_where_it_is():
    x = torch.full((2, 3), 0.5, dtype=torch.float64)
    flat = lambda z: torch.stack([0 * z[:, 0] + 9, 0 * z[:, 0]], 1)  # noqa: E731
    seen, _ = asked(spsa, flat, x, Linf(0.1), steps=3, samples=2)
    assert all(torch.equal(here, x) for here in seen[::5])


@pytest.mark.parametrize(
    ("attack", "settings", "message"),
    [
        (spsa, dict(threat=L0(3)), "SPSA needs an Linf, L2 or L1 ball, got L0: take sparse_rs"),
        (spsa, dict(threat=L2(math.inf)), "step_size=None needs a finite eps"),
        (nes, dict(threat=L2(math.inf)), "step_size=None needs a finite eps"),
        (spsa, dict(samples=0), "samples must be at least 1, got 0"),
        (nes, dict(delta=0.0), "delta must be positive, got 0.0"),
    ],
)
def test_bad_input(attack, settings, message):
    with pytest.raises(ValueError, match=message):
        attack(hill, torch.full((2, 1), 0.5), Y, **{"threat": Linf(0.1), **settings})


def test_the_rule_takes_exact_gradients_too():
    x = torch.tensor([[0.2]], dtype=torch.float64)
    result = search(hill, x, Y[:1], Linf(0.5), AdamAscent(0.1), steps=20, loss="margin")
    assert result.x_adv.item() == pytest.approx(0.7)
    assert result.backwards.item() == 20
