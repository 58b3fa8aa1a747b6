"""What a column takes: the value as it was given, or one sentence."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from numbers import Real
from typing import Any, Final

from voices_peewee.errors import InvalidValueError

_NOTHING: Final = object()
_SURE: Final = frozenset([type(None), bool, int, float, str, list, dict, dt.datetime])


def is_missing(value: object) -> bool:
    """Whether a value is pandas' NA or NaT, or NumPy's masked; none is imported for it."""
    return type(value) not in _SURE and any(
        value is getattr(sys.modules.get(module), name, _NOTHING)
        for module, name in (("pandas", "NA"), ("pandas", "NaT"), ("numpy.ma", "masked"))
    )


def is_nothing(value: object) -> bool:
    """Whether a value stands for none in a DataFrame: NaN too."""
    return is_missing(value) or (isinstance(value, Real) and bool(value != value))


def short(value: object) -> str:
    """Return how Python shows a value, in one line of at most 60 characters."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:
        return "a very large integer"
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_no_number(value: object) -> bool:
    """Whether a value is a boolean or complex, NumPy's and torch's too."""
    kind = str(getattr(value, "dtype", "")).rpartition(".")[2]
    return isinstance(value, bool) or kind.startswith(("bool", "complex"))


def exact_number(name: str, value: Any) -> float:
    """Return the number that a value is; yes and no are none."""
    with suppress(Exception):  # foreign code: a number of any library
        if not is_no_number(value):
            return float(value)
    raise InvalidValueError(f"{name} must be a number, not {short(value)}")


def exact_integer(name: str, value: Any) -> int:
    """Return the integer that a value is; nothing is cut."""
    with suppress(Exception):
        number = int(value)
        if not is_no_number(value) and (isinstance(value, str | bytes) or number == value):
            return number
    raise InvalidValueError(f"{name} must be a whole number, not {short(value)}")


def exact_id(name: str, value: Any) -> int:
    """Return the id that a value is; a text would be a name."""
    if isinstance(value, str | bytes):
        raise InvalidValueError(f"{name} must be a whole number, not {short(value)}")
    return exact_integer(name, value)


def exact_boolean(name: str, value: Any) -> bool:
    """Return whether a value is true; of texts, each would be."""
    with suppress(Exception):
        if not isinstance(value, str | bytes) and value in (0, 1):
            return bool(value)
    raise InvalidValueError(f"{name} must be true or false, not {short(value)}")


def several(name: str, value: Any, of: str) -> Iterable[Any]:
    """Return a list, a column, a generator or the like; a text, mapping or table is none."""
    is_one = isinstance(value, str | bytes | Mapping) or len(getattr(value, "shape", [1])) != 1
    if is_one or not isinstance(value, Iterable):
        raise InvalidValueError(f"{name} must be a list of {of}, not {short(value)}")
    return value


def exact_text(name: str, value: Any) -> str:
    """Return the text that a value is, of a number its digits; a list or no value is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Collection) or is_nothing(value) or getattr(value, "shape", None):
        raise InvalidValueError(f"{name} must be a text, not {short(value)}")
    return str(value)
