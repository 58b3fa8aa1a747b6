"""Rows as a table, JSON, JSON lines or CSV, written as they come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from voices_peewee.cli.common import write
from voices_peewee.rendering.json_csv import csv_lines, json_text
from voices_peewee.rendering.plain import printable, speaks_unicode

if TYPE_CHECKING:
    from voices_peewee.rendering.table import Shown

Row = Sequence[object]


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
        from voices_peewee.rendering.table import table_lines

        write(table_lines(columns, counted))
    elif style == "csv":
        ascii_only = not speaks_unicode(sys.stdout)
        write(csv_lines(names, counted, raw=raw, ascii_only=ascii_only))
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
    from voices_peewee.rendering.table import fact_lines

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
    return json_text(value, ascii_only=not speaks_unicode(sys.stdout), indent=indent)
