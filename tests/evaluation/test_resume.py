"""An evaluation that is killed goes on where it was, and several processes find what one finds."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from advlib import L2, Linf, evaluate
from advlib.evaluation import schedule
from advlib.evaluation.rows import Rows
from advlib.search import SearchResult
from evaluation.resumed_run import BLOCK, ROWS, evaluated, module, problem, told

SCRIPT = Path(__file__).parent / "resumed_run.py"


class Killed(Exception):
    pass


class Mortal(nn.Module):
    """A model that can be asked a number of times."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self.model, self.left = problem()[0], asked

    def forward(self, x):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.model(x)


@pytest.fixture(scope="module", autouse=True)
def small():
    """What `evaluated` sets is set back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", BLOCK)
        patch.setattr(schedule, "PLANS", dict(schedule.PLANS))
        yield


@pytest.fixture(scope="module")
def whole():
    return told(evaluated())


@pytest.fixture(scope="module")
def length():
    model = Mortal(10**9)
    evaluated(model=model)
    return 10**9 - model.left


def test_the_evaluation_kept_in_a_folder_is_the_same(tmp_path, whole):
    assert told(evaluated(tmp_path / "made")) == whole
    assert 0 < sum(whole["robust"]) < sum(whole["correct"]) < ROWS
    assert {"first", "second", "crossing", "targets", "restarts", "squares", "polish"} <= set(whole["broken_by"]) | {
        stage["name"] for stage in whole["stages"]
    }
    names = sorted(file.name for file in (tmp_path / "made").iterdir())
    assert names == ["block-000000.pt", "block-000001.pt", "block-000002.pt", "evaluation.pt"]


@pytest.mark.parametrize("part", range(8))
def test_a_killed_evaluation_goes_on(tmp_path, whole, length, part):
    model = Mortal((2 * part + 1) * length // 16)
    with pytest.raises(Killed):
        evaluated(tmp_path, model=model)
    spent = (2 * part + 1) * length // 16
    model.left = length - spent + length // 8  # little is asked again: the attack that was cut off, and clean rows
    result = told(evaluated(tmp_path, model=model))
    assert result == whole


def test_killed_again_and_again(tmp_path, whole, length):
    for _ in range(1000):
        model = Mortal(length // 9)
        try:
            result = evaluated(tmp_path, model=model)
        except Killed:
            continue
        assert told(result) == whole
        return
    pytest.fail("it never came to an end")


def test_what_is_done_is_not_asked_again(tmp_path, whole):
    evaluated(tmp_path, model=Mortal(10**9))
    assert told(evaluated(tmp_path, model=Mortal(0))) == whole  # not even once


def test_labels_may_be_of_any_whole_type(tmp_path):
    model, x, y = problem()
    settings = {"progress": False, "path": tmp_path, "budget": "quick"}
    first = evaluate(model, x, y.int(), Linf(0.1), **settings)
    assert told(evaluate(model, x, y.int(), Linf(0.1), **settings)) == told(first)


@pytest.mark.slow
def test_killed_at_random_moments_ten_times(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, "killed", tmp_path], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kills"] == 10


@pytest.mark.parametrize("kind", ["block", "stage"])
@pytest.mark.parametrize("kept", [0.0, 0.9])
def test_a_truncated_file_costs_its_rows_alone(tmp_path, whole, length, kind, kept):
    with pytest.raises(Killed):
        evaluated(tmp_path, model=Mortal(int(0.8 * length)))
    file = sorted(tmp_path.glob(f"{kind}-*.pt"))[0]
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.warns(UserWarning, match=rf"{file.name} is damaged, and its rows are evaluated again"):
        assert told(evaluated(tmp_path, model=Mortal(10**9))) == whole


def test_without_a_generator_the_key_of_the_folder_counts(tmp_path, whole, length):
    with pytest.raises(Killed):
        evaluated(tmp_path, model=Mortal(length // 2))
    torch.manual_seed(99)
    assert told(evaluated(tmp_path, model=Mortal(10**9), generator=None)) == whole


def changed_model():
    model = problem()[0]
    with torch.no_grad():
        model[1].bias[0] += 1e-9
    return model


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"model": changed_model()}, "model"),
        ({"model": problem()[0].float()}, "model"),
        ({"model": problem()[0].__call__}, "model"),
        ({"budget": "quick"}, "budget"),
        ({"certified": torch.zeros(ROWS, dtype=torch.bool)}, "certified"),
        ({"generator": torch.Generator().manual_seed(2)}, "key"),
    ],
)
def test_another_evaluation_is_refused(tmp_path, change, name):
    evaluated(tmp_path)
    kept = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=rf"must hold an evaluation with this {name}, .*give an empty folder"):
        evaluated(tmp_path, **change)
    assert kept == {file: file.read_bytes() for file in tmp_path.iterdir()}


def test_another_threat_model_is_refused(tmp_path):
    model, x, y = problem()
    settings = {"progress": False, "path": tmp_path, "budget": "quick"}
    evaluate(model, x, y, Linf(0.1), **settings)
    for other in (Linf(0.11), Linf(0.1, bounds=None), Linf(torch.full((ROWS,), 0.1)), Linf(0.1, mask=x[0] > 0)):
        with pytest.raises(ValueError, match="this threat"):
            evaluate(model, x, y, other, **settings)


def test_a_function_is_told_by_its_answers(tmp_path):
    model, x, y = problem()
    settings = {"progress": False, "path": tmp_path, "budget": "quick"}
    first = evaluate(lambda z: model(z), x, y, Linf(0.1), **settings)
    assert told(evaluate(lambda z: model(z), x, y, Linf(0.1), **settings)) == told(first)
    with pytest.raises(ValueError, match="this model"):
        evaluate(lambda z: 2 * model(z), x, y, Linf(0.1), **settings)


@pytest.mark.parametrize("what", ["inputs", "labels", "order"])
def test_other_data_are_refused(tmp_path, what):
    model, x, y = problem()
    settings = {"progress": False, "path": tmp_path, "budget": "quick", "generator": torch.Generator().manual_seed(0)}
    evaluate(model, x, y, Linf(0.1), **settings)
    if what == "inputs":
        x = x.clone()
        x[-1, 0, 0, 0] += 1e-6
    elif what == "labels":
        y = y.clone()
        y[-1] = (y[-1] + 1) % 4
    else:
        x, y = x.flip(0), y.flip(0)
    with pytest.raises(ValueError, match="the same inputs and labels in the same order"):
        evaluate(model, x, y, Linf(0.1), **{**settings, "generator": None})


def test_a_damaged_head_is_refused(tmp_path):
    evaluated(tmp_path)
    (tmp_path / "evaluation.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"evaluation\.pt must be"):
        evaluated(tmp_path)


def test_a_folder_that_cannot_be_made_is_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    model = Mortal(10**9)
    with pytest.raises(OSError, match="file"):
        evaluated(tmp_path / "file" / "kept", model=model)
    assert model.left == 10**9


def state_of(rows):
    """All that a schedule may change, but for the time that it took."""
    state = rows.snapshot()
    for stage in state["stages"]:
        del stage["seconds"]
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in state.items()}


@pytest.mark.parametrize("seed", [5, 6, 8])
def test_every_moment_of_a_schedule_leads_to_the_same_end(seed):
    """From each snapshot on: rounds go to the rows that were nearest then, with the random numbers due then."""
    x = torch.rand(90, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def model(z):
        """Each point has a small chance to be an error, so that every stage breaks rows."""
        others = torch.sin(300 * z.flatten(1) @ weight) - 0.9995
        return torch.cat([others, torch.zeros_like(others[:, :1])], dim=1)

    x = x[model(x).argmax(1) == 3]
    plan, y = schedule.Plan(((0.5, 2), (0.2, 2)), 0.5, 2, 2, 3), torch.full((len(x),), 3)
    y[::3] = 0  # errors, from which there is a way back
    threat, certified = L2(0.5), torch.zeros(len(x), dtype=torch.bool)

    def fresh():
        return Rows(model, x, y, threat, certified, torch.Generator().manual_seed(seed), None, lambda rows: None)

    whole, snapshots = fresh(), []
    whole.keep = lambda rows: snapshots.append(copy.deepcopy(rows.snapshot()))
    schedule.run(whole, plan)
    wanted = state_of(whole)
    del wanted["decisions"]
    broken = {stage.name: stage.broken for stage in whole.stages.values()}
    assert min(broken[name] for name in ("first", "second", "targets", "restarts")) > 0, broken
    assert len(snapshots) >= 10
    for snapshot in snapshots:
        again = fresh()
        again.restore(copy.deepcopy(snapshot))
        assert torch.equal(again.generator.get_state(), snapshot["generator"])
        schedule.run(again, plan)
        found = state_of(again)
        del found["decisions"]
        assert found == wanted


@pytest.mark.parametrize("crossings", [1, 3])
def test_ways_back_go_on_as_they_would_have(monkeypatch, crossings):
    def third(model, x, y, threat, rule, *, steps, **options):
        """A search that breaks a third of what it is given."""
        won = torch.arange(len(x)) < len(x) / 3
        far = torch.where(won.unsqueeze(1), torch.ones_like(x), x)
        passes = torch.ones(len(x), dtype=torch.int64)
        return SearchResult(far, won, won.to(x), threat.distance(far, x), passes, passes)

    monkeypatch.setattr("advlib.evaluation.rows.search", third)
    x = torch.rand(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 2
    x[::6] += 0.5
    y = torch.zeros(30, dtype=torch.int64)

    def model(z):
        far = z.mean(1) - 0.6
        return torch.stack([torch.zeros_like(far), far], dim=1)

    def fresh():
        certified = torch.zeros(30, dtype=torch.bool)
        return Rows(model, x, y, Linf(1.0), certified, torch.Generator(), None, lambda rows: None)

    whole, snapshots = fresh(), []
    whole.keep = lambda rows: snapshots.append(copy.deepcopy(rows.snapshot()))
    schedule._cross(whole, crossings)
    assert len(snapshots) == 1 + crossings  # with the one that looks whether there is a way
    for snapshot in snapshots:
        again = fresh()
        again.restore(copy.deepcopy(snapshot))
        schedule._cross(again, crossings)
        assert torch.equal(again.standing, whole.standing)


def test_what_later_attacks_break_is_not_counted_to_a_way_back():
    model, x, y = problem(BLOCK)
    options = {"certified": torch.zeros(BLOCK, dtype=torch.bool), "batch_size": None, "tell": lambda rows: None}
    rows = Rows(model, x, y, Linf(0.0), generator=torch.Generator(), **options)
    some, donors = rows.left(), torch.zeros(BLOCK, dtype=torch.int64)
    assert schedule._way_back(rows, some, donors) == 0
    rows.standing[some[:5]] = False
    again = Rows(model, x, y, Linf(0.0), generator=torch.Generator(), **options)
    again.restore(rows.snapshot())
    assert schedule._way_back(again, some, donors) == 0


def test_decisions_are_those_of_the_killed_run():
    model, x, y = problem(BLOCK)
    options = {"certified": torch.zeros(BLOCK, dtype=torch.bool), "batch_size": None, "tell": lambda rows: None}
    rows = Rows(model, x, y, Linf(0.1), generator=torch.Generator(), **options)
    assert [rows.decide(lambda value=value: value) for value in "ab"] == ["a", "b"]
    again = Rows(model, x, y, Linf(0.1), generator=torch.Generator(), **options)
    again.restore(rows.snapshot())
    assert [again.decide(lambda value=value: value) for value in "xyz"] == ["a", "b", "z"]


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_find_what_one_finds(tmp_path, whole, size):
    ranks = [
        subprocess.Popen([sys.executable, SCRIPT, "rank", tmp_path, str(rank), str(size)], stderr=subprocess.PIPE)
        for rank in range(size)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors.decode()
    for rank in range(size):
        first, again, few = json.loads((tmp_path / f"{rank}.json").read_text())
        assert first == again == whole
        assert few == {**whole, "x": None, "x_adv": None}
