"""Uniform numbers by the kernel: those of torch, bit for bit."""

from types import SimpleNamespace

import pytest
import torch

from advlib.noise import Key, Noise
from tests.kernels.both_ways import DEVICES, DTYPES, both, kernels, seeded

triton_noise = pytest.importorskip("advlib.kernels.triton_noise")

on_each = pytest.mark.parametrize("device", DEVICES)
LARGEST = 2**32 - 1
ROWS = torch.tensor([0, 70000, LARGEST])
KEYS = [(2546248239, 209652396), (5, LARGEST)]  # words below 2**31 and above


def same(like, rows, device, words=KEYS[0], **place):
    noise = Noise(SimpleNamespace(words=words), rows.to(device), **place)
    expected, found = both(lambda: noise.uniform(like.to(device)))
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@on_each
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 1), (3, 3, 1, 7), (3, 40), (3, 0)])
def test_shapes(shape, dtype, device, monkeypatch):
    monkeypatch.setattr(triton_noise, "_BLOCK", 4)  # of 16 features
    same(torch.empty(shape, dtype=dtype), ROWS, device, step=3, branch=2)
    same(torch.empty(shape, dtype=dtype)[:0], ROWS[:0], device)


@on_each
@pytest.mark.parametrize("words", KEYS)
def test_numbers_and_tensors_in_the_counter_and_the_key(words, device):
    """A captured graph reads tensors anew; words of 2**31 and more are no special case."""
    like, each = torch.empty(3, 6), torch.tensor([1, 0, 2**16 - 1], device=device)
    for key in (words, tuple(torch.tensor(word, device=device) for word in words), (words[0], each[0])):
        same(like, ROWS, device, key, step=LARGEST, restart=2**16 - 1, branch=2**15)
        same(like, ROWS, device, key, step=each, restart=each[0], branch=255)
        same(like, ROWS, device, key, step=each[:1], restart=each)


@on_each
def test_rows_that_are_not_contiguous(device):
    same(torch.empty(3, 6), torch.stack([ROWS, ROWS], 1)[:, 0], device)


@on_each
def test_other_draws_are_made_of_it(device, monkeypatch):
    calls = []
    uniform = triton_noise.uniform
    monkeypatch.setattr(triton_noise, "uniform", lambda *args: calls.append(1) or uniform(*args))
    noise, like = Noise(Key(seeded()), ROWS.to(device)), torch.empty(3, 5, device=device)
    expected, found = both(lambda: (noise.signs(like), noise.exponential(like)))
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])
    with kernels("torch"):
        noise.uniform(like)
    assert len(calls) == 2


def test_signed_words():
    """A kernel is compiled per type of its arguments, and numbers from 2**31 up would be of another."""
    words = [0, 1, 2**31 - 1, 2**31, LARGEST]
    assert [triton_noise._signed(word) for word in words] == [0, 1, 2**31 - 1, -(2**31), -1]
