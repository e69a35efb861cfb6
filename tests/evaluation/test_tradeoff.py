"""Which model is the best choice at which share of adversarial inputs: by hand, and against a fine grid."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from advlib import Linf, evaluate
from advlib.evaluation import Stretch, tradeoff


def test_two_models_by_hand():
    choice = tradeoff({"robust": (0.5, 0.25), "plain": (0.75, 0.0)})
    assert choice.best == (Stretch(("plain",), 0.0, 0.5), Stretch(("robust",), 0.5, 1.0))  # .25 / (.25 + .25)
    assert choice.transitions == (0.5,)
    assert choice.never == ()
    assert [choice.accuracy(share) for share in (0.0, 0.25, 0.5, 1.0)] == [0.75, 0.5625, 0.375, 0.25]
    assert choice.models == {"robust": (0.5, 0.25), "plain": (0.75, 0.0)}


def test_a_loss_of_two_points_for_a_gain_of_26_pays_from_a_share_of_7_percent():
    choice = tradeoff({"plain": (0.78, 0.01), "paired": (0.76, 0.27)})
    assert choice.transitions == (pytest.approx(2 / 28),)


def test_three_models_one_after_another():
    choice = tradeoff({"a": (1.0, 0.0), "b": (0.875, 0.375), "c": (0.5, 0.5)})
    assert choice.transitions == (0.25, 0.75)  # .125 / (.125 + .375) and .375 / (.375 + .125)
    assert [stretch.models for stretch in choice.best] == [("a",), ("b",), ("c",)]


def test_a_model_below_the_envelope_though_no_single_one_dominates_it():
    choice = tradeoff({"a": (1.0, 0.0), "never": (0.625, 0.25), "c": (0.5, 0.5)})
    assert choice.never == ("never",)
    assert choice.transitions == (0.5,)


def test_three_lines_through_one_point():
    choice = tradeoff({"a": (1.0, 0.0), "touches": (0.75, 0.25), "c": (0.5, 0.5)})
    assert choice.best == (Stretch(("a",), 0.0, 0.5), Stretch(("c",), 0.5, 1.0))
    assert choice.never == ("touches",)  # where it is as good as the best, so are two others


def test_ties():
    equal = tradeoff({"a": (0.75, 0.25), "b": (0.75, 0.25)})
    assert equal.best == (Stretch(("a", "b"), 0.0, 1.0),)
    assert (equal.never, equal.transitions) == ((), ())
    clean = tradeoff({"a": (0.75, 0.0), "b": (0.75, 0.25)})  # equal without an adversary, then never again
    assert (clean.best, clean.never) == ((Stretch(("b",), 0.0, 1.0),), ("a",))
    robust = tradeoff({"a": (0.75, 0.25), "b": (0.5, 0.25)})  # equal with nothing else
    assert (robust.best, robust.never) == ((Stretch(("a",), 0.0, 1.0),), ("b",))
    # in floating point these three lines do not meet in one point
    assert tradeoff({"a": (0.5, 0.0), "b": (0.4, 0.1), "c": (0.3, 0.2)}).never == ("b",)


def test_one_model_and_accuracies_of_nothing_and_everything():
    assert tradeoff({"only": (1, 1)}).best == (Stretch(("only",), 0.0, 1.0),)
    assert tradeoff({"a": (0, 0), "b": (1.0, 0.0)}).never == ("a",)


def test_against_a_grid():
    draw = random.Random(0)
    for _ in range(50):
        models = {str(i): tuple(sorted((draw.random(), draw.random()), reverse=True)) for i in range(6)}
        choice = tradeoff(models)
        assert choice.best[0].start == 0
        assert choice.best[-1].stop == 1
        assert [a.stop for a in choice.best[:-1]] == [b.start for b in choice.best[1:]]
        for step in range(1000):
            share = (step + 0.5) / 1000
            values = {name: (1 - share) * clean + share * robust for name, (clean, robust) in models.items()}
            (name,) = next(stretch for stretch in choice.best if share <= stretch.stop).models
            assert choice.accuracy(share) == max(values.values()) == pytest.approx(values[name], abs=1e-12)
            assert not set(choice.never) & {name}


def test_evaluations_in_place_of_pairs():
    model, x = nn.Linear(2, 2).double(), torch.rand(20, 2, dtype=torch.float64)
    result = evaluate(model, x, model(x).argmax(1), Linf(0.1), budget="quick", progress=False)
    assert tradeoff({"linear": result}).models == {"linear": (1.0, result.robust_accuracy)}


def test_text():
    assert str(tradeoff({"plain": (0.98, 0.03), "robust": (0.96, 0.7), "x": (0.5, 0.1)})).splitlines() == [
        "model    clean  robust  best choice between",
        "plain    98.00    3.00  0 % and 2.9 %",
        "robust   96.00   70.00  2.9 % and 100 %",
        "x        50.00   10.00  never",
        "(accuracies in %; shares of adversarial inputs)",
    ]


def test_a_share_just_below_everything_is_written_as_one():
    choice = tradeoff({"a": (0.5, 0.0), "b": (0.002, 0.002)})  # .498 / (.498 + .002)
    assert str(choice).splitlines()[1].endswith("0 % and 99.6 %")
    assert [text.get_text() for text in choice.plot().texts] == ["99.6 %"]


@pytest.mark.parametrize(
    ("models", "error", "says"),
    [
        ([(0.5, 0.2)], TypeError, "must be a dict"),
        ({}, ValueError, "got none"),
        ({"a": 0.5}, TypeError, "'a' must have a pair"),
        ({"a": (0.5,)}, TypeError, "'a' must have a pair"),
        ({"a": ("x", 0.5)}, TypeError, "'a' must have a pair"),
        ({"a": (0.2, 0.5)}, ValueError, "robust <= clean"),
        ({"a": (78.0, 1.5)}, ValueError, "as shares"),
        ({"a": (0.5, -0.5)}, ValueError, "0 <= robust"),
        ({"a": (float("nan"), 0.5)}, ValueError, "clean nan"),
    ],
)
def test_bad_input(models, error, says):
    with pytest.raises(error, match=says):
        tradeoff(models)


@pytest.mark.parametrize("share", [-0.1, 1.1, 7.1])
def test_a_share_outside_is_refused(share):
    with pytest.raises(ValueError, match="divide a percentage by 100"):
        tradeoff({"a": (0.5, 0.5)}).accuracy(share)


def test_plot():
    axes = tradeoff({"a": (1.0, 0.0), "b": (0.5, 0.5), "low": (0.25, 0.25)}).plot()
    drawn = {line.get_label(): line for line in axes.lines}
    assert drawn["a"].get_xydata().tolist() == [[0, 100], [100, 0]]
    assert drawn["best choice"].get_xydata().tolist() == [[0, 100], [50, 50], [100, 50]]
    assert (drawn["a"].get_linestyle(), drawn["low"].get_linestyle()) == ("-", "--")
    assert [text.get_text() for text in axes.texts] == ["50 %"]
    assert axes.lines[-1].get_xydata().tolist() == [[50, 50]]
    assert len(axes.get_legend().get_texts()) == 4
    assert axes.get_xlim() == (0, 100)
    assert tradeoff({"a": (1.0, 0.0)}).plot(axes) is axes
