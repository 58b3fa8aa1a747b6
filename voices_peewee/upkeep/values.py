"""Values of an SQLite file that another program wrote: found, and mended where that is plain.

SQLite keeps in a column what it is given. A server's columns take nothing else than theirs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.errors import InvalidValueError
from voices_peewee.schema.fields import JSONField, UTCDateTimeField
from voices_peewee.schema.models import MODELS

_SHOWN: Final = 5  # ids
_MANY: Final = 10_000  # rows that are mended at once
_IS_TIME: Final = (
    f"{{0}} GLOB '{'?' * 10} {'?' * 8}.{'[0-9]' * 6}+00:00'"
    " AND date({0}, '+0 days') IS substr({0}, 1, 10)"  # which makes March 3 of February 31
)
_IS_JSON: Final = "CASE WHEN json_valid({{0}}) THEN json_type({{0}}) = '{}' END IS 1"

# The first kind of field that fits says which values of a column cannot be read, and why.
_RULES: Final[tuple[tuple[type[pw.Field], str, str], ...]] = (
    (UTCDateTimeField, f"NOT ({_IS_TIME})", "is no time as this package writes it"),
    (JSONField, "NOT json_valid({0})", "is no JSON"),
    (pw.BooleanField, "typeof({0}) <> 'integer' OR {0} NOT IN (0, 1)", "is neither 0 nor 1"),
    (pw.TextField, "typeof({0}) = 'blob'", "is no text"),
    (pw.IntegerField, "typeof({0}) <> 'integer'", "is no integer"),
    (pw.DoubleField, "typeof({0}) NOT IN ('real', 'integer')", "is no number"),
)


class Column(NamedTuple):
    """A column with what finds its unreadable values (SQL), and what is said of them."""

    table: str
    name: str
    condition: str
    what: str
    field: pw.Field

    @property
    def shown(self) -> str:
        """What is read of such a value: only a time can be mended; others may be no text."""
        return f'"{self.name}"' if isinstance(self.field, UTCDateTimeField) else "1"


@dataclass
class Unreadable:
    """The values of one column that cannot be read, or are written in another way than ours."""

    column: Column
    is_mendable: bool
    count: int = 0
    ids: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        if self.count == 1:
            where, subject = f"id {self.ids[0]}", "1 value"
        else:
            more = ", …" if self.count > len(self.ids) else ""
            where = f"ids {', '.join(map(str, self.ids))}{more}"
            subject = f"each of {self.count} values"
        return (
            f"{subject} of column {self.column.name!r} in table {self.column.table!r} ({where}) "
            f"{self.column.what}"
        )


def unreadable(store: Store) -> list[Unreadable]:
    """Return which values of an SQLite file cannot be read, by column; nothing is changed."""
    found: dict[tuple[str, str, bool], Unreadable] = {}
    with store.reading():
        for column, key, value in _values(store.connection()):
            mendable = _mended(column, value) is not None
            group = found.setdefault(
                (column.table, column.name, mendable), Unreadable(column, mendable)
            )
            group.count += 1
            if len(group.ids) < _SHOWN:
                group.ids.append(key)
    return list(found.values())


def mend(store: Store, before: Callable[[], object]) -> int:
    """Write times with Z, T or another zone as ours, in one transaction; return how many.

    A time without a zone is taken for UTC, as it is when it is read.

    Args:
        store: The database.
        before: Called before the first change, with the lock held.
    """
    with store.writing():
        connection = store.connection()
        rows: dict[tuple[str, int], dict[str, str]] = {}
        for column, key, value in _values(connection):
            if (time := _mended(column, value)) is not None:
                rows.setdefault((column.table, key), {})[column.name] = time
        if rows:
            before()
        return sum(_write(connection, *row, times) for row, times in rows.items())


def _write(connection: sqlite3.Connection, table: str, key: int, times: dict[str, str]) -> int:
    """Write the times of one row at once, as a CHECK compares them; return how many."""
    changes = ", ".join(f'"{name}" = ?' for name in times)
    sql = f'UPDATE "{table}" SET {changes} WHERE rowid = ?'  # noqa: S608 - the models' names
    try:
        connection.execute(sql, (*times.values(), key))
    except sqlite3.IntegrityError:
        return 0  # a run that ends before it begins, say; it stays a finding
    return len(times)


def _mended(column: Column, value: object) -> str | None:
    """Return a time as it should be stored, or None where nothing can be said."""
    if not isinstance(column.field, UTCDateTimeField) or not isinstance(value, str):
        return None
    try:
        return str(column.field.db_value(column.field.python_value(value)))
    except (ValueError, OverflowError, InvalidValueError):
        return None


def _values(connection: Any) -> Iterator[tuple[Column, int, object]]:
    """Yield column, row id and value of what cannot be read, in one pass over each table."""
    for model in MODELS:
        table = model._meta.table_name
        rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
        columns = list(_columns(model, {name for (name,) in rows}))
        if not columns:
            continue
        shown = ", ".join(f"CASE WHEN {one.condition} THEN {one.shown} END" for one in columns)
        any_of = " OR ".join(one.condition for one in columns)
        sql = f'SELECT rowid, {shown} FROM "{table}" WHERE {any_of}'  # noqa: S608 - as above
        for key, *values in connection.execute(sql).fetchall():
            for column, value in zip(columns, values, strict=True):
                if value is not None:
                    yield column, key, value


def _columns(model: type[pw.Model], present: set[str]) -> Iterator[Column]:
    for one in model._meta.sorted_fields:
        rule = _rule(one)
        if rule is not None and one.column_name in present:
            quoted = f'"{one.column_name}"'
            condition = f"({quoted} IS NOT NULL AND ({rule[0].format(quoted)}))"
            yield Column(model._meta.table_name, one.column_name, condition, rule[1], one)


def _rule(one: pw.Field) -> tuple[str, str] | None:
    if isinstance(one, JSONField) and one.default in _JSON:
        return f"NOT ({_IS_JSON.format(_JSON[one.default])})", f"is no JSON {_JSON[one.default]}"
    if isinstance(one, pw.AutoField):
        return None
    return next((rule[1:] for rule in _RULES if isinstance(one, rule[0])), None)


_JSON: Final[dict[object, str]] = {dict: "object", list: "array"}
