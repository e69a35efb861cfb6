"""Virtual adversarial training: the direction of the Hessian, and rows without labels."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from advlib.defenses import VirtualAdversarialTraining, divergence
from advlib.models import Counted

CE = functional.cross_entropy


def problem(dtype=torch.float64, rows=5):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3)).double()
    with torch.no_grad():
        model[2].weight.mul_(3)
    x = torch.rand(rows, 6, dtype=torch.float64)
    return model.to(dtype), x.to(dtype), torch.arange(rows) % 3


def spectrum(model, x):
    """Eigenvalues and eigenvectors of the Hessian of each row's divergence at no perturbation, in float64."""
    model = copy.deepcopy(model).double()
    rows = []
    for row in x.double():
        logits = model(row[None]).detach()

        def value(delta, logits=logits, row=row):
            return divergence(logits, model((row + delta)[None])).sum()

        hessian = torch.autograd.functional.hessian(value, torch.zeros_like(row))
        rows.append(torch.linalg.eigh(hessian))
    return rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_direction_is_the_dominant_eigenvector(dtype):
    model, x, y = problem(dtype)
    torch.manual_seed(1)
    x_adv = VirtualAdversarialTraining(eps=0.7, iterations=30).perturb(model, x, y)
    delta = (x_adv - x).double()
    assert torch.allclose(delta.norm(dim=1), torch.full((5,), 0.7, dtype=torch.float64), atol=1e-6)
    for row, (values, vectors) in zip(delta, spectrum(model, x), strict=True):
        assert values[-1] > 1.2 * values[-2]  # so that there is a dominant one
        assert abs(row @ vectors[:, -1]) / 0.7 > 0.999


def test_one_round_is_one_product_with_the_hessian():
    """The power method on differences of gradients: the gradient at x + xi d is xi H d, to first order."""
    model, x, y = problem()
    torch.manual_seed(1)
    delta = VirtualAdversarialTraining(eps=1.0, iterations=1, xi=1e-6).perturb(model, x, y) - x
    torch.manual_seed(1)
    start = torch.randn_like(x)
    for row, first, (values, vectors) in zip(delta, start, spectrum(model, x), strict=True):
        product = vectors @ (values * (vectors.T @ first))
        assert torch.allclose(row, product / product.norm(), atol=1e-4)


def test_differences_are_xi_long_and_the_clean_answer_has_no_graph():
    model, x, y = problem()
    asked = []

    def recorded(z):
        asked.append((z.detach(), torch.is_grad_enabled()))
        return model(z)

    VirtualAdversarialTraining(eps=1.0, iterations=2, xi=0.1).perturb(recorded, x, y)
    assert [graph for _, graph in asked] == [False, True, True]
    for point, _ in asked[1:]:
        assert torch.allclose((point - x).norm(dim=1), torch.full((5,), 0.1, dtype=x.dtype))


def test_it_costs_one_clean_answer_and_a_pass_for_each_round():
    model, x, y = problem()
    counted = Counted(model)
    VirtualAdversarialTraining(eps=1.0, iterations=3).perturb(counted, x, y)
    assert (counted.forwards, counted.backwards) == (4 * len(x), 3 * len(x))


def test_the_direction_survives_autocast():
    """In bfloat16 the difference of two gradients a thousandth apart would be rounding alone."""
    model, x, y = problem(torch.float32)
    objective = VirtualAdversarialTraining(eps=1.0, iterations=3)
    torch.manual_seed(1)
    expected = objective.perturb(model, x, y) - x
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        delta = objective.perturb(model, x, y) - x
        assert torch.is_autocast_enabled("cpu")
    assert functional.cosine_similarity(delta, expected).min() > 0.999


def test_its_loss():
    model, x, y = problem()
    torch.manual_seed(1)
    out = VirtualAdversarialTraining(eps=0.7, weight=2.0)(model, x, y)
    expected = CE(model(x), y) + 2 * divergence(model(x), model(out.x_adv)).mean()
    assert torch.allclose(out.loss, expected)
    assert torch.equal(out.logits, model(torch.cat([x, out.x_adv]))[:5])


def test_rows_without_a_label_give_no_cross_entropy():
    model, x, y = problem()
    y[1] = y[3] = -1
    labelled = y != -1
    torch.manual_seed(1)
    out = VirtualAdversarialTraining(eps=0.7)(model, x, y)
    expected = CE(model(x[labelled]), y[labelled]) + divergence(model(x), model(out.x_adv)).mean()
    assert torch.allclose(out.loss, expected)


def test_a_batch_without_any_label():
    model, x, y = problem()
    torch.manual_seed(1)
    out = VirtualAdversarialTraining(eps=0.7)(model, x, torch.full_like(y, -1))
    assert torch.allclose(out.loss, divergence(model(x), model(out.x_adv)).mean())
    out.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model[0].weight.grad.abs().max() > 0


def test_the_clean_answer_is_no_moving_target():
    model, x, y = problem()
    x_adv = x + 0.3
    objective = VirtualAdversarialTraining(eps=0.7)
    found = torch.autograd.grad(objective.loss(model, x, torch.full_like(y, -1), x_adv).loss, model[2].weight)[0]
    fixed = torch.autograd.grad(divergence(model(x).detach(), model(x_adv)).mean(), model[2].weight)[0]
    moving = torch.autograd.grad(divergence(model(x), model(x_adv)).mean(), model[2].weight)[0]
    assert torch.allclose(found, fixed)
    assert not torch.allclose(moving, fixed)


def test_a_flat_answer_moves_nothing():
    _, x, y = problem()
    x_adv = VirtualAdversarialTraining(eps=0.7).perturb(lambda z: 0 * z[:, :3], x, y)
    assert torch.equal(x_adv, x)


def test_the_defaults_are_those_of_the_paper():
    objective = VirtualAdversarialTraining(eps=1.0)
    assert (objective.weight, objective.iterations, objective.xi) == (1.0, 1, 1e-3)
