"""Root finding: quick where Newton's method is, and never worse than bisection."""

import pytest
import torch

from advlib.threats.roots import increasing_root

PIECES = 60


def column(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def arithmetic(a, b):
    return (a + b) / 2


def geometric(a, b):
    return a.clamp_min(1e-300).sqrt() * b.sqrt()


def trap(t):
    """A concave function whose slope falls tenfold at each piece: Newton's step crosses one or two pieces of 60,

    and leaves 0.8 of the value. Its root is the end of the last piece.
    """
    slope = 0.1 ** torch.arange(PIECES, dtype=torch.float64)
    length = 9.0 ** torch.arange(PIECES, dtype=torch.float64)
    start = length.cumsum(0) - length
    inside = torch.minimum((t - start).clamp_min(0), length)
    beyond = (t - start[-1] - length[-1]).clamp_min(0) * slope[-1]
    value = (inside * slope).sum(1, keepdim=True) + beyond - (length * slope).sum()
    return value, slope[(t >= start).sum(1).sub(1)].unsqueeze(1)


def find(function, low, high, start, tolerance=1e-9, middle=geometric):
    points = []

    def counted(t):
        points.append(t.clone())
        return function(t)

    root = increasing_root(counted, low, high, start, torch.full_like(low, tolerance), middle)
    return root, points


def test_linear_functions_take_two_looks():
    slope, offset = column(0.5, 2.0, 1000.0), column(1.0, -3.0, 10.0)
    root, points = find(
        lambda t: (slope * t - offset, slope), column(-9.0, -9.0, -9.0), column(9.0, 9.0, 9.0), column(0.0, 0.0, 0.0)
    )
    torch.testing.assert_close(root, offset / slope)
    assert len(points) == 2


def test_newtons_trap_is_left_by_bisection():
    low, high = column(1.0), column(9.0**PIECES)
    value, slope = trap(low)
    for _ in range(48):  # alone, Newton's method is far away after as many steps
        low = low - value / slope
        value, slope = trap(low)
    assert value < -1e-4
    root, points = find(trap, column(1.0), high, column(1.0))
    assert trap(root)[0].abs() < 1e-9
    assert len(points) <= 48


def test_no_slope_to_follow():
    """A staircase is flat wherever one looks: only bisection is left."""
    edge = column(0.3, 7.0)

    def staircase(t):
        return (t - edge).sign() * 2 ** (t - edge).abs().clamp_min(1e-300).log2().floor(), torch.zeros_like(t)

    root, points = find(staircase, column(0.0, 0.0), column(8.0, 8.0), column(8.0, 0.0), middle=arithmetic)
    torch.testing.assert_close(root, edge, rtol=0, atol=2e-9)
    assert len(points) < 36  # 33 halvings of 8 make 1e-9


def test_a_row_that_arrived_stays_whatever_the_others_do():
    """One by one or together with rows that take longer, not by one bit otherwise; traced, all take 48 steps."""
    target = column(*(10.0**k for k in range(-6, 7)))

    def cube(t, target=target):
        return t**3 - target, 3 * t**2

    ends = torch.zeros_like(target), torch.full_like(target, 1e3)
    together, _ = find(cube, *ends, ends[1], tolerance=1e-3, middle=arithmetic)
    for i in range(len(target)):
        rows = slice(i, i + 1)
        alone, points = find(
            lambda t, rows=rows: cube(t, target[rows]),
            *(end[rows] for end in ends),
            ends[1][rows],
            tolerance=1e-3,
            middle=arithmetic,
        )
        assert torch.equal(alone, together[rows])
        assert torch.equal(alone, points[-1])


def test_traced_it_takes_every_step_and_says_the_same(monkeypatch):
    ends = column(0.0, 0.0), column(1e3, 1e3)
    eager, few = find(lambda t: (t**3 - 2, 3 * t**2), *ends, ends[1], 1e-3, arithmetic)
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    traced, all_of_them = find(lambda t: (t**3 - 2, 3 * t**2), *ends, ends[1], 1e-3, arithmetic)
    assert torch.equal(eager, traced)
    assert len(few) < len(all_of_them) == 48


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_rows_that_need_no_root_stop_nobody(start):
    """An infinite tolerance marks a row whose result is not used; it returns where it began."""
    tolerance = torch.tensor([[torch.inf], [1e-9]], dtype=torch.float64)
    root = increasing_root(
        lambda t: (t - 0.25, torch.ones_like(t)),
        column(0.0, 0.0),
        column(1.0, 1.0),
        column(start, start),
        tolerance,
        arithmetic,
    )
    assert root.flatten().tolist() == [start, 0.25]
