"""Free adversarial training: the perturbation moves with the backward pass, and is carried on."""

import copy

import pytest
import torch
from torch.nn import functional

from advlib import L2, Linf
from advlib.defenses import FreeAdversarialTraining
from advlib.models import Counted
from tests.defenses.table import build, classes, inputs

THREATS = {"linf": Linf(0.1), "l2": L2(0.5)}
every_threat = pytest.mark.parametrize("threat", THREATS.values(), ids=THREATS)


def gradient_at(model, point, y):
    """The gradient of the loss at a point, on a copy of the model."""
    point = point.clone().requires_grad_()
    loss = functional.cross_entropy(copy.deepcopy(model)(point), y)
    return torch.autograd.grad(loss, point)[0]


def moved(threat, gradient, at, x):
    """One steepest step of the radius, written out, and back into the threat model."""
    if isinstance(threat, Linf):
        step = threat.eps * gradient.sign()
    else:
        step = threat.eps * gradient / gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    return threat.project(at + step, x)


@every_threat
def test_each_backward_pass_moves_it_by_one_step(threat):
    model, x, y = build(), inputs(), classes()
    objective = FreeAdversarialTraining(threat, replays=4)
    expected = x
    for _ in range(4):
        out = objective(model, x, y)
        assert torch.allclose(out.x_adv, expected, atol=1e-12)
        assert torch.allclose(out.loss, functional.cross_entropy(copy.deepcopy(model)(expected), y))
        expected = moved(threat, gradient_at(model, expected, y), expected, x)
        out.loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
                p.grad = None
    assert (expected != x).any()


@every_threat
def test_it_stays_inside_the_threat_model(threat):
    model, x, y = build(), inputs().round(decimals=1), classes()
    objective = FreeAdversarialTraining(threat)
    for i in range(6):
        batch = x if i % 2 else 1 - x
        out = objective(model, batch, y)
        assert threat.contains(out.x_adv, batch).all()
        out.loss.backward()


def test_nothing_moves_without_a_backward_pass():
    model, x, y = build(), inputs(), classes()
    objective = FreeAdversarialTraining(Linf(0.1))
    for _ in range(2):
        assert torch.equal(objective(model, x, y).x_adv, x)
    assert objective.state_dict() == {}


def test_it_costs_one_pass_and_leaves_the_inputs_alone():
    model, x, y = build(), inputs(), classes()
    counted = Counted(model)
    x_before = x.clone()
    objective = FreeAdversarialTraining(Linf(0.1))
    objective(counted, x, y).loss.backward()
    assert (counted.forwards, counted.backwards) == (len(x), len(x))
    assert torch.equal(x, x_before)
    assert x.grad is None
    assert not x.requires_grad


def test_it_is_carried_over_batches_and_over_a_smaller_last_one():
    model, y = build(), classes()
    low, high = inputs(seed=1) * 0.2 + 0.4, inputs(seed=2) * 0.2 + 0.4
    objective = FreeAdversarialTraining(Linf(0.1))
    objective(model, low, y).loss.backward()
    delta = objective.state_dict()["delta"]
    assert delta.abs().max() == pytest.approx(0.1)
    assert torch.allclose(objective.perturb(model, high, y), high + delta)

    gradient = gradient_at(model, high[:2] + delta[:2], y[:2])
    expected = (delta[:2] + 0.1 * gradient.sign()).clamp(-0.1, 0.1)
    out = objective(model, high[:2], y[:2])
    assert torch.allclose(out.x_adv, high[:2] + delta[:2])
    out.loss.backward()
    after = objective.state_dict()["delta"]
    assert len(after) == 6
    assert torch.allclose(after[:2], expected)
    assert torch.equal(after[2:], delta[2:])
    assert torch.allclose(objective.perturb(model, low, y), low + after)


def test_a_larger_or_differently_shaped_batch_begins_anew():
    model, objective = build(), FreeAdversarialTraining(Linf(0.1))
    objective(model, inputs(3), classes(3)).loss.backward()
    larger = inputs(6)
    assert torch.equal(objective.perturb(model, larger, classes()), larger)
    other = torch.rand(3, 12, dtype=torch.float64)
    out = objective(model, other, classes(3))
    assert torch.equal(out.x_adv, other)
    out.loss.backward()
    assert objective.state_dict()["delta"].shape == other.shape


def test_state_dict_takes_up_where_it_left_off(tmp_path):
    model, x, y = build(), inputs(), classes()
    first = FreeAdversarialTraining(Linf(0.1))
    first(model, x, y).loss.backward()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = FreeAdversarialTraining(Linf(0.1))
    second(model, x, y).loss.backward()
    second(model, x, y).loss.backward()
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(second.perturb(model, x, y), first.perturb(model, x, y))
    kept = first.state_dict()["delta"].clone()
    second(model, x, y).loss.backward()
    assert torch.equal(first.state_dict()["delta"], kept)  # two objectives share nothing
    second.load_state_dict({})
    assert torch.equal(second.perturb(model, x, y), x)


def test_a_perturbation_of_another_precision_is_taken_up():
    """As one saved elsewhere and mapped to another device would be; the first batch after it may be a small one."""
    model, x, y = build(), inputs(), classes()
    objective = FreeAdversarialTraining(Linf(0.1))
    objective.load_state_dict({"delta": torch.full_like(x, 0.05).float()})
    objective(model, x[:2], y[:2]).loss.backward()
    assert objective.state_dict()["delta"].dtype == x.dtype
    assert len(objective.state_dict()["delta"]) == 6


@every_threat
def test_gradients_that_are_not_numbers_move_nothing(threat):
    model, x, y = build(), inputs(), classes()

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z.clone()

        @staticmethod
        def backward(ctx, gradient):
            return torch.where(torch.arange(2) == 0, gradient, torch.nan)

    objective = FreeAdversarialTraining(threat)
    objective(lambda z: model(Broken.apply(z)), x, y).loss.backward()
    x_adv = objective.perturb(model, x, y)
    assert torch.equal(x_adv[..., 1], x[..., 1])
    assert (x_adv[..., 0] != x[..., 0]).any()
