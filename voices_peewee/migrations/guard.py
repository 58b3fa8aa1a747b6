"""One process migrates at a time, in one transaction, and leaves no fault behind.

Foreign keys are off outside of the transaction and checked before it ends, because a table
rebuild with foreign keys on empties the child tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import peewee as pw

from voices_peewee.database.results import run_sql
from voices_peewee.errors import MigrationError
from voices_peewee.migrations.history import HISTORY_TABLE


@contextmanager
def locked(database: pw.Database) -> Iterator[None]:
    """Hold the only write lock, foreign keys off, in one transaction."""
    if database.in_transaction():
        raise MigrationError("cannot migrate inside a transaction; leave it first")
    if not isinstance(database, pw.SqliteDatabase):
        with database.atomic():
            run_sql(database, "SELECT pg_advisory_xact_lock(hashtextextended(?, 7))", HISTORY_TABLE)
            yield
        return
    foreign_keys = database.pragma("foreign_keys")
    try:
        database.pragma("foreign_keys", 0)
        with database.atomic("IMMEDIATE"):
            yield
    finally:
        database.pragma("legacy_alter_table", 0)  # a rebuild that failed leaves it on
        database.pragma("foreign_keys", foreign_keys)


@contextmanager
def checked(database: pw.Database) -> Iterator[None]:
    """Refuse faults that were not there before; a server refuses them by itself."""
    if not isinstance(database, pw.SqliteDatabase):
        yield
        return
    before = _faults(database)
    yield
    for fault in _faults(database) - before:
        raise MigrationError(f"the migrations leave {fault}; the database is as it was")


def _faults(database: pw.SqliteDatabase) -> Counter[str]:
    """Count rows that point nowhere, and find a view or trigger that does not compile."""
    return Counter([*_orphans(database), *_broken(database)])


def _orphans(database: pw.SqliteDatabase) -> list[str]:
    try:
        rows = run_sql(database, "PRAGMA foreign_key_check")
    except pw.OperationalError as error:
        return [f"a {error}"]
    return [
        f"rows of {child!r} that point to nothing in {parent!r}" for child, _, parent, _ in rows
    ]


def _broken(database: pw.SqliteDatabase) -> list[str]:
    """Rename a table, which makes SQLite compile every view and trigger."""
    run_sql(database, 'CREATE TABLE "voices_probe" (x)')
    try:
        with database.atomic():
            run_sql(database, 'ALTER TABLE "voices_probe" RENAME TO "voices_probe_2"')
            run_sql(database, 'DROP TABLE "voices_probe_2"')
    except pw.OperationalError as error:
        run_sql(database, 'DROP TABLE "voices_probe"')
        return [f"an {error}"]
    return []
