"""One run: its rows, its metrics and its outputs, written as they become known."""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final, TypeVar, cast

from voices_peewee.database.query import Mapper, mapper
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import InvalidValueError, NotFoundError, ServerAwayError
from voices_peewee.records.sources import FACTS, AnyPath, locate, look, settle, speaker_id
from voices_peewee.runs import meter as resources
from voices_peewee.runs.metrics import Metrics, combine
from voices_peewee.runs.spool import Record, SpoolWarning, keep
from voices_peewee.schema.fields import dump_json, utc_now
from voices_peewee.schema.models import (
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    new_run_id,
)

T = TypeVar("T")

_MAX_ERROR: Final = 100_000
# With the run's id too: SQLite gives the ids of deleted rows to those of other runs.
_END: Final = """UPDATE processing_history SET end_time = ?, success = ?, error_message = ?
 WHERE id = ? AND run_id = ?"""
_END_OTHERS: Final = """UPDATE processing_history SET end_time = ?, success = ?, error_message = ?
 WHERE run_id = ? AND end_time IS NULL"""
_ROWS: Final = "SELECT id, processed_file_id FROM processing_history WHERE run_id = ?"
_CLAIM: Final = """UPDATE processed_files
 SET processed_path = ?, speaker_id = coalesce(?, speaker_id), updated_at = ?
 WHERE id = ? AND (processed_path = ? OR (processed_path IS NULL AND id <> ? AND NOT EXISTS (
 SELECT 1 FROM processing_history WHERE processed_file_id = processed_files.id AND run_id <> ?)))
 AND EXISTS (SELECT 1 FROM processing_history WHERE id = ? AND run_id = ?)"""
_MOVE: Final = "UPDATE processing_history SET processed_file_id = ? WHERE id = ? AND run_id = ?"
_OTHER_RUN: Final = """SELECT history.run_id, history.operation_type, history.model_type,
 history.model_version, history.success, history.process
 FROM processed_files AS file JOIN processing_history AS history
 ON history.processed_file_id = file.id
 JOIN model_performance AS told ON told.processing_history_id = history.id
 WHERE file.processed_path = ? AND history.run_id <> ?
 AND (history.success OR history.end_time IS NULL)
 ORDER BY history.success DESC, history.id DESC LIMIT 1"""


_TOLD_LATER: Final = "the output is written when the run ends"


class OutputWarning(UserWarning):
    """An output path is another run's too."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same in all rows of a run."""

    operation_type: str
    model_type: str | None
    model_version: str | None
    parameters: dict[str, Any]


def plain_parameters(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a JSON copy of the parameters, which later changes do not reach.

    Raises:
        InvalidValueError: They are no mapping or have no JSON form.
    """
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidValueError(f"parameters must be a mapping, not {parameters!r}")
    plain: dict[str, Any] = json.loads(dump_json(dict(parameters or {})))
    return plain


@dataclass(slots=True)
class _Row:
    """A history row of a run, with its file, the output's path and its metrics."""

    file: ProcessedFile
    history_id: int
    path: str | None
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class _Late:
    """An output as it was told."""

    path: str
    speaker_id: int | None
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a run ended: when, with which measurements, and with which error."""

    time: dt.datetime
    measured: resources.Measured
    message: str | None

    def values(self) -> tuple[Any, bool, str | None]:
        """Return what the columns of a history row hold."""
        end = ProcessingHistory.end_time.db_value(self.time)
        return end, self.message is None, self.message


class Run:
    """A run that is being recorded; ``run_id`` names it, ``parameters`` are as recorded.

    Metrics that ``log`` is given are the run's: they are in the row of its first output (or in
    its only row), so that no number counts twice. What is measured is in every row: processing
    time, CPU, memory and real-time factor. Metrics that ``output`` is given are that output's;
    where both name the same metric, the output's fills the row of the first output, and the
    run's is in its ``additional_metrics["run_metrics"]``.

    A run may be used by many threads, but only by the process that began it.
    """

    def __init__(
        self,
        store: Store,
        source: AnyPath | ProcessedFile,
        settings: Settings,
        speaker: SpeakerKey | None,
    ) -> None:
        self.run_id = new_run_id()
        self.parameters = settings.parameters
        self._store, self._settings = store, settings
        self._lock = threading.RLock()  # a signal handler may log while an output is written
        self._logged = Metrics()
        self._rows: list[_Row] = []
        self._late: list[_Late] = []  # outputs that a server was not there for
        self._pid, self._is_over = os.getpid(), False
        self._was_torn = False  # what was written last may be in the database, or not
        store.retrying(lambda: self._begin(source, speaker))
        self._meter = resources.Meter()

    @property
    def id(self) -> int:
        """The id of the first history row."""
        return self._rows[0].history_id

    @property
    def file(self) -> ProcessedFile:
        """The recording's row; once an output was told, the first output's."""
        return self._rows[0].file

    def __repr__(self) -> str:
        return f"<Run {self.id} {self._settings.operation_type} of {self.file.original_path!r}>"

    def log(self, /, **metrics: object) -> None:
        """Take note of metrics of the run; a name that was logged before gets its new value.

        ``si_snri`` and ``sdri`` (dB) go to their columns, and so do ``cpu_usage`` (%),
        ``memory_usage`` (MB), ``processing_time`` (s) and ``real_time_factor`` in place of what
        is measured; everything else, any JSON value, to ``additional_metrics``. What is not
        finite is recorded without a value, with a MetricWarning.

        Raises:
            InvalidValueError: A value is out of bounds or has no JSON form.
            RuntimeError: The run is over, or another process began it.
        """
        told = Metrics.of(metrics)
        with self._lock:
            self._require_open()
            self._logged.update(told)
        told.warn(stacklevel=2)

    def output(
        self, path: AnyPath, /, *, speaker: SpeakerKey | None = None, **metrics: object
    ) -> ProcessedFile:
        """Record an output and its metrics at once; return its row.

        The first output fills the rows that were made at the start, but a recording whose
        speaker was known keeps its file row for the runs to come. An output that was told
        before gets the new metrics and speaker. An output that another run claims too is kept,
        with an OutputWarning.

        Args:
            path: What was written.
            speaker: Whose voice it holds; by default the speaker of the run.
            metrics: As for ``log``.

        Raises:
            InvalidValueError: A value is out of bounds or has no JSON form.
            NotFoundError: There is no such speaker.
            AmbiguousNameError: Several speakers have that name.
            RuntimeError: The run is over, or another process began it.
        """
        told, place = Metrics.of(metrics), locate(path)
        with self._lock:
            self._require_open()
            whose = self._store.retrying(lambda: speaker_id(self._store, speaker))
            late = _Late(place, whose or self._speaker_id, told)
            try:
                file, other = self._write(lambda: self._tell(late))
            except ServerAwayError as away:
                self._late.append(late)
                file, other = self._unwritten(late), None
                warnings.warn(f"{away}; {_TOLD_LATER}", SpoolWarning, stacklevel=2)
        told.warn(stacklevel=2)
        if other:
            message = f"the output {place!r} is claimed by run {other} too; it is kept for both"
            warnings.warn(message, OutputWarning, stacklevel=2)
        return file

    def _tell(self, output: _Late) -> tuple[ProcessedFile, str | None]:
        """Write an output and its metrics; return its row, and who else claims it."""
        position, row = self._place(output.path, output.speaker_id, output.metrics)
        self._write_performance(row, None, is_first=position == 0)
        other = _other_run(self._store, output.path, self.run_id)
        self._rows = [*self._rows[:position], row, *self._rows[position + 1 :]]
        return row.file, other

    def _write(self, action: Callable[[], T]) -> T:
        """Do something as one transaction; where that fails, the rows are as before."""
        before, attempts = self._rows, count()

        def attempt() -> T:
            self._rows = before
            with self._store.writing():
                if next(attempts):
                    self._forget_unknown()
                return action()

        try:
            return self._store.retrying(attempt)
        except BaseException:
            self._rows, self._was_torn = before, True
            raise

    def _forget_unknown(self) -> None:
        """Take back what a server may have committed as it went away: it is written again."""
        known = {row.history_id: row.file.id for row in self._rows}
        history, file = ProcessingHistory, ProcessedFile
        mine = self._store.connection().execute(_ROWS, (self.run_id,)).fetchall()
        for key, file_id in mine:
            if known.get(key) == file_id:
                continue
            if key in known:
                history.update(processed_file=known[key]).where(history.id == key).execute()
            else:
                history.delete().where(history.id == key).execute()
            is_output = (file.id == file_id) & file.processed_path.is_null(False)
            file.delete().where(is_output).execute()

    def _unwritten(self, output: _Late) -> ProcessedFile:
        speaker = output.speaker_id
        return ProcessedFile(**self._facts, processed_path=output.path, speaker=speaker)

    def _require_open(self) -> None:
        if self._is_over:
            raise RuntimeError(f"run {self.id} is over")
        if os.getpid() != self._pid:
            raise RuntimeError(f"run {self.id} belongs to the process that began it")

    def _begin(self, source: AnyPath | ProcessedFile, speaker: SpeakerKey | None) -> None:
        whose = speaker_id(self._store, speaker)
        found = look(self._store, source, whose)
        # Whose voice a recording holds is for the runs to come, too: it is no output's alone.
        known = found.row is not None and found.row.speaker_id is not None
        self._kept = found.row.id if found.row is not None and known else 0

        def start() -> None:
            file = settle(self._store, found)
            self._facts = {name: file.__data__[name] for name in FACTS}
            self._speaker_id = file.speaker_id if whose is None else whose
            self.start_time = utc_now()
            self._rows = [_Row(file, self._insert_history(file), None, Metrics())]

        self._write(start)

    def _insert_history(self, file: ProcessedFile) -> int:
        history = self._history(file)
        mapper(ProcessingHistory).insert(self._store.connection(), history)
        return history.id

    def _history(self, file: ProcessedFile) -> ProcessingHistory:
        return ProcessingHistory(
            processed_file=file.id,
            run_id=self.run_id,
            operation_type=self._settings.operation_type,
            model_type=self._settings.model_type,
            model_version=self._settings.model_version,
            parameters=self.parameters,
            start_time=self.start_time,
            source_hash=self._facts["content_hash"],
            process=resources.process_facts(),
        )

    def _place(self, path: str, speaker: int | None, told: Metrics) -> tuple[int, _Row]:
        """Write the file row of an output, and its history row; return its place in the run."""
        for position, row in enumerate(self._rows):
            if row.path == path:
                metrics = Metrics()
                metrics.update(row.metrics)
                metrics.update(told)
                return position, replace(row, file=self._claim(row, path, speaker), metrics=metrics)
        first = self._rows[0]
        if first.path is None:
            return 0, replace(
                first, file=self._claim(first, path, speaker), path=path, metrics=told
            )
        file = self._insert_output(path, speaker)
        return len(self._rows), _Row(file, self._insert_history(file), path, told)

    def _claim(self, row: _Row, path: str, speaker: int | None) -> ProcessedFile:
        """Make a file row that of an output; make a new one where that row is to be kept."""
        stored, now = ProcessedFile.processed_path.db_value(path), utc_now()
        mine = (row.history_id, self.run_id)
        values = (stored, speaker, ProcessedFile.updated_at.db_value(now))
        where = (row.file.id, stored, self._kept, self.run_id, *mine)
        if self._store.connection().execute(_CLAIM, (*values, *where)).rowcount:
            file = mapper(ProcessedFile).get(self._store.connection(), row.file.id)
            return cast("ProcessedFile", file)
        file = self._insert_output(path, speaker)
        if not self._store.connection().execute(_MOVE, (file.id, *mine)).rowcount:
            raise NotFoundError("run", self.id)
        return file

    def _insert_output(self, path: str, speaker: int | None) -> ProcessedFile:
        file = ProcessedFile(**self._facts, processed_path=path, speaker=speaker)
        mapper(ProcessedFile).insert(self._store.connection(), file)
        return file

    def finish(self, error: BaseException | None) -> None:
        """Write the end of the run; its tracker calls this."""
        measured = self._meter.stop()
        if os.getpid() != self._pid:
            return  # a forked child leaves the block that its parent began
        with self._lock:
            self._is_over = True
            # A clock that was set back must not make the end come before the start.
            now = max(utc_now(), self.start_time)
            ending = _Ending(now, measured, None if error is None else describe(error))
            try:
                self._write(lambda: self._end(ending))
            except ServerAwayError as away:
                path = keep(f"{self.start_time:%Y%m%dT%H%M%SZ}_{self.run_id}", self._all(ending))
                message = f"{away}; the run is kept in {str(path)!r}: 'voices import' adds it"
                warnings.warn(message, SpoolWarning, stacklevel=4)

    def _end(self, ending: _Ending) -> None:
        for output in self._late:
            self._tell(output)
        ended = [self._end_row(row, ending) for row in self._rows]
        if not any(ended):
            raise NotFoundError("run", self.id)
        if self._was_torn:
            self._store.connection().execute(_END_OTHERS, (*ending.values(), self.run_id))

    def _end_row(self, row: _Row, ending: _Ending) -> bool:
        """Write the end of one row; false where somebody deleted it."""
        values = (*ending.values(), row.history_id, self.run_id)
        if not self._store.connection().execute(_END, values).rowcount:
            return False
        self._write_performance(row, ending.measured, is_first=row is self._rows[0])
        return True

    def _all(self, ending: _Ending) -> Iterator[Record]:
        """Yield the rows of the run as they should be, files first."""
        rows = self._with_late()
        for row in rows:
            yield ProcessedFile, row.file.__data__
        for row in rows:
            history = self._history(row.file)
            history.id, history.end_time = row.history_id, ending.time
            history.success, history.error_message = ending.message is None, ending.message
            yield ProcessingHistory, history.__data__
        for row in rows:
            values = self._performance(row, ending.measured, is_first=row is rows[0])
            yield ModelPerformance, {"id": row.history_id, **values}

    def _with_late(self) -> list[_Row]:
        """Return the rows with those that outputs would have had that were never written."""
        rows = list(self._rows)
        for output in self._late:
            file = self._unwritten(output)
            if rows[0].path is None:
                file.id, file.created_at = rows[0].file.id, rows[0].file.created_at
                rows[0] = replace(rows[0], file=file, path=output.path, metrics=output.metrics)
            else:
                file.id = 1 + max(row.file.id for row in rows)
                key = 1 + max(row.history_id for row in rows)
                rows.append(_Row(file, key, output.path, output.metrics))
        return rows

    def _write_performance(
        self, row: _Row, measured: resources.Measured | None, *, is_first: bool
    ) -> None:
        rows = mapper(ModelPerformance)
        parameters = rows.bind(self._performance(row, measured, is_first=is_first))
        self._store.connection().execute(_upsert(rows), parameters)

    def _performance(
        self, row: _Row, measured: resources.Measured | None, *, is_first: bool
    ) -> dict[str, Any]:
        metrics = combine(
            row.metrics,
            self._logged,
            Metrics() if measured is None else _metrics_of(measured),
            is_first=is_first,
            duration=self._facts["duration"],
        )
        return {
            "processing_history": row.history_id,
            "model_type": self._settings.model_type,
            "model_version": self._settings.model_version,
            "created_at": utc_now(),
            **metrics.row(),
        }


def _metrics_of(measured: resources.Measured) -> Metrics:
    columns = {
        "processing_time": measured.processing_time,
        "cpu_usage": measured.cpu_usage,
        "memory_usage": measured.memory_usage,
    }
    return Metrics(columns, measured.additional)


@functools.cache
def _upsert(rows: Mapper[ModelPerformance]) -> str:
    kept = ("id", "processing_history", "created_at")
    changed = ", ".join(f"{name} = excluded.{name}" for name in rows.names if name not in kept)
    return f"{rows.insert_sql} ON CONFLICT (processing_history_id) DO UPDATE SET {changed}"


def _other_run(store: Store, path: str, run_id: str) -> str | None:
    """Name another run, successful or still going, that has an output at a path."""
    stored = ProcessedFile.processed_path.db_value(path)
    found = store.connection().execute(_OTHER_RUN, (stored, run_id)).fetchone()
    if found is None:
        return None
    other, operation, model, version, success, process = found
    facts = json.loads(process or "{}")
    if not success and resources.is_here(facts) and not resources.is_alive(facts):
        return None  # it died: to do its work again is no surprise
    named = ":".join(filter(None, (model, version))) or operation
    return f"{other} ({named})"


def describe(error: BaseException) -> str:
    """Return an exception's type and message, an empty line, and its traceback."""
    name = type(error).__name__
    try:
        message = str(error)
        trace = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - foreign code: an exception that cannot be shown
        return f"{name}: (its message cannot be shown)\n\n{_frames(error)}"
    return storable(f"{name}: {message}\n\n{trace}" if message else f"{name}\n\n{trace}")


def _frames(error: BaseException) -> str:
    return storable("".join(traceback.format_tb(error.__traceback__)))


def storable(text: str) -> str:
    """Return text that every database and terminal can hold, cut in the middle if it is long."""
    if len(text) > _MAX_ERROR:
        half = _MAX_ERROR // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters …\n{text[-half:]}"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
