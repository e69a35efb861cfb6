"""What tests by hand of minimum-norm attacks share: small models, and the points that an attack asks about."""

import math

import torch
from torch import nn

from tests.laws.table import batch, classes

Y = torch.tensor([0])
WIDE = (-50.0, 50.0)


def points(*values):
    return torch.tensor(values, dtype=torch.float64)


def classifier(weight, bias):
    """A linear model of which every row of ``weight`` and ``bias`` is the lead of another class over class 0."""
    layer = nn.Linear(len(weight[0]), len(weight) + 1).double()
    layer.weight.data = torch.cat([torch.zeros(1, len(weight[0])).double(), points(*weight)])
    layer.bias.data = points(0.0, *bias)
    return layer


def halfspace(z):
    """Class 1 beyond the line 3 a + 4 b = 1; from the origin: 0.2 away in L2, 1/7 in Linf, 0.25 in L1."""
    lead = z @ points(3.0, 4.0) - 1
    return torch.stack([0 * lead, lead], dim=1)


def curved(z):
    lead = (z.square().sum(1, keepdim=True) + z[:, :1] * z[:, 1:2] * z[:, 2:] - 0.8).sin()
    return torch.cat([0 * lead, lead, lead - 0.3 + z[:, :1]], dim=1)


def asked(attack, model, x, threat, y=Y, **settings):
    """The points that the model is asked about, row 0 alone, and the result."""
    seen = []

    def watched(z):
        seen.append(z[0].tolist())
        return model(z)

    return seen, attack(watched, x, y, threat, **settings)


def beside_the_closed_form(attack, norm, **settings):
    """Distances on a linear model, and the least there are; some features of the inputs are at 0, and some at 1."""
    x = batch((12,), rows=40)
    assert (x == 0).any()
    assert (x == 1).any()
    model = nn.Linear(12, 2).double()
    model.weight.data = torch.randn(2, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    model.bias.data = -model.weight.data.sum(1) / 2
    y, threat = classes(model, x), norm(math.inf)
    normal, lead = model.weight.data[1] - model.weight.data[0], (model(x)[:, 1] - model(x)[:, 0]).detach()
    least = threat.distance(threat.reach(normal.expand_as(x), -lead, x), x)
    x_adv = attack(model, x, y, threat, **settings)
    assert (model(x_adv).argmax(1) != y).all()
    return threat.distance(x_adv, x), least
