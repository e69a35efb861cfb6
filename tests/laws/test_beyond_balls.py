"""The laws of attacks whose threat model is no norm ball; those that hang on a radius do not apply to them."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from advlib import GradientMaskingWarning, Linf, Negative, Patch, Spatial, negative, patch, spatial, universal_patch
from advlib.losses import margin
from tests.laws.table import ATTACKS, CLASSES, SHAPES, batch, build, classes, seeded
from tests.laws.table import call as call_ball
from tests.laws.test_model_untouched import mixed, same, snapshot

SHAPE = SHAPES["image"]


@dataclass(frozen=True)
class Row:
    attack: Any
    threat: Any
    settings: dict[str, Any] = field(default_factory=dict)
    random: bool = True
    gradients: bool = True


BEYOND = {
    "spatial": Row(spatial, Spatial(30, 1), {"counts": (3, 3, 3)}, random=False, gradients=False),
    "spatial, random": Row(spatial, Spatial(30, 1), {"method": "random", "steps": 5}, gradients=False),
    "spatial, gradient": Row(spatial, Spatial(30, 1), {"method": "gradient", "steps": 4, "restarts": 2}),
    "patch": Row(patch, Patch(2), {"steps": 4, "restarts": 2}),
    "patch, random places": Row(patch, Patch(2), {"steps": 4, "restarts": 2, "places": "random"}),
    "patch, given place": Row(patch, Patch((1, 2), location=(1, 0)), {"steps": 4, "restarts": 1}),
    "patch, turned": Row(patch, Patch(3, rotation=45.0, scale=0.8), {"steps": 4, "restarts": 2}),
    "negative": Row(negative, Negative(), random=False, gradients=False),
}
each = pytest.mark.parametrize("name", BEYOND)
each_random = pytest.mark.parametrize("name", [name for name, row in BEYOND.items() if row.random])


def call(name, model, x, y, **options):
    row = BEYOND[name]
    return row.attack(model, x, y, row.threat, **{**row.settings, **options})


def inside(name, x_adv, x):
    threat = BEYOND[name].threat
    if isinstance(threat, Spatial):
        return ((x_adv >= 0) & (x_adv.flatten(1).amax(1) <= x.flatten(1).amax(1)).view(-1, 1, 1, 1)).flatten(1).all(1)
    return threat.contains(x_adv, x)


def problem(rows=6, dtype=torch.float64):
    model, x = build(SHAPE, dtype), batch(SHAPE, rows=rows, dtype=dtype)
    return model, x, classes(model, x)


@each
@pytest.mark.parametrize("keep", ["first", "strongest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_result_is_inside_and_like_x(name, keep, dtype):
    model, x, y = problem(20, dtype)
    x_adv = call(name, model, x, y, generator=seeded(), keep=keep)
    assert (x_adv.shape, x_adv.dtype, x_adv.requires_grad) == (x.shape, dtype, False)
    assert inside(name, x_adv, x).all()
    assert (x_adv != x).any()
    assert margin(model(x_adv).detach(), y).mean() > margin(model(x).detach(), y).mean()


@each
def test_targeted_moves_towards_the_wanted_class(name):
    model, x, y = problem(20)
    wanted = (y + 1) % CLASSES
    x_adv = call(name, model, x, wanted, targeted=True, generator=seeded())
    before, after = (margin(model(z).detach(), wanted) for z in (x, x_adv))
    assert after.mean() < before.mean()
    assert inside(name, x_adv, x).all()


@each
def test_rows_do_not_depend_on_one_another(name):
    model, x, y = problem(20)
    whole = call(name, model, x, y, generator=seeded())
    for size in (1, 3):
        split = call(name, model, x, y, generator=seeded(), batch_size=size)
        torch.testing.assert_close(split, whole, rtol=0, atol=1e-12)
    if not BEYOND[name].random:
        for i in range(5):
            torch.testing.assert_close(call(name, model, x[i : i + 1], y[i : i + 1])[0], whole[i], rtol=0, atol=1e-12)


@each
def test_a_rows_result_survives_a_neighbour_with_huge_gradients(name):
    model, x, y = problem()
    scale = torch.ones(len(x), 1, dtype=x.dtype)
    scale[0] = 1e6
    calm, loud = (
        call(name, wrapped, x, y, generator=seeded(), keep="strongest", loss="margin")
        for wrapped in (model, lambda z: model(z) * scale[: len(z)])
    )
    torch.testing.assert_close(loud[1:], calm[1:], rtol=0, atol=1e-9)


@each_random
def test_the_generator_decides_and_without_one_the_global_gives_one_key(name):
    model, x, y = problem()
    first = call(name, model, x, y, generator=seeded(1))
    assert torch.equal(call(name, model, x, y, generator=seeded(1)), first)
    assert not torch.equal(call(name, model, x, y, generator=seeded(2)), first)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        found = call(name, model, x, y)
        after = torch.get_rng_state()
        torch.manual_seed(3)
        torch.randint(-(2**63), 2**63 - 1, ())
        assert torch.equal(torch.get_rng_state(), after)
        torch.manual_seed(3)
        assert torch.equal(call(name, model, x, y), found)


@each
@pytest.mark.parametrize("fails", [False, True], ids=["", "exception"])
def test_model_inputs_and_random_state_are_untouched(name, fails):
    model, (_, x, y) = mixed(SHAPE), problem()
    expected = call(name, build(SHAPE), x, y, generator=seeded())
    before, x_before, rng = snapshot(model), x.clone(), torch.get_rng_state()
    if fails:
        handle = model.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call(name, model, x, y, generator=seeded())
        handle.remove()
    else:
        assert torch.equal(call(name, model, x, y, generator=seeded()), expected)  # attacked in evaluation
    same(before, snapshot(model))
    assert torch.equal(x, x_before)
    assert not x.requires_grad
    assert torch.equal(torch.get_rng_state(), rng)


@each
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(name, mode):
    model, x, y = problem()
    expected = call(name, model, x, y, generator=seeded())
    with mode():
        found = call(name, model, x.clone(), y.clone(), generator=seeded())
    assert torch.equal(found, expected)
    assert not found.is_inference()


@each
def test_works_under_autocast(name):
    model, x, y = problem(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x_adv = call(name, model, x, y, generator=seeded())
    assert x_adv.dtype == torch.float32
    assert inside(name, x_adv, x).all()


@each
@pytest.mark.parametrize("layout", ["channels_last", "permuted", "expanded"])
def test_layouts_do_not_matter(name, layout):
    model, x, _ = problem()
    laid_out = {
        "channels_last": lambda: x.contiguous(memory_format=torch.channels_last),
        "permuted": lambda: x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0),
        "expanded": lambda: x[:1].expand(6, -1, -1, -1),
    }[layout]()
    reference = laid_out.clone(memory_format=torch.contiguous_format)
    y = classes(model, reference)
    expected = call(name, model, reference, y, generator=seeded())
    torch.testing.assert_close(call(name, model, laid_out, y, generator=seeded()), expected, rtol=0, atol=1e-12)


@each
@pytest.mark.parametrize("rows", [0, 1])
def test_empty_batch_and_one_row(name, rows):
    model, x, y = problem(rows)
    x_adv = call(name, model, x, y, generator=seeded())
    assert x_adv.shape == x.shape
    assert inside(name, x_adv, x).all()


@pytest.mark.parametrize("name", [name for name, row in BEYOND.items() if row.gradients])
@pytest.mark.parametrize("slope", [0.0, float("nan")], ids=["none", "nan"])
def test_without_gradients_a_warning_and_a_valid_result(name, slope):
    model, x, y = problem()

    def silent(z):
        logits = model(z.detach())
        return logits if slope == 0 else logits + 0 * (z - z.detach()).flatten(1).sum(1, keepdim=True) * slope

    with pytest.warns(GradientMaskingWarning, match="never had a nonzero, finite gradient") as caught:
        x_adv = call(name, silent, x, y, generator=seeded(), keep="strongest")
    assert len(caught) == 1
    assert inside(name, x_adv, x).all()


@each
def test_an_adversarial_row_is_one_that_the_model_was_asked_about(name):
    """What is judged is what comes back, to the last bit."""
    model, x, y = problem(20, torch.float32)
    asked = []

    def recording(z):
        asked.append(z.detach().clone())
        return model(z)

    x_adv = call(name, recording, x, y, generator=seeded())
    seen = torch.cat(asked).flatten(1)
    assert all((row == seen).all(1).any() for row in x_adv.flatten(1))


OTHERS = {"Spatial": Spatial(30, 1), "Patch": Patch(2), "Negative": Negative()}
REFUSED = [
    pytest.param(name, threat, id=f"{name}-{kind}")
    for name in ATTACKS
    for kind, threat in OTHERS.items()
    if (name, kind) != ("sparse_rs", "Patch")  # which places patches
]


@pytest.mark.parametrize(("name", "threat"), REFUSED)
def test_attacks_on_balls_name_the_right_attack(name, threat):
    model, x, y = problem()
    with pytest.raises((TypeError, ValueError), match=f"got {type(threat).__name__}"):
        call_ball(name, model, x, y, threat)


def test_attacks_on_balls_say_which_attack_it_is():
    model, x, y = problem()
    message = r"got Spatial\(rotation=30, translation=1\): no ball, its attack is advlib.spatial$"
    with pytest.raises(TypeError, match=message):
        call_ball("pgd", model, x, y, Spatial(30, 1))


@each
def test_other_threat_models_are_refused(name):
    model, x, y = problem()
    with pytest.raises(TypeError, match=r"so it needs (Spatial|Patch|Negative)\(.*got Linf"):
        BEYOND[name].attack(model, x, y, Linf(0.1))
    with pytest.raises(TypeError, match="takes no init: leave it out"):
        call(name, model, x, y, init=x)


# -- a patch for all --------------------------------------------------------------------------------------------------


def universal(model, x, y, **options):
    return universal_patch(model, [(x[:3], y[:3]), (x[3:], y[3:])], Patch(2), **{"steps": 5, **options})


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_universal_patch_follows_its_generator_and_touches_nothing(mode):
    model, (_, x, y) = mixed(SHAPE), problem()
    expected = universal(build(SHAPE), x, y, generator=seeded(1))
    before, rng = snapshot(model), torch.get_rng_state()
    with mode():
        found = universal(model, x, y, generator=seeded(1))
    same(before, snapshot(model))
    assert torch.equal(found, expected)
    assert (found.shape, found.dtype) == ((3, 2, 2), torch.float64)
    assert not found.requires_grad
    assert found.min() >= 0
    assert found.max() <= 1
    assert not torch.equal(universal(model.eval(), x, y, generator=seeded(2)), expected)
    assert torch.equal(torch.get_rng_state(), rng)


def test_a_universal_patch_without_gradients_warns_once():
    model, x, y = problem()
    with pytest.warns(GradientMaskingWarning, match="the patch never had a nonzero, finite gradient") as caught:
        found = universal(lambda z: model(z.detach()), x, y)
    assert len(caught) == 1
    assert (found == 0.5).all()


def test_modules_only_are_put_into_evaluation():
    """A patch or a motion is an argument of the wrapped model, which the guard must see through."""
    model, (_, x, y) = nn.Sequential(build(SHAPE)).train(), problem()
    seen = []
    model.register_forward_hook(lambda module, *_: seen.append(module.training))
    for name in BEYOND:
        call(name, model, x, y)
    assert not any(seen)
    assert model.training
