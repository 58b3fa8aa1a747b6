"""How a run becomes rows: of files, of history and of measurements, live or from elsewhere.

A run of a recording hangs on the recording's own row, or on a voice where it has a speaker that
is not the recording's. Each output has a stem's row. Recordings belong to no run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from voices_peewee.database.query import mapper
from voices_peewee.database.store import Store
from voices_peewee.errors import NotFoundError
from voices_peewee.records.sources import FACTS, changed_facts, write_changes
from voices_peewee.runs.metrics import Metrics, combine
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import ProcessedFile

_STEMS: Final = "WHERE processed_path = ? AND recording_id = ? ORDER BY id"
_VOICES: Final = """WHERE recording_id = ? AND speaker_id = ? AND processed_path IS NULL
 ORDER BY id LIMIT 1"""
# With the run's id too: SQLite gives the ids of deleted rows to those of other runs.
_MOVE: Final = "UPDATE processing_history SET processed_file_id = ? WHERE id = ? AND run_id = ?"
_DROP: Final = """DELETE FROM processed_files WHERE id = ? AND recording_id IS NOT NULL
 AND NOT EXISTS (SELECT 1 FROM processing_history WHERE processed_file_id = processed_files.id)"""
# What a stem's row says of its own file; name and path are its recording's.
_OWN_FACTS: Final = FACTS[2:]


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a run, with its own metrics and what its file is.

    ``unknown`` is the name of its speaker where the record has no such one.
    """

    path: str
    speaker_id: int | None
    metrics: Metrics
    facts: dict[str, Any] = field(default_factory=dict)
    unknown: str | None = None


def own_facts(path: str) -> dict[str, Any]:
    """Return what the file of an output is; the slow part, without a lock."""
    facts = changed_facts(path, None)
    return {name: facts[name] for name in _OWN_FACTS}


def starting_file(store: Store, recording: ProcessedFile, speaker_id: int | None) -> ProcessedFile:
    """Return the row that a run without outputs hangs on: the recording's or a voice's."""
    if speaker_id is None or speaker_id == recording.speaker_id:
        return recording
    place = _VOICES, (recording.id, speaker_id)
    found = next(iter(_rows(store, *place)), None)
    if found is None and store.server is not None:
        store.lock_sources([str(recording.original_path)])
        found = next(iter(_rows(store, *place)), None)
    if found is not None:
        return found
    return _insert(store, _part(recording, speaker_id))


def stem_file(store: Store, recording: ProcessedFile, output: Output) -> ProcessedFile:
    """Return the row of an output, true to its file."""
    stored = ProcessedFile.processed_path.db_value(output.path)
    for row in _rows(store, _STEMS, (stored, recording.id)):
        if row.speaker_id != output.speaker_id or _unknown(row) != output.unknown:
            continue
        if output.facts.get("read_at"):  # where the file is gone, what was known of it stays
            write_changes(row, output.facts)
        return row
    return _insert(store, new_stem(recording, output))


def new_stem(recording: ProcessedFile, output: Output) -> ProcessedFile:
    """Return the object of an output's row, not written."""
    return _part(
        recording,
        output.speaker_id,
        processed_path=output.path,
        metadata=_metadata(output),
        **output.facts,
    )


def move(
    store: Store, run_id: str, history_id: int, *, before: ProcessedFile, after: ProcessedFile
) -> None:
    """Hang a history row on another file; a voice or stem that nothing hangs on any more goes.

    Raises:
        NotFoundError: Somebody deleted the history row.
    """
    connection = store.connection()
    if not connection.execute(_MOVE, (after.id, history_id, run_id)).rowcount:
        raise NotFoundError("run", history_id)
    if before.recording_id is not None and before.id != after.id:
        store.lock_sources([str(before.original_path)])
        connection.execute(_DROP, (before.id,))


def performance(
    history: dict[str, Any],
    history_id: int,
    own: Metrics,
    of_run: Metrics,
    measured: Metrics,
    *,
    duration: float | None,
) -> dict[str, Any]:
    """Return the values of the performance row of a history row.

    Args:
        history: What is the same in all history rows of the run.
        history_id: The measured row.
        own: The output's metrics.
        of_run: What was logged for the run.
        measured: What the run cost.
        duration: The recording's, in seconds.
    """
    return {
        "processing_history": history_id,
        "model_type": history["model_type"],
        "model_version": history["model_version"],
        "created_at": utc_now(),
        **combine(own, of_run, measured, duration=duration).row(),
    }


def _unknown(stem: ProcessedFile) -> str | None:
    name = (stem.metadata or {}).get("speaker")
    return name if isinstance(name, str) else None


def _metadata(output: Output) -> dict[str, Any]:
    return {"speaker": output.unknown} if output.unknown else {}


def _part(recording: ProcessedFile, speaker_id: int | None, **values: Any) -> ProcessedFile:
    return ProcessedFile(
        filename=recording.filename,
        original_path=recording.original_path,
        recording=recording.id,
        speaker=speaker_id,
        **values,
    )


def _rows(store: Store, where: str, values: tuple[Any, ...]) -> list[ProcessedFile]:
    rows = mapper(ProcessedFile)
    found = store.connection().execute(f"{rows.select_sql} {where}", values).fetchall()
    return list(rows.build(found))


def _insert(store: Store, row: ProcessedFile) -> ProcessedFile:
    mapper(ProcessedFile).insert(store.connection(), row)
    return row
