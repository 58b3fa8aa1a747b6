"""Records from texts: JSON lines, or CSV with a header."""

from __future__ import annotations

import csv
import json
import os
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from io import TextIOWrapper
from typing import Any, BinaryIO, Final

from voices_peewee.exchange.sources import Refuse, Row, Source, table_like, table_of_file
from voices_peewee.exchange.tables import TABLES, table_named

LONGEST: Final = 64 << 20  # bytes of one record; what is longer would fill the memory
_END: Final = "end"
_TAIL: Final = 4096  # bytes at a file's end in which its last line is looked for
# What the exports of earlier versions have not; every other column is in each of their rows.
_NEWER: Final = frozenset({"recording_id", "read_at"})
# A CSV of ours has an apostrophe before what a spreadsheet would take for a formula.
_PROTECTED: Final = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")


class _Text(Source):
    """A text file, or a stream, whose size is 0."""

    def __init__(self, label: str, stream: BinaryIO, table: str | None, size: int) -> None:
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

    def __init__(self, label: str, stream: BinaryIO, table: str | None, size: int) -> None:
        super().__init__(label, stream, table, size)
        self._given = table
        self.tables = _tables_at_end(stream) if size else ()
        self._first = stream.readline(LONGEST + 1).removeprefix(BOM_UTF8)
        try:
            value = _record(self._first, 1)
            self.table = self._table(value.pop("table", None), value)
        except ValueError:
            pass  # the line will be refused when its turn comes

    def _table(self, named: object, value: dict[str, Any]) -> str:
        return table_named(named) if named is not None else self._given or table_like(value)

    def rows(self, refuse: Refuse) -> Iterator[Row]:
        """Yield the records in order.

        Raises:
            InputError: The file was cut off or changed.
        """
        counts: Counter[str] = Counter()
        is_whole, is_ended, broken = False, False, 0
        for number, line in self._lines():
            if is_ended:
                raise self.error("it goes on after the end that an export wrote", number)
            try:
                value = _record(line, number)
                named = value.pop("table", None)
                if named == _END:
                    self._check(value, counts, broken, number)
                    is_ended = True
                    continue
                if is_whole and named not in TABLES and isinstance(named, str):
                    counts[named] += 1
                    self._leave_out(named)
                    continue
                table = self._table(named, value)
            except ValueError as error:
                broken += 1
                refuse(self.error(str(error), number))
                continue
            is_whole = is_whole or (named is not None and _is_exported(table, value))
            counts[table] += 1
            yield Row(table, number, value)
        if is_whole and not is_ended:
            self._doubt(counts)

    def _leave_out(self, table: str) -> None:
        note = f"{table} is a table of an application's own; it is left out"
        if note not in self.notes:
            self.notes.append(note)

    def _doubt(self, counts: Counter[str]) -> None:
        """Refuse an export without its end; one of a single table has none."""
        if len(counts) > 1:
            raise self.error(
                "the last line of an export, with its counts, is missing: it was cut off"
            )
        for table in counts:
            if table_of_file(self.label) != table:
                self.notes.append(
                    f"{self.label!r} has {table} only and no counts at its end; "
                    "if more was exported, it was cut off"
                )

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        line, number = self._first, 1
        while line:
            if len(line) > LONGEST:
                raise self.error(f"it is longer than {LONGEST >> 20} MB", number)
            if not line.isspace():
                yield number, line
            line, number = self._stream.readline(LONGEST + 1), number + 1

    def _check(self, end: dict[str, Any], counts: Counter[str], broken: int, number: int) -> None:
        """Refuse a file that has not the rows that its end tells; broken lines are told already."""
        rows = end.get("rows")
        if not isinstance(rows, dict) or not all(type(count) is int for count in rows.values()):
            raise self.error("the end of the export does not say how many rows it has", number)
        for table in dict.fromkeys([*rows, *counts]):
            wanted = rows.get(table, 0)
            if counts[table] != wanted and not broken:
                reason = f"it was cut off or changed: the export had {wanted:,} rows of {table}"
                raise self.error(f"{reason}, not {counts[table]:,}", number)


def _is_exported(table: str, values: dict[str, Any]) -> bool:
    """Whether a record is an export's: that has every column, also where nothing is in it."""
    columns = {field.column_name for field in TABLES[table]._meta.sorted_fields}
    return columns - values.keys() <= _NEWER


def _record(line: bytes, number: int) -> dict[str, Any]:
    """Return the record of a line.

    Raises:
        ValueError: It is none; the message says why.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ValueError("it is UTF-16; save it as UTF-8") from error
        raise ValueError("it is not UTF-8 text") from error
    value = parse(text)
    if isinstance(value, dict):
        return value
    raise ValueError(f"it is not a JSON object{'; write one a line' * isinstance(value, list)}")


def _tables_at_end(stream: BinaryIO) -> tuple[str, ...]:
    """Return the tables that the last line of an export names, and go back to the start."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL))
    lines = stream.read().splitlines()
    stream.seek(0)
    try:
        value = json.loads(lines[-1])
        named = list(value["rows"]) if value["table"] == _END else []
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(name for name in named if name in TABLES)


class _RefusedError(Exception):
    """What the JSON decoder's hooks refuse; the message is a clause."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _RefusedError(f"the key {twice!r} is there twice")
    return found


def _no_number(name: str) -> float:
    raise _RefusedError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def parse(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is none; the message says why.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON at character {error.pos + 1}") from error
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    except _RefusedError as error:
        raise ValueError(str(error)) from error
    except ValueError as error:
        raise ValueError("a number in its JSON is too long") from error


class Csv(_Text):
    """A header and one record a line, separated by commas; all values are text."""

    is_text = True

    def __init__(self, label: str, stream: BinaryIO, table: str | None, size: int) -> None:
        super().__init__(label, stream, table, size)
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        # Bytes that are no UTF-8 are told with their column; in a path they are as they are.
        self._text = TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
        self._reader = csv.reader(self._lines(), strict=True)
        try:
            self._columns = [name.strip() for name in next(filter(any, self._reader), [])]
        except csv.Error as error:
            raise self.error(f"its header is not valid CSV ({error})") from error
        self._check_header()
        try:
            self.table = self.table or table_like(self._columns)
        except ValueError as error:
            raise self.error(str(error)) from error

    def _lines(self) -> Iterator[str]:
        while line := self._text.readline(LONGEST):
            if len(line) == LONGEST:
                raise self.error(f"it has a line of more than {LONGEST >> 20} MB")
            yield line

    def _check_header(self) -> None:
        if re.search("[\udc80-\udcff]", "".join(self._columns)):
            raise self.error("it is not UTF-8 text")
        if not self._columns:
            raise self.error("it has no header")
        if "" in self._columns:
            raise self.error(
                "its header has a column without a name; pandas writes none with index=False"
            )
        for name, count in Counter(self._columns).items():
            if count > 1:
                raise self.error(f"its header names {name!r} twice")

    def rows(self, refuse: Refuse) -> Iterator[Row]:
        """Yield the records in order; a line of nothing but commas is none.

        Raises:
            InputError: The text is not valid CSV.
        """
        columns, width, reader = self._columns, len(self._columns), self._reader
        number = reader.line_num + 1
        try:
            for values in reader:
                if len(values) == width and any(values):
                    record = {
                        name: _unprotected(value) if value else None
                        for name, value in zip(columns, values, strict=True)
                    }
                    yield Row(self.table, number, record)
                elif any(values):
                    reason = f"the header has {width} columns, and this record has {len(values)}"
                    refuse(self.error(reason, number))
                number = reader.line_num + 1
        except csv.Error as error:
            raise self.error(f"it is not valid CSV ({error})", number) from error

    def close(self) -> None:
        """Close a file; the standard input stays open."""
        self._text.detach()
        super().close()


def _unprotected(value: str) -> str:
    return value[1:] if value[0] == "'" and _PROTECTED.match(value) else value
