"""One run: its rows, its metrics and its outputs, written as they become known."""

from __future__ import annotations

import datetime as dt
import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final, TypeVar

from voices_peewee.database.query import mapper
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import AmbiguousNameError, DatabaseError, NotFoundError
from voices_peewee.records.sources import AnyPath, Source, locate, look, settle, speaker_id
from voices_peewee.runs import claims
from voices_peewee.runs.environment import ask_environment, remember, wanted_surroundings
from voices_peewee.runs.meter import Meter, Timing
from voices_peewee.runs.metrics import Metrics, MetricWarning, measuring, performance
from voices_peewee.runs.process import process_facts
from voices_peewee.runs.rows import Files, Output, forget_unknown, new_stem, own_facts
from voices_peewee.runs.settings import failure, name_of
from voices_peewee.runs.spool import Record, SpoolWarning, kept
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import (
    Environment,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    new_run_id,
)

T = TypeVar("T")

# By the run's id: SQLite gives the ids of deleted rows to those of other runs.
# Tags and note may have been changed meanwhile, before a further output had its row.
_END: Final = """UPDATE processing_history SET end_time = ?, success = ?, error_message = ?,
 (tags, note) = (SELECT first.tags, first.note FROM processing_history AS first
  WHERE first.run_id = processing_history.run_id ORDER BY first.id LIMIT 1)
 WHERE run_id = ?"""
_TOLD_LATER: Final = "the output is written when the run ends"
_IN_TRANSACTION: Final = (
    "this run begins inside a transaction: if that is rolled back, as by an exception that leaves "
    "it, the run leaves no trace"
)


class OutputWarning(UserWarning):
    """An output path is another run's too; it is said once for each pair of models."""


class SpeakerWarning(UserWarning):
    """An output's speaker is not in the record; the output is kept with the name."""


class TransactionWarning(UserWarning):
    """A run begins inside a transaction."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A history row of a run, with the file that it hangs on; the output, where that is one's."""

    file: ProcessedFile
    history_id: int
    output: Output | None = None


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a run ended: when, at which cost, and with which error."""

    time: dt.datetime
    cost: Metrics
    message: str | None


class Run:
    """A run that is being recorded; ``run_id`` names it, ``parameters`` are as recorded.

    Metrics that ``log`` is given are the run's, as is what was measured: processing time, CPU,
    memory and real-time factor. They are in every row of the run, and
    ``additional_metrics["run"]`` lists the names of what was logged. Metrics that ``output`` is
    given are that output's and come before the run's in its row.

    A run may be used by many threads, but only by the process that began it.
    """

    def __init__(
        self,
        store: Store,
        source: AnyPath | ProcessedFile,
        settings: dict[str, Any],
        speaker: SpeakerKey | None,
    ) -> None:
        self.run_id = new_run_id()
        self.parameters = settings["parameters"]
        self._store, self._settings = store, settings
        names = ("operation_type", "model_type", "model_version")
        self._model = name_of(*map(settings.__getitem__, names))
        self._lock = threading.RLock()  # a signal handler may log while an output is written
        self._logged, self._warned = Metrics(), set[str]()
        self._rows: list[_Row] = []
        self._late: list[Output] = []  # outputs that a server was not there for
        self._pid, self._is_over = os.getpid(), False
        if store.database.in_transaction():
            warnings.warn(_IN_TRANSACTION, TransactionWarning, stacklevel=4)
        whose, found = store.retrying(lambda: (speaker_id(store, speaker), look(store, source)))
        file, begun = self._write(lambda connection: self._begin(connection, found, whose))
        self._rows = [_Row(file, begun().id)]
        remember(store, self._history["environment"])
        self._claim = claims.begin(store, self._recording, settings)
        self._timing, self._meter = Timing(self._require_open), Meter()

    @property
    def id(self) -> int:
        """The id of the first history row."""
        return self._rows[0].history_id

    @property
    def file(self) -> ProcessedFile:
        """The row that the run hangs on; once an output was told, the first output's."""
        return self._rows[0].file

    @property
    def recording(self) -> ProcessedFile:
        """The row of the recording that is processed."""
        return self._recording

    def __repr__(self) -> str:
        return f"<Run {self.id} {self._settings['operation_type']} of {self.file.original_path!r}>"

    def log(self, metrics: Mapping[str, object] | None = None, /, **named: object) -> None:
        """Take note of metrics of the run; a name that was logged before gets its new value.

        ``si_snri`` and ``sdri`` (dB) go to their columns, and so do ``cpu_usage`` (%),
        ``memory_usage`` (MB), ``processing_time`` (s) and ``real_time_factor`` in place of what
        is measured; everything else, any JSON value, to ``additional_metrics``. What is not
        finite is recorded without a value, with a MetricWarning; another one says, once for each
        name, that a later value took the place of an earlier one.

        Args:
            metrics: The values by their names, where they are no keywords.
            named: The values by their names.

        Raises:
            InvalidValueError: A value is out of bounds or has no JSON form.
            RuntimeError: The run is over, or another process began it.
        """
        told = Metrics.of({**(metrics or {}), **named})
        with self._lock:
            self._require_open()
            again = self._logged.names() & told.names() - self._warned
            self._warned |= again
            self._logged.update(told)
        told.warn(stacklevel=2)
        for name in sorted(again):
            message = f"{name} was logged before in this run: the last value counts"
            warnings.warn(message, MetricWarning, stacklevel=2)

    def timing(self) -> Timing:
        """Return a block that is timed: ``with run.timing():`` around the model's work.

        ``processing_time`` (s), ``cpu_usage`` (%) and ``real_time_factor`` of the run are then
        those of its timed blocks, summed, and ``additional_metrics["timed"]`` is true; memory
        stays the peak of the whole run. Where torch has used CUDA or MPS, the device is waited
        for at the begin and the end of the block. A block that an exception leaves counts.

        Raises:
            RuntimeError: On entering: another block of this run goes on, in this thread or
                another; the run is over, or another process began it.
        """
        return self._timing

    def output(
        self, path: AnyPath, /, *, speaker: SpeakerKey | None = None, **metrics: object
    ) -> ProcessedFile:
        """Record an output and its metrics at once; return its row.

        The history row that was made at the start moves to the first output's row; each further
        one gets its own. An output that was told before gets the new metrics and speaker. An
        output that another run claims too is kept, with an OutputWarning, and one whose speaker
        is not known with the name in ``metadata["speaker"]`` and a SpeakerWarning.

        Args:
            path: What was written; its size, hash and audio facts are read now.
            speaker: Whose voice it holds; by default the speaker of the run, else of the
                recording.
            metrics: As for ``log``.

        Raises:
            InvalidValueError: A value is out of bounds or has no JSON form.
            RuntimeError: The run is over, or another process began it.
        """
        told, place = Metrics.of(metrics), locate(path)
        self._require_open()
        facts = own_facts(place)
        with self._lock:
            self._require_open()
            whose, unknown = self._speaker_of(speaker)
            output = Output(place, whose, told, facts, unknown)
            try:
                file, asked = self._write(lambda connection: self._tell(connection, output))
                other = asked()
            except DatabaseError as refused:
                if self._store.server is None:
                    raise
                self._late.append(output)
                file, other = new_stem(self._recording, output), None
                warnings.warn(f"{refused}; {_TOLD_LATER}", SpoolWarning, stacklevel=2)
        told.warn(stacklevel=2)
        if unknown:
            message = f"no speaker {unknown!r}: the output {place!r} is kept with the name alone"
            warnings.warn(message, SpeakerWarning, stacklevel=2)
        if other:
            message = f"the output {place!r} is claimed by run {other} too; it is kept for both"
            warnings.warn(message, OutputWarning, stacklevel=2)
        return file

    def _speaker_of(self, speaker: SpeakerKey | None) -> tuple[int | None, str | None]:
        """Return the id of an output's speaker, or the name of one that is not known."""
        if speaker is None:
            return self._speaker_id, None
        try:
            return self._store.retrying(lambda: speaker_id(self._store, speaker)), None
        except (NotFoundError, AmbiguousNameError):  # hours of work may stand behind the output
            return None, str(speaker)

    def _tell(
        self, connection: Any, output: Output
    ) -> tuple[ProcessedFile, Callable[[], str | None]]:
        """Write an output and its metrics; return its row, and what tells who else claims it."""
        files, place = Files(self._store, connection), self._place(output.path)
        if place < len(self._rows):
            require = files.ask_run(self._rows[place].history_id, self.run_id)
        else:
            require = files.ask_further(self._recording, self.run_id)
        file = files.stem(self._recording, output, require)
        if place == len(self._rows):
            history = self._history_of(file)
            row = _Row(file, mapper(ProcessingHistory).insert(connection, history).id, output)
            self._measure(connection, row, Metrics(), is_first=True)
        else:
            before = self._rows[place]
            files.move(self.run_id, before.history_id, before.file, file)
            row = replace(before, file=file, output=output.after(before.output))
            self._measure(connection, row, Metrics(), is_first=before.output is None)
        self._rows = [*self._rows[:place], row, *self._rows[place + 1 :]]
        asked = files.ask_other_run(output.path, self.run_id)
        return file, lambda: files.other_run(asked, self._model)

    def _place(self, path: str) -> int:
        """Return where an output belongs: to its row, to the free one of the start, or behind."""
        if self._rows[0].output is None:
            return 0
        paths = [row.output.path for row in self._rows if row.output]
        return paths.index(path) if path in paths else len(paths)

    def _write(self, action: Callable[[Any], T]) -> T:
        """Do something as one transaction; where that fails, the rows are as before."""
        before, attempts = self._rows, count()
        is_outermost = not self._store.database.in_transaction()

        def attempt() -> T:
            self._rows = before
            with self._store.writing_together():
                if next(attempts):
                    known = {row.history_id: row.file.id for row in before}
                    fresh = [row.history_id for row in before if not row.output]
                    forget_unknown(self._store.connection(), self.run_id, known, fresh)
                return action(self._store.connection())

        try:
            return self._store.retrying(attempt)
        except BaseException as error:
            self._rows = before
            if is_outermost and not isinstance(error, Exception):
                # It may strike between a block and its end.
                self._store.abandon(interrupted=True)
            raise

    def _require_open(self) -> None:
        if self._is_over:
            raise RuntimeError(f"run {self.id} is over")
        if os.getpid() != self._pid:
            raise RuntimeError(f"run {self.id} belongs to the process that began it")

    def _begin(
        self, connection: Any, found: Source, whose: int | None
    ) -> tuple[ProcessedFile, Callable[[], ProcessingHistory]]:
        """Write the begin of the run; return what it hangs on, and what tells its history row."""
        self._surroundings = wanted_surroundings()
        environment = ask_environment(self._store, connection, self._surroundings)
        self._recording = settle(self._store, found)
        self._speaker_id = whose or found.speaker_id or self._recording.speaker_id
        self.start_time = utc_now()
        self._history = {
            "run_id": self.run_id,
            **self._settings,
            "start_time": self.start_time,
            "source_hash": self._recording.content_hash,
            "process": process_facts(),
            "environment": environment(),
        }
        file = Files(self._store, connection).starting(self._recording, self._speaker_id)
        rows, history = mapper(ProcessingHistory), self._history_of(file)
        return file, functools.partial(rows.inserted, history, rows.send(connection, history))

    def _history_of(self, file: ProcessedFile) -> ProcessingHistory:
        # Peewee's defaults would make a run id and a time for nothing.
        values = {**self._history, "processed_file": file.id, "success": False}
        return ProcessingHistory(**values, __no_default__=True)

    def finish(self, error: BaseException | None) -> None:
        """Write the end of the run; its tracker calls this."""
        cost = self._meter.stop()
        self._timing.narrow(cost)
        if os.getpid() != self._pid:
            return  # a forked child leaves the block that its parent began
        with self._lock:
            self._is_over = True
            # A clock that was set back must not make the end come before the start.
            now = max(utc_now(), self.start_time)
            ending = _Ending(now, cost, failure(error))
            try:
                ended = self._write(lambda connection: self._end(connection, ending))
                if not ended.rowcount:
                    raise NotFoundError("run", self.id)  # somebody deleted it
            except DatabaseError as refused:
                if self._store.server is None:
                    raise
                name = f"{self.start_time:%Y%m%dT%H%M%SZ}_{self.run_id}"
                told = kept(name, self._all(ending))
                warnings.warn(f"{refused}; {told}", SpoolWarning, stacklevel=4)
            else:
                claims.forget(self._store, self._claim)

    def _end(self, connection: Any, ending: _Ending) -> Any:
        """Write the end of the run; return a cursor that counts its rows."""
        for output in self._late:
            self._tell(connection, output)
        end = ProcessingHistory.end_time.db_value(ending.time)
        values = (end, ending.message is None, ending.message, self.run_id)
        ended = connection.execute(_END, values)
        if self._claim is not None:
            self._claim.end(connection)
        for row in self._rows:
            self._measure(connection, row, ending.cost, is_first=row.output is None)
        return ended

    def _all(self, ending: _Ending) -> Iterator[Record]:
        """Yield the rows of the run as they should be, files first, the recording before all."""
        if self._surroundings is not None:
            facts, digest = self._surroundings
            key = self._history["environment"]
            yield (
                Environment,
                {"id": key, "facts": facts, "digest": digest, "created_at": self.start_time},
            )
        rows = self._with_late()
        files = {row.file.id: row.file for row in rows if row.file.id != self._recording.id}
        for file in (self._recording, *files.values()):
            yield ProcessedFile, file.__data__
        end = {
            "end_time": ending.time,
            "success": ending.message is None,
            "error_message": ending.message,
        }
        for row in rows:
            own = {"id": row.history_id, "processed_file": row.file.id}
            yield ProcessingHistory, {**self._history, **end, **own}
        for row in rows:
            yield ModelPerformance, {"id": row.history_id, **self._measures(row, ending.cost)}

    def _with_late(self) -> list[_Row]:
        """Return the rows with those that outputs would have had that were never written."""
        rows = list(self._rows)
        for output in self._late:
            file = new_stem(self._recording, output)
            file.id = 1 + max(self._recording.id, *(row.file.id for row in rows))
            if rows[0].output is None:
                rows[0] = replace(rows[0], file=file, output=output)
            else:
                rows.append(_Row(file, 1 + max(row.history_id for row in rows), output))
        return rows

    def _measure(self, connection: Any, row: _Row, cost: Metrics, *, is_first: bool) -> None:
        """Write what was measured; nothing where somebody deleted the history row."""
        rows = mapper(ModelPerformance)
        insert, update, places = measuring(rows)
        values = rows.bind(self._measures(row, cost))
        if is_first:
            connection.execute(insert, [*values, row.history_id, self.run_id])
        else:
            mine = (row.history_id, row.history_id, self.run_id)
            connection.execute(update, [*map(values.__getitem__, places), *mine])

    def _measures(self, row: _Row, cost: Metrics) -> dict[str, Any]:
        own = row.output.metrics if row.output else Metrics()
        duration = self._recording.duration
        return performance(
            self._history, row.history_id, own, self._logged, cost, duration=duration
        )
