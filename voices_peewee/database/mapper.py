"""Between the rows of a table and model objects, without the generic machinery of a query.

Peewee compiles each statement once; here its values are bound, and rows become real model
instances: clean, without defaults, as Peewee itself would build them.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

import peewee as pw

from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.schema.fields import (
    ComposedField,
    JSONField,
    NameField,
    PathField,
    TagsField,
    UTCDateTimeField,
)
from voices_peewee.schema.models import BaseModel

M = TypeVar("M", bound=BaseModel)

# By the exact type: a field that was made from one of these may hold something else.
KINDS: Final[dict[type[pw.Field], str]] = {
    pw.AutoField: "integer",
    pw.BigAutoField: "integer",
    pw.BigIntegerField: "integer",
    pw.BooleanField: "boolean",
    pw.CharField: "text",
    pw.DoubleField: "float",
    pw.FloatField: "float",
    pw.IntegerField: "integer",
    pw.SmallIntegerField: "integer",
    pw.TextField: "text",
    ComposedField: "text",
    JSONField: "json",
    NameField: "text",
    PathField: "path",
    TagsField: "json",
    UTCDateTimeField: "time",
}
# What goes into such a column as it is; text only if it is ASCII, for a path's sake.
_PLAIN: Final = {"integer": int, "boolean": bool, "float": float, "text": str, "path": str}
_SCAN: Final[Callable[[str, int], tuple[Any, int]]] = vars(json.JSONDecoder())["scan_once"]

Converter = Callable[[Any], Any]
# A value's key, the type with which it is bound as it is, and what else converts it. A plain
# tuple: Python unpacks it twice as fast as a named one.
Binder = tuple[str, Any, Converter]


def stored(binders: Sequence[Binder], data: Mapping[str, Any]) -> list[Any]:
    """Return the values of one row as the database takes them."""
    get = data.get
    try:
        return [
            value
            if (value := get(key)) is None
            or (type(value) is plain and (plain is not str or (value.isascii() and value)))
            else convert(value)
            for key, plain, convert in binders
        ]
    except (TypeError, ValueError) as error:
        raise InvalidValueError(_misfit(binders, data)) from error


def _misfit(binders: Sequence[Binder], data: Mapping[str, Any]) -> str:
    for key, _, convert in binders:
        try:
            convert(data.get(key))
        except (TypeError, ValueError):
            return f"{key} cannot be {data.get(key)!r}"
    return "a value does not fit its column"


def binder(field: pw.Field) -> Binder:
    """Return how the values of a field are bound."""
    convert: Converter = field.text if isinstance(field, JSONField) else field.db_value
    return field.name, _PLAIN.get(kind_of(field)), convert


def kind_of(field: pw.Field) -> str:
    """Return the kind of what a field holds; a reference holds what it refers to."""
    target = field.rel_field if isinstance(field, pw.ForeignKeyField) else field
    return KINDS.get(type(target), "other")


def reader(field: pw.Field) -> Converter | None:
    """Return what turns a stored value into Python's; None where they are the same."""
    slow: Converter = field.python_value
    if isinstance(field, JSONField):
        return _json_reader(slow)
    if isinstance(field, UTCDateTimeField):
        return _time_reader(slow)
    if isinstance(field, PathField):
        return lambda text: text if text.isascii() else slow(text)
    if isinstance(field, pw.BooleanField):
        return bool
    return None if kind_of(field) in _PLAIN else slow


def _json_reader(slow: Converter) -> Converter:
    def read_json(text: Any) -> Any:
        if text == "{}":
            return {}
        try:
            value, end = _SCAN(text, 0)
        except (TypeError, ValueError, RecursionError, StopIteration):
            return slow(text)
        return value if end == len(text) else slow(text)

    return read_json


def _time_reader(slow: Converter) -> Converter:
    parse = dt.datetime.fromisoformat

    def read_time(text: Any) -> Any:
        try:
            time = parse(text)
        except (TypeError, ValueError):
            return slow(text)
        return time if time.tzinfo is dt.UTC else slow(text)

    return read_time


class Mapper(Generic[M]):
    """Binds and builds the rows of one model.

    ``bind`` gives all values but the id, ``insert_id_sql`` takes them all.
    """

    def __init__(self, model: type[M]) -> None:
        self.model = model
        meta = model._meta
        fields = meta.sorted_fields
        self.names = [field.name for field in fields]
        self._columns = {field.name: field.column_name for field in fields}
        self.columns = ", ".join(field.column_name for field in fields[1:])
        # As Peewee writes them, which takes a millisecond for each.
        columns = [f'"{field.column_name}"' for field in fields]
        self._columns_of_all = columns
        self.insert_id_sql = _insertion(meta.table_name, columns)
        self._returns_id = bool(getattr(meta.database, "returning_clause", False))
        self.returning = " RETURNING id" if self._returns_id else ""
        self._given = _given if self._returns_id else tuple
        self.columns_sql = ", ".join(f'"t1".{column}' for column in columns)
        self.select_sql = f'SELECT {self.columns_sql} FROM "{meta.table_name}" AS "t1"'  # noqa: S608
        self.get_sql = f"{self.select_sql} WHERE id = ?"
        self._all_binders = [binder(field) for field in fields]
        self._binders = self._all_binders[1:]
        self._binder_of = {one[0]: one for one in self._all_binders}
        read = [(field.name, isinstance(field, PathField), reader(field)) for field in fields]
        self._readers = [(name, is_path, way) for name, is_path, way in read if way]
        self._defaulted = {field.name for field in meta.defaults}
        needed = {field.name for field in fields[1:] if not field.null} | self._defaulted
        self._needed = needed or {*self.names[1:]}
        self._foreign = {field.name: field.object_id_name for field in meta.refs}

    def build(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[M]:
        """Yield an instance for each row."""
        new, model, names, readers = self.model.__new__, self.model, self.names, self._readers
        for row in rows:
            data = dict(zip(names, row))  # noqa: B905 - strict is slow
            for name, is_path, read in readers:
                if (value := data[name]) is not None and not (is_path and value.isascii()):
                    data[name] = read(value)
            instance = new(model)
            instance.__data__ = data
            instance._dirty = set()
            instance.__rel__ = {}
            yield instance

    def get(self, connection: Any, key: int) -> M | None:
        """Return the instance with an id, or None."""
        row = connection.execute(self.get_sql, (key,)).fetchone()
        return None if row is None else next(self.build((row,)))

    def among(self, connection: Any, name: str, values: Sequence[object]) -> list[M]:
        """Return the rows that have one of the values in a field, by their ids."""
        column, convert = self._columns[name], self._binder_of[name][2]
        marks = ", ".join("?" * len(values))
        condition = f"WHERE {column} IN ({marks}) ORDER BY id"
        return self.where(connection, condition, [*map(convert, values)])

    def bind(self, data: Mapping[str, Any]) -> list[Any]:
        """Return the values of one object but its id as the database takes them."""
        return stored(self._binders, data)

    def where(self, connection: Any, condition: str, values: Any) -> list[M]:
        """Return the rows of a condition."""
        sql = f"{self.select_sql} {condition}"
        return list(self.build(connection.execute(sql, values).fetchall()))

    def find(
        self,
        steps: Any,
        condition: str,
        values: Any,
        base: tuple[str, Any] | None = None,
        lock: str | None = None,
    ) -> tuple[list[M], int | None] | None:
        """Return the rows of a condition; where there are none, maybe the id of one to come.

        None where ``base``, a question with its values, has no answer. Who waited for ``lock``
        inserts with ``unless``.
        """
        if not steps.gives_ids:
            if base and steps.execute(*base).fetchone() is None:
                return None
            return self.where(steps, condition, values), None
        sql = f"{self.select_sql} {condition}"
        first, given = base or ("SELECT 1", ())
        sql = _WITH_SPARE_ID.format(table=self.model._meta.table_name, base=first, select=sql)
        found = steps.ask(sql, [*given, *values], lock).fetchall()
        if not found:
            return None
        spare = found[0][0]
        return list(self.build(row[1:] for row in found if spare is None)), spare

    def values(self, **data: Any) -> list[Any]:
        """Return values as the database takes them, given by the names of their fields."""
        return stored([self._binder_of[name] for name in data], data)

    def change(self, steps: Any, instance: M, changes: Mapping[str, Any]) -> None:
        """Write changes of one row, and to its object, by the names of their fields."""
        columns = ", ".join(f"{self._columns[name]} = ?" for name in changes)
        sql = f"UPDATE {self.model._meta.table_name} SET {columns} WHERE id = ?"  # noqa: S608
        steps.add(sql, [*self.values(**changes), instance.id])
        instance.__data__.update(changes)

    def insert(
        self,
        steps: Any,
        instance: M,
        key: int | None = None,
        unless: tuple[str, Any] | None = None,
    ) -> M:
        """Insert one object and give it its id: that of ``find``, or a new one.

        Where ``unless``, a condition with its values, finds a row by now, the one of ``find``
        becomes NULL, which is refused: all is done again.
        """
        if instance.__rel__:
            self._link(instance)
        data = instance.__data__
        if key is None:
            sql, binders = self._inserting(self._given(data))
            key = self.key_of(steps.execute(sql + self.returning, stored(binders, data)))
        elif unless is None:
            steps.add(self.insert_id_sql, [key, *self.bind(data)])
        else:
            steps.add(self._inserting_unless(unless[0]), [key, *unless[1], *self.bind(data)])
        data["id"] = key
        instance._dirty.clear()
        return instance

    @cache  # noqa: B019 - a mapper is there for ever
    def _inserting_unless(self, condition: str) -> str:
        table = self.model._meta.table_name
        key = f"(SELECT CAST(? AS bigint) WHERE NOT EXISTS (SELECT 1 FROM {table} {condition}))"  # noqa: S608
        return _insertion(table, self._columns_of_all, key)

    def key_of(self, cursor: Any) -> int:
        """Return the id of the row that a statement with ``returning`` inserted."""
        key: int = cursor.fetchone()[0] if self._returns_id else cursor.lastrowid
        return key

    def insert_objects(self, connection: Any, instances: list[M]) -> None:
        """Insert many objects without ids and give them theirs; needs SQLite's write lock."""
        for instance in instances:
            if instance.__rel__:
                self._link(instance)
        self.insert_new(connection, [instance.__data__ for instance in instances])
        for instance in instances:
            instance._dirty.clear()

    def insert_new(self, connection: Any, rows: Sequence[dict[str, Any]]) -> None:
        """Insert many mappings of all field names, as ``insert_objects`` does objects."""
        if not rows:
            return
        keys, binders = self.new_ids(connection, len(rows)), self._binders
        values = ([key, *stored(binders, row)] for key, row in zip(keys, rows, strict=True))
        connection.executemany(self.insert_id_sql, values)
        for key, row in zip(keys, rows, strict=True):
            row["id"] = key

    def new_ids(self, connection: Any, count: int) -> Sequence[int]:
        """Return the ids of rows to come; they are nobody else's while the transaction lasts."""
        table = self.model._meta.table_name
        if self._returns_id:  # others insert meanwhile: take them from the sequence
            rows = connection.execute(_NEW_IDS, (f'"{table}"', count)).fetchall()
            return [key for (key,) in rows]
        last = connection.execute(f'SELECT max(id) FROM "{table}"').fetchone()[0] or 0  # noqa: S608
        return range(last + 1, last + 1 + count)

    def insert_dicts(self, connection: Any, rows: Iterable[Mapping[str, Any]]) -> int:
        """Insert many mappings of field names to values; return how many."""
        count = 0
        for keys, alike in groupby(rows, key=self._given):
            sql, binders = self._inserting(keys)
            values = map(partial(stored, binders), self._completed(keys, alike))
            count += connection.executemany(sql, values).rowcount
            if "id" in keys:
                self.note_ids(connection)
        return count

    def note_ids(self, connection: Any) -> None:
        """Keep a server's sequence above ids that were written as they were given."""
        if self._returns_id:
            connection.execute(_SKIP_IDS.replace("TABLE", f'"{self.model._meta.table_name}"'))

    @cache  # noqa: B019 - a mapper is there for ever
    def _inserting(self, keys: tuple[str, ...]) -> tuple[str, list[Binder]]:
        """Return the INSERT of mappings that have these keys, and how their values are bound.

        A column that may be NULL and is not given is left out, which is quicker than NULL.
        """
        known = {*self.names, *self._foreign.values()}
        for key in keys:
            if key not in known:
                raise InvalidValueError(str(QueryError.unknown_field(str(key), known)))
        by_id = {name: key for name, key in self._foreign.items() if name not in keys}
        chosen = [
            (column, (by_id.get(name, name), plain, convert))
            for column, (name, plain, convert) in zip(
                self._columns_of_all, self._all_binders, strict=True
            )
            if by_id.get(name, name) in keys or name in self._needed
        ]
        columns = [column for column, _ in chosen]
        return _insertion(self.model._meta.table_name, columns), [one for _, one in chosen]

    def _completed(
        self, keys: tuple[str, ...], rows: Iterable[Mapping[str, Any]]
    ) -> Iterable[Mapping[str, Any]]:
        """Return mappings that have these keys with the defaults of those they lack."""
        if self._defaulted.issubset(keys):
            return rows
        model = self.model._meta
        return ({**model.get_default_dict(), **row} for row in rows)

    def unsaved(self, instance: M) -> Iterator[BaseModel]:
        """Yield the related objects of an instance that have no row yet."""
        for name in self._foreign:
            related = instance.__rel__.get(name)
            if related is not None and related.id is None:
                yield related

    def _link(self, instance: M) -> None:
        """Take the id of a related object that was saved after it was assigned."""
        for name, related in instance.__rel__.items():
            if related is not None and instance.__data__.get(name) is None:
                instance.__data__[name] = related.id


@cache
def mapper(model: type[M]) -> Mapper[M]:
    """Return the mapper of a model, compiled when it is first asked for."""
    return Mapper(model)


_WITH_SPARE_ID: Final = """SELECT CASE WHEN found.id IS NULL
 THEN nextval(pg_get_serial_sequence('"{table}"', 'id')) END, found.*
 FROM ({base}) AS base LEFT JOIN ({select}) AS found ON true"""
_NEW_IDS: Final = (
    "SELECT nextval(pg_get_serial_sequence(?, 'id')) FROM generate_series(1, CAST(? AS integer))"
)


# Others take ids meanwhile, so only forward: a number of ids is taken, or far more are skipped.
_SKIP_IDS: Final = """SELECT CASE WHEN gap > 1000 THEN setval(sequence, most)
 ELSE nextval(sequence) END
 FROM (SELECT sequence, most, most - coalesce(pg_sequence_last_value(sequence), 0) AS gap
  FROM (SELECT CAST(pg_get_serial_sequence('TABLE', 'id') AS regclass) AS sequence,
   (SELECT max(id) FROM TABLE) AS most) AS own) AS ids,
 LATERAL generate_series(1, CASE WHEN gap > 1000 THEN 1 ELSE gap END)"""


def _given(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of a row; an id that is None is to be found, and no key."""
    return tuple(key for key in row if key != "id" or row[key] is not None)


def _insertion(table: str, columns: Sequence[str], first: str = "?") -> str:
    places = ", ".join([first, *"?" * (len(columns) - 1)])
    return f'INSERT INTO "{table}" ({", ".join(columns)}) VALUES ({places})'  # noqa: S608
