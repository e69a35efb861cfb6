"""The attack with negatives, by hand."""

import pytest
import torch

from advlib import Negative, negative
from advlib.models import Counted


def bright(z):
    """Class 1 where the mean is above 0.4."""
    lead = z.flatten(1).mean(1) - 0.4
    return torch.stack([0 * lead, lead], dim=1)


X = torch.tensor([[0.1, 0.3], [0.9, 0.8], [0.0, 1.0], [0.5, 0.4]])


def test_the_stronger_of_input_and_negative_comes_back():
    model = Counted(bright)
    y = torch.tensor([0, 1, 1, 1])
    x_adv = negative(model, X, y, Negative())
    assert torch.equal(
        x_adv, torch.stack([1 - X[0], 1 - X[1], X[2], X[3]])
    )  # the last is right both times, and less so as it is
    assert model.forwards == 8


def test_a_row_that_is_wrong_already_stays_and_costs_one_pass():
    model = Counted(bright)
    x_adv = negative(model, X[:1], torch.tensor([1]), Negative())
    assert torch.equal(x_adv, X[:1])
    assert model.forwards == 1


def test_targeted_and_other_bounds():
    wanted = torch.tensor([1, 0, 0, 0])
    x_adv = negative(bright, X, wanted, Negative(), targeted=True)
    assert torch.equal(x_adv[:2], 1 - X[:2])
    centered = negative(lambda z: bright((z + 1) / 2), 2 * X - 1, torch.tensor([0, 1, 1, 1]), Negative((-1.0, 1.0)))
    torch.testing.assert_close(centered[:2], 1 - 2 * X[:2])


def test_last_gives_the_negatives():
    assert torch.equal(negative(bright, X, torch.tensor([0, 1, 1, 1]), Negative(), keep="last"), 1 - X)


def test_values_within_bounds_that_do_not_add_up_in_floating_point():
    x = torch.tensor([[0.1, 0.7], [0.3, 0.5]])
    x_adv = negative(lambda z: -bright(z), x, torch.tensor([0, 0]), Negative((0.1, 0.7)), keep="last")
    torch.testing.assert_close(x_adv, 0.8 - x)
    ends = torch.tensor([[0.1, 0.7]], dtype=torch.float64)
    assert 0.1 + 0.7 - 0.7 < 0.1
    assert torch.equal(Negative((0.1, 0.7)).apply(ends), ends.flip(1))


def test_inputs_beyond_the_bounds_are_refused():
    with pytest.raises(ValueError, match=r"outside the bounds \(0, 1\)"):
        negative(bright, 2 * X, torch.tensor([0, 1, 1, 1]), Negative())
