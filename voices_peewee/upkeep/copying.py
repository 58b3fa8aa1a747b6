"""One SQLite file beside the package's own connections: opened, copied page by page, looked at."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from voices_peewee.database.forks import Connection
from voices_peewee.database.wording import Translated, code_of
from voices_peewee.errors import BackupError, DatabaseDamagedError, NotVoicesError
from voices_peewee.upkeep.whole_files import Kind, file_errors

Progress = Callable[[int, int], None]

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
_NOT_TEXT: Final = "a name in it is not UTF-8"
_STRANGER: Final = "it is not a Voices database (no table 'schema_migrations')"
_COUNT: Final = 'SELECT count(*) FROM "{}"'


@contextmanager
def database_errors(database: Path, timeout: float, target: Path | None = None) -> Iterator[None]:
    """Turn SQLite's errors into ours; ``target`` is the copy that is being written."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DatabaseDamagedError(database, _NOT_TEXT) from error
    except sqlite3.Error as error:
        code = code_of(error)
        if code == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        is_full = target is not None and code == sqlite3.SQLITE_FULL
        with Translated(target if is_full else database, timeout):
            raise


@contextmanager
def backup_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about a backup into one sentence about it."""
    try:
        yield
    except NotVoicesError as error:
        raise BackupError(path, _STRANGER) from error
    except UnicodeDecodeError as error:
        raise BackupError(path, f"it is damaged ({_NOT_TEXT})") from error
    except sqlite3.Error as error:
        if code_of(error) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        raise BackupError(path, f"it is damaged ({error})") from error


def open_database(path: Path, timeout: float = 0.0) -> sqlite3.Connection:
    """Open a file that must be there, to read and write."""
    return _connect(f"{path.resolve().as_uri()}?mode=rw", timeout)


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


@contextmanager
def writing(partial: Path, kind: Kind, target: Path) -> Iterator[sqlite3.Connection]:
    """Open a private copy that becomes ``target``."""
    try:
        with closing(open_database(partial)) as copy:
            yield copy
    except sqlite3.Error as error:
        if code_of(error) == sqlite3.SQLITE_IOERR:
            # SQLite keeps the system's reason (a quota, say) to itself; writing on brings it out.
            with file_errors(kind, target), partial.open("ab") as file:
                file.write(bytes(1 << 20))
        raise


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


def require_voices(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse another application's database, even if it has a table of that name.

    Raises:
        NotVoicesError: It is one.
    """
    if not connection.execute(_HAS_HISTORY).fetchone()[0]:
        raise NotVoicesError(path, _STRANGER)


def contents(connection: sqlite3.Connection, path: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Count the rows of every table and name the applied migrations.

    Raises:
        NotVoicesError: It is another application's database.
    """
    require_voices(connection, path)
    rows = {name: _count(connection, name) for (name,) in connection.execute(_TABLES).fetchall()}
    return rows, tuple(str(name) for (name,) in connection.execute(_MIGRATIONS))


def _count(connection: sqlite3.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    return int(connection.execute(_COUNT.format(quoted)).fetchone()[0])


def first_finding(connection: sqlite3.Connection, *, full: bool) -> str | None:
    """Return the first thing that is wrong, or None; ``full`` compares indexes with tables."""
    check = "integrity_check" if full else "quick_check"
    text = str(connection.execute(f"PRAGMA {check}(1)").fetchone()[0])
    if text != "ok":
        return next((line for line in text.splitlines() if not line.startswith("***")), text)
    broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    if broken is None:
        return None
    return f"a row of {broken[0]!r} refers to a missing row of {broken[2]!r}"
