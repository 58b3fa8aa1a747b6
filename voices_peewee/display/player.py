"""Listening in a notebook: a recording and the stems that were made from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

from voices_peewee.database.store import FileKey, Store
from voices_peewee.display.sounds import Sound, embedded, made
from voices_peewee.errors import AudioError
from voices_peewee.rendering.table import html_lines
from voices_peewee.schema.models import ModelPerformance, ProcessedFile

_ROOM: Final = 40_000_000  # bytes that a notebook takes for all sounds together


class Player(tuple[Sound, ...]):
    """The recording and its stems, as notebooks show them."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return "".join(f"<div>{_html(sound)}</div>" for sound in self)


def _html(sound: Sound) -> str:
    above = f"<strong>{html_lines(sound.label)}</strong>{html_lines(sound.path)}"
    if sound.note:
        return above + html_lines(sound.note)
    return f'{above}<audio controls src="{sound.source}"></audio>'


def player(store: Store, key: FileKey) -> Player:
    """Return players as ``DatabaseManager.player`` does."""
    file = store.file(key)
    with store.reading():
        known = file.recording_id if isinstance(file.recording_id, int) else file.id
        recording = store.get(ProcessedFile, known) or file
        labels = dict(_labels(recording))
    if not any(map(os.path.isfile, labels)):
        place = file.original_path or file.filename
        raise AudioError(place, "neither the recording nor a stem of it is there")
    sounds, room = [], _ROOM
    for path, label in labels.items():
        sounds.append(embedded(Sound(label, path), room))
        room -= len(sounds[-1].source)
    return Player(sounds)


def _labels(recording: ProcessedFile) -> Iterator[tuple[str, str]]:
    """Yield the paths of a recording and its stems, with what the latest run says of each."""
    known: dict[str, str] = {}
    if recording.original_path is not None:
        known[recording.original_path] = "recording"
    numbers = (ModelPerformance.si_snri, ModelPerformance.sdri)
    for *_, model, version, speaker, path, si_snri, sdri in made([recording.id], numbers):
        if path is not None:
            known.setdefault(path, _label(speaker, model, version, si_snri, sdri))
    yield from known.items()


def _label(speaker: Any, model: Any, version: Any, si_snri: Any, sdri: Any) -> str:
    parts = [str(speaker or "stem"), ":".join(str(part) for part in (model, version) if part)]
    for name, value in (("SI-SNRi", si_snri), ("SDRi", sdri)):
        parts += [f"{name} {value:.2f} dB" if isinstance(value, int | float) else ""]
    return " · ".join(part for part in parts if part)
