"""assert_attack_valid accepts attacks that keep the laws, and each law has a broken attack that it catches."""

import re
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

import advlib
from advlib import L0, L1, L2, Linf
from advlib.testing import LAWS, assert_attack_valid

THREAT = Linf(0.1)


@contextmanager
def evaluated(model):
    """What a careful attack does with the flags."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag


def slope(model, x, y, targeted=False):
    with torch.inference_mode(False), torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        value = functional.cross_entropy(model(point), y.clone(), reduction="sum")
        if not value.requires_grad:
            return torch.zeros_like(point).detach()
        (gradient,) = torch.autograd.grad(value, point, allow_unused=True)
        gradient = torch.zeros_like(point) if gradient is None else gradient.nan_to_num(0)
        return -gradient if targeted else gradient


def honest(model, x, y, threat, targeted=False):
    """An attack that another library might have, written without advlib."""
    with evaluated(model):
        step = threat.eps * slope(model, x, y, targeted).sign()
    with torch.inference_mode(False):
        return (x.clone() + step).clamp(0, 1).detach()


def twice(model, x, y, threat, targeted=False, between=lambda: None):
    x_adv = honest(model, x, y, threat, targeted)
    between()
    with evaluated(model):
        slope(model, x, y)
    return x_adv


def outside_inference(x_adv):
    """A copy that a training step can take."""
    with torch.inference_mode(False):
        return x_adv.clone()


def broken_laws(attack, threat=THREAT, **options):
    """The names of the laws that it breaks, in the message's words."""
    options.setdefault("shape", (2, 4, 4))
    try:
        assert_attack_valid(attack, threat, **options)
    except AssertionError as error:
        return {name for line in re.findall(r"^- ([\w ,]+): ", str(error), re.MULTILINE) for name in line.split(", ")}
    return set()


def test_an_honest_attack_of_nobodys_library_passes():
    assert_attack_valid(honest, THREAT, targeted=True)
    assert_attack_valid(twice, THREAT, targeted=True)


# -- one broken attack for each way in which a law can fail --------------------------------------------------------


def too_far(model, x, y, threat):
    return outside_inference((x + 1.01 * (honest(model, x, y, threat) - x)).clamp(0, 1))


def out_of_bounds(model, x, y, threat):
    return x + threat.eps * slope(model, x, y).sign()


def nan_rows(model, x, y, threat):
    x_adv = honest(model, x, y, threat)
    return torch.where(torch.arange(len(x)).reshape(-1, 1, 1, 1) == 15, torch.nan, x_adv)


def in_single_precision(model, x, y, threat):
    return honest(model, x, y, threat).float()


def flattened(model, x, y, threat):
    return honest(model, x, y, threat).flatten(1)


def with_a_graph(model, x, y, threat):
    return honest(model, x, y, threat).requires_grad_()


def gives_x_back(model, x, y, threat):
    return x if threat.eps == 0 or len(x) == 6 else honest(model, x, y, threat)


def moves_without_eps(model, x, y, threat):
    return (x + max(threat.eps, 1e-3) * slope(model, x, y).sign()).clamp(0, 1)


def refuses_eps_zero(model, x, y, threat):
    if threat.eps == 0:
        raise ValueError("eps must be positive")
    return honest(model, x, y, threat)


def over_the_batch(model, x, y, threat):
    with evaluated(model):
        gradient = slope(model, x, y)
    return (x + threat.eps * gradient / gradient.abs().max().clamp_min(1e-12)).clamp(0, 1)


def accumulates_gradients(model, x, y, threat):
    with evaluated(model), torch.inference_mode(False), torch.enable_grad():
        functional.cross_entropy(model(x.clone()), y.clone()).backward()
    return honest(model, x, y, threat)


def leaves_evaluation(model, x, y, threat):
    model.eval()
    return honest(model, x, y, threat)


def trains_everything(model, x, y, threat):
    training = model.training
    x_adv = honest(model, x, y, threat)
    model.train(training)  # as many libraries do: a frozen layer comes back in training
    return x_adv


def attacks_in_training(model, x, y, threat):
    return (x + threat.eps * slope(model, x, y).sign()).clamp(0, 1)


def moves_weights(model, x, y, threat):
    with torch.no_grad():
        next(model.parameters()).mul_(1.001)
    return honest(model, x, y, threat)


def freezes_weights(model, x, y, threat):
    model.requires_grad_(False)
    return honest(model, x, y, threat)


def works_in_place(model, x, y, threat):
    return x.copy_(honest(model, x, y, threat)).clone()


def marks_x(model, x, y, threat):
    if not x.is_inference():
        x.requires_grad_()
    return honest(model, x, y, threat)


def shifts_labels(model, x, y, threat):
    x_adv = honest(model, x, y, threat)
    y.add_(1)
    return x_adv


def not_in_a_finally(model, x, y, threat):
    flags = {module: module.training for module in model.modules()}
    model.eval()
    x_adv = twice(model, x, y, threat)
    for module, flag in flags.items():
        module.training = flag
    return x_adv


def seeds_torch(model, x, y, threat):
    torch.manual_seed(0)
    return (honest(model, x, y, threat) + 1e-12 * torch.rand(x.shape).to(x)).clamp(0, 1)


def draws_in_vain(model, x, y, threat):
    np.random.rand()
    return honest(model, x, y, threat)


def seeds_torch_and_draws_from_numpy(model, x, y, threat):
    torch.manual_seed(0)
    return x + 0.99 * np.random.uniform(0.5, 1) * (honest(model, x, y, threat) - x)


def draws_from_nowhere(model, x, y, threat):
    generator = torch.Generator()
    generator.seed()
    share = 0.5 + 0.4 * torch.rand((), generator=generator).item()
    return x + share * (honest(model, x, y, threat) - x)


def needs_gradients_on(model, x, y, threat):
    point = x.detach().clone().requires_grad_()
    with evaluated(model):
        (gradient,) = torch.autograd.grad(functional.cross_entropy(model(point), y, reduction="sum"), point)
    return (x + threat.eps * gradient.sign()).clamp(0, 1)


def turns_gradients_on(model, x, y, threat):
    torch.set_grad_enabled(True)
    return honest(model, x, y, threat).detach()


def gives_up_without_gradients(model, x, y, threat):
    return honest(model, x, y, threat) if torch.is_grad_enabled() else x.clone()


def gives_an_inference_tensor(model, x, y, threat):
    return honest(model, x, y, threat) + 0


def short_steps(model, x, y, threat):
    return outside_inference(x + 0.9 * (honest(model, x, y, threat) - x))


def downhill(model, x, y, threat):
    return honest(model, x, y, threat, targeted=True)


def asks_for_a_gradient(model, x, y, threat):
    with torch.inference_mode(False), torch.enable_grad(), evaluated(model):
        point = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(model(point), y.clone(), reduction="sum"), point)
    return (x.clone() + threat.eps * gradient.nan_to_num(0).sign()).clamp(0, 1).clone()


def divides_by_the_norm(model, x, y, threat):
    with evaluated(model):
        gradient = slope(model, x, y)
    return (x + threat.eps * (gradient / gradient.abs())).clamp(0, 1)


def keeps_nan(model, x, y, threat):
    with evaluated(model), torch.inference_mode(False), torch.enable_grad():
        point = x.clone().requires_grad_()
        value = functional.cross_entropy(model(point), y.clone(), reduction="sum")
        gradient = torch.autograd.grad(value, point, allow_unused=True)[0] if value.requires_grad else None
    gradient = torch.zeros_like(x) if gradient is None else gradient
    return (x + threat.eps * gradient / (gradient.abs() + 1e-20)).clamp(0, 1).detach()


def ignores_targeted(model, x, y, threat, targeted=False):
    return honest(model, x, y, threat)


def looks_at_the_first_row(model, x, y, threat):
    y[0].item()
    return honest(model, x, y, threat)


def squeezes(model, x, y, threat):
    return honest(model, x, y, threat).squeeze(0)


def views(model, x, y, threat):
    return honest(model, x.view(len(x), -1).view(x.shape), y, threat)


def by_memory(model, x, y, threat):
    straight = torch.as_strided(x, x.shape, x.contiguous().stride())  # what a kernel does that never asks for strides
    return (x + honest(model, straight, y, threat) - straight).clamp(0, 1)


BROKEN = [
    (too_far, {"inside"}),
    (out_of_bounds, {"inside"}),
    (nan_rows, {"inside"}),
    (in_single_precision, {"like x"}),
    (flattened, {"like x", "inside"}),
    (with_a_graph, {"like x"}),
    (gives_x_back, {"like x"}),
    (moves_without_eps, {"eps zero"}),
    (refuses_eps_zero, {"eps zero"}),
    (over_the_batch, {"alone"}),
    (accumulates_gradients, {"untouched"}),
    (leaves_evaluation, {"untouched"}),
    (trains_everything, {"untouched"}),
    (attacks_in_training, {"untouched"}),
    (moves_weights, {"untouched"}),
    (freezes_weights, {"untouched"}),
    (works_in_place, {"untouched"}),
    (marks_x, {"untouched"}),
    (shifts_labels, {"untouched"}),
    (not_in_a_finally, {"exception"}),
    (seeds_torch, {"random state"}),
    (draws_in_vain, {"random state"}),
    (seeds_torch_and_draws_from_numpy, {"random state"}),
    (draws_from_nowhere, {"random state"}),
    (needs_gradients_on, {"no_grad", "inference_mode"}),
    (turns_gradients_on, {"no_grad"}),
    (gives_up_without_gradients, {"no_grad", "inference_mode"}),
    (gives_an_inference_tensor, {"inference_mode"}),
    (short_steps, {"optimum"}),
    (downhill, {"optimum", "untargeted"}),
    (asks_for_a_gradient, {"no gradient"}),
    (divides_by_the_norm, {"no gradient", "zero gradient", "NaN gradient"}),
    (keeps_nan, {"NaN gradient"}),
    (ignores_targeted, {"targeted"}),
    (looks_at_the_first_row, {"empty batch"}),
    (squeezes, {"one row"}),
    (views, {"layout"}),
    (by_memory, {"layout"}),
]


@pytest.mark.parametrize(("attack", "laws"), BROKEN, ids=[attack.__name__ for attack, _ in BROKEN])
def test_a_broken_attack_breaks_its_law(attack, laws):
    found = broken_laws(attack, targeted=attack is ignores_targeted)
    assert laws <= found, found


def test_every_law_catches_a_broken_attack_alone():
    """No law is there for nothing: each is the only one that some broken attack breaks, or one of a pair."""
    caught = set.union(*(laws for _, laws in BROKEN))
    assert caught == set(LAWS)


# -- the library's own attacks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attack", "threat", "options"),
    [
        (advlib.fgsm, L2(0.5), {}),
        (advlib.pgd, Linf(0.1), {}),
        (advlib.pgd, L2(0.5), {}),
        (advlib.pgd, L1(1.0, sparsity=0.2), {}),
        (advlib.pgd, L0(6), {}),
        (partial(advlib.apgd, steps=30), Linf(0.1), {}),
        (partial(advlib.bim, steps=40), Linf(0.1, bounds=(-1.0, 1.5)), {}),
        (partial(advlib.bim, steps=40), Linf(0.1, bounds=None), {}),
        (advlib.pgd, Linf(0.1, bounds=(0.2, 0.8), mask=torch.arange(4) < 2), {}),
        (advlib.mim, Linf(0.1), {"dtype": torch.float32}),
        (partial(advlib.fab, steps=10), L2(3.0), {"skip": {"optimum"}}),
        (advlib.jsma, L0(6), {"optimum": 0.3}),
        (partial(advlib.square, steps=30), Linf(0.1), {"optimum": 0.2}),
        (advlib.uniform_noise, Linf(0.1), {"skip": ["optimum"]}),
    ],
)
def test_advlibs_attacks_keep_the_laws(attack, threat, options):
    assert_attack_valid(attack, threat, targeted=True, shape=(2, 4, 4), **options)


def test_features_and_volumes():
    assert_attack_valid(advlib.fgsm, THREAT, shape=(12,))
    assert_attack_valid(advlib.fgsm, THREAT, shape=(2, 3, 2, 2))


# -- what the message says, and what is left as it was --------------------------------------------------------------


def test_all_broken_laws_are_told_at_once_with_their_numbers():
    def bad(model, x, y, threat):
        torch.manual_seed(3)
        return x + 2 * threat.eps * slope(model, x, y).sign()

    with pytest.raises(AssertionError) as caught:
        assert_attack_valid(bad, THREAT)
    message = str(caught.value)
    assert re.match(r"bad keeps \d+ of 18 laws under Linf\(eps=0.1", message)
    assert re.search(r"- inside: 20 of 20 rows .* up to 0.2 from x where eps is 0.1, up to 0.2 beyond", message)
    assert "- random state: changed torch's global generator" in message
    assert "changed the value of 2.running_mean" not in message  # that layer is frozen
    assert "changed the value of 6.running_mean" in message
    assert "skip={name}" in message


def test_the_optimum_is_told_as_a_share():
    with pytest.raises(AssertionError, match=r"raises the loss by 0.900 to 0.900 of what is possible .* 8 of 8 rows"):
        assert_attack_valid(short_steps, THREAT)
    assert_attack_valid(short_steps, THREAT, optimum=0.89)


def test_what_the_attack_raises_is_told_and_kept():
    def fails(model, x, y, threat):
        raise KeyError("no such thing")

    with pytest.raises(
        AssertionError, match=r"- inside, like x, .*, layout: raised KeyError: 'no such thing'"
    ) as caught:
        assert_attack_valid(fails, THREAT)
    assert isinstance(caught.value.__cause__, KeyError)


def test_laws_can_be_left_out():
    assert broken_laws(too_far) == {"inside", "one row"}
    assert broken_laws(too_far, skip=["inside", "one row"]) == set()
    assert_attack_valid(refuses_eps_zero, THREAT, skip={"eps zero"})
    with pytest.raises(ValueError, match=r"skip must hold names of laws, inside, .*, got epszero"):
        assert_attack_valid(honest, THREAT, skip={"epszero"})


@pytest.mark.parametrize(("attack", "threat", "message"), [(3, THREAT, "attack must be"), (honest, 0.1, "Linf")])
def test_bad_arguments(attack, threat, message):
    with pytest.raises(TypeError, match=message):
        assert_attack_valid(attack, threat)


def test_the_callers_random_state_is_kept():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert_attack_valid(advlib.pgd, THREAT, shape=(4,), skip={"optimum"})
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
