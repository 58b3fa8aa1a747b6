"""SQLite as an engine: the connections of threads, their transactions, and what is open here."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import peewee as pw

from voices_peewee.database.files import MEMORY, lies_still, names_of, path_of, size_of
from voices_peewee.database.forks import forks, is_busy, keep, take_along
from voices_peewee.database.results import as_dicts
from voices_peewee.database.wording import code_of
from voices_peewee.errors import DatabaseError

T = TypeVar("T")
Identity = tuple[int, int]
WAL_LIMIT: Final = 64 << 20  # bytes
_CHECKPOINT_PATIENCE: Final = 5.0  # s that a checkpoint may wait for a reader to end
_PRAGMAS: Final = {
    "foreign_keys": 1,
    "synchronous": "normal",
    "journal_size_limit": WAL_LIMIT,  # bytes: what a long reader let it grow by is given back
    # Uncommitted pages stay out of the WAL: a child forked amid them undoes its own copy alone.
    "cache_spill": 0,
}
_REFUSED: Final = (
    "it was opened before the fork, in a process with other threads: open it in the child, "
    "or start workers with spawn"
)
_as_peewee: Final[Any] = vars(pw)["__exception_wrapper__"]  # the stubs lack it
_UNDONE: Final = "an earlier error undid this transaction; leave its block and do it all again"
REPLACED: Final = "the file was removed or replaced while it was open; close it and connect again"
_WRITES: Final = ("INSERT", "UPDATE", "DELETE", "REPLACE")  # as Peewee's own queries begin
_AHEAD: Final = 1000  # rows
# Nothing but C, so that no interrupt comes between where a setting is to be put back.
_at_once: Final = sqlite3.Connection.execute
given: Final[set[str]] = set()  # names of databases, and what is beside them, of the caller's
_BARED: Final = "its -wal or -shm was removed while it was open; start this program anew"


def identity(path: str | os.PathLike[str]) -> Identity | None:
    """Return the device and inode of a file, or None where there is none."""
    facts = status(path)
    return None if facts is None else (facts.st_dev, facts.st_ino)


def status(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Return what the system says of a file, or None where there is none, as in memory."""
    try:
        return None if path == MEMORY else os.stat(path)
    except (OSError, ValueError):  # a name with NUL is no file
        return None


def is_open_here(path: str | os.PathLike[str]) -> bool:
    """Whether a file, by whatever name, is a database that this process has open, or its WAL.

    Whoever opens and closes such a file drops the locks of this process's connections, and
    another program may then remove the WAL under their feet.
    """
    wanted, real = identity(path), os.path.realpath(path)
    return any(
        real in one.names or (wanted and wanted in (one.file, *(one.sidecars or ())))
        for one in [*forks.connections.values()]
        if one.is_open
    ) or bool(real in given or (wanted and wanted in map(identity, given)))


class _Following:
    """The rows that a cursor reads next, one at a time and by itself: no method is called."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.cursor = cursor

    def __iter__(self) -> Iterator[Any]:
        return self.cursor


class Cursor(sqlite3.Cursor):
    """A cursor that text that is not UTF-8 does not end: its bytes are kept (PEP 383)."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        try:
            return super().fetchone()
        except sqlite3.OperationalError as error:
            self._decode_all(error)
            return super().fetchone()

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """Return up to so many rows."""
        rows: list[Any] = []
        while True:
            try:  # an error leaves what was read before it in the list
                rows.extend(islice(_Following(self), (size or 1) - len(rows)))
            except sqlite3.OperationalError as error:
                self._decode_all(error)
            else:
                return rows

    def fetchall(self) -> list[Any]:
        """Return the rows that are left, read in parts: an interrupt can come between them."""
        return [*self]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override] # not the cursor itself
        while rows := self.fetchmany(_AHEAD):
            yield from rows

    def _decode_all(self, error: sqlite3.OperationalError) -> None:
        if not str(error).startswith("Could not decode"):
            raise error
        decode = partial(str, encoding="utf-8", errors="surrogateescape")
        self.connection.text_factory = decode


class Connection(sqlite3.Connection):
    """A connection that a forked child knows of; ``owner`` tells whose it is."""

    begun = False
    sidecars: tuple[Identity | None, ...] | None = None  # what it has open beside the file

    def __init__(self, database: str, *args: Any, owner: object = None, **options: Any) -> None:
        self.path = path_of(str(database))
        if forks.refused:
            raise DatabaseError(self.path, _REFUSED)
        # Of the file before it is opened: one that takes its place meanwhile is noticed.
        self.file, self.names = identity(self.path), names_of(self.path)
        self.wal, self.shm = (f"{os.path.realpath(self.path)}{end}" for end in ("-wal", "-shm"))
        self.owner, self.thread = owner, threading.get_ident()
        for one in [*forks.connections.values()]:
            if one.file == self.file and one.is_open and one.is_stranded():
                raise DatabaseError(self.path, _BARED)
            if one.wal == self.wal and one.file != self.file and one.is_open:  # of its WAL
                raise DatabaseError(self.path, REPLACED)
        forks.connections[id(self)] = self  # until it is closed: no copy may close by itself
        try:
            super().__init__(database, *args, **options)
        except BaseException:
            forks.connections.pop(id(self), None)
            raise

    def cursor(self, *_: object) -> Cursor:  # type: ignore[override] # always of one kind
        """Return a cursor."""
        return Cursor(self)

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        """Run a statement."""
        return Cursor(self).execute(sql, parameters)

    @property
    def is_open(self) -> bool:
        """Whether it was not closed; an interrupted end may leave a closed one registered."""
        try:
            return self.in_transaction is not None
        except sqlite3.ProgrammingError:
            return False

    def is_stranded(self) -> bool:
        """Whether others have a new -wal or -shm, which a further connection would mix with it."""
        there = identity(self.wal), identity(self.shm)
        is_same = self.sidecars is None or self.sidecars == there or None in there
        return not is_same and self.file == identity(self.path)

    def close(self) -> None:
        """Close the connection; never one that would take the rows of others' WAL along."""
        if self.is_stranded():
            keep([self])
        else:
            if self.is_open and self.file != identity(self.path):
                take_along(self)
            super().close()
            forks.connections.pop(id(self), None)


class _Closer:
    """Closes a connection when the thread ends that holds this; never in a forked child."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.process = connection, os.getpid()

    def __del__(self) -> None:
        if os.getpid() == self.process:
            self.connection.close()


class SqliteEngine:
    """What the store asks of an engine, for a file; ``postgres.Server`` has the same."""

    connection: Callable[[], Any]  # of the calling thread
    together: tuple[str, ...] = ()  # how to begin a transaction whose answers can wait
    adds_alone = True

    def prepare(self) -> None:
        """Make sure that what is written now is kept."""

    def lock(self, *keys: object, shared: str | None = None) -> None:
        """Do nothing: SQLite has one writer at a time."""

    hold = lock

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every read inside see one state of the database, without the lock of writers."""
        connection = self.connection()
        # Outside a transaction a savepoint begins a deferred one; inside, it is a part of it.
        connection.execute("SAVEPOINT voices_snapshot")
        try:
            yield
        finally:
            if connection.in_transaction:
                connection.execute("RELEASE voices_snapshot")

    def stream(self, sql: str, parameters: Any) -> Any:
        """Return a cursor for many rows, which are not held in memory at once."""
        return self.connection().execute(sql, parameters)

    def execute_raw(self, sql: str, parameters: Any) -> Any:
        """Run a statement of the user's; return its cursor."""
        return self.connection().execute(sql, parameters)

    def read_raw(self, sql: str, parameters: Any) -> list[dict[str, Any]]:
        """Return the rows of a user's statement that may only read."""
        connection = self.connection()
        try:
            _at_once(connection, "PRAGMA query_only = 1")
            # Read to the end before that: a pragma that changes a flag ends what is being read.
            return as_dicts(connection.execute(sql, parameters))
        finally:
            _at_once(connection, "PRAGMA query_only = 0")

    @staticmethod
    def may_pass(error: BaseException) -> bool:  # noqa: ARG004 - a server's error may
        """Tell that SQLite has waited already."""
        return False

    @staticmethod
    def is_refused_write(error: BaseException | None) -> bool:
        """Whether an error is that of a statement that would do more than read."""
        return error is not None and code_of(error) == sqlite3.SQLITE_READONLY


class VoicesSqlite(SqliteEngine, pw.SqliteDatabase):
    """A SQLite database that is safe to use from threads and after a fork.

    Every thread has its own connection, and so has a forked child. An in-memory database
    belongs to one thread of one process.
    """

    _is_wal = False

    def __init__(self, database: str, *, timeout: float) -> None:
        self._token = object()
        self._forked = False
        self._wal_allowed = WAL_LIMIT
        self._state: Any
        super().__init__(
            database,
            pragmas=_PRAGMAS,
            timeout=timeout,
            lock_type="IMMEDIATE",  # a deferred transaction loses races whatever the timeout
            factory=partial(Connection, owner=self._token),
            check_same_thread=False,  # close_all() closes the connections of other threads
        )
        forks.databases.add(self)

    @property
    def connections(self) -> list[Connection]:
        """The open connections of all threads."""
        known = [*forks.connections.values()]
        return [one for one in known if one.owner is self._token and one.is_open]

    def _connect(self) -> Connection:
        if self.database == MEMORY and (self._forked or self.connections):
            raise DatabaseError(
                MEMORY,
                "an in-memory database is seen only by the thread and process that opened it; "
                "use a file",
            )
        connection = self._patiently(self._connect_once)
        self._state.closer = _Closer(connection)
        opened = identity(connection.wal), identity(connection.shm)
        connection.sidecars = opened if all(opened) else None  # else its first write makes them
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
            return super()._connect()  # type: ignore[misc,no-any-return] # peewee-stubs lack it
        except sqlite3.OperationalError as error:
            if not lies_still(self.database, error):
                raise
        # In a read-only folder, or on a full disk, as a file that does not change.
        uri, params = f"{Path(self.database).as_uri()}?immutable=1", self.connect_params
        connection: Any = sqlite3.connect(uri, uri=True, isolation_level=None, **params)
        self._add_conn_hooks(connection)  # type: ignore[attr-defined] # peewee-stubs lack it
        return connection  # type: ignore[no-any-return]

    def begin(self, lock_type: str | None = None) -> None:
        """Begin a transaction, in WAL mode: readers go on, and a forked child can leave it."""
        self._use_wal()
        connection: Connection = self.connection()
        self._require_file(connection)
        with _as_peewee:
            connection.execute(f"BEGIN {lock_type or 'IMMEDIATE'}")
        connection.begun = True

    def prepare(self) -> None:
        """Make sure that what is written now is kept."""
        self._use_wal()
        self._require_file(self._require_transaction())

    def _require_file(self, connection: Connection) -> None:
        """Refuse files that are not those that were opened; empty a WAL that has grown."""
        if connection.sidecars is None:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # which makes them
            connection.sidecars = identity(connection.wal), identity(connection.shm)
        if connection.file != identity(self.database):
            raise DatabaseError(self.database, REPLACED)
        wal = status(connection.wal)
        if connection.sidecars != (wal and (wal.st_dev, wal.st_ino), identity(connection.shm)):
            raise DatabaseError(self.database, _BARED)
        if wal and wal.st_size > self._wal_allowed and not connection.in_transaction:
            self._checkpoint(connection)

    def _checkpoint(self, connection: Connection) -> None:
        """Empty the WAL: readers that overlap each other would let it grow for ever.

        Where a single one goes on for too long, the next attempt waits for as much growth again.
        """
        patience = min(_CHECKPOINT_PATIENCE, float(self.timeout))
        try:
            _at_once(connection, f"PRAGMA busy_timeout={int(1000 * patience)}")
            with suppress(sqlite3.OperationalError):  # the write itself says what is wrong
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            _at_once(connection, f"PRAGMA busy_timeout={int(1000 * float(self.timeout))}")
        self._wal_allowed = WAL_LIMIT + size_of(connection.wal)

    def _use_wal(self) -> None:
        """Turn the file to WAL; not when it is opened, since reading must not change it."""
        if not self._is_wal and not self.in_own_transaction():
            with _as_peewee:
                connection = self.connection()
                self._patiently(lambda: connection.execute("PRAGMA journal_mode=wal").fetchone())
            self._is_wal = True

    def _require_transaction(self) -> Connection:
        """Refuse to go on in a transaction that SQLite has undone: that would write half of it."""
        connection: Connection = self.connection()
        if connection.begun and not connection.in_transaction:
            raise DatabaseError(self.database, _UNDONE)
        return connection

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement; none runs in a transaction that was undone."""
        is_alone = not self.in_own_transaction()
        if sql.startswith("ROLLBACK TO") and is_alone:
            return None  # SQLite has undone more than that
        self._require_transaction()
        if sql.startswith(_WRITES) and is_alone:
            self.prepare()
        return super().execute_sql(sql, params)  # type: ignore[no-untyped-call] # the stubs

    def commit(self) -> None:
        """Commit, if the transaction was not undone."""
        connection = self._require_transaction()
        connection.begun = False
        with _as_peewee:
            connection.execute("COMMIT")

    def rollback(self) -> None:
        """Roll back what SQLite has not undone itself: its error is the one to be seen."""
        if not self.is_closed():
            self.connection().begun = False
        if self.in_own_transaction():
            super().rollback()

    def pop_transaction(self) -> Any:
        """Leave a transaction; a forked child may leave one that its parent began."""
        return self._state.transactions.pop() if self._state.transactions else None

    def close_all(self) -> None:
        """Close the connections of all threads; undo what was not committed.

        To close one under the feet of a thread would end the process: a thread that is inside a
        call goes on to its end, and its connection goes with its last use of this object.
        """
        for connection in self.connections:
            if connection.thread == threading.get_ident() or not is_busy(connection):
                connection.close()
        self.dispose()

    def in_own_transaction(self) -> bool:
        """Whether the calling thread's connection is inside a transaction."""
        return not self.is_closed() and bool(self._state.conn.in_transaction)

    def forget(self) -> None:
        """Begin anew in a forked child, which has closed the connections."""
        self._forked = True
        self._state = pw._ConnectionLocal()
        self._lock = threading.Lock()
