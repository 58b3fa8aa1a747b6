"""An open database as a unit of work: one writing call, one transaction."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import peewee as pw

from voices_peewee.database.query import Query, mapper
from voices_peewee.database.sqlite import VoicesSqlite, WriteGate
from voices_peewee.database.wording import Translated
from voices_peewee.errors import (
    AmbiguousNameError,
    DatabaseError,
    InvalidValueError,
    NotFoundError,
    QueryError,
    ServerAwayError,
)
from voices_peewee.schema.fields import JSONField
from voices_peewee.schema.models import MODELS, BaseModel, ProcessedFile, Speaker

if TYPE_CHECKING:
    from voices_peewee.database.postgres import Server

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

_FEW = 20  # locks
_PAUSE = 0.2  # s before a server that went away is asked again

SpeakerKey = int | str | Speaker
FileKey = int | str | os.PathLike[str] | ProcessedFile


class HasStore(Protocol):
    """What a room's methods of the manager rely on: an open database."""

    @property
    def store(self) -> Store:
        """The open database.

        Raises:
            NotConnectedError: It is not open.
        """


class Store:
    """An open database: ``label`` is its name for messages, ``timeout`` the wait for locks (s)."""

    def __init__(self, database: pw.Database, label: str, timeout: float) -> None:
        self.database = database
        self.label = label
        self.timeout = timeout
        self._reading = Translated(label, timeout)
        self._sqlite = database if isinstance(database, VoicesSqlite) else None
        self.server: Server | None = None
        if not isinstance(database, pw.SqliteDatabase):
            self.server = database  # type: ignore[assignment] # the manager opens no other
        # One thread writes at a time, where the engine has one lock for all.
        self._gate: AbstractContextManager[None] = (
            WriteGate(label, timeout) if self.server is None else nullcontext()
        )

    @property
    def on_server(self) -> Server:
        """The server's database.

        Raises:
            DatabaseError: It is a file.
        """
        if self.server is None:
            raise DatabaseError(self.label, "it is not on a server")
        return self.server

    def reading(self) -> AbstractContextManager[None]:
        """Translate the errors of what is done inside."""
        return self._reading

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Do what is done inside as one transaction, or as a part of the one around it."""
        with self._reading, self._gate:
            was_idle = self._is_idle()
            try:
                with self.database.atomic():
                    yield
            except BaseException:
                if was_idle:
                    self._abandon()
                raise

    def _is_idle(self) -> bool:
        """Whether neither Peewee nor the driver knows of a transaction."""
        database = self.database
        if database.transaction_depth():
            return False
        return database.is_closed() or not database.connection().in_transaction

    def _abandon(self) -> None:
        """Undo what a Ctrl-C left open that struck where Peewee begins or ends a transaction."""
        while self.database.transaction_depth():
            self.database.pop_transaction()
        if not self._is_idle():
            self.database.rollback()
        if not self._is_idle():  # a server's answer is still to come; the next use connects anew
            self.connection().close()

    def retrying(self, action: Callable[[], T]) -> T:
        """Do something; do it again when a server goes away meanwhile.

        Raises:
            ServerAwayError: It was away for longer than the timeout.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return action()
            except ServerAwayError:
                if self.database.in_transaction() or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE)

    def lock_speakers(self) -> None:
        """Keep others from changing speakers by what they read, until the transaction ends.

        SQLite has one writer at a time; on a server, what is read to be changed needs this.
        """
        if self.server is not None:
            self.server.lock("speakers")

    def lock_sources(self, paths: Collection[str], names: Collection[str] = ()) -> None:
        """Keep others from recording the same sources, until the transaction ends.

        Many at once lock all of them: a server has room for some thousand locks.

        Args:
            paths: The sources' paths.
            names: Ids of runs that nobody else may take.
        """
        if self.server is None:
            return
        keys = [f"source {ProcessedFile.original_path.db_value(path)}" for path in paths]
        keys += [f"run {name}" for name in names]
        if len(keys) > _FEW:
            self.server.lock("sources")
        elif keys:
            self.server.lock(*keys, shared="sources")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every read inside see one state of the database, without the lock of writers."""
        with self.reading():
            if self.server is not None:
                with self.server.snapshot():
                    yield
                return
            connection = self.connection()
            # Outside a transaction a savepoint begins a deferred one; inside, it is a part of it.
            connection.execute("SAVEPOINT voices_snapshot")
            try:
                yield
            finally:
                connection.execute("RELEASE voices_snapshot")

    def stream(self, sql: str, parameters: Any) -> Any:
        """Return a cursor for many rows, which are not held in memory at once."""
        connection = self.connection()
        run = connection.execute if self.server is None else connection.stream
        return run(sql, parameters)

    def connection(self) -> Any:
        """Return this thread's driver connection."""
        return self.database.connection()

    def close(self) -> None:
        """Close the connections of every thread."""
        if isinstance(self.database, VoicesSqlite):
            self.database.close_all()
        elif self.server is not None:
            self.server.close_all()
        elif not self.database.is_closed():
            self.database.close()

    def query(self, model: type[M]) -> Query[M]:
        """Return a select of every row of a model."""
        return Query(model, model._meta.sorted_fields, is_default=True)

    def get(self, model: type[M], key: int) -> M | None:
        """Return the row with an id, or None."""
        with self.reading():
            return mapper(model).get(self.connection(), key)

    def insert(self, instance: M) -> M:
        """Write one object, and the unsaved objects it refers to."""
        with self._reading:
            connection = self.connection()
            if connection.in_transaction:  # which has passed the gate
                return self._insert(connection, instance)
            with self._gate:
                if self._sqlite is not None:
                    self._sqlite.prepare()
                return self._insert(connection, instance)

    def _insert(self, connection: Any, instance: M) -> M:
        rows = mapper(type(instance))
        related = instance.__rel__ and any(rows.unsaved(instance))
        if related or instance.__data__.get("id") is not None:
            return self.insert_all([instance])[0]
        saved: M = rows.insert(connection, instance)
        return saved

    def insert_all(self, instances: Iterable[M]) -> list[M]:
        """Write many objects of any models in one transaction."""
        everything = list(instances)
        groups: dict[type[BaseModel], dict[int, BaseModel]] = {model: {} for model in MODELS}
        for instance in everything:
            _collect(instance, groups)
        with self.writing():
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
        """Return a speaker by id (``id:3`` as text), object or name.

        Raises:
            NotFoundError: There is none.
            AmbiguousNameError: Several have that name.
        """
        if isinstance(key, Speaker):
            return key
        if isinstance(key, int):
            found = self.get(Speaker, key) if _is_id(key) else None
        elif key.startswith("id:") and _is_id(key[3:]):
            found = self.get(Speaker, int(key[3:]))
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
        """Return a recording by its path, or any file by id or object.

        Raises:
            NotFoundError: There is none.
            AmbiguousNameError: Several recordings have that path.
        """
        if isinstance(key, ProcessedFile):
            return key
        if _is_id(key):
            found = self.get(ProcessedFile, int(key))  # type: ignore[arg-type] # see _is_id
            if found is not None:
                return found
        with self.reading():
            path = os.path.abspath(os.fspath(key)) if not isinstance(key, int) else ""
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


def _is_id(key: object) -> bool:
    """Whether a key can be an id: at most 18 digits, so that it fits into 64 bits."""
    text = str(key) if isinstance(key, int | str) else ""
    return text.isascii() and text.isdigit() and len(text) <= 18


def _collect(instance: BaseModel, groups: dict[type[BaseModel], dict[int, BaseModel]]) -> None:
    """Put an object and the unsaved objects it refers to into their models' groups."""
    if instance.__rel__:
        for related in mapper(type(instance)).unsaved(instance):
            _collect(related, groups)
    groups.setdefault(type(instance), {})[id(instance)] = instance
