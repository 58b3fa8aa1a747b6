"""One of many writers: ``load_worker.py DATABASE NUMBER SECONDS`` writes its latencies (ms)."""

from __future__ import annotations

import sys
import time

from voices_peewee import DatabaseManager


def main(database: str, number: str, seconds: str) -> None:
    with DatabaseManager(database, timeout=60) as db:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        end, count = time.monotonic() + float(seconds), 0
        while time.monotonic() < end:
            begun = time.perf_counter()
            with db.track(
                f"/mix/{number}/{count}.wav", "separation", model_type="demucs", model_version="4"
            ) as run:
                run.output(f"/out/{number}/{count}.wav", si_snri=count % 20)
            sys.stdout.write(f"{1000 * (time.perf_counter() - begun)}\n")
            count += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
