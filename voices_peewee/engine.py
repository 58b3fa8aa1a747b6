"""Opening the database: which one, with which settings, and across threads and forks."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import peewee as pw

from voices_peewee.errors import (
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseFullError,
    DatabaseMissingError,
    DatabaseReadOnlyError,
    InvalidValueError,
    NotConnectedError,
    NotVoicesError,
    VoicesError,
)
from voices_peewee.forks import Connection, Connections, Gate, forks, still_open
from voices_peewee.models import CHECKS

MEMORY: Final = ":memory:"

T = TypeVar("T")

_PRAGMAS: Final = {
    "foreign_keys": 1,
    "synchronous": "normal",
    # A long reader lets the WAL grow; this gives the space back afterwards (bytes).
    "journal_size_limit": 64 << 20,
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
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _connect_once(self) -> Connection:
        connection: Connection = super()._connect()  # type: ignore[misc] # peewee-stubs lack it
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode != _READONLY_DIRECTORY:
                raise
            return self._connect_unchanging()
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_unchanging(self) -> Connection:
        """Connect to a file in a read-only folder, where SQLite cannot put its -wal and -shm.

        Nobody was writing a moment ago, or these would be there.
        """
        uri = f"{Path(self.database).as_uri()}?immutable=1"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, factory=Connection, check_same_thread=False
        )
        self._add_conn_hooks(connection)  # type: ignore[attr-defined] # peewee-stubs lack it
        return connection

    def begin(self, lock_type: str | None = None) -> None:
        """Begin a transaction, in WAL mode: readers go on, and a forked child can leave it."""
        self.use_wal()
        super().begin(lock_type)

    def use_wal(self) -> None:
        """Turn the file to WAL; not when it is opened, since reading must not change it."""
        if not self._is_wal and not self.in_own_transaction():
            with translated(self.database, float(self.timeout)):
                connection: Connection = self.connection()  # type: ignore[no-untyped-call] # the stubs
                self._patiently(lambda: connection.execute("PRAGMA journal_mode=wal").fetchone())
            self._is_wal = True

    _is_wal = False

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


_TORN: Final = (
    "this process was forked while a call of its parent was inside SQLite; "
    "fork between calls, or start it with the method 'spawn'"
)
_READONLY_DIRECTORY: Final = 1544  # SQLITE_READONLY_DIRECTORY

_writing: Final = Gate()
binding: Final = Gate()


@contextmanager
def write_gate(database: object, timeout: float) -> Iterator[None]:
    """Let one thread of this process write at a time.

    Raises:
        DatabaseError: Another thread wrote for longer than ``timeout`` (s).
    """
    if not _writing.acquire(timeout):
        raise DatabaseError(
            database,
            f"another thread of this program kept writing for more than {timeout:g} s; "
            "end that transaction or raise the timeout",
        )
    try:
        yield
    finally:
        _writing.release()


def default_path() -> str:
    """Return ``$VOICES_DB``, else ``~/.voices/voices.db``."""
    return os.environ.get("VOICES_DB") or str(Path("~/.voices/voices.db").expanduser())


def resolve(target: str | os.PathLike[str] | None) -> str:
    """Return the absolute path of a database, or ``:memory:``.

    Raises:
        DatabaseError: The target is a URL of an engine that is not supported.
    """
    name = os.fspath(target) if target is not None else default_path()
    if name == MEMORY:
        return name
    if name.startswith("sqlite:///"):
        name = name.removeprefix("sqlite:///")
    elif "://" in name:
        scheme = name.partition("://")[0]
        raise DatabaseError(f"{scheme}://…", "this version opens SQLite files only")
    if not name or "\0" in name:
        raise DatabaseError(name, "a path must be a text without NUL, and not empty")
    return os.path.abspath(Path(name).expanduser())


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


def require_voices(path: str, history_table: str) -> None:
    """Refuse a file that is there but is not ours, before anything writes to it.

    Raises:
        DatabaseMissingError: Nothing is there, or an empty file.
        NotVoicesError: The file is something else, or another application's.
        DatabaseDamagedError: The file is broken.
        DatabaseError: The file may not be read.
    """
    if inspect(path) != "file":
        raise DatabaseMissingError(path)
    refuse_strangers(path, history_table)


def refuse_strangers(path: str, history_table: str) -> None:
    """Refuse a file that is no SQLite file, or has tables, but not ours; nothing is changed.

    Raises:
        NotVoicesError: The file belongs to another application.
        DatabaseDamagedError: The file is broken.
    """
    with translated(path):
        tables = _table_names(path)
    if tables and history_table not in tables:
        shown = ", ".join(tables[:3]) + (", …" if len(tables) > 3 else "")
        raise NotVoicesError(path, f"it is a database of another application ({shown})")


_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"


def _table_names(path: str) -> list[str]:
    """Look without leaving a -wal and a -shm behind where there was none."""
    try:
        return _look(path, is_still=not _sidecars(path, ("-wal", "-journal")))
    except sqlite3.DatabaseError:
        if not _sidecars(path, ("-wal", "-journal")):
            raise
        return _look(path, is_still=False)  # another program began to write just now


def _look(path: str, *, is_still: bool) -> list[str]:
    uri = f"{Path(path).as_uri()}?mode=ro{'&immutable=1' if is_still else ''}"
    with closing(sqlite3.connect(uri, uri=True, timeout=30, factory=Connection)) as connection:
        return [row[0] for row in connection.execute(_TABLES)]


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


@contextmanager
def translated(database: object, timeout: float = 30.0) -> Iterator[None]:
    """Turn the errors of Peewee and sqlite3 into ours.

    Raises:
        DatabaseBusyError: A lock was held for longer than ``timeout`` (s).
        DatabaseReadOnlyError: The file or folder cannot be written.
        DatabaseFullError: The disk is full.
        DatabaseDamagedError: The file is broken.
        NotConnectedError: The connection was closed.
        InvalidValueError: A constraint refused a value.
        DatabaseError: Anything else that the database reports.
    """
    try:
        yield
    except VoicesError:
        raise
    except (pw.IntegrityError, sqlite3.IntegrityError) as error:
        raise InvalidValueError(_constraint_sentence(_message(error))) from error
    except UnicodeError as error:
        raise InvalidValueError(f"a text holds what UTF-8 cannot: {error}") from error
    except (pw.DatabaseError, pw.InterfaceError, sqlite3.Error, OverflowError) as error:
        raise _translate(error, database, timeout) from error


def _translate(error: Exception, database: object, timeout: float) -> VoicesError:
    if (ours := _own(error)) is not None:
        return ours
    if isinstance(error, OverflowError):
        return InvalidValueError("an integer does not fit into 64 bits")
    if "closed database" in _message(error):
        return NotConnectedError(database)
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseBusyError(database, timeout)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return DatabaseReadOnlyError(database)
        case sqlite3.SQLITE_FULL:
            return DatabaseFullError(database)
        case sqlite3.SQLITE_NOTADB:
            return NotVoicesError(database, "it is not an SQLite database")
        case sqlite3.SQLITE_CORRUPT:
            return DatabaseDamagedError(database, _message(error))
        case sqlite3.SQLITE_TOOBIG:
            return InvalidValueError("a value is larger than the database can hold")
    return DatabaseError(database, _message(error))


def _own(error: object) -> VoicesError | None:
    """Return the error of ours that Peewee wrapped: it goes by names, and one is the same."""
    while isinstance(error, pw.PeeweeException):
        error = getattr(error, "orig", None)
    return error if isinstance(error, VoicesError) else None


def _message(error: Exception) -> str:
    """Return the driver's words: Peewee puts the driver's error before them."""
    return str(error.args[-1] if error.args else error).strip().partition("\n")[0]


def _code(error: BaseException) -> int:
    """Return SQLite's primary result code behind an error, or -1."""
    cause: BaseException | None = error
    while cause is not None:
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None:
            return int(code) & 0xFF
        cause = cause.__cause__ or cause.__context__
    return -1


def _constraint_sentence(message: str) -> str:
    """Say in words which rule a value broke."""
    kind, _, name = message.partition(" constraint failed: ")
    if name in CHECKS:
        return CHECKS[name][1]
    if kind == "NOT NULL":
        return f"{name} must not be empty"
    if kind == "UNIQUE":
        return f"{name} must be unique"
    if message.startswith("FOREIGN KEY"):
        return "a record refers to another that does not exist"
    return message


def run_sql(database: pw.Database, sql: str, *params: object) -> list[Any]:
    """Execute one statement and return its rows."""
    return list(database.execute_sql(sql, params))
