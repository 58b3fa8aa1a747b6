"""Snapshots of a live database, their verification, retention and restoring.

A backup is two files: NAME, a plain SQLite database in one file, and NAME.json, its facts.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import logging
import os
import platform
import re
import secrets
import sqlite3
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from voices_peewee._version import __version__
from voices_peewee.errors import (
    BackupError,
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseFullError,
    DatabaseMissingError,
    DatabaseNewerError,
    DatabaseReadOnlyError,
    InvalidValueError,
    NotVoicesError,
)

Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)
_FORMAT: Final = "voices-backup"
_MAGIC: Final = b"SQLite format 3\0"
_STEP_BYTES: Final = 4 << 20
_SIDECARS: Final = ("-wal", "-shm", "-journal")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_DAY: Final = 86_400.0
_HISTORY: Final = "schema_migrations"
_MIGRATIONS: Final = "SELECT name FROM schema_migrations ORDER BY rowid"
_COUNT: Final = 'SELECT count(*) FROM "{}"'
_NO_HISTORY: Final = f"it is not a Voices database (no table {_HISTORY!r})"
# A process id means nothing on another machine that shares the folder, so the machine is named too.
_MACHINE: Final = f"{zlib.crc32(platform.node().encode()):08x}"
_PARTIAL: Final = re.compile(
    r"\..+\.partial-(?P<pid>\d+)-(?P<machine>[0-9a-f]{8})-[0-9a-f]{8}(\.json)?(-wal|-shm|-journal)?"
)


class _NotFactsError(ValueError):
    """The text is JSON, but of another kind."""


@dataclass(frozen=True)
class Backup:
    """What is known of one backup: ``size`` in bytes, ``created`` in UTC, ``rows`` by table."""

    path: Path
    size: int
    sha256: str
    created: datetime
    source: str
    migrations: tuple[str, ...]
    rows: dict[str, int]
    version: str

    @property
    def has_facts(self) -> bool:
        """Tell whether a facts file vouches for the digest, the rows and the source."""
        return bool(self.version)

    def to_json(self) -> str:
        """Write the text of the facts file."""
        facts = {
            "format": _FORMAT,
            "file": self.path.name,
            "size": self.size,
            "sha256": self.sha256,
            "created": self.created.isoformat(timespec="microseconds"),
            "source": self.source,
            "migrations": list(self.migrations),
            "rows": self.rows,
            "version": self.version,
        }
        return json.dumps(facts, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, folder: Path) -> Backup:
        """Read the text of a facts file that lies in ``folder``.

        Raises:
            ValueError: the text is not JSON, or not the facts of a backup.
        """
        facts = json.loads(text)
        if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
            raise _NotFactsError("not the facts of a backup")
        try:
            backup = cls(
                path=folder / _text(facts["file"]),
                size=int(facts["size"]),
                sha256=_text(facts["sha256"]),
                created=datetime.fromisoformat(_text(facts["created"])).astimezone(UTC),
                source=_text(facts["source"]),
                migrations=tuple(map(_text, facts["migrations"])),
                rows={table: int(count) for table, count in facts["rows"].items()},
                version=_text(facts["version"]),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"a fact is missing or of the wrong kind: {error}") from error
        if backup.path.parent != folder or backup.path == folder:
            raise ValueError("it names a file of another folder")
        return backup


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
        source: the database.
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
    """
    if keep is not None and keep < 1:
        raise InvalidValueError(f"keep must be 1 or more backups, not {keep}")
    database = _existing(source)
    names = _names(database, target)
    with _file_errors(BackupError, target or database.parent):
        first = next(names)
        _refuse_target(first, database, overwrite=overwrite)
        _remove_orphans(first.parent)
    with _partial(first, BackupError) as partial:
        taken = _copy_checked(database, partial, first, progress=progress, timeout=timeout)
        with _file_errors(BackupError, first):
            names = itertools.chain([first], names)
            backup = _place(partial, taken, names, database, overwrite=overwrite)
    if keep is not None:
        _remove_older(backup, keep)
    return backup


def verify(path: Path, *, full: bool = True) -> Backup:
    """Check a backup without changing a byte of it or of its folder.

    A backup without a facts file is checked in itself only: ``has_facts`` is False and its
    ``created`` is the file's time.

    Args:
        path: the backup.
        full: whether each index is compared with its table, which takes several times as long.

    Raises:
        BackupError: it is missing, not a backup, damaged, or not what its facts say.
    """
    _refuse_file(path)
    with _file_errors(BackupError, path):
        claimed = _facts_of(path)
        sha256 = _digest(path)
        status = path.stat()
    if claimed is not None and (claimed.sha256, claimed.size) != (sha256, status.st_size):
        raise BackupError(
            path, f"its digest is not that of its facts {_facts_path(path).name!r}; it was changed"
        )
    with _backup_errors(path), closing(_open_backup(path)) as connection:
        if finding := _finding(connection, full=full):
            raise BackupError(path, f"it is damaged ({finding})")
        rows, migrations = _contents(connection)
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
    with _file_errors(BackupError, place):
        if place.is_dir():
            return _backups_in(place)
    database = place.resolve()
    return [backup for backup in _backups_in(database.parent) if backup.source == str(database)]


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
        backup: the backup.
        database: the database, which need not exist.
        known_migrations: the names of all migrations that this code knows.
        progress: called with (bytes done, bytes in all); what it raises cancels the restoring.
        timeout: how long to wait for another program's lock, in seconds.

    Returns:
        The backup of what was there (None when nothing was) and the one that was restored.
        Of a damaged database the first is a bare copy without facts.

    Raises:
        BackupError: ``verify`` refuses the backup, or it is the database itself.
        DatabaseNewerError: the backup has migrations that are not known.
        NotVoicesError: ``database`` is something else.
        DatabaseBusyError: another program kept its lock for longer than ``timeout``.
        DatabaseReadOnlyError: the database or its folder refuses writes.
        DatabaseFullError: the disk is full.
        DatabaseError: the database cannot be created.
    """
    # Before verify: reading a database that this process has open would drop SQLite's locks.
    with _file_errors(BackupError, backup):
        if backup.exists() and database.exists() and backup.samefile(database):
            raise BackupError(backup, "it is the database itself")
    found = verify(backup)
    if unknown := [name for name in found.migrations if name not in known_migrations]:
        raise DatabaseNewerError(backup, unknown)
    if not os.path.lexists(database):
        _restore_new(backup, database, progress=progress, timeout=timeout)
        return None, found
    present = _restore_live(backup, _existing(database), progress=progress, timeout=timeout)
    return present, found


class _StrangerError(Exception):
    """The open file is an SQLite database of another application."""


@dataclass(frozen=True)
class _Taken:
    """What a snapshot held at the moment it was taken."""

    created: datetime
    rows: dict[str, int]
    migrations: tuple[str, ...]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


# Names and placing


def _facts_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _existing(source: Path) -> Path:
    """Resolve the path of a database that must be there; SQLite would create it."""
    try:
        status = source.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DatabaseMissingError(source) from None
    except PermissionError as error:
        raise DatabaseReadOnlyError(source) from error
    except OSError as error:
        raise DatabaseError(source, f"it cannot be read ({_said(error)})") from error
    if reason := _unlike_a_file(status):
        raise NotVoicesError(source, reason)
    return source.resolve()


def _unlike_a_file(status: os.stat_result) -> str | None:
    if stat.S_ISDIR(status.st_mode):
        return "it is a directory"
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    return None if status.st_size else "the file is empty"


def _names(database: Path, target: Path | None, prefix: str = "voices_backup") -> Iterator[Path]:
    """Yield the only name of a named target, or dated names that are free."""
    if target is not None and not target.is_dir():
        yield target.parent.resolve() / target.name
        return
    folder = (target or database.parent).resolve()
    stem = f"{prefix}_{datetime.now().astimezone():%Y%m%d_%H%M%S}"
    for number in itertools.count(1):
        path = folder / (f"{stem}.db" if number == 1 else f"{stem}_{number}.db")
        if not any(os.path.lexists(f"{path}{suffix}") for suffix in ("", ".json", *_SIDECARS)):
            yield path


def _refuse_target(target: Path, database: Path, *, overwrite: bool) -> None:
    """Refuse early what placing would refuse after a long copy, and what would do harm."""
    if not target.parent.is_dir():
        raise BackupError(target, f"there is no folder {str(target.parent)!r}")
    if target.exists() and target.samefile(database):
        raise BackupError(target, "it is the database itself")
    if target.parent == database.parent and target.name in _with_sidecars(database.name):
        raise BackupError(target, "the name belongs to the database")
    for suffix in _SIDECARS:
        if os.path.lexists(f"{target}{suffix}"):
            reason = f"{target.name + suffix!r} beside it would be read as part of it"
            raise BackupError(target, f"{reason}; choose another name")
    if overwrite and target.exists() and not target.is_file():
        raise BackupError(target, "it is not a regular file")
    if not overwrite and _is_taken(target):
        raise _taken(target)


def _with_sidecars(name: str) -> tuple[str, ...]:
    return tuple(name + suffix for suffix in _SIDECARS)


def _is_taken(target: Path) -> bool:
    return os.path.lexists(target) or os.path.lexists(_facts_path(target))


def _taken(target: Path) -> BackupError:
    name = target.name if os.path.lexists(target) else _facts_path(target).name
    return BackupError(target, f"there is a file {name!r} already; choose another name")


@contextmanager
def _partial(target: Path, kind: type[BackupError | DatabaseError]) -> Iterator[Path]:
    """Create an empty file beside ``target`` for its owner only, and remove it afterwards."""
    mark = f"{os.getpid()}-{_MACHINE}-{secrets.token_hex(4)}"
    path = target.with_name(f".{target.name}.partial-{mark}")
    try:
        with _file_errors(kind, target):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        yield path
    finally:
        for suffix in ("", ".json", *_SIDECARS):
            with suppress(OSError):
                path.with_name(path.name + suffix).unlink()


def _remove_orphans(folder: Path) -> None:
    """Remove what killed programs left of unfinished backups."""
    for path in folder.iterdir():
        match = _PARTIAL.fullmatch(path.name)
        if match and _is_orphan(path, int(match["pid"]), match["machine"]):
            with suppress(OSError):
                path.unlink()


def _is_orphan(path: Path, pid: int, machine: str) -> bool:
    if machine != _MACHINE:
        with suppress(OSError):
            return time.time() - path.stat().st_mtime > _DAY
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _place(
    partial: Path, taken: _Taken, names: Iterator[Path], database: Path, *, overwrite: bool
) -> Backup:
    """Give the finished copy the first of ``names`` that is free."""
    size, sha256 = partial.stat().st_size, _digest(partial)
    _sync(partial)
    facts = _facts_path(partial)
    for target in names:
        backup = Backup(
            path=target,
            size=size,
            sha256=sha256,
            created=taken.created,
            source=str(database),
            migrations=taken.migrations,
            rows=taken.rows,
            version=__version__,
        )
        facts.unlink(missing_ok=True)
        _write_new(facts, backup.to_json())
        with _locked(target.parent):
            if overwrite:
                _replace(partial, target)
                return backup
            if _claim(partial, target):
                return backup
    raise _taken(target)


def _claim(partial: Path, target: Path) -> bool:
    """Place both files under names that nobody has, or neither."""
    # Facts first: a crash in between leaves a name without a backup, which lists skip. The other
    # way round it would leave a backup that nothing vouches for and that no --keep ever removes.
    facts = _facts_path(target)
    if not _link(_facts_path(partial), facts):
        return False
    placed = False
    try:
        placed = _link(partial, target)
    finally:
        if not placed:
            facts.unlink()
    return placed


def _replace(partial: Path, target: Path) -> None:
    """Place both files over what has their names."""
    # The old facts go first: neither the old nor the new backup may ever stand beside the facts
    # of the other, for then a good file would be refused.
    facts = _facts_path(target)
    facts.unlink(missing_ok=True)
    partial.replace(target)
    _facts_path(partial).replace(facts)


def _link(source: Path, target: Path) -> bool:
    """Give ``source`` the name ``target`` unless it is taken."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _move(source, target)
    return True


def _move(source: Path, target: Path) -> bool:
    """Do what ``_link`` does where the file system has no links, as on a USB stick."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    source.replace(target)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other backups from placing in the folder, and make what was placed durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems cannot lock a folder; links still keep names apart there.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Copying and checking


def _open(path: Path, timeout: float = 0.0) -> sqlite3.Connection:
    return _connect(f"{path.resolve().as_uri()}?mode=rw", timeout)


def _open_backup(path: Path) -> sqlite3.Connection:
    """Open a file that nobody writes: SQLite then makes no -wal or -shm beside it."""
    return _connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", 0.0)


def _connect(uri: str, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
    # Python code runs now and then, so that Ctrl-C ends a check that takes minutes.
    connection.set_progress_handler(lambda: 0, 100_000)
    return connection


def _copy_checked(
    database: Path, partial: Path, target: Path, *, progress: Progress | None, timeout: float
) -> _Taken:
    """Copy one moment of the database and compare the copy with it."""
    with (
        _database_errors(database, timeout, target),
        _writing(partial, BackupError, target) as copy,
    ):
        with closing(_open(database, timeout)) as live:
            # The transaction fixes the moment: without it each commit restarts the copy.
            live.execute("BEGIN")
            rows, migrations = _contents(live)
            taken = _Taken(datetime.now(UTC), rows, migrations)
            _copy(live, copy, progress)
        if finding := _finding(copy, full=False):
            raise DatabaseDamagedError(database, finding)
        if _contents(copy) != (rows, migrations):
            raise BackupError(target, "the copy differs from the database; try again")
    return taken


@contextmanager
def _writing(
    partial: Path, kind: type[BackupError | DatabaseError], target: Path
) -> Iterator[sqlite3.Connection]:
    """Open a private copy to be written."""
    try:
        with closing(_open(partial)) as copy:
            yield copy
    except sqlite3.Error as error:
        if _code(error) == sqlite3.SQLITE_IOERR:
            # SQLite keeps the system's reason (a quota, say) to itself; writing on brings it out.
            with _file_errors(kind, target), partial.open("ab") as file:
                file.write(bytes(1 << 20))
        raise


def _copy(source: sqlite3.Connection, copy: sqlite3.Connection, progress: Progress | None) -> None:
    """Copy every page into a private file, which becomes one file without a -wal."""
    copy.execute("PRAGMA synchronous=OFF")  # synced once, when it is whole
    copy.execute("PRAGMA journal_mode=OFF")  # nobody needs half of it back
    size = _page_size(source)
    source.backup(copy, pages=_step(size), progress=_reporter(progress, size))
    copy.execute("PRAGMA journal_mode=DELETE")


def _page_size(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_size").fetchone()[0])


def _step(page_size: int) -> int:
    return max(1, _STEP_BYTES // page_size)


def _reporter(progress: Progress | None, page_size: int) -> Callable[[int, int, int], None]:
    def report(_status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress((total - remaining) * page_size, total * page_size)

    return report


def _contents(connection: sqlite3.Connection) -> tuple[dict[str, int], tuple[str, ...]]:
    """Count the rows of every table and name the applied migrations."""
    columns = {row[1] for row in connection.execute(f"PRAGMA table_info({_HISTORY})")}
    if "name" not in columns:
        raise _StrangerError
    # A virtual table has no root page; what it shows is stored in other tables.
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
        " AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name"
    ).fetchall()
    rows = {name: _count(connection, name) for (name,) in tables}
    migrations = connection.execute(_MIGRATIONS).fetchall()
    return rows, tuple(str(name) for (name,) in migrations)


def _count(connection: sqlite3.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    return int(connection.execute(_COUNT.format(quoted)).fetchone()[0])


def _finding(connection: sqlite3.Connection, *, full: bool) -> str | None:
    """Return the first thing that is wrong, or None."""
    check = "integrity_check" if full else "quick_check"
    text = str(connection.execute(f"PRAGMA {check}(1)").fetchone()[0])
    if text != "ok":
        lines = [line for line in text.splitlines() if not line.startswith("***")]
        return lines[0] if lines else text
    broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    if broken is not None:
        return f"a row of {broken[0]!r} refers to a missing row of {broken[2]!r}"
    return None


# Verifying, listing and removing


def _refuse_file(path: Path) -> None:
    """Refuse what is not a closed SQLite file; only its first bytes are read."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise BackupError(path, "there is no such file") from None
    except OSError as error:
        raise BackupError(path, f"it cannot be read or written ({_said(error)})") from error
    if reason := _unlike_a_file(status):
        raise BackupError(path, reason)
    real = path.resolve()
    for suffix in _SIDECARS:
        if os.path.lexists(f"{real}{suffix}"):
            reason = f"{real.name + suffix!r} beside it says that it is in use as a database"
            raise BackupError(path, f"{reason}; close the program that uses it")
    with _file_errors(BackupError, path), path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise BackupError(path, "it is not an SQLite database")


def _facts_of(path: Path) -> Backup | None:
    """Read what the facts file says of a backup, or None where there is none."""
    real = path.resolve()
    facts = _facts_path(real)
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


def _backups_in(folder: Path) -> list[Backup]:
    found = [replace(backup, path=path) for path, backup in _claims(folder)]
    return sorted(found, key=_age, reverse=True)


def _age(backup: Backup) -> tuple[datetime, str]:
    return backup.created, backup.path.name


def _claims(folder: Path) -> Iterator[tuple[Path, Backup]]:
    """Yield each backup that has facts, with what they say; they may say another name."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise BackupError(folder, f"the folder cannot be read ({_said(error)})") from error
    for name in names:
        path = folder / name.removesuffix(".json")
        if not name.endswith(".json") or _PARTIAL.fullmatch(name):
            continue
        try:
            if path.is_file():
                yield path, Backup.from_json((folder / name).read_text("utf-8"), folder)
        except _NotFactsError:
            continue  # another program's, such as notes beside a recording
        except (OSError, ValueError) as error:
            _log.warning("%r is not listed: its facts cannot be read (%s)", str(path), error)


def _remove_older(newest: Backup, keep: int) -> None:
    """Remove the oldest backups of the same database that are as they were made."""
    others = [
        backup
        for path, backup in _claims(newest.path.parent)
        if path == backup.path != newest.path
        and backup.source == newest.source
        and _is_untouched(backup)
    ]
    for old in sorted(others, key=_age, reverse=True)[keep - 1 :]:
        try:
            # The backup goes first: facts alone are skipped, a backup alone would stay for ever.
            old.path.unlink(missing_ok=True)
            _facts_path(old.path).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("the older backup %r cannot be removed (%s)", str(old.path), _said(error))


def _is_untouched(backup: Backup) -> bool:
    with suppress(OSError):
        status = backup.path.lstat()
        return stat.S_ISREG(status.st_mode) and status.st_size == backup.size
    return False


# Restoring


def _restore_new(
    backup: Path, database: Path, *, progress: Progress | None, timeout: float
) -> None:
    """Place the backup where no database is."""
    with _file_errors(DatabaseError, database):
        target = database.parent.resolve() / database.name
        if not target.parent.is_dir():
            raise DatabaseError(database, f"there is no folder {str(target.parent)!r}")
    for name in _with_sidecars(target.name):
        if os.path.lexists(target.with_name(name)):
            raise DatabaseError(database, f"{name!r} is there without it; move that away first")
    with _partial(target, DatabaseError) as partial:
        with (
            _database_errors(database, timeout),
            closing(_open_backup(backup)) as source,
            _writing(partial, DatabaseError, database) as copy,
        ):
            _copy(source, copy, progress)
            copy.execute("PRAGMA journal_mode=WAL")
        with _file_errors(DatabaseError, database):
            _sync(partial)
            with _locked(target.parent):
                if not _link(partial, target):
                    raise DatabaseError(database, "another program just created it; restore again")


def _restore_live(
    backup: Path, database: Path, *, progress: Progress | None, timeout: float
) -> Backup:
    """Write the backup into the database in one transaction, after backing that up."""
    with _database_errors(database, timeout), closing(_open(database, timeout)) as live:
        live.execute("PRAGMA writable_schema=ON")  # else a truncated file refuses even writes
        page_size = _page_size(live)
        if live.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise DatabaseError(database, "it cannot be put into WAL mode, which restoring needs")
        live.execute("PRAGMA busy_timeout=200")  # the steps themselves wait, see _Restoring
        with _with_page_size(backup, database, page_size) as path:
            restoring = _Restoring(database, page_size, progress, timeout)
            with closing(_open_backup(path)) as source:
                pages = int(source.execute("PRAGMA page_count").fetchone()[0])
                # Never all in one step: that would commit before the present state is saved.
                step = max(1, min(_step(page_size), pages - 1))
                source.backup(live, pages=step, progress=restoring, sleep=0.05)
        with suppress(sqlite3.OperationalError):  # it is restored; the room can wait
            live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return restoring.saved[0]


class _Restoring:
    """Follow the steps of one restoring: wait for the lock, save the present state, report."""

    def __init__(
        self, database: Path, page_size: int, progress: Progress | None, timeout: float
    ) -> None:
        self.saved: list[Backup] = []
        self._database = database
        self._report = _reporter(progress, page_size)
        self._timeout = timeout
        self._waiting: float | None = None

    def __call__(self, status: int, remaining: int, total: int) -> None:
        """Be called by SQLite after each step."""
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self._wait()
        elif status in (sqlite3.SQLITE_OK, sqlite3.SQLITE_DONE):
            self._advance(remaining, total)

    def _advance(self, remaining: int, total: int) -> None:
        self._waiting = None
        if not self.saved:
            # Nobody else can write from here to the end, so this is exactly what is replaced.
            self.saved.append(_save(self._database, self._timeout))
        self._report(sqlite3.SQLITE_OK, remaining, total)

    def _wait(self) -> None:
        now = time.monotonic()
        if self._waiting is None:
            self._waiting = now
        if now - self._waiting >= self._timeout:
            raise DatabaseBusyError(self._database, self._timeout)


def _save(database: Path, timeout: float) -> Backup:
    """Back up what a restoring replaces, damaged or not."""
    try:
        return snapshot(database, timeout=timeout)
    except DatabaseDamagedError:
        return _save_damaged(database, timeout)


def _save_damaged(database: Path, timeout: float) -> Backup:
    """Copy the pages of a damaged database as they are; nothing can vouch for them."""
    names = _names(database, None, "voices_damaged")
    target = next(names)
    with _partial(target, BackupError) as partial:
        with (
            _database_errors(database, timeout, target),
            closing(_open(database, timeout)) as live,
            _writing(partial, BackupError, target) as copy,
        ):
            live.execute("PRAGMA writable_schema=ON")
            live.backup(copy)
        with _file_errors(BackupError, target):
            _sync(partial)
            with _locked(target.parent):
                while not _link(partial, target):
                    target = next(names)
            size = target.stat().st_size
            return Backup(
                target, size, _digest(target), datetime.now(UTC), str(database), (), {}, ""
            )


@contextmanager
def _with_page_size(backup: Path, database: Path, page_size: int) -> Iterator[Path]:
    """Yield the backup, or a rewritten copy of it whose pages have the database's size."""
    with closing(_open_backup(backup)) as source:
        if _page_size(source) == page_size:
            yield backup
            return
        with _partial(database, DatabaseError) as partial:
            with _writing(partial, DatabaseError, database) as copy:
                _copy(source, copy, None)
                copy.execute(f"PRAGMA page_size={page_size}")
                copy.execute("VACUUM")
            yield partial


# Errors


def _said(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


@contextmanager
def _file_errors(kind: type[BackupError | DatabaseError], path: Path) -> Iterator[None]:
    """Turn the system's refusals into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DatabaseFullError(path) from error
        raise kind(path, f"it cannot be read or written ({_said(error)})") from error


@contextmanager
def _database_errors(database: Path, timeout: float, target: Path | None = None) -> Iterator[None]:
    """Turn SQLite's errors into ours; ``target`` is the copy that is being written."""
    try:
        yield
    except _StrangerError as error:
        raise NotVoicesError(database, _NO_HISTORY) from error
    except sqlite3.Error as error:
        raise _explained(error, database, timeout, target) from error


def _explained(
    error: sqlite3.Error, database: Path, timeout: float, target: Path | None
) -> BaseException:
    code = _code(error)
    if code == sqlite3.SQLITE_INTERRUPT:
        return KeyboardInterrupt()
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseBusyError(database, timeout)
    if code == sqlite3.SQLITE_FULL:
        return DatabaseFullError(target or database)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return DatabaseReadOnlyError(database)
    if code == sqlite3.SQLITE_CORRUPT:
        return DatabaseDamagedError(database, str(error))
    if code == sqlite3.SQLITE_NOTADB:
        return NotVoicesError(database, "it is not an SQLite database")
    return DatabaseError(database, f"SQLite reports {str(error)!r}")


@contextmanager
def _backup_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about a backup into one sentence about it."""
    try:
        yield
    except _StrangerError as error:
        raise BackupError(path, _NO_HISTORY) from error
    except sqlite3.Error as error:
        if _code(error) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        raise BackupError(path, f"it is damaged ({error})") from error


def _code(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary result code, or None where Python itself complains."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF
