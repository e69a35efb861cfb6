"""The driver: what it asks, what it keeps, what it counts."""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from advlib import L2, Linf, pgd, uniform_noise
from advlib.gradients import eot, finite_differences
from advlib.models import Counted
from advlib.noise import Key, Noise
from advlib.search import Evaluator, Rule, Trace, guard, search


class WalkState(NamedTuple):
    query: Tensor
    step: Tensor


class Walk(Rule[WalkState]):
    """Visits ``x + path[step]``, row by row, whatever the model says."""

    def __init__(self, path: list[list[float]], order: int = 1, stop: int | None = None) -> None:
        self.path, self.order, self.stop = torch.tensor(path, dtype=torch.float64), order, stop

    def at(self, task, step):
        return task.x + self.path[task.row, step].unsqueeze(1)

    def start(self, task, point, noise):
        step = torch.zeros_like(task.row)
        return WalkState(self.at(task, step), step)

    def update(self, state, feedback, task, noise):
        step = state.step + 1
        if self.stop is not None:
            step = step.clamp_max(self.stop)
        return WalkState(self.at(task, step), step)

    def finished(self, state):
        return None if self.stop is None else state.step >= self.stop


def scalar(z):
    """One feature; class 1 above 0.5, and the further above or below the surer."""
    return torch.cat([0.5 - z, z - 0.5], dim=1)


X = torch.tensor([[0.2], [0.2]], dtype=torch.float64)
Y = torch.tensor([0, 0])
BALL = Linf(1.0)


def offsets(result):
    return (result.x_adv - X).squeeze(1).tolist()


def test_strongest_prefers_success_then_loss_and_asks_about_the_last_point():
    path = [[0.0, 0.35, 0.4, 0.1], [0.1, 0.2, 0.05, 0.25]]
    result = search(scalar, X, Y, BALL, Walk(path), steps=3, loss="margin")
    assert offsets(result) == pytest.approx([0.4, 0.25])
    assert result.success.tolist() == [True, False]
    assert result.loss.tolist() == pytest.approx([0.2, -0.1])
    assert result.distance.tolist() == pytest.approx([0.4, 0.25])


def test_strongest_prefers_a_success_of_lower_loss():
    def loss(output, y, target=None):
        return -(output[:, 1] + 0.1).abs()  # largest short of where the class changes

    path = [[0.2, 0.4, 0.36, 0.2], [0.0, 0.29, 0.2, 0.1]]
    result = search(scalar, X, Y, BALL, Walk(path), steps=3, loss=loss)
    assert result.success.tolist() == [True, False]
    assert offsets(result) == pytest.approx([0.36, 0.2])


def test_first_stops_each_row_at_its_first_success_and_stops_asking():
    seen = []

    def model(z):
        seen.append(len(z))
        return scalar(z)

    path = [[0.0, 0.35, 0.6, 0.7], [0.0, 0.1, 0.2, 0.25]]
    result = search(model, X, Y, BALL, Walk(path), steps=3, loss="margin", keep="first")
    assert offsets(result) == pytest.approx([0.35, 0.25])
    assert seen == [2, 2, 1, 1]
    assert result.forwards.tolist() == [2, 4]
    assert result.backwards.tolist() == [2, 3]


def test_first_ends_when_every_row_has_succeeded():
    result = search(scalar, X, Y, BALL, Walk([[0.0, 0.4, 0, 0]] * 2), steps=3, keep="first")
    assert result.forwards.tolist() == [2, 2]
    assert offsets(result) == pytest.approx([0.4, 0.4])


def test_nearest_keeps_the_nearest_success_inside_or_the_clean_row():
    path = [[0.6, 0.35, 0.4, 0.1], [0.1, 0.2, 0.05, 0.25]]
    result = search(scalar, X, Y, BALL, Walk(path), steps=3, keep="nearest")
    assert offsets(result) == pytest.approx([0.35, 0.0])
    assert result.success.tolist() == [True, False]
    path = [[0.6, 0.35, 0.4, 0.1], [0.1, 0.2, 0.7, 0.25]]
    result = search(scalar, X, Y, Linf(0.3), Walk(path), steps=3, keep="nearest")
    assert torch.equal(result.x_adv, X)
    assert not result.success.any()


def test_last_returns_the_last_point_unasked():
    counted = Counted(scalar)
    path = [[0.0, 0.35, 0.6, 0.1], [0.0, 0.1, 0.2, 0.25]]
    result = search(counted, X, Y, BALL, Walk(path), steps=3, keep="last")
    assert offsets(result) == pytest.approx([0.1, 0.25])
    assert result.success is None
    assert result.loss is None
    assert counted.forwards == counted.backwards == 6


@pytest.mark.parametrize("keep", ["strongest", "first", "nearest", "last"])
def test_finished_rows_are_dropped_without_another_question(keep):
    path = [[0.05, 0.05, 0.2, 0.2, 0.2], [0.02, 0.02, 0.1, 0.1, 0.1]]
    result = search(scalar, X, Y, BALL, Walk(path, stop=1), steps=4, loss="margin", keep=keep)
    assert result.forwards.tolist() == [1, 1]
    assert offsets(result) == pytest.approx([0.0, 0.0] if keep == "nearest" else [0.05, 0.02])


def test_a_rule_that_needs_values_alone_runs_no_backward_pass():
    counted = Counted(scalar)
    result = search(counted, X, Y, BALL, Walk([[0.0, 0.35]] * 2, order=0), steps=1)
    assert (counted.forwards, counted.backwards) == (4, 0)
    assert result.backwards.tolist() == [0, 0]


class CandidateState(NamedTuple):
    query: Tensor
    candidate: Tensor


class Overshoot(Rule[CandidateState]):
    """Asks at x, and is judged further on."""

    def start(self, task, point, noise):
        return CandidateState(task.x, task.x + 0.4)

    def update(self, state, feedback, task, noise):
        return CandidateState(task.x, task.x + 0.35)


@pytest.mark.parametrize("keep", ["strongest", "nearest"])
def test_candidates_are_judged_in_place_of_queries(keep):
    counted = Counted(scalar)
    result = search(counted, X, Y, BALL, Overshoot(), steps=1, loss="margin", keep=keep)
    assert offsets(result) == pytest.approx([0.4 if keep == "strongest" else 0.35] * 2)
    assert result.success.all()
    assert result.loss.tolist() == pytest.approx([0.2 if keep == "strongest" else 0.1] * 2)
    assert result.forwards.sum() == counted.forwards


def test_the_last_candidate_is_what_last_returns():
    result = search(scalar, X, Y, BALL, Overshoot(), steps=1, keep="last")
    assert offsets(result) == pytest.approx([0.35, 0.35])


def test_a_rule_hears_what_the_model_says_about_its_candidates():
    heard = []

    class Listening(Overshoot):
        def update(self, state, feedback, task, noise):
            heard.append((feedback.success, feedback.candidate.success))
            return super().update(state, feedback, task, noise)

    counted = Counted(scalar)
    result = search(counted, X, Y, BALL, Listening(), steps=2, loss="margin")
    assert [[s.tolist() for s in pair] for pair in heard] == [[[False] * 2, [True] * 2]] * 2
    assert counted.forwards == result.forwards.sum() == 2 * (2 * 2 + 1)


def test_a_rule_may_ask_more_of_a_success():
    class Confident(Walk):
        def success(self, feedback, task):
            return feedback.reached & (feedback.loss > 0.15)

    path = [[0.0, 0.35, 0.36, 0.4], [0.0, 0.35, 0.33, 0.34]]
    result = search(scalar, X, Y, BALL, Confident(path), steps=3, loss="margin", keep="nearest")
    assert result.success.tolist() == [True, False]
    assert offsets(result) == pytest.approx([0.4, 0.0])
    first = search(scalar, X, Y, BALL, Confident(path), steps=3, loss="margin", keep="first")
    assert first.forwards.tolist() == [4, 4]


class Stray(Walk):
    pass


def test_a_rule_that_leaves_the_threat_model_is_refused():
    with pytest.raises(RuntimeError, match=r"Stray left the threat model on 1 of 2 rows.*project"):
        search(scalar, X, Y, Linf(0.1), Stray([[0.0, 0.5], [0.0, 0.05]]), steps=1)


class Wander(Walk):
    """The same walk, but points outside the ball are no mistake."""

    wanders = True


@pytest.mark.parametrize("keep", ["strongest", "first"])
def test_a_rule_that_wanders_is_judged_inside_the_threat_model_alone(keep):
    rule = Wander([[0.7, 0.35, 0.7], [0.7, 0.2, 0.1]])  # only 0.35 is inside and beyond the boundary
    result = search(scalar, X, Y, Linf(0.4), rule, steps=2, loss="margin", keep=keep)
    assert offsets(result) == pytest.approx([0.35, 0.2])
    assert result.success.tolist() == [True, False]
    assert result.loss.tolist() == pytest.approx([0.1, -0.2])


def test_the_last_point_of_a_rule_that_wanders_may_be_outside():
    with pytest.raises(ValueError, match="keep='last' returns the last point, which may be outside"):
        search(scalar, X, Y, Linf(0.4), Wander([[0.7, 0.6], [0.7, 0.8]]), steps=1, keep="last")


def test_a_rule_that_wanders_may_find_nothing():
    result = search(scalar, X, Y, Linf(0.4), Wander([[0.7, 0.6], [0.7, 0.8]]), steps=1)
    assert offsets(result) == [0, 0]
    assert result.loss.tolist() == [-torch.inf, -torch.inf]


def test_a_rule_that_wanders_starts_where_it_is_told_within_the_bounds():
    class There(Wander):
        def start(self, task, point, noise):
            self.point = point
            return super().start(task, point, noise)

    rule = There([[0.0, 0.0], [0.0, 0.0]])
    search(scalar, X, Y, Linf(0.1), rule, steps=1, init=torch.tensor([[0.9], [1.5]], dtype=torch.float64))
    assert rule.point.squeeze(1).tolist() == [0.9, 1.0]


def test_rows_keep_their_index_in_batches_and_after_compaction():
    rows = torch.arange(9)
    x = torch.full((9, 1), 0.2, dtype=torch.float64)
    path = torch.linspace(0.0, 0.5, 9).unsqueeze(1) * torch.tensor([0.0, 0.5, 1.0, 1.0])
    traces: list[Trace] = []
    for size in (None, 1, 4):
        result = search(
            scalar, x, rows * 0, BALL, Walk(path.tolist()), steps=3, keep="first", batch_size=size, trace=traces.append
        )
        expected = torch.where(path[:, 1] > 0.3, path[:, 1], path[:, 2])
        assert torch.allclose((result.x_adv - x).squeeze(1), expected.double())
    assert [len(t.row) for t in traces[:4]] == [9, 9, 9, 5]  # rows leave once they have succeeded
    assert traces[3].row.tolist() == [0, 1, 2, 3, 4]


class DrawState(NamedTuple):
    query: Tensor
    drawn: Tensor


class Draw(Rule[DrawState]):
    """Moves every row by the same path, and sums what it draws."""

    def start(self, task, point, noise):
        return DrawState(task.x, noise.uniform(task.x))

    def update(self, state, feedback, task, noise):
        drawn = state.drawn + noise.uniform(task.x)
        return DrawState((task.x + 0.04 * drawn).clamp(0, 1), drawn)


def test_rows_draw_their_own_noise_after_others_have_left():
    x = torch.linspace(0.3, 0.49, 40, dtype=torch.float64).unsqueeze(1)
    y, settings = torch.zeros(40, dtype=torch.int64), {"steps": 6, "keep": "first"}
    result = search(scalar, x, y, BALL, Draw(), generator=torch.Generator().manual_seed(1), **settings)
    assert len(result.forwards.unique()) > 3
    noise = Noise(Key(torch.Generator().manual_seed(1)), torch.arange(40))
    drawn, point = noise.uniform(x), x
    for step in range(1, 7):
        drawn = drawn + noise._replace(step=step).uniform(x)
        point = torch.where(point > 0.5, point, x + 0.04 * drawn)
    assert torch.allclose(result.x_adv, point)


def test_trace_sees_every_question():
    traces: list[Trace] = []
    path = [[0.0, 0.35, 0.4], [0.1, 0.2, 0.05]]
    search(scalar, X, Y, BALL, Walk(path), steps=2, loss="margin", restarts=2, trace=traces.append)
    assert [(t.restart, t.step) for t in traces] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert traces[1].loss.tolist() == pytest.approx([0.1, -0.2])
    assert traces[1].success.tolist() == [True, False]


class JumpState(NamedTuple):
    query: Tensor


class Jump(Rule[JumpState]):
    """Goes from wherever it is put to a place that depends on the restart alone."""

    def __init__(self, places):
        self.places = places

    def start(self, task, point, noise):
        self.started = [*getattr(self, "started", []), point]
        return JumpState(point)

    def update(self, state, feedback, task, noise):
        return JumpState(task.x + self.places[noise.restart])


@pytest.mark.parametrize("places", [(0.45, 0.1, 0.2), (0.1, 0.2, 0.45), (0.2, 0.45, 0.1)])
@pytest.mark.parametrize("keep", ["strongest", "first", "nearest"])
def test_restarts_keep_the_best_of_all(places, keep):
    result = search(scalar, X, Y, BALL, Jump(places), steps=1, restarts=3, keep=keep)
    assert offsets(result) == pytest.approx([0.45, 0.45])
    runs = 3 if keep != "first" else places.index(0.45) + 1
    assert result.forwards.tolist() == [2 * runs] * 2


def test_restarts_attack_again_only_the_rows_that_need_it():
    x = torch.tensor([[0.2], [0.45]], dtype=torch.float64)
    rows = []
    search(scalar, x, Y, BALL, Jump((0.1, 0.35)), steps=1, restarts=2, keep="first", trace=lambda t: rows.append(t.row))
    assert [r.tolist() for r in rows] == [[0, 1], [0, 1], [0], [0]]


def test_init_starts_the_first_run_inside_the_ball_and_chance_the_others():
    rule = Jump((0.0, 0.0))
    init = X + 0.5
    search(scalar, X, Y, Linf(0.3), rule, steps=1, restarts=2, init=init, random_start=True)
    assert torch.allclose(rule.started[0], X + 0.3)
    assert not torch.equal(rule.started[1], rule.started[0])
    assert not torch.equal(rule.started[1], X)
    rule = Jump((0.0, 0.0))
    search(scalar, X, Y, BALL, rule, steps=1, init=torch.tensor([[0.1], [0.3]]).double(), batch_size=1)
    assert [start.item() for start in rule.started] == pytest.approx([0.1, 0.3])
    with pytest.raises(ValueError, match="init must match x"):
        search(scalar, X, Y, Linf(0.3), rule, steps=1, init=init.float())


def test_random_starts_are_uniform_in_the_ball_and_differ_by_row_and_restart():
    rule = Jump((0.0, 0.0))
    x = torch.full((400, 1), 0.5, dtype=torch.float64)
    settings = {"restarts": 2, "random_start": True, "generator": torch.Generator().manual_seed(0)}
    search(scalar, x, torch.zeros(400, dtype=torch.int64), Linf(0.2), rule, steps=1, **settings)
    starts = torch.stack(rule.started)
    assert (starts - x).abs().max() <= 0.2
    assert starts.unique().numel() == 800
    assert (starts - x).mean().abs() < 0.02
    assert (starts - x).std() == pytest.approx(0.2 / 3**0.5, rel=0.06)


def test_counts_equal_what_the_model_saw():
    for gradient, forwards, backwards in (
        (eot(3), 3 * 2 + 1, 3 * 2),
        (finite_differences(4), (1 + 8) * 2 + 1, 0),
        (finite_differences(4, antithetic=False), (1 + 4) * 2 + 1, 0),
    ):
        counted = Counted(scalar)
        result = search(counted, X, Y, BALL, Walk([[0.0, 0.1, 0.2]] * 2), steps=2, gradient=gradient)
        assert result.forwards.tolist() == [forwards] * 2
        assert result.backwards.tolist() == [backwards] * 2
        assert (counted.forwards, counted.backwards) == (2 * forwards, 2 * backwards)


def test_a_target_aims_the_loss_and_leaves_the_goal():
    logits = lambda z: torch.cat([1 - z, z, 0.5 + 0 * z], dim=1)  # noqa: E731
    path = [[0.0, 0.4], [0.4, 0.0]]
    result = search(logits, X, Y, BALL, Walk(path), steps=1, loss="cross_entropy", target=torch.tensor([2, 1]))
    assert result.success.tolist() == [True, True]  # class 0 is left, whichever class the loss aims at
    assert offsets(result) == pytest.approx([0.4, 0.4])


def test_evaluator_gives_values_and_gradients_and_counts_them_by_row():
    model = nn.Linear(3, 4).double()
    x, y = torch.rand(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    rows = torch.tensor([3, 1])
    with Evaluator(model, x, y, L2(1.0)) as evaluator:
        values, gradients = evaluator.value_and_grad(x[rows], rows)
        evaluator.value_and_grad(x)
    points = x[rows].requires_grad_()
    expected = nn.functional.cross_entropy(model(points), y[rows], reduction="none")
    assert torch.allclose(values, expected)
    assert torch.allclose(gradients, torch.autograd.grad(expected.sum(), points)[0])
    assert evaluator.forwards.tolist() == [1, 2, 1, 2, 1]
    assert evaluator.backwards.tolist() == [1, 2, 1, 2, 1]
    assert model.weight.grad is None


def test_evaluator_takes_rows_in_any_order_and_more_than_once():
    model = nn.Linear(3, 4).double()
    x, y = torch.rand(3, 3, dtype=torch.float64), torch.tensor([0, 1, 2])
    rows = torch.tensor([2, 0, 1, 2, 2])
    with Evaluator(model, x, y, Linf(torch.tensor([0.1, 0.2, 0.3]))) as evaluator:
        task = evaluator.task(rows[:3])
        assert torch.equal(task.x, x[rows[:3]])
        assert task.y.tolist() == [2, 0, 1]
        assert task.threat.eps.tolist() == pytest.approx([0.3, 0.1, 0.2])
        feedback = evaluator.ask(x[rows], rows, order=0)
        values, _ = evaluator.value_and_grad(x[rows], rows)
    assert torch.allclose(feedback.loss, nn.functional.cross_entropy(model(x[rows]), y[rows], reduction="none"))
    assert torch.equal(values, feedback.loss)
    assert evaluator.forwards.tolist() == [2, 2, 6]
    assert evaluator.backwards.tolist() == [1, 1, 3]


def test_evaluator_draws_other_directions_at_other_steps():
    model = nn.Linear(30, 4).double()
    x, y = torch.rand(3, 30, dtype=torch.float64), torch.tensor([0, 1, 2])
    with Evaluator(model, x, y, Linf(0.1), gradient=finite_differences(1)) as evaluator:
        first, again, other = (evaluator.value_and_grad(x, step=step)[1].sign() for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first.abs() * first * first[:, :1], other * other[:, :1])


def test_guard_restores_flags_one_by_one():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.BatchNorm1d(3))
    model[2].eval()
    with guard(model):
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == [True, True, True, False]


def test_an_attack_inside_autocast_leaves_the_training_step_its_weight_gradients():
    """Weights that autocast casts while gradients are off must not be reused by the caller."""
    model = nn.Linear(4, 3)
    x, y = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.autocast("cpu", torch.bfloat16):
        uniform_noise(model, x, y, Linf(0.1))  # forward passes alone
        nn.functional.cross_entropy(model(x), y).backward()
    assert model.weight.grad is not None
    assert model.weight.grad.abs().sum() > 0


DISTRIBUTED = """
import os
import sys, torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from advlib import Linf, pgd

torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/store", rank=0, world_size=1)
inner, reductions = nn.Linear(4, 3), []
model = nn.parallel.DistributedDataParallel(inner)

def count(state, bucket):
    reductions.append(1)
    return default_hooks.allreduce_hook(torch.distributed.group.WORLD, bucket)

model.register_comm_hook(None, count)
x, y = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
forward, passes = model.forward, []
model.forward = lambda *args: passes.append(1) or forward(*args)
pgd(model, x, y, Linf(0.1), steps=3)
assert not passes  # none through the wrapper, which would send buffers around
nn.functional.cross_entropy(model(x), y).backward()
assert len(reductions) == 1, reductions
assert inner.weight.grad.abs().sum() > 0
torch.distributed.destroy_process_group()
os._exit(0)  # on a busy machine a thread of gloo's may outlive the group, and end the interpreter with an error
"""


def test_distributed_data_parallel_reduces_once_per_training_step(tmp_path):
    command = [sys.executable, "-c", DISTRIBUTED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def test_losses_of_a_half_precision_model_are_computed_in_float32():
    seen = []

    def loss(output, y, target=None):
        seen.append(output.dtype)
        return output[:, 1]

    search(lambda z: scalar(z).bfloat16(), X, Y, BALL, Walk([[0.0, 0.1]] * 2), steps=1, loss=loss)
    assert set(seen) == {torch.float32}


def test_logits_of_reads_what_a_model_returns_and_a_loss_sees_all_of_it():
    def model(z):
        return {"logits": scalar(z), "detector": -2 * z}

    def loss(output, y, target=None):
        return output["logits"][:, 1] + output["detector"][:, 0]

    path = [[0.0, 0.35], [0.0, 0.4]]
    result = search(model, X, Y, BALL, Walk(path), steps=1, loss=loss, logits_of=lambda out: out["logits"])
    assert result.success.all()
    assert result.loss.tolist() == pytest.approx([-1.05, -1.1])
    named = search(model, X, Y, BALL, Walk(path), steps=1, loss="margin", logits_of=lambda out: out["logits"])
    assert named.loss.tolist() == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("keep", ["first", "strongest"])
def test_the_result_does_not_hang_on_how_often_the_driver_looks_at_which_rows_are_done(keep, monkeypatch):
    path = [[0.0, 0.35, 0.5, 0.6, 0.7], [0.1, 0.2, 0.32, 0.4, 0.6]]
    at_once = search(scalar, X, Y, BALL, Walk(path, stop=3), steps=4, loss="margin", keep=keep)
    monkeypatch.setattr("advlib.driver.Driver._may_look", lambda self, step: False)
    later = search(scalar, X, Y, BALL, Walk(path, stop=3), steps=4, loss="margin", keep=keep)
    assert offsets(later) == offsets(at_once) == pytest.approx([0.35, 0.32] if keep == "first" else [0.5, 0.32])
    assert torch.equal(later.success, at_once.success)


def test_a_row_that_finds_a_gradient_in_a_later_restart_is_not_reported(recwarn):
    def blind_below_a_half(z):
        lift = torch.relu(z - 0.5)
        return torch.cat([0.2 - lift, lift], dim=1)

    x, y = torch.full((20, 1), 0.45, dtype=torch.float64), torch.zeros(20, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    pgd(blind_below_a_half, x, y, Linf(0.1), steps=2, restarts=30, generator=generator)
    assert not recwarn.list


def test_every_step_of_every_run_draws_noise_of_its_own_for_the_rows_left():
    seen = []

    class Drawing(Walk):
        def update(self, state, feedback, task, noise):
            seen.append((noise.restart, noise.step, noise.row.tolist()))
            return super().update(state, feedback, task, noise)

        def finished(self, state):
            return (state.step >= 2) & (state.query[:, 0] > 0.5)

    path = [[0.1, 0.2, 0.3, 0.4], [0.4, 0.5, 0.6, 0.7]]
    search(scalar, X, Y, BALL, Drawing(path), steps=3, restarts=2, keep="strongest")
    one_run = [(1, [0, 1]), (2, [0, 1]), (3, [0])]
    assert seen == [(restart, *step) for restart in (0, 1) for step in one_run]


def test_each_batch_starts_at_its_own_init():
    init = torch.tensor([[0.3], [0.7]], dtype=torch.float64)
    found = pgd(scalar, X, Y, BALL, steps=1, step_size=1e-6, keep="last", init=init, batch_size=1)
    assert torch.allclose(found, init, rtol=0, atol=1e-5)
