"""What a run's source is: the row that stands for it, kept true to its file.

Several rows may share an ``original_path``: the recording itself, and one for each output made
from it. The facts of the original (size, hash, duration, …) are the same in all of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from voices_peewee.database.query import mapper
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import (
    AudioError,
    InvalidValueError,
    MissingExtraError,
    NotFoundError,
)
from voices_peewee.records import audio
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import BaseModel, ProcessedFile

M = TypeVar("M", bound=BaseModel)

AnyPath = str | os.PathLike[str]

FACTS: Final = (
    "filename",
    "original_path",
    "file_format",
    "duration",
    "sample_rate",
    "channels",
    "file_size",
    "content_hash",
)

# How many values one question may hold.
LOOKUP: Final = 500
# A file system's clock may be this much coarser than ours (s): FAT counts in twos.
_CLOCK_SLACK: Final = 2.0
# The recording itself before its outputs, the newest first; the run's speaker may be NULL.
# An output that holds another speaker's voice must not collect this one's measurements.
_RUN_ROW: Final = """WHERE original_path = ?
 AND (speaker_id IS ?
  OR processed_path IS NULL AND (CAST(? AS integer) IS NULL OR speaker_id IS NULL))
 ORDER BY processed_path IS NOT NULL, id DESC LIMIT 1"""

_RUN_ROW_ON_SERVER: Final = _RUN_ROW.replace("IS ?", "IS NOT DISTINCT FROM CAST(? AS integer)", 1)


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of a run's source before anything is written.

    ``row`` is the row that stands for it, ``facts`` what to write about it; empty for nothing.
    """

    path: str | None
    row: ProcessedFile | None
    facts: dict[str, Any]
    speaker_id: int | None


def find_or_add(
    store: Store, source: AnyPath | ProcessedFile, speaker: SpeakerKey | None = None
) -> ProcessedFile:
    """Return the row that stands for a run's source, true to its file; add one if there is none.

    Raises:
        NotFoundError: The record is not in the database, or there is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        TypeError: The source is neither a path nor a ProcessedFile.
    """
    found = look(store, source, speaker_id(store, speaker))
    with store.writing():
        return settle(store, found)


def look(store: Store, source: AnyPath | ProcessedFile, speaker_id: int | None) -> Source:
    """Find a source's row and read from its file what changed; the slow part, without a lock.

    Raises:
        NotFoundError: The record is not in the database.
        TypeError: The source is neither a path nor a ProcessedFile.
    """
    row: ProcessedFile | None
    if isinstance(source, ProcessedFile):
        if not source.id:
            store.insert(source)
        row = store.get(ProcessedFile, source.id)
        if row is None:
            raise NotFoundError("file", source.id)
        path = row.original_path
    else:
        path = locate(source)
        row = _run_row(store, path, speaker_id)
    facts = {} if path is None else _changed_facts(path, row)
    return Source(path, row, facts, speaker_id)


def settle(store: Store, source: Source) -> ProcessedFile:
    """Write what ``look`` found, inside a transaction; return the row of the source."""
    row = source.row
    if row is None and source.path is not None:  # another process may have been faster
        store.lock_sources([source.path])
        row = _run_row(store, source.path, source.speaker_id)
    if row is None:
        row = ProcessedFile(**source.facts, speaker=source.speaker_id)
        mapper(ProcessedFile).insert(store.connection(), row)
        return row
    if source.facts:
        write_facts(row, source.facts)
    if source.speaker_id is not None and row.speaker_id is None:
        write_changes(row, {"speaker": source.speaker_id})
    return row


def speaker_id(store: Store, speaker: SpeakerKey | None) -> int | None:
    """Return a speaker's id; an object that was never written is written now.

    Raises:
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
    """
    if speaker is None:
        return None
    found = store.speaker(speaker)
    return found.id or store.insert(found).id


def locate(source: object) -> str:
    """Return the absolute path of a source or an output; a URL stays as it is.

    Raises:
        InvalidValueError: It is empty.
        TypeError: It is no path.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"a source is a path or a ProcessedFile, not {source!r}")
    path = os.fsdecode(source)
    if not path:  # the working directory to abspath
        raise InvalidValueError("a path must not be empty")
    return path if "://" in path else os.path.abspath(path)


def file_name(path: str) -> str:
    """Return the last part of a path or URL."""
    return path.rstrip("/").rpartition("/")[2] or path


def facts_of(path: str) -> dict[str, Any]:
    """Return what can be known of a source, whatever is at its path."""
    blank = {**dict.fromkeys(FACTS), "filename": file_name(path), "original_path": path}
    if "://" in path or regular_file(path) is None:
        return blank
    try:
        return facts_from(audio.probe(path))
    except (AudioError, MissingExtraError):
        pass  # not audio, or nobody here who could tell
    try:
        size, digest = audio.stat_facts(path)
    except AudioError:
        return blank
    return {**blank, "file_size": size, "content_hash": digest}


def rows_by_path(store: Store, paths: Iterable[str]) -> dict[str, list[ProcessedFile]]:
    """Return the rows of many sources, those of one by id."""
    found: dict[str, list[ProcessedFile]] = {}
    for row in rows_where(store, ProcessedFile, "original_path", paths):
        found.setdefault(str(row.original_path), []).append(row)
    return found


def _run_row(store: Store, path: str, speaker_id: int | None) -> ProcessedFile | None:
    rows = mapper(ProcessedFile)
    stored = ProcessedFile.original_path.db_value(path)
    with store.reading():
        values = stored, speaker_id, speaker_id
        place = _RUN_ROW if store.server is None else _RUN_ROW_ON_SERVER
        cursor = store.connection().execute(f"{rows.select_sql} {place}", values)
        return next(rows.build(cursor.fetchall()), None)


def _changed_facts(path: str, row: ProcessedFile | None) -> dict[str, Any]:
    """Return the facts to write: none where the row is surely true to the file."""
    if row is None:
        return facts_of(path)
    if "://" in path:
        return {}
    status = regular_file(path)
    if status is None or _is_fresh(row, status):
        return {}  # where the file is gone, what was known of it stays
    if row.content_hash and row.file_size == status.st_size:
        try:
            if audio.content_hash(path) == row.content_hash:
                return {"content_hash": row.content_hash}  # moves updated_at: no need to look again
        except AudioError:
            return {}
    return facts_of(path)


def _is_fresh(row: ProcessedFile, status: os.stat_result) -> bool:
    """Whether the row was written well after the file was, and the size fits."""
    return (
        row.file_size == status.st_size
        and row.content_hash is not None
        # a file that was copied or moved there with its old time is told by its change time
        and max(status.st_mtime, status.st_ctime) < row.updated_at.timestamp() - _CLOCK_SLACK
    )


def regular_file(path: AnyPath) -> os.stat_result | None:
    """Return what the system knows of a regular file, None for anything else."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def write_facts(row: ProcessedFile, facts: Mapping[str, Any]) -> None:
    """Write facts of an original to every row that is about it."""
    changes = {**facts, "updated_at": utc_now()}
    here = ProcessedFile.id == row.id
    if row.original_path is not None:
        here |= ProcessedFile.original_path == row.original_path
    ProcessedFile.update(changes).where(here).execute()
    row.__data__.update(changes)


def write_changes(row: ProcessedFile, changes: Mapping[str, Any]) -> None:
    """Write changes of one row, and to its object."""
    changes = {**changes, "updated_at": utc_now()}
    ProcessedFile.update(changes).where(ProcessedFile.id == row.id).execute()
    row.__data__.update(changes)


def rows_where(store: Store, model: type[M], column: str, values: Iterable[str]) -> Iterator[M]:
    """Yield the rows that have one of the values in a column, by id within 500 values."""
    field, iterator = model._meta.fields[column], iter(values)
    while some := list(islice(iterator, LOOKUP)):
        with store.reading():
            rows = store.query(model).where(field.in_(some)).order_by(model.id).all()
        yield from rows


def facts_from(info: audio.AudioInfo) -> dict[str, Any]:
    """Return what was probed by the names of the columns."""
    return {
        "filename": info.filename,
        "original_path": info.path,
        "file_format": info.file_format,
        "duration": info.duration,
        "sample_rate": info.sample_rate,
        "channels": info.channels,
        "file_size": info.file_size,
        "content_hash": info.content_hash,
    }
