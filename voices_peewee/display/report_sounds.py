"""The recordings to listen to: the worst and the best of each model, with their players."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest, nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import peewee as pw

from voices_peewee.display.sounds import NO_ROOM, NOT_HERE, Sound, embedded, made
from voices_peewee.errors import ExportError
from voices_peewee.questions.selection import Metric, Runs, model_label
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

if TYPE_CHECKING:
    from voices_peewee.database.store import Store
    from voices_peewee.questions.groups import Group

_WORST: Final = 2


@dataclass(frozen=True, slots=True)
class Card:
    """A recording to listen to: why it is here, and its sounds."""

    name: str
    reasons: list[tuple[str, str, float]]
    sounds: list[Sound]


def cards(store: Store, groups: Sequence[Group], metric: Metric, runs: Runs) -> list[Card]:
    """Return the cards of the worst two and the best recording of each model, the worst first.

    A recording that is there for several models has one card, with the stems of all of them.
    """
    reasons: dict[int, list[tuple[str, str, float]]] = {}
    for key, recording, why, value in _extremes(groups, metric):
        reasons.setdefault(recording, []).append((key, why, value))
    files = {file.id: file for file in ProcessedFile.select().where(ProcessedFile.id << [*reasons])}
    found = {
        key: Card(files[key].filename, own, [*_inputs(files[key])]) for key, own in reasons.items()
    }
    models = {model_label(*group.key) for group in groups}
    for recording, sound in _stems(store, found, metric, runs):
        if sound.of in models:
            found[recording].sounds.append(sound)
    return [*found.values()]


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
    store: Store, recordings: Collection[int], metric: Metric, runs: Runs
) -> Iterator[tuple[int, Sound]]:
    """Yield the stems of each model's latest successful run of each recording."""
    run, value = ProcessingHistory, metric.value
    value = value.coerce(False) if isinstance(value, pw.Function) else value
    conditions = [run.success, *runs.conditions(store)]
    latest: dict[tuple[Any, ...], str] = {}
    for recording, run_id, *model, speaker, path, number in made(recordings, [value], *conditions):
        if latest.setdefault((recording, *model), run_id) == run_id and path is not None:
            known = float(number) if isinstance(number, int | float) else None
            yield recording, Sound(speaker or "stem", path, model_label(*model), known)


def _inputs(file: ProcessedFile) -> Iterator[Sound]:
    if file.original_path is not None:
        yield Sound("recording", file.original_path)
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


def put_in(found: Sequence[Card], room: int) -> tuple[list[Card], list[str]]:
    """Return the cards whose sounds have room, put into them, and the names of the others."""
    kept, left = [], []
    for card in found:
        sounds, size = [], 0
        for sound in card.sounds:
            sounds.append(embedded(sound, room - size))
            size += len(sounds[-1].source)
        if any(sound.note == NO_ROOM for sound in sounds):
            left.append(card.name)
        else:
            kept.append(replace(card, sounds=sounds))
            room -= size
    return kept, left
