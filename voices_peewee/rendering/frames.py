"""pandas DataFrames of columns and rows; the only module that knows pandas.

A column's dtype follows from its kind, also where there are no rows: int64 (Int64 where a value
may be missing), float64, bool (boolean), string, datetime64[us, UTC], and object for JSON. A
column that holds what its kind does not allow, which only another program can store, is object.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from voices_peewee.errors import MissingExtraError, QueryError
from voices_peewee.rendering.plain import Column

if TYPE_CHECKING:
    import pandas as pd

Values = Sequence[Any]

_UNREADABLE: Final = (AttributeError, TypeError, ValueError, OverflowError)


def frame(
    columns: Sequence[Column],
    batches: Iterable[Iterable[Sequence[Any]]],
    *,
    expand: bool | Sequence[str] = False,
) -> pd.DataFrame:
    """Return a DataFrame of rows."""
    pandas = load_pandas()
    chosen = _to_expand(columns, expand)
    made: dict[str, Any] = {}
    for column, values in zip(columns, _values(len(columns), batches), strict=True):
        if column.name in chosen:
            made |= _expanded(column, values, {other.name for other in columns})
        else:
            made[column.name] = _array(column, values)
    return pandas.DataFrame(made, copy=False)


def load_pandas() -> Any:
    """Return pandas."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("a DataFrame", "notebook") from error
    return pd


def _values(count: int, batches: Iterable[Iterable[Sequence[Any]]]) -> list[list[Any]]:
    columns: list[list[Any]] = [[] for _ in range(count)]
    for batch in batches:
        for column, values in zip(columns, zip(*batch, strict=True), strict=False):
            column.extend(values)
    return columns


def _array(column: Column, values: Values) -> Any:
    """Return the values of a column as what pandas keeps; what is of another kind, as objects."""
    dtype = _DTYPES.get(column.kind)
    if dtype is None:
        return _inferred(values)
    try:
        return _times(values) if dtype == _TIME else _typed(values, dtype, column.nullable)
    except _UNREADABLE:
        return _objects(values)


def _objects(values: Values) -> Any:
    import numpy as np

    array = np.fromiter(values, dtype=object, count=len(values))  # lists inside stay lists
    return load_pandas().Series(array, dtype=object)  # else pandas takes texts for its own


def _typed(values: Values, dtype: str, nullable: bool) -> Any:
    """Return values of a dtype that has room for missing ones, of NumPy's where none may be."""
    if dtype == "object":
        return _objects(values)
    array = load_pandas().array(values, dtype=dtype)
    if dtype not in ("Int64", "boolean") or nullable or array.isna().any():
        return array
    return array.to_numpy(array.dtype.numpy_dtype)


def _times(values: Values) -> Any:
    import numpy as np

    stamps = [None if value is None else _stamp(value) for value in values]
    times = np.array(stamps, dtype="datetime64[us]")  # pandas before 3 has room for 584 years only
    return load_pandas().DatetimeIndex(times).tz_localize("UTC")


def _stamp(time: dt.datetime) -> dt.datetime:
    """Return a time in UTC as NumPy takes it: without its zone."""
    if time.tzinfo is None:
        raise ValueError("a time without a zone is none")
    return time.astimezone(dt.UTC).replace(tzinfo=None)


_JSON: Final = ("json", "tags")
_TIME: Final = "time"
_DTYPES: Final = {
    **dict.fromkeys(("integer", "count", "hertz", "bytes"), "Int64"),
    **dict.fromkeys(("float", "number", "decibel", "difference", "seconds"), "float64"),
    **dict.fromkeys(("percent", "fixed", "rounded", "megabytes", "floating"), "float64"),
    # Arrow's strings refuse names that are not UTF-8.
    **dict.fromkeys(("text", "key", "path", "aside", "string"), "string[python]"),
    **dict.fromkeys(_JSON, "object"),
    "boolean": "boolean",
    _TIME: _TIME,
}


def _inferred(values: Values) -> Any:
    """Return a column that no field describes; where values differ, they stay what they are."""
    kind = load_pandas().api.types.infer_dtype(values, skipna=True)
    kind = {"datetime": _TIME, "mixed-integer-float": "floating"}.get(kind, kind)
    return _array(Column("", kind if kind in _DTYPES else "json"), values)


def _to_expand(columns: Sequence[Column], expand: bool | Sequence[str]) -> set[str]:
    kinds = {column.name: column.kind for column in columns}
    if isinstance(expand, bool):
        return {name for name, kind in kinds.items() if kind in _JSON and expand}
    names = [expand] if isinstance(expand, str) else expand
    for name in names:
        if name not in kinds:
            raise QueryError.unknown_field(name, kinds, "column")
        if kinds[name] not in _JSON:
            raise QueryError(f"{name} has no keys to expand; only JSON columns have")
    return {*names}


def _expanded(column: Column, values: Values, taken: set[str]) -> dict[str, Any]:
    """Return a column for each key of JSON objects; what is no object stays in its column."""
    objects = [value if isinstance(value, dict) else {} for value in values]
    keys = dict.fromkeys(chain.from_iterable(objects))
    made = {}
    if any(value is not None and not isinstance(value, dict) for value in values) or not keys:
        made[column.name] = _objects(values)
    for name, key in ((f"{column.name}.{key}", key) for key in keys):
        if name not in taken:
            made[name] = _inferred([value.get(key) for value in objects])
    return made
