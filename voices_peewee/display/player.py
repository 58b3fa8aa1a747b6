"""Listening in a notebook: a recording and the stems that were made from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import peewee as pw

from voices_peewee.database.sqlite import is_open_here
from voices_peewee.database.store import FileKey, Store
from voices_peewee.display.sounds import NOT_HERE, NOT_PLAYED, PLAYED, data_uri
from voices_peewee.errors import AudioError
from voices_peewee.rendering.table import html_lines
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker

_ROOM: Final = 30_000_000  # bytes of sound that a notebook takes, all together


@dataclass(frozen=True)
class Sound:
    """One file to listen to: its bytes, or in ``note`` why they are left out."""

    label: str
    path: str
    data: bytes = b""
    note: str = ""

    def _repr_html_(self) -> str:
        above = f"<strong>{html_lines(self.label)}</strong>{html_lines(self.path)}"
        if self.note:
            return above + html_lines(self.note)
        source = data_uri(PLAYED[Path(self.path).suffix.lower()], self.data)
        return f'{above}<audio controls src="{source}"></audio>'


class Player(tuple[Sound, ...]):
    """The recording and its stems, as notebooks show them."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return "".join(f"<div>{sound._repr_html_()}</div>" for sound in self)


def player(store: Store, key: FileKey) -> Player:
    """Return players as ``DatabaseManager.player`` does."""
    file = store.file(key)
    with store.reading():
        labels = dict(_labels(file.recording_id or file.id))
    if not any(map(os.path.isfile, labels)):
        place = file.original_path or file.filename
        raise AudioError(os.fsdecode(place), "neither the recording nor a stem of it is there")
    sounds: list[Sound] = []
    for path, label in labels.items():
        room = _ROOM - sum(len(sound.data) for sound in sounds)
        sounds.append(_sound(label, path, room))
    return Player(sounds)


def _labels(recording_id: int) -> Iterator[tuple[str, str]]:
    """Yield the recording's path and those of its stems, with what the latest run says of each."""
    file, run, measured = ProcessedFile, ProcessingHistory, ModelPerformance
    facts = (Speaker.name, run.model_type, run.model_version, measured.si_snri, measured.sdri)
    query = file.select(file.original_path, file.processed_path, file.recording_id, *facts)
    for model in (Speaker, run):
        query = query.join_from(file, model, pw.JOIN.LEFT_OUTER)
    query = query.join_from(run, measured, pw.JOIN.LEFT_OUTER)
    query = query.where((file.id == recording_id) | (file.recording_id == recording_id))
    query = query.order_by(file.id != recording_id, file.id, run.start_time, run.id)
    for original, output, owner, *known in query.tuples().iterator():
        if original is not None and owner is None:
            yield os.fsdecode(original), "recording"
        if output is not None and output != original:
            yield os.fsdecode(output), _label(*known)


def _label(speaker: Any, model: Any, version: Any, si_snri: Any, sdri: Any) -> str:
    parts = [str(speaker or "stem"), ":".join(str(part) for part in (model, version) if part)]
    for name, value in (("SI-SNRi", si_snri), ("SDRi", sdri)):
        parts += [f"{name} {value:.2f} dB" if isinstance(value, int | float) else ""]
    return " · ".join(part for part in parts if part)


def _sound(label: str, path: str, room: int) -> Sound:
    try:
        # A Path raises where a name is too long; the open database is no sound.
        if not os.path.isfile(path) or is_open_here(path):  # noqa: PTH113
            return Sound(label, path, note=NOT_HERE)
        if Path(path).suffix.lower() not in PLAYED:
            return Sound(label, path, note=NOT_PLAYED)
        if (size := Path(path).stat().st_size) > room:
            note = f"left out: it would make the notebook {size / 1e6:.1f} MB larger"
            return Sound(label, path, note=note)
        return Sound(label, path, Path(path).read_bytes())
    except OSError as error:
        return Sound(label, path, note=f"the file cannot be read: {error.strerror}")
