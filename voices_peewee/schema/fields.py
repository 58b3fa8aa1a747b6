"""The columns' types: UTC times, JSON of what people put in parameters, and file names."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import os
import re
import unicodedata
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from numbers import Integral, Real
from operator import methodcaller
from typing import Any, Final, TypeVar, cast

import peewee as pw

from voices_peewee.errors import InvalidValueError
from voices_peewee.schema.exact import exact_text, is_missing, is_nothing, several, short

T = TypeVar("T")


utc_now: Final = partial(dt.datetime.now, dt.UTC)  # the present time, aware


def plain_value(value: object) -> Any:
    """Turn what JSON lacks (paths, enums, dates, NumPy and tensor values, sets) into what it has.

    Raises:
        TypeError: The value has no JSON form.
    """
    if is_missing(value):
        return None
    for kind, convert in _PLAIN:
        if isinstance(value, kind):
            return convert(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return _plain_array(value)


def seconds_of(value: object) -> float | None:
    """Return the seconds of a timedelta, NumPy's too; None for anything else."""
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if _kind(value) != "m" or getattr(value, "shape", None) != ():
        return None
    seconds = _plain_array(value)
    return None if seconds is None else float(seconds)


def _plain_array(value: Any) -> Any:
    """Turn what NumPy, pandas or torch made into numbers, texts, lists and objects of them."""
    if _is_labelled(value):
        return value.to_dict()
    if (kind := _kind(value)) in "mM" and kind:
        return _plain_times(value, kind)
    if isinstance(value, Real):  # NumPy's long double gives itself as its list
        return _plain_real(value)
    for method in ("tolist", "item"):
        if callable(convert := getattr(value, method, None)):
            return convert()
    raise TypeError(f"no JSON form for {type(value).__name__} {short(value)}")


def _is_labelled(value: Any) -> bool:
    """Whether it is a row of a DataFrame or the like: a Series whose labels are texts."""
    labels: Any = getattr(value, "index", ()) if hasattr(value, "to_dict") else ()
    return getattr(value, "ndim", 0) == 1 and {*map(type, labels)} == {str} and labels.is_unique


def _kind(value: object) -> str:
    """Return the letter of NumPy's kind of type, or nothing."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return kind if isinstance(kind, str) else ""


def _plain_times(value: Any, kind: str) -> Any:
    """Return datetime64 as text and timedelta64 in seconds; item() counts in the value's unit."""
    import numpy as np

    if value.shape == () and np.isnat(value):
        return None
    if kind == "M":
        return value.astype(str).tolist()
    if np.datetime_data(value.dtype)[0] in ("generic", "Y", "M"):
        raise TypeError(f"no seconds for {value.dtype} {short(value)}")
    return (value / np.timedelta64(1, "s")).tolist()


def _plain_real(value: Any) -> float:
    number = int(value) if isinstance(value, Integral) else float(value)
    if isinstance(number, float) and math.isinf(number) and value != number:
        raise ValueError(f"the number {short(value)} is too large")
    return number


def _plain_decimal(value: Decimal) -> float | str:
    number = float(value)
    return str(value) if value.is_finite() and Decimal(str(number)) != value else number


_PLAIN: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (os.PathLike, os.fsdecode),
    (Enum, lambda value: value.value),
    (dt.date | dt.time, lambda value: value.isoformat()),
    (dt.timedelta, dt.timedelta.total_seconds),
    (uuid.UUID, str),
    (Mapping, dict),
    (Set, lambda value: sorted(value, key=str)),
    (deque | range, list),
    (Decimal, _plain_decimal),
)


def plain_name(value: T) -> T:
    """Return a name as it is compared: an enum's value, with composed accents (Unicode NFC).

    What stands for no value in a DataFrame (NaN, NA) is None.
    """
    name = value.value if isinstance(value, Enum) else value
    if isinstance(name, str):
        return cast("T", name if name.isascii() else unicodedata.normalize("NFC", name))
    return cast("T", None if name is None or is_nothing(name) else name)


def plain_tags(value: object) -> object:
    """Return tags as they are compared; what are none stay as they are."""
    return list(map(plain_name, value)) if isinstance(value, list | tuple | Set) else value


def clean_tags(tags: Iterable[str] | str) -> list[str]:
    """Return the tags without doubles, in their order."""
    given = [tags] if isinstance(tags, str) else tags
    if not isinstance(given, list | tuple):
        given = list(several("tags", given, "texts"))
    for tag in given:
        if not isinstance(tag, str) or not tag.strip():
            raise InvalidValueError(f"a tag is a text that is not empty, not {tag!r}")
    return list(dict.fromkeys(plain_name(str(tag)).strip() for tag in given))


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
        return "".join(_parts(value, 0))
    except (TypeError, ValueError, ArithmeticError, RecursionError):
        pass  # a key that is no text, or a number that is not finite: take the careful way
    try:
        return "".join(_parts(_finite(value), 0))
    except RecursionError as error:
        raise InvalidValueError("cannot store a JSON value that is nested too deeply") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InvalidValueError(f"cannot store this value as JSON: {error}") from error


def plain_json(value: object) -> Any:
    """Return a JSON copy of a value, which later changes do not reach.

    Raises:
        InvalidValueError: It has no JSON form, or two of its keys are one in JSON.
    """
    return json.loads(dump_json(value), object_pairs_hook=_with_own_keys)


def plain_object(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a JSON copy of a mapping; nothing for None.

    Raises:
        InvalidValueError: It is no mapping or has no JSON form.
    """
    if value is not None and not isinstance(value, Mapping):
        raise InvalidValueError(f"{name} must be a mapping, not {value!r}")
    plain: dict[str, Any] = plain_json(dict(value)) if value else {}
    return plain


def _has_other_keys(value: Any) -> bool:
    """Whether a key inside is no text; what has no JSON form by itself is not looked into."""
    left: list[Any] = [value]
    while left:
        inner = left.pop()
        if isinstance(inner, dict):
            try:
                "".join(inner)  # the quickest look at whether all keys are texts
            except TypeError:
                return True
            inner = inner.values()
        for part in inner:
            if type(part) not in _LEAVES and isinstance(part, _NESTED):
                left.append(part)  # noqa: PERF401 - a comprehension is a call more
    return False


_LEAVES: Final = frozenset({str, int, float, bool, type(None)})
_NESTED: Final = (dict, list, tuple)


def _with_own_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidValueError(f"two keys are {twice!r} in JSON, whose keys are texts")
    return found


# No circle is looked for, and what is not finite is refused. CPython's encoder in C is made once,
# where ``json.dumps`` makes one for each value.
_make_encoder: Final = getattr(json.encoder, "c_make_encoder", None)
_parts: Final = (
    _make_encoder(
        None, plain_value, json.encoder.encode_basestring_ascii, None, ":", ",", *[False] * 3
    )
    if _make_encoder
    else lambda value, _: json.dumps(
        value, default=plain_value, allow_nan=False, check_circular=False, separators=(",", ":")
    )
)
# How a time is stored; the rows of a batch share theirs.
_utc_text: Final = lru_cache(maxsize=64)(methodcaller("isoformat", " ", "microseconds"))


class UTCDateTimeField(pw.DateTimeField):
    """A time that is stored in UTC at fixed width, so that text order is time order."""

    def db_value(self, value: object) -> object:
        """Return the stored form of an aware datetime or ISO 8601 text.

        Raises:
            InvalidValueError: The value is no time, or has no time zone.
        """
        if type(value) is dt.datetime and value.tzinfo is dt.UTC:
            return _utc_text(value)
        if value is None or isinstance(value, pw.Node):
            return value
        if isinstance(value, str):
            try:
                value = dt.datetime.fromisoformat(value)
            except ValueError as error:
                raise InvalidValueError(f"{self.name} {value!r} is not an ISO 8601 time") from error
        if not isinstance(value, dt.datetime) or is_missing(value):
            raise InvalidValueError(f"{self.name} {value!r} is not a datetime")
        if value.utcoffset() is None:
            raise InvalidValueError(
                f"{self.name} {value.isoformat(sep=' ')!r} has no time zone; "
                "use datetime.now(timezone.utc) or .astimezone()"
            )
        try:
            return value.astimezone(dt.UTC).isoformat(sep=" ", timespec="microseconds")
        except OverflowError as error:
            told = f"{self.name} {value.isoformat()!r}"
            raise InvalidValueError(f"{told} is in no year that UTC has") from error

    def python_value(self, value: Any) -> Any:
        """Return an aware datetime in UTC; what is no time stays as another program wrote it."""
        if value is None:
            return None
        try:
            time = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
        except (TypeError, ValueError):  # of a number, too: 1711123012345 is no day of 1711
            return value
        # Another program may have written a time without a zone: ours are UTC.
        try:
            return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
        except OverflowError:  # the first and last hours of the calendar
            return value


class JSONField(pw.JSONField):
    """A JSON object; it also takes paths, enums, dates, NumPy scalars and non-finite numbers."""

    holds: type = dict
    dumped = staticmethod(dump_json)  # what a query compares with is no object

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dumps": self.dumped, **kwargs})

    def text(self, value: object) -> str:
        """Return the JSON text of what a row shall have.

        Raises:
            InvalidValueError: It is no object, or two of its keys are one in JSON.
        """
        if type(value) is not dict and not isinstance(value, Mapping):
            raise InvalidValueError(f"{self.name} must be a mapping, not {short(value)}")
        text = dump_json(value)
        if _has_other_keys(value):
            json.loads(text, object_pairs_hook=_with_own_keys)
        return text

    def db_value(self, value: object) -> Any:
        """Return what the database is given; refuses what ``text`` refuses."""
        if value is not None and not isinstance(value, pw.Node):
            self.text(value)
        return super().db_value(value)  # type: ignore[no-untyped-call] # the stubs

    def python_value(self, value: object) -> Any:
        """Return the value of a JSON text; what is none stays as another program wrote it."""
        try:
            return super().python_value(value)  # type: ignore[no-untyped-call] # the stubs
        except (ValueError, RecursionError):
            return value


class TagsField(JSONField):
    """A JSON list of texts, which are the same however their accents are written."""

    holds = list

    @staticmethod
    def dumped(value: object) -> str:
        """Return the JSON text of what is compared with tags."""
        return dump_json(plain_tags(value))

    def text(self, value: object) -> str:
        """Return the JSON text of tags.

        Raises:
            InvalidValueError: They are no list of texts.
        """
        tags = plain_tags(value)
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise InvalidValueError(f"{self.name} must be a list of texts, not {short(value)}")
        return dump_json(tags)


class NameField(pw.TextField):
    """Text that is the same however its accents are written; also an enum, by its value."""

    def db_value(self, value: object) -> object:
        """Return text that a database can hold; where nothing may stand, an empty one is that."""
        name = plain_name(value)
        told = None if name == "" and self.null else name
        return super().db_value(told)  # type: ignore[no-untyped-call] # the stubs

    def python_value(self, value: object) -> object:
        """Return the value as it stands."""
        return value


class _Composed(pw.FieldAccessor):
    def __set__(self, instance: pw.Model, value: object) -> None:
        super().__set__(instance, plain_name(value))


class ComposedField(NameField):
    """A name that an object, too, has composed."""

    accessor_class = _Composed


class PathField(pw.TextField):
    """A file name or path; bytes that are not UTF-8 are kept as private-use characters.

    Python holds such a byte as a lone surrogate (PEP 383), which SQLite, PostgreSQL and
    UTF-8 output refuse. U+DC80…U+DCFF are moved to U+10FC80…U+10FCFF and back; a name that has
    one of the latter is kept as the bytes of its UTF-8.
    """

    def db_value(self, value: object) -> object:
        """Return text that a database can hold."""
        if value is None or isinstance(value, pw.Node):
            return value
        if isinstance(value, os.PathLike | bytes):
            value = os.fsdecode(value)
        if not isinstance(value, str):
            value = exact_text(getattr(self, "name", "a path"), value)
        if value.isascii():
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
