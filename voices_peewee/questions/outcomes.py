"""What the runs of a source came to, and who works on it."""

from __future__ import annotations

import datetime as dt
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import AudioError
from voices_peewee.records.audio_files import content_hash
from voices_peewee.records.sources import LOOKUP
from voices_peewee.runs.claims import Claimed, Source, facts_of, is_working
from voices_peewee.runs.settings import canonical, digest, model_hash
from voices_peewee.schema.fields import dump_json, plain_object
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

Reason = Literal[
    "never run",
    "failed",
    "unfinished",
    "content changed",
    "other version or parameters",
    "being worked on",
]

S = TypeVar("S", bound=str | os.PathLike[str] | ProcessedFile)

# A file system's clock may be this much coarser than ours (s): FAT counts in twos.
_CLOCK_SLACK: Final = 2.0
# As text: to have it made for each source that is handed out would be most of the time.
_COLUMNS: Final = """file.original_path, file.id, run.id, run.run_id, run.model_version,
 run.parameters, run.start_time, run.end_time, run.success, run.source_hash,
 run.model_hash, CASE WHEN run.end_time IS NULL THEN run.process END"""
_EVERY: Final = """SELECT {} FROM processing_history AS run
 JOIN processed_files AS file ON file.id = run.processed_file_id
 WHERE run.operation_type = ? AND {}"""
# CROSS and the empty text keep SQLite from going through all runs of the model instead.
_SOME: Final = """SELECT {} FROM processed_files AS file CROSS JOIN processing_history AS run
 WHERE run.processed_file_id = file.id AND run.operation_type || '' = ? AND {}
 AND file.{} IN ({})"""
# What may have changed though no run has: a process may have died.
_PASSING: Final = ("being worked on", "unfinished")


class Row(NamedTuple):
    """What one history row says, as it is stored; ``process`` only where it has no end."""

    path: str | None
    file_id: int
    id: int
    run_id: str
    version: str | None
    parameters: str
    start: str
    end: str | None
    success: bool
    source_hash: str | None
    model_hash: str | None
    process: str | None


class Candidate(NamedTuple, Generic[S]):
    """A source that is left, with its runs when that was found."""

    source: S
    place: Source
    reason: Reason
    rows: list[Row]


class Look:
    """Judges sources by their runs and claims; ``workers`` are those that were seen at work."""

    def __init__(self, store: Store, wanted: Settings, *, exact: bool, lease: dt.timedelta) -> None:
        self.store, self.wanted, self._exact, self._lease = store, wanted, exact, lease
        self.workers: dict[Source, dict[str, Any]] = {}

    def runs(self, places: Sequence[Source] | None) -> dict[Source, list[Row]]:
        """Return the runs of the operation by the model: all, or those of few places."""
        return self.store.retrying(lambda: _runs(self.store, self.wanted, places))

    def reason(self, place: Source, rows: list[Row], claim: Claimed | None) -> Reason | None:
        """Return why a source is left, or None where it is done."""
        if not rows and claim is None:
            return "never run"
        reason: Reason | None = "never run"
        if rows:
            reason = _reason(place, rows, self.wanted, exact=self._exact)
        if reason is None:
            return None
        worker = claim and claim.worker(self.store.label)
        worker = worker or next(filter(None, map(self._worker, rows)), None)
        if worker is None:
            return reason
        self.workers[place] = worker
        return "being worked on"

    def again(
        self, before: Candidate[Any], rows: list[Row], claim: Claimed | None
    ) -> Reason | None:
        """Return why a source is left now; what failed meanwhile counts as done."""
        if rows == before.rows and claim is None and before.reason not in _PASSING:
            return before.reason  # a file that changed is not read again
        ended = {row.run_id for row in before.rows if row.end}
        new = [row for row in rows if row.end and not row.success and row.run_id not in ended]
        if any(map(self.wanted.match, new)):
            return None
        return self.reason(before.place, rows, claim)

    def _worker(self, row: Row) -> dict[str, Any] | None:
        """Return the process that a run goes on in."""
        if row.process is None or row.success or not self.wanted.match(row):
            return None
        process, start = facts_of(row.process), moment(row.start)
        if start is None or not is_working(process, start + self._lease):
            return None
        return process


def _runs(
    store: Store, wanted: Settings, places: Sequence[Source] | None
) -> dict[Source, list[Row]]:
    file = ProcessedFile
    found: dict[Source, list[Row]] = {}
    with store.reading(), no_full_collection():
        for sql, asked in _queries(wanted, places):
            for values in store.connection().execute(sql, asked):
                path = values[0]
                if path is not None and not path.isascii():
                    path = str(file.original_path.python_value(path))
                found.setdefault(values[1] if path is None else path, []).append(Row(*values))
    return found


def _queries(
    wanted: Settings, places: Sequence[Source] | None
) -> Iterator[tuple[str, list[object]]]:
    """Yield one query for all runs; where there are few places, one for 500 of them each."""
    has_model, asked = "run.model_type IS NULL", list[object]([wanted.operation_type])
    if wanted.model is not None:
        has_model, asked = "run.model_type = ?", [*asked, wanted.model]
    if places is None:
        yield _EVERY.format(_COLUMNS, has_model), asked
        return
    stored = ProcessedFile.original_path.db_value
    paths = {stored(place) for place in places if isinstance(place, str)}
    ids = {place for place in places if isinstance(place, int)}
    for column, values in (("original_path", paths), ("id", ids)):
        left = iter(values)
        while some := list(islice(left, LOOKUP)):
            sql = _SOME.format(_COLUMNS, has_model, column, ", ".join("?" * len(some)))
            yield sql, [*asked, *some]


class Settings:
    """What a run must have been made with to count."""

    def __init__(
        self,
        operation_type: str,
        model_type: str | None,
        model_version: object,
        parameters: Mapping[str, Any] | None,
        model_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self.operation_type = operation_type
        self._model_hash = model_hash(model_file)
        self.model = ProcessingHistory.model_type.db_value(model_type)
        # 4.0 is stored as text
        self.version = ProcessingHistory.model_version.db_value(model_version)
        plain = plain_object("parameters", parameters)
        self._canonical = canonical(dump_json(plain))
        self.digest = digest(
            {
                "operation_type": operation_type,
                "model_type": model_type,
                "model_version": model_version,
                "parameters": plain,
                "model_hash": self._model_hash,
            }
        )

    def match(self, row: Row) -> bool:
        """Whether a run has exactly these settings."""
        if self._model_hash not in (None, row.model_hash):
            return False
        same = row.version == self.version
        return same and canonical(row.parameters) == self._canonical


def _reason(place: Source, rows: list[Row], wanted: Settings, *, exact: bool) -> Reason | None:
    """Return why a source is left, or None where it is done."""
    runs: dict[str, list[Row]] = {}
    for row in filter(wanted.match, rows):
        runs.setdefault(row.run_id, []).append(row)
    if not runs:
        return "other version or parameters"
    outcomes = {run_id: _outcome(run) for run_id, run in runs.items()}
    successes = [runs[run_id][0] for run_id, outcome in outcomes.items() if outcome is None]
    if successes and _is_seen(place, successes, exact=exact):
        return None
    latest = max(runs, key=lambda run_id: max((row.start, row.id) for row in runs[run_id]))
    return outcomes[latest] or "content changed"


def _outcome(run: list[Row]) -> Reason | None:
    """Return what a run came to, None for a success."""
    if all(row.success for row in run):
        return None
    return "failed" if all(row.end or row.success for row in run) else "unfinished"


def _is_seen(place: Source, successes: list[Row], *, exact: bool) -> bool:
    """Whether a run began with the file as it is now, or nobody can tell."""
    known = {row.source_hash for row in successes}
    touched = None if None in known or isinstance(place, int) else _touched(place)
    if touched is None:
        return True
    starts = filter(None, (moment(row.start) for row in successes))
    if not exact and any(touched < start.timestamp() - _CLOCK_SLACK for start in starts):
        return True
    try:
        return content_hash(str(place)) in known
    except AudioError:
        return True


def _touched(path: str) -> float | None:
    """Return when a file was last written, or moved there with its old time."""
    if "://" in path:
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return max(status.st_mtime, status.st_ctime) if stat.S_ISREG(status.st_mode) else None


def moment(stored: str) -> dt.datetime | None:
    """Return a start time as it is stored; None for what another program wrote and is none."""
    time = ProcessingHistory.start_time.python_value(stored)
    return time if isinstance(time, dt.datetime) else None
