"""Crowds of workers that share a list, and what they must have done."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from support import claim_worker
from support.claim_worker import sources
from voices_peewee import DatabaseManager
from voices_peewee.models import Claim

Worker = subprocess.Popen[str]


def begun(path: Path | str, workers: int, count: int, seconds: float) -> list[Worker]:
    """Start workers that wait for each other."""
    words = [sys.executable, claim_worker.__file__, str(path), str(count), str(seconds)]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(workers)
    ]
    for worker in started:
        assert worker.stdout.readline() == "ready\n"
    for worker in started:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return started


def ended(workers: list[Worker]) -> list[str]:
    """Wait for workers; return what they were given."""
    given: list[str] = []
    for worker in workers:
        out, err = worker.communicate(timeout=300)
        assert worker.returncode == 0, err
        given += out.split()
    return given


def killed(workers: Iterable[Worker], *, after: int) -> None:
    """Kill workers, each in the middle of what it was given as the last of so many."""
    for worker in workers:
        assert worker.stdout is not None
        for _ in range(after):
            worker.stdout.readline()
        worker.send_signal(signal.SIGKILL)
        worker.communicate()


def require_each_once(place: Path | str, count: int) -> None:
    """Each recording has one run, or, where it fails, failed ones; no claim is left."""
    with DatabaseManager(place) as db:
        runs = db.execute_raw_query(
            "SELECT file.original_path AS path, history.success AS success"
            " FROM processing_history AS history"
            " JOIN processed_files AS file ON file.id = history.processed_file_id"
            " WHERE history.end_time IS NOT NULL"
        )
        assert db.query(Claim).all() == []
    done = Counter(run["path"] for run in runs if run["success"])
    assert set(done.values()) == {1}
    failed = {run["path"] for run in runs if not run["success"]}
    assert sorted([*done, *failed]) == sources(count)
    assert all(path.endswith("49.wav") for path in failed)
