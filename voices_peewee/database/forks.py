"""Connections and forks: a child closes what it inherited, or says why it may not use it.

SQLite counts its file locks in the process. A forked child inherits the counts, but not the
locks, and would write to a file that it does not hold. So it rolls back and closes its copies
before it goes on. That is safe where only the thread that forked had connections: the locks in
memory of another one may be held for ever in the child, which then may not use SQLite at all.
"""

from __future__ import annotations

import gc
import os
import select
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from voices_peewee.database.sqlite import Connection

_PACKAGE: Final = str(Path(__file__).parents[1])
_PATIENCE: Final = 5.0  # s that a parent inside a transaction waits for its child to leave it


class _Forks:
    """The open connections of this process, and what a fork does with them."""

    def __init__(self) -> None:
        self.databases: weakref.WeakSet[Any] = weakref.WeakSet()
        self.connections: dict[int, Connection] = {}
        self.refused = False
        self._local = threading.local()

    def open_connections(self) -> list[Connection]:
        """Return the connections of all threads, less what an interrupted end left closed."""
        return [one for one in list(self.connections.values()) if one.is_open]

    def close_stray(self) -> None:
        """Close what an interrupt kept a method of this thread from closing: it has no owner."""
        for one in self.open_connections():
            if one.owner is None and _is_mine(one):
                one.close()

    def before(self) -> None:
        """Make a pipe on which a parent that is inside a transaction waits."""
        self._local.pipe = None
        if any(one.in_transaction for one in self.open_connections() if _is_mine(one)):
            self._local.pipe = os.pipe()

    def in_parent(self) -> None:
        """Change nothing in the WAL before the child has left what it inherited."""
        pipe = getattr(self._local, "pipe", None)
        if pipe is None:
            return
        try:
            self._local.pipe = None
            os.close(pipe[1])
            select.select([pipe[0]], [], [], _PATIENCE)
        finally:
            os.close(pipe[0])

    def in_child(self) -> None:
        """Leave the parent's connections, in a process that has only the thread that forked."""
        inherited, refused = self.open_connections(), self.refused
        self.refused = True  # until all is left: an interrupt here leaves a child that is told
        try:
            if all(map(_is_mine, inherited)) and all(map(_left, inherited)):
                self.refused = refused
            else:
                _keep(inherited)
            self.connections.clear()
            for database in list(self.databases):
                database.forget()
        finally:
            for end in getattr(self._local, "pipe", None) or ():
                os.close(end)  # the parent sees the end of the pipe


def _is_mine(connection: Connection) -> bool:
    return connection.thread == threading.get_ident()


def is_busy(connection: Connection) -> bool:
    """Whether a connection's thread is inside a call of this package, which may use it."""
    frames = sys._current_frames()  # noqa: SLF001 - only its name says that it is private
    frame = frames.get(connection.thread)
    while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame is not None


def _left(connection: Connection) -> bool:
    """Close a copy of a parent's connection; return whether that could be done.

    What the WAL lacks can be rolled back in the child without touching the parent's; a
    rollback journal is one for both. A statement that is under way cannot be left.
    """
    with suppress(sqlite3.Error):
        for cursor in gc.get_referrers(connection):
            if isinstance(cursor, sqlite3.Cursor):
                cursor.close()
        if connection.in_transaction:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
                return False
            connection.execute("ROLLBACK")
        connection.close()
        return True
    return False


def _keep(connections: list[Connection]) -> None:
    """Let nothing close connections ever, not even the end of the process."""
    import ctypes  # late: hardly any process needs it

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connections))


def at_fork(**functions: Callable[[], object]) -> None:
    """Have functions called around a fork, as ``os.register_at_fork`` does; Windows has none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**functions)


forks: Final = _Forks()
at_fork(before=forks.before, after_in_parent=forks.in_parent, after_in_child=forks.in_child)
