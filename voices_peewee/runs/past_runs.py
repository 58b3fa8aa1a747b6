"""Runs that happened elsewhere, one or many in one transaction."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from voices_peewee.database.query import mapper, no_full_collection
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.records.sources import (
    AnyPath,
    Source,
    facts_of,
    locate,
    recording_of,
    recordings_by_path,
    rows_where,
    speaker_id,
)
from voices_peewee.runs.failure import storable
from voices_peewee.runs.metrics import Metrics
from voices_peewee.runs.rows import Files, ManyFiles, Output, own_facts, performance
from voices_peewee.runs.settings import plain_parameters
from voices_peewee.schema.fields import is_missing
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


# How many calls up the user's line stands: behind the manager's method and what guards it.
_CALLER: Final = 4


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run that was checked and is to be written."""

    source: str | ProcessedFile
    speaker_id: int | None
    history: dict[str, Any]
    has_own_id: bool
    metrics: Metrics
    measured: Metrics
    outputs: dict[str, Output]


def record_run(store: Store, run: Mapping[str, Any]) -> ProcessingHistory:
    """Record a run that happened elsewhere; return its first history row."""
    plan = _plan(store, run, {})
    _nonfinite([plan]).warn(_CALLER)
    return _write(store, [plan])[0]


def record_runs(store: Store, runs: Iterable[Mapping[str, Any]]) -> int:
    """Record many runs in one transaction, all or none; return how many."""
    speakers: dict[object, int | None] = {}
    plans: list[_Plan] = []
    for position, run in enumerate(runs, 1):
        try:
            plans.append(_plan(store, run, speakers))
        except InvalidValueError as error:
            raise InvalidValueError(f"run {position}: {error}") from error
    _nonfinite(plans).warn(_CALLER)
    _write(store, plans)
    return len(plans)


def _nonfinite(plans: Iterable[_Plan]) -> Metrics:
    """Collect what is not finite, for one warning."""
    names: dict[str, str] = {}
    for plan in plans:
        outputs = (output.metrics for output in plan.outputs.values())
        for metrics in (plan.metrics, plan.measured, *outputs):
            names |= metrics.nonfinite
    return Metrics(nonfinite=names)


def _plan(store: Store, run: Mapping[str, Any], speakers: dict[object, int | None]) -> _Plan:
    """Check the description of a run."""
    _check_keys(run)
    run = {name: None if is_missing(value) else value for name, value in run.items()}
    _check_values(run)
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
    return _Plan(
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


def _check_values(run: Mapping[str, Any]) -> None:
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
        checked[path] = Output(path, whose, metrics, own_facts(path))
    return checked


def _write(store: Store, plans: list[_Plan]) -> list[ProcessingHistory]:
    """Write all runs in one transaction; return the first history row of each."""
    paths = dict.fromkeys(plan.source for plan in plans if isinstance(plan.source, str))
    known = recordings_by_path(store, paths)
    facts = {path: facts_of(path) for path in paths if path not in known}
    with no_full_collection, store.writing():
        store.lock_sources(paths, [plan.history["run_id"] for plan in plans if plan.has_own_id])
        _refuse_known_runs(store, plans)
        rows = _rows(store, plans, _recordings(store, paths, facts))
        flat = [history for one in rows for history in one.histories]
        mapper(ProcessingHistory).insert_objects(store.connection(), flat)
        measures = (values for one in rows for values in one.measures())
        mapper(ModelPerformance).insert_dicts(store.connection(), measures)
    return [one.histories[0] for one in rows]


def _recordings(
    store: Store, paths: Iterable[str], facts: Mapping[str, dict[str, Any]]
) -> dict[str, ProcessedFile]:
    """Return the recordings at many paths; those that are not there are added together."""
    known = recordings_by_path(store, paths)
    added = {
        path: ProcessedFile(**(facts.get(path) or facts_of(path)))
        for path in paths
        if path not in known
    }
    mapper(ProcessedFile).insert_objects(store.connection(), list(added.values()))
    return known | added


def _rows(store: Store, plans: list[_Plan], recordings: dict[str, ProcessedFile]) -> list[_Rows]:
    """Write the file rows of all runs; return those of history and measurements, not written."""
    sources = [
        recording_of(store, plan.source)
        if isinstance(plan.source, ProcessedFile)
        else Source(plan.source, recordings[plan.source])
        for plan in plans
    ]
    files = ManyFiles(store, {source.row.id for source in sources if source.row})
    rows = [_Rows(plan, source) for plan, source in zip(plans, sources, strict=True)]
    hung = [one.files(files) for one in rows]
    files.write()
    for one, its_files in zip(rows, hung, strict=True):
        one.hang(its_files)
    return rows


class _Rows:
    """The rows of a run, as ``Run`` writes them."""

    def __init__(self, plan: _Plan, source: Source) -> None:
        assert source.row is not None  # noqa: S101 - it was found or added
        self._plan, self._recording = plan, source.row
        told = source.speaker_id if plan.speaker_id is None else plan.speaker_id
        self._speaker_id = source.row.speaker_id if told is None else told
        self.histories: list[ProcessingHistory] = []

    def files(self, files: Files) -> list[ProcessedFile]:
        """Return the files that the run's history rows hang on."""
        stems = [
            files.stem(
                self._recording,
                replace(output, speaker_id=output.speaker_id or self._speaker_id),
            )
            for output in self._plan.outputs.values()
        ]
        return stems or [files.starting(self._recording, self._speaker_id)]

    def hang(self, files: Iterable[ProcessedFile]) -> None:
        """Make the history rows, once the files have their ids."""
        self.histories = [
            ProcessingHistory(
                **self._plan.history,
                processed_file=file.id,
                source_hash=self._recording.content_hash,
                __no_default__=True,  # a run id and a time for each would cost more than the rest
            )
            for file in files
        ]

    def measures(self) -> Iterator[dict[str, Any]]:
        """Yield the values of the performance rows, once the history rows have their ids."""
        own = [output.metrics for output in self._plan.outputs.values()] or [Metrics()]
        for history, metrics in zip(self.histories, own, strict=True):
            yield performance(
                self._plan.history,
                history.id,
                metrics,
                self._plan.metrics,
                self._plan.measured,
                duration=self._recording.duration,
            )


def _refuse_known_runs(store: Store, plans: list[_Plan]) -> None:
    """Refuse a run id that is taken: the same log, read twice, would double its runs."""
    seen: set[str] = set()
    for run_id in (plan.history["run_id"] for plan in plans if plan.has_own_id):
        if run_id in seen:
            raise InvalidValueError(f"there is a run {run_id!r} already")
        seen.add(run_id)
    for row in rows_where(store, ProcessingHistory, "run_id", seen):
        raise InvalidValueError(f"there is a run {row.run_id!r} already")
