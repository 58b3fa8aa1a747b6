"""Opening the database: which one, with which settings, and across threads and forks."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import peewee as pw

from voices_peewee.database.forks import Connection, Connections, Gate, forks, still_open
from voices_peewee.database.server_url import SCHEMES, as_server, is_server, masked
from voices_peewee.database.wording import Translated, code_of
from voices_peewee.errors import (
    DatabaseError,
    DatabaseMissingError,
    MissingExtraError,
    NotVoicesError,
)

if TYPE_CHECKING:
    from voices_peewee.database.postgres import Server

MEMORY: Final = ":memory:"

T = TypeVar("T")

WAL_LIMIT: Final = 64 << 20  # bytes
_CHECKPOINT_PATIENCE: Final = 5.0  # s that a checkpoint may wait for a reader to end

_PRAGMAS: Final = {
    "foreign_keys": 1,
    "synchronous": "normal",
    # A long reader lets the WAL grow; this gives the space back afterwards (bytes).
    "journal_size_limit": WAL_LIMIT,
    # Uncommitted pages stay out of the WAL, so that a child that was forked inside a
    # transaction can undo its copy of it without touching its parent's.
    "cache_spill": 0,
}


class _Closer:
    """Closes a connection when the thread ends that holds this; never in a forked child."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.process = connection, os.getpid()

    def __del__(self) -> None:
        if os.getpid() == self.process:
            self.connection.close()


class VoicesSqlite(pw.SqliteDatabase):
    """A SQLite database that is safe to use from threads and after a fork.

    Every thread has its own connection. A forked child closes its copies of its parent's
    connections and opens its own. An in-memory database belongs to one thread of one process.
    """

    def __init__(self, database: str, *, timeout: float) -> None:
        self._connections = Connections()
        self.forked = False
        self._wal = f"{os.path.realpath(database)}-wal"
        self._wal_allowed = WAL_LIMIT
        self._state: Any
        super().__init__(
            database,
            pragmas=_PRAGMAS,
            timeout=timeout,
            lock_type="IMMEDIATE",  # a deferred transaction loses races whatever the timeout
            factory=Connection,
            check_same_thread=False,  # close_all() closes the connections of other threads
        )
        forks.databases.add(self)

    @property
    def connections(self) -> list[Connection]:
        """The open connections of all threads."""
        return still_open(self._connections)

    def _connect(self) -> Connection:
        if forks.is_torn:
            raise DatabaseError(self.database, _TORN)
        if self.database == MEMORY and (self.forked or self.connections):
            raise DatabaseError(
                MEMORY,
                "an in-memory database is seen only by the thread and process that opened it; "
                "use a file",
            )
        connection = self._patiently(self._connect_once)
        connection.file = _identity(self.database)
        self._connections[id(connection)] = connection
        self._state.closer = _Closer(connection)
        return connection

    def _patiently(self, action: Callable[[], T]) -> T:
        """Repeat what SQLite refuses without waiting while another process turns a file to WAL."""
        deadline = time.monotonic() + float(self.timeout)
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _connect_once(self) -> Connection:
        try:
            found: Connection = super()._connect()  # type: ignore[misc] # peewee-stubs lack it
        except sqlite3.OperationalError as error:
            if not lies_still(self.database, error):
                raise
            return self._connect_unchanging()
        return found

    def _connect_unchanging(self) -> Connection:
        """Connect to a file in a read-only folder."""
        uri = f"{Path(self.database).as_uri()}?immutable=1"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, factory=Connection, check_same_thread=False
        )
        self._add_conn_hooks(connection)  # type: ignore[attr-defined] # peewee-stubs lack it
        return connection

    def begin(self, lock_type: str | None = None) -> None:
        """Begin a transaction, in WAL mode: readers go on, and a forked child can leave it."""
        self._use_wal()
        self._require_file()
        super().begin(lock_type)

    def prepare(self) -> None:
        """Make sure that what is written now is kept.

        Raises:
            DatabaseError: The file was removed or replaced, or the transaction was undone.
        """
        self._use_wal()
        self._require_transaction()
        self._require_file()

    def _require_file(self) -> None:
        """Refuse a file that is not the one that was opened; empty a WAL that has grown."""
        connection: Connection = self.connection()  # type: ignore[no-untyped-call] # the stubs
        if connection.file != _identity(self.database):
            raise DatabaseError(self.database, _REPLACED)
        if self._wal_size() > self._wal_allowed and not connection.in_transaction:
            self._checkpoint(connection)

    def _wal_size(self) -> int:
        try:
            return os.stat(self._wal).st_size  # noqa: PTH116 - each write pays
        except OSError:
            return 0

    def _checkpoint(self, connection: Connection) -> None:
        """Empty the WAL: readers that overlap each other would let it grow for ever.

        Where a single one goes on for too long, the next attempt waits for as much growth again.
        """
        patience = min(_CHECKPOINT_PATIENCE, float(self.timeout))
        connection.execute(f"PRAGMA busy_timeout={int(1000 * patience)}")
        with suppress(sqlite3.OperationalError):  # the write itself says what is wrong
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute(f"PRAGMA busy_timeout={int(1000 * float(self.timeout))}")
        self._wal_allowed = self._wal_size() + WAL_LIMIT

    def _use_wal(self) -> None:
        """Turn the file to WAL; not when it is opened, since reading must not change it."""
        if not self._is_wal and not self.in_own_transaction():
            with Translated(self.database, float(self.timeout)):
                connection: Connection = self.connection()  # type: ignore[no-untyped-call] # the stubs
                self._patiently(lambda: connection.execute("PRAGMA journal_mode=wal").fetchone())
            self._is_wal = True

    _is_wal = False

    def _require_transaction(self) -> None:
        """Refuse to go on in a transaction that SQLite has undone: that would write half of it."""
        begun = self._state.transactions
        if begun and type(begun[0]).__name__ != "_manual" and not self.in_own_transaction():
            raise DatabaseError(self.database, _UNDONE)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement; none runs in a transaction that was undone."""
        if sql.startswith("ROLLBACK TO"):
            if not self.in_own_transaction():
                return None
        elif not sql.startswith("BEGIN"):  # a block that was rolled back by hand begins again
            self._require_transaction()
        return super().execute_sql(sql, params)  # type: ignore[no-untyped-call] # the stubs

    def commit(self) -> None:
        """Commit, if the transaction was not undone."""
        if not self.in_own_transaction():
            raise DatabaseError(self.database, _UNDONE)
        super().commit()

    def rollback(self) -> None:
        """Roll back what SQLite has not undone itself: its error is the one to be seen."""
        if self.in_own_transaction():
            super().rollback()

    def pop_transaction(self) -> Any:
        """Leave a transaction; a forked child may leave one that its parent began."""
        return self._state.transactions.pop() if self._state.transactions else None

    def close_all(self) -> None:
        """Close the connections of all threads; undo what was not committed."""
        for connection in self.connections:
            connection.close()
        self.dispose()

    def in_own_transaction(self) -> bool:
        """Whether the calling thread's connection is inside a transaction."""
        return not self.is_closed() and bool(self._state.conn.in_transaction)

    def forget(self) -> None:
        """Begin anew in a forked child, which has closed the connections."""
        self._connections = Connections()
        self.forked = True
        self._state = pw._ConnectionLocal()  # noqa: SLF001 - Peewee has no public way
        self._lock = threading.Lock()


_UNDONE: Final = "an earlier error undid this transaction; leave its block and do it all again"
_TORN: Final = (
    "this process was forked while a call of its parent was inside SQLite; "
    "fork between calls, or start it with the method 'spawn'"
)
_REPLACED: Final = "the file was removed or replaced while it was open; close it and connect again"
_READONLY_DIRECTORY: Final = 1544  # SQLITE_READONLY_DIRECTORY


def _identity(path: str) -> tuple[int, int] | None:
    """Return the device and inode of a file, or None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path costs more than the call, and each write pays
    except OSError:
        return None
    return found.st_dev, found.st_ino


_writing: Final = Gate()
binding: Final = Gate()


class WriteGate:
    """Lets one thread of this process write at a time.

    Raises:
        DatabaseError: Another thread wrote for longer than ``timeout`` (s).
    """

    def __init__(self, database: object, timeout: float) -> None:
        self._database, self._timeout = database, timeout

    def __enter__(self) -> None:
        if not _writing.acquire(self._timeout):
            raise DatabaseError(
                self._database,
                f"another thread of this program kept writing for more than {self._timeout:g} s; "
                "end that transaction or raise the timeout",
            )

    def __exit__(self, *_: object) -> None:
        _writing.release()


def default_path() -> str:
    """Return ``$VOICES_DB``, else ``~/.voices/voices.db``."""
    return os.environ.get("VOICES_DB") or str(Path("~/.voices/voices.db").expanduser())


def resolve(target: str | os.PathLike[str] | None) -> str:
    """Return the absolute path of a database, ``:memory:``, or the URL of a server as it is.

    Raises:
        DatabaseError: The target is a URL of an engine that is not supported.
    """
    name = os.fspath(target) if target is not None else default_path()
    if name == MEMORY:
        return name
    if is_server(name):
        return name
    if name.startswith("sqlite:///"):
        name = name.removeprefix("sqlite:///")
    elif "://" in name or as_server(name):
        scheme = name.partition(":")[0]
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise DatabaseError(f"{scheme}://…", f"use the path of a file, or one of {known}")
    if not name or "\0" in name:
        raise DatabaseError(name, "a path must be a text without NUL, and not empty")
    return os.path.abspath(Path(name).expanduser())


_UNREADABLE: Final = (
    "the URL cannot be read; in a password, write '%' as %25, '/' as %2F, '?' as %3F and '@' as %40"
)


def open_server(url: str, timeout: float) -> Server:
    """Return the database of a server's URL, not connected yet.

    Raises:
        MissingExtraError: psycopg is not installed.
        DatabaseError: The URL cannot be read.
    """
    try:
        from voices_peewee.database import postgres
    except ImportError as error:
        raise MissingExtraError("a database on a server", "postgres") from error
    try:
        return postgres.open_server(url, timeout=timeout)
    except ValueError:
        # Not ``from error``: libpq repeats the URL, and with it the password.
        raise DatabaseError(masked(url), _UNREADABLE) from None


def inspect(path: str) -> str:
    """Return ``missing``, ``empty`` or ``file``: what is at ``path``.

    The file is not opened: closing it would take away the locks that this process's other
    connections to it hold, and another program would remove the WAL under their feet.

    Raises:
        NotVoicesError: Something else is there.
        DatabaseError: The file may not be read.
    """
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as error:
        raise DatabaseError(path, _reason(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise NotVoicesError(path, "it is not a file")
    if not os.access(path, os.R_OK):
        raise DatabaseError(path, "permission denied")
    return "file" if found.st_size else "empty"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def require_voices(path: str, history_table: str, timeout: float) -> None:
    """Refuse a file that is there but is not ours, before anything writes to it.

    Raises:
        DatabaseMissingError: Nothing is there, or an empty file.
        NotVoicesError: The file is something else, or another application's.
        DatabaseDamagedError: The file is broken.
        DatabaseBusyError: Another program kept it locked for longer than ``timeout`` (s).
        DatabaseError: The file may not be read.
    """
    if inspect(path) != "file":
        raise DatabaseMissingError(path)
    refuse_strangers(path, history_table, timeout)


def refuse_strangers(path: str, history_table: str, timeout: float) -> None:
    """Refuse a file that is no SQLite file, or has tables, but not ours; nothing is changed.

    Raises:
        NotVoicesError: The file belongs to another application.
        DatabaseDamagedError: The file is broken.
    """
    with Translated(path, timeout):
        tables = _table_names(path, timeout)
    if history_table not in tables:
        refuse_tables(path, tables)


def refuse_tables(path: str, tables: list[str], *, is_new: bool = True) -> None:
    """Refuse a database without our history that has tables.

    Raises:
        NotVoicesError: It has.
        DatabaseMissingError: It has none, and is not to be filled: ``is_new`` is false.
    """
    if not tables and not is_new:
        raise DatabaseMissingError(path)
    if tables:
        shown = ", ".join(tables[:3]) + (", …" if len(tables) > 3 else "")
        raise NotVoicesError(path, f"it is a database of another application ({shown})")


_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"


def _table_names(path: str, timeout: float) -> list[str]:
    """Look without leaving a -wal and a -shm behind where there was none."""
    try:
        return _look(path, timeout, is_still=not _sidecars(path, ("-wal", "-journal")))
    except sqlite3.DatabaseError:
        if not _sidecars(path, ("-wal", "-journal")):
            raise
        return _look(path, timeout, is_still=False)  # another program began to write just now


def _look(path: str, timeout: float, *, is_still: bool) -> list[str]:
    uri = f"{Path(path).as_uri()}?mode=ro{'&immutable=1' if is_still else ''}"
    with closing(sqlite3.connect(uri, uri=True, timeout=timeout, factory=Connection)) as connection:
        return [row[0] for row in connection.execute(_TABLES)]


def lies_still(path: str, error: sqlite3.OperationalError) -> bool:
    """Tell whether SQLite only cannot put its -wal and -shm into a read-only folder or disk.

    Nobody was writing a moment ago, or these would be there: it may be opened as immutable.
    """
    is_fixed = error.sqlite_errorcode == _READONLY_DIRECTORY or (
        error.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN
        and not os.access(Path(path).resolve().parent, os.W_OK)
    )
    return is_fixed and not _sidecars(path, ("-wal",))


def _sidecars(path: str, suffixes: tuple[str, ...]) -> list[str]:
    real = os.path.realpath(path)
    return [real + suffix for suffix in suffixes if os.path.lexists(real + suffix)]


def create_file(path: str) -> None:
    """Create the folder (owner only) and an empty database file (owner only, umask respected).

    Raises:
        DatabaseError: The folder or the file cannot be made, or the rest of a database whose
            file is gone lies there: SQLite would delete what is in its WAL.
    """
    if (left := _sidecars(path, ("-wal",))) and inspect(path) != "file":
        name = Path(left[0]).name
        raise DatabaseError(path, f"{name!r} is there without it; move that away first")
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never one that is there: closing it would drop this process's locks on it.
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        if not Path(path).is_file():
            raise DatabaseError(path, _reason(error)) from error
    except OSError as error:
        raise DatabaseError(path, _reason(error)) from error


def run_sql(database: pw.Database, sql: str, *params: object) -> list[Any]:
    """Execute one statement and return its rows."""
    execute: Callable[..., Any] = database.execute_sql
    cursor = execute(sql, params)
    return list(cursor) if cursor.description else []
