"""One record of an input, typed by the schema."""

from __future__ import annotations

import datetime as dt
import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from operator import index
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.errors import InputError
from voices_peewee.exchange.sources import Row, Source
from voices_peewee.exchange.texts import TwiceError, json_or_text, parse
from voices_peewee.rendering.plain import absolute
from voices_peewee.schema.exact import is_missing, is_no_number, is_nothing, short
from voices_peewee.schema.fields import (
    JSONField,
    NameField,
    PathField,
    TagsField,
    UTCDateTimeField,
    plain_name,
    plain_tags,
)
from voices_peewee.schema.models import BaseModel

Convert = Callable[[Any], Any]
Note = Callable[[str], None]

# Where a table keeps what the schema has no column for.
EXTRAS: Final = {
    "processed_files": "metadata",
    "processing_history": "parameters",
    "model_performance": "additional_metrics",
}
_LAST_ID: Final = 1 << 62  # ids above leave no room for the next ones
_ENUMS: Final = frozenset({"operation_type", "model_type"})
_PATHS: Final = PathField()
_COMMA: Final = r"\s*[+-]?[0-9]+,[0-9]+\s*"


@dataclass(slots=True)
class Typed:
    """A record as its table takes it; the keys of ``data`` are the fields, None where not told.

    ``key`` is its id in the input; ``assumed`` are the defaults of what the record does not say.
    """

    source: Source
    place: str
    data: dict[str, Any]
    key: int | None = None
    assumed: dict[str, Any] = field(default_factory=dict)

    def error(self, reason: str, column: str = "") -> InputError:
        """Return the error of the record."""
        return self.source.error(reason, self.place, column)


class Typer:
    """Types the records of one table of one source.

    Args:
        model: The table's model.
        source: Where the records come from.
        note: Is told, once each, what a reader of the report should know.
    """

    def __init__(self, model: type[BaseModel], source: Source, note: Note) -> None:
        meta = model._meta
        self._table, self._source, self._note = meta.table_name, source, note
        self._blank = dict.fromkeys(meta.sorted_field_names)
        self._extras = EXTRAS.get(self._table, "")
        self._defaults: Callable[[], dict[str, Any]] = meta.get_default_dict
        self._required = [
            (one.name, one.column_name)
            for one in meta.sorted_fields
            if not one.null and one.name != "id"
            # when a run began is nothing to assume
            if one not in meta.defaults or one.name == "start_time"
        ]
        self._fields = {
            one.column_name: (one.name, _kind(one).noun, self._converter(one))
            for one in meta.sorted_fields
        }

    def read(self, row: Row) -> Typed:
        """Return a record with the values that its table takes.

        Raises:
            InputError: A value does not fit its column, or a required one is missing.
        """
        data, unknown = self._blank.copy(), {}
        typed = Typed(self._source, row.place, data)
        for column, value in row.values.items():
            if column not in self._fields:
                unknown[column] = value
            elif value is not None:
                name, noun, convert = self._fields[column]
                try:
                    data[name] = convert(value)
                except TwiceError as error:
                    raise typed.error(str(error), column) from error
                except (ValueError, TypeError, OverflowError) as error:
                    if is_nothing(value):  # of a DataFrame
                        continue
                    raise typed.error(f"{short(value)} is not {noun}", column) from error
        typed.key = data["id"]
        if unknown:
            self._keep(typed, unknown)
        self._complete(typed)
        return typed

    def _complete(self, typed: Typed) -> None:
        data = typed.data
        if self._table == "processed_files":
            self._complete_file(data)
        for name, column in self._required:
            if data[name] is None:
                raise typed.error("it is missing", column)
        typed.assumed = {name: one for name, one in self._defaults().items() if data[name] is None}

    def _complete_file(self, data: dict[str, Any]) -> None:
        if data["filename"] is None and data["original_path"]:
            data["filename"] = os.path.basename(data["original_path"])
        for name in ("original_path", "processed_path"):
            # With an id it is another record's, and stays as it is there.
            if data[name] and data["id"] is None and not os.path.isabs(data[name]):
                data[name] = absolute(data[name])
                self._note(f"relative paths in {name} are those of the current directory")

    def _keep(self, typed: Typed, unknown: dict[str, Any]) -> None:
        """Put the values of unknown columns into the table's JSON object."""
        kept = dict(typed.data.get(self._extras) or {})
        for column, value in unknown.items():
            what = f"column {column!r} of {self._table}"
            if not self._extras:
                left = f"{self._table} have no JSON object to keep it in"
                self._note(f"{what} is left out: {left}")
                continue
            self._note(f"{what} goes to {self._extras}")
            if value is None or is_nothing(value):
                continue
            key, item = column.removeprefix(f"{self._extras}."), self._extra(typed, column, value)
            if key in kept and kept[key] != item:
                raise typed.error(f"{self._extras} has another value for {key!r}", column)
            kept[key] = item
        if kept:
            typed.data[self._extras] = kept

    def _extra(self, typed: Typed, column: str, value: Any) -> Any:
        if not isinstance(value, str | bytes):
            return value
        try:
            text = _text(value)
        except (TypeError, ValueError) as error:
            raise typed.error("it is not UTF-8 text", column) from error
        if self._table == "model_performance" and re.fullmatch(_COMMA, text):
            point = text.strip().replace(",", ".")
            raise typed.error(f"{short(text)} is no number: write {point}", column)
        return json_or_text(text) if self._source.is_text else text

    def _converter(self, field: pw.Field) -> Convert:
        """Return what turns a record's value into a field's."""
        kind, of_text = _kind(field), _kind(field).of_text
        if isinstance(field, UTCDateTimeField):
            return partial(self._time, field.name)
        if isinstance(field, PathField) and self._source.is_database:
            return lambda value: _path(field.python_value(value))
        if isinstance(field, NameField):  # an empty one is stored as none
            is_enum = self._source.is_original and field.name in _ENUMS
            of_name = self._enum if is_enum else kind.convert
            return lambda value: of_name(value) or (None if field.null else "")
        if of_text is None or not self._source.is_text:
            return kind.convert
        return lambda value: kind.convert(
            of_text(value.strip()) if isinstance(value, str) else value
        )

    def _enum(self, value: Any) -> str:
        text = _text(value)
        if text.isupper():
            self._note(f"{text} is written {text.lower()}")
        return text.lower() if text.isupper() else text

    def _time(self, name: str, value: Any) -> dt.datetime:
        time = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
        if is_missing(time):
            raise ValueError  # pandas' NaT, which is a datetime
        if time.tzinfo is None:
            self._note(f"{name} of {self._table} has no time zone; it is taken as UTC")
            return time.replace(tzinfo=dt.UTC)
        return time.astimezone(dt.UTC)


class _Kind(NamedTuple):
    """What the values of some columns are; ``of_text`` reads those of a CSV or of a database."""

    noun: str
    convert: Convert
    of_text: Convert | None = None


def _integer(value: Any, low: int = -(1 << 63), high: int = (1 << 63) - 1) -> int:
    if type(value) is not int and is_no_number(value):
        raise ValueError
    number = int(value) if isinstance(value, float) and value.is_integer() else index(value)
    if not low <= number <= high:
        raise ValueError
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool | str) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _boolean(value: Any) -> bool:
    return _integer(int(value) if isinstance(value, bool) else value, 0, 1) == 1


def _one(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _text(value: Any) -> str:
    _one(str, value).encode()
    return str(value)


def _path(value: Any) -> str:
    """Return a path; bytes in it that are not UTF-8 are lone surrogates, as in Python."""
    _text(_PATHS.db_value(_one(str, value)))
    return str(value)


def _tags(value: Any) -> Any:
    return plain_tags([_one(str, tag) for tag in _one(list | None, value) or ()])


def _tags_of_text(text: str) -> Any:
    if text.startswith(("[", "null")):
        return parse(text)
    if text.startswith('"'):  # a text in a column of JSON, as the original module's may be
        with suppress(ValueError):
            text = parse(text)
    return [tag.strip() for tag in text.split(",") if tag.strip()]


_KINDS: Final[dict[type[pw.Field], _Kind]] = {
    pw.AutoField: _Kind(
        "an id (an integer from 1 on)", lambda value: _integer(value, 1, _LAST_ID), parse
    ),
    TagsField: _Kind("a list of texts", _tags, _tags_of_text),
    JSONField: _Kind("a JSON object", partial(_one, dict | None), parse),
    UTCDateTimeField: _Kind("an ISO 8601 time", _text),
    pw.BooleanField: _Kind("true or false", _boolean, lambda text: parse(text.lower())),
    pw.DoubleField: _Kind("a finite number", _number, parse),
    pw.IntegerField: _Kind("an integer of 64 bits", _integer, parse),
    PathField: _Kind("a path of text", _path),
    NameField: _Kind("a text in UTF-8", lambda value: plain_name(_text(value))),
    pw.TextField: _Kind("a text in UTF-8", _text),
}


def _kind(field: pw.Field) -> _Kind:
    target = field.rel_field if isinstance(field, pw.ForeignKeyField) else field
    return next(kind for of, kind in _KINDS.items() if isinstance(target, of))
