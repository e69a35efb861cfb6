"""One perturbation for all: the optimum of a linear model, by hand in one dimension, and what it may touch."""

import pytest
import torch
from torch import nn

from advlib import L0, L1, L2, GradientMaskingWarning, Linf, universal_perturbation
from advlib.attacks.universal import nearly_fooled
from advlib.models import Counted
from tests.laws.table import batch, build, classes, seeded


def linear():
    model = nn.Linear(8, 2).double()
    model.weight.data = torch.randn(2, 8, generator=seeded(3), dtype=torch.float64)
    model.bias.data.zero_()
    return model


def inside(delta, threat):
    return torch.linalg.vector_norm(delta.flatten(), ord=threat.p) <= threat.eps * (1 + 1e-6)


@pytest.mark.parametrize("threat", [Linf(0.2), L2(0.5), L1(0.7)], ids=["linf", "l2", "l1"])
def test_two_linear_classes_share_the_steepest_direction(threat):
    """Away from the bounds, of inputs of one class, it is eps along the dual of the weights' difference."""
    model, x = linear(), 0.4 + 0.2 * batch((8,), rows=20)
    y = torch.zeros(20, dtype=torch.int64)
    free = type(threat)(threat.eps, bounds=None)
    delta = universal_perturbation(model, [(x[:12], y[:12]), (x[12:], y[12:])], free, epochs=40)
    normal = (model.weight[1] - model.weight[0]).detach()
    best = normal @ free.maximize(normal[None], torch.zeros(1, 8).double())[0]
    assert inside(delta, threat)
    assert normal @ delta > 0.98 * best


def line(z):
    """Errs beyond 1."""
    return torch.cat([1 - z, 0 * z], 1)


def test_steps_by_hand():
    x, y, seen = torch.tensor([[0.2], [0.4]]).double(), torch.tensor([0, 0]), []

    def watched(z):
        seen.append(z.flatten().tolist())
        return line(z)

    delta = universal_perturbation(watched, [(x[:1], y[:1]), (x[1:], y[1:])], Linf(0.3), epochs=2, step_size=0.1)
    assert [value for values in seen for value in values] == pytest.approx([0.2, 0.5, 0.4, 0.7])
    assert delta.tolist() == pytest.approx([0.3])
    seen.clear()
    universal_perturbation(watched, [(x[:1], y[:1]), (x[1:], y[1:])], Linf(0.4), epochs=1)
    assert [value for values in seen for value in values] == pytest.approx([0.2, 0.8])  # to the border at first
    seen.clear()
    universal_perturbation(watched, [(x[:1], y[:1])], Linf(0.4, bounds=(0.0, 0.5)), epochs=2)
    assert seen[1] == pytest.approx([0.5])  # the bounds are the inputs', not the perturbation's


@pytest.mark.parametrize("count", [1, 2])
def test_lengths_fall_along_a_cosine_batch_by_batch(count):
    x, y, seen = torch.tensor([[0.5]]).double(), torch.tensor([0]), []

    def turns(z):  # up, down, up, down: the perturbation moves by each length in turn
        seen.append(z.item() - 0.5)
        return line(z) * (1 if len(seen) % 2 else -1)

    universal_perturbation(turns, count * [(x, y)], Linf(0.4), epochs=4 // count, loss="margin")
    down = 0.4 - 0.4 * (1 + 0.5**0.5)  # from the border, where the first step, of twice its length, ended
    assert seen == pytest.approx([0.0, 0.4, down, down + 0.4])


def test_where_the_bounds_cut_it_off_an_input_has_no_say():
    x, y = torch.tensor([[1.0, 0.5], [0.5, 0.5]]).double(), torch.tensor([0, 0])

    def model(z):  # the first feature pulls each row elsewhere, the first row harder
        pull = torch.tensor([3.0, -1.0]).double()[: len(z)] * z[:, 0]
        return torch.stack([torch.ones(len(z)).double(), pull], 1)

    free = universal_perturbation(model, [(x, y)], Linf(0.2, bounds=None), epochs=1, loss="margin")
    cut = universal_perturbation(model, [(x, y)], Linf(0.2), epochs=2, loss="margin", step_size=0.1)
    assert free[0] > 0
    assert cut[0] == pytest.approx(0.0)  # up, then down on the word of the second row alone
    assert cut[1] == 0


def test_unseen_inputs_are_fooled_too():
    model, x = build((3, 4, 3)), batch((3, 4, 3), rows=200)
    y = classes(model, x)
    batches = [(x[i : i + 20], y[i : i + 20]) for i in range(0, 100, 20)]
    threat = Linf(0.25)
    delta = universal_perturbation(model, batches, threat)
    assert delta.shape == (3, 4, 3)
    assert not delta.requires_grad
    assert inside(delta, threat)
    x_adv = (x + delta).clamp(0, 1)
    assert threat.contains(x_adv, x).all()
    fooled = classes(model, x_adv[100:]) != y[100:]
    random = classes(model, (x[100:] + 0.25 * delta.sign().flip(0)).clamp(0, 1)) != y[100:]
    assert fooled.float().mean() > random.float().mean() + 0.1
    assert torch.equal(universal_perturbation(model, batches, threat), delta)


def test_masked_features_stay():
    model, x = build((12,)), batch((12,), rows=20)
    mask = torch.arange(12) < 5
    delta = universal_perturbation(model, [(x, classes(model, x))], L2(0.5, mask=mask), epochs=3)
    assert (delta[5:] == 0).all()
    assert (delta[:5] != 0).any()


def test_what_it_costs_and_leaves_alone():
    model, x = build((12,)).train(), batch((12,), rows=20)
    y, counted = torch.zeros(20, dtype=torch.int64), Counted(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        delta = universal_perturbation(counted, [(x.clone(), y)], Linf(0.1), epochs=3)
    assert (counted.forwards, counted.backwards) == (60, 60)
    assert model.training
    assert not delta.is_inference()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_logits_and_losses_of_ones_own():
    model, x = build((12,)), batch((12,), rows=20)
    batches = [(x, classes(model, x))]
    expected = universal_perturbation(model, batches, Linf(0.1), loss="margin")
    found = universal_perturbation(
        lambda z: {"logits": model(z)}, batches, Linf(0.1), loss="margin", logits_of=lambda output: output["logits"]
    )
    assert torch.equal(found, expected)
    default, other = (universal_perturbation(model, batches, L2(0.5), loss=loss) for loss in (nearly_fooled, "margin"))
    assert torch.equal(universal_perturbation(model, batches, L2(0.5)), default)
    assert not torch.equal(default, other)
    own = universal_perturbation(lambda z: {"logits": model(z)}, batches, Linf(0.1), logits_of=lambda o: o["logits"])
    assert torch.equal(own, universal_perturbation(model, batches, Linf(0.1)))


def test_a_smooth_count_of_errors():
    y = torch.tensor([0, 0, 0])
    logits = torch.tensor([[3.0, 0.0, 0.0], [2.0, 2.0, 0.0], [0.0, 9.0, 0.0]])
    expected = torch.sigmoid(torch.tensor([4 * -3 / 2, 0.0, 4 * 9 / 6]))
    assert torch.allclose(nearly_fooled(logits, y), expected)
    assert torch.allclose(nearly_fooled(100 * logits, y), expected)
    assert torch.allclose(
        nearly_fooled(logits, y, torch.tensor([2, 2, 2])), torch.sigmoid(torch.tensor([-6.0, -12, 0]))
    )
    assert nearly_fooled(torch.zeros(1, 3), y[:1]).tolist() == [0.5]


def test_no_gradient_is_told():
    x = batch((12,))
    with pytest.warns(GradientMaskingWarning, match="no input ever had"):
        delta = universal_perturbation(lambda z: 0 * z[:, :3], [(x, torch.zeros(6, dtype=torch.int64))], Linf(0.1))
    assert (delta == 0).all()


def test_bad_input():
    model, x = build((12,)), batch((12,))
    y = classes(model, x)
    with pytest.raises(ValueError, match="takes an Linf, L2 or L1 ball"):
        universal_perturbation(model, [(x, y)], L0(2))
    with pytest.raises(TypeError, match=r"gone through several times, got generator: list\(batches\)"):
        universal_perturbation(model, ((x, y) for _ in range(2)), Linf(0.1))
    with pytest.raises(ValueError, match="there must be inputs"):
        universal_perturbation(model, [], Linf(0.1))
    with pytest.raises(ValueError, match="one radius per row of x, got 6 for 1 rows"):
        universal_perturbation(model, [(x, y)], Linf(torch.full((6,), 0.1)))
    with pytest.raises(ValueError, match="mask must broadcast"):
        universal_perturbation(model, [(x, y)], Linf(0.1, mask=x > 0.5))
    with pytest.raises(ValueError, match="needs a finite eps"):
        universal_perturbation(model, [(x, y)], Linf(float("inf")))
    with pytest.raises(ValueError, match="epochs must be a whole number"):
        universal_perturbation(model, [(x, y)], Linf(0.1), epochs=0)
