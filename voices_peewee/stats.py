"""Statistics of plain numbers: spread, intervals, and what a paired difference is worth.

No NumPy and no SciPy are needed here, except for the signed-rank test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# Draws of one bootstrap: beyond, its limit for ever more resamples is computed instead (0.5 s).
MAX_DRAWS: Final = 6_000_000
_SERIES_UP_TO: Final = 200  # degrees of freedom; above, five terms of the expansion are exact


@dataclass(frozen=True, slots=True)
class Summary:
    """What a group of values comes to; ``stdev`` is the sample's (n − 1).

    ``low`` and ``high`` bound the 95 % interval of the mean (Student's t). What the number of
    values does not allow is None.
    """

    n: int
    mean: float | None = None
    median: float | None = None
    stdev: float | None = None
    low: float | None = None
    high: float | None = None


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None of nothing."""
    return math.fsum(values) / len(values) if values else None


def median(ordered: Sequence[float]) -> float | None:
    """Return the median of sorted values, or None of nothing."""
    if not ordered:
        return None
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def summarize(ordered: Sequence[float]) -> Summary:
    """Summarize sorted values."""
    center = mean(ordered)
    if center is None:
        return Summary(0)
    squares = math.fsum((value - center) ** 2 for value in ordered)
    return summary(len(ordered), center, median(ordered), squares)


def summary(n: int, center: float, middle: float | None, squares: float) -> Summary:
    """Summarize ``n`` values by mean, median and the sum of squared deviations from the mean."""
    if n < 2:
        return Summary(n, center, middle)
    stdev = math.sqrt(max(squares, 0.0) / (n - 1))
    margin = t_quantile(0.975, n - 1) * stdev / math.sqrt(n)
    return Summary(n, center, middle, stdev, center - margin, center + margin)


@lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: int) -> float:
    """Return a quantile above the median of Student's t, to about 1e-11.

    Abramowitz and Stegun, Handbook of Mathematical Functions: 26.7.3 and 26.7.4 (the
    probability for whole degrees of freedom) and 26.7.5 (the expansion for many).
    """
    guess = _t_expansion(_z(probability), freedom)
    if freedom > _SERIES_UP_TO:
        return guess
    low, high = 0.0, 1.0
    while _t_within(high, freedom) < 2 * probability - 1:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        if _t_within(middle, freedom) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return high


def _z(probability: float) -> float:
    from statistics import NormalDist  # 10 ms, which only who asks shall pay

    return NormalDist().inv_cdf(probability)


def _t_expansion(z: float, freedom: int) -> float:
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


def _t_within(t: float, freedom: int) -> float:
    """Return the probability that Student's t lies between -t and t."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = freedom % 2
    term, terms = (cosine if is_odd else 1.0), []
    for step in range(2 + is_odd, freedom + 1, 2):
        terms.append(term)
        term *= cosine * cosine * (step - 1) / step
    if is_odd:
        return (angle + sine * math.fsum(terms)) * 2 / math.pi
    return sine * math.fsum(terms)
