"""Connections and forks: a child closes what it inherited, or says why it may not use it.

SQLite counts its file locks in the process. A forked child inherits the counts, but not the
locks, and would write to a file that it does not hold. So it rolls back and closes its copies
before it goes on. That is safe where only the thread that forked had connections: the locks in
memory of another one may be held for ever in the child, which then may not use SQLite at all.
So may the lock of a module that it imports: a fork waits for the imports of this package.
"""

from __future__ import annotations

import atexit
import gc
import os
import select
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from voices_peewee.database.sqlite import Connection

_PACKAGE: Final = str(Path(__file__).parents[1])
_IMPORTS: Final = "<frozen importlib._bootstrap>"  # what holds the locks of modules
_frames: Final = sys._current_frames  # noqa: SLF001 - only its name says that it is private
_PATIENCE: Final = 5.0  # s for others' imports, and for a child to leave what it inherited


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
        """Await other threads' imports; make a pipe for a parent that has a connection."""
        self._local.pipe = None
        deadline = time.monotonic() + _PATIENCE
        while any(map(_is_importing, _frames().values())) and time.monotonic() < deadline:
            time.sleep(0.001)
        if any(map(_is_mine, self.open_connections())):
            self._local.pipe = os.pipe()

    def in_parent(self) -> None:
        """Change nothing in the WAL before the child has left what it inherited."""
        pipe = getattr(self._local, "pipe", None)
        if pipe is None:
            return
        try:
            self._local.pipe = None
            os.close(pipe[1])
            end = select.poll()  # select() refuses descriptors from 1,024 on
            end.register(pipe[0], select.POLLIN)
            end.poll(_PATIENCE * 1000)
        finally:
            os.close(pipe[0])

    def in_child(self) -> None:
        """Leave the parent's connections, in a process that has only the thread that forked."""
        # Another thread's is there before it is open, and still there while it is closed.
        inherited = [one for one in self.connections.values() if one.is_open or not _is_mine(one)]
        refused = self.refused
        self.refused = True  # until all is left: an interrupt here leaves a child that is told
        try:
            if all(map(_is_mine, inherited)) and all(map(_left, inherited)):
                self.refused = refused
            else:
                keep(inherited)
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
    return any(map(_is_ours, _files(_frames().get(connection.thread))))


def _is_importing(frame: FrameType) -> bool:
    """Whether a thread imports something for this package."""
    callers = _files(frame)
    return _IMPORTS in callers and any(map(_is_ours, callers))  # ours called the import


def _is_ours(file: str) -> bool:
    return file.startswith(_PACKAGE)


def _files(frame: FrameType | None) -> Iterator[str]:
    """Walk through the files of a thread's calls, the last call first."""
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back


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
        return not connection.is_open
    return False


def keep(connections: list[Connection]) -> None:
    """Let nothing close connections ever, not even the end of the process."""
    if connections:
        with suppress(ImportError):  # where the process ends they are kept already
            import ctypes  # late: hardly any process needs it

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connections))


def take_along(connection: Connection) -> None:
    """Write the WAL of a file that was moved into it: a new file at its path is read with it.

    Not in a child, nor where another program may have used the file or the WAL since then.
    """
    from voices_peewee.database.sqlite import status  # late: it imports this module

    there, wal = status(connection.path), status(connection.wal)
    is_moved = connection.file not in (None, there and (there.st_dev, there.st_ino))
    is_left = wal and (wal.st_dev, wal.st_ino) == (connection.sidecars or (None,))[0]
    if wal is None or not is_moved or not is_left or forks.refused:
        return
    is_free = there is None or wal.st_mtime_ns < there.st_ctime_ns
    if is_free and _is_unused(connection.file, wal.st_mtime_ns):
        with suppress(sqlite3.Error):  # others may be reading
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _is_unused(file: object, since: int) -> bool:
    """Whether nobody has written to an open file by another name; only Linux says so."""
    with suppress(OSError):
        for link in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # that of the folder itself is gone
                found = link.stat()
                if file == (found.st_dev, found.st_ino):
                    is_old = found.st_nlink == 0 or found.st_mtime_ns <= since
                    return is_old and not os.path.lexists(f"{link.readlink()}-wal")
    return False


def at_fork(**functions: Callable[[], object]) -> None:
    """Have functions called around a fork, as ``os.register_at_fork`` does; Windows has none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**functions)


@atexit.register
def _end() -> None:
    """Keep stranded connections, which the end of the program would close; let others take along.

    Not those of threads that are busy yet.
    """
    for one in forks.open_connections():
        if one.is_stranded():
            keep([one])
        elif _is_mine(one) or not is_busy(one):
            take_along(one)


forks: Final = _Forks()
at_fork(before=forks.before, after_in_parent=forks.in_parent, after_in_child=forks.in_child)
