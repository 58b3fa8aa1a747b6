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
    RECORDED,
    BaseModel,
    Claim,
    Environment,
    ListeningTest,
    ListeningVote,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)

Model = type[BaseModel]
Reader = Callable[[Any], Any]

_BATCH: Final = 200  # rows, the most that are held at once
TABLES: Final[dict[str, Model]] = {model._meta.table_name: model for model in RECORDED}
# By its own name, and by the noun of its list.
TABLE_OF: Final = {
    **{name: name for name in TABLES},
    "files": "processed_files",
    "history": "processing_history",
    "performance": "model_performance",
}


def table_named(name: object) -> str:
    """Return the table of a name or a list's noun.

    Raises:
        ValueError: There is none.
    """
    if str(name) not in TABLE_OF:
        raise ValueError(f"there is no table {name!r}; use {', '.join(TABLES)}")
    return TABLE_OF[str(name)]


class Table(NamedTuple):
    """Rows of a table in order: what selects them, and what reads their values."""

    name: str
    columns: list[str]
    query: Any
    readers: Sequence[tuple[int, Reader]] = ()

    def count(self, store: Store) -> int:
        """Count the rows."""
        sql, values = self.query.sql()
        counting = f"SELECT count(*) FROM ({sql}) AS counted"  # noqa: S608
        found: int = store.connection().execute(counting, values).fetchone()[0]
        return found

    def batches(self, store: Store) -> Iterator[list[list[Any]]]:
        """Yield the rows, some at a time, with the values that JSON lacks as text."""
        for found in self._found(store):
            rows = [list(row) for row in found]
            for place, read in self.readers:
                for row in rows:
                    if row[place] is not None:
                        row[place] = read(row[place])
            yield rows

    def _found(self, store: Store) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows as they are stored; those of a small table are one question."""
        few = store.connection().execute(*self.query.limit(_BATCH + 1).sql()).fetchall()
        if len(few) > _BATCH:
            cursor = store.stream(*self.query.sql())
            yield from iter(lambda: cursor.fetchmany(_BATCH), [])
        elif few:
            yield few


def chosen(store: Store, names: str | Iterable[str] | None) -> list[Table]:
    """Return tables by name or by the noun of their list, parents first; None is all.

    Raises:
        QueryError: One is unknown.
    """
    every = [*_in_order(dict.fromkeys(TABLES.values())), *own_tables(store)]
    if names is None:
        return every
    named = {TABLE_OF.get(name, name) for name in ([names] if isinstance(names, str) else names)}
    known = [table.name for table in every]
    for name in named.difference(known):
        raise QueryError.unknown_field(name, {*known, *TABLE_OF}, "table")
    return [table for table in every if table.name in named]


def own_tables(store: Store) -> list[Table]:
    """Return the tables that are neither ours nor the engine's."""
    with store.reading():
        database = store.database
        schema = None
        if store.server is not None:
            schema = store.connection().execute("SELECT current_schema()").fetchone()[0]
        ours = {*TABLES, Claim._meta.table_name, "schema_migrations"}
        names = database.get_tables(schema) if schema else _plain_tables(database)
        plain = (name for name in sorted({*names} - ours) if not name.startswith("sqlite_"))
        return [_own_table(database, name, schema) for name in plain]


_TABLES: Final = """SELECT name, sql LIKE 'CREATE VIRTUAL %' FROM sqlite_master
 WHERE type = 'table'"""
# What FTS3 to FTS5 and R*Tree call the tables in which they keep what a virtual one shows.
_KEPT: Final = (
    *("config", "content", "data", "docsize", "idx", "segdir", "segments", "stat"),
    *("node", "parent", "rowid"),
)


def _plain_tables(database: pw.Database) -> set[str]:
    """Return the tables of a file without those that a virtual one is kept in.

    And without a virtual table that nobody can read here, since its module is missing.
    """
    found = dict(database.connection().execute(_TABLES).fetchall())
    hidden = set[str]()
    for virtual in (name for name, is_virtual in found.items() if is_virtual):
        hidden |= {f"{virtual}_{end}" for end in _KEPT}
        try:
            database.get_columns(virtual)
        except pw.OperationalError:
            hidden.add(virtual)
    return found.keys() - hidden


def _own_table(database: pw.Database, name: str, schema: str | None) -> Table:
    columns = [column.name for column in database.get_columns(name, schema)]
    keys = database.get_primary_keys(name, schema) or columns[:1]
    table: Any = pw.Table(name).bind(database)  # with its columns it would have one called select
    # "table" is what a line of an export calls its table.
    titles = [f"{name}.table" if column == "table" else column for column in columns]
    query = table.select(*(pw.Column(table, column) for column in columns))
    return Table(name, titles, query.order_by(*(pw.Column(table, key) for key in keys)))


def around(instance: BaseModel) -> list[Table]:
    """Return what a deletion takes along or changes, with the rows that this refers to."""
    model, file = type(instance), ProcessedFile
    rows: dict[Model, Any] = {model: model.id == instance.id}
    if isinstance(instance, Speaker):  # who bears the name is told apart by all of that name
        rows = {file: file.speaker == instance.id, model: Speaker.name == instance.name}
    if model is file:
        rows[file] |= file.recording == instance.id
        _add(rows, ProcessingHistory.processed_file, file.id)
    return _with_others(rows)


def around_run(run_id: str) -> list[Table]:
    """Return the rows of a run, and what they refer to."""
    return _with_others({ProcessingHistory: ProcessingHistory.run_id == run_id})


def _with_others(rows: dict[Model, Any]) -> list[Table]:
    """Return chosen rows with what goes along or changes with them, and what they refer to."""
    file = ProcessedFile
    if ProcessingHistory in rows:
        _add(rows, ModelPerformance.processing_history, ProcessingHistory.id)
        for side in (ListeningVote.a, ListeningVote.b):
            _add(rows, side, ProcessingHistory.id)
    _add(rows, ListeningVote.test, ListeningTest.id)
    _add(rows, ListeningTest.id, ListeningVote.test)
    _add(rows, ProcessingHistory.id, ModelPerformance.processing_history)
    if (votes := rows.get(ListeningVote)) is not None:
        # Read now: SQLite's parser has no room for queries as deep as that.
        pairs: Any = ListeningVote.select(ListeningVote.a, ListeningVote.b).where(votes).tuples()
        heard = {key for pair in pairs for key in pair} - {None}
        _or(rows, ProcessingHistory.id.in_(heard))
        _or(rows, ModelPerformance.processing_history.in_(heard))
    _add(rows, file.id, ProcessingHistory.processed_file)
    _add(rows, file.id, file.recording)
    _add(rows, Environment.id, ProcessingHistory.environment)
    _add(rows, Speaker.id, file.speaker)
    return _in_order(rows)


def _add(rows: dict[Model, Any], key: pw.Field, other: pw.Field) -> None:
    """Add the rows whose key the chosen rows of another table have."""
    if (condition := rows.get(other.model)) is not None:
        _or(rows, key.in_(other.model.select(other).where(condition)))


def _or(rows: dict[Model, Any], more: Any) -> None:
    model = more.lhs.model
    rows[model] = rows[model] | more if model in rows else more


def _in_order(rows: dict[Model, Any]) -> list[Table]:
    """Return the chosen rows of tables (None is all), each row after those it refers to."""
    link = ProcessedFile.recording
    # The second is no plain IS NOT NULL: SQLite would sort all that have one.
    kinds = (link.is_null(), pw.fn.COALESCE(link, 0) != 0)
    return [
        _part(model, [rows[model], kind])
        for model in TABLES.values()
        if model in rows
        for kind in (kinds if model is ProcessedFile else (None,))
    ]


def _part(model: Model, conditions: Iterable[Any]) -> Table:
    meta = model._meta
    fields = meta.sorted_fields
    query = model.select().order_by(model.id)
    for condition in conditions:
        query = query if condition is None else query.where(condition)
    readers = [(place, read) for place, field in enumerate(fields) if (read := _reader(field))]
    columns = [field.column_name for field in fields]
    return Table(meta.table_name, columns, query, readers)


def _reader(field: pw.Field) -> Reader | None:
    """Return what reads a value; what another program wrote and cannot be read is left as it is."""
    read = _time_text if isinstance(field, UTCDateTimeField) else reader(field)
    if read is None or not isinstance(field, JSONField | UTCDateTimeField):
        return read

    def read_or_leave(value: Any) -> Any:
        try:
            return read(value)
        except (TypeError, ValueError, OverflowError):
            return value

    return read_or_leave


def _time_text(value: Any) -> Any:
    """Return a stored time as ``2026-11-22T18:00:00.000000+00:00``."""
    if isinstance(value, str) and value[10:11] == " " and value[26:] == "+00:00":
        return f"{value[:10]}T{value[11:]}"
    time = UTCDateTimeField().python_value(value)
    return time.isoformat(timespec="microseconds") if isinstance(time, dt.datetime) else value
