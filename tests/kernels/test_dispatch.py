"""Which kernel is used: what ADVLIB_KERNELS says, and an error that tells the cause where it cannot be had."""

import functools
import subprocess
import sys

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from advlib.kernels import dispatch

HERE = torch.ones(2)


class OnCuda:
    """What the dispatch looks at in a tensor on a CUDA device."""

    is_cuda = True
    device = "cuda:0"

    def __init__(self, dtype=torch.float32, contiguous=True, requires_grad=False):
        self.dtype, self.is_contiguous, self.requires_grad = dtype, lambda: contiguous, requires_grad


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """One kernel that was measured, triton as if installed, no interpreter, and no choice made."""
    monkeypatch.setattr(dispatch, "MEASURED", frozenset({"fast"}))
    monkeypatch.setattr(dispatch, "_missing", lambda: "")
    monkeypatch.delenv("ADVLIB_KERNELS", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


MISSING = dispatch._missing


@pytest.fixture
def without_triton(monkeypatch):
    monkeypatch.setattr(dispatch, "_missing", functools.cache(MISSING.__wrapped__))
    monkeypatch.setitem(sys.modules, "triton", None)


@pytest.mark.parametrize("broken", [None, object()])
def test_a_triton_that_can_be_imported(broken, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", broken)
    assert (MISSING.__wrapped__() == "") == (broken is not None)


def choose(monkeypatch, value):
    monkeypatch.setenv("ADVLIB_KERNELS", value)


def test_auto_is_the_default(monkeypatch):
    for value in (None, "auto"):
        if value:
            choose(monkeypatch, value)
        assert dispatch.fused("fast", OnCuda(), OnCuda(torch.float64))
        assert not dispatch.fused("never measured", OnCuda())


@pytest.mark.parametrize("other", [HERE, OnCuda(torch.float16), OnCuda(torch.int64), OnCuda(contiguous=False)])
def test_auto_takes_the_reference_where_one_tensor_does_not_suit(other):
    assert not dispatch.fused("fast", OnCuda(), other)


@pytest.mark.usefixtures("without_triton")
def test_auto_does_without_triton():
    assert not dispatch.fused("fast", OnCuda())


def test_auto_takes_the_reference_while_a_graph_is_traced(monkeypatch):
    seen = []

    def function(x):
        seen.append(dispatch.fused("fast", OnCuda()))
        return x + 1

    make_fx(function)(HERE)
    function(HERE)
    assert seen == [False, True]
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    assert not dispatch.fused("fast", OnCuda())


def test_the_choice_traces_as_one_graph():
    def function(x):
        return -x if dispatch.fused("fast", x) else x + 1

    assert torch.compile(function, fullgraph=True, backend="eager")(HERE).tolist() == [2, 2]


def test_torch_is_never_triton(monkeypatch):
    choose(monkeypatch, "torch")
    assert not dispatch.fused("fast", OnCuda())


def test_triton_is_every_kernel(monkeypatch):
    choose(monkeypatch, "triton")
    assert dispatch.fused("never measured", OnCuda(torch.float64), OnCuda(contiguous=False))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert dispatch.fused("never measured", HERE)


def test_triton_on_a_cpu_needs_the_interpreter(monkeypatch):
    choose(monkeypatch, "triton")
    message = r"needs tensors on a CUDA device, got one on cpu for the kernel fast: .*TRITON_INTERPRET=1.*KERNELS=auto"
    with pytest.raises(RuntimeError, match=message):
        dispatch.fused("fast", OnCuda(), HERE)


def test_triton_takes_two_types(monkeypatch):
    choose(monkeypatch, "triton")
    with pytest.raises(RuntimeError, match=r"takes float32 and float64, got torch.bfloat16 for the kernel fast: conv"):
        dispatch.fused("fast", OnCuda(), OnCuda(torch.bfloat16))


@pytest.mark.usefixtures("without_triton")
def test_triton_that_is_not_there(monkeypatch):
    choose(monkeypatch, "triton")
    with pytest.raises(RuntimeError, match=r"cannot be imported \(ModuleNotFoundError: .*triton.*\): install it, or"):
        dispatch.fused("fast", OnCuda())


def test_other_values(monkeypatch):
    choose(monkeypatch, "cuda")
    with pytest.raises(ValueError, match="ADVLIB_KERNELS must be auto, torch or triton, got 'cuda': unset it"):
        dispatch.fused("fast", HERE)


def test_what_autograd_records():
    weight = torch.ones(2, requires_grad=True)
    assert dispatch.differentiated(HERE, weight)
    assert not dispatch.differentiated(HERE, HERE)
    with torch.no_grad():
        assert not dispatch.differentiated(weight)


def test_importing_advlib_imports_no_triton():
    code = "import sys, advlib; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_autograd_records_only_a_differentiable_kernel_is_used(monkeypatch):
    for value in ("auto", "triton"):
        choose(monkeypatch, value)
        followed = OnCuda(requires_grad=True)
        assert not dispatch.fused("fast", OnCuda(), followed)
        assert dispatch.fused("fast", OnCuda(), followed, differentiable=True)
        with torch.no_grad():
            assert dispatch.fused("fast", OnCuda(), followed)


def test_what_the_reference_cannot_do_is_done_wherever_a_kernel_can(monkeypatch):
    assert dispatch.possible(OnCuda(), OnCuda(torch.float64))
    assert not dispatch.possible(OnCuda(), HERE)
    choose(monkeypatch, "torch")
    assert not dispatch.possible(OnCuda())
