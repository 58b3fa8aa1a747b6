"""The figures as a Markdown page and as a plot."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from benchmarks import startup
from benchmarks.workloads import LEAN, LEAN_GOALS, OURS, Result, Size

BEGIN: Final = "<!-- figures: written by python -m benchmarks -->"
END: Final = "<!-- end of figures -->"
_PACKAGES: Final = ("peewee", "SQLAlchemy", "mlflow-skinny", "mlflow")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def number(value: float | None) -> str:
    """Return a figure with two or three digits that mean something."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def machine(size: Size) -> list[str]:
    """Return a sentence on the machine, the versions and the sizes."""
    versions = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    sizes = (
        f"{size.adds:,} adds, {size.runs:,} runs, {size.bulk:,} records in bulk, tables of "
        f"{size.table:,} (d) and {size.big_table:,} files (e–g); medians of {size.rounds} rounds"
    )
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return [f"{where}; {', '.join(versions)}. {sizes}.", ""]


def ratios(results: Sequence[Result]) -> list[str]:
    """Return the table of all contestants."""
    names = _names(results)
    names.insert(0, names.pop(names.index(OURS)))
    rows = []
    for result in results:
        work = result.workload
        cells = [f"{work.key}. {work.title}", f"× {work.base}"]
        cells += [number(result.ratio(name)) for name in names]
        rows.append([*cells[:2], f"**{cells[2]}**", *cells[3:], f"≤ {work.goal:g}"])
    return table(["workload", "unit", *names, "goal"], rows)


def _names(results: Sequence[Result]) -> list[str]:
    """Return the contestants on the equal schema."""
    names = dict.fromkeys(name for result in results for name in result.seconds)
    return [name for name in names if name not in LEAN.values()]


def lean(results: Sequence[Result], figures: Iterable[tuple[str, str, float, str]]) -> list[str]:
    """Return the table of what the schema costs: beside raw sqlite3 on the lean schema."""
    races = (
        (
            f"{result.workload.key}. {result.workload.title}",
            f"× {LEAN[result.workload.base]}",
            result.lean_ratio,
            f"≤ {LEAN_GOALS[result.workload.key]:g}",
        )
        for result in results
        if result.workload.key in LEAN_GOALS
    )
    return single([*races, *figures])


def single(rows: Iterable[tuple[str, str, float | None, str]]) -> list[str]:
    """Return the table of what has one figure: what, unit, figure, goal."""
    head = ["workload", "unit", OURS, "goal"]
    return table(head, ([what, unit, number(value), goal] for what, unit, value, goal in rows))


def many_writers(found: dict[int, dict[str, tuple[float, float]]]) -> list[str]:
    """Return the table of throughput and tail latency with several processes."""
    rows = []
    for processes, by_name in found.items():
        (raw, raw_tail), _, (ours, our_tail) = by_name.values()
        goal = "≥ 0.7" if processes == 4 else ""
        rows.append([str(processes), number(ours / raw), goal, number(our_tail / raw_tail)])
    head = ["j. writing processes", "runs/s, × raw", "goal", "99th percentile, × raw"]
    return table(head, rows)


def scaled(sizes: Sequence[int], times: dict[str, list[float]]) -> list[str]:
    """Return the table of questions, in ms, at several sizes; the exponent is the last step's."""
    step = math.log(sizes[-1] / sizes[-2])
    rows = (
        [name, *map(number, each), f"{math.log(each[-1] / each[-2]) / step:.1f}"]
        for name, each in times.items()
    )
    return table(["ms", *(f"{size:,} files and runs" for size in sizes), "exponent"], rows)


def started(times: dict[str, float]) -> list[str]:
    """Return the table of starting times over that of the bare interpreter."""
    bare = times["python -c pass"]
    rows = []
    for name, seconds in times.items():
        goal = startup.COMMANDS[name][1]
        shown = "" if goal is None else f"≤ {goal:g}"
        rows.append([f"`{name}`", number(seconds / bare), shown])
    return table(["command", "× `python -c pass`", "goal"], rows)


def write(page: Path, lines: Iterable[str]) -> None:
    """Put the figures into their place in a page, or at the end of a new one."""
    text = page.read_text("utf-8") if page.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    body = "\n".join(lines).strip()
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", "utf-8")


def plot(results: Sequence[Result], path: Path) -> bool:
    """Draw the ratios; return whether matplotlib is there to do it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    names = _names(results)
    for name in sorted(names, key=lambda one: one == OURS):
        found = [(result.ratio(name), place) for place, result in enumerate(results)]
        points = [(ratio, place) for ratio, place in found if ratio is not None]
        size, marker = (90, "D") if name == OURS else (45, "o")
        axes.scatter(*zip(*points, strict=True), s=size, marker=marker, label=name)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("time, × raw sqlite3 (d–g: × raw sqlite3 that builds objects)")
    labels = [f"{result.workload.key}. {result.workload.title}" for result in results]
    axes.set_yticks(range(len(results)), labels)
    axes.invert_yaxis()
    axes.legend(loc="lower right", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return True
