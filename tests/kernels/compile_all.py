"""Compiles kernels for CUDA devices that need not be there, which the interpreter proves nothing about.

In a process without the interpreter, every launch is replaced by a compilation to machine code for what it was given.
"""

import inspect

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from advlib.kernels import (
    triton_bookkeeping,
    triton_l1,
    triton_margins,
    triton_noise,
    triton_pairs,
    triton_steps,
)

TYPES = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int64: "*i64", torch.bool: "*i1"}
CAPABILITIES = (80, 90)


def kind(value):
    return TYPES[value.dtype] if isinstance(value, torch.Tensor) else {int: "i32", float: "fp32"}[type(value)]


def compiled(self, *args, grid, warmup, **options):
    names = {name: options.pop(name) for name in list(options) if name in self.arg_names}
    given = inspect.signature(self.fn).bind(*args, **names).arguments
    constant = {p.name: given[p.name] for p in self.params if p.is_constexpr}
    signature = {name: "constexpr" if name in constant else kind(value) for name, value in given.items()}
    source = ASTSource(self, signature, constexprs=constant)
    for capability in CAPABILITIES:
        assert triton.compile(source, GPUTarget("cuda", capability, 32), options).asm["cubin"]
        print(self.fn.__name__, *(value for value in signature.values() if value != "constexpr"), capability)


def main():
    JITFunction.run = compiled
    row = torch.arange(3)
    for dtype in (torch.float32, torch.float64):
        x, one = torch.zeros(3, 5000, dtype=dtype), torch.ones(1, dtype=dtype)
        triton_steps.linf_step(x, x, x[:, 0], x, x)
        triton_steps.l2_step(x, x, x[:, 0], x, one, one, x)
        triton_steps.momentum(x, x, 0.9)
        triton_noise.uniform(x, row, 1, 2, (3, 2**32 - 1))
        triton_noise.uniform(x, row, row, row[0], (row[0], row[1]))
        triton_bookkeeping.keep_better(row > 0, (x, x), (x, x))
        triton_bookkeeping.extrapolate(x, x, x, x[:, 0])
        triton_l1.project(x, x, one, x, one)
        triton_pairs.best_pair(x[:, :700], x[:, :700], 5)
        triton_pairs.best_pair(x[:, :3000], x[:, :3000], 5)
        for classes in (10, 1000):
            logits = x[:, :classes].clone().requires_grad_()
            for target in (None, row):
                triton_margins.lead(logits, row, target)
                triton_margins.lead(logits, row, target, softmax=True)
                triton_margins.lead(logits, row, target, ratio=True)
        triton_margins.lead(logits.detach(), row, None)


if __name__ == "__main__":
    main()
