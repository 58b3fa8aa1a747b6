"""What a database is and holds, in a few counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import peewee as pw

from voices_peewee._version import __version__
from voices_peewee.database.files import MEMORY
from voices_peewee.database.store import Store
from voices_peewee.schema.models import MODELS, ProcessedFile, ProcessingHistory

_IS_OUTPUT: Final = ProcessedFile.recording.is_null(False)
_STEM: Final = pw.Case(None, [(_IS_OUTPUT, ProcessedFile.processed_path)])


def status(store: Store, path: str, applied: Sequence[str]) -> dict[str, Any]:
    """Return path, size (bytes), versions, counts and times of an open database.

    Args:
        store: The database.
        path: Its path, or the URL of a server.
        applied: The names of its migrations.
    """
    with store.snapshot():
        rows = {model._meta.table_name: model.select().count() for model in MODELS}
        return {
            "database": path,
            **_engine(store, path),
            "voices": __version__,
            "migrations": list(applied),
            "rows": rows,
            "files": _kinds_of_files(),
            "last_run": _last_run(),
            "unfinished": _unfinished(),
        }


def _engine(store: Store, path: str) -> dict[str, Any]:
    """Return the size with what still stands in the WAL (bytes), and the engine's version."""
    if store.server is not None:
        facts = store.server.facts()
        return {"size": facts["size"], "postgresql": facts["version"]}
    size = None if path == MEMORY else sum(map(_size, (path, f"{path}-wal")))
    return {"size": size, "sqlite": sqlite3.sqlite_version}


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def _kinds_of_files() -> dict[str, int]:
    """Count recordings, stems (outputs) and voices (a speaker's part without a file)."""
    counts = (pw.fn.COUNT(pw.SQL("*")), pw.fn.COUNT(ProcessedFile.recording), pw.fn.COUNT(_STEM))
    everything, outputs, stems = ProcessedFile.select(*counts).scalar(as_tuple=True)
    return {"recordings": everything - outputs, "stems": stems, "voices": outputs - stems}


def _last_run() -> Any:
    """Return the latest start as a time, or as another program wrote it."""
    start = ProcessingHistory.start_time
    found = ProcessingHistory.select(pw.fn.MAX(start).coerce(False)).scalar()
    try:
        return start.python_value(found)
    except ValueError:
        return found


def _unfinished() -> int:
    """Count the runs that have begun and not ended; one may have several rows."""
    runs = ProcessingHistory.select(pw.fn.COUNT(ProcessingHistory.run_id.distinct()))
    return int(runs.where(ProcessingHistory.end_time.is_null()).scalar())
