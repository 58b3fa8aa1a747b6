"""Values, rows and facts as plain text that commands no terminal, cut by the places that it takes.

A column says by its kind how its values are shown; whatever is shown is one harmless line.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final, Literal, NamedTuple, TextIO

from voices_peewee.errors import InvalidValueError

# Control characters, lone surrogates, line separators, marks that turn the writing direction,
# and what XML has no place for.
_UNSAFE: Final = (
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)
_SIZES: Final = ("kB", "MB", "GB", "TB")
_GAP: Final = "  "
_SAMPLE: Final = 1_000  # rows that decide the widths; the rest is written as it comes
_NARROWEST: Final = 6

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
    # Compiled when first needed: it takes a millisecond.
    return re.sub(_UNSAFE, lambda match: match[0].encode("unicode_escape").decode(), text)


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
    """Return a text as one line of at most so many places; ``…`` stands for what was cut."""
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


_LARGEST: Final = 1e15  # that a column takes; what another program wrote would widen a table


def cell(kind: str, value: object) -> str:
    """Return a value as its kind is shown; what another program wrote instead as it stands."""
    if value is None:
        return ""
    if isinstance(value, float) and not abs(value) <= _LARGEST:
        return show(value)
    try:
        return KINDS.get(kind, KINDS["text"]).show(value)
    except (TypeError, ValueError):
        return show(value)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: What scripts call it.
        kind: One of ``plain.KINDS``; values of the kind ``key`` are never cut.
        title: What people call it; the name where it is empty.
        priority: When the column goes where there is no room: 1 goes first; 0 stays.
        nullable: Whether a value may be missing, for a DataFrame's dtype.
        read: What turns a stored value, never None, into Python's; None where they are the same.
    """

    name: str
    kind: str = "text"
    title: str = ""
    priority: int = 0
    nullable: bool = True
    read: Callable[[Any], Any] | None = None


Facts = Iterable[tuple[Column, object]]  # what is None is left out
Row = tuple[Any, ...]


def read_rows(rows: Iterable[Row], columns: Sequence[Column]) -> Iterator[Row]:
    """Yield rows as they are stored with Python's values, as their columns read them."""
    readers = [(place, column.read) for place, column in enumerate(columns) if column.read]
    for row in rows:
        values = list(row)
        for place, read in readers:
            if values[place] is not None:
                values[place] = read(values[place])
        yield tuple(values)


def heading(column: Column) -> str:
    """Return what stands above a column: its title and its unit."""
    title = column.title or column.name.replace("_", " ")
    unit = kind_of(column).unit
    return printable(f"{title} {unit}" if unit else title)


def kind_of(column: Column) -> Kind:
    """Return how the values of a column are shown."""
    return KINDS.get(column.kind, KINDS["text"])


def row_cells(columns: Sequence[Column], row: Sequence[object]) -> list[str]:
    """Return the values of a row as they are shown."""
    return [cell(column.kind, value) for column, value in zip(columns, row, strict=True)]


def text_table(
    columns: Sequence[Column], rows: Iterable[Sequence[object]], width: int | None = 80
) -> list[str]:
    """Return the lines of a table, the heading first.

    Where there is no room, columns with a priority go, then texts lose an end, and at last the
    key stands in a line of its own: it is never cut.
    """
    texts = [row_cells(columns, row) for row in rows]
    layout = _Layout(columns, texts, width)
    return [*layout.lines(layout.headings), *chain.from_iterable(map(layout.lines, texts))]


def table_lines(
    columns: Sequence[Column], rows: Iterable[Sequence[object]]
) -> tuple[list[str], Iterator[str]]:
    """Return the headings that a terminal has no room for, and the lines as rows come.

    On a terminal the last columns go where even the narrowest texts leave no room; elsewhere
    nothing is left out. Of no rows there is no heading.
    """
    texts = (row_cells(columns, row) for row in rows)
    sample = list(islice(texts, _SAMPLE))
    layout = _Layout(columns, sample, _terminal_width(sys.stdout), may_lose=True)
    head = map(_bold, layout.lines(layout.headings)) if sample else ()
    lines = chain(head, chain.from_iterable(map(layout.lines, chain(sample, texts))))
    return layout.missing if sample else [], (f"{line}\n" for line in lines)


def wrapped(line: str, stream: TextIO) -> list[str]:
    """Return a line for people as lines that a terminal has room for; no word is broken."""
    room = _terminal_width(stream)
    if room is None or width(line) <= room:
        return [line]
    import textwrap

    made = textwrap.TextWrapper(
        max(room, 20), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return made.wrap(line)


def fact_lines(facts: Facts) -> Iterator[str]:
    """Yield a line for each fact: its name with its unit, and its value."""
    known = [(heading(column), cell(column.kind, one)) for column, one in facts if one is not None]
    room = max((width(name) for name, _ in known), default=0)
    for name, text in known:
        yield f"{_bold(_padded(name, room))}{_GAP}{text}\n"


def _terminal_width(stream: TextIO) -> int | None:
    import shutil

    return shutil.get_terminal_size().columns if stream.isatty() else None


def _bold(text: str) -> str:
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain or not sys.stdout.isatty() else f"\x1b[1m{text}\x1b[0m"


def _padded(text: str, room: int, *, right: bool = False) -> str:
    missing = " " * (room - width(text))
    return missing + text if right else text + missing


class _Layout:
    """The columns that there is room for; where it is ``stacked``, the key stands above them."""

    def __init__(
        self,
        columns: Sequence[Column],
        texts: Iterable[Sequence[str]],
        room: int | None,
        *,
        may_lose: bool = False,
    ) -> None:
        self.columns, self.room, self.stacked = columns, room, False
        self.kinds = [kind_of(column) for column in columns]
        self.headings = [heading(column) for column in columns]
        every = zip(self.headings, *texts, strict=True)
        self.widths = [max(map(width, column)) for column in every]
        self.shown = list(range(len(columns)))
        self._drop_optional()
        if self._excess(at_least=True) > 0 and any(columns[at].kind == "key" for at in self.shown):
            self.stacked = True
            self.shown = sorted(range(len(columns)), key=lambda at: columns[at].kind != "key")
            self._drop_optional()
        while may_lose and len(self.shown) > 2 and self._excess(at_least=True) > 0:
            self.shown.pop()
        self._narrow()

    def lines(self, cells: Sequence[str]) -> list[str]:
        key, *rest = (self._fitted(at, cells[at]) for at in self.shown)
        if self.stacked and rest:
            return [key.rstrip(), (_GAP + _GAP.join(rest)).rstrip()]
        return [_GAP.join([key, *rest]).rstrip()]

    @property
    def missing(self) -> list[str]:
        every = enumerate(self.headings)
        return [name for at, name in every if at not in self.shown and name.strip()]

    def _fitted(self, at: int, text: str) -> str:
        room, kind = self.widths[at], self.kinds[at]
        if kind.yields and width(text) > room:
            text = fit(text, room, "end" if self.columns[at].kind == "path" else "start")
        return _padded(text, room, right=kind.right)

    def _excess(self, *, at_least: bool = False) -> int:
        """Return by how much the columns are too wide, as they are or at their narrowest."""
        if self.room is None:
            return 0
        widths = [
            min(self.widths[at], _NARROWEST if at_least and self.kinds[at].yields else sys.maxsize)
            for at in self.shown[self.stacked :]
        ]
        return sum(widths) + len(_GAP) * (len(widths) - (not self.stacked)) - self.room

    def _drop_optional(self) -> None:
        optional = [at for at in reversed(self.shown) if self.columns[at].priority]
        for at in sorted(optional, key=lambda at: self.columns[at].priority):
            if self._excess() > 0:
                self.shown.remove(at)

    def _narrow(self) -> None:
        soft = [at for at in self.shown if self.kinds[at].yields]
        while self._excess() > 0 and soft:
            widest = max(soft, key=lambda at: self.widths[at] * self.kinds[at].yields)
            if self.widths[widest] <= _NARROWEST:
                soft.remove(widest)
            else:
                self.widths[widest] -= 1


def absolute(path: str | os.PathLike[str]) -> str:
    """Return an absolute path, which begins with one slash: POSIX lets two of them be."""
    full = os.path.abspath(os.fspath(path))
    return full[1:] if full.startswith("//") else full


def locate(source: object) -> str:
    """Return the absolute path of a source or an output; a URL stays as it is."""
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"a source is a path or a ProcessedFile, not {source!r}")
    path = os.fsdecode(source)
    if not path:  # the working directory to abspath
        raise InvalidValueError("a path must not be empty")
    return path if "://" in path else absolute(path)
