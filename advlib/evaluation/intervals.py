"""How far a share counted on some rows may be from that on data like these."""

from __future__ import annotations


def clopper_pearson(hits: int, rows: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Clopper and Pearson, 1934)."""
    from scipy.stats import binomtest  # takes a second to import

    interval = binomtest(hits, rows).proportion_ci(confidence_level=0.95, method="exact")
    return float(interval.low), float(interval.high)
