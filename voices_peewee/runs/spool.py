"""A run whose end a server did not take: kept in a file that ``voices import`` takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from voices_peewee.database import files
from voices_peewee.errors import DatabaseError
from voices_peewee.runs.rows import Ending, LiveRows, Row, new_stem, place_of
from voices_peewee.schema.fields import dump_json
from voices_peewee.schema.models import (
    BaseModel,
    Environment,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
)

Record = tuple[type[BaseModel], Mapping[str, Any]]


class SpoolWarning(UserWarning):
    """The server did not take what it was told; that is kept elsewhere."""


def kept(run: LiveRows, ending: Ending, server: str) -> str:
    """Keep a run in a file, which names its server; where none can be, the answer has its rows."""
    text = "".join(_lines(_records(run, ending), server))
    name = f"{run.history['start_time']:%Y%m%dT%H%M%SZ}_{run.run_id}"
    try:
        return f"the run is kept in {str(_write(name, text))!r}: 'voices import' adds it"
    except DatabaseError as error:
        return f"{error}; 'voices import -' adds the run from these lines:\n{text}"


def _write(name: str, text: str) -> Path:
    """Write a new file; it is its owner's only, and whole on the disk when it has its name.

    Raises:
        DatabaseError: The file cannot be written.
    """
    path = files.spool() / f"{name}.jsonl"
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        raise DatabaseError(path, (error.strerror or str(error)).lower()) from error
    return path


def _lines(records: Iterable[Record], server: str) -> Iterator[str]:
    counts: dict[str, int] = {}
    for model, data in records:
        table = str(model._meta.table_name)
        counts[table] = counts.get(table, 0) + 1
        row = {field.column_name: data.get(field.name) for field in model._meta.sorted_fields}
        yield dump_json({"table": table, **row}) + "\n"
    yield dump_json({"table": "end", "rows": counts, "server": server}) + "\n"


def _records(run: LiveRows, ending: Ending) -> Iterator[Record]:
    """Yield the rows of a run as they should be, files first, the recording before all."""
    key = None
    if place := run.surroundings:
        key = 1
        own = {"facts": place.facts, "digest": place.digest, "created_at": place.seen_at}
        yield Environment, {"id": key, **own}
    rows = _with_late(run)
    files = {row.file.id: row.file for row in rows}
    for file in {run.recording.id: run.recording, **files}.values():
        yield ProcessedFile, file.__data__
    end = {"success": ending.message is None, "error_message": ending.message}
    shared = {**run.history, **end, "end_time": ending.time, "environment": key}
    for row in rows:
        yield ProcessingHistory, {**shared, "id": row.history_id, "processed_file": row.file.id}
    for row in rows:
        yield ModelPerformance, {"id": row.history_id, **run.measured(row, ending.cost)}


def _with_late(run: LiveRows) -> list[Row]:
    """Return the rows with those that outputs would have had that were never written."""
    rows = list(run.rows)
    for output in run.late:
        place = place_of(rows, output.path)
        row = rows[place] if place < len(rows) else _one_more(rows)
        told = output.after(row.output) if row.output else output
        if not (row.output and output.is_at(row.file)):
            file = new_stem(run.recording, output)
            file.id = 1 + max(run.recording.id, *(one.file.id for one in rows))
            row = row._replace(file=file)
        rows[place : place + 1] = [row._replace(output=told)]
    return rows


def _one_more(rows: Sequence[Row]) -> Row:
    return Row(rows[0].file, 1 + max(row.history_id for row in rows))
