"""Binary features that may only be added, or only removed: what attacks find stays binary."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from advlib import L0, fmn, jsma
from advlib.models import BPDA
from advlib.threats import add_only, remove_only
from advlib.zoo import one_thread

MASKS = {"add": add_only, "remove": remove_only}


@pytest.fixture(scope="module")
def trained():
    """Whether a tumour is malignant, by which of its measurements are above the median."""
    datasets = pytest.importorskip("sklearn.datasets")
    raw, labels = datasets.load_breast_cancer(return_X_y=True)
    raw, y = torch.from_numpy(raw), torch.from_numpy(labels).long()
    x = (raw > raw.median(0).values).float()
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(100):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    right = model(x).argmax(1) == y
    assert right.float().mean() > 0.9
    return model.eval(), x[right][:60], y[right][:60]


def only(way, x_adv, x):
    """The changes are from 0 to 1, or from 1 to 0."""
    assert set(x_adv.unique().tolist()) <= {0.0, 1.0}
    change = x_adv - x
    assert ((change >= 0) if way == "add" else (change <= 0)).all()
    return (change != 0).sum(1)


@pytest.mark.parametrize("way", MASKS)
def test_jsma_moves_features_all_the_way(trained, way):
    model, x, y = trained
    x_adv = jsma(model, x, y, L0(10, mask=MASKS[way](x)), theta=1.0 if way == "add" else -1.0)
    count = only(way, x_adv, x)
    assert count.max() <= 10
    assert (model(x_adv).argmax(1) != y).float().mean() > 0.1


@pytest.mark.parametrize("way", MASKS)
def test_fmn_on_a_model_that_rounds_gives_points_that_may_be_rounded(trained, way):
    model, x, y = trained
    threat = L0(torch.inf, mask=MASKS[way](x))
    rounding = nn.Sequential(BPDA(torch.round), model)
    found = fmn(rounding, x, y, threat)
    x_adv = found.round()
    count, broken = only(way, x_adv, x), model(x_adv).argmax(1) != y
    assert torch.equal(broken, rounding(found).argmax(1) != y)
    assert (count <= threat.distance(found, x)).all()
    greedy = jsma(model, x, y, L0(30, mask=MASKS[way](x)), theta=1.0 if way == "add" else -1.0)
    missed = (model(greedy).argmax(1) != y) & ~broken
    assert missed.float().mean() <= 0.02
    assert count[broken].float().mean() < only(way, greedy, x)[broken].float().mean()


@pytest.mark.parametrize("mask", MASKS.values())
@pytest.mark.parametrize("x", [[[0.0, 0.5]], [[2.0, 1.0]], [[-1.0, 1.0]], [[float("nan"), 1.0]]])
def test_other_features_are_refused(mask, x):
    with pytest.raises(ValueError, match=r"x must hold zeros and ones, got values from .*\(x > threshold\)"):
        mask(torch.tensor(x))
