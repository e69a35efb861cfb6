"""The code on the documentation's pages runs, and does what the text says."""

import copy
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from advlib import L1, L2, Linf, pgd, uniform_noise
from advlib.attacks.apgd import AutoPGD
from advlib.attacks.bim import BasicIterative
from advlib.attacks.carlini_wagner import CarliniWagner
from advlib.attacks.fab import FastAdaptiveBoundary
from advlib.attacks.mim import MomentumIterative
from advlib.attacks.pgd import ProjectedGradient
from advlib.attacks.square import SquareSearch
from advlib.data import digits
from advlib.noise import Noise
from advlib.search import Evaluator, search
from advlib.zoo import one_thread, small_cnn, train

DOCS = Path(__file__).parent.parent / "docs"


def run_page(name, **names):
    """Runs a page's Python blocks one after the other, and returns the names they leave."""
    page = (DOCS / name).read_text()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in re.finditer(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
            line = page[: block.start()].count("\n") + 1
            exec(compile("\n" * line + block[1], name, "exec"), names)
    return names


@pytest.fixture(scope="module")
def victim():
    data = digits()
    model = train(small_cnn(size=8), data.x_train, data.y_train, epochs=10)
    return {"model": model, "x": data.x_test[:40], "y": data.y_test[:40]}


def test_the_landing_page_shows_that_an_attack_beats_noise(capsys):
    run_page("index.md")
    noise, attack = (float(share) for share in re.findall(r"([\d.]+)%", capsys.readouterr().out))
    assert attack < noise - 30


@pytest.fixture(scope="module")
def concepts(victim):
    return run_page("concepts.md", **victim)


def robust_accuracy(victim, x_adv):
    return (victim["model"](x_adv).argmax(1) == victim["y"]).float().mean().item()


def test_the_rule_in_ten_lines_is_as_strong_as_pgd(victim, concepts):
    x_adv = pgd(**victim, threat=Linf(0.1), steps=20, generator=torch.Generator().manual_seed(0))
    strength = 1 - concepts["result"].success.float().mean().item()
    assert strength <= robust_accuracy(victim, x_adv) + 0.1


def test_the_adaptive_loss_finds_errors_that_raise_no_alarm(victim, concepts):
    model, x, y = victim.values()
    threat, settings = Linf(0.2), {"steps": 20, "generator": torch.Generator().manual_seed(0)}

    def undetected(x_adv):
        logits, alarm = concepts["with_detector"](x_adv)
        return ((logits.argmax(1) != y) & (alarm < 0)).float().mean().item()

    loss, logits_of = concepts["evade"], concepts["accepted"]
    x_adv = pgd(concepts["with_detector"], x, y, threat, loss=loss, logits_of=logits_of, **settings)
    assert undetected(x_adv) > undetected(pgd(model, x, y, threat, **settings)) + 0.4


@pytest.fixture(scope="module")
def sketches(victim):
    return SimpleNamespace(**run_page("attacks-as-rules.md", **victim))


def test_the_page_on_defences_runs_and_its_strong_attack_is_no_weaker(victim, capsys):
    model = copy.deepcopy(victim["model"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = [parameter.clone() for parameter in model.parameters()]
    run_page("defenses.md", **{**victim, "model": model, "optimizer": optimizer})
    assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    weak, strong = (int(share) for share in re.findall(r"(\d+)% still", capsys.readouterr().out))
    assert strong <= weak


def linear(classes):
    """A linear classifier in float64, points, labels, and the distances of the points to the boundary by norm."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(30, classes).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, 30, generator=generator))
        layer.bias.zero_()
    x = torch.rand(20, 30, generator=generator, dtype=torch.float64)
    logits = layer(x).detach()
    y = logits.argmax(1)
    gap, normal = logits.amax(1, keepdim=True) - logits, layer.weight.detach()[y].unsqueeze(1) - layer.weight.detach()

    def distance(p):
        dual = {1: torch.inf, 2: 2, torch.inf: 1}[p]
        length = torch.linalg.vector_norm(normal, ord=dual, dim=2)
        return torch.where(length > 0, gap / length, torch.inf).amin(1)

    return layer, x, y, distance


WIDE = (-3.0, 4.0)  # bounds that no attack meets


def minimum_norm(sketches):
    """Rule, steps, loss, and how much farther than the closed form its points may be: median and largest."""
    return {
        "ddn": (sketches.DDN(200), 200, "cross_entropy", 1.002, 1.01),
        "cw": (CarliniWagner(100, 1.0), 900, "margin", 1.002, 1.1),
        "fab": (FastAdaptiveBoundary(20), 20, "cross_entropy", 1.002, 1.002),
    }


@pytest.mark.parametrize("name", ["ddn", "cw", "fab"])
def test_a_minimum_norm_sketch_comes_near_the_closed_form(sketches, name):
    model, x, y, distance = linear(classes=2)
    rule, steps, loss, median, largest = minimum_norm(sketches)[name]
    threat = L2(torch.inf, bounds=WIDE)
    result = search(model, x, y, threat, rule, steps=steps, loss=loss, keep="nearest")
    ratio = result.distance / distance(2)
    assert bool(result.success.all())
    assert ratio.min() > 1 - 1e-9
    assert ratio.median() < median
    assert ratio.max() < largest


def smallest(victim, rule, steps, **options):
    return search(**victim, threat=L2(torch.inf), rule=rule, steps=steps, keep="nearest", **options)


def test_minimum_norm_sketches_agree_on_a_network(victim, sketches):
    ddn = smallest(victim, sketches.DDN(100), 100)
    cw = smallest(victim, CarliniWagner(27, 1.0), 240, loss="margin")
    fab = smallest(victim, FastAdaptiveBoundary(30), 30)
    for result in (ddn, cw, fab):
        assert bool(result.success.all())
        assert 0.9 < (result.distance / ddn.distance.clamp_min(1e-9)).median() < 1.15


def test_fab_without_the_bounds_misses_rows(victim, monkeypatch):
    def without_bounds(threat, gradient, rise, point):
        square = gradient.flatten(1).square().sum(1).clamp_min(1e-12)
        return point + (rise / square).reshape(-1, 1, 1, 1) * gradient

    assert bool(smallest(victim, FastAdaptiveBoundary(30), 30).success.all())
    monkeypatch.setattr(L2, "reach", without_bounds)
    assert smallest(victim, FastAdaptiveBoundary(30), 30).success.float().mean() < 1


def test_minimum_norm_sketches_leave_alone_what_is_wrong_already(victim, sketches):
    wrong = {**victim, "y": (victim["model"](victim["x"]).argmax(1) + 1) % 10}
    rules = (sketches.DDN(5), CarliniWagner(5, 1.0), FastAdaptiveBoundary(5))
    for rule in rules:
        assert torch.equal(smallest(wrong, rule, 5, loss="margin").x_adv, victim["x"])


def test_apgd_is_as_strong_as_pgd_and_square_beats_noise(victim):
    threat, key = Linf(0.08), torch.Generator().manual_seed(0)
    apgd = search(**victim, threat=threat, rule=AutoPGD(30), steps=30).x_adv
    square = search(**victim, threat=threat, rule=SquareSearch(200), steps=200, loss="margin", generator=key)
    accuracy = [robust_accuracy(victim, x_adv) for x_adv in (apgd, pgd(**victim, threat=threat), square.x_adv)]
    noise = robust_accuracy(victim, uniform_noise(**victim, threat=threat, steps=200, generator=key))
    assert accuracy[0] <= accuracy[1] + 0.1
    assert accuracy[2] < noise - 0.05
    assert bool((square.backwards == 0).all())


def test_apgd_halves_its_step_row_by_row(victim):
    lengths = []

    class Watched(AutoPGD):
        def finished(self, state):
            lengths.append(state.length)

    search(**victim, threat=Linf(0.08), rule=Watched(30), steps=30)
    first, last = lengths[0], lengths[-1]
    halvings = (first / last).log2()
    assert halvings.max() > halvings.min()
    torch.testing.assert_close(halvings, halvings.round())


def sketched_rules(sketches):
    return {
        "apgd": (AutoPGD(8), {}),
        "ddn": (sketches.DDN(8), {"keep": "nearest"}),
        "cw": (CarliniWagner(4, 1.0), {"keep": "nearest", "loss": "margin"}),
        "fab": (FastAdaptiveBoundary(8), {"keep": "nearest"}),
        "square": (SquareSearch(8), {"loss": "margin"}),
        "nesterov": (MomentumIterative(8, 0.02, 1.0, nesterov=True), {}),
    }


@pytest.mark.parametrize("name", ["apgd", "ddn", "cw", "fab", "square", "nesterov"])
def test_no_row_of_a_sketch_looks_at_another(victim, sketches, name):
    rule, options = sketched_rules(sketches)[name]
    model, x, y = copy.deepcopy(victim["model"]).double(), victim["x"][:9].double(), victim["y"][:9]
    together, apart = (
        search(model, x, y, L2(1.0), rule, steps=8, random_start=True, batch_size=size, generator=key, **options).x_adv
        for size, key in ((None, torch.Generator().manual_seed(0)), (2, torch.Generator().manual_seed(0)))
    )
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["apgd", "ddn", "cw", "fab", "square", "nesterov", "pgd", "bim", "mim", "apgd in L1"])
def test_update_traces_as_one_graph(victim, sketches, name):
    others = {"pgd": ProjectedGradient(8, None), "bim": BasicIterative(8, None), "mim": MomentumIterative(8, None, 1.0)}
    others["apgd in L1"] = AutoPGD(8)
    rule = others[name] if name in others else sketched_rules(sketches)[name][0]
    torch._dynamo.reset()  # what other tests compiled counts towards a limit
    with Evaluator(**victim, threat=L1(3.0) if name.endswith("L1") else Linf(0.1)) as evaluator:
        task = evaluator.task(torch.arange(len(victim["x"])))
        noise = Noise(evaluator.key, task.row)
        state = rule.start(task, task.x, noise)

        def objectives(output, of):
            return rule.objectives(output, of, evaluator.loss)

        feedback = evaluator.feedback(state.query, task, objectives, 1, noise)
        assert feedback.distance.shape == task.y.shape  # the driver has judged by it before it updates
        traced = torch.compile(rule.update, fullgraph=True, backend="eager")(state, feedback, task, noise)
        for a, b in zip(traced, rule.update(state, feedback, task, noise), strict=True):
            torch.testing.assert_close(a, b)


def test_the_page_on_transfer_shows_what_transfers(victim, capsys):
    with one_thread():
        page = run_page("transfer.md", **victim)
    printed = capsys.readouterr().out
    assert "network" in printed
    assert page["found"].queries == (30, 60, 120, 200)
    assert page["found"].agreement[-1] > 0.5
    assert Linf(0.2).contains(page["x_adv"], victim["x"]).all()


def test_the_page_on_evaluation_sees_through_a_quantizer(victim, capsys):
    with one_thread():
        run_page("evaluation.md", **victim)
    printed = capsys.readouterr().out
    pgd_leaves, masked, remedied = (int(share) for share in re.findall(r"(?:leaves|BPDA) (\d+)%", printed))
    assert pgd_leaves > 80
    assert "unreliable: ['vanishing gradients'" in printed
    assert remedied < masked - 30


def test_the_page_on_reports_writes_what_it_names(victim, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with one_thread():
        run_page("report.md", **victim)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"report.html", "fall.pdf", "compared.html", "rows.csv", "examples.npz", "pictures"}
    survived = int(re.match(r"(\d+) of", capsys.readouterr().out)[1])
    assert survived == len(list((tmp_path / "pictures").iterdir())) > 0


def test_the_page_on_black_boxes_counts_what_it_asks(victim, capsys):
    names = run_page("black-box.md", **victim)
    printed = capsys.readouterr().out
    queries, left = (int(number) for number in re.findall(r"(\d+) queries, (\d+) left, access: scores", printed)[0])
    assert queries + left == 20_000
    assert float(re.findall(r"median distance ([\d.]+)", printed)[0]) < 2
    assert bool((victim["model"](names["x_adv"]).argmax(1) == names["wanted"]).all())


def test_the_page_on_curves_prints_what_it_says(victim, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with one_thread():
        names = run_page("curves.md", **victim)
    assert names["curve"].accuracy[0] > 0.9 > 0.1 > names["curve"].accuracy[-1]
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    assert "['2.9%'] ('noisy',)" in capsys.readouterr().out
    assert names["found"].least["Linf"] == 2 * names["found"].radius


def test_the_page_on_minimum_norm_attacks_takes_the_nearest_of_two(victim, capsys):
    names = run_page("minimum-norm.md", **victim)
    assert names["wrong"].all()
    assert (names["nearest"] <= names["distance"]).all()
    first, last = (float(line) for line in re.findall(r"tensor\(([\d.]+)\)", capsys.readouterr().out))
    assert 0 < last <= 1.1 * first


def test_the_page_on_the_command_line_keeps_what_it_knows(victim, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with one_thread():
        names = run_page("command-line.md", **victim)
    assert names["attempt"] == 1
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["block-000000.pt", "evaluation.pt"]


def test_the_page_on_performance_loses_nothing(victim, capsys):
    names = run_page("performance.md", **victim)
    assert capsys.readouterr().out == "[]\n"
    x, y = victim["x"], victim["y"]
    plain = pgd(victim["model"], x, y, Linf(0.1), steps=40)
    with names["fast"]:
        x_adv = pgd(victim["model"], x, y, Linf(0.1), steps=40)
    assert robust_accuracy(victim, x_adv) <= robust_accuracy(victim, plain) + 0.05
