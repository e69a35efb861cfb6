"""Oracles: what they hand out, what they count, and that there is no gradient to be had."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import nn

from advlib import L2, GradientMaskingWarning, Linf, pgd, square
from advlib.attacks.apgd import AutoPGD
from advlib.attacks.baselines import UniformNoise
from advlib.attacks.square import SquareSearch
from advlib.evaluator import Evaluator
from advlib.gradients import autograd, eot, finite_differences
from advlib.models import Normalize
from advlib.oracles import Access, LabelOracle, OracleError, OutOfBudget, ScoreOracle
from advlib.search import search
from tests.laws.table import ATTACKS, batch, build, call, classes, seeded

SHAPE = (12,)
MODEL, X = build(SHAPE), batch(SHAPE)
Y = classes(MODEL, X)
BALL = Linf(0.1)


def labels(x):
    return MODEL(x).argmax(1)


# -- what they hand out ---------------------------------------------------------------------------------------------


def test_scores_are_the_models():
    scores = ScoreOracle(MODEL)(X)
    assert torch.equal(scores, MODEL(X).detach())
    assert (scores.dtype, scores.device) == (X.dtype, X.device)


FORMS = {
    "a network": (MODEL, {}),
    "a function that gives scores": (lambda x: MODEL(x) * 3, {}),
    "a function that gives labels": (labels, {"classes": 5}),
    "floating point labels": (lambda x: labels(x).double(), {"classes": 5}),
    "arrays": (lambda x: labels(torch.from_numpy(x)).numpy(), {"classes": 5, "numpy": True}),
    "lists": (lambda x: labels(x).tolist(), {"classes": 5}),
    "words": (lambda x: ["abcde"[i] for i in labels(x)], {"classes": list("abcde")}),
    "words as an array": (lambda x: np.array(list("abcde"))[labels(x).numpy()], {"classes": list("abcde")}),
    "an oracle": (ScoreOracle(MODEL), {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_told_as_one_hot_scores(form):
    predict, settings = FORMS[form]
    told = LabelOracle(predict, **settings)(X)
    assert told.dtype == X.dtype
    assert torch.equal(told, nn.functional.one_hot(Y, 5).double())


@pytest.mark.parametrize("kind", [str, int])
def test_estimators_say_their_classes(kind):
    """Of scikit-learn's, whose labels may be anything, in lines of features."""
    names = {str: ["cat", "dog", "owl"], int: [3, 8, 11]}[kind]
    x = torch.rand(60, 1, 2, 3, generator=seeded())
    y = x.flatten(1)[:, :3].argmax(1)
    estimator = LogisticRegression(C=100).fit(x.flatten(1).numpy(), np.array(names)[y.numpy()])
    oracle = LabelOracle(estimator)
    told = oracle(x)
    assert told.dtype == torch.float32
    assert (told.argmax(1) == y).float().mean() > 0.9
    assert torch.equal(oracle.indices(np.array(names)[y.numpy()]), y)
    assert torch.equal(oracle.indices([names[2], names[0]]), torch.tensor([2, 0]))
    scores = ScoreOracle(estimator)(x)
    assert torch.allclose(scores.sum(1), torch.ones(60))
    assert torch.equal(scores.argmax(1), told.argmax(1))


@pytest.mark.parametrize("number", [2, 3])
def test_the_decision_function_where_there_are_no_probabilities(number):
    x = torch.rand(60, 6, generator=seeded(), dtype=torch.float64)
    y = x[:, :number].argmax(1)
    estimator = LinearSVC(C=10).fit(x.numpy(), y.numpy())
    scores = ScoreOracle(estimator)(x)
    assert scores.shape == (60, number)
    assert torch.equal(scores.argmax(1), torch.from_numpy(estimator.predict(x.numpy())))


def test_answers_do_not_depend_on_how_they_are_asked_for():
    seen = []

    def watched(x):
        seen.append(len(x))
        return MODEL(x)

    assert torch.allclose(ScoreOracle(watched, batch_size=4)(X), MODEL(X).detach(), rtol=0, atol=1e-12)
    assert seen == [4, 2]


def test_predict_may_work_in_place():
    def careless(x):
        x *= 255
        return np.zeros(len(x))

    x = X.clone()
    LabelOracle(careless, classes=5, numpy=True)(x)
    assert torch.equal(x, X)


def test_a_network_in_training_is_asked_in_evaluation():
    model = build(SHAPE).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(ScoreOracle(model)(X), MODEL(X).detach())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# -- what they count ------------------------------------------------------------------------------------------------


def test_queries_are_counted_and_limited():
    oracle = LabelOracle(MODEL, budget=15)
    assert (oracle.queries, oracle.left, LabelOracle(MODEL).left) == (0, 15, float("inf"))
    oracle(X)
    oracle(X)
    assert (oracle.queries, oracle.left) == (12, 3)
    with pytest.raises(OutOfBudget, match=r"a question about 6 inputs.*left of the budget, 3 of 15 queries") as caught:
        oracle(X)
    assert caught.value.queries == 12
    oracle(X[:3])  # what was refused cost nothing
    assert (oracle.queries, oracle.left) == (15, 0)


def test_a_question_that_fails_midway_counts_what_was_answered():
    oracle = ScoreOracle(lambda x: MODEL(x) if oracle.queries < 4 else 1 / 0, batch_size=2)
    with pytest.raises(OracleError, match="failed after 4 queries: ZeroDivisionError: division by zero") as caught:
        oracle(X)
    assert oracle.queries == caught.value.queries == 4
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.result is None


def test_what_an_adversary_has():
    assert LabelOracle(MODEL, budget=7).access == Access(frozenset({"task"}), "labels", 7)
    assert ScoreOracle(MODEL).access == Access(observes="scores")
    named = {
        "labels": Access(observes="labels"),
        "scores": Access(observes="logits", queries=3),
        "white-box": Access(frozenset({"parameters", "architecture"}), "logits"),
        "transfer only": Access(frozenset({"architecture", "training data"})),
    }
    assert {access.name for access in named.values()} == set(named)
    assert all(access.name == name for name, access in named.items())


@pytest.mark.parametrize("steps", [1, 10, 400])
@pytest.mark.parametrize("settings", [{}, {"batch_size": 4}, {"restarts": 3}, {"keep": "strongest"}, {"keep": "first"}])
def test_an_attack_that_runs_out_returns_its_best_so_far(steps, settings):
    rule = SquareSearch(400)
    options = {"loss": "margin", "generator": seeded(), **settings}
    oracle = ScoreOracle(MODEL, budget=63)
    result = search(oracle, X, Y, BALL, rule, steps=steps, **options)
    free = search(MODEL, X, Y, BALL, rule, steps=steps, **{**options, "generator": seeded()})
    assert BALL.contains(result.x_adv, X).all()
    assert result.forwards.sum() == oracle.queries <= 63
    if free.forwards.sum() <= 63:
        assert torch.equal(result.x_adv, free.x_adv)
    else:
        assert oracle.left < len(X)  # which is all that a question may be too large by
        assert (result.loss <= free.loss).all()
        found = ScoreOracle(MODEL)(result.x_adv)
        asked = result.forwards > 0
        assert torch.equal((found.argmax(1) != Y)[asked], result.success[asked])
        assert torch.equal(result.x_adv[~asked], X[~asked])


def test_out_of_budget_the_best_is_that_of_the_questions_answered():
    """Two points beyond the clean one, of which the second comes closer; the third is never asked about."""
    for paid, expected in ((1, 0), (2, 1), (3, 2), (4, 3)):
        seen = []

        def watched(x, seen=seen):
            seen.append(x.clone())
            return MODEL(x)

        oracle = ScoreOracle(watched, budget=6 * paid + 5)
        result = search(oracle, X, Y, BALL, UniformNoise(), steps=9, loss="margin", generator=seeded())
        assert len(seen) == expected + 1
        best = torch.stack(
            [MODEL(points)[range(6), Y] - MODEL(points).scatter(1, Y[:, None], -9).amax(1) for points in seen]
        )
        rows = torch.stack(seen)[best.argmin(0), range(6)]
        assert torch.equal(result.x_adv, rows)


def test_a_budget_too_small_for_one_question():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(square(ScoreOracle(MODEL, budget=5), X, Y, BALL, steps=4), X)


# -- no gradient ----------------------------------------------------------------------------------------------------

GRADIENT_ATTACKS = [name for name, row in ATTACKS.items() if row.gradients and name != "auto_attack"]


@pytest.mark.parametrize("oracle", [LabelOracle, ScoreOracle])
@pytest.mark.parametrize("name", GRADIENT_ATTACKS)
def test_an_attack_that_follows_gradients_is_told_what_to_use(name, oracle):
    row = ATTACKS[name]
    mend = "hop_skip_jump" if oracle is LabelOracle else r"square, .*finite_differences\(\)"
    with pytest.raises(
        TypeError, match=f"a {oracle.__name__} gives .* no gradient: ask it with {mend}.*train_substitute"
    ):
        call(name, oracle(MODEL), X, Y, row.threat(row.norms[0]), generator=seeded())


@pytest.mark.parametrize("oracle", [LabelOracle, ScoreOracle])
@pytest.mark.parametrize("around", ["nothing", "a function", "a module"])
@pytest.mark.parametrize("source", [autograd, eot(2)])
def test_no_wrapper_brings_a_gradient_back(oracle, around, source):
    model = {
        "nothing": oracle(MODEL),
        "a function": lambda z: oracle(MODEL)(2 * z),
        "a module": Normalize(oracle(MODEL), 0.5, 0.5),
    }[around]
    with pytest.raises(TypeError, match="and no gradient"):
        search(model, X, Y, BALL, AutoPGD(3), steps=3, gradient=source)


@pytest.mark.parametrize("oracle", [LabelOracle, ScoreOracle])
def test_there_is_no_graph_and_no_hook_to_hang_on_to(oracle):
    model = build(SHAPE)
    fired = []
    for parameter in model.parameters():
        parameter.register_hook(fired.append)
    asked = oracle(model)
    leaf = X.clone().requires_grad_()
    leaf.register_hook(fired.append)
    with pytest.raises(TypeError, match="and no gradient"):
        asked(leaf)
    with torch.no_grad():
        assert asked(leaf).grad_fn is None
    answer = asked(X)
    assert not answer.requires_grad
    assert answer.grad_fn is None
    weight = torch.ones(5, dtype=torch.float64, requires_grad=True)
    (answer * weight).sum().backward()  # whatever is made of it leads back to the answer and no further
    assert not fired
    assert leaf.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not isinstance(asked, nn.Module)


def test_a_model_that_turns_gradients_on_leaks_none():
    def leaky(x):
        with torch.enable_grad():
            return MODEL(x.requires_grad_())

    assert ScoreOracle(leaky)(X).grad_fn is None
    assert not X.requires_grad


def test_finite_differences_need_scores():
    settings = {"gradient": finite_differences(4), "steps": 2, "generator": seeded()}
    with pytest.raises(TypeError, match="a LabelOracle gives labels alone"):
        pgd(LabelOracle(MODEL), X, Y, BALL, **settings)
    oracle = ScoreOracle(MODEL)
    x_adv = pgd(oracle, X, Y, BALL, **{**settings, "generator": seeded()})
    assert oracle.queries == len(X) * (2 * 9 + 1)
    assert torch.equal(x_adv, pgd(MODEL, X, Y, BALL, **{**settings, "generator": seeded()}))


def test_an_evaluator_of_labels_answers_order_0_alone():
    with Evaluator(LabelOracle(MODEL), X, Y, L2(1.0)) as evaluator:
        assert not evaluator.ask(X, order=0).success.any()
        with pytest.raises(TypeError, match="hop_skip_jump"):
            evaluator.ask(X)


@pytest.mark.parametrize("oracle", [LabelOracle, lambda model: ScoreOracle(lambda x: model(x).softmax(1))])
def test_nobody_is_warned_of_gradients_that_an_oracle_does_not_have(oracle):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        square(oracle(MODEL), X, Y, BALL, steps=3)
        oracle(MODEL)(X)


def test_nobody_is_told_to_drop_the_softmax_of_an_oracle():
    def model(x):
        return MODEL(x).softmax(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pgd(ScoreOracle(model), X, Y, BALL, steps=2, gradient=finite_differences(2))
        square(model, X, Y, BALL, steps=2)  # which follows no gradient
    with pytest.warns(GradientMaskingWarning, match="last softmax"):
        pgd(model, X, Y, BALL, steps=2)


def test_an_attack_on_an_oracle_is_the_attack_on_the_model():
    threat = Linf(0.3)
    mine, other = (
        square(model, X, Y, threat, steps=40, generator=seeded()) for model in (MODEL, ScoreOracle(MODEL, batch_size=6))
    )
    assert torch.equal(mine, other)


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["budget", "batch_size", "classes"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got {value}"):
        LabelOracle(MODEL, **{name: value})


def test_predict_must_predict():
    with pytest.raises(TypeError, match="a model, a function or an estimator with predict, got dict"):
        LabelOracle({})
    with pytest.raises(TypeError, match="estimator with predict_proba or decision_function, got str"):
        ScoreOracle("model")


def test_access_takes_no_other_words():
    with pytest.raises(ValueError, match=r"knows must hold words among task, .*, got weights"):
        Access(frozenset({"weights"}))
    with pytest.raises(ValueError, match=r"observes must be 'labels', .*, got 'gradients'"):
        Access(observes="gradients")
    with pytest.raises(ValueError, match="queries must be a whole number of at least 1, got 0"):
        Access(queries=0)


BAD_ANSWERS = {
    "fewer classes later": (lambda x, n: MODEL(x)[:, : 5 - n], "every answer must be about the same 5 classes, got 4"),
    "NaN": (
        lambda x, n: torch.where(torch.arange(6)[:, None] < 2 * n, torch.nan, MODEL(x)),
        "scores must be numbers, got NaN for 2 of 6 inputs",
    ),
    "fewer answers": (lambda x, n: MODEL(x)[n:], "one answer per input, got 5 for 6"),
    "an error": (lambda x, n: MODEL(x) if n == 0 else {}["gone"], "KeyError: 'gone'"),
}


@pytest.mark.parametrize("oracle", [LabelOracle, ScoreOracle])
@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_answers_that_cannot_be_read_leave_what_was_found(case, oracle):
    answer, message = BAD_ANSWERS[case]
    questions = []

    def predict(x):
        questions.append(x.clone())
        return answer(x, len(questions) // 4)

    asked = oracle(predict)
    with pytest.raises(OracleError, match=f"model behind the oracle failed after 18 queries: .*{message}") as caught:
        search(asked, X, Y, BALL, UniformNoise(), steps=9, loss="margin", restarts=2, generator=seeded())
    assert len(questions) == 4
    assert asked.queries == caught.value.queries == 18
    result = caught.value.result
    assert result.forwards.tolist() == [3] * 6
    rows = torch.stack(questions[:3])
    assert (rows == result.x_adv).all(2).any(0).all()


BAD_LABELS = {
    "labels and no number of classes": (
        labels,
        {},
        r"do not say how many classes there are: give the oracle classes=10",
    ),
    "a label too large": (labels, {"classes": 2}, "labels must be among the 2 classes, got .: give the oracle all"),
    "words": (lambda x: ["a"] * 6, {"classes": 5}, "labels must be among the 5 classes, got 'a'"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_cannot_be_numbered(case):
    predict, settings, message = BAD_LABELS[case]
    with pytest.raises(OracleError, match=message):
        LabelOracle(predict, **settings)(X)


def test_scores_must_be_scores():
    with pytest.raises(
        OracleError, match=r"shape \(N, C\) with C >= 2 classes, got \(6,\): a LabelOracle takes labels"
    ):
        ScoreOracle(labels)(X)
    with pytest.raises(OracleError, match=r"got \(6, 1\)"):
        ScoreOracle(lambda x: MODEL(x)[:, :1])(X)


def test_labels_of_y_are_places():
    """A network that says 3 or 8, attacked with these as y."""
    oracle = LabelOracle(lambda x: 3 + 5 * (labels(x) > 2), classes=[3, 8])
    y = torch.where(Y > 2, 8, 3)
    with pytest.raises(ValueError, match="y must hold classes from 0 to 1, got values from 8 to 8"):
        square(oracle, X, y, BALL, steps=2)
    square(oracle, X, oracle.indices(y), BALL, steps=2)


@pytest.mark.parametrize("fails_at", [1, 3])
def test_an_attack_without_an_oracle_raises_what_the_model_raises(fails_at):
    questions = []

    def model(x):
        questions.append(1)
        return MODEL(x) if len(questions) < fails_at else 1 / 0

    with pytest.raises(ZeroDivisionError):
        square(model, X, Y, BALL, steps=5)
