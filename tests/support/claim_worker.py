"""One of many workers: ``claim_worker.py DATABASE COUNT SECONDS`` does what nobody else does.

Each recording takes some seconds, every fiftieth fails; what was given is written, a line each.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from voices_peewee import DatabaseManager

SETTINGS = {"model_type": "demucs", "model_version": "4.0", "parameters": {"shifts": 2}}


def sources(count: int) -> list[str]:
    """Return the recordings."""
    return [f"/mix/{number:05}.wav" for number in range(count)]


def main(database: str, count: str, seconds: str) -> None:
    with DatabaseManager(database, timeout=120) as db:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        for path in db.pending(sources(int(count)), "separation", claim=True, **SETTINGS):
            with suppress(ValueError), db.track(path, "separation", **SETTINGS) as run:
                sys.stdout.write(f"{path}\n")
                sys.stdout.flush()
                time.sleep(float(seconds))
                if path.endswith("49.wav"):
                    raise ValueError(path)
                run.output(path.replace("mix", "out"), si_snri=10.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
