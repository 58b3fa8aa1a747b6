"""In: opening what is named or given, and telling what it is."""

from __future__ import annotations

import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any, Final, cast

from voices_peewee.database.files import as_server, spool, spooled
from voices_peewee.database.store import Store
from voices_peewee.errors import InputError, QueryError
from voices_peewee.exchange.sources import Csv, JsonLines, Records, Source
from voices_peewee.exchange.tables import TABLE_OF, TABLES, table_named
from voices_peewee.exchange.texts import clause, open_file

AnyPath = str | os.PathLike[str]
Input = AnyPath | IO[Any] | Iterable[AnyPath] | Iterable[Mapping[str, Any]]

_STDIN: Final = "-"
_SQLITE: Final = b"SQLite format 3\0"
_FROM_SERVER: Final = "a server is no file; use 'voices --db URL export | voices import -'"


def open_inputs(inputs: Input, table: str | None, store: Store, opened: ExitStack) -> list[Source]:
    """Open all inputs.

    Args:
        inputs: What is named or given.
        table: What their records are, where they do not say so.
        store: The database that they go to.
        opened: Closes them.

    Raises:
        QueryError: There is no such table.
        InputError: An input is missing or unreadable.
        NotVoicesError: A database belongs to another application.
        DatabaseNewerError: A database is newer than this code.
    """
    try:
        named = None if table is None else table_named(table)
    except ValueError as error:
        raise QueryError.unknown_field(str(table), TABLES, "table") from error
    sources: list[Source] = []
    for one in _listed(inputs):
        for path in spooled(_place(store))[0] if _is_spool(one) else [None]:
            sources.append(_open(path or one, named, store))
            opened.callback(sources[-1].close)
            sources[-1].kept = path
    return sources


def left_in_spool(inputs: Input, store: Store) -> list[str]:
    """Say which of the runs that servers did not take are those of other records."""
    if not any(map(_is_spool, _listed(inputs))):
        return []
    _, others = spooled(_place(store))
    return [
        f"kept runs that are left, of {server}: {count}" for server, count in sorted(others.items())
    ]


def _place(store: Store) -> str | None:
    return None if store.server is None else store.server.place


def _listed(inputs: Input) -> Iterable[Any]:
    """Return the inputs one by one; mappings are the records of a single one."""
    if isinstance(inputs, str | os.PathLike):
        return [inputs]
    if not isinstance(inputs, Iterable):
        raise TypeError(f"an input is a path, a file or an iterable, not {inputs!r}")
    is_list = isinstance(inputs, Sequence) and len(inputs) > 0
    are_paths = is_list and all(isinstance(one, str | os.PathLike) for one in inputs)
    return inputs if are_paths else [inputs]


def _is_spool(one: object) -> bool:
    """Whether the folder is named that holds the runs that a server did not take."""
    return isinstance(one, str | os.PathLike) and Path(one).absolute() == spool()


def _open(one: Any, table: str | None, store: Store) -> Source:
    if one == _STDIN:
        return _stream(sys.stdin, "standard input", table)
    if isinstance(one, str | os.PathLike):
        return _file(os.fspath(one), table, store)
    if hasattr(one, "read"):
        return _stream(one, str(getattr(one, "name", "input")), table)
    return Records(one, table)


def _file(path: str, table: str | None, store: Store) -> Source:
    if server := as_server(path):
        raise InputError(server, _FROM_SERVER)
    stream = open_file(path)
    try:
        if _head(stream) != _SQLITE:
            size = os.fstat(stream.fileno()).st_size
            named = TABLE_OF.get(Path(path).name.partition(".")[0])
            return _of_text(path, stream, table or named, size)
    except BaseException:
        stream.close()
        raise
    stream.close()
    from voices_peewee.exchange.databases import Database

    return Database(path, store)


def _stream(given: Any, label: str, table: str | None) -> Source:
    if given is None:
        raise InputError(label, "it is closed")
    try:
        stream = _binary(given)
        is_database = _head(stream) == _SQLITE
    except OSError as error:
        raise InputError(label, clause(error)) from error
    if is_database:
        raise InputError(label, "a database cannot be read from a stream; give its path")
    return _of_text(label, stream, table, 0)


def _of_text(label: str, stream: BufferedReader, table: str | None, size: int) -> Source:
    """Open a text: by its suffix, else JSON lines where it begins with a brace."""
    head = _head(stream)
    if not head:
        raise InputError(label, "it is empty")
    suffix = Path(label).suffix.lower()
    is_json = head.removeprefix(BOM_UTF8).lstrip()[:1] in (b"{", b"[")
    is_csv = suffix == ".csv" or (suffix != ".jsonl" and not is_json)
    return (Csv if is_csv else JsonLines)(label, stream, table, size)


def _head(stream: BufferedReader) -> bytes:
    return stream.peek(len(_SQLITE))[: len(_SQLITE)]


def _binary(stream: Any) -> BufferedReader:
    """Return a stream of bytes that can be looked into."""
    stream = getattr(stream, "buffer", stream)
    if hasattr(stream, "peek"):
        return cast("BufferedReader", stream)
    data = stream.read()
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return BufferedReader(BytesIO(text))
