"""Each error states what must hold, what came, and what to do; and none leaves anything overwritten."""

from functools import partial

import pytest
import torch
from torch import nn
from training_problems import QUICK, held_out, loader, network, same, trainer

from advlib import Linf, pgd
from advlib.defenses import TRADES, AdversarialTraining
from advlib.training import Trainer
from advlib.training.checkpoint import describe, read_checkpoint


def plateau(model):
    return torch.optim.lr_scheduler.ReduceLROnPlateau(torch.optim.SGD(model.parameters(), 0.1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"averaging": 1.0}, ValueError, r"decay in \(0, 1\), got 1.0"),
        ({"averaging": 0.0}, ValueError, r"decay in \(0, 1\), got 0.0"),
        ({"precision": torch.float16}, ValueError, r"got torch.float16: .* torch.bfloat16"),
        ({"awp_gamma": -1.0}, ValueError, "awp_gamma must lie in"),
        ({"awp_warmup": -1}, ValueError, "awp_warmup must lie in"),
        ({"attack": pgd}, TypeError, "lacks its threat model"),
        ({"collapse_guard": 3}, TypeError, "configured attack"),
        ({"scheduler": plateau(network())}, TypeError, "ReduceLROnPlateau"),
    ],
)
def test_bad_settings(options, error, message):
    model = network()
    with pytest.raises(error, match=message):
        Trainer(model, torch.optim.SGD(model.parameters(), 0.1), AdversarialTraining(QUICK), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 1.5}, ValueError, "epochs must be a whole number"),
        ({"patience": 0, "validation": held_out()}, ValueError, "patience must be"),
        ({"patience": 2}, ValueError, "patience needs data to judge by"),
        ({"every": 2}, ValueError, "need a file"),
        ({"every": 0, "checkpoint": "run.pt"}, ValueError, "every must be"),
        ({"resume": True}, ValueError, "need a file"),
        ({"train": iter([])}, TypeError, "train must be gone through anew in each epoch"),
        ({"validation": iter([])}, TypeError, "validation must be gone through anew"),
        ({"train": []}, ValueError, "train must yield at least one batch"),
        ({"validation": []}, ValueError, "validation must yield at least one batch"),
        ({"train": [(torch.rand(4, 64), torch.arange(3))]}, ValueError, "got 4 inputs and 3 labels"),
        ({"train": [torch.rand(4, 64)]}, TypeError, r"pair of tensors \(x, y\), got Tensor"),
        ({"train": [(torch.rand(4, 64), [1, 2])]}, TypeError, r"got \['Tensor', 'list'\]"),
    ],
)
def test_bad_arguments(options, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        trainer(network()).fit(**{"train": loader(slice(0, 32)), "epochs": 1, "progress": False, **options})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "run.pt"
    trainer(network(), averaging=0.9, attack=QUICK).fit(loader(), epochs=1, checkpoint=path, progress=False)
    return path


def deeper():
    """A network with as many parameters, of which the optimizer could not tell that they are others."""
    model = network(norm=False)
    model[1] = nn.Sequential(nn.Linear(64, 24), nn.Linear(24, 24, bias=False))
    model[3] = nn.Sequential(nn.Linear(24, 24, bias=False), nn.Dropout())
    return model


def wider():
    model = network()
    model[-1] = nn.Linear(24, 11)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: trainer(wider(), averaging=0.9, attack=QUICK), r"5\.weight is \(11, 24\) here, and \(10, 24\) in"),
        (
            lambda: trainer(deeper(), averaging=0.9, attack=QUICK),
            r"1\.0\.weight is \(24, 64\) here, and nothing in the",
        ),
        (
            lambda: trainer(network(norm=False), averaging=0.9, attack=QUICK),
            "SGD over 4 parameters, got SGD over 6 par",
        ),
        (
            lambda: trainer(network(), TRADES(QUICK), averaging=0.9, attack=QUICK),
            r"this objective, TRADES\(attack=pgd\(.*got AdversarialTraining\(",
        ),
        (
            lambda: trainer(network(), AdversarialTraining(partial(QUICK, steps=9)), averaging=0.9, attack=QUICK),
            r"this objective, .*steps=9.*got .*steps=2",
        ),
        (lambda: trainer(network(), attack=QUICK), "this averaging, None, got 0.9"),
        (lambda: trainer(network(), averaging=0.9), "this attack, None, got pgd"),
        (lambda: trainer(network(), steps=9, averaging=0.9, attack=QUICK), "this scheduler, OneCycleLR, got NoneType"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(checkpoint, make, message):
    written, made = checkpoint.read_bytes(), make()
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    with pytest.raises(ValueError, match=message) as error:
        made.fit(loader(), epochs=2, checkpoint=checkpoint, resume=True, progress=False)
    assert str(checkpoint) in str(error.value)
    assert "resume=False" in str(error.value)
    assert same(made.model.state_dict(), before)
    assert checkpoint.read_bytes() == written


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "noise", "flipped bit"])
def test_a_damaged_checkpoint_is_refused(checkpoint, damage):
    whole = checkpoint.read_bytes()
    if damage == "other":
        torch.save({"weights": torch.zeros(2)}, checkpoint)
    else:
        middle = len(whole) // 2
        weight = whole.index(read_checkpoint(checkpoint)["model"]["1.weight"].numpy().tobytes())
        flipped = whole[:weight] + bytes([whole[weight] ^ 1]) + whole[weight + 1 :]
        bytes_of = {"cut": whole[:middle], "empty": b"", "noise": b"no checkpoint" * 99, "flipped bit": flipped}
        checkpoint.write_bytes(bytes_of[damage])
    written = checkpoint.read_bytes()
    with pytest.raises(ValueError, match=r"must be a (complete )?checkpoint") as error:
        trainer(network(), averaging=0.9, attack=QUICK).fit(
            loader(), epochs=2, checkpoint=checkpoint, resume=True, progress=False
        )
    assert str(checkpoint) in str(error.value)
    assert checkpoint.read_bytes() == written


def test_a_description_has_no_addresses_and_sees_every_parameter():
    objectives = [
        AdversarialTraining(QUICK),
        AdversarialTraining(QUICK, 0.5),
        AdversarialTraining(QUICK, bn="batch"),
        AdversarialTraining(partial(QUICK, step_size=0.1)),
        AdversarialTraining(partial(QUICK, threat=Linf(0.2))),
        AdversarialTraining(partial(QUICK, threat=Linf(torch.tensor([0.1, 0.2])))),
        AdversarialTraining(partial(QUICK, threat=Linf(torch.tensor([0.1, 0.3])))),
        AdversarialTraining(lambda model, x, y: x),
        TRADES(QUICK),
    ]
    descriptions = [describe(objective) for objective in objectives]
    assert len(set(descriptions)) == len(objectives)
    assert not any("0x" in text for text in descriptions)
    assert describe(AdversarialTraining(partial(QUICK, generator=torch.Generator()))).count("Generator") == 1
