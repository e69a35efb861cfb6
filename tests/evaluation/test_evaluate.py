"""What an evaluation says: against closed forms, whatever the batches, and only what it has verified."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from advlib import L0, L1, L2, Linf, evaluate
from advlib.attacks.pgd import ProjectedGradient
from advlib.evaluation import Evaluation
from advlib.evaluation.rows import Rows, ranked_by_margin
from advlib.evaluation.schedule import PLANS, Plan
from advlib.losses import cross_entropy, margin
from advlib.models import Counted
from advlib.search import SearchResult

module = importlib.import_module("advlib.evaluation.evaluate")  # the name of the function hides it


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks of 20 rows, and a plan with a little of everything."""
    monkeypatch.setattr(module, "BLOCK", 20)
    monkeypatch.setitem(PLANS, "standard", Plan(((0.5, 2),), 0.5, 2, 2, 3))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def problem(rows: int = 40, classes: int = 3, features: int = 6) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A linear model in float64, inputs far from the bounds, and labels of which a few are wrong."""
    model = nn.Linear(features, classes).double()
    with torch.no_grad():
        model.weight.copy_(torch.randn(classes, features, generator=seeded(1), dtype=torch.float64))
        model.bias.zero_()
        x = torch.randn(rows, features, generator=seeded(2), dtype=torch.float64)
        y = model(x).argmax(1)
    y[::9] = (y[::9] + 1) % classes
    return model, x, y


def quiet(*args, **kwargs) -> Evaluation:
    return evaluate(*args, **{"progress": False, "generator": seeded(), **kwargs})


def distances(model: nn.Linear, x: torch.Tensor, y: torch.Tensor, dual: float) -> torch.Tensor:
    """How far each row is from the nearest boundary, in the norm whose dual is given; 0 where the model errs."""
    with torch.no_grad():
        logits = model(x)
    slope = model.weight[None] - model.weight[y][:, None]
    size = torch.linalg.vector_norm(slope, ord=dual, dim=2).scatter(1, y[:, None], 1.0)
    apart = ((logits.gather(1, y[:, None]) - logits) / size).scatter(1, y[:, None], torch.inf)
    return apart.amin(1).clamp_min(0).detach()


@pytest.mark.parametrize(("norm", "dual"), [(Linf, 1), (L2, 2), (L1, torch.inf)])
@pytest.mark.parametrize("budget", ["quick", "standard"])
def test_the_closed_form_on_a_linear_model(norm, dual, budget):
    model, x, y = problem()
    far = distances(model, x, y, dual)
    eps = float(far.median())
    result = quiet(model, x, y, norm(eps, bounds=None), budget=budget)
    clear = (far - eps).abs() > 1e-3 * eps  # a row on the border itself may go either way
    assert torch.equal(result.robust[clear], (far > eps)[clear])
    assert 0.2 < result.robust_accuracy < 0.8


def test_one_feature_in_l0():
    model = nn.Linear(4, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))
    x = torch.tensor([[0.2, 0.1, 0.1, 0.1], [0.9, 0.9, 0.9, 0.9]], dtype=torch.float64) - 0.2
    result = quiet(model, x, torch.tensor([0, 0]), L0(1, bounds=(-1.0, 1.0)))
    assert result.robust.tolist() == [False, True]


def test_every_point_is_inside_and_breaks_its_row():
    model, x, y = problem()
    threat = Linf(0.3, bounds=(-4.0, 4.0))
    result = quiet(model, x, y, threat)
    assert bool(threat.contains(result.x_adv, x).all())
    wrong = model(result.x_adv).argmax(1) != y
    assert torch.equal(wrong, ~result.robust)
    assert torch.equal(result.x_adv[result.robust], x[result.robust])
    assert [name != "" for name in result.broken_by] == wrong.tolist()
    assert [name == "clean" for name in result.broken_by] == (~result.correct).tolist()


def test_passes_are_counted_and_belong_to_stages():
    model, x, y = problem()
    counted = Counted(model)
    result = quiet(lambda points: counted(points), x, y, Linf(0.2, bounds=None))  # a module would be copied too
    assert (result.forward_samples, result.backward_samples) == (counted.forwards, counted.backwards)
    assert sum(stage.broken for stage in result.stages) == int((~result.robust).sum())
    for stage in result.stages:
        assert stage.broken == sum(name == stage.name for name in result.broken_by)


def test_a_break_that_the_model_does_not_repeat_is_none():
    model, x, y = problem()

    def two_faced(points: torch.Tensor) -> torch.Tensor:
        logits = model(points)
        return -logits if points.requires_grad else logits  # errs only where an attack takes gradients

    result = quiet(two_faced, x, y, Linf(1e-6, bounds=None), budget="quick")
    assert torch.equal(result.robust, result.correct)


def test_a_break_is_verified_in_full_precision():
    model, x, y = problem()
    seen = []

    class Watch(nn.Module):
        def forward(self, points):
            seen.append(torch.is_autocast_enabled("cpu"))
            return model(points)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        quiet(Watch(), x, y, Linf(0.2, bounds=None), budget="quick")
        assert {True, False} == set(seen)
        assert seen[0] is False  # the clean answers
        rows = block(Watch(), x, y, Linf(0.2, bounds=None))
        seen.clear()
        rows.verify("some", torch.arange(len(x)), x)
    assert seen == [False]


def network() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).double()
    x = torch.rand(50, 1, 4, 4, generator=seeded(4), dtype=torch.float64)
    with torch.no_grad():
        return model, x, model(x).argmax(1)


def same(a: Evaluation, b: Evaluation) -> None:
    assert torch.equal(a.robust, b.robust)
    assert torch.allclose(a.x_adv, b.x_adv, rtol=0, atol=1e-12)  # float64's rounding in sums of other lengths
    assert a.broken_by == b.broken_by
    assert [(s.name, s.rows, s.broken, s.forward_samples) for s in a.stages] == [
        (s.name, s.rows, s.broken, s.forward_samples) for s in b.stages
    ]


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.2), L1(0.5)])
def test_the_same_result_for_any_batch_size_and_from_a_loader(threat):
    model, x, y = network()
    whole = quiet(model, x, y, threat)
    assert 0 < whole.robust_accuracy < 1
    for batch_size in (7, 50):
        same(whole, quiet(model, x, y, threat, batch_size=batch_size))
    for batch_size in (3, 50):
        loader = DataLoader(TensorDataset(x, y), batch_size=batch_size)
        same(whole, quiet(model, loader, threat=threat))
    same(whole, quiet(model, iter([(x[:11], y[:11]), (x[11:], y[11:])]), threat=threat))


def test_blocks_are_their_own_evaluations():
    model, x, y = network()
    whole, first = quiet(model, x, y, Linf(0.05)), quiet(model, x[:20], y[:20], Linf(0.05))
    assert torch.allclose(whole.x_adv[:20], first.x_adv, rtol=0, atol=1e-12)


def test_rows_may_have_their_own_eps_in_blocks_and_streams():
    model, x, y = network()
    eps = torch.linspace(0, 0.1, 50, dtype=torch.float64)
    threat = Linf(eps)
    result = quiet(model, x, y, threat)
    assert bool(threat.contains(result.x_adv, x).all())
    assert bool(result.robust[0])
    assert not bool(result.robust[-10:].all())
    same(result, quiet(model, [(x[:30], y[:30]), (x[30:], y[30:])], threat=threat))


def test_the_generator_decides():
    model, x, y = network()
    one, again, other = (quiet(model, x, y, Linf(0.05), generator=seeded(s)) for s in (1, 1, 2))
    same(one, again)
    assert not torch.equal(one.x_adv, other.x_adv)


def test_certified_rows_are_not_attacked():
    model, x, y = network()
    asked: list[torch.Tensor] = []

    def watched(points):
        asked.append(points.detach())
        return model(points)

    certified = torch.zeros(50, dtype=torch.bool)
    certified[::3] = True  # other places in each block
    result = quiet(watched, x, y, Linf(0.5), certified=certified, budget="quick")
    assert torch.equal(result.robust, certified)  # the rest breaks at this radius
    assert sum(stage.rows for stage in result.stages if stage.name == "first") == 33
    assert torch.equal(result.certified, certified)
    assert "certified         34.00 %" in str(result)


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_few_rows(rows):
    model, x, y = network()
    result = quiet(model, x[:rows], y[:rows], Linf(0.02))
    assert len(result.robust) == rows


def test_nothing_is_attacked_where_everything_is_wrong():
    model, x, y = network()
    result = quiet(model, x, (y + 1) % 4, Linf(0.1))
    assert (result.clean_accuracy, result.robust_accuracy) == (0, 0)
    assert [stage.name for stage in result.stages] == ["clean"]


def test_two_classes():
    model, x, y = problem(classes=2)
    far = distances(model, x, y, 1)
    eps = float(far.median())
    result = quiet(model, x, y, Linf(eps, bounds=None))
    clear = (far - eps).abs() > 1e-3 * eps
    assert torch.equal(result.robust[clear], (far > eps)[clear])


def test_nothing_of_the_users_is_touched():
    model, x, y = network()
    model = nn.Sequential(nn.BatchNorm2d(1).double(), model).train()
    model[1].eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    inputs, labels, chance = x.clone(), y.clone(), torch.random.get_rng_state()
    quiet(model, x, y, Linf(0.05))
    assert model[0].training
    assert not model[1].training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(parameter.grad, torch.ones_like(parameter)) for parameter in model.parameters())
    assert torch.equal(x, inputs)
    assert torch.equal(y, labels)
    assert torch.equal(chance, torch.random.get_rng_state())


def test_the_result_is_the_same_within_no_grad_and_inference_mode():
    model, x, y = network()
    outside = quiet(model, x, y, Linf(0.05), budget="quick")
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            same(outside, quiet(model, x, y, Linf(0.05), budget="quick"))


# -- the result -------------------------------------------------------------------------------------------------


def test_figures_and_intervals():
    result = Evaluation(
        threat="Linf(0.1)",
        budget="quick",
        seed=0,
        versions={},
        y=torch.zeros(10, dtype=torch.int64),
        correct=torch.tensor([True] * 9 + [False]),
        robust=torch.tensor([True] * 5 + [False] * 5),
        broken_by=("",) * 5 + ("first",) * 4 + ("clean",),
        predicted=torch.tensor([0] * 5 + [1] * 5),
        distance=torch.tensor([math.inf] * 5 + [0.1] * 4 + [0]),
        samples=torch.ones(10, dtype=torch.int64),
        certified=torch.zeros(10, dtype=torch.bool),
        stages=(),
        findings=(),
    )
    assert (result.clean_accuracy, result.robust_accuracy) == (0.9, 0.5)
    assert result.robust_interval == pytest.approx((0.18709, 0.81291), abs=1e-5)  # Clopper and Pearson, 5 of 10
    assert result.clean_interval == pytest.approx((0.55498, 0.99747), abs=1e-5)
    assert result.broken() == {"first": 4, "clean": 1}
    assert result.verdict == "reliable"
    assert "50.00 %" in str(result)
    assert "an upper bound" in str(result)


def test_what_is_told_of_each_row():
    model, x, y = network()
    passes = 0

    def counted(points):
        nonlocal passes
        passes += len(points)
        return model(points)

    threat = Linf(0.05)
    result = quiet(counted, x, y, threat)
    broken = ~result.robust
    assert 0 < int(broken.sum()) < 50
    assert torch.equal(result.x, x)
    assert torch.equal(result.y, y)
    assert torch.equal(result.predicted, model(result.x_adv).argmax(1))
    assert torch.equal(result.distance[broken], threat.distance(result.x_adv, x)[broken])
    assert bool(result.distance[result.robust].isinf().all())
    looked = sum(s.forward_samples for s in result.stages if s.name.startswith("findings"))
    spent = sum(s.forward_samples + s.backward_samples for s in result.stages if not s.name.startswith("findings"))
    assert int(result.samples.sum()) == spent, [s.name for s in result.stages]
    assert passes == result.forward_samples >= looked
    assert int(result.samples[result.robust].min()) > int(result.samples[broken].min())
    assert result.seconds == pytest.approx(sum(stage.seconds for stage in result.stages))
    assert set(result.versions) == {"advlib", "python", "torch", "device"}


def test_a_result_without_examples():
    model, x, y = network()
    result = quiet(model, x, y, Linf(0.05), examples=False, generator=seeded(7), budget="quick")
    assert result.x is None
    assert result.x_adv is None
    assert result.seed == 7
    assert len(result.samples) == 50


def test_json_there_and_back():
    model, x, y = network()
    result = quiet(model, x, y, Linf(0.05), certified=torch.zeros(50, dtype=torch.bool))
    again = Evaluation.from_json(result.to_json())
    assert again.x is None
    assert again.x_adv is None
    assert torch.equal(again.distance, result.distance)
    assert again.distance.isinf().any()
    assert again.to_json() == result.to_json()
    assert str(again) == str(result)
    assert torch.equal(again.robust, result.robust)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"threat": 1}'])
def test_json_that_is_no_result(text):
    with pytest.raises(ValueError, match=r"must be what to_json\(\) wrote"):
        Evaluation.from_json(text)


def test_the_bar_counts_rows(capsys):
    model, x, y = network()
    evaluate(model, x, y, Linf(0.05), generator=seeded(), budget="quick")
    shown = capsys.readouterr().err
    assert "50/50" in shown
    assert "robust accuracy" in shown


# -- its parts --------------------------------------------------------------------------------------------------


def test_ranked_by_margin_has_the_value_of_one_and_the_slope_of_the_other():
    logits, y = torch.randn(4, 3, generator=seeded(), dtype=torch.float64).requires_grad_(), torch.tensor([0, 1, 2, 0])
    ranked = ranked_by_margin(cross_entropy)(logits, y)
    assert torch.allclose(ranked, margin(logits, y))
    (slope,) = torch.autograd.grad(ranked.sum(), logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(cross_entropy(logits, y).sum(), logits)
    assert torch.equal(slope, wanted)


def block(model, x, y, threat, **options) -> Rows:
    options = {"certified": torch.zeros(len(x), dtype=torch.bool), "generator": seeded(), "batch_size": None, **options}
    return Rows(model, x, y, threat, tell=lambda rows: None, **options)


def test_the_nearest_rows_have_the_largest_margins():
    model, x, _ = problem(rows=20)
    rows = block(model, x, model(x).argmax(1), Linf(0.1, bounds=None))
    order = margin(model(x), model(x).argmax(1)).argsort(descending=True)
    assert rows.nearest(0.5).tolist() == order[:10].tolist()
    assert rows.nearest(0.01).tolist() == order[:1].tolist()  # one at least
    assert rows.nearest(0.5, of=11).tolist() == order[:6].tolist()
    rows.standing[order[0]] = False
    assert rows.nearest(0.1).tolist() == order[1:3].tolist()


def test_rows_that_left_are_not_attacked_and_worse_points_not_kept():
    model, x, _ = problem(rows=20)
    rows = block(model, x, model(x).argmax(1), Linf(1e-3, bounds=None))
    rows.standing[:5] = False
    rows.attack("some", torch.arange(20), ProjectedGradient(2), 2)
    assert rows.stages["some"].rows == 15
    best, reached = rows.best.clone(), rows.margin.clone()
    worse = SearchResult(x, reached < -1e9, reached - 1, reached, reached, reached)
    rows.take("some", torch.arange(20), worse)
    assert torch.equal(rows.best, best)
    assert torch.equal(rows.margin, reached)


# -- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"threat": None}, TypeError, r"threat must be a threat model such as advlib.Linf\(8/255\)"),
        ({"threat": 0.1}, TypeError, "threat must be a threat model"),
        ({"y": Linf(0.1), "threat": None}, TypeError, r"y must be labels, or left out .* write threat=Linf\("),
        ({"x": torch.zeros(40, 6).numpy()}, TypeError, r"x must be a tensor \(N, ...\), got ndarray"),
        ({"y": torch.zeros(40).numpy()}, TypeError, r"y must be a tensor of labels \(N,\), got ndarray"),
        ({"threat": Linf(torch.inf)}, ValueError, "needs a finite eps"),
        ({"budget": "huge"}, ValueError, "budget must be one of quick, standard, thorough, got 'huge'"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number of at least 1"),
        ({"y": None}, TypeError, "y must be the labels of x"),
        ({"x": 3, "y": None}, TypeError, "x must be a tensor or an iterable of batches, got int"),
        ({"x": [], "y": None}, ValueError, "there must be rows to evaluate, got none"),
        (
            {"x": torch.zeros(0, 6), "y": torch.zeros(0, dtype=torch.int64)},
            ValueError,
            "there must be rows to evaluate",
        ),
        ({"x": [torch.zeros(3, 6)], "y": None}, TypeError, "batches must be pairs of inputs and labels"),
        ({"x": [(torch.zeros(3, 6), torch.zeros(3, dtype=torch.int64))]}, ValueError, "brings its own labels"),
        ({"y": torch.full((40,), 7)}, ValueError, "y must hold classes from 0 to 2"),
        ({"y": torch.zeros(39, dtype=torch.int64)}, ValueError, "one label per row of x"),
        ({"y": torch.zeros(41, dtype=torch.int64)}, ValueError, r"y must have shape \(40,\), .* got \(41,\)"),
        ({"certified": torch.ones(40)}, TypeError, "certified must be a boolean tensor"),
        ({"certified": torch.zeros(39, dtype=torch.bool)}, ValueError, "certified must have one entry per row, got 39"),
        ({"certified": torch.zeros(41, dtype=torch.bool)}, ValueError, "certified must have one entry per row, got 41"),
        ({"certified": torch.ones(40, dtype=torch.bool)}, ValueError, "got 3 that it errs on unperturbed"),
        ({"model": nn.Linear(6, 1).double()}, ValueError, r"logits of shape \(N, C\) with C >= 2 classes"),
        ({"model": 3}, TypeError, "model must be a callable"),
        ({"x": torch.full((40, 6), torch.nan)}, ValueError, "x must be finite"),
        ({"threat": Linf(0.1)}, ValueError, "outside the bounds"),
    ],
)
def test_bad_input(change, error, message):
    model, x, y = problem()
    given = {"model": model, "x": x, "y": y, "threat": Linf(0.1, bounds=None), "progress": False, **change}
    with pytest.raises(error, match=message):
        evaluate(given.pop("model"), given.pop("x"), given.pop("y"), given.pop("threat"), **given)
