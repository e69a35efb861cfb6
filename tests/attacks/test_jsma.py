"""The saliency map attack: the exact pair, its cost, its budget, its directions."""

import pytest
import torch
from torch import nn

from advlib import L0, jsma
from advlib.attacks.jsma import SaliencyMap
from advlib.kernels import pairs
from advlib.kernels.pairs import best_pair
from advlib.models import Counted
from advlib.noise import Key, Noise
from advlib.search import Feedback, Task, Trace


def brute_force(a, b, allowed):
    """The largest product over all allowed pairs with two positive sums, from the whole table; 0 if there is none."""
    a, b = a.double(), b.double()
    a_sum, b_sum = a[:, None] + a, b[:, None] + b
    good = (a_sum > 0) & (b_sum > 0) & allowed[:, None] & allowed & ~torch.eye(len(a), dtype=torch.bool)
    return torch.where(good, a_sum * b_sum, 0.0).max().item()


FIELDS = {
    "independent": lambda u, v: (u, v),
    "correlated": lambda u, v: (u, u + 0.1 * v),
    "two classes": lambda u, v: (u, u),
    "anti-correlated": lambda u, v: (u, -u),
    "nearly anti-correlated": lambda u, v: (u, -u + 0.01 * v),
    "anti-correlated with an offset": lambda u, v: (u, 1 - u),
    "opposed on a curve": lambda u, v: (u.exp(), (-u).exp()),
    "ties": lambda u, v: (u.round(), v.round()),
    "all equal": lambda u, v: (torch.ones_like(u), torch.ones_like(u)),
    "none helps": lambda u, v: (-u.abs(), -v.abs()),
    "zero": lambda u, v: (0 * u, 0 * v),
    "tiny": lambda u, v: (1e-30 * u, 1e-25 * v),
    "huge": lambda u, v: (1e30 * u, 1e25 * v),
    "badly scaled": lambda u, v: (u * 10 ** (3 * v), v * 10 ** (3 * u)),
    "two peaks": lambda u, v: (u + 9 * (torch.arange(len(u)) == 0), v + 9 * (torch.arange(len(u)) == 1)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("field", FIELDS)
def test_the_pair_is_the_best_pair(field, dtype):
    """Over all fields, sizes and dtypes: 420 random gradient fields, in batches."""
    generator = torch.Generator().manual_seed(len(field))
    for size, rows in ((2, 3), (3, 3), (8, 3), (9, 3), (60, 1), (300, 1)):
        u, v = torch.randn(2, rows, size, generator=generator, dtype=torch.float64)
        a, b = (
            torch.stack(part).to(dtype)
            for part in zip(*(FIELDS[field](p, q) for p, q in zip(u, v, strict=True)), strict=True)
        )
        allowed = torch.rand(rows, size, generator=generator) > 0.2
        pair = best_pair(a.masked_fill(~allowed, -torch.inf), b)
        for i in range(rows):
            best = brute_force(a[i], b[i], allowed[i])
            assert (pair.score[i] > 0) == (best > 0)
            if best > 0:
                p, q = pair.first[i], pair.second[i]
                assert p != q
                assert allowed[i, p]
                assert allowed[i, q]
                a64, b64 = a[i].double(), b[i].double()
                score = (a64[p] + a64[q]) * (b64[p] + b64[q])
                assert score.item() == pytest.approx(best, rel=2e-5 if dtype == torch.float32 else 1e-11)


def test_a_feature_that_only_its_partner_exceeds_is_found():
    """The best pair is (1, 1) and (0.9, 0.9); the short list holds twelve others that help nobody."""
    a = torch.cat([torch.arange(100.0, 88.0, -1.0), torch.tensor([1.0, 0.9]), torch.zeros(6)]).unsqueeze(0)
    b = torch.cat([torch.full((12,), -80.0), torch.tensor([1.0, 0.9]), torch.full((6,), -1.0)]).unsqueeze(0)
    pair = best_pair(a, b)
    assert sorted([pair.first.item(), pair.second.item()]) == [12, 13]


def test_a_feature_is_no_pair_with_itself():
    """All features are on the front; the one in the middle, twice, would be best."""
    a = torch.linspace(-1, 2, 101).unsqueeze(0)
    b = 1 - a
    b[0, 50] = 0.9
    pair = best_pair(a, b)
    assert pair.first != pair.second
    assert pair.score.item() * a.max().item() * b.max().item() == pytest.approx(
        brute_force(a[0], b[0], a[0] > -9), rel=1e-5
    )


def test_rows_of_one_call_may_take_different_ways():
    """A row settled by the short list, one by the front, one by blocks: together as each alone."""
    u, v = torch.randn(2, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fields = [
        FIELDS[name](u, v) for name in ("two classes", "two peaks", "anti-correlated with an offset", "none helps")
    ]
    a, b = torch.stack([f[0] for f in fields]), torch.stack([f[1] for f in fields])
    together = best_pair(a, b)
    for i in range(len(fields)):
        alone = best_pair(a[i : i + 1], b[i : i + 1])
        assert [part[i].item() for part in together] == [part.item() for part in alone]


def test_the_search_compares_blocks_in_bounded_memory(monkeypatch):
    """Perfectly opposed gradients put every feature on the front; no table of D x D is made."""
    largest = []
    where = torch.where

    def watched(*args):
        result = where(*args)
        largest.append(result.numel())
        return result

    monkeypatch.setattr(pairs.torch, "where", watched)
    u = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    pair = best_pair(u, 1 - u)
    assert pair.score > 0
    assert max(largest) <= 2**20 + 20_000


def test_too_few_features():
    for size in (0, 1):
        pair = best_pair(torch.ones(2, size), torch.ones(2, size))
        assert pair.score.tolist() == [0, 0]


class Quadratic(nn.Module):
    """Three classes with gradients that change as features move."""

    def __init__(self, features: int = 6) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.linear = torch.randn(features, 3, generator=generator, dtype=torch.float64)
        self.square = torch.randn(features, 3, generator=generator, dtype=torch.float64)

    def forward(self, x):
        x = x.flatten(1)
        return x @ self.linear + x**2 @ self.square


def step_by_hand(model, x, x_adv, wanted, y, theta, budget, high, low):
    """One step of algorithm 3 for one row, in a double loop; the new point, or None."""
    jacobian = torch.autograd.functional.jacobian(lambda z: model(z[None])[0], x_adv)
    aim = y if wanted is None else wanted
    alpha, beta = jacobian[aim], jacobian.sum(0) - jacobian[aim]
    if wanted is None:
        alpha, beta = -alpha, -beta
    changed = x_adv != x
    best, chosen = 0.0, None
    for p in range(len(x)):
        for q in range(p + 1, len(x)):
            room = all((high - x_adv[i] if theta > 0 else x_adv[i] - low) > 0.05 for i in (p, q))
            allowed = changed.sum() + 2 <= budget or (changed[p] and changed[q])
            a, b = alpha[p] + alpha[q], beta[p] + beta[q]
            helps = a > 0 > b if theta > 0 else a < 0 < b
            if room and allowed and helps and -a * b > best:
                best, chosen = -a * b, (p, q)
    if chosen is None:
        return None
    x_adv = x_adv.clone()
    for i in chosen:
        x_adv[i] = (x_adv[i] + theta).clamp(low, high)
    return x_adv


@pytest.mark.parametrize("theta", [1.0, 0.3, -0.4])
@pytest.mark.parametrize("targeted", [False, True])
def test_algorithm_3_by_hand(theta, targeted):
    model = Quadratic()
    x = torch.rand(30, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[:5, 0], x[5:10, 1] = 1.0, 0.0  # saturated from the start
    y = model(x).argmax(1)
    wanted = (y + 1) % 3
    x_adv = jsma(model, x, wanted if targeted else y, L0(4), theta=theta, targeted=targeted)
    success = failures = 0
    for i in range(30):
        point = x[i]
        while True:
            label = model(point[None]).argmax(1)[0]
            if label == wanted[i] if targeted else label != y[i]:
                success += 1
                assert torch.allclose(x_adv[i], point)
                break
            following = step_by_hand(model, x[i], point, wanted[i] if targeted else None, y[i], theta, 4, 1.0, 0.0)
            if following is None:
                failures += 1
                reached = model(x_adv[i][None]).argmax(1)[0]
                assert reached == y[i] if not targeted else reached != wanted[i]
                break
            point = following
    assert success > 2
    assert failures > 2


def test_two_backward_passes_a_step_whatever_the_classes():
    for classes in (3, 50):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.Tanh(), nn.Linear(20, classes))
        x = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        y = model(x).argmax(1)
        counted, traces = Counted(model), []
        jsma(counted, x, y, L0(10), trace=traces.append)
        running = [len(t.row) for t in traces]
        assert counted.forwards == sum(running)
        assert counted.backwards == 2 * sum(t_rows for t_rows, t in zip(running, traces, strict=True) if t.step < 5)


def test_rows_leave_the_batch_when_they_are_done():
    model = Quadratic()
    x = torch.rand(40, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    traces: list[Trace] = []
    jsma(model, x, model(x).argmax(1), L0(6), trace=traces.append)
    running = [len(t.row) for t in traces]
    assert running == sorted(running, reverse=True)
    assert running[1] < 40


@pytest.mark.parametrize("theta", [1.0, 0.25, -0.25])
@pytest.mark.parametrize("budget", [0, 1, 2, 5, 6, 1000, float("inf")])
def test_budget(theta, budget):
    model = Quadratic()
    x = torch.rand(20, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x_adv = jsma(model, x, model(x).argmax(1), L0(budget), theta=theta, keep="strongest")
    changed = (x_adv != x).sum(1)
    assert changed.max() <= budget
    assert budget < 2 or changed.max() >= 2
    assert ((x_adv - x) * theta >= 0).all()


def test_small_theta_goes_on_within_the_budget():
    """A spent budget still lets the features that changed move on, to the end of their bounds."""
    weight = torch.tensor([[1.0, 0.9, 0.1, 0.1], [-1.0, -0.9, -0.1, -0.1]], dtype=torch.float64)
    model = lambda z: z @ weight.T  # noqa: E731
    x = torch.full((1, 4), 0.05, dtype=torch.float64)
    x_adv = jsma(model, x, torch.tensor([1]), L0(2), theta=0.2, keep="strongest")
    assert x_adv[0].tolist() == pytest.approx([1.0, 1.0, 0.05, 0.05])


def test_a_row_without_a_pair_stays_where_it_is_and_is_done():
    rule, x = SaliencyMap(1.0, lambda output: output), torch.full((2, 4), 0.5, dtype=torch.float64)
    task = Task(x, torch.tensor([0, 0]), None, L0(4).at(x), torch.arange(2))
    gradient = torch.tensor([[0.0, 0, 0, 0], [1, 2, 3, 4]], dtype=torch.float64)
    state = rule.start(task, x, Noise(Key(), task.row))
    feedback = Feedback(x, task, (x[:, 0], x[:, 0]), (gradient, gradient), x)
    state = rule.update(state, feedback, task, Noise(Key(), task.row))
    assert state.query.tolist() == [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]
    assert rule.finished(state).tolist() == [True, False]


def test_nearly_saturated_features_are_not_worth_the_budget():
    weight = torch.tensor([[9.0, 8.0, 2.0, 1.0], [-9.0, -8.0, -2.0, -1.0]], dtype=torch.float64)
    x = torch.tensor([[0.99, 0.97, 0.5, 0.5]], dtype=torch.float64)
    x_adv = jsma(lambda z: z @ weight.T, x, torch.tensor([1]), L0(2), keep="strongest")
    assert x_adv[0].tolist() == [0.99, 0.97, 1.0, 1.0]


def test_per_pixel_budget_and_mask():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(27, 4)).double()
    x = torch.rand(10, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = model(x).argmax(1)
    x_adv = jsma(model, x, y, L0(4, per_pixel=True), keep="strongest")
    pixels = (x_adv != x).any(1).flatten(1).sum(1)
    assert pixels.max() <= 4
    assert (x_adv != x).flatten(1).sum(1).max() > 4
    mask = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(1)) < 0.5
    x_adv = jsma(model, x, y, L0(8, mask=mask), keep="strongest")
    assert ((x_adv == x) | mask).all()


def test_imagenet_sized():
    """3 x 224 x 224 features and 1,000 classes: what JSMA holds is a few tensors of that size, not D x D or C x D."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * 28 * 28, 1000))
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    with torch.profiler.profile(profile_memory=True) as profile:
        x_adv = jsma(model, x, y, L0(8), keep="strongest")
    held, peak = 0, 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert peak < 2**30 / 4
    assert ((x_adv != x).flatten(1).sum(1) <= 8).all()


def test_the_jacobian_is_that_of_the_logits_not_of_what_else_a_model_returns():
    model = Quadratic()
    x = torch.rand(10, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = model(x).argmax(1)
    expected = jsma(model, x, y, L0(4))
    assert torch.equal(jsma(lambda z: {"out": model(z)}, x, y, L0(4), logits_of=lambda r: r["out"]), expected)
