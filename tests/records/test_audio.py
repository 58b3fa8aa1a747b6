"""What files are, which are refused and with which words, and which a walk finds."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import random
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.interrupts import interrupted_at

from voices_peewee.errors import AudioError, MissingExtraError
from voices_peewee.records import audio_files
from voices_peewee.records.audio_files import AudioInfo, content_hash, find_files, probe

EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"
NOT_AUDIO = "it is not audio, or its header is damaged"
NOBODY = 65534
LIMIT = 60


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """Fail a test that hangs instead of waiting with it."""

    def fail(*_: object) -> None:
        raise TimeoutError(f"no answer within {LIMIT} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def noise(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def wav_bytes(*, frames: int = 8000, rate: int = 8000, channels: int = 1) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(noise(2 * channels * frames))
    return target.getvalue()


def raw_wav(*, rate: int = 8000, channels: int = 1, codec: int = 1) -> bytes:
    """Make a WAV of 400 frames whose header says whatever is asked."""
    block = 2 * channels & 0xFFFF
    form = struct.pack("<HHIIHH", codec, channels, rate, rate * block & 0xFFFFFFFF, block, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 800)
    return b"RIFF" + struct.pack("<I", len(body) + 800) + body + bytes(800)


def add_pictures(output: av.container.OutputContainer, codec: str) -> None:
    stream = output.add_stream(codec, rate=5)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    for number in range(25):
        picture = av.VideoFrame(64, 64, "yuv420p")
        for plane in picture.planes:  # else they are what stood in memory
            plane.update(bytes(plane.buffer_size))
        picture.pts = number
        output.mux(stream.encode(picture))
    output.mux(stream.encode(None))


def encode(
    target: object,
    container: str,
    codec: str | None,
    *,
    rate: int = 16000,
    channels: int = 1,
    pictures: str | None = None,
) -> None:
    """Write two seconds of noise with PyAV, beside five seconds of pictures where asked."""
    layout = {1: "mono", 2: "stereo"}[channels]
    # The header of an M4A or MP4 stands in front, as where it is downloaded.
    options = {"movflags": "faststart"} if container in {"ipod", "mp4"} else {}
    with av.open(target, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout) if codec else None
        if pictures:
            add_pictures(output, pictures)
        if stream:
            frame = av.AudioFrame(format="s16", layout=layout, samples=2 * rate)
            frame.sample_rate = rate
            frame.pts = 0
            plane = frame.planes[0]
            plane.update(noise(4 * channels * rate).ljust(plane.buffer_size, b"\0"))
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))


class Stream:
    """A target that cannot seek, so that no length gets into the header."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Give up root's right to read everything, where the tests run as root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def refusal(path: str | Path, *, exact: bool = False) -> str:
    """Return the whole sentence with which a file is refused, its path written PATH."""
    with pytest.raises(AudioError) as caught:
        probe(path, exact=exact)
    assert caught.value.path == str(path)
    sentence = f"cannot read {str(path)!r}: {caught.value.reason}"
    assert str(caught.value) == sentence
    return sentence.replace(repr(str(path)), "PATH")


def test_every_fact_of_a_wav_is_right(tmp_path: Path) -> None:
    """A WAV gives all its facts, the hash being that of its bytes; of a new one no stamp."""
    path = tmp_path / "one.wav"
    path.write_bytes(wav_bytes(frames=12000, rate=8000, channels=2))
    info = probe(path)
    assert info == AudioInfo(
        filename="one.wav",
        original_path=str(path),
        file_format="wav",
        duration=1.5,
        sample_rate=8000,
        channels=2,
        file_size=48044,
        content_hash=hashlib.sha256(path.read_bytes()).hexdigest(),
        file_stamp=None,
        read_at=info.read_at,
    )


@pytest.mark.parametrize("exact", [False, True], ids=["header", "exact"])
@pytest.mark.parametrize(
    ("container", "codec", "rate", "name", "padding"),
    [
        ("wav", "pcm_s16le", 16000, "wav", 0),
        ("flac", "flac", 96000, "flac", 0),
        ("ogg", "flac", 16000, "ogg", 0),
        ("ogg", "libopus", 48000, "opus", 0),
        ("mp3", "libmp3lame", 16000, "mp3", 0),
        ("mp2", "mp2", 16000, "mp2", 0.016),
        ("ipod", "aac", 16000, "m4a", 0),
        ("adts", "aac", 16000, "aac", 0.112),
        ("aiff", "pcm_s16be", 16000, "aiff", 0),
        ("webm", "libopus", 48000, "webm", 0.008),
        ("matroska", "flac", 16000, "mkv", 0),
        ("ac3", "ac3", 32000, "ac3", 0.016),
        ("mpegts", "mp2", 16000, "ts", 0.016),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 2], ids=["mono", "stereo"])
def test_formats_are_named_by_content_and_measured(
    tmp_path: Path,
    container: str,
    codec: str,
    rate: int,
    name: str,
    padding: float,
    channels: int,
    exact: bool,
) -> None:
    """Each format gives its name, rate, channels and two seconds, plus no more than its padding."""
    path = tmp_path / "recording.bin"
    encode(str(path), container, codec, rate=rate, channels=channels)
    info = probe(path, exact=exact)
    assert (info.file_format, info.sample_rate, info.channels) == (name, rate, channels)
    assert info.duration is not None
    assert 2.0 <= info.duration <= 2.0 + padding + 1e-9


@pytest.mark.parametrize("exact", [False, True], ids=["header", "exact"])
@pytest.mark.parametrize(
    ("container", "codec", "pictures", "name"),
    [
        ("mp4", "aac", "mpeg4", "mp4"),
        ("matroska", "flac", "mpeg4", "mkv"),
        ("webm", "libopus", "libvpx", "webm"),
        ("avi", "pcm_s16le", "mpeg4", "avi"),
    ],
)
def test_a_video_counts_by_its_audio_track(
    tmp_path: Path, container: str, codec: str, pictures: str, name: str, exact: bool
) -> None:
    """A five-second video with two seconds of sound lasts two seconds."""
    path = tmp_path / "video.bin"
    encode(str(path), container, codec, rate=48000, pictures=pictures)
    info = probe(path, exact=exact)
    assert (info.file_format, info.duration) == (name, pytest.approx(2.0))


@pytest.mark.parametrize("suffix", [".g722", ".gsm", ".raw"])
def test_no_format_is_guessed_from_a_suffix(tmp_path: Path, suffix: str) -> None:
    """Bytes without a header are refused whatever their name promises."""
    path = tmp_path / f"bytes{suffix}"
    path.write_bytes(noise(4000))
    assert refusal(path) == f"cannot read PATH: {NOT_AUDIO}"


@pytest.mark.parametrize(
    ("container", "codec"),
    [("flac", "flac"), ("webm", "libopus"), ("matroska", "flac"), ("au", "pcm_s16be")],
)
def test_a_length_that_no_header_states_is_counted(
    tmp_path: Path, container: str, codec: str
) -> None:
    """A file that was streamed, with no length in its header, is as long as its samples."""
    target = Stream()
    encode(target, container, codec, rate=48000)
    path = tmp_path / "streamed"
    path.write_bytes(target.written)
    assert probe(path).duration == 2.0


def test_an_mp3_without_length_is_counted_and_not_estimated(tmp_path: Path) -> None:
    """Two MP3s of different bit rates behind each other last as long as both."""
    path = tmp_path / "joined.mp3"
    parts = []
    for bits in (32_000, 160_000):
        target = Stream()
        with av.open(target, "w", format="mp3", options={"write_xing": "0"}) as output:
            stream = output.add_stream("libmp3lame", rate=16000, layout="mono")
            stream.bit_rate = bits
            frame = av.AudioFrame(format="s16p", layout="mono", samples=57600)
            frame.sample_rate = 16000
            frame.planes[0].update(noise(115200).ljust(frame.planes[0].buffer_size, b"\0"))
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        parts.append(bytes(target.written))
    path.write_bytes(b"".join(parts))
    counted, decoded = probe(path).duration, probe(path, exact=True).duration
    assert (counted, decoded) == (pytest.approx(7.2, abs=0.2), pytest.approx(7.2, abs=0.2))


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        *[("flac", "flac"), ("aiff", "pcm_s16be"), ("wav", "pcm_s16le"), ("mp3", "libmp3lame")],
        *[("matroska", "flac"), ("webm", "libopus"), ("asf", "mp2")],
        *[("wav", "adpcm_ima_wav"), ("ipod", "aac")],
    ],
)
def test_a_file_that_was_cut_short_is_counted(tmp_path: Path, container: str, codec: str) -> None:
    """The header of half a file says two seconds; as its size does not fit, it is counted."""
    path = tmp_path / "cut"
    encode(str(path), container, codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert probe(path).duration == pytest.approx(1.0, abs=0.2)
    assert probe(path, exact=True).duration == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(("container", "codec"), [("wav", "pcm_s16le"), ("mp3", "libmp3lame")])
def test_an_interrupt_while_a_file_is_read_is_not_lost(
    tmp_path: Path, container: str, codec: str
) -> None:
    """Ctrl-C at any call ends the reading: lost in PyAV, it was taken for the end of the file."""
    path, places = tmp_path / "sound", itertools.count(1)
    encode(str(path), container, codec)
    found: list[AudioInfo] = []

    def read() -> None:
        found.append(probe(path))

    while interrupted_at(next(places), read, within="records/audio.py"):
        assert found == []
    assert (len(found), next(places) > 20) == (1, True)


@pytest.mark.parametrize("tags", [b"", b"LIST\4\0\0\0INFO"], ids=["bare", "tagged"])
def test_zeros_behind_a_wav_are_not_read_as_chunks(tmp_path: Path, tags: bytes) -> None:
    """What a recorder had reserved takes no minutes: 400 MB were 50 million empty chunks."""
    path = tmp_path / "reserved.wav"
    path.write_bytes(wav_bytes(frames=16000) + tags)
    os.truncate(path, 400_000_000)
    assert (probe(path).duration, probe(path, exact=True).duration) == (2.0, 2.0)


def test_a_cut_video_is_as_long_as_the_sound_that_is_there(tmp_path: Path) -> None:
    """The size of a file with pictures says nothing of its sound, which is counted."""
    path = tmp_path / "cut"
    encode(str(path), "mp4", "aac", pictures="mpeg4")
    assert probe(path).duration == probe(path, exact=True).duration == 2.0
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert probe(path).duration == probe(path, exact=True).duration == pytest.approx(1.0, abs=0.4)


@pytest.mark.parametrize("exact", [False, True], ids=["header", "exact"])
@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [("avi", "adpcm_ima_wav", 44100), ("avi", "adpcm_ms", 44100), ("caf", "alac", 8000)],
)
def test_full_blocks_are_no_length(
    tmp_path: Path, container: str, codec: str, rate: int, exact: bool
) -> None:
    """Where the header counts blocks and not samples, the sound is decoded."""
    path = tmp_path / "blocks"
    encode(str(path), container, codec, rate=rate)
    assert probe(path, exact=exact).duration == pytest.approx(2.0, abs=0.07)


@pytest.mark.parametrize("exact", [False, True], ids=["header", "exact"])
@pytest.mark.parametrize(
    ("container", "codec"),
    [
        *[("avi", "pcm_s16le"), ("caf", "pcm_mulaw"), ("w64", "pcm_s16le")],
        *[("asf", "pcm_s16le"), ("au", "pcm_mulaw"), ("wav", "pcm_s16le")],
    ],
)
def test_what_stands_behind_a_file_is_no_sound(
    tmp_path: Path, container: str, codec: str, exact: bool
) -> None:
    """A download that was filled up with zeros is as long as its samples."""
    path = tmp_path / "filled"
    encode(str(path), container, codec)
    path.write_bytes(path.read_bytes() + bytes(100_000))
    assert probe(path, exact=exact).duration == pytest.approx(2.0, abs=0.01)


def test_a_chunk_that_ends_nowhere_is_passed_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A CAF behind another one is a chunk of an impossible size: what is before it is read."""
    path = tmp_path / "twice.caf"
    encode(str(path), "caf", "alac")
    once = probe(path).duration
    path.write_bytes(path.read_bytes() * 2)
    assert probe(path).duration == once
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("exact", [False, True], ids=["header", "exact"])
def test_the_padding_of_the_last_block_is_no_sound(tmp_path: Path, exact: bool) -> None:
    """The ``fact`` of an ADPCM WAV says how many samples of its last block count."""
    path = tmp_path / "blocks.wav"
    encode(str(path), "wav", "adpcm_ima_wav", rate=8000)
    data = bytearray(path.read_bytes())
    place = data.index(b"fact") + 8
    assert int.from_bytes(data[place : place + 4], "little") > 16_000
    data[place : place + 4] = (16_000).to_bytes(4, "little")
    path.write_bytes(data)
    assert probe(path, exact=exact).duration == 2.0


@pytest.mark.parametrize("unknown", [b"\0" * 4, b"\xff" * 4], ids=["zero", "ones"])
def test_a_phone_that_knew_no_length_is_counted(tmp_path: Path, unknown: bytes) -> None:
    """An M4A whose ``mdhd`` states no duration is as long as its samples."""
    path = tmp_path / "phone.m4a"
    encode(str(path), "ipod", "aac")
    data = bytearray(path.read_bytes())
    place = data.index(b"mdhd") + 20
    data[place : place + 4] = unknown
    path.write_bytes(data)
    assert probe(path).duration == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("name", ["mix_ada_bob.ogg", "mix_ada_bob.opus", "flac.ogg"])
def test_every_link_of_a_chained_ogg_is_measured(tmp_path: Path, name: str) -> None:
    """An Ogg behind itself lasts twice as long, whatever the first header says."""
    path = tmp_path / name
    if name == "flac.ogg":
        encode(str(path), "ogg", "flac", rate=48000)
    else:
        shutil.copy(EXAMPLES / name, path)
    once = probe(path).duration
    path.write_bytes(path.read_bytes() * 2)
    assert once is not None
    assert probe(path).duration == pytest.approx(2 * once, abs=0.03)


@pytest.mark.parametrize("exact", [False, True], ids=["header", "exact"])
def test_a_chain_of_several_kinds_is_refused(tmp_path: Path, exact: bool) -> None:
    """Of an Opus behind a Vorbis no length is right: none is given for that of the first."""
    path = tmp_path / "chain.ogg"
    links = [(EXAMPLES / name).read_bytes() for name in ("mix_ada_bob.ogg", "mix_ada_bob.opus")]
    path.write_bytes(b"".join(links))
    reason = "it is a chain of streams of several kinds; each needs a file of its own"
    assert refusal(path, exact=exact) == f"cannot read PATH: {reason}"


def test_tracks_side_by_side_are_no_chain(tmp_path: Path) -> None:
    """An Ogg may hold a Vorbis beside an Opus: its length is that of the first."""
    path, names = tmp_path / "tracks.ogg", ("mix_ada_bob.ogg", "mix_ada_bob.opus")
    with ExitStack() as files:
        output = files.enter_context(av.open(str(path), "w", format="ogg"))
        sources = [files.enter_context(av.open(str(EXAMPLES / name))) for name in names]
        tracks = [output.add_stream_from_template(one.streams.audio[0]) for one in sources]
        for source, track in zip(sources, tracks, strict=True):
            for packet in source.demux(audio=0):
                packet.stream = track
                if packet.dts is not None:
                    output.mux(packet)
    first = probe(EXAMPLES / names[0]).duration
    assert probe(path).duration == pytest.approx(first, abs=0.05)


def put_off(first: Path, late: Path, container: str, seconds: float) -> None:
    """Write a file anew whose times begin later, as one that was cut from a live stream."""
    with av.open(str(first)) as source, av.open(str(late), "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None and packet.time_base is not None:
                packet.pts = packet.dts = packet.dts + int(seconds / packet.time_base)
                packet.stream = stream
                output.mux(packet)


@pytest.mark.parametrize("exact", [False, True], ids=["header", "exact"])
@pytest.mark.parametrize("seconds", [0.5, 3600])
@pytest.mark.parametrize(
    ("container", "source"),
    [
        *[("matroska", "flac"), ("webm", "libopus"), ("asf", "mp2")],
        *[("ogg", EXAMPLES / "mix_ada_bob.ogg"), ("ogg", EXAMPLES / "mix_ada_bob.opus")],
    ],
    ids=lambda one: Path(one).name,
)
def test_a_late_start_is_no_part_of_the_length(
    tmp_path: Path, container: str, source: str | Path, seconds: float, exact: bool
) -> None:
    """Whenever the first sound of a stream is, what was before it is not counted."""
    first, late = tmp_path / "first", tmp_path / "late"
    if isinstance(source, str):
        encode(str(first), container, source, rate=48000)
    else:
        shutil.copy(source, first)
    put_off(first, late, container, seconds)
    assert probe(late, exact=exact).duration == pytest.approx(probe(first).duration, abs=0.05)


def test_an_rf64_without_its_lengths_is_as_long_as_its_samples(tmp_path: Path) -> None:
    """An RF64 whose ds64 was never filled in is not 0 s long, decoded or not."""
    path, wav = tmp_path / "long.wav", wav_bytes(frames=16000)
    lengths = b"ds64" + (28).to_bytes(4, "little") + bytes(28)
    unknown = b"\xff" * 4
    path.write_bytes(b"RF64" + unknown + b"WAVE" + lengths + wav[12:40] + unknown + wav[44:])
    assert [probe(path, exact=exact).duration for exact in (False, True)] == [2.0, 2.0]


@pytest.mark.parametrize("exact", [False, True], ids=["header", "exact"])
@pytest.mark.parametrize(("frames", "duration"), [(0, 0.0), (1, 1 / 8000)])
def test_no_frame_and_one_frame_are_audio(
    tmp_path: Path, frames: int, duration: float, exact: bool
) -> None:
    """A WAV with no frame lasts 0 s and one with a single frame one 8,000th of a second."""
    path = tmp_path / "short.wav"
    path.write_bytes(wav_bytes(frames=frames))
    assert probe(path, exact=exact).duration == duration


def test_tags_that_are_not_utf8_do_no_harm(tmp_path: Path) -> None:
    """A title in Latin-1 does not keep a WAV from being read."""
    tag = b"LIST" + struct.pack("<I", 16) + b"INFOINAM" + struct.pack("<I", 4) + b"\xe9\xff\xfe\0"
    path = tmp_path / "tagged.wav"
    path.write_bytes(wav_bytes() + tag)
    assert probe(path).duration == 1.0


def test_a_path_is_made_absolute_and_its_links_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link is followed for the content and kept in the path, which loses its dots."""
    (tmp_path / "real.wav").write_bytes(wav_bytes())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link.wav").symlink_to("../real.wav")
    monkeypatch.chdir(tmp_path / "sub")
    info = probe("./../sub/link.wav")
    assert (info.filename, info.original_path) == ("link.wav", str(tmp_path / "sub" / "link.wav"))


def test_size_and_hash_need_no_audio(tmp_path: Path) -> None:
    """Size and hash are had of any file, an empty one too, where no audio is asked for."""
    path = tmp_path / "notes.txt"
    for data in (noise(3_000_000), b""):
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        assert content_hash(path) == digest
        expected = ("notes.txt", str(path), *[None] * 4, len(data), digest)
        assert probe(path, strict=False)[:8] == expected


def write(data: bytes | Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data() if callable(data) else data) and None


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:  # a full path may be too long for a socket
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def silent_video(path: Path) -> None:
    encode(str(path), "mp4", None, pictures="mpeg4")


BAD_RATE = "its header states no possible sample rate"
BAD_CHANNELS = "its header states no possible number of channels"
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda _: None, "there is no such file"),
    "dangling": (
        lambda path: path.symlink_to("nowhere"),
        "it is a link to something that is not there",
    ),
    "loop": (lambda path: path.symlink_to(path), "too many levels of symbolic links"),
    "directory": (Path.mkdir, "it is a directory"),
    "pipe": (os.mkfifo, "it is not a regular file"),
    "socket": (bind_socket, "it is not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is not a regular file"),
    "empty": (write(b""), "the file is empty"),
    "text": (write(b"These are words.\n" * 400), NOT_AUDIO),
    "noise": (write(noise(50_000)), NOT_AUDIO),
    "picture": (write(b"\x89PNG\r\n\x1a\n" + noise(900)), NOT_AUDIO),
    "layer-1": (write((b"\xff\xff\x10\0" + bytes(28)) * 20), NOT_AUDIO),
    "20-mhz": (write(raw_wav(rate=20_000_000)), BAD_RATE),
    "no-channels": (write(raw_wav(channels=0)), BAD_CHANNELS),
    "codec": (write(raw_wav(codec=0x7777)), "its codec is not known here"),
    "video": (silent_video, "it is a video without an audio track"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_recorded_is_refused_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    """Each kind of bad file is refused, with its own words, and never waited for."""
    path = tmp_path / "bad.wav"
    make(path)
    assert refusal(path) == f"cannot read PATH: {reason}"
    assert refusal(path, exact=True) == f"cannot read PATH: {reason}"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a\0b.wav", "no file can have this name"),
        ("\ud800.wav", "no file can have this name"),
        ("n" * 256 + ".wav", "file name too long"),
        (str(Path(__file__) / "x.wav"), "not a directory"),
    ],
    ids=["null", "surrogate", "256-bytes", "file-as-folder"],
)
def test_names_that_no_file_can_have_are_refused(path: str, reason: str) -> None:
    """A name that the system cannot hold is refused like a missing file."""
    assert refusal(path) == f"cannot read PATH: {reason}"


def test_audio_of_which_nothing_decodes_is_refused_when_counted(tmp_path: Path) -> None:
    """A TTA with a sound header and no sound frame is told from a good one by exact."""
    path = tmp_path / "hollow.tta"
    encode(str(path), "tta", "tta")
    path.write_bytes(path.read_bytes()[:100] + noise(path.stat().st_size - 100))
    assert probe(path).duration == 2.0
    reason = "its audio is damaged: none of it can be decoded"
    assert refusal(path, exact=True) == f"cannot read PATH: {reason}"


def test_what_may_not_be_read_is_refused() -> None:
    """A file without read permission is refused by name, and so is its hash."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "secret.wav"
        path.write_bytes(wav_bytes())
        path.chmod(0)
        with unprivileged():
            assert refusal(path) == "cannot read PATH: permission denied"
            with pytest.raises(AudioError) as caught:
                content_hash(path)
    assert str(caught.value) == f"cannot read {str(path)!r}: permission denied"


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile '{0}'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{0}\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 49170 RTP/AVP 0\n",
}


@pytest.mark.parametrize("text", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_leads_to_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Text that names another file or a network address is refused, not followed."""
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.wav"
    other.write_bytes(wav_bytes())
    path = tmp_path / "list.wav"
    path.write_text(text.format(other))
    assert refusal(path, exact=True) == f"cannot read PATH: {NOT_AUDIO}"


def test_without_pyav_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra PCM WAV is read; anything else names the command that installs it."""
    path, other = tmp_path / "one.wav", tmp_path / "other.flac"
    path.write_bytes(wav_bytes()[:-8000])
    other.write_bytes(b"fLaC")
    monkeypatch.setitem(sys.modules, "av", None)
    info = probe(path)
    assert (info.file_format, info.sample_rate, info.channels) == ("wav", 8000, 1)
    assert info.duration == 0.5
    with pytest.raises(MissingExtraError) as caught:
        probe(other)
    assert str(caught.value) == (
        "reading audio files needs an extra; run: pip install 'voices-peewee[audio]'"
    )
    assert probe(other, strict=False).file_size == 4


def test_without_pyav_a_wav_that_states_too_few_bytes_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorder that crashed leaves a first size; the standard library ends in RuntimeError."""
    path, wav = tmp_path / "crashed.wav", wav_bytes()
    junk = b"JUNK" + (100).to_bytes(4, "little") + bytes(100)
    path.write_bytes(b"RIFF" + (36).to_bytes(4, "little") + wav[8:36] + junk + wav[36:])
    assert probe(path).duration == 1.0
    monkeypatch.setitem(sys.modules, "av", None)
    assert audio_files.facts_of(str(path))["duration"] is None


def after(
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    step: str,
    act: Callable[[object], object],
) -> None:
    """Do something to the file right after a step of the real code, once."""
    real, done = getattr(module, step), []

    def both(*args: object) -> object:
        result = real(*args)
        if not done:
            done.append(act(args[0]))
        return result

    monkeypatch.setattr(module, step, both)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named pipe put there between looking and opening is refused."""
    path = tmp_path / "swapped.wav"
    path.write_bytes(wav_bytes())

    def swap(_: object) -> None:
        path.unlink()
        os.mkfifo(path)

    after(monkeypatch, audio_files, "_require_regular", swap)
    assert refusal(path) == "cannot read PATH: it is not a regular file"


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hash and a size of different moments are never given."""
    path = tmp_path / "growing.wav"
    path.write_bytes(wav_bytes())

    def grow(_: object) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    after(monkeypatch, audio_files, "_read", grow)
    assert refusal(path) == "cannot read PATH: it changed while it was read"


def test_a_disk_that_fails_is_named_by_the_systems_words() -> None:
    """A read error is told as such."""
    path = Path("/proc/self/mem")  # its first page gives a real read error
    with pytest.raises(AudioError) as caught:
        content_hash(path)
    assert str(caught.value) == "cannot read '/proc/self/mem': input/output error"


SEEDS = [("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("ipod", "aac")]
SEEDS += [("caf", "pcm_s16le"), ("ogg", "flac"), ("matroska", "flac"), ("aiff", "pcm_s16be")]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path = tmp_path_factory.mktemp("seeds") / "seed"
    made = []
    for container, codec in SEEDS:
        encode(str(path), container, codec)
        made.append(path.read_bytes())
    return made


@settings(
    max_examples=150,
    deadline=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    which=st.integers(0, len(SEEDS) - 1),
    spots=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=12),
    keep=st.floats(0.01, 1.0),
    exact=st.booleans(),
)
def test_damage_gives_facts_or_one_sentence(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    seeds: list[bytes],
    which: int,
    spots: list[tuple[int, int]],
    keep: float,
    exact: bool,
) -> None:
    """Whatever bytes are wrong, the outcome is possible facts or an AudioError, in silence."""
    data = bytearray(seeds[which][: max(1, int(len(seeds[which]) * keep))])
    for spot, value in spots:
        data[spot % len(data)] = value
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with suppress(AudioError):
        info = probe(path, exact=exact)
        assert info.duration is not None
        assert 0 <= info.duration < float("inf")
        assert 1 <= (info.sample_rate or 0) <= 10_000_000
        assert 1 <= (info.channels or 0) <= 1024
    assert capfd.readouterr() == ("", "")


def tree(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def walk(*paths: Path | str) -> tuple[list[str], list[str]]:
    errors: list[str] = []
    return list(find_files(paths, on_error=lambda error: errors.append(str(error)))), errors


def test_a_folder_gives_its_recordings_in_order(tmp_path: Path) -> None:
    """Files come before subfolders, both sorted; other suffixes and hidden names are left out."""
    tree(tmp_path, "b.wav", "a/z.FLAC", "a/a.mp4", "a/b/c.ogg", "C.opus", "x.txt", "x.ts", "wav")
    tree(tmp_path, ".h.wav", ".git/x.wav", "a/.h/x.wav", "d/e/f/no.py")
    expected = ["C.opus", "b.wav", "a/a.mp4", "a/z.FLAC", "a/b/c.ogg"]
    assert walk(tmp_path) == ([str(tmp_path / name) for name in expected], [])


def test_what_is_named_is_yielded_as_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named file needs no suffix, may be hidden or missing, and keeps its relative path."""
    tree(tmp_path, "notes.txt", ".h/x.wav")
    monkeypatch.chdir(tmp_path)
    assert walk("./notes.txt", "gone.wav", ".h") == (["./notes.txt", "gone.wav", ".h/x.wav"], [])


def test_each_path_is_yielded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file named twice, in two ways, or within a named folder comes once."""
    tree(tmp_path, "a/x.wav", "a/b/y.wav")
    monkeypatch.chdir(tmp_path)
    assert walk("a/x.wav", "./a/../a/x.wav", "a", "a/b", str(tmp_path / "a")) == (
        ["a/x.wav", "a/b/y.wav"],
        [],
    )


def test_link_loops_end_and_recordings_go_by_their_own_path(tmp_path: Path) -> None:
    """Folders that link to each other or to their parent are visited once, by their real path."""
    tree(tmp_path, "m/real/x.wav", "outside/y.wav")
    (tmp_path / "m" / "a").symlink_to("real")
    (tmp_path / "m" / "real" / "up").symlink_to("..")
    (tmp_path / "m" / "out").symlink_to("../outside")
    (tmp_path / "m" / "again.wav").symlink_to("real/x.wav")
    expected = ["again.wav", "real/x.wav", "out/y.wav"]
    assert walk(tmp_path / "m") == ([str(tmp_path / "m" / name) for name in expected], [])


def test_special_files_in_a_folder_are_told_and_not_opened(tmp_path: Path) -> None:
    """Pipes, devices and broken links with a recording's suffix are reported, others ignored."""
    tree(tmp_path, "good.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null.mp3").symlink_to("/dev/null")
    (tmp_path / "broken.flac").symlink_to("nowhere")
    (tmp_path / "self.ogg").symlink_to("self.ogg")
    reasons = {
        "broken.flac": "it is a link to something that is not there",
        "null.mp3": "it is not a regular file",
        "pipe.wav": "it is not a regular file",
        "self.ogg": "too many levels of symbolic links",
    }
    told = [f"cannot read {str(tmp_path / name)!r}: {why}" for name, why in reasons.items()]
    assert walk(tmp_path) == ([str(tmp_path / "good.wav")], told)


def test_folders_that_cannot_be_listed_are_told_and_the_walk_goes_on() -> None:
    """A folder without permission is reported, and what comes after it is found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        tree(folder, "a/x.wav", "b/y.wav", "c/z.wav")
        (folder / "b").chmod(0)
        with unprivileged():
            found = walk(folder)
            named = walk(folder / "b")
        (folder / "b").chmod(0o755)
    told = [f"cannot read {str(folder / 'b')!r}: permission denied"]
    assert found == ([str(folder / "a/x.wav"), str(folder / "c/z.wav")], told)
    assert named == ([], told)


def test_the_examples_are_what_their_readme_says() -> None:
    """Each shipped recording is in the table with its format, duration, rate and channels."""
    rows = re.findall(
        r"^\| `(\S+)` \| (\w+) \| ([\d.]+) \| (\d+) \| (\d) \|",
        (EXAMPLES / "README.md").read_text(),
        re.MULTILINE,
    )
    facts = []
    for path in find_files([EXAMPLES], on_error=pytest.fail):
        info = probe(path)
        name = Path(path).relative_to(EXAMPLES).as_posix()
        facts.append(
            (
                name,
                info.file_format,
                f"{info.duration:.3f}",
                str(info.sample_rate),
                str(info.channels),
            )
        )
    assert len(rows) == 18
    assert facts == rows


@pytest.mark.parametrize("with_av", [True, False])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", [b"LIST", b"id3 "])
def test_a_list_behind_samples_without_end_is_no_audio(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: bytes,
    size: int,
    exact: bool,
    with_av: bool,
) -> None:
    """A WAV that was written to a pipe, and then tagged, is as long as its samples."""
    samples, tags = b"\1\0" * 8000, b"INFOISFT" + (4010).to_bytes(4, "little") + b"x" * 4010
    form = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    head = b"RIFF\xff\xff\xff\xffWAVEfmt " + form + b"data" + size.to_bytes(4, "little")
    path = tmp_path / "pipe.wav"
    path.write_bytes(head + samples + kind + len(tags).to_bytes(4, "little") + tags)
    if not with_av:
        monkeypatch.setitem(sys.modules, "av", None)
    assert probe(path, exact=exact).duration == 1.0


@pytest.mark.parametrize("size", [10, 5000], ids=str)
def test_a_tag_before_a_wav_is_refused(tmp_path: Path, size: int) -> None:
    """An ID3 tag before RIFF, which no reader passes over, is one sentence and never an MP3."""
    path = tmp_path / "a.wav"
    length = bytes([0, 0, size >> 7, size & 127])
    path.write_bytes(b"ID3\x04\0\0" + length + bytes(size) + wav_bytes(frames=80_000))
    for exact in (False, True):
        with pytest.raises(AudioError) as caught:
            probe(path, exact=exact)
        assert str(caught.value) == f"cannot read {str(path)!r}: {NOT_AUDIO}"
    assert audio_files.facts_of(str(path))["duration"] is None
