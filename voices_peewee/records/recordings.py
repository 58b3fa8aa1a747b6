"""Adding recordings: one file, or thousands in batches, each path once."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, Literal

from voices_peewee.database.query import mapper
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import AudioError, InvalidValueError
from voices_peewee.records import audio
from voices_peewee.records.sources import (
    AnyPath,
    facts_from,
    regular_file,
    rows_by_path,
    rows_where,
    speaker_id,
    write_changes,
    write_facts,
)
from voices_peewee.schema.fields import dump_json
from voices_peewee.schema.models import ProcessedFile

Outcome = Literal["added", "unchanged", "updated"]

_SECONDS_A_BATCH: Final = 2.0


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
        return cls(speaker_id(store, speaker), plain)

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
    """The facts of one file; none where size and hash show that nothing changed."""

    path: str
    facts: dict[str, Any]


def _examine(path: AnyPath, row: ProcessedFile | None, *, exact: bool) -> _Examined:
    full = os.path.abspath(path)
    if row is not None and row.file_format and row.content_hash and not exact:
        status = regular_file(path)
        same_size = status is not None and status.st_size == row.file_size
        if same_size and audio.content_hash(path) == row.content_hash:
            return _Examined(full, {})
    return _Examined(full, {**facts_from(audio.probe(path, exact=exact)), "original_path": full})


def _commit(store: Store, examined: Sequence[_Examined], wishes: _Wishes) -> list[Added]:
    """Write a batch in one transaction."""
    with store.writing():
        store.lock_sources([one.path for one in examined])
        known = _rows_at(store, [one.path for one in examined])
        results = [_merge(one, known.get(one.path), wishes) for one in examined]
        fresh = [result.file for result in results if result.outcome == "added"]
        mapper(ProcessedFile).insert_objects(store.connection(), fresh)
        return _with_duplicates(store, results)


def _merge(one: _Examined, row: ProcessedFile | None, wishes: _Wishes) -> Added:
    """Update a row where it differs, or make the object for a new one."""
    if row is None:
        # The row was deleted while the file was only hashed: then read it after all.
        facts = one.facts or facts_from(audio.probe(one.path))
        fresh = ProcessedFile(**facts, speaker=wishes.speaker_id, metadata=wishes.metadata)
        return Added(fresh, "added", ())
    changed = {name: value for name, value in one.facts.items() if getattr(row, name) != value}
    if changed:
        write_facts(row, changed)
    wished = wishes.changes(row)
    if wished:
        write_changes(row, wished)
    return Added(row, "updated" if changed or wished else "unchanged", ())


def _rows_at(store: Store, paths: Iterable[str]) -> dict[str, ProcessedFile]:
    """Return each path's row: the recording itself before its outputs, the newest first."""
    return {
        path: max(rows, key=lambda row: (row.processed_path is None, row.id))
        for path, rows in rows_by_path(store, paths).items()
    }


def _with_duplicates(store: Store, results: Sequence[Added]) -> list[Added]:
    hashes = {str(result.file.content_hash) for result in results}
    same: dict[str | None, list[ProcessedFile]] = {}
    for row in rows_where(store, ProcessedFile, "content_hash", hashes):
        same.setdefault(row.content_hash, []).append(row)
    return [replace(one, duplicates=tuple(_duplicates(one, same))) for one in results]


def _duplicates(one: Added, same: Mapping[str | None, Sequence[ProcessedFile]]) -> Iterator[int]:
    """Yield the ids of the same content elsewhere; for a new row, of what was there before it."""
    file = one.file
    for row in same.get(file.content_hash, ()):
        is_later = one.outcome == "added" and row.id > file.id
        if row.original_path != file.original_path and not is_later:
            yield row.id
