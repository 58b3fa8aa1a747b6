"""A progress bar on a terminal's stderr, and none elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

Report = Callable[[int, int], None]


@contextmanager
def byte_bar(label: str) -> Iterator[Report | None]:
    """Give a function that takes the bytes done and in all; None where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import DownloadColumn

    with _share_bar(label, DownloadColumn()) as report:
        yield report


@contextmanager
def row_bar(label: str, *, hidden: bool = False) -> Iterator[Report | None]:
    """Give a function that takes the rows done and in all; None where there is no terminal."""
    if hidden or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import TextColumn

    counts = TextColumn("{task.completed:,} of {task.total:,} rows")
    with _share_bar(label, counts) as report:
        yield report


@contextmanager
def _share_bar(label: str, shown: ProgressColumn) -> Iterator[Report]:
    """Show how much of a whole is done, from the first report on."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    bar = _bar(TextColumn("{task.description}"), BarColumn(), shown, TimeRemainingColumn())
    task = bar.add_task(label, total=None)

    def report(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total or None)
        bar.start()  # not before there is something to report; again does nothing

    try:
        yield report
    finally:
        bar.stop()


@contextmanager
def count_bar(label: str) -> Iterator[Callable[[], None]]:
    """Give a function that counts one thing as done."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}"))
    with _bar(*columns, TimeElapsedColumn()) as bar:
        task = bar.add_task(label, total=None)
        yield lambda: bar.advance(task)


def _bar(*columns: object) -> Progress:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

    shown = [column for column in columns if isinstance(column, ProgressColumn)]
    return Progress(*shown, console=Console(stderr=True), transient=True)
