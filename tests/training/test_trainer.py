import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from training_problems import DATA, QUICK, held_out, loader, network, same, trainer

from advlib import Linf, pgd
from advlib.defenses import AdversarialTraining, LossOutput, Objective, Standard, awp
from advlib.training import CollapseWarning, Trainer
from advlib.training.checkpoint import read_checkpoint

BATCHES = [(DATA.x_train[i : i + 32], DATA.y_train[i : i + 32]) for i in range(0, 128, 32)]


def fit(made, train=BATCHES, **options):
    return made.fit(train, **{"epochs": 2, "progress": False, **options})


def ruined_after(model, epochs):
    """A metrics callable that makes the model forget everything after some epochs."""

    def metrics(row):
        if row["epoch"] == epochs:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.zero_()

    return metrics


def robust_accuracy(model):
    x, y = next(iter(held_out()))
    torch.manual_seed(0)
    clean = model(x).argmax(1) == y
    return (clean & (model(QUICK(model, x, y)).argmax(1) == y)).float().mean().item()


def test_training_raises_robust_accuracy():
    torch.manual_seed(0)
    made = trainer(network(), steps=10 * 8, attack=QUICK, averaging=0.9)
    result = fit(made, loader(slice(0, 640), 64), epochs=8, validation=held_out())
    scores = [row["robust_accuracy"] for row in result.history]
    assert scores[-1] > scores[0] + 0.2
    assert result.best_score == max(scores)
    assert result.history[result.best_epoch - 1]["robust_accuracy"] == result.best_score
    assert result.stopped is None
    assert not any(module.training for module in made.model.modules())


def test_it_is_the_loop_that_one_would_write():
    model, other = network(dropout=0.2), network(dropout=0.2)
    made = trainer(model, steps=8)
    torch.manual_seed(1)
    result = fit(made)

    optimizer = torch.optim.SGD(other.parameters(), 0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=8)
    objective, losses = AdversarialTraining(QUICK), []
    torch.manual_seed(1)
    for x, y in BATCHES * 2:
        loss = objective(other, x, y).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    assert same(model.state_dict(), other.state_dict())
    assert [row["loss"] for row in result.history] == pytest.approx([sum(losses[:4]) / 4, sum(losses[4:]) / 4])
    assert result.best_epoch is None
    assert result.best_score is None


def test_weight_perturbation_begins_after_its_warm_up():
    model, other = network(norm=False), network(norm=False)
    fit(trainer(model, Standard(), awp_gamma=0.05, awp_warmup=1))
    optimizer = torch.optim.SGD(other.parameters(), 0.05, momentum=0.9)
    for epoch in range(2):
        for x, y in BATCHES:
            optimizer.zero_grad()

            def loss(x=x, y=y):
                return functional.cross_entropy(other(x), y)

            with awp(other, loss, gamma=0.05 if epoch else 0.0):
                loss().backward()
            optimizer.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@dataclass(frozen=True)
class Watched(Objective):
    """Cross-entropy that writes down what it is given."""

    seen: list
    replays: int = 1

    def perturb(self, model, x, y):
        self.seen.append(("perturb", torch.is_autocast_enabled("cpu"), x.dtype))
        return x + 0.01

    def loss(self, model, x, y, x_adv):
        logits = model(x_adv)
        self.seen.append(("loss", torch.is_autocast_enabled("cpu"), x_adv.dtype, logits.dtype))
        return LossOutput(functional.cross_entropy(logits.float(), y), logits)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_perturbations_stay_in_float32(precision):
    objective = Watched([])
    model = network()
    fit(trainer(model, objective, precision=precision), epochs=1)
    computed = precision or torch.float32
    wanted = [("perturb", False, torch.float32), ("loss", precision is not None, torch.float32, computed)]
    assert objective.seen == wanted * len(BATCHES)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_each_batch_is_taken_as_often_as_the_objective_says():
    objective = Watched([], replays=3)
    result = fit(trainer(network(), objective))
    assert len(objective.seen) == 2 * 2 * 3 * len(BATCHES)
    assert result.history[-1]["step"] == 2 * 3 * len(BATCHES)


@pytest.mark.parametrize("averaging", [None, 0.5])
def test_the_model_holds_the_best_state(averaging):
    model = network()
    made = trainer(model, averaging=averaging, attack=QUICK, metrics=ruined_after(model, 3))
    result = fit(made, epochs=4, validation=held_out())
    scores = [row["robust_accuracy"] for row in result.history]
    assert result.best_epoch == scores.index(max(scores)) + 1
    assert scores[3] < max(scores)  # so that the last state is not the best
    assert robust_accuracy(model) == pytest.approx(max(scores), abs=0.05)  # up to the attack's random start


def test_without_an_attack_clean_accuracy_decides():
    result = fit(trainer(network()), validation=held_out())
    assert result.best_score == max(row["clean_accuracy"] for row in result.history)
    assert "robust_accuracy" not in result.history[0]


def test_a_row_that_only_the_attack_sets_right_is_not_robust():
    class Bowl(nn.Module):  # class 1 where x is large
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            return torch.cat([self.bias - x[:, :1], x[:, :1] - self.bias], 1)

    def attack(model, x, y):
        return 1 - x

    x, y = torch.tensor([[0.1], [0.9], [0.2], [0.8]]), torch.tensor([0, 0, 0, 1])
    model = Bowl()
    made = Trainer(model, torch.optim.SGD(model.parameters(), 0.0), Standard(), attack=attack)
    row = fit(made, [(x, y)], epochs=1, validation=[(x, y)]).history[0]
    assert row["clean_accuracy"] == 0.75
    assert row["robust_accuracy"] == 0


def test_without_validation_the_model_holds_the_last_average(tmp_path):
    model = network()
    fit(trainer(model, averaging=0.9), checkpoint=tmp_path / "run.pt")
    state = read_checkpoint(tmp_path / "run.pt")
    average = {name.removeprefix("module."): value for name, value in state["average"].items() if "." in name}
    assert same(model.state_dict(), average)
    assert not same(model.state_dict(), state["model"])


def test_it_stops_when_robust_accuracy_no_longer_improves():
    model = network()
    made = trainer(model, lr=0.0, attack=partial(QUICK, random_start=False))
    for module in model.modules():
        module.momentum = 0.0  # BatchNorm's statistics stay
    result = fit(made, epochs=20, validation=held_out(), patience=3)
    assert result.stopped == "early"
    assert result.best_epoch == 1
    assert len(result.history) == 4
    assert fit(trainer(network(), attack=QUICK), epochs=1, validation=held_out(), patience=1).stopped is None


@pytest.mark.parametrize("averaging", [None, 0.9])
def test_a_collapse_is_undone_and_told(tmp_path, averaging):
    guard = partial(pgd, threat=Linf(0.02), steps=3)
    model, plain = network(), network()
    made = trainer(model, Standard(), collapse_guard=guard, metrics=ruined_after(model, 4), averaging=averaging)
    told = pytest.warns(CollapseWarning, match=r"collapsed in epoch 5: .* fell to \d+.\d%, from .* of epoch 4 were put")
    with told:
        result = fit(made, epochs=9, checkpoint=tmp_path / "run.pt")
    assert result.stopped == "collapse"
    assert len(result.history) == 5
    fit(trainer(plain, Standard(), averaging=averaging), epochs=4)
    assert same(model.state_dict(), plain.state_dict())
    made = trainer(network(), Standard(), collapse_guard=guard, averaging=averaging)
    with pytest.warns(CollapseWarning):  # a stopped run stays stopped
        assert len(fit(made, epochs=9, checkpoint=tmp_path / "run.pt", resume=True).history) == 5


def test_a_collapsed_epoch_cannot_be_the_best():
    """Clean accuracy, which decides here, may well be at its highest in an epoch in which training collapsed."""
    x, y = torch.tensor([[0.0], [1.0], [0.0], [1.0]]), torch.tensor([0, 1, 0, 1])
    checks, scores = iter([False, False, True]), iter([0, 0, 1])

    class Scored:
        def __iter__(self):
            yield x, y * next(scores)  # half right, half right, all right

    model = nn.Linear(1, 2)
    model.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]), "bias": torch.tensor([0.5, -0.5])})
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    made = Trainer(model, optimizer, Standard(), collapse_guard=lambda model, x, y: 1 - x if next(checks) else x)
    with pytest.warns(CollapseWarning):
        result = fit(made, [(x, y)], epochs=5, validation=Scored())
    assert [row["clean_accuracy"] for row in result.history] == [0.5, 0.5, 1.0]
    assert [row["guard_accuracy"] for row in result.history] == [1.0, 1.0, 0.0]
    assert (result.best_epoch, result.best_score, result.stopped) == (1, 0.5, "collapse")


def test_steady_training_does_not_collapse():
    made = trainer(network(), collapse_guard=QUICK)
    assert fit(made, epochs=4).stopped is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_training(tmp_path, bad):
    path, model = tmp_path / "run.pt", network(norm=False)
    batches = [*BATCHES[:3], (torch.full_like(BATCHES[3][0], bad), BATCHES[3][1])]
    made, good = trainer(model, Standard(), averaging=0.9), []
    made.optimizer.register_step_post_hook(lambda *_: good.append([p.clone() for p in model.parameters()]))
    with pytest.raises(FloatingPointError, match=r"got nan in epoch 1, batch 4 \(step 4\)"):
        fit(made, batches, checkpoint=path, every=1)
    state = read_checkpoint(path)
    assert state["progress"]["step"] == 3
    assert all(torch.equal(a, b) for a, b in zip(state["model"].values(), good[2], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), good[2], strict=True))  # the step was not taken
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_weights_that_are_no_numbers_are_not_written(tmp_path):
    path, model = tmp_path / "run.pt", network(norm=False)
    made, steps = trainer(model, Standard()), []

    def ruin(*_):
        steps.append(0)
        if len(steps) == 3:
            model[1].bias.data[0] = math.inf

    made.optimizer.register_step_post_hook(ruin)
    with pytest.raises(FloatingPointError, match=r"1\.bias holds NaN or infinite values after step 3"):
        fit(made, checkpoint=path, every=1)
    assert read_checkpoint(path)["progress"]["step"] == 2


def test_frozen_batch_norm_stays_frozen():
    model = network()
    model[2].eval()
    before = {name: value.clone() for name, value in model[2].named_buffers()}
    seen = []
    made = trainer(model, metrics=lambda row: seen.append(model.training))
    modes = []
    made.optimizer.register_step_post_hook(lambda *_: modes.append((model.training, model[2].training)))
    fit(made)
    fit(made)  # a second run, which finds the model in evaluation, remembers
    assert set(modes) == {(True, False)}
    assert same(dict(model[2].named_buffers()), before)


def test_a_model_in_evaluation_is_trained():
    model = network().eval()
    before = model[2].running_mean.clone()
    fit(trainer(model))
    assert not torch.equal(model[2].running_mean, before)


def test_metrics_get_one_flat_row_per_epoch():
    rows = []
    result = fit(trainer(network(), attack=QUICK, metrics=rows.append), validation=held_out())
    assert rows == list(result.history)
    assert list(rows[0]) == [
        "epoch",
        "step",
        "loss",
        "learning_rate",
        "seconds",
        "images_per_second",
        "clean_accuracy",
        "robust_accuracy",
    ]
    assert all(isinstance(value, (int, float)) for row in rows for value in row.values())


def test_the_progress_bar_shows_loss_and_accuracies(capsys):
    fit(trainer(network(), attack=QUICK), validation=held_out(), progress=True)
    shown = capsys.readouterr().err
    for word in ("8/8", "loss=", "clean=", "robust="):
        assert word in shown
