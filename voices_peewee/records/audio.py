"""What a recording holds: format, duration, sample rate and channels.

Files come from strangers. Nothing here follows a playlist to another file or believes a number
that no recording can have; each refusal is an ``AudioError`` of one sentence.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from functools import cache, partial
from io import FileIO
from types import ModuleType
from typing import TYPE_CHECKING, Final

from voices_peewee.errors import AudioError, MissingExtraError

if TYPE_CHECKING:
    from av import AudioCodecContext, AudioStream, VideoStream
    from av.container import InputContainer

AnyPath = str | os.PathLike[str]

_BLOCK: Final = 1 << 16
_BLOCK_OF_ADPCM: Final = 0.3  # s at most
_MAX_RATE: Final = 10_000_000
_MAX_CHANNELS: Final = 1024
_MICROSECONDS: Final = 1_000_000
_YEAR: Final = 366 * 86_400
_UNKNOWN: Final = 0xFFFFFFFF
_OPTIONS: Final = {
    "protocol_whitelist": "none",  # a playlist leads nowhere
    "max_probe_packets": "1",  # FFmpeg's 2,500 look for DTS in each WAV and take 6 ms a file
}
_NOT_AUDIO: Final = "it is not audio, or its header is damaged"
_SEVERAL: Final = "it is a chain of streams of several kinds; each needs a file of its own"
# The page of an Ogg that a stream begins with: codec, and what of rate and channels it has.
_BEGIN: Final = (
    rb"(?s)OggS\0\x02.{20}\x01."
    rb"(?:\x01(vorbis).{4}(.{5})|(OpusHead)|(Speex) {3}.{28}(.{4})|\x7f(FLAC).{22}(.{3}))"
)
_LONGEST_BEGIN: Final = 70
_MP4: Final = "mov,mp4,m4a,3gp,3g2,mj2"
# FFmpeg's demuxers whose headers state a length; for the others FFmpeg would estimate one.
_STATED: Final = frozenset(
    [
        *(_MP4, "matroska,webm"),
        *("aiff", "asf", "au", "avi", "caf", "flac", "ogg", "tta", "w64", "wav", "wv"),
    ]
)
# Those whose stated length is often another than that of their sound: cut short, chained, or
# begun late. Their packets tell, but for what decoders skip at either end (s).
_WALKED: Final = frozenset({"asf", "flac", "matroska,webm", "ogg", "wav"})
_SKIPPED: Final = 0.1
# Those of which FFmpeg takes the size of the file, or of full blocks, for the length.
_DECODED: Final = frozenset({"avi", "caf", "w64"})
_OPUS_RATE: Final = 48_000
# Demuxers whose packets are frames of a known length, so that counting packets is enough.
_FRAMED: Final = frozenset({"aac", "ac3", "eac3", "mp3"})
_TAGS: Final = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"iXML")  # in WAVs, behind samples
# What people call a demuxer's content: audio alone, audio with video.
_FORMATS: Final = {
    "amrnb": ("amr", "amr"),
    "amrwb": ("amr", "amr"),
    "asf": ("wma", "wmv"),
    _MP4: ("m4a", "mp4"),
    "mpegts": ("ts", "ts"),
}


class _Bytes:
    """Give FFmpeg the bytes of an open file but not its name, so that no suffix sways it.

    It calls C alone: PyAV loses an interrupt that strikes a Python function here, and FFmpeg takes
    it for the end of the file. Zeros behind a WAV are chunks without a name to it, of eight bytes
    each: where it cannot seek, it looks for none behind the samples.
    """

    def __init__(self, file: FileIO) -> None:
        self.read, self.tell = file.read, file.tell
        if not 0 < _end_of_samples(file) < os.fstat(file.fileno()).st_size:
            self.seek = partial(_lseek(), file.fileno())


@cache
def _lseek() -> Callable[[int, int, int], int]:
    """Return the system's own seek: it raises nothing where a damaged header points nowhere."""
    import ctypes  # late: only where a file is probed

    if os.name != "posix":
        return os.lseek
    libc = ctypes.CDLL(None)
    lseek = getattr(libc, "lseek64", libc.lseek)
    lseek.argtypes, lseek.restype = (ctypes.c_int, ctypes.c_int64, ctypes.c_int), ctypes.c_int64
    return lseek


def read_facts(path: AnyPath, file: FileIO, *, exact: bool) -> tuple[str, float, int, int]:
    """Return format, duration (s), sample rate (Hz) and channels."""
    try:
        import av
    except ImportError as error:
        if (facts := _wave_facts(file)) is not None:
            return facts
        raise MissingExtraError("reading audio files", "audio") from error
    try:
        return _facts(av, path, file, exact=exact)
    except (av.FFmpegError, ValueError, OverflowError, MemoryError, OSError) as error:
        raise AudioError(path, _NOT_AUDIO) from error


def _facts(
    av: ModuleType, path: AnyPath, file: FileIO, *, exact: bool
) -> tuple[str, float, int, int]:
    with _container(av, file) as container:
        stream = _audio_stream(path, container)
        rate, channels = _checked_header(path, stream)
        name = _format_name(container, stream, file)
        stated = _stated_duration(container, stream)
        is_one = len(container.streams.audio) == 1  # tracks side by side may differ
        if container.format.name == "ogg" and is_one and _is_of_several_kinds(file):
            raise AudioError(path, _SEVERAL)
        # Bytes make the length of PCM; of an RF64 without its lengths FFmpeg decodes nothing.
        is_pcm = name in {"wav", "au"} and stream.codec_context.name.startswith("pcm_")
        is_counted = exact and not is_pcm
        seconds = None
        with suppress(av.FFmpegError):  # where it cannot be read on: what there is counts
            seconds = None if is_counted else _quick_duration(container, stream, file, stated)
        bit_rate, is_mp4 = stream.codec_context.bit_rate, container.format.name == _MP4
    if seconds is None:
        with _container(av, file) as container:
            seconds = _decoded_duration(path, container)
        if stated is not None and is_mp4:
            seconds = min(seconds, stated)  # decoders keep the padding, the header does not
    if name == "wav" and (rest := _bytes_behind(file)) and bit_rate:
        seconds = max(0.0, seconds - rest * 8 / bit_rate)
    if name == "wav" and not is_pcm and (told := _samples_told(file)):
        is_padding = told / rate < seconds < told / rate + _BLOCK_OF_ADPCM
        seconds = told / rate if is_padding else seconds
    return name, seconds, rate, channels


def _wave_facts(file: FileIO) -> tuple[str, float, int, int] | None:
    """Read a PCM WAV with the standard library; None for anything else."""
    import wave

    file.seek(0)
    try:
        with wave.open(file) as wav:
            rate, channels, frame = wav.getframerate(), wav.getnchannels(), wav.getsampwidth()
            # A header may claim more than the file holds.
            end = os.fstat(file.fileno()).st_size - _bytes_behind(file)
            there = max(0, end - file.tell()) // (frame * channels)
            return "wav", min(wav.getnframes() or there, there) / rate, rate, channels
    except (wave.Error, EOFError, ZeroDivisionError, RuntimeError):
        return None


def _bytes_behind(file: FileIO) -> int:
    """Return the bytes of tags behind the samples of a WAV that does not say where they end.

    A program that writes to a pipe leaves 0 or 0xFFFFFFFF as the size of its data; readers take
    all that follows for samples.
    """
    number, size = file.fileno(), os.fstat(file.fileno()).st_size
    place = _chunk(os.pread(number, _BLOCK, 0), b"data")
    if not place or _end_of_samples(file):
        return 0
    tail = os.pread(number, _BLOCK, max(place + 8, size - _BLOCK))
    end = len(tail)
    while (place := max(tail.rfind(tag, 0, end) for tag in _TAGS)) >= 0:
        length = int.from_bytes(tail[place + 4 : place + 8], "little")
        if end - (place + 8 + length) not in (0, 1):  # 1: a byte that makes it even
            break
        end = place
    return len(tail) - end


def _end_of_samples(file: FileIO) -> int:
    """Return where the samples of a WAV end, 0 where its header does not say so."""
    head = os.pread(file.fileno(), _BLOCK, 0)
    place = _chunk(head, b"data")
    length = int.from_bytes(head[place + 4 : place + 8], "little")
    return place + 8 + length if place and 0 < length < _UNKNOWN else 0


def _chunk(head: bytes, name: bytes) -> int:
    """Return where a chunk of a WAV begins, 0 where it is not at the head of the file."""
    place = 12
    while head[place : place + 4] != name:
        if not head.startswith(b"RIFF") or place + 8 > len(head):
            return 0
        length = int.from_bytes(head[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
    return place


def _samples_told(file: FileIO) -> int:
    """Return how many samples of a WAV are sound: the last block of ADPCM is filled up."""
    head = os.pread(file.fileno(), _BLOCK, 0)
    place = _chunk(head, b"fact")
    return int.from_bytes(head[place + 8 : place + 12], "little") if place else 0


def _container(av: ModuleType, file: FileIO) -> InputContainer:
    """Open a container whose tags may be in any encoding, as PyAV 19 does by itself."""
    is_old = int(av.__version__.partition(".")[0]) < 19
    tags = {"metadata_errors": "replace"} if is_old else {}
    file.seek(0)
    container: InputContainer = av.open(
        _Bytes(file), mode="r", container_options=_OPTIONS, buffer_size=_BLOCK, **tags
    )
    return container


def _audio_stream(path: AnyPath, container: InputContainer) -> AudioStream:
    if container.streams.audio:
        return container.streams.audio[0]
    is_picture = container.format.name.endswith("_pipe") or container.format.name == "image2"
    if container.streams.video and not is_picture:
        raise AudioError(path, "it is a video without an audio track")
    raise AudioError(path, _NOT_AUDIO)


def _is_of_several_kinds(file: FileIO) -> bool:
    """Whether an Ogg is a chain whose links differ in codec, rate or channels."""
    begins, place = set[tuple[bytes, ...]](), 0  # FFmpeg goes on where the file stands
    while block := os.pread(file.fileno(), _BLOCK + _LONGEST_BEGIN, place):
        begins |= {*re.findall(_BEGIN, block)}
        place += _BLOCK
    return len(begins) > 1


def _checked_header(path: AnyPath, stream: AudioStream) -> tuple[int, int]:
    """Return sample rate (Hz) and channels, if a recording can have them."""
    codec: AudioCodecContext | None = stream.codec_context
    if codec is None:
        raise AudioError(path, "its codec is not known here")
    if codec.name.startswith("mp1"):  # never met in earnest, but time-zone tables look like it
        raise AudioError(path, _NOT_AUDIO)
    rate, channels = codec.sample_rate, codec.channels
    if not 1 <= rate <= _MAX_RATE:
        raise AudioError(path, "its header states no possible sample rate")
    if not 1 <= channels <= _MAX_CHANNELS:  # FFmpeg says 0 for what it cannot represent
        raise AudioError(path, "its header states no possible number of channels")
    return rate, channels


def _format_name(container: InputContainer, stream: AudioStream, file: FileIO) -> str:
    """Name the content in the words that people use."""
    name = container.format.name
    if name == "matroska,webm":
        return "webm" if b"webm" in os.pread(file.fileno(), 64, 0) else "mkv"
    if name == "ogg" and stream.codec_context.name in {"opus", "libopus"}:
        return "opus"
    if name == "mp3":
        return stream.codec_context.name.removesuffix("float")
    audio_only, with_video = _FORMATS.get(name, (name.partition(",")[0],) * 2)
    return with_video if any(map(_moves, container.streams.video)) else audio_only


def _moves(stream: VideoStream) -> bool:
    from av.stream import Disposition

    return not stream.disposition & Disposition.attached_pic


def _quick_duration(
    container: InputContainer, stream: AudioStream, file: FileIO, stated: float | None
) -> float | None:
    """Return the length in seconds, None where it is only known when all is decoded."""
    name, codec = container.format.name, stream.codec_context
    if name in _FRAMED:
        return _packets_duration(container, stream)
    if stated is None or name in _DECODED:
        return None
    is_short = stated * (codec.bit_rate or math.inf) / 8 > os.fstat(file.fileno()).st_size
    if codec.name.startswith("pcm_") and (name == "wav" or name not in _WALKED):
        return None if is_short else stated
    # The size of a file says nothing of one of its tracks.
    if is_short or name in _WALKED or len(container.streams) > 1:
        is_whole = abs(_packets_duration(container, stream) - stated) < _SKIPPED
        return stated if is_whole else None
    return stated


def _stated_duration(container: InputContainer, stream: AudioStream) -> float | None:
    """Return what the header states in seconds, None where FFmpeg would have to estimate."""
    if container.format.name not in _STATED:
        return None
    if stream.duration is not None and stream.time_base is not None:
        stated = float(stream.duration * stream.time_base)
        if container.format.name == "ogg":
            stated -= _pre_skip(stream)
    elif container.duration is not None and len(container.streams) == 1:
        stated = container.duration / _MICROSECONDS
    else:
        return None
    return stated if 0 < stated < _YEAR else None  # phones write 0 for "not known"


def _pre_skip(stream: AudioStream) -> float:
    """Return the seconds at the start of an Opus that are no audio (RFC 7845, 5.1)."""
    head = bytes(stream.codec_context.extradata or b"")
    skipped = struct.unpack_from("<H", head, 10)[0] if head.startswith(b"OpusHead") else 0
    return float(skipped / _OPUS_RATE)


def _packets_duration(container: InputContainer, stream: AudioStream) -> float:
    """Add up the packets, in seconds, less the samples that decoders are told to skip."""
    ticks, skipped = 0, 0
    for packet in container.demux(stream):
        ticks += packet.duration or 0 if packet.size else 0
        if packet.has_sidedata("skip_samples"):
            at_start, at_end = struct.unpack_from("<II", bytes(packet.get_sidedata("skip_samples")))
            skipped += at_start + at_end
    seconds = ticks * (stream.time_base or 0) - Fraction(skipped, stream.codec_context.sample_rate)
    return max(0.0, float(seconds))


def _decoded_duration(path: AnyPath, container: InputContainer) -> float:
    """Decode all that can be decoded and return its length in seconds."""
    from av import FFmpegError

    samples: Counter[int] = Counter()
    damage: FFmpegError | None = None
    packets = container.demux(container.streams.audio[0])
    while True:
        try:
            frames = next(packets).decode()
        except StopIteration:
            break
        except FFmpegError as error:  # a bad packet; what follows it may be sound
            damage = error
            continue
        for frame in frames:
            samples[frame.sample_rate] += frame.samples
    if damage and not samples:
        raise AudioError(path, "its audio is damaged: none of it can be decoded") from damage
    return float(sum(Fraction(count, rate) for rate, count in samples.items()))
