"""Laws 4, 5 and 7: what an attack leaves alone, where it works, and what it does without gradients."""

import copy
import warnings

import pytest
import torch

from advlib import GradientMaskingWarning
from tests.laws.table import NO_START, batch, build, call, classes, every, seeded

pytestmark = pytest.mark.filterwarnings(f"ignore:{NO_START}")


def mixed(shape):
    """A model in training, but for a frozen batch normalisation, with gradients already there."""
    model = build(shape).train()
    model[2].eval()
    model[1].weight.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    return model


def snapshot(model):
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    flags = [module.training for module in model.modules()]
    needs = [p.requires_grad for p in model.parameters()]
    return copy.deepcopy(model.state_dict()), grads, flags, needs


def same(before, after):
    (state, grads, *rest), (state_after, grads_after, *rest_after) = before, after
    assert rest == rest_after
    for old, new in ((state, state_after), (grads, grads_after)):
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)


@every(shapes=("features",))
@pytest.mark.parametrize("fails", [False, True], ids=["", "exception"])
def test_model_inputs_and_random_state_are_untouched(name, threat, shape, fails):
    model, x = mixed(shape), batch(shape)
    y = classes(build(shape), x)
    before, x_before, y_before = snapshot(model), x.clone(), y.clone()
    rng = torch.get_rng_state()
    if fails:
        calls = []

        def explode(module, args, output):
            calls.append(1)
            if len(calls) == 2 or name.startswith(("fgsm", "pgd, last")):
                raise OSError("boom")

        handle = model.register_forward_hook(explode)
        with pytest.raises(OSError, match="boom"):
            call(name, model, x, y, threat, generator=seeded(), **({"keep": "strongest"} if "jsma" in name else {}))
        handle.remove()
    else:
        call(name, model, x, y, threat, generator=seeded())
    same(before, snapshot(model))
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)
    assert x.grad is None
    assert not x.requires_grad
    assert torch.equal(torch.get_rng_state(), rng)


@every(shapes=("features",))
def test_a_model_in_training_is_attacked_in_evaluation(name, threat, shape):
    model, x = build(shape), batch(shape)
    y = classes(model, x)
    expected = call(name, model, x, y, threat, generator=seeded())
    assert torch.equal(call(name, model.train(), x, y, threat, generator=seeded()), expected)


@every(shapes=("image",))
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(name, threat, shape, mode):
    model, x = build(shape), batch(shape)
    y = classes(model, x)
    expected = call(name, model, x, y, threat, generator=seeded())
    with mode():
        inside = call(name, model, x.clone(), y.clone(), threat, generator=seeded())
        assert not torch.is_grad_enabled()
    assert torch.equal(inside, expected)
    assert not inside.is_inference()


@every(shapes=("features",))
def test_x_that_requires_a_gradient_and_frozen_parameters(name, threat, shape):
    model, x = build(shape), batch(shape)
    y = classes(model, x)
    expected = call(name, model, x, y, threat, generator=seeded())
    model.requires_grad_(False)
    x.requires_grad_()
    x_adv = call(name, model, x, y, threat, generator=seeded())
    assert torch.equal(x_adv, expected)
    assert not x_adv.requires_grad
    assert x.grad is None


@every(shapes=("image",))
def test_works_under_autocast(name, threat, shape):
    model, x = build(shape, torch.float32), batch(shape, dtype=torch.float32)
    y = classes(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        x_adv = call(name, model, x, y, threat, generator=seeded())
    assert x_adv.dtype == torch.float32
    assert threat.contains(x_adv, x).all()


@every(shapes=("features",))
def test_works_on_a_compiled_model(name, threat, shape):
    model, x = build(shape), batch(shape)
    y = classes(model, x)
    expected = call(name, model, x, y, threat, generator=seeded())
    compiled = torch.compile(model, backend="aot_eager", dynamic=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, while it compiles
        x_adv = call(name, compiled, x, y, threat, generator=seeded())
    assert torch.allclose(x_adv, expected, rtol=0, atol=1e-9)
    assert all(p.requires_grad for p in model.parameters())


@every(shapes=("features",), where=lambda row: row.gradients)
@pytest.mark.parametrize("kind", ["detached", "constant", "nan"])
def test_no_gradient_gives_a_warning_and_a_valid_result(name, threat, shape, kind):
    inner, x = build(shape), batch(shape)
    y = classes(inner, x)

    class Nan(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * float("nan")

    model = {
        "detached": lambda z: inner(z.detach()),
        "constant": lambda z: inner(z.round() * 0 + 0.5) + 0 * z.sum(),
        "nan": lambda z: Nan.apply(inner(z)),
    }[kind]
    y = classes(model, x)
    with pytest.warns(
        GradientMaskingWarning, match=r"[1-6] of 6 rows never had a nonzero, finite gradient.*margin.*BPDA"
    ):
        x_adv = call(name, model, x, y, threat, generator=seeded())
    assert threat.contains(x_adv, x).all()


@every(shapes=("features",))
def test_nan_logits_are_no_success(name, threat, shape):
    """A model that breaks down away from x has not been fooled, and a failed row is not made of NaN."""
    inner, x = build(shape), batch(shape)
    y = classes(inner, x)
    clean = x.clone()

    def model(z):
        clean_rows = (z.unsqueeze(1) == clean).flatten(2).all(2).any(1, keepdim=True)
        return torch.where(clean_rows, inner(z), torch.nan)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradientMaskingWarning)
        warnings.filterwarnings("ignore", NO_START)
        x_adv = call(name, model, x, y, threat, generator=seeded())
    assert threat.contains(x_adv, x).all()
    if name not in ("fgsm", "pgd, last"):
        assert torch.equal(x_adv, x) or "pgd" in name


@every(shapes=("features",))
def test_no_warning_on_an_honest_model(name, threat, shape):
    model, x = build(shape), batch(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(name, model, x, classes(model, x), threat, generator=seeded())
