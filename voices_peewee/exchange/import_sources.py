"""Which inputs there are: what their formats are, and which belong together."""

from __future__ import annotations

import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Final

from voices_peewee.database.server_url import as_server
from voices_peewee.errors import InputError, QueryError
from voices_peewee.exchange.import_csv import Csv
from voices_peewee.exchange.import_json import LONGEST, JsonDocument, JsonLines, parse
from voices_peewee.exchange.import_source import (
    TABLES,
    Bytes,
    Records,
    Source,
    open_file,
    table_named,
    table_of_file,
)

AnyPath = str | os.PathLike[str]
Input = AnyPath | IO[Any] | Iterable[AnyPath] | Iterable[Mapping[str, Any]]

STDIN: Final = "-"
_STDIN_LABEL: Final = "standard input"
_FROM_SERVER: Final = "a server is no file; use 'voices --db URL export | voices import -'"
_SQLITE: Final = b"SQLite format 3\0"
_PARQUET: Final = b"PAR1"
_GZIP: Final = b"\x1f\x8b"
_LINES: Final = (".jsonl", ".ndjson")
_SUFFIXES: Final = (*_LINES, ".json", ".csv", ".tsv", ".parquet")


class Opener:
    """Opens inputs.

    Args:
        table: What their records are, where they do not say so.
        known: The migrations that another database may have.
        timeout: How long to wait for another database's lock (s).
        own: The path of the database that is imported into.

    Raises:
        QueryError: There is no such table.
    """

    def __init__(
        self, *, table: str | None, known: Sequence[str], timeout: float, own: str
    ) -> None:
        try:
            self._table = None if table is None else table_named(table)
        except ValueError as error:
            raise QueryError.unknown_field(str(table), TABLES, "table") from error
        self._known, self._timeout, self._own = known, timeout, own

    def open(self, inputs: Input) -> list[Source]:
        """Open all inputs; where one cannot be opened, none is left open.

        Raises:
            InputError: One is missing, unreadable or of no known format.
            NotVoicesError: A database belongs to another application.
            DatabaseNewerError: A database is newer than this code.
        """
        opened: list[Source] = []
        try:
            for one in _listed(inputs):
                opened.extend(self._open(one))
        except BaseException:
            for source in opened:
                source.close()
            raise
        return opened

    def _open(self, one: object) -> Iterator[Source]:
        if isinstance(one, str | os.PathLike):
            path = os.fspath(one)
            if path == STDIN:
                yield self._standard_input()
            elif server := as_server(path):
                raise InputError(server, _FROM_SERVER)
            elif os.path.isdir(path):  # noqa: PTH112 - a Path raises for a name that is too long
                yield from map(self._file, _files_in(path))
            else:
                yield self._file(path)
        elif hasattr(one, "read"):
            yield self._stream(_binary(one), str(getattr(one, "name", "input")))
        else:
            yield Records(one, self._table)  # type: ignore[arg-type] # what is left of Input

    def _standard_input(self) -> Source:
        if sys.stdin is None:
            raise InputError(_STDIN_LABEL, "it is closed")
        try:
            return self._stream(_binary(sys.stdin), _STDIN_LABEL)
        except OSError as error:
            raise InputError(_STDIN_LABEL, f"the system says {error.strerror!r}") from error

    def _file(self, path: str) -> Source:
        # Before it is opened: closing it would drop the locks that this process holds on it.
        if os.path.lexists(self._own) and _is_same_file(path, self._own):
            raise InputError(path, "it is this database itself")
        stream = open_file(path)
        try:
            return self._of_file(path, stream)
        except BaseException:
            stream.close()
            raise

    def _of_file(self, path: str, stream: BufferedReader) -> Source:
        head = stream.read(len(_SQLITE))
        stream.seek(0)
        if head == _SQLITE:
            from voices_peewee.exchange.import_sqlite import Database

            stream.close()
            return Database(path, known=self._known, timeout=self._timeout)
        table = self._table or table_of_file(path)
        if head.startswith(_PARQUET):
            from voices_peewee.exchange.import_parquet import Parquet

            stream.close()
            return Parquet(path, table=table)
        if not head:
            raise InputError(path, "it is empty")
        if head.startswith(_GZIP):
            raise InputError(path, "it is compressed; unpack it first")
        size = os.fstat(stream.fileno()).st_size
        suffix = Path(path).suffix.lower()
        if suffix in (".csv", ".tsv"):
            return Csv(path, stream, table=table, size=size)
        if suffix in _LINES:
            return JsonLines(path, stream, table=table, size=size)
        return self._text(path, stream, head, table=table, size=size)

    def _stream(self, stream: BufferedReader, label: str) -> Source:
        head = stream.peek(len(_SQLITE))[: len(_SQLITE)]
        if head.startswith((_SQLITE, _PARQUET)):
            kind = "a database" if head.startswith(_SQLITE) else "a Parquet file"
            raise InputError(label, f"{kind} cannot be read from a stream; give its path")
        if not head:
            raise InputError(label, "it is empty")
        return self._text(label, stream, head, table=self._table, size=0)

    def _text(
        self, label: str, stream: BufferedReader, head: bytes, *, table: str | None, size: int
    ) -> Source:
        """Tell JSON, JSON lines and CSV apart by how they begin."""
        begin = head.removeprefix(BOM_UTF8).lstrip()[:1]
        if begin == b"[":
            return JsonDocument(label, stream, table=table, size=size)
        if begin != b"{":
            return Csv(label, stream, table=table, size=size)
        first = stream.readline(LONGEST)
        make = JsonLines if _is_record(first) else JsonDocument
        if size:
            stream.seek(0)
            return make(label, stream, table=table, size=size)
        return make(label, stream, table=table, first=first)


def _is_same_file(path: str, own: str) -> bool:
    try:
        return os.path.samefile(path, own)  # noqa: PTH121
    except (OSError, ValueError):
        return False


def _is_record(line: bytes) -> bool:
    """Whether a line is a record and neither the beginning nor the whole of a document."""
    try:
        value = parse(line.removeprefix(BOM_UTF8).decode())
    except ValueError:
        return False
    return not (
        value and all(isinstance(rows, list) and key in TABLES for key, rows in value.items())
    )


def _listed(inputs: Input) -> Iterable[object]:
    """Return the inputs one by one; mappings are the records of a single one."""
    if isinstance(inputs, str | os.PathLike) or hasattr(inputs, "read"):
        return [inputs]
    if not isinstance(inputs, Iterable):
        raise TypeError(f"an input is a path, a file or an iterable, not {inputs!r}")
    if (
        isinstance(inputs, Sequence)
        and inputs
        and all(isinstance(one, str | os.PathLike) for one in inputs)
    ):
        return inputs
    return [inputs]


def _files_in(folder: str) -> list[str]:
    """Return the files of a folder that are named after tables."""
    found = [
        str(path)
        for path in sorted(Path(folder).iterdir())
        if path.suffix.lower() in _SUFFIXES and table_of_file(path.name)
    ]
    if not found:
        raise InputError(folder, "it is a directory without files named after tables")
    return found


def _binary(stream: Any) -> BufferedReader:
    """Return a stream of bytes that can be looked into."""
    return BufferedReader(Bytes(getattr(stream, "buffer", stream)), 1 << 16)


def groups(sources: Sequence[Source]) -> list[list[Source]]:
    """Return which sources share their ids, parents first.

    A database or a whole export stands for itself; files of one table each belong together
    where they lie in one folder.
    """
    found: dict[object, list[Source]] = {}
    for number, source in enumerate(sources):
        found.setdefault(number if source.tables else source.folder, []).append(source)
    order = {table: place for place, table in enumerate(TABLES)}
    return [sorted(group, key=lambda one: order.get(one.table, -1)) for group in found.values()]
