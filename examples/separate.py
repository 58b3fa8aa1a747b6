"""Separate the example mixtures with two methods and keep the record of it.

Kill it whenever you like and start it again: it does what is left to do, then shows which
method is better and writes a report with players beside the stems. Needs the extra [example]:

    python examples/separate.py --db example.db --out stems
"""

from __future__ import annotations

import argparse
import time
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from fast_bss_eval.numpy import si_sdr

from voices_peewee import DatabaseManager, Speaker

HERE = Path(__file__).resolve().parent
SPEAKERS = ("ada", "bob")
PARAMETERS = {"ica": {"iterations": 100}, "mask": {"window": 512}}


def read(path: Path) -> tuple[np.ndarray, int]:
    """Return the samples of a recording, (channels, samples) in -1…1, and its rate in Hz."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        layout = av.AudioResampler(format="fltp")
        frames = [part for frame in container.decode(stream) for part in layout.resample(frame)]
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1), stream.rate


def write(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write one channel as 16-bit WAV, at half of full scale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        scaled = samples / np.abs(samples).max() * 16000
        file.writeframes(scaled.astype("<i2").tobytes())


def ica(mixture: np.ndarray, *, iterations: int) -> np.ndarray:
    """Unmix by FastICA (Hyvärinen 1999, symmetric, tanh): as many sources as channels."""
    centred = mixture - mixture.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.cov(centred))
    white = (vectors / np.sqrt(values)).T @ centred
    unmixing = np.eye(len(white))
    for _ in range(iterations):
        g = np.tanh(unmixing @ white)
        step = g @ white.T / white.shape[1] - np.diag((1 - g**2).mean(axis=1)) @ unmixing
        left, _, right = np.linalg.svd(step)
        unmixing = left @ right
    return unmixing @ white


def stft(signals: np.ndarray, window: int) -> np.ndarray:
    """Return cells (channels, frames, bins) of half-overlapping Hann frames."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.pad(signals, [(0, 0), (window // 2, window)])
    starts = np.arange(0, padded.shape[1] - window + 1, window // 2)
    return np.fft.rfft(padded[:, starts[:, None] + np.arange(window)] * hann)


def istft(cells: np.ndarray, length: int) -> np.ndarray:
    """Return the signal of cells (frames, bins): Hann frames that half overlap add up to it."""
    frames = np.fft.irfft(cells)
    window = frames.shape[1]
    signal = np.zeros((len(frames) + 1) * window // 2)
    for place, frame in enumerate(frames):
        signal[place * window // 2 :][:window] += frame
    return signal[window // 2 :][:length]


def mask(mixture: np.ndarray, *, window: int) -> np.ndarray:
    """Give each time-frequency cell to the source that its channel balance is nearer to."""
    cells = stft(mixture, window)
    balance = np.arctan2(np.abs(cells[1]), np.abs(cells[0]))
    loud = np.abs(cells).sum(axis=0) > np.abs(cells).sum(axis=0).mean()
    near, far = np.percentile(balance[loud], (20, 80))
    first = np.abs(balance - near) < np.abs(balance - far)
    length = mixture.shape[1]
    return np.stack([istft(cells.sum(axis=0) * part, length) for part in (first, ~first)])


METHODS: dict[str, Callable[..., np.ndarray]] = {"ica": ica, "mask": mask}


def separate(db: DatabaseManager, model: str, path: Path, out: Path) -> None:
    """Separate one mixture and record the run with a stem for each speaker."""
    parameters = PARAMETERS[model]
    folder = path.parent.parent / "references"
    files = {name: str(folder / f"{path.stem}_{name}.flac") for name in SPEAKERS}
    db.add_audio(path, metadata={"references": files})  # to be heard beside the stems
    references = np.concatenate([read(Path(file))[0] for file in files.values()])
    with db.track(
        path, "voice_separation", model_type=model, model_version="1.0", parameters=parameters
    ) as run:
        mixture, rate = read(path)
        with run.timing():  # the method's time, not that of reading, scoring and writing
            estimates = METHODS[model](mixture, **parameters)
        after, order = si_sdr(references, estimates, zero_mean=True, return_perm=True)
        before = si_sdr(references, mixture[[0, 0]], zero_mean=True)
        for index, name in enumerate(SPEAKERS):
            stem = out / model / f"{path.stem}_{name}.wav"
            write(stem, estimates[order[index]], rate)
            run.output(
                stem,
                speaker=name,
                si_snri=after[index] - before[index],
                input_si_snr=before[index],
                metric_impl="fast_bss_eval",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", default="example.db")
    parser.add_argument("--out", default="stems", type=Path)
    parser.add_argument("--mixtures", default=HERE / "audio" / "mixtures", type=Path)
    parser.add_argument("--pause", default=0.0, type=float, help="seconds between two runs")
    options = parser.parse_args()
    mixtures = sorted(options.mixtures.glob("*.flac"))
    with DatabaseManager(options.db).initialize() as db:
        for name in SPEAKERS:
            if db.query(Speaker).filter_by(name=name).first() is None:
                db.create_speaker(name)
        for model, parameters in PARAMETERS.items():
            left = db.pending(
                mixtures,
                "voice_separation",
                model_type=model,
                model_version="1.0",
                parameters=parameters,
            )
            for path in left:
                print(f"{model}: {path.name}", flush=True)
                separate(db, model, path, options.out)
                time.sleep(options.pause)
        print(db.leaderboard())
        print(db.compare("mask:1.0", "ica:1.0"))
        print("report:", db.report(options.out / "report.html", overwrite=True))


if __name__ == "__main__":
    main()
