"""A table that a person reads: aligned, in units, cut to the terminal's width."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import click

from voices_peewee.cli.text import printable

_GAP: Final = "  "
_SAMPLE: Final = 1_000  # rows that decide the widths; the rest is written as it comes
_NARROWEST: Final = 8


@dataclass(frozen=True)
class Kind:
    """How a column looks: its heading, its values as text, and which end is cut."""

    heading: str = ""
    show: Callable[[object], str] | None = None
    cut_front: bool = False


@dataclass
class _Column:
    heading: str
    show: Callable[[object], str]
    right: bool
    cut_front: bool
    width: int = 0

    def cell(self, value: object) -> str:
        return "" if value is None else self.show(value)

    def fitted(self, text: str, *, cut: bool) -> str:
        missing = self.width - _width(text)
        if missing < 0 and cut:
            text = _cut(text, self.width, front=self.cut_front)
            missing = self.width - _width(text)
        return " " * missing + text if self.right else text + " " * missing


def table_lines(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    kinds: Mapping[str, Kind] | None = None,
) -> Iterator[str]:
    """Yield the lines of a table; nothing when there are no rows.

    On a terminal long texts are shortened to its width; elsewhere nothing is left out.
    """
    rows = iter(rows)
    sample = list(islice(rows, _SAMPLE))
    if not sample:
        return
    known = {**KINDS, **(kinds or {})}
    layout = [
        _column(name, known.get(name, Kind()), [row[index] for row in sample])
        for index, name in enumerate(columns)
    ]
    on_terminal = sys.stdout.isatty()
    if on_terminal:
        _fit(layout, shutil.get_terminal_size().columns)
    heading = _line(layout, [column.heading for column in layout], cut=on_terminal)
    yield click.style(heading, bold=True) + "\n" if on_terminal else heading + "\n"
    for row in chain(sample, rows):
        cells = [column.cell(value) for column, value in zip(layout, row, strict=True)]
        yield _line(layout, cells, cut=on_terminal) + "\n"


def _column(name: str, kind: Kind, values: Sequence[object]) -> _Column:
    right = all(value is None or _is_number(value) for value in values)
    column = _Column(
        heading=kind.heading or name,
        show=kind.show or show,
        right=right,
        cut_front=kind.cut_front,
    )
    column.width = max(_width(column.heading), *(_width(column.cell(value)) for value in values))
    return column


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(layout: Sequence[_Column], cells: Sequence[str], *, cut: bool) -> str:
    texts = [column.fitted(cell, cut=cut) for column, cell in zip(layout, cells, strict=True)]
    return _GAP.join(texts).rstrip()


def _fit(layout: Sequence[_Column], room: int) -> None:
    """Take what is too much from the widest columns of text; numbers stay whole."""
    texts = [column for column in layout if not column.right]
    excess = sum(column.width for column in layout) + len(_GAP) * (len(layout) - 1) - room
    while excess > 0 and texts:
        widest = max(texts, key=lambda column: column.width)
        if widest.width <= _NARROWEST:
            return
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


def clock(value: object) -> str:
    """Return seconds as ``1:02.5`` or ``1:02:03.5``."""
    if not isinstance(value, int | float):
        return show(value)
    tenths = round(value * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def size(value: object) -> str:
    """Return bytes as ``512 B`` or ``3.4 MB``."""
    if not isinstance(value, int | float):
        return show(value)
    if value < 1_000:
        return f"{value} B"
    amount = float(value)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1_000
        if amount < 999.95:
            break
    return f"{amount:.1f} {unit}"


def _digits(count: int) -> Callable[[object], str]:
    def fixed(value: object) -> str:
        return f"{value:.{count}f}" if isinstance(value, int | float) else show(value)

    return fixed


KINDS: Final[Mapping[str, Kind]] = {
    "duration": Kind("duration", clock),
    "sample_rate": Kind("rate (Hz)"),
    "channels": Kind("ch"),
    "file_format": Kind("format"),
    "file_size": Kind("size", size),
    "size": Kind("size", size),
    "original_path": Kind(cut_front=True),
    "processed_path": Kind(cut_front=True),
    "path": Kind(cut_front=True),
    "created_at": Kind("added (UTC)"),
    "updated_at": Kind("updated (UTC)"),
    "applied_at": Kind("applied (UTC)"),
    "created": Kind("created (UTC)"),
    "start_time": Kind("started (UTC)"),
    "end_time": Kind("ended (UTC)"),
    "si_snri": Kind("SI-SNRi (dB)", _digits(2)),
    "sdri": Kind("SDRi (dB)", _digits(2)),
    "cpu_usage": Kind("CPU (%)", _digits(1)),
    "memory_usage": Kind("memory (MB)", _digits(1)),
    "processing_time": Kind("time (s)", _digits(3)),
    "real_time_factor": Kind("RTF", _digits(3)),
}
