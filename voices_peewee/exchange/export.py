"""Out: the tables of the record as JSON lines, JSON, CSV, Parquet or a database of their own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from voices_peewee.database.store import Store, kind_of
from voices_peewee.errors import ExportError, NotFoundError, QueryError
from voices_peewee.exchange import export_files
from voices_peewee.exchange.export_rows import (
    Row,
    Table,
    around,
    batches,
    converted,
    count,
    find_tables,
    one_moment,
    readers,
    with_parents,
)
from voices_peewee.rendering.json_csv import csv_lines, harmless
from voices_peewee.schema.fields import dump_json
from voices_peewee.upkeep.places import file_errors

if TYPE_CHECKING:
    from voices_peewee.schema.models import BaseModel

Progress = Callable[[int, int], None]
Target = str | os.PathLike[str] | BinaryIO
STDOUT: Final = "-"
Batches = Callable[[Table], Iterator[list[Row]]]

FORMATS: Final = ("jsonl", "json", "csv", "parquet", "sqlite")
_SUFFIXES: Final = {
    "jsonl": "jsonl",
    "json": "json",
    "csv": "csv",
    "parquet": "parquet",
    "db": "sqlite",
    "sqlite": "sqlite",
    "sqlite3": "sqlite",
}
_SINGLE: Final = ("csv", "parquet")  # what holds one table a file
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class Exported(NamedTuple):
    """What an export wrote: the rows of each table, and the files (none for a stream)."""

    rows: dict[str, int]
    paths: tuple[Path, ...]


def export(
    store: Store,
    target: Target,
    tables: str | Iterable[str] | None = None,
    *,
    format: str | None = None,  # noqa: A002 - what the option is called
    overwrite: bool = False,
    raw: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write tables as they are at one moment, while others write; return what was written.

    The rows are read and written some at a time, by id. Files appear when they are whole.

    Args:
        target: A file, a folder (one file a table; a path that ends with ``/`` is made), a
            binary stream, or ``-``, the standard output.
        tables: Names of tables or lists (``speakers``, ``files``, ...); None is all four.
        format: One of ``FORMATS``; None is told by the suffix, and ``jsonl`` where there is none.
            ``sqlite`` also has the tables that the rows of the others refer to.
        overwrite: Replace files that are there.
        raw: CSV texts as stored, also what a spreadsheet or a terminal would obey.
        progress: Called with (rows done, rows in all); what it raises cancels the export.

    Raises:
        QueryError: A table or format is unknown, or the target cannot hold what is asked for.
        ExportError: A file is there, or the folder is missing or refuses writes.
        ExportError: A value does not fit into Parquet's type for its column.
        MissingExtraError: pyarrow is not installed.
        DatabaseFullError: The disk is full.
    """
    job = _Job(store, target, find_tables(tables), format, raw=raw, progress=progress)
    return job.run(overwrite=overwrite)


def export_and_delete(
    store: Store, instance: BaseModel, target: str | os.PathLike[str]
) -> Exported:
    """Write a record and what its deletion takes along or changes, then delete it, or neither."""
    suffix = Path(target).suffix[1:].lower()
    if target == STDOUT or _SUFFIXES.get(suffix, "jsonl") != "jsonl":
        reason = "what is deleted is written as JSON lines, to a file that ends with .jsonl"
        raise ExportError(target, reason)
    with store.writing():
        if instance.id is None or store.get(type(instance), instance.id) is None:
            raise NotFoundError(kind_of(instance), instance.id)
        job = _Job(store, target, around(instance), "jsonl")
        return job.run(afterwards=lambda: store.delete(instance))


class _Job:
    """One export, checked before anything is opened."""

    def __init__(
        self,
        store: Store,
        target: Target,
        chosen: list[Table],
        form: str | None,
        *,
        raw: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.store, self.raw, self.progress = store, raw, progress
        if target == STDOUT:
            target = _standard_output()
        self.place = export_files.find(target) if isinstance(target, str | os.PathLike) else None
        self.stream = None if isinstance(target, str | os.PathLike) else target
        self.tables = chosen
        self.form = _form(form, self.place)
        if self.form == "sqlite":
            self.tables = with_parents(self.tables)
        self._refuse()
        self.rows = dict.fromkeys((table.name for table in self.tables), 0)
        self.total = 0

    def _refuse(self) -> None:
        if not self.tables:
            raise QueryError("name a table, or leave them out for all")
        if self.form == "sqlite" and self.place is None:
            raise QueryError("a database cannot be written to a stream; name a file")
        is_one = self.place is None or not self.place.is_folder
        if self.form in _SINGLE and len(self.tables) > 1 and is_one:
            raise QueryError(f"{self.form} holds one table a file; name one table, or a folder")

    def run(
        self, *, overwrite: bool = False, afterwards: Callable[[], None] = lambda: None
    ) -> Exported:
        """Write what was asked for; nothing gets its name if what follows fails."""
        write = _writer(self.form, raw=self.raw)
        if self.place is None:
            with one_moment(self.store):
                self._count()
                write(self.stream, self.tables, self._batches)  # type: ignore[arg-type] # no place
                afterwards()
            return Exported(self.rows, ())
        groups = self._groups(self.place)
        names = [name for name, _ in groups]
        where = export_files.targets_of(self.place, names)
        with (
            export_files.writing(
                self.place, names, database=self.store.label, overwrite=overwrite
            ) as partials,
            one_moment(self.store),
        ):
            self._count()
            for partial, target, (_, group) in zip(partials, where, groups, strict=True):
                self._write(write, partial, target, group)
            afterwards()
        return Exported(self.rows, tuple(where))

    def _groups(self, place: export_files.Place) -> list[tuple[str, list[Table]]]:
        """Return the files to write, by name, each with its tables."""
        if not place.is_folder:
            return [(place.path.name, self.tables)]
        if self.form == "sqlite":
            return [("voices.db", self.tables)]
        return [(f"{table.name}.{self.form}", [table]) for table in self.tables]

    def _write(self, write: Writer, partial: Path, target: Path, group: list[Table]) -> None:
        with file_errors(ExportError, target):
            if self.form == "sqlite":
                from voices_peewee.exchange.export_sqlite import write_sqlite

                write_sqlite(partial, target, group, self._batches, self.store)
                return
            with partial.open("wb") as file:
                write(file, group, self._batches)

    def _count(self) -> None:
        if self.progress is not None:
            self.total = sum(count(self.store, table) for table in self.tables)

    def _batches(self, table: Table, **options: Any) -> Iterator[list[Row]]:
        for rows in batches(self.store, table, **options):
            yield rows
            self.rows[table.name] += len(rows)
            if self.progress is not None:
                self.progress(sum(self.rows.values()), self.total)


Writer = Callable[[BinaryIO, Sequence[Table], Batches], None]


def _standard_output() -> BinaryIO:
    """Return the standard output as a binary stream, after what was printed so far."""
    stream: BinaryIO | None = getattr(sys.stdout, "buffer", None)
    if stream is None:
        raise ExportError(STDOUT, "the standard output takes no bytes; name a file")
    sys.stdout.flush()
    return stream


def _form(form: str | None, place: export_files.Place | None) -> str:
    """Return the format that is asked for, or that the name of a file tells."""
    if form is not None:
        if form not in FORMATS:
            raise QueryError.unknown_field(form, FORMATS, "format")
        return form
    suffix = "" if place is None or place.is_folder else place.path.suffix
    if not suffix:
        return "jsonl"
    if suffix[1:].lower() not in _SUFFIXES:
        raise QueryError(
            f"no format has the suffix {suffix!r}; name one of them: {', '.join(FORMATS)}"
        )
    return _SUFFIXES[suffix[1:].lower()]


def _writer(form: str, *, raw: bool) -> Writer:
    if form == "parquet":
        from voices_peewee.exchange.export_parquet import write_parquet

        return write_parquet
    if form == "csv":
        return lambda stream, group, rows: _write_csv(stream, group, rows, raw=raw)
    return _write_json if form == "json" else _write_jsonl


def _write_jsonl(stream: BinaryIO, group: Sequence[Table], rows: Batches) -> None:
    """Write an object a line; of several tables the last line says how many rows there are."""
    counts = {}
    for table in group:
        counts[table.name] = 0
        before = f'{{"table": {_ENCODE(table.name)}, '
        for lines in _objects(table, rows):
            counts[table.name] += len(lines)
            stream.write("".join([f"{before}{line[1:]}\n" for line in lines]).encode())
    if len(group) > 1:
        stream.write(f"{_ENCODE({'table': 'end', 'rows': counts})}\n".encode())


def _write_json(stream: BinaryIO, group: Sequence[Table], rows: Batches) -> None:
    """Write an array of a table's rows, or an object with an array for each of several."""
    if len(group) == 1:
        _write_array(stream, group[0], rows)
        stream.write(b"\n")
        return
    before = "{\n"
    for table in group:
        stream.write(f"{before}{_ENCODE(table.name)}: ".encode())
        _write_array(stream, table, rows)
        before = ",\n"
    stream.write(b"\n}\n")


def _write_array(stream: BinaryIO, table: Table, rows: Batches) -> None:
    before = "[\n"
    for lines in _objects(table, rows):
        stream.write((before + ",\n".join(lines)).encode())
        before = ",\n"
    stream.write(b"[]" if before == "[\n" else b"\n]")


def _objects(table: Table, rows: Batches) -> Iterator[list[str]]:
    """Yield the rows of a table as JSON objects, some at a time."""
    names, read = table.columns, readers(table)
    for batch in rows(table):
        yield [_object(dict(zip(names, values, strict=True))) for values in converted(batch, read)]


def _object(record: Mapping[str, object]) -> str:
    try:
        return harmless(_ENCODE(record))
    except (TypeError, ValueError):  # what only another program can have stored
        return dump_json({name: _text_or_value(value) for name, value in record.items()})


def _text_or_value(value: object) -> object:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _write_csv(stream: BinaryIO, group: Sequence[Table], rows: Batches, *, raw: bool) -> None:
    (table,) = group
    read = readers(table)
    every = (values for batch in rows(table) for values in converted(batch, read))
    for line in csv_lines(table.columns, every, raw=raw):
        # A path that is no text gets its bytes back; nothing else of a database is none.
        stream.write(line.encode("utf-8", "surrogateescape"))
