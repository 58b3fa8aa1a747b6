"""A table that a person reads: aligned, in units, cut to the terminal's width."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final, NamedTuple, Protocol

import click

from voices_peewee.rendering.plain import number
from voices_peewee.rendering.safe import printable

_GAP: Final = "  "
_SAMPLE: Final = 1_000  # rows that decide the widths; the rest is written as it comes
_NARROWEST: Final = 6


class Shown(Protocol):
    """A column as the lists describe it: ``kind`` is what its values are."""

    @property
    def name(self) -> str:
        """What scripts call it."""

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""

    @property
    def title(self) -> str:
        """What people call it."""


class Column(NamedTuple):
    """A column of a list that is no table of the database."""

    name: str
    kind: str = "text"
    title: str = ""


class Kind(NamedTuple):
    """How the values of a column are shown.

    ``yields`` is how readily it gets narrower where there is no room: 0 is never.
    """

    show: Callable[[Any], str]
    unit: str = ""
    right: bool = False
    yields: int = 0


@dataclass
class _Layout:
    heading: str
    kind: Kind
    cut_front: bool
    width: int = 0

    def cell(self, value: object) -> str:
        if value is None:
            return ""
        try:
            return self.kind.show(value)
        except (TypeError, ValueError):  # another program wrote something else
            return show(value)

    def fitted(self, text: str, *, cut: bool) -> str:
        missing = self.width - _width(text)
        if missing < 0 and cut:
            text = _cut(text, self.width, front=self.cut_front)
            missing = self.width - _width(text)
        return " " * missing + text if self.kind.right else text + " " * missing


def table_lines(columns: Sequence[Shown], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a table; nothing when there are no rows.

    On a terminal long texts are shortened to its width; elsewhere nothing is left out.
    """
    rows = iter(rows)
    sample = list(islice(rows, _SAMPLE))
    if not sample:
        return
    values = zip(*sample, strict=True)
    layout = [_layout(column, some) for column, some in zip(columns, values, strict=True)]
    on_terminal = sys.stdout.isatty()
    if on_terminal:
        _fit(layout, shutil.get_terminal_size().columns)
    heading = _line(layout, [column.heading for column in layout], cut=on_terminal)
    yield _bold(heading) + "\n"
    for row in chain(sample, rows):
        cells = [column.cell(value) for column, value in zip(layout, row, strict=True)]
        yield _line(layout, cells, cut=on_terminal) + "\n"


def fact_lines(facts: Sequence[tuple[Shown, object]]) -> Iterator[str]:
    """Yield a line for each fact that is known: its name with its unit, and its value."""
    layouts = [(_layout(column, [value]), value) for column, value in facts if value is not None]
    width = max((_width(layout.heading) for layout, _ in layouts), default=0)
    for layout, value in layouts:
        name = layout.heading.ljust(width)
        yield f"{_bold(name)}{_GAP}{layout.cell(value)}\n"


def _layout(column: Shown, values: Sequence[object]) -> _Layout:
    kind = KINDS.get(column.kind, KINDS["text"])
    title = column.title or column.name.replace("_", " ")
    heading = f"{title} {kind.unit}" if kind.unit else title
    layout = _Layout(heading, kind, cut_front=column.kind == "path")
    layout.width = max(_width(heading), *(_width(layout.cell(value)) for value in values))
    return layout


def _line(layout: Sequence[_Layout], cells: Sequence[str], *, cut: bool) -> str:
    texts = [column.fitted(cell, cut=cut) for column, cell in zip(layout, cells, strict=True)]
    return _GAP.join(texts).rstrip()


def _bold(text: str) -> str:
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain or not sys.stdout.isatty() else click.style(text, bold=True)


def _fit(layout: Sequence[_Layout], room: int) -> None:
    """Take what is too much from the widest columns; numbers and times stay whole."""
    excess = sum(column.width for column in layout) + len(_GAP) * (len(layout) - 1) - room
    soft = [column for column in layout if column.kind.yields]
    while excess > 0 and soft:
        widest = max(soft, key=lambda column: column.width * column.kind.yields)
        if widest.width <= _NARROWEST:
            soft.remove(widest)
            continue
        widest.width -= 1
        excess -= 1


def _width(text: str) -> int:
    """Return how many places of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_places, text))


def _places(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _cut(text: str, width: int, *, front: bool) -> str:
    """Shorten a text to a width; the sign of omission counts."""
    kept: list[str] = []
    left = width - 1
    for char in reversed(text) if front else text:
        left -= _places(char)
        if left < 0:
            break
        kept.append(char)
    return "…" + "".join(reversed(kept)) if front else "".join(kept) + "…"


# Values as text


def show(value: object) -> str:
    """Return a value as one line for a person."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, list | tuple):
        return printable(", ".join(map(str, value)))
    if isinstance(value, Mapping):
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


_SIZES: Final = ("kB", "MB", "GB", "TB")


def size(count: int) -> str:
    """Return bytes as ``512 B`` or ``3.4 MB``."""
    if count < 1_000:
        return f"{count} B"
    power = 1
    while count >= 999.95 * 1_000**power and power < len(_SIZES):
        power += 1
    return f"{count / 1_000**power:.1f} {_SIZES[power - 1]}"


KINDS: Final[Mapping[str, Kind]] = {
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
    "seconds": Kind(clock, right=True),
    "hertz": Kind(show, "Hz", right=True),
    "bytes": Kind(size, right=True),
    "percent": Kind("{:.1f}".format, "%", right=True),
    "fixed": Kind("{:.2f}".format, right=True),
    "rounded": Kind("{:,.0f}".format, right=True),
    "bar": Kind(show),
    "megabytes": Kind("{:.1f}".format, "MB", right=True),
}
