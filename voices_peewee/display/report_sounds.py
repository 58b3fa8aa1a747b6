"""The recordings to listen to: the worst and the best of each model, with their players."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest, nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import peewee as pw

from voices_peewee.display.sounds import NOT_HERE, NOT_PLAYED, PLAYED, as_flac, data_uri
from voices_peewee.errors import ExportError
from voices_peewee.questions.selection import Metric, Runs, model_label
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker

if TYPE_CHECKING:
    from voices_peewee.database.store import Store
    from voices_peewee.questions.groups import Group

_WORST: Final = 2


@dataclass(frozen=True, slots=True)
class Sound:
    """One sound of a card: ``source`` is what a player plays, ``note`` why there is none.

    ``of`` is the model that made it, and empty for what models are given.
    """

    label: str
    path: str
    of: str = ""
    value: float | None = None
    source: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return Path(self.path).name


@dataclass(frozen=True, slots=True)
class Card:
    """A recording to listen to: why it is here, and its sounds."""

    name: str
    reasons: list[tuple[str, str, float]] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)

    @property
    def rows(self) -> dict[str, list[Sound]]:
        """The sounds by what made them, so that a speaker's stand below each other."""
        found: dict[str, list[Sound]] = {}
        for sound in self.sounds:
            found.setdefault(sound.of, []).append(sound)
        return found

    @property
    def size(self) -> int:
        """How much its players take in the page."""
        return sum(len(sound.source) for sound in self.sounds)


def cards(store: Store, groups: Sequence[Group], metric: Metric, runs: Runs) -> list[Card]:
    """Return the cards of the worst two and the best recording of each model, the worst first.

    A recording that is there for several models has one card, with the stems of all of them.
    """
    found: dict[int, list[tuple[str, str, float]]] = {}
    for key, recording, why, value in _extremes(groups, metric):
        found.setdefault(recording, []).append((key, why, value))
    sounds: dict[int, list[Sound]] = {}
    rows = [list(_stems(store, found, group.key, metric, runs)) for group in groups]
    for recording, sound in (one for stems in rows for one in stems):
        sounds.setdefault(recording, []).append(sound)
    files = {file.id: file for file in ProcessedFile.select().where(ProcessedFile.id << [*found])}
    return [
        Card(
            files[recording].filename,
            reasons,
            [*_inputs(files[recording]), *sounds.get(recording, ())],
        )
        for recording, reasons in found.items()
    ]


def _extremes(groups: Sequence[Group], metric: Metric) -> Iterator[tuple[str, int, str, float]]:
    """Yield the worst recording of each model, then the second worst, then the best."""
    worst, best = (nsmallest, nlargest) if metric.higher_is_better else (nlargest, nsmallest)
    pairs = [list(zip(group.values, group.recordings, strict=True)) for group in groups]
    ranked = [worst(_WORST, own) + best(1, own)[: len(own) > _WORST] for own in pairs]
    for place in range(_WORST + 1):
        for group, ends in zip(groups, ranked, strict=True):
            if place < len(ends):
                value, recording = ends[place]
                why = "best" if place == _WORST else "worst"
                yield model_label(*group.key), recording, why, value


def _stems(
    store: Store, recordings: Iterable[int], model: Any, metric: Metric, runs: Runs
) -> Iterator[tuple[int, Sound]]:
    """Yield the stems of a model's latest successful run of each recording."""
    run, file, measured = ProcessingHistory, ProcessedFile, ModelPerformance
    value = metric.value
    value = value.coerce(False) if isinstance(value, pw.Function) else value
    own = pw.fn.COALESCE(file.recording, file.id)
    columns = (own, run.run_id, file.processed_path, Speaker.name, value)
    query = run.select(*columns).join_from(run, file)
    query = query.join_from(file, Speaker, pw.JOIN.LEFT_OUTER)
    query = query.join_from(run, measured, pw.JOIN.LEFT_OUTER)
    keys = list(recordings)
    conditions = runs.conditions(store)
    for column, wanted in zip((run.model_type, run.model_version), model, strict=True):
        conditions.append(column.is_null() if wanted is None else column == wanted)
    query = query.where((file.id << keys) | (file.recording << keys), run.success, *conditions)
    query = query.order_by(run.start_time.desc(), run.run_id.desc(), run.id)
    latest: dict[int, str] = {}
    rows: Any = query.tuples()
    for recording, run_id, path, speaker, number in rows:
        if latest.setdefault(recording, run_id) == run_id and path is not None:
            known = float(number) if isinstance(number, int | float) else None
            label, of = speaker or "stem", model_label(*model)
            yield recording, Sound(label, os.fsdecode(path), of, known)


def _inputs(file: ProcessedFile) -> Iterator[Sound]:
    if file.original_path is not None:
        yield Sound("recording", os.fsdecode(file.original_path))
    known = file.metadata.get("references") if isinstance(file.metadata, dict) else None
    for speaker, path in known.items() if isinstance(known, dict) else ():
        if isinstance(path, str):
            yield Sound(f"reference · {speaker}", path)


def linked(found: Sequence[Card], folder: Path) -> list[Card]:
    """Return the cards with players of the files where they are, seen from a folder.

    Raises:
        ExportError: A file is on another drive than the folder.
    """
    return [
        replace(card, sounds=[_linked(sound, folder) for sound in card.sounds]) for card in found
    ]


def _linked(sound: Sound, folder: Path) -> Sound:
    if not Path(sound.path).is_file():
        return replace(sound, note=NOT_HERE)
    try:
        way = os.path.relpath(sound.path, folder)
    except ValueError as error:
        raise ExportError(folder, f"{sound.path!r} is on another drive; use --embed") from error
    return replace(sound, source=quote(os.fsencode(way.replace(os.sep, "/"))))


def embedded(found: Sequence[Card], room: int) -> tuple[list[Card], list[str]]:
    """Return the cards whose sounds have room, put into them, and the names of the others."""
    kept, left = [], []
    for card in found:
        whole = replace(card, sounds=[_embedded(sound) for sound in card.sounds])
        if whole.size <= room:
            room -= whole.size
            kept.append(whole)
        else:
            left.append(card.name)
    return kept, left


def _embedded(sound: Sound) -> Sound:
    path = Path(sound.path)
    try:
        if not path.is_file():
            return replace(sound, note=NOT_HERE)
        kind = PLAYED.get(path.suffix.lower())
        smaller = as_flac(path) if kind in (None, "audio/wav") else None
        if smaller is None and kind is None:
            return replace(sound, note=NOT_PLAYED)
        data, kind = (path.read_bytes(), kind) if smaller is None else (smaller, "audio/flac")
    except OSError as error:
        return replace(sound, note=f"the file cannot be read: {error.strerror}")
    return replace(sound, source=data_uri(str(kind), data))
