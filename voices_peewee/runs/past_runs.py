"""Runs that happened elsewhere, one or many in one transaction."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from operator import itemgetter
from typing import Any, Final

from voices_peewee.database.query import mapper, no_full_collection
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.records.audio import AnyPath
from voices_peewee.records.audio_files import changed_facts, facts_of, own_facts, touched
from voices_peewee.records.sources import (
    Source,
    elsewhere,
    recording_of,
    recordings_by_path,
    rows_where,
    speaker_id,
    write_changes,
)
from voices_peewee.rendering.plain import locate
from voices_peewee.runs.metrics import Metrics
from voices_peewee.runs.rows import Files, Output, RunRows
from voices_peewee.runs.settings import model_hash, plain_settings, storable
from voices_peewee.schema.exact import is_nothing, several, short
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import (
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    new_run_id,
)

_NEEDED: Final = ("source", "operation_type", "start_time")
_KEYS: Final = (
    *(*_NEEDED, "end_time", "processing_time", "success", "error_message", "speaker"),
    *("model_type", "model_version", "parameters", "outputs", "metrics", "run_id"),
    *("tags", "note", "model_file"),
)
# How many calls up the user's line stands: behind the manager's method and what guards it.
_CALLER: Final = 4

FindSpeaker = Callable[[SpeakerKey | None], int | None]


def record_run(store: Store, run: Mapping[str, Any]) -> ProcessingHistory:
    """Record a run that happened elsewhere; return its first history row."""
    plan = _plan(run, partial(speaker_id, store))
    _nonfinite([plan]).warn(_CALLER)
    write_runs(store, [plan])
    history = ProcessingHistory(**plan.histories[0], __no_default__=True)
    history._dirty.clear()
    return history


def record_runs(store: Store, runs: Iterable[Mapping[str, Any]]) -> int:
    """Record many runs in one transaction, all or none; return how many."""
    named = cache(partial(speaker_id, store))  # one question for each name

    def whose(key: SpeakerKey | None) -> int | None:
        return named(key) if isinstance(key, str | int) else speaker_id(store, key)

    plans: list[Plan] = []
    for position, run in enumerate(several("runs", runs, "mappings"), 1):
        try:
            plans.append(_plan(run, whose))
        except InvalidValueError as error:
            raise InvalidValueError(f"run {position}: {error}") from error
    _nonfinite(plans).warn(_CALLER)
    write_runs(store, plans)
    return len(plans)


@dataclass(slots=True, eq=False)
class Plan(RunRows):
    """A run that was checked, and the rows that it gets."""

    source: str | ProcessedFile
    has_own_id: bool
    cost: Metrics
    outputs: dict[str | int | None, Output]
    histories: list[dict[str, Any]] = field(init=False)

    def files(self, files: _ManyFiles) -> list[ProcessedFile]:
        """Return the files that the run's history rows hang on."""
        hung = []
        for told in self.outputs.values():
            output = replace(told, speaker_id=told.speaker_id or self.speaker_id)
            if output.path:
                stems = files.find(self.recording, output.path)
                hung.append(files.stem(self.recording, output, stems))
            else:
                hung.append(files.starting(self.recording, output.speaker_id))
        return hung or [files.starting(self.recording, self.speaker_id)]

    def hang(self, files: Iterable[ProcessedFile]) -> list[dict[str, Any]]:
        """Make the history rows, once the files have their ids."""
        self.histories = [{**self.history, "processed_file": file.id} for file in files]
        return self.histories

    def performances(self) -> Iterator[dict[str, Any]]:
        """Yield the values of the performance rows, once the history rows have their ids."""
        own = [output.metrics for output in self.outputs.values()] or [Metrics()]
        for row, metrics in zip(self.histories, own, strict=True):
            yield self.measures(row["id"], metrics, self.cost)


class _ManyFiles(Files):
    """Finds and adds the file rows of many runs, read and written together."""

    def __init__(self, store: Store, recordings: Iterable[int]) -> None:
        super().__init__(store, store.steps())
        self._known: dict[tuple[int | None, str | None], list[ProcessedFile]] = {}
        self._added: list[ProcessedFile] = []
        for row in rows_where(store, ProcessedFile, "recording", recordings):
            self._known.setdefault((row.recording_id, row.processed_path), []).append(row)

    def write(self) -> None:
        """Write the rows that were added."""
        mapper(ProcessedFile).insert_objects(self._store.connection(), self._added)

    def find(self, recording: ProcessedFile, path: str | None) -> Sequence[ProcessedFile]:
        """Return the stems of a recording at a path; its voices for None."""
        return self._known.get((recording.id, path), ())

    def _voice(self, recording: ProcessedFile, speaker_id: int) -> ProcessedFile | None:
        voices = self.find(recording, None)
        return next((row for row in voices if row.speaker_id == speaker_id), None)

    def _add(self, row: ProcessedFile) -> ProcessedFile:
        self._known.setdefault((row.recording_id, row.processed_path), []).append(row)
        self._added.append(row)
        return row


def _nonfinite(plans: Iterable[Plan]) -> Metrics:
    """Collect what is not finite, for one warning."""
    names: dict[str, str] = {}
    for plan in plans:
        outputs = (output.metrics for output in plan.outputs.values())
        for metrics in (plan.logged, plan.cost, *outputs):
            names |= metrics.nonfinite
    return Metrics(nonfinite=names)


def _plan(run: Mapping[str, Any], whose: FindSpeaker) -> Plan:
    """Check the description of a run."""
    run = _checked(run)
    start, end, seconds = _times(run)
    message, source, outputs = run["error_message"], run["source"], run["outputs"]
    history = {
        **plain_settings(run),
        "run_id": run["run_id"] or new_run_id(),
        "start_time": start,
        "end_time": end,
        "success": not message if run["success"] is None else bool(run["success"]),
        "error_message": None if message is None else storable(str(message)),
        "model_hash": model_hash(run["model_file"]),
    }
    return Plan(
        history=history,
        speaker_id=whose(run["speaker"]),
        logged=Metrics.of(run["metrics"]),
        source=source if isinstance(source, ProcessedFile) else locate(source),
        has_own_id=bool(run["run_id"]),
        cost=Metrics.of({} if seconds is None else {"processing_time": seconds}),
        outputs=_outputs(outputs if hasattr(outputs, "shape") else outputs or (), whose),
    )


def _checked(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for every key, None where nothing was told."""
    if not isinstance(run, Mapping):
        raise InvalidValueError(f"a run is described by a mapping, not {run!r}")
    for name in run:
        if name not in _KEYS:
            raise InvalidValueError(str(QueryError.unknown_field(str(name), _KEYS, "key")))
    told = dict.fromkeys(_KEYS) | {name: one for name, one in run.items() if not is_nothing(one)}
    for name in _NEEDED:
        if not told[name]:
            raise InvalidValueError(f"a recorded run needs {name}")
    if not isinstance(told["run_id"], str | None):
        raise InvalidValueError(f"run_id must be a text, not {told['run_id']!r}")
    if told["success"] not in (None, 0, 1):  # "False" of a CSV file would be true
        raise InvalidValueError(f"success must be true or false, not {told['success']!r}")
    return told


def _times(run: Mapping[str, Any]) -> tuple[dt.datetime, dt.datetime, float | None]:
    """Return start, end and processing time (s) of a run."""
    start, seconds = _time("start_time", run["start_time"]), run["processing_time"]
    if run["end_time"] is None:
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
    if isinstance(value, dt.datetime) and value.tzinfo is dt.UTC:
        return value
    stored = ProcessingHistory._meta.fields[name].db_value(value)
    return dt.datetime.fromisoformat(str(stored))


def _outputs(
    outputs: Iterable[AnyPath | Mapping[str, Any]], whose: FindSpeaker
) -> dict[str | int | None, Output]:
    """Return outputs by path, else speaker; one that is told twice has the metrics of both."""
    checked: dict[str | int | None, Output] = {}
    for output in several("outputs", outputs, "paths or mappings"):
        told: dict[str, Any] = dict(output) if isinstance(output, Mapping) else {"path": output}
        named, speaker = _known(told.pop("path", None)), whose(_known(told.pop("speaker", None)))
        if not named and speaker is None:
            raise InvalidValueError(f"an output needs a path or a speaker: {output!r}")
        path = locate(named) if named else ""
        before = checked.get(path or speaker)
        speaker = speaker or (before.speaker_id if before else None)
        told_now = Output(path, speaker, Metrics.of(told), own_facts(path) if path else {})
        if before and told_now.replaces(before):
            reason = "is told twice, and not alike; without a path it is its speaker's"
            raise InvalidValueError(f"an output {reason}: {short(output)}")
        checked[path or speaker] = told_now.after(before) if before else told_now
    return checked


def _known(value: Any) -> Any:
    return None if is_nothing(value) else value  # of a DataFrame


def write_runs(
    store: Store, plans: Sequence[Plan], along: Callable[[Sequence[Plan]], None] | None = None
) -> None:
    """Write all runs in one transaction.

    Where something is done ``along`` with them, it is given those that were written and measures
    them; runs that are there by now are left out, not refused.
    """
    paths = dict.fromkeys(plan.source for plan in plans if isinstance(plan.source, str))
    known = recordings_by_path(store, paths)
    facts = {path: facts_of(path) for path in paths if path not in known}
    changes = _changes(known, plans)
    run_ids = [plan.history["run_id"] for plan in plans if plan.has_own_id]
    with no_full_collection(), store.writing():
        store.lock_sources(paths, run_ids)
        there = {row.run_id for row in rows_where(store, ProcessingHistory, "run_id", run_ids)}
        if along is None:
            _refuse_known_runs([*run_ids, *there])
        plans = [plan for plan in plans if plan.history["run_id"] not in there]
        connection, recordings = store.connection(), _recordings(store, paths, facts)
        for path, change in changes.items():
            write_changes(store.steps(), recordings[path], change)
        for plan in plans:
            source = (
                Source(plan.source, recordings[plan.source])
                if isinstance(plan.source, str)
                else recording_of(store, plan.source)
            )
            assert source.row is not None  # noqa: S101 - it was found or added
            plan.settle(source, source.row)
        files = _ManyFiles(store, {plan.recording.id for plan in plans})
        hung = [plan.files(files) for plan in plans]
        files.write()
        rows = [row for plan, its in zip(plans, hung, strict=True) for row in plan.hang(its)]
        mapper(ProcessingHistory).insert_new(connection, rows)
        if along is not None:
            along(plans)
            return
        measures = (values for plan in plans for values in plan.performances())
        mapper(ModelPerformance).insert_dicts(connection, measures)


def _changes(
    known: Mapping[str, ProcessedFile], plans: Iterable[Plan]
) -> dict[str, dict[str, Any]]:
    """Return what changed in files of known recordings before all runs on them began."""
    starts = [(plan.history["start_time"].timestamp(), plan.source) for plan in plans]
    began = {path: start for start, path in sorted(starts, key=itemgetter(0), reverse=True)}
    seen = [path for path, row in known.items() if _settled(path, row) < began[path]]
    return {path: new for path in seen if (new := changed_facts(path, known[path]))}


def _settled(path: str, row: ProcessedFile) -> float:
    """Return since when a file can only have been put there unseen; infinity where none is."""
    read = row.read_at.timestamp() if isinstance(row.read_at, dt.datetime) else 0.0
    return max(read, touched(path) or math.inf)


def _recordings(
    store: Store, paths: Iterable[str], facts: Mapping[str, dict[str, Any]]
) -> dict[str, ProcessedFile]:
    """Return the recordings at many paths; those that are not there are added together."""
    known = recordings_by_path(store, paths)
    facts = {path: facts.get(path) or facts_of(path) for path in paths if path not in known}
    known |= elsewhere(store, facts)
    fresh = {path: one for path, one in facts.items() if path not in known}
    added = {path: ProcessedFile(**one) for path, one in fresh.items()}
    now = utc_now()
    for place, row in enumerate(added.values()):  # a copy is known by a moment of its own
        row.created_at = row.updated_at = now + dt.timedelta(microseconds=place)
    mapper(ProcessedFile).insert_objects(store.connection(), list(added.values()))
    return known | added


def _refuse_known_runs(run_ids: list[str]) -> None:
    """Refuse a run id that is taken: the same log, read twice, would double its runs."""
    for run_id, count in Counter(run_ids).items():
        if count > 1:
            raise InvalidValueError(f"there is a run {run_id!r} already")
