"""A run that was interrupted, however and wherever, ends as one that was not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_problems import network, same, trainer, whole_run, without_times

from advlib.training.checkpoint import read_checkpoint


class InterruptedRun(Exception):
    pass


def interrupt_after(steps):
    def at_step(step):
        if step == steps:
            raise InterruptedRun

    return at_step


def continued(path, interruptions, **options):
    for steps in interruptions:
        with pytest.raises(InterruptedRun):
            whole_run(path, True, at_step=interrupt_after(steps), **options)
    return whole_run(path, True, **options)


def assert_same_run(found, wanted):
    assert same(found[0].state_dict(), wanted[0].state_dict())
    assert without_times(found[1].history) == without_times(wanted[1].history)
    assert found[1].best_score == wanted[1].best_score
    assert found[1].best_epoch == wanted[1].best_epoch


CASES = {
    "global generators": {},
    "own generators": {"generator": True},
    "carried perturbation": {"free": True},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
@pytest.mark.parametrize("interruptions", [[2], [5], [7, 6], [4, 4, 4, 4]])
def test_a_resumed_run_equals_one_without_interruption(tmp_path, options, interruptions):
    wanted = whole_run(tmp_path / "whole.pt", False, **options)
    assert_same_run(continued(tmp_path / "run.pt", interruptions, **options), wanted)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_the_same_after_an_interruption_between_epochs(tmp_path, options):
    """All batches of an epoch were taken, but it was not written: the guard must see the same last batch."""

    def interrupt(row):
        if row["epoch"] == 2:
            raise InterruptedRun

    wanted = whole_run(tmp_path / "whole.pt", False, every=1, **options)
    with pytest.raises(InterruptedRun):
        whole_run(tmp_path / "run.pt", False, every=1, metrics=interrupt, **options)
    assert_same_run(whole_run(tmp_path / "run.pt", True, every=1, **options), wanted)


def test_loaders_and_samplers_are_told_the_epoch_also_when_resumed(tmp_path):
    class Told(list):
        def set_epoch(self, epoch):
            told.append(epoch)

    told, batches = [], Told([(torch.rand(8, 64), torch.arange(8))])
    for epochs in (2, 3):
        options = {"checkpoint": tmp_path / "run.pt", "resume": True, "progress": False}
        trainer(network()).fit(batches, epochs=epochs, **options)
    assert told == [0, 1, 2]


@pytest.mark.slow
def test_the_same_with_worker_processes(tmp_path):
    options = {"workers": 2, "generator": True}
    wanted = whole_run(tmp_path / "whole.pt", False, **options)
    assert_same_run(continued(tmp_path / "run.pt", [7, 6], **options), wanted)


def test_checkpoints_within_an_epoch_change_nothing(tmp_path):
    assert_same_run(whole_run(tmp_path / "a.pt", False, every=None), whole_run(tmp_path / "b.pt", False, every=1))


def test_what_is_in_a_checkpoint_is_needed(tmp_path):
    """An interrupted run that forgets a part of its state does end elsewhere, so that the tests above see it."""
    wanted = whole_run(tmp_path / "whole.pt", False, generator=True)[0].state_dict()
    with pytest.raises(InterruptedRun):
        whole_run(tmp_path / "run.pt", True, generator=True, at_step=interrupt_after(8))
    other = torch.load(tmp_path / "whole.pt", weights_only=True)
    for part in ("python", "numpy", "torch", "streams"):
        state = torch.load(tmp_path / "run.pt", weights_only=True)
        assert state["progress"]["batch"] == 1
        state["processes"][0]["now"][part] = other["processes"][0]["now"][part]
        torch.save(state, tmp_path / f"{part}.pt")
        assert not same(whole_run(tmp_path / f"{part}.pt", True, generator=True)[0].state_dict(), wanted), part
    for part in ("optimizer", "average", "model"):
        state = torch.load(tmp_path / "run.pt", weights_only=True)
        state[part] = other[part]
        torch.save(state, tmp_path / f"{part}.pt")
        assert not same(whole_run(tmp_path / f"{part}.pt", True, generator=True)[0].state_dict(), wanted), part


def test_a_complete_run_is_not_trained_again(tmp_path):
    wanted = whole_run(tmp_path / "run.pt", False)
    assert_same_run(whole_run(tmp_path / "run.pt", True, at_step=interrupt_after(1)), wanted)


def test_resume_starts_afresh_where_there_is_no_checkpoint(tmp_path):
    assert_same_run(whole_run(tmp_path / "a.pt", True), whole_run(tmp_path / "b.pt", False))


def test_a_run_may_be_lengthened(tmp_path):
    torch.manual_seed(0)
    batches, lengths = [(torch.rand(8, 64), torch.arange(8))] * 2, []
    for epochs in (2, 5):
        made = trainer(network())
        result = made.fit(batches, epochs=epochs, checkpoint=tmp_path / "run.pt", resume=True, progress=False)
        lengths.append((len(result.history), result.history[-1]["step"]))
    assert lengths == [(2, 4), (5, 10)]


def test_fewer_batches_than_were_taken_are_refused(tmp_path):
    path, batches = tmp_path / "run.pt", [(torch.rand(8, 64), torch.arange(8))] * 4
    made = trainer(network())
    steps = []
    made.optimizer.register_step_post_hook(lambda *_: steps.append(0) or interrupt_after(4)(len(steps)))
    with pytest.raises(InterruptedRun):
        made.fit(batches, epochs=1, checkpoint=path, every=1, progress=False)
    with pytest.raises(ValueError, match=r"the batches it did when the checkpoint was written, 3 .* got 2"):
        trainer(network()).fit(batches[:2], epochs=1, checkpoint=path, resume=True, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("free", [False, True])
def test_a_run_killed_ten_times_ends_as_one_that_was_not(tmp_path, free):
    script = Path(__file__).parent / "killed_run.py"
    run = subprocess.run(
        [sys.executable, script, tmp_path, str(int(free))], capture_output=True, text=True, timeout=250
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["kills"] >= 10
    assert any(batch for _, batch in report["positions"]), report  # some fell within an epoch
    assert len(set(map(tuple, report["positions"]))) > 3
    wanted, found = (read_checkpoint(tmp_path / name) for name in ("whole.pt", "killed.pt"))
    for part in ("model", "average"):
        assert same(found[part], wanted[part])
    assert same(*(state["progress"]["best_state"] for state in (found, wanted)))
    assert same(*(torch.load(tmp_path / name, weights_only=True) for name in ("whole.weights", "killed.weights")))
    assert without_times(found["progress"]["history"]) == without_times(wanted["progress"]["history"])
