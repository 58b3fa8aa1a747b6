"""WAV files that tests write."""

from __future__ import annotations

import hashlib
import os
import wave
from pathlib import Path


def write_wav(path: Path | bytes, frames: int = 800, *, rate: int = 8000, value: int = 0) -> Path:
    """Write a mono WAV of 16-bit samples."""
    target = Path(os.fsdecode(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file, wave.open(file) as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(value.to_bytes(2, "little") * frames)
    return target


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
