"""What the values of a query say: numbers with units, durations, sizes and times.

A reader raises ``ValueError`` where a text is none of its kind, or no column can hold it.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Final

from voices_peewee.search.words import Given, Span

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

_TICK: Final = dt.timedelta(microseconds=1)
_DAY: Final = dt.timedelta(days=1)
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
UNITS: Final[dict[str, dict[str, Number]]] = {
    "integer": {"": 1},
    "seconds": {},
    "number": {"": 1},
    "decibel": {"": 1, "db": 1},
    "percent": {"": 1, "%": 1},
    "hertz": {"": 1, "hz": 1, "k": 1000, "khz": 1000, "mhz": 10**6},
    "bytes": {
        unit + suffix: size
        for unit, size in {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}.items()
        for suffix in ("", "b")
    },
    "megabytes": {"": 1, "m": 1, "mb": 1, "g": 1000, "gb": 1000, "k": 0.001, "kb": 0.001},
}
_TRUTH: Final = {
    **dict.fromkeys(("yes", "true", "y", "1"), True),
    **dict.fromkeys(("no", "false", "n", "0"), False),
}


class BackwardsError(ValueError):
    """A range whose end lies before its beginning."""


def span(value: Given) -> Span | str:
    """Return the range that a value is (``2..4``, ``2..``, ``..4``, ``..``), or its text."""
    if isinstance(value, Span):
        return value
    low, dots, high = value.text.partition("..")
    if not dots or value.literal:
        return value.text
    return Span(low.strip() or None, high.strip() or None)


def number(kind: str, text: str) -> Number:
    """Return the number that a text of a kind says: in seconds, Hz, bytes, MB for memory."""
    text = text.strip()
    if kind == "integer":
        return _bounded(int(_matched(_INTEGER, text)[0]))
    if kind == "seconds":
        return _bounded(_duration(text))
    found = _matched(_UNIT, text)
    factor = UNITS[kind].get(found[2].lower())
    if factor is None:
        raise ValueError(text)
    return _bounded(plain_number(found[1]) * factor)


def numbers(kind: str, ends: Span) -> tuple[Number | None, Number | None]:
    """Return the ends of a range; None leaves one open. The kind ``plain`` has no units."""
    low, high = (
        None if end is None else plain_number(end) if kind == "plain" else number(kind, end)
        for end in ends
    )
    if low is not None and high is not None and low > high:
        raise BackwardsError
    return low, high


def plain_number(text: str) -> Number:
    """Return the number that a text writes without a unit."""
    if re.fullmatch(_INTEGER, text):
        return _bounded(int(text))
    return _bounded(float(_matched(_DECIMAL, text)[0]))


def truth(text: str) -> bool:
    """Return what yes, no, true, false, 1 and 0 say."""
    word = text.strip().lower()
    if word not in _TRUTH:
        raise ValueError(text)
    return _TRUTH[word]


def times(value: Given, now: dt.datetime) -> tuple[dt.datetime | None, dt.datetime | None]:
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


def _period(text: str, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
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


def _calendar(found: re.Match[str]) -> tuple[dt.datetime, dt.datetime]:
    """Return the beginning and the end of what the digits leave open."""
    *digits, fraction, zone = found.groups()
    given = [int(part) for part in digits if part is not None]
    year, month, day, hour, minute, second = given + [1, 1, 1, 0, 0, 0][len(given) :]
    microsecond = int((fraction or "").ljust(6, "0"))
    offset = dt.datetime.strptime(zone or "Z", "%z").tzinfo
    start = dt.datetime(year, month, day, hour, minute, second, microsecond, offset)
    start = start.astimezone(dt.UTC)
    if len(given) < 3:
        year, month = divmod(start.year * 12 + start.month - 1 + (12, 1)[len(given) - 1], 12)
        return start, start.replace(year=year, month=month + 1)
    if fraction is not None:
        return start, start + dt.timedelta(microseconds=10 ** (6 - len(fraction)))
    return start, start + dt.timedelta(seconds=(86400, 3600, 60, 1)[len(given) - 3])


def _duration(text: str) -> Number:
    if re.fullmatch(_DECIMAL, text):
        return plain_number(text)
    parts = re.findall(_PARTS, text.lower())
    if not parts or re.sub(_PARTS, "", text.lower()):
        raise ValueError(text)
    return sum(plain_number(count) * _SECONDS[unit] for count, unit in parts)


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
