"""The rows of an export: which tables, in which order, read as one moment of the database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.database.mapper import reader as value_reader
from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.schema.fields import JSONField, UTCDateTimeField
from voices_peewee.schema.models import (
    MODELS,
    BaseModel,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)

Model = type[BaseModel]
Row = Sequence[Any]
Only = Mapping[Model, pw.ColumnBase]

_BATCH: Final = 500  # rows, the most that are held at once
_NOUNS: Final = {
    "speakers": Speaker,
    "files": ProcessedFile,
    "history": ProcessingHistory,
    "performance": ModelPerformance,
}
_TABLES: Final[Mapping[str, Model]] = {model._meta.table_name: model for model in MODELS} | _NOUNS
# Each table's rows refer to the one before it.
_LINKS: Final[Mapping[Model, Any]] = {
    ProcessedFile: ProcessedFile.speaker,
    ProcessingHistory: ProcessingHistory.processed_file,
    ModelPerformance: ModelPerformance.processing_history,
}


class Table(NamedTuple):
    """A table of an export; ``only`` says which of its rows, None is all."""

    model: Model
    only: pw.ColumnBase | None = None

    @property
    def name(self) -> str:
        """The name in the database."""
        return str(self.model._meta.table_name)

    @property
    def fields(self) -> list[pw.Field]:
        """The fields in the order of the schema."""
        return list(self.model._meta.sorted_fields)

    @property
    def columns(self) -> list[str]:
        """The names of the columns in the order of the schema."""
        return [str(field.column_name) for field in self.fields]


def find_tables(names: str | Iterable[str] | None) -> list[Table]:
    """Return tables by name or by the noun of their list, parents first; None is all.

    Raises:
        QueryError: One is unknown.
    """
    names = [names] if isinstance(names, str) else names
    chosen = set(MODELS) if names is None else {_model(name) for name in names}
    return [Table(model) for model in MODELS if model in chosen]


def _model(name: str) -> Model:
    if name not in _TABLES:
        raise QueryError.unknown_field(name, _TABLES, "table")
    return _TABLES[name]


def with_parents(chosen: Sequence[Table]) -> list[Table]:
    """Return the tables with those that their rows refer to."""
    last = max((MODELS.index(table.model) for table in chosen), default=-1)
    return [Table(model) for model in MODELS[: last + 1]]


def around(instance: BaseModel) -> list[Table]:
    """Return what a deletion takes along or changes, with the rows that this refers to."""
    model = type(instance)
    only: dict[Model, Any] = {model: model.id == instance.id}
    place = MODELS.index(model)
    for child, parent in zip(MODELS[place:0:-1], MODELS[place - 1 :: -1], strict=False):
        only[parent] = parent.id.in_(child.select(_LINKS[child]).where(only[child]))
    # A speaker's files stay, and so do their runs.
    last = 2 if model is Speaker else len(MODELS)
    for parent, child in zip(MODELS[place : last - 1], MODELS[place + 1 : last], strict=True):
        only[child] = _LINKS[child].in_(parent.select(parent.id).where(only[parent]))
    return [Table(model, only[model]) for model in MODELS if model in only]


@contextmanager
def one_moment(store: Store) -> Iterator[None]:
    """Read everything inside as the database is at one moment, while others write."""
    database = store.database
    with store.reading():
        if database.in_transaction():  # the caller's
            yield
        elif isinstance(database, pw.SqliteDatabase):
            connection = store.connection()
            connection.execute("BEGIN")  # Peewee's own would take the write lock
            try:
                yield
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        else:
            with database.atomic():
                level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
                store.connection().execute(level)
                yield


def count(store: Store, table: Table) -> int:
    """Count the rows of a table."""
    query = table.model.select(pw.fn.COUNT(table.model.id))
    query = query if table.only is None else query.where(table.only)
    found: int = store.connection().execute(*query.sql()).fetchone()[0]
    return found


def batches(store: Store, table: Table, *, size: int = _BATCH) -> Iterator[list[Row]]:
    """Yield the rows of a table as they are stored, by id, some at a time."""
    model, last = table.model, None
    while True:
        query = store.query(model).order_by(model.id).limit(size)
        if table.only is not None:
            query = query.where(table.only)
        if last is not None:
            query = query.where(model.id > last)
        rows = store.connection().execute(*query.sql()).fetchall()
        if rows:
            yield rows
        if len(rows) < size:
            return
        last = rows[-1][0]


def converted(
    rows: Iterable[Row], readers: Sequence[tuple[int, Callable[[Any], Any]]]
) -> Iterator[list[Any]]:
    """Yield rows with the values that have a reader read."""
    for row in rows:
        values = list(row)
        for place, read in readers:
            if values[place] is not None:
                values[place] = read(values[place])
        yield values


def readers(table: Table) -> list[tuple[int, Callable[[Any], Any]]]:
    """Return the places of the columns whose values are read, and what reads them."""
    found = [(place, _reader(field)) for place, field in enumerate(table.fields)]
    return [(place, read) for place, read in found if read is not None]


def _reader(field: pw.Field) -> Callable[[Any], Any] | None:
    read = value_reader(field)
    if isinstance(field, UTCDateTimeField):
        return time_text
    if isinstance(field, JSONField) and read is not None:
        return _or_as_it_is(read)
    return read


def _or_as_it_is(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Leave what another program wrote and cannot be read as it is."""

    def read_or_leave(value: Any) -> Any:
        try:
            return read(value)
        except (TypeError, ValueError):
            return value

    return read_or_leave


def time_text(value: Any) -> Any:
    """Return a stored time as ``2026-11-22T18:00:00.000000+00:00``."""
    if isinstance(value, str) and value[10:11] == " " and value[26:] == "+00:00":
        return f"{value[:10]}T{value[11:]}"
    time = time_value(value)
    return time.isoformat(timespec="microseconds") if isinstance(time, dt.datetime) else value


def time_value(value: Any) -> Any:
    """Return a stored time as a datetime in UTC; what is none stays as it is."""
    try:
        return UTCDateTimeField().python_value(value)
    except (TypeError, ValueError, OverflowError):
        return value
