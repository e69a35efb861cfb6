"""Each mistake has one clear message: the invariant, what came, and the mend."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import advlib
from advlib import L0, L1, L2, GradientMaskingWarning, Linf
from advlib.gradients import eot, finite_differences
from advlib.models import Logits
from advlib.search import search

with torch.random.fork_rng():
    torch.manual_seed(0)
    MODEL = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
X = torch.rand(4, 3, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3])
BALL = Linf(0.1)


def attack(model=MODEL, x=X, y=Y, threat=BALL, **settings):
    return advlib.pgd(model, x, y, threat, **{"steps": 2, **settings})


VALUE_ERRORS = {
    "x out of bounds": (dict(x=2 * X - 1), r"outside the bounds \(0, 1\): put normalisation inside.*Normalize"),
    "nan in x": (dict(x=X * float("nan")), "x must be finite, got NaN"),
    "x without rows": (dict(x=X[0, 0], y=Y), r"x must have a row per example, \(N, ...\), got shape \(4,\)"),
    "label too large": (dict(y=Y + 3), r"y must hold classes from 0 to 4, got values from 3 to 6: number.*from 0"),
    "label negative": (dict(y=Y - 1), r"y must hold classes from 0 to 4, got values from -1 to 2"),
    "too few labels": (dict(y=Y[:3]), r"y must have shape \(4,\), one label per row of x, got \(3,\)"),
    "one-hot labels": (dict(y=torch.eye(5, dtype=torch.int64)[Y]), r"y must have shape \(4,\).*argmax\(1\)"),
    "targets too large": (dict(target=Y + 3), "target must hold classes from 0 to 4"),
    "targeted and target": (dict(target=Y, targeted=True), "leave target out"),
    "flat logits": (
        dict(model=lambda z: MODEL(z)[:, 0]),
        r"logits of shape \(N, C\) with C >= 2.*\(4, C\), got \(4,\)",
    ),
    "one class": (dict(model=lambda z: MODEL(z)[:, :1]), r"C >= 2 classes.*got \(4, 1\)"),
    "logits of other rows": (dict(model=lambda z: MODEL(z)[:2]), r"here \(4, C\), got \(2, 5\)"),
    "feature maps": (dict(model=lambda z: MODEL(z)[:, :, None, None]), r"got \(4, 5, 1, 1\)"),
    "no such loss": (
        dict(loss="hinge"),
        "loss must be one of cross_entropy, margin,.*dlr,.*or a callable, got 'hinge'",
    ),
    "no such keep": (dict(keep="best"), "keep must be one of strongest, first, nearest, last, got 'best'"),
    "no steps": (dict(steps=0), "steps must be a whole number of at least 1, got 0"),
    "half a step": (dict(steps=2.5), "steps must be a whole number of at least 1, got 2.5"),
    "no restarts": (dict(restarts=0), "restarts must be a whole number of at least 1, got 0"),
    "no batch": (dict(batch_size=0), "batch_size must be a whole number of at least 1, got 0"),
    "last of several": (dict(keep="last", restarts=2), "keep='last' compares nothing, so it takes restarts=1, got 2"),
    "init elsewhere": (dict(init=X[:2]), "init must match x"),
    "infinite eps": (dict(threat=Linf(float("inf"))), "finite eps.*random_start=False"),
    "infinite step": (dict(threat=L2(float("inf")), random_start=False), "step_size=None needs a finite eps"),
    "eps of other rows": (dict(threat=Linf(torch.ones(3))), "eps must hold one radius per row of x, got 3 for 4 rows"),
    "mask of other shape": (
        dict(threat=L1(1.0, mask=torch.ones(5, dtype=torch.bool))),
        "mask must broadcast against x",
    ),
}


@pytest.mark.parametrize("case", VALUE_ERRORS)
def test_value_errors(case):
    settings, message = VALUE_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        attack(**settings)


TYPE_ERRORS = {
    "half precision": (
        dict(x=X.half()),
        "x must be float32 or float64, got torch.float16: keep inputs in float32.*autocast",
    ),
    "bfloat16": (dict(x=X.bfloat16()), "x must be float32 or float64, got torch.bfloat16"),
    "grey levels": (dict(x=(X * 255).to(torch.uint8)), "x must be float32 or float64, got torch.uint8.*scaled"),
    "numpy": (dict(x=X.numpy()), r"x must be a tensor \(N, ...\), got ndarray: torch.as_tensor"),
    "label list": (dict(y=[0, 1, 2, 3]), "y must be a tensor of labels"),
    "float labels": (
        dict(y=Y.float()),
        r"y must hold integer class labels, got torch.float32: y.argmax\(1\) if.*one-hot",
    ),
    "bool labels": (dict(y=Y > 1), "y must hold integer class labels, got torch.bool"),
    "eps for a threat": (dict(threat=0.1), r"threat must be a threat model such as advlib.Linf\(8/255\), got 0.1"),
    "no model": (dict(model=None), "model must be a callable from inputs to logits, got NoneType"),
    "object": (
        dict(model=lambda z: SimpleNamespace(logits=MODEL(z))),
        r"got SimpleNamespace: wrap it in.*models.Logits",
    ),
    "unknown option": (dict(nb_iter=10), "nb_iter"),
}


@pytest.mark.parametrize("case", TYPE_ERRORS)
def test_type_errors(case):
    settings, message = TYPE_ERRORS[case]
    with pytest.raises(TypeError, match=message):
        attack(**settings)


def test_a_wrapped_object_is_fine():
    assert attack(model=Logits(lambda z: SimpleNamespace(logits=MODEL(z)))).shape == X.shape


def test_threat_errors():
    with pytest.raises(ValueError, match=r"eps must be a number >= 0.*got -0.1.*8/255"):
        Linf(-0.1)
    with pytest.raises(TypeError, match="eps must be a number"):
        Linf("8/255")


def test_norms_that_an_attack_does_not_know():
    with pytest.raises(
        ValueError, match=r"jsma changes few features, so it needs an L0 threat model, got Linf.*L0\(20\)"
    ):
        advlib.jsma(MODEL, X, Y, BALL)
    with pytest.raises(ValueError, match="gaussian_noise needs an Linf, L2 or L1 ball, got L0: use salt_and_pepper"):
        advlib.gaussian_noise(MODEL, X, Y, L0(3))
    for theta in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="theta must be a number other than 0"):
            advlib.jsma(MODEL, X, Y, L0(3), theta=theta)
    with pytest.raises(ValueError, match="finite bounds"):
        advlib.salt_and_pepper(MODEL, X, Y, L2(0.3, bounds=None))
    with pytest.raises(ValueError, match="bounds"):
        advlib.jsma(MODEL, X, Y, L0(3, bounds=None))


def test_gradient_sources():
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        eot(0)
    with pytest.raises(ValueError, match="delta must be positive, got 0"):
        finite_differences(4, delta=0)


def test_probabilities_are_not_logits():
    with pytest.warns(GradientMaskingWarning, match="the model returns probabilities, not logits.*last softmax"):
        attack(model=lambda z: MODEL(z).softmax(1))


def test_rows_that_have_succeeded_need_no_gradient():
    attack(model=lambda z: MODEL(z.detach()), y=(MODEL(X).argmax(1) + 1) % 5)


def test_jsma_takes_no_loss():
    with pytest.raises(TypeError, match="jsma follows the logits themselves and takes no loss"):
        advlib.jsma(MODEL, X, Y, L0(3), loss="margin")


def test_log_probabilities_are_logits():
    attack(model=lambda z: MODEL(z).log_softmax(1))


def test_no_gradient_names_what_to_use():
    y = MODEL(X).argmax(1)
    with pytest.warns(GradientMaskingWarning, match="4 of 4 rows never had.*margin.*BPDA.*finite_differences"):
        attack(model=lambda z: MODEL(z.detach()), y=y, random_start=False)
    half = torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None, None]  # rows with a gradient
    with pytest.warns(GradientMaskingWarning, match="2 of 4 rows"):
        attack(model=lambda z: MODEL(z * half + (z * (1 - half)).detach()), y=y, random_start=False)


def test_an_error_in_the_model_is_the_callers_own():
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 5)).train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        attack(model=model)
    assert model.training


def test_nothing_has_changed_when_an_argument_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 5)).train()
    before = model[1].running_mean.clone()
    with pytest.raises(ValueError, match="classes"):
        attack(model=model, y=Y + 3)
    assert model.training
    assert torch.equal(model[1].running_mean, before)


def test_search_checks_what_it_is_given():
    with pytest.raises(TypeError, match="threat must be a threat model"):
        search(MODEL, X, Y, None, None, steps=1)
