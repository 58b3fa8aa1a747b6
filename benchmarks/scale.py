"""How the questions grow with the database: milliseconds at 10⁴, 10⁵ and 10⁶ files and runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import data
from voices_peewee import DatabaseManager

Question = Callable[[DatabaseManager], Any]


def _page(noun: str, *words: str, **options: Any) -> Question:
    return lambda db: list(db.list_rows(noun, words, **options))


_PATHS = [str(data.file_record(number)["original_path"]) for number in range(0, 5000, 50)]

QUESTIONS: dict[str, Question] = {
    "list-speakers": _page("speakers"),
    "list-files": _page("files"),
    "list-files --speaker": _page("files", speaker="Speaker 007"),
    "list-files --sort -duration": _page("files", sort="-duration"),
    "list-files duration:29..": _page("files", "duration:29.."),
    "list-files --search, found": _page("files", search="mix_0000777"),
    "list-files --search, not found": _page("files", search="nowhere"),
    "list-history": _page("history"),
    "list-history --failed": _page("history", failed=True),
    "list-history model:svoice": _page("history", "model:svoice"),
    "list-performance": _page("performance"),
    "list-performance --sort -si_snri": _page("performance", sort="-si_snri"),
    "status": lambda db: db.status(),
    "leaderboard": lambda db: db.leaderboard(),
    "compare": lambda db: db.compare("demucs:4.0", "svoice:1.2"),
    "pending, 100 paths": lambda db: list(
        db.pending(_PATHS, "voice_separation", model_type="demucs", model_version="4.0")
    ),
}


def measure(folder: Path, sizes: tuple[int, ...], rounds: int = 3) -> dict[str, list[float]]:
    """Return the median time (ms) of each question, one for each size."""
    times: dict[str, list[float]] = {name: [] for name in QUESTIONS}
    for size in sizes:
        with DatabaseManager(data.of_size(folder, size)).connect() as db:
            for name, ask in QUESTIONS.items():
                times[name].append(_median(ask, db, rounds))
    return times


def _median(ask: Question, db: DatabaseManager, rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        ask(db)
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)
