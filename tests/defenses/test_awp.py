"""Adversarial weight perturbation: where the weights go, what stays, and that they come back."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advlib.defenses import TRADES, AdversarialTraining, Standard, awp
from tests.defenses.table import ATTACK, build, classes, inputs, same, snapshot

CE = functional.cross_entropy


def test_each_matrix_moves_by_gamma_times_its_norm_along_the_gradient():
    model, x, y = build(), inputs(), classes()
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    twin = build()
    CE(twin(x), y).backward()
    gradients = {key: p.grad for key, p in twin.named_parameters()}
    with awp(model, lambda: CE(model(x), y), gamma=0.05):
        for key, p in model.named_parameters():
            if p.ndim > 1:
                expected = 0.05 * before[key].norm() * gradients[key] / gradients[key].norm()
                assert torch.allclose(p - before[key], expected, rtol=1e-9, atol=1e-13), key
            else:
                assert torch.equal(p, before[key]), key
        inside = CE(model(x), y)
    assert inside > CE(build()(x), y)


def test_kernels_move_as_matrices_do():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(6, 3)).double()
    x, y = inputs(), classes()
    before = model[0].weight.detach().clone()
    with awp(model, lambda: CE(model(x), y), gamma=0.1):
        assert (model[0].weight.detach() - before).norm().item() == pytest.approx(0.1 * before.norm().item())


@pytest.mark.parametrize("where", ["", "in the block", "in the loss"])
def test_everything_comes_back_bit_for_bit(where):
    model, x, y = build(torch.float32), inputs(dtype=torch.float32), classes()
    model[2].eval()
    model[4].weight.grad = torch.ones_like(model[4].weight)
    before = snapshot(model)

    def loss():
        value = CE(model(x), y)
        if where == "in the loss":
            raise OSError("boom")
        return value

    if where:
        with pytest.raises(OSError, match="boom"), awp(model, loss, gamma=0.3):
            raise OSError("boom")
    else:
        with awp(model, loss, gamma=0.3):
            assert not torch.equal(model[1].weight, before[0]["1.weight"])
            # nothing but the weights has changed: no gradient is left, no statistics are kept, no flag is moved
            assert torch.equal(model[5].running_mean, before[0]["5.running_mean"])
            assert int(model[5].num_batches_tracked) == 0
            assert same((before[0], *before[1:]), (before[0], *snapshot(model)[1:]))
    assert same(before, snapshot(model))


def test_the_direction_is_that_of_training_mode():
    """Batch normalisation sees the batch in the pass for the direction too, but keeps nothing of it."""
    model, x, y = build(), inputs(), classes()
    seen = []
    with awp(model, lambda: seen.append(model(x)) or CE(seen[0], y)):
        pass
    assert torch.allclose(seen[0], build().train()(x))
    assert not torch.allclose(seen[0], build().eval()(x))


def test_a_layer_in_evaluation_uses_its_own_statistics():
    model, x, y = build(), inputs(), classes()
    model[2].eval()
    seen = []
    with awp(model, lambda: seen.append(model(x)) or CE(seen[0], y)):
        pass
    reference = build()
    reference[2].eval()
    assert torch.allclose(seen[0], reference(x))
    assert not torch.allclose(seen[0], build()(x))


def test_frozen_weights_stay():
    model, x, y = build(), inputs(), classes()
    model[1].requires_grad_(False)
    before = model[1].weight.clone()
    with awp(model, lambda: CE(model(x), y), gamma=0.5):
        assert torch.equal(model[1].weight, before)
    model.requires_grad_(False)
    model[7].bias.requires_grad_(True)  # not a matrix among the weights that are trained
    with awp(model, lambda: CE(model(x), y), gamma=0.5):
        assert CE(model(x), y).requires_grad


def test_weights_that_the_loss_does_not_use_or_cannot_move_stay():
    model, x, y = build(), inputs(), classes()
    model.unused = nn.Linear(2, 2).double()
    used = nn.Sequential(*list(model)[:-1])
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    with awp(model, lambda: CE(used(x), y), gamma=0.1):
        assert torch.equal(model.unused.weight, before["unused.weight"])
        assert not torch.equal(model[1].weight, before["1.weight"])
    for factor in (0.0, float("nan")):
        with awp(model, lambda factor=factor: factor * CE(used(x), y), gamma=0.1):
            assert all(torch.equal(p, before[key]) for key, p in model.named_parameters())


def test_a_weight_of_zeros_stays():
    model, x, y = build(), inputs(), classes()
    nn.init.zeros_(model[7].weight)
    with awp(model, lambda: CE(model(x), y), gamma=0.1):
        assert (model[7].weight == 0).all()


def test_it_works_under_autocast():
    """The casts that autocast keeps are those of the weights in place, before, inside and after."""
    model, x, y = build(torch.float32), inputs(dtype=torch.float32), classes()
    plain = CE(model(x), y).item()
    with awp(model, lambda: CE(model(x), y), gamma=0.5):
        expected = CE(model(x), y).item()
    assert expected > plain + 0.2
    with torch.autocast("cpu", torch.bfloat16):
        before = CE(model(x), y).item()
        with awp(model, lambda: CE(model(x), y), gamma=0.5):
            inside = CE(model(x), y)
            inside.backward()
        after = CE(model(x), y).item()
    assert inside.item() == pytest.approx(expected, abs=0.1)
    assert before == after == pytest.approx(plain, abs=0.1)


@pytest.mark.parametrize("objective", [Standard(), AdversarialTraining(ATTACK), TRADES(ATTACK)])
def test_around_any_objective(objective):
    model, x, y = build(), inputs(), classes()
    weight = model[1].weight.detach().clone()
    x_adv = objective.perturb(model, x, y)
    with awp(model, lambda: objective.loss(model, x, y, x_adv).loss):
        perturbed = objective.loss(model, x, y, x_adv).loss
        perturbed.backward()
    assert torch.equal(model[1].weight, weight)
    assert perturbed > objective.loss(model, x, y, x_adv).loss
    assert int(model[2].num_batches_tracked) == 2  # once inside, once just now
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_works_where_gradients_are_off():
    model, x, y = build(), inputs(), classes()
    before = model[1].weight.detach().clone()
    with torch.no_grad(), awp(model, lambda: CE(model(x), y), gamma=0.1):
        assert not torch.equal(model[1].weight, before)


@pytest.mark.parametrize("gamma", [-0.1, float("nan")])
def test_gamma_is_not_negative(gamma):
    model = build()
    with (
        pytest.raises(ValueError, match=r"gamma must lie in \[0, inf\)"),
        awp(model, lambda: CE(model(inputs()), classes()), gamma=gamma),
    ):
        raise AssertionError("unreachable")
