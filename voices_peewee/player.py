"""Listening in a notebook: a recording and the stems that were made from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import peewee as pw

from voices_peewee import html_text
from voices_peewee.errors import AudioError, MissingExtraError
from voices_peewee.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker

# What browsers play, by suffix; for anything else they show a dead control.
_PLAYED: Final = {
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".mp4": "audio/mp4",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".weba": "audio/webm",
    ".webm": "audio/webm",
}
# A player holds its file inside the notebook, a third larger.
_LARGEST: Final = 20_000_000


@dataclass(frozen=True)
class Sound:
    """One file to listen to; ``audio`` is IPython's player; None where ``note`` says why."""

    label: str
    path: str
    audio: Any
    note: str

    def _repr_html_(self) -> str:
        body = html_text.sentences(self.note) if self.audio is None else self.audio._repr_html_()
        place = f"<div>{html_text.shown(self.path, room=100)}</div>"
        return html_text.block(f"<strong>{html_text.shown(self.label)}</strong>", place, body)


class Player(tuple[Sound, ...]):
    """The recording and its stems, as notebooks show them."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return html_text.block(*(sound._repr_html_() for sound in self))


def player(file: ProcessedFile) -> Player:
    """Return players for a recording and the latest stems at each path.

    Raises:
        MissingExtraError: IPython is not installed.
        AudioError: Neither the recording nor a stem of it is there.
    """
    display = _load_display()
    places = {} if file.original_path is None else {file.original_path: "recording"}
    places |= {path: label for path, label in _stems(file) if path not in places}
    sounds = Player(_sound(display, label, path) for path, label in places.items())
    if not any(Path(sound.path).is_file() for sound in sounds):
        name = file.original_path or file.filename
        raise AudioError(name, "neither the recording nor a stem of it is there")
    return sounds


def _load_display() -> Any:
    try:
        from IPython import display
    except ImportError as error:
        raise MissingExtraError("playing audio", "notebook") from error
    return display


def _stems(file: ProcessedFile) -> Iterator[tuple[str, str]]:
    """Yield the path of each output with what is known of it, the latest run's."""
    run, measured = ProcessingHistory, ModelPerformance
    if file.original_path is None:
        is_same = ProcessedFile.id == file.id
    else:
        is_same = ProcessedFile.original_path == file.original_path
    columns = (Speaker.name, run.model_type, run.model_version, measured.si_snri, measured.sdri)
    query = ProcessedFile.select(ProcessedFile.processed_path, *columns)
    for model in (Speaker, run):
        query = query.join_from(ProcessedFile, model, pw.JOIN.LEFT_OUTER)
    query = query.join_from(run, measured, pw.JOIN.LEFT_OUTER)
    query = query.where(is_same, ProcessedFile.processed_path.is_null(is_null=False))
    rows: Iterator[Any] = query.order_by(run.start_time, run.id).tuples().iterator()
    found = {path: _label(*facts) for path, *facts in rows}
    yield from sorted(found.items(), key=lambda item: item[1])


def _label(
    speaker: str | None,
    model: str | None,
    version: str | None,
    si_snri: float | None,
    sdri: float | None,
) -> str:
    parts = [speaker or "stem", ":".join(part for part in (model, version) if part)]
    parts += [f"SI-SNRi {si_snri:.2f} dB" if si_snri is not None else ""]
    parts += [f"SDRi {sdri:.2f} dB" if sdri is not None else ""]
    return " · ".join(part for part in parts if part)


def _sound(display: Any, label: str, path: str) -> Sound:
    note, kind = "", _PLAYED.get(Path(path).suffix.lower())
    try:
        size = os.stat(path).st_size if Path(path).is_file() else None  # noqa: PTH116
        if size is None:
            note = "there is no such file"
        elif kind is None:
            note = "browsers do not play this format"
        elif size > _LARGEST:
            note = f"the file is too large to be put into a notebook ({size / 1e6:.0f} MB)"
        else:
            audio = display.Audio(data=Path(path).read_bytes())
            audio.mimetype = kind
            return Sound(label, path, audio, "")
    except (OSError, ValueError) as error:
        note = f"the file cannot be read ({getattr(error, 'strerror', None) or error})"
    return Sound(label, path, None, note)
