"""Recorded steps find what steps one by one find, whatever the rule, the batch and the restarts."""

import gc
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import nn

import advlib
from advlib import L2, Linf, pgd
from advlib.attacks.pgd import ProjectedGradient
from advlib.oracles import ScoreOracle
from advlib.search import search
from advlib.slots import AcceleratedDriver, Queue, slots_for
from advlib.threats.base import choose
from tests.acceleration.traced import RECORDINGS, recorded
from tests.laws.table import batch, build, classes, seeded

pytestmark = [pytest.mark.usefixtures("recorded_on_cpu"), pytest.mark.timeout(40)]  # a slot that never ends hangs

SETTINGS = [
    {"keep": keep, "restarts": restarts, "batch_size": size}
    for keep in ("strongest", "first", "nearest")
    for restarts in (1, 3)
    for size in (None, 1, 7, 64)
]


@pytest.mark.parametrize("settings", [*SETTINGS, {"keep": "last"}], ids=str)
def test_every_way_of_keeping(settings):
    model, x = build((12,)), batch((12,), rows=23)
    y = classes(model, x)
    options = {"steps": 5, "random_start": True, "loss": "margin"} | settings
    expected = search(model, x, y, Linf(0.05), ProjectedGradient(5), generator=seeded(), **options)
    found, _ = recorded(search, model, x, y, Linf(0.05), ProjectedGradient(5), generator=seeded(), **options)
    assert torch.allclose(found.x_adv, expected.x_adv, rtol=0, atol=1e-12)
    if settings["keep"] != "last":
        assert torch.equal(found.success, expected.success)
        assert torch.allclose(found.loss, expected.loss, rtol=0, atol=1e-12)
        assert 0 < expected.success.sum() < len(x)
    assert torch.equal(found.forwards, expected.forwards)
    # a slot does not know that its last question needs no gradient
    assert torch.equal(found.backwards, found.forwards if settings["keep"] == "first" else expected.backwards)


def test_rows_keep_their_radius_target_and_start():
    model, x = build((12,)), batch((12,), rows=23)
    y = classes(model, x)
    target = (y + 1 + torch.arange(23) % 4) % 5
    init = (x + 0.01).clamp(0, 1)
    settings = {"target": target, "init": init, "keep": "first", "restarts": 2, "steps": 4, "batch_size": 5}
    threat = Linf(torch.linspace(0.01, 0.2, 23))
    expected = pgd(model, x, y, threat, generator=seeded(), **settings)
    assert torch.equal(recorded(pgd, model, x, y, threat, generator=seeded(), **settings)[0], expected)


def test_a_recording_serves_other_inputs_other_noise_and_other_weights():
    model = build((12,))
    noisy = advlib.gradients.finite_differences(4)
    with advlib.accelerate(fold=False, channels_last=False) as acceleration:
        for seed in range(3):
            x = batch((12,), rows=9, seed=seed)
            y = classes(model, x)
            settings = {"steps": 4, "gradient": noisy}
            found = pgd(model, x, y, Linf(0.1), generator=seeded(seed), **settings)
            with advlib.accelerate(graphs=False, fold=False, channels_last=False):
                assert torch.allclose(
                    found, pgd(model, x, y, Linf(0.1), generator=seeded(seed), **settings), atol=1e-12
                )
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.5)
        assert len(acceleration._loops) == 1


@pytest.mark.parametrize("change", ["model", "loss", "rule", "weights", "eps", "shape", "goal", "casts"])
def test_what_differs_is_recorded_anew(change):
    model, x = build((12,)), batch((12,), rows=9)
    y = classes(model, x)
    with advlib.accelerate(fold=False, channels_last=False) as acceleration:
        pgd(model, x, y, Linf(0.1), steps=3, generator=seeded())
        eps, settings = 0.1, {"steps": 3, "loss": "cross_entropy", "targeted": False}
        if change == "model":
            model = build((12,), seed=5)
        elif change == "weights":
            for module in model.modules():
                if isinstance(module, nn.Linear):
                    module.weight = nn.Parameter(module.weight.detach().flip(0))
        elif change == "shape":
            x, y = x[:6], y[:6]
        elif change == "eps":
            eps = 0.2
        else:
            changed = {"loss": {"loss": "margin"}, "rule": {"steps": 4}, "goal": {"targeted": True}, "casts": {}}
            settings |= changed[change]
        with torch.autocast("cpu", torch.bfloat16, enabled=change == "casts"):  # which leaves float64 alone
            found = pgd(model, x, y, Linf(eps), generator=seeded(), **settings)
        assert len(acceleration._loops) == 2
    assert torch.equal(found, pgd(model, x, y, Linf(eps), generator=seeded(), **settings))


def test_a_plain_function_is_recorded_for_one_call_alone():
    network, x = build((12,)), batch((12,), rows=9)
    y = classes(network, x)
    weights = [1.0]

    def model(points):
        return network(points) * weights[0]

    with advlib.accelerate() as acceleration:
        for weights[0] in (1.0, -1.0):
            found = pgd(model, x, y, Linf(0.1), steps=3, generator=seeded())
            with advlib.accelerate(graphs=False):
                assert torch.equal(found, pgd(model, x, y, Linf(0.1), steps=3, generator=seeded()))
        gc.collect()
        assert len(acceleration._loops) == len(acceleration._passing) == 0
    assert acceleration.reasons == []


@pytest.mark.parametrize(
    "attack", [partial(advlib.apgd, loss="dlr", targets=3), advlib.attacks.virtual_adversarial_perturbation]
)
def test_a_rule_made_for_one_call_is_recorded_for_it_alone(attack):
    model, x = build((12,)), batch((12,), rows=9)
    y = classes(model, x)
    expected = attack(model, x, y, Linf(0.1), steps=3, generator=seeded())
    with advlib.accelerate() as acceleration:
        found = attack(model, x, y, Linf(0.1), steps=3, generator=seeded())
        gc.collect()
        assert len(acceleration._loops) == len(acceleration._passing) == 0
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("keep", ["strongest", "first"])
def test_every_run_and_step_has_noise_of_its_own(keep):
    model, x = build((12,)), batch((12,), rows=23)
    y = classes(model, x)
    noisy = advlib.gradients.finite_differences(2)
    settings = {"steps": 4, "gradient": noisy, "keep": keep, "restarts": 3, "batch_size": 7}
    expected = pgd(model, x, y, Linf(0.03), generator=seeded(), **settings)
    found, _ = recorded(pgd, model, x, y, Linf(0.03), generator=seeded(), **settings)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)


class Halting(ProjectedGradient):
    """Stops each row once its mean is past the middle."""

    def update(self, state, feedback, task, noise):
        return type(state)(
            *(
                choose(self.finished(state), *pair)
                for pair in zip(state, self.ahead(state, feedback, task, noise), strict=True)
            )
        )

    def ahead(self, state, feedback, task, noise):
        return super().update(state, feedback, task, noise)

    def finished(self, state):
        return state.query.mean(1) > 0.52


@pytest.mark.parametrize("keep", ["strongest", "first", "nearest", "last"])
def test_rules_that_finish_rows(keep):
    model, x = build((12,)), batch((12,), rows=23)
    y = classes(model, x)
    options = {"steps": 9, "keep": keep}
    expected = search(model, x, y, Linf(0.2), Halting(9, 0.02), generator=seeded(), **options)
    found, _ = recorded(search, model, x, y, Linf(0.2), Halting(9, 0.02), generator=seeded(), **options)
    assert torch.allclose(found.x_adv, expected.x_adv, rtol=0, atol=1e-12)
    assert torch.equal(found.forwards, expected.forwards)
    assert len(expected.forwards.unique()) > 1


class Ahead(NamedTuple):
    query: torch.Tensor
    candidate: torch.Tensor
    length: torch.Tensor


class Looking(ProjectedGradient):
    """Is judged in the middle between x and where it asks."""

    def start(self, task, point, noise):
        state = super().start(task, point, noise)
        return Ahead(state.query, torch.lerp(task.x, state.query, 0.5), state.length)

    def update(self, state, feedback, task, noise):
        after = super().update(state, feedback, task, noise)
        return Ahead(after.query, torch.lerp(task.x, after.query, 0.5), after.length)


@pytest.mark.parametrize("keep", ["strongest", "first"])
def test_rules_that_are_judged_elsewhere(keep):
    model, x = build((12,)), batch((12,), rows=23)
    y = classes(model, x)
    options = {"steps": 9, "keep": keep, "random_start": True}
    expected = search(model, x, y, Linf(0.3), Looking(9), generator=seeded(), **options)
    found, _ = recorded(search, model, x, y, Linf(0.3), Looking(9), generator=seeded(), **options)
    assert torch.allclose(found.x_adv, expected.x_adv, rtol=0, atol=1e-12)
    if keep == "strongest":
        assert torch.equal(found.forwards, expected.forwards)
    else:  # the last question of a run is asked at its query too
        assert torch.equal(found.forwards, expected.forwards + ~expected.success)


def test_what_a_slot_sees_after_its_last_step_counts_for_nothing():
    model, x = build((12,)), batch((12,), rows=64)
    y = classes(model, x)
    rule = ProjectedGradient(2, 0.05)
    further = search(model, x, y, Linf(0.5), rule, steps=7, keep="first")
    expected = search(model, x, y, Linf(0.5), rule, steps=2, keep="first")
    assert further.success.sum() > expected.success.sum()
    found, _ = recorded(search, model, x, y, Linf(0.5), rule, steps=2, keep="first")
    assert torch.equal(found.success, expected.success)


def test_bounds_that_all_rows_share():
    model, x = build((12,)), batch((12,), rows=23)
    y = classes(model, x)
    threat = L2(0.4, bounds=(torch.linspace(0, 0.05, 12), torch.ones(12)))
    x = x.clamp_min(0.1)
    settings = {"steps": 5, "keep": "first", "restarts": 2, "batch_size": 7}
    expected = pgd(model, x, y, threat, generator=seeded(), **settings)
    found, _ = recorded(pgd, model, x, y, threat, generator=seeded(), **settings)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)


def begun(queue, number):
    return [queue.begin() for _ in range(number)]


def test_rows_come_first_of_which_no_run_is_going_on():
    queue = Queue(3, 3)
    assert begun(queue, 4) == [(0, 0), (1, 0), (2, 0), (0, 1)]
    queue.end((1, 0), False, [])
    assert begun(queue, 3) == [(1, 1), (2, 1), (0, 2)]
    queue.end((0, 0), False, [])  # of which the second and third are going on
    queue.end((2, 0), False, [])
    queue.end((2, 1), False, [])
    assert begun(queue, 3) == [(2, 2), (1, 2), None]
    queue = Queue(2, 4)
    begun(queue, 4)
    queue.end((1, 0), False, [])  # of which the second is going on
    assert queue.begin() == (0, 2)


def test_what_runs_find_is_told_in_their_order():
    queue = Queue(2, 3)
    begun(queue, 6)
    queue.end((0, 1), False, ["second"])
    queue.end((1, 0), False, ["other"])
    assert queue.due() == {(1, 0): ["other"]}
    assert queue.due() == {}
    queue.end((0, 2), False, ["third"])
    queue.end((0, 0), False, ["first"])
    told = [queue.due() for _ in range(4)]
    assert told == [{(0, 0): ["first"]}, {(0, 1): ["second"]}, {(0, 2): ["third"]}, {}]


def test_runs_after_one_that_settles_its_row_are_needless():
    queue = Queue(1, 5)
    begun(queue, 4)
    queue.end((0, 3), True, ["fourth"])
    assert queue.begin() is None  # not the fifth
    queue.end((0, 1), True, ["second"])
    assert [queue.needless((0, restart)) for restart in range(4)] == [False, False, True, True]
    queue.end((0, 2), True, ["third"])  # it was too late to call it off
    assert queue.due() == {}
    queue.end((0, 0), False, ["first"])
    assert [queue.due() for _ in range(3)] == [{(0, 0): ["first"]}, {(0, 1): ["second"]}, {}]


def summed(z):
    """Class 1 where twelve features sum to more than 6.01."""
    lead = z.sum(1) - 6.01
    return torch.stack([0 * lead, lead], dim=1)


@pytest.fixture
def rounds(monkeypatch):
    """The runs that were over at each look."""
    seen, told = [], AcceleratedDriver._told

    def watched(self, over, runs, *rest):
        seen.append(list(runs))
        return told(self, over, runs, *rest)

    monkeypatch.setattr(AcceleratedDriver, "_told", watched)
    return seen


def test_idle_slots_take_the_later_runs_of_rows_that_are_left(rounds):
    """Seven of eight rows are won at once; the eighth has eight runs to go, in eight slots."""
    x, y = torch.full((8, 12), 0.5, dtype=torch.float64), torch.zeros(8, dtype=torch.int64)
    x[0] = 0.1
    settings = {"steps": 9, "keep": "first", "restarts": 8, "random_start": True}
    expected = search(summed, x, y, Linf(0.1), ProjectedGradient(9), generator=seeded(), **settings)
    found, _ = recorded(search, summed, x, y, Linf(0.1), ProjectedGradient(9), generator=seeded(), **settings)
    assert expected.success.tolist() == [False] + [True] * 7
    assert torch.equal(found.x_adv, expected.x_adv)
    assert torch.equal(found.forwards, expected.forwards)
    assert found.forwards[0] == 8 * 10
    assert max(len([run for run in runs if run[0] == 0]) for runs in rounds) == 7


def test_runs_are_called_off_when_an_earlier_one_has_won(rounds):
    x, y = torch.full((2, 12), 0.5, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    x[0] = 0.3
    rule, settings = ProjectedGradient(60, 0.01), {"steps": 60, "keep": "first", "restarts": 2}
    expected = search(summed, x, y, Linf(0.3), rule, **settings)
    found, _ = recorded(search, summed, x, y, Linf(0.3), rule, **settings)
    assert expected.success.all()
    assert torch.equal(found.forwards, expected.forwards)
    assert rounds == [[(1, 0)], [(0, 0)]]


def test_smaller_batches_take_over_when_few_rows_are_left():
    model, x = build((12,)), batch((12,), rows=64)
    y = classes(model, x)
    recorded(pgd, model, x, y, Linf(0.2), steps=40, keep="first", generator=seeded())
    assert len(RECORDINGS) == 2


def test_one_step_is_not_recorded():
    model, x = build((12,)), batch((12,), rows=5)
    recorded(pgd, model, x, classes(model, x), Linf(0.1), steps=1)
    assert not RECORDINGS


def test_last_points_of_several_batches():
    model, x = build((12,)), batch((12,), rows=15)
    y = classes(model, x)
    settings = {"steps": 4, "keep": "last", "batch_size": 5}
    expected = pgd(model, x, y, Linf(0.1), generator=seeded(), **settings)
    assert torch.equal(recorded(pgd, model, x, y, Linf(0.1), generator=seeded(), **settings)[0], expected)


def test_an_oracle_is_asked_and_not_recorded():
    model, x = build((12,)), batch((12,), rows=5)
    oracle = ScoreOracle(model)
    y = classes(model, x)
    _, acceleration = recorded(advlib.square, oracle, x, y, Linf(0.1), steps=6, generator=seeded())
    assert acceleration.reasons == []  # it was not tried
    assert oracle.queries > 5


class Hesitant(nn.Module):
    """Decides by what it sees, as no recording can."""

    def forward(self, x):
        return torch.stack([x.sum(1), -x.sum(1)], 1) * (2 if bool(x.sum() > 0) else 1)


@pytest.mark.parametrize("keep", ["strongest", "first"])
def test_a_model_that_cannot_be_recorded_is_called(keep):
    x, y = batch((12,), rows=9), torch.arange(9) % 2
    expected = pgd(Hesitant(), x, y, L2(0.5), steps=12, keep=keep, restarts=2, generator=seeded())
    found, acceleration = recorded(pgd, Hesitant(), x, y, L2(0.5), steps=12, keep=keep, restarts=2, generator=seeded())
    assert torch.equal(found, expected)
    assert len(acceleration.reasons) == 1
    assert acceleration.reasons[0].startswith("Hesitant is not recorded: ")


def test_rows_without_a_gradient_are_reported():
    def flat(points):
        return points.sum(1, keepdim=True) * torch.zeros(3) + torch.arange(3.0)

    x, y = batch((12,), rows=5, dtype=torch.float32), torch.full((5,), 2)
    with pytest.warns(advlib.GradientMaskingWarning, match="5 of 5 rows never had"):
        recorded(pgd, flat, x, y, Linf(0.1), steps=4)


def test_a_trace_sees_every_step():
    model, x = build((12,)), batch((12,), rows=5)
    seen = []
    recorded(pgd, model, x, classes(model, x), Linf(0.1), steps=4, trace=seen.append)
    assert [entry.step for entry in seen] == [0, 1, 2, 3, 4]


def test_nothing_to_do():
    model, x = build((12,)), batch((12,), rows=5)
    y = classes(model, x)
    for keep in ("strongest", "first"):
        found, _ = recorded(pgd, model, x[:0], y[:0], Linf(0.1), steps=4, keep=keep)
        assert found.shape == (0, 12)
        found, _ = recorded(pgd, model, x[:1], y[:1], Linf(0.1), steps=1, keep=keep, generator=seeded())
        assert torch.equal(found, pgd(model, x[:1], y[:1], Linf(0.1), steps=1, keep=keep, generator=seeded()))


@pytest.mark.parametrize(
    ("rows", "most", "slots"),
    [(1, None, 1), (5, None, 5), (9, None, 10), (1000, None, 1024), (1000, 64, 64), (600, 1000, 640), (3, 64, 3)],
)
def test_few_sizes_are_recorded(rows, most, slots):
    assert slots_for(rows, most) == slots
    assert len({slots_for(n, None) for n in range(1, 1025)}) < 40
