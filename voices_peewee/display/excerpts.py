"""Excerpts for a listening test: one place of several sounds, faded, equally loud."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import mul, sub
from typing import Any, Final, NamedTuple

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
_SLOW: Final = 2_000  # Hz, enough to see by how much one sound is behind another
_FARTHEST: Final = _SLOW // 20
_ALIKE: Final = 0.5  # the correlation of two sounds of which one may be behind the other
CODECS: Final = {"flac": ("flac", "flac", 0), "opus": ("ogg", "libopus", 96_000)}


class Part(NamedTuple):
    """A part of a sound: where it begins and how long it is (s)."""

    start: float
    seconds: float

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The filters that cut it out."""
        return [
            ("atrim", f"start={self.start}:duration={self.seconds}"),
            ("asetpts", "PTS-STARTPTS"),
        ]


def busiest(sounds: Sequence[AudioInfo], focus: Sequence[AudioInfo], seconds: float) -> Part:
    """Return the part of sounds where those in focus have the most energy together."""
    length = min(sound.duration or 0.0 for sound in sounds)
    if length < SHORTEST:
        said = f"it is shorter than {SHORTEST} s, or another with it is"
        raise AudioError(sounds[0].original_path, said)
    seconds = min(seconds, length)
    energies = map(sum, zip(*(_energies(sound.original_path) for sound in focus), strict=False))
    width = max(1, round(seconds * _COARSE / _STEP))
    sums = [0, *accumulate(energies)]
    windows = list(map(sub, sums[width:], sums)) or [0]
    start = windows.index(max(windows)) * _STEP / _COARSE
    return Part(max(0.0, min(start, length - seconds)), seconds)


def _energies(path: str) -> list[int]:
    samples = _samples(path, _COARSE)
    parts = (samples[k : k + _STEP] for k in range(0, len(samples), _STEP))
    return [sum(map(mul, part, part)) for part in parts]


def lag(a: AudioInfo, b: AudioInfo, part: Part) -> float:
    """Return by how much B is behind A (ms), by cross-correlation; 0 where that is not clear."""
    x, y = (_samples(sound.original_path, _SLOW, part).tolist() for sound in (a, b))
    energy = math.sqrt(sum(map(mul, x, x)) * sum(map(mul, y, y)))
    found = {
        place: sum(map(mul, x[max(0, -place) :], y[max(0, place) :]))
        for place in sorted(range(-_FARTHEST, _FARTHEST + 1), key=abs)
    }
    best = max(found, key=found.__getitem__)
    return 1000 * best / _SLOW if found[best] > _ALIKE * energy else 0.0


def excerpts(
    sounds: Sequence[AudioInfo], part: Part, quieter: Sequence[float], codec: str = "flac"
) -> list[bytes]:
    """Return a part of sounds, equally loud.

    They are attenuated or raised to -23 LUFS, or to what keeps the true peaks of all below
    -1 dB; nothing is limited. Each is ``quieter`` than that by some dB, inaudibly: no two are
    the same bytes.
    """
    known = [_loudness(sound.original_path, part) for sound in sounds]
    target = min([_LOUDNESS, *(loud - peak + _PEAK for loud, peak in known)])
    return [
        _encoded(sound.original_path, part, target - loud - less, codec)
        for sound, (loud, _), less in zip(sounds, known, quieter, strict=True)
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


def _samples(path: str, rate: int, part: Part | None = None) -> memoryview:
    """Return a sound, or a part of it, as samples of 16 bits in one channel."""
    steps = [("aresample", str(rate)), ("aformat", "sample_fmts=s16:channel_layouts=mono")]
    frames = _filtered(path, [*(part.steps if part else ()), *steps])
    return memoryview(b"".join(bytes(f.planes[0])[: 2 * f.samples] for f in frames)).cast("h")


def _loudness(path: str, part: Part) -> tuple[float, float]:
    """Return the integrated loudness (LUFS) and the true peak (dB) of a part."""
    heard: dict[str, str] = {}
    # Of each tenth of a second the filter says what it knows so far; silence follows to the last.
    for frame in _filtered(
        path, [*part.steps, ("apad", "pad_dur=0.1"), ("ebur128", "metadata=1:peak=true")]
    ):
        heard |= frame.metadata
    loud = float(heard.get("lavfi.r128.I", _SILENT))
    if loud <= _SILENT:
        raise AudioError(path, "it is silent where the others are heard")
    return loud, 20 * math.log10(float(heard["lavfi.r128.true_peak"]))


def _encoded(path: str, part: Part, gain: float, codec: str) -> bytes:
    end = part.seconds - _FADE
    fades = [("afade", f"t=in:d={_FADE}"), ("afade", f"t=out:st={end}:d={_FADE}")]
    form = "sample_fmts=s16:channel_layouts=mono|stereo"
    container, encoder, rate = CODECS[codec]
    form += ":sample_rates=48000" if rate else ""  # the one that Opus and its decoders have
    steps = [*part.steps, *fades, ("volume", f"{gain}dB"), ("aformat", form)]
    out = io.BytesIO()
    stream: Any = None
    with av.open(out, "w", format=container) as target:
        for frame in _filtered(path, steps):
            if stream is None:
                stream = target.add_stream(encoder, rate=frame.rate, layout=frame.layout.name)
                stream.bit_rate = rate
            frame.pts = None
            target.mux(stream.encode(frame))
        if stream is not None:
            target.mux(stream.encode(None))
    return out.getvalue()
