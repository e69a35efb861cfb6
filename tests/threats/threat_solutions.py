"""Independent solutions of the problems that threat models solve: slow, one row at a time, in numpy and scipy."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from scipy import optimize
from threat_problems import Row


def _bisect(too_far, low: float, high: float) -> float:
    """The point of [low, high] where ``too_far`` turns from False to True."""
    for _ in range(300):
        middle = (low + high) / 2 if low == 0 or high / low < 4 else (low * high) ** 0.5
        low, high = (low, middle) if too_far(middle) else (middle, high)
    return low


def projection(norm: str, row: Row) -> np.ndarray:
    """The nearest point of ball and box, from the optimality conditions of the convex problem or by brute force."""
    boxed = np.clip(row.x_adv, row.low, row.high)
    change = row.x_adv - row.x
    if norm == "Linf":
        return np.clip(boxed, row.x - row.eps, row.x + row.eps)
    if norm.startswith("L0"):
        return _best_subset(row, boxed, lambda point: gain(row, point))
    if norm == "L1":
        return _soft_threshold(row)

    def at(m):  # minimizes |p - a|^2 + m |p - x|^2 over the box; the right m >= 0 meets the ball
        return np.clip(row.x + change / (1 + m), row.low, row.high)

    if np.linalg.norm(boxed - row.x) <= row.eps:
        return boxed
    if row.eps == 0:
        return row.x
    most = np.abs(change).max() * len(change) / row.eps
    return at(_bisect(lambda m: np.linalg.norm(at(m) - row.x) <= row.eps, 0.0, most))


def gain(row: Row, point: np.ndarray) -> float:
    """How much nearer ``point`` is to ``x_adv`` than ``x`` is, in squared distance."""
    moved, wanted = point - row.x, row.x_adv - row.x
    return (moved * (2 * wanted - moved)).sum()


def _soft_threshold(row: Row) -> np.ndarray:
    """The L1 projection: changes less a threshold, cut to the box; in fractions, without rounding."""
    x, boxed = ([Fraction(v) for v in values] for values in (row.x, np.clip(row.x_adv, row.low, row.high)))
    capacity = [abs(b - a) for a, b in zip(x, boxed, strict=True)]
    if row.eps == np.inf or sum(capacity) <= Fraction(row.eps):
        return np.clip(row.x_adv, row.low, row.high)
    magnitude = [abs(Fraction(b) - a) for a, b in zip(x, row.x_adv, strict=True)]
    pairs = list(zip(magnitude, capacity, strict=True))

    def kept(threshold):
        return [min(max(m - threshold, 0), c) for m, c in pairs]

    corners = sorted({Fraction(0), *magnitude, *(m - c for m, c in pairs)})
    for left, right in itertools.pairwise(corners):
        above, below = sum(kept(left)), sum(kept(right))
        if above >= row.eps >= below:
            break
    share = (above - Fraction(row.eps)) / (above - below) if above > below else 0
    change = kept(left + share * (right - left))
    return np.array([float(a + c * (1 if b > a else -1)) for a, b, c in zip(x, boxed, change, strict=True)])


def projection_slsqp(norm: str, row: Row) -> np.ndarray:
    """The same by a general solver; for L1 the change is split into its two signs."""
    n = len(row.x)
    if norm == "L2":
        return _solve_l2(row, lambda p: ((p - row.x_adv) ** 2).sum(), lambda p: 2 * (p - row.x_adv)).x

    def point(parts):
        return row.x + parts[:n] - parts[n:]

    found = optimize.minimize(
        lambda parts: ((point(parts) - row.x_adv) ** 2).sum(),
        np.zeros(2 * n),
        jac=lambda parts: np.concatenate([2 * (point(parts) - row.x_adv), -2 * (point(parts) - row.x_adv)]),
        bounds=_split_bounds(row),
        constraints={"type": "ineq", "fun": lambda parts: row.eps - parts.sum(), "jac": lambda parts: -np.ones(2 * n)},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.status in (0, 8), found.message  # 8: no way down is left at this accuracy
    return point(found.x)


def _split_bounds(row: Row) -> list[tuple[float, float]]:
    return [(0, limit) for limit in np.concatenate([row.high - row.x, row.x - row.low])]


def linear_maximum(norm: str, row: Row) -> float:
    """The largest ``<grad, p - x>`` over ball and box; infinite if there is none."""
    n = len(row.x)
    if norm.startswith("L0"):
        corner = np.where(row.grad > 0, row.high, np.where(row.grad < 0, row.low, row.x))
        point = _best_subset(row, corner, lambda point: row.grad @ (point - row.x))
        return row.grad @ (point - row.x)
    if norm == "L2":  # x + m grad, cut to the box, with the m that meets the ball
        limit = np.where(row.grad > 0, row.high - row.x, np.where(row.grad < 0, row.x - row.low, 0))
        if np.linalg.norm(limit) <= row.eps:
            return np.abs(row.grad) @ limit

        def at(m):
            return np.minimum(m * np.abs(row.grad), limit)

        return np.abs(row.grad) @ at(_bisect(lambda m: np.linalg.norm(at(m)) > row.eps, 0.0, 1e30))
    limits = _split_bounds(row)
    budget = {"A_ub": np.ones((1, 2 * n)), "b_ub": [min(row.eps, 1e9)]}
    if norm == "Linf":
        limits, budget = [(0, min(row.eps, limit)) for _, limit in limits], {}
    found = optimize.linprog(np.concatenate([-row.grad, row.grad]), bounds=limits, **budget)
    assert found.status == 0, found.message
    return -found.fun


def linear_maximum_slsqp(row: Row) -> float:
    """The same for L2 by a general solver."""
    return -_solve_l2(row, lambda p: -row.grad @ (p - row.x), lambda p: -row.grad).fun


def _solve_l2(row: Row, objective, gradient) -> optimize.OptimizeResult:
    """The least ``objective`` over L2 ball and box."""
    found = optimize.minimize(
        objective,
        row.x,
        jac=gradient,
        bounds=list(zip(row.low, row.high, strict=True)),
        constraints={
            "type": "ineq",
            "fun": lambda p: row.eps**2 - ((p - row.x) ** 2).sum(),
            "jac": lambda p: -2 * (p - row.x),
        },
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.status in (0, 8), found.message  # 8: no way down is left at this accuracy
    return found


def _best_subset(row: Row, moved: np.ndarray, score) -> np.ndarray:
    """The best of all points that take ``moved`` on ``eps`` units at most and ``x`` elsewhere."""
    units = int(row.unit.max()) + 1
    size = int(min(row.eps, units))
    subsets = (np.isin(row.unit, subset) for subset in itertools.combinations(range(units), size))
    return max((np.where(keep, moved, row.x) for keep in subsets), key=score)


def least_distance(norm: str, row: Row, rise: float) -> tuple[float, float]:
    """How far ``<grad, p>`` rises (or falls) towards ``rise`` in the box, and the least distance at which it does."""
    slope = row.grad if rise > 0 else -row.grad
    limit = np.where(slope > 0, row.high - row.x, np.where(slope < 0, row.x - row.low, 0.0))
    size, wanted = np.abs(slope), min(abs(rise), np.abs(slope) @ np.where(slope == 0, 0.0, limit))
    if wanted == 0:
        return 0.0, 0.0
    limit = np.minimum(limit, wanted / np.where(size > 0, size, np.inf) if size.any() else 0)
    gains = size * limit
    if norm.startswith("L0"):
        per_unit = np.bincount(row.unit, gains)
        enough = (
            count
            for count in range(len(per_unit) + 1)
            for subset in itertools.combinations(per_unit, count)
            if sum(subset) >= wanted * (1 - 1e-7)
        )
        return np.sign(rise) * wanted, next(enough)
    if norm == "L2":

        def at(m):
            return np.minimum(m * size, limit)

        most = (limit[size > 0] / size[size > 0]).max()
        return np.sign(rise) * wanted, np.linalg.norm(at(_bisect(lambda m: size @ at(m) > wanted, 0.0, most)))
    n, scale = len(size), wanted / size.max()  # in units in which the solver's tolerances mean something
    slopes = size / size.max()
    if norm == "L1":
        found = optimize.linprog(np.ones(n), A_eq=[slopes], b_eq=[1.0], bounds=[(0, c) for c in limit / scale])
    else:  # the last variable is the largest change
        found = optimize.linprog(
            np.eye(n + 1)[n],
            A_ub=np.hstack([np.eye(n), -np.ones((n, 1))]),
            b_ub=np.zeros(n),
            A_eq=[[*slopes, 0.0]],
            b_eq=[1.0],
            bounds=[*((0, c) for c in limit / scale), (0, None)],
        )
    assert found.status == 0, found.message
    return np.sign(rise) * wanted, found.fun * scale
