"""What is left, what failed, what one run was, and what was ever done to a recording."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import peewee as pw

from voices_peewee.database.dialects import ByEngine
from voices_peewee.database.results import ResultList, Spec
from voices_peewee.errors import AmbiguousNameError, NotFoundError
from voices_peewee.questions.pending import pending as pending
from voices_peewee.questions.selection import Runs, Time, model_label
from voices_peewee.records.sources import locate
from voices_peewee.rendering.plain import printable
from voices_peewee.schema.fields import dump_json
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker

if TYPE_CHECKING:
    from voices_peewee.database.store import FileKey, SpeakerKey, Store

_SHORTEST_PREFIX: Final = 6
_MEASURED: Final = (
    "si_snri",
    "sdri",
    "cpu_usage",
    "memory_usage",
    "processing_time",
    "real_time_factor",
)


@dataclass(frozen=True, slots=True)
class Failure:
    """The failed runs that ended with the same error.

    ``error`` is its first line; ``error_type`` and ``message`` are the parts before and after
    the first colon. ``count`` counts runs, ``models`` names those they were by, the most
    frequent first. ``newest`` is when the latest of them began; ``run_id``, ``history_id`` and
    ``path`` (of the recording) are that one's.
    """

    error: str
    error_type: str
    message: str
    count: int
    models: tuple[str, ...]
    newest: dt.datetime
    run_id: str
    history_id: int
    path: str | None


_FAILURE: Final = (
    Spec("error", "text", nullable=False),
    Spec("error_type", "text", nullable=False),
    Spec("message", "text", nullable=False),
    Spec("count", "integer", nullable=False),
    Spec("models", "json", nullable=False),
    Spec("newest", "time", nullable=False),
    Spec("run_id", "text", nullable=False),
    Spec("history_id", "integer", nullable=False),
    Spec("path", "path"),
)


def failures(
    store: Store,
    *,
    operation_type: str | None = None,
    model_type: str | None = None,
    model_version: str | None = None,
    speaker: SpeakerKey | None = None,
    since: Time | None = None,
    until: Time | None = None,
) -> ResultList[Failure]:
    """Return the failed runs grouped by the first line of their error, the most frequent first.

    Args:
        store: The open database.
        operation_type: Only runs of this operation.
        model_type: Only runs of this model.
        model_version: Only runs of this version.
        speaker: Only recordings and stems of this speaker.
        since: Only runs that started then or later.
        until: Only runs that started before.

    Raises:
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: A time cannot be read, or has no time zone.
    """
    runs = Runs(
        operation_type=operation_type,
        model_type=model_type,
        model_version=model_version,
        speaker=speaker,
        since=since,
        until=until,
    )
    run, file = ProcessingHistory, ProcessedFile
    columns = (run.id, run.run_id, run.model_type, run.model_version, run.start_time)
    with store.reading():
        query = run.select(*columns, _first_line(run.error_message), file.original_path).join(file)
        query = query.where(
            ~run.success, run.end_time.is_null(is_null=False), *runs.conditions(store, run)
        )
        query = query.order_by(run.start_time.desc(), run.id)
        groups: dict[str, dict[str, tuple[Any, ...]]] = {}
        for row in store.connection().execute(*query.sql()):
            groups.setdefault(_error(row[5]), {}).setdefault(row[1], row)
    found = [_failure(error, list(rows.values())) for error, rows in groups.items()]
    found.sort(key=lambda one: one.count, reverse=True)
    return ResultList(found, _FAILURE, ("error", "count", "models", "newest", "path"))


def _first_line(text: pw.Field) -> pw.ColumnBase:
    """Return the first line in SQL, so that tracebacks stay where they are."""
    newline = pw.fn.char(10)
    shown = pw.fn.ltrim(pw.fn.COALESCE(text, ""), " \t\r\n")
    sqlite = pw.fn.substr(shown, 1, pw.fn.instr(shown.concat(newline), newline) - 1)
    return ByEngine(sqlite, pw.fn.split_part(shown, "\n", 1))


def _error(line: str) -> str:
    return line.strip() or "(no error message)"


def _failure(error: str, rows: list[tuple[Any, ...]]) -> Failure:
    """Summarize the rows of one error, a row each run, the newest first."""
    kind, _, message = error.partition(":")
    models = Counter(model_label(row[2], row[3]) for row in rows)
    history_id, run_id, *_, start, _, path = rows[0]
    return Failure(
        error,
        kind,
        message.strip(),
        len(rows),
        tuple(name for name, _ in models.most_common()),
        _time(start),
        run_id,
        history_id,
        _path(path),
    )


def _time(stored: object) -> dt.datetime:
    return cast("dt.datetime", ProcessingHistory.start_time.python_value(stored))


def _path(stored: object) -> str | None:
    return cast("str | None", ProcessedFile.original_path.python_value(stored))


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


def show_run(store: Store, key: int | str) -> RunDetails:
    """Return one run whole, with all its outputs.

    Args:
        store: The open database.
        key: The id of one of its history rows, its ``run_id``, or the first six or more
            characters of it where they are no other's.

    Raises:
        NotFoundError: There is no such run.
        AmbiguousNameError: Several runs begin like that.
    """
    with store.reading():
        rows = _history(ProcessingHistory.run_id == _run_id(key))
    if not rows:
        raise NotFoundError("run", key)
    return _details(rows)


def _run_id(key: int | str) -> str:
    run, number = ProcessingHistory, _as_id(key)
    found = None if number is None else run.select(run.run_id).where(run.id == number).scalar()
    if found is not None or not isinstance(key, str) or len(key) < _SHORTEST_PREFIX:
        return str(found or key)
    query = run.select(run.run_id, pw.fn.MIN(run.id)).group_by(run.run_id)
    # No text that begins with the prefix sorts after the prefix with the last character.
    query = query.where(run.run_id.between(key, key + chr(0x10FFFF)))
    matching = dict(cast("list[tuple[str, int]]", list(query.tuples())))
    if len(matching) > 1 and key not in matching:
        raise AmbiguousNameError("run", key, sorted(matching.values()))
    return key if key in matching else next(iter(matching), key)


def _as_id(key: object) -> int | None:
    if isinstance(key, int):
        return key if 0 <= key < 1 << 63 else None
    text = str(key)  # of at most 18 digits, which fit into 64 bits
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _details(rows: list[ProcessingHistory]) -> RunDetails:
    first = rows[0]
    start = min(row.start_time for row in rows)
    ends = [row.end_time for row in rows if row.end_time is not None]
    end = max(ends) if len(ends) == len(rows) else None
    parameters = dict(first.parameters) if isinstance(first.parameters, dict) else {}
    return RunDetails(
        run_id=first.run_id,
        status=_status(rows),
        operation_type=first.operation_type,
        model_type=first.model_type,
        model_version=first.model_version,
        original_path=first.processed_file.original_path,
        start_time=start,
        end_time=end,
        seconds=None if end is None else (end - start).total_seconds(),
        environment=parameters.pop("environment", None),
        parameters=parameters,
        process=first.process,
        source_hash=first.source_hash,
        error=next((row.error_message for row in rows if row.error_message), None),
        rows=tuple(_run_row(row) for row in rows),
    )


def _status(rows: Iterable[ProcessingHistory]) -> str:
    """Return the status of a run: it succeeded when every row did."""
    found = {row.status for row in rows}
    return next(status for status in ("unfinished", "failed", "success") if status in found)


def _run_row(row: ProcessingHistory) -> RunRow:
    file, measured = row.processed_file, row.model_performance
    metrics = {name: getattr(measured, name, None) for name in _MEASURED}
    return RunRow(
        history_id=row.id,
        file_id=file.id,
        processed_path=file.processed_path,
        speaker=None if file.speaker is None else file.speaker.name,
        status=row.status,
        metrics={
            **{name: value for name, value in metrics.items() if value is not None},
            **(measured.additional_metrics or {} if measured is not None else {}),
        },
    )


def history(store: Store, file: FileKey) -> ResultList[ProcessingHistory]:
    """Return all that was ever done to a recording, oldest first.

    Found are the runs of every row that has the same original path. Their files, speakers and
    measurements are there without further queries.

    Args:
        store: The open database.
        file: The id of a file, its original path, or the file.

    Raises:
        NotFoundError: There is no such file.
        InvalidValueError: The path is empty.
    """
    with store.reading():
        return ResultList.of(_history(_same_recording(store, file)), ProcessingHistory)


def _same_recording(store: Store, key: FileKey) -> pw.Expression:
    number = _as_id(key)
    row = key if isinstance(key, ProcessedFile) else None
    if number is not None:
        row = ProcessedFile.get_or_none(ProcessedFile.id == number)
    if row is not None and row.original_path is None:
        return ProcessedFile.id == row.id
    if row is None and isinstance(key, int):
        raise NotFoundError("file", key)
    path = locate(key) if row is None else row.original_path
    if row is None and not store.query(ProcessedFile).filter_by(original_path=path).exists():
        raise NotFoundError("file", str(key))
    return ProcessedFile.original_path == path


class _Loaded(list[ModelPerformance]):
    """Measurements that were read already, where Peewee has a query."""

    def first(self) -> ModelPerformance | None:
        return self[0] if self else None


def _history(condition: pw.Expression) -> list[ProcessingHistory]:
    """Return history rows, oldest first, with what belongs to them: two queries."""
    run, measured = ProcessingHistory, ModelPerformance
    chosen = run.select().join(ProcessedFile).where(condition)
    query = run.select(run, ProcessedFile, Speaker).join(ProcessedFile)
    query = query.join(Speaker, pw.JOIN.LEFT_OUTER).where(condition)
    rows = list(query.order_by(run.start_time, run.id))
    ids = chosen.select(run.id)
    found = {
        row.processing_history_id: row
        for row in measured.select().where(measured.processing_history.in_(ids))
    }
    for row in rows:
        one = found.get(row.id)
        vars(row)["performance_rows"] = _Loaded([] if one is None else [one])
    return rows


def _lines(of: RunDetails) -> list[str]:
    facts = {
        "run": of.run_id,
        "status": of.status,
        "operation": of.operation_type,
        "model": model_label(of.model_type, of.model_version),
        "recording": of.original_path or "-",
        "started": f"{of.start_time:%Y-%m-%d %H:%M:%S} UTC",
        "ended": "-" if of.end_time is None else f"{of.end_time:%Y-%m-%d %H:%M:%S} UTC",
        **{f"parameter {name}": _json(value) for name, value in of.parameters.items()},
        **{f"environment {name}": _json(value) for name, value in (of.environment or {}).items()},
        **{f"process {name}": _json(value) for name, value in (of.process or {}).items()},
    }
    lines = [f"{name}: {printable(text)}" for name, text in facts.items()]
    for row in of.rows:
        whose = "" if row.speaker is None else f" ({row.speaker})"
        lines += ["", printable(f"{row.history_id}: {row.processed_path or '(no output)'}{whose}")]
        lines += [printable(f"  {name}: {_json(value)}") for name, value in row.metrics.items()]
    if of.error is not None:
        lines += ["", *(printable(line) for line in of.error.splitlines())]
    return lines


def _json(value: object) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if isinstance(value, float) else dump_json(value)
