"""What holds for every objective: the model is left as it was, and any training loop may hold it."""

import copy
import dataclasses
import inspect
import math
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from advlib import GradientMaskingWarning, Linf, defenses, pgd
from advlib.defenses import AdversarialTraining, FreeAdversarialTraining, Objective, VirtualAdversarialTraining
from advlib.evaluator import precise
from tests.defenses.table import (
    ATTACK,
    ATTACKING,
    OBJECTIVES,
    PERTURBING,
    THREAT,
    build,
    classes,
    every,
    every_mode,
    inputs,
    make,
    same,
    seeded,
    snapshot,
    soft,
)


def mixed(dtype=torch.float64):
    """A model in training but for one frozen layer, with gradients already there."""
    model = build(dtype)
    model[2].eval()
    model[1].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    return model


def test_the_table_holds_every_objective():
    found = {value for value in vars(defenses).values() if isinstance(value, type) and issubclass(value, Objective)}
    found = {value for value in found if not inspect.isabstract(value)}
    assert found == {type(factory(torch.float64)) for _, factory in OBJECTIVES}


@every_mode()
@pytest.mark.parametrize("labels", [classes, soft], ids=["labels", "probabilities"])
def test_perturb_leaves_everything_as_it_was(name, changes, labels):
    model, x, y = mixed(), inputs(), labels()
    x_before, y_before, before = x.clone(), y.clone(), snapshot(model)
    x_adv = make(name, **changes).perturb(model, x, y)
    assert same(before, snapshot(model))
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)
    assert x.grad is None
    if name in PERTURBING:
        assert x_adv.shape == x.shape
        assert x_adv.dtype == x.dtype
        assert not x_adv.requires_grad
        assert name == "free" or (x_adv != x).any()
    else:
        assert x_adv is None


@every_mode(names=[*ATTACKING, "virtual"])
@pytest.mark.parametrize("when", ["first", "last"])
def test_perturb_leaves_everything_as_it_was_after_an_exception(name, changes, when):
    model, x, y = mixed(), inputs(), classes()
    if name == "ensemble":
        changes = {**changes, "sources": [model]}
    asked, limit = [], [math.inf]

    def explode(module, args, output):
        asked.append(1)
        if len(asked) >= limit[0]:
            raise OSError("boom")

    handle = model.register_forward_hook(explode)
    make(name, **changes).perturb(model, x, y)
    limit[0] = 1 if when == "first" else len(asked)
    asked.clear()
    before = snapshot(model)
    with pytest.raises(OSError, match="boom"):
        make(name, **changes).perturb(model, x, y)
    handle.remove()
    assert same(before, snapshot(model))
    assert torch.is_grad_enabled()


@every_mode()
def test_the_objective_leaves_no_gradient_and_changes_no_flag(name, changes):
    model, x, y = mixed(), inputs(), classes()
    before = snapshot(model)
    out = make(name, **changes)(model, x, y)
    after = snapshot(model)
    assert same((before[0], *before[1:]), (before[0], *after[1:]))
    assert all(torch.equal(p, before[0][key]) for key, p in model.named_parameters())
    assert x.grad is None
    assert out.loss.requires_grad
    assert out.x_adv is None or not out.x_adv.requires_grad


@every()
def test_batch_normalisation_counts_one_batch_of_training(name):
    """Whatever the attack asked, the running statistics hold the batch that the loss was taken on, once."""
    model, x, y = build(), inputs(), classes()
    out = make(name)(model, x, y)
    assert int(model[2].num_batches_tracked) == 1
    parts = [x] if out.x_adv is None else [x, out.x_adv] if out.logits is not None else [out.x_adv]
    expected = build()
    expected(torch.cat(parts))
    assert torch.allclose(model[2].running_mean, expected[2].running_mean, atol=1e-12)
    assert torch.allclose(model[5].running_var, expected[5].running_var, atol=1e-12)


@every(ATTACKING)
@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_what_batch_normalisation_uses_inside_the_attack(name, bn):
    """A user's attack that looks: with "eval" it sees running statistics, with "batch" those of the batch."""
    model, x, y = build(), inputs(), classes()
    in_evaluation, in_training = copy.deepcopy(model).eval()(x), copy.deepcopy(model).train()(x)
    assert (in_evaluation - in_training).abs().max() > 0.1
    seen = []

    def attack(source, x, y, **options):
        seen.append(source(x))
        return x

    changes = {"sources": [build()]} if name == "ensemble" else {}
    before = snapshot(model)
    for _ in range(6):
        make(name, attack=attack, bn=bn, **changes).perturb(model, x, y)
    expected = in_training if bn == "batch" else in_evaluation
    assert all(torch.allclose(logits, expected, atol=1e-12) for logits in seen)
    assert same(before, snapshot(model))


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_the_attack_of_the_library_sees_the_same(bn):
    model, x, y = build(), inputs(), classes()
    attack = partial(ATTACK, steps=3)
    reference = copy.deepcopy(model).train(bn == "batch")
    expected = attack(lambda z: reference(z), x, y, generator=seeded())
    assert torch.equal(AdversarialTraining(partial(attack, generator=seeded()), bn=bn).perturb(model, x, y), expected)
    wrong = copy.deepcopy(model).train(bn != "batch")
    assert not torch.equal(attack(lambda z: wrong(z), x, y, generator=seeded()), expected)


def test_a_layer_frozen_in_evaluation_uses_no_batch_statistics():
    model, x, y = mixed(), inputs(), classes()
    reference = copy.deepcopy(model)
    expected = ATTACK(lambda z: reference(z), x, y, generator=seeded())
    objective = AdversarialTraining(partial(ATTACK, generator=seeded()), bn="batch")
    assert torch.equal(objective.perturb(model, x, y), expected)


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_a_plain_attack_of_the_users_own(bn):
    """No guard, no enable_grad: what anyone would write."""

    def attack(model, x, y):
        x = x.clone().requires_grad_()
        functional.cross_entropy(model(x), y).backward(inputs=[x])
        return (x + 0.1 * x.grad.sign()).clamp(0, 1)

    model, x, y = mixed(), inputs(), classes()
    before = snapshot(model)
    with torch.no_grad():
        x_adv = AdversarialTraining(attack, bn=bn).perturb(model, x, y)
    assert same(before, snapshot(model))
    assert not x_adv.requires_grad
    assert THREAT.distance(x_adv, x).max() > 0.09


@every_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("labels", [classes, soft], ids=["labels", "probabilities"])
def test_gradients_reach_every_weight(name, changes, dtype, labels):
    model, x, y = build(dtype), inputs(dtype=dtype), labels()
    out = make(name, dtype, **changes)(model, x, y.to(dtype) if y.ndim == 2 else y)
    assert out.loss.shape == ()
    assert out.loss.dtype == dtype
    out.loss.backward()
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        exempt = key in ("1.bias", "4.bias")  # batch normalisation takes them away
        assert exempt or p.grad.abs().max() > 0, key


@every()
def test_probabilities_of_one_class_are_a_label(name):
    model, x, y = build(), inputs(), classes()
    values = []
    for answer in (y, functional.one_hot(y).double()):
        torch.manual_seed(0)
        values.append(make(name)(copy.deepcopy(model), x, answer).loss)
    assert torch.allclose(*values, rtol=1e-10)


@every()
def test_frozen_weights_stay_without_gradient(name):
    model, x, y = build(), inputs(), classes()
    model[1].requires_grad_(False)
    model[2].requires_grad_(False)
    make(name)(model, x, y).loss.backward()
    assert all(p.grad is None for layer in (model[1], model[2]) for p in layer.parameters())
    assert all(p.grad is not None for p in model[7].parameters())


@every()
def test_a_plain_loop_lowers_the_loss(name):
    model, x, y = build(torch.float32), inputs(24, torch.float32), classes(24)
    objective = make(name, torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0 if "temperature" in name or name == "distillation" else 0.1)

    def value():
        torch.manual_seed(0)
        if name == "free":
            objective.load_state_dict({})  # always from the clean inputs, where it would move on
        return objective(model, x, y).loss

    first = value()
    for _ in range(2):
        optimizer.zero_grad()
        value().backward()
        optimizer.step()
    assert value() < first


@every_mode()
def test_works_under_autocast(name, changes):
    model, x, y = mixed(torch.float32), inputs(dtype=torch.float32), classes()
    objective = make(name, torch.float32, **changes)
    with torch.autocast("cpu", torch.bfloat16):
        out = objective(model, x, y)
    assert out.loss.dtype == torch.float32
    assert out.loss.isfinite()
    for logits in (out.logits, out.logits_adv):
        assert logits is None or logits.dtype == torch.float32
    if out.x_adv is not None:
        assert out.x_adv.dtype == torch.float32
    model.zero_grad()
    out.loss.backward()
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trainable)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        inside = objective(model, x, y).loss
    torch.manual_seed(0)
    assert abs(inside - objective(model, x, y).loss) < 0.05 * abs(inside) + 0.02


@every()
def test_works_on_a_compiled_model(name):
    model, x, y = build(), inputs(), classes()
    objective = make(name)
    torch.manual_seed(0)
    expected = objective(copy.deepcopy(model), x, y)
    compiled = torch.compile(model, backend="aot_eager")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, while it compiles
        found = make(name)(compiled, x, y)
        found.loss.backward()
    assert torch.allclose(found.loss, expected.loss, rtol=1e-7)
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())
    assert all(p.grad is not None for p in model.parameters())


@every()
def test_works_where_gradients_are_off(name):
    model, x, y = build(), inputs(), classes()
    torch.manual_seed(0)
    expected = make(name)(copy.deepcopy(model), x, y)
    for mode in (torch.no_grad, torch.inference_mode):
        if mode is torch.inference_mode and name == "free":
            continue  # its gradient is the caller's own backward pass
        twin = copy.deepcopy(model)
        torch.manual_seed(0)
        with mode():
            out = make(name)(twin, x, y)
        assert torch.allclose(out.loss, expected.loss, rtol=1e-10)


@every()
def test_inputs_that_require_a_gradient_get_none(name):
    model, x, y = build(), inputs().requires_grad_(), classes()
    x_adv = make(name).perturb(model, x, y)
    assert x_adv is None or not x_adv.requires_grad
    assert x.grad is None


@every()
def test_a_model_may_be_any_callable(name):
    model, x, y = build(), inputs(), classes()
    out = make(name)(lambda z: model(z), x, y)
    assert out.loss.isfinite()


@every(PERTURBING)
def test_both_halves_are_the_whole(name):
    model, x, y = build(), inputs(), classes()
    objective = make(name)
    torch.manual_seed(0)
    whole = objective(copy.deepcopy(model), x, y)
    torch.manual_seed(0)
    x_adv = make(name).perturb(model, x, y)
    assert torch.equal(whole.x_adv, x_adv)
    assert torch.equal(whole.loss, make(name).loss(model, x, y, x_adv).loss)


@every([name for name in PERTURBING if name not in ("clean logit pairing", "logit squeezing", "virtual")])
def test_inputs_outside_the_bounds_are_named(name):
    with pytest.raises(ValueError, match=r"outside the bounds \(0, 1\).*Normalize"):
        make(name)(build(), 2 * inputs() - 1, classes())


@every()
def test_objectives_can_be_copied(name):
    objective = make(name)
    twin = copy.deepcopy(objective)
    assert [field.name for field in dataclasses.fields(twin)] == [f.name for f in dataclasses.fields(objective)]
    assert twin(build(), inputs(), classes()).loss.isfinite()


def test_half_precision_is_raised_and_no_other_lowered():
    for given, wanted in (
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        assert precise(torch.zeros(1, 2, dtype=given)).dtype == wanted


def test_no_attack_sees_the_reducer_of_distributed_training(tmp_path):
    """An attack asks the module inside, so that only the loss's own backward pass is reduced."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own
            model = nn.parallel.DistributedDataParallel(build())
        through = []
        model.register_forward_hook(lambda module, args, output: through.append(1))
        cases = [(name, bn) for name in ("trades", "mart", "virtual") for bn in ("eval", "batch")]
        for name, bn in cases:
            through.clear()
            objective = make(name, bn=bn)
            assert isinstance(objective, VirtualAdversarialTraining) or objective.attack
            for _ in range(2):
                objective(model, inputs(), classes()).loss.backward()
            assert len(through) == 2
        FreeAdversarialTraining(THREAT)(model, inputs(), classes()).loss.backward()
    finally:
        torch.distributed.destroy_process_group()


def test_an_objective_warns_of_probabilities_but_not_of_rows_without_a_gradient(recwarn):
    attack = partial(pgd, threat=Linf(0.1), steps=2, keep="last")
    x, y = torch.rand(4, 6), torch.tensor([0, 1, 2, 0])
    flat = nn.Linear(6, 3)
    nn.init.zeros_(flat.weight)
    AdversarialTraining(attack).perturb(flat, x, y)
    assert not recwarn.list
    with pytest.warns(GradientMaskingWarning, match="probabilities"):
        AdversarialTraining(attack).perturb(nn.Sequential(nn.Linear(6, 3), nn.Softmax(1)), x, y)
    with pytest.warns(GradientMaskingWarning, match="never had"):
        attack(flat, x, y)
