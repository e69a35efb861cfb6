"""Model wrappers change what they say they change, and gradients pass through them."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from advlib import Linf, fgsm
from advlib.losses import over_members
from advlib.models import BPDA, Counted, Ensemble, Logits, Normalize


def gradient(model, x, weights):
    x = x.clone().requires_grad_()
    return torch.autograd.grad((model(x) * weights).sum(), x)[0]


# -- Normalize ---------------------------------------------------------------------------------------------------


def test_normalize_by_hand():
    x = torch.tensor([[[[0.5, 1.0]], [[0.25, 0.0]]]])  # (1, 2, 1, 2)
    model = Normalize(nn.Identity(), mean=[0.5, 0.25], std=[0.5, 0.125])
    assert model(x).tolist() == [[[[0.0, 1.0]], [[0.0, -2.0]]]]
    assert gradient(model, x, torch.ones_like(x)).tolist() == [[[[2.0, 2.0]], [[8.0, 8.0]]]]


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 5), (3, 2, 4, 4), (3, 2, 2, 3, 4), (0, 2, 4, 4)])
def test_normalize_works_along_channels_of_any_input(shape):
    x = torch.rand(shape)
    out = Normalize(nn.Identity(), [0.1, 0.2], [2.0, 4.0])(x)
    expected = torch.stack([(x[:, 0] - 0.1) / 2, (x[:, 1] - 0.2) / 4], dim=1)
    torch.testing.assert_close(out, expected)


def test_normalize_with_one_number_for_all_channels():
    assert Normalize(nn.Identity(), 0.5, 0.25)(torch.ones(1, 3, 1, 1)).flatten().tolist() == [2.0, 2.0, 2.0]


def test_normalize_goes_where_the_model_goes():
    model = Normalize(nn.Linear(2, 2), [0.5, 0.5], [1.0, 1.0])
    assert {"mean", "std", "model.weight", "model.bias"} == set(model.state_dict())
    assert model.double()(torch.zeros(1, 2, dtype=torch.float64)).dtype == torch.float64
    assert not list(Normalize(nn.Identity(), 0.5, 0.5).parameters())


@pytest.mark.parametrize(("mean", "std"), [([0.5], [0.5, 0.5]), (0.5, 0.0), (0.5, -1.0), ([0.5, 0.5], [1.0, 0.0])])
def test_normalize_errors(mean, std):
    with pytest.raises(ValueError, match="mean and std must match and std be positive, got mean"):
        Normalize(nn.Identity(), mean, std)


# -- Ensemble ----------------------------------------------------------------------------------------------------


def constant(*logits):
    return nn.Sequential(nn.Flatten(), _Constant(logits))


class _Constant(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def test_ensemble_of_logits():
    model = Ensemble([constant(1.0, 2.0, -3.0), constant(3.0, -2.0, 0.0)])
    assert model(torch.zeros(2, 1)).tolist() == [[2.0, 0.0, -1.5]] * 2


def test_ensemble_of_probabilities():
    models = [constant(100.0, 0.0, -50.0), constant(0.0, 0.0, 0.0)]
    out = Ensemble(models, mean="probabilities")(torch.zeros(1, 1))
    torch.testing.assert_close(out.exp(), torch.tensor([[2 / 3, 1 / 6, 1 / 6]], dtype=torch.float64))
    torch.testing.assert_close(out.softmax(1), out.exp())  # logarithms of probabilities are logits
    tiny = Ensemble([constant(0.0, -1000.0)] * 2, mean="probabilities")(torch.zeros(1, 1))
    torch.testing.assert_close(tiny, torch.tensor([[0.0, -1000.0]], dtype=torch.float64))


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_ensemble_gradients_reach_every_model(mean):
    torch.manual_seed(0)
    models, x, weights = [nn.Linear(4, 3) for _ in range(3)], torch.rand(2, 4), torch.rand(2, 3)

    def by_hand(x):
        if mean == "logits":
            return sum(model(x) for model in models) / 3
        return (sum(model(x).softmax(1) for model in models) / 3).log()

    ensemble = Ensemble(models, mean)
    torch.testing.assert_close(ensemble(x), by_hand(x))
    torch.testing.assert_close(gradient(ensemble, x, weights), gradient(by_hand, x, weights))
    assert len(list(ensemble.parameters())) == 6


def test_ensemble_of_losses():
    """The mean of the members' losses, which is neither that of the mean logits nor that of the mean probabilities."""
    model = Ensemble([constant(1.0, 2.0, -3.0), constant(3.0, -2.0, 0.0)], mean="losses")
    out = model(torch.zeros(4, 1))
    assert out.shape == (4, 2, 3)
    assert out[0].tolist() == [[1.0, 2.0, -3.0], [3.0, -2.0, 0.0]]
    y = torch.tensor([0, 1, 2, 0])
    members = [functional.cross_entropy(out[:, i], y, reduction="none") for i in range(2)]
    torch.testing.assert_close(over_members()(out, y), sum(members) / 2)
    assert over_members("margin")(out, y)[0].item() == pytest.approx((1.0 - 3.0) / 2)
    net = nn.Linear(1, 3)
    both = Ensemble([net, constant(1.0, 2.0, -3.0)], mean="losses")
    x, settings = torch.rand(5, 1), {"loss": over_members(), "logits_of": lambda output: output.mean(1)}
    y = both(x).mean(1).argmax(1)
    x_adv = fgsm(both, x, y, Linf(0.1), **settings)  # the other member's loss has no gradient
    assert torch.equal(x_adv, fgsm(net, x, y, Linf(0.1)))


def test_ensemble_errors():
    with pytest.raises(ValueError, match="an ensemble needs at least one model, got none"):
        Ensemble([])
    with pytest.raises(ValueError, match="mean must be 'logits', 'probabilities' or 'losses', got 'votes'"):
        Ensemble([nn.Identity()], mean="votes")


# -- BPDA --------------------------------------------------------------------------------------------------------


def quantize(x):
    return (x * 7).round() / 7


def test_bpda_forward_is_exactly_the_layers():
    x = torch.rand(5, 3, 4, requires_grad=True)
    for stand_in in (None, lambda x: x * 0.5 - 3, nn.Sigmoid()):
        assert torch.equal(BPDA(quantize, stand_in)(x), quantize(x))


@pytest.mark.parametrize(
    ("stand_in", "slope"), [(None, lambda x: torch.ones_like(x)), (lambda x: x**3, lambda x: 3 * x**2)]
)
def test_bpda_backward_is_the_stand_ins(stand_in, slope):
    x, weights = torch.rand(5, 3), torch.randn(5, 3)
    torch.testing.assert_close(gradient(BPDA(quantize, stand_in), x, weights), weights * slope(x))
    assert gradient(quantize, x, weights).abs().max() == 0  # what the adversary sees without


def test_bpda_inside_a_model():
    torch.manual_seed(0)
    linear, x = nn.Linear(3, 2), torch.rand(4, 3)
    weights = torch.randn(4, 2)
    model = nn.Sequential(BPDA(quantize), linear)
    torch.testing.assert_close(gradient(model, x, weights), weights @ linear.weight)
    (weight,) = torch.autograd.grad((model(x) * weights).sum(), linear.weight)
    torch.testing.assert_close(weight, weights.T @ quantize(x))  # later layers see the exact values


def test_bpda_of_a_layer_that_leaves_the_graph():
    numpy_layer = BPDA(lambda x: torch.from_numpy(x.detach().numpy().round()))
    x = torch.tensor([[0.2, 0.8]])
    assert numpy_layer(x).tolist() == [[0.0, 1.0]]
    assert gradient(numpy_layer, x, torch.ones(1, 2)).tolist() == [[1.0, 1.0]]


def test_bpda_builds_no_graph_through_the_layer():
    seen = []
    BPDA(lambda x: seen.append(torch.is_grad_enabled()) or x)(torch.ones(1, 2, requires_grad=True))
    assert seen == [False]


def test_bpda_does_not_change_what_the_layer_returns_in_place():
    kept = torch.zeros(1, 2)
    out = BPDA(lambda x: kept)(torch.ones(1, 2, requires_grad=True))
    assert out.tolist() == [[0.0, 0.0]]
    assert not kept.requires_grad


def test_bpda_registers_modules():
    layer, stand_in = nn.Linear(2, 2), nn.Linear(2, 2)
    assert len(list(BPDA(layer, stand_in).parameters())) == 4
    assert not BPDA(layer, stand_in).eval().layer.training


def test_bpda_shapes_must_agree():
    with pytest.raises(ValueError, match=r"layer and stand_in must return the same shape, got \(1, 1\) and \(1, 2\)"):
        BPDA(lambda x: x[:, :1])(torch.zeros(1, 2))


# -- Logits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda z: SimpleNamespace(logits=z, hidden=None), lambda z: z])
def test_logits_of_an_object_or_a_tensor(wrap):
    x = torch.rand(2, 3)
    model = Logits(lambda x: wrap(2 * x))
    assert torch.equal(model(x), 2 * x)
    assert torch.equal(gradient(model, x, torch.ones(2, 3)), torch.full((2, 3), 2.0))


def test_logits_of_something_else():
    with pytest.raises(TypeError, match="the model must return an object with logits, got dict: give the attack"):
        Logits(lambda x: {"logits": x})(torch.zeros(1, 2))


# -- Counted -----------------------------------------------------------------------------------------------------


def test_counted_counts_samples_not_calls():
    model = Counted(nn.Linear(3, 2))
    for rows in (4, 1, 0):
        model(torch.zeros(rows, 3))
    assert (model.forwards, model.backwards) == (5, 0)
    x = torch.zeros(3, 3, requires_grad=True)
    torch.autograd.grad(model(x).sum(), x)
    assert (model.forwards, model.backwards) == (8, 3)


def test_counted_counts_each_backward_pass():
    model = Counted(nn.Linear(3, 2))
    x = torch.zeros(4, 3, requires_grad=True)
    out = model(x)
    for column in out.unbind(1):
        torch.autograd.grad(column.sum(), x, retain_graph=True)
    assert (model.forwards, model.backwards) == (4, 8)
    out.sum().backward()
    assert (model.forwards, model.backwards) == (4, 12)
    model(x)  # the hook of the first pass is gone with it
    torch.autograd.grad(model(x).sum(), x)
    assert (model.forwards, model.backwards) == (12, 16)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_counted_without_gradients(mode):
    model, x = Counted(nn.Linear(3, 2)), torch.zeros(4, 3, requires_grad=True)
    with mode():
        model(x)
    assert (model.forwards, model.backwards) == (4, 0)


def test_counted_changes_nothing():
    linear, x = nn.Linear(3, 2), torch.rand(4, 3)
    counted, weights = Counted(linear), torch.randn(4, 2)
    assert torch.equal(counted(x), linear(x))
    assert torch.equal(gradient(counted, x, weights), gradient(linear, x, weights))
    assert counted(SimpleTensor(x)).shape == (4, 2)


class SimpleTensor(torch.Tensor):
    """A subclass, such as named or wrapped tensors are."""

    def __new__(cls, data):
        return data.as_subclass(cls)


# -- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(range(4), repeat=2)))
def test_wrappers_nest(outer, inner):
    wrappers = [
        lambda m: Normalize(m, 0.5, 2.0),
        lambda m: Ensemble([m, m]),
        lambda m: nn.Sequential(BPDA(quantize), m),
        Counted,
    ]
    model = wrappers[outer](wrappers[inner](nn.Linear(3, 2)))
    assert model(torch.rand(5, 3)).shape == (5, 2)
    assert gradient(model, torch.rand(5, 3), torch.ones(5, 2)).abs().min() > 0
