"""Auto-PGD by hand: checkpoints, the way back to the best point, sparse steps, wider balls, and targets in turn."""

import math

import pytest
import torch
from torch import nn

from advlib import L0, L1, L2, Linf, apgd
from advlib.attacks.apgd import AutoPGD, MomentumPGD, SparsePGD
from advlib.attacks.targets import ranked_classes, search_targets
from advlib.losses import margin
from advlib.models import Counted
from advlib.search import search

Y = torch.tensor([0])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def of_height(height):
    """A model of two classes whose margin loss for class 0 is twice ``height(z)``, ``(N, 1)``."""
    return lambda z: torch.cat([-height(z), height(z)], dim=1)


def linear(*weight):
    w = torch.tensor(weight, dtype=torch.float64)
    return of_height(lambda z: (z * w).sum(1, keepdim=True))


def states(rule, model, x, threat, steps, **options):
    """What the rule's state was after each update, and the result."""
    seen = []

    class Watched(type(rule)):
        def finished(self, state):
            seen.append(state)

    result = search(
        model, x, torch.zeros(len(x), dtype=torch.int64), threat, Watched(rule.steps), steps=steps, **options
    )
    return seen, result


# -- the closed form --------------------------------------------------------------------------------------------

WEIGHT = (0.5, -1.0, 2.0, 0.25, -1.5, 0.1, -0.3, 0.7)
BALLS = [Linf(0.2), Linf(0.7), L2(0.4), L2(1.2), L1(0.3), L1(1.3)]


@pytest.mark.parametrize("threat", BALLS)
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_linear_optimum_up_to_rounding(threat, loss):
    x = torch.rand(12, 8, generator=seeded(), dtype=torch.float64)
    y, weight = torch.zeros(12, dtype=torch.int64), torch.tensor(WEIGHT, dtype=torch.float64)
    best = threat.maximize(weight.expand_as(x), x)
    x_adv = apgd(linear(*WEIGHT), x, y, threat, loss=loss, generator=seeded())
    rise, most = ((z - x) @ weight for z in (x_adv, best))
    assert (rise <= most + 1e-12).all()
    # in L1 features of a step move equally, and the projection takes from those at a bound too
    slack = {0.3: 1e-9, 1.3: 0.12}[threat.eps] if isinstance(threat, L1) else 1e-9
    assert (rise >= most * (1 - slack)).all(), (rise / most).tolist()


# -- Linf and L2 ------------------------------------------------------------------------------------------------


def test_the_first_step_is_plain_and_the_others_have_momentum():
    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    model = of_height(lambda z: z)
    path = []

    def recording(z):
        path.append(z.item())
        return model(z) * (1 if len(path) == 1 else -1)  # up once, then down

    search(recording, x, Y, Linf(1.0, bounds=None), AutoPGD(100), steps=3, loss="margin", init=x - 0.9)
    # 2 eps up from -0.4, cut at 1.5; then 2 down, cut at -0.5, of which 3/4, and 1/4 of the last step onwards
    first, second = 1.5, 1.5 + 0.75 * -2.0 + 0.25 * 1.9
    third = second + 0.75 * (-0.5 - second) + 0.25 * (second - first)
    assert path == pytest.approx([-0.4, first, second, max(third, -0.5)])


def test_checkpoints_come_closer_and_halve_a_stalled_step():
    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    seen, _ = states(MomentumPGD(100), of_height(lambda z: -((z - 0.505) ** 2)), x, Linf(0.1), 100, loss="margin")
    lengths = [0.2, *(state.length.item() for state in seen)]
    halved = [step for step in range(100) if lengths[step + 1] < lengths[step]]
    # 22, then 19, 16, 13, 10, 7, 6, ... apart
    checkpoints = [22, 41, 57, 70, 80, 87, 93, 99]
    assert set(halved) <= set(checkpoints)
    assert halved[0] == 22
    assert [step for step in range(100) if seen[step].since.item() == 0 and step] == checkpoints
    assert lengths[23] == pytest.approx(0.1)


def test_few_steps_have_a_checkpoint_at_each():
    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    seen, _ = states(MomentumPGD(4), of_height(lambda z: -((z - 0.505) ** 2)), x, Linf(0.1), 4, loss="margin")
    assert [state.period.item() for state in seen] == [1, 1, 1, 1]


def scripted(values, slopes):
    """A model whose margin loss and its slope at the k-th question are given; it records where it is asked."""
    asked = []

    def model(z):
        k = len(asked)
        asked.append(z.detach().flatten().tolist())
        height = values[k] / 2 + (slopes[k] * (z - z.detach())).sum(1, keepdim=True) / 2
        return torch.cat([-height, height], dim=1)

    return model, asked


@pytest.mark.parametrize(
    ("values", "halves"),
    [
        ([-9, -8, -7, -6, -5], False),  # four of four raise it
        ([-9, -8, -7, -6, -7], False),  # three of four are 0.75
        ([-9, -8, -7, -8, -9], True),  # two are too few
        ([-9, -9, -9, -9, -8], True),  # an equal loss is no gain
        ([-5, -9, -8, -7, -6], True),  # three gains, but nothing better than the start
    ],
)
def test_what_stalls(values, halves):
    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    model, _ = scripted([*values, -9], [1.0] * 6)
    seen, _ = states(MomentumPGD(19), model, x, Linf(0.1), 5, loss="margin")  # first checkpoint after 4 updates
    assert [state.length.item() for state in seen[:4]] == [0.2] * 4
    assert seen[4].length.item() == (0.1 if halves else 0.2)


def test_a_halved_row_goes_on_from_its_best_point_with_the_gradient_there():
    x = torch.full((1, 2), 0.5, dtype=torch.float64)
    model, asked = scripted([-9, -5, -6, -7, -8, -9], [1.0, -1.0, -1.0, -1.0, 1.0, 1.0])
    seen, _ = states(MomentumPGD(19), model, x, Linf(0.1), 5, loss="margin")
    assert asked[4] != asked[1]
    best = torch.tensor([asked[1]], dtype=torch.float64)
    assert torch.equal(seen[4].best, best)
    assert torch.equal(seen[4].previous, best)  # the next step's momentum is counted from there
    ahead = (best - 0.1).clamp(0.4, 0.6)
    expected = best + 0.75 * (ahead - best) + 0.25 * (best - torch.tensor([asked[3]], dtype=torch.float64))
    assert torch.allclose(seen[4].query, expected.clamp(0.4, 0.6))


def test_the_second_condition_waits_a_period_after_a_halving():
    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    # steps=19: periods 4, 3, 2, 1, ...; the first checkpoint halves; then only gains, below the best
    values = [-1, -9, -9, -9, -9, -8, -7, -6, -5, -4, -3]
    model, _ = scripted(values, [1.0] * 11)
    seen, _ = states(MomentumPGD(19), model, x, Linf(0.1), 10, loss="margin")
    lengths = [state.length.item() for state in seen]
    assert lengths[4:7] == pytest.approx([0.1] * 3)
    assert lengths[7] == pytest.approx(0.1)  # kept: the step was halved at the checkpoint before
    assert lengths[9] == pytest.approx(0.05)  # kept then, and still nothing better


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(1.0)])
def test_rows_go_their_own_ways(threat):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 5)).double()
    x = torch.rand(6, 10, generator=seeded(), dtype=torch.float64)
    y = model(x).argmax(1)
    options = {"steps": 30, "random_start": False}
    whole = apgd(model, x, y, threat, **options)
    for i in range(6):
        alone = apgd(model, x[i : i + 1], y[i : i + 1], threat, **options)
        assert torch.allclose(alone[0], whole[i], rtol=0, atol=1e-6)


# -- L1 ---------------------------------------------------------------------------------------------------------


def test_sparse_steps_by_hand():
    x = torch.full((1, 20), 0.5, dtype=torch.float64)
    weight = torch.arange(20, 0, -1).double()
    seen, _ = states(SparsePGD(250), linear(*weight.tolist()), x, L1(0.2), 12, loss="margin")
    # a fifth of 20 features, a quarter of 3 eps each
    assert torch.allclose(seen[0].query[0, :4] - 0.5, torch.full((4,), 0.15).double())
    assert torch.equal(seen[0].query[0, 4:], x[0, 4:])
    assert seen[0].moves.item() == 4
    # at the checkpoint four features of 20 have changed: fewer, so the step stays 3 eps and moves 4 / 1.5
    assert [state.length.item() for state in seen[:5]] == pytest.approx([0.6] * 5)
    assert seen[4].moves.item() == pytest.approx(4 / 1.5)
    assert seen[4].changed.item() == 4
    # then two features take it all; fewer than 0.95 of four again
    assert seen[8].changed.item() == 2
    assert seen[8].length.item() == pytest.approx(0.6)


def test_where_the_best_point_is_sparser_the_next_step_starts_there_with_the_gradient_there():
    x, unit = torch.full((1, 20), 0.5, dtype=torch.float64), torch.eye(20).double()
    # the first checkpoint is after two updates; all features lead up in turn, from the second point the second
    model, asked = scripted([-9, -1, -9, -9], unit)
    states(SparsePGD(125), model, x, L1(0.1), 3, loss="margin")
    moved = [[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.15, 0.15, 0.0], [0.15, 0.15, 0.0]]
    assert [[value - 0.5 for value in point[:3]] for point in asked] == [pytest.approx(change) for change in moved]


def test_sparse_steps_shorten_where_the_best_point_gets_no_sparser():
    x = torch.full((1, 20), 0.5, dtype=torch.float64)
    model, _ = scripted([-1.0] + [-9.0] * 60, [1.0] * 61)  # the start stays the best point: nothing changed in it
    seen, _ = states(SparsePGD(50), model, x, L1(0.1), 15, loss="margin")
    lengths = [state.length.item() for state in seen]
    assert lengths[:4] == pytest.approx([0.3, 0.3, 0.2, 0.2 / 1.5])
    assert lengths[13] == pytest.approx(0.03)


def test_features_without_room_are_passed_over():
    x = torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.5]], dtype=torch.float64)
    seen, _ = states(SparsePGD(100), linear(9.0, 8.0, 1.0, 1.0, 1.0), x, L1(0.1), 1, loss="margin")
    assert torch.allclose(seen[0].query - x, torch.tensor([[0.0, 0.3, 0, 0, 0]]).double())


def test_a_stage_begins_anew_at_the_best_point_of_the_one_before():
    x = torch.full((1, 20), 0.5, dtype=torch.float64)
    # steps=20: stages of 6, 6 and 8 updates; the best points are those of questions 2 and 9
    values = [-9, -9, -1, *[-9] * 6, -2, *[-9] * 20]
    model, asked = scripted(values, [1.0] * 30)
    seen, _ = states(SparsePGD(20), model, x, L1(0.1), 20, loss="margin")
    for step, best, radius in ((6, 2, 0.2), (12, 9, 0.1)):
        state, point = seen[step - 1], torch.tensor([asked[best]]).double()
        assert torch.equal(state.query, L1(radius).at(x).project(point, x))
        assert state.best_loss.item() == -torch.inf
        assert (state.moves.item(), state.changed.item(), state.since.item()) == (4, 20, 0)
        assert state.length.item() == pytest.approx(radius)
        assert state.step.item() == step


def test_wider_balls_come_first():
    x, far = torch.full((3, 10), 0.5, dtype=torch.float64), []

    def model(z):
        far.append((z - x).abs().sum(1).max().item())
        return linear(*range(10, 0, -1))(z)

    y = torch.zeros(3, dtype=torch.int64)
    result = search(model, x, y, L1(0.1), AutoPGD(100), steps=100, random_start=True, generator=seeded())
    assert max(far[:30]) == pytest.approx(0.3)
    assert max(far[30:60]) == pytest.approx(0.2)
    assert max(far[60:]) == pytest.approx(0.1)
    assert len(far) == 101
    assert L1(0.1).contains(result.x_adv, x).all()


def test_a_uniform_start_in_l1_is_thinned():
    x = torch.full((5, 3000), 0.5, dtype=torch.float64)
    asked = []
    model = lambda z: asked.append(z.detach().clone()) or linear(*range(3000))(z)  # noqa: E731
    apgd(model, x, torch.zeros(5, dtype=torch.int64), L1(1.0), steps=4, generator=seeded())
    changed = (asked[0] != x).sum(1)
    assert (changed > 15).all()
    assert (changed < 60).all()
    start = x.clone()
    start[:, :10] += 0.05
    apgd(model, x, torch.zeros(5, dtype=torch.int64), L1(1.0), steps=4, init=start)
    assert torch.allclose(asked[6], start)


def test_rows_start_at_random_points_of_their_own():
    for threat in (Linf(0.1), L2(0.1), L1(0.1)):
        asked = []
        model = lambda z: asked.append(z.detach().clone()) or linear(*range(1, 101))(z)  # noqa: B023, E731
        x = torch.full((4, 100), 0.5, dtype=torch.float64)
        apgd(model, x, torch.zeros(4, dtype=torch.int64), threat, steps=5, generator=seeded())
        assert len({tuple(row.tolist()) for row in asked[0]}) == 4
        start = x.clone()
        start[:, 0] += 0.3
        asked.clear()
        apgd(model, x, torch.zeros(4, dtype=torch.int64), threat, steps=5, init=start)
        assert torch.allclose(asked[0], start if threat.p == 1 else threat.project(start, x))
        asked.clear()
        apgd(model, x, torch.zeros(4, dtype=torch.int64), threat, steps=5, random_start=False)
        assert torch.equal(asked[0], x)


# -- targets ----------------------------------------------------------------------------------------------------


def test_classes_are_ranked_without_the_true_one():
    logits = torch.tensor([[3.0, 1.0, 2.0, 5.0], [0.0, 9.0, 1.0, 1.0]])
    assert ranked_classes(logits, torch.tensor([0, 1])).tolist() == [[3, 2, 1], [2, 3, 0]]


LAYER = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)


def four(z):
    return 3 * z @ LAYER


@pytest.mark.parametrize("threat", [Linf(0.01), L1(0.02)])
def test_each_class_is_aimed_at_in_turn(threat):
    x = torch.tensor([[0.9, 0.2, 0.4, 0.3], [0.1, 0.2, 0.7, 0.05]], dtype=torch.float64)
    y = torch.tensor([0, 2])
    aims = []

    def loss(output, y, target=None):
        aims.append(target.tolist())
        return margin(output, y, target)

    options = {"loss": loss, "restarts": 2, "random_start": True, "generator": seeded()}
    result = search_targets(four, x, y, threat, AutoPGD(2), steps=2, targets=2, **options)
    order = [aim for k, aim in enumerate(aims) if k == 0 or aim != aims[k - 1]]
    assert order == [[2, 1], [3, 0]] * 2
    assert result.forwards.tolist() == [1 + 4 * 3] * 2
    assert not result.success.any()
    # all runs count: the largest loss, that of the likeliest class
    assert torch.allclose(result.loss, margin(four(result.x_adv), y))


def test_rows_that_break_leave_before_the_next_class():
    x = torch.tensor([[0.5, 0.45, 0.1, 0.2], [0.9, 0.2, 0.4, 0.3]], dtype=torch.float64)
    options = {"targets": 9, "loss": "margin", "keep": "first"}
    result = search_targets(four, x, Y.repeat(2), Linf(0.1), AutoPGD(4), steps=4, **options)
    assert result.success.tolist() == [True, False]
    assert result.forwards[1] == 1 + 3 * 5  # there are three wrong classes
    assert result.forwards[0] <= 1 + 5
    assert four(result.x_adv).argmax(1)[0] == 1


def test_init_starts_the_first_run_at_each_class():
    x = torch.tensor([[0.9, 0.2, 0.4, 0.3]], dtype=torch.float64)
    start, asked = x + 0.05, []
    model = lambda z: asked.append(z.detach().clone()) or four(z)  # noqa: E731
    search_targets(model, x, Y, Linf(0.1), AutoPGD(2), targets=2, steps=2, loss="margin", init=start, restarts=2)
    firsts = [asked[1 + 3 * run] for run in range(4)]
    assert [torch.allclose(first, start) for first in firsts] == [True, True, False, False]
    assert torch.equal(firsts[2], x)


def test_the_first_run_at_each_class_is_a_first_run_to_the_rule():
    restarts = []

    class Watched(AutoPGD):
        def start(self, task, point, noise):
            restarts.append(noise.restart)
            return super().start(task, point, noise)

    search_targets(four, torch.full((1, 4), 0.5).double(), Y, Linf(0.1), Watched(1), targets=2, steps=1, restarts=2)
    assert restarts == [0, 0, 2, 3]


def test_targeted_reaches_the_wanted_class():
    x = torch.tensor([[0.5, 0.45, 0.4, 0.2]], dtype=torch.float64)
    for threat in (Linf(0.1), L2(0.2), L1(0.3)):
        x_adv = apgd(four, x, torch.tensor([2]), threat, steps=20, targeted=True, generator=seeded())
        assert four(x_adv).argmax(1).tolist() == [2]


def test_costs_one_pass_each_way_a_step():
    x = torch.rand(2, 4, generator=seeded(), dtype=torch.float64)
    for threat in (Linf(0.1), L2(0.1), L1(0.1)):
        counted = Counted(four)
        apgd(counted, x, torch.tensor([0, 1]), threat, steps=7)
        assert (counted.forwards, counted.backwards) == (16, 14)


BAD = {
    "L0": (dict(threat=L0(2)), "Linf, L2 or L1 threat model, got L0: use advlib.pgd or advlib.jsma"),
    "infinite": (dict(threat=L2(math.inf), random_start=False), "takes a finite eps"),
    "infinite in L1": (dict(threat=L1(math.inf), random_start=False), "takes a finite eps"),
    "steps": (dict(steps=0), "steps must be a whole number of at least 1, got 0"),
    "steps in L1": (dict(steps=0, threat=L1(1.0)), "steps must be a whole number of at least 1, got 0"),
    "targets": (dict(targets=1.5), "targets must be a whole number of classes, at least 1, got 1.5"),
    "targets below 0": (dict(targets=-1), "targets must be a whole number of classes"),
    "aimed twice": (dict(targets=2, target=Y), "leave targeted and target out"),
    "aimed at y": (dict(targets=2, targeted=True), "leave targeted and target out"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    settings, message = BAD[case]
    x = torch.full((1, 4), 0.5, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        apgd(four, x, Y, **{"threat": Linf(0.1), **settings})
