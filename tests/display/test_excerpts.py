"""Excerpts: the same place of all sounds, where most is said, equally loud, without clicks."""

from __future__ import annotations

import random
import wave
from array import array
from pathlib import Path

import av
import pytest

from voices_peewee.display.excerpts import Part, busiest, excerpts, lag
from voices_peewee.errors import AudioError
from voices_peewee.records.audio_files import AudioInfo, probe

RATE = 8000


def burst(path: Path, level: float, *, seed: int = 1, second: int = 2) -> AudioInfo:
    """Write four seconds of silence with one of noise in it."""
    chance = random.Random(seed)
    samples = array("h", bytes(2 * 4 * RATE))
    for place in range(second * RATE, (second + 1) * RATE):
        samples[place] = round(level * chance.uniform(-1, 1))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return probe(path)


def samples(data: bytes, path: Path) -> list[int]:
    """Return the samples of a FLAC."""
    path.write_bytes(data)
    with av.open(str(path)) as file:
        return [
            sample
            for frame in file.decode(audio=0)
            for sample in memoryview(bytes(frame.planes[0])).cast("h")[: frame.samples]
        ]


def test_the_same_place_equally_loud(tmp_path: Path) -> None:
    """Two stems that differ in level become the same sound, where something is said, faded."""
    sounds = [burst(tmp_path / f"{level}.wav", level) for level in (20_000, 2_000)]
    part = busiest(sounds, sounds, 1.0)
    assert part == Part(2.0, 1.0)
    made = excerpts(sounds, part, [0, 0])
    loud, quiet = (samples(data, tmp_path / "x.flac") for data in made)
    assert len(loud) == len(quiet) == RATE
    assert max(abs(a - b) for a, b in zip(loud, quiet, strict=True)) <= 3
    assert max(abs(loud[0]), abs(loud[-1])) < 60  # so that a loop does not click
    assert sum(sample * sample for sample in loud) / RATE > 1_000**2  # no silence
    assert max(map(abs, loud)) < 32_767 * 10 ** (-1 / 20)  # -1 dB, nothing is cut off


def test_the_reference_says_where(tmp_path: Path) -> None:
    """What is in focus says where the excerpt is; what is silent there is refused."""
    sounds = [burst(tmp_path / "a.wav", 20_000), burst(tmp_path / "b.wav", 20_000, second=0)]
    with pytest.raises(AudioError) as caught:
        excerpts(sounds, busiest(sounds, sounds[:1], 1.0), [0, 0])
    said = "it is silent where the others are heard"
    assert str(caught.value) == f"cannot read {sounds[1].original_path!r}: {said}"


def test_opus_is_smaller_and_as_long(tmp_path: Path) -> None:
    """As Opus an excerpt takes less, and decodes at the same place."""
    sound = burst(tmp_path / "a.wav", 20_000)
    (flac,), (opus,) = (excerpts([sound], Part(1.0, 3.0), [0], codec) for codec in ("flac", "opus"))
    (tmp_path / "x.opus").write_bytes(opus)
    with av.open(str(tmp_path / "x.opus")) as file:
        assert (file.format.name, file.streams.audio[0].codec.name) == ("ogg", "opus")
        heard = [frame.to_ndarray() for frame in file.decode(audio=0)]
    loud = [max(abs(part.min()), part.max()) > 0.01 for part in heard]
    rate = sum(part.shape[1] for part in heard) / 3.0
    assert rate == pytest.approx(48_000, rel=0.01)
    assert loud.index(True) == pytest.approx(len(heard) / 3, abs=2)
    assert len(opus) < 96_000 / 8 * 3 * 1.3
    assert flac[:4] == b"fLaC"


def test_a_lag_is_seen(tmp_path: Path) -> None:
    """By how many milliseconds one stem is behind another; other noise is behind nothing."""
    a, b = burst(tmp_path / "a.wav", 20_000), tmp_path / "b.wav"
    with wave.open(a.original_path) as file:
        params, known = file.getparams(), array("h", file.readframes(4 * RATE))
    for late in (-24, 0, 40):
        shift = late * RATE // 1000
        places = range(len(known) + min(0, shift))
        moved = array("h", (known[max(0, k - shift)] // 3 for k in places))
        with wave.open(str(b), "wb") as other:
            other.setparams(params)
            other.writeframes(moved.tobytes())
        assert lag(a, probe(b), Part(1.5, 2.0)) == late
    assert lag(a, burst(b, 20_000, seed=2), Part(1.5, 2.0)) == 0.0
