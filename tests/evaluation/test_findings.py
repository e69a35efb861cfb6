"""Each finding on a model made to cause it and nothing else, and its absence on an honest twin."""

from __future__ import annotations

import dataclasses
import sys
from itertools import cycle

import pytest
import torch
from torch import nn
from torch.autograd import grad as inner

from advlib import L2, Linf, evaluate
from advlib.evaluation import Finding, Stage, findings
from advlib.evaluation.findings import SAMPLE, diagnose, random_search, signs
from advlib.evaluation.rows import Rows
from advlib.losses import margin
from advlib.models import BPDA

pytestmark = pytest.mark.filterwarnings("ignore::advlib.GradientMaskingWarning")

THREAT = Linf(0.05)
WEIGHT = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def linear(x):
    return (x - 0.5) @ WEIGHT.T


def inputs(count=2 * SAMPLE):
    x = 0.1 + 0.8 * torch.rand(count, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x, linear(x).argmax(1)


def names(model, threat=THREAT, x=None, y=None):
    x, y = inputs() if x is None else (x, y)
    generator = torch.Generator().manual_seed(0)
    result = evaluate(model, x, y, threat, budget="quick", progress=False, generator=generator)
    return [finding.name for finding in result.findings]


def fresh(model, x, y, threat=THREAT, **options):
    """Rows that nothing has attacked yet."""
    certified = options.get("certified", torch.zeros(len(x), dtype=torch.bool))
    generator = torch.Generator().manual_seed(0)
    return Rows(model, x, y, threat, certified, generator, options.get("batch_size"), lambda rows: None)


def measured(rows):
    return {sign.finding.name: sign.value for sign in signs(rows)}


def scaled(by):
    """The linear model, with a gradient larger than the truth."""

    def model(x):
        logits = linear(x)
        return logits.detach() + by(x) * (logits - logits.detach())

    return model


def some(count, value, rest=1.0):
    """``value`` for that many of the rows that are looked at, known by their first feature."""
    x, _ = inputs()
    chosen = x[::2, 0].sort().values[count - 1]
    return lambda z: torch.where(nearest(x, z) <= chosen, value, rest)


def nearest(x, z):
    """The first feature of the clean row that each point belongs to."""
    return x[torch.cdist(z.detach(), x).argmin(1), :1]


def test_nothing_on_honest_models():
    assert names(linear) == []
    assert names(linear, L2(0.1)) == []
    assert names(linear, Linf(0.05, bounds=None)) == []


def test_verdicts_order_the_findings():
    result = evaluate(linear, *inputs(4), THREAT, budget="quick", progress=False)
    verdicts = {name: Finding("", name, "", "", "") for name in ("suspicious", "unreliable")}
    suspicious, unreliable = verdicts.values()
    assert result.verdict == "reliable"
    assert dataclasses.replace(result, findings=(suspicious,)).verdict == "suspicious"
    assert dataclasses.replace(result, findings=(suspicious, unreliable, suspicious)).verdict == "unreliable"


@pytest.mark.parametrize("stage", ["squares", "trip-wire"])
@pytest.mark.parametrize(("rows", "broken", "fires"), [(100, 3, False), (99, 3, True), (9, 2, False), (100, 4, True)])
def test_random_search_may_break_three_percent(stage, rows, broken, fires):
    quiet = Stage("other", 100, 0, 0, 0, 0.0)
    finding = random_search({"squares": quiet, "trip-wire": quiet, stage: Stage(stage, rows, broken, 0, 0, 0.0)})
    assert (finding is not None) == fires
    assert finding is None or (finding.verdict, finding.name) == ("unreliable", "random search")


def test_no_random_search_was_run():
    assert random_search({}) is None


def test_probabilities():
    assert names(lambda x: linear(x).softmax(1)) == ["softmax output"]
    assert names(lambda x: linear(x).log_softmax(1)) == []
    assert names(lambda x: linear(x).softmax(1) + 1e-3) == []
    assert names(lambda x: linear(x) - linear(x).mean(1, keepdim=True) + 1 / 3) == []  # sums of 1, but negative


def purified(call):
    def model(x):
        with torch.enable_grad():
            point = x.detach().clone().requires_grad_()
            call(point.square().sum(), point)
        return linear(x)

    return model


def test_autograd_in_forward_under_any_name():
    assert names(purified(lambda value, point: inner(value, point))) == ["autograd in forward"]
    assert names(purified(lambda value, point: value.backward())) == ["autograd in forward"]
    assert names(purified(lambda value, point: value + point)) == []


def test_the_profiler_of_the_user_stays():
    def mine(frame, event, argument):
        return None

    sys.setprofile(mine)
    try:
        signs(fresh(linear, *inputs()))
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(("size", "found"), [(6e-4, ["randomness"]), (4e-4, [])])
def test_randomness(size, found):
    """Two answers are apart by twice the size, in units of their range."""
    turn = cycle([size, -size])

    def model(x):
        logits = linear(x)
        span = (logits.amax(1, keepdim=True) - logits.amin(1, keepdim=True)).detach()
        return logits + next(turn) * span * torch.tensor([1.0, 0, 0])

    assert names(model) == found


@pytest.mark.parametrize(("rows", "found"), [(1, []), (2, ["vanishing gradients"])])
@pytest.mark.parametrize("slope", [0.0, torch.nan])
def test_vanishing_gradients(rows, found, slope):
    by = some(rows, 1.0, 0.0)

    def model(x):
        if not x.requires_grad:
            return linear(x)
        x.register_hook(lambda gradient: torch.where(by(x) > 0, slope, gradient))
        return linear(x)

    x, y = inputs()
    rows = fresh(model, x, y)
    assert [finding.name for finding in diagnose(rows) if finding.name == "vanishing gradients"] == found


def test_no_graph_at_all():
    found = names(lambda x: linear(x.detach()))
    assert "vanishing gradients" in found
    assert "wrong gradients" not in found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_cross_entropy_is_no_vanishing_gradient(dtype):
    x, y = inputs()
    lead = float(-margin(linear(x[::2]), y[::2]).median())
    for top, found in ((101.0, ["saturated cross-entropy"]), (99.0, [])):
        assert names(lambda z, top=top: linear(z.double()).mul(top / lead).to(dtype), x=x.to(dtype), y=y) == found


@pytest.mark.parametrize(("by", "fires"), [(3.5, False), (4.5, True), (0.3, False), (0.2, True), (-1.0, True)])
def test_wrong_gradients(by, fires):
    found = names(scaled(lambda x: by))
    assert ("wrong gradients" in found) == fires
    assert by < 0 or found == fires * ["wrong gradients"]  # the sign alone matters to the attacks


@pytest.mark.parametrize(("rows", "found"), [(6, []), (7, ["wrong gradients"])])
def test_wrong_gradients_on_a_fifth_of_the_rows(rows, found):
    assert names(scaled(some(rows, 5.0))) == found


def test_a_slope_that_bends_within_the_ball_is_not_wrong():
    """It promises far more than the wide step gains, but what a small step does is what it says."""
    x, y = inputs()

    def bent(z):
        change = linear(z) - linear(x)[torch.cdist(z.detach(), x).argmin(1)]
        return linear(z) - change + 0.01 * (change / 0.01).tanh() + 0.01 * change

    assert measured(fresh(bent, x, y))["wrong gradients"] == 0


def test_a_stand_in_gradient_is_not_wrong():
    model = nn.Sequential(BPDA(lambda x: (x * 40).round() / 40), nn.Identity())
    rows = fresh(lambda x: linear(model(x)), *inputs())
    assert measured(rows)["wrong gradients"] <= 0.2
    assert measured(rows)["vanishing gradients"] == 0


def test_steps_that_break_what_iterations_left():
    """On rows that nothing has attacked, one step breaks as many as the closed form says."""
    x, y = inputs()
    far = (-margin(linear(x), y))[::2]
    rows = fresh(linear, x, y, Linf(0.05))
    broken = measured(rows)["weak iterations"]
    slope = WEIGHT[None] - WEIGHT[y][:, None]
    apart = (linear(x).gather(1, y[:, None]) - linear(x)) / slope.abs().sum(2).clamp_min(1e-9)
    nearest_first = apart.scatter(1, y[:, None], torch.inf).amin(1)
    assert 10 <= broken <= int((nearest_first < 0.05)[::2].sum())  # noise breaks 5
    assert len(far) == SAMPLE
    assert "weak iterations" in [finding.name for finding in diagnose(fresh(linear, x, y))]


@pytest.mark.parametrize(("breaks", "fires"), [(1, False), (2, True)])
def test_one_row_more_may_be_chance(breaks, fires):
    x, y = torch.full((20, 1), 0.2), torch.zeros(20, dtype=torch.int64)
    x[:breaks] = 0.475  # within reach of the boundary at 0.5
    found = diagnose(fresh(lambda z: torch.cat([0.5 - z, z - 0.5], 1), x, y, THREAT))
    assert ("weak iterations" in [finding.name for finding in found]) == fires


def hollow(x):
    """Class 1 is a narrow hole at 0.82; gradients elsewhere lead down to 0.3, or up to the hole's mouth."""
    lead = 0.1 + (x - 0.3).abs()
    return torch.cat([torch.where((x - 0.82).abs() < 0.02, -lead, lead), 0 * lead], 1)


def row(rows_at, count):
    x = torch.cat([torch.linspace(*rows_at, count), torch.tensor([0.82])])[:, None]
    return x, torch.tensor([0] * count + [1])


def test_gradients_that_lead_nowhere_in_a_huge_ball():
    x, y = row((0.2, 0.25), 20)
    assert names(hollow, Linf(0.01), x, y) == ["accuracy at a huge eps"]
    assert names(hollow, L2(0.01), x, y) == ["accuracy at a huge eps"]
    slope = names(lambda z: torch.cat([0.6 - z, z - 0.6], 1), Linf(0.01), x, y)
    assert slope == []


@pytest.mark.parametrize(("rows", "fires"), [(3, False), (4, True)])
def test_a_tenth_may_stand_in_a_huge_ball(rows, fires):
    """The second feature says which rows are in front of the hollow; the others walk down a slope."""

    def model(z):
        slope = 0.6 - z[:, :1]
        return torch.where(z[:, 1:] > 0.5, hollow(z[:, :1]), torch.cat([slope, 0 * slope], 1))

    x = torch.tensor(rows * [[0.2, 1.0]] + (32 - rows) * [[0.55, 0.0]] + [[0.9, 0.0]])
    y = torch.tensor(32 * [0] + [1])
    value = measured(fresh(model, x, y, Linf(0.001), certified=y == 1))["accuracy at a huge eps"]
    assert value == rows / 32
    assert "accuracy at a huge eps" not in measured(fresh(model, x[:-1], y[:-1]))  # no other class is known
    found = diagnose(fresh(model, x, y, Linf(0.001), certified=y == 1))
    assert ("accuracy at a huge eps" in [finding.name for finding in found]) == fires


def test_what_the_mask_forbids_is_no_way_out():
    x, y = inputs()
    mask = torch.tensor([True] + 5 * [False])
    assert "accuracy at a huge eps" not in measured(fresh(linear, x, y, Linf(0.05, mask=mask)))
    assert names(linear, Linf(0.05, mask=mask)) == []


def rippled(frequency):
    waves = frequency * (1 + torch.rand(30, generator=torch.Generator().manual_seed(3), dtype=torch.float64))

    def model(x):
        lead = 90 - 100 * x[:, :1] - 0.2 * torch.sin(waves * x[:, 1:]).sum(1, keepdim=True)
        return torch.cat([lead, 0 * lead], 1)

    x = torch.rand(20, 31, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x[:, 0] = torch.tensor([0.2] * 19 + [1.0])
    return model, x


@pytest.mark.parametrize(("frequency", "found"), [(1000.0, ["unconverged"]), (1.0, [])])
def test_unconverged(frequency, found):
    model, x = rippled(frequency)
    mask = torch.ones(31, dtype=torch.bool)
    mask[0] = False
    y = model(x).argmax(1)
    assert names(model, Linf(0.02, mask=mask), x, y) == found


def test_rows_from_all_over_the_block():
    """Half of the rows, those at the end, have no gradient."""
    x, y = inputs(200)

    def model(z):
        known = torch.cdist(z.detach(), x).argmin(1, keepdim=True) < 100
        return torch.where(known, linear(z), linear(z.detach()))

    assert measured(fresh(model, x, y))["vanishing gradients"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("rows", [7, 8])
def test_means_over_a_few_rows_say_nothing(rows):
    x, y = inputs(rows)
    assert ("unconverged" in measured(fresh(linear, x, y, Linf(0.001)))) == (rows == 8)


def test_features_without_bounds_move_ten_times_as_far_as_they_do():
    x, y = inputs()
    apart = x.amax(0, keepdim=True) - x.amin(0, keepdim=True)
    assert torch.equal(findings._width(fresh(linear, x, y, Linf(0.05, bounds=None))), 10 * apart)
    bounded = findings._width(fresh(linear, x, y, Linf(0.05, bounds=(0.0, 2.0))))
    assert torch.equal(bounded, torch.full_like(bounded, 2.0))


def test_certified_rows_and_errors_are_not_looked_at():
    x, y = inputs()
    y[::2] = (y[::2] + 1) % 3
    assert signs(fresh(linear, x, y, certified=linear(x).argmax(1) == y)) == []
    assert names(linear, x=x[::2], y=y[::2]) == []


def test_no_more_rows_at_once_than_the_user_allows():
    sizes = []

    def model(x):
        sizes.append(len(x))
        return linear(x)

    rows = fresh(model, *inputs(), batch_size=5)
    signs(rows)
    assert max(sizes) == 5
    assert rows.stages["findings"].backward_samples > 0
