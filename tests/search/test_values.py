"""Values of a query: numbers with units, durations, sizes and times."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voices_peewee.search.values import (
    EXPECTED,
    UNITS,
    BackwardsError,
    Number,
    number,
    plain_number,
    span,
    times,
    truth,
)
from voices_peewee.search.words import Given, Span, Value

NOW = dt.datetime(2026, 11, 22, 14, 30, 15, 250_000, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(Value("2..4"), Span("2", "4"), id="both-ends"),
        pytest.param(Value("2.."), Span("2", None), id="from"),
        pytest.param(Value("..4"), Span(None, "4"), id="up-to"),
        pytest.param(Value(".."), Span(None, None), id="any"),
        pytest.param(Value("4"), "4", id="no-range"),
        pytest.param(Value("2..4", literal=True), "2..4", id="quoted"),
    ],
)
def test_ranges(value: Given, found: Span | str) -> None:
    """Two dots make a range, unless the value was quoted."""
    assert span(value) == found


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("integer", " -3 ", -3),
        ("number", "-1e3", -1000.0),
        ("number", ".5", 0.5),
        ("decibel", "-3 db", -3),
        ("seconds", "1.5", 1.5),
        ("seconds", "1m30s", 90),
        ("seconds", "500ms", 0.5),
        ("seconds", "2D", 172_800),
        ("hertz", "44.1k", 44100),
        ("hertz", "48 kHz", 48000),
        ("bytes", "500k", 500_000),
        ("bytes", "10MB", 10_000_000),
        ("percent", "80%", 80),
        ("megabytes", "2 GB", 2000),
    ],
)
def test_numbers_with_units(kind: str, text: str, value: Number) -> None:
    """Every kind of number is read in the units that people write."""
    assert number(kind, text) == value


@pytest.mark.parametrize("kind", sorted(UNITS))
@pytest.mark.parametrize(
    "text",
    ["", "abc", "1 2", "--1", "nan", "1e999", "9" * 30, "1_0", "٣"],
)
def test_what_is_no_number(kind: str, text: str) -> None:
    """What is no number, or none that a column holds, is refused for every kind."""
    with pytest.raises(ValueError, match=r"^"):
        number(kind, text)


@pytest.mark.parametrize("text", ["1.5", "1e3", "10k"])
def test_what_is_no_integer(text: str) -> None:
    """Whole numbers have neither fractions nor units."""
    with pytest.raises(ValueError, match=r"^"):
        number("integer", text)


@pytest.mark.parametrize("text", ["1:30", "1m x", "m", "-1m", "2GiB"])
def test_what_is_no_duration(text: str) -> None:
    """A duration is a number or parts with units; this is none."""
    with pytest.raises(ValueError, match=r"^"):
        number("seconds", text)


@given(st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_plain_numbers_are_exact(value: Number) -> None:
    """What Python writes of a number is read as the same number."""
    assert plain_number(repr(value)) == value
    assert number("number", repr(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", True), ("TRUE", True), ("1", True), ("no", False), ("false", False), (" 0 ", False)],
)
def test_truth(text: str, value: bool) -> None:
    """Yes and no are read in the usual spellings."""
    assert truth(text) is value


@pytest.mark.parametrize("text", ["", "maybe", "2"])
def test_what_is_neither_true_nor_false(text: str) -> None:
    """Anything else is neither yes nor no."""
    with pytest.raises(ValueError, match=r"^"):
        truth(text)


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        pytest.param("2026", "2026-01-01", "2027-01-01", id="year"),
        pytest.param("2026-11", "2026-11-01", "2026-12-01", id="month"),
        pytest.param("2024-02-29", "2024-02-29", "2024-03-01", id="leap-day"),
        pytest.param("2026-11-22T10", "2026-11-22T10:00", "2026-11-22T11:00", id="hour"),
        pytest.param("2026-11-22 10:30", "2026-11-22T10:30", "2026-11-22T10:31", id="minute"),
        pytest.param(
            "2026-11-22t10:30:15", "2026-11-22T10:30:15", "2026-11-22T10:30:16", id="second"
        ),
        pytest.param(
            "2026-11-22T10:30:15.5", "2026-11-22T10:30:15.5", "2026-11-22T10:30:15.6", id="fraction"
        ),
        pytest.param("2026-11-22T10:30+02:00", "2026-11-22T08:30", "2026-11-22T08:31", id="zone"),
        pytest.param("2026-11-22T10-0530", "2026-11-22T15:30", "2026-11-22T16:30", id="west"),
        pytest.param("today", "2026-11-22", "2026-11-23", id="today"),
        pytest.param("Yesterday", "2026-11-21", "2026-11-22", id="yesterday"),
        pytest.param("-7d", "2026-11-15T14:30:15.25", None, id="since-days-ago"),
        pytest.param("2026-11..", "2026-11-01", None, id="from-a-month"),
        pytest.param("..2026-11", None, "2026-12-01", id="to-the-end-of-a-month"),
        pytest.param("2026-10..2026-11-22", "2026-10-01", "2026-11-23", id="from-to"),
        pytest.param(
            "-2h..-1h",
            "2026-11-22T12:30:15.25",
            "2026-11-22T13:30:15.250001",
            id="between-hours-ago",
        ),
        pytest.param("..", None, None, id="any"),
    ],
)
def test_times(value: str, start: str | None, end: str | None) -> None:
    """A time means all that its digits leave open; without a zone it is UTC."""
    assert times(Value(value), NOW) == (moment(start), moment(end))


@pytest.mark.parametrize("value", ["-1d..-7d", "2026-12..2026-11", "today..yesterday"])
def test_periods_that_end_before_they_begin(value: str) -> None:
    """A period whose ends stand the wrong way round is refused."""
    with pytest.raises(BackwardsError):
        times(Value(value), NOW)


def moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-13", "2026-02-30", "26-11", "0000", "2026-1", "11/22/2026", "tomorrow", "7d", "-7",
        "-999999999w", "0001-01-01T00+02:00", "9999", "2026-11-22T10+99:00", "2026-11Z", "", "x..",
    ],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    """What no calendar has, and what is written otherwise, is no time."""
    with pytest.raises(ValueError, match=r"^"):
        times(Value(text), NOW)


@given(st.text(alphabet="0123456789-:T.Zdhmsw+ ek", max_size=14))
def test_no_text_crashes_a_reader(text: str) -> None:
    """A reader of values returns a value or raises ValueError, whatever the text."""
    for kind in UNITS:
        with suppress(ValueError):
            assert abs(number(kind, text)) < float("inf")
    try:
        start, end = times(Value(text), NOW)
    except ValueError:
        return
    assert start is None or end is None or start < end or ".." in text


def test_every_kind_says_what_it_expects() -> None:
    """Each kind that can refuse a value has words for what it takes."""
    assert set(UNITS) < set(EXPECTED)
