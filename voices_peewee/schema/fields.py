"""The columns' types: UTC times, JSON of what people put in parameters, and file names."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
import uuid
from enum import Enum
from typing import Any, Final, TypeVar

import peewee as pw

from voices_peewee.errors import InvalidValueError

T = TypeVar("T")


def utc_now() -> dt.datetime:
    """Return the present time, aware, in UTC."""
    return dt.datetime.now(dt.UTC)


def plain_value(value: object) -> Any:
    """Turn what JSON lacks (paths, enums, dates, NumPy and tensor values, sets) into what it has.

    Raises:
        TypeError: The value has no JSON form.
    """
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    for method in ("tolist", "item"):  # NumPy and torch, neither imported here
        if callable(convert := getattr(value, method, None)):
            return convert()
    raise TypeError(f"no JSON form for {type(value).__name__} {value!r}")


def plain_name(value: T) -> T:
    """Return a name; an enum's is its value."""
    return value.value if isinstance(value, Enum) else value


def _finite(value: object) -> object:
    """Spell non-finite floats as text, which JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {_key(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return _finite(plain_value(value))


def _key(key: object) -> object:
    return key if key is None or isinstance(key, str | int | float) else str(plain_value(key))


def dump_json(value: object) -> str:
    """Return the JSON text of a value; non-finite numbers become the texts nan, inf and -inf.

    Raises:
        InvalidValueError: The value, or something inside it, has no JSON form.
    """
    try:
        return _ENCODE(value)
    except (TypeError, ValueError):
        pass  # a key that is no text, or a number that is not finite: take the careful way
    try:
        return _ENCODE(_finite(value))
    except RecursionError as error:
        raise InvalidValueError("cannot store a JSON value that is nested too deeply") from error
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"cannot store this value as JSON: {error}") from error


_ENCODE: Final = json.JSONEncoder(
    default=plain_value, allow_nan=False, separators=(",", ":")
).encode


class UTCDateTimeField(pw.DateTimeField):
    """A time that is stored in UTC at fixed width, so that text order is time order."""

    def db_value(self, value: object) -> object:
        """Return the stored form of an aware datetime or ISO 8601 text.

        Raises:
            InvalidValueError: The value is no time, or has no time zone.
        """
        if value is None or isinstance(value, pw.Node):
            return value
        if isinstance(value, str):
            try:
                value = dt.datetime.fromisoformat(value)
            except ValueError as error:
                raise InvalidValueError(f"{self.name} {value!r} is not an ISO 8601 time") from error
        if not isinstance(value, dt.datetime):
            raise InvalidValueError(f"{self.name} {value!r} is not a datetime")
        if value.utcoffset() is None:
            raise InvalidValueError(
                f"{self.name} {value.isoformat(sep=' ')!r} has no time zone; "
                "use datetime.now(timezone.utc) or .astimezone()"
            )
        return value.astimezone(dt.UTC).isoformat(sep=" ", timespec="microseconds")

    def python_value(self, value: object) -> dt.datetime | None:
        """Return an aware datetime in UTC."""
        if value is None:
            return None
        time = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
        # Another program may have written a time without a zone: ours are UTC.
        return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)


class JSONField(pw.JSONField):
    """JSON that also takes paths, enums, dates, NumPy scalars and non-finite numbers."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dumps": dump_json, **kwargs})


class NameField(pw.TextField):
    """Text that also takes an enum, by its value."""

    def db_value(self, value: object) -> object:
        """Return text that a database can hold."""
        return super().db_value(plain_name(value))  # type: ignore[no-untyped-call] # the stubs


class PathField(pw.TextField):
    """A file name or path; bytes that are not UTF-8 are kept as private-use characters.

    Python holds such a byte as a lone surrogate (PEP 383), which SQLite, PostgreSQL and
    UTF-8 output refuse. U+DC80…U+DCFF are moved to U+10FC80…U+10FCFF and back; a name that has
    one of the latter is kept as the bytes of its UTF-8.
    """

    def db_value(self, value: object) -> object:
        """Return text that a database can hold."""
        if isinstance(value, os.PathLike | bytes):
            value = os.fsdecode(value)
        if not isinstance(value, str) or value.isascii():
            return value
        if re.search(_PRIVATE, value):
            value = re.sub(_PRIVATE, _bytes_of, value)
        return value.translate(_TO_PRIVATE)

    def python_value(self, value: object) -> object:
        """Return a name that ``open`` takes."""
        if not isinstance(value, str) or value.isascii():
            return value
        name = value.translate(_FROM_PRIVATE)
        if name == value:
            return value
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _bytes_of(match: re.Match[str]) -> str:
    """Return the bytes of a character, each as the lone surrogate that Python makes of it."""
    return match[0].encode().decode("ascii", "surrogateescape")


_PRIVATE: Final = "[\U0010fc80-\U0010fcff]"
_TO_PRIVATE: Final = {0xDC00 + byte: 0x10FC00 + byte for byte in range(0x80, 0x100)}
_FROM_PRIVATE: Final = {private: surrogate for surrogate, private in _TO_PRIVATE.items()}
