"""The recordings of a manifest into the record, with their references and speakers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from voices_peewee.database.query import mapper, no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import AmbiguousNameError
from voices_peewee.exchange.export import Progress
from voices_peewee.exchange.manifests import Entry, read_manifest
from voices_peewee.records.audio_files import changed_facts, file_name, regular_file
from voices_peewee.records.roots import PathMap, Roots
from voices_peewee.records.sources import recordings_by_path, write_changes
from voices_peewee.schema.models import ProcessedFile, Speaker

_BATCH: Final = 500


@dataclass
class AddedManifest:
    """What became of a manifest's recordings, and of its speakers.

    ``absent`` counts recordings whose file is not there: of them the manifest alone is known.
    """

    format: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    absent: int = 0
    speakers: int = 0
    notes: list[str] = field(default_factory=list)


def add_manifest(
    store: Store,
    path: str | os.PathLike[str],
    *,
    form: str | None,
    path_map: Roots | None,
    progress: Progress | None,
) -> AddedManifest:
    """Record what a manifest names; see ``ExchangeMethods.add_manifest``."""
    with no_full_collection():
        form, entries, notes = read_manifest(path, form, PathMap(path_map))
    done = AddedManifest(form, notes=notes)
    with store.writing():
        before = Speaker.select().count()
        speakers = speakers_named(store, {name for entry in entries for name in entry.voices})
        done.speakers = Speaker.select().count() - before
    for start in range(0, len(entries), _BATCH):
        _add(store, entries[start : start + _BATCH], speakers, done)
        if progress is not None:
            progress(min(start + _BATCH, len(entries)), len(entries))
    return done


def _add(
    store: Store, entries: Sequence[Entry], speakers: Mapping[str, int], done: AddedManifest
) -> None:
    """Read the files, which is the slow part, and write a batch in one transaction."""
    paths = [entry.path for entry in entries]
    known = recordings_by_path(store, paths)
    facts = {path: changed_facts(path, known.get(path)) for path in paths}
    done.absent += sum("://" not in path and regular_file(path) is None for path in paths)
    with store.writing():
        store.lock_sources(paths)
        known = recordings_by_path(store, paths)
        fresh: list[ProcessedFile] = []
        for entry in entries:
            blank = ProcessedFile(filename=file_name(entry.path), original_path=entry.path)
            row = known.get(entry.path, blank)
            changes = _changes(row, entry, facts[entry.path], speakers.get(entry.speaker or ""))
            outcome = "unchanged" if changes.keys() <= {"read_at"} else "updated"
            if row is blank:
                row.__data__ |= changes
                fresh.append(row)
                outcome = "added"
            elif changes:
                write_changes(store.steps(), row, changes)
            setattr(done, outcome, getattr(done, outcome) + 1)
        mapper(ProcessedFile).insert_objects(store.connection(), fresh)


def _changes(
    row: ProcessedFile, entry: Entry, facts: Mapping[str, Any], speaker: int | None
) -> dict[str, Any]:
    """Return what a row lacks or has otherwise; what the file says goes before the manifest."""
    ours, before = row.__data__, row.metadata or {}
    told = entry.facts.items()
    lacks = {name: one for name, one in told if facts.get(name, ours.get(name)) is None}
    # another manifest's id stays
    metadata = {**before, **entry.metadata, "id": before.get("id", entry.metadata["id"])}
    wanted = {**facts, **lacks, "metadata": metadata, "speaker": speaker or row.speaker_id}
    return {name: value for name, value in wanted.items() if ours.get(name) != value}


def speakers_named(store: Store, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of speakers, inside a transaction; those that are not there are added.

    Raises:
        AmbiguousNameError: Several have one of the names.
    """
    store.lock_speakers()
    speakers: dict[str, int] = {}
    for name in sorted(names):
        found = store.query(Speaker).filter_by(name=name).all() or [Speaker(name=name)]
        if len(found) > 1:
            raise AmbiguousNameError("speaker", name, [one.id for one in found])
        speakers[name] = found[0].id or store.insert(found[0]).id
    return speakers
