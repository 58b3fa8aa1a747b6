"""Runs that happened elsewhere, one or many in one transaction."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from voices_peewee.database.query import mapper, no_full_collection
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.records.sources import (
    AnyPath,
    facts_of,
    locate,
    rows_by_path,
    rows_where,
    speaker_id,
)
from voices_peewee.runs.metrics import Metrics, combine
from voices_peewee.runs.run import plain_parameters, storable
from voices_peewee.runs.run_files import Files, Output, Plan
from voices_peewee.schema.models import (
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    new_run_id,
)

_KEYS: Final = (
    *("source", "operation_type", "start_time", "end_time", "processing_time", "success"),
    *("error_message", "speaker", "model_type", "model_version", "parameters", "outputs"),
    *("metrics", "run_id"),
)


def record_run(
    store: Store,
    source: AnyPath | ProcessedFile,
    operation_type: str,
    *,
    start_time: dt.datetime | str,
    end_time: dt.datetime | str | None = None,
    processing_time: float | None = None,
    success: bool | None = None,
    error_message: str | None = None,
    speaker: SpeakerKey | None = None,
    model_type: str | None = None,
    model_version: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    outputs: Iterable[AnyPath | Mapping[str, Any]] = (),
    metrics: Mapping[str, Any] | None = None,
    run_id: str | None = None,
) -> ProcessingHistory:
    """Record a run that happened elsewhere, in one transaction; return its first history row.

    Args:
        store: The open database.
        source: A path, a URL or a ProcessedFile; what is not there is not read.
        operation_type: What was done.
        start_time: When it began (aware, or ISO 8601 text with a zone).
        end_time: When it ended; by default ``start_time`` plus ``processing_time``.
        processing_time: How long it took (s); by default from start to end.
        success: Whether it succeeded; by default where there is no ``error_message``.
        error_message: Why it failed.
        speaker: Whose voice the source or its outputs hold.
        model_type: The model's name.
        model_version: The model's version.
        parameters: The settings of the run, a JSON object.
        outputs: Paths, or mappings of ``path``, ``speaker`` and metrics.
        metrics: The metrics of the run, as ``Run.log`` takes them.
        run_id: A name that no other run has; by default a new one.

    Raises:
        InvalidValueError: A value breaks a rule; nothing was written.
        NotFoundError: There is no such file or speaker.
        AmbiguousNameError: Several speakers have that name.
        TypeError: The source is neither a path nor a ProcessedFile.
    """
    given = {name: value for name, value in locals().items() if name in _KEYS}
    plan = _plan(store, given, {})
    _nonfinite([plan]).warn(stacklevel=2)
    return _write(store, [plan])[0]


def record_runs(store: Store, runs: Iterable[Mapping[str, Any]]) -> int:
    """Record many runs in one transaction, all or none; return how many.

    Args:
        store: The open database.
        runs: Mappings with the names of ``record_run``'s arguments.

    Raises:
        InvalidValueError: A key is unknown or a value breaks a rule; nothing was written.
        NotFoundError: There is no such file or speaker; nothing was written.
        AmbiguousNameError: Several speakers have that name; nothing was written.
        TypeError: A source is neither a path nor a ProcessedFile.
    """
    speakers: dict[object, int | None] = {}
    plans: list[Plan] = []
    for position, run in enumerate(runs, 1):
        try:
            plans.append(_plan(store, run, speakers))
        except InvalidValueError as error:
            raise InvalidValueError(f"run {position}: {error}") from error
    _nonfinite(plans).warn(stacklevel=2)
    _write(store, plans)
    return len(plans)


def _nonfinite(plans: Iterable[Plan]) -> Metrics:
    """Collect what is not finite, for one warning."""
    names: dict[str, str] = {}
    for plan in plans:
        outputs = (output.metrics for output in plan.outputs.values())
        for metrics in (plan.metrics, plan.measured, *outputs):
            names |= metrics.nonfinite
    return Metrics(nonfinite=names)


def _plan(store: Store, run: Mapping[str, Any], speakers: dict[object, int | None]) -> Plan:
    """Check the description of a run."""
    _check_keys(run)
    source = run["source"]
    start, end, seconds = _times(run)
    measured = Metrics.of({} if seconds is None else {"processing_time": seconds})
    message = run.get("error_message")
    history = {
        "run_id": run.get("run_id") or new_run_id(),
        "operation_type": run["operation_type"],
        "model_type": run.get("model_type"),
        "model_version": run.get("model_version"),
        "parameters": plain_parameters(run.get("parameters")),
        "start_time": start,
        "end_time": end,
        "success": _success(run),
        "error_message": None if message is None else storable(str(message)),
    }
    return Plan(
        source=source if isinstance(source, ProcessedFile) else locate(source),
        speaker_id=_speaker(store, run.get("speaker"), speakers),
        history=history,
        metrics=Metrics.of(run.get("metrics") or {}),
        measured=measured,
        has_own_id=bool(run.get("run_id")),
        outputs=_outputs(store, run.get("outputs") or (), speakers),
    )


def _check_keys(run: Mapping[str, Any]) -> None:
    if not isinstance(run, Mapping):
        raise InvalidValueError(f"a run is described by a mapping, not {run!r}")
    for name in run:
        if name not in _KEYS:
            raise InvalidValueError(str(QueryError.unknown_field(str(name), _KEYS, "key")))
    for name in ("source", "operation_type", "start_time"):
        if not run.get(name):
            raise InvalidValueError(f"a recorded run needs {name}")
    for name in ("metrics", "parameters"):
        if run.get(name) is not None and not isinstance(run[name], Mapping):
            raise InvalidValueError(f"{name} must be a mapping, not {run[name]!r}")
    if run.get("run_id") is not None and not isinstance(run["run_id"], str):
        raise InvalidValueError(f"run_id must be a text, not {run['run_id']!r}")


def _success(run: Mapping[str, Any]) -> bool:
    told = run.get("success")
    if told is None:
        return not run.get("error_message")
    if told not in (0, 1):  # "False" of a CSV file would be true
        raise InvalidValueError(f"success must be true or false, not {told!r}")
    return bool(told)


def _times(run: Mapping[str, Any]) -> tuple[dt.datetime, dt.datetime, float | None]:
    """Return start, end and processing time (s) of a run."""
    start, seconds = _time("start_time", run["start_time"]), run.get("processing_time")
    if run.get("end_time") is None:
        took = Metrics.of({"processing_time": seconds}).columns["processing_time"]
        try:
            return start, start + dt.timedelta(seconds=took or 0), seconds
        except OverflowError as error:
            raise InvalidValueError("the run would end after the year 9999") from error
    end = _time("end_time", run["end_time"])
    if end < start:
        raise InvalidValueError("end_time must not lie before start_time")
    return start, end, (end - start).total_seconds() if seconds is None else seconds


def _time(name: str, value: object) -> dt.datetime:
    stored = ProcessingHistory._meta.fields[name].db_value(value)
    return dt.datetime.fromisoformat(str(stored))


def _speaker(
    store: Store, speaker: SpeakerKey | None, known: dict[object, int | None]
) -> int | None:
    """Return a speaker's id; one of many runs asks the database once for each name."""
    if not isinstance(speaker, int | str):
        return speaker_id(store, speaker)
    if speaker not in known:
        known[speaker] = speaker_id(store, speaker)
    return known[speaker]


def _outputs(
    store: Store,
    outputs: Iterable[AnyPath | Mapping[str, Any]],
    speakers: dict[object, int | None],
) -> dict[str, Output]:
    """Return the outputs by path; one that is told twice has the later metrics too."""
    if isinstance(outputs, str | os.PathLike | Mapping) or not isinstance(outputs, Iterable):
        raise InvalidValueError(f"outputs must be a list of paths or mappings, not {outputs!r}")
    checked: dict[str, Output] = {}
    for output in outputs:
        told: dict[str, Any] = dict(output) if isinstance(output, Mapping) else {"path": output}
        if not told.get("path"):
            raise InvalidValueError(f"an output needs a path: {output!r}")
        path = locate(told.pop("path"))
        whose = _speaker(store, told.pop("speaker", None), speakers)
        metrics = Metrics.of(told)
        before = checked.get(path)
        if before is not None:
            before.metrics.update(metrics)
            metrics, whose = before.metrics, whose or before.speaker_id
        checked[path] = Output(path, whose, metrics)
    return checked


def _write(store: Store, plans: list[Plan]) -> list[ProcessingHistory]:
    """Write all runs in one transaction; return the first history row of each."""
    paths = {plan.source for plan in plans if isinstance(plan.source, str)}
    known = rows_by_path(store, paths)
    facts = {path: facts_of(path) for path in paths if path not in known}
    with no_full_collection, store.writing():
        store.lock_sources(paths, [plan.history["run_id"] for plan in plans if plan.has_own_id])
        _refuse_known_runs(store, plans)
        files = Files(store, plans, facts)
        for plan in plans:
            plan.rows = list(files.rows_of(plan))
        files.write()
        histories = [list(_histories(plan)) for plan in plans]
        flat = [history for rows in histories for history in rows]
        mapper(ProcessingHistory).insert_objects(store.connection(), flat)
        performances = (
            performance
            for plan, rows in zip(plans, histories, strict=True)
            for performance in _performances(plan, rows)
        )
        mapper(ModelPerformance).insert_dicts(store.connection(), performances)
    return [rows[0] for rows in histories]


def _refuse_known_runs(store: Store, plans: list[Plan]) -> None:
    """Refuse a run id that is taken: the same log, read twice, would double its runs."""
    seen: set[str] = set()
    for run_id in (plan.history["run_id"] for plan in plans if plan.has_own_id):
        if run_id in seen:
            raise InvalidValueError(f"there is a run {run_id!r} already")
        seen.add(run_id)
    for row in rows_where(store, ProcessingHistory, "run_id", seen):
        raise InvalidValueError(f"there is a run {row.run_id!r} already")


def _histories(plan: Plan) -> Iterator[ProcessingHistory]:
    for file, _ in plan.rows:
        yield ProcessingHistory(
            **plan.history,
            processed_file=file.id,
            source_hash=file.content_hash,
            __no_default__=True,  # a run id and a time for each would cost more than the rest
        )


def _performances(plan: Plan, histories: list[ProcessingHistory]) -> Iterator[dict[str, Any]]:
    for position, ((file, own), history) in enumerate(zip(plan.rows, histories, strict=True)):
        metrics = combine(
            own,
            plan.metrics,
            plan.measured,
            is_first=position == 0,
            duration=file.duration,
        )
        yield {
            "processing_history": history.id,
            "model_type": history.model_type,
            "model_version": history.model_version,
            **metrics.row(),
        }
