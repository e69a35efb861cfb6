"""Steps that go through torch.compile."""

import pytest
import torch

import advlib
from advlib import L2, pgd, replay
from tests.laws.table import batch, build, classes, seeded


def compiled(**settings):
    return advlib.accelerate(**{"graphs": False, "compiled": True, "fold": False, "channels_last": False} | settings)


@pytest.fixture(params=["as they are", pytest.param("by torch", marks=pytest.mark.slow)])
def graphs(request, monkeypatch):
    """The graphs that are given to the compiler, which takes up to minutes for its first one on a machine."""
    taken, real = [], torch.compile

    def compile_(graph, **settings):
        taken.append(graph)
        return real(graph, **settings) if request.param == "by torch" else graph

    monkeypatch.setattr(torch, "compile", compile_)
    return taken


@pytest.mark.parametrize("keep", ["strongest", "first", "last"])
def test_compiled_steps_find_the_same(keep, graphs):
    model, x = build((12,)), batch((12,), rows=9)
    y, acceleration = classes(model, x), compiled()
    for _ in range(3):
        expected = pgd(model, x, y, L2(0.2), steps=9, keep=keep, generator=seeded())
        with acceleration:
            found = pgd(model, x, y, L2(0.2), steps=9, keep=keep, generator=seeded())
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)  # read where they lie
    assert acceleration.reasons == []
    assert 0 < len(graphs) == len(acceleration._loops)
    for loop in acceleration._loops.values():
        assert not any(leaf.requires_grad for leaf in replay.leaves(loop.tree))


def test_a_compiled_step_is_recorded_where_it_can_be(graphs, monkeypatch):
    recorded = []

    def record(function, static, pool):
        recorded.append(len(graphs))
        return replay.repeat(function, static, pool)

    monkeypatch.setitem(replay.RECORDERS, "cpu", record)
    model, x = build((12,)), batch((12,), rows=9)
    y = classes(model, x)
    expected = pgd(model, x, y, L2(0.2), steps=5, generator=seeded())
    with compiled(graphs=True) as acceleration:
        found = pgd(model, x, y, L2(0.2), steps=5, generator=seeded())
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert acceleration.reasons == []
    assert recorded == [1]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "when it is first called"])
def test_what_cannot_be_compiled_is_called(late, monkeypatch):
    def fail(values):
        raise RuntimeError("no compiler here")

    def compile_(graph, **settings):
        return fail if late else fail(graph)

    model, x = build((12,)), batch((12,), rows=9)
    y = classes(model, x)
    expected = pgd(model, x, y, L2(0.2), steps=5, generator=seeded())
    monkeypatch.setattr(torch, "compile", compile_)
    with compiled() as acceleration:
        assert torch.equal(pgd(model, x, y, L2(0.2), steps=5, generator=seeded()), expected)
    assert acceleration.reasons == ["Sequential is not recorded: no compiler here"]
