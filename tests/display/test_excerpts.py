"""Excerpts: the same place of all sounds, where most is said, equally loud, without clicks."""

from __future__ import annotations

import random
import wave
from array import array
from pathlib import Path

import av
import pytest

from voices_peewee.display.excerpts import excerpts
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
    """Two stems that differ in level only become the same sound: where something is said."""
    sounds = [burst(tmp_path / f"{level}.wav", level) for level in (20_000, 2_000)]
    loud, quiet = (samples(data, tmp_path / "x.flac") for data in excerpts(sounds, sounds, 1.0))
    assert len(loud) == len(quiet) == RATE
    assert max(abs(a - b) for a, b in zip(loud, quiet, strict=True)) <= 3
    assert sum(sample * sample for sample in loud) / RATE > 1_000**2  # no silence
    assert max(map(abs, loud)) < 32_767 * 10 ** (-1 / 20)  # -1 dB, nothing is cut off


def test_ends_are_faded(tmp_path: Path) -> None:
    """An excerpt begins and ends at zero, so that its loop does not click."""
    sound = burst(tmp_path / "a.wav", 20_000)
    faded = samples(excerpts([sound], [sound], 0.5)[0], tmp_path / "x.flac")
    assert len(faded) == RATE // 2
    assert abs(faded[0]) < 60
    assert abs(faded[-1]) < 60
    assert max(map(abs, faded[: RATE // 1000])) < max(map(abs, faded)) / 3


def test_the_reference_says_where(tmp_path: Path) -> None:
    """What is in focus says where the excerpt is; what is silent there is refused."""
    sounds = [burst(tmp_path / "a.wav", 20_000), burst(tmp_path / "b.wav", 20_000, second=0)]
    with pytest.raises(AudioError) as caught:
        excerpts(sounds, sounds[:1], 1.0)
    said = "it is silent where the others are heard"
    assert str(caught.value) == f"cannot read {sounds[1].path!r}: {said}"
