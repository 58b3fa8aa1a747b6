"""The manager's methods for backups and for the state of the database."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import peewee as pw

from voices_peewee._version import __version__
from voices_peewee.database.files import MEMORY, as_server, is_server, size_of, spooled
from voices_peewee.database.results import run_sql
from voices_peewee.database.server_url import HIDDEN
from voices_peewee.database.store import HasStore, Store
from voices_peewee.errors import BackupError, DatabaseError, ServerBackupError
from voices_peewee.migrations.methods import MigrationMethods
from voices_peewee.schema.models import RECORDED, ProcessingHistory

if TYPE_CHECKING:
    from voices_peewee.records.roots import Roots
    from voices_peewee.upkeep.backup import Backup
    from voices_peewee.upkeep.check import Finding


class Restored(NamedTuple):
    """What a restore did: the backup of the state before (None: there was none), and its source."""

    saved: Backup | None
    restored: Backup


class UpkeepMethods(MigrationMethods, HasStore):
    """The manager's methods for backups and for the state of the database."""

    path: str
    timeout: float
    _store: Store | None

    def backup_database(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        keep: int | None = None,
    ) -> Path:
        """Write a verified copy of the database, consistent while others write; return its path.

        Args:
            path: A file or a folder, which is made where a ``/`` ends its name; None means
                ``voices_backup_YYYYmmdd_HHMMSS.db`` beside the database.
            progress: Called with the bytes done and the bytes in all.
            keep: Afterwards keep only so many of the backups made of this database there.

        Raises:
            BackupError: The target is there already, or its folder is missing or refuses writes.
            ServerBackupError: The database is on a server; the error names the command to use.
            DatabaseMissingError: There is no database.
            DatabaseBusyError: Another program kept the database locked.
            DatabaseDamagedError: The copy fails its checks, as the database would.
            DatabaseFullError: The target's disk is full.
            InvalidValueError: ``keep`` is less than 1.
        """
        target = None if path is None else _target(path)
        return snapshot(self.path, target, self.timeout, progress=progress, keep=keep).path

    def list_backups(self) -> list[Backup]:
        """Return the backups of this database that lie beside it, newest first, not verified.

        Raises:
            BackupError: The folder is missing or cannot be read.
            ServerBackupError: The database is on a server.
        """
        from voices_peewee.upkeep import backup

        return backup.list_backups(_require_file(self.path, "back up"))

    def verify_backup(self, path: str | os.PathLike[str]) -> Backup:
        """Check a backup against its digest, and every page of it; return what it holds.

        Raises:
            BackupError: It is missing, damaged, changed or no Voices database.
        """
        from voices_peewee.upkeep import backup

        return backup.verify(_path(path))

    def restore(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Restored:
        """Put a backup in the place of the database's content and bring it up to date.

        The present state is backed up first. Other programs that have the database open keep
        working, and see the restored content.

        Args:
            path: The backup.
            progress: Called with the bytes done and the bytes in all.

        Raises:
            BackupError: The backup is missing, damaged, changed, no Voices database, or has
                somebody else's triggers or views.
            ServerBackupError: The database is on a server; the error names the command to use.
            DatabaseNewerError: The backup is newer than this code.
            MigrationError: A migration that the backup lacks failed; the database is as it was.
            DatabaseBusyError: Another program kept the database locked.
            DatabaseError: It is called inside ``atomic()``, or the database is damaged, has pages
                of another size, or cannot be created.
        """
        from voices_peewee.upkeep.restore import restore

        source = _path(path)
        database = _require_file(self.path, "restore into", source)
        if self._store is not None and self._store.database.in_transaction():
            reason = "a restore is no part of a transaction; leave the block of atomic() first"
            raise DatabaseError(self.path, reason)
        done = restore(
            source,
            database,
            directories=self.directories,
            progress=progress,
            timeout=self.timeout,
        )
        self.run_migrations(backup=False)
        return Restored(*done)

    def check(
        self,
        *,
        files: bool = False,
        fix: bool = False,
        path_map: Roots | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Finding]:
        """Return what is wrong with the database, also with one that ``connect`` refuses.

        Args:
            files: Look at the audio as well: is it there, and is it what was recorded?
            fix: First back up and write times with ``Z``, ``T`` or another zone, or without
                one (which are UTC), as this package does, and give stems their recording's path.
            path_map: Folders by those that recorded paths lie in: these paths are moved first,
                in one transaction, where the file there has the content that is recorded.
            on_progress: Called with the bytes of audio done and in all.

        Raises:
            DatabaseMissingError: There is no database.
            NotVoicesError: The file is something else.
            DatabaseDamagedError: The file is too damaged to be looked at.
            InvalidValueError: A folder of the path map is empty or no text.
        """
        from voices_peewee.upkeep import values
        from voices_peewee.upkeep.check import check

        with self.as_it_is() as store:
            if fix and store.server is None:
                values.mend(store, lambda: self.back_up_first([]))
            return check(
                store,
                directories=self.directories,
                files=files,
                path_map=path_map,
                on_progress=on_progress,
            )

    def status(self) -> dict[str, Any]:
        """Return what the database is and holds.

        Returns:
            ``database`` (its path), ``size`` (bytes, with what stands in the WAL), the versions
            of ``sqlite`` or ``postgresql`` and ``voices``, ``migrations``, ``rows`` by table,
            ``files`` by kind (recordings, stems, voices), ``last_run`` (when it began) and
            ``unfinished`` (runs that have not ended); of a server also ``spooled``, the runs that
            are kept on this machine because it did not take them.
        """
        store, start = self.store, ProcessingHistory.start_time
        applied = [state.name for state in self.migration_status()]
        runs = ProcessingHistory.select(pw.fn.COUNT(ProcessingHistory.run_id.distinct()))
        with store.snapshot():
            last = ProcessingHistory.select(pw.fn.MAX(start).coerce(False)).scalar()
            with suppress(ValueError):  # then it is shown as another program wrote it
                last = start.python_value(last)
            return {
                "database": self.path,
                **_engine(store, self.path),
                "voices": __version__,
                "migrations": applied,
                **_counts(store.database),
                "last_run": last,
                "unfinished": int(runs.where(ProcessingHistory.end_time.is_null()).scalar()),
                **_spooled(store),
            }


def _spooled(store: Store) -> dict[str, int]:
    return {} if store.server is None else {"spooled": len(spooled(store.server.place)[0])}


# By themselves they read an index; a count of what Peewee selects goes through all rows.
_COUNT: Final = '(SELECT count(*) FROM "{}")'
_OUTPUTS: Final = "(SELECT count(*) FROM processed_files WHERE recording_id IS NOT NULL{})"


def _counts(database: pw.Database) -> dict[str, dict[str, int]]:
    """Count the rows by table; and recordings, stems (outputs) and voices (without a file)."""
    tables = [model._meta.table_name for model in RECORDED]
    counts = [*map(_COUNT.format, tables), _OUTPUTS.format("")]
    counts.append(_OUTPUTS.format(" AND processed_path IS NOT NULL"))
    *numbers, outputs, stems = run_sql(database, f"SELECT {', '.join(counts)}")[0]
    rows = dict(zip(tables, numbers, strict=True))
    recordings = rows["processed_files"] - outputs
    kinds = {"recordings": recordings, "stems": stems, "voices": outputs - stems}
    return {"rows": rows, "files": kinds}


def _engine(store: Store, path: str) -> dict[str, Any]:
    """Return the size with what still stands in the WAL (bytes), and the engine's version."""
    if store.server is not None:
        facts = store.server.facts()
        return {"size": facts["size"], "postgresql": facts["version"]}
    size = None if path == MEMORY else size_of(path) + size_of(f"{os.path.realpath(path)}-wal")
    return {"size": size, "sqlite": sqlite3.sqlite_version}


def snapshot(
    database: str, target: Path | None = None, timeout: float = 30.0, **options: Any
) -> Backup:
    """Back the database of a manager up: ``database`` is its path, ``:memory:`` or a URL."""
    from voices_peewee.upkeep import backup

    return backup.snapshot(_require_file(database, "back up"), target, timeout=timeout, **options)


def _require_file(database: str, verb: str, backup: Path | None = None) -> Path:
    if database == MEMORY:
        raise DatabaseError(database, f"an in-memory database has no file to {verb}")
    if is_server(database):
        raise ServerBackupError(database, _command(database, backup))
    return Path(database)


def _command(url: str, backup: Path | None) -> str:
    """Return the call of PostgreSQL's own tool; the password is asked for, or in ~/.pgpass."""
    bare = re.sub(rf"\w+={re.escape(HIDDEN)}&?", "", url.replace(f":{HIDDEN}@", "@")).rstrip("?&")
    if backup is None:
        return f"pg_dump --format=custom --no-owner --file=voices.dump --dbname='{bare}'"
    options = "--clean --if-exists --single-transaction --no-owner"
    return f"pg_restore {options} --dbname='{bare}' {str(backup)!r}"


def _target(path: str | os.PathLike[str]) -> Path:
    """Return where a backup goes; a ``/`` at the end makes a folder of that name."""
    target = _path(path)
    if os.fspath(path).endswith("/"):
        from voices_peewee.upkeep.whole_files import file_errors

        with file_errors(BackupError, target):
            target.mkdir(0o700, exist_ok=True)
    return target


def _path(path: str | os.PathLike[str]) -> Path:
    if "\0" in os.fspath(path):
        raise BackupError(path, "a path must be a text without NUL")
    if server := as_server(path):
        raise BackupError(server, "a backup is a file, not a server")
    return Path(os.path.abspath(path))
