"""The command: measure, print, and write page and plot."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks import data, extras, report, scale, startup
from benchmarks.lean import LeanTuples
from benchmarks.workloads import (
    CLOCKS,
    FULL,
    OURS,
    QUICK,
    WORKLOADS,
    Arena,
    Result,
    Size,
    contestants,
)

_DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
_WRITERS: Final = 4  # processes that the goal is about
Figure = tuple[str, str, float, str]  # what, its unit, the figure, its goal


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report, each table as soon as it is there."""
    options = _parser().parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="voices-benchmarks-", dir=options.folder))
    bench, lines = _Bench(folder, options), list[str]()
    try:
        for part in bench.parts():
            print("\n".join(part), flush=True)
            lines += part
    finally:
        shutil.rmtree(folder)
    page = options.output
    if page is None and not options.quick and not options.only:
        page = _DOCS / "performance.md"
    if page is not None:
        report.write(page, lines)
        if not report.plot(bench.results, page.parent / "img" / "performance.svg"):
            _say("no plot: matplotlib is not installed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, without the experiment tracker; under a minute",
    )
    parser.add_argument("--only", nargs="+", metavar="KEY", help=f"only these: {' '.join(_KEYS)}")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: on a busy machine")
    parser.add_argument("--folder", type=Path, help="where the databases are made")
    parser.add_argument(
        "--output", type=Path, help="the page to write; default: docs/performance.md, not if quick"
    )
    return parser


class _Bench:
    """All that is measured, in a folder whose databases are made once."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.is_quick, self.only = folder, options.quick, options.only
        self.size: Size = QUICK if options.quick else FULL
        self.clock = CLOCKS[options.clock]
        self.clock_of_others = startup.children if options.clock == "cpu" else self.clock
        self.results: list[Result] = []
        self.writers: dict[int, dict[str, tuple[float, float]]] = {}

    def parts(self) -> Iterator[list[str]]:
        """Yield the lines of each table."""
        yield report.machine(self.size)
        arena = Arena(self.folder, self.size, self.clock)
        everyone = contestants(trackers=not self.is_quick)
        for work in filter(self._wants, WORKLOADS):
            result = arena.run(work, everyone)
            self.results.append(result)
            _say(f"{work.key}. {work.title}: {result.ratio(OURS):.2f} × {work.base}")
        if self.results:
            yield report.ratios(self.results)
        for key, part in _PARTS.items():
            if self.only is None or key in self.only:
                yield part(self)
                _say(key)

    def _wants(self, work: object) -> bool:
        return self.only is None or getattr(work, "key", "") in self.only

    def single(self) -> list[str]:
        """Return what is no race of many."""
        return report.single(self._figures())

    def _figures(self) -> Iterator[Figure]:
        size = self.size
        database = data.of_size(self.folder, size.big_table)
        tracked = Path(shutil.copy(data.create(self.folder / "empty.db"), self.folder / "track.db"))
        for what, taken in extras.track(tracked, 500).items():
            goal = "≤ 2" if what == "empty" else ""
            yield f"b′. a `track` block, {what}", "ms", taken, goal
        for result in self.results:
            if taken := result.seconds.get("MLflow"):
                yield "b′. a run with MLflow", "ms", taken / size.runs * 1000, ""
        ranked = extras.leaderboard(database, size.rounds)
        ratio = ranked["voices_peewee"] / ranked["by_hand"]
        yield (
            f"h. leaderboard over {size.big_table:,} measurements",
            "× SQL by hand",
            ratio,
            "≤ 1.3",
        )
        yield from self._backup("i. backup", database, 1.5)
        for way, peak in extras.memory(database).items():
            yield f"l. {size.big_table:,} files, {way}", "MB over idle", peak, "≤ 5"

    def _backup(self, what: str, database: Path, goal: float) -> Iterator[Figure]:
        copied = extras.backup(database, self.size.rounds)
        ratio = copied["voices_peewee"] / copied["raw"]
        size = f"{database.stat().st_size / 1e6:,.0f} MB"
        yield f"{what} of {size}, verified", "× Connection.backup()", ratio, f"≤ {goal}"

    def many_writers(self) -> list[str]:
        """Return the rates of several processes that write at once."""
        empty, each = data.create(self.folder / "empty.db"), 100 if self.is_quick else 500
        counts = (1, 2) if self.is_quick else (1, 2, 4, 8)
        self.writers = {count: extras.writers(empty, count, each) for count in counts}
        return report.many_writers(self.writers)

    def beside_lean(self) -> list[str]:
        """Return what the schema costs."""
        return report.lean(self.results, self._lean_figures())

    def _lean_figures(self) -> Iterator[Figure]:
        for processes, found in self.writers.items():
            (lean, _), (ours, _) = found[LeanTuples.name], found[OURS]
            if processes == min(_WRITERS, max(self.writers)):
                what = f"j. {processes} writing processes, runs/s"
                yield what, f"× {LeanTuples.name}", ours / lean, "≥ 0.6"
        runs = min(30_000, self.size.big_table)
        ours_bytes, lean_bytes = extras.file_sizes(self.folder, runs)
        what = f"file of {runs:,} runs, {ours_bytes / 1e6:.1f} MB"
        yield what, f"× {lean_bytes / 1e6:.1f} MB", ours_bytes / lean_bytes, "≤ 1.35"
        yield from self._backup("i. backup", data.of_size(self.folder, runs), 1.6)

    def start_up(self) -> list[str]:
        """Return how long commands take to start."""
        empty = data.create(self.folder / "empty.db")
        rounds = 3 if self.is_quick else 11
        return report.started(startup.measure(empty, rounds, self.clock_of_others))

    def questions(self) -> list[str]:
        """Return how questions grow."""
        largest = self.size.big_table
        sizes = (1_000, largest) if self.is_quick else (10_000, 100_000, largest)
        return report.scaled(sizes, scale.measure(self.folder, sizes))


_PARTS: Final = {
    "single": _Bench.single,
    "j": _Bench.many_writers,
    "lean": _Bench.beside_lean,
    "start": _Bench.start_up,
    "questions": _Bench.questions,
}
_KEYS: Final = (*(work.key for work in WORKLOADS), *_PARTS)


def _say(words: str) -> None:
    print(f"{time.perf_counter() - _BEGAN:6.1f} s  {words}", file=sys.stderr, flush=True)


_BEGAN: Final = time.perf_counter()
