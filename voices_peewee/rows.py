"""The short way between rows and model objects.

Peewee compiles the statements and makes the connections; here values are bound and rows
become real model instances without the generic machinery around every query. A value whose
type its column does not have, which only another program can store, is handed out as it is.
"""

from __future__ import annotations

import datetime as dt
import gc
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import peewee as pw

from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.models import BaseModel, JSONField, PathField, UTCDateTimeField, dump_json

M = TypeVar("M", bound=BaseModel)

# A field's name, the type that goes into the database as it is, and what turns others into it.
_Binder = tuple[str, type | None, Callable[[Any], Any]]

_BATCH: Final = 200
_PLAIN: Final[dict[type[pw.Field], type]] = {
    pw.AutoField: int,
    pw.BigIntegerField: int,
    pw.BooleanField: bool,
    pw.DoubleField: float,
    pw.IntegerField: int,
    pw.TextField: str,
}


class Mapper(Generic[M]):
    """Binds and builds the rows of one model."""

    def __init__(self, model: type[M]) -> None:
        self.model = model
        meta = model._meta
        fields = meta.sorted_fields
        self.names = [field.name for field in fields]
        # Peewee wants a value for each column to write the placeholders; none is bound.
        values = dict.fromkeys(fields, pw.Value(None))
        self._insert_with_id = model.insert(values).sql()[0]
        self._insert = model.insert({field: values[field] for field in fields[1:]}).sql()[0]
        self._get = model.select().where(model.id == 0).sql()[0]
        self.columns = self._get.partition(" FROM ")[0].removeprefix("SELECT ")
        self._binders = [_binder(field) for field in fields]
        self._readers = [(field.name, read) for field in fields if (read := _reader(field))]
        self._defaulted = {field.name for field in meta.defaults}
        self._foreign = {field.name: field.object_id_name for field in meta.refs}

    # From rows to objects

    def build(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[M]:
        """Yield an instance for each row, as Peewee would build it: clean, without defaults."""
        new, model, names, readers = self.model.__new__, self.model, self.names, self._readers
        for row in rows:
            data = dict(zip(names, row))  # noqa: B905 - strict costs a tenth of the whole
            for name, read in readers:
                value = data[name]
                if value is not None:
                    data[name] = read(value)
            instance = new(model)
            instance.__data__ = data
            instance._dirty = set()
            instance.__rel__ = {}
            yield instance

    def get(self, connection: Any, key: int) -> M | None:
        """Return the instance with an id, or None."""
        rows = connection.execute(self._get, (key,)).fetchall()
        return next(self.build(rows), None)

    # From objects to rows

    def insert(self, connection: Any, instance: M) -> M:
        """Insert one object and give it its id.

        Raises:
            InvalidValueError: A value does not fit its column.
        """
        self._link(instance)
        values = _bind(self._binders[1:], instance.__data__)
        instance.__data__["id"] = connection.execute(self._insert, values).lastrowid
        instance._dirty.clear()
        return instance

    def insert_objects(self, connection: Any, instances: list[M]) -> None:
        """Insert many objects without ids and give them theirs; needs the write lock.

        Raises:
            InvalidValueError: A value does not fit its column.
        """
        table = self.model._meta.table_name
        last = connection.execute(f'SELECT max(id) FROM "{table}"').fetchone()[0] or 0  # noqa: S608
        connection.executemany(self._insert_with_id, self._numbered(instances, last + 1))
        for key, instance in enumerate(instances, last + 1):
            instance.__data__["id"] = key
            instance._dirty.clear()

    def _numbered(self, instances: list[M], first: int) -> Iterator[list[Any]]:
        binders = self._binders[1:]
        for key, instance in enumerate(instances, first):
            self._link(instance)
            values = _bind(binders, instance.__data__)
            values.insert(0, key)
            yield values

    def insert_dicts(self, connection: Any, rows: Iterable[Mapping[str, Any]]) -> int:
        """Insert many mappings of field names to values; return how many.

        Raises:
            InvalidValueError: A key is no field, or a value does not fit its column.
        """
        count = 0
        for keys, alike in groupby(rows, key=tuple):
            count += connection.executemany(*self._statement(keys, alike)).rowcount
        return count

    def _statement(
        self, keys: tuple[str, ...], rows: Iterable[Mapping[str, Any]]
    ) -> tuple[str, Iterator[list[Any]]]:
        """Return the INSERT and the parameters of mappings that have these keys."""
        known = {*self.names, *self._foreign.values()}
        for key in keys:
            if key not in known:
                raise InvalidValueError(str(QueryError.unknown_field(str(key), known)))
        by_id = {name: key for name, key in self._foreign.items() if name not in keys}
        binders = [(by_id.get(name, name), *how) for name, *how in self._binders]
        if not self._defaulted.issubset(keys):
            defaults = self.model._meta.get_default_dict
            rows = ({**defaults(), **row} for row in rows)
        if "id" in keys:
            return self._insert_with_id, (_bind(binders, row) for row in rows)
        return self._insert, (_bind(binders[1:], row) for row in rows)

    def unsaved(self, instance: M) -> Iterator[BaseModel]:
        """Yield the related objects of an instance that have no row yet."""
        for name in self._foreign if instance.__rel__ else ():
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


if TYPE_CHECKING:

    class _Select(pw.ModelSelect[M]):
        _is_default: bool
        _joins: dict[Any, Any]
else:

    class _Select(pw.ModelSelect, Generic[M]):
        pass


class Query(_Select[M]):
    """Peewee's select, with ``filter_by``, ``all`` and ``first`` besides."""

    def filter_by(self, **values: Any) -> Query[M]:
        """Keep the rows whose fields equal the values; None matches empty.

        Raises:
            QueryError: A name is no field of the model.
        """
        query = self
        for name, value in values.items():
            field = self.model._meta.combined.get(name)
            if field is None:
                raise QueryError.unknown_field(name, self.model._meta.combined)
            query = query.where(field.is_null() if value is None else field == value)
        return query

    def all(self) -> list[M]:
        """Run the query and return every row as a list."""
        return list(self.clone())

    def iterator(self, database: pw.Database | None = None) -> Iterator[M]:
        """Run the query and yield its rows without keeping them."""
        return super(Query, self.clone()).iterator(database)

    def __sql_selection__(self, ctx: Any, is_subquery: bool = False) -> Any:
        columns = mapper(self.model).columns if self._is_default and not is_subquery else ""
        if columns and ctx.alias_manager[self.model._meta.table] == "t1":
            return ctx.literal(columns)
        return super().__sql_selection__(ctx, is_subquery)

    def _get_model_cursor_wrapper(self, cursor: Any) -> Any:
        if self._is_default and not self._joins:
            return _Rows(cursor, mapper(self.model).build)
        return super()._get_model_cursor_wrapper(cursor)


class _Rows(pw.CursorWrapper):
    """Peewee's cache of the rows of a query, filled by a mapper."""

    def __init__(self, cursor: Any, build: Callable[[Iterable[Any]], Iterator[Any]]) -> None:
        super().__init__(cursor)
        self.build = build

    def __iter__(self) -> Iterator[Any]:
        index = 0
        while index < self.count or self._fetch(_BATCH):
            yield self.row_cache[index]
            index += 1

    def iterator(self) -> Iterator[Any]:
        while rows := self.cursor.fetchmany(_BATCH):
            yield from self.build(rows)
        self.populated = True

    def fill_cache(self, n: int = 0) -> None:
        if n < 0:
            raise ValueError("Negative values are not supported.")
        self._fetch(n - self.count if n else None)

    def _fetch(self, size: int | None) -> bool:
        """Fetch so many more rows, or the rest; return whether there were any."""
        if self.populated or (size is not None and size <= 0):
            return False
        with collection_paused():
            rows = self.cursor if size is None else self.cursor.fetchmany(size)
            self.row_cache.extend(self.build(rows))
        found = len(self.row_cache) - self.count
        self.count += found
        self.populated = size is None or found < size
        return found > 0


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector: it would walk a growing result again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _bind(binders: list[_Binder], data: Mapping[str, Any]) -> list[Any]:
    """Return the values of one row as the database takes them.

    Raises:
        InvalidValueError: A value does not fit its column.
    """
    get = data.get
    try:
        return [
            value if (value := get(name)) is None or type(value) is plain else convert(value)
            for name, plain, convert in binders
        ]
    except (TypeError, ValueError) as error:
        raise InvalidValueError(_misfit(binders, data)) from error


def _misfit(binders: list[_Binder], data: Mapping[str, Any]) -> str:
    for name, _, convert in binders:
        try:
            convert(data.get(name))
        except (TypeError, ValueError):
            return f"{name} cannot be {data.get(name)!r}"
    return "a value does not fit its column"


def _binder(field: pw.Field) -> _Binder:
    convert: Callable[[Any], Any] = field.db_value
    slow = field.db_value
    if isinstance(field, JSONField):
        convert = dump_json
    elif isinstance(field, PathField):

        def convert(value: Any) -> Any:
            return value if type(value) is str and value.isascii() else slow(value)

    elif isinstance(field, UTCDateTimeField):

        def convert(value: Any) -> Any:
            if type(value) is dt.datetime and value.tzinfo is dt.UTC:
                return value.isoformat(" ", "microseconds")
            return slow(value)

    stored = field.rel_field if isinstance(field, pw.ForeignKeyField) else field
    return field.name, _PLAIN.get(type(stored)), convert


def _reader(field: pw.Field) -> Callable[[Any], Any] | None:
    """Return what turns a stored value into Python's, or None where they are the same."""
    slow = field.python_value
    if isinstance(field, JSONField):

        def read_json(text: Any) -> Any:
            if text == "{}":
                return {}
            try:
                value, end = _PARSE(text)
            except (TypeError, ValueError):
                return slow(text)
            return value if end == len(text) else slow(text)

        return read_json
    if isinstance(field, UTCDateTimeField):

        def read_time(text: Any) -> Any:
            try:
                time = dt.datetime.fromisoformat(text)
            except (TypeError, ValueError):
                return slow(text)
            return time if time.tzinfo is dt.UTC else slow(text)

        return read_time
    if isinstance(field, PathField):
        return lambda text: text if text.isascii() else slow(text)
    if isinstance(field, pw.BooleanField):
        return bool
    stored = field.rel_field if isinstance(field, pw.ForeignKeyField) else field
    return None if type(stored) in _PLAIN else slow


_PARSE: Final = json.JSONDecoder().raw_decode
