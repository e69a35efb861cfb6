"""Feature adversaries: the optimum of a linear representation, hooks that are gone afterwards, and bad input."""

import pytest
import torch
from by_hand import points
from torch import nn

from advlib import L0, L1, L2, Linf, feature_adversary
from advlib.models import Counted
from tests.laws.table import batch, build, classes, seeded

THREATS = {"linf": Linf(0.2), "l2": L2(0.5), "l1": L1(0.7, sparsity=0.5)}


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, 3))
    return model.double().eval()


def apart(model, layer, a, b):
    """Distances of representations, by the model's first modules."""
    upto = {"0": model[:1], "2.0": nn.Sequential(*model[:2], model[2][0]), None: model}[layer]
    return (upto(a) - upto(b)).detach().norm(dim=1)


@pytest.mark.parametrize("norm", THREATS)
def test_a_linear_representation_comes_as_near_as_it_can(norm):
    """The squared distance is convex: a small gap to its linear lower bound proves the optimum."""
    model, x = network(), batch((8,), rows=12)
    guide, threat = batch((8,), rows=12, seed=5), THREATS[norm]
    x_adv = feature_adversary(model, x, classes(model, x), threat, guide=guide, layer="0", steps=200)
    point = x_adv.clone().requires_grad_()
    far = (model[0](point) - model[0](guide)).square().sum(1)
    (gradient,) = torch.autograd.grad(far.sum(), point)
    gap = (gradient * (x_adv - threat.maximize(-gradient, x))).sum(1)
    before = apart(model, "0", x, guide).square()
    assert (gap < 0.02 * (before - far.detach())).all()
    assert (far < before).all()


def test_a_guide_within_the_ball_is_reached():
    model, x = network(), batch((8,), rows=12)
    guide = (x + 0.05 * torch.randn(x.shape, generator=seeded(), dtype=x.dtype).sign()).clamp(0, 1)
    x_adv = feature_adversary(model, x, classes(model, x), Linf(0.05), guide=guide, layer="0", steps=200)
    assert (apart(model, "0", x_adv, guide) < 0.1 * apart(model, "0", x, guide)).all()


@pytest.mark.parametrize("layer", ["2.0", None])
def test_the_layer_says_what_comes_near_whatever_the_class(layer):
    model, x = network(), batch((8,), rows=12)
    guide, y = batch((8,), rows=12, seed=5), classes(model, x)
    x_adv = feature_adversary(model, x, y, Linf(0.2), guide=guide, layer=layer)
    assert (apart(model, layer, x_adv, guide) < 0.9 * apart(model, layer, x, guide)).all()
    assert torch.equal(feature_adversary(model, x, (y + 1) % 3, Linf(0.2), guide=guide, layer=layer), x_adv)
    module = None if layer is None else model.get_submodule(layer)
    asked = lambda z: model(z)  # noqa: E731
    assert torch.equal(feature_adversary(asked, x, y, Linf(0.2), guide=guide, layer=module), x_adv)


def test_the_nearest_point_asked_about_is_kept():
    model, x = network(), batch((8,), rows=12)
    guide, seen = batch((8,), rows=12, seed=5), []

    def watched(z):
        seen.append(z.detach().clone())
        return model(z)

    settings = {"guide": guide, "steps": 3, "step_size": 0.4, "random_start": True, "generator": seeded()}
    x_adv = feature_adversary(watched, x, classes(model, x), Linf(0.3), **settings)
    assert torch.equal(seen[0], guide)
    near = torch.stack([apart(model, None, z, guide) for z in seen[1:]])
    assert torch.allclose(apart(model, None, x_adv, guide), near.amin(0))
    assert not torch.equal(seen[1], x)
    assert len(seen) == 1 + 4
    l0 = feature_adversary(model, x, classes(model, x), L0(2), guide=guide)
    assert ((l0 != x).sum(1) <= 2).all()


def test_steps_have_the_size_given():
    """Where the representation is the input itself, each feature goes towards its guide."""
    x, guide, seen = points([0.6, 0.5]), points([0.9, 0.05]), []
    model = lambda z: seen.append(z[0].tolist()) or z  # noqa: E731
    x_adv = feature_adversary(model, x, torch.tensor([0]), Linf(0.3), guide=guide, steps=2, step_size=0.2)
    assert seen == [pytest.approx(point) for point in ([0.9, 0.05], [0.6, 0.5], [0.8, 0.3], [0.9, 0.2])]
    assert x_adv[0].tolist() == seen[-1]


def test_a_representation_that_is_there_is_a_success():
    model, x = network(), batch((8,), rows=12)
    guide = x.clone()
    guide[6:] = batch((8,), rows=6, seed=5)
    x_adv = feature_adversary(model, x, classes(model, x), Linf(0.1), guide=guide, layer="0", random_start=True)
    stays = feature_adversary(model, x, classes(model, x), Linf(0.1), guide=guide, layer="0")  # and does not warn
    assert torch.equal(stays[:6], x[:6])
    assert not torch.equal(stays[6:], x[6:])
    assert (apart(model, "0", x_adv, guide)[:6] < 0.05).all()


@pytest.mark.parametrize("batch_size", [None, 5])
def test_what_it_costs_and_rows_keep_their_guides(batch_size):
    model, x = network(), batch((8,), rows=12)
    guide, y, sizes = batch((8,), rows=12, seed=5), classes(model, x), []
    counted = Counted(lambda z: sizes.append(len(z)) or model(z))
    x_adv = feature_adversary(counted, x, y, Linf(0.2), guide=guide, steps=3, batch_size=batch_size)
    assert (counted.forwards, counted.backwards) == (5 * 12, 3 * 12)
    assert set(sizes) == ({5, 2} if batch_size else {12})
    assert torch.allclose(x_adv[7:8], feature_adversary(model, x[7:8], y[7:8], Linf(0.2), guide=guide[7:8], steps=3))


def test_no_hook_is_left_even_after_an_exception():
    model, x = network(), batch((8,), rows=12)
    y = classes(model, x)
    feature_adversary(model, x, y, Linf(0.2), guide=x, layer="2.0")
    assert not model[2][0]._forward_hooks
    with pytest.raises(ValueError, match="step_size=None needs a finite eps"):
        feature_adversary(model, x, y, Linf(float("inf")), guide=x, layer="2.0")
    assert not model[2][0]._forward_hooks
    with torch.inference_mode():
        found = feature_adversary(model, x.clone(), y.clone(), Linf(0.2), guide=x.clone() * 0, layer="0")
    assert torch.equal(found, feature_adversary(model, x, y, Linf(0.2), guide=x * 0, layer="0"))


def test_logits_and_layers_of_models_that_return_more():
    model, x = network(), batch((8,), rows=12)
    guide, y = batch((8,), rows=12, seed=5), classes(model, x)
    for layer in ("2.0", None):
        module = None if layer is None else model.get_submodule(layer)
        found = feature_adversary(
            lambda z: {"logits": model(z)}, x, y, Linf(0.2), guide=guide, layer=module, logits_of=lambda o: o["logits"]
        )
        assert torch.equal(found, feature_adversary(model, x, y, Linf(0.2), guide=guide, layer=layer))


def test_the_representation_in_half_precision():
    model, x = build((12,), torch.float32), batch((12,), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        x_adv = feature_adversary(model, x, classes(model, x), Linf(0.1), guide=1 - x, layer="1")
    assert (model[1](x_adv) - model[1](1 - x)).norm() < (model[1](x) - model[1](1 - x)).norm()


def test_bad_input():
    model, x = network(), batch((8,), rows=12)
    y, threat = classes(model, x), Linf(0.2)
    with pytest.raises(ValueError, match=r"guide must match x in shape, dtype and device, got torch.Size\(\[3, 8\]\)"):
        feature_adversary(model, x, y, threat, guide=x[:3])
    with pytest.raises(ValueError, match="guide must match x"):
        feature_adversary(model, x, y, threat, guide=x.float())
    with pytest.raises(ValueError, match=r"got 'head': the names are 0, 1, 2, 2\.0, 2\.1, 3"):
        feature_adversary(model, x, y, threat, guide=x, layer="head")
    with pytest.raises(ValueError, match="since the model is no module"):
        feature_adversary(lambda z: model(z), x, y, threat, guide=x, layer="0")
    with pytest.raises(ValueError, match=r"layer must be run by the model .* got nothing"):
        feature_adversary(model, x, y, threat, guide=x, layer=nn.Linear(8, 8))
    with pytest.raises(ValueError, match=r"layer must be run by the model .* got nothing"):
        feature_adversary(Once(), x, y, threat, guide=x, layer="layer")
    with pytest.raises(ValueError, match=r"got torch.Size\(\[5\]\)"):
        feature_adversary(Summed(), x, y, threat, guide=x, layer="layer")
    with pytest.raises(ValueError, match="leave targeted and target out"):
        feature_adversary(model, x, y, threat, guide=x, targeted=True)
    with pytest.raises(ValueError, match="leave targeted and target out"):
        feature_adversary(model, x, y, threat, guide=x, target=y)
    with pytest.raises(TypeError, match="leave loss out"):
        feature_adversary(model, x, y, threat, guide=x, loss="margin")


class Once(nn.Module):
    """A model that runs a layer the first time alone."""

    def __init__(self):
        super().__init__()
        self.layer, self.run = nn.Linear(8, 3).double(), False

    def forward(self, z):
        first, self.run = not self.run, True
        return self.layer(z) if first else z[:, :3]


class Summed(nn.Module):
    """A model with a layer that has no rows."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(8, 5).double(), nn.Linear(8, 3).double()

    def forward(self, z):
        self.layer(z.sum(0))
        return self.head(z)
