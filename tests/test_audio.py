"""What files are, which are refused and with which words, and which a walk finds."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest

from voices_peewee import audio
from voices_peewee.audio import AudioInfo, content_hash, find_files, probe, stat_facts
from voices_peewee.errors import AudioError, MissingExtraError

EXAMPLES = Path(__file__).parent.parent / "examples" / "audio"
NOT_AUDIO = "it is not audio, or its header is damaged"
LIMIT = 30


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
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


def wav_bytes(frames: int = 8000, rate: int = 8000, channels: int = 1) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(noise(2 * channels * frames))
    return target.getvalue()


def raw_wav(*, rate: int = 8000, channels: int = 1, data: bytes = b"\0" * 800) -> bytes:
    """A WAV header as it comes, however impossible."""
    block = 2 * channels & 0xFFFF
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


def encode(
    target: object,
    container: str,
    codec: str,
    *,
    seconds: float = 2.0,
    rate: int = 16000,
    channels: int = 2,
    video: bool = False,
) -> None:
    """Write noise with PyAV, beside three black pictures where ``video``."""
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(target, "w", format=container) as output:
        pictures = output.add_stream("mpeg4" if container != "webm" else "libvpx", rate=5)
        if video:
            pictures.width = pictures.height = 64
            pictures.pix_fmt = "yuv420p"
        stream = output.add_stream(codec, rate=rate, layout=layout)
        count = round(seconds * rate)
        frame = av.AudioFrame(format="s16", layout=layout, samples=count)
        frame.sample_rate = rate
        frame.planes[0].update(noise(2 * channels * count).ljust(frame.planes[0].buffer_size))
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
