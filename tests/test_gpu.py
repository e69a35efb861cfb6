"""The laws on a CUDA device: the same results as on the CPU, and no memory that stays behind."""

import pytest
import torch

from advlib import L2
from advlib.kernels.pairs import best_pair
from advlib.noise import Key, Noise
from tests.laws.table import batch, build, call, classes, every, seeded

pytestmark = pytest.mark.gpu


@every()
def test_same_result_as_on_the_cpu(name, threat, shape):
    model, x = build(shape), batch(shape, rows=40)
    y = classes(model, x)
    expected = call(name, model, x, y, threat, generator=seeded())
    model, x, y = model.cuda(), x.cuda(), y.cuda()
    x_adv = call(name, model, x, y, threat, generator=seeded())
    assert x_adv.is_cuda
    assert threat.contains(x_adv, x).all()
    assert torch.allclose(x_adv.cpu(), expected, rtol=0, atol=1e-9)


@every(shapes=("image",))
def test_float32_and_batch_size_on_cuda(name, threat, shape):
    model, x = build(shape).cuda(), batch(shape, rows=40).cuda()
    y = classes(model, x)
    whole = call(name, model, x, y, threat, generator=seeded())
    parts = call(name, model, x, y, threat, generator=seeded(), batch_size=7)
    assert torch.allclose(whole, parts, rtol=0, atol=1e-9)
    x_adv = call(name, model.float(), x.float(), y, threat, generator=seeded())
    assert threat.contains(x_adv, x.float()).all()


@every(shapes=("image",))
def test_autocast_on_cuda(name, threat, shape):
    model, x = build(shape, torch.float32).cuda(), batch(shape, dtype=torch.float32).cuda()
    y = classes(model, x)
    with torch.autocast("cuda", torch.bfloat16):
        x_adv = call(name, model, x, y, threat, generator=seeded())
    assert x_adv.dtype == torch.float32
    assert threat.contains(x_adv, x).all()


def test_noise_is_equal_bit_for_bit():
    row = torch.arange(100)
    like = torch.empty(100, 3, 17)
    for restart, step in ((0, 0), (3, 7)):
        cpu = Noise(Key(seeded()), row, restart, step)
        cuda = Noise(Key(seeded()), row.cuda(), restart, step)
        assert torch.equal(cpu.uniform(like), cuda.uniform(like.cuda()).cpu())
        assert torch.equal(cpu.signs(like), cuda.signs(like.cuda()).cpu())
        assert torch.allclose(cpu.normal(like), cuda.normal(like.cuda()).cpu(), atol=1e-5)


def test_best_pair_on_cuda():
    u, v = torch.randn(2, 50, 784, generator=seeded(), dtype=torch.float64)
    allowed = torch.rand(50, 784, generator=seeded()) > 0.1
    for a, b in ((u, v), (u, -u + 0.1 * v), (u, u)):
        a = a.masked_fill(~allowed, -torch.inf)
        cpu, cuda = best_pair(a, b), best_pair(a.cuda(), b.cuda())
        assert torch.allclose(cpu.score, cuda.score.cpu())


def test_no_memory_stays_behind():
    shape = (3, 4, 3)
    model, x = build(shape).cuda(), batch(shape).cuda()
    y = classes(model, x)
    for _ in range(3):
        call("pgd", model, x, y, L2(0.3))
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    for _ in range(20):
        call("pgd", model, x, y, L2(0.3))
    assert torch.cuda.memory_allocated() == held
