"""Which tables go out and come in: parents first, and recordings before their stems."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.database.mapper import reader
from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.schema.fields import JSONField, UTCDateTimeField
from voices_peewee.schema.models import (
    MODELS,
    BaseModel,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
)

Model = type[BaseModel]
Reader = Callable[[Any], Any]

_CLAIMS: Final = "claims"  # who is working on what: true of this database only
_BATCH: Final = 500  # rows, the most that are held at once
TABLES: Final[dict[str, Model]] = {
    model._meta.table_name: model for model in MODELS if model._meta.table_name != _CLAIMS
}
_NOUNS: Final = {
    "files": ProcessedFile,
    "history": ProcessingHistory,
    "performance": ModelPerformance,
}


def table_named(name: object) -> str:
    """Return the table of a name or a list's noun.

    Raises:
        ValueError: There is none.
    """
    table = _NOUNS[str(name)]._meta.table_name if str(name) in _NOUNS else str(name)
    if table not in TABLES:
        raise ValueError(f"there is no table {name!r}; use {', '.join(TABLES)}")
    return table


class Part(NamedTuple):
    """Rows of a table of ours; ``only`` says which, None is all."""

    model: Model
    only: pw.ColumnBase | None = None

    @property
    def name(self) -> str:
        """The table's name in the database."""
        return str(self.model._meta.table_name)

    @property
    def columns(self) -> list[str]:
        """The names of the columns in the order of the schema."""
        return [str(field.column_name) for field in self.model._meta.sorted_fields]

    def count(self, store: Store) -> int:
        """Count the rows."""
        query = self._narrowed(self.model.select(pw.fn.COUNT(self.model.id)))
        found: int = store.connection().execute(*query.sql()).fetchone()[0]
        return found

    def batches(self, store: Store) -> Iterator[list[list[Any]]]:
        """Yield the rows by id, some at a time, with the values that JSON lacks as text."""
        readers, key = _readers(self.model), self.model.id
        query = self._narrowed(store.query(self.model)).order_by(key).limit(_BATCH)
        rest = query
        while True:
            rows = store.connection().execute(*rest.sql()).fetchall()
            if rows:
                yield [_read(row, readers) for row in rows]
            if len(rows) < _BATCH:
                return
            rest = query.where(key > rows[-1][0])

    def _narrowed(self, query: Any) -> Any:
        return query if self.only is None else query.where(self.only)


class OwnTable(NamedTuple):
    """A table that an application added."""

    name: str
    columns: list[str]
    keys: list[str]

    def count(self, store: Store) -> int:
        """Count the rows."""
        sql = f"SELECT count(*) FROM {_quoted(self.name)}"  # noqa: S608
        found: int = store.connection().execute(sql).fetchone()[0]
        return found

    def batches(self, store: Store) -> Iterator[list[list[Any]]]:
        """Yield the rows by primary key, some at a time."""
        columns = ", ".join(map(_quoted, self.columns))
        order = ", ".join(map(_quoted, self.keys or self.columns[:1]))
        sql = f"SELECT {columns} FROM {_quoted(self.name)} ORDER BY {order}"  # noqa: S608
        cursor = store.stream(sql, ())
        while rows := cursor.fetchmany(_BATCH):
            yield [list(row) for row in rows]


Table = Part | OwnTable


def chosen(store: Store, names: str | Iterable[str] | None) -> list[Table]:
    """Return tables by name or by the noun of their list, parents first; None is all.

    Raises:
        QueryError: One is unknown.
    """
    if names is None:
        return [*in_order(dict.fromkeys(TABLES.values())), *own_tables(store)]
    named = {names} if isinstance(names, str) else set(names)
    own: list[OwnTable] = []
    if strange := named - {*TABLES, *_NOUNS}:
        there = own_tables(store)
        own = [table for table in there if table.name in strange]
        for name in strange - {table.name for table in own}:
            known = {*TABLES, *_NOUNS, *(table.name for table in there)}
            raise QueryError.unknown_field(name, known, "table")
    ours = {TABLES[table_named(name)] for name in named - strange}
    return [*in_order({model: None for model in TABLES.values() if model in ours}), *own]


def in_order(rows: dict[Model, pw.ColumnBase | None]) -> list[Part]:
    """Return the parts of tables, each row after those that it refers to."""
    parts = []
    for model in TABLES.values():
        if model not in rows:
            continue
        only, link = rows[model], next(_links(model, model), None)
        if link is None:
            parts.append(Part(model, only))
            continue
        # The second is no plain IS NOT NULL: SQLite would sort all that have one, each batch.
        kinds = (link.is_null(), pw.fn.COALESCE(link, 0) != 0)
        parts += [Part(model, kind if only is None else (only) & kind) for kind in kinds]
    return parts


def own_tables(store: Store) -> list[OwnTable]:
    """Return the tables that are neither ours nor the engine's."""
    with store.reading():
        database = store.database
        schema = None
        if store.server is not None:
            schema = store.connection().execute("SELECT current_schema()").fetchone()[0]
        ours = {*TABLES, _CLAIMS, "schema_migrations"}
        return [
            OwnTable(
                name,
                [column.name for column in database.get_columns(name, schema)],
                database.get_primary_keys(name, schema),
            )
            for name in sorted(database.get_tables(schema))
            if name not in ours and not name.startswith("sqlite_")
        ]


def around(instance: BaseModel) -> list[Part]:
    """Return what a deletion takes along or changes, with the rows that this refers to."""
    gone: dict[Model, Any] = {type(instance): type(instance).id == instance.id}
    changed: dict[Model, Any] = {}
    for child in TABLES.values():
        for parent in list(gone):
            for link in _links(child, parent):
                rows = link.in_(parent.select(parent.id).where(gone[parent]))
                _add(gone if link.on_delete == "CASCADE" else changed, child, rows)
    for model, rows in changed.items():
        _add(gone, model, rows)
    for child in [*reversed(TABLES.values())]:
        for parent in [child, *TABLES.values()] if child in gone else ():
            for link in _links(child, parent):
                _add(gone, parent, parent.id.in_(child.select(link).where(gone[child])))
    return in_order(gone)


def _add(rows: dict[Model, Any], model: Model, more: Any) -> None:
    rows[model] = (rows[model]) | more if model in rows else more


def _links(child: Model, parent: Model) -> Iterator[pw.ForeignKeyField]:
    """Yield the foreign keys of one model that lead to another."""
    return (field for field in child._meta.refs if field.rel_model is parent)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _readers(model: Model) -> list[tuple[int, Reader]]:
    """Return the places of the columns whose values are read, and what reads them."""
    found = [(place, _reader(field)) for place, field in enumerate(model._meta.sorted_fields)]
    return [(place, read) for place, read in found if read is not None]


def _read(row: Sequence[Any], readers: Sequence[tuple[int, Reader]]) -> list[Any]:
    values = list(row)
    for place, read in readers:
        if values[place] is not None:
            values[place] = read(values[place])
    return values


def _reader(field: pw.Field) -> Reader | None:
    read = reader(field)
    if isinstance(field, UTCDateTimeField):
        return _time_text
    return _or_as_it_is(read) if isinstance(field, JSONField) and read is not None else read


def _or_as_it_is(read: Reader) -> Reader:
    """Leave what another program wrote and cannot be read as it is."""

    def read_or_leave(value: Any) -> Any:
        try:
            return read(value)
        except (TypeError, ValueError):
            return value

    return read_or_leave


def _time_text(value: Any) -> Any:
    """Return a stored time as ``2026-11-22T18:00:00.000000+00:00``; what is none as it is."""
    if isinstance(value, str) and value[10:11] == " " and value[26:] == "+00:00":
        return f"{value[:10]}T{value[11:]}"
    try:
        time = UTCDateTimeField().python_value(value)
    except (TypeError, ValueError, OverflowError):
        return value
    return time.isoformat(timespec="microseconds") if isinstance(time, dt.datetime) else value
