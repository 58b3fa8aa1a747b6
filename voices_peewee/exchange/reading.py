"""In: opening what is named or given, and telling what it is."""

from __future__ import annotations

import os
import stat
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

from voices_peewee.database.files import as_server, spool, spooled
from voices_peewee.database.sqlite import is_open_here
from voices_peewee.database.store import Store
from voices_peewee.errors import InputError, QueryError
from voices_peewee.exchange.sources import Csv, JsonLines, Records, Source, table_of_file
from voices_peewee.exchange.tables import TABLES, table_named

AnyPath = str | os.PathLike[str]
Input = AnyPath | IO[Any] | Iterable[AnyPath] | Iterable[Mapping[str, Any]]

_STDIN: Final = "-"
_SQLITE: Final = b"SQLite format 3\0"
_FROM_SERVER: Final = "a server is no file; use 'voices --db URL export | voices import -'"


def open_inputs(inputs: Input, table: str | None, store: Store) -> list[Source]:
    """Open all inputs; where one cannot be opened, none is left open.

    Args:
        inputs: What is named or given.
        table: What their records are, where they do not say so.
        store: The database that they go to.

    Raises:
        QueryError: There is no such table.
        InputError: An input is missing or unreadable.
        NotVoicesError: A database belongs to another application.
        DatabaseNewerError: A database is newer than this code.
    """
    try:
        opener = _Opener(None if table is None else table_named(table), store)
    except ValueError as error:
        raise QueryError.unknown_field(str(table), TABLES, "table") from error
    opened: list[Source] = []
    try:
        for one in _listed(inputs):
            opened.extend(map(opener.kept, spooled()) if _is_spool(one) else [opener.open(one)])
    except BaseException:
        for source in opened:
            source.close()
        raise
    return opened


class _Opener(NamedTuple):
    """Opens inputs, with what all of them need."""

    table: str | None
    store: Store

    def open(self, one: object) -> Source:
        if one == _STDIN:
            return self._standard_input()
        if isinstance(one, str | os.PathLike):
            return self._file(os.fspath(one))
        if hasattr(one, "read"):
            return self._stream(_binary(one), str(getattr(one, "name", "input")))
        return Records(one, self.table)  # type: ignore[arg-type] # what is left of Input

    def kept(self, path: Path) -> Source:
        source = self._file(str(path))
        source.kept = path
        return source

    def _standard_input(self) -> Source:
        if sys.stdin is None:
            raise InputError("standard input", "it is closed")
        try:
            return self._stream(_binary(sys.stdin), "standard input")
        except OSError as error:
            raise InputError("standard input", clause(error)) from error

    def _file(self, path: str) -> Source:
        if server := as_server(path):
            raise InputError(server, _FROM_SERVER)
        stream = open_file(path)
        try:
            if _head(stream) != _SQLITE:
                size = os.fstat(stream.fileno()).st_size
                return _of_text(path, stream, self.table or table_of_file(path), size)
        except BaseException:
            stream.close()
            raise
        stream.close()
        from voices_peewee.exchange.databases import Database

        return Database(path, self.store)

    def _stream(self, stream: BufferedReader, label: str) -> Source:
        if _head(stream) == _SQLITE:
            raise InputError(label, "a database cannot be read from a stream; give its path")
        return _of_text(label, stream, self.table, 0)


def _of_text(label: str, stream: BufferedReader, table: str | None, size: int) -> Source:
    """Open a text: by its suffix, else JSON lines where it begins with a brace."""
    head = _head(stream)
    if not head:
        raise InputError(label, "it is empty")
    suffix = Path(label).suffix.lower()
    is_json = head.removeprefix(BOM_UTF8).lstrip()[:1] in (b"{", b"[")
    if suffix == ".csv" or (suffix != ".jsonl" and not is_json):
        return Csv(label, stream, table, size)
    return JsonLines(label, stream, table, size)


def _head(stream: BufferedReader) -> bytes:
    return stream.peek(len(_SQLITE))[: len(_SQLITE)]


def _listed(inputs: Input) -> Iterable[object]:
    """Return the inputs one by one; mappings are the records of a single one."""
    if isinstance(inputs, str | os.PathLike) or hasattr(inputs, "read"):
        return [inputs]
    if not isinstance(inputs, Iterable):
        raise TypeError(f"an input is a path, a file or an iterable, not {inputs!r}")
    is_list = isinstance(inputs, Sequence) and len(inputs) > 0
    are_paths = is_list and all(isinstance(one, str | os.PathLike) for one in inputs)
    return inputs if are_paths else [inputs]


def _is_spool(one: object) -> bool:
    """Whether the folder is named that holds the runs that a server did not take."""
    return isinstance(one, str | os.PathLike) and Path(one).absolute() == spool()


def _binary(stream: Any) -> BufferedReader:
    """Return a stream of bytes that can be looked into."""
    stream = getattr(stream, "buffer", stream)
    if hasattr(stream, "peek"):
        return cast("BufferedReader", stream)
    data = stream.read()
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return BufferedReader(BytesIO(text))


def open_file(path: str) -> BufferedReader:
    """Open a regular file.

    Raises:
        InputError: It is missing, unreadable, no regular file, or open as a database.
    """
    # Closing it would drop the locks that this process holds on it.
    if is_open_here(path):
        raise InputError(path, "it is this database itself")
    try:
        # Looked at first: opening a named pipe that nobody writes to would block for ever.
        if stat.S_ISREG(Path(path).stat().st_mode):
            return open(path, "rb")  # noqa: PTH123
    except (OSError, ValueError) as error:
        raise InputError(path, clause(error)) from error
    raise InputError(path, "it is no file; name files, or use '-' for a pipe")


def clause(error: OSError | ValueError) -> str:
    """Say in one clause why the system did not give us a file."""
    if isinstance(error, ValueError):
        return "no file can have this name"
    return (error.strerror or str(error)).lower()
