"""The best pair of features in Triton, one program a row.

Nearly every row is settled by its short list, which a few passes over the row find; the same program compares all pairs
of a row that is not, tile by tile in registers. So rows differ in cost, but a branch within a program makes nothing
wait, and no second launch or table of partial results is needed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _inverse(value):
    return 1.0 / tl.where(value > 0, value, 1.0)


@triton.jit
def _products(a_first, b_first, a_second, b_second, counted):
    """Products of the sums of all firsts with all seconds; zero where a sum is not positive."""
    a_sum, b_sum = a_first[:, None] + a_second[None, :], b_first[:, None] + b_second[None, :]
    return tl.where((a_sum > 0) & (b_sum > 0) & counted, a_sum * b_sum, 0.0)


@triton.jit
def _best_pair_kernel(
    a,
    b,
    first,
    second,
    score,
    features,
    UNIT: tl.constexpr,
    LIST: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    a += row * features
    b += row * features
    place = tl.arange(0, BLOCK)
    there = place < features
    a_all = tl.load(a + place, mask=there, other=-float("inf"))
    b_all = tl.load(b + place, mask=there, other=0.0)

    # the short list: the features with the largest weighted sums, in falling order
    a_gain, b_gain = tl.maximum(a_all, 0.0), tl.maximum(b_all, 0.0)
    gain = tl.where(there, a_gain * b_gain, -1.0)
    lead = tl.min(tl.where(gain == tl.max(gain, axis=0), place, BLOCK), axis=0)
    v, w = _inverse(tl.maximum(tl.load(a + lead), 0.0)), _inverse(tl.maximum(tl.load(b + lead), 0.0))
    reach = tl.where(there, b_all * w + a_all * v, -float("inf"))
    lane = tl.arange(0, LANES)
    listed = tl.zeros((LANES,), tl.int32)
    height = tl.full((LANES,), -float("inf"), a_all.dtype)
    for k in tl.static_range(LIST):
        largest = tl.max(reach, axis=0)
        at = tl.min(tl.where(reach == largest, place, BLOCK), axis=0)
        listed = tl.where(lane == k, at, listed)
        height = tl.where(lane == k, largest, height)
        reach = tl.where(place == at, -float("inf"), reach)
    on_list = height > -float("inf")  # what may not take part would be listed again and again
    a_list = v * tl.load(a + listed, mask=on_list, other=-float("inf"))
    b_list = w * tl.load(b + listed, mask=on_list, other=0.0)
    listed_products = _products(a_list, b_list, a_list, b_list, lane[:, None] < lane[None, :])
    best = tl.max(tl.max(listed_products, axis=1), axis=0)
    cell = tl.where(listed_products == best, lane[:, None] * LANES + lane[None, :], LANES * LANES)
    found = tl.min(tl.min(cell, axis=1), axis=0)
    p = tl.sum(tl.where(lane == found // LANES, listed, 0), axis=0)
    q = tl.sum(tl.where(lane == found % LANES, listed, 0), axis=0)

    beyond = tl.max(tl.where(lane == LIST - 1, height, -float("inf")), axis=0)
    beyond = tl.where(features > LIST, beyond, -float("inf"))
    top = tl.max(height, axis=0)
    length = v * tl.sqrt(tl.sum(a_gain * a_gain, axis=0)) + w * tl.sqrt(tl.sum(b_gain * b_gain, axis=0))
    settled = (best > 0) & (tl.sqrt(best) >= (top + beyond) / 2 + 8 * UNIT * length)

    if settled == 0:
        v, w = _inverse(tl.max(a_all, axis=0)), _inverse(tl.max(tl.where(there, b_all, -float("inf")), axis=0))
        highest = tl.zeros((ROWS, COLUMNS), a_all.dtype)
        code = tl.zeros((ROWS, COLUMNS), tl.int32)
        for start in range(0, features, ROWS):
            i = start + tl.arange(0, ROWS)
            a_i = v * tl.load(a + i, mask=i < features, other=-float("inf"))
            b_i = w * tl.load(b + i, mask=i < features, other=0.0)
            for onward in range(start, features, COLUMNS):
                j = onward + tl.arange(0, COLUMNS)
                a_j = v * tl.load(a + j, mask=j < features, other=-float("inf"))
                b_j = w * tl.load(b + j, mask=j < features, other=0.0)
                product = _products(a_i, b_i, a_j, b_j, i[:, None] < j[None, :])
                higher = product > highest
                highest = tl.where(higher, product, highest)
                code = tl.where(higher, i[:, None] * features + j[None, :], code)
        best = tl.max(tl.max(highest, axis=1), axis=0)
        found = tl.min(tl.min(tl.where(highest == best, code, features * features), axis=1), axis=0)
        p, q = found // features, found % features

    tl.store(first + row, p.to(tl.int64))
    tl.store(second + row, q.to(tl.int64))
    tl.store(score + row, best)


def best_pair(a: Tensor, b: Tensor, listed: int) -> tuple[Tensor, Tensor, Tensor]:
    """First and second feature of each row's best pair, the first with the smaller index but on a short list."""
    a, b, features = a.contiguous(), b.contiguous(), a.shape[1]
    first = torch.empty(len(a), dtype=torch.int64, device=a.device)
    second, score = torch.empty_like(first), torch.empty_like(a[:, 0])
    block = triton.next_power_of_2(features)
    with torch.cuda.device_of(a):
        _best_pair_kernel[(len(a),)](
            a,
            b,
            first,
            second,
            score,
            features,
            UNIT=torch.finfo(a.dtype).eps,
            LIST=min(listed, features),
            LANES=triton.next_power_of_2(listed),
            BLOCK=block,
            ROWS=32,
            COLUMNS=64,
            num_warps=4 if block <= 1024 else 8,
            enable_fp_fusion=False,
        )
    return first, second, score
