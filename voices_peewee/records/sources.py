"""What a run's source is: the recording's row, kept true to its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice, takewhile
from operator import eq
from typing import Any, Final, Generic, TypeVar

from voices_peewee.database.query import mapper
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import NotFoundError
from voices_peewee.records.audio_files import (
    READING,
    changed_facts,
    facts_of,
    file_name,
    is_gone,
)
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import BaseModel, ProcessedFile, hash_key

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

# How many values one question may hold.
LOOKUP: Final = 500
_AT_PATH: Final = """WHERE original_path = ? AND recording_id IS NULL
 ORDER BY processed_path IS NOT NULL, id LIMIT 1"""
# A part's recording, whose path it lacks: no part itself, and its path is a text.
STRAYED: Final = """recording.id = {part}.recording_id
 AND recording.recording_id IS NULL AND recording.original_path <> {part}.original_path
 AND recording.original_path = CAST(recording.original_path AS text)"""
# A part that was told after another process had moved its recording has the old path until this.
FOLLOW: Final = f"""UPDATE processed_files SET original_path = recording.original_path
 FROM processed_files AS recording WHERE {STRAYED.format(part="processed_files")}"""  # noqa: S608 - our own text


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of a run's source before anything is written.

    ``row`` is the recording's, ``facts`` what to write about it; empty for nothing.
    ``speaker_id`` is whose part of the recording was named, where a stem or a voice was.
    """

    path: str | None
    row: ProcessedFile | None
    facts: dict[str, Any] = field(default_factory=dict)
    speaker_id: int | None = None


def look(store: Store, source: str | ProcessedFile) -> Source:
    """Find a recording and read from its file what changed; the slow part, without a lock."""
    if isinstance(source, ProcessedFile):
        found = recording_of(store, source)
    else:
        found = Source(source, _recording(store.connection(), source))
        if found.row is None:
            facts = facts_of(source)
            row = elsewhere(store, {source: facts}).get(source)
            return Source(source, None, facts) if row is None else Source(row.original_path, row)
    if found.path is None:
        return found
    return replace(found, facts=changed_facts(found.path, found.row))


def recording_of(store: Store, file: ProcessedFile) -> Source:
    """Return the recording that a file's row is or belongs to; a new row is written."""
    row, speaker = _present(store, file), None
    if row.recording_id is not None:
        speaker, row = row.speaker_id, store.get(ProcessedFile, row.recording_id) or row
    return Source(row.original_path, row, speaker_id=speaker)


def _present(store: Store, file: ProcessedFile) -> ProcessedFile:
    row = store.get(ProcessedFile, file.id or store.insert(file).id)
    if row is None:
        raise NotFoundError("file", file.id)
    return row


def settle(store: Store, steps: Any, source: Source) -> ProcessedFile:
    """Write what ``look`` found, inside a transaction; return the recording's row."""
    row, spare = source.row, None
    if row is None and source.path is not None:  # another process may have been faster
        store.lock_sources([source.path])
        rows = mapper(ProcessedFile)
        values = rows.values(original_path=source.path)
        found, spare = rows.find(steps, _AT_PATH, values) or ((), None)
        row = next(iter(found), None)
    if row is None:
        row = ProcessedFile(**source.facts)
        mapper(ProcessedFile).insert(steps, row, spare)
    elif source.facts:
        write_changes(steps, row, source.facts)
    return row


def speaker_id(store: Store, speaker: SpeakerKey | None) -> int | None:
    """Return a speaker's id; an object that was never written is written now."""
    if speaker is None:
        return None
    found = store.speaker(speaker)
    return found.id or store.insert(found).id


def recordings_by_path(store: Store, paths: Iterable[str]) -> dict[str, ProcessedFile]:
    """Return the recordings of many paths."""
    found: dict[str, ProcessedFile] = {}
    for row in rows_where(store, ProcessedFile, "original_path", paths):
        if row.recording_id is None:
            other = found.get(str(row.original_path))
            if other is None or (other.processed_path and not row.processed_path):
                found[str(row.original_path)] = row
    return found


class Gone(Generic[T]):
    """What is not at its path any more, to be found by its content.

    Of several with one content (silence, say) it is the one of that name whose path ends most
    alike; where none has the name, nobody can tell.
    """

    def __init__(self) -> None:
        self._found: dict[str | None, dict[str, dict[str, T]]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, digest: str | None, path: str, what: T) -> None:
        """Take note of what has a hash and was at a path, if that is gone."""
        if is_gone(path):
            alike = self._found.setdefault(digest, {})
            alike.setdefault(file_name(path), {}).setdefault(path, what)

    def find(self, digest: str | None, path: str) -> T | None:
        """Return what has a hash, for a path where it may be now."""
        alike = self._found.get(digest, {})
        if named := alike.get(file_name(path)):
            return named[_most_alike(path, named)]
        others = list(chain(*(named.values() for named in alike.values())))
        return others[0] if len(others) == 1 else None


def _most_alike(path: str, others: Iterable[str]) -> str:
    """Return which of some paths ends most like another one; of several the first."""

    def shared(other: str) -> int:
        return sum(takewhile(bool, map(eq, path.split("/")[::-1], other.split("/")[::-1])))

    return max(others, key=shared)


def elsewhere(
    store: Store, facts: Mapping[str, Mapping[str, Any]], *, outputs: bool = False
) -> dict[str, ProcessedFile]:
    """Return the recordings of new paths that have their content, and are gone from their own.

    With ``outputs`` those of runs instead.
    """
    hashes = {path: one["content_hash"] for path, one in facts.items() if one.get("file_size")}
    gone = Gone[ProcessedFile]()
    for row in of_content(store, {*hashes.values()} - {None}):
        if (row.recording_id is not None) == outputs:
            gone.add(row.content_hash, _own_path(row) or "", row)
    found = {path: gone.find(digest, path) for path, digest in hashes.items()}
    return {path: row for path, row in found.items() if row is not None}


def _own_path(row: ProcessedFile) -> str | None:
    """Return the path of the file that a row's size and hash are of."""
    path: str | None = row.original_path if row.recording_id is None else row.processed_path
    return path


def of_content(store: Store, digests: set[Any]) -> Iterator[ProcessedFile]:
    """Yield the rows that may have one of the hashes: the digits that the index holds agree."""
    digest, left = ProcessedFile.content_hash, iter(digests)
    while some := [one[:8] for one in islice(left, LOOKUP)]:
        is_alike = digest.is_null(is_null=False) & hash_key(digest).in_(some)
        with store.reading():
            rows = store.query(ProcessedFile).where(is_alike).order_by(ProcessedFile.id).all()
        yield from rows


def _recording(connection: Any, path: str) -> ProcessedFile | None:
    rows = mapper(ProcessedFile)
    found = rows.where(connection, _AT_PATH, rows.values(original_path=path))
    return next(iter(found), None)


def write_changes(steps: Any, row: ProcessedFile, changes: Mapping[str, Any]) -> None:
    """Write changes of one row, and to its object; that it was read again is no change."""
    is_only_read = changes.keys() == {*READING}
    changes = {**changes, "updated_at": row.updated_at if is_only_read else utc_now()}
    mapper(ProcessedFile).change(steps, row, changes)


def rows_where(store: Store, model: type[M], column: str, values: Iterable[object]) -> Iterator[M]:
    """Yield the rows that have one of the values in a column, by id within 500 values."""
    iterator = iter(values)
    while some := list(islice(iterator, LOOKUP)):
        with store.reading():
            rows = mapper(model).among(store.connection(), column, some)
        yield from rows
