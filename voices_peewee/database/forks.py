"""Connections that survive a fork: none is used on both sides, none is copied while it works.

SQLite counts its file locks in the process. A forked child inherits the counts, but not the
locks, and would write to a file that it does not hold: once its parent closes, what the child
commits is lost. So a fork waits until no thread is inside SQLite, and before the parent goes
on the child rolls back and closes what it inherited. The parent's locks, held all the while,
keep that closing from touching the file.
"""

from __future__ import annotations

import os
import select
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final

_BATCH: Final = 200  # rows

# Found once: these calls are the package's hot path.
_execute: Final = sqlite3.Cursor.execute
_fetchone: Final = sqlite3.Cursor.fetchone
_fetchmany: Final = sqlite3.Cursor.fetchmany
_fetchall: Final = sqlite3.Cursor.fetchall


class Cursor(sqlite3.Cursor):
    """A cursor that a fork waits for."""

    __slots__ = ()
    connection: Connection

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        """Run a statement."""
        connection = self.connection
        connection.busy += 1
        try:
            if forks.pending:
                forks.stand_aside(connection)
            _execute(self, sql, parameters)
        finally:
            connection.busy -= 1
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor:
        """Run a statement with many sets of values; what makes the values may fork."""
        with _Inside(self.connection):
            super().executemany(sql, self.connection.outside(parameters))
        return self

    def executescript(self, script: str, /) -> Cursor:
        """Run several statements."""
        with _Inside(self.connection):
            super().executescript(script)
        return self

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        connection = self.connection
        connection.busy += 1
        try:
            if forks.pending:
                forks.stand_aside(connection)
            return _fetchone(self)
        finally:
            connection.busy -= 1

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next rows."""
        with _Inside(self.connection):
            return _fetchmany(self, self.arraysize if size is None else size)

    def fetchall(self) -> list[Any]:
        """Return the rest of the rows."""
        connection = self.connection
        connection.busy += 1
        try:
            if forks.pending:
                forks.stand_aside(connection)
            return _fetchall(self)
        finally:
            connection.busy -= 1

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override] # in batches, not itself
        while rows := self.fetchmany(_BATCH):
            yield from rows


class Connection(sqlite3.Connection):
    """A connection that a fork waits for, and that a forked child closes."""

    __slots__ = ("__weakref__", "busy", "file", "is_open", "process", "thread")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.busy = 1  # calls that are inside SQLite; this is one
        self.thread, self.process = threading.get_ident(), forks.process
        self.file: tuple[int, int] | None = None  # device and inode, where that matters
        self.is_open = True
        forks.connections[id(self)] = self
        try:
            while forks.pending and not forks.is_mine():
                self.is_open = False  # there is nothing yet that a child could close
                forks.stand_aside(self)
                self.is_open = True
            super().__init__(*args, **kwargs)
        except BaseException:
            self.is_open = False
            raise
        finally:
            self.busy -= 1

    def cursor(self, factory: Any = Cursor) -> Any:
        """Return a cursor."""
        return super().cursor(factory)

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        """Run a statement with a new cursor."""
        return Cursor(self).execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor:
        """Run a statement with many sets of values with a new cursor."""
        return Cursor(self).executemany(sql, parameters)

    def executescript(self, script: str, /) -> Cursor:
        """Run several statements with a new cursor."""
        return Cursor(self).executescript(script)

    def commit(self) -> None:
        """Commit."""
        with _Inside(self):
            super().commit()

    def rollback(self) -> None:
        """Roll back."""
        with _Inside(self):
            super().rollback()

    def backup(self, *args: Any, **kwargs: Any) -> None:
        """Copy the database into another connection."""
        with _Inside(self):
            super().backup(*args, **kwargs)

    def close(self) -> None:
        """Close the connection."""
        with _Inside(self):
            super().close()
            self.is_open = False

    def outside(self, values: Iterable[Any]) -> Iterator[Any]:
        """Yield values that are asked for between two steps, outside of SQLite.

        Raises:
            sqlite3.ProgrammingError: This is a child that was forked by what makes the values.
        """
        iterator = iter(values)
        while True:
            self.busy -= 1
            try:
                value = next(iterator)
            except StopIteration:
                return
            finally:
                self.busy += 1
                if forks.pending:
                    forks.stand_aside(self)
            if self.process != forks.process:
                raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
            yield value

    def leave(self) -> bool:
        """Close a copy of a parent's connection; return whether that could be done.

        What the WAL lacks can be rolled back in the child without touching the parent's; a
        rollback journal is one for both.
        """
        try:
            if self.in_transaction:
                if self.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
                    return False
                self.execute("ROLLBACK")
            self.close()
        except sqlite3.Error:
            return False
        return True


class _Inside:
    """Marks a connection as busy while a call of it is inside SQLite."""

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __enter__(self) -> None:
        self.connection.busy += 1
        if forks.pending:
            forks.stand_aside(self.connection)

    def __exit__(self, *_: object) -> None:
        self.connection.busy -= 1


Connections = weakref.WeakValueDictionary[int, Connection]


def still_open(connections: Connections) -> list[Connection]:
    """Return the open ones; other threads may open and close some meanwhile."""
    found = [reference() for reference in connections.valuerefs()]
    return [one for one in found if one is not None and one.is_open]


class Gate:
    """A lock that its thread may take again, and that a forked child finds open."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        forks.gates.append(self)

    def acquire(self, timeout: float = -1) -> bool:
        """Take the lock; return whether that was possible in a time (s)."""
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def reopen(self) -> None:
        """Forget the threads that a forked child does not have."""
        if self._lock.acquire(blocking=False):  # free, or held by the thread that forked
            self._lock.release()
        else:
            self._lock = threading.RLock()


class _Fork:
    """One fork that is under way."""

    is_quiet = False
    # Held, or Python would close those of other threads in the child, quiet or not.
    connections: Sequence[Connection] = ()
    pipe: tuple[int, int] | None = None  # on which the parent waits


class _Forks:
    """Makes a fork wait for the threads that are inside SQLite, and them for the fork."""

    patience = 10.0  # seconds, for a thread inside SQLite and for the child

    def __init__(self) -> None:
        self.databases: weakref.WeakSet[Any] = weakref.WeakSet()
        self.gates: list[Gate] = []
        self.connections = Connections()
        # A child that was copied while another thread was inside SQLite may not use it.
        self.is_torn = False
        self.process = os.getpid()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.pending = 0
        self._changed = threading.Condition()
        self._local = threading.local()

    def _current(self) -> _Fork | None:
        return getattr(self._local, "fork", None)

    def open_connections(self) -> list[Connection]:
        """Return the connections of all threads."""
        return still_open(self.connections)

    def is_mine(self) -> bool:
        """Whether the calling thread is forking."""
        return self._current() is not None

    def stand_aside(self, connection: Connection) -> None:
        """Wait outside of SQLite while another thread forks."""
        if connection.busy > 1 or self.is_mine():
            return  # inside a call already, or code that the forking thread itself runs
        while self.pending:
            connection.busy -= 1
            with self._changed:
                self._changed.wait_for(lambda: not self.pending, 2 * self.patience)
            connection.busy += 1

    def before(self) -> None:
        """Wait until no thread is inside SQLite, and keep them out."""
        fork = self._local.fork = _Fork()
        with self._changed:
            self.pending += 1
        fork.is_quiet = self._await_quiet()
        fork.connections = self.open_connections()
        if fork.connections:
            fork.pipe = os.pipe()

    def _await_quiet(self) -> bool:
        me, deadline = threading.get_ident(), time.monotonic() + self.patience
        while True:
            busy = [one.thread for one in self.open_connections() if one.busy]
            if not busy or me in busy or time.monotonic() > deadline:
                return not busy
            time.sleep(0.0005)

    def in_parent(self) -> None:
        """Go on once the child has left what it inherited."""
        fork = self._current()
        if fork is None:
            return
        try:
            if fork.pipe is not None:
                done, child = fork.pipe
                os.close(child)
                select.select([done], [], [], self.patience)
                os.close(done)
        finally:
            self._local.fork = None
            with self._changed:
                self.pending -= 1
                self._changed.notify_all()

    def in_child(self) -> None:
        """Leave the parent's connections, in a process that has only the thread that forked."""
        fork = self._current() or _Fork()
        self._begin_anew()
        self.process = os.getpid()
        try:
            for gate in self.gates:
                gate.reopen()
            for connection in fork.connections:
                # Where a thread was inside SQLite, its locks in memory are never given back.
                if not fork.is_quiet or not connection.leave():
                    self.is_torn = True
                    _keep(connection)
            self.connections.clear()
            for database in list(self.databases):
                database.forget()
        finally:
            for end in fork.pipe or ():
                os.close(end)  # the parent sees the end of the pipe


def _keep(connection: Connection) -> None:
    """Let nothing close a connection ever."""
    import ctypes  # late: hardly any process needs it

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


forks: Final = _Forks()
os.register_at_fork(
    before=forks.before, after_in_parent=forks.in_parent, after_in_child=forks.in_child
)
