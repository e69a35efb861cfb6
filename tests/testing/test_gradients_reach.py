"""assert_gradients_reach_input accepts honest models, and names what is wrong with the others."""

import copy

import pytest
import torch
from torch import nn

from advlib.models import BPDA, Normalize
from advlib.testing import assert_gradients_reach_input


def network(*layers, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, last = nn.Linear(12, 16), nn.Linear(16, 4)
    return nn.Sequential(first, *(layers or (nn.Tanh(),)), last)


def inputs(model, rows=8):
    x = torch.rand(rows, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, model(x).argmax(1)


def complaint(model, x=None, y=None):
    if x is None:
        x, y = inputs(model)
    with pytest.raises(AssertionError) as caught:
        assert_gradients_reach_input(model, x, y)
    return str(caught.value)


class Detach(nn.Module):
    def forward(self, x):
        return x.detach()


class Round(nn.Module):
    def forward(self, x):
        return (x * 10).round() / 10


class Hardened(nn.Module):
    """Detaches between its layers, not in one."""

    def __init__(self):
        super().__init__()
        self.first, self.last = network()[0], network()[2]

    def forward(self, x):
        return self.last(self.first(x).detach().tanh())


class Rooted(nn.Module):
    def forward(self, x):
        return x + 0 * (x - x).sqrt()


class Tripled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad


class Wrong(nn.Module):
    def forward(self, x):
        return Tripled.apply(x)


class Argmax(nn.Module):
    def forward(self, x):
        return nn.functional.one_hot(x.argmax(1), 4).float()


def conv():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4)
        )


@pytest.mark.parametrize("model", [network(), network(nn.ReLU()), network(nn.Dropout(), nn.GELU())])
def test_honest_networks_pass(model):
    assert_gradients_reach_input(model, *inputs(model))
    assert_gradients_reach_input(Normalize(model, 0.5, 0.25), *inputs(model))
    double = copy.deepcopy(model).double()
    x, y = inputs(model)
    assert_gradients_reach_input(double, x.double(), y)


def test_a_function_of_float32_weights_passes():
    model = network()
    assert_gradients_reach_input(lambda z: model(z), *inputs(model))


def test_ties_of_a_flat_background_are_no_fault():
    """A maximum over equal features has one-sided slopes alone."""
    model = conv()
    x = torch.zeros(5, 1, 8, 8)
    x[:, :, 3:5, 3:5] = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert_gradients_reach_input(model, x, model.eval()(x).argmax(1))


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_inputs_that_are_all_the_same(value):
    model = network()
    x = torch.full((3, 12), value)
    assert_gradients_reach_input(model, x, model(x).argmax(1))


def test_a_step_is_as_wide_as_the_inputs_ask():
    """Inputs of 0 to 255 are moved by more than rounding."""
    model = network()
    scaled = nn.Sequential(nn.Linear(12, 12, bias=False), *model)
    with torch.no_grad():
        scaled[0].weight.copy_(1e-6 * torch.eye(12))
    x, y = inputs(model)
    assert_gradients_reach_input(scaled, 1e6 * x, y)
    assert_gradients_reach_input(lambda z: scaled(z), 1e6 * x, y)


def test_the_model_stays_as_it_was():
    model = network(nn.BatchNorm1d(16), nn.Tanh())
    x, y = inputs(model)
    model[0].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for check in (assert_gradients_reach_input, complaint):
        check(model if check is assert_gradients_reach_input else nn.Sequential(model, Detach()), x, y)
        assert all(module.training for module in model.modules())
        assert [p.requires_grad for p in model.parameters()] == [True, False, True, True, True, True]
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert not model[0]._forward_hooks
        assert not x.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode):
    model = network()
    x, y = inputs(model)
    with mode():
        assert_gradients_reach_input(model, x.clone(), y.clone())


@pytest.mark.parametrize(
    ("model", "seen", "suspect"),
    [
        (network(nn.Tanh(), Detach()), "no gradient on any row", "suspect 2 (Detach):"),
        (Hardened(), "no gradient on any row", "suspect what runs between first (Linear) and last (Linear):"),
        (nn.Sequential(Detach(), network()), "no gradient on any row", "suspect 0 (Detach):"),
        (nn.Sequential(*network(), Argmax()), "no gradient on any row", "suspect 3 (Argmax):"),
        (network(nn.Tanh(), Round()), "zero on 8, NaN or infinite on 0", "suspect 2 (Round):"),
        (nn.Sequential(Round(), network()), "zero on 8, NaN or infinite on 0", "suspect 0 (Round):"),
        (network(nn.Tanh(), Rooted(), nn.Tanh()), "zero on 0, NaN or infinite on 8", "suspect 2 (Rooted):"),
    ],
)
def test_a_lost_gradient_is_told_with_its_layer(model, seen, suspect):
    told = complaint(model)
    assert told.startswith("the margin ")
    assert seen in told
    assert suspect in told
    assert "BPDA" in told


def test_a_lost_gradient_behind_the_last_layer():
    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            return (self.inner(x) * 10).round()

    assert "suspect what runs after inner.2 (Linear)" in complaint(Rounded())


def test_rows_without_a_gradient_are_counted():
    model = network(nn.ReLU())
    with torch.no_grad():
        model[0].bias[:] = 0
        model[0].weight.abs_()
    x, y = inputs(model)
    x[3] = -1  # where no unit is on
    assert "no usable gradient on 1 of 8 rows (zero on 1, NaN or infinite on 0; first at row 3)" in complaint(
        model, x, y
    )


def test_of_a_function_no_layer_can_be_named():
    model = network()
    assert "no nn.Module, so no layer can be named" in complaint(lambda z: model(z.round()))


def test_saturated_softmax_and_saturated_cross_entropy():
    model = network()
    with torch.no_grad():
        model[2].weight *= 1000
    x, y = inputs(model)
    told = complaint(model, x, y)
    assert told.startswith("the cross-entropy has no usable gradient")
    assert "but the margin has one" in told
    assert "loss='margin'" in told
    assert "suspect 3 (Softmax)" in complaint(nn.Sequential(*model, nn.Softmax(1)), x, y)


@pytest.mark.parametrize(
    "model", [network(nn.Tanh(), Wrong()), nn.Sequential(BPDA(lambda z: (z * 5).round() / 5), network())]
)
def test_a_wrong_gradient_is_found_by_differences(model):
    told = complaint(model)
    assert "the gradient is wrong on 8 of 8 rows: along a random direction it promises a slope of" in told
    assert "central differences in torch.float64 measure" in told
    assert "finite_differences()" in told


def test_a_slightly_wrong_gradient_is_found_in_double_and_a_gross_one_in_single_precision():
    class Slightly(nn.Module):
        def forward(self, x):
            return x + 0.01 * (x - x.detach())

    complaint(network(nn.Tanh(), Slightly()))
    wrong = network(nn.Tanh(), Wrong())
    assert "differences in torch.float32" in complaint(lambda z: wrong(z), *inputs(wrong))


def test_the_slopes_that_are_told_are_right():
    class Twice(nn.Module):
        def forward(self, x):
            return x + (x - x.detach())

    told = complaint(network(nn.Tanh(), Twice()))
    promised, measured = (float(told.split(word)[1].split()[0]) for word in ("slope of", "measure"))
    assert promised == pytest.approx(2 * measured, rel=1e-2)


def test_bad_inputs():
    model = network()
    with pytest.raises(TypeError, match="float32 or float64"):
        assert_gradients_reach_input(model, torch.zeros(2, 12, dtype=torch.int64), torch.zeros(2))
    with pytest.raises(ValueError, match="there must be rows"):
        assert_gradients_reach_input(model, torch.zeros(0, 12), torch.zeros(0))
