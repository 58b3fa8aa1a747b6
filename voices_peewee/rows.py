"""The short way between rows and model objects.

Peewee compiles each INSERT and SELECT once; here their values are bound and their rows are
turned into real model instances without the generic machinery around every query.
"""

from __future__ import annotations

import datetime as dt
import gc
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import peewee as pw

from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.models import BaseModel, JSONField, UTCDateTimeField, dump_json

M = TypeVar("M", bound=BaseModel)

_BATCH: Final = 10_000
_LOADS: Final = json.JSONDecoder().decode


class Mapper(Generic[M]):
    """Binds and builds the rows of one model.

    ``insert_sql`` takes the columns without the id, ``insert_id_sql`` with it.
    """

    def __init__(self, model: type[M]) -> None:
        self.model = model
        fields = model._meta.sorted_fields
        self.names = [field.name for field in fields]
        # Peewee wants a value for each column to write the placeholders; none is bound.
        self.insert_id_sql = model.insert(dict.fromkeys(fields, _Placeholder())).sql()[0]
        self.insert_sql = model.insert(dict.fromkeys(fields[1:], _Placeholder())).sql()[0]
        self.select_sql = model.select().sql()[0]
        self.get_sql = f'{self.select_sql} WHERE ("t1"."id" = ?)'
        self._binders = [(field.name, _binder(field)) for field in fields[1:]]
        self._readers = [(field.name, read) for field in fields if (read := _reader(field))]
        self._foreign = [field.name for field in model._meta.refs]

    def bind(self, data: Mapping[str, Any]) -> list[Any]:
        """Return the parameters of ``insert_sql`` for the values of one object.

        Raises:
            InvalidValueError: A value does not fit its column.
        """
        try:
            return [bind(data.get(name)) for name, bind in self._binders]
        except (TypeError, ValueError) as error:
            raise InvalidValueError(self._misfit(data)) from error

    def _misfit(self, data: Mapping[str, Any]) -> str:
        for name, bind in self._binders:
            try:
                bind(data.get(name))
            except (TypeError, ValueError):
                return f"{name} cannot be {data.get(name)!r}"
        return "a value does not fit its column"

    def build(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[M]:
        """Yield an instance for each row, as Peewee would build it: clean, without defaults."""
        new, model, names, readers = self.model.__new__, self.model, self.names, self._readers
        for row in rows:
            data = dict(zip(names, row, strict=True))
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
        rows = connection.execute(self.get_sql, (key,)).fetchall()
        return next(self.build(rows), None)

    def insert(self, connection: Any, instance: M) -> M:
        """Insert one object and give it its id."""
        self._link(instance)
        cursor = connection.execute(self.insert_sql, self.bind(instance.__data__))
        instance.__data__["id"] = cursor.lastrowid
        instance._dirty.clear()
        return instance

    def insert_objects(self, connection: Any, instances: list[M]) -> None:
        """Insert many objects and give them their ids; needs the write lock."""
        table = self.model._meta.table_name
        last = connection.execute(f'SELECT max(id) FROM "{table}"').fetchone()[0] or 0  # noqa: S608
        with collection_paused():
            for instance in instances:
                self._link(instance)
            parameters = (
                [key, *self.bind(instance.__data__)]
                for key, instance in enumerate(instances, last + 1)
            )
            connection.executemany(self.insert_id_sql, parameters)
            for key, instance in enumerate(instances, last + 1):
                instance.__data__["id"] = key
                instance._dirty.clear()

    def insert_dicts(self, connection: Any, rows: Iterable[Mapping[str, Any]]) -> int:
        """Insert many mappings of field names to values; return how many.

        Raises:
            InvalidValueError: A key is no field, or a value does not fit.
        """
        known = {"id", *self.names, *(f"{name}_id" for name in self._foreign)}
        count, rows = 0, iter(rows)
        while batch := list(islice(rows, _BATCH)):
            with collection_paused():
                connection.executemany(
                    self.insert_sql, [self._complete(row, known) for row in batch]
                )
            count += len(batch)
        return count

    def _complete(self, row: Mapping[str, Any], known: set[str]) -> list[Any]:
        if not known.issuperset(row):
            unknown = next(key for key in row if key not in known)
            raise InvalidValueError(str(QueryError.unknown_field(str(unknown), known)))
        data = {**self.model._meta.get_default_dict(), **row}
        for name in self._foreign:
            if name not in data:
                data[name] = data.get(f"{name}_id")
        return self.bind(data)

    def unsaved(self, instance: M) -> Iterator[BaseModel]:
        """Yield the related objects of an instance that have no row yet."""
        for name in self._foreign:
            related = instance.__rel__.get(name)
            if related is not None and related.id is None:
                yield related

    def _link(self, instance: M) -> None:
        """Take the id of a related object that was saved after it was assigned."""
        for name in self._foreign:
            related = instance.__rel__.get(name)
            if related is not None and instance.__data__.get(name) is None:
                instance.__data__[name] = related.id


if TYPE_CHECKING:

    class _Select(pw.ModelSelect[M]):
        _is_default: bool
        _joins: dict[Any, Any]
        _row_type: str | None
else:

    class _Select(pw.ModelSelect, Generic[M]):
        pass


@cache
def mapper(model: type[M]) -> Mapper[M]:
    """Return the mapper of a model, compiled when it is first asked for."""
    return Mapper(model)


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
        """Return every row as a list of model objects."""
        if not self._is_plain():
            return list(self)
        sql, parameters = self.sql()
        with collection_paused():
            cursor = self.model._meta.database.connection().execute(sql, parameters)
            return list(mapper(self.model).build(cursor))

    def _is_plain(self) -> bool:
        """Whether the rows are exactly the model's columns."""
        return self._is_default and not self._joins and self._row_type is None


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


class _Placeholder(pw.Value):
    """Stands for a value in a statement that is compiled once."""

    def __init__(self) -> None:
        super().__init__(None)


def _binder(field: pw.Field) -> Callable[[Any], Any]:
    if isinstance(field, JSONField):
        return lambda value: None if value is None else dump_json(value)
    if isinstance(field, UTCDateTimeField):
        slow = field.db_value

        def bind_time(value: Any) -> Any:
            if type(value) is dt.datetime and value.tzinfo is dt.UTC:
                return value.isoformat(" ", "microseconds")
            return slow(value)

        return bind_time
    convert: Callable[[Any], Any] = field.db_value
    return convert


def _reader(field: pw.Field) -> Callable[[Any], Any] | None:
    """Return what turns a stored value into Python's, or None where they are the same."""
    if isinstance(field, JSONField):
        return _LOADS
    if isinstance(field, UTCDateTimeField):
        slow, parse = field.python_value, dt.datetime.fromisoformat

        def read_time(value: str) -> Any:
            time = parse(value)
            return time if time.tzinfo is dt.UTC else slow(value)

        return read_time
    if isinstance(field, pw.BooleanField):
        return bool
    if isinstance(field, pw.ForeignKeyField):
        return None
    return None if type(field).python_value is pw.Field.python_value else field.python_value
