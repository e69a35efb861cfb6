"""FGSM, BIM, MIM and PGD by hand, on models small enough to compute on paper."""

import math

import pytest
import torch
from torch import nn

from advlib import L0, L1, L2, Linf, bim, fgsm, mim, pgd
from advlib.attacks.pgd import ProjectedGradient
from advlib.gradients import eot, finite_differences
from advlib.models import BPDA, Counted
from advlib.search import search


def linear(*weight):
    """Logits (-<w, x>, <w, x>): the loss of class 0 grows along w."""
    layer = nn.Linear(len(weight), 2, bias=False).double()
    w = torch.tensor(weight, dtype=torch.float64)
    layer.weight.data = torch.stack([-w, w])
    return layer


X = torch.tensor([[0.5, 0.25, 0.95]], dtype=torch.float64)
Y = torch.tensor([0])
MODEL = linear(2.0, -1.0, 0.5)


@pytest.mark.parametrize(
    ("threat", "expected"),
    [
        (Linf(0.1), [0.6, 0.15, 1.0]),
        (L2(0.1), [0.5 + 0.2 / 5.25**0.5, 0.25 - 0.1 / 5.25**0.5, 0.95 + 0.05 / 5.25**0.5]),
        (L1(0.6), [1.0, 0.15, 0.95]),  # the first feature up to its bound, the rest of the budget to the second
        (L0(2), [1.0, 0.0, 0.95]),
    ],
)
def test_fgsm_by_hand(threat, expected):
    assert fgsm(MODEL, X, Y, threat)[0].tolist() == pytest.approx(expected)


def test_fgsm_costs_one_forward_and_one_backward_pass():
    counted = Counted(MODEL)
    fgsm(counted, X, Y, Linf(0.1))
    assert (counted.forwards, counted.backwards) == (1, 1)


def test_fgsm_leaves_features_without_gradient_alone():
    assert fgsm(linear(1.0, 0.0, -1.0), X, Y, Linf(0.1))[0, 1] == X[0, 1]


def test_bim_takes_equal_steps_that_just_reach_the_border():
    points = [bim(MODEL, X, Y, Linf(0.1), steps=k, step_size=0.1 / 4, keep="last")[0, 0].item() for k in (1, 2, 3, 4)]
    assert points == pytest.approx([0.525, 0.55, 0.575, 0.6])
    assert bim(MODEL, X, Y, Linf(0.1), steps=4)[0].tolist() == pytest.approx([0.6, 0.15, 1.0])
    assert bim(MODEL, X, Y, L2(0.08), steps=4, keep="last")[0].tolist() == pytest.approx(
        fgsm(MODEL, X, Y, L2(0.08))[0].tolist()
    )


def test_bim_by_default_divides_eps_into_equal_steps():
    seen = []
    model = lambda z: seen.append(z[0, 0].item()) or MODEL(z)  # noqa: E731
    bim(model, X, Y, Linf(0.1), steps=4)
    assert seen == pytest.approx([0.5, 0.525, 0.55, 0.575, 0.6])


@pytest.mark.parametrize("attack", [fgsm, bim, mim, pgd])
def test_the_loss_asked_for_is_the_loss_climbed(attack):
    def reversed_margin(logits, y, target=None):
        return logits[:, 0] - logits[:, 1]

    settings = {"random_start": False} if attack is pgd else {}
    x_adv = attack(MODEL, X, Y, Linf(0.1), loss=reversed_margin, keep="last", **settings)
    assert x_adv[0].tolist() == pytest.approx([0.4, 0.35, 0.85])


def test_one_step_is_judged():
    """steps=1 does not come back with the clean input: the last iterate is asked about."""
    for attack in (bim, mim, pgd):
        settings = {"random_start": False} if attack is pgd else {}
        assert attack(MODEL, X, Y, Linf(0.1), steps=1, **settings)[0].tolist() == pytest.approx([0.6, 0.15, 1.0])


def turning(z):
    """The gradient of class 0's loss points up in the first half and, ten times as steep, down beyond it."""
    slope = torch.where(z < 0.55, z - 0.55, 10 * (0.55 - z)).sum(1, keepdim=True)
    return torch.cat([-slope, slope], dim=1)


def test_mim_accumulates_gradients_of_unit_l1_norm_not_signs():
    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    # steps of .03: .53, .56, and there the gradient turns. Its unit cancels one unit of momentum, not two.
    path = [
        mim(turning, x, Y, Linf(0.3), steps=k, step_size=0.03, loss="margin", keep="last").item()
        for k in (1, 2, 3, 4, 5)
    ]
    assert path == pytest.approx([0.53, 0.56, 0.59, 0.59, 0.56])
    forgetful = [
        mim(turning, x, Y, Linf(0.3), steps=k, step_size=0.03, decay=0.0, loss="margin", keep="last").item()
        for k in (1, 2, 3, 4)
    ]
    assert forgetful == pytest.approx([0.53, 0.56, 0.53, 0.56])


@pytest.mark.parametrize("scale", [(1.0, 1.0), (1e-3, 1e3), (1e3, 1e-3), (1e-30, 1.0)])
def test_mim_gives_each_gradient_the_same_l1_norm(scale):
    """First (1, 1), then (-1, 0): halves of one unit against a whole one, whatever their lengths."""
    script = iter([(scale[0], scale[0]), (-scale[1], 0.0), (0.0, 0.0)])

    def scripted(z):
        slope = (z * torch.tensor(next(script), dtype=z.dtype)).sum(1, keepdim=True)
        return torch.cat([-slope, slope], dim=1)

    x = torch.full((1, 2), 0.5, dtype=torch.float64)
    x_adv = mim(scripted, x, Y, Linf(0.3), steps=2, step_size=0.1, loss="margin", keep="last")
    assert x_adv[0].tolist() == pytest.approx([0.5, 0.7])  # there and back, twice onwards


def test_mim_momentum_is_per_row_and_scale_free():
    weights = torch.tensor([[1.0, 3.0], [1e-20, 3e-20]], dtype=torch.float64)
    x = torch.full((2, 2), 0.5, dtype=torch.float64)
    model = lambda z: torch.cat([-(z * weights).sum(1, True), (z * weights).sum(1, True)], dim=1)  # noqa: E731
    x_adv = mim(model, x, torch.tensor([0, 0]), L2(0.1), steps=3, loss="margin")
    assert torch.allclose(x_adv[0], x_adv[1])
    assert x_adv[0].tolist() == pytest.approx([0.5 + 0.1 / 10**0.5, 0.5 + 0.3 / 10**0.5])


def test_pgd_steps_fall_along_a_cosine_from_twice_eps():
    steps = 5
    lengths = []

    def flip(z):
        lengths.append(z.item())
        return torch.cat([-z, z], dim=1) * (-1) ** len(lengths)  # the gradient turns at every question

    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    search(flip, x, Y, Linf(0.01, bounds=None), ProjectedGradient(steps, None), steps=steps, loss="margin")
    expected = [0.01 * (1 + math.cos(math.pi * k / steps)) for k in range(steps)]
    position, path = 0.0, [0.5]
    for k, length in enumerate(expected):
        position = max(-0.01, min(0.01, position + length * (1 if k % 2 else -1) * -1 * -1))
        path.append(0.5 + position)
    assert lengths == pytest.approx(path)


def test_pgd_with_a_step_size_takes_equal_steps():
    path = [
        pgd(MODEL, X, Y, Linf(0.1), steps=k, step_size=0.03, random_start=False, keep="last")[0, 0].item()
        for k in (1, 2, 3, 4)
    ]
    assert path == pytest.approx([0.53, 0.56, 0.59, 0.6])


def test_pgd_starts_at_random_unless_told_not_to():
    seen = []
    model = lambda z: seen.append(z.detach().clone()) or MODEL(z)  # noqa: E731
    pgd(model, X, Y, Linf(0.1), steps=1, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(seen[0], X)
    assert (seen[0] - X).abs().max() <= 0.1
    seen.clear()
    pgd(model, X, Y, Linf(0.1), steps=1, random_start=False)
    assert torch.equal(seen[0], X)


def test_restarts_find_what_one_run_misses():
    """Two hills: a run climbs the one it starts on, and only the farther one changes the class."""

    def hills(z):
        height = torch.maximum(0.3 - (z - 0.45).abs(), 5 * (0.2 - (z - 0.75).abs())) - 0.5
        return torch.cat([-height, height], dim=1)

    x = torch.full((64, 1), 0.5, dtype=torch.float64)
    y = torch.zeros(64, dtype=torch.int64)
    broken = {}
    for restarts in (1, 20):
        x_adv = pgd(
            hills,
            x,
            y,
            Linf(0.3),
            steps=10,
            step_size=0.02,
            restarts=restarts,
            keep="first",
            loss="margin",
            generator=torch.Generator().manual_seed(0),
        )
        broken[restarts] = (hills(x_adv).argmax(1) == 1).sum().item()
    assert broken[1] < 40
    assert broken[20] == 64


def test_bpda_and_finite_differences_see_through_a_staircase():
    quantized = lambda z: (z * 20).round() / 20  # noqa: E731
    model = nn.Sequential(BPDA(quantized), MODEL)
    best = fgsm(MODEL, X, Y, Linf(0.1))
    assert torch.allclose(pgd(model, X, Y, Linf(0.1), steps=5, random_start=False)[:, 0], best[:, 0], atol=0.03)
    hidden = nn.Sequential()
    hidden.forward = lambda z: MODEL(quantized(z))
    x_adv = pgd(
        hidden,
        X,
        Y,
        Linf(0.1),
        steps=10,
        gradient=finite_differences(64, delta=0.1),
        generator=torch.Generator().manual_seed(0),
    )
    assert (MODEL(x_adv)[0, 1] >= MODEL(best)[0, 1] - 0.15).all()


def test_eot_averages_a_random_model():
    def noisy(z):
        return MODEL(z) + torch.randn(len(z), 1, dtype=z.dtype) * z.sum(1, keepdim=True) * torch.tensor([3.0, -3.0])

    with torch.random.fork_rng():
        torch.manual_seed(0)
        x_adv = pgd(noisy, X, Y, Linf(0.1), steps=10, gradient=eot(200), loss="margin", keep="last")
    assert x_adv[0, :2].tolist() == pytest.approx([0.6, 0.15], abs=0.02)


def test_confident_rows_still_move():
    """A gradient of 1e-30 in float32, whose square is zero, gives a full step in L2."""
    model = lambda z: 1e-30 * torch.cat([-z.sum(1, True), z.sum(1, True)], dim=1)  # noqa: E731
    x = torch.full((1, 4), 0.5)
    x_adv = bim(model, x, Y, L2(0.1), steps=2, loss="margin", keep="last")
    assert (x_adv - x).norm().item() == pytest.approx(0.1, rel=1e-5)
