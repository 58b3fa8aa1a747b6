"""Transactions: begun, ended, done again, and undone where an interrupt struck."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar

import peewee as pw

from voices_peewee.database.files import names_of
from voices_peewee.database.forks import forks
from voices_peewee.database.results import collect_again
from voices_peewee.database.sqlite import (
    REPLACED,
    SqliteEngine,
    VoicesSqlite,
    given,
    identity,
)
from voices_peewee.database.wording import is_reported, translation
from voices_peewee.errors import DanglingError, DatabaseError
from voices_peewee.schema.models import ProcessedFile

if TYPE_CHECKING:
    from voices_peewee.database.postgres import Server

T = TypeVar("T")
P = ParamSpec("P")

_FEW: Final = 20  # locks
_TOGETHER: Final = "together"  # what a server's connection calls the steps of its transaction
_RACES: Final = 3  # times that a transaction is done again where a row was deleted meanwhile
_PAUSE = 0.2  # s before a server that went away is asked again
_OF_ANOTHER_TASK: Final = (
    "another asyncio task of this thread is inside atomic(); await nothing there, or use threads"
)
_INTERRUPTED: Final = (
    "a signal handler may not write into a transaction that it interrupted; have it set a flag"
)


def _current_task() -> object:
    """Return the asyncio task that this thread is in, or None."""
    asyncio = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return None


_tasks: Final[dict[int, object]] = {}  # by thread: which task its transaction began in


def require_own_task(label: str) -> None:
    """Refuse to go into the transaction of another asyncio task of this thread."""
    task = _tasks.get(threading.get_ident())
    if task is filling:
        raise DatabaseError(label, _INTERRUPTED)
    if task is not None and task is not _current_task():
        raise DatabaseError(label, _OF_ANOTHER_TASK)


@contextmanager
def filling() -> Iterator[None]:
    """Keep signal handlers from adding rows in the middle of many, whose ids are chosen."""
    thread = threading.get_ident()
    task = _tasks.get(thread)
    try:
        _tasks[thread] = filling
        yield
    finally:
        _tasks[thread] = task


class Translated:
    """Turns the errors of Peewee and the drivers inside a ``with`` block into ours."""

    __slots__ = ("database", "timeout")

    def __init__(self, database: object, timeout: float = 30.0) -> None:
        self.database, self.timeout = database, timeout

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and is_reported(error):
            raise translation(error, self.database, self.timeout) from error


class _Block(Generic[T]):
    """A transaction as a block; what an interrupt leaves open where it begins or ends is undone."""

    __slots__ = ("__weakref__", "_block", "_giving", "_store", "_was_idle")

    def __init__(
        self,
        store: Transactions,
        giving: T,
        block: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._store, self._giving, self._block = store, giving, block

    def __enter__(self) -> T:
        store, thread = self._store, threading.get_ident()
        self._was_idle = store.is_settled()
        if self._block is None:
            database = store.database
            self._block = database.transaction() if self._was_idle else database.atomic()
        if self._was_idle:
            _tasks[thread] = _current_task()
            store.outermost[thread] = weakref.ref(self), weakref.ref(self._block)
        else:
            require_own_task(store.label)
        try:
            self._block.__enter__()
        except BaseException as error:
            self._end(error)
            raise
        return self._giving

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self._block.__exit__(kind, error, trace)  # type: ignore[union-attr] # it was entered
        except BaseException as failure:
            # An interrupt that ends the block is the one to be seen.
            is_seen = error is None or isinstance(error, Exception)
            self._end(failure if is_seen else error)
            if is_seen:
                raise
        else:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Undo what an error left open; raise one of the driver as ours."""
        store = self._store
        if self._was_idle:
            if error is not None:
                store.abandon(interrupted=not isinstance(error, Exception))
            store.forget_thread()
        if error is not None:
            store.translate(error)


def settling(method: Callable[P, T]) -> Callable[P, T]:
    """Let a method of an object with a ``_store`` leave no transaction open that it began.

    A ``with`` block cannot do so alone: an interrupt may strike just before its end begins.
    """
    if hasattr(method, "settles"):
        return method

    @wraps(method)
    def settled(*args: P.args, **options: P.kwargs) -> T:
        before: Transactions | None = vars(args[0])["_store"]
        was_idle = before is None or before.is_settled()
        try:
            return method(*args, **options)
        except BaseException as error:
            after: Transactions | None = vars(args[0])["_store"]
            if was_idle and after is not None:
                after.abandon(interrupted=not isinstance(error, Exception))
            if was_idle and not isinstance(error, Exception):
                collect_again()
                forks.close_stray()
            raise

    vars(settled)["settles"] = True
    return settled


class Steps:
    """The statements of a transaction, which are done as they come.

    ``add`` takes a statement that sees nothing of the others and that none of them sees,
    ``execute`` does anything. A server's are ``postgres_together.Together``.
    """

    gives_ids = False  # of rows to come

    def __init__(self, connection: Any, *, is_part: bool = False) -> None:
        self.execute = self.add = connection.execute
        self.is_part = is_part  # of a transaction around it, which may be rolled back


class GivenSqlite(SqliteEngine):
    """A Peewee database of the caller's."""

    def __init__(self, database: pw.SqliteDatabase) -> None:
        self._database, self.connection = database, database.connection
        given.update(names_of(str(database.database)))

    def close_all(self) -> None:
        """Close the calling thread's connection."""
        if not self._database.is_closed():
            self._database.close()
        given.difference_update(names_of(str(self._database.database)))


def source_key(path: object) -> str:
    """Return what is locked for the recording at a path."""
    return f"source {ProcessedFile.original_path.db_value(path)}"


class Transactions:
    """An open database: ``label`` is its name for messages, ``timeout`` the wait for locks (s)."""

    def __init__(self, database: pw.Database, label: str, timeout: float) -> None:
        self.database = database
        self.label = label
        self.timeout = timeout
        self._reading = Translated(label, timeout)
        self.outermost: dict[int, tuple[weakref.ref[_Block[Any]], weakref.ref[Any]]] = {}  # open
        self.server: Server | None = None
        self.engine: Any = database  # what sqlite.SqliteEngine says, for a server as well
        if not isinstance(database, pw.SqliteDatabase):
            self.server = database  # type: ignore[assignment] # the manager opens no other
        elif not isinstance(database, VoicesSqlite):
            self.engine = GivenSqlite(database)
        self.connection: Callable[[], Any] = database.connection  # the driver's, of this thread
        self.stream: Callable[[str, Any], Any] = self.engine.stream  # a cursor for many rows
        self.close: Callable[[], None] = self.engine.close_all  # the connections of every thread

    def reading(self) -> AbstractContextManager[None]:
        """Translate the errors of what is done inside."""
        return self._reading

    def translate(self, error: BaseException) -> None:
        """Raise an error of the driver as ours; leave any other alone."""
        self._reading.__exit__(type(error), error, None)

    def writing(self, giving: T = None) -> AbstractContextManager[T]:  # type: ignore[assignment]
        """Do what is done inside as one transaction, or as a part of the one around it."""
        return _Block(self, giving)

    def transact(self, action: Callable[[Any, bool], T]) -> T:
        """Do something as one transaction; see ``retrying``.

        ``action`` is given its ``steps``, and whether a server may have done it before as it went
        away. Answers are waited for only where they are read: what a server refuses is raised
        there or at the end.
        """
        attempts = count()

        def attempt() -> T:
            return self._transact(action, is_again=next(attempts) > 0)

        for _ in range(_RACES):
            with suppress(DanglingError):  # what was found may be gone by now
                return self.retrying(attempt)
        return self.retrying(attempt)

    def _transact(self, action: Callable[[Any, bool], T], *, is_again: bool) -> T:
        was_idle, database = self.is_settled(), self.database
        if not was_idle:
            require_own_task(self.label)
        try:
            steps = Steps(self.connection(), is_part=not was_idle)
            block = database.transaction(*self.engine.together) if was_idle else database.atomic()
            with block:
                return action(getattr(self.connection(), _TOGETHER, None) or steps, is_again)
        except BaseException as error:
            if was_idle:
                self.abandon(interrupted=not isinstance(error, Exception))
            raise

    def steps(self) -> Any:
        """Return what runs the statements of a transaction; see ``Steps``."""
        connection = self.connection()
        return getattr(connection, _TOGETHER, None) or Steps(connection)

    def snapshot(self) -> AbstractContextManager[None]:
        """Let every read inside see one state of the database, without the lock of writers."""
        self.require_place()
        return _Block(self, None, self.engine.snapshot())

    def require_place(self, *, or_gone: bool = True) -> None:
        """Refuse to answer from a file in whose place another one is, as rsync puts it there."""
        if self.server is not None:
            return
        with self._reading:
            opened = getattr(self.connection(), "file", None)  # a database of the caller's has none
        there = identity(self.label)
        if opened and there != opened and not (or_gone and there is None):
            raise DatabaseError(self.label, REPLACED)

    def answering(self) -> AbstractContextManager[None]:
        """Do as ``reading`` does for what tells of the whole record; see ``require_place``."""
        self.require_place()
        return self._reading

    def is_idle(self) -> bool:
        """Whether neither Peewee nor the driver knows of a transaction of this thread."""
        state = vars(self.database)["_state"]  # a server may be away: connection() would wait
        try:
            return not state.transactions and not ((own := state.conn) and own.in_transaction)
        except sqlite3.ProgrammingError:  # an interrupt struck between its end and Peewee's note
            state.reset()
            return True

    def is_settled(self) -> bool:
        """Whether this thread has no transaction; one that outlived its block is undone first.

        A block does not see an interrupt that strikes just before its end begins: it is gone,
        and its transaction is still there.
        """
        if not self.is_idle():
            block, begun = self.outermost.get(threading.get_ident(), (None, None))
            if block is None or begun is None or block() is not None:
                return False
            first = next(iter(vars(self.database)["_state"].transactions), None)
            if first is not None and first is not begun():
                return False  # another transaction than the block's was begun, by Peewee itself
            self.abandon()
        if self.outermost or _tasks:
            self.forget_thread()
        return True

    def forget_thread(self) -> None:
        """Forget the calling thread's outermost block, and whose task it was."""
        self.outermost.pop(threading.get_ident(), None)
        _tasks.pop(threading.get_ident(), None)

    def abandon(self, *, interrupted: bool = False) -> None:
        """Undo what an interrupt left open that struck where a transaction begins or ends."""
        while self.database.transaction_depth():
            self.database.pop_transaction()
        if self.server is None and not self.is_idle():
            self.database.rollback()
        connection = vars(self.database)["_state"].conn
        is_unsure = interrupted and self.server is not None and connection is not None
        # A server's answer is still to come, or its driver's statements are not there any more:
        # the next use connects anew.
        if is_unsure or not self.is_idle():
            connection.close()

    def retrying(self, action: Callable[..., T], *args: Any) -> T:
        """Do something, with errors as ours; again until the timeout where a server may take it."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                try:
                    return action(*args)
                except BaseException as error:
                    self.translate(error)
                    raise
            except DatabaseError as error:
                is_late = time.monotonic() > deadline - _PAUSE
                if self.database.in_transaction() or is_late or not self.engine.may_pass(error):
                    raise
            time.sleep(_PAUSE)

    def lock_sources(self, paths: Collection[str], names: Collection[str] = ()) -> None:
        """Keep others from recording the same sources or runs, until the transaction ends.

        Many at once lock all of them: a server has room for some thousand locks.
        """
        keys = list(map(source_key, paths))
        keys += [f"run {name}" for name in names]
        if len(keys) > _FEW:
            self.engine.lock("sources")
        elif keys:
            self.engine.lock(*keys, shared="sources")
