"""Snapshots of a live database, their verification, listing and restoring.

A backup is two files: NAME, a plain SQLite database in one file, and NAME.json, its facts.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from voices_peewee.errors import (
    BackupError,
    DatabaseError,
    DatabaseMissingError,
    DatabaseNewerError,
    DatabaseReadOnlyError,
    InvalidValueError,
    NotVoicesError,
)
from voices_peewee.upkeep import places as backup_place
from voices_peewee.upkeep.copying import Progress as Progress
from voices_peewee.upkeep.copying import (
    backup_errors,
    contents,
    copy_checked,
    first_finding,
    open_backup,
)
from voices_peewee.upkeep.facts import Backup as Backup
from voices_peewee.upkeep.facts import digest, facts_path
from voices_peewee.upkeep.places import file_errors, said
from voices_peewee.upkeep.restoring import restore_live, restore_new

_MAGIC: Final = b"SQLite format 3\0"


def snapshot(
    source: Path,
    target: Path | None = None,
    *,
    progress: Progress | None = None,
    keep: int | None = None,
    overwrite: bool = False,
    timeout: float = 30.0,
) -> Backup:
    """Copy the database as it is at this moment, while others write, and verify the copy.

    Args:
        target: a file, or a folder for a dated name; None is a dated name beside the database.
        progress: called with (bytes done, bytes in all); what it raises cancels the backup.
        keep: how many backups of this database stay in the folder, this one included.
        overwrite: whether a file of that name may be replaced.
        timeout: how long to wait for another program's lock, in seconds.

    Raises:
        InvalidValueError: ``keep`` is less than 1.
        DatabaseMissingError: there is no database.
        NotVoicesError: ``source`` is something else.
        DatabaseBusyError: another program kept its lock for longer than ``timeout``.
        DatabaseReadOnlyError: ``source`` cannot be opened with these permissions.
        DatabaseDamagedError: the copy fails its checks, as the database would.
        DatabaseFullError: the target's disk is full.
        BackupError: the target is taken, or its folder is missing or refuses writes.
        DatabaseError: SQLite refuses the database for another reason.
    """
    if keep is not None and keep < 1:
        raise InvalidValueError(f"keep must be 1 or more backups, not {keep}")
    database = _existing(source)
    targets = backup_place.target_names(database, target)
    with file_errors(BackupError, target or database.parent):
        first = next(targets)
        backup_place.refuse_target(first, database, overwrite=overwrite)
        backup_place.remove_orphans(first.parent)
    with backup_place.unfinished(first, BackupError) as partial:
        backup = copy_checked(database, partial, first, progress=progress, timeout=timeout)
        targets = itertools.chain([first], targets)
        with file_errors(BackupError, first):
            backup = backup_place.place(partial, backup, targets, overwrite=overwrite)
    if keep is not None:
        backup_place.remove_older(backup, keep)
    return backup


def verify(path: Path, *, full: bool = True) -> Backup:
    """Check a backup without changing a byte of it or of its folder.

    A backup without a facts file is checked in itself only: ``has_facts`` is False and its
    ``created`` is the file's time.

    Args:
        full: whether each index is compared with its table, which takes several times as long.

    Raises:
        BackupError: it is missing, not a backup, damaged, or not what its facts say.
    """
    _refuse_file(path)
    with file_errors(BackupError, path):
        claimed = _facts_of(path)
        sha256 = digest(path)
        status = path.stat()
    if claimed is not None and (claimed.sha256, claimed.size) != (sha256, status.st_size):
        reason = f"its digest is not that of its facts {facts_path(path).name!r}; it was changed"
        raise BackupError(path, reason)
    with backup_errors(path), closing(open_backup(path)) as connection:
        if finding := first_finding(connection, full=full):
            raise BackupError(path, f"it is damaged ({finding})")
        rows, migrations = contents(connection)
    if claimed is None:
        created = datetime.fromtimestamp(status.st_mtime, UTC)
        return Backup(path, status.st_size, sha256, created, "", migrations, rows, "")
    _compare(path, claimed, rows, migrations)
    return claimed


def list_backups(place: Path) -> list[Backup]:
    """List backups by their facts, newest first; nothing is verified.

    Args:
        place: a folder for all backups in it, or a database for those of it that lie beside it.

    Raises:
        BackupError: the folder is missing or cannot be read.
    """
    with file_errors(BackupError, place):
        if place.is_dir():
            return backup_place.backups_in(place)
    database = place.resolve()
    found = backup_place.backups_in(database.parent)
    return [backup for backup in found if backup.source == str(database)]


def restore(
    backup: Path,
    database: Path,
    *,
    known_migrations: Sequence[str],
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> tuple[Backup | None, Backup]:
    """Put a verified backup in place of what the database holds; other programs keep working.

    What the database holds is backed up first, under the lock under which it is replaced, so
    that no row of another program falls between. Migrating afterwards is the caller's part.

    Args:
        database: it need not exist.
        known_migrations: the names of all migrations that this code knows.
        progress: called with (bytes done, bytes in all); what it raises cancels the restoring.
        timeout: how long to wait for another program's lock, in seconds.

    Returns:
        The backup of what was there (None when nothing was) and the one that was restored.
        Of a damaged database the first is a bare copy without facts.

    Raises:
        BackupError: ``verify`` refuses the backup, or it is the database itself.
        BackupError: the present state cannot be backed up.
        DatabaseNewerError: the backup has migrations that are not known.
        NotVoicesError: ``database`` is something else.
        DatabaseBusyError: another program kept its lock for longer than ``timeout``.
        DatabaseReadOnlyError: the database or its folder refuses writes.
        DatabaseFullError: the disk is full.
        DatabaseError: the database cannot be created.
    """
    # Before verify: reading a database that this process has open would drop SQLite's locks.
    with file_errors(BackupError, backup):
        if backup.exists() and database.exists() and backup.samefile(database):
            raise BackupError(backup, "it is the database itself")
    found = verify(backup)
    if unknown := [name for name in found.migrations if name not in known_migrations]:
        raise DatabaseNewerError(backup, unknown)
    if not os.path.lexists(database):
        restore_new(backup, database, progress=progress, timeout=timeout)
        return None, found
    live = _existing(database)
    saved = restore_live(
        backup,
        live,
        lambda: snapshot(live, timeout=timeout),
        progress=progress,
        timeout=timeout,
    )
    return saved, found


def _existing(source: Path) -> Path:
    """Resolve the path of a database that must be there; SQLite would create it."""
    try:
        status = source.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DatabaseMissingError(source) from None
    except PermissionError as error:
        raise DatabaseReadOnlyError(source) from error
    except OSError as error:
        raise DatabaseError(source, f"it cannot be read ({said(error)})") from error
    if reason := _unlike_a_file(status):
        raise NotVoicesError(source, reason)
    return source.resolve()


def _unlike_a_file(status: os.stat_result) -> str | None:
    if stat.S_ISDIR(status.st_mode):
        return "it is a directory"
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    return None if status.st_size else "the file is empty"


def _refuse_file(path: Path) -> None:
    """Refuse what is not a closed SQLite file; only its first bytes are read."""
    with file_errors(BackupError, path):
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise BackupError(path, "there is no such file") from None
        if reason := _unlike_a_file(status):
            raise BackupError(path, reason)
        if name := backup_place.sidecar(path.resolve()):
            reason = f"{name!r} beside it says that it is in use as a database"
            raise BackupError(path, f"{reason}; close the program that uses it")
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise BackupError(path, "it is not an SQLite database")


def _facts_of(path: Path) -> Backup | None:
    """Read what the facts file says of a backup, or None where there is none."""
    real = path.resolve()
    facts = facts_path(real)
    try:
        claimed = Backup.from_json(facts.read_text("utf-8"), real.parent)
    except FileNotFoundError:
        return None
    except ValueError as error:
        reason = f"its facts {facts.name!r} cannot be read ({error})"
        raise BackupError(path, f"{reason}; remove them to go without") from error
    return replace(claimed, path=path)


def _compare(
    path: Path, claimed: Backup, rows: dict[str, int], migrations: tuple[str, ...]
) -> None:
    for table in sorted(rows.keys() | claimed.rows.keys()):
        here, there = rows.get(table, 0), claimed.rows.get(table, 0)
        if here != there:
            raise BackupError(path, f"its table {table!r} has {here} rows, its facts say {there}")
    if migrations != claimed.migrations:
        raise BackupError(path, "its migrations are not those of its facts")
