"""How a run becomes rows, live or from elsewhere, and whose outputs these replace.

A run of a recording hangs on the recording's own row, or on a voice where it has a speaker that
is not the recording's. Each output has a stem's row. Recordings belong to no run.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from voices_peewee.database.query import mapper
from voices_peewee.database.store import Store
from voices_peewee.database.transactions import source_key
from voices_peewee.errors import InvalidValueError, NotFoundError
from voices_peewee.records.sources import FOLLOW, Source, settle
from voices_peewee.runs.claims import Held
from voices_peewee.runs.environment import Surroundings, beginning
from voices_peewee.runs.metrics import OF_THE_RUN, Metrics, measuring
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory

_STEMS: Final = "WHERE recording_id = ? AND processed_path = ? ORDER BY id"
_VOICES: Final = """WHERE recording_id = ? AND speaker_id = ? AND processed_path IS NULL
 ORDER BY id + 0 LIMIT 1"""
# No joins, and by "id + 0": a server that knows nothing of the tables yet would walk them.
_OTHER_RUN: Final = """SELECT run_id, operation_type, model_type, model_version
 FROM processing_history WHERE id = (SELECT max((SELECT max(history.id + 0)
   FROM processing_history AS history
   WHERE history.processed_file_id = file.id AND history.success AND history.run_id <> ?))
  FROM processed_files AS file WHERE file.processed_path = ?)"""
# All go by the run's id too: SQLite gives the ids of deleted rows to those of other runs.
_IS_THERE: Final = """SELECT 1 FROM processing_history
 WHERE run_id = ? AND id = coalesce(?, id) LIMIT 1"""
_MOVE: Final = "UPDATE processing_history SET processed_file_id = ? WHERE id = ? AND run_id = ?"
_DROP: Final = """DELETE FROM processed_files WHERE id = ? AND recording_id IS NOT NULL
 AND NOT EXISTS (SELECT 1 FROM processing_history WHERE processed_file_id = processed_files.id)"""
# Tags and note may have been changed meanwhile, before a further output had its row.
_END: Final = """UPDATE processing_history SET end_time = ?, success = ?, error_message = ?,
 (tags, note) = (SELECT first.tags, first.note FROM processing_history AS first
  WHERE first.run_id = processing_history.run_id ORDER BY first.id + 0 LIMIT 1)
 WHERE run_id = ?"""
_TOLD: Final = """SELECT history.id, history.processed_file_id, told.created_at
 FROM processing_history AS history
 LEFT JOIN model_performance AS told ON told.processing_history_id = history.id
 WHERE history.run_id = ?"""
_ENVIRONMENT: Final = """INSERT INTO environments (facts, digest, created_at)
 SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM environments WHERE digest = ?)
 ON CONFLICT (digest) DO NOTHING"""

# Of which models it was said that their outputs are written over: once is enough for a batch.
_said: WeakKeyDictionary[Store, set[tuple[str, str]]] = WeakKeyDictionary()
_noted: WeakKeyDictionary[Store, str] = WeakKeyDictionary()  # the environment that is there


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a run, with its own metrics and what its file is; a voice has no path.

    ``unknown`` is the name of its speaker where the record has no such one.
    """

    path: str
    speaker_id: int | None
    metrics: Metrics
    facts: dict[str, Any] = field(default_factory=dict)
    unknown: str | None = None

    def is_at(self, row: ProcessedFile) -> bool:
        """Whether a stem of its recording and path is its own."""
        name = row.metadata.get("speaker") if isinstance(row.metadata, dict) else None
        return (row.speaker_id, name) == (self.speaker_id, self.unknown)

    def replaces(self, earlier: Output) -> bool:
        """Whether it takes the place of another speaker or number that was told of its path."""
        whose = (earlier.speaker_id, earlier.unknown)
        is_others = whose not in ((None, None), (self.speaker_id, self.unknown))
        is_other = is_others or self.after(earlier).metrics != earlier.after(self).metrics
        return self.path == earlier.path and is_other

    def after(self, earlier: Output) -> Output:
        """Return the output, told again, with the metrics that it had before."""
        metrics = Metrics()
        metrics.update(earlier.metrics)
        metrics.update(self.metrics)
        return replace(self, metrics=metrics)


@dataclass(slots=True, eq=False)
class RunRows:
    """What all rows of a run share; ``history`` and ``logged`` stand in each of them."""

    history: dict[str, Any]
    speaker_id: int | None
    logged: Metrics
    recording: ProcessedFile = field(init=False)

    def settle(self, source: Source, recording: ProcessedFile) -> None:
        """Take note of the recording, which was found or added."""
        self.recording = recording
        self.speaker_id = self.speaker_id or source.speaker_id or recording.speaker_id
        self.history["source_hash"] = recording.content_hash

    def measures(self, history_id: int, own: Metrics | None, cost: Metrics) -> dict[str, Any]:
        """Return the values of the performance row of a history row.

        The output's ``own`` metrics come before what was logged for the run, and that before
        what it cost; the names of what was logged are told, so that no number counts twice.
        """
        metrics, own, duration = Metrics(), own or Metrics(), self.recording.duration
        for later in (cost, self.logged, own):
            metrics.update(later)
        if names := sorted(self.logged.names() - own.names()):
            metrics.additional[OF_THE_RUN] = names
        seconds = metrics.columns.get("processing_time")
        length = duration if isinstance(duration, float | int) else 0.0  # else another program's
        if length > 0 and seconds is not None and "real_time_factor" not in metrics.columns:
            metrics.columns["real_time_factor"] = seconds / length
        return {
            "processing_history": history_id,
            "model_type": self.history["model_type"],
            "model_version": self.history["model_version"],
            "created_at": utc_now(),
            **metrics.row(),
        }


class Files:
    """Finds the file rows of a run inside a transaction, or adds them."""

    _spare: int | None = None  # the id of the next row, where ``at`` got one
    _unless: tuple[str, Any] | None = None

    def __init__(self, store: Store, steps: Any) -> None:
        self._store, self._steps = store, steps

    def starting(self, recording: ProcessedFile, speaker_id: int | None) -> ProcessedFile:
        """Return what a run without outputs hangs on: the recording, or a voice of it."""
        if speaker_id is None or speaker_id == recording.speaker_id:
            return recording
        return self._voice(recording, speaker_id) or self._add(new_part(recording, speaker_id))

    def stem(
        self, recording: ProcessedFile, output: Output, known: Sequence[ProcessedFile]
    ) -> ProcessedFile:
        """Return the row of an output, true to its file; ``known`` are those that are there."""
        if output.path == recording.original_path:
            what = f"the output {output.path!r} is the recording itself"
            raise InvalidValueError(f"{what}; write it to a path of its own")
        row = next((row for row in known if output.is_at(row)), None)
        if row is None:
            return self._add(new_stem(recording, output))
        if output.facts.get("read_at"):  # where the file is gone, what was known of it stays
            changes = {**output.facts, "updated_at": utc_now()}
            mapper(ProcessedFile).change(self._steps, row, changes)
        return row

    def at(
        self, recording: ProcessedFile, path: str, base: tuple[str, Any]
    ) -> Sequence[ProcessedFile] | None:
        """Return the stems of a recording at a path; None where ``base`` has no answer."""
        rows = mapper(ProcessedFile)
        values = rows.values(recording=recording.id, processed_path=path)
        self.path = values[-1]  # as it is stored
        lock = source_key(recording.original_path) if self._steps.gives_ids else None
        found = rows.find(self._steps, _STEMS, values, base, lock)
        if found is None:
            return None
        stems, self._spare = found
        self._unless = _STEMS, values  # another process may be adding the same one
        return stems

    def _voice(self, recording: ProcessedFile, speaker_id: int) -> ProcessedFile | None:
        rows, values = mapper(ProcessedFile), (recording.id, speaker_id)
        found = rows.where(self._steps, _VOICES, values)
        if not found and self._store.server is not None:  # another process may have been faster
            self._store.lock_sources([str(recording.original_path)])
            found = rows.where(self._steps, _VOICES, values)
        return next(iter(found), None)

    def _add(self, row: ProcessedFile) -> ProcessedFile:
        added: ProcessedFile = mapper(ProcessedFile).insert(
            self._steps, row, self._spare, self._unless
        )
        return added


class Row(NamedTuple):
    """A history row of a run, with the file that it hangs on; the output, where that is one's.

    ``told_at`` is when the output was told.
    """

    file: ProcessedFile
    history_id: int
    output: Output | None = None
    told_at: dt.datetime | None = None


class Ending(NamedTuple):
    """How a run ended: when, at which cost, and with which error."""

    time: dt.datetime
    cost: Metrics
    message: str | None


class LiveRows(RunRows):
    """The rows of a run that goes on; ``rows`` are those that were committed."""

    def __init__(self, store: Store, history: dict[str, Any], speaker_id: int | None) -> None:
        super().__init__(history, speaker_id, Metrics())
        self._store, self.run_id = store, history["run_id"]
        self.rows: Sequence[Row] = ()
        self._is_unsure = False  # a transaction around an output may have been rolled back
        self._ever: list[Row] = []  # also those that were told again; the last that is there counts
        self.late: list[Output] = []  # outputs that a server was not there for

    def begin(self, source: Source, surroundings: Surroundings | None) -> None:
        """Write the begin of the run."""
        self.surroundings = surroundings

        def write(steps: Any, is_again: bool) -> tuple[ProcessedFile, Any, bool]:
            if is_again:
                self._forget_unknown(steps)
            self.settle(source, settle(self._store, steps, source))
            file = Files(self._store, steps).starting(self.recording, self.speaker_id)
            return file, self._insert(steps, file), steps.is_part

        file, inserted, is_part = self._store.transact(write)
        rows = mapper(ProcessingHistory)
        self._begun = Row(file, inserted.fetchone()[0] if rows.returning else inserted.lastrowid)
        self.rows = (self._begun,)
        if surroundings and not is_part:  # else a rollback may take it back
            _noted[self._store] = surroundings.digest

    def has_begun(self) -> bool:
        """Whether the begin is in the database, even where an interrupt hid that."""
        with self._store.reading():
            asked = self._store.connection().execute(_IS_THERE, (self.run_id, None))
            return asked.fetchone() is not None

    def tell(self, output: Output) -> tuple[ProcessedFile, bool, str | None]:
        """Write an output; return its row, whether it replaces what was told, what run has it."""

        def write(steps: Any, is_again: bool) -> tuple[Sequence[Row], ProcessedFile, bool, Any]:
            if is_again:
                self._forget_unknown(steps)
            known, files = self._caught_up(steps), Files(self._store, steps)
            is_changed = any(row.output and output.replaces(row.output) for row in known)
            rows, file = self._told(steps, files, known, output)
            self._is_unsure |= steps.is_part
            return rows, file, is_changed, steps.add(_OTHER_RUN, (self.run_id, files.path))

        self.rows, file, is_changed, asked = self._store.transact(write)
        self.late.clear()
        other = asked.fetchone()
        return file, is_changed, other and _other_run(self._store, other, self.history)

    def end(self, ending: Ending, claim: Held | None) -> None:
        """Write the end of the run, and that of its claim.

        Raises:
            NotFoundError: Somebody deleted the run.
        """
        time = ProcessingHistory.end_time.db_value(ending.time)
        end = (time, ending.message is None, ending.message, self.run_id)

        def write(steps: Any, is_again: bool) -> tuple[Sequence[Row], Any]:
            if is_again:
                self._forget_unknown(steps)
            rows = self._caught_up(steps)
            files = [row.file.id for row in rows]
            if claim is not None:
                claim.end(steps)
            for row in rows:
                self._measure(steps, row, ending.cost)
            steps.add(f"{FOLLOW} AND processed_files.id IN ({', '.join('?' * len(files))})", files)
            return rows, steps.add(_END, end)

        self.rows, ended = self._store.transact(write)
        if not ended.rowcount:
            raise NotFoundError("run", self.rows[0].history_id)

    def told_of(self, path: str) -> Output | None:
        """Return the output at a path as it was told before; a rollback took back what it did."""
        rows = self._known(self._store.steps()) if self._is_unsure else self.rows
        told = (*reversed(self.late), *(row.output for row in rows))
        return next((one for one in told if one and one.path == path), None)

    def _caught_up(self, steps: Any) -> Sequence[Row]:
        """Write the outputs that a server was not there for, before anything later; return all."""
        rows = self._known(steps)
        for output in self.late:
            rows, _ = self._told(steps, Files(self._store, steps), rows, output)
        return rows

    def _known(self, steps: Any) -> Sequence[Row]:
        """Return the rows of the run without what a transaction around them took back."""
        if not self._is_unsure:
            return self.rows
        stored = steps.execute(_TOLD, (self.run_id,)).fetchall()
        there = {(*key, ModelPerformance.created_at.python_value(time)) for *key, time in stored}
        kept = [row for row in self._ever if (row.history_id, row.file.id, row.told_at) in there]
        return [*{row.history_id: row for row in (self._begun, *kept)}.values()]

    def _told(
        self, steps: Any, files: Files, rows: Sequence[Row], output: Output
    ) -> tuple[Sequence[Row], ProcessedFile]:
        """Write an output to its row."""
        place = place_of(rows, output.path)
        before = rows[place] if place < len(rows) else None
        is_there = (_IS_THERE, (self.run_id, before and before.history_id))
        stems = files.at(self.recording, output.path, is_there)
        if stems is None:
            raise NotFoundError("run", (before or rows[0]).history_id)
        file = files.stem(self.recording, output, stems)
        if before is None:
            key = mapper(ProcessingHistory).key_of(self._insert(steps, file))
        else:
            key = before.history_id
            steps.add(_MOVE, (file.id, key, self.run_id))
            self._drop(steps, before.file, file)
            output = output.after(before.output) if before.output else output
        told = Row(file, key, output, utc_now())
        self._ever.append(told)
        self._measure(steps, told, Metrics())
        return (*rows[:place], told, *rows[place + 1 :]), file

    def _drop(self, steps: Any, before: ProcessedFile, file: ProcessedFile) -> None:
        """Delete a part of the recording that nothing hangs on any more."""
        if before.recording_id is not None and before.id != file.id:
            self._store.engine.hold([before.id])
            steps.execute(_DROP, (before.id,))

    def _note_surroundings(self, steps: Any) -> None:
        """Add the environment; where a statement is dear, only once."""
        here = self.surroundings
        if here and not (steps.gives_ids and _noted.get(self._store) == here.digest):
            steps.execute(_ENVIRONMENT, (here.text, here.digest, here.seen_at, here.digest))

    def _insert(self, steps: Any, file: ProcessedFile) -> Any:
        """Add a history row; return the cursor that tells its id."""
        rows = mapper(ProcessingHistory)
        values = rows.bind({**self.history, "processed_file": file.id, "success": False})
        sql, place = beginning(rows)
        if here := self.surroundings:
            self._note_surroundings(steps)
            values[place] = here.digest
        return steps.add(sql, values)

    def _measure(self, steps: Any, row: Row, cost: Metrics) -> None:
        """Write the performance row of a history row."""
        rows, values = mapper(ModelPerformance), self.measured(row, cost)
        steps.add(measuring(rows), [*rows.bind(values), row.history_id, self.run_id])

    def measured(self, row: Row, cost: Metrics) -> dict[str, Any]:
        """Return the values of the performance row of a history row."""
        own = row.output.metrics if row.output else None
        values = self.measures(row.history_id, own, cost)
        return values | ({"created_at": row.told_at} if row.told_at else {})

    def _forget_unknown(self, steps: Any) -> None:
        """Take back what a server may have committed as it went away: it is written again."""
        history, file = ProcessingHistory, ProcessedFile
        known = {row.history_id: row.file.id for row in self.rows}
        for key, file_id, _ in steps.execute(_TOLD, (self.run_id,)).fetchall():
            if known.get(key) == file_id:
                continue
            if key in known:
                history.update(processed_file=known[key]).where(history.id == key).execute()
            else:
                history.delete().where(history.id == key).execute()
            others = history.select(history.processed_file)
            is_output = (file.id == file_id) & file.processed_path.is_null(False)
            file.delete().where(is_output, file.id.not_in(others)).execute()


def place_of(rows: Sequence[Row], path: str) -> int:
    """Return which row is an output's: its own, the free one of the start, or one more."""
    places = [row.output.path if row.output else path for row in rows]
    return places.index(path) if path in places else len(rows)


def new_stem(recording: ProcessedFile, output: Output) -> ProcessedFile:
    """Return the object of an output's row, not written."""
    metadata = {"speaker": output.unknown} if output.unknown else {}
    values = {"processed_path": output.path, "metadata": metadata, **output.facts}
    return new_part(recording, output.speaker_id, **values)


def new_part(recording: ProcessedFile, speaker_id: int | None, **values: Any) -> ProcessedFile:
    """Return the object of a part of a recording, not written."""
    return ProcessedFile(
        filename=recording.filename,
        original_path=recording.original_path,
        recording=recording.id,
        speaker=speaker_id,
        **values,
    )


def _other_run(store: Store, found: tuple[Any, ...], history: dict[str, Any]) -> str | None:
    """Name the run that has an output at a path of a run; None where that was said of its model."""
    other, *names = found
    its_model = _name_of(*names)
    own = _name_of(*map(history.__getitem__, ("operation_type", "model_type", "model_version")))
    said = _said.setdefault(store, set())
    if (own, its_model) in said:
        return None
    said.add((own, its_model))
    return f"{other} ({its_model})"


def _name_of(operation: str, model: str | None, version: str | None) -> str:
    """Return a model with its version, else the operation."""
    return ":".join(map(str, filter(None, (model, version)))) or operation
