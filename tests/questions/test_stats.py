"""Statistics of plain numbers, against SciPy."""

from __future__ import annotations

import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from voices_peewee.questions.stats import (
    Estimate,
    clustered_estimate,
    estimate,
    holm,
    letters,
    t_p,
    t_quantile,
)

FREEDOM = [1, 2, 3, 7, 30, 99, 100, 200, 201, 1_000, 250_000]


@pytest.mark.parametrize("freedom", FREEDOM)
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.9995])
def test_quantiles_of_students_t(freedom: int, probability: float) -> None:
    """A quantile is SciPy's to 1e-9; older versions of SciPy know no more digits."""
    theirs = scipy.stats.t.ppf(probability, freedom)
    assert t_quantile(probability, freedom) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("freedom", FREEDOM)
@pytest.mark.parametrize("t", [0.0, 1e-6, 0.1, 1.0, 2.5, 8.0, 40.0])
def test_p_values_of_students_t(freedom: int, t: float) -> None:
    """A p-value is SciPy's to 1e-10 of it, however small."""
    theirs = 2 * scipy.stats.t.sf(t, freedom)
    assert t_p(t, freedom) == pytest.approx(theirs, rel=1e-10)
    assert t_p(-t, freedom) == t_p(t, freedom)


def test_an_infinite_t_has_no_chance() -> None:
    """Infinitely many errors from zero is impossible by chance."""
    assert t_p(math.inf, 3) == 0.0


def test_what_few_values_do_not_allow_is_none() -> None:
    """No mean of nothing, no interval of one, no width of identical ones."""
    assert estimate([]) == Estimate(0)
    assert estimate([2.0]) == Estimate(1, 2.0)
    assert estimate([2.0, 2.0]) == Estimate(2, 2.0, 2.0, 2.0, None, True, 0.0)
    assert estimate([0.0, 0.0]) == Estimate(2, 0.0, 0.0, 0.0, None, True, 0.0)


def test_speakers_who_share_no_recording_are_independent() -> None:
    """Then a speaker's mean is a unit."""
    found = clustered_estimate([1.0, 3.0, 4.0, 0.5], "aabc", [1, 2, 3, 4])
    assert found == estimate([2.0, 4.0, 0.5])


def test_one_speaker_has_no_interval() -> None:
    """Nor have speakers who share one recording."""
    assert clustered_estimate([1.0, 3.0], "aa", [1, 2]) == Estimate(1, 2.0)
    assert clustered_estimate([1.0, 3.0], "ab", [1, 1]) == Estimate(2, 2.0)


def test_holms_adjustment() -> None:
    """The smallest counts as often as there are, and none is below a smaller one's."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda pair: pair[0] < pair[1]))
)
def test_letters_say_exactly_who_is_told_apart(apart: set[tuple[int, int]]) -> None:
    """Two share a letter if and only if they are not told apart."""
    found = letters(range(6), sorted(apart))
    for a in range(6):
        for b in range(a + 1, 6):
            assert bool(set(found[a]) & set(found[b])) is ((a, b) not in apart)
