"""A threat bound to a batch says what the unbound one says, and its rows what those rows say."""

import dataclasses
import math
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threat_problems import ALL, DTYPES, make, noise, problems

from advlib.kernels.looks import recording
from advlib.threats import L0, L1, L2, Linf
from advlib.threats.base import choose

METHODS = {  # every method of a threat, of the threat and a problem's tensors
    "project": lambda threat, x, x_adv, grad, noise: threat.project(x_adv, x),
    "steepest": lambda threat, x, x_adv, grad, noise: threat.steepest(grad),
    "steepest from a point": lambda threat, x, x_adv, grad, noise: threat.steepest(grad, threat.project(x_adv, x)),
    "maximize": lambda threat, x, x_adv, grad, noise: threat.maximize(grad, x),
    "sample": lambda threat, x, x_adv, grad, noise: threat.sample(x, noise),
    "distance": lambda threat, x, x_adv, grad, noise: threat.distance(x_adv, x),
    "contains": lambda threat, x, x_adv, grad, noise: threat.contains(threat.project(x_adv, x), x),
    "contains another point": lambda threat, x, x_adv, grad, noise: threat.contains(x_adv, x),
    "scale": lambda threat, x, x_adv, grad, noise: threat.scale(x),
    "radius": lambda threat, x, x_adv, grad, noise: threat.radius(x).expand_as(x),
    "low": lambda threat, x, x_adv, grad, noise: threat.box(x)[0].expand_as(x),
    "high": lambda threat, x, x_adv, grad, noise: threat.box(x)[1].expand_as(x),
    "limits": lambda threat, x, x_adv, grad, noise: torch.stack([b.expand_as(x) for b in threat.limits(x)], 1),
}


def outcome(method, *arguments):
    """The result, or the message where there is none."""
    try:
        return METHODS[method](*arguments)
    except ValueError as error:
        return str(error).partition(", got")[0]


def same(a, b):
    return a == b if isinstance(a, str) else not isinstance(b, str) and a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("method", METHODS)
@given(problem=problems())
def test_bound_and_unbound_agree(method, problem):
    arguments = problem.x, problem.x_adv, problem.grad, noise(len(problem.x))
    expected = outcome(method, problem.threat, *arguments)
    for threat in (problem.threat.at(problem.x), problem.threat.aligned(problem.x)):
        assert same(outcome(method, threat, *arguments), expected)
        assert same(outcome(method, threat.at(problem.x), *arguments), expected)  # binding twice changes nothing


@pytest.mark.parametrize("method", METHODS)
@given(problem=problems(finite=True), data=st.data())
def test_rows_are_those_rows(method, problem, data):
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(problem.x) - 1), max_size=5)), dtype=torch.int64)
    arguments = problem.x, problem.x_adv, problem.grad
    whole = outcome(method, problem.threat, *arguments, noise(len(problem.x)))
    if isinstance(whole, str):
        return
    few = [part[index] for part in arguments]
    drawn = noise(len(problem.x))._replace(row=index)
    for threat in (problem.threat.at(problem.x), problem.threat.aligned(problem.x)):
        assert same(outcome(method, threat.rows(index), *few, drawn), whole[index])
        # binding the rows of the threat is taking the rows of the bound one
        assert same(outcome(method, threat.rows(index).at(few[0]), *few, drawn), whole[index])


@pytest.mark.parametrize("norm", ALL)
def test_a_bound_threat_keeps_its_kind_and_settings(norm):
    x = torch.rand(3, 2, 4)
    threat = make(norm, torch.tensor([0.0, 1.0, 2.0]))
    if norm.startswith(("L1", "L0")):
        threat = dataclasses.replace(threat, sparsity=0.5)
    for other in (threat.at(x), threat.at(x).rows(torch.tensor([2, 0])), threat.aligned(x)):
        assert type(other) is type(threat)
        for name in ("sparsity", "per_pixel"):
            assert getattr(other, name, None) == getattr(threat, name, None)
    assert threat.at(x).rows(torch.tensor([2, 0])).eps.tolist() == [2.0, 0.0]


@pytest.mark.parametrize("norm", ALL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_rounded_once(norm, dtype):
    """0.1 in float64 is 0.1, not what float32 makes of it; tensors of another dtype are taken over."""
    x = torch.full((1, 2, 2), 0.5, dtype=dtype)
    expected = torch.tensor(0.1, dtype=dtype).item()
    threat = make(norm, 0.1, (0.1, torch.tensor(0.9, dtype=torch.float64)))
    for bound in (threat, threat.at(x)):
        low, high = bound.limits(x)
        assert (low.item(), high.item()) == (expected, torch.tensor(0.9, dtype=dtype).item())
        assert bound.radius(x).item() == expected
    threat.check(torch.full((1, 2, 2), 0.1, dtype=dtype))
    assert make(norm, 10.0, (0.1, 0.9)).project(x - 5, x).min().item() == pytest.approx(expected, abs=0)


def test_bounds_of_integers_and_of_one_tensor():
    x = torch.full((2, 3), 0.5)
    for bounds in ((0, 1), (torch.tensor(0), torch.tensor([1, 1, 1])), [0.0, 1.0]):
        assert torch.equal(L2(9.0, bounds).project(x + 7, x), torch.ones(2, 3))


def test_bounds_per_feature_and_per_row_by_hand():
    x = torch.zeros(2, 1, 2)
    features = Linf(9.0, (torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0])))
    assert features.project(x + 5, x).tolist() == [[[1.0, 2.0]], [[1.0, 2.0]]]
    assert features.project(x - 5, x).tolist() == [[[-1.0, -2.0]], [[-1.0, -2.0]]]
    rows = Linf(9.0, (-3.0, torch.tensor([[[1.0]], [[2.0]]])))
    assert rows.project(x + 5, x).tolist() == [[[1.0, 1.0]], [[2.0, 2.0]]]


def test_mask_per_feature_and_per_row_by_hand():
    x = torch.zeros(2, 1, 2)
    assert Linf(1.0, mask=torch.tensor([True, False])).project(x + 5, x).tolist() == [[[1.0, 0.0]], [[1.0, 0.0]]]
    rows = torch.tensor([[[True]], [[False]]])
    assert Linf(1.0, mask=rows).project(x + 5, x).tolist() == [[[1.0, 1.0]], [[0.0, 0.0]]]


def test_scale_is_eps_in_most_norms():
    x = torch.zeros(2, 3)
    for norm in (Linf, L2, L1):
        assert norm(0.25).scale(x).tolist() == [0.25, 0.25]
        assert norm(torch.tensor([0.25, 0.5])).scale(x).tolist() == [0.25, 0.5]


def test_scale_of_l0_is_four_widths_of_what_may_move():
    x = torch.zeros(2, 3)
    bounds = (torch.tensor([0.0, -1.0, -4.0]), torch.tensor([0.5, 1.0, 4.0]))
    assert L0(2, bounds).scale(x).tolist() == [32.0, 32.0]
    assert L0(2, bounds, torch.tensor([True, True, False])).scale(x).tolist() == [8.0, 8.0]


@pytest.mark.parametrize("norm", [Linf, L2, L1])
def test_scale_needs_a_finite_eps(norm):
    with pytest.raises(ValueError, match=r"step_size=None needs a finite eps, got .*inf.*: give step_size a number"):
        norm(math.inf).scale(torch.zeros(1, 2))


WRONG = [
    ({"bounds": (torch.zeros(4), 1.0)}, r"bounds must broadcast against x of shape \(2, 3\), got shape \(1, 4\)"),
    ({"bounds": (0.0, torch.ones(3, 3))}, r"bounds must broadcast against x of shape \(2, 3\), got shape \(3, 3\)"),
    ({"bounds": (torch.zeros(1, 1, 3), 1.0)}, r"bounds must broadcast .* got shape \(1, 1, 3\): give one value per"),
    ({"mask": torch.ones(2, dtype=torch.bool)}, r"mask must broadcast against x of shape \(2, 3\), got shape \(1, 2\)"),
    ({"mask": torch.ones(4, 3, dtype=torch.bool)}, r"mask must broadcast .* got shape \(4, 3\)"),
    ({"eps": torch.ones(3)}, "eps must hold one radius per row of x, got 3 for 2 rows"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
@pytest.mark.parametrize("norm", [Linf, L2, L1, L0])
def test_tensors_of_wrong_shapes(norm, settings, message):
    x, threat = torch.zeros(2, 3), norm(**{"eps": 1.0, **settings})
    for call in (threat.at, threat.aligned, threat.limits if "eps" not in settings else threat.at):
        with pytest.raises(ValueError, match=message):
            call(x)


INVALID = [
    ({"eps": -0.1}, ValueError, "eps must be a number >= 0 or one per row, got -0.1: give the radius"),
    ({"eps": math.nan}, ValueError, "eps must be a number >= 0 or one per row, got nan"),
    ({"eps": torch.tensor([0.1, -1.0])}, ValueError, "eps must be a number >= 0 or one per row"),
    ({"eps": torch.tensor([0.1, math.nan])}, ValueError, "eps must be a number >= 0 or one per row"),
    ({"eps": torch.ones(2, 1)}, ValueError, "eps must be a number >= 0 or one per row"),
    ({"eps": True}, TypeError, r"eps must be a number or a tensor of shape \(N,\), got True"),
    ({"eps": torch.tensor(True)}, TypeError, r"eps must be a number or a tensor of shape \(N,\), got tensor\(True\)"),
    ({"eps": "8/255"}, TypeError, r"eps must be a number or a tensor of shape \(N,\), got '8/255'"),
    ({"eps": None}, TypeError, "eps must be a number or a tensor"),
    ({"eps": [0.1, 0.2]}, TypeError, "eps must be a number or a tensor"),
    ({"bounds": (1.0, 0.0)}, ValueError, r"bounds must be in order, low <= high, got \(1.0, 0.0\): swap them"),
    ({"bounds": (0.0, torch.tensor([1.0, -1.0]))}, ValueError, "bounds must be in order"),
    ({"bounds": (0.0, math.nan)}, ValueError, "bounds must be in order"),
    ({"bounds": (0.0,)}, TypeError, r"bounds must be a pair \(low, high\) or None, got \(0.0,\)"),
    ({"bounds": 1.0}, TypeError, r"bounds must be a pair \(low, high\) or None, got 1.0"),
    ({"bounds": torch.tensor([0.0, 1.0])}, TypeError, "bounds must be a pair"),
    ({"mask": torch.tensor([0.0, 1.0])}, TypeError, "mask must be a boolean tensor, True where a feature may change"),
    ({"mask": [True, False]}, TypeError, "mask must be a boolean tensor"),
]


@pytest.mark.parametrize(("settings", "error", "message"), INVALID)
@pytest.mark.parametrize("norm", [Linf, L2, L1, L0])
def test_what_is_refused(norm, settings, error, message):
    with pytest.raises(error, match=message):
        norm(**{"eps": 1.0, **settings})


@pytest.mark.parametrize("norm", [Linf, L2, L1, L0])
@pytest.mark.parametrize("eps", [0, 0.0, 3, math.inf, torch.tensor(1), torch.tensor([0.0, math.inf])])
def test_what_is_accepted(norm, eps):
    assert norm(eps).at(torch.zeros(2, 3)).eps is not None


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Linf(0.1).eps = 0.2


def test_clean_inputs_outside_the_bounds():
    x = torch.tensor([[-2.1, 0.0], [2.6, 1.0]])
    message = (
        r"x has values in \[-2.1, 2.6\], outside the bounds \(0, 1\): put normalisation inside the model with "
        "advlib.models.Normalize"
    )
    for norm in (Linf, L2, L1, L0):
        with pytest.raises(ValueError, match=message):
            norm(1.0).check(x)
        norm(1.0, bounds=None).check(x)
        norm(1.0, bounds=(-3.0, 3.0)).check(x)


def test_check_looks_at_each_feature_and_row():
    x = torch.tensor([[0.5, 1.5], [0.5, 0.5]])
    Linf(1.0, (0.0, torch.tensor([1.0, 2.0]))).check(x)
    Linf(1.0, (0.0, torch.tensor([[2.0], [1.0]]))).check(x)
    with pytest.raises(ValueError, match=r"outside the bounds \(0, 2\)"):
        Linf(1.0, (0.0, torch.tensor([2.0, 1.0]))).check(x)
    with pytest.raises(ValueError, match=r"outside the bounds \(0, 2\)"):
        Linf(1.0, (0.0, torch.tensor([[1.0], [2.0]]))).check(x)
    Linf(1.0).check(torch.zeros(0, 3))


def test_check_refuses_nan():
    with pytest.raises(ValueError, match="outside the bounds"):
        Linf(1.0).check(torch.tensor([[0.5, math.nan]]))


@pytest.mark.parametrize("norm", ALL)
def test_project_and_steepest_trace_as_one_graph(norm, monkeypatch):
    monkeypatch.setattr("advlib.threats.roots._STEPS", 3)  # the other 45 look the same, and take seconds to trace
    rng = torch.Generator().manual_seed(0)
    x, x_adv = (torch.rand(3, 2, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    bound = make(norm, torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)).at(x)

    def step(x_adv):
        return bound.project(x_adv + bound.steepest(x_adv - 0.5, x_adv), x)

    compiled = torch.compile(step, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x_adv), step(x_adv), rtol=0, atol=1e-14)


@pytest.mark.parametrize("norm", ALL)
def test_steps_look_at_no_value_while_they_are_recorded(norm, monkeypatch):
    x, x_adv = torch.zeros(2, 2, 4), torch.tensor([0.5, 0.25, 0.5, 0.0] * 4).reshape(2, 2, 4)  # ties, for L0
    bound = make(norm, torch.tensor([1.0, 2.0])).at(x)

    def step():
        return bound.project(x_adv + bound.steepest(x_adv - 0.5, x_adv), x)

    expected = step()
    with monkeypatch.context() as patches, recording():
        patches.setattr(torch.Tensor, "item", None)
        patches.setattr(torch.Tensor, "__bool__", None)
        found = step()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_take_the_precision_of_the_inputs(dtype):
    """A tenth in float64 is not the float32 tenth, which is 1.5e-9 larger."""
    x = torch.full((1, 2), 0.5, dtype=dtype)
    assert float(Linf(0.1).radius(x)) == float(torch.tensor(0.1, dtype=dtype))
    low, high = Linf(1.0, bounds=(0.1, 0.7)).limits(x)
    assert (float(low), float(high)) == (float(torch.tensor(0.1, dtype=dtype)), float(torch.tensor(0.7, dtype=dtype)))


@pytest.mark.parametrize("shape", [(12,), (12, 3), (12, 1, 2, 2)])
@pytest.mark.parametrize("share", [0, 1, 2, 3, 6, 11, 12])
@pytest.mark.parametrize("special", [0.5, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("looks", [True, False])
def test_choose_is_where_row_by_row(shape, share, special, looks, monkeypatch):
    yes, no = torch.rand(shape), torch.rand(shape)
    yes[0], no[1], yes[10], no[11] = special, special, special, special
    condition = torch.arange(12) < share
    expected = [(yes if taken else no)[row] for row, taken in enumerate(condition.tolist())]
    if not looks:
        monkeypatch.setattr(torch.Tensor, "item", None)
    with nullcontext() if looks else recording():
        chosen = choose(condition, yes, no)
    torch.testing.assert_close(chosen, torch.stack(expected), rtol=0, atol=0, equal_nan=True)
