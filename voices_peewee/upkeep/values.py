"""Values that another program wrote: found, and mended where that is plain.

SQLite keeps in a column what it is given; a server takes times and JSON that are none of ours.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.errors import InvalidValueError
from voices_peewee.records.sources import FOLLOW, STRAYED
from voices_peewee.schema.fields import JSONField, TagsField, UTCDateTimeField
from voices_peewee.schema.models import CHECKS, MODELS, ProcessedFile

Values = list[tuple[int, bytes | None]]  # ids, each with the bytes of a text

_SHOWN: Final = 5  # ids
# GLOB sees no more of a text than what stands before a NUL.
_NOT_ASCII: Final = (
    "typeof({0}) = 'text' AND ({0} GLOB '*[^' || char(1) || '-' || char(127) || ']*'"
    " OR instr({0}, char(0)))"
)
_IS_TIME: Final = (
    f"{{0}} GLOB '{'?' * 10} {'?' * 8}.{'[0-9]' * 6}+00:00'"
    # It makes March 3 of February 31; a fraction it would round up to the next day.
    " AND date(substr({0}, 1, 19), '+0 days') IS substr({0}, 1, 10) AND substr({0}, 1, 4) > '0000'"
)
# SQLite takes JSON in bytes, too, where we do not read it.
_IS_JSON: Final = "CASE WHEN typeof({0}) = 'text' AND json_valid({0}) THEN"
_IS_OBJECT: Final = _IS_JSON + " json_type({0}) = 'object' END IS 1"
_ALL_TEXT: Final = "NOT EXISTS (SELECT 1 FROM json_each({0}) WHERE type <> 'text')"
_IS_TAGS: Final = f"{_IS_JSON} json_type({{0}}) = 'array' AND {_ALL_TEXT} END IS 1"

# The first kind of field that fits says which values of a column cannot be read, and why.
_RULES: Final[tuple[tuple[type[pw.Field], str, str], ...]] = (
    (UTCDateTimeField, f"NOT ({_IS_TIME})", "is no time as this package writes it"),
    (TagsField, f"NOT ({_IS_TAGS})", "is no JSON array of texts"),
    (JSONField, f"NOT ({_IS_OBJECT})", "is no JSON object"),
    (pw.BooleanField, "typeof({0}) <> 'integer' OR {0} NOT IN (0, 1)", "is neither 0 nor 1"),
    (pw.TextField, "typeof({0}) = 'blob'", "is no text"),
    (pw.ForeignKeyField, "typeof({0}) <> 'integer'", "is no integer"),
    (pw.IntegerField, "typeof({0}) <> 'integer'", "is no integer"),
    (pw.DoubleField, "typeof({0}) NOT IN ('real', 'integer')", "is no number"),
)
_NEVER: Final = "1 = 0"
_ON_SERVER: Final[dict[type[pw.Field], str]] = {
    UTCDateTimeField: "NOT isfinite({0}) OR extract(year FROM {0}) NOT BETWEEN 1 AND 9999",
    TagsField: """jsonb_typeof({0}) <> 'array'
 OR jsonb_path_exists({0}, '$[*] ? (@.type() != "string")')""",
    JSONField: "jsonb_typeof({0}) <> 'object'",
}
_IS_WHOLE: Final = """NOT EXISTS (SELECT 1 FROM processed_files AS one
 WHERE one.id = processed_files.recording_id AND one.recording_id IS NOT NULL)"""


def listed(ids: Sequence[int]) -> str:
    """Return the first of the ids, and how many rows there are."""
    some = ", ".join(map(str, ids[:_SHOWN]))
    more = ", …" * (len(ids) > _SHOWN)
    return f"id {some}" if len(ids) == 1 else f"{len(ids)} rows: {some}{more}"


def unreadable(store: Store) -> Iterator[tuple[str, int]]:
    """Yield which values of a column cannot be read, and how many of them ``mend`` mends."""
    for field, what, values in _columns(store):
        mended = [key for key, value in values if _mended(field, value) is not None]
        yield from _told(field, sorted({key for key, _ in values}.difference(mended)), what)
        yield from _told(field, mended, what, len(mended))
    if store.server is None:
        yield from _no_text(store)
        yield from _refused(store)


def _told(
    field: pw.Field, ids: Sequence[int], what: str, mendable: int = 0
) -> Iterator[tuple[str, int]]:
    if ids:
        where = f"column {field.column_name!r} in table {field.model._meta.table_name!r}"
        yield f"{where} ({listed(ids)}) {what}", mendable


_STRAYED: Final = f"""SELECT count(*) FROM processed_files AS part
 JOIN processed_files AS recording ON {STRAYED.format(part="part")}"""  # noqa: S608 - our own text


def strayed(store: Store) -> int:
    """Count the stems and voices that have another path than their recordings."""
    with store.reading():
        return int(store.connection().execute(_STRAYED).fetchone()[0])


def mend(store: Store, before: Callable[[], object]) -> None:
    """Write times with Z, T or another zone as ours, and paths of stems, in one transaction.

    A time without a zone is taken for UTC, as it is when it is read. A stem's or voice's
    ``original_path`` is its recording's.

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
        has_parts = any(field is ProcessedFile.recording for field in _present(store))
        is_strayed = has_parts and strayed(store)
        if rows or is_strayed:
            before()
        connection = store.connection()
        if is_strayed:
            connection.execute(FOLLOW)
        for (table, key), times in rows.items():
            _write(connection, table, key, times)


def _write(connection: sqlite3.Connection, table: str, key: int, times: dict[str, str]) -> None:
    """Write the times of one row at once, as a CHECK compares them."""
    changes = ", ".join(f'"{name}" = ?' for name in times)
    sql = f'UPDATE "{table}" SET {changes} WHERE rowid = ?'  # noqa: S608 - the models' names
    with suppress(sqlite3.IntegrityError):  # a run that ends before it begins stays a finding
        connection.execute(sql, (*times.values(), key))


def _mended(field: pw.Field, value: bytes | None) -> str | None:
    """Return a time as it should be stored, or None where nothing can be said."""
    if not isinstance(field, UTCDateTimeField) or value is None:
        return None
    try:
        return str(field.db_value(field.python_value(value.decode(errors="replace"))))
    except (ValueError, OverflowError, InvalidValueError):
        return None


def _columns(store: Store) -> Iterator[tuple[pw.Field, str, Values]]:
    """Yield the columns with what is said of their unreadable values, and those."""
    for field in _present(store):
        rule, what = _rule(store, field)
        yield field, what, _values(store, field, rule)


def _present(store: Store) -> Iterator[pw.Field]:
    for model in MODELS:
        with store.reading():
            columns = {one.name for one in store.database.get_columns(model._meta.table_name)}
        yield from (one for one in model._meta.sorted_fields if one.column_name in columns)


def _values(store: Store, field: pw.Field, condition: str) -> Values:
    name, table = f'"{field.column_name}"', field.model._meta.table_name
    shown = f"rowid, CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) END"
    shown = shown if store.server is None else "id, NULL"
    where = f"{name} IS NOT NULL AND ({condition.format(name)})"
    with store.reading():
        rows = store.connection().execute(f'SELECT {shown} FROM "{table}" WHERE {where}')  # noqa: S608 - the models' names
        return [*rows.fetchall()]


def _no_text(store: Store) -> Iterator[tuple[str, int]]:
    """Yield texts that are not UTF-8, which other programs may refuse to read."""
    for field in _present(store):
        found = _values(store, field, _NOT_ASCII)
        ids = [key for key, text in found if text and text.decode(errors="ignore").encode() != text]
        yield from _told(field, ids, "is no text in UTF-8")


def _refused(store: Store) -> Iterator[tuple[str, int]]:
    """Yield values that a CHECK refuses: others can switch it off; and parts of parts."""
    for field in _present(store):
        name = f"ck_{field.model._meta.table_name}_{field.column_name}"
        rule, what = CHECKS.get(name, ("1", ""))
        if field is ProcessedFile.recording:
            rule, what = _IS_WHOLE, "the recording of a stem or voice is none itself"
        unread, _ = _rule(store, field)
        found = _values(store, field, f"NOT ({rule}) AND NOT ({unread})") if what else []
        yield from _told(field, [key for key, _ in found], f"breaks a rule: {what}")


def _rule(store: Store, field: pw.Field) -> tuple[str, str]:
    """Return which values of a column cannot be read, and why."""
    rule, what = next(one[1:] for one in _RULES if isinstance(field, one[0]))
    return (rule if store.server is None else _ON_SERVER.get(type(field), _NEVER)), what
