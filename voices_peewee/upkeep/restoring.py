"""Putting a verified backup where a database is, or where none is."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from voices_peewee.errors import (
    BackupError,
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseNewerError,
)
from voices_peewee.migrations.runner import names
from voices_peewee.upkeep import foreign
from voices_peewee.upkeep.backup import Backup, existing, sidecar, snapshot, verify
from voices_peewee.upkeep.copying import (
    Progress,
    copy_pages,
    database_errors,
    open_backup,
    open_database,
    pace,
    page_size,
    writing,
)
from voices_peewee.upkeep.whole_files import file_errors, partial_file, place


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
    that no row of another program falls between. Migrating afterwards is the caller's part.

    Args:
        backup: The backup.
        database: The database; it need not exist.
        directories: Where the known migrations are.
        progress: Called with (bytes done, bytes in all); what it raises cancels the restoring.
        timeout: How long to wait for another program's lock, in seconds.

    Returns:
        The backup of what was there (None when nothing was) and the one that was restored.

    Raises:
        BackupError: ``verify`` refuses the backup, it is the database itself, or it holds a
            trigger or view of somebody else.
        DatabaseNewerError: The backup has migrations that are not known.
        NotVoicesError: ``database`` is something else.
        DatabaseBusyError: Another program kept its lock for longer than ``timeout``.
        DatabaseReadOnlyError: The database or its folder refuses writes.
        DatabaseFullError: The disk is full.
        DatabaseError: The database is damaged, has pages of another size, or cannot be created.
    """
    found = verify(backup, own=database)
    known = names(directories)
    if unknown := [name for name in found.migrations if name not in known]:
        raise DatabaseNewerError(backup, unknown)
    if not os.path.lexists(database):
        _refuse_foreign(found, None, directories)
        _restore_new(backup, database, progress=progress, timeout=timeout)
        return None, found
    try:
        live = existing(database, timeout)
        _refuse_foreign(found, live, directories)
        steps = _Steps(live, timeout, lambda: snapshot(live, timeout=timeout))
        return _restore_live(backup, live, steps, progress), found
    except DatabaseDamagedError as error:
        reason = f"it cannot be backed up first ({error.detail})"
        advice = "move it away with its -wal, and restore again"
        raise DatabaseError(database, f"{reason}; {advice}") from error


def _refuse_foreign(backup: Backup, database: Path | None, directories: Sequence[Path]) -> None:
    """Refuse triggers and views that nobody who uses this database has made."""
    with closing(open_backup(backup.path)) as connection:
        held = foreign.objects(connection)
    if held and database is not None:
        with database_errors(database, 0.0), closing(open_database(database)) as live:
            held -= foreign.objects(live)
    for one in sorted(foreign.without_known(held, directories, backup.migrations)):
        reason = f"its {one.kind} {one.name!r} is neither the package's nor of your migrations"
        raise BackupError(backup.path, f"{reason}; drop it in a copy of the backup")


def _restore_new(
    backup: Path, database: Path, *, progress: Progress | None, timeout: float
) -> None:
    """Place the backup where no database is."""
    target = database.parent.resolve() / database.name
    if not target.parent.is_dir():
        raise DatabaseError(database, f"there is no folder {str(target.parent)!r}")
    if name := sidecar(target):
        raise DatabaseError(database, f"{name!r} is there without it; move that away first")
    with ExitStack() as stack:
        with file_errors(DatabaseError, database):
            partial = stack.enter_context(partial_file(target.parent))
        with (
            database_errors(database, timeout),
            closing(open_backup(backup)) as source,
            writing(partial, DatabaseError, database) as copy,
        ):
            copy_pages(source, copy, progress)
            copy.execute("PRAGMA journal_mode=WAL")
        with file_errors(DatabaseError, database):
            try:
                place(partial, target)
            except FileExistsError as error:
                reason = "another program just created it; restore again"
                raise DatabaseError(database, reason) from error


def _restore_live(backup: Path, database: Path, steps: _Steps, progress: Progress | None) -> Backup:
    """Write the backup into the database in one transaction, after that was backed up."""
    with (
        database_errors(database, steps.timeout),
        closing(open_database(database, steps.timeout)) as live,
        closing(open_backup(backup)) as source,
    ):
        if (size := page_size(live)) != page_size(source):
            reason = f"its pages have {size} bytes and those of the backup {page_size(source)}"
            raise DatabaseError(database, f"{reason}; restore to a path where nothing is")
        if live.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise DatabaseError(database, "it cannot be put into WAL mode, which restoring needs")
        live.execute("PRAGMA busy_timeout=200")  # the steps themselves wait
        pages, steps.report = pace(source, progress)
        # Never all in one step: that would commit before the present state is saved.
        total = int(source.execute("PRAGMA page_count").fetchone()[0])
        source.backup(live, pages=max(1, min(pages, total - 1)), progress=steps, sleep=0.05)
        with suppress(sqlite3.OperationalError):  # it is restored; the room can wait
            live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return steps.saved[0]


@dataclass
class _Steps:
    """Follow the steps of one restoring: wait for the lock, save the present state, report."""

    database: Path
    timeout: float
    save: Callable[[], Backup]
    report: Callable[[int, int, int], None] = lambda *_: None
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
                self.saved.append(self.save())
            self.report(status, remaining, total)
