"""The attacks made to transfer: Nesterov and variance tuning by hand, and what each named attack is composed of."""

from functools import partial

import pytest
import torch
from torch.nn import functional

from advlib import (
    L0,
    L2,
    Linf,
    admix,
    bsr,
    di_fgsm,
    mim,
    ni_fgsm,
    pgd,
    si_ni_fgsm,
    sia,
    ssa,
    ti_fgsm,
    vmi_fgsm,
)
from advlib.attacks.bim import BasicIterative
from advlib.gradients import eot
from advlib.models import Counted
from advlib.search import search
from advlib.transforms import (
    admixture,
    around,
    averaged,
    block_shuffle,
    block_structure,
    resize_and_pad,
    scales,
    spectrum,
    translation_invariant,
    unchanged,
)
from tests.laws.table import batch, build, classes, seeded

SHAPE = (3, 6, 6)
MODEL = build(SHAPE)
X = batch(SHAPE)
Y = classes(MODEL, X)
LAST = {"steps": 3, "keep": "last"}


def up(z):
    """The loss of class 0 grows with every feature."""
    return torch.cat([-z.sum(1, True), z.sum(1, True)], dim=1)


def asked(attack, model, x, threat, **settings):
    """The first feature of the points asked about, and of the result."""
    seen = []

    def watched(z):
        seen.append(z.flatten(1)[0, 0].item())
        return model(z)

    x_adv = attack(watched, x, torch.zeros(len(x), dtype=torch.int64), threat, loss="margin", **settings)
    return seen, x_adv.flatten(1)[0, 0].item()


# -- Nesterov ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decay", "ahead"), [(1.0, 0.02), (0.5, 0.01), (0.0, 0.0)])
def test_nesterov_asks_a_step_ahead_of_where_it_is(decay, ahead):
    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    seen, last = asked(ni_fgsm, up, x, Linf(0.3), steps=3, step_size=0.02, decay=decay)
    assert seen == pytest.approx([0.5, 0.52 + ahead, 0.54 + ahead])
    assert last == pytest.approx(0.56)  # where it is, not a step ahead


def test_nesterov_looks_ahead_no_farther_than_the_border():
    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    seen, last = asked(ni_fgsm, up, x, Linf(0.05), steps=4, step_size=0.03, keep="strongest")
    assert seen == pytest.approx([0.5, 0.55, 0.55, 0.55, 0.55])
    assert last == pytest.approx(0.55)


def test_nesterov_steps_from_where_it_is():
    """The gradient turns once the point ahead is past 0.55: the position has not got there."""

    def peak(z):
        slope = (-(z - 0.55).abs()).sum(1, keepdim=True)
        return torch.cat([-slope, slope], dim=1)

    x = torch.full((1, 1), 0.5, dtype=torch.float64)
    seen, last = asked(ni_fgsm, peak, x, Linf(0.3), steps=4, step_size=0.03, decay=0.5)
    # momenta 1, then 0.5 - 1 = -0.5, then -0.25 + 1 = 0.75
    assert seen == pytest.approx([0.5, 0.545, 0.575, 0.515])
    assert last == pytest.approx(0.56)


def test_ni_fgsm_is_mim_with_nesterov():
    settings = {"steps": 4, "decay": 0.9, "step_size": 0.02, "loss": "margin"}
    expected = mim(MODEL, X, Y, Linf(0.1), nesterov=True, keep="last", **settings)
    assert torch.equal(ni_fgsm(MODEL, X, Y, Linf(0.1), **settings), expected)
    assert not torch.equal(mim(MODEL, X, Y, Linf(0.1), keep="last", **settings), expected)


# -- variance tuning ---------------------------------------------------------------------------------------------


def test_variance_tuning_by_hand():
    """The gradient is the script's next: at the point, then at its two neighbours."""
    script = iter([(1, 0), (2, 4), (4, 4), (1, -2), (0, 0), (0, 0), (0, 1), (0, 0), (0, 0)])

    def scripted(z):
        slope = (z * torch.tensor(next(script), dtype=z.dtype)).sum(1, keepdim=True)
        return torch.cat([-slope, slope], dim=1) / 2

    x = torch.full((1, 2), 0.5, dtype=torch.float64)
    settings = {"samples": 2, "steps": 3, "step_size": 0.1, "loss": "margin"}
    x_adv = vmi_fgsm(scripted, x, torch.tensor([0]), Linf(0.4), **settings)
    # first (1, 0); then (1, -2) and what the first lacked to the mean (3, 4): (3, 2) / 5 added, (1.6, 0.4);
    # then (0, 1) and what (1, -2) lacked to 0: (-1, 3) / 4 added, (1.35, 1.15)
    assert x_adv[0].tolist() == pytest.approx([0.8, 0.7])
    assert next(script, None) is None


def test_neighbours_are_uniform_within_beta_radii_whatever_the_bounds():
    seen = []

    def watched(z):
        seen.append(z.detach().clone())
        return MODEL(z)

    eps = torch.linspace(0.0, 0.1, len(X), dtype=torch.float64)
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[0] = False
    threat = Linf(eps, mask=mask)
    vmi_fgsm(watched, X, Y, threat, steps=1, samples=30, beta=2.0, generator=seeded())
    assert torch.equal(seen[0], X)
    apart = torch.stack(seen[1:]) - X
    assert len(apart) == 30
    assert (apart[:, :, 0] == 0).all()
    reach = apart[:, :, 1:].abs().amax(dim=(0, 2, 3, 4)) / eps.clamp_min(1e-9)
    assert reach[0] == 0
    assert (reach[1:] > 1.99).all()
    assert (reach[1:] <= 2).all()
    assert (torch.stack(seen) < 0).any()
    torch.testing.assert_close(apart[:, -1, 1:].std().item(), 0.2 / 3**0.5, rtol=0.05, atol=0)
    split = vmi_fgsm(MODEL, X, Y, threat, steps=2, samples=3, generator=seeded(), batch_size=2)
    assert torch.equal(vmi_fgsm(MODEL, X, Y, threat, steps=2, samples=3, generator=seeded()), split)


def test_variance_tuning_in_l0_has_no_neighbourhood():
    with pytest.raises(ValueError, match="bounds"):
        vmi_fgsm(MODEL, X, Y, L0(3), steps=2)


def test_variance_tuning_may_look_ahead():
    settings = {"samples": 2, "steps": 4, "generator": seeded()}
    ahead = vmi_fgsm(MODEL, X, Y, Linf(0.1), nesterov=True, **settings)
    assert not torch.equal(ahead, vmi_fgsm(MODEL, X, Y, Linf(0.1), **{**settings, "generator": seeded()}))
    flat = {"samples": 2, "beta": 0.0, "steps": 4}  # neighbours at the point itself leave the gradient alone
    expected = ni_fgsm(MODEL, X, Y, Linf(0.1), steps=4)
    torch.testing.assert_close(vmi_fgsm(MODEL, X, Y, Linf(0.1), nesterov=True, **flat), expected)


# -- the named attacks -------------------------------------------------------------------------------------------

POOL = (batch(SHAPE, rows=9, seed=5), torch.arange(9) % 5)
MIXED = averaged([admixture(*POOL, Y, 0.3)] * 2, judge=False)
COMPOSED = {
    "di": (di_fgsm, {"low": 0.4, "probability": 0.8}, averaged([resize_and_pad(0.4, 0.8)], judge=False), False),
    "ti": (ti_fgsm, {"size": 5}, translation_invariant(5), False),
    "si": (si_ni_fgsm, {"copies": 3}, averaged(scales(3)), True),
    "admix": (
        admix,
        {"copies": 3, "mixed": 2, "share": 0.3, "others": POOL},
        averaged(scales(3), MIXED, judge=False),
        False,
    ),
    "ssa": (ssa, {"copies": 2, "sigma": 0.1, "rho": 0.3}, averaged([spectrum(0.1, 0.3)] * 2, judge=False), False),
    "bsr": (bsr, {"copies": 2, "blocks": 3, "angle": 9.0}, averaged([block_shuffle(3, 9.0)] * 2, judge=False), False),
    "sia": (
        sia,
        {"copies": 2, "blocks": 2, "radius": 0.2},
        averaged([block_structure(2, 0.2)] * 2, judge=False),
        False,
    ),
}


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)])
def test_a_named_attack_is_mim_with_a_source(name, threat):
    attack, settings, source, nesterov = COMPOSED[name]
    shared = {"steps": 3, "decay": 0.7, "loss": "margin"}
    found = attack(MODEL, X, Y, threat, **settings, **shared, generator=seeded())
    expected = mim(MODEL, X, Y, threat, gradient=source, nesterov=nesterov, keep="last", generator=seeded(), **shared)
    assert torch.equal(found, expected)
    assert not torch.equal(found, mim(MODEL, X, Y, threat, keep="last", **shared))


PASSES = {
    "ni_fgsm": (ni_fgsm, 1, 0),
    "vmi_fgsm": (partial(vmi_fgsm, samples=4), 5, 0),
    "di_fgsm": (di_fgsm, 1, 1),
    "ti_fgsm": (ti_fgsm, 1, 0),
    "si_ni_fgsm": (partial(si_ni_fgsm, copies=3), 3, 0),
    "admix": (partial(admix, copies=3, mixed=2), 6, 0),
    "ssa": (partial(ssa, copies=2), 2, 1),
    "bsr": (partial(bsr, copies=2), 2, 1),
    "sia": (partial(sia, copies=2), 2, 1),
}


@pytest.mark.parametrize("name", PASSES)
def test_passes_of_a_step(name):
    """The last point takes no question; for the strongest, each is asked about itself, and so is the last."""
    attack, copies, itself = PASSES[name]
    counted = Counted(MODEL)
    attack(counted, X, Y, Linf(0.1), steps=3)
    assert (counted.forwards, counted.backwards) == (3 * copies * len(X), 3 * copies * len(X))
    itself += name == "admix"
    counted = Counted(MODEL)
    attack(counted, X, Y, Linf(0.1), steps=3, keep="strongest")
    assert (counted.forwards, counted.backwards) == ((3 * (copies + itself) + 1) * len(X), 3 * copies * len(X))


SOURCES = {
    "one copy": averaged([block_shuffle()]),
    "itself first": averaged(scales(3)),
    "copies of copies": averaged(scales(2), averaged([block_structure()], judge=False)),
    "smoothed": translation_invariant(3, averaged([spectrum(0.3)])),
    "around": around([block_shuffle()]),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("eps", [0.1, 0.2])
def test_success_is_that_of_the_point_itself(name, eps):
    x = batch(SHAPE, rows=60)
    y = classes(MODEL, x)
    rule = BasicIterative(5, None)
    result = search(MODEL, x, y, Linf(eps), rule, steps=5, gradient=SOURCES[name], generator=seeded())
    logits = MODEL(result.x_adv)
    assert torch.equal(result.success, logits.argmax(1) != y)
    torch.testing.assert_close(result.loss, functional.cross_entropy(logits, y, reduction="none"))


@pytest.mark.parametrize("name", PASSES)
def test_what_looks_at_each_copy_can_be_chosen(name):
    attack, copies, _ = PASSES[name]
    counted = Counted(MODEL)
    attack(counted, X, Y, Linf(0.1), steps=1, gradient=eot(2))
    assert counted.backwards == 2 * copies * len(X)


def test_paper_defaults():
    eps, steps = 0.1, 10
    counted = Counted(MODEL)
    expected = {vmi_fgsm: 21, di_fgsm: 1, ti_fgsm: 1, si_ni_fgsm: 5, admix: 15, ssa: 20, bsr: 20, sia: 20, ni_fgsm: 1}
    for attack, copies in expected.items():
        counted.forwards = 0
        x_adv = attack(counted, X[:2], Y[:2], Linf(eps))
        assert counted.forwards == steps * copies * 2
        assert (x_adv - X[:2]).abs().max() <= eps + 1e-12


def test_admix_draws_from_the_call_itself():
    settings = {"steps": 2, "copies": 1, "mixed": 1}
    expected = admix(MODEL, X, Y, Linf(0.1), others=(X, Y), generator=seeded(), **settings)
    assert torch.equal(admix(MODEL, X, Y, Linf(0.1), generator=seeded(), **settings), expected)
    split = admix(MODEL, X, Y, Linf(0.1), generator=seeded(), batch_size=2, **settings)
    torch.testing.assert_close(split, expected)


def test_any_rule_may_look_through_transforms():
    source = translation_invariant(3, averaged([unchanged, resize_and_pad(0.5, 1.0)]))
    settings = {"steps": 5, "generator": seeded()}
    x_adv = pgd(MODEL, X, Y, Linf(0.3), gradient=source, **settings)
    assert (MODEL(x_adv).argmax(1) != Y).all()
    assert not torch.equal(x_adv, pgd(MODEL, X, Y, Linf(0.3), **{**settings, "generator": seeded()}))


def test_arguments_are_checked_by_the_search():
    with pytest.raises(TypeError, match="threat must be a threat model"):
        vmi_fgsm(MODEL, X, Y, 0.1)
    with pytest.raises(TypeError, match="y must be a tensor of labels"):
        admix(MODEL, X, Y.tolist(), Linf(0.1))
    with pytest.raises(ValueError, match="finite eps"):
        ssa(MODEL, X, Y, Linf(float("inf")))
