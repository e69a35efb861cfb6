"""Every attack finds in recorded steps what it finds in steps one by one."""

import pytest
import torch

from tests.acceleration.traced import RECORDINGS, recorded
from tests.laws.table import batch, build, call, classes, every, seeded

pytestmark = pytest.mark.usefixtures("recorded_on_cpu")

UNRECORDED = {"jsma", "jsma, decreasing"}  # on a CPU the search for pairs depends on what it finds
ALONE = {"lbfgs", "fgsm", "gaussian_noise"}  # a loop of its own, or a single step


def same(name, threat, shape):
    model, x = build(shape), batch(shape, rows=9)
    y = classes(model, x)
    expected = call(name, model, x, y, threat, generator=seeded())
    found, acceleration = recorded(call, name, model, x, y, threat, generator=seeded())
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    assert bool(acceleration.reasons) == (name in UNRECORDED)
    assert bool(RECORDINGS) == (name not in ALONE | UNRECORDED)


def steps(row):
    return row.gradients or row.keeps


@every(shapes=("image",), norms=("linf", "l0"), where=steps)
def test_every_attack_finds_the_same(name, threat, shape):
    same(name, threat, shape)


@every(shapes=("image",), norms=("l2", "l1"), where=lambda row: steps(row) and "linf" not in row.norms)
def test_every_attack_without_linf_finds_the_same(name, threat, shape):
    same(name, threat, shape)


@pytest.mark.slow
@every(shapes=("image",), norms=("l2", "l1"), where=lambda row: steps(row) and "linf" in row.norms)
def test_every_attack_finds_the_same_in_other_norms(name, threat, shape):
    same(name, threat, shape)
