"""What a run's source is: the recording's row, kept true to its file."""

from __future__ import annotations

import datetime as dt
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, replace
from itertools import islice
from typing import Any, Final, TypeVar

from voices_peewee.database.query import mapper
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import AudioError, InvalidValueError, NotFoundError
from voices_peewee.records import audio
from voices_peewee.rendering.plain import absolute
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import BaseModel, ProcessedFile

M = TypeVar("M", bound=BaseModel)

AnyPath = str | os.PathLike[str]

# The columns of what a file is, in the order of AudioInfo; when that was read is the last.
FACTS: Final = (
    *("filename", "original_path", "file_format", "duration", "sample_rate", "channels"),
    *("file_size", "content_hash", "read_at"),
)

# How many values one question may hold.
LOOKUP: Final = 500
# A file system's clock may be this much coarser than ours (s): FAT counts in twos.
_CLOCK_SLACK: Final = 2.0
_AT_PATH: Final = """WHERE original_path = ? AND recording_id IS NULL
 ORDER BY processed_path IS NOT NULL, id LIMIT 1"""


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


def look(store: Store, source: AnyPath | ProcessedFile) -> Source:
    """Find a recording and read from its file what changed; the slow part, without a lock."""
    if isinstance(source, ProcessedFile):
        found = recording_of(store, source)
    else:
        path = locate(source)
        with store.reading():
            found = Source(path, _recording(store, path)[0])
        if found.row is None:
            facts = facts_of(path)
            row = elsewhere(store, {path: facts}).get(path)
            return Source(path, None, facts) if row is None else Source(row.original_path, row)
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


def settle(store: Store, source: Source) -> ProcessedFile:
    """Write what ``look`` found, inside a transaction; return the recording's row."""
    row, spare = source.row, None
    if row is None and source.path is not None:  # another process may have been faster
        store.lock_sources([source.path])
        row, spare = _recording(store, source.path)
    if row is None:
        row = ProcessedFile(**source.facts)
        mapper(ProcessedFile).insert(store.connection(), row, spare)
    elif source.facts:
        write_changes(row, source.facts)
    return row


def speaker_id(store: Store, speaker: SpeakerKey | None) -> int | None:
    """Return a speaker's id; an object that was never written is written now."""
    if speaker is None:
        return None
    found = store.speaker(speaker)
    return found.id or store.insert(found).id


def locate(source: object) -> str:
    """Return the absolute path of a source or an output; a URL stays as it is."""
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"a source is a path or a ProcessedFile, not {source!r}")
    path = os.fsdecode(source)
    if not path:  # the working directory to abspath
        raise InvalidValueError("a path must not be empty")
    return path if "://" in path else absolute(path)


def file_name(path: str) -> str:
    """Return the last part of a path or URL."""
    return path.rstrip("/").rpartition("/")[2] or path


def facts_of(path: str) -> dict[str, Any]:
    """Return what can be known of a file, whatever is at its path."""
    blank = {**dict.fromkeys(FACTS), "filename": file_name(path), "original_path": path}
    if "://" in path or regular_file(path) is None:
        return blank
    now = utc_now()  # before it is read: what changes meanwhile is to be read again
    try:
        return facts_from(audio.probe(path, strict=False), now)
    except AudioError:
        return blank


def recordings_by_path(store: Store, paths: Iterable[str]) -> dict[str, ProcessedFile]:
    """Return the recordings of many paths."""
    found: dict[str, ProcessedFile] = {}
    for row in rows_where(store, ProcessedFile, "original_path", paths):
        if row.recording_id is None:
            other = found.get(str(row.original_path))
            if other is None or (other.processed_path and not row.processed_path):
                found[str(row.original_path)] = row
    return found


def elsewhere(store: Store, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, ProcessedFile]:
    """Return the recordings of new paths that have their content, and are gone from their own."""
    hashes = {path: one["content_hash"] for path, one in facts.items() if one.get("file_size")}
    rows = list(rows_where(store, ProcessedFile, "content_hash", {*hashes.values()} - {None}))
    gone = [one for one in rows if one.recording_id is None and is_gone(one.original_path or "")]
    known = {row.content_hash: row for row in reversed(gone)}
    return {path: known[digest] for path, digest in hashes.items() if digest in known}


def is_gone(path: str) -> bool:
    """Whether a file is not there any more."""
    return bool(path) and "://" not in path and not os.path.lexists(path)


def _recording(store: Store, path: str) -> tuple[ProcessedFile | None, int | None]:
    """Return the recording at a path; where there is none, maybe the id of its row to come."""
    stored = ProcessedFile.original_path.db_value(path)
    rows, spare = mapper(ProcessedFile).find(store.connection(), _AT_PATH, (stored,))
    return (rows[0] if rows else None), spare


def changed_facts(path: str, row: ProcessedFile | None) -> dict[str, Any]:
    """Return the facts to write: none where the row is surely true to the file."""
    if row is None:
        return facts_of(path)
    if "://" in path:
        return {}
    status = regular_file(path)
    if status is None or is_fresh(row, status):
        return {}  # where the file is gone, what was known of it stays
    if row.content_hash and row.file_size == status.st_size:
        now = utc_now()
        try:
            if audio.content_hash(path) == row.content_hash:
                return {"read_at": now}  # no need to read it again
        except AudioError:
            return {}
    return facts_of(path)


def is_fresh(row: ProcessedFile, status: os.stat_result) -> bool:
    """Whether the file was read well after it was written, and the size fits."""
    return (
        row.file_size == status.st_size
        and row.content_hash is not None
        and row.read_at is not None
        # a file that was copied or moved there with its old time is told by its change time
        and max(status.st_mtime, status.st_ctime) < row.read_at.timestamp() - _CLOCK_SLACK
    )


def regular_file(path: AnyPath) -> os.stat_result | None:
    """Return what the system knows of a regular file, None for anything else."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path is half the time
    except (OSError, ValueError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def write_changes(row: ProcessedFile, changes: Mapping[str, Any]) -> None:
    """Write changes of one row, and to its object; that it was read again is no change."""
    is_only_read = changes.keys() == {"read_at"}
    changes = {**changes, "updated_at": row.updated_at if is_only_read else utc_now()}
    ProcessedFile.update(changes).where(ProcessedFile.id == row.id).execute()
    row.__data__.update(changes)


def rows_where(store: Store, model: type[M], column: str, values: Iterable[object]) -> Iterator[M]:
    """Yield the rows that have one of the values in a column, by id within 500 values."""
    field, iterator = model._meta.fields[column], iter(values)
    while some := list(islice(iterator, LOOKUP)):
        with store.reading():
            rows = store.query(model).where(field.in_(some)).order_by(model.id).all()
        yield from rows


def facts_from(info: audio.AudioInfo, read_at: dt.datetime) -> dict[str, Any]:
    """Return what was probed by the names of the columns."""
    return dict(zip(FACTS, (*astuple(info), read_at), strict=True))
