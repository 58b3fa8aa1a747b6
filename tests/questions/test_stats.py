"""The statistics of plain numbers, against SciPy and NumPy."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from voices_peewee.questions.stats import (
    Summary,
    bootstrap_interval,
    cluster_bootstrap_interval,
    signed_rank_p,
    summarize,
    t_quantile,
)

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


def gaussian(n: int, seed: int = 1) -> list[float]:
    generator = random.Random(seed)
    return [generator.gauss(0.4, 2.0) for _ in range(n)]


def interval(values: list[float], **settings: float) -> tuple[float, float] | None:
    chosen = {"confidence": 0.95, "resamples": 2000, "seed": 0, **settings}
    return bootstrap_interval(values, **chosen)


@pytest.mark.parametrize("probability", [0.9, 0.95, 0.975, 0.995])
def test_quantiles_of_students_t(probability: float) -> None:
    """Quantiles agree with SciPy's, whichever formula gives them."""
    freedom = [*range(1, 260), 1_000, 30_000, 1_000_000]
    ours = [t_quantile(probability, one) for one in freedom]
    assert ours == pytest.approx(scipy.stats.t.ppf(probability, freedom), rel=1e-10)


@given(st.lists(numbers, min_size=2, max_size=60))
def test_a_summary_is_what_scipy_says(values: list[float]) -> None:
    """Mean, median, deviation and interval agree with NumPy and SciPy."""
    found = summarize(sorted(values))
    spread, scale = float(np.std(values, ddof=1)), max(map(abs, values))
    margin = scipy.stats.t.ppf(0.975, len(values) - 1) * spread / math.sqrt(len(values))
    exact = math.fsum(values) / len(values)
    expected = (exact, float(np.median(values)), spread, exact - margin, exact + margin)
    assert found.n == len(values)
    assert (found.mean, found.median, found.stdev, found.low, found.high) == pytest.approx(
        expected, rel=1e-9, abs=1e-9 * scale + 1e-300
    )


def test_what_few_values_do_not_allow_is_none() -> None:
    """Nothing has no mean, and one value no spread; equal values have none either."""
    assert summarize([]) == Summary(0)
    assert summarize([3.5]) == Summary(1, 3.5, 3.5)
    assert summarize([2.1, 2.1]) == Summary(2, 2.1, 2.1, 0.0, 2.1, 2.1)


@pytest.mark.parametrize("n", [2, 12, 300])
def test_the_bootstrap_is_scipys(n: int) -> None:
    """The interval agrees with scipy.stats.bootstrap, percentile method."""
    values = gaussian(n)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=9_999, random_state=3
    ).confidence_interval
    ours = interval(values, resamples=9_999)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.04 * (theirs.high - theirs.low))


@pytest.mark.parametrize(
    "draw",
    [lambda one: one.gauss(0.4, 2), lambda one: one.expovariate(1), lambda one: one.choice([0, 1])],
    ids=["normal", "exponential", "coin"],
)
def test_many_values_take_the_limit(draw: Callable[[random.Random], float]) -> None:
    """Where resampling would take seconds, its limit is within the noise of resampling."""
    generator = random.Random(5)
    values = [float(draw(generator)) for _ in range(4_000)]
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5_000, random_state=3, batch=100
    ).confidence_interval
    ours = interval(values)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.04 * (theirs.high - theirs.low))
    assert ours == interval(values, seed=7)


def test_the_limit_is_not_taken_for_what_is_far_from_normal() -> None:
    """One huge value among thousands is drawn a whole number of times, as in any resample."""
    values = [0.0] * 3_199 + [3_200.0]
    assert interval(values, resamples=1_900) == (0.0, 3.0)


def test_many_equal_values_have_no_spread() -> None:
    """The limit of no spread is the value."""
    assert interval([0.5] * 4_000) == (0.5, 0.5)


@given(st.lists(numbers, min_size=2, max_size=30), st.integers(0, 9), st.sampled_from([0.5, 0.95]))
def test_the_opposite_values_have_the_opposite_interval(
    values: list[float], seed: int, confidence: float
) -> None:
    """Changing the sign of all values mirrors the interval, to the last bit."""
    low, high = interval(values, seed=seed, confidence=confidence, resamples=50)
    mirrored = interval([-one for one in values], seed=seed, confidence=confidence, resamples=50)
    assert mirrored == (-high, -low)


def test_the_limit_follows_the_skewness() -> None:
    """Skewness moves an interval of one standard error either way by nothing, a wider one."""
    values = [math.exp(value / 4) for value in gaussian(4_000)]
    mean = math.fsum(values) / len(values)
    one_sigma = math.erf(math.sqrt(0.5))
    assert sum(interval(values, confidence=one_sigma)) / 2 == pytest.approx(mean, rel=1e-12)
    low, high = interval(values, confidence=0.95)
    skewness = scipy.stats.skew(values) / math.sqrt(len(values))
    shift = (1.959963984540054**2 - 1) * skewness / 6
    error = float(np.std(values)) / math.sqrt(len(values))
    assert (low + high) / 2 - mean == pytest.approx(shift * error, rel=1e-6)


def test_the_limit_is_mirrored_too() -> None:
    """Changing the sign of many values mirrors the interval, to the last bit."""
    values = [math.exp(value / 4) for value in gaussian(4_000)]
    low, high = interval(values)
    assert interval([-value for value in values]) == (-high, -low)


def test_clusters_are_drawn_whole() -> None:
    """Repeating each value within its cluster adds nothing that would narrow the interval."""
    values = gaussian(20)
    repeated = cluster_bootstrap_interval(
        [[value] * 5 for value in values], confidence=0.95, resamples=500, seed=2
    )
    assert repeated == pytest.approx(interval(values, resamples=500, seed=2), rel=1e-12)


def test_clusters_of_different_sizes_weigh_by_their_values() -> None:
    """The mean is that of all values drawn, not of the clusters' means."""
    clusters = [[0.0], [3.0, 3.0, 3.0]]
    low_high = cluster_bootstrap_interval(clusters, confidence=0.999, resamples=500, seed=0)
    assert low_high == (0.0, 3.0)
    middle = cluster_bootstrap_interval(clusters, confidence=0.001, resamples=500, seed=0)
    assert middle == (2.25, 2.25)


@pytest.mark.parametrize("clusters", [[], [[1.0]], [[1.0, 2.0]]], ids=["none", "one", "one of two"])
def test_one_cluster_has_no_interval(clusters: list[list[float]]) -> None:
    """What was drawn only once says nothing about how it varies."""
    assert cluster_bootstrap_interval(clusters, confidence=0.95, resamples=100, seed=0) is None


@pytest.mark.parametrize("n", [1, 2, 9, 40, 200])
def test_the_signed_rank_test_is_scipys(n: int) -> None:
    """The p-value is SciPy's for the differences that are not zero."""
    values = gaussian(n)
    assert signed_rank_p([0.0, *values]) == scipy.stats.wilcoxon(values).pvalue


def test_no_differences_have_no_p_value() -> None:
    """Where all differences are zero there is nothing to rank."""
    assert signed_rank_p([0.0, 0.0]) is None
