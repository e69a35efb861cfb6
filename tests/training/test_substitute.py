"""Substitutes: which inputs the target is asked about, by hand, and how well a copy copies."""

import pytest
import torch
from torch import nn

from advlib.defenses import LabelSmoothing
from advlib.oracles import LabelOracle, OutOfBudget
from advlib.training import train_substitute


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def target(x):
    """Class 1 where the first feature is above 0.5."""
    return torch.stack([0.5 - x[:, 0], x[:, 0] - 0.5], dim=1)


def copy():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(2, 2)


SEEDS = torch.rand(12, 2, generator=seeded())


class Still(nn.Module):
    """A substitute whose training changes nothing: the probability of class 1 grows with both features."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return torch.stack([-x.sum(1), x.sum(1)], dim=1) + 0 * self.nothing


def asked(**settings):
    """What the target is asked about, beside the seeds, and the result."""
    questions = []

    def watched(x):
        questions.append(x.clone())
        return target(x)

    settings = {"rounds": 1, "epochs": 1, "generator": seeded(), **settings}
    found = train_substitute(LabelOracle(watched), SEEDS, Still(), **settings)
    assert torch.equal(questions[0], SEEDS)
    assert torch.equal(torch.cat(questions), found.x)
    return questions[1:], found


def towards(x, step):
    """Neighbours along the gradient of the class that the target says."""
    sign = 2.0 * (x[:, :1] > 0.5) - 1
    return (x + step * sign).clamp(0, 1)


def test_neighbours_lie_along_the_gradient_of_the_class_that_the_target_says():
    (first, second), found = asked(rounds=2)
    torch.testing.assert_close(first, towards(SEEDS, -0.2))  # back, towards the other class
    torch.testing.assert_close(second, towards(torch.cat([SEEDS, first]), -0.2))
    assert found.queries == (12, 24, 48)
    assert torch.equal(found.y, (found.x[:, 0] > 0.5).long())
    assert found.agreement == ()


def test_neighbours_keep_within_bounds():
    (first,), _ = asked(step=0.9)
    torch.testing.assert_close(first, towards(SEEDS, 0.9))
    (free,), _ = asked(step=0.9, bounds=None)
    torch.testing.assert_close((free - SEEDS).abs(), torch.full_like(SEEDS, 0.9))
    (narrow,), _ = asked(bounds=(0.4, 0.6))
    assert narrow.min() == pytest.approx(0.4)
    assert narrow.max() == pytest.approx(0.6)


def test_a_periodic_step_turns():
    rounds, _ = asked(rounds=5, period=2, step=0.001, bounds=None)
    known = SEEDS
    for number, new in enumerate(rounds):
        torch.testing.assert_close(new, known + (towards(known, 0.001) - known) * (-1) ** (number // 2))
        known = torch.cat([known, new])


def test_a_reservoir_limits_the_questions_of_a_round_and_draws_who_is_moved():
    rounds, found = asked(rounds=3, reservoir=9, step=0.001, bounds=None)
    assert found.queries == (12, 21, 30, 39)
    known = SEEDS
    moved = []
    for new in rounds:
        sign = 2 * (known[:, :1] > 0.5) - 1
        apart = (new[:, None] - (known + 0.001 * sign)).abs().amax(2)
        assert (apart.amin(1) < 1e-5).all()
        moved.append(apart.argmin(1).tolist())
        assert len(new) == 9
        known = torch.cat([known, new])
    assert len(set(moved[0])) == 9
    assert moved[0] != list(range(9))
    other, _ = asked(rounds=3, reservoir=9, step=0.001, bounds=None, generator=seeded(1))
    assert not torch.equal(other[0], rounds[0])
    again, _ = asked(rounds=3, reservoir=9, step=0.001, bounds=None)
    assert torch.equal(again[2], rounds[2])


def test_the_budget_is_kept_and_spent():
    oracle = LabelOracle(target, budget=40)
    found = train_substitute(oracle, SEEDS, copy(), rounds=6, epochs=1)
    assert found.queries == (12, 24, 40)
    assert oracle.queries == len(found.x) == len(found.y) == 40
    with pytest.raises(OutOfBudget):
        train_substitute(oracle, SEEDS, copy())


def test_random_neighbours_go_any_way():
    (first,), _ = asked(augmentation="random", bounds=None, step=0.1)
    signs = ((first - SEEDS) / 0.1).round()
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(first, SEEDS + 0.1 * signs)
    assert not torch.equal(signs[:, 0], signs[:, 1])


@pytest.mark.parametrize("augmentation", ["jacobian", "random"])
def test_a_copy_learns_to_agree(augmentation):
    x = torch.rand(400, 2, generator=seeded(5))
    holdout = x, target(x).argmax(1)
    model = copy()
    found = train_substitute(
        LabelOracle(target),
        SEEDS,
        model,
        rounds=5,
        epochs=20,
        period=1,  # without, the inputs only move away from where the target changes its mind
        augmentation=augmentation,
        holdout=holdout,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9),
        generator=seeded(),
    )
    assert found.model is model
    assert not model.training
    assert len(found.agreement) == len(found.queries) == 6
    assert found.agreement[-1] > 0.9
    with torch.no_grad():
        assert found.agreement[-1] == pytest.approx(float((model(x).argmax(1) == holdout[1]).double().mean()))


def test_the_generator_decides():
    runs = []
    for seed in (3, 3, 4):
        model = copy()
        train_substitute(target, SEEDS, model, rounds=2, epochs=2, batch_size=4, generator=seeded(seed))
        runs.append(model.weight.detach())
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_epochs_batches_objective_and_optimizer_are_used():
    def weight(**settings):
        model = copy()
        train_substitute(target, SEEDS, model, **{"rounds": 1, "epochs": 1, "generator": seeded(), **settings})
        return model.weight.detach()

    plain = weight()
    changed = [weight(epochs=2), weight(batch_size=3), weight(objective=LabelSmoothing(0.2))]
    assert all(not torch.equal(plain, other) for other in changed)
    model = copy()
    train_substitute(target, SEEDS, model, rounds=1, epochs=1, optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    assert torch.equal(model.weight, copy().weight)


def test_any_kind_of_target():
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.tree import DecisionTreeClassifier

    x = torch.rand(200, 2, generator=seeded(6))
    y = target(x).argmax(1)
    for estimator in (DecisionTreeClassifier(random_state=0), KNeighborsClassifier(3)):
        oracle = LabelOracle(estimator.fit(x.numpy(), y.numpy()))
        model = copy()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
        found = train_substitute(
            oracle, SEEDS, model, rounds=4, period=1, epochs=20, optimizer=optimizer, holdout=(x, y), generator=seeded()
        )
        assert found.agreement[-1] > 0.85
        assert oracle.queries == found.queries[-1] == 12 * 2**4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "rounds must be a whole number of at least 1, got 0"),
        ({"reservoir": 0}, "reservoir must be a whole number of at least 1, got 0"),
        ({"period": 0}, "period must be a whole number of at least 1, got 0"),
        ({"augmentation": "noise"}, "augmentation must be 'jacobian' or 'random', got 'noise'"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        train_substitute(target, SEEDS, copy(), **settings)
