"""Sounds as bytes for a page, by PyAV (the extra ``audio``)."""

from __future__ import annotations

import io
from pathlib import Path


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
