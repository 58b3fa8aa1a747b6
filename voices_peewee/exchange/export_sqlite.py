"""Tables as a Voices database of their own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import peewee as pw

from voices_peewee.database.sqlite import VoicesSqlite
from voices_peewee.database.store import Store
from voices_peewee.database.wording import Translated
from voices_peewee.errors import ExportError
from voices_peewee.exchange.export_rows import Row, Table, converted
from voices_peewee.migrations import runner as migrations
from voices_peewee.schema.fields import JSONField, UTCDateTimeField, dump_json
from voices_peewee.upkeep.copying import writing


def write_sqlite(
    partial: Path,
    target: Path,
    tables: Sequence[Table],
    rows: Callable[[Table], Iterator[list[Row]]],
    store: Store,
) -> None:
    """Fill an empty file with the schema and the rows, exactly as they are stored.

    Args:
        partial: The empty file.
        target: What it becomes, for messages.
        tables: The tables, those that others refer to first.
        rows: Gives the rows of a table.
        store: Where the rows come from.
    """
    _create(partial, target, store.timeout)
    with Translated(target), writing(partial, ExportError, target) as copy:
        # Nobody needs half of it, and it is synced when it is whole.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "foreign_keys=1"):
            copy.execute(f"PRAGMA {setting}").fetchall()
        copy.execute("BEGIN")
        for table in tables:
            _fill(copy, table, rows(table), is_sqlite=isinstance(store.database, pw.SqliteDatabase))
        copy.execute("COMMIT")


def _create(path: Path, target: Path, timeout: float) -> None:
    database = VoicesSqlite(str(path), timeout=timeout)
    try:
        with Translated(target, timeout):
            migrations.upgrade(database, [migrations.package_directory()])
            database.pragma("journal_mode", "delete")
    finally:
        database.close_all()


def _fill(
    copy: sqlite3.Connection, table: Table, batches: Iterator[list[Row]], *, is_sqlite: bool
) -> None:
    names = ", ".join(f'"{name}"' for name in table.columns)
    marks = ", ".join("?" for _ in table.columns)
    sql = f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})'  # noqa: S608 - the models' names
    stored = [] if is_sqlite else _stored(table)
    for rows in batches:
        copy.executemany(sql, converted(rows, stored) if stored else rows)


def _stored(table: Table) -> list[tuple[int, Callable[[Any], Any]]]:
    """Return what turns the values of another kind of database into what SQLite stores."""
    return [
        (place, _as_stored if isinstance(field, JSONField) else field.db_value)
        for place, field in enumerate(table.fields)
        if isinstance(field, JSONField | UTCDateTimeField)
    ]


def _as_stored(value: Any) -> str:
    """Return JSON as SQLite holds it; a server gives it with blanks."""
    return dump_json(json.loads(value) if isinstance(value, str) else value)
