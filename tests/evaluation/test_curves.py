"""Curves of robust accuracy: the closed form on linear models, one evaluation after another, and bad input."""

from __future__ import annotations

import importlib
import math
import sys

import pytest
import torch
from torch import nn

from advlib import L0, L1, L2, Linf, evaluate
from advlib.evaluation import Curve, robustness_curve
from advlib.evaluation.schedule import PLANS, Plan
from advlib.models import Counted
from tests.evaluation.test_evaluate import distances, problem, seeded

module = importlib.import_module("advlib.evaluation.curves")


def quiet(*args, **kwargs) -> Curve:
    return robustness_curve(*args, **{"progress": False, "generator": seeded(), **kwargs})


@pytest.fixture
def calls(monkeypatch):
    """What each evaluation was asked: the radii of its rows."""
    asked = []

    def watched(model, x, y, threat, **options):
        asked.append(threat.eps.tolist())
        return evaluate(model, x, y, threat, **options)

    monkeypatch.setattr(module, "evaluate", watched)
    return asked


@pytest.mark.parametrize(("norm", "dual"), [(Linf, 1), (L2, 2), (L1, torch.inf)])
def test_the_closed_form_on_a_linear_model(norm, dual):
    model, x, y = problem()
    far = distances(model, x, y, dual)
    some = far.sort().values[6::5]
    grid = [float(eps) * 1.004 for eps in some]
    assert all((far - eps).abs().min() > 1e-3 * eps for eps in grid)  # no row on a border
    curve = quiet(model, x, y, norm(1.0, bounds=None), eps=grid)
    assert curve.eps == (0.0, *grid)
    assert curve.accuracy == tuple(int((far > eps).sum()) / len(x) for eps in curve.eps)
    assert len(set(curve.accuracy)) > 5
    least = [next((eps for eps in curve.eps if distance <= eps), math.inf) for distance in far.tolist()]
    assert curve.broken_at.tolist() == least


def test_a_count_of_features():
    model = nn.Linear(3, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    x = torch.tensor([[0.9, -0.1, -0.1], [0.9, 0.9, -0.1], [0.9, 0.9, 0.9]], dtype=torch.float64)
    curve = quiet(model, x, torch.tensor([0, 0, 0]), L0(1, bounds=(-1.0, 1.0)), eps=[1, 2])
    assert curve.broken_at.tolist() == [1.0, 1.0, 2.0]
    assert curve.norm == "L0"


def test_every_point_breaks_its_row_within_its_own_ball():
    model, x, y = problem()
    threat = Linf(0.6, bounds=(-4.0, 4.0))
    curve = quiet(model, x, y, threat)
    broken = curve.broken_at.isfinite()
    assert 0 < int(broken.sum()) < len(x)
    assert torch.equal(model(curve.x_adv).argmax(1) != y, broken)
    assert bool(threat.resized(curve.broken_at.nan_to_num(posinf=0.0)).contains(curve.x_adv, x).all())
    assert torch.equal(curve.x_adv[~broken], x[~broken])
    assert curve.accuracy[0] == float((model(x).argmax(1) == y).double().mean())


def test_rows_are_bracketed_and_leave_once_their_radius_is_known(calls):
    model, x, y = problem()
    far = distances(model, x, y, 1)
    curve = quiet(model, x, y, Linf(8.0, bounds=None), eps=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert calls[0] == [pytest.approx(0.4)] * len(x)  # index 4 of 0 to 8, where 8 stands for unbroken
    assert len(calls) <= 4  # 8 radii and none
    assert len(calls[1]) < len(x)  # what the model errs on unperturbed is not asked again
    assert sum(map(len, calls)) < 3.5 * len(x)
    assert curve.accuracy[-1] == float((far > 0.7).double().mean())


def test_a_point_in_a_smaller_ball_settles_the_radii_between(calls, monkeypatch):
    def near(model, x, y, threat, **options):
        found = evaluate(model, x, y, threat, **options)
        found.distance[:] = torch.where(found.distance.isfinite(), found.distance.clamp_max(0.15), math.inf)
        return found

    model, x, y = problem()
    monkeypatch.setattr(module, "evaluate", near)
    curve = quiet(model, x, y, Linf(1.0, bounds=None), eps=[0.1, 0.2, 1.0, 3.0])
    assert set(curve.broken_at.tolist()) <= {0.0, 0.1, 0.2, 3.0, math.inf}  # what breaks at 1.0 lies within 0.2


def test_what_breaks_in_a_larger_ball_is_tried_in_the_smaller(monkeypatch):
    model, x, y = problem()
    far = distances(model, x, y, 1)
    reach = iter((False, True))

    def blunt(model, x, y, threat, **options):  # breaks in the first ball, and nothing after that
        if next(reach, True):
            threat = threat.resized(torch.zeros_like(threat.eps))
        return evaluate(model, x, y, threat, **options)

    monkeypatch.setattr(module, "evaluate", blunt)
    curve = quiet(model, x, y, Linf(1.0, bounds=None), eps=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    inner = far <= 0.4
    least = [next(eps for eps in curve.eps if distance <= eps) for distance in far[inner].tolist()]
    assert curve.broken_at[inner].tolist() == least
    assert bool(curve.broken_at[~inner].isinf().all())


def test_what_is_pulled_in_is_not_thrown_across_the_ball(monkeypatch):
    def model(x):  # errs from 0.25 to 0.35 and beyond 0.7; below 0 nothing leads there
        return torch.cat([torch.zeros_like(x), torch.maximum(0.05 - (x.relu() - 0.3).abs(), x - 0.7)], 1)

    reach = iter((True,))

    def far(model, x, y, threat, **options):  # finds 0.8 in the first ball, and nothing after that
        found = evaluate(model, x, y, threat.resized(torch.zeros_like(threat.eps)), **options)
        if next(reach, False):
            found.robust[:], found.x_adv[:], found.distance[:] = False, 0.8, 0.8
        return found

    monkeypatch.setattr(module, "evaluate", far)
    x = torch.zeros(1, 1, dtype=torch.float64)
    assert quiet(model, x, torch.tensor([0]), Linf(1.2, bounds=None), eps=[0.4, 0.8, 1.2]).broken_at.tolist() == [0.4]


def test_passes_are_counted():
    model, x, y = problem()
    counted = Counted(model)
    curve = quiet(lambda points: counted(points), x, y, Linf(0.4, bounds=None))  # a module would be copied too
    assert (curve.forward_samples, curve.backward_samples) == (counted.forwards, counted.backwards)


def test_every_evaluation_has_the_budget(monkeypatch):
    given = []

    def watched(model, x, y, threat, *, budget, **options):
        given.append(budget)
        return evaluate(model, x, y, threat, budget="quick", **options)

    monkeypatch.setattr(module, "evaluate", watched)
    model, x, y = problem()
    assert quiet(model, x, y, Linf(0.4, bounds=None), eps=[0.2, 0.4], budget="thorough").method == "thorough budget"
    assert set(given) == {"thorough"}
    assert len(given) > 1


def test_what_belongs_to_rows_stays_with_them():
    model, x, y = problem()
    may = torch.zeros(len(x), 1, dtype=torch.bool)
    may[::2] = True
    curve = quiet(model, x, y, Linf(5.0, bounds=None, mask=may.expand(x.shape)), eps=[0.1, 5.0])
    assert set(curve.broken_at[1::2].tolist()) <= {0.0, math.inf}
    assert float(curve.broken_at[::2].max()) <= 5.0


def test_a_mask_that_all_rows_share():
    model, x, y = problem()
    curve = quiet(model, x, y, Linf(5.0, bounds=None, mask=torch.arange(6) == 2), eps=[0.1, 5.0])
    assert bool(((curve.x_adv != x).sum(0) > 0).tolist() == [False, False, True, False, False, False])


def test_the_model_is_asked_in_batches():
    model, x, y = problem()
    sizes = set()

    def watched(points):
        sizes.add(len(points))
        return model(points)

    quiet(watched, x, y, Linf(0.4, bounds=None), eps=[0.2, 0.4], batch_size=3)
    curve_sizes = sorted(sizes)
    assert curve_sizes[-1] <= 32  # the findings look at 32 rows at once
    assert len(x) not in sizes


def test_the_end_of_the_curve_and_the_radius_zero():
    model, x, y = problem()
    assert quiet(model, x, y, Linf(0.4, bounds=None)).eps == pytest.approx(tuple(0.05 * step for step in range(9)))
    assert quiet(model, x, y, Linf(0.4, bounds=None), eps=[0.0, 0.1]).eps == (0.0, 0.1)
    assert quiet(model, x, y, Linf(math.inf, bounds=None), eps=[0.1]).eps == (0.0, 0.1)
    clean = quiet(model, x, y, Linf(0.4, bounds=None), eps=[0])
    assert clean.accuracy == (float((model(x).argmax(1) == y).double().mean()),)


def test_intervals_and_text():
    model, x, y = problem()
    curve = quiet(model, x, y, Linf(0.4, bounds=None), eps=[0.2])
    result = evaluate(model, x, y, Linf(0.2, bounds=None), budget="quick", progress=False)
    assert curve.intervals == (result.clean_interval, result.robust_interval)
    lines = str(curve).splitlines()
    assert lines[0] == f"Linf, quick budget, 40 rows, median {curve.median:.4g}"
    assert lines[2].split()[:2] == ["0", f"{100 * curve.accuracy[0]:.2f}"]
    assert lines[3].split()[:2] == ["0.2", f"{100 * curve.accuracy[1]:.2f}"]


def test_what_hides_gradients_is_told():
    model, x, _ = problem()
    rounded = lambda points: model((points * 4).round() / 4)  # noqa: E731
    curve = quiet(rounded, x, rounded(x).argmax(1), Linf(0.2, bounds=(-9.0, 9.0)), eps=[0.1, 0.2])
    assert "vanishing gradients" in [finding.name for finding in curve.findings]
    assert "vanishing gradients" in str(curve)


def test_the_same_generator_gives_the_same_curve_whatever_the_batches(monkeypatch):
    monkeypatch.setitem(PLANS, "standard", Plan(((0.5, 1),)))
    model, x, y = problem()
    runs = [
        quiet(model, x, y, L2(2.0, bounds=None), batch_size=size, budget="standard", generator=seeded(5))
        for size in (None, 7)
    ]
    assert torch.equal(runs[0].broken_at, runs[1].broken_at)
    torch.testing.assert_close(runs[0].x_adv, runs[1].x_adv)
    assert runs[0].method == "standard budget"


@pytest.mark.parametrize(
    ("eps", "says"),
    [
        ([], "got none"),
        ([-0.1, 0.2], "not negative, got"),
        ([0.1, math.inf], "finite"),
        ([0.1, math.nan], "finite"),
        ([0.2, 0.1], "increasing"),
        ([0.1, 0.1], "without repetition"),
    ],
)
def test_radii_that_make_no_curve(eps, says):
    model, x, y = problem()
    with pytest.raises(ValueError, match=says):
        quiet(model, x, y, Linf(0.4, bounds=None), eps=eps)


def test_other_bad_input():
    model, x, y = problem()
    with pytest.raises(ValueError, match="got a threat model with 40 of them"):
        quiet(model, x, y, Linf(torch.full((40,), 0.1), bounds=None), eps=[0.1])
    for end in (0.0, math.inf):
        with pytest.raises(ValueError, match="needs an end above 0"):
            quiet(model, x, y, Linf(end, bounds=None))
    with pytest.raises(TypeError, match="must be a threat model"):
        quiet(model, x, y, 0.3)
    with pytest.raises(TypeError, match=r"torch\.cat"):
        quiet(model, [(x, y)], None, Linf(0.3))
    with pytest.raises(ValueError, match=r"one label per row of x, got \(39,\) for 40 rows"):
        quiet(model, x, y[1:], Linf(0.3, bounds=None))
    with pytest.raises(ValueError, match="rows to evaluate"):
        quiet(model, x[:0], y[:0], Linf(0.3, bounds=None))


def test_progress_counts_the_rows_whose_radius_is_known(monkeypatch):
    shown = []

    class Bar:
        def __init__(self, total, unit, disable):
            self.n = 0
            shown.append((total, unit, disable))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            shown.append(self.n)

        def update(self, rows):
            assert rows >= 0
            self.n += rows

    monkeypatch.setattr(module, "tqdm", Bar)
    model, x, y = problem()
    quiet(model, x, y, Linf(0.3, bounds=None), eps=[0.1, 0.3], progress=True)
    assert shown == [(40, "row", False), 40]


def test_plot():
    model, x, y = problem()
    curve = quiet(model, x, y, Linf(0.4, bounds=None), eps=[0.2, 0.4])
    axes = curve.plot()
    (line,) = axes.lines
    assert line.get_xdata() == pytest.approx([0.0, 0.2, 0.4])
    assert line.get_ydata() == pytest.approx([100 * accuracy for accuracy in curve.accuracy])
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_ylim()) == ("eps (Linf)", "robust accuracy (%)", (0, 100))
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(100 * curve.intervals[0][1])
    assert band[:, 1].min() == pytest.approx(100 * curve.intervals[-1][0])
    assert axes.get_legend() is None
    assert curve.plot(axes, "again") is axes
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["again"]
    assert "matplotlib.pyplot" not in sys.modules or not __import__("matplotlib.pyplot").pyplot.get_fignums()


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    model, x, y = problem()
    curve = quiet(model, x, y, Linf(0.4, bounds=None), eps=[0.2])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"advlib-torch\[plot\]"):
        curve.plot()
