"""Putting a verified backup where a database is, or where none is."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from voices_peewee.errors import (
    BackupError,
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
)
from voices_peewee.upkeep import copying as backup_copy
from voices_peewee.upkeep.copying import Progress, database_errors, open_backup, open_database
from voices_peewee.upkeep.facts import Backup, digest
from voices_peewee.upkeep.places import (
    file_errors,
    link,
    locked,
    sidecar,
    sync,
    target_names,
    unfinished,
)


def restore_new(backup: Path, database: Path, *, progress: Progress | None, timeout: float) -> None:
    """Place the backup where no database is."""
    with file_errors(DatabaseError, database):
        target = database.parent.resolve() / database.name
        if not target.parent.is_dir():
            raise DatabaseError(database, f"there is no folder {str(target.parent)!r}")
    if name := sidecar(target):
        raise DatabaseError(database, f"{name!r} is there without it; move that away first")
    with unfinished(target, DatabaseError) as partial:
        with (
            database_errors(database, timeout),
            closing(open_backup(backup)) as source,
            backup_copy.writing(partial, DatabaseError, database) as copy,
        ):
            backup_copy.copy_pages(source, copy, progress)
            copy.execute("PRAGMA journal_mode=WAL")
        with file_errors(DatabaseError, database):
            sync(partial)
            with locked(target.parent):
                if not link(partial, target):
                    raise DatabaseError(database, "another program just created it; restore again")


def restore_live(
    backup: Path,
    database: Path,
    save: Callable[[], Backup],
    *,
    progress: Progress | None,
    timeout: float,
) -> Backup:
    """Write the backup into the database in one transaction, after ``save`` backed that up."""
    with database_errors(database, timeout), closing(open_database(database, timeout)) as live:
        with suppress(DatabaseDamagedError), database_errors(database, timeout):
            backup_copy.require_voices(live)  # before WAL mode, which changes the file
        live.execute("PRAGMA writable_schema=ON")  # else a truncated file refuses even writes
        if live.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise DatabaseError(database, "it cannot be put into WAL mode, which restoring needs")
        live.execute("PRAGMA busy_timeout=200")  # the steps themselves wait, see _Steps
        with (
            _with_page_size(backup, database, backup_copy.page_size(live)) as path,
            closing(open_backup(path)) as source,
        ):
            pages, report = backup_copy.pace(source, progress)
            steps = _Steps(database, save, report, timeout)
            # Never all in one step: that would commit before the present state is saved.
            total = int(source.execute("PRAGMA page_count").fetchone()[0])
            at_once = max(1, min(pages, total - 1))
            source.backup(live, pages=at_once, progress=steps, sleep=0.05)
        with suppress(sqlite3.OperationalError):  # it is restored; the room can wait
            live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return steps.saved[0]


@dataclass
class _Steps:
    """Follow the steps of one restoring: wait for the lock, save the present state, report."""

    database: Path
    save: Callable[[], Backup]
    report: Callable[[int, int, int], None]
    timeout: float
    deadline: float | None = None
    saved: list[Backup] = field(default_factory=list)

    def __call__(self, status: int, remaining: int, total: int) -> None:
        """Be called by SQLite after each step."""
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self.deadline = self.deadline or time.monotonic() + self.timeout
            if time.monotonic() >= self.deadline:
                raise DatabaseBusyError(self.database, self.timeout)
        elif status in (sqlite3.SQLITE_OK, sqlite3.SQLITE_DONE):
            if not self.saved:
                # Nobody else can write from here to the end: this is exactly what is replaced.
                self.saved.append(self._save())
            self.report(status, remaining, total)

    def _save(self) -> Backup:
        try:
            return self.save()
        except DatabaseDamagedError:
            return _put_aside(self.database, self.timeout)


def _put_aside(database: Path, timeout: float) -> Backup:
    """Copy the pages of a damaged database as they are; nothing can vouch for them."""
    targets = target_names(database, None, "voices_damaged")
    target = next(targets)
    with unfinished(target, BackupError) as partial:
        with (
            database_errors(database, timeout, target),
            closing(open_database(database, timeout)) as live,
            backup_copy.writing(partial, BackupError, target) as copy,
        ):
            live.execute("PRAGMA writable_schema=ON")
            live.backup(copy)
        with file_errors(BackupError, target):
            sync(partial)
            size, sha256 = partial.stat().st_size, digest(partial)
            with locked(target.parent):
                while not link(partial, target):
                    target = next(targets)
    return Backup(target, size, sha256, datetime.now(UTC), str(database), (), {}, "")


@contextmanager
def _with_page_size(backup: Path, database: Path, size: int) -> Iterator[Path]:
    """Yield the backup, or a rewritten copy of it whose pages have the database's size."""
    with closing(open_backup(backup)) as source:
        if backup_copy.page_size(source) == size:
            yield backup
            return
        with unfinished(database, DatabaseError) as partial:
            with backup_copy.writing(partial, DatabaseError, database) as copy:
                backup_copy.copy_pages(source, copy, None)
                copy.execute(f"PRAGMA page_size={size}")
                copy.execute("VACUUM")
            yield partial
