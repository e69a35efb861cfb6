"""Counter-based noise: a pure function of key, row, restart, step and feature.

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). A row's
noise depends on the row's index in the call and on nothing else that varies: not on the batch it is computed
in, the other rows, the order of evaluation, or the device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from advlib.kernels.dispatch import fused

_WORD = 0xFFFFFFFF
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # Salmon et al. 2011, table 2
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_UNIT = 2.0**-24  # 24 bits: exact in float32, so every dtype sees the same numbers


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int | Tensor, int | Tensor]
) -> tuple[Tensor, ...]:
    """Returns the four 32-bit words of Philox4x32-10 as int64 tensors.

    Args:
        counter: Four broadcastable int64 tensors holding values in [0, 2**32).
        key: Two values in [0, 2**32), numbers or int64 tensors.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        low = c0 * _MULTIPLIERS[0]  # a product of two words: int64 wraps, the bits are those of uint64
        high = c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((high >> 32) & _WORD) ^ c1 ^ k0,
            high & _WORD,
            ((low >> 32) & _WORD) ^ c3 ^ k1,
            low & _WORD,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return c0, c1, c2, c3


class Key:
    """The 64-bit key of one call, drawn from ``generator`` when it is first needed.

    A call that uses no noise draws nothing. ``generator=None`` means torch's global generator.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self._generator = generator
        self._words: tuple[int, int] | None = None

    @property
    def words(self) -> tuple[int, int]:
        """The key's two halves, each in [0, 2**32)."""
        if self._words is None:
            device = "cpu" if self._generator is None else self._generator.device
            bits = torch.randint(-(2**63), 2**63 - 1, (), generator=self._generator, device=device, dtype=torch.int64)
            value = int(bits)
            self._words = (value & _WORD, (value >> 32) & _WORD)
        return self._words

    @property
    def word(self) -> int:
        """The key as one number in [0, 2**64), with which another generator may be seeded."""
        low, high = self.words
        return low | high << 32


class Noise(NamedTuple):
    """The noise that some rows see at one step of one restart.

    Two draws that differ in row, restart, step or stream share nothing. A rule that draws twice in one step
    takes its second draw from ``noise.stream(1)``; streams from 256 up belong to the gradient sources.
    """

    key: Key
    row: Tensor  # (N,) int64, the row's index in the call, below 2**32
    restart: int | Tensor = 0  # below 2**16; one for all rows, or (N,)
    step: int | Tensor = 0  # below 2**32; one for all rows, or (N,)
    branch: int = 0  # below 2**16

    def stream(self, index: int) -> Noise:
        """The same rows and step, another independent draw."""
        return self._replace(branch=index)

    def _words(self, features: int) -> Tensor:
        """``(N, ceil(features / 4), 4)`` int64 words."""
        device = self.row.device
        block = torch.arange(-(-features // 4), device=device).unsqueeze(0)
        step = self.row.new_zeros(1) + self.step
        lane = self.row.new_zeros(1) + self.restart + (self.branch << 16)
        words = philox((block, self.row.unsqueeze(1), lane.unsqueeze(1), step.unsqueeze(1)), self.key.words)
        return torch.stack(words, dim=-1)

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) with the shape, dtype and device of ``like``, ``(N, ...)``."""
        if fused("uniform", like):
            from advlib.kernels import triton_noise

            return triton_noise.uniform(like, self.row, self.restart + (self.branch << 16), self.step, self.key.words)
        features = math.prod(like.shape[1:])
        words = self._words(features).flatten(1)[:, :features]
        return ((words >> 8).to(like.dtype) * _UNIT).reshape(like.shape)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers like ``like``, ``(N, ...)``, by Box and Muller's method."""
        features = math.prod(like.shape[1:])
        uniform = (self._words(features) >> 8).to(like.dtype) * _UNIT
        radius = (-2 * torch.log1p(-uniform[..., :2])).sqrt()
        angle = 2 * math.pi * uniform[..., 2:]
        values = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)
        return values.flatten(1)[:, :features].reshape(like.shape)

    def exponential(self, like: Tensor) -> Tensor:
        """Standard exponential numbers like ``like``, ``(N, ...)``."""
        return -torch.log1p(-self.uniform(like))

    def signs(self, like: Tensor) -> Tensor:
        """Numbers -1 and 1 with equal chance, like ``like``, ``(N, ...)``."""
        return torch.where(self.uniform(like) < 0.5, -1.0, 1.0).to(like.dtype)
