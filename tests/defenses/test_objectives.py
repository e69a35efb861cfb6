"""Each objective against its formula on a small model."""

import dataclasses
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

import advlib
from advlib import L2, Linf, defenses, fgsm, pgd
from advlib.defenses import (
    MART,
    TRADES,
    AdversarialLogitPairing,
    AdversarialTraining,
    CleanLogitPairing,
    DefensiveDistillation,
    EnsembleAdversarialTraining,
    LabelSmoothing,
    LogitSqueezing,
    Standard,
    distill,
    divergence,
    mart_loss,
    noisy_fgsm,
    trades_loss,
)
from advlib.models import Counted
from tests.defenses.table import ATTACK, CLASSES, THREAT, build, classes, inputs, other, seeded, soft

CE = functional.cross_entropy


def problem(rows=6):
    """A network without batch normalisation, whose logits of a row are those of the row alone."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, CLASSES)).double()
    with torch.no_grad():
        model[3].weight.mul_(4)
    return model, inputs(rows), classes(rows)


def equal(value, expected):
    assert torch.allclose(value, expected, rtol=1e-10, atol=1e-12)


def fixed(**settings):
    """An attack that finds the same points at every call."""

    def attack(model, x, y, loss="cross_entropy"):
        return ATTACK(model, x, y, loss=loss, generator=seeded(), **settings)

    return attack


def test_standard():
    model, x, y = problem()
    out = Standard()(model, x, y)
    equal(out.loss, CE(model(x), y))
    equal(out.logits, model(x))
    assert out.logits_adv is out.x_adv is None
    equal(Standard(temperature=20.0)(model, x, y).loss, CE(model(x) / 20, y))
    equal(Standard(temperature=20.0)(model, x, y).logits, model(x))


def test_label_smoothing():
    model, x, y = problem()
    spread = 0.8 * functional.one_hot(y, CLASSES).double() + 0.2 / CLASSES
    equal(LabelSmoothing(0.2)(model, x, y).loss, -(spread * model(x).log_softmax(1)).sum(1).mean())
    equal(LabelSmoothing(0.0)(model, x, y).loss, CE(model(x), y))


def test_adversarial_training():
    model, x, y = problem()
    x_adv = fixed()(model, x, y)
    assert (x_adv != x).any()
    out = AdversarialTraining(fixed())(model, x, y)
    assert torch.equal(out.x_adv, x_adv)
    assert out.logits is None
    equal(out.logits_adv, model(x_adv))
    equal(out.loss, CE(model(x_adv), y))
    half = AdversarialTraining(fixed(), adversarial_weight=0.5)(model, x, y)
    equal(half.loss, (CE(model(x), y) + CE(model(x_adv), y)) / 2)
    equal(half.logits, model(x))
    equal(half.logits_adv, model(x_adv))
    third = AdversarialTraining(fixed(), adversarial_weight=0.3)(model, x, y)
    equal(third.loss, 0.7 * CE(model(x), y) + 0.3 * CE(model(x_adv), y))


def test_adversarial_training_alone_never_looks_at_clean_inputs():
    model, x, y = problem()
    counted = Counted(model)
    objective = AdversarialTraining(ATTACK)
    objective.loss(counted, x, y, x)
    assert counted.forwards == len(x)


def test_a_soft_label_is_attacked_at_its_likeliest_class():
    model, x, _ = problem()
    y = soft()
    x_adv = fixed()(model, x, y.argmax(1))
    out = AdversarialTraining(fixed())(model, x, y)
    assert torch.equal(out.x_adv, x_adv)
    equal(out.loss, -(y * model(x_adv).log_softmax(1)).sum(1).mean())


def test_trades_climbs_the_divergence():
    model, x, y = problem()
    with torch.no_grad():
        clean = model(x)
    expected = fixed()(model, x, y, loss=lambda output, y, target=None: divergence(clean, output))
    out = TRADES(fixed(), beta=6.0)(model, x, y)
    assert torch.equal(out.x_adv, expected)
    assert not torch.equal(out.x_adv, fixed()(model, x, y))
    equal(out.loss, trades_loss(model(x), model(expected), y, beta=6.0))
    equal(out.logits, model(x))
    equal(out.logits_adv, model(expected))
    equal(TRADES(fixed(), beta=0.0)(model, x, y).loss, CE(model(x), y))


def test_trades_asks_for_the_clean_answer_once():
    model, x, y = problem()
    counted = Counted(model)
    objective = TRADES(partial(ATTACK, steps=5))
    x_adv = objective.perturb(counted, x, y)
    assert (counted.forwards, counted.backwards) == ((1 + 5) * len(x), 5 * len(x))
    objective.loss(counted, x, y, x_adv)
    assert counted.forwards == (1 + 5 + 2) * len(x)


def test_the_clean_answer_of_trades_has_no_graph():
    model, x, y = problem()
    graphs = []

    def recorded(z):
        graphs.append(torch.is_grad_enabled())
        return model(z)

    TRADES(partial(ATTACK, steps=2)).perturb(recorded, x, y)
    assert graphs == [False, True, True]


@pytest.mark.parametrize("objective", [AdversarialTraining, MART, AdversarialLogitPairing])
def test_an_attack_costs_its_steps(objective):
    model, x, y = problem()
    counted = Counted(model)
    objective(partial(ATTACK, steps=5)).perturb(counted, x, y)
    assert (counted.forwards, counted.backwards) == (5 * len(x), 5 * len(x))


def test_trades_refuses_an_attack_that_splits_rows():
    model, x, y = problem()
    for size in (2, 5):
        with pytest.raises(ValueError, match=r"keep all 6 rows together.*keep='last'.*batch_size"):
            TRADES(partial(ATTACK, batch_size=size))(model, x, y)


def test_mart():
    model, x, y = problem()
    x_adv = fixed()(model, x, y)
    out = MART(fixed(), beta=5.0)(model, x, y)
    assert torch.equal(out.x_adv, x_adv)
    equal(out.loss, mart_loss(model(x), model(x_adv), y, beta=5.0))
    equal(MART(fixed(), beta=2.0)(model, x, y).loss, mart_loss(model(x), model(x_adv), y, beta=2.0))
    equal(out.logits, model(x))
    equal(out.logits_adv, model(x_adv))


def test_adversarial_logit_pairing_pairs_each_input_with_its_own_perturbation():
    model, x, y = problem()
    x_adv = fixed()(model, x, y)
    out = AdversarialLogitPairing(fixed(), weight=2.0, adversarial_weight=0.25)(model, x, y)
    own = (model(x) - model(x_adv)).square().mean()
    mixed = 0.75 * CE(model(x), y) + 0.25 * CE(model(x_adv), y)
    equal(out.loss, mixed + 2 * own)
    for shift in range(1, len(x)):  # any other pairing is far from it
        assert (model(x) - model(x_adv).roll(shift, 0)).square().mean() > 2 * own
    default = AdversarialLogitPairing(fixed())(model, x, y)
    equal(default.loss, 0.5 * (CE(model(x), y) + CE(model(x_adv), y)) + 0.5 * own)


@pytest.mark.parametrize("rows", [6, 7])
def test_clean_logit_pairing_pairs_different_inputs(rows):
    model, x, y = problem(rows)
    torch.manual_seed(0)
    out = CleanLogitPairing(weight=2.0, noise=0.3)(model, x, y)
    torch.manual_seed(0)
    noise = torch.randn_like(x)
    assert torch.equal(out.x_adv, x + 0.3 * noise)
    logits = model(out.x_adv)
    pairs = torch.stack([(logits[i] - logits[i + 3]).square().mean() for i in range(3)])
    equal(out.loss, CE(logits, y) + 2 * pairs.mean())
    equal(out.logits_adv, logits)


def test_clean_logit_pairing_has_no_partner_for_a_single_input():
    model, x, y = problem(1)
    equal(CleanLogitPairing(noise=0.0)(model, x, y).loss, CE(model(x), y))


def test_logit_squeezing():
    model, x, y = problem()
    torch.manual_seed(0)
    out = LogitSqueezing(weight=2.0, noise=0.3)(model, x, y)
    torch.manual_seed(0)
    assert torch.equal(out.x_adv, x + 0.3 * torch.randn_like(x))
    logits = model(out.x_adv)
    equal(out.loss, CE(logits, y) + 2 * (logits**2).mean())


@pytest.mark.parametrize("objective", [CleanLogitPairing(), LogitSqueezing()], ids=["pairing", "squeezing"])
def test_the_noise_has_the_deviation_of_the_paper(objective):
    x = torch.rand(200, 50, dtype=torch.float64)
    delta = objective.perturb(nn.Identity(), x, torch.zeros(200)) - x
    assert abs(delta.std() - 0.5) < 0.02
    assert abs(delta.mean()) < 0.02


def test_ensemble_draws_every_source_and_itself():
    model, x, y = problem()
    others = [problem()[0], problem()[0]]
    for i, source in enumerate(others):
        source[1].weight.data.mul_(-1 - i)
    drawn = []

    def attack(source, x, y):
        drawn.append(source)
        return fgsm(source, x, y, THREAT)

    objective = EnsembleAdversarialTraining(others, attack)
    torch.manual_seed(0)
    for _ in range(60):
        out = objective(model, x, y)
        assert torch.equal(out.x_adv, fgsm(drawn[-1], x, y, THREAT))
        equal(out.loss, (CE(model(x), y) + CE(model(out.x_adv), y)) / 2)
        equal(out.logits, model(x))
    counts = [sum(source is candidate for source in drawn) for candidate in (model, *others)]
    assert sum(counts) == 60
    assert min(counts) >= 10  # each 20 times in the mean, by 3.65 deviations of the binomial


def test_ensemble_leaves_its_sources_as_they_are():
    _, x, y = problem()
    source = build()
    objective = EnsembleAdversarialTraining([source], ATTACK)
    before = {key: value.clone() for key, value in source.state_dict().items()}
    torch.manual_seed(0)
    for _ in range(6):
        objective(build(), x, y).loss.backward()
    assert source.training
    assert all(torch.equal(value, before[key]) for key, value in source.state_dict().items())
    assert all(p.grad is None for p in source.parameters())


def test_distillation_against_its_formula():
    model, x, y = problem()
    teacher = other(3, torch.float64).train()
    objective = DefensiveDistillation(teacher, temperature=20.0)
    out = objective(model, x, y)
    assert teacher.training
    target = (teacher.eval()(x) / 20).softmax(1)
    equal(out.loss, -(target * (model(x) / 20).log_softmax(1)).sum(1).mean())
    equal(out.logits, model(x))
    out.loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_distillation_looks_at_no_label():
    model, x, y = problem()
    objective = DefensiveDistillation(other(3, torch.float64), temperature=20.0)
    assert torch.equal(objective(model, x, y).loss, objective(model, x, 0 * y).loss)


def test_distill_trains_both_at_the_temperature_and_deploys_at_1():
    teacher, student = build(seed=1), build(seed=2)
    x, y = inputs(), classes()
    stages = []

    def fit(model, objective):
        stages.append((model, objective))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            objective(model, x, y).loss.backward()
            optimizer.step()

    result = distill(teacher, student, fit, temperature=20.0)
    (first, standard), (second, distillation) = stages
    assert first is teacher
    assert second is student
    assert standard == Standard(temperature=20.0)
    assert isinstance(distillation, DefensiveDistillation)
    assert distillation.teacher is teacher
    assert distillation.temperature == 20.0
    assert not result.training
    assert torch.equal(result(x), student.eval()(x))  # the logits themselves, not divided
    equal(standard.loss(teacher.eval(), x, y).loss, CE(teacher(x) / 20, y))


def test_distill_takes_its_temperature_from_the_paper():
    stages = []
    distill(build(), build(), lambda model, objective: stages.append(objective))
    assert [stage.temperature for stage in stages] == [100.0, 100.0]


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), Linf(0.1, bounds=None)], ids=["linf", "l2", "no bounds"])
def test_noisy_fgsm_stays_within_its_reach(threat):
    model, x, y = problem(50)
    x_adv = noisy_fgsm(model, x, y, threat, generator=seeded())
    if threat.bounds is not None:
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1
    assert (threat.distance(x_adv, x) <= 3 * threat.eps + 1e-12).all()
    assert threat.distance(x_adv, x).max() > 1.2 * threat.eps  # no projection back onto the ball


def test_noisy_fgsm_is_noise_and_one_step():
    model, x, y = problem(500)
    eps, bounds = 0.1, (0.0, 1.0)
    x_adv = noisy_fgsm(model, x, y, Linf(eps), generator=seeded())
    no_step = noisy_fgsm(model, x, y, Linf(eps), step_size=0.0, generator=seeded())
    at = no_step.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(CE(model(at), y, reduction="sum"), at)
    equal(x_adv, (no_step + eps * gradient.sign()).clamp(*bounds))
    noise = (noisy_fgsm(model, x, y, Linf(eps, bounds=None), step_size=0.0, generator=seeded()) - x) / eps
    equal(no_step, (x + eps * noise).clamp(*bounds))
    assert noise.abs().max() <= 2
    assert noise.max() > 1.98
    assert noise.min() < -1.98
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 4 / 12**0.5) < 0.03  # uniform over [-2, 2]


def test_noisy_fgsm_scales_its_noise_and_its_step():
    model, x, y = problem(50)
    threat = Linf(0.02, bounds=None)
    one = noisy_fgsm(model, x, y, threat, noise=0.0, step_size=1.5) - x
    equal(one.abs(), torch.full_like(x, 0.03))
    far = noisy_fgsm(model, x, y, threat, noise=5.0, step_size=0.0) - x
    assert 0.099 < far.abs().max() <= 0.1 + 1e-12


def test_noisy_fgsm_draws_anew_without_a_generator_and_again_with_one():
    model, x, y = problem()
    assert not torch.equal(noisy_fgsm(model, x, y, THREAT), noisy_fgsm(model, x, y, THREAT))
    first, second = (noisy_fgsm(model, x, y, THREAT, generator=seeded(2)) for _ in range(2))
    assert torch.equal(first, second)


def test_noisy_fgsm_costs_one_pass():
    model, x, y = problem()
    counted = Counted(model)
    noisy_fgsm(counted, x, y, THREAT)
    assert (counted.forwards, counted.backwards) == (len(x), len(x))


def test_the_defaults_are_those_of_the_papers():
    attack = partial(pgd, threat=THREAT)
    assert TRADES(attack).beta == 6.0
    assert MART(attack).beta == 5.0
    assert AdversarialTraining(attack).adversarial_weight == 1.0
    assert EnsembleAdversarialTraining([build()], attack).adversarial_weight == 0.5
    assert (AdversarialLogitPairing(attack).weight, AdversarialLogitPairing(attack).adversarial_weight) == (0.5, 0.5)
    assert (CleanLogitPairing().weight, CleanLogitPairing().noise) == (0.5, 0.5)
    assert (LogitSqueezing().weight, LogitSqueezing().noise) == (0.5, 0.5)
    assert LabelSmoothing().smoothing == 0.1
    for objective in (TRADES(attack), MART(attack), AdversarialTraining(attack)):
        assert objective.bn == "eval"
        assert objective.replays == 1


def test_historical_defences_exist_and_say_so():
    assert defenses.HISTORICAL
    for name, breaker in defenses.HISTORICAL.items():
        objective, _, attack = name.partition(" with ")
        assert "Historical" in getattr(defenses, objective).__doc__
        assert not attack or callable(getattr(advlib, attack))
        assert "pgd" in breaker
    said = {
        name
        for name, thing in vars(defenses).items()
        if isinstance(thing, type) and "Historical" in (thing.__doc__ or "")
    }
    assert said == {name.partition(" with ")[0] for name in defenses.HISTORICAL}
    assert "Historical" in distill.__doc__


def test_objectives_are_values():
    attack = partial(pgd, threat=THREAT)
    objective = TRADES(attack)
    assert objective == TRADES(attack)
    with pytest.raises(dataclasses.FrozenInstanceError):
        objective.beta = 1.0
