"""Statistics of plain numbers, with neither NumPy nor SciPy.

Student's t by whole degrees of freedom, the mean of units with its interval and p-value, errors
that are clustered in one way or in two, Holm's adjustment, and letters for what it tells apart.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from operator import mul, sub
from statistics import fmean
from typing import Final, NamedTuple, TypeVar

_SAME: Final = 1e-9  # of the largest value: differences that rounding makes are none

T = TypeVar("T", bound=Hashable)


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None of nothing."""
    return fmean(values) if values else None


def median(values: Sequence[float]) -> float | None:
    """Return the median, or None of nothing."""
    return statistics.median(values) if values else None


@lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: int) -> float:
    """Return a quantile above the median of Student's t, to about 1e-11."""
    outside = 2 * (1 - probability)
    low, high = 0.0, 1.0
    while t_p(high, freedom) > outside:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        if t_p(middle, freedom) > outside:
            low = middle
        else:
            high = middle
    return high


def t_p(t: float, freedom: int) -> float:
    """Return the two-sided p-value of Student's t, to about 1e-11 of it.

    It is the incomplete beta function I(ν / 2, 1 / 2) at ν / (ν + t²), by its continued
    fraction (NIST Digital Library of Mathematical Functions, 8.17.22).
    """
    if t == 0:
        return 1.0
    if math.isinf(t):
        return 0.0
    # The fraction converges fast on one side of x = (a + 1) / (a + b + 2) only.
    share = t * t / (freedom + t * t)
    a = freedom / 2
    front = math.exp(-a * math.log1p(t * t / freedom) + 0.5 * math.log(share) - _log_beta(a))
    if 1 - share < (a + 1) / (a + 2.5):
        return front / a * _beta_fraction(a, 0.5, 1 - share)
    return 1 - 2 * front * _beta_fraction(0.5, a, share)


def _log_beta(a: float) -> float:
    """Return the logarithm of the beta function of a and 1/2."""
    if a < 50:
        return math.lgamma(a) + math.lgamma(0.5) - math.lgamma(a + 0.5)
    # lgamma of many degrees of freedom would lose the digits that are left after the difference.
    ratio = 0.5 * math.log(a) - 1 / (8 * a) + 1 / (192 * a**3) - 1 / (640 * a**5)
    return math.lgamma(0.5) - ratio


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of the incomplete beta function (Lentz's way)."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            c, d = 1 + term / c, 1 / (1 + term * d)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


class Estimate(NamedTuple):
    """The mean of so many units; ``low`` … ``high`` and ``p`` by the same Student's t.

    ``identical`` says that all units have one value: the interval has no width, which is no
    certainty, and there is no p-value. ``stdev`` is the sample's (n − 1) of independent units.
    What the number of units does not allow is None.
    """

    n: int
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    identical: bool = False
    stdev: float | None = None


def estimate(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Return the mean of independent units with its interval and the p-value of no difference."""
    n, center = len(values), mean(values)
    if center is None or n < 2:
        return Estimate(n, center)
    values = [*values]  # an array would make its numbers anew each time
    off = list(map(sub, values, repeat(center)))
    squares = math.fsum(map(mul, off, off))
    error, stdev = math.sqrt(squares / (n - 1) / n), math.sqrt(squares / (n - 1))
    return _estimate(values, n, center, error, n - 1, confidence)._replace(stdev=stdev)


def _estimate(
    values: Sequence[float], n: int, center: float, error: float, freedom: int, confidence: float
) -> Estimate:
    least, most = min(values), max(values)
    if not error or most - least <= _SAME * max(abs(least), abs(most)):
        return Estimate(n, center, center, center, identical=True)
    return by_t(n, center, error, freedom, confidence)


def by_t(
    n: int, center: float, error: float, freedom: int, confidence: float, null: float = 0.0
) -> Estimate:
    """Return the estimate of a mean with a standard error, by Student's t."""
    margin = t_quantile((1 + confidence) / 2, freedom) * error
    p = t_p((center - null) / error, freedom)
    return Estimate(n, center, center - margin, center + margin, p)


def clustered_estimate(
    values: Sequence[float],
    speakers: Sequence[Hashable],
    recordings: Sequence[Hashable],
    confidence: float = 0.95,
) -> Estimate:
    """Return the mean of speakers' means, where a speaker counts once.

    Where speakers share recordings, the standard error is the larger of the one-way one and
    the two-way one (Cameron, Gelbach and Miller, Robust Inference With Multiway Clustering,
    2011), and the degrees of freedom are one less than the smaller number of speakers and
    recordings.
    """
    counts = Counter(speakers)
    sums = cluster_sums(values, speakers)
    means = [total / counts[key] for key, total in sums.items()]
    one_way = estimate(means, confidence)
    units, both = min(len(counts), len({*recordings})), [*zip(speakers, recordings, strict=True)]
    if units < 2 or one_way.mean is None:
        return Estimate(one_way.n, one_way.mean)
    if len({*both}) == len({*recordings}):  # no recording is shared
        return one_way
    residuals = [
        (value - one_way.mean) / (counts[speaker] * len(counts))
        for value, speaker in zip(values, speakers, strict=True)
    ]
    own, other, rest = (clustered(residuals, keys) for keys in (speakers, recordings, both))
    error = math.sqrt(max(own, own + other - rest))
    return _estimate(means, len(means), one_way.mean, error, units - 1, confidence)


def cluster_sums(values: Iterable[float], keys: Iterable[T]) -> dict[T, float]:
    """Return the sum of the values of each key."""
    parts: dict[T, list[float]] = {}
    for key, value in zip(keys, values, strict=True):
        parts.setdefault(key, []).append(value)
    return {key: math.fsum(own) for key, own in parts.items()}


def clustered(residuals: Sequence[float], keys: Iterable[Hashable]) -> float:
    """Return the variance of a sum whose residuals go together by their keys."""
    sums = cluster_sums(residuals, keys)
    return math.fsum(value * value for value in sums.values()) * len(sums) / (len(sums) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm, 1979), in the order given."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def letters(names: Sequence[T], apart: Iterable[tuple[T, T]]) -> dict[T, str]:
    """Return letters for each name; two that share none are told apart, and only those.

    Insert and absorb (Piepho, An Algorithm for a Letter-Based Representation of All-Pairwise
    Comparisons, 2004).
    """
    columns = [set(names)]
    for a, b in apart:
        columns = [
            part
            for column in columns
            for part in ([column - {a}, column - {b}] if {a, b} <= column else [column])
        ]
        columns = [
            column
            for place, column in enumerate(columns)
            if not any(
                column < other or (column == other and place > before)
                for before, other in enumerate(columns)
            )
        ]
    order = {name: place for place, name in enumerate(names)}
    columns.sort(key=lambda column: sorted(order[name] for name in column))
    return {name: "".join(_letter(i) for i, c in enumerate(columns) if name in c) for name in names}


def _letter(place: int) -> str:
    times, letter = divmod(place, 26)
    return chr(ord("a") + letter) + "'" * times
