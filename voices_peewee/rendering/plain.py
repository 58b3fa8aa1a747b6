"""Values as one line of text that commands no terminal, and cut by the places that it takes."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TextIO

# Control characters, lone surrogates, line separators, marks that turn the writing direction,
# and what XML has no place for.
_UNSAFE: Final = (
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)
_NAMES: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_SIZES: Final = ("kB", "MB", "GB", "TB")

Keep = Literal["start", "end", "both"]


class Kind(NamedTuple):
    """How the values of a column are shown.

    ``yields`` is how readily it gets narrower where there is no room: 0 is never.
    """

    show: Callable[[Any], str]
    unit: str = ""
    right: bool = False
    yields: int = 0


def printable(value: object) -> str:
    """Return a value as one line of text whose control characters are spelled out."""
    text = str(value)
    if text.isprintable():
        return text
    return re.sub(_UNSAFE, _spelled, text)  # compiled when first needed: it takes a millisecond


def _spelled(match: re.Match[str]) -> str:
    char = match[0]
    if char in _NAMES:
        return _NAMES[char]
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def speaks_unicode(stream: TextIO) -> bool:
    """Whether a stream can show every letter."""
    return (stream.encoding or "ascii").lower().replace("-", "") == "utf8"


def width(text: str) -> int:
    """Return how many places of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_places, text))


def _places(char: str) -> int:
    import unicodedata

    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def fit(text: str, room: int, keep: Keep = "both") -> str:
    """Return a text as one line of at most so many places; ``…`` stands for what was cut.

    Args:
        text: The text.
        room: The places of a terminal that there are.
        keep: Which end of a long text stays.
    """
    text = printable(text)
    if width(text) <= room:
        return text
    start = {"start": room - 1, "end": 0, "both": (room - 1) // 2}[keep]
    kept, end = "".join(_first(text, start)), "".join(_first(reversed(text), room - 1 - start))
    return f"{kept}…{end[::-1]}"


def _first(chars: Iterable[str], room: int) -> Iterator[str]:
    for char in chars:
        room -= _places(char)
        if room < 0:
            return
        yield char


def number(value: float | None, unit: str = "") -> str:
    """Return a number for a table; ``-`` where there is none.

    dB have two decimals, others four digits: a real-time factor may be 0.003.
    """
    if value is None:
        return "-"
    if abs(value) >= 100_000:
        return f"{value:.3g}"
    return f"{value:z.2f}" if unit == "dB" or abs(value) >= 10 else f"{value:z.4g}"


def signed(value: float | None, unit: str = "") -> str:
    """Return a difference for a table: with its sign, if any of it is shown."""
    text = number(value, unit)
    return f"+{text}" if value is not None and float(text) > 0 else text


def show(value: object) -> str:
    """Return a value of any kind as one line for a person; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dt.datetime):
        return f"{value if value.tzinfo is None else value.astimezone(dt.UTC):%Y-%m-%d %H:%M}"
    if isinstance(value, list | tuple):
        return printable(", ".join(map(str, value)))
    if isinstance(value, Mapping):
        import json  # late: what says words about commands needs none

        return printable(json.dumps(value, ensure_ascii=False, default=str)) if value else ""
    return printable(value)


def clock(seconds: float) -> str:
    """Return seconds as ``1:02.5`` or ``1:02:03.5``, and what is less than one exactly."""
    if 0 < seconds < 1:
        return f"0:0{seconds:.3f}"
    if not math.isfinite(seconds):  # only another program can have stored it
        return str(seconds)
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"


def size(count: int) -> str:
    """Return bytes as ``512 B`` or ``3.4 MB``."""
    if count < 1_000:
        return f"{count} B"
    power = 1
    while count >= 999.95 * 1_000**power and power < len(_SIZES):
        power += 1
    return f"{count / 1_000**power:.1f} {_SIZES[power - 1]}"


KINDS: Final[Mapping[str, Kind]] = {
    "key": Kind(show),  # what a row is about: it is never cut
    "text": Kind(show, yields=1),
    "path": Kind(show, yields=1),
    "tags": Kind(show, yields=1),
    "json": Kind(show, yields=1),
    "aside": Kind(show, yields=2),
    "boolean": Kind(show),
    "time": Kind(show, "UTC"),
    "integer": Kind(show, right=True),
    "count": Kind("{:,}".format, right=True),
    "number": Kind(number, right=True),
    "decibel": Kind("{:.2f}".format, "dB", right=True),
    "difference": Kind(signed, right=True),
    "seconds": Kind(clock, right=True),
    "hertz": Kind(show, "Hz", right=True),
    "bytes": Kind(size, right=True),
    "percent": Kind("{:.1f}".format, "%", right=True),
    "fixed": Kind("{:.2f}".format, right=True),
    "rounded": Kind("{:,.0f}".format, right=True),
    "bar": Kind(show),
    "megabytes": Kind("{:.1f}".format, "MB", right=True),
}


def cell(kind: str, value: object) -> str:
    """Return a value as its kind is shown; what another program wrote instead as it stands."""
    if value is None:
        return ""
    try:
        return KINDS.get(kind, KINDS["text"]).show(value)
    except (TypeError, ValueError):
        return show(value)
