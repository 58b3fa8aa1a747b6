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


class Held(Protocol):
    """A column of a frame, such as ``rendering.table.Column``."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def kind(self) -> str:
        """One of ``plain.KINDS``, ``float``, or ``other``, where only the values tell."""

    @property
    def nullable(self) -> bool:
        """Whether a value may be missing."""

    @property
    def read(self) -> Callable[[Any], Any] | None:
        """What turns a stored value, never None, into Python's."""


def frame(
    columns: Sequence[Held],
    batches: Iterable[Iterable[Sequence[Any]]],
    *,
    expand: bool | Sequence[str] = False,
) -> pd.DataFrame:
    """Return a DataFrame of rows.

    Args:
        columns: What the values of a row are.
        batches: The rows, in lists of any length, as the columns' ``read`` takes them.
        expand: Whether the keys of JSON columns become columns; or which columns' keys.

    Raises:
        MissingExtraError: pandas is not installed.
        QueryError: A column of ``expand`` is unknown or holds no JSON.
    """
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
    """Return pandas.

    Raises:
        MissingExtraError: It is not installed.
    """
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


def _array(column: Held, values: Values) -> Any:
    """Return the values of a column as what pandas keeps."""
    make = _MAKERS.get(column.kind, _other)
    try:
        return make(column, values)
    except (TypeError, ValueError, OverflowError):
        return _objects([_lenient(column.read, value) for value in values])


def _read(column: Held, values: Values) -> Values:
    read = column.read
    if read is None:
        return values
    return [value if value is None else read(value) for value in values]


def _lenient(read: Callable[[Any], Any] | None, value: Any) -> Any:
    """Return Python's value of a stored one; what cannot be read stays as it is."""
    if read is None or value is None:
        return value
    try:
        return read(value)
    except (TypeError, ValueError, OverflowError):
        return value


def _objects(values: Values) -> Any:
    import numpy as np

    array = np.fromiter(values, dtype=object, count=len(values))  # lists inside stay lists
    return load_pandas().Series(array, dtype=object)  # else pandas takes texts for its own


def _integers(column: Held, values: Values) -> Any:
    array = load_pandas().array(values, dtype="Int64")
    return array if column.nullable or array.isna().any() else array.to_numpy("int64")


def _floats(_: Held, values: Values) -> Any:
    import numpy as np

    return np.array(values, dtype="float64")


def _booleans(column: Held, values: Values) -> Any:
    pandas = load_pandas()
    array = pandas.array([None if value is None else bool(value) for value in values], "boolean")
    return array if column.nullable or array.isna().any() else array.to_numpy("bool")


def _texts(column: Held, values: Values) -> Any:
    pandas = load_pandas()
    # Arrow's strings refuse names that are not UTF-8.
    kind = pandas.StringDtype("python")
    return pandas.array(_read(column, values), dtype=kind)


def _times(column: Held, values: Values) -> Any:
    pandas = load_pandas()
    if all(type(value) is str and len(value) == _WIDTH for value in values if value is not None):
        try:
            return pandas.to_datetime(values, format="ISO8601", utc=True).as_unit("us")
        except ValueError:
            pass  # no time, or one that pandas before 3 has no room for
    times = _read(column, values)
    try:
        return pandas.to_datetime(times, utc=True).as_unit("us")
    except pandas.errors.OutOfBoundsDatetime:
        return _far_times(times)


def _far_times(times: Iterable[dt.datetime | None]) -> Any:
    """Return times that do not fit into nanoseconds."""
    import numpy as np

    plain = [
        None if time is None else time.astimezone(dt.UTC).replace(tzinfo=None) for time in times
    ]
    return load_pandas().DatetimeIndex(np.array(plain, dtype="datetime64[us]")).tz_localize("UTC")


def _json(column: Held, values: Values) -> Any:
    return _objects(_read(column, values))


def _other(column: Held, values: Values) -> Any:
    """Return values whose kind only they themselves tell."""
    values = _read(column, values)
    return _array(Column(column.name, kind_of(values)), values)


_MAKERS: Final[dict[str, Callable[[Held, Values], Any]]] = {
    **dict.fromkeys(("integer", "count", "hertz", "bytes"), _integers),
    **dict.fromkeys(("float", "number", "decibel", "difference", "seconds"), _floats),
    **dict.fromkeys(("percent", "fixed", "rounded", "megabytes"), _floats),
    **dict.fromkeys(("text", "key", "path", "aside"), _texts),
    **dict.fromkeys(("json", "tags"), _json),
    "boolean": _booleans,
    "time": _times,
}
_JSON: Final = ("json", "tags")


def kind_of(values: Iterable[Any]) -> str:
    """Return the kind of values that no field tells: json, that is any, where they differ."""
    types = {type(value) for value in values if value is not None}
    if types == {bool}:
        return "boolean"
    if types == {int}:
        return "integer"
    if types and types <= {int, float}:
        return "float"
    if types == {str}:
        return "text"
    if types == {dt.datetime} and all(
        value is None or value.utcoffset() is not None for value in values
    ):
        return "time"
    return "json"


def _to_expand(columns: Sequence[Held], expand: bool | Sequence[str]) -> set[str]:
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


def _expanded(column: Held, values: Values, taken: set[str]) -> dict[str, Any]:
    """Return a column for each key of JSON objects; what is no object stays in its column."""
    values = [_lenient(column.read, value) for value in values]
    keys = dict.fromkeys(key for value in values if isinstance(value, dict) for key in value)
    made = {}
    if any(value is not None and not isinstance(value, dict) for value in values) or not keys:
        made[column.name] = _objects(values)
    for key in keys:
        name = f"{column.name}.{key}"
        found = [value.get(key) if isinstance(value, dict) else None for value in values]
        if name not in taken:
            made[name] = _array(Column(name, kind_of(found)), found)
    return made
