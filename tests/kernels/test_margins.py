"""Margins and their gradients by the kernel: those of torch, with ties, infinities and NaN."""

import math
from types import SimpleNamespace

import pytest
import torch

from advlib.kernels import margins
from advlib.losses import dlr, margin, probability_margin
from tests.kernels.both_ways import DEVICES, DTYPES, both, close, kernels, seeded

INF, NAN = math.inf, math.nan
LOSSES = [margin, probability_margin, dlr]
# Ties for the first place, for the third, of all; classes ruled out; probabilities that round to 0 and to 1.
AWKWARD = [
    [1.0, 3.0, 3.0, 2.0, 0.0],
    [2.0, 2.0, 2.0, 2.0, 2.0],
    [4.0, 3.0, -1.0, -1.0, -1.0],
    [1.0, 0.5, -INF, 0.25, -0.5],
    [1.0, -INF, -INF, -INF, -INF],
    [INF, 1.0, 2.0, 2.0, 3.0],
    [90.0, 0.0, -100.0, -300.0, 89.0],
    [0.0, NAN, 1.0, 2.0, 3.0],
    [NAN, 0.0, 1.0, 2.0, 3.0],
    [NAN, NAN, NAN, NAN, NAN],
    [-5.0, -1.0, -2.0, -4.0, -3.0],
]


@pytest.fixture(autouse=True)
def first_of_ties(monkeypatch):
    """Of classes tied for a place topk takes any, the kernel the first."""

    def top(values, k, dim):
        return SimpleNamespace(values=values.sort(dim=dim, descending=True, stable=True).values[:, :k])

    monkeypatch.setattr(torch.Tensor, "topk", top)


def value_and_slope(loss, logits, y, target):
    logits = logits.detach().requires_grad_()
    value = loss(logits, y, target)
    rise = torch.arange(1, len(value) + 1, device=logits.device).to(logits)  # the backward pass takes any
    return value.detach(), torch.autograd.grad(value, logits, rise)[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("aim", ["untargeted", "targeted", "true class unknown"])
@pytest.mark.parametrize("loss", LOSSES)
def test_awkward_rows(loss, aim, dtype, device):
    logits = torch.tensor(AWKWARD, dtype=dtype, device=device)
    y = torch.arange(len(logits), device=device) % 5
    for shift in range(5):
        true = (y + shift) % 5
        target = {"untargeted": None, "targeted": (true + 2) % 5, "true class unknown": true}[aim]
        (value, slope), (found, found_slope) = both(lambda t=true, a=target: value_and_slope(loss, logits, t, a))
        close(found, value, 8, size=1e-3)
        if loss is dlr:  # of a row without a value, the kernel gives no class a slope, torch some of them
            assert found_slope.isnan()[slope.isnan()].all()
            slope = slope.masked_fill(value.isnan().unsqueeze(1) & found_slope.isnan(), NAN)
        close(found_slope, slope, 32, size=1.0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 10, 33, 1000])
@pytest.mark.parametrize("loss", LOSSES)
def test_any_number_of_classes(loss, classes, dtype, device):
    logits = torch.randn(3, classes, generator=seeded(classes), dtype=dtype).to(device)
    y, target = torch.randint(classes, (2, 3), generator=seeded(1)).to(device)
    for aim in (None, target, y):
        if loss is dlr and classes < (3 if aim is None else 4):
            continue
        (value, slope), (found, found_slope) = both(lambda a=aim: value_and_slope(loss, logits, y, a))
        close(found, value, 8, size=1.0)
        close(found_slope, slope, 32, size=1.0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_values_alone(loss, device):
    """Where nobody asks for a gradient, none is written; rows that do not lie side by side are no obstacle."""
    logits = torch.randn(5, 4, generator=seeded()).to(device).T
    y = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2], device=device)[::2]
    expected, found = both(lambda: loss(logits, y))
    assert not found.requires_grad
    close(found, expected, 8)
    (value, slope), (found, found_slope) = both(lambda: value_and_slope(loss, logits, y, None))
    close(found, value, 8)
    close(found_slope, slope, 32, size=1.0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_an_empty_batch(loss, device):
    logits, y = torch.zeros(0, 5, device=device), torch.zeros(0, dtype=torch.int64, device=device)
    for target in (None, y):
        _, (value, slope) = both(lambda t=target: value_and_slope(loss, logits, y, t))
        assert value.shape == (0,)
        assert slope.shape == (0, 5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_class_that_does_not_exist(loss, device):
    """torch raises, or stops the device; the kernel, which cannot look, gives NaN and reads nothing beyond the row."""
    logits = torch.zeros(3, 5, device=device)
    y, fine = torch.tensor([5, -1, 2], device=device), torch.tensor([1, 1, 1], device=device)
    with kernels("triton"):
        for value in (loss(logits, y), loss(logits, y, fine), loss(logits, fine, y)):
            assert value.isnan().tolist() == [True, True, False]


@pytest.mark.parametrize("loss", LOSSES)
def test_what_the_kernel_is_not_made_for_goes_to_torch(loss, monkeypatch):
    logits, y = torch.randn(3, 5, generator=seeded()), torch.tensor([0, 1, 2])
    with kernels("triton"):
        half = loss(logits.half(), y)
        assert half.dtype == torch.float16
        for wrong in (y[:2], y.double(), y.unsqueeze(1)):
            with pytest.raises((RuntimeError, IndexError)):
                loss(logits, wrong)
        monkeypatch.setattr(margins, "_CLASSES", 4)
        value = loss(logits.requires_grad_(), y)
    assert "Lead" not in type(value.grad_fn).__name__


def test_one_derivative():
    logits, y = torch.randn(3, 5, generator=seeded()).requires_grad_(), torch.tensor([0, 1, 2])
    with kernels("triton"):
        (slope,) = torch.autograd.grad(margin(logits, y).square().sum(), logits, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiate twice"):
            slope.sum().backward()
