"""Laws 6 and 8: attacks move where they say, and reach the optimum where it is known."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from advlib import L0, L1, L2, Linf, bim, fgsm, jsma, mim, pgd
from advlib.losses import cross_entropy, margin
from tests.laws.table import ATTACKS, CLASSES, LENGTHS, batch, build, call, classes, every, seeded


@every(where=lambda row: row.gradients)
def test_untargeted_raises_the_loss_of_the_true_class(name, threat, shape):
    model, x = build(shape), batch(shape, rows=20)
    y = classes(model, x)
    x_adv = call(name, model, x, y, threat, generator=seeded())
    clean, attacked = (margin(model(z).detach(), y) for z in (x, x_adv))
    assert (attacked >= clean - 1e-9).all() or name in ("fgsm", "pgd, last", "jsma, decreasing")
    assert attacked.mean() > clean.mean() + 0.01


@every(where=lambda row: row.targets)
def test_targeted_lowers_the_loss_of_the_wanted_class(name, threat, shape):
    model, x = build(shape), batch(shape, rows=20)
    wanted = (classes(model, x) + 1) % CLASSES
    x_adv = call(name, model, x, wanted, threat, targeted=True, generator=seeded())
    clean, attacked = (cross_entropy(model(z).detach(), wanted) for z in (x, x_adv))
    assert attacked.mean() < clean.mean() - 0.01


def binary(weight):
    """A linear model with logits (f, -f)."""
    layer = nn.Linear(len(weight), 2, bias=False).double()
    layer.weight.data = torch.stack([weight, -weight])
    return layer


WEIGHT = torch.tensor([0.5, -1.0, 2.0, 0.25, -1.5, 0.1, -0.3, 0.7], dtype=torch.float64)
CENTRE = torch.full((3, 8), 0.5, dtype=torch.float64)
# the dual norm of the weight times eps: how far the logit f can fall inside the ball
FALL = {
    "linf": (Linf(0.2), 0.2 * WEIGHT.abs().sum()),
    "l2": (L2(0.4), 0.4 * WEIGHT.norm()),
    "l1": (L1(0.3), 0.3 * WEIGHT.abs().max()),
    "l0": (L0(2), 0.5 * (2.0 + 1.5)),
}
ITERATIVE = {
    "fgsm": fgsm,
    "bim": partial(bim, steps=40),
    "mim": partial(mim, steps=40),
    "pgd": partial(pgd, steps=40, generator=seeded()),
    "pgd, fixed start": partial(pgd, steps=40, random_start=False),
    "pgd, last": partial(pgd, steps=40, keep="last", generator=seeded()),
    "pgd, equal steps": partial(pgd, steps=60, step_size=0.5, generator=seeded()),
}
# L0 is not convex: only steps that outweigh where they start are sure to find the best features
LONG = {"step_size": 1e6}


@pytest.mark.parametrize("norm", FALL)
@pytest.mark.parametrize("attack", ITERATIVE)
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_linear_optimum_is_the_dual_norm(attack, norm, loss):
    threat, fall = FALL[norm]
    model, y = binary(WEIGHT), torch.tensor([0, 0, 0])
    settings = LONG if norm == "l0" and attack != "fgsm" else {}
    x_adv = ITERATIVE[attack](model, CENTRE, y, threat, loss=loss, **settings)
    reached = (model(CENTRE) - model(x_adv))[:, 0].detach()
    assert (reached <= fall * (1 + 1e-9)).all()
    assert (reached >= fall * 0.99).all(), (reached / fall).tolist()


@pytest.mark.parametrize("norm", FALL)
def test_linear_optimum_with_active_bounds(norm):
    """Where the bounds are in the way, the optimum is that of the linear programme."""
    threat = FALL[norm][0]
    x = batch((8,), rows=12)
    model, y = binary(WEIGHT), torch.zeros(12, dtype=torch.int64)
    best = ((threat.maximize(-WEIGHT.expand_as(x), x) - x) * -WEIGHT).sum(1)
    for attack in (fgsm, partial(pgd, steps=100, generator=seeded(), **(LONG if norm == "l0" else {}))):
        reached = (model(x) - model(attack(model, x, y, threat)))[:, 0].detach()
        assert (reached <= best * (1 + 1e-9) + 1e-12).all()
        assert (reached >= best * 0.99).all(), (reached / best).tolist()


@every(shapes=("features",), norms=LENGTHS, where=lambda row: row.minimal)
@pytest.mark.parametrize("bounds", [(-20.0, 20.0), (0.0, 1.0)], ids=["wide", "tight"])
def test_minimum_norm_attacks_reach_the_distance_of_the_boundary(name, threat, shape, bounds):
    """|f| / ||w||_q without active bounds, and with them the point that the threat model itself finds."""
    generator = seeded(3)
    model = nn.Linear(12, 2).double()
    model.weight.data = torch.randn(2, 12, generator=generator, dtype=torch.float64)
    model.bias.data = -model.weight.data.sum(1) / 2  # the boundary passes through the middle of the bounds
    x = torch.rand(20, 12, generator=generator, dtype=torch.float64)
    y, threat = classes(model, x), replace(threat, eps=20.0, bounds=bounds)
    normal, lead = model.weight.data[1] - model.weight.data[0], (model(x)[:, 1] - model(x)[:, 0]).detach()
    least = threat.distance(threat.reach(normal.expand_as(x), -lead, x), x)
    if bounds == (-20.0, 20.0):
        dual = {math.inf: 1, 2: 2, 1: math.inf}[threat.p]
        assert torch.allclose(least, lead.abs() / torch.linalg.vector_norm(normal, dual))
    enough = {ATTACKS[name].counts: ATTACKS[name].enough}
    result = call(name, model, x, y, threat, **enough, generator=seeded())
    assert (model(result).argmax(1) != y).all()
    ratio = threat.distance(result, x) / least
    assert ratio.min() > 1 - 1e-9
    assert ratio.max() < ATTACKS[name].within, ratio
    nearer = replace(threat, eps=0.99 * least)
    assert torch.equal(call(name, model, x, y, nearer, **enough, generator=seeded()), x)


def test_jsma_on_a_linear_model_takes_the_largest_weights():
    model, y = binary(-WEIGHT), torch.zeros(3, dtype=torch.int64)
    x_adv = jsma(model, CENTRE, y, L0(4), keep="strongest")
    expected = CENTRE.clone()
    expected[:, [2, 7, 0, 3]] = 1.0  # increasing alone: the four largest positive entries
    assert torch.equal(x_adv, expected)
    lowered = jsma(model, CENTRE, y, L0(4), theta=-1.0, keep="strongest")
    expected = CENTRE.clone()
    expected[:, [1, 4, 6]] = 0.0  # decreasing: there are three negative entries, and then one pair more
    assert torch.equal(lowered[:, [1, 4]], expected[:, [1, 4]])
