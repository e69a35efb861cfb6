"""Recording a step on a tree of tensors."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch

import advlib
from advlib import L2, Linf, pgd
from advlib.acceleration import _LOOPS
from advlib.noise import Key, Noise
from advlib.replay import Loop, leaves, mapped, outline, overwrite
from tests.laws.table import batch, build, classes, seeded

pytestmark = pytest.mark.usefixtures("recorded_on_cpu")


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Other(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


def test_views_of_what_is_overwritten_are_read_first():
    static = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
    overwrite(static, [static[1], static[0].flip(0)])
    assert static[0].tolist() == [3.0, 4.0]
    assert static[1].tolist() == [2.0, 1.0]
    overwrite(static, [static[1][[0, 0]], static[0].view(2)])
    assert static[0].tolist() == [2.0, 2.0]
    assert static[1].tolist() == [3.0, 4.0]


def test_what_stays_where_it_is_is_not_copied():
    class Untouchable(torch.Tensor):
        def copy_(self, *args, **kwargs):
            raise AssertionError

    tensor = torch.ones(2).as_subclass(Untouchable)
    overwrite([tensor], [tensor])


def test_a_tree_is_threats_and_tuples_of_tensors():
    threat = L2(torch.tensor([0.1, 0.2])).at(torch.rand(2, 3))
    tree = (Pair(torch.ones(1), torch.zeros(2)), threat, None, 3)
    doubled = mapped(tree, lambda leaf: 2 * leaf)
    assert doubled[0].second.tolist() == [0.0, 0.0]
    assert doubled[0].first.item() == 2
    assert torch.equal(doubled[1].eps, 2 * threat.eps)
    assert doubled[1].bound
    assert doubled[2:] == (None, 3)
    assert len(leaves(tree)) == 5  # with both bounds


@pytest.mark.parametrize(
    "other",
    [
        Other(torch.ones(2), torch.ones(3)),
        Pair(torch.ones(2), torch.ones(4)),
        Pair(torch.ones(2), torch.ones(3, dtype=torch.float64)),
        (torch.ones(2), torch.ones(3)),
    ],
    ids=["type", "shape", "dtype", "tuple"],
)
def test_outlines_differ_in_all_but_values(other):
    pair = Pair(torch.ones(2), torch.ones(3))
    assert outline(pair) == outline(Pair(torch.zeros(2), torch.zeros(3)))
    assert outline(pair) != outline(other)


@dataclass(frozen=True)
class One:
    value: torch.Tensor


@dataclass(frozen=True)
class Another:
    value: torch.Tensor


def test_outlines_of_threats():
    x = torch.rand(2, 3)
    assert outline(Linf(0.1).at(x)) != outline(Linf(0.2).at(x))
    assert outline(Linf(0.1).at(x)) != outline(L2(0.1).at(x))
    assert outline(Linf(0.1).at(x)) == outline(Linf(0.1).at(x / 2))
    assert outline(One(x)) == outline(One(x / 2))
    assert outline(One(x)) != outline(Another(x))


def test_a_loop_is_loaded_and_taken_on():
    def step(pair: Pair, key: Key) -> Pair:
        draw = Noise(key, torch.arange(2)).uniform(torch.empty(2, 1)).squeeze(1)
        return Pair(pair.second, pair.first + draw)

    loop = Loop(step, Pair(torch.zeros(2), torch.zeros(2)))
    for seed in range(2):
        key = Key(seeded(seed))
        start = expected = Pair(torch.full((2,), 5.0), torch.tensor([1.0, 2.0]))
        loop.load(start, key)
        loop.advance(3)
        for _ in range(3):
            expected = step(expected, key)
        assert torch.equal(loop.tree.first, expected.first)
        assert torch.equal(loop.tree.second, expected.second)
        assert start.second.tolist() == [1.0, 2.0]


def test_no_key_is_drawn_for_nothing():
    generator = seeded()
    before = generator.get_state()
    loop = Loop(lambda pair, key: Pair(pair.second, pair.first), Pair(torch.zeros(2), torch.ones(2)))
    loop.load(Pair(torch.zeros(2), torch.ones(2)), Key(generator))
    assert torch.equal(generator.get_state(), before)


def test_casts_are_not_kept_while_a_step_is_recorded(monkeypatch):
    cached = []

    def record(function, static, pool):
        cached.append(torch.is_autocast_cache_enabled())
        return lambda: None

    monkeypatch.setitem(advlib.replay.RECORDERS, "cpu", record)
    cleared = []
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: cleared.append(True))
    Loop(lambda tree, key: tree, Pair(torch.zeros(2), torch.ones(2)))
    assert cached == [False]
    assert cleared == [True]
    assert torch.is_autocast_cache_enabled()


def test_the_recordings_used_last_are_kept():
    model, x = build((12,)), batch((12,), rows=2)
    y = classes(model, x)
    with advlib.accelerate() as acceleration:
        pgd(model, x, y, Linf(0.1), steps=2)
        (first,) = acceleration._loops.values()
        for i in range(_LOOPS + 3):
            pgd(model, x, y, Linf(0.1), steps=2)
            pgd(model, x, y, Linf(0.2 + i / 1000), steps=2)
        assert len(acceleration._loops) == _LOOPS
        assert first in acceleration._loops.values()
