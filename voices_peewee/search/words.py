"""Query words and their values: one small grammar for every list, in the shell and in Python.

    query  = { ["^"] word }                 all of them; "^" turns one into its opposite
    word   = field ":" value { "," value }  any of the values
           | text                           looked for in names and paths
    field  = name { "." key }               keys lead into JSON: parameters.shifts

A value or text in double quotes is taken literally: it may hold commas and two dots, and
``""`` inside it is one quote. In a single string, words end at white space that is not in
quotes; in a sequence, each item is one word. What a field means is not known here; what its
values say is read below: numbers with units, durations, sizes and times. A reader raises
``ValueError`` where a text is none of its kind, or no column can hold it.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final, NamedTuple

from voices_peewee.errors import QueryError
from voices_peewee.schema.exact import short

_MAX_VALUES: Final = 1000  # texts and values of one query: Peewee takes minutes over 20,000


class Value(NamedTuple):
    """One value of a field; a ``literal`` one was quoted and is no range, id or word."""

    text: str
    literal: bool = False


class Span(NamedTuple):
    """A range, both ends included; None leaves an end open."""

    low: str | None
    high: str | None


class Text(NamedTuple):
    """A text that is looked for in names and paths."""

    text: str


class Match(NamedTuple):
    """A field that has any of the values; ``keys`` lead into a JSON field."""

    field: str
    values: tuple[Value, ...]
    keys: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The field with its keys."""
        return ".".join((self.field, *self.keys))


class Not(NamedTuple):
    """The opposite of a term."""

    term: Text | Match


Term = Text | Match | Not
Words = str | Sequence[str]

_QUOTED: Final = r'"(?:[^"]|"")*"'
_PATH: Final = rf"([A-Za-z_][\w-]*)((?:\.(?:[\w-]+|{_QUOTED}))*)"
_KEY: Final = rf"\.([\w-]+|{_QUOTED})"
_VALUE: Final = rf"(?:^|,)({_QUOTED}[^,]*|[^,]*)"
# U+DC80…U+DCFF stay: they stand for the bytes of a name that is not UTF-8 (PEP 383).
_IMPOSSIBLE: Final = "[\0\ud800-\udc7f\udd00-\udfff]"
# White space inside quotes ends no word; a quote inside a word (12" mix) opens none.
_WORD: Final = r'(?:(?:(?<=[\^:,."])|(?<!\S))"(?:[^"]|"")*(?:"|\Z)|\S)+'


def parse(words: Words) -> tuple[Term, ...]:
    """Return the terms of a query, one string or an item a word; all of them must be true."""
    items = re.findall(_WORD, words) if isinstance(words, str) else texts(words)
    terms = tuple(map(_term, filter(None, items)))
    inner = [term.term if isinstance(term, Not) else term for term in terms]
    size = sum(len(term.values) if isinstance(term, Match) else 1 for term in inner)
    if size > _MAX_VALUES:
        raise QueryError(
            f"a query of {size:,} words and values is too long; the limit is {_MAX_VALUES:,}"
        )
    return terms


def texts(words: object) -> list[str]:
    """Return the texts that a query is asked with; refuses what is none."""
    items: list[Any] = list(words) if isinstance(words, Iterable) else [words]
    for item in items:
        if not isinstance(item, str):
            raise QueryError(f"a query is of words, not of {short(item)}")
    return items


def text_term(text: str) -> Text:
    """Return the term that looks for a text as it is."""
    return Text(_checked(text, text))


def field_path(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the name and the keys of ``name.key.key``, or None where it is none."""
    found = re.fullmatch(_PATH, text)
    return (found[1], _keys(found[2])) if found else None


def _term(word: str) -> Term:
    body = word.removeprefix("^")
    if not body:
        raise QueryError("'^' needs a word right after it, as in ^tag:noisy")
    found = re.match(f"{_PATH}:", body)
    term: Text | Match
    if found:
        values = tuple(_value(one, word) for one in re.findall(_VALUE, body[found.end() :]))
        term = Match(found[1].lower().replace("-", "_"), values, _keys(found[2]))
    else:
        term = Text(_value(body, word).text)
    return Not(term) if body != word else term


def _keys(path: str) -> tuple[str, ...]:
    return tuple(_inner(key) if key[0] == '"' else key for key in re.findall(_KEY, path))


def _value(text: str, word: str) -> Value:
    if not text.startswith('"'):
        return Value(_checked(text, word))
    if not re.fullmatch(_QUOTED, text):
        raise QueryError(f"a quote in {_shown(word)} is not closed, or text follows it")
    return Value(_checked(_inner(text), word), literal=True)


def _inner(quoted: str) -> str:
    return quoted[1:-1].replace('""', '"')


def _checked(text: str, word: str) -> str:
    """Refuse what no database can hold."""
    if re.search(_IMPOSSIBLE, text):
        raise QueryError(f"{_shown(word)} holds a character that no text in a database can have")
    return text


def _shown(word: str) -> str:
    return repr(word if len(word) <= 60 else word[:59] + "…")


Number = int | float

# What is expected, for the message about a value that cannot be read.
EXPECTED: Final = {
    "integer": "a whole number, as 3 or 2..8",
    "number": "a number, as 0.5 or 1..2.5",
    "decibel": "a number of dB, as 12.5 or 10..",
    "seconds": "a duration, as 90, 1m30s or 2..4",
    "hertz": "a rate in Hz, as 16000, 44.1k or 8k..",
    "bytes": "a size, as 500k, 10M or 1G..",
    "percent": "a percentage, as 80 or 100..",
    "megabytes": "a size in MB, as 512, 2G or 100..",
    "time": "a time, as 2026-11, 2026-11-22T10:30, today or -7d..",
    "boolean": "yes or no",
    "status": "success, failed or unfinished",
    "row_kind": "recording, stem or voice",
    "speaker": "a part of a name, or id:3",
    "json": "numbers as the ends of a range",
}

_DECIMAL: Final = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_INTEGER: Final = r"[+-]?[0-9]{1,30}"
_UNIT: Final = rf"({_DECIMAL})\s*([a-zA-Zµ%]*)"
_PARTS: Final = r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)\s*"
_RELATIVE: Final = r"-((?:[0-9]{1,9}\s*[smhdw]\s*)+)"
_TIME: Final = (
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[T ]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})"
    r"(?:\.([0-9]{1,6}))?)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?)?)?"
)

Period = tuple[dt.datetime, dt.datetime | None]
When = str | dt.datetime | dt.date

_LAST: Final = dt.datetime.max.replace(tzinfo=dt.UTC)
_TICK: Final = dt.timedelta(microseconds=1)
_DAY: Final = dt.timedelta(days=1)
Factors = Mapping[str, int | Decimal]
# Exact: 1.001 k is 1001, and 9 ms are 0.009 s, not a float beside it.
_MILLI: Final = Decimal("0.001")
_SECONDS: Final[Factors] = {"ms": _MILLI, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_THOUSANDS: Final[Factors] = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
# For each kind its unit, which may be left out, and what stands before that.
UNITS: Final[dict[str, tuple[str, Factors]]] = {
    "integer": ("", {"": 1}),
    "seconds": ("", {}),
    "number": ("", {"": 1}),
    "decibel": ("db", {"": 1}),
    "percent": ("%", {"": 1}),
    "hertz": ("hz", _THOUSANDS),
    "bytes": ("b", _THOUSANDS),
    "megabytes": ("b", {"": 1, "k": _MILLI, "m": 1, "g": 1000}),
}
_TRUTH: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class BackwardsError(ValueError):
    """A range whose end lies before its beginning."""


@contextmanager
def readable(field: str, value: Value, kind: str) -> Iterator[None]:
    """Name the field whose value cannot be read."""
    try:
        yield
    except BackwardsError as error:
        raise QueryError(f"{field} {value.text!r} ends before it begins") from error
    except ValueError as error:
        sentence = f"{field} {value.text!r} cannot be read; it takes {EXPECTED[kind]}"
        raise QueryError(sentence) from error


def fits(kind: str, known: Any, value: Value, now: dt.datetime) -> bool:
    """Whether what a list that is no table knows is what a value asks for."""
    if not value.text and not value.literal:
        return known in (None, "", [])
    if kind == "time":
        start, end = times(value, now)
        return _is_between(known, start, end) and known != end
    if kind in UNITS:
        ends = span(value)
        if isinstance(ends, str):
            return bool(known == number(kind, ends))
        return _is_between(known, *numbers(kind, ends))
    if kind in ("key", "tags"):
        return value.text == known if kind == "key" else value.text in known
    return value.text.lower() in str(known or "").lower()


def _is_between(known: Any, low: Any, high: Any) -> bool:
    """Whether a value lies in a range, both ends included; None leaves an end open."""
    return known is not None and (low is None or low <= known) and (high is None or known <= high)


def span(value: Value) -> Span | str:
    """Return the range that a value is (``2..4``, ``2..``, ``..4``, ``..``), or its text."""
    low, dots, high = value.text.partition("..")
    if not dots or value.literal:
        return value.text
    return Span(low.strip() or None, high.strip() or None)


def number(kind: str, text: str) -> Number:
    """Return the number that a text of a kind says: in seconds, Hz, bytes, MB for memory."""
    text = text.strip()
    if kind == "integer":
        return _bounded(int(_matched(_INTEGER, text)[0]))
    if kind == "plain":
        return plain_number(text)
    if kind == "seconds":
        return _bounded(_duration(text))
    found = _matched(_UNIT, text)
    unit, factors = UNITS[kind]
    factor = factors.get(found[2].lower().removesuffix(unit))
    if factor is None:
        raise ValueError(text)
    plain = plain_number(found[1])
    return plain if factor == 1 else _bounded(float(Decimal(found[1]) * factor))


def numbers(kind: str, ends: Span) -> tuple[Number | None, Number | None]:
    """Return the ends of a range; None leaves one open. The kind ``plain`` has no units."""
    low, high = (None if end is None else number(kind, end) for end in ends)
    if low is not None and high is not None and low > high:
        raise BackwardsError
    return low, high


def plain_number(text: str) -> Number:
    """Return the number that a text writes without a unit; one of more than 63 bits as a float."""
    if re.fullmatch(_INTEGER, text) and -(1 << 63) <= int(text) < 1 << 63:
        return int(text)
    return _bounded(float(_matched(_DECIMAL, text)[0]))


def truth(text: str) -> bool:
    """Return what yes, no, true, false, 1 and 0 say."""
    if (word := text.strip().lower()) not in _TRUTH:
        raise ValueError(text)
    return _TRUTH[word]


def times(value: Value, now: dt.datetime) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Return the first instant that a value means and the first after it; None is no bound.

    ``2026-11`` is a month, ``2026-11-22T10`` an hour, ``today`` a day; ``-7d`` alone is the
    time since seven days before ``now``. A time without a zone is UTC.
    """
    ends = span(value)
    try:
        if isinstance(ends, str):
            start, end = _period(ends, now)
            return start, None if ends.strip().startswith("-") else end
        low = None if ends.low is None else _period(ends.low, now)[0]
        high = None if ends.high is None else _period(ends.high, now)[1]
    except OverflowError as error:
        raise ValueError(value) from error
    if low is not None and high is not None and low >= high:
        raise BackwardsError
    return low, high


def instant(name: str, time: When | None) -> dt.datetime | None:
    """Return the bound that ``since`` or ``until`` sets; a text or a day includes what it names."""
    if time is None or isinstance(time, dt.datetime):
        return time
    text, is_end = str(time), name == "until"
    try:
        period = Value(f"..{text}" if is_end else f"{text}..")
        return times(period, dt.datetime.now(dt.UTC))[is_end]
    except ValueError as error:
        sentence = f"{name} {short(time)} cannot be read; it takes {EXPECTED['time']}"
        raise QueryError(sentence) from error


def _period(text: str, now: dt.datetime) -> Period:
    word = text.strip().lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    named = {"now": (now, _TICK), "today": (midnight, _DAY), "yesterday": (midnight - _DAY, _DAY)}
    if word in named:
        start, length = named[word]
        return start, start + length
    if found := re.fullmatch(_RELATIVE, word):
        start = now - dt.timedelta(seconds=_duration(found[1].strip()))
        return start, start + _TICK
    return _calendar(_matched(_TIME, word.upper()))


def _calendar(found: re.Match[str]) -> Period:
    """Return the beginning and the end of what the digits leave open; nothing ends it at last."""
    *digits, fraction, zone = found.groups()
    given = [int(part) for part in digits if part is not None]
    year, month, day, hour, minute, second = given + [1, 1, 1, 0, 0, 0][len(given) :]
    microsecond = int((fraction or "").ljust(6, "0"))
    offset = dt.datetime.strptime(zone or "Z", "%z").tzinfo
    start = dt.datetime(year, month, day, hour, minute, second, microsecond, offset)
    start = start.astimezone(dt.UTC)
    if len(given) < 3:
        year, month = divmod(start.year * 12 + start.month - 1 + (12, 1)[len(given) - 1], 12)
        return start, None if year > dt.MAXYEAR else start.replace(year=year, month=month + 1)
    length = dt.timedelta(seconds=(86400, 3600, 60, 1)[len(given) - 3])
    if fraction is not None:
        length = dt.timedelta(microseconds=10 ** (6 - len(fraction)))
    return start, None if start > _LAST - length else start + length


def _duration(text: str) -> Number:
    if re.fullmatch(_DECIMAL, text):
        return plain_number(text)
    parts = re.findall(_PARTS, text.lower())
    if not parts or re.sub(_PARTS, "", text.lower()):
        raise ValueError(text)
    return float(sum(Decimal(count) * _SECONDS[unit] for count, unit in parts))


def _matched(pattern: str, text: str) -> re.Match[str]:
    found = re.fullmatch(pattern, text)
    if found is None:
        raise ValueError(text)
    return found


def _bounded(value: Number) -> Number:
    """Refuse what SQL cannot bind; keep a whole float as the integer it is."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(value)
    return value
