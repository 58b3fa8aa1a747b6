"""Copies of a live database: taken, verified, listed, and the older ones removed.

A backup is a plain SQLite database in one file, NAME. Beside it stands NAME.sha256, which
``sha256sum -c`` reads; a comment in it says of which database the copy is.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Final, TypeVar

from voices_peewee.database.files import lies_still, require_voices
from voices_peewee.database.sqlite import Connection, is_open_here
from voices_peewee.database.wording import code_of, translation
from voices_peewee.errors import (
    BackupError,
    DatabaseDamagedError,
    InvalidValueError,
    VoicesError,
)
from voices_peewee.migrations.runner import HISTORY_TABLE
from voices_peewee.upkeep.whole_files import file_errors, sync, whole_file

Contents = tuple[dict[str, int], tuple[str, ...]]
Progress = Callable[[int, int], None]
T = TypeVar("T")

_STEP_BYTES: Final = 4 << 20
_HAS_HISTORY: Final = (
    "SELECT count(*) FROM pragma_table_info('schema_migrations') WHERE name = 'name'"
)
# A virtual table has no root page; what it shows is stored in other tables.
_TABLES: Final = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
    " AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name"
)
_MIGRATIONS: Final = "SELECT name FROM schema_migrations ORDER BY rowid"
_BORN: Final = "SELECT min(migrated_at) FROM schema_migrations"
_COUNT: Final = 'SELECT count(*) FROM "{}"'
_NOTE: Final = re.compile(r"(?:# voices backup of (.*)\n)?\\?([0-9a-f]{64}) [ *]", re.S)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backup:
    """What is known of one backup: ``size`` in bytes, ``created`` in UTC, ``rows`` by table.

    ``source`` is the database that it is a copy of, or empty where nothing beside it says so.
    """

    path: Path
    size: int
    sha256: str
    created: datetime
    source: str
    migrations: tuple[str, ...]
    rows: dict[str, int]


def snapshot(
    source: Path,
    target: Path | None = None,
    *,
    progress: Progress | None = None,
    keep: int | None = None,
    timeout: float = 30.0,
) -> Backup:
    """Copy the database as it is at this moment, while others write, and verify the copy."""
    if keep is not None and (not isinstance(keep, int) or keep < 1):
        raise InvalidValueError(f"keep must be 1 or more backups, not {keep}")
    database = existing(source, timeout)
    with file_errors(BackupError, target or database.parent):
        path = _name(database, target)
        _refuse_target(path, database)
    # Where others go for this one, it is checked as restore will check it.
    check = "quick_check" if keep is None else "integrity_check"
    with file_errors(BackupError, path), whole_file(path) as partial:
        held, sha256 = _copy_checked(database, partial, path, progress, timeout, check)
        status = partial.stat()
        _write_note(path, sha256, database)  # it alone does no harm, a backup alone is not listed
    created = datetime.fromtimestamp(status.st_mtime, UTC)
    rows, migrations = held
    made = Backup(path, status.st_size, sha256, created, str(database), migrations, rows)
    if keep is not None:
        _remove_older(made, keep)
    return made


def existing(source: Path, timeout: float) -> Path:
    """Resolve the path of a database that must be there; SQLite would create it."""
    require_voices(str(source), HISTORY_TABLE, timeout)
    return source.resolve()


def _name(database: Path, target: Path | None) -> Path:
    """Return the path of a named target, or a dated one that is free."""
    if target is not None and not target.is_dir():
        return target.parent.resolve() / target.name
    folder = (target or database.parent).resolve()
    stem = f"voices_backup_{datetime.now().astimezone():%Y%m%d_%H%M%S}"
    for number in itertools.count(1):
        path = folder / (f"{stem}.db" if number == 1 else f"{stem}_{number}.db")
        if not any(map(os.path.lexists, (path, note_path(path)))):
            break
    return path


def _refuse_target(target: Path, database: Path) -> None:
    """Refuse early what placing would refuse after a long copy, and what would do harm."""
    if target in sidecars(database):
        raise BackupError(target, "the name belongs to the database")
    if name := sidecar(target):
        reason = f"{name!r} beside it would be read as part of it"
        raise BackupError(target, f"{reason}; choose another name")
    taken = next(filter(os.path.lexists, (target, note_path(target))), None)
    if taken is not None:
        raise BackupError(target, f"there is a file {taken.name!r} already; choose another name")


def sidecars(path: Path) -> list[Path]:
    """Return the files that SQLite would read as part of ``path``."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def sidecar(path: Path) -> str | None:
    """Return the name of such a file that is there, or None."""
    return next((one.name for one in sidecars(path) if os.path.lexists(one)), None)


def _copy_checked(
    database: Path, partial: Path, target: Path, show: Progress | None, timeout: float, check: str
) -> tuple[Contents, str]:
    """Copy one moment of the database, and compare the copy with it; return its digest, too."""
    with database_errors(database, timeout, target):
        with (
            closing(open_database(partial)) as copy,
            closing(_open_live(database, timeout)) as live,
        ):
            # The transaction fixes the moment: without it each commit restarts the copy.
            live.execute("BEGIN")
            expected = _contents(live)
            moment = time.time_ns()
            copy_pages(live, copy, show)
        with closing(open_backup(partial)) as written:
            flushed = _meanwhile(lambda: sync(partial))
            rest = _meanwhile(lambda: _digest_and_dangling(partial))
            if finding := _damage(written, check) or rest.result()[1]:
                raise DatabaseDamagedError(database, finding)
            if _contents(written) != expected:
                raise BackupError(target, "the copy differs from the database; try again")
        flushed.result()  # the system tells of a failure once, and not who asks again
    os.utime(partial, ns=(moment, moment))  # the time of a backup is that of what it holds
    return expected, rest.result()[0]


def _meanwhile(task: Callable[[], T]) -> Future[T]:
    """Do a task in a thread; at once, where a program ends and can start none.

    The caller may be interrupted, and then nobody waits for it.
    """
    future = Future[T]()

    def work() -> None:
        try:
            future.set_result(task())
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            future.set_exception(error)

    try:
        Thread(target=work, daemon=True).start()
    except RuntimeError:
        work()
    return future


def _digest_and_dangling(path: Path) -> tuple[str, str | None]:
    """Return a copy's digest, and what is wrong with its references."""
    with closing(open_backup(path)) as connection:  # it has no locks that could be dropped
        connection.execute("PRAGMA cache_size = -500")  # kB: two at once take no more
        return _sha256(path), _dangling(connection)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    if is_open_here(path):
        raise BackupError(path, "it is the database itself")
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note_path(path: Path) -> Path:
    """Return where the digest of the backup at ``path`` is."""
    return path.with_name(f"{path.name}.sha256")


def _write_note(path: Path, sha256: str, database: Path) -> None:
    text = f"# voices backup of {database}\n{sha256}  {path.name}\n"
    with file_errors(BackupError, path), whole_file(note_path(path)) as partial:
        partial.write_bytes(os.fsencode(text))


def _note(path: Path) -> tuple[str, str] | None:
    """Return the digest beside a backup, and of which database it is; None for nothing there."""
    with suppress(FileNotFoundError):
        match = _NOTE.match(os.fsdecode(note_path(path.resolve()).read_bytes()))
        return (match[2], match[1] or "") if match else ("", "")
    return None


def _noted(folder: Path, source: str) -> list[tuple[Path, str, str]]:
    """Return the files whose note says that they are copies of a database, with what it says.

    The newest comes first. Of a database that was moved the note names a path that is gone.
    """
    found = []
    for beside in folder.glob("*.sha256"):
        path = beside.with_suffix("")
        sha256, of = (path.is_file() and _note(path)) or ("", "")
        is_moved = Path(of).name == Path(source).name and not os.path.lexists(of)
        if of == source or is_moved:
            found.append((path, sha256, of))
    return sorted(found, key=lambda one: (one[0].stat().st_mtime_ns, one[0].name), reverse=True)


def _remove_older(newest: Backup, keep: int) -> None:
    """Remove the oldest backups of the same database that are as they were made."""
    folder = newest.path.parent
    with file_errors(BackupError, folder):
        found = [one for one in _noted(folder, newest.source) if one[0] != newest.path]
    born = _born(newest.path)
    # A path that is gone here may be there on another host: only beside it, it was moved.
    here = {newest.source} if folder != Path(newest.source).parent else {of for *_, of in found}
    found = [one for one in found if one[2] in here and _born(one[0]) == born]
    for old, sha256, _ in found[keep - 1 :]:
        try:
            if stat.S_ISREG(old.lstat().st_mode) and digest(old) == sha256:
                # The backup goes first: a digest alone does no harm, a backup alone would stay.
                old.unlink()
                note_path(old).unlink(missing_ok=True)
        except (BackupError, OSError) as error:
            _log.warning("the older backup %r cannot be removed (%s)", str(old), error)


def _born(path: Path) -> object:
    """Return when a copy's database was made: on another host another one may have its path."""
    with suppress(sqlite3.Error), closing(open_backup(path)) as connection:
        return connection.execute(_BORN).fetchone()
    return None


def list_backups(database: Path) -> list[Backup]:
    """List the backups of a database that lie beside it, newest first."""
    folder, source = database.resolve().parent, str(database.resolve())
    found = []
    with file_errors(BackupError, folder):
        os.scandir(folder).close()  # a glob in a folder that may not be read is empty
        noted = _noted(folder, source)
    for path, sha256, of in noted:
        try:
            found.append(_described(path, sha256, of))
        except (BackupError, OSError) as error:
            _log.warning("%r is not listed: it cannot be read (%s)", str(path), error)
    return found


def _described(path: Path, sha256: str, source: str) -> Backup:
    status = path.stat()
    with _backup_errors(path), closing(open_backup(path)) as connection:
        if not connection.execute(_HAS_HISTORY).fetchone()[0]:
            raise BackupError(path, "it has no migrations of Voices; see 'voices import'")
        rows, migrations = _contents(connection)
    created = datetime.fromtimestamp(status.st_mtime, UTC)
    return Backup(path, status.st_size, sha256, created, source, migrations, rows)


def verify(path: Path) -> Backup:
    """Check a backup without changing a byte."""
    with file_errors(BackupError, path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise BackupError(path, "it is not a file")
        sha256 = digest(path)
        noted, source = _note(path) or (sha256, "")
    if name := sidecar(path.resolve()):
        reason = f"{name!r} beside it says that it is in use as a database"
        raise BackupError(path, f"{reason}; close the program that uses it")
    if noted != sha256:
        name = note_path(path.resolve()).name
        raise BackupError(path, f"its digest is not that of {name!r}; it was changed")
    with _backup_errors(path), closing(open_backup(path)) as connection:
        if finding := _damage(connection, "integrity_check") or _dangling(connection):
            raise BackupError(path, f"it is damaged ({finding})")
    return _described(path, sha256, source)


@contextmanager
def _explained(meaning: Callable[[Exception], VoicesError]) -> Iterator[None]:
    """Turn SQLite's errors into ours, and an interrupted statement into Ctrl-C."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if code_of(error) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        raise meaning(error) from error


def database_errors(
    database: Path, timeout: float, target: Path | None = None
) -> AbstractContextManager[None]:
    """Turn SQLite's errors into ours; ``target`` is the copy that is being written."""
    return _explained(lambda error: translation(error, database, timeout, target=target))


def _backup_errors(path: Path) -> AbstractContextManager[None]:
    return _explained(lambda error: BackupError(path, f"it is damaged ({error})"))


def open_database(path: Path, timeout: float = 0.0) -> sqlite3.Connection:
    """Open a file that must be there, to read and write."""
    return _connect(f"{path.resolve().as_uri()}?mode=rw", timeout)


def _open_live(path: Path, timeout: float) -> sqlite3.Connection:
    """Open what is backed up; in a read-only folder, or on a full disk, as it is read there."""
    live = open_database(path, timeout)
    try:
        live.execute("PRAGMA schema_version")  # the first look at the file
    except sqlite3.OperationalError as error:
        live.close()
        if not lies_still(str(path), error):
            raise
        return open_backup(path)
    return live


def open_backup(path: Path) -> sqlite3.Connection:
    """Open a file that nobody writes: SQLite then makes no -wal or -shm beside it."""
    return _connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", 0.0)


def _connect(uri: str, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout, isolation_level=None, factory=Connection
    )
    # Python code runs now and then, so that Ctrl-C ends a check that takes minutes.
    connection.set_progress_handler(lambda: 0, 100_000)
    return connection


def copy_pages(
    source: sqlite3.Connection, copy: sqlite3.Connection, progress: Progress | None
) -> None:
    """Copy every page into a private file, which becomes one file without a -wal."""
    copy.execute("PRAGMA synchronous=OFF")  # synced once, when it is whole
    copy.execute("PRAGMA journal_mode=OFF")  # nobody needs half of it back
    pages, report = pace(source, progress)
    source.backup(copy, pages=pages, progress=report)
    copy.execute("PRAGMA journal_mode=DELETE")


def pace(
    source: sqlite3.Connection, progress: Progress | None
) -> tuple[int, Callable[[int, int, int], None]]:
    """Return how many pages to copy at once, and what tells ``progress`` of them in bytes."""
    size = page_size(source)

    def report(_status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress((total - remaining) * size, total * size)

    return max(1, _STEP_BYTES // size), report


def page_size(connection: sqlite3.Connection) -> int:
    """Return the size of a page in bytes."""
    return int(connection.execute("PRAGMA page_size").fetchone()[0])


def _contents(connection: sqlite3.Connection) -> Contents:
    rows = {}
    for (name,) in connection.execute(_TABLES).fetchall():
        quoted = name.replace('"', '""')
        rows[name] = int(connection.execute(_COUNT.format(quoted)).fetchone()[0])
    return rows, tuple(str(name) for (name,) in connection.execute(_MIGRATIONS))


def _damage(connection: sqlite3.Connection, check: str) -> str | None:
    """Return the first thing that a check of the pages finds, or None."""
    text = str(connection.execute(f"PRAGMA {check}(1)").fetchone()[0])
    if text == "ok":
        return None
    return next((line for line in text.splitlines() if not line.startswith("***")), text)


def _dangling(connection: sqlite3.Connection) -> str | None:
    """Return the first reference to a row that is not there, or None."""
    broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    return broken and f"a row of {broken[0]!r} refers to a missing row of {broken[2]!r}"
