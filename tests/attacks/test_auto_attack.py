"""AutoAttack: what runs, on which rows, and what comes back. That it keeps within the threat model is a law."""

from functools import partial

import pytest
import torch
from torch import nn

from advlib import L0, L1, L2, GradientMaskingWarning, Linf, apgd, auto_attack, fab, pgd, square
from advlib.attacks.auto_attack import attacks_of, in_turn, ratio
from advlib.losses import cross_entropy, dlr, margin
from advlib.models import Counted
from tests.laws.table import SHORT_AUTO_ATTACK, batch, build, classes, seeded

CE = {"steps": 100, "keep": "first"}
T9 = {"loss": ratio, "targets": 9, "steps": 100, "keep": "first"}
FAB9 = {"targets": 9, "steps": 100, "keep": "first"}


def listed(version, threat):
    return [(attack.func, attack.keywords) for attack in attacks_of(version, threat)]


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)])
def test_standard(threat):
    squares = (square, {"steps": 5000})
    assert listed("standard", threat) == [(apgd, {"restarts": 1, **CE}), (apgd, T9), (fab, FAB9), squares]


def test_standard_in_l1():
    first, second, *others = listed("standard", L1(1.0))
    assert (first, second) == ((apgd, {"restarts": 5, **CE}), (apgd, {**T9, "targets": 5}))
    assert others == listed("standard", Linf(0.1))[2:]


def test_plus():
    ce, dlr_, fab_, *others = listed("plus", Linf(0.1))
    assert ce == (apgd, {"restarts": 5, **CE})
    assert dlr_ == (apgd, {"loss": ratio, "restarts": 5, **CE})
    assert fab_ == (fab, {"restarts": 5, **CE})
    assert others == [(square, {"steps": 5000}), (apgd, T9), (fab, FAB9)]


def test_rand_takes_twenty_passes_a_step_and_for_what_it_found():
    """A row that nothing breaks: clean, two attacks of 100 steps, what each found, and the look for a gradient."""
    for attack, loss in zip(attacks_of("rand", Linf(0.1)), ("cross_entropy", ratio), strict=True):
        assert attack.func is apgd
        assert {**attack.keywords, "gradient": None} == {"loss": loss, "steps": 100, "gradient": None}
    inner, x = build((12,)), batch((12,), rows=1)
    counted = Counted(inner)
    x_adv = auto_attack(counted, x, classes(inner, x), Linf(1e-3), version="rand", generator=seeded())
    assert torch.equal(classes(inner, x_adv), classes(inner, x))
    assert counted.backwards == 2 * 100 * 20 + 1
    assert counted.forwards == 2 * (100 * 20 + 1) + 3 * 20 + 1


def test_a_random_model_is_judged_by_the_mean_of_its_answers():
    """It errs in one answer of five, so nearly always in one of many."""
    turn = []

    def model(z):
        turn.append(1)
        lead = 1.0 - 4.0 * (len(turn) % 5 == 0) + 0.01 * z.sum(1)
        return torch.stack([lead, -lead], dim=1)

    calls = []

    def attack(model, x, y, threat, **options):
        calls.append(len(x))
        return x.clone()

    in_turn(model, batch((4,), rows=3), torch.zeros(3, dtype=torch.int64), Linf(0.1), [attack] * 9, passes=20)
    assert calls == [3] * 9


class Recorder:
    """An attack that breaks some rows, told by their first feature, by writing 1 into the second."""

    def __init__(self, *breaks):
        self.breaks, self.asked = breaks, []

    def __call__(self, model, x, y, threat, *, batch_size, generator):
        self.asked.append((x[:, 0].tolist(), y.tolist(), threat.eps.tolist(), batch_size))
        x_adv = x.clone()
        x_adv[:, 1] += 0.25
        broken = torch.isin(x[:, 0], torch.tensor(self.breaks, dtype=x.dtype))
        x_adv[broken, 1] = 1.0
        return x_adv


def two_features(z):
    """Class 0 leads by 0.75 minus the second feature; rows whose first feature is 0 are class 1 from the start."""
    lead = torch.where(z[:, 0] == 0, -1.0, 0.75 - z[:, 1])
    return torch.stack([lead, 0 * lead, 0 * lead - 9], dim=1)


ROWS = torch.tensor([[0.1, 0.0], [0.0, 0.0], [0.2, 0.0], [0.3, 0.0], [0.4, 0.0]], dtype=torch.float64)
ZEROS = torch.zeros(5, dtype=torch.int64)


def test_rows_that_broke_leave_and_clean_errors_are_not_attacked():
    first, second, third, fourth = Recorder(0.2), Recorder(0.1, 0.2), Recorder(0.3, 0.4), Recorder()
    threat = Linf(torch.arange(1.0, 6.0))
    x_adv = in_turn(two_features, ROWS, ZEROS, threat, [first, second, third, fourth], batch_size=2)
    assert first.asked == [([0.1, 0.2, 0.3, 0.4], [0] * 4, [1.0, 3.0, 4.0, 5.0], 2)]
    assert second.asked == [([0.1, 0.3, 0.4], [0] * 3, [1.0, 4.0, 5.0], 2)]
    assert third.asked == [([0.3, 0.4], [0] * 2, [4.0, 5.0], 2)]
    assert fourth.asked == []
    assert torch.equal(x_adv[1], ROWS[1])
    assert x_adv[:, 1].tolist() == [1, 0, 1, 1, 1]


def test_a_row_that_nothing_breaks_comes_back_as_the_strongest_point():
    def moved(by):
        return lambda model, x, y, threat, **options: x + torch.tensor([0, by])

    x = ROWS[2:]
    x_adv = in_turn(two_features, x, ZEROS[2:], Linf(1.0), [moved(by) for by in (0.25, 0.5, 0.375)])
    assert x_adv[:, 1].tolist() == [0.5] * 3
    worse = in_turn(lambda z: -two_features(z), x, ZEROS[2:] + 1, Linf(1.0), [moved(0.25)])
    assert torch.equal(worse, x)


def test_an_error_counts_also_where_two_classes_tie():
    def model(z):
        first, third = torch.where(z > 0.5, 0.0, -1.0), torch.where(z > 0.5, -1.0, 0.0)
        return torch.cat([first, 0 * first, third], dim=1)  # right about class 1, by no margin

    x, y = torch.zeros(1, 1), torch.ones(1, dtype=torch.int64)
    x_adv = in_turn(model, x, y, Linf(1.0), [lambda model, x, y, threat, **options: x + 1], generator=seeded())
    assert x_adv.item() == 1


@pytest.mark.filterwarnings("ignore::advlib.GradientMaskingWarning")
def test_nan_is_no_error_and_no_strength():
    def model(z):
        return two_features(z) + torch.where(z[:, 1:] > 0.1, torch.tensor([0, torch.nan, 0]), 0)

    threat = Linf(torch.ones(5))
    assert torch.equal(in_turn(model, ROWS, ZEROS, threat, [Recorder(0.1, 0.3)]), ROWS)


def test_each_attack_draws_another_key_and_the_call_one():
    draws = []

    def attack(model, x, y, threat, *, batch_size, generator):
        draws.append(torch.rand((), generator=generator).item())
        return x.clone()

    generator = seeded()
    for state in (generator.get_state(), seeded(8).get_state()):
        generator.set_state(state)
        in_turn(two_features, ROWS, ZEROS, Linf(0.1), [attack] * 2, generator=generator)
        after = generator.get_state()
        generator.set_state(state)
        torch.randint(-(2**63), 2**63 - 1, (), generator=generator)
        assert torch.equal(generator.get_state(), after)
    assert len(set(draws)) == 4


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.15), L1(0.4)])
def test_at_least_as_strong_as_each_of_its_attacks(threat):
    model, x = build((12,)), batch((12,), rows=60)
    y = classes(model, x)
    y[:3] = (y[:3] + 1) % 5
    x_adv = in_turn(model, x, y, threat, SHORT_AUTO_ATTACK, generator=seeded())
    left = (classes(model, x_adv) == y).sum()
    assert torch.equal(x_adv[:3], x[:3])
    assert 0 < left <= min((classes(model, attack(model, x, y, threat)) == y).sum() for attack in SHORT_AUTO_ATTACK)
    assert left < 57


def test_the_real_thing_on_a_network_that_it_breaks_in_part():
    model, x = build((12,)), batch((12,), rows=8)
    y = classes(model, x)
    threat = Linf(0.05)
    x_adv = auto_attack(model, x, y, threat, generator=seeded())
    assert threat.contains(x_adv, x).all()
    broken = classes(model, x_adv) != y
    assert 0 < broken.sum() < 8
    assert (margin(model(x_adv), y) > margin(model(x), y)).all()
    by_pgd = classes(model, pgd(model, x, y, threat, restarts=3, loss="margin", generator=seeded())) != y
    assert (broken | ~by_pgd).all()


@pytest.mark.parametrize(("count", "classes_aimed_at"), [(2, 1), (3, 2), (4, 3)])
def test_few_classes(count, classes_aimed_at):
    """All classes there are, and the margin where there are too few for the ratio."""
    logits, y, target = torch.randn(6, count, generator=seeded()), torch.zeros(6, dtype=torch.int64), ROWS.new_ones(6)
    target = target.long()
    assert torch.equal(ratio(logits, y), (dlr if count > 2 else margin)(logits, y))
    assert torch.equal(ratio(logits, y, target), (dlr if count > 3 else margin)(logits, y, target))
    layer = nn.Linear(5, count).double()
    counted, x = Counted(layer), batch((5,), rows=1)
    for attack in attacks_of("standard", Linf(1e-9))[1:3]:
        counted.backwards = 0
        attack(counted, x, layer(x).argmax(1), Linf(1e-9), generator=seeded())
        assert counted.backwards == 100 * classes_aimed_at


def test_logits_are_read_from_what_the_model_returns():
    model, x = build((12,)), batch((12,))
    y = classes(model, x)
    settings = {"attacks": SHORT_AUTO_ATTACK, "passes": 2}
    plain = in_turn(model, x, y, Linf(0.1), generator=seeded(), **settings)
    packed = in_turn(
        lambda z: {"logits": model(z)}, x, y, Linf(0.1), logits_of=lambda o: o["logits"], generator=seeded(), **settings
    )
    assert torch.equal(packed, plain)
    wrong, settings = {"y": (y + 1) % 5, "threat": Linf(0.1)}, {"logits_of": lambda output: output["logits"]}
    assert torch.equal(auto_attack(lambda z: {"logits": model(z)}, x, **wrong, **settings), x)


def test_one_warning_for_all_attacks():
    """On rows that are left; the cross-entropy's gradient alone vanishes on a model that is very sure."""
    inner, x = build((12,)), batch((12,))
    y = classes(inner, x)
    attacks = [partial(apgd, steps=2, loss=loss) for loss in (cross_entropy, "margin")]
    with pytest.warns(GradientMaskingWarning) as caught:
        in_turn(lambda z: inner(z.round().detach()), x, y, Linf(0.01), attacks)
    assert len(caught) == 1
    in_turn(lambda z: 1e6 * inner(z), x, y, Linf(0.01), attacks)  # warnings are errors


def test_batches_are_no_larger_than_asked_for():
    inner, x, sizes = build((12,)), batch((12,), rows=7), set()

    def model(z):
        sizes.add(len(z))
        return inner(z)

    in_turn(model, x, classes(inner, x), Linf(1e-3), SHORT_AUTO_ATTACK, batch_size=3)
    assert sizes == {1, 3}


def test_bad_arguments():
    model, x = build((12,)), batch((12,))
    y = classes(model, x)
    with pytest.raises(ValueError, match="version must be one of standard, plus, rand, got 'Standard'"):
        auto_attack(model, x, y, Linf(0.1), version="Standard")
    with pytest.raises(ValueError, match=r"AutoAttack takes an Linf, L2 or L1 threat model, got L0: use advlib\.pgd"):
        auto_attack(model, x, y, L0(3))
    with pytest.raises(ValueError, match="finite eps"):
        auto_attack(model, x, y, Linf(torch.inf))
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        auto_attack(model, x, y, Linf(0.1), batch_size=0)
    with pytest.raises(TypeError, match="targeted"):
        auto_attack(model, x, y, Linf(0.1), targeted=True)
