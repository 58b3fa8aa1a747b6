"""The records of an input: JSON lines, CSV, or a program's mappings."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee.errors import InputError
from voices_peewee.exchange.tables import TABLES, table_named
from voices_peewee.exchange.texts import (
    Record,
    Refused,
    by_column,
    csv_rows,
    json_records,
    parse_object,
)
from voices_peewee.schema.exact import short

_LONGEST: Final = 64 << 20  # characters of a CSV's value
_END: Final = "end"
_TAIL: Final = 4096  # bytes at a file's end in which its last line is looked for
# A CSV of ours has an apostrophe before what a spreadsheet would take for a formula.
_PROTECTED: Final = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")
# What a record without any of these cannot be a row of.
_MARKS: Final = {
    "model_performance": {"processing_history_id"},
    "processing_history": {"processed_file_id", "operation_type"},
    "processed_files": {"filename", "original_path"},
    "listening_votes": {"session"},
    "listening_tests": {"plan"},
    "speakers": {"name"},
}


class Row(NamedTuple):
    """One record: its table, where it stands (as ``line 3``), and its values."""

    table: str
    place: str
    values: dict[str, Any]


class Source:
    """One input. ``rows`` gives its records, and tells ``refused`` of the bad ones.

    Args:
        label: What it is called in messages.
        table: The table of all its rows; none where each tells its own.
        tables: The tables of an input that is complete in itself; none for a part of a whole,
            whose ids are shared with the other parts.
    """

    # Whether numbers, times and JSON may be given as text.
    is_text = False
    # Whether it is the file of a database, whose paths are as they are stored.
    is_database = False
    # Whether it is the original module's, whose models are named like DEMUCS.
    is_original = False
    # The file of a run that a server did not take, which goes when it is in the record.
    kept: Path | None = None

    def __init__(self, label: str, table: str, tables: Iterable[str] = ()) -> None:
        self.label, self.table, self.tables = label, table, tuple(tables)
        self.notes: list[str] = []

    def rows(self, refused: Refused) -> Iterator[Row]:
        """Yield the records in order."""
        raise NotImplementedError

    def progress(self) -> tuple[int, int]:
        """Return the bytes done and in all; 0 where that is not known."""
        return 0, 0

    def close(self) -> None:
        """Close what it reads from."""

    def error(self, reason: str, place: str = "", column: str = "") -> InputError:
        """Return the error of a record, or of the whole input."""
        return InputError(self.label, reason, place=place, column=column)

    def row(self, record: Record, refused: Refused) -> Iterator[Row]:
        """Yield a record with its table, which it names or which is the input's, if one is told."""
        place, values = record
        try:
            table = table_named(values.pop("table", None) or self.table or table_like(values))
        except ValueError as error:
            refused.add(self.label, str(error), place)
        else:
            yield Row(table, place, values)


class Records(Source):
    """Records that a program gives as mappings."""

    def __init__(self, records: Iterable[object], table: str | None) -> None:
        super().__init__("records", table or "")
        self._records = records

    def rows(self, refused: Refused) -> Iterator[Row]:
        """Yield the records in order."""
        for number, record in enumerate(self._records, 1):
            place = f"record {number}"
            if isinstance(record, Mapping):
                yield from self.row(Record(place, dict(record)), refused)
            else:
                refused.add(self.label, f"{short(record)} is not a mapping", place)


def table_like(columns: Iterable[str]) -> str:
    """Return the table that has the columns.

    Raises:
        ValueError: None has, or it cannot be told.
    """
    given = list(columns)
    for table, marks in _MARKS.items():
        if not marks.isdisjoint(given):
            return table
    raise ValueError(f"its columns {short(given)} are those of no table; name one with --table")


class _Text(Source):
    """A text file, or a stream, whose size is 0."""

    def __init__(self, label: str, stream: BufferedReader, table: str | None, size: int) -> None:
        super().__init__(label, table or "")
        self._stream, self._size = stream, size

    def progress(self) -> tuple[int, int]:
        """Return the bytes done and in all."""
        return (self._stream.tell() if self._size else 0), self._size

    def close(self) -> None:
        """Close a file; the standard input stays open."""
        if self._size:
            self._stream.close()


class JsonLines(_Text):
    """One record a line. A file of several tables says at its end how many rows it has."""

    def __init__(self, label: str, stream: BufferedReader, table: str | None, size: int) -> None:
        super().__init__(label, stream, table, size)
        self._counts, self._is_export = Counter[str](), False
        if size:
            self.tables = tuple(_tables_at_end(stream))

    def rows(self, refused: Refused) -> Iterator[Row]:
        """Yield the records in order.

        Raises:
            InputError: The file was cut off or changed.
        """
        end: dict[str, Any] | None = None
        before = refused.count
        for record in json_records(self.label, self._stream, refused):
            if end is not None:
                raise self.error("it goes on after the end that an export wrote", record.place)
            named, end = record.values.get("table"), _rows_of_end(record.values)
            if end is not None or self._is_strange(named):
                continue
            for row in self.row(record, refused):
                self._counts[row.table] += 1
                self._is_export |= bool(named) and _is_whole(row.table, row.values)
                yield row
        if refused.count == before:
            self._check(end)

    def _is_strange(self, named: object) -> bool:
        """Whether an export's line is of an application's own table, which is left out."""
        if not self._is_export or not isinstance(named, str) or named in TABLES:
            return False
        if named not in self._counts:
            self.notes.append(f"{named} is a table of an application's own; it is left out")
        self._counts[named] += 1
        return True

    def _check(self, end: dict[str, Any] | None) -> None:
        """Refuse an export that has not the rows that its end tells, or that lacks its end."""
        counts = self._counts
        if end is None and self._is_export and len(counts) > 1:
            raise self.error("it was cut off: an export's last line, with its counts, is missing")
        given = counts if end is None else end
        for table, told in {**dict.fromkeys(counts, 0), **given}.items():
            if counts[table] != told:
                had = f"the export had {told} rows of {table}, not {counts[table]}"
                raise self.error(f"it was cut off or changed: {had}")


def _is_whole(table: str, values: dict[str, Any]) -> bool:
    """Whether a record is an export's: that has every column, also where nothing is in it."""
    return all(column in values for column in TABLES[table]._meta.columns)


def _rows_of_end(values: dict[str, Any]) -> dict[str, Any] | None:
    """Return how many rows of each table the last line of an export tells; None of other lines."""
    rows = values.get("rows")
    return rows if values.get("table") == _END and isinstance(rows, dict) else None


def _tables_at_end(stream: BufferedReader) -> Iterable[str]:
    """Return the tables that the last line of an export names, and go back to the start."""
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
    lines = stream.read().splitlines()
    stream.seek(0)
    with suppress(ValueError):
        return TABLES.keys() & (_rows_of_end(parse_object(lines[-1])) or {})
    return ()


class Csv(_Text):
    """A header and one record a line, separated by commas; all values are text."""

    is_text = True

    def __init__(self, label: str, stream: BufferedReader, table: str | None, size: int) -> None:
        super().__init__(label, stream, table, size)
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
        # Bytes that are no UTF-8 are told with their column; in a path they are as they are.
        lines = (line.decode("utf-8", "surrogateescape") for line in stream)
        self._rows = csv_rows(label, (line.removeprefix("\ufeff") for line in lines))
        header = next(self._rows, ("", []))[1]
        self._columns = [_column(name) for name in header]
        if not all(self._columns) or not len(header) == len({*self._columns}) > 0:
            reason = f"its header {short(header)} must name every column, each once"
            raise self.error(f"{reason}; pandas leaves out its index with index=False")
        try:
            self.table = self.table or table_like(self._columns)
        except ValueError as error:
            raise self.error(str(error)) from error

    def rows(self, refused: Refused) -> Iterator[Row]:
        """Yield the records in order.

        Raises:
            InputError: The text is not valid CSV.
        """
        for place, values in by_column(self.label, self._columns, self._rows, refused):
            texts = {name: _unprotected(text) if text else None for name, text in values.items()}
            yield Row(self.table, place, texts)


def _column(name: str) -> str:
    """Return a heading as the schema writes it, whatever its case."""
    name = name.strip()
    is_ours = any(name.lower() in model._meta.columns for model in TABLES.values())
    return name.lower() if is_ours else name


def _unprotected(value: str) -> str:
    return value[1:] if value[0] == "'" and _PROTECTED.match(value) else value
