"""Listening in a notebook: a recording and the stems that were made from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import peewee as pw

from voices_peewee.errors import AudioError, MissingExtraError
from voices_peewee.rendering import html as html_text
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker

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
# Players hold their files inside the notebook: so many bytes at most, all together.
_ROOM: Final = 30_000_000


@dataclass(frozen=True)
class Sound:
    """One file to listen to; ``audio`` is IPython's player; None where ``note`` says why."""

    label: str
    path: str
    audio: Any
    note: str

    def _repr_html_(self) -> str:
        body = html_text.sentences(self.note) if self.audio is None else self.audio._repr_html_()
        place = f"<div>{html_text.link(self.path, _address(self.path))}</div>"
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
    original = None if file.original_path is None else os.fsdecode(file.original_path)
    places = {} if original is None else {original: "recording"}
    places |= {path: label for path, label in _stems(file) if path != original}
    sounds, room = [], _ROOM
    for path, label in places.items():
        sound, used = _sound(display, label, path, room)
        sounds.append(sound)
        room -= used
    if not any(Path(path).is_file() for path in places):
        raise AudioError(
            original or file.filename, "neither the recording nor a stem of it is there"
        )
    return Player(sounds)


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


def _sound(display: Any, label: str, path: str, room: int) -> tuple[Sound, int]:
    """Return what is to be heard or said of a file, and how many bytes that takes."""
    try:
        note = _refusal(Path(path), room)
        if not note:
            data = Path(path).read_bytes()
            audio = display.Audio(data=data)
            audio.mimetype = _PLAYED[Path(path).suffix.lower()]
            return Sound(label, path, audio, ""), len(data)
    except OSError as error:
        note = f"the file cannot be read: {error.strerror}"
    return Sound(label, path, None, note), 0


def _refusal(path: Path, room: int) -> str:
    if not path.is_file():
        return "there is no such file here"
    if path.suffix.lower() not in _PLAYED:
        return "browsers do not play this format"
    if (size := path.stat().st_size) > room:
        return f"left out: it would make the notebook {size / 1e6:.1f} MB larger"
    return ""


def _address(path: str) -> str | None:
    """Return where a link to a file leads; None where it could lead anywhere."""
    if path.startswith(("http://", "https://")):
        return path
    return Path(path).as_uri() if path.startswith("/") and "\0" not in path else None
