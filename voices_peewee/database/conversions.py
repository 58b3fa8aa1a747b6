"""Values on their way between Python and the columns of a table.

What Peewee's fields do, with a short way for the values that are nearly always there. A value
whose type its column does not have, which only another program can store, stays as it is.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import peewee as pw

from voices_peewee.errors import InvalidValueError
from voices_peewee.schema.fields import JSONField, NameField, PathField, UTCDateTimeField, dump_json

# What goes into such a column as it is; text only if it is ASCII, for a path's sake.
_PLAIN: Final[dict[type[pw.Field], type]] = {
    pw.AutoField: int,
    pw.BigIntegerField: int,
    pw.BooleanField: bool,
    pw.DoubleField: float,
    pw.IntegerField: int,
    pw.TextField: str,
    NameField: str,
    PathField: str,
}
_PARSE: Final = json.JSONDecoder().raw_decode

Converter = Callable[[Any], Any]
# A value's key, the type with which it is bound as it is, and what else converts it. A plain
# tuple: Python unpacks it twice as fast as a named one.
Binder = tuple[str, Any, Converter]


def stored(binders: Sequence[Binder], data: Mapping[str, Any]) -> list[Any]:
    """Return the values of one row as the database takes them.

    Raises:
        InvalidValueError: A value does not fit its column.
    """
    get = data.get
    try:
        return [
            value
            if (value := get(key)) is None
            or (type(value) is plain and (plain is not str or value.isascii()))
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
    return field.name, _PLAIN.get(type(_target(field))), _to_database(field)


def _target(field: pw.Field) -> pw.Field:
    return field.rel_field if isinstance(field, pw.ForeignKeyField) else field


def _to_database(field: pw.Field) -> Converter:
    slow: Converter = field.db_value
    if isinstance(field, JSONField):
        return dump_json
    if isinstance(field, UTCDateTimeField):

        def bind_time(value: Any) -> Any:
            if type(value) is dt.datetime and value.tzinfo is dt.UTC:
                return value.isoformat(" ", "microseconds")
            return slow(value)

        return bind_time
    return slow


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
    return None if type(_target(field)) in _PLAIN else slow


def _json_reader(slow: Converter) -> Converter:
    def read_json(text: Any) -> Any:
        if text == "{}":
            return {}
        try:
            value, end = _PARSE(text)
        except (TypeError, ValueError):
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
