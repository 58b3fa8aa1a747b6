"""pandas DataFrames from columns of a known kind; the only module that knows pandas.

A column's dtype follows from its kind, also where there are no rows: int64 (Int64 where a value
may be missing), float64, bool (boolean), string, datetime64[us, UTC], and object for JSON. A
column that holds what its kind does not allow, which only another program can store, is object.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.results import Batches, Spec, run_query
from voices_peewee.errors import MissingExtraError, QueryError

if TYPE_CHECKING:
    import pandas as pd
    import peewee as pw

Values = Sequence[Any]

_WIDTH: Final = 32  # characters of a time as we store it


def frame(
    specs: Sequence[Spec], batches: Batches, *, expand: bool | Sequence[str] = False
) -> pd.DataFrame:
    """Return a DataFrame of rows.

    Args:
        specs: The columns.
        batches: The rows, as the columns' ``read`` takes them.
        expand: Whether the keys of JSON columns become columns; or which columns' keys.

    Raises:
        MissingExtraError: pandas is not installed.
        QueryError: A column of ``expand`` is unknown or holds no JSON.
    """
    pandas = load_pandas()
    chosen = _to_expand(specs, expand)
    made: dict[str, Any] = {}
    with no_full_collection:
        for spec, values in zip(specs, _columns(len(specs), batches), strict=True):
            if spec.name in chosen:
                made |= _expanded(spec, values, {other.name for other in specs})
            else:
                made[spec.name] = _array(spec, values)
    return pandas.DataFrame(made, copy=False)


def query_frame(
    query: Any, database: pw.Database, *, expand: bool | Sequence[str] = False
) -> pd.DataFrame:
    """Return a DataFrame of what a model's select finds.

    Raises:
        MissingExtraError: pandas is not installed.
        QueryError: A column of ``expand`` is unknown or holds no JSON.
    """
    load_pandas()
    with no_full_collection:
        specs, batches = run_query(query, database)
        return frame(specs, batches, expand=expand)


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


def _columns(count: int, batches: Batches) -> list[list[Any]]:
    columns: list[list[Any]] = [[] for _ in range(count)]
    for batch in batches:
        for column, values in zip(columns, zip(*batch, strict=True), strict=False):
            column.extend(values)
    return columns


def _array(spec: Spec, values: Values) -> Any:
    """Return the values of a column as what pandas keeps."""
    make = _MAKERS.get(spec.kind, _other)
    try:
        return make(spec, values)
    except (TypeError, ValueError, OverflowError):
        return _objects([_lenient(spec.read, value) for value in values])


def _read(spec: Spec, values: Values) -> Values:
    read = spec.read
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


def _integers(spec: Spec, values: Values) -> Any:
    array = load_pandas().array(values, dtype="Int64")
    return array if spec.nullable or array.isna().any() else array.to_numpy("int64")


def _floats(_: Spec, values: Values) -> Any:
    import numpy as np

    return np.array(values, dtype="float64")


def _booleans(spec: Spec, values: Values) -> Any:
    pandas = load_pandas()
    array = pandas.array([None if value is None else bool(value) for value in values], "boolean")
    return array if spec.nullable or array.isna().any() else array.to_numpy("bool")


def _texts(spec: Spec, values: Values) -> Any:
    pandas = load_pandas()
    # Arrow's strings refuse names that are not UTF-8.
    kind = pandas.StringDtype("python")
    return pandas.array(_read(spec, values), dtype=kind)


def _times(spec: Spec, values: Values) -> Any:
    pandas = load_pandas()
    if all(type(value) is str and len(value) == _WIDTH for value in values if value is not None):
        try:
            return pandas.to_datetime(values, format="ISO8601", utc=True).as_unit("us")
        except ValueError:
            pass  # no time, or one that pandas before 3 has no room for
    times = _read(spec, values)
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


def _json(spec: Spec, values: Values) -> Any:
    return _objects(_read(spec, values))


def _other(spec: Spec, values: Values) -> Any:
    """Return values whose kind only they themselves tell."""
    values = _read(spec, values)
    return _array(Spec(spec.name, kind_of(values)), values)


_MAKERS: Final[dict[str, Callable[[Spec, Values], Any]]] = {
    "integer": _integers,
    "float": _floats,
    "boolean": _booleans,
    "text": _texts,
    "path": _texts,
    "time": _times,
    "json": _json,
}


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


def _to_expand(specs: Sequence[Spec], expand: bool | Sequence[str]) -> set[str]:
    kinds = {spec.name: spec.kind for spec in specs}
    if isinstance(expand, bool):
        return {name for name, kind in kinds.items() if kind == "json" and expand}
    names = [expand] if isinstance(expand, str) else expand
    for name in names:
        if name not in kinds:
            raise QueryError.unknown_field(name, kinds, "column")
        if kinds[name] != "json":
            raise QueryError(f"{name} has no keys to expand; only JSON columns have")
    return {*names}


def _expanded(spec: Spec, values: Values, taken: set[str]) -> dict[str, Any]:
    """Return a column for each key of JSON objects; what is no object stays in its column."""
    values = [_lenient(spec.read, value) for value in values]
    keys = dict.fromkeys(key for value in values if isinstance(value, dict) for key in value)
    made = {}
    if any(value is not None and not isinstance(value, dict) for value in values) or not keys:
        made[spec.name] = _objects(values)
    for key in keys:
        name = f"{spec.name}.{key}"
        found = [value.get(key) if isinstance(value, dict) else None for value in values]
        if name not in taken:
            made[name] = _array(Spec(name, kind_of(found)), found)
    return made
