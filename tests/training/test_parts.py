"""The parts of the trainer on their own: the average, the file of metrics, the checkpoint's file."""

import collections
import os

import pytest
import torch
from torch import nn
from training_problems import QUICK, held_out, loader, network, trainer

from advlib.training import CSVWriter, averaged_model, warmed_up_average
from advlib.training.checkpoint import read_checkpoint, write_checkpoint


def test_the_average_is_the_one_computed_by_hand():
    torch.manual_seed(0)
    model, decay = network(), 0.4
    average = averaged_model(model, decay)
    wanted = None
    for t in range(12):
        model.train()(torch.rand(16, 64))  # moves BatchNorm's statistics
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update_parameters(model)
        now = {name: value.clone() for name, value in model.state_dict().items()}
        keep = min(decay, (1 + t) / (10 + t))
        floats = {name for name, value in now.items() if value.is_floating_point()}
        wanted = {
            name: keep * wanted[name] + (1 - keep) * value if wanted and name in floats else value
            for name, value in now.items()
        }
    found = average.module.state_dict()
    assert "2.running_var" in found
    assert found["2.num_batches_tracked"].dtype == torch.long
    assert found["2.num_batches_tracked"] == 12
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


def test_half_of_the_average_is_in_double_precision():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2).double()])
    average = averaged_model(model, 0.9)
    average.update_parameters(model)
    before = [parameter.clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    average.update_parameters(model)
    for old, found in zip(before, average.parameters(), strict=True):
        torch.testing.assert_close(found, old + 9 / 11, rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", [-0.1, 0.0, 1.0, 2.0, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay in \(0, 1\)"):
        warmed_up_average(decay)


def test_the_metrics_file_is_continued(tmp_path):
    path = tmp_path / "run.csv"
    for resume in (False, True):
        made = trainer(network(), attack=QUICK, metrics=CSVWriter(path))
        made.fit(
            loader(),
            epochs=2 + 2 * resume,
            validation=held_out(),
            checkpoint=tmp_path / "run.pt",
            resume=resume,
            progress=False,
        )
    lines = path.read_text().splitlines()
    assert lines[0].startswith("epoch,step,loss,")
    assert lines[0].endswith(",clean_accuracy,robust_accuracy")
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3", "4"]


def test_a_metrics_file_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "run.csv"
    CSVWriter(path)({"epoch": 1, "loss": 0.5})
    with pytest.raises(ValueError, match="columns of this run, epoch,accuracy, got epoch,loss"):
        CSVWriter(path)({"epoch": 2, "accuracy": 0.5})
    assert path.read_text().splitlines() == ["epoch,loss", "1,0.5"]


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path):
    counts = collections.Counter([3, 3, 5])  # MultiStepLR keeps its milestones so
    state = {"a": {"n": 1, "t": (torch.arange(3), None, 1.5)}, "counts": counts, "words": ["x", {"y": b"z"}]}
    write_checkpoint(tmp_path / "deep" / "run.pt", state)
    found = read_checkpoint(tmp_path / "deep" / "run.pt")
    assert torch.equal(found["a"]["t"][0], torch.arange(3))
    assert found["a"]["t"][1:] == (None, 1.5)
    assert found["counts"] == counts
    assert type(found["counts"]) is collections.Counter
    assert found["words"] == state["words"]
    assert os.listdir(tmp_path / "deep") == ["run.pt"]


@pytest.mark.parametrize("kind", ["MultiStepLR", "CosineAnnealingLR", "LambdaLR", "SequentialLR", "CyclicLR", "SWALR"])
def test_a_checkpoint_holds_every_scheduler(tmp_path, kind):
    optimizer = torch.optim.SGD(network().parameters(), 0.1)
    schedulers = torch.optim.lr_scheduler
    made = {
        "MultiStepLR": lambda: schedulers.MultiStepLR(optimizer, [3, 5]),
        "CosineAnnealingLR": lambda: schedulers.CosineAnnealingLR(optimizer, 9),
        "LambdaLR": lambda: schedulers.LambdaLR(optimizer, lambda step: 0.9**step),
        "SequentialLR": lambda: schedulers.SequentialLR(
            optimizer, [schedulers.LinearLR(optimizer), schedulers.CosineAnnealingLR(optimizer, 9)], [4]
        ),
        "CyclicLR": lambda: schedulers.CyclicLR(optimizer, 0.1, 0.2, cycle_momentum=False),
        "SWALR": lambda: torch.optim.swa_utils.SWALR(optimizer, 0.05),
    }[kind]()
    write_checkpoint(tmp_path / "run.pt", {"scheduler": made.state_dict()})
    made.load_state_dict(read_checkpoint(tmp_path / "run.pt")["scheduler"])


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    write_checkpoint(tmp_path / "run.pt", {"a": 1})
    with pytest.raises(TypeError, match=r"got Linear in scheduler\.inner"):
        write_checkpoint(tmp_path / "run.pt", {"scheduler": {"inner": nn.Linear(1, 1)}})
    assert read_checkpoint(tmp_path / "run.pt")["a"] == 1


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_file_that_is_being_written_does_not_touch_the_old_one(tmp_path, monkeypatch, failing):
    write_checkpoint(tmp_path / "run.pt", {"a": 1})

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="no space left"):
        write_checkpoint(tmp_path / "run.pt", {"a": 2})
    assert read_checkpoint(tmp_path / "run.pt")["a"] == 1
