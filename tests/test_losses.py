"""Losses by hand, and what each promises: larger means closer to success."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advlib.losses import LOSSES, cross_entropy, dlr, log_odds, margin, probability_margin, resolve

ALL = list(LOSSES)
# Two rows of four classes; probabilities of the first are (8, 4, 2, 1) / 15.
LOG = math.log(2)
LOGITS = torch.tensor([[3 * LOG, 2 * LOG, LOG, 0.0], [-5.0, -1.0, -2.0, -4.0]], dtype=torch.float64)
E = torch.exp(torch.tensor([-5.0, -1.0, -2.0, -4.0], dtype=torch.float64))
E = (E / E.sum()).tolist()

UNTARGETED = [  # true classes, values
    (cross_entropy, [0, 1], [math.log(15 / 8), -math.log(E[1])]),
    (cross_entropy, [3, 0], [math.log(15), -math.log(E[0])]),
    (margin, [0, 1], [-LOG, -1.0]),
    (margin, [2, 0], [2 * LOG, 4.0]),
    (probability_margin, [0, 1], [-4 / 15, E[2] - E[1]]),
    (probability_margin, [3, 0], [7 / 15, E[1] - E[0]]),
    (dlr, [0, 1], [-1 / 2, -1 / 3]),  # over z1 - z3: 2 log 2, and -1 + 4 = 3
    (dlr, [2, 0], [1.0, 4 / 3]),
    (log_odds, [0, 1], [math.log(4 / 11), math.log(E[2] / (1 - E[2]))]),
    (log_odds, [2, 0], [math.log(8 / 7), math.log(E[1] / (1 - E[1]))]),
]
TARGETED = [  # true classes, targets, values
    (cross_entropy, [0, 1], [1, 0], [-math.log(15 / 4), math.log(E[0])]),
    (log_odds, [0, 1], [1, 0], [math.log(4 / 11), math.log(E[0] / (1 - E[0]))]),
    (log_odds, [0, 1], [0, 3], [math.log(8 / 7), math.log(E[3] / (1 - E[3]))]),
    (margin, [0, 1], [1, 0], [-LOG, -4.0]),
    (margin, [3, 0], [0, 1], [3 * LOG, 4.0]),
    (probability_margin, [0, 1], [1, 0], [-4 / 15, E[0] - E[1]]),
    (dlr, [0, 1], [1, 0], [-1 / 2.5, -4 / 3.5]),  # over z1 - (z3 + z4) / 2: 2.5 log 2, and -1 + 4.5
    (dlr, [3, 2], [2, 1], [1 / 2.5, 1 / 3.5]),
    # y equal to target: the true class is unknown, the best other class is the one to beat
    (margin, [0, 2], [0, 2], [LOG, -1.0]),
    (probability_margin, [1, 1], [1, 1], [-4 / 15, E[1] - E[2]]),
    (dlr, [3, 1], [3, 1], [-3 / 2.5, 1 / 3.5]),
    (cross_entropy, [2, 1], [2, 1], [-math.log(15 / 2), math.log(E[1])]),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("loss", "y", "target", "expected"), [(loss, y, None, value) for loss, y, value in UNTARGETED] + TARGETED
)
def test_by_hand(loss, y, target, expected, dtype):
    target = None if target is None else torch.tensor(target)
    value = loss(LOGITS.to(dtype), torch.tensor(y), target)
    assert value.shape == (2,)  # never reduced
    torch.testing.assert_close(value, torch.tensor(expected, dtype=dtype), rtol=1e-6, atol=0)


def problem(seed, classes=5, rows=20, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=rng, dtype=torch.float64)
    return logits, *(torch.randint(classes, (rows,), generator=rng) for _ in range(2))


@pytest.mark.parametrize("name", ["margin", "probability_margin", "dlr"])
@given(seed=st.integers(0, 10**6), shift=st.sampled_from([-100.0, 0.0, 100.0]))
def test_positive_if_and_only_if_the_model_errs(name, seed, shift):
    """All logits negative or all positive: only their differences count."""
    logits, y, target = problem(seed)
    value = LOSSES[name](logits + shift, y)
    assert torch.equal(value > 0, logits.argmax(1) != y)
    value = LOSSES[name](logits + shift, target, target)  # nothing but the target counts
    assert torch.equal(value > 0, logits.argmax(1) == target)


@pytest.mark.parametrize("name", ALL)
@given(seed=st.integers(0, 10**6))
def test_logits_shifted_together_change_nothing(name, seed):
    logits, y, target = problem(seed)
    for aim in (None, target):
        torch.testing.assert_close(LOSSES[name](logits + 50, y, aim), LOSSES[name](logits, y, aim))


@pytest.mark.parametrize("name", ALL)
@given(seed=st.integers(0, 10**6))
def test_growth_of_the_wanted_class_is_progress(name, seed):
    logits, y, target = problem(seed)
    short = logits.argmax(1) != target  # the ratio of dlr may fall once the target leads
    logits.requires_grad_()
    (away,) = torch.autograd.grad(LOSSES[name](logits, y).sum(), logits)
    assert (away.gather(1, y[:, None]) <= 1e-12).all()
    (toward,) = torch.autograd.grad(LOSSES[name](logits, y, target).sum(), logits)
    assert (toward.gather(1, target[:, None])[short] >= -1e-12).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e4, 1e12])
@pytest.mark.parametrize("targeted", [False, True])
def test_values_and_gradients_are_finite(name, scale, targeted):
    logits, y, target = problem(0, scale=scale)
    logits = logits.float()
    logits[0] = 0.0  # all equal
    logits[1, :3] = logits[1].amax() + scale  # a tie at the top
    logits.requires_grad_()
    value = LOSSES[name](logits, y, target if targeted else None)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_a_row_does_not_depend_on_the_others(name):
    logits, y, target = problem(1)
    for aim in (None, target):
        together = LOSSES[name](logits, y, aim)
        for i in range(len(y)):
            alone = LOSSES[name](logits[i : i + 1], y[i : i + 1], None if aim is None else aim[i : i + 1])
            torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_empty_batch(name):
    y = torch.zeros(0, dtype=torch.int64)
    assert LOSSES[name](torch.zeros(0, 5), y).shape == (0,)
    assert LOSSES[name](torch.zeros(0, 5), y, y).shape == (0,)


def test_log_odds_tell_apart_what_probabilities_do_not():
    logits = torch.tensor([[0.0, 40.0], [0.0, 80.0]], requires_grad=True)
    assert logits.softmax(1)[:, 1].tolist() == [1.0, 1.0]
    odds = log_odds(logits, torch.tensor([0, 0]))
    assert odds.tolist() == [40.0, 80.0]
    assert torch.autograd.grad(odds.sum(), logits)[0].tolist() == [[-1.0, 1.0]] * 2


@pytest.mark.parametrize("targeted", [False, True])
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 7.0, 1e5]))
def test_dlr_is_free_of_scale(targeted, seed, scale):
    logits, y, target = problem(seed)
    target = target if targeted else None
    torch.testing.assert_close(dlr(scale * logits, y, target), dlr(logits, y, target), rtol=1e-5, atol=1e-9)


def test_dlr_needs_classes():
    y = torch.tensor([0])
    with pytest.raises(ValueError, match="dlr compares 3 classes or more, the model has 2: use loss='margin'"):
        dlr(torch.zeros(1, 2), y)
    with pytest.raises(ValueError, match="dlr compares 4 classes or more with a target, the model has 3"):
        dlr(torch.zeros(1, 3), y, y)
    assert dlr(torch.tensor([[1.0, 2.0, 0.0]]), y).tolist() == [0.5]


def test_margins_of_two_classes():
    logits = torch.tensor([[1.0, 3.0]])
    assert margin(logits, torch.tensor([0])).item() == 2
    assert margin(logits, torch.tensor([1])).item() == -2
    assert margin(logits, torch.tensor([1]), torch.tensor([0])).item() == -2


@pytest.mark.parametrize("name", ALL)
def test_resolve_by_name_and_by_value(name):
    assert resolve(name) is LOSSES[name]
    assert resolve(LOSSES[name]) is LOSSES[name]


def test_resolve_names_what_there_is():
    message = (
        r"loss must be one of cross_entropy, margin, probability_margin, dlr, log_odds, or a callable, got 'hinge'"
    )
    with pytest.raises(ValueError, match=message):
        resolve("hinge")
    with pytest.raises(TypeError, match=r"loss must be one of cross_entropy, .* or a callable, got None"):
        resolve(None)


@pytest.mark.parametrize("name", ALL)
def test_logits_of_is_for_the_named_losses(name):
    logits, y, target = problem(2)
    output = SimpleNamespace(logits=logits)
    for loss in (resolve(name, lambda o: o.logits), resolve(LOSSES[name], lambda o: o.logits)):
        assert torch.equal(loss(output, y), LOSSES[name](logits, y))
        assert torch.equal(loss(output, y, target), LOSSES[name](logits, y, target))


def test_a_loss_of_ones_own_sees_the_whole_output():
    def detector(output, y, target=None):
        return output.score

    resolved = resolve(detector, lambda o: o.logits)
    assert resolved is detector
    assert resolved(SimpleNamespace(score=7), None) == 7
