"""Cheaper copies of a model: the same where they should be, asked in the search alone, and never believed."""

import pytest
import torch
from torch import nn

import advlib
from advlib import Linf, pgd
from advlib.acceleration import current
from advlib.attacks.pgd import ProjectedGradient
from advlib.oracles import ScoreOracle
from advlib.search import search
from tests.laws.table import seeded

SHAPE = (3, 8, 8)

pytestmark = pytest.mark.timeout(40)


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Convolutions and batch normalisations with statistics of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(72, 4),
        )
        model(torch.rand(64, *SHAPE))  # statistics
        return model.to(dtype).eval()


def problem(model: nn.Module, rows: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = next(model.parameters()).dtype
    x = torch.rand(rows, *SHAPE, generator=seeded(), dtype=dtype)
    with torch.no_grad():
        return x, model(x).argmax(1)


class Asked(nn.Module):
    """A network that remembers what it was asked."""

    def __init__(self, inner: nn.Module, log: list[torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.log = inner, log

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.log.append(x.detach().clone())
        return self.inner(x)

    def __deepcopy__(self, memo: dict) -> nn.Module:
        import copy

        return copy.deepcopy(self.inner, memo)


@pytest.mark.parametrize("settings", [{"fold": True}, {"channels_last": True}, {"fold": True, "channels_last": True}])
def test_a_copy_leads_to_the_same_points(settings):
    model = network(torch.float64)
    x, y = problem(model)
    given = {"fold": False, "channels_last": False} | settings
    expected = pgd(model, x, y, Linf(0.05), steps=5, generator=seeded())
    with advlib.accelerate(**given) as acceleration:
        found = pgd(model, x, y, Linf(0.05), steps=5, generator=seeded())
        stand_in = acceleration.stand_in(model, x)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    assert acceleration.reasons == []
    norms = [module for module in stand_in.modules() if isinstance(module, nn.BatchNorm2d)]
    weights = [module.weight for module in stand_in.modules() if isinstance(module, nn.Conv2d)]
    assert len(norms) == (0 if "fold" in settings else 2)
    last = all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert last == ("channels_last" in settings)


def test_the_model_is_asked_about_what_comes_back_alone():
    log: list[torch.Tensor] = []
    model = Asked(network(), log).eval()
    x, y = problem(model)
    with advlib.accelerate(fold=False) as acceleration:
        acceleration.stand_in(model, x)
        log.clear()
        found = pgd(model, x, y, Linf(0.05), steps=5, generator=seeded())
    assert len(log) == 1
    assert torch.equal(log[0], found)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("keep", ["strongest", "first", "nearest"])
def test_every_success_is_one_of_the_model_itself(precision, keep):
    model = network()
    x, y = problem(model, rows=200)
    rule = ProjectedGradient(8)
    options = {"steps": 8, "keep": keep, "random_start": True, "loss": "margin"}
    plain = search(model, x, y, Linf(0.02), rule, generator=seeded(), **options)
    with advlib.accelerate(precision=precision) as acceleration:
        weights = {parameter.dtype for parameter in acceleration.stand_in(model, x).parameters()}
        assert weights == {torch.bfloat16 if precision == "bf16" else torch.float32}
        found = search(model, x, y, Linf(0.02), rule, generator=seeded(), **options)
    with torch.no_grad():
        logits = model(found.x_adv)
    assert torch.equal(logits.argmax(1) != y, found.success)
    if keep != "nearest":
        assert torch.allclose(advlib.losses.margin(logits, y), found.loss, atol=1e-5)
    assert found.x_adv.dtype == torch.float32
    assert 20 < plain.success.sum() < 180
    assert abs(int(found.success.sum()) - int(plain.success.sum())) <= 4


class Liar(nn.Module):
    """Says that every point belongs to a class that none belongs to."""

    def forward(self, x):
        return torch.tensor([0.0, 9.0, 0.0, 0.0], dtype=x.dtype) + x.flatten(1)[:, :4]


@pytest.mark.parametrize("keep", ["strongest", "first"])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_rows_on_which_the_copy_is_wrong_are_attacked_again(monkeypatch, keep, batch_size):
    model = network(torch.float64)
    x, y = problem(model)
    settings = {"steps": 5, "keep": keep, "batch_size": batch_size, "restarts": 2}
    expected = pgd(model, x, y, Linf(0.05), generator=seeded(), **settings)
    monkeypatch.setattr("advlib.acceleration.Acceleration.stand_in", lambda self, model, x: Liar())
    with advlib.accelerate():
        found = pgd(model, x, y, Linf(0.05), generator=seeded(), **settings)
    with torch.no_grad():
        wrong, expected_wrong = (model(points).argmax(1) != y for points in (found, expected))
    assert torch.equal(wrong, expected_wrong)
    same = (found == expected).flatten(1).all(1)
    assert (same | wrong).all()  # what the copy finds by luck stays
    assert same.sum() > len(x) / 2
    assert 0 < wrong.sum() < len(x)


def test_training_needs_no_confirmation_and_no_copy():
    log: list[torch.Tensor] = []
    model = Asked(network(), log)
    x, y = problem(model)
    model.train()
    log.clear()
    with advlib.accelerate() as acceleration:
        for _ in range(2):
            pgd(model, x, y, Linf(0.05), steps=3, keep="last", generator=seeded())
    assert len(log) == 6
    assert acceleration.reasons == ["Asked is asked itself, being in training mode: call model.eval()"]
    assert model.training


def test_hooks_see_every_question():
    model = network()
    x, y = problem(model)
    seen = []
    handle = model[0].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    with advlib.accelerate() as acceleration:
        pgd(model, x, y, Linf(0.05), steps=3)
        assert len(seen) == 4
        assert acceleration.reasons == ["Sequential is asked itself, since its hooks might not see a copy: remove them"]
        handle.remove()
        assert acceleration.stand_in(model, x) is not model
        handle = model[3].register_forward_pre_hook(lambda module, inputs: None)
        assert acceleration.stand_in(model, x) is model


def test_no_rows_need_no_copy():
    model = network()
    x, _ = problem(model)
    with advlib.accelerate() as acceleration:
        assert acceleration.stand_in(model, x[:0]) is model
        assert acceleration.stand_in(model, x) is not model
    assert acceleration.reasons == []


def test_a_copy_follows_its_model():
    model = network(torch.float64)
    x, _ = problem(model)
    with advlib.accelerate() as acceleration:
        first = acceleration.stand_in(model, x)
        assert acceleration.stand_in(model, x) is first
        with torch.no_grad():
            model[7].weight.neg_()
        second = acceleration.stand_in(model, x)
        assert second is not first
        with torch.no_grad():
            assert torch.allclose(second(x), model(x))
            model[1].running_mean.add_(0.1)
            assert torch.allclose(acceleration.stand_in(model, x)(x), model(x))
        assert acceleration.stand_in(network(torch.float64), x) is not second


class Random(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :4] + torch.rand_like(x).flatten(1)[:, :4]


class Branching(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :4] * (2 if x.sum() > 0 else 1)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Random(), "Random is asked itself: its copy's logits are off by "),
        (Branching(), "Branching is not folded: symbolically traced variables cannot"),
    ],
)
def test_what_cannot_be_done_is_said_once(model, reason):
    x, y = torch.rand(5, *SHAPE, generator=seeded()), torch.arange(5) % 4
    with advlib.accelerate() as acceleration:
        pgd(model.eval(), x, y, Linf(0.1), steps=3)
        pgd(model, x, y, Linf(0.1), steps=3)
        assert (acceleration.stand_in(model, x) is model) == isinstance(model, Random)
    assert len(acceleration.reasons) == 1
    assert acceleration.reasons[0].startswith(reason)


def test_plain_functions_and_oracles_are_asked_themselves():
    model = network()
    x, y = problem(model)
    with advlib.accelerate() as acceleration:
        for asked in (lambda points: model(points), ScoreOracle(model)):
            assert acceleration.stand_in(asked, x) is asked
        advlib.square(ScoreOracle(model), x, y, Linf(0.1), steps=3)
    assert acceleration.reasons == []


@pytest.fixture
def exact_products():
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.usefixtures("exact_products")
def test_settings_end_with_the_context():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    model = network()
    x, y = problem(model)
    seen = []

    def watched(points):
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return model(points)

    with advlib.accelerate(precision="tf32") as acceleration:
        assert current() is acceleration
        pgd(watched, x, y, Linf(0.1), steps=2)
    assert seen[0] == (True, True)
    assert seen[-1] == before  # the confirmation
    assert current() is None
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_an_unknown_precision_is_named():
    with (
        pytest.raises(ValueError, match="precision must be None, 'bf16' or 'tf32', got 'fp8'"),
        advlib.accelerate(precision="fp8"),
    ):
        pass
