"""Sounds for a page: what runs made of recordings, and files as bytes that browsers play."""

from __future__ import annotations

import io
import os
from base64 import b64encode
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import peewee as pw

from voices_peewee.database.sqlite import is_open_here
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker

# What browsers play, by suffix; for anything else they show a dead control.
_PLAYED: Final = {
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".webm": "audio/webm",
}
# FFmpeg's samples of at most 16 bits, and what in a WAV has more than the 24 of a FLAC.
_NARROW: Final = frozenset(["u8", "u8p", "s16", "s16p"])
_WIDER: Final = ("pcm_s32", "pcm_s64", "pcm_f")
NOT_HERE: Final = "there is no such file here"
NO_ROOM: Final = "left out, since there is no room for it"


@dataclass(frozen=True, slots=True)
class Sound:
    """One sound to listen to: ``source`` is what a player plays, ``note`` why there is none.

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


def made(recordings: Collection[int], numbers: Iterable[Any], *conditions: Any) -> Any:
    """Return what was made of recordings, by the newest runs first.

    A row is the recording, the run, its model and version, the speaker, the stem's path, and
    the numbers that were asked for.
    """
    file, run, left = ProcessedFile, ProcessingHistory, pw.JOIN.LEFT_OUTER
    own = pw.fn.COALESCE(file.recording, file.id)
    of_run = (run.run_id, run.model_type, run.model_version)
    query = file.select(own, *of_run, Speaker.name, file.processed_path, *numbers)
    query = query.join_from(file, Speaker, left).join_from(file, run, left)
    query = query.join_from(run, ModelPerformance, left)
    keys = list(recordings)
    query = query.where((file.id << keys) | (file.recording << keys), *conditions)
    return query.order_by(run.start_time.desc(), run.id).tuples()


def embedded(sound: Sound, room: int) -> Sound:
    """Return a sound with its file in it, as FLAC where that is smaller, or why it is not."""
    try:
        # A Path raises where a name is too long; the open database is no sound.
        if not os.path.isfile(sound.path) or is_open_here(sound.path):
            return replace(sound, note=NOT_HERE)
        path = Path(sound.path)
        if path.stat().st_size > room:
            return replace(sound, note=NO_ROOM)
        kind = _PLAYED.get(path.suffix.lower())
        if kind is None:
            return replace(sound, note="browsers do not play this format")
        flac = _as_flac(path) if kind == "audio/wav" else None
        data, kind = (path.read_bytes(), kind) if flac is None else (flac, "audio/flac")
    except OSError as error:
        return replace(sound, note=f"the file cannot be read: {error.strerror}")
    source = f"data:{kind};base64,{b64encode(data).decode()}"
    if len(source) > room:
        return replace(sound, note=NO_ROOM)
    return replace(sound, source=source)


def _as_flac(path: Path) -> bytes | None:
    """Return a file's sound as FLAC; None without PyAV, and where it has more than 24 bits."""
    try:
        import av
    except ImportError:
        return None
    out = io.BytesIO()  # can be sought in: a FLAC that is written into a pipe has no length
    try:
        with av.open(str(path)) as source, av.open(out, "w", format="flac") as target:
            sound = source.streams.audio[0]
            if sound.codec_context.name.startswith(_WIDER):
                return None
            stream = target.add_stream("flac", rate=sound.rate, layout=sound.layout.name)
            is_narrow = sound.format.name in _NARROW
            stream.format = av.AudioFormat("s16" if is_narrow else "s32")  # which is 24 bits
            for frame in source.decode(sound):
                frame.pts = None
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
    except (av.error.FFmpegError, IndexError, ValueError):
        return None
    return out.getvalue()
