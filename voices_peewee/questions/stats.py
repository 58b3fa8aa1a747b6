"""Statistics of plain numbers: spread, intervals, and what a paired difference is worth.

No NumPy and no SciPy are needed here, except for the signed-rank test.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Final

# Draws of one bootstrap (half a second); where it would take more, its limit is computed.
MAX_DRAWS: Final = 6_000_000
_NEARLY_NORMAL: Final = 0.05  # skewness of a mean whose quantiles two terms give
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
    if len(values) == 1:
        return values[0]
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
    if freedom > _SERIES_UP_TO:
        return _t_expansion(_z(probability), freedom)
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


def bootstrap_interval(
    values: Sequence[float], *, confidence: float, resamples: int, seed: int
) -> tuple[float, float] | None:
    """Return the percentile-bootstrap interval of the mean of independent values.

    Values of the opposite sign give the interval of the opposite sign exactly. Thousands of
    values would take seconds: then the quantiles come from the first terms of the
    Cornish-Fisher expansion (Hall, The Bootstrap and Edgeworth Expansion, 1992, section 2.5),
    to which the bootstrap's own tend as resamples grow.

    Returns:
        The lower and the upper bound; None of fewer than two values.
    """
    if len(values) < 2:
        return None
    tail = (1 - confidence) / 2
    if len(values) * resamples > MAX_DRAWS and (limits := _bootstrap_limits(values, tail)):
        return limits
    return _percentiles(_resampled_means(values, resamples, seed), tail)


def cluster_bootstrap_interval(
    clusters: Sequence[Sequence[float]], *, confidence: float, resamples: int, seed: int
) -> tuple[float, float] | None:
    """Return the interval of the mean of all values where whole clusters are drawn.

    Values of the opposite sign give the interval of the opposite sign exactly.

    Returns:
        The lower and the upper bound; None of fewer than two clusters.
    """
    if len(clusters) < 2:
        return None
    means = _resampled_cluster_means(clusters, resamples, seed)
    return _percentiles(means, (1 - confidence) / 2)


def _percentiles(means: Sequence[float], tail: float) -> tuple[float, float]:
    high = 0.0 - quantile(sorted(-mean for mean in means), tail)  # never -0.0
    return quantile(sorted(means), tail), high


def _resampled_means(values: Sequence[float], resamples: int, seed: int) -> list[float]:
    n, choices = len(values), random.Random(seed).choices  # noqa: S311 - no secret
    return [sum(choices(values, k=n)) / n for _ in repeat(None, resamples)]


def _resampled_cluster_means(
    clusters: Sequence[Sequence[float]], resamples: int, seed: int
) -> list[float]:
    n, choices = len(clusters), random.Random(seed).choices  # noqa: S311 - no secret
    sums = [(math.fsum(cluster), len(cluster)) for cluster in clusters]
    means = []
    for _ in repeat(None, resamples):
        totals, counts = zip(*choices(sums, k=n), strict=True)
        means.append(sum(totals) / sum(counts))
    return means


def _bootstrap_limits(values: Sequence[float], tail: float) -> tuple[float, float] | None:
    """Return the interval for endless resamples, or None where the mean is too skewed for it."""
    n, center = len(values), math.fsum(values) / len(values)
    second = math.fsum((value - center) ** 2 for value in values) / n
    if second == 0:
        return center, center
    third = math.fsum((value - center) ** 3 for value in values) / n
    skewness = third / second**1.5 / math.sqrt(n)
    if abs(skewness) > _NEARLY_NORMAL:
        return None
    z, scale = _z(1 - tail), math.sqrt(second / n)
    shift = skewness * (z * z - 1) / 6
    return center + scale * (shift - z), center + scale * (shift + z)


def quantile(ordered: Sequence[float], probability: float) -> float:
    """Return a quantile of sorted values (Hyndman and Fan, 1996, type 7)."""
    place = (len(ordered) - 1) * probability
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def signed_rank_p(differences: Sequence[float]) -> float | None:
    """Return the two-sided p-value of Wilcoxon's signed-rank test; None where all are zero.

    Raises:
        ImportError: SciPy is not installed.
    """
    from scipy.stats import wilcoxon

    nonzero = [value for value in differences if value]
    if not nonzero:
        return None
    with warnings.catch_warnings():  # of few values, which the result says by itself
        warnings.simplefilter("ignore")
        return float(wilcoxon(nonzero).pvalue)
