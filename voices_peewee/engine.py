"""Opening the database: which one, with which settings, and across threads and forks."""

from __future__ import annotations

import os
import select
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

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
from voices_peewee.models import CHECKS

MEMORY: Final = ":memory:"

_PRAGMAS: Final = {
    "foreign_keys": 1,
    "journal_mode": "wal",
    "synchronous": "normal",
    # A long reader lets the WAL grow; this gives the space back afterwards (bytes).
    "journal_size_limit": 64 << 20,
    # Uncommitted pages stay out of the WAL, so that a child that was forked inside a
    # transaction can undo its copy of it without touching its parent's.
    "cache_spill": 0,
}
_MAGIC: Final = b"SQLite format 3\x00"


class _Connection(sqlite3.Connection):
    """A connection that can be referred to weakly."""


class _Closer:
    """Closes a connection when the thread ends that holds this; never in a forked child."""

    def __init__(self, connection: _Connection) -> None:
        self.connection, self.process = connection, os.getpid()

    def __del__(self) -> None:
        if os.getpid() == self.process:
            self.connection.close()


class VoicesSqlite(pw.SqliteDatabase):
    """A SQLite database that is safe to use from threads and after a fork.

    Every thread has its own connection. A forked child leaves its parent's connections
    alone and opens its own. An in-memory database belongs to one thread of one process.
    """

    def __init__(self, database: str, *, timeout: float) -> None:
        self.connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self.forked = False
        self._state: Any
        super().__init__(
            database,
            pragmas=_PRAGMAS,
            timeout=timeout,
            lock_type="IMMEDIATE",  # a deferred transaction loses races whatever the timeout
            factory=_Connection,
            check_same_thread=False,  # close_all() closes the connections of other threads
        )
        _forks.databases.add(self)

    def _connect(self) -> _Connection:
        if self.database == MEMORY and (self.forked or self.connections):
            raise DatabaseError(
                MEMORY,
                "an in-memory database is seen only by the thread and process that opened it; "
                "use a file",
            )
        connection: _Connection = self._retry_connect()
        self.connections.add(connection)
        self._state.closer = _Closer(connection)
        return connection

    def _retry_connect(self) -> Any:
        """Connect again while another process turns a new file to WAL: SQLite won't wait."""
        deadline = time.monotonic() + float(self.timeout)
        while True:
            try:
                return super()._connect()  # type: ignore[misc] # peewee-stubs lack it
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def close_all(self) -> None:
        """Close the connections of all threads; undo what was not committed."""
        for connection in list(self.connections):
            connection.close()
        self.dispose()

    def in_own_transaction(self) -> bool:
        """Whether the calling thread's connection is inside a transaction."""
        return not self.is_closed() and bool(self._state.conn.in_transaction)

    def forget(self) -> None:
        """Leave inherited connections alone: closing one in a child harms the parent's file."""
        import ctypes  # late: only a forked child needs it

        if self.in_own_transaction():
            # SQLite counts locks in the process too: an inherited one would bar this child.
            self._state.conn.execute("ROLLBACK")
        for connection in self.connections:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
        self.connections = weakref.WeakSet()
        self.forked = True
        self._state = pw._ConnectionLocal()  # noqa: SLF001 - Peewee has no public way
        self._lock = threading.Lock()


class _Forks:
    """Makes forks wait for writers, so that no child inherits a lock that nobody gives back."""

    patience: Final = 10.0  # seconds

    def __init__(self) -> None:
        self.databases: weakref.WeakSet[VoicesSqlite] = weakref.WeakSet()
        self.writing = threading.RLock()
        self.pipe: tuple[int, int] | None = None

    def before(self) -> None:
        self.held = self.writing.acquire(timeout=self.patience)
        if any(database.in_own_transaction() for database in self.databases):
            self.pipe = os.pipe()

    def in_parent(self) -> None:
        """Write nothing until the child has undone its copy of this thread's transaction."""
        if self.pipe is not None:
            done, child = self.pipe
            os.close(child)
            select.select([done], [], [], self.patience)
            os.close(done)
            self.pipe = None
        if self.held:
            self.writing.release()

    def in_child(self) -> None:
        self.writing = threading.RLock()
        for database in list(self.databases):
            database.forget()
        if self.pipe is not None:
            for end in self.pipe:
                os.close(end)  # the parent sees the end of the pipe
            self.pipe = None


_forks: Final = _Forks()
os.register_at_fork(
    before=_forks.before, after_in_parent=_forks.in_parent, after_in_child=_forks.in_child
)


@contextmanager
def write_gate() -> Iterator[None]:
    """Let one thread of this process write at a time; a fork waits for its turn too."""
    with _forks.writing:
        yield


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
    """Return ``missing``, ``empty`` or ``sqlite``: what is at ``path``, read without changing it.

    Raises:
        NotVoicesError: Something else is there.
        DatabaseError: The file cannot be opened.
    """
    try:
        if not Path(path).is_file():
            if Path(path).exists():
                raise NotVoicesError(path, "it is not a file")
            return "missing"
        with Path(path).open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise DatabaseError(path, _reason(error)) from error
    if head and head != _MAGIC:
        raise NotVoicesError(path, "it is not an SQLite database")
    return "sqlite" if head else "empty"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def require_voices(path: str, history_table: str) -> None:
    """Refuse a file that is there but is not ours, before anything writes to it.

    Raises:
        DatabaseMissingError: Nothing is there, or an empty file.
        NotVoicesError: The file is something else, or another application's.
    """
    if inspect(path) != "sqlite":
        raise DatabaseMissingError(path)
    refuse_strangers(path, history_table)


def refuse_strangers(path: str, history_table: str) -> None:
    """Refuse an SQLite file that has tables, but not ours.

    Raises:
        NotVoicesError: The file belongs to another application.
        DatabaseDamagedError: The file is broken.
    """
    with translated(path), closing(_read_only(path)) as connection:
        tables = [row[0] for row in connection.execute(_TABLES)]
    if tables and history_table not in tables:
        shown = ", ".join(tables[:3]) + (", …" if len(tables) > 3 else "")
        raise NotVoicesError(path, f"it is a database of another application ({shown})")


_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"


def _read_only(path: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True, timeout=30)


def create_file(path: str) -> None:
    """Create the folder (owner only) and an empty database file (owner only, umask respected).

    Raises:
        DatabaseError: The folder or the file cannot be made.
    """
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
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
