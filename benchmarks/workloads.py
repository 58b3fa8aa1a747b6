"""What is measured, and how: all contestants in turn, on the same data, with equal answers."""

from __future__ import annotations

import gc
import importlib
import json
import random
import shutil
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from benchmarks import data
from benchmarks.lean import LeanObjects, LeanTuples
from benchmarks.raw import RawObjects, RawTuples
from benchmarks.voices import Voices

RAW: Final = RawTuples.name
OBJECTS: Final = RawObjects.name
OURS: Final = Voices.name
LEAN: Final = {RAW: LeanTuples.name, OBJECTS: LeanObjects.name}
_MEASURED: Final = (RAW, OBJECTS, OURS, *LEAN.values())  # in every round
LONG: Final = 3.0  # s; what takes longer is measured twice
FEW: Final = 2
# What to reach beside the lean schema.
LEAN_GOALS: Final = {"a": 1.6, "b": 2.0, "c": 1.8, "c′": 1.8, "f": 1.4, "g": 1.3}

_OTHERS: Final = (
    ("benchmarks.peewee_taught", "PeeweeAsTaught"),
    ("benchmarks.alchemy", "AlchemyORM"),
)
_TRACKERS: Final = (("benchmarks.trackers", "MLflow"),)


@dataclass(frozen=True)
class Size:
    """How much is done: numbers of records, files in the table that is read, and rounds."""

    adds: int
    runs: int
    bulk: int
    table: int
    big_table: int
    rounds: int


QUICK: Final = Size(adds=300, runs=150, bulk=3_000, table=5_000, big_table=20_000, rounds=3)
FULL: Final = Size(
    adds=2_000, runs=1_000, bulk=100_000, table=100_000, big_table=1_000_000, rounds=5
)


@dataclass(frozen=True)
class Workload:
    """One thing to do: ``method`` of each contestant, given what ``argument`` makes.

    ``base`` is the contestant whose time is 1; ``goal`` the ratio to reach. ``times`` is how
    often a quick call is made in one round.
    """

    key: str
    title: str
    method: str
    base: str
    goal: float
    argument: Callable[[Any, Size], tuple[Any, ...]]
    writes: bool = False
    big: bool = False
    times: int = 1


@cache
def _records(count: int) -> list[data.Record]:
    return [data.file_record(number) for number in range(count)]


@cache
def _runs(count: int) -> list[tuple[data.Record, data.Record, data.Record]]:
    return [
        (data.file_record(n), data.history_record(n), data.performance_record(n))
        for n in range(count)
    ]


def _keys(_: Any, size: Size) -> tuple[list[int]]:
    return (random.Random(1).sample(range(1, size.big_table + 1), 1000),)


def _adds(_: Any, size: Size) -> tuple[list[data.Record]]:
    return (_records(size.adds),)


def _bulk(_: Any, size: Size) -> tuple[list[data.Record]]:
    return (_records(size.bulk),)


def _objects(who: Any, size: Size) -> tuple[list[Any]]:
    return (who.make_objects(_records(size.bulk)),)


def _just(*arguments: Any) -> Callable[[Any, Size], tuple[Any, ...]]:
    return lambda *_: arguments


_RUN: Final = "record a run: file, history, performance, one transaction"
_SPEAKERS: Final = "one speaker's files, 1 % of the table"
_OBJECTS: Final = "bulk add of objects, ids back"
_CURRENT: Final = "is the schema current, 1,000 times"
WORKLOADS: Final = (
    Workload("a", "add one file, own transaction", "add_one_by_one", RAW, 1.5, _adds, writes=True),
    Workload("b", _RUN, "record_runs", RAW, 1.5, lambda _, size: (_runs(size.runs),), writes=True),
    Workload("c", "bulk add of dicts", "add_dicts", RAW, 1.2, _bulk, writes=True),
    Workload("c′", _OBJECTS, "add_objects", OBJECTS, 1.5, _objects, writes=True),
    Workload("d", "read all as objects", "read_all", OBJECTS, 1.3, _just()),
    Workload("e", _SPEAKERS, "of_speaker", OBJECTS, 1.3, _just(7), big=True),
    Workload("f", "the newest 50", "newest", OBJECTS, 2.0, _just(50), big=True, times=20),
    Workload("g", "get by id, 1,000 times", "get_each", OBJECTS, 2.0, _keys, big=True),
    Workload("k", _CURRENT, "is_current", RAW, 2.0, _just(1000)),
)


def contestants(*, trackers: bool) -> list[Any]:
    """Return this package, raw sqlite3 and the peers that are installed; trackers are slow."""
    found: list[Any] = [RawTuples(), RawObjects(), LeanTuples(), LeanObjects(), Voices()]
    for module, name in _OTHERS + (_TRACKERS if trackers else ()):
        try:
            found.append(getattr(importlib.import_module(module), name)())
        except ImportError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return found


@dataclass(frozen=True)
class Result:
    """The times (s) of one workload, by contestant: the median of the rounds."""

    workload: Workload
    seconds: dict[str, float]

    def ratio(self, name: str) -> float | None:
        """Return a contestant's time over the base's."""
        taken = self.seconds.get(name)
        return None if taken is None else taken / self.seconds[self.workload.base]

    @property
    def lean_ratio(self) -> float | None:
        """Return this package's time over that of raw sqlite3 on the lean schema."""
        lean = self.seconds.get(LEAN[self.workload.base])
        return None if lean is None else self.seconds[OURS] / lean


class Arena:
    """Runs workloads in a folder, all contestants by turns."""

    def __init__(self, folder: Path, size: Size, clock: Callable[[], float]) -> None:
        self.folder, self.size, self.clock = folder, size, clock
        self.empty = data.create(folder / "empty.db")

    def run(self, workload: Workload, everyone: Sequence[Any]) -> Result:
        """Measure one workload; raise if the answers differ. A slow peer has fewer rounds."""
        able = [one for one in everyone if getattr(one, workload.method, None)]
        able.sort(key=lambda one: one.name != workload.base)
        times: dict[str, list[float]] = {one.name: [] for one in able}
        expected = None
        for turn in range(self.size.rounds):
            for one in able:
                if self._has_enough(one, times[one.name]):
                    continue
                taken, answer = self._once(workload, one, is_compared=turn == 0)
                times[one.name].append(taken)
                expected = answer if one.name == workload.base else expected
                if turn == 0 and answer not in (None, expected):
                    raise SystemExit(f"{workload.key}: {one.name} has another answer than the base")
            able.append(able.pop(0))
        return Result(workload, {name: statistics.median(each) for name, each in times.items()})

    @staticmethod
    def _has_enough(one: Any, times: list[float]) -> bool:
        """Whether a peer needs no more rounds: a tracker has one, what takes long two."""
        if not times or one.name in _MEASURED:
            return False
        return hasattr(one, "sample") or (len(times) >= FEW and times[0] > LONG)

    def _once(self, workload: Workload, one: Any, *, is_compared: bool) -> tuple[float, Any]:
        path = self._database(workload)
        one.open(path)
        try:
            arguments = workload.argument(one, self.size)
            method, share = getattr(one, workload.method), 1.0
            if sample := getattr(one, "sample", None):
                share = sample / len(arguments[0])
                arguments = (arguments[0][:sample],)
            if not workload.writes:
                method(*arguments)  # warm
            gc.collect()
            start = self.clock()
            for _ in range(workload.times):
                answer = method(*arguments)
            taken = (self.clock() - start) / share
            facts = None
            if is_compared and not workload.writes and workload.method != "is_current":
                facts = sorted(map(one.facts, answer), key=lambda fact: fact[0])
        finally:
            one.close()
        if is_compared and workload.writes and getattr(one, "stores_rows", True):
            facts = _stored(getattr(one, "path", path))
        return taken, facts

    def _database(self, workload: Workload) -> Path:
        if not workload.writes:
            count = self.size.big_table if workload.big else self.size.table
            return data.of_size(self.folder, count)
        path = self.folder / "written.db"
        for left in self.folder.glob("written.db*"):
            left.unlink()
        return Path(shutil.copy(self.empty, path))


def _stored(path: Path) -> Any:
    """Return what is in the tables, whoever wrote it."""
    tables = {
        "processed_files": "filename, duration, speaker_id, metadata, created_at",
        "processing_history": "processed_file_id, model_type, success, parameters, start_time",
        "model_performance": "processing_history_id, si_snri, additional_metrics, created_at",
    }
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: [
                (*row[:-2], json.loads(row[-2]), row[-1].replace("T", " ")[:19])
                for row in connection.execute(f"SELECT {columns} FROM {table} ORDER BY id")
            ]
            for table, columns in tables.items()
        }


CLOCKS: Final = {"wall": time.perf_counter, "cpu": time.process_time}
