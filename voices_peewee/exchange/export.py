"""Out: the record as JSON lines, or a table of it as CSV, as it is at one moment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from voices_peewee.database.files import as_server
from voices_peewee.database.sqlite import is_open_here
from voices_peewee.database.store import Store
from voices_peewee.errors import ExportError, QueryError
from voices_peewee.exchange.tables import Table, chosen
from voices_peewee.rendering.json_csv import csv_lines, harmless
from voices_peewee.schema.fields import dump_json
from voices_peewee.upkeep.whole_files import file_errors, whole_file

Progress = Callable[[int, int], None]
Target = str | os.PathLike[str] | BinaryIO

STDOUT: Final = "-"
FORMATS: Final = ("jsonl", "csv")
_TO_SERVER: Final = "a server is no file; use 'voices export | voices --db URL import -'"
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class Exported(NamedTuple):
    """What an export wrote: the rows of each table, and the file (none for a stream)."""

    rows: dict[str, int]
    path: Path | None


def export(
    store: Store,
    target: Target,
    tables: str | Iterable[str] | None,
    *,
    form: str | None,
    overwrite: bool,
    progress: Progress | None,
) -> Exported:
    """Write tables as they are at one moment; see ``ExchangeMethods.export``."""
    form, parts = _form(form, target), chosen(store, tables)
    if not parts:
        raise QueryError("name a table, or leave them out for all")
    if form == "csv" and len({part.name for part in parts}) > 1:
        raise QueryError("csv holds one table; name one")
    job = _Job(store, parts, progress)
    write = job.write_csv if form == "csv" else job.write_lines
    return job.run(target, write, overwrite=overwrite)


def export_first(
    store: Store, parts: Sequence[Table], target: Target, delete: Callable[[], None]
) -> Exported:
    """Write what goes to a new file and delete it, in one transaction, or neither."""
    if target == STDOUT or _suffix(target) not in ("", ".jsonl"):
        reason = "what is deleted is written as JSON lines, to a file that ends with .jsonl"
        raise ExportError(target, reason)
    job = _Job(store, parts, None)

    def write_and_delete(stream: BinaryIO) -> None:
        job.write_lines(stream)
        delete()

    with store.writing():
        return job.run(target, write_and_delete)


class _Job:
    """One export: tables in order, and how many rows of each are written."""

    def __init__(self, store: Store, parts: Sequence[Table], progress: Progress | None) -> None:
        self._store, self._parts, self._progress = store, parts, progress
        self._rows = dict.fromkeys((part.name for part in parts), 0)
        self._total = 0

    def run(
        self, target: Target, write: Callable[[BinaryIO], None], *, overwrite: bool | None = None
    ) -> Exported:
        """Write to a stream, or to a file that appears when it is whole.

        ``overwrite`` is None where nobody can ask for it.
        """
        if target == STDOUT:
            target = _standard_output()
        if not isinstance(target, str | os.PathLike):
            self._run(target, write)
            return Exported(self._rows, None)
        path = _place(target)
        with (
            file_errors(ExportError, path, replaces=overwrite is not None),
            whole_file(path, overwrite=bool(overwrite)) as partial,
            partial.open("wb") as stream,
        ):
            self._run(stream, write)
        return Exported(self._rows, path)

    def _run(self, stream: BinaryIO, write: Callable[[BinaryIO], None]) -> None:
        with self._store.snapshot():
            if self._progress is not None:
                self._total = sum(part.count(self._store) for part in self._parts)
            write(stream)

    def write_lines(self, stream: BinaryIO) -> None:
        """Write an object a line; of several tables the last line tells the rows of each."""
        for part in self._parts:
            before = f'{{"table": {_ENCODE(part.name)}, '
            for batch in self._batches(part):
                rows = [_object(dict(zip(part.columns, row, strict=True))) for row in batch]
                stream.write("".join([f"{before}{row[1:]}\n" for row in rows]).encode())
        if len(self._rows) > 1:
            stream.write(f"{_ENCODE({'table': 'end', 'rows': self._rows})}\n".encode())

    def write_csv(self, stream: BinaryIO) -> None:
        """Write a heading and the rows of one table."""
        every = (row for part in self._parts for batch in self._batches(part) for row in batch)
        for line in csv_lines(self._parts[0].columns, every, is_shown=stream.isatty()):
            # A path that is no text gets its bytes back; nothing else of a database is none.
            stream.write(line.encode("utf-8", "surrogateescape"))

    def _batches(self, part: Table) -> Iterator[list[list[Any]]]:
        for rows in part.batches(self._store):
            yield rows
            self._rows[part.name] += len(rows)
            if self._progress is not None:
                self._progress(sum(self._rows.values()), self._total)


def _object(record: Mapping[str, object]) -> str:
    try:
        return harmless(_ENCODE(record))
    except (TypeError, ValueError):  # what only another program can have stored
        return dump_json({name: _text_or_value(value) for name, value in record.items()})


def _text_or_value(value: object) -> object:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _standard_output() -> BinaryIO:
    """Return the standard output as a binary stream, after what was printed so far."""
    stream: BinaryIO | None = getattr(sys.stdout, "buffer", None)
    if stream is None:
        raise ExportError(STDOUT, "the standard output takes no bytes; name a file")
    sys.stdout.flush()
    return stream


def _suffix(target: Target) -> str:
    """Return the suffix of a file's name; a stream has none."""
    return Path(target).suffix.lower() if isinstance(target, str | os.PathLike) else ""


def _form(form: str | None, target: Target) -> str:
    """Return the format: as it is named, else as the suffix says, else JSON lines."""
    suffix = _suffix(target)
    if form is not None and form not in FORMATS:
        raise QueryError.unknown_field(form, FORMATS, "format")
    if form is None and suffix[1:] not in ("", *FORMATS):
        raise QueryError(f"no format has the suffix {suffix!r}; use .jsonl or .csv")
    return form or suffix[1:] or "jsonl"


def _place(target: str | os.PathLike[str]) -> Path:
    """Return where a file goes.

    Raises:
        ExportError: It cannot go there.
    """
    name = os.fspath(target)
    if not name or "\0" in name:
        raise ExportError(name, "a path must be a text without NUL, and not empty")
    if server := as_server(name):
        raise ExportError(server, _TO_SERVER)
    path = Path(os.path.abspath(name))
    if is_open_here(path):
        raise ExportError(path, "it belongs to the database")
    if name.endswith("/") or (path.exists() and not path.is_file()):
        raise ExportError(path, "it is not a regular file")
    return path
