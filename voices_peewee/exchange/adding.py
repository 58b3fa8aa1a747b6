"""The recordings of a manifest into the record, with their references and speakers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from voices_peewee.database.query import mapper, no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import AmbiguousNameError
from voices_peewee.exchange.export import Progress
from voices_peewee.exchange.manifests import Entry, read_manifest
from voices_peewee.records.audio_files import changed_facts, regular_file
from voices_peewee.records.roots import PathMap, Roots
from voices_peewee.records.sources import recordings_by_path, rows_where, write_changes
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
        manifest = read_manifest(path, form, PathMap(path_map))
    done = AddedManifest(manifest.format, notes=manifest.notes)
    names = {name for entry in manifest.entries for name in _speakers(entry)}
    with store.writing():
        before = Speaker.select().count()
        speakers = speakers_named(store, sorted(names))
        done.speakers = Speaker.select().count() - before
    left, total = iter(manifest.entries), len(manifest.entries)
    while some := list(islice(left, _BATCH)):
        _add(store, some, speakers, done)
        if progress is not None:
            progress(done.added + done.updated + done.unchanged, total)
    return done


def _speakers(entry: Entry) -> Iterable[str]:
    """Return who speaks in a recording."""
    named = [*entry.references, *entry.more.get("speakers", ()), entry.speaker]
    return filter(None, named)


def _add(
    store: Store, entries: Sequence[Entry], speakers: Mapping[str, int], done: AddedManifest
) -> None:
    """Read the files, which is the slow part, and write a batch in one transaction."""
    paths = [entry.path for entry in entries]
    known = recordings_by_path(store, paths)
    facts = {path: changed_facts(path, known.get(path)) for path in paths}
    with store.writing():
        store.lock_sources(paths)
        known = recordings_by_path(store, paths)
        fresh: list[ProcessedFile] = []
        for entry in entries:
            done.absent += "://" not in entry.path and regular_file(entry.path) is None
            speaker, row = speakers.get(entry.speaker or ""), known.get(entry.path)
            if row is None:
                name = os.path.basename(entry.path)
                row = ProcessedFile(filename=name, original_path=entry.path)
                row.__data__ |= _changes(row, entry, facts[entry.path], speaker)
                fresh.append(row)
                done.added += 1
                continue
            changes = _changes(row, entry, facts[entry.path], speaker)
            if changes:
                write_changes(store.steps(), row, changes)
            done.updated += not changes.keys() <= {"read_at"}
            done.unchanged += changes.keys() <= {"read_at"}
        mapper(ProcessedFile).insert_objects(store.connection(), fresh)


def _changes(
    row: ProcessedFile, entry: Entry, facts: Mapping[str, Any], speaker: int | None
) -> dict[str, Any]:
    """Return what a row lacks or has otherwise; what the file says goes before the manifest."""
    ours = row.__data__
    changes = {name: value for name, value in facts.items() if ours.get(name) != value}
    for name, value in entry.facts.items():
        if ours.get(name) is None and changes.get(name) is None:
            changes[name] = value
    before = row.metadata or {}
    metadata = {**before, **entry.metadata, "id": before.get("id", entry.name)}
    if metadata != before:  # another manifest's id stays
        changes["metadata"] = metadata
    if speaker is not None and row.speaker_id != speaker:
        changes["speaker"] = speaker
    return changes


def speakers_named(store: Store, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of speakers, inside a transaction; those that are not there are added.

    Raises:
        AmbiguousNameError: Several have one of the names.
    """
    wanted = {name: str(Speaker.name.db_value(name)) for name in names}
    store.lock_speakers()
    found: dict[str, list[int]] = {}
    for row in rows_where(store, Speaker, "name", {*wanted.values()}):
        found.setdefault(row.name, []).append(row.id)
    for name, ids in found.items():
        if len(ids) > 1:
            raise AmbiguousNameError("speaker", name, ids)
    fresh = dict.fromkeys(name for name in wanted.values() if name not in found)
    added = store.insert_all([Speaker(name=name) for name in fresh])
    known = {name: ids[0] for name, ids in found.items()} | {one.name: one.id for one in added}
    return {name: known[composed] for name, composed in wanted.items()}
