"""What one run was, and what was ever done to a recording."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

import peewee as pw

from voices_peewee.database.results import ResultList
from voices_peewee.database.store import FileKey, Store, as_id, plain
from voices_peewee.errors import InvalidValueError, NotFoundError
from voices_peewee.questions.selection import model_label
from voices_peewee.rendering.plain import locate, printable
from voices_peewee.runs.recorded import RunKey, find_run_id
from voices_peewee.schema.fields import dump_json
from voices_peewee.schema.models import (
    Environment,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)
from voices_peewee.schema.vocabulary import METRIC_COLUMNS

_STANDS: Final = "as it stands"


@dataclass(frozen=True, slots=True)
class RunRow:
    """One history row of a run: an output, or the run as a whole where there is none.

    ``metrics`` has what was measured and logged, under one roof; units as in
    ``ModelPerformance``.
    """

    history_id: int
    file_id: int
    processed_path: str | None
    speaker: str | None
    status: str
    metrics: dict[str, Any]


@dataclass(frozen=True)
class RunDetails:
    """One run whole.

    ``status`` is ``success``, ``failed`` or ``unfinished``; ``seconds`` is the time from start to
    end. ``error`` is the message of a failed run with its traceback. ``process`` names the host
    and process that recorded it, ``source_hash`` the content that it began with.
    """

    run_id: str
    status: str
    operation_type: str
    model_type: str | None
    model_version: str | None
    original_path: str | None
    start_time: dt.datetime
    end_time: dt.datetime | None
    seconds: float | None
    parameters: dict[str, Any]
    model_hash: str | None
    tags: tuple[str, ...]
    note: str | None
    environment: dict[str, Any] | None
    process: dict[str, Any] | None
    source_hash: str | None
    error: str | None
    rows: tuple[RunRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, with plain dicts for the rows."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def show_run(store: Store, key: RunKey) -> RunDetails:
    """Return one run whole, with all its outputs."""
    with store.answering():
        rows = _history(ProcessingHistory.run_id == find_run_id(store, key))
    if not rows:  # another program deleted it
        raise InvalidValueError(f"run {key!r} has no file; see 'voices check'")
    return _details(rows)


def _details(rows: list[ProcessingHistory]) -> RunDetails:
    first = rows[0]
    start = _one_of(min, [row.start_time for row in rows])
    ends = [row.end_time for row in rows if row.end_time is not None]
    end = _one_of(max, ends) if len(ends) == len(rows) else None
    parameters = _as_dict(first.parameters) or {}
    here = first.environment
    return RunDetails(
        run_id=first.run_id,
        status=_status(rows),
        operation_type=first.operation_type,
        model_type=first.model_type,
        model_version=first.model_version,
        original_path=first.processed_file.original_path,
        start_time=start,
        end_time=end,
        seconds=_seconds(start, end),
        model_hash=first.model_hash,
        tags=_tags_of(first),
        note=first.note,
        # Older runs have it among their parameters.
        environment=parameters.pop("environment", None) if here is None else _as_dict(here.facts),
        parameters=parameters,
        process=_as_dict(first.process),
        source_hash=first.source_hash,
        error=next((row.error_message for row in rows if row.error_message), None),
        rows=tuple(_run_row(row) for row in rows),
    )


def _one_of(choose: Callable[..., Any], times: list[Any]) -> Any:
    """Return the first or last time; what is no time only where there is nothing else."""
    return choose((time for time in times if isinstance(time, dt.datetime)), default=times[0])


def _seconds(start: object, end: object) -> float | None:
    if isinstance(start, dt.datetime) and isinstance(end, dt.datetime):
        return (end - start).total_seconds()
    return None


def _as_dict(value: object) -> dict[str, Any] | None:
    """Return a JSON object; anything else that another program wrote stands under one name."""
    return dict(value) if isinstance(value, dict) else None if value is None else {_STANDS: value}


def _tags_of(row: ProcessingHistory) -> tuple[str, ...]:
    tags: object = row.tags
    return tuple(map(str, tags if isinstance(tags, list) else [] if tags is None else [tags]))


def _shown_time(time: object) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if isinstance(time, dt.datetime) else str(time)


def _status(rows: Iterable[ProcessingHistory]) -> str:
    """Return the status of a run: it succeeded when every row did."""
    found = {row.status for row in rows}
    return next(status for status in ("unfinished", "failed", "success") if status in found)


def _run_row(row: ProcessingHistory) -> RunRow:
    file, measured = row.processed_file, row.model_performance
    metrics = {name: getattr(measured, name, None) for name in METRIC_COLUMNS}
    return RunRow(
        history_id=row.id,
        file_id=file.id,
        processed_path=file.processed_path,
        speaker=None if file.speaker is None else file.speaker.name,
        status=row.status,
        metrics={
            **{name: value for name, value in metrics.items() if value is not None},
            **(_as_dict(getattr(measured, "additional_metrics", None)) or {}),
        },
    )


def history(store: Store, file: FileKey) -> ResultList[ProcessingHistory]:
    """Return all that was ever done to a recording, oldest first."""
    with store.answering():
        return ResultList.of(_history(_same_recording(store, file)), ProcessingHistory)


def _same_recording(store: Store, key: FileKey) -> pw.Expression:
    """Return the condition for the recording's row, its stems, its voices and rows of its path."""
    file, number = ProcessedFile, as_id(key := plain(key))
    row: ProcessedFile | None = key if isinstance(key, file) else None
    if number is not None:
        row = file.get_or_none(file.id == number)
    if row is None and not isinstance(key, int):
        row = store.query(file).filter_by(original_path=locate(key)).first()
    if row is None:
        raise NotFoundError("file", key if isinstance(key, int) else str(key))
    found: pw.Expression = file.original_path == row.original_path
    if row.original_path is None:
        recording = row.recording_id or row.id
        found = (file.id == recording) | (file.recording == recording)
    return found


class _Loaded(list[ModelPerformance]):
    """Measurements that were read already, where Peewee has a query."""

    def first(self) -> ModelPerformance | None:
        return self[0] if self else None


def _history(condition: pw.Expression) -> list[ProcessingHistory]:
    """Return history rows, oldest first, with what belongs to them: two queries."""
    run, measured = ProcessingHistory, ModelPerformance
    chosen = run.select().join(ProcessedFile).where(condition)
    query = run.select(run, ProcessedFile, Speaker, Environment).join(ProcessedFile)
    query = query.join(Speaker, pw.JOIN.LEFT_OUTER).where(condition)
    query = query.join_from(run, Environment, pw.JOIN.LEFT_OUTER)
    rows = list(query.order_by(run.start_time, run.id))
    found: dict[int, list[ModelPerformance]] = {}
    for one in measured.select().where(measured.processing_history.in_(chosen.select(run.id))):
        found[one.processing_history_id] = [one]
    for row in rows:
        vars(row)["performance_rows"] = _Loaded(found.get(row.id, ()))
    return rows


def _lines(of: RunDetails) -> list[str]:
    facts = {
        "run": of.run_id,
        "status": of.status,
        "operation": of.operation_type,
        "model": model_label(of.model_type, of.model_version),
        "recording": of.original_path or "-",
        "started": _shown_time(of.start_time),
        "tags": ", ".join(of.tags),
        "note": of.note or "",
        "model hash": of.model_hash or "",
        "ended": "-" if of.end_time is None else _shown_time(of.end_time),
        **{f"parameter {name}": _json(value) for name, value in of.parameters.items()},
    }
    lines = [printable(f"{name}: {text}") for name, text in facts.items() if text]
    for row in of.rows:
        whose = "" if row.speaker is None else f" ({row.speaker})"
        lines += ["", printable(f"{row.history_id}: {row.processed_path or '(no output)'}{whose}")]
        lines += [printable(f"  {name}: {_json(value)}") for name, value in row.metrics.items()]
    told = {"environment": of.environment or {}, "process": of.process or {}}
    where = [
        printable(f"{kind} {name}: {_json(value)}")
        for kind, of_kind in told.items()
        for name, value in of_kind.items()
    ]
    lines += ["", *where] if where else []
    if of.error is not None:
        lines += ["", *(printable(line) for line in of.error.splitlines())]
    return lines


def _json(value: object) -> str:
    if isinstance(value, str | bytes):
        return str(value)
    return f"{value:.6g}" if isinstance(value, float) else dump_json(value)
