"""The virtual adversarial perturbation by hand: where it asks, what it reaches, and that labels only judge."""

import math

import pytest
import torch
from torch import nn

from advlib import L0, L1, L2, GradientMaskingWarning, Linf, virtual_adversarial_perturbation
from advlib.losses import divergence
from advlib.models import Counted
from tests.laws.table import batch, build, classes, seeded

THREATS = {"linf": Linf(0.2), "l2": L2(0.5), "l1": L1(0.7), "l0": L0(2)}


def asked(model, x, y, threat, **settings):
    seen = []

    def watched(z):
        seen.append(z.detach().clone())
        return model(z)

    return seen, virtual_adversarial_perturbation(watched, x, y, threat, generator=seeded(), **settings)


@pytest.mark.parametrize("norm", THREATS)
def test_two_linear_classes_reach_one_end_or_the_other(norm):
    model = nn.Linear(8, 2).double()
    model.weight.data = torch.randn(2, 8, generator=seeded(3), dtype=torch.float64)
    x, threat = batch((8,), rows=12), THREATS[norm]
    assert (x == 0).any()
    normal = (model.weight[1] - model.weight[0]).detach().expand_as(x)
    ends = [threat.maximize(way, x) for way in (normal, -normal)]
    x_adv = virtual_adversarial_perturbation(model, x, classes(model, x), threat, steps=1, generator=seeded())
    nearest = torch.stack([(x_adv - end).abs().amax(1) for end in ends])
    assert nearest.amin(0).max() < 1e-9
    assert (nearest.argmin(0) == 0).any()
    assert (nearest.argmin(0) == 1).any()


def test_the_gradient_is_that_of_the_divergence_where_the_perturbation_ends():
    model, x = build((12,)), batch((12,))
    y, threat = classes(model, x), L2(0.5)
    (clean, *points), x_adv = asked(model, x, y, threat, steps=2, keep="last")
    assert torch.equal(clean, x)
    assert len(points) == 2
    for point, following in zip(points, [points[1], x_adv], strict=True):
        z = point.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(divergence(model(x).detach(), model(z)).sum(), z)
        assert torch.allclose(following, threat.maximize(gradient, x))
    assert torch.allclose(threat.distance(x_adv, x), torch.tensor(0.5).double())


def test_the_gradient_may_be_taken_next_to_x_and_the_result_lies_at_the_end():
    model, x = build((12,)), batch((12,))
    points, x_adv = asked(model, x, classes(model, x), L2(0.5), steps=3, xi=1e-3)
    assert len(points) == 1 + 4
    for point in points[1:4]:
        assert torch.allclose(L2(1.0).distance(point, x), torch.tensor(1e-3).double(), rtol=1e-6)
    assert torch.equal(points[4], x_adv)
    assert torch.allclose(L2(1.0).distance(x_adv, x), torch.tensor(0.5).double())
    points, _ = asked(model, x, classes(model, x), L2(0.5), steps=1, xi=3.0)
    assert L2(0.5).contains(points[1], x).all()


def test_labels_judge_alone():
    model, x = build((12,)), batch((12,))
    y = classes(model, x)
    wrong = (y + 1) % 5
    points, x_adv = asked(model, x, y, L2(0.5), steps=3)
    others, found = asked(model, x, wrong, L2(0.5), steps=3)
    assert all(torch.equal(a, b) for a, b in zip(points, others, strict=True))
    clean = model(x)
    far = torch.stack([divergence(clean, model(z)) for z in points]).detach()
    assert torch.allclose(divergence(clean, model(found)), far.amax(0))  # all are wrong: the largest divergence
    right = model(x_adv).argmax(1) == y
    assert torch.allclose(divergence(clean, model(x_adv))[right], far.amax(0)[right])


def test_a_row_may_end_with_its_first_success():
    model, x = build((12,)), batch((12,))
    y, counted = classes(model, x), Counted(model)
    y[3:] = (y[3:] + 1) % 5  # wrong as they are
    virtual_adversarial_perturbation(counted, x, y, L2(1e-3), steps=4, keep="first", generator=seeded())
    assert counted.forwards == 3 * (1 + 5) + 3 * (1 + 1)


def test_where_nothing_may_change_no_gradient_is_missing():
    flat, x, y = lambda z: 0 * z[:, :3], batch((12,)), torch.zeros(6, dtype=torch.int64)
    assert torch.equal(virtual_adversarial_perturbation(flat, x, y, L2(0.0)), x)
    with pytest.warns(GradientMaskingWarning, match="3 of 6 rows never had"):
        virtual_adversarial_perturbation(flat, x, y, L2(torch.tensor([0.0, 0.0, 0.0, 0.5, 0.5, 0.5])))


def test_it_changes_answers():
    model, x = build((3, 4, 3)), batch((3, 4, 3), rows=40)
    y = classes(model, x)
    x_adv = virtual_adversarial_perturbation(model, x, y, L2(1.0), generator=seeded())
    near = virtual_adversarial_perturbation(model, x, y, L2(1.0), xi=1e-6, generator=seeded())
    clean = model(x)
    assert divergence(clean, model(x_adv)).mean() > 1.02 * divergence(clean, model(near)).mean()
    assert (model(x_adv).argmax(1) != y).sum() >= (model(near).argmax(1) != y).sum() > 0


@pytest.mark.parametrize("batch_size", [None, 4])
def test_what_it_costs(batch_size):
    model, x = build((12,)), batch((12,))
    counted = Counted(model)
    virtual_adversarial_perturbation(counted, x, classes(model, x), L2(0.5), steps=3, batch_size=batch_size)
    assert (counted.forwards, counted.backwards) == (5 * len(x), 3 * len(x))


def test_the_first_run_begins_towards_init():
    model, x = build((12,)), batch((12,))
    way = torch.randn(x.shape, generator=seeded(5), dtype=x.dtype)
    points, _ = asked(model, x, classes(model, x), L2(0.5), steps=1, restarts=2, init=x + way)
    assert torch.allclose(points[1], L2(0.5).maximize(L2(0.5).project(x + way, x) - x, x))
    assert not torch.allclose(points[3], points[1])


def test_logits_are_read_from_what_the_model_returns():
    model, x = build((12,)), batch((12,))
    y = classes(model, x)
    expected = virtual_adversarial_perturbation(model, x, y, L2(0.5), generator=seeded())
    found = virtual_adversarial_perturbation(
        lambda z: {"logits": model(z)}, x, y, L2(0.5), logits_of=lambda output: output["logits"], generator=seeded()
    )
    assert torch.equal(found, expected)


def test_a_row_does_not_depend_on_the_others():
    model, x = build((12,)), batch((12,))
    y, scale = classes(model, x), torch.ones(6, 1).double()
    scale[0] = 20
    calm = virtual_adversarial_perturbation(model, x, y, L2(0.5), generator=seeded())
    loud = virtual_adversarial_perturbation(lambda z: model(z) * scale, x, y, L2(0.5), generator=seeded())
    assert torch.equal(loud[1:], calm[1:])
    assert not torch.equal(loud[0], calm[0])


def test_a_flat_answer_is_told():
    x = batch((12,))
    with pytest.warns(GradientMaskingWarning, match="6 of 6 rows never had"):
        virtual_adversarial_perturbation(lambda z: 0 * z[:, :3], x, torch.zeros(6, dtype=torch.int64), L2(0.5))


def test_bad_input():
    model, x = build((12,)), batch((12,))
    y = classes(model, x)
    with pytest.raises(ValueError, match="cannot aim"):
        virtual_adversarial_perturbation(model, x, y, L2(0.5), targeted=True)
    with pytest.raises(ValueError, match="cannot aim"):
        virtual_adversarial_perturbation(model, x, y, L2(0.5), target=y)
    with pytest.raises(TypeError, match="takes no loss"):
        virtual_adversarial_perturbation(model, x, y, L2(0.5), loss="margin")
    for xi in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="xi must be positive"):
            virtual_adversarial_perturbation(model, x, y, L2(0.5), xi=xi)
    with pytest.raises(ValueError, match="finite eps"):
        virtual_adversarial_perturbation(model, x, y, L2(math.inf))
