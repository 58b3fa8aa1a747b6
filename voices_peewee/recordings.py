"""Recordings in the database: found by their path, added, and kept true to their files.

Several rows may share an ``original_path``: the recording itself, and one for each output made
from it. The facts of the original (size, hash, duration, …) are the same in all of them.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, Literal

from voices_peewee import audio
from voices_peewee.errors import AudioError, InvalidValueError, MissingExtraError, NotFoundError
from voices_peewee.models import ProcessedFile, Speaker, dump_json, utc_now
from voices_peewee.rows import mapper
from voices_peewee.store import Store

AnyPath = str | os.PathLike[str]
SpeakerKey = int | str | Speaker
Outcome = Literal["added", "unchanged", "updated"]

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

_LOOKUP: Final = 500
_SECONDS_A_BATCH: Final = 2.0
# A file system's clock may be this much coarser than ours (s): FAT counts in twos.
_CLOCK_SLACK: Final = 2.0
# The recording itself before its outputs, the newest first; ?2 is the run's speaker or NULL.
# An output that holds another speaker's voice must not collect this one's measurements.
_RUN_ROW: Final = """WHERE original_path = ?1
 AND (speaker_id IS ?2 OR processed_path IS NULL AND (?2 IS NULL OR speaker_id IS NULL))
 ORDER BY processed_path IS NOT NULL, id DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of one recording.

    ``duplicates`` are the ids of the rows that have the same content at another path.
    """

    file: ProcessedFile
    outcome: Outcome
    duplicates: tuple[int, ...]


def add_audio(
    store: Store,
    path: AnyPath,
    *,
    speaker: SpeakerKey | None = None,
    metadata: Mapping[str, Any] | None = None,
    exact: bool = False,
) -> Added:
    """Record an audio file, or bring its row up to date.

    Args:
        store: The open database.
        path: The file; links in the path are kept as they are.
        speaker: Whose voice it is; replaces another speaker of the recording.
        metadata: Values to set among those that the row has.
        exact: Decode the whole file for its duration.

    Raises:
        AudioError: The file cannot be read or is not audio.
        MissingExtraError: PyAV is not installed.
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: The metadata is no JSON object.
    """
    wishes = _Wishes.of(store, speaker, metadata)
    full = os.path.abspath(path)
    known = _rows_at(store, [full])
    return _commit(store, [_examine(path, known.get(full), exact=exact)], wishes)[0]


def add_audio_files(
    store: Store,
    paths: Iterable[AnyPath],
    *,
    speaker: SpeakerKey | None = None,
    metadata: Mapping[str, Any] | None = None,
    exact: bool = False,
    batch: int = 200,
    on_error: Callable[[AudioError], None],
) -> Iterator[Added]:
    """Record files and the recordings in folders; yield each once it is committed.

    A commit follows ``batch`` files or about two seconds of work, so that an interrupted call
    loses no more; calling again goes on, since files that did not change are only hashed.

    Args:
        store: The open database.
        paths: Files and folders.
        speaker: Whose voice they are.
        metadata: Values to set in every row.
        exact: Decode the files for their duration.
        batch: How many files to commit at once.
        on_error: Is told of each file that cannot be recorded; the others are kept.

    Raises:
        MissingExtraError: PyAV is not installed.
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: The metadata is no JSON object.
    """
    wishes = _Wishes.of(store, speaker, metadata)
    files = iter(audio.find_files(paths, on_error=on_error))
    while names := list(islice(files, max(1, batch))):
        known = _rows_at(store, map(os.path.abspath, names))
        examined: list[_Examined] = []
        deadline = time.monotonic() + _SECONDS_A_BATCH
        for name in names:
            try:
                examined.append(_examine(name, known.get(os.path.abspath(name)), exact=exact))
            except AudioError as error:
                on_error(error)
            if examined and time.monotonic() > deadline:
                yield from _commit(store, examined, wishes)
                examined, deadline = [], time.monotonic() + _SECONDS_A_BATCH
        if examined:
            yield from _commit(store, examined, wishes)


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
    found = look(store, source, None if speaker is None else store.speaker(speaker).id)
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
        if source.id is None:
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
        row = _run_row(store, source.path, source.speaker_id)
    if row is None:
        row = ProcessedFile(**source.facts, speaker=source.speaker_id)
        return mapper(ProcessedFile).insert(store.connection(), row)
    if source.facts:
        _write_facts(row, source.facts)
    if source.speaker_id is not None and row.speaker_id is None:
        _update(row, {"speaker": source.speaker_id})
    return row


def locate(source: object) -> str:
    """Return the absolute path of a source or an output; a URL stays as it is.

    Raises:
        TypeError: It is no path.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"a source is a path or a ProcessedFile, not {source!r}")
    path = os.fsdecode(source)
    return path if "://" in path else os.path.abspath(path)


def file_name(path: str) -> str:
    """Return the last part of a path or URL."""
    return path.rstrip("/").rpartition("/")[2] or path


def facts_of(path: str) -> dict[str, Any]:
    """Return what can be known of a source, whatever is at its path."""
    blank = {**dict.fromkeys(FACTS), "filename": file_name(path), "original_path": path}
    if "://" in path or not _is_regular(path):
        return blank
    try:
        return _facts(audio.probe(path))
    except (AudioError, MissingExtraError):
        pass  # not audio, or nobody here who could tell
    try:
        size, digest = audio.stat_facts(path)
    except AudioError:
        return blank
    return {**blank, "file_size": size, "content_hash": digest}


def rows_for_runs(
    store: Store, wanted: Iterable[tuple[str, int | None]]
) -> dict[tuple[str, int | None], ProcessedFile]:
    """Return the rows that stand for many sources, each a path and a speaker's id."""
    found = ((key, _run_row(store, *key)) for key in wanted)
    return {key: row for key, row in found if row is not None}


def _run_row(store: Store, path: str, speaker_id: int | None) -> ProcessedFile | None:
    rows = mapper(ProcessedFile)
    stored = ProcessedFile.original_path.db_value(path)
    with store.reading():
        cursor = store.connection().execute(f"{rows.select_sql} {_RUN_ROW}", (stored, speaker_id))
        return next(rows.build(cursor.fetchall()), None)


def _changed_facts(path: str, row: ProcessedFile | None) -> dict[str, Any]:
    """Return the facts to write: none where the row is surely true to the file."""
    if row is None:
        return facts_of(path)
    if "://" in path:
        return {}
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return {}  # gone: what was known of it stays
    if not stat.S_ISREG(status.st_mode) or _is_fresh(row, status):
        return {}
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
        and status.st_mtime < row.updated_at.timestamp() - _CLOCK_SLACK
    )


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _write_facts(row: ProcessedFile, facts: Mapping[str, Any]) -> None:
    """Write facts of an original to every row that is about it."""
    changes = {**facts, "updated_at": utc_now()}
    here = ProcessedFile.id == row.id
    if row.original_path is not None:
        here |= ProcessedFile.original_path == row.original_path
    ProcessedFile.update(changes).where(here).execute()
    row.__data__.update(changes)


def _update(row: ProcessedFile, changes: Mapping[str, Any]) -> None:
    changes = {**changes, "updated_at": utc_now()}
    ProcessedFile.update(changes).where(ProcessedFile.id == row.id).execute()
    row.__data__.update(changes)


# Adding many


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the caller says about the recordings, beside what is in the files."""

    speaker_id: int | None
    metadata: dict[str, Any]

    @classmethod
    def of(
        cls, store: Store, speaker: SpeakerKey | None, metadata: Mapping[str, Any] | None
    ) -> _Wishes:
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InvalidValueError(f"metadata must be a mapping, not {metadata!r}")
        plain = json.loads(dump_json(dict(metadata or {})))
        return cls(None if speaker is None else store.speaker(speaker).id, plain)

    def changes(self, row: ProcessedFile) -> dict[str, Any]:
        """Return what differs in a row; the speaker of an output is not ours to change."""
        changes: dict[str, Any] = {}
        free = row.processed_path is None or row.speaker_id is None
        if self.speaker_id is not None and free and row.speaker_id != self.speaker_id:
            changes["speaker"] = self.speaker_id
        metadata = {**(row.metadata or {}), **self.metadata}
        if metadata != (row.metadata or {}):
            changes["metadata"] = metadata
        return changes


@dataclass(frozen=True, slots=True)
class _Examined:
    """The facts of one file; only size and hash where these show that nothing changed."""

    path: str
    facts: dict[str, Any]


def _examine(path: AnyPath, row: ProcessedFile | None, *, exact: bool) -> _Examined:
    full = os.path.abspath(path)
    if row is not None and row.file_format and row.content_hash and not exact:
        try:
            same_size = os.stat(path).st_size == row.file_size
        except (OSError, ValueError):
            same_size = False  # probe() says what is wrong
        if same_size and audio.content_hash(path) == row.content_hash:
            return _Examined(full, {"content_hash": row.content_hash})
    return _Examined(full, {**_facts(audio.probe(path, exact=exact)), "original_path": full})


def _facts(info: audio.AudioInfo) -> dict[str, Any]:
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


def _commit(store: Store, examined: Sequence[_Examined], wishes: _Wishes) -> list[Added]:
    """Write a batch in one transaction."""
    with store.writing():
        known = _rows_at(store, [one.path for one in examined])
        results = [_merge(one, known.get(one.path), wishes) for one in examined]
        fresh = [result.file for result in results if result.outcome == "added"]
        mapper(ProcessedFile).insert_objects(store.connection(), fresh)
        return _with_duplicates(store, results)


def _merge(one: _Examined, row: ProcessedFile | None, wishes: _Wishes) -> Added:
    """Update a row where it differs, or make the object for a new one."""
    if row is None:
        # The row was deleted while the file was only hashed: then read it after all.
        facts = one.facts if "filename" in one.facts else _facts(audio.probe(one.path))
        fresh = ProcessedFile(**facts, speaker=wishes.speaker_id, metadata=wishes.metadata)
        return Added(fresh, "added", ())
    changed = {name: value for name, value in one.facts.items() if getattr(row, name) != value}
    if changed:
        _write_facts(row, changed)
    wished = wishes.changes(row)
    if wished:
        _update(row, wished)
    return Added(row, "updated" if changed or wished else "unchanged", ())


def _rows_at(store: Store, paths: Iterable[str]) -> dict[str, ProcessedFile]:
    """Return each path's row: the recording itself before its outputs, the newest first."""
    best: dict[str, ProcessedFile] = {}
    for row in _rows_where(store, "original_path", list(paths)):
        path = row.original_path
        if path not in best or best[path].processed_path is not None or not row.processed_path:
            best[path] = row
    return best


def _rows_where(store: Store, column: str, values: Sequence[str]) -> Iterator[ProcessedFile]:
    """Yield the rows that have one of the values in a column, by id within 500 values."""
    field, iterator = ProcessedFile._meta.fields[column], iter(values)
    while some := list(islice(iterator, _LOOKUP)):
        with store.reading():
            query = store.query(ProcessedFile).where(field.in_(some))
            rows = query.order_by(ProcessedFile.id).all()
        yield from rows


def _with_duplicates(store: Store, results: Sequence[Added]) -> list[Added]:
    hashes = list({result.file.content_hash for result in results})
    same: dict[str, list[ProcessedFile]] = {}
    for row in _rows_where(store, "content_hash", hashes):
        same.setdefault(row.content_hash, []).append(row)
    return [replace(one, duplicates=tuple(_duplicates(one, same))) for one in results]


def _duplicates(one: Added, same: Mapping[str, Sequence[ProcessedFile]]) -> Iterator[int]:
    """Yield the ids of the same content elsewhere; for a new row, of what was there before it."""
    file = one.file
    for row in same[file.content_hash]:
        is_later = one.outcome == "added" and row.id > file.id
        if row.original_path != file.original_path and not is_later:
            yield row.id
