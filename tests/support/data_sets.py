"""Manifests and results in the shapes that the tools of the field write; all values are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LIBRIMIX = """\
mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length
11-1-01_22-2-02,/d/wav8k/min/test/mix_both/m1.wav,/d/s1/m1.wav,/d/s2/m1.wav,/d/noise/m1.wav,24000
x_y,/d/wav16k/max/test/mix_both/m2.wav,/d/s1/m2.wav,/d/s2/m2.wav,,32000.0
"""
SPEECHBRAIN = (
    "ID, duration, mix_wav, mix_wav_format, s1_wav, s1_wav_format, s2_wav\r\n"
    "0,1.0,/d/mix/a.wav,wav,/d/s1/a.wav,wav,/d/s2/a.wav\r\n"
    "1,1.0,/d/mix/b.wav,wav,/d/s1/b.wav,wav,/d/s2/b.wav\r\n"
)
KALDI = {
    "wav.scp": "utt_a /d/mix/utt_a.wav\nutt_b\t/d/mix/utt b.wav\n"
    "utt_c sph2pipe -p /d/c.sph |\nutt_d raw/mix.ark:1234\n",
    "spk1.scp": "utt_a /d/s1/utt_a.wav\nutt_b /d/s1/utt_b.wav\n",
    "spk2.scp": "utt_a /d/s2/utt_a.wav\nutt_b /d/s2/utt_b.wav\n",
    "utt2spk": "utt_a ada_bob\nutt_b ada_bob\n",
    "utt2dur": "utt_a 3.5\nutt_b 4\n",
}


def recording(name: str, *kinds: str) -> dict[str, Any]:
    """Return a recording as Lhotse writes it, of one source a kind."""
    sources = [
        {"type": kind, "channels": [place], "source": f"mix/{name}.wav"}
        for place, kind in enumerate(kinds or ("file",))
    ]
    facts = {"sampling_rate": 8000, "num_samples": 24000, "duration": 3.0}
    return {"id": name, "sources": sources, **facts, "channel_ids": [*range(len(sources))]}


def cut(name: str, *speakers: str) -> dict[str, Any]:
    """Return a cut as Lhotse writes it."""
    parts = [{"id": f"{name}_{one}", "recording_id": name, "speaker": one} for one in speakers]
    return {"id": f"{name}-0", "supervisions": parts, "recording": recording(name)}


def write_lines(path: Path, *records: object) -> Path:
    """Write JSON lines."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write texts below a folder, byte for byte."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder
