"""Putting a verified backup where a database is, or where none is."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import peewee as pw

from voices_peewee.database.sqlite import Connection
from voices_peewee.database.transactions import Translated
from voices_peewee.errors import (
    BackupError,
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseNewerError,
)
from voices_peewee.migrations import runner as migrations
from voices_peewee.upkeep.backup import (
    Backup,
    Progress,
    copy_pages,
    database_errors,
    existing,
    open_backup,
    open_database,
    pace,
    page_size,
    sidecar,
    snapshot,
    verify,
)
from voices_peewee.upkeep.whole_files import file_errors, hidden_file, whole_file

_OBJECTS: Final = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type IN (?, ?)"


def restore(
    backup: Path,
    database: Path,
    *,
    directories: Sequence[Path],
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> tuple[Backup | None, Backup]:
    """Put a verified backup in place of what the database holds; other programs keep working.

    What the database holds is backed up first, under the lock under which it is replaced, so
    that no row of another program falls between. Migrations that the backup lacks are applied to
    a copy of it first: where one fails, nothing is replaced.
    """
    if database.exists() and backup.exists() and backup.samefile(database):
        raise BackupError(backup, "it is the database itself")
    found = verify(backup)
    known = migrations.names(directories)
    if unknown := [name for name in found.migrations if name not in known]:
        raise DatabaseNewerError(backup, unknown)
    if not os.path.lexists(database):
        _refuse_foreign(found, None, directories)
        with _upgraded(found, database, directories) as source:
            _restore_new(source, database, progress, timeout)
        return None, found
    try:
        live = existing(database, timeout)
        _refuse_foreign(found, live, directories)
        with _upgraded(found, live, directories) as source:
            return _restore_live(source, live, progress, timeout), found
    except DatabaseDamagedError as error:
        reason = f"it cannot be backed up first ({error.detail})"
        advice = "move it away with its -wal, and restore again"
        raise DatabaseError(database, f"{reason}; {advice}") from error


@contextmanager
def _upgraded(backup: Backup, database: Path, directories: Sequence[Path]) -> Iterator[Path]:
    """Give a backup without pending migrations: where it has some, a copy beside the database."""
    if {*migrations.names(directories)} <= {*backup.migrations}:
        yield backup.path
        return
    with file_errors(DatabaseError, database), hidden_file(database.absolute()) as partial:
        with (
            database_errors(database, 0.0),
            closing(open_backup(backup.path)) as source,
            closing(open_database(partial)) as copy,
        ):
            copy_pages(source, copy, None)
        upgrading = pw.SqliteDatabase(str(partial), factory=Connection)  # which forks know of
        with Translated(database), upgrading.connection_context():
            migrations.upgrade(upgrading, directories)
        yield partial


def _restore_new(backup: Path, database: Path, progress: Progress | None, timeout: float) -> None:
    target = database.parent.resolve() / database.name
    if name := sidecar(target):
        raise DatabaseError(database, f"{name!r} is there without it; move that away first")
    with (
        file_errors(DatabaseError, database),
        whole_file(target) as partial,
        database_errors(database, timeout),
        closing(open_backup(backup)) as source,
        closing(open_database(partial)) as copy,
    ):
        copy_pages(source, copy, progress)
        copy.execute("PRAGMA journal_mode=WAL")


def _restore_live(
    backup: Path, database: Path, progress: Progress | None, timeout: float
) -> Backup:
    """Write the backup into the database in one transaction, after that was backed up."""
    saved: list[Backup] = []
    deadline = time.monotonic() + timeout

    def follow(status: int, remaining: int, total: int) -> None:
        if status not in (sqlite3.SQLITE_OK, sqlite3.SQLITE_DONE):
            if time.monotonic() >= deadline:
                raise DatabaseBusyError(database, timeout)
            return
        if not saved:
            # Nobody else can write from here to the end: this is exactly what is replaced.
            saved.append(snapshot(database, timeout=timeout))
        report(status, remaining, total)

    with (
        database_errors(database, timeout),
        closing(open_database(database, timeout)) as live,
        closing(open_backup(backup)) as source,
    ):
        if (size := page_size(live)) != page_size(source):
            reason = f"its pages have {size} bytes and those of the backup {page_size(source)}"
            raise DatabaseError(database, f"{reason}; restore to a path where nothing is")
        live.execute("PRAGMA journal_mode=WAL")
        live.execute("PRAGMA busy_timeout=200")  # between the attempts Ctrl-C is heard
        pages, report = pace(source, progress)
        # Never all in one step: that would commit before the present state is saved.
        total = int(source.execute("PRAGMA page_count").fetchone()[0])
        source.backup(live, pages=max(1, min(pages, total - 1)), progress=follow, sleep=0.05)
        with suppress(sqlite3.OperationalError):  # it is restored; the room can wait
            live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return saved[0]


class SchemaObject(NamedTuple):
    """A trigger or view: ``table`` is what a trigger is on, ``sql`` how it was made."""

    kind: str
    name: str
    table: str
    sql: str


def objects(connection: sqlite3.Connection) -> set[SchemaObject]:
    """Return the triggers and views of a database."""
    rows = connection.execute(_OBJECTS, ("trigger", "view"))
    return {
        SchemaObject(kind, name, table, " ".join(sql.split())) for kind, name, table, sql in rows
    }


@cache
def made(directories: tuple[Path, ...], last: str) -> frozenset[SchemaObject]:
    """Return the triggers and views that the migrations up to the ``last`` make."""
    memory = pw.SqliteDatabase(":memory:")
    with memory.connection_context():
        migrations.upgrade(memory, directories, to=last)
        return frozenset(objects(memory.connection()))


def foreign(
    found: set[SchemaObject], directories: Sequence[Path], applied: Sequence[str]
) -> list[SchemaObject]:
    """Return the triggers and views that the ``applied`` migrations do not make."""
    own = made(tuple(directories), applied[-1]) if found and applied else frozenset()
    return sorted(found - own)


def _refuse_foreign(backup: Backup, database: Path | None, directories: Sequence[Path]) -> None:
    """Refuse triggers and views that nobody who uses this database has made."""
    with closing(open_backup(backup.path)) as connection:
        held = objects(connection)
    if held and database is not None:
        with database_errors(database, 0.0), closing(open_database(database)) as live:
            held -= objects(live)
    for one in foreign(held, directories, backup.migrations):
        reason = f"its {one.kind} {one.name!r} is neither the package's nor of your migrations"
        raise BackupError(backup.path, f"{reason}; drop it in a copy of the backup")
