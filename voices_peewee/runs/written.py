"""What of a run is in the record already: its rows, and what was measured of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voices_peewee.database.query import Mapper, mapper
from voices_peewee.runs.rows import Output
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory

MINE: Final = "SELECT 1 FROM processing_history WHERE id = ? AND run_id = ?"
_ROWS: Final = "SELECT id, processed_file_id FROM processing_history WHERE run_id = ?"


@dataclass(frozen=True, slots=True)
class Row:
    """A history row of a run, with the file that it hangs on; the output, where that is one's."""

    file: ProcessedFile
    history_id: int
    output: Output | None = None


def forget_unknown(connection: Any, run_id: str, rows: Sequence[Row]) -> None:
    """Take back what a server may have committed as it went away: it is written again."""
    known = {row.history_id: row.file.id for row in rows}
    history, file = ProcessingHistory, ProcessedFile
    measured, fresh = ModelPerformance, [row.history_id for row in rows if not row.output]
    measured.delete().where(measured.processing_history.in_(fresh)).execute()
    mine = connection.execute(_ROWS, (run_id,)).fetchall()
    for key, file_id in mine:
        if known.get(key) == file_id:
            continue
        if key in known:
            history.update(processed_file=known[key]).where(history.id == key).execute()
        else:
            history.delete().where(history.id == key).execute()
        others = history.select(history.processed_file)
        is_output = (file.id == file_id) & file.processed_path.is_null(False)
        file.delete().where(is_output, file.id.not_in(others)).execute()


def write_measures(
    connection: Any, run_id: str, measures: Mapping[str, Any], *, is_first: bool
) -> None:
    """Write what was measured; nothing where somebody deleted the history row."""
    rows = mapper(ModelPerformance)
    insert, update, places = _measuring(rows)
    values, key = rows.bind(measures), measures["processing_history"]
    if is_first:
        connection.execute(insert, [*values, key, run_id])
    else:
        connection.execute(update, [*map(values.__getitem__, places), key])


@functools.cache
def _measuring(rows: Mapper[ModelPerformance]) -> tuple[str, str, list[int]]:
    """Return how to insert and how to update, and where the values of an update are."""
    kept = ("processing_history", "created_at")
    names = rows.names[1:]
    places = [at for at, name in enumerate(names) if name not in kept]
    columns = rows.insert_sql.partition(" VALUES ")[0]
    changed = ", ".join(f"{names[at]} = ?" for at in places)
    return (
        f"{columns} SELECT {', '.join('?' * len(names))} WHERE EXISTS ({MINE})",
        f"UPDATE model_performance SET {changed} WHERE processing_history_id = ?",  # noqa: S608
        places,
    )
