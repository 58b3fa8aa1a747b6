"""An open database as a unit of work: one writing call, one transaction."""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

import peewee as pw

from voices_peewee.database.forks import current_task, filling, require_own_task, tasks
from voices_peewee.database.mapper import collect_again
from voices_peewee.database.query import Query, mapper
from voices_peewee.database.results import as_dicts
from voices_peewee.database.sqlite import GivenSqlite, VoicesSqlite
from voices_peewee.database.wording import is_reported, translation
from voices_peewee.errors import (
    AmbiguousNameError,
    DatabaseError,
    InvalidValueError,
    NotFoundError,
    QueryError,
)
from voices_peewee.rendering.plain import absolute
from voices_peewee.schema.fields import JSONField
from voices_peewee.schema.models import MODELS, BaseModel, ProcessedFile, Speaker

if TYPE_CHECKING:
    from voices_peewee.database.postgres import Server

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
P = ParamSpec("P")

FEW = 20  # locks
_PAUSE = 0.2  # s before a server that went away is asked again
# What may be explained is what may be run: EXPLAIN alone lets a PRAGMA take effect.
_READING = re.compile(
    r"\s*(explain(\s*\([^)]*\)|\s+(query|plan|analyze|verbose)\b)*\s+)?(select|with|values)\b",
    re.IGNORECASE,
)
_WRITES = "this statement would change the database; pass write=True to allow it"
_OTHERS = "only SELECT, WITH, VALUES and EXPLAIN of these run without write=True"

SpeakerKey = int | str | Speaker
FileKey = int | str | os.PathLike[str] | ProcessedFile


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

    __slots__ = ("__weakref__", "_block", "_giving", "_how", "_store", "_was_idle")

    def __init__(
        self,
        store: Store,
        giving: T,
        block: AbstractContextManager[Any] | None = None,
        how: tuple[str, ...] = (),
    ) -> None:
        self._store, self._giving, self._block, self._how = store, giving, block, how

    def __enter__(self) -> T:
        store = self._store
        self._was_idle = store.is_settled()
        if self._was_idle:
            tasks[threading.get_ident()] = current_task()
            store.outermost[threading.get_ident()] = weakref.ref(self)
        else:
            require_own_task(store.label)
        try:
            if self._block is None:
                database = store.database
                self._block = (
                    database.transaction(*self._how) if self._was_idle else database.atomic()
                )
            self._block.__enter__()
        except BaseException as error:
            self._undo()
            store.translate(error)
            raise
        return self._giving

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block: Any = self._block
        try:
            block.__exit__(kind, error, trace)
        except BaseException as failure:
            self._undo()
            if error is None or isinstance(error, Exception):
                self._store.translate(failure)
                raise
            return  # the interrupt is the one to be seen
        finally:
            if self._was_idle:
                self._store.outermost.pop(threading.get_ident(), None)
                tasks.pop(threading.get_ident(), None)
        if error is not None:
            self._undo()
            self._store.translate(error)

    def _undo(self) -> None:
        if self._was_idle and not self._store.is_idle():
            self._store.abandon()


def settling(method: Callable[P, T]) -> Callable[P, T]:
    """Let a method of an object with a ``_store`` leave no transaction open that it began.

    A ``with`` block cannot do so alone: an interrupt may strike just before its end begins.
    """
    if hasattr(method, "settles"):
        return method

    @wraps(method)
    def settled(*args: P.args, **options: P.kwargs) -> T:
        before: Store | None = vars(args[0])["_store"]
        was_idle = before is None or before.is_settled()
        try:
            return method(*args, **options)
        except BaseException as error:
            after: Store | None = vars(args[0])["_store"]
            if was_idle and after is not None:
                after.abandon(interrupted=not isinstance(error, Exception))
            if was_idle and not isinstance(error, Exception):
                collect_again()
            raise

    vars(settled)["settles"] = True
    return settled


class HasStore(Protocol):
    """What a room's methods of the manager rely on: an open database."""

    @property
    def store(self) -> Store:
        """The open database; an error where it is not open."""


class Store:
    """An open database: ``label`` is its name for messages, ``timeout`` the wait for locks (s)."""

    def __init__(self, database: pw.Database, label: str, timeout: float) -> None:
        self.database = database
        self.label = label
        self.timeout = timeout
        self._reading = Translated(label, timeout)
        self.outermost: dict[int, weakref.ref[_Block[Any]]] = {}  # each thread's open block
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

    def writing_together(self) -> AbstractContextManager[None]:
        """Do what is done inside as one transaction, and wait for answers only where they are read.

        What a server refuses is then raised there or at the end, not where it was asked.
        """
        return _Block(self, None, how=self.engine.together)

    def snapshot(self) -> AbstractContextManager[None]:
        """Let every read inside see one state of the database, without the lock of writers."""
        return _Block(self, None, self.engine.snapshot())

    def is_idle(self) -> bool:
        """Whether neither Peewee nor the driver knows of a transaction of this thread."""
        state = vars(self.database)["_state"]  # a server may be away: connection() would wait
        return not state.transactions and (state.conn is None or not state.conn.in_transaction)

    def is_settled(self) -> bool:
        """Whether this thread has no transaction; one that outlived its block is undone first.

        A block does not see an interrupt that strikes just before its end begins: it is gone,
        and its transaction is still there.
        """
        if not self.is_idle():
            block = self.outermost.get(threading.get_ident())
            if block is None or block() is not None:
                return False
            self.abandon()
        if self.outermost:
            self.outermost.pop(threading.get_ident(), None)
        return True

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

    def retrying(self, action: Callable[[], T]) -> T:
        """Do something; repeat it until the timeout where a server may soon take it."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return action()
            except DatabaseError as error:
                is_late = time.monotonic() > deadline - _PAUSE
                if self.database.in_transaction() or is_late or not self.engine.may_pass(error):
                    raise
            time.sleep(_PAUSE)

    def lock_speakers(self) -> None:
        """Keep others from changing speakers by what they read, until the transaction ends."""
        self.engine.lock("speakers")

    def lock_sources(self, paths: Collection[str], names: Collection[str] = ()) -> None:
        """Keep others from recording the same sources or runs, until the transaction ends.

        Many at once lock all of them: a server has room for some thousand locks.
        """
        keys = [f"source {ProcessedFile.original_path.db_value(path)}" for path in paths]
        keys += [f"run {name}" for name in names]
        if len(keys) > FEW:
            self.engine.lock("sources")
        elif keys:
            self.engine.lock(*keys, shared="sources")

    def read_raw(self, sql: str, params: Any) -> list[dict[str, Any]]:
        """Return the rows of a user's statement that can change neither rows nor connection."""
        if not _READING.match(sql):
            raise QueryError(_OTHERS)
        try:
            with self.reading():
                rows: list[dict[str, Any]] = self.engine.read_raw(sql, params)
                return rows
        except DatabaseError as error:
            if self.engine.is_refused_write(error.__cause__):
                raise QueryError(_WRITES) from error
            raise

    def write_raw(self, sql: str, params: Any) -> list[dict[str, Any]]:
        """Run a user's statement in a transaction and return its rows."""
        with self.writing():
            return as_dicts(self.engine.execute_raw(sql, params))

    def query(self, model: type[M]) -> Query[M]:
        """Return a select of every row of a model."""
        return Query(model, model._meta.sorted_fields, is_default=True)

    def get(self, model: type[M], key: int) -> M | None:
        """Return the row with an id, or None."""
        with self.reading():
            return mapper(model).get(self.connection(), key)

    def insert(self, instance: M) -> M:
        """Write one object, and the unsaved objects it refers to."""
        try:
            connection, rows = self.database.connection(), mapper(type(instance))
            if not connection.in_transaction:
                self.engine.prepare()
            else:
                require_own_task(self.label)
            is_alone = instance.__data__.get("id") is None and not any(rows.unsaved(instance))
            if is_alone and self.engine.adds_alone:
                saved: M = rows.insert(connection, instance)
                return saved
        except BaseException as error:
            self.translate(error)
            raise
        return self.insert_all([instance])[0]

    def insert_all(self, instances: Iterable[M]) -> list[M]:
        """Write many objects of any models in one transaction."""
        everything = list(instances)
        groups: dict[type[BaseModel], dict[int, BaseModel]] = {model: {} for model in MODELS}
        for instance in everything:
            _collect(instance, groups)
        with self.writing(), filling():
            for model, group in groups.items():
                fresh = [one for one in group.values() if one.__data__.get("id") is None]
                if len(fresh) < len(group):
                    for one in group.values():
                        if one.id is not None:
                            one.save(force_insert=True)
                    mapper(model).note_ids(self.connection())
                if fresh:
                    mapper(model).insert_objects(self.connection(), fresh)
        return everything

    def insert_dicts(self, model: type[M], rows: Iterable[Mapping[str, Any]]) -> int:
        """Write many mappings of field names to values in one transaction; return how many."""
        with self.writing():
            return mapper(model).insert_dicts(self.connection(), rows)

    def update(self, instance: M, changes: Mapping[str, Any]) -> M:
        """Write what changed in one object."""
        known = type(instance)._meta.combined
        for name, value in changes.items():
            if name not in known:
                raise InvalidValueError(str(QueryError.unknown_field(name, known)))
            setattr(instance, name, value)
        # A JSON value may have been changed in place, which Peewee cannot see.
        only = [
            field
            for field in type(instance)._meta.sorted_fields
            if field.name != "id"
            and (field.name in instance._dirty or isinstance(field, JSONField))
        ]
        with self.writing():
            saved = instance.id is not None and instance.save(only=only)
            if not saved:
                raise NotFoundError(kind_of(instance), instance.id)
        return instance

    def delete(self, instance: BaseModel) -> None:
        """Delete one object's row; what depends on it goes along."""
        with self.writing():
            deleted = instance.id is not None and instance.delete_instance()
            if not deleted:
                raise NotFoundError(kind_of(instance), instance.id)

    def speaker(self, key: SpeakerKey) -> Speaker:
        """Return a speaker by id (``id:3`` as text), object or name."""
        if isinstance(key, Speaker):
            return key
        if isinstance(key, int):
            found = None if _as_id(key) is None else self.get(Speaker, key)
        elif key.startswith("id:") and (number := _as_id(key[3:])) is not None:
            found = self.get(Speaker, number)
        else:
            found = self._speaker_named(key)
        if found is None:
            raise NotFoundError("speaker", key)
        return found

    def _speaker_named(self, name: str) -> Speaker | None:
        with self.reading():
            named = self.query(Speaker).filter_by(name=name).order_by(Speaker.id).all()
        if len(named) > 1:
            raise AmbiguousNameError("speaker", name, [speaker.id for speaker in named])
        return named[0] if named else None

    def file(self, key: FileKey) -> ProcessedFile:
        """Return a recording by its path, or any file by id or object."""
        if isinstance(key, ProcessedFile):
            return key
        number = _as_id(key)
        if number is not None and (found := self.get(ProcessedFile, number)) is not None:
            return found
        with self.reading():
            path = absolute(key) if not isinstance(key, int) else ""
            rows = self.query(ProcessedFile).filter_by(original_path=path, recording=None).all()
        if len(rows) > 1:
            raise AmbiguousNameError("file", str(key), [row.id for row in rows])
        if not rows:
            raise NotFoundError("file", key)
        return rows[0]


def kind_of(instance: BaseModel) -> str:
    """Return the word for what a model object is."""
    return _KINDS[type(instance).__name__]


_KINDS = {
    "Speaker": "speaker",
    "ProcessedFile": "file",
    "ProcessingHistory": "run",
    "ModelPerformance": "model",
}


def _as_id(key: object) -> int | None:
    """Return the id that a key can be: at most 18 digits, so that it fits into 64 bits."""
    text = str(key) if isinstance(key, int | str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _collect(instance: BaseModel, groups: dict[type[BaseModel], dict[int, BaseModel]]) -> None:
    """Put an object and the unsaved objects it refers to into their models' groups."""
    if instance.__rel__:
        for related in mapper(type(instance)).unsaved(instance):
            _collect(related, groups)
    groups.setdefault(type(instance), {})[id(instance)] = instance
