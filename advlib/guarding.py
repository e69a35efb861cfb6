"""The guard: what keeps a model as it was, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def guard(model: Callable[..., Any]) -> Iterator[None]:
    """Puts a model into evaluation for the time of an attack, and back exactly as it was, come what may.

    Inside, gradients are off but can be turned on, also under ``torch.inference_mode``. Training flags are kept
    module by module. A compiled model's parameters are frozen meanwhile, since its one backward graph would
    compute all their gradients.
    """
    modules, frozen = [], []
    if isinstance(model, nn.Module):
        modules = [m for m in model.modules() if m.training]
        if any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules()):
            frozen = [p for p in model.parameters() if p.requires_grad]
    try:
        for module in modules:
            module.training = False
        for parameter in frozen:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for module in modules:
            module.training = True
        for parameter in frozen:
            parameter.requires_grad_(True)
        # Weights that autocast cast without a graph must not be reused by the caller's training step, as in torch 2.6.
        torch.clear_autocast_cache()
