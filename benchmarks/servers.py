"""A file beside a server: many writers at once, and a record moved there and back.

``python -m benchmarks.servers postgresql://voices@/empty?host=/run/postgresql`` takes the URL of
an empty database, and leaves it filled.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks import data
from voices_peewee import DatabaseManager

_VOICES: Final = (sys.executable, "-m", "voices_peewee", "--db")
_WORKER: Final = Path(__file__).parent.parent / "tests" / "support" / "load_worker.py"


def load(database: str, writers: int, seconds: float) -> tuple[float, float, float]:
    """Return tracked runs a second, the median and the 99th percentile (ms) of one.

    Raises:
        SystemExit: A run that was acknowledged is not there.
    """
    with DatabaseManager(database).initialize() as db:
        before = db.status()["rows"]["model_performance"]
    workers = [
        subprocess.Popen(
            [sys.executable, _WORKER, database, f"{before}-{number}", str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(writers)
    ]
    for worker in workers:
        worker.stdout.readline()
    start = time.perf_counter()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    taken = sorted(float(line) for worker in workers for line in worker.communicate()[0].split())
    elapsed = time.perf_counter() - start
    with DatabaseManager(database) as db:
        found = db.status()["rows"]["model_performance"] - before
    if found != len(taken):
        raise SystemExit(f"{database}: {found} runs of {len(taken)} are there")
    return len(taken) / elapsed, taken[len(taken) // 2], taken[len(taken) * 99 // 100]


def move(source: str, target: str) -> tuple[float, float, float]:
    """Return the time (s) of ``export | import``, and the peaks (MB) of both programs."""
    start = time.perf_counter()
    peaks = []
    out, into = os.pipe()
    export = subprocess.Popen([*_VOICES, source, "export"], stdout=into)
    other = subprocess.Popen([*_VOICES, target, "import", "-"], stdin=out)
    os.close(out)
    os.close(into)
    for program in (export, other):
        _, status, used = os.wait4(program.pid, 0)
        if status:
            raise SystemExit(f"{source} to {target}: {program.args!r} failed")
        peaks.append(used.ru_maxrss / 1024)
    return time.perf_counter() - start, peaks[0], peaks[1]


def _digest(database: str) -> str:
    """Return a digest of what an export holds; each engine has its own order of JSON's keys."""
    digest = hashlib.sha256()
    with subprocess.Popen([*_VOICES, database, "export"], stdout=subprocess.PIPE) as export:
        for line in export.stdout or ():
            digest.update(json.dumps(json.loads(line), sort_keys=True).encode())
    return digest.hexdigest()


def main() -> None:
    """Measure a server beside a file and print a line for each measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers")
    parser.add_argument("url", help="an empty database on a server")
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many rows are moved")
    parser.add_argument("--seconds", type=float, default=8, help="how long writers write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        here = str(data.create(folder / "here.db", files=args.rows // 3, runs=args.rows // 3))
        back = str(folder / "back.db")
        for database in (args.url, back):
            DatabaseManager(database).initialize().close()
        for source, target in ((here, args.url), (args.url, back)):
            seconds, *peaks = move(source, target)
            print(f"{source} to {target}: {seconds:.1f} s, peaks (MB) {peaks}")
        print("the same after both:", _digest(here) == _digest(back) == _digest(args.url))
        for writers in (1, 4, 16):
            for database in (args.url, back):
                rate, median, worst = load(database, writers, args.seconds)
                figures = f"{rate:.0f} runs/s, {median:.1f} ms, p99 {worst:.0f} ms"
                print(f"{database}, {writers} writers: {figures}")


if __name__ == "__main__":
    main()
