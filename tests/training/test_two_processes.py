"""Two processes train as one with the joined batch would."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_problems import same
from two_processes import OBJECTIVES, straight

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder, script = tmp_path_factory.mktemp("processes"), Path(__file__).parent / "two_processes.py"
    running = [
        subprocess.Popen([sys.executable, script, str(rank), folder], stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=200)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}.found") for rank in (0, 1)]


def test_weights_and_gradients_are_those_of_one_process(found):
    alone = straight(1)
    for process in (part["straight"] for part in found):
        for name, value in alone["weights"].items():
            torch.testing.assert_close(process["weights"][name], value, rtol=1e-9, atol=1e-11)
        for gradient, wanted in zip(process["gradients"], alone["gradients"], strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-11)


def test_losses_and_accuracies_are_those_of_one_process(found):
    """Of 77 rows to validate on, too, where one process gets a row twice that does not count."""
    alone = straight(1)
    for process in (part["straight"] for part in found):
        for row, wanted in zip(process["history"], alone["history"], strict=True):
            assert row == pytest.approx(wanted, rel=1e-9)


def test_gradients_are_reduced_once_a_step(found):
    assert [part["straight"]["reductions"] for part in found] == [12, 12]
    assert found[0]["straight"]["steps"] == 12


@pytest.mark.parametrize("name", OBJECTIVES)
def test_all_processes_end_with_the_same_weights(found, name):
    first, second = (process[f"{name} whole"] for process in found)
    assert same(first["weights"], second["weights"])
    assert first["history"] == second["history"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_resumed_run_equals_one_without_interruption(found, name):
    for process in found:
        whole, resumed = process[f"{name} whole"], process[f"{name} resumed"]
        assert same(resumed["weights"], whole["weights"])
        assert resumed["history"] == whole["history"]


def test_data_that_every_process_would_see_are_refused(found):
    for process in found:
        assert "DistributedSampler" in process["unsharded"]


def test_a_bad_loss_in_one_process_stops_all(found):
    for process in found:
        assert "epoch 1, batch 21 (step 21)" in process["broken"]
