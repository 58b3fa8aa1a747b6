"""What is no race of many: the leaderboard, backups, many writers, memory and ``track``."""

from __future__ import annotations

import importlib
import io
import math
import multiprocessing
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from benchmarks import data, lean
from benchmarks.lean import LeanTuples
from benchmarks.raw import RawTuples
from benchmarks.voices import Voices
from benchmarks.workloads import FEW, LONG
from voices_peewee import DatabaseManager, ProcessedFile
from voices_peewee.runs.run import Tracker

# The same answer as somebody would write it: the latest successful run of each recording, the
# mean of its stems, then mean, median and spread of the recordings, and those that failed.
_ALL: Final = """
    WITH ran AS (
        SELECT h.id, h.model_type, h.model_version, coalesce(f.recording_id, f.id) AS recording,
               rank() OVER (
                   PARTITION BY h.model_type, h.model_version, coalesce(f.recording_id, f.id)
                   ORDER BY h.success DESC, h.start_time DESC, h.run_id DESC
               ) AS place, h.success
        FROM processing_history AS h JOIN processed_files AS f ON f.id = h.processed_file_id
    ), unit AS (
        SELECT ran.model_type, ran.model_version, recording, max(success) AS success,
               avg(m.si_snri) AS value, avg(m.sdri) AS sdri,
               avg(m.real_time_factor) AS factor, avg(m.memory_usage) AS memory
        FROM ran LEFT JOIN model_performance AS m ON m.processing_history_id = ran.id
        WHERE place = 1 GROUP BY ran.model_type, ran.model_version, recording
    ), placed AS (
        SELECT *, count(value) OVER model AS n, value - avg(value) OVER model AS deviation,
               row_number() OVER (model ORDER BY value IS NULL, value) AS place
        FROM unit WINDOW model AS (PARTITION BY model_type, model_version)
    )
    SELECT model_type, model_version, max(n), avg(value),
           avg(CASE WHEN value IS NOT NULL THEN sdri END),
           avg(CASE WHEN value IS NOT NULL THEN factor END),
           avg(CASE WHEN value IS NOT NULL THEN memory END), sum(NOT success),
           avg(CASE WHEN place IN ((n + 1) / 2, (n + 2) / 2) THEN value END),
           sqrt(sum(deviation * deviation) / (max(n) - 1))
    FROM placed GROUP BY model_type, model_version ORDER BY 4 DESC
"""


def by_turns(rounds: int, **ways: Callable[[], Any]) -> dict[str, float]:
    """Return the median time (s) of each way, after a first round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - start)
        if turn >= FEW and sum(map(max, times.values())) > LONG:
            break
    return {name: statistics.median(each) for name, each in times.items()}


def leaderboard(path: Path, rounds: int) -> dict[str, float]:
    """Return the times (s) of ranking all measurements; raise if the answers differ."""
    with closing(data.connect(path)) as connection, DatabaseManager(path).connect() as db:

        def by_hand() -> list[tuple[Any, ...]]:
            return connection.execute(_ALL).fetchall()

        for expected, row in zip(by_hand(), db.leaderboard(), strict=True):
            costs = row.sdri, row.real_time_factor, row.memory_usage
            found = (row.n, row.mean, *costs, row.coverage["failed"], row.median, row.stdev)
            if expected[:2] != row.key or not _are_close(expected[2:], found):
                raise SystemExit(f"leaderboard: {found} is not {expected}")
        return by_turns(rounds, by_hand=by_hand, voices_peewee=db.leaderboard)


def _are_close(some: Iterable[float], others: Iterable[float]) -> bool:
    return all(
        math.isclose(one, other, rel_tol=1e-9) for one, other in zip(some, others, strict=True)
    )


def file_sizes(folder: Path, runs: int) -> tuple[int, int]:
    """Return the bytes of a record of so many runs, and of the same on the lean schema."""
    ours = data.of_size(folder, runs)
    slim = lean.create(folder / f"size_{runs}.lean", ours)
    return tuple(_whole_size(path) for path in (ours, slim))


def _whole_size(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (bytes_each,) = connection.execute("PRAGMA page_size").fetchone()
    return pages * bytes_each


def backup(path: Path, rounds: int) -> dict[str, float]:
    """Return the times (s) of copying a database: by SQLite, by cp with fsync, and verified."""
    target = path.with_name("copy.db")

    def by_sqlite() -> None:
        target.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(target)) as other:
            one.backup(other)

    def by_copying() -> None:
        shutil.copyfile(path, target)
        with target.open("rb") as copy:
            os.fsync(copy.fileno())

    def by_us() -> None:
        for left in (target, target.with_name(f"{target.name}.sha256")):
            left.unlink(missing_ok=True)
        db.backup_database(target)

    with DatabaseManager(path).connect() as db:
        times = by_turns(rounds, raw=by_sqlite, copying=by_copying, voices_peewee=by_us)
    for left in path.parent.glob("copy.db*"):
        left.unlink()
    return times


def track(path: Path, count: int) -> dict[str, float]:
    """Return the times (ms) of a ``track`` block: empty, and with an output and metrics."""
    recording = path.with_name("recording.txt")
    recording.write_text("no audio")
    with DatabaseManager(path).connect() as db:

        def block() -> Tracker:
            return db.track(recording, "voice_separation", model_type="demucs")

        start = time.perf_counter()
        for _ in range(count):
            with block():
                pass
        between = time.perf_counter()
        for number in range(count):
            with block() as run:
                run.output(f"/stems/{number}.wav", si_snri=12.5, pesq=2.5)
        end = time.perf_counter()
    empty, whole = between - start, end - between
    return {"empty": empty / count * 1000, "with an output and metrics": whole / count * 1000}


# Many writers


def writers(empty: Path, processes: int, runs: int) -> dict[str, tuple[float, float]]:
    """Return runs a second and the 99th percentile (ms) of one, for raw, lean raw and ours."""
    return {who.name: _race(who, empty, processes, runs) for who in (RawTuples, LeanTuples, Voices)}


def _race(who: Any, empty: Path, processes: int, runs: int) -> tuple[float, float]:
    path = empty.with_name("shared.db")
    for left in empty.parent.glob("shared.db*"):
        left.unlink()
    shutil.copy(empty, path)
    data.connect(path).close()  # to WAL once, as a database in use is
    first = who()
    first.open(path)
    first.close()
    context = multiprocessing.get_context("spawn")
    ready, times = context.Barrier(processes + 1), context.Queue()
    workers = [
        context.Process(target=_write, args=(who, path, number * runs, runs, ready, times))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    taken = sorted(one for _ in workers for one in times.get())
    seconds = time.perf_counter() - start
    for worker in workers:
        worker.join()
    with closing(sqlite3.connect(getattr(first, "path", path))) as connection:
        found = connection.execute("SELECT count(*) FROM model_performance").fetchone()[0]
    expected = processes * (runs + 1)
    if found != expected:
        raise SystemExit(f"{who.name}: {found} runs of {expected} are there")
    return processes * runs / seconds, taken[len(taken) * 99 // 100] * 1000


def _write(who: Any, path: Path, first: int, runs: int, ready: Any, times: Any) -> None:
    one, taken = who(), []
    one.open(path)
    records = [
        (data.file_record(n), data.history_record(n), data.performance_record(n))
        for n in range(first, first + runs + 1)
    ]
    one.record_runs(records[:1])  # warm
    ready.wait()
    for record in records[1:]:
        start = time.perf_counter()
        one.record_runs([record])
        taken.append(time.perf_counter() - start)
    times.put(taken)
    one.close()


# Memory, each in a process of its own


def memory(path: Path) -> dict[str, float]:
    """Return the peak (MB) over the idle process of going through all files."""
    ways = ("raw sqlite3", "iterator()", "list_rows()", "export", "backup")
    return {what: _peak(what, path) for what in ways}


def _peak(what: str, path: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.extras", what, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _go_through(what: str, path: Path) -> None:
    if what == "raw sqlite3":
        with closing(data.connect(path)) as connection:
            sql = "SELECT * FROM processed_files"
            connection.execute(f"{sql} LIMIT 1000").fetchall()
            _print_growth(lambda: sum(1 for _ in connection.execute(sql)))
        return
    with DatabaseManager(path).connect() as db:
        query = db.query(ProcessedFile)
        copy = path.with_name("peak_copy.db")
        ways: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "iterator()": (
                lambda: query.limit(1000).all(),
                lambda: sum(1 for _ in query.iterator()),
            ),
            "list_rows()": (
                lambda: list(db.list_rows("files", limit=1000)),
                lambda: sum(1 for _ in db.list_rows("files", limit=None)),
            ),
            "export": (
                lambda: db.export(io.BytesIO(), ["speakers"]),
                lambda: db.export(path.with_name("peak_copy.jsonl"), ["files"]),
            ),
            "backup": (
                lambda: importlib.import_module("voices_peewee.upkeep.backup"),
                lambda: db.backup_database(copy),
            ),
        }
        warm, act = ways[what]
        warm()
        _print_growth(act)
        for left in path.parent.glob("peak_copy*"):
            left.unlink()


def _print_growth(act: Callable[[], Any]) -> None:
    before = _peak_memory()
    act()
    print(_peak_memory() - before)


def _peak_memory() -> float:
    """Return this program's own peak (MB); ``ru_maxrss`` begins with that of its parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    _go_through(sys.argv[1], Path(sys.argv[2]))
