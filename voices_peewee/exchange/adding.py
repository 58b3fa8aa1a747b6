"""The recordings of a manifest into the record, with their references and speakers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from voices_peewee.database.query import mapper
from voices_peewee.database.store import Store
from voices_peewee.exchange.export import Progress
from voices_peewee.exchange.foreign import speakers_named
from voices_peewee.exchange.manifests import Entry, read_manifest
from voices_peewee.records.audio_files import changed_facts, regular_file
from voices_peewee.records.roots import PathMap, Roots
from voices_peewee.records.sources import recordings_by_path, write_changes
from voices_peewee.schema.models import ProcessedFile

_BATCH: Final = 200


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
    manifest = read_manifest(path, form, PathMap(path_map))
    done = AddedManifest(manifest.format, notes=manifest.notes)
    names = {name for entry in manifest.entries for name in _speakers(entry)}
    with store.writing():
        before = _count(store)
        speakers = speakers_named(store, sorted(names))
        done.speakers = _count(store) - before
    left, total = iter(manifest.entries), len(manifest.entries)
    while some := list(islice(left, _BATCH)):
        _add(store, some, speakers, done)
        if progress is not None:
            progress(done.added + done.updated + done.unchanged, total)
    return done


def _count(store: Store) -> int:
    return int(store.connection().execute("SELECT count(*) FROM speakers").fetchone()[0])


def _speakers(entry: Entry) -> list[str]:
    """Return who speaks in a recording."""
    named = [*entry.references, *entry.more.get("speakers", ())]
    return [*named, entry.speaker] if entry.speaker else named


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
            speaker = speakers[entry.speaker] if entry.speaker else None
            row = known.get(entry.path)
            if row is None:
                fresh.append(_new(entry, facts[entry.path], speaker))
                done.added += 1
            elif changes := _changes(row, entry, facts[entry.path], speaker):
                write_changes(row, changes)
                done.updated += changes.keys() != {"read_at"}
                done.unchanged += changes.keys() == {"read_at"}
            else:
                done.unchanged += 1
        mapper(ProcessedFile).insert_objects(store.connection(), fresh)


def _new(entry: Entry, facts: Mapping[str, Any], speaker: int | None) -> ProcessedFile:
    """Return a recording's object: what its own file says goes before what the manifest says."""
    known = {name: value for name, value in facts.items() if value is not None}
    values = {**entry.facts, **known, "original_path": entry.path}
    values.setdefault("filename", os.path.basename(entry.path))  # noqa: PTH119
    return ProcessedFile(**values, metadata=entry.metadata, speaker=speaker)


def _changes(
    row: ProcessedFile, entry: Entry, facts: Mapping[str, Any], speaker: int | None
) -> dict[str, Any]:
    """Return what a row lacks or has otherwise."""
    changes = {name: value for name, value in facts.items() if getattr(row, name) != value}
    for name, value in entry.facts.items():
        if getattr(row, name) is None and changes.get(name) is None:
            changes[name] = value
    metadata = {**(row.metadata or {}), **entry.metadata}
    metadata["id"] = (row.metadata or {}).get("id", entry.name)  # another manifest's stays
    if metadata != (row.metadata or {}):
        changes["metadata"] = metadata
    if speaker is not None and row.speaker_id != speaker:
        changes["speaker"] = speaker
    return changes
