"""Records from JSON: lines, or one document that is read piece by piece."""

from __future__ import annotations

import json
import os
from codecs import BOM_UTF8, getincrementaldecoder
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from voices_peewee.errors import InputError
from voices_peewee.exchange.import_source import (
    TABLES,
    Refuse,
    Row,
    Source,
    done,
    table_like,
    table_named,
    table_of_file,
)

LONGEST: Final = 64 << 20  # bytes of one record; what is longer would fill the memory
END: Final = "end"
_CHUNK: Final = 1 << 16
_TAIL: Final = 4096  # bytes at a file's end in which its last line is looked for


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _Refused(f"the key {twice!r} is there twice")
    return found


def _no_number(name: str) -> float:
    raise _Refused(f"{name} is no JSON")


class _Refused(Exception):  # noqa: N818 - a clause on its way to an error
    """What the JSON decoder's hooks refuse."""


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def parse(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is none; the message says why.
    """
    try:
        return _DECODER.decode(text)
    except (_Refused, RecursionError, ValueError) as error:
        raise ValueError(_why(error)) from error


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is not valid JSON at character {error.pos + 1}"
    if isinstance(error, RecursionError):
        return "its JSON is nested too deeply"
    return str(error) if isinstance(error, _Refused) else "a number in its JSON is too long"


class JsonLines(Source):
    """One record a line. A file of several tables says at its end how many rows it has."""

    def __init__(
        self,
        label: str,
        stream: BinaryIO,
        *,
        table: str | None,
        first: bytes = b"",
        size: int = 0,
    ) -> None:
        self._stream, self._first, self._size = stream, first, size
        self._given = table
        super().__init__(label, table or "", _tables_at_end(stream) if size else ())
        self._first = self._first or stream.readline(LONGEST + 1)
        self.table = self._table_of_first() or self.table

    def _table_of_first(self) -> str:
        try:
            value = self._record(self._first.removeprefix(BOM_UTF8), 1)
            return self._table(value.pop("table", None), value)
        except ValueError:
            return ""  # the line will be refused when its turn comes

    def _table(self, named: object, value: dict[str, Any]) -> str:
        return table_named(named) if named is not None else self._given or table_like(value)

    def rows(self, refuse: Refuse) -> Iterator[Row]:
        """Yield the records in order.

        Raises:
            InputError: The file was cut off or changed.
        """
        counts: Counter[str] = Counter()
        is_export, is_ended, broken = False, False, 0
        for number, line in self._lines():
            if is_ended:
                raise self.error("it goes on after the end that an export wrote", number)
            try:
                value = self._record(line, number)
                named = value.pop("table", None)
                table = END if named == END else self._table(named, value)
            except ValueError as error:
                broken += 1
                refuse(self.error(str(error), number))
                continue
            if table == END:
                self._check(value, counts, broken, number)
                is_ended = True
                continue
            is_export = is_export or named is not None
            counts[table] += 1
            yield Row(table, number, value)
        if is_export and not is_ended:
            self._doubt(counts)

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

    def _record(self, line: bytes, number: int) -> dict[str, Any]:
        value = parse(self._decoded(line, number))
        if isinstance(value, dict):
            return value
        raise ValueError("it is not a JSON object")

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        line, number = self._first.removeprefix(BOM_UTF8), 1
        while line:
            if len(line) > LONGEST:
                raise self.error(f"it is longer than {LONGEST >> 20} MB", number)
            if not line.isspace():
                yield number, line
            line, number = self._stream.readline(LONGEST + 1), number + 1

    def _decoded(self, line: bytes, number: int) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ValueError("it is UTF-16; save it as UTF-8") from error
            raise ValueError("it is not UTF-8 text") from error

    def _check(self, end: dict[str, Any], counts: Counter[str], broken: int, number: int) -> None:
        """Refuse a file that has not the rows that its end tells; broken lines are told already."""
        rows = end.get("rows")
        if not isinstance(rows, dict) or not all(type(count) is int for count in rows.values()):
            raise self.error("the end of the export does not say how many rows it has", number)
        for table in dict.fromkeys([*rows, *counts]):
            wanted = rows.get(table, 0)
            if counts[table] != wanted and not counts[table] < wanted <= counts[table] + broken:
                reason = f"it was cut off or changed: the export had {wanted:,} rows of {table}"
                raise self.error(f"{reason}, not {counts[table]:,}", number)

    def progress(self) -> tuple[int, int]:
        """Return the bytes done and in all."""
        return done(self._stream, self._size), self._size

    def close(self) -> None:
        """Close the file."""
        if self._size:
            self._stream.close()


def _tables_at_end(stream: BinaryIO) -> tuple[str, ...]:
    """Return the tables that the last line of an export names, and go back to the start."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL))
    lines = stream.read().splitlines()
    stream.seek(0)
    try:
        value = json.loads(lines[-1])
        return (
            tuple(name for name in value["rows"] if name in TABLES) if value["table"] == END else ()
        )
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        return ()


class JsonDocument(Source):
    """An array of records, or an object of arrays by table."""

    def __init__(
        self,
        label: str,
        stream: BinaryIO,
        *,
        table: str | None,
        first: bytes = b"",
        size: int = 0,
    ) -> None:
        self._text = _Text(stream, first, self._fail)
        self._stream, self._size, self._given = stream, size, table
        super().__init__(label, table or "")
        self._start = self._text.char()
        if self._start == "{":
            self.tables = tuple(TABLES)
        elif self._start == "[":
            self.table = table or self._table_of_first()
        else:
            raise self.error("it is no JSON array and no JSON object")

    def _fail(self, reason: str, number: int) -> InputError:
        return self.error(reason, number)

    def _table_of_first(self) -> str:
        self._text.step()
        self._first = self._text.value() if self._text.char() == "{" else None
        try:
            return table_like(self._first or ())
        except ValueError:
            return ""

    _first: Any = None

    def rows(self, refuse: Refuse) -> Iterator[Row]:
        """Yield the records in order.

        Raises:
            InputError: The document is not valid.
        """
        text = self._text
        if self._start == "[":
            if self._given:
                text.step()
            yield from self._array(self.table, refuse)
        else:
            text.step()
            while text.char() != "}":
                name = text.value()
                text.expect(":")
                try:
                    table = table_named(name)
                except ValueError as error:
                    raise self.error(str(error), text.line) from error
                if text.char() != "[":
                    raise self.error(f"the value of {name!r} is no array", text.line)
                text.step()
                yield from self._array(table, refuse)
                if text.char() == ",":
                    text.step()
                elif text.char() != "}":
                    raise self.error("it is not valid JSON", text.line)
            text.step()
        if text.char():
            raise self.error("there is more after the end of its JSON", text.line)

    def _array(self, table: str, refuse: Refuse) -> Iterator[Row]:
        text = self._text
        value, self._first = self._first, None
        while value is not None or text.char() != "]":
            line = text.line
            value = text.value() if value is None else value
            if not isinstance(value, dict):
                refuse(self.error("it is not a JSON object", line))
            else:
                try:
                    yield Row(table or table_like(value), line, value)
                except ValueError as error:
                    refuse(self.error(str(error), line))
            value = None
            if text.char() == ",":
                text.step()
                if text.char() == "]":
                    raise self.error("it is not valid JSON", text.line)
            elif text.char() != "]":
                raise self.error("it is not valid JSON", text.line)
        text.step()

    def progress(self) -> tuple[int, int]:
        """Return the bytes done and in all."""
        return done(self._stream, self._size), self._size

    def close(self) -> None:
        """Close the file."""
        if self._size:
            self._stream.close()


class _Text:
    """A JSON text that is read as far as it is needed; ``line`` is where it stands."""

    def __init__(self, stream: BinaryIO, first: bytes, fail: Any) -> None:
        self._stream, self._fail = stream, fail
        self._decoder = getincrementaldecoder("utf-8-sig")()
        self._buffer, self._at, self.line = "", 0, 1
        self._ended = False
        self._decode(first)

    def _decode(self, data: bytes, *, final: bool = False) -> None:
        try:
            self._buffer += self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            raise self._fail("it is not UTF-8 text", self.line) from error

    def _more(self) -> bool:
        """Read as much again as an unfinished value has, so that it is not parsed too often."""
        if self._ended:
            return False
        self._buffer, self._at = self._buffer[self._at :], 0
        data = self._stream.read(max(_CHUNK, len(self._buffer)))
        self._ended = not data
        self._decode(data, final=self._ended)
        return not self._ended

    def _go(self, end: int) -> None:
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def char(self) -> str:
        """Return the next character that is no space, or nothing at the end."""
        while True:
            rest = self._at
            while rest < len(self._buffer) and self._buffer[rest] in " \t\r\n":
                rest += 1
            self._go(rest)
            if rest < len(self._buffer):
                return self._buffer[rest]
            if not self._more():
                return ""

    def step(self) -> None:
        """Pass over one character."""
        self._go(self._at + 1)

    def expect(self, char: str) -> None:
        """Pass over a character that must be there."""
        if self.char() != char:
            raise self._fail("it is not valid JSON", self.line)
        self.step()

    def value(self) -> Any:
        """Return the value that begins here."""
        self.char()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if len(self._buffer) - self._at > LONGEST:
                    raise self._fail(f"it is longer than {LONGEST >> 20} MB", self.line) from error
                if not self._more():
                    line = self.line + self._buffer.count("\n", self._at, error.pos)
                    raise self._fail("it is not valid JSON", line) from error
            except (_Refused, RecursionError, ValueError) as error:
                raise self._fail(_why(error), self.line) from error
            else:
                self._go(end)
                return value
