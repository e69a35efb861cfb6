"""Bad input to training objectives: one clear message each."""

from functools import partial

import pytest
import torch

from advlib import Linf, fgsm, pgd
from advlib.defenses import (
    MART,
    TRADES,
    AdversarialLogitPairing,
    AdversarialTraining,
    CleanLogitPairing,
    DefensiveDistillation,
    EnsembleAdversarialTraining,
    FreeAdversarialTraining,
    LabelSmoothing,
    LogitSqueezing,
    Standard,
    VirtualAdversarialTraining,
    distill,
    distillation_loss,
    noisy_fgsm,
)
from tests.defenses.table import ATTACK, ATTACKING, PERTURBING, build, classes, every, inputs, make, soft

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("temperature", [0.0, -1.0, NAN, INF])
def test_temperature(temperature):
    message = "temperature must be positive and finite, got"
    with pytest.raises(ValueError, match=message):
        Standard(temperature=temperature)
    with pytest.raises(ValueError, match=message):
        DefensiveDistillation(build(), temperature=temperature)
    trained = []
    with pytest.raises(ValueError, match=message):
        distill(build(), build(), lambda model, objective: trained.append(model), temperature=temperature)
    assert not trained


def test_a_teacher_with_other_classes():
    objective = DefensiveDistillation(build(classes=4).eval())
    with pytest.raises(ValueError, match=r"one shape, got \(6, 4\) from the teacher and \(6, 3\) from the student"):
        objective(build(), inputs(), classes())
    with pytest.raises(ValueError, match="one shape"):
        distillation_loss(torch.zeros(2, 3), torch.zeros(1, 3), temperature=1.0)


def test_a_teacher_that_is_no_model():
    with pytest.raises(TypeError, match="teacher must be a callable to logits, got str"):
        DefensiveDistillation("teacher.pt")


@every(ATTACKING)
@pytest.mark.parametrize("attack", ["pgd", None, Linf(0.1)])
def test_an_attack_that_is_not_callable(name, attack):
    with pytest.raises(TypeError, match=r"attack must be a configured attack function.*functools\.partial"):
        make(name, attack=attack)


@every(ATTACKING)
@pytest.mark.parametrize(
    "attack",
    [pgd, fgsm, noisy_fgsm, partial(pgd, steps=3), partial(pgd, threat=0.1)],
    ids=["pgd", "fgsm", "noisy_fgsm", "steps", "radius"],
)
def test_an_attack_without_its_threat_model(name, attack):
    with pytest.raises(TypeError, match=r"attack lacks its threat model.*functools\.partial\(pgd, threat="):
        make(name, attack=attack)


@every(ATTACKING)
def test_an_attack_of_the_users_own_is_not_judged(name):
    for attack in (lambda model, x, y, **options: x, partial(lambda model, x, y, scale, **options: x, scale=2)):
        assert make(name, attack=attack)(build(), inputs(), classes()).loss.isfinite()


@every()
def test_batches_that_are_not_paired(name):
    objective = make(name)
    for y in (classes(5), soft(5), classes(7)):
        with pytest.raises(ValueError, match=f"pair each input with one label, got 6 inputs and {len(y)} labels"):
            objective(build(), inputs(), y)


@every()
@pytest.mark.parametrize("labels", [classes, soft], ids=["labels", "probabilities"])
def test_empty_batches(name, labels):
    with pytest.raises(ValueError, match="got 0 inputs and 0 labels"):
        make(name)(build(), inputs(0), labels(0))


@pytest.mark.parametrize("bad", [-0.1, NAN, INF])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(TRADES, ATTACK), "beta"),
        (partial(MART, ATTACK), "beta"),
        (partial(AdversarialLogitPairing, ATTACK), "weight"),
        (CleanLogitPairing, "weight"),
        (CleanLogitPairing, "noise"),
        (LogitSqueezing, "weight"),
        (LogitSqueezing, "noise"),
        (partial(VirtualAdversarialTraining, 1.0), "weight"),
        (VirtualAdversarialTraining, "eps"),
    ],
)
def test_negative_numbers(make, name, bad):
    with pytest.raises(ValueError, match=rf"^{name} must lie in \[0, inf\), got {bad}"):
        make(**{name: bad})


@pytest.mark.parametrize("bad", [-0.1, 1.1, NAN])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(AdversarialTraining, ATTACK), "adversarial_weight"),
        (partial(AdversarialLogitPairing, ATTACK), "adversarial_weight"),
        (partial(EnsembleAdversarialTraining, [build()], ATTACK), "adversarial_weight"),
        (LabelSmoothing, "smoothing"),
    ],
)
def test_shares_outside_0_and_1(make, name, bad):
    with pytest.raises(ValueError, match=rf"^{name} must lie in \[0, 1\], got {bad}"):
        make(**{name: bad})
    assert make(**{name: 0.0}) != make(**{name: 1.0})


def test_virtual_parameters():
    with pytest.raises(ValueError, match=r"iterations must lie in \[1, inf\), got 0"):
        VirtualAdversarialTraining(1.0, iterations=0)
    with pytest.raises(ValueError, match=r"xi must lie in \[1e-12, inf\), got 0"):
        VirtualAdversarialTraining(1.0, xi=0)


@every([*ATTACKING, "virtual"])
@pytest.mark.parametrize("bn", ["train", True, None])
def test_an_unknown_mode_of_batch_normalisation(name, bn):
    with pytest.raises(ValueError, match=r"bn must be 'eval' .* or 'batch' .*, got"):
        make(name, bn=bn)


def test_ensembles_without_models():
    with pytest.raises(ValueError, match="sources must hold at least one trained model"):
        EnsembleAdversarialTraining([], ATTACK)
    with pytest.raises(TypeError, match="sources must hold models, callables to logits, got str"):
        EnsembleAdversarialTraining([build(), "other.pt"], ATTACK)


def test_free_training():
    with pytest.raises(TypeError, match=r"threat must be a threat model such as advlib\.Linf\(8/255\), got 0\.1"):
        FreeAdversarialTraining(threat=0.1)
    for replays in (0, -1, 2.5, "4"):
        with pytest.raises(ValueError, match=r"replays must be a whole number of at least 1, got"):
            FreeAdversarialTraining(Linf(0.1), replays=replays)


@every(PERTURBING)
def test_a_loss_without_the_perturbation_that_it_needs(name):
    with pytest.raises(ValueError, match=r"compares clean with perturbed inputs.*perturb\(\)"):
        make(name).loss(build(), inputs(), classes(), None)
