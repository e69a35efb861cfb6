"""Random problems for the tests of threat models: a threat, clean inputs, points to project, gradients."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from advlib.noise import Key, Noise
from advlib.threats import L0, L1, L2, Linf, Threat

THREATS = {"Linf": Linf, "L2": L2, "L1": L1, "L0": L0, "L0 pixels": functools.partial(L0, per_pixel=True)}
CONVEX = ("Linf", "L2", "L1")
ALL = tuple(THREATS)
DTYPES = (torch.float32, torch.float64)

# What a result may differ by, relative to the largest number that went in (float32 rounds at 6e-8).
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}


class Problem(NamedTuple):
    norm: str
    threat: Threat
    x: Tensor
    x_adv: Tensor  # points to bring back; often outside bounds and ball
    grad: Tensor

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.x.dtype]

    def row(self, i: int) -> Row:
        """Row ``i`` in numpy, worked out here without the library's help."""

        def full(value: object, otherwise: float) -> np.ndarray:
            value = otherwise if value is None else value
            value = value.to(self.x.dtype) if isinstance(value, Tensor) else torch.tensor(value, dtype=self.x.dtype)
            return value.expand(self.x.shape)[i].double().numpy().ravel()

        bounds = self.threat.bounds or (-np.inf, np.inf)
        low, high = (full(bound, bound) for bound in bounds)
        free = np.ones(low.shape, bool)
        if self.threat.mask is not None:
            free = self.threat.mask.expand(self.x.shape)[i].numpy().ravel()
        eps = torch.as_tensor(self.threat.eps, dtype=self.x.dtype).expand(len(self.x))[i].item()
        x, x_adv, grad = (part[i].double().numpy().ravel() for part in (self.x, self.x_adv, self.grad))
        low, high = np.where(free, low, x), np.where(free, high, x)
        channels = self.x.shape[1] if self.norm == "L0 pixels" else 1
        return Row(eps, x, x_adv, grad, low, high, free, np.arange(len(x)) % (len(x) // channels))


class Row(NamedTuple):
    eps: float
    x: np.ndarray
    x_adv: np.ndarray
    grad: np.ndarray
    low: np.ndarray  # bounds and mask
    high: np.ndarray
    free: np.ndarray
    unit: np.ndarray  # which counted unit, feature or pixel, each feature belongs to


def make(norm: str, eps: float | Tensor, bounds: object = (0.0, 1.0), mask: Tensor | None = None) -> Threat:
    return THREATS[norm](eps, bounds=bounds, mask=mask)


def noise(rows: int, seed: int = 0) -> Noise:
    return Noise(Key(torch.Generator().manual_seed(seed)), torch.arange(rows))


@st.composite
def problems(draw: st.DrawFn, norms: tuple[str, ...] = ALL, finite: bool = False, largest: int = 12) -> Problem:
    """A random problem; ``finite`` leaves out infinite eps and, with it, missing bounds for L0."""
    norm = draw(st.sampled_from(norms))
    dtype = draw(st.sampled_from(DTYPES))
    rows = draw(st.integers(1, 4))
    shapes = (
        [(2, 3), (3, 2), (2, 2, 2), (1, 4)] if norm == "L0 pixels" else [(1,), (2,), (6,), (12,), (2, 3), (2, 2, 2)]
    )
    shape = draw(st.sampled_from([shape for shape in shapes if np.prod(shape) <= largest]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    full = (rows, *shape)

    kinds = ["numbers", "features", "rows", "mixed"]
    kind = draw(st.sampled_from(kinds if finite and norm.startswith("L0") else ["none", *kinds]))
    low, high = -0.5, 2.0
    if kind in ("features", "rows"):
        size = shape if kind == "features" else full
        low = rng.uniform(-1, 0.5, size)
        high = low + rng.uniform(0, 1.5, size) * (rng.random(size) < 0.9)  # some features cannot move at all
    elif kind == "mixed":
        low = rng.uniform(-1, 1, (rows, *[1] * len(shape)))
    x = rng.uniform(np.broadcast_to(low, full), np.broadcast_to(high, full))
    edge = rng.random(full)
    x = np.where(edge < 0.15, low, np.where(edge > 0.85, high, x))  # clean features on the bounds are common
    x = torch.tensor(x, dtype=dtype)
    bounds = (low, high)
    if kind == "none":
        bounds = None
    elif kind != "numbers":
        bounds = tuple(bound if isinstance(bound, float) else torch.tensor(bound, dtype=dtype) for bound in bounds)

    spread = draw(st.sampled_from([1e-3, 0.1, 1.0, 30.0]))
    change = rng.normal(size=full) * spread * (rng.random(full) < 0.8)  # some features did not move
    grad = rng.normal(size=full) * draw(st.sampled_from([1e-3, 1.0, 1e3])) * (rng.random(full) < 0.8)
    if draw(st.booleans()):  # ties
        change, grad = (np.sign(part) * spread for part in (change, grad))
    mask_size = {"none": None, "features": shape, "rows": full}[draw(st.sampled_from(["none", "features", "rows"]))]
    mask = None if mask_size is None else torch.tensor(rng.random(mask_size) < 0.7)

    units = int(np.prod(shape[1:] if norm == "L0 pixels" else shape))
    sizes = [0.0, 1.0, 2.0, float(units)] if norm.startswith("L0") else [0.0, 1e-3, 0.3, 1.0, 20.0]
    sizes += [] if finite else [np.inf]
    eps = draw(st.sampled_from([*sizes, "rows"]))
    if eps == "rows":
        eps = torch.tensor(rng.choice(sizes, rows), dtype=dtype)
    return Problem(
        norm, make(norm, eps, bounds, mask), x, x + torch.tensor(change, dtype=dtype), torch.tensor(grad, dtype=dtype)
    )
