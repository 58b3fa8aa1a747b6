"""Adding recordings: one file, or thousands in batches, each path once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

from voices_peewee.database.query import mapper
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import AudioError, InvalidValueError
from voices_peewee.records.audio import AnyPath
from voices_peewee.records.audio_files import (
    READING,
    facts_of,
    file_name,
    find_files,
    probe,
    read_again,
)
from voices_peewee.records.roots import Moved
from voices_peewee.records.sources import (
    LOOKUP,
    elsewhere,
    of_content,
    recordings_by_path,
    rows_where,
    speaker_id,
    write_changes,
)
from voices_peewee.rendering.plain import absolute
from voices_peewee.schema.exact import several
from voices_peewee.schema.fields import plain_object
from voices_peewee.schema.models import ProcessedFile

Outcome = Literal["added", "unchanged", "updated", "moved"]


@dataclass(frozen=True, slots=True)
class Added:
    """What became of one recording; one that has ``moved`` keeps the path that is recorded."""

    file: ProcessedFile
    outcome: Outcome


class Wishes(NamedTuple):
    """What the caller says about the recordings, beside what is in the files."""

    speaker_id: int | None
    metadata: dict[str, Any]

    def changes(self, row: ProcessedFile) -> dict[str, Any]:
        """Return what differs in a row."""
        changes: dict[str, Any] = {}
        if self.speaker_id is not None and row.speaker_id != self.speaker_id:
            changes["speaker"] = self.speaker_id
        if self.metadata and (metadata := merged(row, self.metadata)) != row.metadata:
            changes["metadata"] = metadata
        return changes


def merged(row: ProcessedFile, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a file with others set.

    Raises:
        InvalidValueError: Another program wrote what is no JSON object there.
    """
    known = row.metadata or {}
    if not isinstance(known, dict):
        what = f"the metadata of file {row.id} is no JSON object"
        raise InvalidValueError(f"{what}; see 'voices check'")
    return {**known, **metadata}


Told = tuple[dict[str, Any], Wishes]  # what is in a file, and what else is said of it


def wishes(store: Store, speaker: SpeakerKey | None, metadata: Mapping[str, Any] | None) -> Wishes:
    """Look the speaker up and copy the metadata, before anything is written."""
    return Wishes(speaker_id(store, speaker), plain_object("metadata", metadata))


def add_audio(store: Store, path: AnyPath, wishes: Wishes, *, exact: bool) -> Added:
    """Record an audio file, or bring its row up to date."""
    full = absolute(path)
    known = recordings_by_path(store, [full])
    return commit(store, {full: (_examine(path, known.get(full), exact=exact), wishes)})[0]


def add_audio_files(
    store: Store,
    paths: Iterable[AnyPath],
    wishes: Wishes,
    *,
    exact: bool,
    batch: int,
    on_error: Callable[[AudioError], None],
) -> Iterator[Added]:
    """Record files and the recordings in folders; yield each once it is committed."""
    named = list(several("paths", paths, "paths"))
    own = {absolute(path) for path in named}
    files = iter(find_files(named, on_error=on_error))
    while names := {absolute(name): name for name in islice(files, max(1, batch))}:
        known = recordings_by_path(store, names)
        outputs = _outputs(store, names.keys() - known.keys() - own)
        told: dict[str, Told] = {}
        for path, name in names.items():
            if path in outputs:
                continue
            try:
                told[path] = _examine(name, known.get(path), exact=exact), wishes
            except AudioError as error:
                on_error(error)
        fresh = {path: facts for path, (facts, _) in told.items() if path not in own | known.keys()}
        for path, row in _moved_outputs(store, fresh).items():
            del told[path]
            yield Added(row, "moved")
        yield from commit(store, told)


def recordings_in(store: Store, folder: AnyPath, say: Callable[[str], None]) -> Iterator[AnyPath]:
    """Yield the audio files in a folder; that the outputs of runs are left out is said."""
    files, left = iter(find_files([folder], on_error=lambda error: say(f"Warning: {error}"))), 0
    outputs = Moved(store, outputs=True)
    while names := {absolute(name): name for name in islice(files, LOOKUP)}:
        fresh = names.keys() - recordings_by_path(store, names).keys()
        known = _outputs(store, fresh)
        places = {path: outputs.find(path) for path in fresh - known}
        digests = {path: outputs.digests[at] for path, at in places.items() if at != path}
        copies = _of_recordings(store, digests.values())
        skipped = known | {path for path, digest in digests.items() if digest not in copies}
        left += len(skipped)
        yield from (name for path, name in names.items() if path not in skipped)
    if left:
        say(f"note: outputs of runs in {str(folder)!r} left out: {left:,}; name them to have them")


def _outputs(store: Store, paths: set[str]) -> set[str | None]:
    return {row.processed_path for row in rows_where(store, ProcessedFile, "processed_path", paths)}


def _moved_outputs(
    store: Store, facts: Mapping[str, Mapping[str, Any]]
) -> dict[str, ProcessedFile]:
    """Return the outputs of runs that are at new paths, and not where they are recorded.

    What has the content of a recording is a copy of that: a baseline's outputs may be its mixtures.
    """
    found = elsewhere(store, facts, outputs=True)
    copies = _of_recordings(store, (facts[path]["content_hash"] for path in found))
    return {path: row for path, row in found.items() if row.content_hash not in copies}


def _of_recordings(store: Store, digests: Iterable[str]) -> set[str | None]:
    alike = of_content(store, {*digests})
    return {row.content_hash for row in alike if row.recording_id is None}


def _examine(path: AnyPath, row: ProcessedFile | None, *, exact: bool) -> dict[str, Any]:
    """Return the facts of one file; none where size and hash show that nothing changed."""
    if row is not None and row.file_format and not exact and read_again(path, row):
        return {}
    return probe(path, exact=exact)._asdict()


def moved(store: Store, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, ProcessedFile]:
    """Return the recordings of new paths that moved there with their names, each for one path.

    What was renamed, or is there twice, gets a row of its own, since what is told of it is its own.
    """
    found = elsewhere(store, facts)
    named = {row.id: path for path, row in sorted(found.items()) if row.filename == file_name(path)}
    return {path: found[path] for path in named.values()}


def commit(store: Store, told: Mapping[str, Told]) -> list[Added]:
    """Write what is told of recordings by their paths, in one transaction."""
    with store.writing():
        store.lock_sources([*told])
        known = recordings_by_path(store, told)
        known |= moved(store, {path: told[path][0] for path in told.keys() - known.keys()})
        steps = store.steps()
        results = [_merge(steps, path, *its, known.get(path)) for path, its in told.items()]
        fresh = [result.file for result in results if result.outcome == "added"]
        mapper(ProcessedFile).insert_objects(store.connection(), fresh)
        return results


def _merge(
    steps: Any, path: str, facts: dict[str, Any], wishes: Wishes, row: ProcessedFile | None
) -> Added:
    """Update a row where it differs, or make the object for a new one."""
    if row is None:
        if "original_path" not in facts:  # the row was deleted while the file was only hashed
            facts = {**facts_of(path), **facts}
        fresh = ProcessedFile(**facts, speaker=wishes.speaker_id, metadata=wishes.metadata)
        return Added(fresh, "added")
    if has_moved := row.original_path != path:
        facts = {}  # all but its path is known
    changed = {name for name, value in facts.items() if getattr(row, name) != value}
    wished = wishes.changes(row)
    if changed or wished:
        write_changes(steps, row, {**facts, **wished})
    if has_moved:
        return Added(row, "moved")
    is_updated = bool(changed.difference(READING) or wished)
    return Added(row, "updated" if is_updated else "unchanged")
