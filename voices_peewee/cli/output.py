"""Rows as a table, JSON, JSON lines or CSV, written as they come."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from voices_peewee.cli.common import write
from voices_peewee.cli.text import printable, speaks_unicode

if TYPE_CHECKING:
    from voices_peewee.cli.view import Shown

Row = Sequence[object]

# What json.dumps leaves as it is and a terminal may obey, or UTF-8 cannot hold.
_LEFT: Final = "[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_NUMBER: Final = r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?"


def write_rows(
    style: str, columns: Sequence[Shown], rows: Iterable[Row], *, raw: bool = False
) -> int:
    """Write rows to the standard output as they come; return how many there were.

    Args:
        style: ``table``, ``json``, ``jsonl`` or ``csv``.
        columns: What the values of a row are.
        rows: The rows.
        raw: Write CSV texts exactly as they are stored.

    Raises:
        OutputError: The output does not take it.
    """
    counted = _Counted(rows)
    names = [column.name for column in columns]
    if style == "table":
        from voices_peewee.cli.table import table_lines

        write(table_lines(columns, counted))
    elif style == "csv":
        write(_csv(names, counted, raw=raw))
    else:
        write(_JSON[style](names, counted))
    return counted.count


def write_text(text: str) -> None:
    """Write lines for people, without anything that could command a terminal."""
    write(f"{printable(line)}\n" for line in text.split("\n"))


def write_json(value: object) -> None:
    """Write one value as JSON that a person can read too."""
    write([_dump(value, indent=2), "\n"])


def write_facts(facts: Sequence[tuple[Shown, object]]) -> None:
    """Write one thing as lines of name and value."""
    from voices_peewee.cli.table import fact_lines

    write(fact_lines(facts))


class _Counted:
    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield row


def _json_array(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    before = "[\n"
    for line in _objects(columns, rows):
        yield before + line
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _json_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    for line in _objects(columns, rows):
        yield line + "\n"


_JSON: Final[Mapping[str, Callable[[Sequence[str], Iterable[Row]], Iterator[str]]]] = {
    "json": _json_array,
    "jsonl": _json_lines,
}


def _objects(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        yield _dump(dict(zip(columns, row, strict=True)))


def _dump(value: object, indent: int | None = None) -> str:
    ascii_only = not speaks_unicode(sys.stdout)
    try:
        text = json.dumps(
            value, default=_plain, ensure_ascii=ascii_only, allow_nan=False, indent=indent
        )
    except ValueError:  # NaN or an infinity
        finite = _finite(value)
        text = json.dumps(finite, default=_plain, ensure_ascii=ascii_only, indent=indent)
    return text if text.isascii() and "\x7f" not in text else re.sub(_LEFT, _escape, text)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, dt.date) else str(value)


def _finite(value: object) -> object:
    """Return a value with null in place of what JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def _csv(columns: Sequence[str], rows: Iterable[Row], *, raw: bool) -> Iterator[str]:
    import csv

    line = _Line()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow(columns)
    yield line.text
    for row in rows:
        writer.writerow([_csv_value(value, raw=raw) for value in row])
        yield line.text


class _Line:
    """Keeps the one line that the csv module writes at a time."""

    text = ""

    def write(self, text: str) -> int:
        self.text = text
        return len(text)


def _csv_value(value: object, *, raw: bool) -> object:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    text = value if isinstance(value, str) else _text(value)
    if raw:
        return text
    safe = "\n".join(map(_visible, text.split("\n")))
    is_formula = safe.startswith(_FORMULA) and not re.fullmatch(_NUMBER, safe)
    return f"'{safe}" if is_formula else safe


def _visible(line: str) -> str:
    return "\t".join(map(printable, line.split("\t")))


def _text(value: object) -> str:
    """Return a value that is no text or number as it stands in JSON."""
    return value.isoformat() if isinstance(value, dt.date) else _dump(value)
