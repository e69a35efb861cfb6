"""Acceleration on a CUDA device: graphs, slots and copies find what steps one by one find there."""

import gc

import pytest
import torch
from torch import nn

import advlib
from advlib import L2, Linf, pgd
from tests.acceleration.test_every_attack import ALONE, steps
from tests.acceleration.test_slots import SETTINGS
from tests.acceleration.test_stand_ins import network, problem
from tests.laws.table import batch, build, call, classes, every, seeded

pytestmark = pytest.mark.gpu


def graphs(**settings):
    return advlib.accelerate(**{"fold": False, "channels_last": False} | settings)


@every(shapes=("image",), where=steps)
def test_every_attack_finds_the_same(name, threat, shape):
    model, x = build(shape).cuda(), batch(shape, rows=9).cuda()
    y = classes(model, x)
    expected = call(name, model, x, y, threat, generator=seeded())
    with graphs() as acceleration:
        for _ in range(2):  # recorded, then replayed from the recording
            found = call(name, model, x, y, threat, generator=seeded())
            assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    assert threat.contains(found, x).all()
    if name not in ALONE and not name.startswith("jsma"):
        assert acceleration.reasons == []


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("compiled", [False, True], ids=["as it is", "compiled"])
def test_every_way_of_keeping(settings, compiled):
    model, x = build((12,)).cuda(), batch((12,), rows=23).cuda()
    y = classes(model, x)
    options = {"steps": 5, "loss": "margin"} | settings
    expected = pgd(model, x, y, Linf(0.05), generator=seeded(), **options)
    with graphs(compiled=compiled) as acceleration:
        found = pgd(model, x, y, Linf(0.05), generator=seeded(), **options)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9)
    assert acceleration.reasons == []


def test_a_compiled_model_is_recorded_too():
    model, x = build((12,), torch.float32).cuda(), batch((12,), rows=9, dtype=torch.float32).cuda()
    y = classes(model, x)
    expected = pgd(model, x, y, L2(0.3), steps=5, generator=seeded())
    compiled = torch.compile(model)
    assert torch.allclose(pgd(compiled, x, y, L2(0.3), steps=5, generator=seeded()), expected, atol=1e-5)
    with graphs():
        found = pgd(compiled, x, y, L2(0.3), steps=5, generator=seeded())
    assert torch.allclose(found, expected, atol=1e-5)


def test_autocast_is_recorded_with_its_casts():
    model, x = build((12,), torch.float32).cuda(), batch((12,), rows=9, dtype=torch.float32).cuda()
    y = classes(model, x)
    with torch.autocast("cuda", torch.bfloat16):
        expected = pgd(model, x, y, Linf(0.1), steps=5, generator=seeded())
        with graphs() as acceleration:
            for _ in range(2):
                assert torch.equal(pgd(model, x, y, Linf(0.1), steps=5, generator=seeded()), expected)
    assert acceleration.reasons == []


def test_other_weights_in_the_same_place():
    model = build((12,)).cuda()
    with graphs() as acceleration:
        for seed in range(3):
            x = batch((12,), rows=9, seed=seed).cuda()
            y = classes(model, x)
            found = pgd(model, x, y, Linf(0.1), steps=5, generator=seeded(seed))
            with graphs(graphs=False):
                assert torch.allclose(found, pgd(model, x, y, Linf(0.1), steps=5, generator=seeded(seed)), atol=1e-12)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.5)
        assert len(acceleration._loops) == 1


class Hesitant(nn.Module):
    def forward(self, x):
        return torch.stack([x.sum(1), -x.sum(1)], 1) * (2 if bool(x.sum() > 0) else 1)


def test_a_model_that_waits_for_the_device_is_called():
    x, y = batch((12,), rows=9).cuda(), torch.arange(9).cuda() % 2
    expected = pgd(Hesitant(), x, y, L2(0.5), steps=12, generator=seeded())
    with graphs() as acceleration:
        found = pgd(Hesitant(), x, y, L2(0.5), steps=12, generator=seeded())
    assert torch.equal(found, expected)
    assert acceleration.reasons[0].startswith("Hesitant is not recorded: ")
    model = build((12,)).cuda()  # a recording that failed leaves nothing behind
    with graphs() as acceleration:
        pgd(model, x, y, L2(0.5), steps=12)
    assert acceleration.reasons == []


class Noisy(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x + 0.3 * torch.randn_like(x))


def test_a_random_model_draws_anew_at_every_replay():
    model, x = Noisy(build((12,))).cuda(), batch((12,), rows=400).cuda()
    y = classes(model.inner, x)
    with graphs() as acceleration:
        pgd(model, x, y, Linf(0.01), steps=10)
        (loop,) = acceleration._loops.values()
        losses = []
        for _ in range(4):
            loop.advance(1)
            losses.append(loop.tree.state.query.clone())
    assert acceleration.reasons == []
    assert not torch.equal(losses[0], losses[1])


@pytest.mark.parametrize("precision", [None, "bf16", "tf32"])
def test_every_success_is_one_of_the_model_itself(precision):
    model = network().cuda()
    x, y = problem(model.cpu(), rows=200)
    model, x, y = model.cuda(), x.cuda(), y.cuda()
    with advlib.accelerate(precision=precision) as acceleration:
        found = pgd(model, x, y, Linf(0.02), steps=8, generator=seeded())
    plain = pgd(model, x, y, Linf(0.02), steps=8, generator=seeded())
    with torch.no_grad():
        errs, expected = (model(points).argmax(1) != y for points in (found, plain))
    assert acceleration.reasons == []
    assert abs(int(errs.sum()) - int(expected.sum())) <= 4


def test_no_memory_stays_behind():
    model, x = build((12,)).cuda(), batch((12,), rows=64).cuda()
    y = classes(model, x)
    with graphs() as acceleration:
        for keep in ("strongest", "first"):
            for _ in range(3):
                pgd(model, x, y, L2(0.3), steps=10, keep=keep)
            torch.cuda.synchronize()
            held = torch.cuda.memory_allocated()
            for _ in range(500):
                pgd(model, x, y, L2(0.3), steps=10, keep=keep)
            assert torch.cuda.memory_allocated() == held
    recordings = len(acceleration._loops)
    assert recordings < 8


def test_recordings_end_with_the_acceleration():
    model, x = build((12,)).cuda(), batch((12,), rows=64).cuda()
    y = classes(model, x)
    torch.cuda.synchronize()
    pgd(model, x, y, L2(0.3), steps=3)
    held = torch.cuda.memory_allocated()
    with graphs() as acceleration:
        pgd(model, x, y, L2(0.3), steps=3)
    assert torch.cuda.memory_allocated() > held
    del acceleration
    gc.collect()
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == held
