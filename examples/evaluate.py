"""From the manifest of a data set to a table by condition: the whole way, in two processes.

Kill it whenever you like and start it again: it does what is left to do. For other data, change
the manifest, `separate` (a model of yours instead of two small methods) and `score`. Needs the
extra [example]:

    python examples/evaluate.py --db example.db --out stems
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from pathlib import Path

from fast_bss_eval.numpy import sdr
from separate import PARAMETERS, read, separate

from voices_peewee import DatabaseManager

AUDIO = Path(__file__).resolve().parent / "audio"


def recordings(db: DatabaseManager) -> list[Path]:
    """Return the mixtures of the record."""
    rows = db.list_rows("files", "kind:recording", columns=["original_path"], limit=None)
    return [Path(path) for (path,) in rows]


def work(database: str, out: Path) -> None:
    """Separate what is left with each method; no two workers are given the same mixture."""
    with DatabaseManager(database) as db:
        for model, parameters in PARAMETERS.items():
            left = db.pending(
                recordings(db),
                "voice_separation",
                model_type=model,
                model_version="1.0",
                parameters=parameters,
                claim=True,
            )
            for mixture in left:
                separate(db, model, mixture, out)


def score(folder: Path, results: Path) -> Path:
    """Write the SDR of each stem, as VERSA writes its scores: a line for each file."""
    with results.open("w") as lines:
        for stem in sorted(folder.glob("*.wav")):
            reference = read(AUDIO / "references" / f"{stem.stem}.flac")[0]
            value = float(sdr(reference, read(stem)[0])[0])
            print(json.dumps({"key": stem.name, "sdr": value}), file=lines)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", default="example.db")
    parser.add_argument("--out", default="stems", type=Path)
    parser.add_argument("--manifest", default=AUDIO / "metadata.csv", type=Path)
    options = parser.parse_args()

    with DatabaseManager(options.db).initialize() as db:
        db.add_manifest(options.manifest)

    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=work, args=(options.db, options.out)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker failed; 'voices failures' says why")

    with DatabaseManager(options.db) as db:
        for model in PARAMETERS:
            results = score(options.out / model, options.out / f"{model}.jsonl")
            db.import_results(results, model=f"{model}:1.0")
        print(db.leaderboard(metric="sdr", by=("model", "metadata.panning")).to_markdown())


if __name__ == "__main__":
    main()
