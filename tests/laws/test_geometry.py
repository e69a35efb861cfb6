"""Laws 1, 3, 10 and 11: where the results lie, and what inputs are taken."""

import dataclasses

import pytest
import torch

from advlib import Linf, salt_and_pepper
from tests.laws.table import ATTACKS, LENGTHS, NO_START, NORMS, SHAPES, batch, build, call, classes, every, seeded

pytestmark = pytest.mark.filterwarnings(f"ignore:{NO_START}")


@every()
def test_result_is_inside_and_like_x(name, threat, shape):
    model, x = build(shape), batch(shape)
    x_adv = call(name, model, x, classes(model, x), threat, generator=seeded())
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert not x_adv.requires_grad
    assert threat.contains(x_adv, x).all()
    startless = ATTACKS[name].counts == "queries" and shape == SHAPES["volume"]  # there noise is of the same class
    assert (x_adv != x).any() or startless


@every(shapes=("image",))
@pytest.mark.parametrize("case", ["mask", "row mask", "row eps", "feature bounds", "row bounds"])
def test_threats_with_tensors(name, threat, shape, case):
    model, x = build(shape), batch(shape, rows=8)
    low, high = torch.full(shape, 0.0).double(), torch.full(shape, 1.0).double()
    low[0, 0, 0], high[1, 1, 1] = -0.25, 1.5
    change = {
        "mask": {"mask": torch.rand(shape, generator=seeded()) < 0.5},
        "row mask": {"mask": torch.rand(x.shape, generator=seeded()) < 0.5},
        "row eps": {"eps": threat.eps * torch.arange(8)},
        "feature bounds": {"bounds": (low, high)},
        "row bounds": {"bounds": (x - 0.3, x + 0.2)},
    }[case]
    threat = dataclasses.replace(threat, **change)
    y = classes(model, x)
    x_adv = call(name, model, x, y, threat, generator=seeded())
    assert threat.contains(x_adv, x).all()
    if case.endswith("mask"):
        assert ((x_adv == x) | threat.mask).all()
    if case == "row eps":
        assert torch.equal(x_adv[0], x[0])
    split = call(name, model, x, y, threat, generator=seeded(), batch_size=3)
    assert torch.allclose(x_adv, split, rtol=0, atol=1e-12)


@every(shapes=("features",))
def test_eps_zero_returns_x(name, threat, shape):
    model, x = build(shape), batch(shape)
    x_adv = call(name, model, x, classes(model, x), dataclasses.replace(threat, eps=0.0), generator=seeded())
    assert torch.equal(x_adv, x)
    assert x_adv.data_ptr() != x.data_ptr()


@every(shapes=("features",), norms=LENGTHS, where=lambda row: row.attack is not salt_and_pepper)
def test_no_bounds(name, threat, shape):
    model, x = build(shape), 3 * batch(shape) - 1
    x_adv = call(name, model, x, classes(model, x), dataclasses.replace(threat, bounds=None), generator=seeded())
    assert dataclasses.replace(threat, bounds=None).contains(x_adv, x).all()


@every(shapes=("image",))
def test_float32(name, threat, shape):
    model, x = build(shape, torch.float32), batch(shape, dtype=torch.float32)
    x_adv = call(name, model, x, classes(model, x), threat, generator=seeded())
    assert x_adv.dtype == torch.float32
    assert threat.contains(x_adv, x).all()


@every(shapes=("image",))
@pytest.mark.parametrize("layout", ["channels_last", "permuted", "expanded"])
def test_layouts_do_not_matter(name, threat, shape, layout):
    model, x = build(shape), batch(shape)
    laid_out = {
        "channels_last": lambda: x.contiguous(memory_format=torch.channels_last),
        "permuted": lambda: x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0),
        "expanded": lambda: x[:1].expand(6, -1, -1, -1),
    }[layout]()
    reference = laid_out.clone(memory_format=torch.contiguous_format)
    args = (classes(model, reference), threat)
    expected = call(name, model, reference, *args, generator=seeded())
    assert torch.allclose(call(name, model, laid_out, *args, generator=seeded()), expected, rtol=0, atol=1e-12)


@every()
@pytest.mark.parametrize("rows", [0, 1])
def test_empty_batch_and_one_row(name, threat, shape, rows):
    model, x = build(shape), batch(shape, rows=rows)
    x_adv = call(name, model, x, classes(model, x), threat, generator=seeded())
    assert x_adv.shape == x.shape
    assert threat.contains(x_adv, x).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integer_dtype(dtype):
    model, x = build((12,)), batch((12,))
    y = classes(model, x)
    for name in ATTACKS:
        threat = NORMS[ATTACKS[name].norms[0]]()
        expected = call(name, model, x, y, threat, generator=seeded())
        assert torch.equal(call(name, model, x, y.to(dtype), threat, generator=seeded()), expected)


def test_eight_bit_levels_survive():
    """8/255 in float32 is 8 grey levels in uint8."""
    model = build((3, 4, 3), torch.float32)
    levels = torch.randint(0, 256, (64, 3, 4, 3), generator=seeded())
    x = levels.float() / 255
    for name, row in ATTACKS.items():
        if "linf" in row.norms:
            x_adv = call(name, model, x, classes(model, x), Linf(8 / 255), generator=seeded())
            assert ((x_adv * 255).round() - levels).abs().max() <= 8
