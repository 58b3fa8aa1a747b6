"""What the runs of a source came to, and who works on it."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from voices_peewee.database.query import no_full_collection
from voices_peewee.database.store import Store
from voices_peewee.errors import AudioError
from voices_peewee.records.audio_files import CLOCK_SLACK, content_hash, touched
from voices_peewee.records.roots import Moved
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

_END_OF_TIME: Final = dt.datetime.max.replace(tzinfo=dt.UTC)
# As text: to have it made for each source that is handed out would be most of the time.
_COLUMNS: Final = """file.original_path, file.id, run.id, run.run_id, run.model_version,
 run.parameters, run.start_time, run.end_time, run.success, run.source_hash,
 run.model_hash, CASE WHEN run.end_time IS NULL THEN run.process END"""
# What a row tells by itself: OTHER to UNCLEAR.
_VERDICT: Final = """file.original_path, file.id, CASE WHEN {} AND {} NOT IN ({}) THEN CASE
 WHEN run.success AND {} IN ({}) THEN CASE WHEN run.source_hash IS NULL THEN 2 ELSE 1 END
 ELSE 3 END ELSE 0 END, run.start_time"""
_PARAMETERS: Final = "CAST(run.parameters AS text)"
# CROSS and the empty text keep SQLite from going through all runs of the model instead.
_SOME: Final = """SELECT {} FROM processed_files AS file CROSS JOIN processing_history AS run
 WHERE run.processed_file_id = file.id AND run.operation_type || '' = ? AND {}
 AND file.{} IN ({})"""
_LAST: Final = "SELECT coalesce(max(id), 0) FROM processing_history"
_OPEN: Final = "SELECT id FROM processing_history WHERE end_time IS NULL AND NOT success"
_MOST_TEXTS: Final = 100  # of parameters whose verdict is remembered
_RECORDED: Final = """SELECT original_path FROM processed_files
 WHERE recording_id IS NULL AND original_path IN ({})"""
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


# What the runs of a source are seen to be by the database alone.
OTHER, HASHED, DONE, UNCLEAR = range(4)
Seen = tuple[int, Any]  # one of these, and when the latest run began
_NOTHING: Final[Seen] = (OTHER, "")


class Candidate(NamedTuple, Generic[S]):
    """A source that is left, with its runs when that was found, where they had to be read."""

    source: S
    place: Source
    reason: Reason
    rows: list[Row]


class Batch(NamedTuple):
    """What is known of some places: what was seen, runs that leave it open, paths of recordings."""

    seen: Mapping[Source, Seen]
    rows: Mapping[Source, list[Row]]
    recorded: Collection[Source]


class Look:
    """Judges sources by their runs and claims; ``workers`` are those that were seen at work.

    Of what has ``moved`` the content is known, and none is looked for at the path that is recorded.
    """

    def __init__(self, store: Store, wanted: Settings, *, exact: bool, lease: dt.timedelta) -> None:
        self.store, self.wanted, self._exact, self._lease = store, wanted, exact, lease
        self.workers: dict[Source, dict[str, Any]] = {}
        self.moved = Moved(store)

    def begin(self) -> None:
        """Take note of which runs have ended by now: what fails from here on is not given again."""
        with self.store.reading():
            connection = self.store.connection()
            self._last = connection.execute(_LAST).fetchone()[0]
            self._open = {key for (key,) in connection.execute(_OPEN)}

    def _seen(self, places: Sequence[Source]) -> dict[Source, Seen]:
        """Return what the database says of the places that have runs by the model."""
        found: dict[Source, Seen] = {}
        for place, values in self._rows(*self.wanted.verdict, places):
            seen = values[2:]
            if place in found:
                seen = _joined(found[place], seen)
            found[place] = seen
        return found

    def runs(self, places: Sequence[Source]) -> dict[Source, list[Row]]:
        """Return the runs of the operation by the model at some places."""
        found: dict[Source, list[Row]] = {}
        for place, values in self._rows(_COLUMNS, [], places):
            found.setdefault(place, []).append(Row(*values))
        return found

    def _rows(
        self, columns: str, asked: list[object], places: Sequence[Source]
    ) -> Iterator[tuple[Source, Any]]:
        read = ProcessedFile.original_path.python_value
        for sql, values in _queries(self.wanted, columns, places):
            for row in self.store.retrying(self._read, sql, [*asked, *values]):
                path = row[0]
                if path is not None and not path.isascii():
                    path = str(read(path))
                yield row[1] if path is None else path, row

    def _read(self, sql: str, values: list[object]) -> list[Any]:
        with self.store.reading(), no_full_collection():
            return self.store.connection().execute(sql, values).fetchall()  # type: ignore[no-any-return]

    def at(self, places: Sequence[Source]) -> Batch:
        """Return what is known of some places."""
        seen = self._seen(places)
        unclear = [place for place in places if seen.get(place, _NOTHING)[0] == UNCLEAR]
        new = [place for place in places if place not in seen and os.path.isfile(place)]
        return Batch(seen, self.runs(unclear), self._recorded(new))

    def _recorded(self, places: Sequence[Source]) -> set[Source]:
        stored = {ProcessedFile.original_path.db_value(place) for place in places}
        if not stored:
            return set()
        rows = self.store.retrying(self._read, _RECORDED.format(_places(stored)), list(stored))
        return {str(ProcessedFile.original_path.python_value(path)) for (path,) in rows}

    def judged(
        self, place: Source, batch: Batch, claim: Claimed | None
    ) -> tuple[Reason | None, list[Row]]:
        """Return why a source is left, None where it is done, and the runs that had to be read."""
        seen = batch.seen.get(place)
        if seen is None:
            return self.reason(place, [], claim), []
        if self._is_done(place, *seen):
            return None, []
        if seen[0] == OTHER:
            return self.reason(place, [], claim, "other version or parameters"), []
        rows = batch.rows.get(place) or self.runs([place]).get(place, [])
        return self.reason(place, rows, claim), rows

    def _is_done(self, place: Source, verdict: int, start: Any) -> bool:
        if verdict != HASHED or place in self.moved.digests:
            return verdict == DONE
        changed = None if isinstance(place, int) else touched(place)
        return changed is None or (not self._exact and _is_older(changed, start))

    def reason(
        self,
        place: Source,
        rows: list[Row],
        claim: Claimed | None,
        otherwise: Reason = "never run",
    ) -> Reason | None:
        """Return why a source is left, ``otherwise`` without rows; None where it is done."""
        reason: Reason | None = otherwise
        if rows:
            now = self.moved.digests.get(str(place))
            reason = _reason(place, rows, self.wanted, exact=self._exact, now=now)
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
        """Return why a source is left now; what failed since the begin counts as done."""
        if any(map(self._has_failed, rows)):
            return None
        if rows == before.rows and claim is None and before.reason not in _PASSING:
            return before.reason  # a file that changed is not read again
        return self.reason(before.place, rows, claim)

    def _has_failed(self, row: Row) -> bool:
        """Whether a run has failed since the begin."""
        is_new = row.id > self._last or row.id in self._open
        return is_new and bool(row.end) and not row.success and self.wanted.match(row)

    def _worker(self, row: Row) -> dict[str, Any] | None:
        """Return the process that a run goes on in."""
        if row.process is None or row.success or not self.wanted.match(row):
            return None
        process, start = facts_of(row.process), moment(row.start)
        if start is None:
            return None
        until = start + min(self._lease, _END_OF_TIME - start)
        return process if is_working(process, until) else None


def _queries(
    wanted: Settings, columns: str, places: Sequence[Source]
) -> Iterator[tuple[str, list[object]]]:
    """Yield a query of the runs for 500 places each."""
    has_model, asked = "run.model_type IS NULL", list[object]([wanted.operation_type])
    if wanted.model is not None:
        has_model, asked = "run.model_type = ?", [*asked, wanted.model]
    stored = ProcessedFile.original_path.db_value
    paths = {stored(place) for place in places if isinstance(place, str)}
    ids = {place for place in places if isinstance(place, int)}
    for column, values in (("original_path", paths), ("id", ids)):
        left = iter(values)
        while some := list(islice(left, LOOKUP)):
            yield _SOME.format(columns, has_model, column, _places(some)), [*asked, *some]


def _places(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))


class Settings:
    """What a run must have been made with to count."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        fields = ProcessingHistory._meta.fields
        self.operation_type = told["operation_type"]
        self._model_hash = model_hash(told.get("model_file"))
        self.model = fields["model_type"].db_value(told["model_type"])
        # 4.0 is stored as text
        self.version = fields["model_version"].db_value(told["model_version"])
        text = dump_json(plain_object("parameters", told["parameters"]))
        self._canonical = canonical(text)
        # Parameters as they are stored, and whether they are these; the empty text is none.
        self._texts = {text: True, "": False}
        self.digest = digest({**told, "model_hash": self._model_hash})

    @property
    def verdict(self) -> tuple[str, list[object]]:
        """The columns that say what a run is by what is known of parameters, and their values."""
        same, asked = "run.model_version IS NULL", list[object]()
        if self.version is not None:
            same, asked = "run.model_version = ?", [self.version]
        if self._model_hash is not None:
            same, asked = f"{same} AND run.model_hash = ?", [*asked, self._model_hash]
        others = [text for text, is_same in self._texts.items() if not is_same]
        these = [text for text, is_same in self._texts.items() if is_same]
        columns = _VERDICT.format(same, _PARAMETERS, _places(others), _PARAMETERS, _places(these))
        return columns, [*asked, *others, *these]

    def match(self, row: Row) -> bool:
        """Whether a run has exactly these settings."""
        if self._model_hash not in (None, row.model_hash) or row.version != self.version:
            return False
        text = row.parameters
        is_same = canonical(text) == self._canonical
        if isinstance(text, str) and len(self._texts) < _MOST_TEXTS:
            self._texts[text] = is_same
        return is_same


def _reason(
    place: Source, rows: list[Row], wanted: Settings, *, exact: bool, now: str | None
) -> Reason | None:
    """Return why a source is left, or None where it is done; ``now`` is the hash of what moved."""
    runs: dict[str, list[Row]] = {}
    for row in filter(wanted.match, rows):
        runs.setdefault(row.run_id, []).append(row)
    if not runs:
        return "other version or parameters"
    outcomes = {run_id: _outcome(run) for run_id, run in runs.items()}
    successes = [runs[run_id][0] for run_id, outcome in outcomes.items() if outcome is None]
    if successes and _is_seen(place, successes, exact=exact, now=now):
        return None
    every = (row for run in runs.values() for row in run)
    latest = max(every, key=lambda row: (_order(row.start), row.id))
    return outcomes[latest.run_id] or "content changed"


def _joined(one: Seen, other: Seen) -> Seen:
    """Return what two rows of a source are together; those of one run may differ in their hash."""
    if {one[0], other[0]} == {HASHED, DONE}:
        return UNCLEAR, ""
    return max(one, other, key=lambda seen: (seen[0], _order(seen[1])))


def _order(start: Any) -> tuple[bool, bool, bool, Any]:
    """Return what start times are ordered by: what is no text was written by another program."""
    return isinstance(start, str), isinstance(start, bytes), start is not None, start


def _outcome(run: list[Row]) -> Reason | None:
    """Return what a run came to, None for a success."""
    if all(row.success for row in run):
        return None
    return "failed" if all(row.end or row.success for row in run) else "unfinished"


def _is_seen(place: Source, successes: list[Row], *, exact: bool, now: str | None) -> bool:
    """Whether a run began with the file as it is now, or nobody can tell."""
    known = {row.source_hash for row in successes}
    if now is not None:
        return None in known or now in known
    changed = None if None in known or isinstance(place, int) else touched(place)
    if changed is None:
        return True
    if not exact and any(_is_older(changed, row.start) for row in successes):
        return True
    try:
        return content_hash(str(place)) in known
    except AudioError:
        return True


def _is_older(changed: float, stored: str) -> bool:
    start = moment(stored)
    return start is not None and changed < start.timestamp() - CLOCK_SLACK


def moment(stored: str) -> dt.datetime | None:
    """Return a start time as it is stored; None for what another program wrote and is none."""
    time = ProcessingHistory.start_time.python_value(stored)
    return time if isinstance(time, dt.datetime) else None
