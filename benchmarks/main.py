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


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    options = _parser().parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="voices-benchmarks-", dir=options.folder))
    try:
        size = QUICK if options.quick else FULL
        chosen = [work for work in WORKLOADS if not options.only or work.key in options.only]
        arena = Arena(folder, size, CLOCKS[options.clock])
        results = []
        everyone = contestants(trackers=not options.quick)
        for work in chosen:
            _say(f"{work.key}. {work.title}")
            results.append(arena.run(work, everyone))
        lines = [*report.machine(size), *report.ratios(results)]
        if options.only:
            lines += report.lean(results, ())
        else:
            lines += _extras(folder, size, results, quick=options.quick)
    finally:
        shutil.rmtree(folder)
    print("\n".join(lines))
    _write(options, lines, results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes, without the experiment tracker; under a minute",
    )
    parser.add_argument("--only", nargs="+", metavar="KEY", help="only these workloads: a b c …")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: on a busy machine")
    parser.add_argument("--folder", type=Path, help="where the databases are made")
    parser.add_argument(
        "--output", type=Path, help="the page to write; default: docs/performance.md, not if quick"
    )
    return parser


def _write(options: argparse.Namespace, lines: list[str], results: list[Result]) -> None:
    page = options.output
    if page is None and not options.quick and not options.only:
        page = _DOCS / "performance.md"
    if page is not None:
        report.write(page, lines)
        if not report.plot(results, page.parent / "img" / "performance.svg"):
            _say("no plot: matplotlib is not installed")


def _extras(folder: Path, size: Size, results: list[Result], *, quick: bool) -> Iterator[str]:
    runs = size.big_table
    database = data.create(folder / f"runs_{runs}.db", files=runs, runs=runs)
    _say("leaderboard, backup, track")
    yield from report.single(_figures(folder, database, size, results))
    _say("many writers")
    empty, each = folder / "empty.db", 100 if quick else 500
    counts = (1, 2) if quick else (1, 2, 4, 8)
    writers = {n: extras.writers(empty, n, each) for n in counts}
    yield from report.many_writers(writers)
    _say("beside the lean schema")
    yield from report.lean(results, _beside_lean(folder, size, writers))
    _say("start-up")
    yield from report.started(startup.measure(empty, 3 if quick else 11))
    _say("questions at several sizes")
    sizes = (1_000, runs) if quick else (10_000, 100_000, runs)
    yield from report.scaled(sizes, scale.measure(folder, sizes))


def _beside_lean(
    folder: Path, size: Size, writers: dict[int, dict[str, tuple[float, float]]]
) -> Iterator[tuple[str, str, str, str]]:
    processes, found = max(item for item in writers.items() if item[0] <= _WRITERS)
    (lean, _), (ours, _) = found[LeanTuples.name], found[OURS]
    each = report.number(ours / lean)
    yield f"j. {processes} writing processes, runs/s", f"× {LeanTuples.name}", each, "≥ 0.6"
    runs = min(30_000, size.big_table)
    ours_bytes, lean_bytes = extras.file_sizes(folder, runs)
    what = f"file of {runs:,} runs, {ours_bytes / 1e6:.1f} MB"
    yield what, f"× {lean_bytes / 1e6:.1f} MB", report.number(ours_bytes / lean_bytes), "≤ 1.35"
    copied = extras.backup(folder / f"size_{runs}.db", size.rounds)
    ratio = report.number(copied["voices_peewee"] / copied["raw"])
    yield "i. backup of that file, verified", "× Connection.backup()", ratio, "≤ 1.6"


_WRITERS: Final = 4  # processes that the goal is about


def _figures(
    folder: Path, database: Path, size: Size, results: list[Result]
) -> Iterator[tuple[str, str, float, str]]:
    tracked = Path(shutil.copy(folder / "empty.db", folder / "tracked.db"))
    for what, taken in extras.track(tracked, 500).items():
        goal = "≤ 2" if what == "empty" else ""
        yield f"b′. a `track` block, {what}", "ms", taken, goal
    recorded = next(result for result in results if result.workload.key == "b")
    if "MLflow" in recorded.seconds:
        yield "b′. a run with MLflow", "ms", recorded.seconds["MLflow"] / size.runs * 1000, ""
    ranked = extras.leaderboard(database, size.rounds)
    ratio = ranked["voices_peewee"] / ranked["by_hand"]
    yield f"h. leaderboard over {size.big_table:,} measurements", "× SQL by hand", ratio, "≤ 1.3"
    copied = extras.backup(database, size.rounds)
    megabytes = database.stat().st_size / 1e6
    what = f"i. backup of {megabytes:,.0f} MB, verified"
    yield what, "× Connection.backup()", copied["voices_peewee"] / copied["raw"], "≤ 1.5"
    for way, peak in extras.memory(database).items():
        yield f"l. {size.big_table:,} files, {way}", "MB over idle", peak, "≤ 5"


def _say(words: str) -> None:
    print(f"{time.perf_counter() - _BEGAN:6.1f} s  {words}", file=sys.stderr, flush=True)


_BEGAN: Final = time.perf_counter()
