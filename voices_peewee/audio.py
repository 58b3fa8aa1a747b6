"""What a file is: format, duration, sample rate, channels, size and content hash.

Files come from strangers. Nothing here waits on a named pipe, follows a playlist to another file
or believes a number that no recording can have; each refusal is an ``AudioError`` of one sentence.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from voices_peewee.errors import AudioError, MissingExtraError

if TYPE_CHECKING:
    from av import AudioCodecContext, AudioStream, VideoStream
    from av.container import InputContainer

AnyPath = str | os.PathLike[str]

# Suffixes by which a file in a folder is taken for a recording; ".ts" and ".dts" are mostly code.
AUDIO_SUFFIXES: Final = frozenset(
    [
        *(".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au"),
        *(".avi", ".caf", ".eac3", ".flac", ".flv", ".gsm", ".m4a", ".m4b", ".m4v", ".mka", ".mkv"),
        *(".mov", ".mp2", ".mp3", ".mp4", ".mpc", ".mpeg", ".mpg", ".oga", ".ogg", ".ogv", ".ogx"),
        *(".opus", ".rf64", ".snd", ".spx", ".tta", ".voc", ".w64", ".wav", ".wave", ".webm"),
        *(".wma", ".wmv", ".wv"),
    ]
)

_BLOCK: Final = 1 << 16
_MAX_RATE: Final = 10_000_000
_MAX_CHANNELS: Final = 1024
_MICROSECONDS: Final = 1_000_000
_YEAR: Final = 366 * 86_400
_OPTIONS: Final = {
    "protocol_whitelist": "none",  # a playlist leads nowhere
    "max_probe_packets": "1",  # FFmpeg's 2,500 look for DTS in each WAV and take 6 ms a file
}
_NOT_AUDIO: Final = "it is not audio, or its header is damaged"
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe, not a regular file",
    stat.S_IFSOCK: "a socket, not a regular file",
    stat.S_IFCHR: "a device, not a regular file",
    stat.S_IFBLK: "a device, not a regular file",
}
_CLAUSES: Final = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "there is no such file",
    errno.ELOOP: "it is a link that leads back to itself",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENAMETOOLONG: "its name is too long",
}
_MP4: Final = "mov,mp4,m4a,3gp,3g2,mj2"
# FFmpeg's demuxers whose headers state a length; for the others FFmpeg would estimate one.
_STATED: Final = frozenset(
    {
        "aiff",
        "asf",
        "au",
        "avi",
        "caf",
        "flac",
        "matroska,webm",
        _MP4,
        "ogg",
        "tta",
        "w64",
        "wav",
        "wv",
    }
)
# Demuxers whose packets are frames of a known length, so that counting packets is enough.
_FRAMED: Final = frozenset({"aac", "ac3", "eac3", "mp3"})
# What people call a demuxer's content: audio alone, audio with video.
_FORMATS: Final = {
    "amrnb": ("amr", "amr"),
    "amrwb": ("amr", "amr"),
    "asf": ("wma", "wmv"),
    _MP4: ("m4a", "mp4"),
    "mpegts": ("ts", "ts"),
}


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The facts of one file; None stands for a fact that is not known.

    ``path`` is absolute with its links kept, ``file_format`` is what the content says (not the
    suffix), ``duration`` is in seconds, ``sample_rate`` in Hz, ``file_size`` in bytes and
    ``content_hash`` the SHA-256 of the bytes in hexadecimal.
    """

    filename: str
    path: str
    file_format: str | None
    duration: float | None
    sample_rate: int | None
    channels: int | None
    file_size: int
    content_hash: str


def probe(path: AnyPath, *, exact: bool = False) -> AudioInfo:
    """Read the facts of a recording, or of the first audio track of a video.

    Args:
        path: a regular file, or links that lead to one.
        exact: decode the whole file to count its samples, which also sees that a FLAC was cut
            short or that an Ogg holds several chained streams; otherwise believe the header
            where it states a length.

    Raises:
        AudioError: nothing can be read there (missing, unreadable, not a regular file, empty).
        AudioError: the content is not audio, or it is damaged or impossible.
        AudioError: the file changed while it was read.
        MissingExtraError: PyAV is not installed.
    """
    with _opened(path) as (file, size):
        if size == 0:
            raise AudioError(path, "the file is empty")
        digest = _digest(file)
        file_format, duration, sample_rate, channels = _read_facts(path, file, exact=exact)
    full = _absolute(path)
    return AudioInfo(
        filename=Path(full).name,
        path=full,
        file_format=file_format,
        duration=duration,
        sample_rate=sample_rate,
        channels=channels,
        file_size=size,
        content_hash=digest,
    )


def stat_facts(path: AnyPath) -> tuple[int, str]:
    """Return the size (bytes) and SHA-256 (hexadecimal) of any regular file, without PyAV.

    Raises:
        AudioError: nothing can be read there (missing, unreadable, not a regular file).
        AudioError: the file changed while it was read.
    """
    with _opened(path) as (file, size):
        return size, _digest(file)


def content_hash(path: AnyPath) -> str:
    """Return the SHA-256 (hexadecimal) of any regular file; raises what ``stat_facts`` raises."""
    return stat_facts(path)[1]


def find_files(
    paths: Iterable[AnyPath], *, on_error: Callable[[AudioError], None]
) -> Iterator[str]:
    """Yield the files that ``paths`` name, in an order that depends on names alone.

    A file is yielded as it is named. A folder is walked with its subfolders: hidden names are
    skipped, only files with a suffix of ``AUDIO_SUFFIXES`` count, each folder is visited once
    (links to folders last, so that a recording goes by its own path), each path is yielded once.

    Args:
        paths: files and folders; what is missing is yielded too, for ``probe`` to refuse.
        on_error: is told of folders that cannot be listed or entered, and of pipes, sockets,
            devices and broken links that are named like recordings; the walk goes on.
    """
    yielded: set[str] = set()
    visited: set[tuple[int, int]] = set()
    for path in paths:
        found = _walk(Path(path), visited, on_error) if _is_folder(path) else [os.fspath(path)]
        for name in found:
            absolute = _absolute(name)
            if absolute not in yielded:
                yielded.add(absolute)
                yield name


def _absolute(path: AnyPath) -> str:
    return os.path.normpath(Path(path).absolute())


def _is_folder(path: AnyPath) -> bool:
    try:
        return stat.S_ISDIR(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False


def _walk(
    top: Path, visited: set[tuple[int, int]], on_error: Callable[[AudioError], None]
) -> Iterator[str]:
    """Yield the recordings below a folder: its files, its subfolders, linked folders last."""
    folders, linked = [top], deque[Path]()
    while folders or linked:
        folder = folders.pop() if folders else linked.popleft()
        inner: list[Path] = []
        for path in _list_once(folder, visited, on_error):
            kind = _kind(path, on_error)
            if kind == stat.S_IFDIR:
                (linked if path.is_symlink() else inner).append(path)
            elif kind == stat.S_IFREG and path.suffix.lower() in AUDIO_SUFFIXES:
                yield str(path)
        folders += reversed(inner)


def _list_once(
    folder: Path, visited: set[tuple[int, int]], on_error: Callable[[AudioError], None]
) -> list[Path]:
    """List what is not hidden, sorted; nothing where the folder was listed before."""
    try:
        facts = folder.stat()
        if (facts.st_dev, facts.st_ino) in visited:
            return []
        visited.add((facts.st_dev, facts.st_ino))
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        on_error(AudioError(folder, _clause(folder, error)))
        return []


def _kind(path: Path, on_error: Callable[[AudioError], None]) -> int | None:
    """Return the kind of a file, and tell of what is named like a recording and is none."""
    is_named_so = path.suffix.lower() in AUDIO_SUFFIXES
    try:
        facts = path.stat()
        if is_named_so and not stat.S_ISDIR(facts.st_mode):
            _require_regular(path, facts)
    except AudioError as error:
        on_error(error)
    except OSError as error:
        if is_named_so or error.errno not in {errno.ENOENT, errno.ELOOP}:
            on_error(AudioError(path, _clause(path, error)))
    else:
        return stat.S_IFMT(facts.st_mode)
    return None


@contextmanager
def _opened(path: AnyPath) -> Iterator[tuple[FileIO, int]]:
    """Open a regular file for reading, with its size, and refuse it if it changes meanwhile."""
    try:
        _require_regular(path, Path(path).stat())
        # Without O_NONBLOCK a pipe that takes the file's place after stat() would block for ever.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with FileIO(os.open(path, flags)) as file:
            before = os.fstat(file.fileno())
            _require_regular(path, before)
            try:
                yield file, before.st_size
            finally:
                _require_same(path, before, os.fstat(file.fileno()))
    except (OSError, ValueError) as error:
        raise AudioError(path, _clause(path, error)) from error


def _require_same(path: AnyPath, before: os.stat_result, after: os.stat_result) -> None:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise AudioError(path, "it changed while it was read")


def _require_regular(path: AnyPath, facts: os.stat_result) -> None:
    kind = stat.S_IFMT(facts.st_mode)
    if kind != stat.S_IFREG:
        raise AudioError(path, f"it is {_KINDS.get(kind, 'not a regular file')}")


def _clause(path: AnyPath, error: OSError | ValueError) -> str:
    """Say in one clause why the system did not give us a file."""
    if isinstance(error, ValueError):
        return "no file can have this name"
    if error.errno == errno.ENOENT and Path(path).is_symlink():
        return "it is a link to something that is not there"
    return _CLAUSES.get(error.errno or 0, f"the system says {error.strerror!r}")


def _digest(file: FileIO) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


class _Bytes:
    """Give FFmpeg the bytes of an open file but not its name, so that no suffix sways it.

    PyAV prints what a callback raises while it is not looking: nothing is raised here, a failed
    read is kept in ``failure`` and looks like the end of the file.
    """

    def __init__(self, file: FileIO) -> None:
        self.failure: OSError | None = None
        self._file = file
        file.seek(0)

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.failure = error
            return b""

    def seek(self, offset: int, whence: int) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):  # a damaged header points before the start
            return -1

    def tell(self) -> int:
        return self._file.tell()


def _read_facts(path: AnyPath, file: FileIO, *, exact: bool) -> tuple[str, float, int, int]:
    """Return format, duration (s), sample rate (Hz) and channels."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("reading audio files", "audio") from error
    source = _Bytes(file)
    try:
        with _container(av, source) as container:
            stream = _audio_stream(path, container)
            rate, channels = _checked_header(path, stream)
            name = _format_name(container, stream, file)
            return name, _duration(path, container, stream, exact=exact), rate, channels
    except (av.FFmpegError, ValueError, OverflowError, MemoryError) as error:
        raise AudioError(path, _NOT_AUDIO) from error
    finally:
        if source.failure:
            raise source.failure


def _container(av: ModuleType, source: _Bytes) -> InputContainer:
    """Open a container whose tags may be in any encoding, as PyAV 19 does by itself."""
    is_old = int(av.__version__.partition(".")[0]) < 19
    tags = {"metadata_errors": "replace"} if is_old else {}
    container: InputContainer = av.open(
        source, mode="r", container_options=_OPTIONS, buffer_size=_BLOCK, **tags
    )
    return container


def _audio_stream(path: AnyPath, container: InputContainer) -> AudioStream:
    if container.streams.audio:
        return container.streams.audio[0]
    is_picture = container.format.name.endswith("_pipe") or container.format.name == "image2"
    if container.streams.video and not is_picture:
        raise AudioError(path, "it is a video without an audio track")
    raise AudioError(path, _NOT_AUDIO)


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
    """Say whether a video stream is more than the picture of a cover."""
    from av.stream import Disposition

    return not stream.disposition & Disposition.attached_pic


def _duration(
    path: AnyPath, container: InputContainer, stream: AudioStream, *, exact: bool
) -> float:
    """Return the length in seconds: the header's where it states one, else counted."""
    stated = _stated_duration(container, stream)
    if stated is not None and not exact:
        return stated
    if container.format.name in _FRAMED and not exact:
        return _packets_duration(container, stream)
    counted = _decoded_duration(path, container, stream)
    if container.format.name == _MP4 and stated is not None:
        return min(counted, stated)  # decoders keep the padding at the end, the header does not
    return counted


def _stated_duration(container: InputContainer, stream: AudioStream) -> float | None:
    """Return what the header states in seconds, None where FFmpeg would have to estimate."""
    stated: Fraction | None = None
    if container.format.name not in _STATED:
        return None
    if stream.duration is not None and stream.time_base is not None:
        stated = stream.duration * stream.time_base
    elif container.duration is not None and len(container.streams) == 1:
        stated = Fraction(container.duration, _MICROSECONDS)
    return float(stated) if stated is not None and 0 <= stated < _YEAR else None


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


def _decoded_duration(path: AnyPath, container: InputContainer, stream: AudioStream) -> float:
    """Decode all that can be decoded and return its length in seconds."""
    from av import FFmpegError

    samples: Counter[int] = Counter()
    damage: FFmpegError | None = None
    packets = container.demux(stream)
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
