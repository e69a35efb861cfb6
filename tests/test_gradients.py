"""Gradient sources, against torch's own derivatives and functions whose derivatives are known."""

import itertools

import pytest
import torch
from torch import nn

from advlib.gradients import autograd, eot, finite_differences, jacobian
from advlib.models import Counted
from advlib.noise import Key, Noise


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 5)).double()


@pytest.fixture
def x():
    return torch.rand(4, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def noise(rows, **place):
    return Noise(Key(torch.Generator().manual_seed(0)), torch.arange(rows), **place)


class Recorder:
    """An ``ask`` that keeps the points it was asked about, and answers with ``functions`` of them in turn."""

    def __init__(self, *functions):
        self.functions, self.points = itertools.cycle(functions), []

    def __call__(self, x):
        self.points.append(x.detach().clone())
        value = next(self.functions)(x)
        values = value if isinstance(value, tuple) else (value,)
        return torch.stack(values, 1), values


def linear(weights):
    return lambda x: (x * weights).flatten(1).sum(1)


# -- autograd ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objectives", [1, 2, 5])
def test_autograd_is_torchs_for_each_objective(net, x, objectives):
    def ask(points):
        logits = net(points)
        return logits, logits[:, :objectives].unbind(1)

    estimate = autograd(ask, x, noise(4))
    assert (estimate.forwards, estimate.backwards) == (1, objectives)
    assert torch.equal(estimate.output, net(x))
    assert not estimate.output.requires_grad
    for i in range(objectives):
        at = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(net(at)[:, i].sum(), at)
        torch.testing.assert_close(estimate.gradients[i], expected, rtol=1e-12, atol=0)
        assert torch.equal(estimate.values[i], net(x)[:, i])
        assert not estimate.values[i].requires_grad
        assert not estimate.gradients[i].requires_grad
    assert len(estimate.gradients) == len(estimate.values) == objectives


def test_autograd_asks_once_and_leaves_x_and_parameters_alone(net, x):
    before = x.clone()
    ask = Recorder(lambda points: net(points).sum(1))
    with torch.no_grad():  # as inside the guard
        autograd(ask, x, noise(4))
    assert [torch.equal(point, x) for point in ask.points] == [True]
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(
    "cut",
    [
        lambda net, x: net(x.detach()).sum(1).detach(),  # nothing to differentiate
        lambda net, x: net(x.detach()).sum(1),  # parameters only: no path to x
        lambda net, x: net(x).argmax(1).to(x),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_detached_objective_has_a_gradient_of_zero(net, x, cut, place):
    def objectives(points):
        values = [net(points)[:, 0], net(points)[:, 1]]
        values.insert(place, cut(net, points))
        return tuple(values)

    estimate = autograd(Recorder(objectives), x, noise(4))
    for i, gradient in enumerate(estimate.gradients):
        assert gradient.shape == x.shape
        assert bool(gradient.any()) is (i != place)


def test_each_value_is_differentiated_in_its_own_precision(x):
    def ask(at):
        total = at.flatten(1).sum(1)
        return at, (total.float(), 2 * total)

    first, second = autograd(ask, x, noise(4)).gradients
    assert torch.equal(first, torch.ones_like(x))
    assert torch.equal(second, 2 * torch.ones_like(x))


def test_autograd_of_rows_is_that_of_each_row(net, x):
    def ask(points):
        return None, (net(points)[:, 0] * 10.0 ** torch.arange(len(points)),)

    (together,) = autograd(ask, x, noise(4)).gradients
    (alone,) = autograd(ask, x[:1], noise(1)).gradients
    torch.testing.assert_close(alone[0], together[0], rtol=1e-12, atol=0)


# -- expectation over transformation -----------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_eot_is_the_mean_of_its_passes(samples):
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    first, second = linear(torch.tensor([1.0, -1.0])), lambda x: (x**2).sum(1)
    ask = Recorder(first, second)
    estimate = eot(samples)(ask, x, noise(2))
    gradients = [torch.tensor([[1.0, -1.0]] * 2), 2 * x]
    values = [torch.tensor([-1.0, -1.0]), torch.tensor([5.0, 25.0])]
    expected = [sum((pair * samples)[:samples]) / samples for pair in (gradients, values)]
    assert torch.equal(estimate.gradients[0], expected[0])
    assert torch.equal(estimate.values[0], expected[1])
    assert torch.equal(estimate.output, expected[1].unsqueeze(1))  # the mean logits
    assert (estimate.forwards, estimate.backwards) == (samples, samples)
    assert all(torch.equal(point, x) for point in ask.points)
    assert len(ask.points) == samples


def test_eot_counts_a_backward_pass_for_each_objective():
    estimate = eot(3)(Recorder(lambda x: (x.sum(1), (x**2).sum(1))), torch.ones(2, 2), noise(2))
    assert (estimate.forwards, estimate.backwards) == (3, 6)
    assert [gradient.unique().item() for gradient in estimate.gradients] == [1.0, 2.0]


def test_eot_of_outputs_that_are_no_tensors():
    estimate = eot(2)(lambda x: ("features", (x.sum(1),)), torch.ones(2, 2), noise(2))
    assert estimate.output == "features"


@pytest.mark.parametrize("source", [eot, finite_differences])
@pytest.mark.parametrize("samples", [0, -1])
def test_samples_are_at_least_one(source, samples):
    with pytest.raises(ValueError, match=f"samples must be at least 1, got {samples}"):
        source(samples)


# -- finite differences ------------------------------------------------------------------------------------------


@pytest.fixture
def all_signs(monkeypatch):
    """Noise that goes through all the sign vectors of three features, one a stream."""
    vectors = list(itertools.product((-1.0, 1.0), repeat=3))

    def signs(self, like):
        return torch.tensor(vectors[self.branch % 8], dtype=like.dtype).expand(like.shape)

    monkeypatch.setattr(Noise, "signs", signs)


@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("delta", [2.0**-10, 0.5])
def test_exact_on_linear_functions_over_all_sign_vectors(all_signs, antithetic, delta):
    """The mean of u u' over all sign vectors is the identity. All numbers are dyadic: nothing is rounded."""
    weights, x = torch.tensor([[1.0, -2.0, 0.25], [0.0, 3.0, -0.5]]), torch.tensor([[0.5, 0.25, 1.0], [0.0, 1.0, 0.5]])
    estimate = finite_differences(8, delta, antithetic)(Recorder(linear(weights)), x, noise(2))
    assert torch.equal(estimate.gradients[0], weights)
    assert torch.equal(estimate.values[0], linear(weights)(x))


@pytest.mark.parametrize("antithetic", [True, False])
def test_converges_by_the_law_of_large_numbers(antithetic):
    """The error of one feature has variance (|w|^2 - w_i^2) / samples."""
    samples, rng = 1000, torch.Generator().manual_seed(3)
    weights = torch.randn(2, 2, 3, generator=rng, dtype=torch.float64)
    x = torch.rand(2, 2, 3, generator=rng, dtype=torch.float64)
    (slope,) = finite_differences(samples, 0.01, antithetic)(Recorder(linear(weights)), x, noise(2)).gradients
    square = weights.flatten(1).square()
    deviation = ((square.sum(1, keepdim=True) - square) / samples).sqrt()
    error = (slope - weights).flatten(1) / deviation
    assert error.abs().max() < 4
    assert error.abs().max() > 0.1  # an estimate, not the gradient itself


def test_antithetic_pairs_cancel_even_terms():
    """For a quadratic, one pair gives the directional derivative; one side alone is off by delta u'Hu / 2."""
    rng = torch.Generator().manual_seed(4)
    curvature, x = (torch.rand(3, 6, generator=rng, dtype=torch.float64) for _ in range(2))
    direction = noise(3).stream(256).signs(x)

    def quadratic(points):
        return (curvature * points**2).sum(1)

    along = (2 * curvature * x * direction).sum(1, keepdim=True)
    for antithetic, excess in ((True, 0.0), (False, 0.1 * curvature.sum(1, keepdim=True))):
        (slope,) = finite_differences(1, 0.1, antithetic)(Recorder(quadratic), x, noise(3)).gradients
        torch.testing.assert_close(slope, (along + excess) * direction, rtol=1e-12, atol=0)


@pytest.mark.parametrize("antithetic", [True, False])
def test_it_asks_at_x_and_delta_away_from_it_and_nowhere_else(antithetic):
    samples, delta, x = 5, 0.125, torch.full((2, 3), 0.5)
    ask = Recorder(linear(torch.ones(3)))
    estimate = finite_differences(samples, delta, antithetic)(ask, x, noise(2, step=3))
    assert torch.equal(ask.points[0], x)
    assert estimate.forwards == len(ask.points) == 1 + samples * (2 if antithetic else 1)
    assert estimate.backwards == 0
    sides = ask.points[1:]
    assert all(torch.equal((point - x).abs(), torch.full_like(x, delta)) for point in sides)
    ahead = sides[::2] if antithetic else sides
    if antithetic:
        assert all(torch.equal(a - x, x - b) for a, b in zip(ahead, sides[1::2], strict=True))
    for sample, point in enumerate(ahead):
        assert torch.equal(point, x + delta * noise(2, step=3).stream(256 + sample).signs(x))
    assert len({tuple(point.flatten().tolist()) for point in ahead}) == samples  # new directions each time


def test_differences_of_several_objectives_share_their_passes():
    x = torch.rand(2, 3, dtype=torch.float64)
    both = Recorder(lambda x: (x.sum(1), (x**2).sum(1)))
    estimate = finite_differences(4)(both, x, noise(2))
    assert estimate.forwards == 9
    for i, alone in enumerate((lambda x: x.sum(1), lambda x: (x**2).sum(1))):
        expected = finite_differences(4)(Recorder(alone), x, noise(2)).gradients[0]
        assert torch.equal(estimate.gradients[i], expected)


def test_differences_work_on_models_without_a_gradient():
    x = torch.full((2, 3), 0.5)
    (slope,) = finite_differences(64, 0.25)(Recorder(lambda x: (x * 100).round().sum(1)), x, noise(2)).gradients
    assert (slope > 50).all()


def test_a_rows_differences_do_not_depend_on_the_batch():
    x = torch.rand(5, 2, 3, dtype=torch.float64)
    source, ask = finite_differences(6), Recorder(lambda x: (x**3).flatten(1).sum(1))
    together = source(ask, x, noise(5)).gradients[0]
    rows = torch.tensor([3, 1])
    assert torch.equal(source(ask, x[rows], noise(5)._replace(row=rows)).gradients[0], together[rows])


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_delta_is_positive(delta):
    with pytest.raises(ValueError, match=f"delta must be positive, got {delta}: give the length of a difference"):
        finite_differences(1, delta)


# -- the Jacobian ------------------------------------------------------------------------------------------------


def whole(net, x):
    """``(N, C, ...)`` by torch's own functional."""
    return torch.stack([torch.autograd.functional.jacobian(lambda z: net(z[None])[0], row) for row in x])


@pytest.mark.parametrize("classes", [[0], [3, 1], [0, 1, 2, 3, 4], [2, 2]])
def test_jacobian_is_torchs(net, x, classes):
    rows = jacobian(net, x, torch.tensor(classes))
    torch.testing.assert_close(rows, whole(net, x)[:, classes], rtol=1e-10, atol=1e-14)
    assert not rows.requires_grad
    assert torch.equal(jacobian(net, x, classes), rows)  # a list will do


def test_jacobian_of_other_classes_in_each_row(net, x):
    classes = torch.tensor([[0, 4], [1, 1], [3, 2], [4, 0]])
    expected = whole(net, x)[torch.arange(4)[:, None], classes]
    torch.testing.assert_close(jacobian(net, x, classes), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_jacobian_without_gradients_around_it(net, x, mode):
    expected = jacobian(net, x, [0, 1])
    with mode():
        assert torch.equal(jacobian(net, x.clone(), torch.tensor([0, 1])), expected)


def test_jacobian_leaves_no_trace(net, x):
    x.requires_grad_()
    jacobian(net, x, [0])
    assert x.grad is None
    assert all(parameter.grad is None for parameter in net.parameters())


def test_jacobian_takes_one_forward_and_a_backward_for_each_class(net, x):
    model = Counted(net)
    jacobian(model, x, [0, 3, 4])
    assert (model.forwards, model.backwards) == (4, 12)


def test_jacobian_of_a_model_without_a_gradient_is_zero(x):
    assert not jacobian(lambda x: x.detach().flatten(1), x, [0, 1]).any()


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (2, 2, 2, 3)])
def test_jacobian_shapes(shape):
    assert jacobian(lambda x: x.flatten(1), torch.zeros(shape), [0]).shape == (shape[0], 1, *shape[1:])


@pytest.mark.parametrize("shape", [(), (0,), (4, 0), (3, 2), (4, 1, 1)])
def test_jacobian_classes_of_a_wrong_shape(net, x, shape):
    message = r"classes must have shape \(k,\) or \(N, k\), k at least 1, got .* for N=4"
    with pytest.raises(ValueError, match=message):
        jacobian(net, x, torch.zeros(shape, dtype=torch.int64))
