"""Query words: text to tree, values, and every sentence about what is none."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voices_peewee.errors import QueryError
from voices_peewee.search.words import (
    EXPECTED,
    UNITS,
    BackwardsError,
    Match,
    Not,
    Number,
    Span,
    Term,
    Text,
    Value,
    field_path,
    number,
    parse,
    plain_number,
    span,
    text_term,
    times,
    truth,
)


def query(*terms: Term) -> tuple[Term, ...]:
    return terms


def field(name: str, *values: str | Value, keys: tuple[str, ...] = ()) -> Match:
    given = tuple(Value(value) if isinstance(value, str) else value for value in values)
    return Match(name, given, keys)


def quoted(text: str) -> Value:
    return Value(text, literal=True)


TREES = {
    "": query(),
    "noisy": query(Text("noisy")),
    "a b": query(Text("a"), Text("b")),
    "a,b": query(Text("a,b")),
    "^tag:x": query(Not(field("tag", "x"))),
    "^^a": query(Not(Text("^a"))),
    "model:demucs,svoice": query(field("model", "demucs", "svoice")),
    "model:demucs:4.0": query(field("model", "demucs:4.0")),
    "error:": query(field("error", "")),
    "tag:a,": query(field("tag", "a", "")),
    "Si-SNRi:10..": query(field("si_snri", "10..")),
    "/a:b": query(Text("/a:b")),
    '"two words"': query(Text("two words")),
    '"a:b"': query(Text("a:b")),
    '"a ""b"" c"': query(Text('a "b" c')),
    '12" mix': query(Text('12"'), Text("mix")),
    'name:"a, b",c': query(field("name", quoted("a, b"), "c")),
    'name:""': query(field("name", quoted(""))),
    "parameters.a.b-c:1": query(field("parameters", "1", keys=("a", "b-c"))),
    'metadata."room size"."x.y":2': query(field("metadata", "2", keys=("room size", "x.y"))),
    "x:größe": query(field("x", "größe")),
    "\udcff": query(Text("\udcff")),
}
ITEMS = {
    ("", "a", ""): query(Text("a")),
    ("two words",): query(Text("two words")),
    ('"a:b"',): query(Text("a:b")),
}


@pytest.mark.parametrize(("words", "tree"), [*TREES.items(), *ITEMS.items()], ids=ascii)
def test_a_query_is_parsed(words: str | tuple[str, ...], tree: tuple[Term, ...]) -> None:
    """Words of one string end at white space outside quotes; of a sequence each item is one."""
    assert parse(words) == tree


_UNCLOSED = "a quote in {} is not closed, or text follows it"
_IMPOSSIBLE = "holds a character that no text in a database can have"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("^", "'^' needs a word right after it, as in ^tag:noisy"),
        ('"abc', _UNCLOSED.format("'\"abc'")),
        ('tag:"a b', _UNCLOSED.format("'tag:\"a b'")),
        ('tag:"a"b', _UNCLOSED.format("'tag:\"a\"b'")),
        ('"' + "a" * 100, _UNCLOSED.format(f"'\"{'a' * 58}…'")),
        (
            "id:" + ",".join("1" * 1001),
            "a query of 1,001 words and values is too long; the limit is 1,000",
        ),
        ("tag:a\0b", f"'tag:a\\x00b' {_IMPOSSIBLE}"),
        ("\ud800", f"'\\ud800' {_IMPOSSIBLE}"),
    ],
)
def test_what_is_no_query_gets_one_sentence(words: str, sentence: str) -> None:
    """A query that breaks the grammar is refused with what is wrong."""
    with pytest.raises(QueryError) as caught:
        parse(words)
    assert str(caught.value) == sentence


def test_a_search_text_is_taken_as_it_is() -> None:
    """Quotes, colons and carets of a searched text mean nothing."""
    assert text_term('^"a:b') == Text('^"a:b')


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("id", ("id", ())),
        ("parameters.a-b", ("parameters", ("a-b",))),
        ('metadata."a b"', ("metadata", ("a b",))),
        ("a b", None),
        ("a..b", None),
        ("", None),
    ],
)
def test_field_paths(text: str, path: tuple[str, tuple[str, ...]] | None) -> None:
    """A column may be followed by keys that lead into its JSON."""
    assert field_path(text) == path


@given(st.text() | st.text(alphabet='ab:,^". \udc80'))
@example('"a""b" c:"d",e , ^f')
def test_any_text_is_a_query_or_gets_a_sentence(text: str) -> None:
    """No text whatever crashes the parser, and sentences are single lines."""
    try:
        said = repr(parse(text))
    except QueryError as error:
        said = str(error)
    assert said.isprintable()


_TEXTS = st.text(alphabet='aZ é:,^"._-\t', min_size=1, max_size=6)
_NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
_VALUES = st.builds(Value, _TEXTS, literal=st.just(True))
_MATCHES = st.builds(
    Match,
    _NAMES,
    st.lists(_VALUES, min_size=1, max_size=3).map(tuple),
    st.lists(_TEXTS, max_size=2).map(tuple),
)
_PLAIN = st.builds(Text, _TEXTS) | _MATCHES
_QUERIES = st.lists(_PLAIN | st.builds(Not, _PLAIN), max_size=4)


def written(term: Term) -> str:
    """Write a term so that nothing in it can be taken for anything else."""
    if isinstance(term, Not):
        return "^" + written(term.term)
    if isinstance(term, Text):
        return in_quotes(term.text)
    keys = "".join("." + in_quotes(key) for key in term.keys)
    return f"{term.field}{keys}:" + ",".join(in_quotes(value.text) for value in term.values)


def in_quotes(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@given(_QUERIES)
def test_every_query_can_be_written(terms: list[Term]) -> None:
    """Quoting says any text, value and key; the string and the sequence say the same."""
    words = [written(term) for term in terms]
    assert parse(" ".join(words)) == parse(words) == tuple(terms)


NOW = dt.datetime(2026, 11, 22, 14, 30, 15, 250_000, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (Value("2..4"), Span("2", "4")),
        (Value("2.."), Span("2", None)),
        (Value("..4"), Span(None, "4")),
        (Value(".."), Span(None, None)),
        (Value("4"), "4"),
        (quoted("2..4"), "2..4"),
    ],
)
def test_ranges(value: Value, found: Span | str) -> None:
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
        ("seconds", "9ms", 0.009),
        ("seconds", "1m 0.1s 13ms", 60.113),
        ("hertz", "44.1k", 44100),
        ("hertz", "48 kHz", 48000),
        ("bytes", "500k", 500_000),
        ("bytes", "1.001 kB", 1001),
        ("bytes", "10MB", 10_000_000),
        ("percent", "80%", 80),
        ("megabytes", "2 GB", 2000),
    ],
)
def test_numbers_with_units(kind: str, text: str, value: Number) -> None:
    """Every kind of number is read in the units that people write."""
    assert number(kind, text) == value


NO_NUMBERS = [
    *(
        (kind, text)
        for kind in UNITS
        for text in ("", "abc", "1 2", "--1", "nan", "1e999", "9" * 310)
    ),
    *((kind, text) for kind in UNITS for text in ("1_0", "٣")),
    *(("integer", text) for text in ("1.5", "1e3", "10k", "9" * 30)),
    *(("seconds", text) for text in ("1:30", "1m x", "m", "-1m", "2GiB")),
]


@pytest.mark.parametrize(("kind", "text"), NO_NUMBERS)
def test_what_is_no_number(kind: str, text: str) -> None:
    """What is no number of a kind, or none that a column holds, is refused."""
    with pytest.raises(ValueError, match=r"^"):
        number(kind, text)


@given(st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_plain_numbers_are_exact(value: Number) -> None:
    """What Python writes of a number is read as the same number."""
    assert plain_number(repr(value)) == value
    assert number("number", repr(value)) == value


def test_truth() -> None:
    """Yes and no are read in the usual spellings; anything else is neither."""
    assert [truth(text) for text in ("yes", "TRUE", "1")] == [True] * 3
    assert [truth(text) for text in ("no", "false", " 0 ")] == [False] * 3
    for text in ("", "maybe", "2"):
        with pytest.raises(ValueError, match=r"^"):
            truth(text)


PERIODS: dict[str, tuple[str | None, str | None]] = {
    "2026": ("2026-01-01", "2027-01-01"),
    "2026-11": ("2026-11-01", "2026-12-01"),
    "2024-02-29": ("2024-02-29", "2024-03-01"),
    "2026-11-22T10": ("2026-11-22T10:00", "2026-11-22T11:00"),
    "2026-11-22 10:30": ("2026-11-22T10:30", "2026-11-22T10:31"),
    "2026-11-22t10:30:15": ("2026-11-22T10:30:15", "2026-11-22T10:30:16"),
    "2026-11-22T10:30:15.5": ("2026-11-22T10:30:15.5", "2026-11-22T10:30:15.6"),
    "2026-11-22T10:30+02:00": ("2026-11-22T08:30", "2026-11-22T08:31"),
    "2026-11-22T10-0530": ("2026-11-22T15:30", "2026-11-22T16:30"),
    "today": ("2026-11-22", "2026-11-23"),
    "Yesterday": ("2026-11-21", "2026-11-22"),
    "-7d": ("2026-11-15T14:30:15.25", None),
    "2026-11..": ("2026-11-01", None),
    "..2026-11": (None, "2026-12-01"),
    "2026-10..2026-11-22": ("2026-10-01", "2026-11-23"),
    "-2h..-1h": ("2026-11-22T12:30:15.25", "2026-11-22T13:30:15.250001"),
    "9999-12-31": ("9999-12-31", None),
    "9999-12": ("9999-12-01", None),
    "9999": ("9999-01-01", None),
    "9999-12-31T23:59:59": ("9999-12-31T23:59:59", None),
    "..9999-12-31": (None, None),
    "..": (None, None),
}


@pytest.mark.parametrize(("value", "period"), PERIODS.items(), ids=PERIODS)
def test_times(value: str, period: tuple[str | None, str | None]) -> None:
    """A time means all that its digits leave open; without a zone it is UTC."""
    assert times(Value(value), NOW) == tuple(map(moment, period))


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
        "-999999999w", "0001-01-01T00+02:00", "9999-12-31T23-01:00",
        "2026-11-22T10+99:00", "2026-11Z", "", "x..",
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
