"""How a run becomes rows of files, live or from elsewhere, and whose outputs these replace.

A run of a recording hangs on the recording's own row, or on a voice where it has a speaker that
is not the recording's. Each output has a stem's row. Recordings belong to no run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from voices_peewee.database.query import mapper
from voices_peewee.database.store import Store
from voices_peewee.errors import NotFoundError
from voices_peewee.records.sources import FACTS, facts_of, rows_where, write_changes
from voices_peewee.runs.metrics import MINE, Metrics
from voices_peewee.runs.process import is_alive, is_here
from voices_peewee.runs.settings import name_of
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory

_STEMS: Final = "WHERE recording_id = ? AND processed_path = ? ORDER BY id"
_VOICES: Final = """WHERE recording_id = ? AND speaker_id = ? AND processed_path IS NULL
 ORDER BY id LIMIT 1"""
_ROWS: Final = "SELECT id, processed_file_id FROM processing_history WHERE run_id = ?"
# With the run's id too: SQLite gives the ids of deleted rows to those of other runs.
_MOVE: Final = "UPDATE processing_history SET processed_file_id = ? WHERE id = ? AND run_id = ?"
_OF_RUN: Final = "SELECT 1 FROM processing_history WHERE run_id = ? LIMIT 1"
_THERE: Final = "SELECT 1 FROM processed_files WHERE id = ? AND original_path = ?"
_DROP: Final = """DELETE FROM processed_files WHERE id = ? AND recording_id IS NOT NULL
 AND NOT EXISTS (SELECT 1 FROM processing_history WHERE processed_file_id = processed_files.id)"""
_OTHER_RUN: Final = """SELECT history.run_id, history.operation_type, history.model_type,
 history.model_version, history.success, history.process
 FROM processed_files AS file JOIN processing_history AS history
 ON history.processed_file_id = file.id
 JOIN model_performance AS told ON told.processing_history_id = history.id
 WHERE file.processed_path = ? AND history.run_id <> ?
 AND (history.success OR history.end_time IS NULL)
 ORDER BY history.success DESC, history.id DESC LIMIT 1"""
# What a stem's row says of its own file; name and path are its recording's.
_OWN_FACTS: Final = FACTS[2:]

# Of which models it was said that their outputs are written over: once is enough for a batch.
_said: WeakKeyDictionary[Store, set[tuple[str, str]]] = WeakKeyDictionary()


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

    def after(self, earlier: Output | None) -> Output:
        """Return the output, told again, with the metrics that it had before."""
        if earlier is None:
            return self
        metrics = Metrics()
        metrics.update(earlier.metrics)
        metrics.update(self.metrics)
        return replace(self, metrics=metrics)


def own_facts(path: str) -> dict[str, Any]:
    """Return what the file of an output is; the slow part, without a lock."""
    facts = facts_of(path)
    return {name: facts[name] for name in _OWN_FACTS}


class PartKey(NamedTuple):
    """What tells the stems and voices of a recording apart; a voice has no path."""

    recording_id: int
    path: str | None
    speaker_id: int | None
    unknown: str | None = None

    @classmethod
    def of(cls, row: ProcessedFile) -> PartKey:
        """Return the key of a row."""
        name = (row.metadata or {}).get("speaker") if row.processed_path else None
        unknown = name if isinstance(name, str) else None
        return cls(row.recording_id or 0, row.processed_path, row.speaker_id, unknown)


class Files:
    """Finds the file rows of a run inside a transaction, or adds them."""

    _spare: int | None = None  # the id of the next row, where ``_find`` got one

    def __init__(self, store: Store, connection: Any) -> None:
        self._store, self._connection = store, connection

    def starting(self, recording: ProcessedFile, speaker_id: int | None) -> ProcessedFile:
        """Return what a run without outputs hangs on: the recording, or a voice of it."""
        if speaker_id is None or speaker_id == recording.speaker_id:
            return recording
        row = self._find(PartKey(recording.id, None, speaker_id), recording.original_path)
        return row or self._add(new_part(recording, speaker_id))

    def stem(
        self,
        recording: ProcessedFile,
        output: Output,
        require: Callable[[], None] = lambda: None,
    ) -> ProcessedFile:
        """Return the row of an output, true to its file; ``require`` is called before it writes."""
        key = PartKey(recording.id, output.path, output.speaker_id, output.unknown)
        row = self._find(key, recording.original_path)
        require()
        if row is None:
            return self._add(new_stem(recording, output))
        if output.facts.get("read_at"):  # where the file is gone, what was known of it stays
            write_changes(row, output.facts)
        return row

    def ask_run(self, history_id: int, run_id: str) -> Callable[[], None]:
        """Ask whether a history row is there; return what refuses an output if it is not."""
        asked = self._connection.execute(MINE, (history_id, run_id))
        return partial(_require, asked, NotFoundError("run", history_id))

    def ask_further(self, recording: ProcessedFile, run_id: str) -> Callable[[], None]:
        """Ask whether a recording, whose id may be another's now, and a run are there still."""
        of_run = self._connection.execute(_OF_RUN, (run_id,))
        asked = None
        if recording.original_path is not None:
            path = ProcessedFile.original_path.db_value(recording.original_path)
            asked = self._connection.execute(_THERE, (recording.id, path))

        def require() -> None:
            if asked is not None:
                _require(asked, NotFoundError("file", str(recording.original_path)))
            _require(of_run, NotFoundError("run", run_id))

        return require

    def move(
        self, run_id: str, history_id: int, before: ProcessedFile, after: ProcessedFile
    ) -> None:
        """Hang a history row on another file; a part that nothing hangs on any more goes."""
        self._connection.execute(_MOVE, (after.id, history_id, run_id))
        if before.recording_id is not None and before.id != after.id:
            self._store.lock_sources([str(before.original_path)])
            self._connection.execute(_DROP, (before.id,))

    def ask_other_run(self, path: str, run_id: str) -> Any:
        """Return a cursor for ``other_run``."""
        values = (ProcessedFile.processed_path.db_value(path), run_id)
        return self._connection.execute(_OTHER_RUN, values)

    def other_run(self, asked: Any, model: str) -> str | None:
        """Name another run, successful or going on, that has an output at the path.

        None where there is none, or where that was said of the two models before.
        """
        found = asked.fetchone()
        if found is None:
            return None
        other, operation, model_type, version, success, recorder = found
        process = ProcessingHistory.process.python_value(recorder)
        if not success and isinstance(process, dict) and is_here(process) and not is_alive(process):
            return None  # it died: to do its work again is no surprise
        its_model = name_of(operation, model_type, version)
        said = _said.setdefault(self._store, set())
        if (model, its_model) in said:
            return None
        said.add((model, its_model))
        return f"{other} ({its_model})"

    def _find(self, key: PartKey, source: str | None) -> ProcessedFile | None:
        row = self._select(key)
        if row is None and key.path is None and self._store.server is not None:
            self._store.lock_sources([str(source)])
            row = self._select(key)  # another process may have been faster
        return row

    def _select(self, key: PartKey) -> ProcessedFile | None:
        stored = ProcessedFile.processed_path.db_value(key.path)
        rows, values = mapper(ProcessedFile), (key.recording_id, stored or key.speaker_id)
        if key.path is None:  # looked for twice: no id is taken for nothing
            sql = f"{rows.select_sql} {_VOICES}"
            found = list(rows.build(self._connection.execute(sql, values).fetchall()))
        else:
            found, self._spare = rows.find(self._connection, _STEMS, values)
        return next((row for row in found if PartKey.of(row) == key), None)

    def _add(self, row: ProcessedFile) -> ProcessedFile:
        mapper(ProcessedFile).insert(self._connection, row, self._spare)
        return row


def _require(asked: Any, gone: NotFoundError) -> None:
    if asked.fetchone() is None:
        raise gone


class ManyFiles(Files):
    """Finds and adds the file rows of many runs, read and written together."""

    def __init__(self, store: Store, connection: Any, recordings: Iterable[int]) -> None:
        super().__init__(store, connection)
        rows = rows_where(store, ProcessedFile, "recording", recordings)
        self._known: dict[PartKey, ProcessedFile] = {}
        self._added: list[ProcessedFile] = []
        for row in rows:
            self._known.setdefault(PartKey.of(row), row)

    def write(self) -> None:
        """Write the rows that were added."""
        mapper(ProcessedFile).insert_objects(self._connection, self._added)

    def _find(self, key: PartKey, source: str | None) -> ProcessedFile | None:  # noqa: ARG002
        return self._known.get(key)

    def _add(self, row: ProcessedFile) -> ProcessedFile:
        self._known[PartKey.of(row)] = row
        self._added.append(row)
        return row


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


def forget_unknown(
    connection: Any, run_id: str, known: Mapping[int, int], fresh: Sequence[int]
) -> None:
    """Take back what a server may have committed as it went away: it is written again."""
    history, file, measured = ProcessingHistory, ProcessedFile, ModelPerformance
    measured.delete().where(measured.processing_history.in_(fresh)).execute()
    mine = connection.execute(_ROWS, (run_id,)).fetchall()
    for key, file_id in mine:
        if known.get(key) == file_id:
            continue
        if key in known:
            history.update(processed_file=known[key]).where(history.id == key).execute()
        else:
            history.delete().where(history.id == key).execute()
        others = history.select(history.processed_file)
        is_output = (file.id == file_id) & file.processed_path.is_null(False)
        file.delete().where(is_output, file.id.not_in(others)).execute()
