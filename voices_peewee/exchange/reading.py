"""In: opening what is named or given, and telling what it is."""

from __future__ import annotations

import os
import stat
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from io import BufferedReader, BytesIO, FileIO, RawIOBase
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

from voices_peewee.database.forks import is_open_here
from voices_peewee.database.server_url import as_server
from voices_peewee.errors import InputError, QueryError
from voices_peewee.exchange.sources import Records, Source, table_of_file
from voices_peewee.exchange.tables import TABLES, table_named
from voices_peewee.exchange.texts import Csv, JsonLines

AnyPath = str | os.PathLike[str]
Input = AnyPath | IO[Any] | Iterable[AnyPath] | Iterable[Mapping[str, Any]]

_STDIN: Final = "-"
_SQLITE: Final = b"SQLite format 3\0"
_GZIP: Final = b"\x1f\x8b"
_FROM_SERVER: Final = "a server is no file; use 'voices --db URL export | voices import -'"


def open_inputs(
    inputs: Input, *, table: str | None, known: Sequence[str], timeout: float
) -> list[Source]:
    """Open all inputs; where one cannot be opened, none is left open.

    Args:
        inputs: What is named or given.
        table: What their records are, where they do not say so.
        known: The migrations that another database may have.
        timeout: How long to wait for another database's lock (s).

    Raises:
        QueryError: There is no such table.
        InputError: An input is missing or unreadable.
        NotVoicesError: A database belongs to another application.
        DatabaseNewerError: A database is newer than this code.
    """
    try:
        table = None if table is None else table_named(table)
    except ValueError as error:
        raise QueryError.unknown_field(str(table), TABLES, "table") from error
    opener, opened = _Opener(table, known, timeout), list[Source]()
    try:
        for one in _listed(inputs):
            opened.append(opener.open(one))
    except BaseException:
        for source in opened:
            source.close()
        raise
    return opened


class _Opener(NamedTuple):
    """Opens inputs, with what all of them need."""

    table: str | None
    known: Sequence[str]
    timeout: float

    def open(self, one: object) -> Source:
        if one == _STDIN:
            return self._standard_input()
        if isinstance(one, str | os.PathLike):
            path = os.fspath(one)
            if server := as_server(path):
                raise InputError(server, _FROM_SERVER)
            return self._file(path)
        if hasattr(one, "read"):
            return self._stream(_binary(one), str(getattr(one, "name", "input")))
        return Records(one, self.table)  # type: ignore[arg-type] # what is left of Input

    def _standard_input(self) -> Source:
        if sys.stdin is None:
            raise InputError("standard input", "it is closed")
        try:
            return self._stream(_binary(sys.stdin), "standard input")
        except OSError as error:
            raise InputError("standard input", clause(error)) from error

    def _file(self, path: str) -> Source:
        # Before it is opened: closing it would drop the locks that this process holds on it.
        if is_open_here(path):
            raise InputError(path, "it is this database itself")
        stream = _open_file(path)
        try:
            return self._of_file(path, stream)
        except BaseException:
            stream.close()
            raise

    def _of_file(self, path: str, stream: BufferedReader) -> Source:
        head = stream.read(len(_SQLITE))
        stream.seek(0)
        if head == _SQLITE:
            from voices_peewee.exchange.databases import Database

            stream.close()
            return Database(path, known=self.known, timeout=self.timeout)
        table = self.table or table_of_file(path)
        size = os.fstat(stream.fileno()).st_size
        return _of_text(path, stream, head, table, size)

    def _stream(self, stream: BufferedReader, label: str) -> Source:
        head = stream.peek(len(_SQLITE))[: len(_SQLITE)]
        if head == _SQLITE:
            raise InputError(label, "a database cannot be read from a stream; give its path")
        return _of_text(label, stream, head, self.table, 0)


def _of_text(
    label: str, stream: BufferedReader, head: bytes, table: str | None, size: int
) -> Source:
    """Open a text: by its suffix, else JSON lines where it begins with a brace."""
    if not head:
        raise InputError(label, "it is empty")
    if head.startswith(_GZIP):
        raise InputError(label, "it is compressed; unpack it first")
    suffix = Path(label).suffix.lower()
    is_json = head.removeprefix(BOM_UTF8).lstrip()[:1] in (b"{", b"[")
    if suffix == ".csv" or (suffix != ".jsonl" and not is_json):
        return Csv(label, stream, table, size)
    return JsonLines(label, stream, table, size)


def _listed(inputs: Input) -> Iterable[object]:
    """Return the inputs one by one; mappings are the records of a single one."""
    if isinstance(inputs, str | os.PathLike) or hasattr(inputs, "read"):
        return [inputs]
    if not isinstance(inputs, Iterable):
        raise TypeError(f"an input is a path, a file or an iterable, not {inputs!r}")
    is_list = isinstance(inputs, Sequence) and len(inputs) > 0
    are_paths = is_list and all(isinstance(one, str | os.PathLike) for one in inputs)
    return inputs if are_paths else [inputs]


def _binary(stream: Any) -> BufferedReader:
    """Return a stream of bytes that can be looked into."""
    stream = getattr(stream, "buffer", stream)
    if hasattr(stream, "peek"):
        return cast("BufferedReader", stream)
    data = stream.read()
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return BufferedReader(cast("RawIOBase", BytesIO(text)))


def _open_file(path: str) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        InputError: It cannot be read, or is something else.
    """
    try:
        # Without O_NONBLOCK a named pipe that nobody writes to would block for ever.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise InputError(path, clause(error)) from error
    mode = os.fstat(file).st_mode
    if not stat.S_ISREG(mode):
        os.close(file)
        reason = "a folder; name its files" if stat.S_ISDIR(mode) else "no file; use '-' for a pipe"
        raise InputError(path, f"it is {reason}")
    return BufferedReader(FileIO(file), 1 << 17)


def clause(error: OSError | ValueError) -> str:
    """Say in one clause why the system did not give us a file."""
    if isinstance(error, ValueError):
        return "no file can have this name"
    return (error.strerror or str(error)).lower()
