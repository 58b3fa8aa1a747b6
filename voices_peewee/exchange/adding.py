"""The recordings of a manifest into the record, with their references and speakers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import AmbiguousNameError
from voices_peewee.exchange.export import Progress
from voices_peewee.exchange.manifests import Entry, read_manifest
from voices_peewee.records.audio_files import changed_facts, regular_file
from voices_peewee.records.recordings import Told, Wishes, commit, moved
from voices_peewee.records.roots import PathMap, Roots
from voices_peewee.records.sources import recordings_by_path
from voices_peewee.schema.models import ProcessedFile, Speaker

_BATCH: Final = 500


@dataclass
class AddedManifest:
    """What became of a manifest's recordings, and of its speakers.

    ``absent`` counts recordings whose file is not there: of them the manifest alone is known;
    ``moved`` those that are recorded under a path where they are not any more, which stays.
    """

    format: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    moved: int = 0
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
    known = recordings_by_path(store, (entry.path for entry in entries))
    facts = {one.path: changed_facts(one.path, known.get(one.path)) for one in entries}
    known |= moved(store, {path: facts[path] for path in facts.keys() - known.keys()})
    told = {one.path: _told(one, known.get(one.path), facts[one.path], speakers) for one in entries}
    done.absent += sum("://" not in path and regular_file(path) is None for path in told)
    for result in commit(store, told):
        setattr(done, result.outcome, getattr(done, result.outcome) + 1)


def _told(
    entry: Entry, row: ProcessedFile | None, facts: dict[str, Any], speakers: Mapping[str, int]
) -> Told:
    """Return what a row lacks or has otherwise; what the file says goes before the manifest."""
    ours = row.__data__ if row else {}
    told = entry.facts.items()
    lacks = {name: one for name, one in told if facts.get(name, ours.get(name)) is None}
    metadata, known = dict(entry.metadata), ours.get("metadata")
    if isinstance(known, dict) and known.get("id"):
        metadata["id"] = known["id"]  # another manifest's stays
    speaker = None if entry.speaker is None else speakers[entry.speaker]
    return {**facts, **lacks}, Wishes(speaker, metadata)


def speakers_named(store: Store, names: Iterable[str]) -> dict[str, int]:
    """Return the ids of speakers, inside a transaction; those that are not there are added.

    Raises:
        AmbiguousNameError: Several have one of the names.
    """
    store.engine.lock("speakers")
    speakers: dict[str, int] = {}
    for name in sorted(names):
        found = store.query(Speaker).filter_by(name=name).all() or [Speaker(name=name)]
        if len(found) > 1:
            raise AmbiguousNameError("speaker", name, [one.id for one in found])
        speakers[name] = found[0].id or store.insert(found[0]).id
    return speakers
