"""Steps, projections and momentum by the kernels: those of torch."""

import math

import pytest
import torch

import advlib
from advlib import L2, Linf
from advlib.attacks.mim import accumulated
from tests.kernels.both_ways import DEVICES, DTYPES, both, close, kernels, seeded

triton_steps = pytest.importorskip("advlib.kernels.triton_steps")


SHAPES = [(3, 37), (1, 2, 3, 5), (2, 1), (0, 4)]  # in blocks of 16 features
BOUNDS = ["plain", "none", "per feature", "per row", "per channel", "mask", "shut"]
EPS = [0.0, 0.3, math.inf, 0.1]

pytestmark = [pytest.mark.parametrize("device", DEVICES), pytest.mark.parametrize("dtype", DTYPES)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(triton_steps, "_BLOCK", 16)


def problem(shape, dtype, device):
    """Inputs, points within [0, 1], gradients and lengths of steps; in the first row there is no gradient."""
    rng = seeded()
    x, x_adv = (torch.rand(shape, generator=rng).to(device, dtype) for _ in range(2))
    grad = torch.randn(shape, generator=rng).to(device, dtype)
    if len(x) > 1:
        grad[0] = 0
        grad[1] *= 1e30 if dtype == torch.float32 else 1e200  # its square overflows
    return x, x_adv, grad, torch.rand(shape[:1], generator=rng).to(device, dtype)


def threat(kind, x, eps, bounds):
    """A threat model whose eps and bounds are numbers, or tensors of one shape or another."""
    rng = seeded(1)
    mask = None
    if bounds == "mask":
        mask = torch.rand(x.shape, generator=rng) < 0.5
    limits = (0.0, 1.0)
    if bounds == "none":
        limits = None
    elif bounds == "shut":
        limits = (x, x)
    elif bounds == "per row":
        limits = (x - 0.1 * torch.rand(x.shape, generator=rng).to(x), x + 0.01)
    elif bounds.startswith("per") and len(x):
        shared = [0] if bounds == "per feature" else [0, *range(2, x.ndim)]
        limits = (x.amin(shared, keepdim=True)[0], x.amax(shared, keepdim=True)[0])
    return kind(eps, limits, mask)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("kind", [Linf, L2])
def test_step(kind, bounds, dtype, device):
    cases = [(shape, 0.3) for shape in SHAPES] + [((4, 5), eps) for eps in (0.0, math.inf, torch.tensor(EPS))]
    for shape, eps in cases[:] if bounds in ("plain", "per channel") else cases[-1:]:
        x, x_adv, grad, length = problem(shape, dtype, device)
        ball = threat(kind, x, eps, bounds)
        expected, found = both(lambda b=ball, x=x, a=x_adv, g=grad, n=length: b.at(x).step(a, g, n, x))
        assert found.dtype == dtype
        close(found, expected, 0 if kind is Linf else 4, size=1.0)


@pytest.mark.parametrize("kind", [Linf, L2])
def test_step_by_an_unbound_threat_and_one_length(kind, dtype, device):
    x, x_adv, grad, length = problem((3, 37), dtype, device)
    for each in (length[1:2], length[1].expand(3), length.repeat_interleave(2)[::2]):
        expected, found = both(lambda n=each: kind(0.5).step(x_adv, grad, n, x))
        close(found, expected, 4, size=1.0)


@pytest.mark.parametrize("kind", [Linf, L2])
def test_step_on_other_layouts(kind, dtype, device):
    x, x_adv, grad, length = problem((5, 3, 4, 2), dtype, device)
    x_adv, grad = x_adv.to(memory_format=torch.channels_last), grad.transpose(0, 1).contiguous().transpose(0, 1)
    x = x.flip(1).flip(1)
    low = torch.zeros(5, 2, 4, 3, device=device, dtype=dtype).transpose(1, 3)
    expected, found = both(lambda: kind(0.5, (low, 1.0)).at(x).step(x_adv, grad, length, x))
    close(found, expected, 4, size=1.0)


AWKWARD = [0.0, -0.0, math.nan, math.inf, -math.inf, 1e-40, -1e-40, 1e38]


@pytest.mark.parametrize("kind", [Linf, L2])
def test_step_along_awkward_gradients(kind, dtype, device):
    """No gradient, one that is not finite, and the smallest and largest: each alone, and beside ordinary ones."""
    x, x_adv, grad, _ = problem((2 * len(AWKWARD), 3), dtype, device)
    grad[:, 0] = torch.tensor(2 * AWKWARD)
    grad[len(AWKWARD) :, 1:] = 0
    length = torch.full_like(x[:, 0], 0.25)
    expected, found = both(lambda: kind(0.5).at(x).step(x_adv, grad, length, x))
    close(found, expected, 4, size=1.0)


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("kind", [Linf, L2])
def test_points_that_are_not_finite(kind, bounds, dtype, device):
    x, x_adv, grad, length = problem((2 * len(AWKWARD), 3), dtype, device)
    x_adv[:, 1] = torch.tensor(2 * AWKWARD)
    x[len(AWKWARD) :, 2] = math.nan
    expected, found = both(lambda: kind(0.5, bounds).at(x).step(x_adv, grad, length, x))
    close(found, expected, 4, size=1.0)


@pytest.mark.parametrize("bounds", ["plain", "none", "per row", "mask"])
def test_projection_in_l2(bounds, dtype, device):
    """Of points near and far away, onto balls of all sizes; some features are at a bound already."""
    rng = seeded()
    x = torch.rand(12, 3, 7, generator=rng).to(device, dtype)
    x[..., :2] = 1
    change = (
        torch.randn(x.shape, generator=rng).to(x) ** 3 * torch.tensor([1e-6, 1.0, 1e6]).to(x).repeat(4)[:, None, None]
    )
    ball = threat(L2, x, torch.tensor([0.0, 0.3, 1.0, math.inf]).repeat_interleave(3), bounds)
    expected, found = both(lambda: ball.at(x).project(x + change, x))
    close(found, expected, 4, size=1.0)
    assert ball.contains(found, x).all()


def test_projection_where_newton_does_not_converge(dtype, device):
    """Room of many sizes: the norm grows in thousands of pieces, each less steep than the one before."""
    count = 32
    room = 10.0 ** -torch.linspace(0, 5, count, device=device, dtype=dtype)
    x = torch.zeros(2, count, device=device, dtype=dtype)
    for way in (torch.ones_like(room), room.flip(0)):
        ball = L2(torch.tensor([0.1, 0.99]).to(x) * room.norm(), (0.0, room))
        expected, found = both(lambda b=ball, a=x + 1e3 * way: b.at(x).project(a, x))
        close(found, expected, 8, size=1.0)


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_momentum(decay, dtype, device):
    for shape in SHAPES:
        _, before, grad, _ = problem(shape, dtype, device)
        expected, found = both(lambda m=before, g=grad: accumulated(m, g, decay))
        close(found, expected, 4, size=1.0)


def test_momentum_of_awkward_gradients(dtype, device):
    _, before, grad, _ = problem((2 * len(AWKWARD), 3), dtype, device)
    grad[:, 0] = torch.tensor(2 * AWKWARD)
    grad[len(AWKWARD) :, 1:] = 0
    expected, found = both(lambda: accumulated(before, grad.t().contiguous().t(), 0.9))
    close(found, expected, 4, size=1.0)


CALLS = {
    "linf_step": lambda x, grad: Linf(0.1).at(x).step(x, grad, x[:, 0], x),
    "l2_step": lambda x, grad: L2(0.1).at(x).step(x, grad, x[:, 0], x),
    "l2_project": lambda x, grad: L2(0.1).at(x).project(x + grad, x),
    "momentum": lambda x, grad: accumulated(x, grad, 0.5),
}


@pytest.mark.parametrize("name", CALLS)
def test_kernel_is_used_but_where_autograd_records(name, dtype, device, monkeypatch):
    calls = []
    monkeypatch.setattr(triton_steps, name, lambda *args: calls.append(name) or args[0])
    x, _, grad, _ = problem((2, 3), dtype, device)
    with kernels("triton"):
        CALLS[name](x, grad)
        assert calls == [name]
        assert CALLS[name](x, grad.requires_grad_()).requires_grad
        with kernels("torch"):
            CALLS[name](x, grad.detach())
    assert calls == [name]


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5)], ids=["Linf", "L2"])
@pytest.mark.parametrize("attack", ["pgd", "mim"])
def test_attacks(attack, ball, dtype, device):
    rng = seeded()
    model = torch.nn.Sequential(torch.nn.Linear(12, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    model.to(device, dtype)
    x = torch.rand(3, 12, generator=rng).to(device, dtype)
    run = getattr(advlib, attack)
    expected, found = both(lambda: run(model, x, model(x).argmax(1), ball, steps=2, generator=seeded()))
    close(found, expected, 64, size=1.0)
