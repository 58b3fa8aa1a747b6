"""Runs that happened elsewhere, one or many in one transaction."""

from __future__ import annotations

import datetime as dt
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from peewee import fn

from voices_peewee.errors import InvalidValueError, NotFoundError, QueryError
from voices_peewee.metrics import Metrics, combine
from voices_peewee.models import (
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    new_run_id,
    utc_now,
)
from voices_peewee.rows import mapper
from voices_peewee.run import plain_parameters, storable
from voices_peewee.sources import (
    FACTS,
    AnyPath,
    facts_of,
    locate,
    rows_by_path,
    rows_where,
    speaker_id,
)
from voices_peewee.speakers import SpeakerKey
from voices_peewee.store import Store

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
    success: bool = True,
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
        success: Whether it succeeded.
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
    plan.metrics.warn(stacklevel=2)
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
    plans, nonfinite = [], Metrics()
    for position, run in enumerate(runs, 1):
        try:
            plans.append(_plan(store, run, speakers))
        except InvalidValueError as error:
            raise InvalidValueError(f"run {position}: {error}") from error
        nonfinite.nonfinite |= plans[-1].metrics.nonfinite
    nonfinite.warn(stacklevel=2)
    _write(store, plans)
    return len(plans)


@dataclass(slots=True)
class _Output:
    path: str
    speaker_id: int | None
    metrics: Metrics


@dataclass(slots=True)
class _Plan:
    """A run that was checked and is to be written; ``rows`` are its files and own metrics."""

    source: str | ProcessedFile
    speaker_id: int | None
    history: dict[str, Any]
    metrics: Metrics
    measured: Metrics
    outputs: dict[str, _Output]
    rows: list[tuple[ProcessedFile, Metrics]] = field(default_factory=list)


def _plan(store: Store, run: Mapping[str, Any], speakers: dict[object, int | None]) -> _Plan:
    """Check the description of a run."""
    if not isinstance(run, Mapping):
        raise InvalidValueError(f"a run is described by a mapping, not {run!r}")
    for name in run:
        if name not in _KEYS:
            raise InvalidValueError(str(QueryError.unknown_field(str(name), _KEYS, "key")))
    for name in ("source", "operation_type", "start_time"):
        if not run.get(name):
            raise InvalidValueError(f"a recorded run needs {name}")
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
        "success": bool(run.get("success", True)),
        "error_message": None if message is None else storable(str(message)),
    }
    return _Plan(
        source=source if isinstance(source, ProcessedFile) else locate(source),
        speaker_id=_speaker(store, run.get("speaker"), speakers),
        history=history,
        metrics=Metrics.of(run.get("metrics") or {}),
        measured=measured,
        outputs=_outputs(store, run.get("outputs") or (), speakers),
    )


def _times(run: Mapping[str, Any]) -> tuple[dt.datetime, dt.datetime, float | None]:
    """Return start, end and processing time (s) of a run."""
    start, seconds = _time("start_time", run["start_time"]), run.get("processing_time")
    if run.get("end_time") is None:
        took = Metrics.of({"processing_time": seconds}).columns["processing_time"]
        return start, start + dt.timedelta(seconds=took or 0), seconds
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
) -> dict[str, _Output]:
    """Return the outputs by path; one that is told twice has the later metrics too."""
    checked: dict[str, _Output] = {}
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
        checked[path] = _Output(path, whose, metrics)
    return checked


def _write(store: Store, plans: list[_Plan]) -> list[ProcessingHistory]:
    """Write all runs in one transaction; return the first history row of each."""
    paths = {plan.source for plan in plans if isinstance(plan.source, str)}
    known = rows_by_path(store, paths)
    facts = {path: facts_of(path) for path in paths if path not in known}
    with store.writing():
        _refuse_known_runs(store, plans)
        files = _Files(store, plans, facts)
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


def _refuse_known_runs(store: Store, plans: list[_Plan]) -> None:
    """Refuse a run id that is taken: the same log, read twice, would double its runs."""
    seen: set[str] = set()
    for plan in plans:
        run_id = plan.history["run_id"]
        if run_id in seen:
            raise InvalidValueError(f"there is a run {run_id!r} already")
        seen.add(run_id)
    for row in rows_where(store, ProcessingHistory, "run_id", seen):
        raise InvalidValueError(f"there is a run {row.run_id!r} already")


def _histories(plan: _Plan) -> Iterator[ProcessingHistory]:
    for file, _ in plan.rows:
        yield ProcessingHistory(
            **plan.history, processed_file=file.id, source_hash=file.content_hash
        )


def _performances(plan: _Plan, histories: list[ProcessingHistory]) -> Iterator[dict[str, Any]]:
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


class _Files:
    """The file rows of many runs, found and claimed in memory while the write lock is held.

    Run for run it does what ``sources`` and ``Run.output`` do with single rows.
    """

    def __init__(self, store: Store, plans: list[_Plan], facts: dict[str, dict[str, Any]]) -> None:
        self._store, self._facts = store, facts
        self._by_id: dict[int, ProcessedFile] = {}
        self._free: dict[str | None, list[ProcessedFile]] = {}
        self._claimed: dict[tuple[str | None, int | None], list[ProcessedFile]] = {}
        self._added: list[ProcessedFile] = []
        self._changed: dict[int, ProcessedFile] = {}
        named = [plan.source for plan in plans if isinstance(plan.source, ProcessedFile)]
        for given in named:
            if not given.id:
                store.insert(given)
        paths = {plan.source for plan in plans if isinstance(plan.source, str)}
        paths |= {given.original_path for given in named if given.original_path}
        for rows in rows_by_path(store, paths).values():
            for row in rows:
                self._sort_in(row)
        for given in named:
            if given.id not in self._by_id:
                self._sort_in(_present(store, given))
        self._next_id = 1 + (ProcessedFile.select(fn.MAX(ProcessedFile.id)).scalar() or 0)

    def rows_of(self, plan: _Plan) -> Iterator[tuple[ProcessedFile, Metrics]]:
        """Yield the file row and the own metrics of each history row of a run."""
        source = self._source(plan)
        own = source.speaker_id if source.processed_path is None else None
        inherited = own if plan.speaker_id is None else plan.speaker_id
        if not plan.outputs:
            yield source, Metrics()
        for position, output in enumerate(plan.outputs.values()):
            whose = output.speaker_id or inherited
            if position == 0 and source.processed_path in (None, output.path):
                self._claim(source, output.path, whose)
                yield source, output.metrics
            else:
                facts = {name: source.__data__[name] for name in FACTS}
                yield self._add(facts, output.path, whose), output.metrics

    def write(self) -> None:
        """Write the new rows and the changed ones."""
        connection, now = self._store.connection(), utc_now()
        mapper(ProcessedFile).insert_objects(connection, self._added)
        mine = {row.id for row in self._added}
        for row in (row for row in self._changed.values() if row.id not in mine):
            changes = {
                "processed_path": row.processed_path,
                "speaker": row.speaker_id,
                "updated_at": now,
            }
            ProcessedFile.update(changes).where(ProcessedFile.id == row.id).execute()

    def _source(self, plan: _Plan) -> ProcessedFile:
        """Return the row that stands for a run's source."""
        if isinstance(plan.source, ProcessedFile):
            row = self._by_id[plan.source.id]
        else:
            found = self._find(plan.source, plan.speaker_id)
            row = found or self._add(self._facts_of(plan.source), None, plan.speaker_id)
        if row.speaker_id is None and plan.speaker_id is not None:
            self._change(row, row.processed_path, plan.speaker_id)
        return row

    def _facts_of(self, path: str) -> dict[str, Any]:
        if path not in self._facts:  # its row was deleted since we looked
            self._facts[path] = facts_of(path)
        return self._facts[path]

    def _find(self, path: str, speaker: int | None) -> ProcessedFile | None:
        """Choose as ``_RUN_ROW`` in ``sources`` does."""
        for row in reversed(self._free.get(path, ())):
            if speaker is None or row.speaker_id in (None, speaker):
                return row
        rows = self._claimed.get((path, speaker), [])
        return rows[-1] if rows else None

    def _claim(self, row: ProcessedFile, path: str, speaker: int | None) -> None:
        self._change(row, path, speaker or row.speaker_id)

    def _change(self, row: ProcessedFile, path: str | None, speaker: int | None) -> None:
        self._home(row).remove(row)
        row.processed_path, row.speaker_id = path, speaker
        self._sort_in(row)
        self._changed[row.id] = row

    def _add(
        self, facts: Mapping[str, Any], path: str | None, speaker: int | None
    ) -> ProcessedFile:
        row = ProcessedFile(**facts, processed_path=path, speaker=speaker)
        row.id, self._next_id = self._next_id, self._next_id + 1
        self._added.append(row)
        self._sort_in(row)
        return row

    def _sort_in(self, row: ProcessedFile) -> None:
        self._by_id[row.id] = row
        insort(self._home(row), row, key=attrgetter("id"))

    def _home(self, row: ProcessedFile) -> list[ProcessedFile]:
        """Return the list of the rows of the same source that are like this one, by id."""
        path = row.original_path
        if row.processed_path is None:
            return self._free.setdefault(path, [])
        return self._claimed.setdefault((path, row.speaker_id), [])


def _present(store: Store, given: ProcessedFile) -> ProcessedFile:
    row = store.get(ProcessedFile, given.id)
    if row is None:
        raise NotFoundError("file", given.id)
    return row
