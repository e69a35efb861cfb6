"""The examples in docstrings run, and print what they say."""

import copy
import doctest
import importlib
import inspect
import pkgutil
from functools import partial

import pytest
import torch
from torch import nn

import advlib
from advlib import (
    attacks,
    data,
    defenses,
    gradients,
    losses,
    models,
    oracles,
    search,
    testing,
    threats,
    training,
    transforms,
    zoo,
)
from advlib.attacks.apgd import AutoPGD
from advlib.attacks.bim import BasicIterative

SLOW = {"advlib.demo.demo"}  # the demonstration itself, tested in tests/test_demo.py


def examples():
    """Every docstring of the package that holds an example."""
    found = []
    for _, name, _ in pkgutil.walk_packages(advlib.__path__, "advlib."):
        if not name.endswith("__main__"):
            found += doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name), name)
    return {test.name: test for test in found if test.examples and test.name not in SLOW}


EXAMPLES = examples()


def names():
    """What an example may use without saying where it comes from."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 10))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(10, 36, generator=generator))
        model[1].bias.zero_()
    x = torch.rand(6, 1, 6, 6, generator=generator)
    y = model(x).argmax(1)
    modules = (
        advlib,
        attacks,
        data,
        defenses,
        gradients,
        losses,
        models,
        oracles,
        search,
        testing,
        threats,
        training,
        transforms,
        zoo,
    )
    public = {name: value for module in modules for name, value in vars(module).items() if not name.startswith("_")}
    digits = torch.rand(8, 1, 28, 28, generator=generator), torch.arange(8)
    return {
        **public,
        "advlib": advlib,
        "AutoPGD": AutoPGD,
        "torch": torch,
        "nn": nn,
        "model": model,
        "x": x,
        "y": y,
        "data": data.Dataset(*digits, *digits),
        "MyRule": partial(BasicIterative, 20, None),
        "partial": partial,
        "functional": nn.functional,
        "logits": torch.randn(6, 10, generator=generator),
        "logits_adv": torch.randn(6, 10, generator=generator),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "objective": defenses.Standard(),
        **{name: copy.deepcopy(model) for name in ("other", "teacher", "student")},
        "fit": lambda model, objective: objective(model, x, y),
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the files go that an example writes
    test = EXAMPLES[name]
    test.globs.update(names())
    failed, _ = doctest.DocTestRunner().run(test)
    assert not failed, capsys.readouterr().out


@pytest.mark.parametrize("module", [attacks, defenses, testing, threats, training, models, oracles])
def test_everything_that_a_user_calls_first_has_an_example(module):
    for name, value in vars(module).items():
        raised = inspect.isclass(value) and issubclass(value, Exception)
        if callable(value) and not (name.startswith("_") or inspect.isabstract(value) or raised):
            ours = value.__module__.startswith(module.__name__)
            assert not ours or f"{value.__module__}.{value.__name__}" in EXAMPLES, f"{name} has no example"
