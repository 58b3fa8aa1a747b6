"""One record of an input, typed by the schema."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import peewee as pw

from voices_peewee.exchange.sources import Row, Source, spelled
from voices_peewee.exchange.texts import parse
from voices_peewee.schema.fields import JSONField, PathField, UTCDateTimeField
from voices_peewee.schema.models import BaseModel

Convert = Callable[[Any], Any]
Note = Callable[[str], None]
# For each column of ours its name, its field's, whether it takes any text, and what reads it;
# then the columns that are not ours.
Plan = tuple[list[tuple[str, str, bool, Convert]], list[str]]

# Where a table keeps what the schema has no column for.
EXTRAS: Final = {
    "processed_files": "metadata",
    "processing_history": "parameters",
    "model_performance": "additional_metrics",
}
_LAST_ID: Final = 1 << 62  # ids above leave no room for the next ones
_ENUM: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_ENUMS: Final = frozenset({"operation_type", "model_type"})
_PATH_NAMES: Final = ("original_path", "processed_path")
_PATHS: Final = PathField()
_KEPT_PLANS: Final = 64
_TRUTH: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class MisfitError(ValueError):
    """A value does not fit its column; the message is a clause."""


class Typed:
    """A record as its table takes it; the keys of ``data`` are the fields.

    ``key`` is its id in the input; ``assumed`` names what the record does not say.
    """

    __slots__ = ("assumed", "data", "key", "number", "source")

    def __init__(self, source: Source, number: int, data: dict[str, Any]) -> None:
        self.source, self.number, self.data = source, number, data
        self.key: int | None = data["id"]
        self.assumed: tuple[str, ...] = ()


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
        self._defaults = list(meta.get_default_dict())
        self._default: Callable[[], dict[str, Any]] = meta.get_default_dict
        self._required = [
            (field.name, field.column_name)
            for field in meta.sorted_fields
            if not field.null and field not in meta.defaults and field.name != "id"
        ]
        self._known = {
            field.column_name: (field.name, convert in _PLAIN, convert)
            for field in meta.sorted_fields
            for convert in [self._converter(field)]
        }
        self._plans: dict[tuple[str, ...], Plan] = {}

    def read(self, row: Row) -> Typed:
        """Return a record with the values that its table takes.

        Raises:
            InputError: A value does not fit its column, or a required one is missing.
        """
        values, data = row.values, self._blank.copy()
        known, unknown = self._plan(values)
        for column, name, is_text, convert in known:
            value = values[column]
            if is_text and type(value) is str and value.isascii():  # as most texts are
                data[name] = value
            elif value is not None:
                try:
                    data[name] = convert(value)
                except (ValueError, OverflowError) as error:
                    raise self._source.error(str(error), row.number, column) from error
        typed = Typed(self._source, row.number, data)
        if unknown:
            self._keep(typed, {column: values[column] for column in unknown})
        self._complete(typed)
        return typed

    def _plan(self, values: dict[str, Any]) -> Plan:
        """Return which columns are ours and which are not; most records have the same."""
        columns = tuple(values)
        plan = self._plans.get(columns)
        if plan is None:
            names = spelled(columns)
            ours = {name: here for name, here in names.items() if here in self._known}
            known = [(name, *self._known[here]) for name, here in ours.items()]
            plan = known, [name for name in names if name not in ours]
            if len(self._plans) >= _KEPT_PLANS:
                self._plans.clear()
            self._plans[columns] = plan
        return plan

    def _complete(self, typed: Typed) -> None:
        data = typed.data
        if self._table == "processed_files":
            self._complete_file(data)
        for name, column in self._required:
            if data[name] is None:
                raise self._source.error("it is missing", typed.number, column)
        missing = tuple(name for name in self._defaults if data[name] is None)
        if missing:
            defaults = self._default()
            data.update((name, defaults[name]) for name in missing)
            typed.assumed = missing
        if "start_time" in typed.assumed:
            self._note("start_time is missing in processing_history; the time of the import stands")
            if data["end_time"] is not None:
                data["start_time"] = min(data["start_time"], data["end_time"])

    def _complete_file(self, data: dict[str, Any]) -> None:
        if data["filename"] is None and data["original_path"]:
            data["filename"] = os.path.basename(data["original_path"])  # noqa: PTH119
        if data["id"] is not None:  # another record's: it stays as it is there
            return
        for name in _PATH_NAMES:
            if data[name] and not os.path.isabs(data[name]):  # noqa: PTH117
                data[name] = os.path.abspath(data[name])
                self._note(f"relative paths in {name} are those of the current directory")

    def _keep(self, typed: Typed, values: dict[str, Any]) -> None:
        """Put the values of unknown columns into the table's JSON object."""
        if not self._extras:
            for column in values:
                self._note(
                    f"column {column!r} of {self._table} is left out: "
                    f"{self._table} have no JSON object to keep it in"
                )
            return
        kept = dict(typed.data[self._extras] or {})
        for column, value in values.items():
            self._note(f"column {column!r} of {self._table} goes to {self._extras}")
            if value is None:
                continue
            key = column.removeprefix(f"{self._extras}.")
            item = self._extra(value, typed.number, column)
            if key in kept and kept[key] != item:
                reason = f"{self._extras} has another value for {key!r}"
                raise self._source.error(reason, typed.number, column)
            kept[key] = item
        typed.data[self._extras] = kept

    def _extra(self, value: Any, number: int, column: str) -> Any:
        if isinstance(value, bytes):
            raise self._source.error("it is binary", number, column)
        if not isinstance(value, str):
            return value
        try:
            value.encode()
        except UnicodeError as error:
            raise self._source.error("it is not UTF-8 text", number, column) from error
        return _json_or_text(value) if self._source.is_text else value

    def _converter(self, field: pw.Field) -> Convert:
        """Return what turns a record's value into a field's."""
        is_text = self._source.is_text
        target = field.rel_field if isinstance(field, pw.ForeignKeyField) else field
        if isinstance(target, pw.AutoField):
            return _or_text(_id, _scalar) if is_text else _id
        if isinstance(field, JSONField):
            return self._tags if field.name == "tags" else self._object
        if isinstance(field, UTCDateTimeField):
            return self._time(field.name)
        if isinstance(field, pw.BooleanField):
            return _or_text(_boolean, _truth) if is_text else _boolean
        if isinstance(field, pw.DoubleField):
            return _or_text(_number, _scalar) if is_text else _number
        if isinstance(field, pw.IntegerField):
            return _or_text(_integer, _scalar) if is_text else _integer
        if isinstance(field, PathField):
            return _stored_path if self._source.is_database else _path
        if self._source.is_original and field.name in _ENUMS:
            return self._enum
        return _text

    def _enum(self, value: Any) -> str:
        text = _text(value)
        if not _ENUM.fullmatch(text):
            return text
        self._note(f"{text} is written {text.lower()}")
        return text.lower()

    def _time(self, name: str) -> Convert:
        def convert(value: Any) -> dt.datetime:
            try:
                time = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
                if not isinstance(time, dt.datetime):
                    raise MisfitError(f"{_shown(value)} is not an ISO 8601 time")
                if time.tzinfo is None:
                    self._note(f"{name} of {self._table} has no time zone; it is taken as UTC")
                    return time.replace(tzinfo=dt.UTC)
                return time if time.tzinfo is dt.UTC else time.astimezone(dt.UTC)
            except (ValueError, OverflowError) as error:
                raise MisfitError(f"{_shown(value)} is not an ISO 8601 time") from error

        return convert

    def _tags(self, value: Any) -> list[str] | None:
        if self._source.is_text and isinstance(value, str):
            if not value.lstrip().startswith(("[", "null")):
                return [tag.strip() for tag in value.split(",") if tag.strip()]
            value = parse(value)
        is_list = isinstance(value, list) and all(isinstance(tag, str) for tag in value)
        if value is not None and not is_list:
            raise MisfitError(f"{_shown(value)} is not a list of texts")
        tags: list[str] | None = value
        return tags

    def _object(self, value: Any) -> dict[str, Any] | None:
        if self._source.is_text and isinstance(value, str):
            value = parse(value)
        if value is not None and not isinstance(value, dict):
            raise MisfitError(f"{_shown(value)} is not a JSON object")
        return value


def _or_text(convert: Convert, read: Convert) -> Convert:
    """Return a converter that takes texts too."""
    return lambda value: convert(read(value.strip()) if isinstance(value, str) else value)


def _integer(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise MisfitError(f"{_shown(value)} is not an integer")
    if not -(1 << 63) <= value < 1 << 63:
        raise MisfitError("the integer does not fit into 64 bits")
    return value


def _id(value: Any) -> int:
    number = _integer(value)
    if not 1 <= number <= _LAST_ID:
        raise MisfitError(f"{number} is no id; ids are 1 and above")
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MisfitError(f"{_shown(value)} is not a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise MisfitError("the number is too large") from error
    if not math.isfinite(number):
        raise MisfitError(f"{number} is not finite")
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return value == 1
    raise MisfitError(f"{_shown(value)} is neither true nor false")


def _scalar(text: str) -> int | float | str:
    """Return the number that a text is; what only Python takes for one is none."""
    if text.isascii() and "_" not in text:
        for kind in (int, float):
            with suppress(ValueError):
                return kind(text)
    return text


def _truth(text: str) -> bool | str:
    return _TRUTH.get(text.lower(), text)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise MisfitError(f"{_shown(value)} is not a text")
    try:
        value.encode()
    except UnicodeError as error:
        raise MisfitError("it is not UTF-8 text") from error
    return value


def _path(value: Any) -> str:
    """Return a path; bytes in it that are not UTF-8 are lone surrogates, as in Python."""
    if not isinstance(value, str):
        raise MisfitError(f"{_shown(value)} is not a text")
    _text(_PATHS.db_value(value))
    return value


def _stored_path(value: Any) -> str:
    return str(_PATHS.python_value(value)) if isinstance(value, str) else _path(value)


_PLAIN: Final = (_text, _path, _stored_path)  # what takes any ASCII text


def _json_or_text(text: str) -> Any:
    """Return the value of JSON that stands for itself; a text stays one, 1e5 and 4.10 too."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict | list) or _written(value) == text else text


def _no_constant(name: str) -> float:
    raise MisfitError(name)


def _written(value: object) -> str:
    return "" if value is None or isinstance(value, str) else json.dumps(value)


def _shown(value: object) -> str:
    """Return a value for a message, shortened."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge integer"
    return text if len(text) <= 60 else f"{text[:57]}..."
