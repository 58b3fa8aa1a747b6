"""Values of an SQLite file that another program wrote: found, and mended where that is plain.

SQLite keeps in a column what it is given. A server's columns take nothing else than theirs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.errors import InvalidValueError
from voices_peewee.schema.fields import JSONField, UTCDateTimeField
from voices_peewee.schema.models import MODELS

_SHOWN: Final = 5  # ids
_IS_TIME: Final = (
    f"{{0}} GLOB '{'?' * 10} {'?' * 8}.{'[0-9]' * 6}+00:00'"
    " AND date({0}, '+0 days') IS substr({0}, 1, 10)"  # which makes March 3 of February 31
)
_IS_JSON: Final = "CASE WHEN json_valid({{0}}) THEN json_type({{0}}) = '{0}' END IS 1"
_NO_JSON: Final[dict[object, tuple[str, str]]] = {
    default: (f"NOT ({_IS_JSON.format(name)})", f"is no JSON {name}")
    for default, name in ((dict, "object"), (list, "array"))
}

# The first kind of field that fits says which values of a column cannot be read, and why.
_RULES: Final[tuple[tuple[type[pw.Field], str, str], ...]] = (
    (UTCDateTimeField, f"NOT ({_IS_TIME})", "is no time as this package writes it"),
    (JSONField, "NOT json_valid({0})", "is no JSON"),
    (pw.BooleanField, "typeof({0}) <> 'integer' OR {0} NOT IN (0, 1)", "is neither 0 nor 1"),
    (pw.TextField, "typeof({0}) = 'blob'", "is no text"),
    (pw.IntegerField, "typeof({0}) <> 'integer'", "is no integer"),
    (pw.DoubleField, "typeof({0}) NOT IN ('real', 'integer')", "is no number"),
)


class Unreadable(NamedTuple):
    """Values of one column that cannot be read, or are written in another way than ours."""

    table: str
    column: str
    what: str
    ids: list[int]
    is_mendable: bool

    def __str__(self) -> str:
        where = f"column {self.column!r} in table {self.table!r}"
        return f"{where} ({listed(self.ids)}) {self.what}"


def listed(ids: Sequence[int]) -> str:
    """Return the first of the ids, and how many rows there are."""
    some = ", ".join(map(str, ids[:_SHOWN]))
    return (
        f"id {some}" if len(ids) == 1 else f"{len(ids)} rows: {some}" + ", …" * (len(ids) > _SHOWN)
    )


def unreadable(store: Store) -> Iterator[Unreadable]:
    """Yield which values of an SQLite file cannot be read, by column; nothing is changed."""
    for field, what, values in _columns(store):
        table = field.model._meta.table_name
        for is_mendable in (False, True):
            mended = ((key, _mended(field, value)) for key, value in values)
            if ids := [key for key, time in mended if (time is not None) is is_mendable]:
                yield Unreadable(table, field.column_name, what, ids, is_mendable)


def mend(store: Store, before: Callable[[], object]) -> None:
    """Write times with Z, T or another zone as ours, in one transaction.

    A time without a zone is taken for UTC, as it is when it is read.

    Args:
        store: The database.
        before: Called before the first change, with the lock held.
    """
    with store.writing():
        rows: dict[tuple[str, int], dict[str, str]] = {}
        for field, _, values in _columns(store):
            for key, value in values:
                if (time := _mended(field, value)) is not None:
                    row = rows.setdefault((field.model._meta.table_name, key), {})
                    row[field.column_name] = time
        if rows:
            before()
        for (table, key), times in rows.items():
            _write(store.connection(), table, key, times)


def _write(connection: sqlite3.Connection, table: str, key: int, times: dict[str, str]) -> None:
    """Write the times of one row at once, as a CHECK compares them."""
    changes = ", ".join(f'"{name}" = ?' for name in times)
    sql = f'UPDATE "{table}" SET {changes} WHERE rowid = ?'  # noqa: S608 - the models' names
    try:
        connection.execute(sql, (*times.values(), key))
    except sqlite3.IntegrityError:
        return  # a run that ends before it begins, say; it stays a finding


def _mended(field: pw.Field, value: object) -> str | None:
    """Return a time as it should be stored, or None where nothing can be said."""
    if not isinstance(field, UTCDateTimeField) or not isinstance(value, str):
        return None
    try:
        return str(field.db_value(field.python_value(value)))
    except (ValueError, OverflowError, InvalidValueError):
        return None


def _columns(store: Store) -> Iterator[tuple[pw.Field, str, list[tuple[int, object]]]]:
    """Yield the columns with what is said of their unreadable values, and ids and values."""
    for model in MODELS:
        table = model._meta.table_name
        with store.reading():
            present = {column.name for column in store.database.get_columns(table)}
        for field in model._meta.sorted_fields:
            rule = _rule(field)
            if rule is None or field.column_name not in present:
                continue
            name = f'"{field.column_name}"'
            # Only a time can be mended; others may be no text.
            shown = name if isinstance(field, UTCDateTimeField) else "NULL"
            condition = f"{name} IS NOT NULL AND ({rule[0].format(name)})"
            sql = f'SELECT rowid, {shown} FROM "{table}" WHERE {condition}'  # noqa: S608 - as above
            with store.reading():
                values = store.connection().execute(sql).fetchall()
            yield field, rule[1], values


def _rule(field: pw.Field) -> tuple[str, str] | None:
    if isinstance(field, pw.AutoField):
        return None
    if isinstance(field, JSONField) and field.default in _NO_JSON:
        return _NO_JSON[field.default]
    return next((rule[1:] for rule in _RULES if isinstance(field, rule[0])), None)
