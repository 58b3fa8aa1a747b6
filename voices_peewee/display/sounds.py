"""Sounds for a page: what browsers play, and a file's sound as bytes."""

from __future__ import annotations

import io
from base64 import b64encode
from pathlib import Path
from typing import Final

# What browsers play, by suffix; for anything else they show a dead control.
PLAYED: Final = {
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".webm": "audio/webm",
}
NOT_HERE: Final = "there is no such file here"
NOT_PLAYED: Final = "browsers do not play this format"


def data_uri(kind: str, data: bytes) -> str:
    """Return bytes as an address that holds them."""
    return f"data:{kind};base64,{b64encode(data).decode()}"


def as_flac(path: Path) -> bytes | None:
    """Return a file's sound as FLAC, or None without PyAV and where it is no audio."""
    try:
        import av
    except ImportError:
        return None
    out = io.BytesIO()  # can be sought in: a FLAC that is written into a pipe has no length
    try:
        with av.open(str(path)) as source, av.open(out, "w", format="flac") as target:
            sound = source.streams.audio[0]
            stream = target.add_stream("flac", rate=sound.rate, layout=sound.layout.name)
            for frame in source.decode(sound):
                frame.pts = None
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
    except (av.error.FFmpegError, IndexError, ValueError):
        return None
    return out.getvalue()
