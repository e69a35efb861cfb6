"""The best pair of features: the search inside the Jacobian-based saliency map attack, exact in O(D) memory.

Each feature is a point ``(a, b)``. The pair sought has the largest product ``(a_p + a_q) (b_p + b_q)`` among those
with both sums positive. Two facts find it:

- For any positive weights ``v`` and ``w``, the square root of ``v w`` times that product is at most half of
  ``s_p + s_q`` with ``s = v a + w b``. So the features with the largest ``s`` hold the best pair for certain, once no
  feature beyond them can reach the best product among them. Weights that make the two terms of the feature with the
  largest ``a b`` equal settle nearly every row of real gradients on a list of 5.
- Each feature of a best pair can be chosen so that no third one exceeds it in both coordinates. A sort and two
  running maxima find all features that fewer than two others exceed. There are few but where the coordinates are
  opposed, and then all of them are compared, a block at a time.

The Triton kernel takes the same short list, and compares all pairs of a row that the list does not settle. Its pairs
and scores are the reference's; but of pairs that are equally good it takes the one whose features come first, on the
short list by their order there, else by their indices, and the reference one of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from advlib.kernels.dispatch import fused, possible
from advlib.kernels.looks import may_wait

_LIST = 5  # features on the short list; torch's topk is several times slower above D / 64
_FRONT = 64  # features on the front up to which rows are compared together
_BLOCK = 2**20  # pairs looked at at once
_FEATURES = 4096  # above, comparing all pairs of a row is too slow, and a row too long for a program


class Pair(NamedTuple):
    """The best pair of each row."""

    first: Tensor  # (N,) index of one feature
    second: Tensor  # (N,) index of the other
    score: Tensor  # (N,) its product, relative to the row's scale; 0 where no pair has two positive sums


def best_pair(a: Tensor, b: Tensor) -> Pair:
    """Finds, in each row, the pair with the largest ``(a_p + a_q) (b_p + b_q)`` among positive sums.

    Args:
        a: ``(N, D)`` numbers, finite, or minus infinity for features that may not take part.
        b: ``(N, D)`` finite numbers.
    """
    if a.shape[1] < 2 or len(a) == 0:
        nowhere = torch.zeros(len(a), dtype=torch.int64, device=a.device)
        return Pair(nowhere, nowhere, nowhere.to(a.dtype))
    # a step that is recorded cannot look at what the search finds, so there the kernel is taken wherever it can be
    if a.shape[1] <= _FEATURES and (fused("best_pair", a, b) or (not may_wait() and possible(a, b))):
        from advlib.kernels import triton_pairs

        return Pair(*triton_pairs.best_pair(a, b, _LIST))
    return search_pair(a, b)


def search_pair(a: Tensor, b: Tensor) -> Pair:
    """The best pair of each row, of one row or more and two features or more: the reference."""
    a_gain, b_gain = a.relu(), b.relu()
    lead = (a_gain * b_gain).argmax(1, keepdim=True)
    v, w = (_inverse(gain.gather(1, lead)) for gain in (a_gain, b_gain))
    top, index = torch.addcmul(b * w, a, v).topk(min(_LIST, a.shape[1]), dim=1)
    pair = _compare(v * a.gather(1, index), w * b.gather(1, index), index)
    beyond = top[:, -1] if top.shape[1] < a.shape[1] else torch.full_like(top[:, 0], -torch.inf)
    # of a pair with positive sums, no entry is farther below zero than the largest is above
    largest = v.squeeze(1) * torch.linalg.vector_norm(a_gain, dim=1) + w.squeeze(1) * torch.linalg.vector_norm(
        b_gain, dim=1
    )
    rounding = 8 * torch.finfo(a.dtype).eps * largest
    settled = (pair.score > 0) & (pair.score.sqrt() >= (top[:, 0] + beyond) / 2 + rounding)
    if not may_wait():
        raise RuntimeError("the rest of the search for pairs depends on what it finds, and cannot be recorded")
    rows = (~settled).nonzero().squeeze(1)
    if len(rows):
        for part, exact in zip(pair, _search_front(_scaled(a[rows]), _scaled(b[rows])), strict=True):
            part[rows] = exact
    return pair


def _inverse(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1).reciprocal()


def _scaled(values: Tensor) -> Tensor:
    """Divides each row by its largest entry, if positive."""
    return values * _inverse(values.amax(1, keepdim=True))


def _compare(a: Tensor, b: Tensor, index: Tensor) -> Pair:
    """Compares all pairs of each row's few points, ``(N, M)`` each, the features ``index``."""
    points = a.shape[1]
    a_sum, b_sum = a.unsqueeze(2) + a.unsqueeze(1), b.unsqueeze(2) + b.unsqueeze(1)
    two = torch.ones(points, points, dtype=torch.bool, device=a.device).triu(1)
    score, best = torch.where((a_sum > 0) & (b_sum > 0) & two, a_sum * b_sum, 0).flatten(1).max(1)
    first, second = (index.gather(1, at.unsqueeze(1)).squeeze(1) for at in (best // points, best % points))
    return Pair(first, second, score)


def _search_front(a: Tensor, b: Tensor) -> Pair:
    """Compares the features that fewer than two others exceed in both coordinates."""
    a, order = a.sort(dim=1, descending=True)
    b = b.gather(1, order)
    before = torch.cat([torch.full_like(b[:, :1], -torch.inf), b.cummax(1).values[:, :-1]], dim=1)
    second = torch.minimum(b, before).cummax(1).values
    second = torch.cat([torch.full_like(b[:, :1], -torch.inf), second[:, :-1]], dim=1)
    front = b > second  # in order of a: at most one feature before it has a b as large
    place = front.cumsum(1) - 1
    small = place[:, -1] < _FRONT
    column = torch.where(front & (place < _FRONT), place, _FRONT)  # the last column takes what is not wanted

    def gathered(values: Tensor, empty: float) -> Tensor:
        target = torch.full_like(values[:, :1], empty).expand(-1, _FRONT + 1).contiguous()
        return target.scatter_(1, column, values)[:, :_FRONT]

    pair = _compare(gathered(a, -torch.inf), gathered(b, -torch.inf), gathered(order, 0))
    for row in (~small).nonzero().squeeze(1).tolist():
        index = front[row].nonzero().squeeze(1)
        at, other, pair.score[row] = _compare_blocks(a[row, index], b[row, index])
        pair.first[row], pair.second[row] = order[row, index[at]], order[row, index[other]]
    return pair


def _compare_blocks(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best pair among one row's many points, and its score."""
    place = torch.arange(len(a), device=a.device)
    best = (place[0], place[0], torch.zeros_like(a[0]))
    for block in torch.split(place, max(1, _BLOCK // len(a))):
        a_sum, b_sum = a[block].unsqueeze(1) + a, b[block].unsqueeze(1) + b
        good = (a_sum > 0) & (b_sum > 0) & (block.unsqueeze(1) < place)
        score, at = torch.where(good, a_sum * b_sum, 0).flatten().max(0)
        if score > best[2]:
            best = (block[at // len(a)], at % len(a), score)
    return best
