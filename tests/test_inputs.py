"""What the command line takes from outside, and what it says when it cannot."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from advlib import L0, L1, L2, Linf
from advlib.inputs import Batches, InputError, model_of, threat_of


@pytest.mark.parametrize(
    ("text", "threat"),
    [
        ("linf:8/255", Linf(8 / 255)),
        ("Linf:0.3", Linf(0.3)),
        ("l2:.5", L2(0.5)),
        ("l1:12", L1(12.0)),
        ("l0:20", L0(20.0)),
        ("linf:1e-2:-1,1", Linf(0.01, bounds=(-1.0, 1.0))),
        ("l2:1/2:none", L2(0.5, bounds=None)),
        ("linf:0:0,255", Linf(0.0, bounds=(0.0, 255.0))),
    ],
)
def test_threats(text, threat):
    assert threat_of(text) == threat


@pytest.mark.parametrize(
    "text",
    [
        *("", "linf", "linf:", "8/255", "l3:1", "linf:eight", "linf:8/0", "linf:inf", "linf:nan", "linf:-1"),
        *("linf:1:0", "linf:1:0,1,2", "linf:1:1,0", "linf:1:a,b", "linf:1:0,inf", "linf:1:none:2"),
    ],
)
def test_no_threats(text):
    with pytest.raises(InputError, match=r"a threat model is NORM:EPS\[:LOW,HIGH\].*linf:8/255") as caught:
        threat_of(text)
    assert repr(text) in str(caught.value)


def saved(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")


def read(source, rows=None):
    batches = Batches(source, rows)
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    assert len(batches.dataset) == len(x) == len(y)
    return x, y


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "float32 by zip"])
@pytest.mark.parametrize("labels", ["int64", "uint8", ">i2"])
def test_a_file_in_parts(tmp_path, dtype, labels):
    chance = np.random.default_rng(0)
    x = chance.random((601, 2, 3)).astype(dtype.split()[0])
    y = chance.integers(0, 9, 601).astype(labels)
    save = np.savez_compressed if "zip" in dtype else np.savez
    save(tmp_path / "data.npz", x=x, y=y, more=np.zeros(3))
    found, classes = read(str(tmp_path / "data.npz"))
    assert found.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert torch.equal(found, torch.from_numpy(x.astype(x.dtype.newbyteorder("="))))
    assert torch.equal(classes, torch.from_numpy(y.astype("int64")))
    assert torch.equal(read(str(tmp_path / "data.npz"), 300)[0], found[:300])
    assert max(len(part) for part, _ in Batches(str(tmp_path / "data.npz"), None)) == 250  # never all in memory


def test_grey_levels_become_shares(tmp_path):
    x = np.array([[0, 51, 255]], dtype=np.uint8)
    found, _ = read(saved(tmp_path, x=x, y=np.zeros(1, int)))
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.tensor([[0, 0.2, 1]]))


@pytest.mark.parametrize(("name", "shape"), [("mnist", (1, 28, 28)), ("digits", (1, 8, 8))])
def test_data_by_name(name, shape):
    x, y = read(name, 30)
    assert x.shape == (30, *shape)
    assert y.dtype == torch.int64


X, Y = np.zeros((4, 3), np.float32), np.zeros(4, int)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, r"must hold labels, an array y, got x: data are an \.npz file, numpy\.savez\('data\.npz'"),
        ({"y": Y, "images": X}, r"must hold inputs, an array x, got images, y"),
        (
            {"x": X.astype(np.float16), "y": Y},
            r"x in .* must be one input a row, \(N, \.\.\.\), in float32.*got float16",
        ),
        ({"x": X[:, 0], "y": Y}, r"got float32 \(4,\)"),
        ({"x": X, "y": Y[:3]}, r"one integer class per row of x, \(4,\), got int64 \(3,\)"),
        ({"x": X, "y": Y.astype(float)}, r"got float64 \(4,\)"),
        ({"x": np.asfortranarray(np.ones((4, 3), np.float32)), "y": Y}, "row by row, got one by columns"),
        ({"x": X.astype(object), "y": Y}, "must hold numbers, got Python objects"),
    ],
)
def test_files_that_hold_something_else(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        Batches(saved(tmp_path, **arrays), None)


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*none\.npz: data are .*or one of mnist, digits"):
        Batches(str(tmp_path / "none.npz"), None)
    (tmp_path / "text.npz").write_text("x, y")
    with pytest.raises(InputError, match=r"text\.npz cannot be read"):
        Batches(str(tmp_path / "text.npz"), None)
    with pytest.raises(InputError, match="cannot be read"):
        Batches(str(tmp_path), None)


def test_a_file_that_ends_early(tmp_path):
    path = saved(tmp_path, x=X, y=Y)
    batches = Batches(path, None)
    batches.dataset = range(5)
    with pytest.raises(InputError, match="the file ends before its 4 rows"):
        list(batches)


MODULE = """
import torch
from torch import nn

made = nn.Linear(2, 2)

def make():
    return nn.Linear(2, 3)

def three():
    return 3

number = 4
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "user_module.py").write_text(MODULE)
    (tmp_path / "user_lacking.py").write_text("import certainly_not_there")
    yield tmp_path
    for name in ("user_module", "user_lacking"):
        sys.modules.pop(name, None)


def test_models_on_the_import_path(folder):
    assert model_of("user_module:make").out_features == 3
    assert isinstance(model_of("user_module:made"), nn.Linear)
    assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("user_module", "the model is package.module:factory, got 'user_module'"),
        (":make", "package.module:factory"),
        ("user_modul:make", "there is no module 'user_modul' on the import path or in "),
        ("torch.nothing:make", r"there is no module 'torch\.nothing'"),
        ("user_module:mkae", "user_module has no factory 'mkae', but made, make, three: name one of them"),
        ("user_module:number", "has no factory 'number'"),
        ("user_module:three", "user_module:three must make a model, which can be called, got int"),
    ],
)
def test_models_that_are_not_there(folder, path, message):
    with pytest.raises(InputError, match=message):
        model_of(path)


def test_a_module_that_lacks_another_says_so(folder):
    with pytest.raises(ModuleNotFoundError, match="certainly_not_there"):
        model_of("user_lacking:make")
