"""The rows of an open database: one writing call, one transaction."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, ParamSpec, Protocol, TypeVar

import peewee as pw

from voices_peewee.database.query import Query, mapper
from voices_peewee.database.results import as_dicts
from voices_peewee.database.transactions import Transactions, filling, require_own_task
from voices_peewee.errors import (
    AmbiguousNameError,
    DatabaseError,
    InvalidValueError,
    NotFoundError,
    QueryError,
)
from voices_peewee.rendering.plain import absolute
from voices_peewee.schema.exact import several, short
from voices_peewee.schema.models import MODELS, BaseModel, ProcessedFile, Speaker

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
P = ParamSpec("P")

# Blanks and comments; of one inside another, or with a CR, SQLite and PostgreSQL think differently.
_GAP = r"(?:\s|--[^\r\n]*\r?\n|/\*(?:(?!/\*|\*/).)*\*/)"
# What may be explained is what may be run: EXPLAIN alone lets a PRAGMA take effect.
_READING = re.compile(
    rf"{_GAP}*(explain({_GAP}*\([^)]*\)|{_GAP}+(query|plan|analyze|verbose)\b)*{_GAP}+)?"
    r"(select|with|values)\b",
    re.IGNORECASE | re.DOTALL,
)
_WRITES = "this statement would change the database; pass write=True to allow it"
_OTHERS = "only SELECT, WITH, VALUES and EXPLAIN of these run without write=True"

_KEYS: Final = (int, float, str)
SpeakerKey = int | str | Speaker
FileKey = int | str | os.PathLike[str] | ProcessedFile


class HasStore(Protocol):
    """What a room's methods of the manager rely on: an open database."""

    @property
    def store(self) -> Store:
        """The open database; an error where it is not open."""


class Store(Transactions):
    """An open database: its rows, and the speakers and files that keys name."""

    def read_raw(self, sql: str, params: Any) -> list[dict[str, Any]]:
        """Return the rows of a user's statement that can change neither rows nor connection."""
        if not _READING.match(sql):
            raise QueryError(_OTHERS)
        try:
            with self.answering():
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
        _require(model, pw.ModelBase)
        return Query(model, model._meta.sorted_fields, is_default=True)

    def get(self, model: type[M], key: int) -> M | None:
        """Return the row with an id, or None."""
        _require(model, pw.ModelBase)
        if type(key) is not int and not isinstance(key := plain(key), _KEYS):
            return None
        with self._reading:
            return mapper(model).get(self.connection(), key)

    def insert(self, instance: M) -> M:
        """Write one object, and the unsaved objects it refers to."""
        _require(instance, pw.Model)
        try:
            connection, rows = self.database.connection(), mapper(type(instance))
            if not connection.in_transaction:
                self.engine.prepare()
            else:
                require_own_task(self.label)
            has_id = instance.__data__.get("id") is not None
            is_alone = not has_id and not (instance.__rel__ and any(rows.unsaved(instance)))
            if is_alone and self.engine.adds_alone:
                saved: M = rows.insert(connection, instance)
                return saved
        except BaseException as error:
            self.translate(error)
            raise
        return self.insert_all([instance])[0]

    def insert_all(self, instances: Iterable[M]) -> list[M]:
        """Write many objects of any models in one transaction."""
        everything = list(several("records", instances, "objects"))
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
        _require(model, pw.ModelBase)
        with self.writing():
            return mapper(model).insert_dicts(self.connection(), _mappings(rows))

    def update(self, instance: M, changes: Mapping[str, Any]) -> M:
        """Write what changed in one object."""
        _require(instance, pw.Model)
        known = type(instance)._meta.combined
        for name in changes:
            if name not in known:
                raise InvalidValueError(str(QueryError.unknown_field(name, known)))
            if name == "id":
                raise InvalidValueError("a row keeps its id")
        for name, value in changes.items():
            setattr(instance, name, value)
        only = [one for one in type(instance)._meta.sorted_fields[1:] if _may_differ(instance, one)]
        with self.writing():
            key = instance.id
            is_there = key is not None and (
                instance.save(only=only) if only else self.get(type(instance), key)
            )
            if not is_there:
                raise NotFoundError(kind_of(instance), instance.id)
            if any(one is ProcessedFile.original_path for one in only):
                parts = ProcessedFile.recording == key  # a stem has its recording's path
                path = instance.__data__["original_path"]
                ProcessedFile.update(original_path=path).where(parts).execute()
        return instance

    def delete(self, instance: BaseModel) -> None:
        """Delete one object's row; what depends on it goes along."""
        _require(instance, pw.Model)
        kind = kind_of(instance)
        with self.writing():
            try:
                deleted = instance.id is not None and instance.delete_instance()
            except pw.IntegrityError as error:
                if "foreign key" not in str(error).lower():  # what a trigger says stays
                    raise
                what = f"{kind} {instance.id} is referred to by rows of an application's own table"
                raise InvalidValueError(f"{what}; delete those first") from error
            if not deleted:
                raise NotFoundError(kind, instance.id)

    def speaker(self, key: SpeakerKey) -> Speaker:
        """Return a speaker by id (``id:3`` as text), object or name."""
        if isinstance(key, Speaker):
            return key
        name, found = plain(key), list[Speaker]()
        is_id = isinstance(name, str) and name.startswith("id:")
        number = as_id(name[3:] if is_id else name) if is_id or isinstance(name, int) else None
        if number is not None:
            found = [one for one in [self.get(Speaker, number)] if one is not None]
        elif isinstance(name, str):
            with self.reading():
                found = self.query(Speaker).filter_by(name=name).order_by(Speaker.id).all()
        return _only("speaker", name, found)

    def file(self, key: FileKey) -> ProcessedFile:
        """Return a recording by its path, or any file by id or object."""
        if isinstance(key, ProcessedFile):
            return key
        number = as_id(key := plain(key))
        if number is not None and (found := self.get(ProcessedFile, number)) is not None:
            return found
        if not isinstance(key, str | os.PathLike):
            raise NotFoundError("file", key)
        with self.reading():
            path = absolute(key)
            rows = self.query(ProcessedFile).filter_by(original_path=path, recording=None).all()
        return _only("file", key, rows)


def _only(kind: str, key: object, rows: Sequence[M]) -> M:
    """Return the row that a key names; refuse one that names none, or several."""
    if not rows:
        raise NotFoundError(kind, key)
    if len(rows) > 1:
        raise AmbiguousNameError(kind, str(key), [row.id for row in rows])
    return rows[0]


def _may_differ(instance: BaseModel, field: pw.Field) -> bool:
    """Whether a field was set, or holds JSON, which may be changed in place.

    What another program wrote there and is none stays as it is.
    """
    holds = getattr(field, "holds", ())
    return field.name in instance._dirty or isinstance(instance.__data__.get(field.name), holds)


def _require(value: object, kind: type) -> None:
    """Refuse what is no record, or no model."""
    if not isinstance(value, kind):
        what = "a record is an object" if kind is pw.Model else "a model is a class"
        raise InvalidValueError(f"{what}, such as {_EXAMPLES[kind]}, not {short(value)}")


_EXAMPLES = {pw.Model: "Speaker(name='Ada')", pw.ModelBase: "Speaker"}


def _mappings(rows: Any) -> Iterator[Mapping[str, Any]]:
    for row in rows if isinstance(rows, Iterable) else [rows]:
        if type(row) is not dict and not isinstance(row, Mapping):
            raise InvalidValueError(f"rows must be a list of mappings, not of {short(row)}")
        yield row


def kind_of(instance: BaseModel) -> str:
    """Return the word for what a model object is."""
    return _KINDS.get(type(instance).__name__, "row")


_KINDS = {
    "Speaker": "speaker",
    "ProcessedFile": "file",
    "ProcessingHistory": "run",
    "ModelPerformance": "model",
}


def plain(key: Any) -> Any:
    """Return a key as it is, but an integer of NumPy or pandas as one of Python."""
    try:
        return operator.index(key)
    except TypeError:
        return key


def as_id(key: object) -> int | None:
    """Return the id that an integer, or a text of digits, may be; else None."""
    if isinstance(key, int):
        return key if 0 <= key < 1 << 63 else None
    text = key if isinstance(key, str) else ""  # of at most 18 digits, which fit into 64 bits
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _collect(instance: BaseModel, groups: dict[type[BaseModel], dict[int, BaseModel]]) -> None:
    """Put an object and the unsaved objects it refers to into their models' groups."""
    _require(instance, pw.Model)
    if instance.__rel__:
        for related in mapper(type(instance)).unsaved(instance):
            _collect(related, groups)
    groups.setdefault(type(instance), {})[id(instance)] = instance
