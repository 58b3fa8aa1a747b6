"""pandas DataFrames of columns and rows; the only module that knows pandas.

A column's dtype follows from its kind, also where there are no rows: int64 (Int64 where a value
may be missing), float64, bool (boolean), string, datetime64[us, UTC], and object for JSON. A
column that holds what its kind does not allow, which only another program can store, is object.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from voices_peewee.errors import MissingExtraError, QueryError
from voices_peewee.rendering.table import Column

if TYPE_CHECKING:
    import pandas as pd

Values = Sequence[Any]

_WIDTH: Final = 32  # characters of a time as we store it
_UTC: Final = "+00:00"
_UNREADABLE: Final = (AttributeError, TypeError, ValueError, OverflowError)


class _Held(Protocol):
    """A column of a frame, such as ``rendering.table.Column``.

    ``kind`` is one of ``plain.KINDS``, ``float``, or ``other``, where only the values tell;
    ``read`` turns a stored value, never None, into Python's.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def nullable(self) -> bool: ...
    @property
    def read(self) -> Callable[[Any], Any] | None: ...


def frame(
    columns: Sequence[_Held],
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


def _array(column: _Held, values: Values) -> Any:
    """Return the values of a column as what pandas keeps."""
    read = column.read
    try:
        if column.kind == "time":
            return _times(read, values)
        if read is not None:
            found = [value if value is None else read(value) for value in values]
        else:
            found = list(values)
        return _MAKERS.get(column.kind, _inferred)(found, column.nullable)
    except _UNREADABLE:
        return _objects(_lenient(column, values))


def _lenient(column: _Held, values: Values) -> list[Any]:
    """Return Python's values of stored ones; what cannot be read stays as it is."""
    return [_attempted(column.read, value) for value in values]


def _attempted(read: Callable[[Any], Any] | None, value: Any) -> Any:
    try:
        return value if read is None or value is None else read(value)
    except _UNREADABLE:
        return value


def _objects(values: Values, _: bool = True) -> Any:
    import numpy as np

    array = np.fromiter(values, dtype=object, count=len(values))  # lists inside stay lists
    return load_pandas().Series(array, dtype=object)  # else pandas takes texts for its own


def _integers(values: Values, nullable: bool) -> Any:
    array = load_pandas().array(values, dtype="Int64")
    return array if nullable or array.isna().any() else array.to_numpy("int64")


def _floats(values: Values, _: bool) -> Any:
    import numpy as np

    return np.array(values, dtype="float64")


def _booleans(values: Values, nullable: bool) -> Any:
    known = [None if value is None else bool(value) for value in values]
    array = load_pandas().array(known, dtype="boolean")
    return array if nullable or array.isna().any() else array.to_numpy("bool")


def _texts(values: Values, _: bool) -> Any:
    pandas = load_pandas()
    # Arrow's strings refuse names that are not UTF-8.
    return pandas.array(values, dtype=pandas.StringDtype("python"))


def _times(read: Callable[[Any], Any] | None, values: Values) -> Any:
    import numpy as np

    stamps = [None if value is None else _stamp(read, value) for value in values]
    times = np.array(stamps, dtype="datetime64[us]")  # pandas before 3 has room for 584 years only
    return load_pandas().DatetimeIndex(times).tz_localize("UTC")


def _stamp(read: Callable[[Any], Any] | None, value: Any) -> str | dt.datetime:
    """Return a time in UTC as NumPy takes it: without its zone."""
    if type(value) is str and len(value) == _WIDTH and value.endswith(_UTC):
        return value.removesuffix(_UTC)
    time: dt.datetime = value if read is None else read(value)
    if time.tzinfo is None:
        raise ValueError("a time without a zone is none")
    return time.astimezone(dt.UTC).replace(tzinfo=None)


_JSON: Final = ("json", "tags")
_MAKERS: Final[dict[str, Callable[[Values, bool], Any]]] = {
    **dict.fromkeys(("integer", "count", "hertz", "bytes"), _integers),
    **dict.fromkeys(("float", "number", "decibel", "difference", "seconds"), _floats),
    **dict.fromkeys(("percent", "fixed", "rounded", "megabytes"), _floats),
    **dict.fromkeys(("text", "key", "path", "aside"), _texts),
    **dict.fromkeys(_JSON, _objects),
    "boolean": _booleans,
}
# By pandas' name for them; where values differ, they stay what they are, as those of JSON do.
_INFERRED: Final = {
    "boolean": "boolean",
    "integer": "integer",
    "floating": "float",
    "mixed-integer-float": "float",
    "string": "text",
    "datetime": "time",
}


def _inferred(values: Values, _: bool = True) -> Any:
    """Return a column that no field describes."""
    kind = load_pandas().api.types.infer_dtype(values, skipna=True)
    return _array(Column("", _INFERRED.get(kind, "json")), values)


def _to_expand(columns: Sequence[_Held], expand: bool | Sequence[str]) -> set[str]:
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


def _expanded(column: _Held, values: Values, taken: set[str]) -> dict[str, Any]:
    """Return a column for each key of JSON objects; what is no object stays in its column."""
    values = _lenient(column, values)
    keys = dict.fromkeys(key for value in values if isinstance(value, dict) for key in value)
    made = {}
    if any(value is not None and not isinstance(value, dict) for value in values) or not keys:
        made[column.name] = _objects(values)
    for key in keys:
        name = f"{column.name}.{key}"
        found = [value.get(key) if isinstance(value, dict) else None for value in values]
        if name not in taken:
            made[name] = _inferred(found)
    return made
