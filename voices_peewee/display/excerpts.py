"""Excerpts for a listening test: one place of several sounds, faded, equally loud, as FLAC."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import mul, sub
from typing import Any, Final

from voices_peewee.database.sqlite import is_open_here
from voices_peewee.errors import AudioError, MissingExtraError
from voices_peewee.records.audio_files import AudioInfo

try:
    import av
    from av.filter import Graph
except ImportError as error:
    raise MissingExtraError("a listening test", "audio") from error

SHORTEST: Final = 0.4  # s: of less there is no loudness (ITU-R BS.1770)
_LOUDNESS: Final = -23.0  # LUFS
_PEAK: Final = -1.0  # dB, the true peak that is left
_SILENT: Final = -70.0  # LUFS, what the filter says of silence
_FADE: Final = 0.005  # s: a loop does not click
_COARSE: Final = 8_000  # Hz, enough to see where something is said
_STEP: Final = _COARSE // 10


def excerpts(
    sounds: Sequence[AudioInfo], focus: Sequence[AudioInfo], seconds: float
) -> list[bytes]:
    """Return the same part of sounds, where those in focus have the most energy, equally loud.

    They are attenuated or raised to -23 LUFS, or to what keeps the true peaks of all below
    -1 dB; nothing is limited.

    Raises:
        AudioError: One cannot be read, is too short, or is silent there.
    """
    length = min(sound.duration or 0.0 for sound in sounds)
    if length < SHORTEST:
        raise AudioError(sounds[0].path, f"it is shorter than {SHORTEST} s, or another with it is")
    seconds = min(seconds, length)
    start = min(_busiest([sound.path for sound in focus], seconds), length - seconds)
    part = [("atrim", f"start={start}:duration={seconds}"), ("asetpts", "PTS-STARTPTS")]
    known = [_loudness(sound.path, part) for sound in sounds]
    target = min([_LOUDNESS, *(loud - peak + _PEAK for loud, peak in known)])
    return [
        _flac(sound.path, part, seconds, target - loud)
        for sound, (loud, _) in zip(sounds, known, strict=True)
    ]


def _filtered(path: str, steps: Sequence[tuple[str, str]]) -> Iterator[Any]:
    """Yield the frames of a sound behind filters."""
    if is_open_here(path):
        raise AudioError(path, "it is a database that this program has open")
    try:
        with av.open(path) as source:
            graph, sound = Graph(), source.streams.audio[0]
            nodes = [graph.add_abuffer(template=sound), *(graph.add(*step) for step in steps)]
            graph.link_nodes(*nodes, graph.add("abuffersink")).configure()
            for frame in (*source.decode(sound), None):
                try:
                    graph.push(frame)
                    while True:
                        yield graph.pull()
                except av.error.BlockingIOError:
                    continue
                except av.error.EOFError:
                    return
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise AudioError(path, "it cannot be decoded") from error


def _busiest(paths: Sequence[str], seconds: float) -> float:
    """Return where so many seconds of sounds begin that have the most energy together (s)."""
    steps = [("aresample", str(_COARSE)), ("aformat", "sample_fmts=s16:channel_layouts=mono")]
    energies: list[float] = []
    for path in paths:
        samples = memoryview(
            b"".join(bytes(f.planes[0])[: 2 * f.samples] for f in _filtered(path, steps))
        ).cast("h")
        parts = [samples[k : k + _STEP] for k in range(0, len(samples), _STEP)]
        own = [float(sum(map(mul, part, part))) for part in parts]
        energies = [x + y for x, y in zip(energies, own, strict=False)] if energies else own
    width = max(1, round(seconds * _COARSE / _STEP))
    sums = [0.0, *accumulate(energies)]
    windows = list(map(sub, sums[width:], sums)) or [0.0]
    return windows.index(max(windows)) * _STEP / _COARSE


def _loudness(path: str, part: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Return the integrated loudness (LUFS) and the true peak (dB) of a part."""
    heard: dict[str, str] = {}
    # Of each tenth of a second the filter says what it knows so far; silence follows to the last.
    for frame in _filtered(
        path, [*part, ("apad", "pad_dur=0.1"), ("ebur128", "metadata=1:peak=true")]
    ):
        heard |= frame.metadata
    loud = float(heard.get("lavfi.r128.I", _SILENT))
    if loud <= _SILENT:
        raise AudioError(path, "it is silent where the others are heard")
    return loud, 20 * math.log10(float(heard["lavfi.r128.true_peak"]))


def _flac(path: str, part: Sequence[tuple[str, str]], seconds: float, gain: float) -> bytes:
    fades = [("afade", f"t=in:d={_FADE}"), ("afade", f"t=out:st={seconds - _FADE}:d={_FADE}")]
    form = "sample_fmts=s16:channel_layouts=mono|stereo"
    steps = [*part, *fades, ("volume", f"{gain}dB"), ("aformat", form)]
    out, stream = io.BytesIO(), None
    with av.open(out, "w", format="flac") as target:
        for frame in _filtered(path, steps):
            if stream is None:
                stream = target.add_stream("flac", rate=frame.rate, layout=frame.layout.name)
            frame.pts = None
            target.mux(stream.encode(frame))
        if stream is not None:
            target.mux(stream.encode(None))
    return out.getvalue()
