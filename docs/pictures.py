"""Make the pictures of plots.md: ``python docs/pictures.py``."""

from __future__ import annotations

import datetime as dt
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from voices_peewee import DatabaseManager, ProcessedFile

FOLDER: Final = Path(__file__).parent / "img"
START: Final = dt.datetime(2026, 9, 7, 9, tzinfo=dt.UTC)
# Name, version, mean and spread of SI-SNRi (dB), real-time factor of a long recording.
MODELS: Final = (
    ("demucs", "4.0", 11.5, 1.1, 0.35),
    ("sepformer", "2.1", 13.1, 0.9, 0.90),
    ("svoice", "1.2", 9.8, 1.4, 0.22),
)
PICTURES: Final[dict[str, tuple[tuple[str, ...], dict[str, Any]]]] = {
    "distribution": (("distribution",), {}),
    "paired": (("paired", "demucs", "sepformer"), {}),
    "ranks": (("ranks", "demucs", "sepformer", "svoice"), {}),
    "scatter": (("scatter",), {"metric": "real_time_factor", "against": "duration"}),
}


def fill(db: DatabaseManager) -> None:
    """Record invented runs: 120 recordings of four speakers, three models, ten weeks."""
    generator = random.Random(3)
    speakers = [db.create_speaker(name) for name in ("Ada", "Bob", "Chloé", "Dmitri")]
    files = [
        ProcessedFile(
            filename=f"mix_{number:03}.wav",
            original_path=f"/data/mix_{number:03}.wav",
            speaker=speakers[number % 4],
            duration=round(generator.lognormvariate(2, 0.7), 1),
        )
        for number in range(120)
    ]
    db.add_all(files)
    db.record_runs(
        run for number, file in enumerate(files) for run in _runs(generator, number, file)
    )


def _runs(generator: random.Random, number: int, file: ProcessedFile) -> Iterator[dict[str, Any]]:
    """Yield a run of each model; half way demucs gets better, and now and then one is missing."""
    ease = generator.gauss(0, 1.8) + (0, 0.4, -0.6, 0.2)[number % 4]
    for place, (model, version, mean, spread, factor) in enumerate(MODELS):
        is_new = model == "demucs" and number >= 60
        quality = mean + ease + generator.gauss(0, spread) + 0.9 * is_new
        slowness = factor * (1 + 1.5 / (file.duration or 1)) * generator.lognormvariate(0, 0.12)
        if generator.random() < 0.95:
            yield {
                "source": file,
                "operation_type": "voice_separation",
                "model_type": model,
                "model_version": "4.1" if is_new else version,
                "start_time": START + dt.timedelta(hours=14 * number + place),
                "metrics": {
                    "si_snri": quality,
                    "sdri": quality + generator.gauss(0.5, 0.3),
                    "real_time_factor": slowness,
                },
            }


def draw(folder: Path) -> None:
    """Write the pictures into a folder."""
    with DatabaseManager(":memory:").initialize() as db:
        fill(db)
        for name, (words, options) in PICTURES.items():
            figure = db.plot(*words, **options)
            figure.savefig(folder / f"plot_{name}.png", dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
