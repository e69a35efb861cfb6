"""Transfer matrices on models small enough to say what they hold."""

from functools import partial

import pytest
import torch
from torch import nn

from advlib import Linf, bim, fgsm
from advlib.evaluation import TransferMatrix, transfer_matrix
from advlib.oracles import LabelOracle


def along(*weight):
    """Class 1 where <w, x> is positive."""
    layer = nn.Linear(len(weight), 2, bias=False).double()
    layer.weight.data = torch.stack([torch.zeros(len(weight)), torch.tensor(weight)]).double()
    return layer


WIDE = Linf(0.2, bounds=(-5.0, 5.0))
X = torch.tensor([[-0.1, 0.3], [-0.3, 0.3], [0.1, -0.3], [0.1, 0.3]], dtype=torch.float64)
Y = torch.tensor([0, 0, 1, 1])
FIRST, SECOND = along(1.0, 0.0), along(0.0, 1.0)


def matrix(**settings):
    return transfer_matrix(
        {"first": FIRST, "both": along(1.0, 1.0)}, {"first": FIRST, "second": SECOND}, X, Y, WIDE, fgsm, **settings
    )


def test_rates_are_of_the_rows_that_stood():
    found = matrix()
    assert found.sources == ("first", "both")
    assert found.targets == ("first", "second")
    assert found.standing.tolist() == [[True] * 4, [False, False, False, True]]
    # against the first model, the second feature stays; against both, each moves by 0.2 towards the other class
    assert found.fooled.tolist() == [
        [[True, False, True, True], [True, True, True, False]],
        [[True, False, True, True], [True, True, True, False]],
    ]
    assert found.rates.tolist() == [[0.75, 0.0], [0.75, 0.0]]
    assert found.reached.tolist() == [[0.75, 0.75], [0.75, 0.75]]
    moved = torch.tensor([[0.2, 0.0], [0.2, 0.0], [-0.2, 0.0], [-0.2, 0.0]])
    torch.testing.assert_close(found.x_adv[0] - X, moved.double())
    torch.testing.assert_close(found.x_adv[1] - X, (moved + moved.flip(1)).double())


def test_a_targeted_attack_is_to_reach_the_class():
    found = transfer_matrix({"a": FIRST}, {"a": FIRST, "b": SECOND}, X, torch.ones_like(Y), WIDE, fgsm, targeted=True)
    assert found.standing.tolist() == [[True, True, False, False], [False, False, True, False]]
    assert found.fooled.tolist() == [[[True, False, True, True], [True, True, False, True]]]
    assert found.rates.tolist() == [[0.5, 0.0]]


def test_a_target_is_asked_once_for_each_source_and_once_before():
    oracle = LabelOracle(SECOND, budget=12)
    found = transfer_matrix(
        {"a": FIRST, "b": SECOND}, {"oracle": oracle}, X, Y, WIDE, partial(bim, steps=2), batch_size=3
    )
    assert oracle.queries == 12
    assert found.rates[1, 0] == 0.0  # the only row that stands is 0.3 away


def test_a_target_at_which_nothing_stands_has_no_rate():
    found = transfer_matrix({"a": FIRST}, {"wrong": along(-1.0, 0.0)}, X, Y, WIDE, fgsm)
    assert found.rates.isnan().all()


def test_targets_are_asked_in_evaluation_and_left_as_they_were():
    flags = []

    class Watched(nn.Module):
        def forward(self, x):
            flags.append((self.training, torch.is_grad_enabled()))
            return FIRST(x)

    watched = Watched().train()
    transfer_matrix({"a": FIRST}, {"b": watched}, X, Y, WIDE, fgsm)
    assert flags == [(False, False)] * 2
    assert watched.training


def test_it_prints_as_a_table():
    assert str(matrix()).splitlines() == [
        "fooled at Linf(0.2, bounds=(-5, 5)), % of the rows standing",
        "         first   second",
        "first     75.0      0.0",
        "both      75.0      0.0",
    ]


def test_errors():
    with pytest.raises(ValueError, match="at least one source and one target are needed, got 0 and 1"):
        transfer_matrix({}, {"a": FIRST}, X, Y, WIDE, fgsm)
    with pytest.raises(ValueError, match="at least one source and one target are needed, got 1 and 0"):
        transfer_matrix({"a": FIRST}, {}, X, Y, WIDE, fgsm)
    with pytest.raises(ValueError, match=r"the attack left Linf\(0.2, bounds=\(-5, 5\)\) against 'a'"):
        transfer_matrix({"a": FIRST}, {"a": FIRST}, X, Y, WIDE, lambda model, x, y, threat: x + 1)
    with pytest.raises(ValueError, match=r"y must have shape \(4,\)"):
        transfer_matrix({"a": FIRST}, {"a": FIRST}, X, Y[:3], WIDE, fgsm)


def test_the_plot_says_each_rate():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.add_subplot()
    names = ("a $x", "b"), ("_c", "d", "e")
    rates = torch.tensor(
        [[[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], [[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]]
    ).bool()
    found = TransferMatrix(*names, "Linf(0.1)", torch.ones(3, 4, dtype=torch.bool), rates, X)
    assert found.plot(axes) is axes
    assert [text.get_text() for text in axes.texts] == ["50", "100", "0", "75", "0", "25"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["_c", "d", "e"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a $x", "b"]
    assert axes.images[0].get_array().tolist() == [[50.0, 100.0, 0.0], [75.0, 0.0, 25.0]]
    figure.canvas.draw()
    assert found.plot().figure is not figure
