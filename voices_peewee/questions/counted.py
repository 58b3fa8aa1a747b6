"""The runs that count: for each recording the latest successful one, else the latest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final

import peewee as pw

from voices_peewee.database.dialects import nodes
from voices_peewee.database.store import Store
from voices_peewee.questions.fields import SPEAKER, Field, Own
from voices_peewee.questions.selection import LARGEST, Metric, Runs
from voices_peewee.records.sources import LOOKUP
from voices_peewee.schema.models import (
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
    hash_key,
)
from voices_peewee.search.columns import read_json

Row = tuple[Any, ...]
STATES: Final = ("done", "partly_finite", "not_finite", "failed", "unfinished", "not_run")
_RUN, _MEASURED = ProcessingHistory, ModelPerformance
_PATHS: Final = "SELECT id, coalesce(original_path, filename) FROM processed_files WHERE id {}"
_STARTS: Final = """SELECT coalesce(file.recording_id, file.id), run.run_id, run.start_time
FROM processing_history AS run JOIN processed_files AS file ON file.id = run.processed_file_id
WHERE run.run_id IN ({}) ORDER BY 3"""
_PARAMETERS: Final = _RUN.parameters.cast("TEXT")
# A row of a run, which is one of its stems: what follows is the question's own, last of a side
# whose voice it is. What it is about is None of a success with the usual parameters, those with
# a sign before them of another success, else what became of it.
RECORDING, VALUE, ABOUT, RUN, OWN = range(5)
WHOSE: Final = -1
_SUCCESS: Final = "="
NOT_DONE: Final = frozenset({"failed", "unfinished"})


def in_words(state: str) -> str:
    """Return what a reader sees of a state."""
    return "no value" if state == "not_finite" else state.replace("_", " ")


def coverage(states: Mapping[str, int], in_question: int) -> dict[str, int]:
    """Return how many of the recordings in question are in which state."""
    found = {state: states.get(state, 0) for state in STATES}
    found["not_run"] = in_question - sum(found.values())
    return {"in_question": in_question, **found}


def state_of(run: Sequence[Row], finite: int, stems: int) -> str:
    """Return what became of a recording in a run."""
    states = NOT_DONE.intersection(row[ABOUT] for row in run)
    if states:
        return max(states)  # unfinished as long as any of it is
    if not finite:
        return "not_finite"
    return "done" if finite == stems else "partly_finite"


def in_runs(
    rows: Iterable[Row], starts: Mapping[object, object]
) -> Iterator[tuple[int, list[Row], bool]]:
    """Yield each recording with the rows of the run that counts, and whether a later one failed."""

    def rank(run: object) -> tuple[bool, str, str]:  # another program may write other keys
        success = all(row[ABOUT] not in NOT_DONE for row in runs[run])
        return success, str(starts.get((recording, run)) or starts.get(run, "")), str(run)

    for recording, group in groupby(rows, itemgetter(RECORDING)):
        runs: dict[object, list[Row]] = {}
        for row in group:
            runs.setdefault(row[RUN], []).append(row)
        ranks = {rank(run): own for run, own in runs.items()}
        best = max(ranks)  # what is later is no success
        later = (own for key, own in ranks.items() if key[1:] > best[1:])
        yield recording, ranks[best], any(state_of(own, 0, 0) == "failed" for own in later)


def finite(value: object) -> float | None:
    """Return a value as a number, or None of what is none or too large."""
    if isinstance(value, int | float) and -LARGEST <= value <= LARGEST:
        return float(value)
    return None


def differing(settings: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the parameters that differ between settings, which are JSON texts."""
    read = [known for known in map(settings_of, settings) if known is not None]
    names, missing = {name for parameters in read for name in parameters}, object()
    return tuple(
        name
        for name in sorted(names)
        if any(_differ(one.get(name, missing), read[0].get(name, missing)) for one in read)
    )


def settings_of(text: str) -> dict[str, object] | None:
    """Return parameters, which are a JSON text, by their names; dots lead into inner objects."""
    value = read_json(text)
    if not isinstance(value, dict):
        return None
    # What older records have of the machine there is no setting.
    known: dict[str, object] = {}
    left = [("", {name: one for name, one in value.items() if name != "environment"})]
    while left:
        prefix, inner = left.pop()
        for name, one in inner.items():
            if isinstance(one, dict) and one:
                left.append((f"{prefix}{name}.", one))
            else:
                known[f"{prefix}{name}"] = one
    return known


def _differ(one: object, other: object) -> bool:
    return one != other or isinstance(one, bool) is not isinstance(other, bool)


class Source:
    """The joins of a question, and what of a row tells its recording."""

    def __init__(self, store: Store, fields: Sequence[Field] = ()) -> None:
        self.store = store
        self.unread = 0  # values and runs of another program that cannot be read
        self.recording: Any = pw.fn.COALESCE(Own.recording, Own.id)
        self._twins = _twins(store)
        if self._twins is not None:
            self.recording = pw.fn.COALESCE(self._twins.c.first, self.recording)
        self._sources = [field.source for field in fields if field.source is not None]
        self._of_speakers = any(field.source and field.of_recording for field in fields)
        self._of_recordings = any(field.of_recording for field in fields)

    def select(self, columns: Sequence[Any], conditions: Sequence[Any]) -> Any:
        """Return the query of columns, where conditions hold."""
        # In the order of the runs' rows, as they are stored: + keeps SQLite from files first.
        of_run = nodes("+", _RUN.processed_file, "=", Own.id)
        query = _RUN.select(*columns).join_from(_RUN, Own, on=of_run)
        own, left = pw.fn.COALESCE(Own.recording, Own.id), pw.JOIN.LEFT_OUTER
        if self._of_recordings:
            query = query.join_from(Own, ProcessedFile, on=ProcessedFile.id == own)
        if self._of_speakers:
            query = query.join_from(ProcessedFile, Speaker, left, on=Speaker.id == SPEAKER)
        if self._twins is not None:
            twin = self._twins.c.id == own
            query = query.join_from(Own, self._twins, left, on=twin)
        measured = _MEASURED.processing_history == _RUN.id
        query = query.join_from(_RUN, _MEASURED, left, on=measured)
        query = query.where(*conditions) if conditions else query
        for source in self._sources:
            query = query.join_from(_RUN, source, pw.JOIN.CROSS)
        return query

    def stems(self, metric: Metric, own: Sequence[Any], conditions: Sequence[Any]) -> Any:
        """Return the query of a row for each stem of each run, with columns of one's own.

        A recording's rows follow each other.
        """
        states = [
            (_RUN.success & (self._usual == _PARAMETERS), pw.SQL("NULL")),
            (_RUN.success, nodes(f"'{_SUCCESS}' ||", _PARAMETERS)),
            (_RUN.end_time.is_null(), "unfinished"),
        ]
        about = pw.Case(None, states, "failed")
        query = self.select((self.recording, metric.value, about, _RUN.run_id, *own), conditions)
        # Sorted, not grouped: SQLite compares one integer, and keeps no aggregates.
        return query.order_by(pw.SQL("1"))

    @cached_property
    def _usual(self) -> str:
        """The parameters of the newest row: texts cost more than all else that a row has."""
        query = _RUN.select(_PARAMETERS).order_by(_RUN.id.desc()).limit(1)
        found = self.store.connection().execute(*query.sql()).fetchone()
        return str(found[0]) if found else ""

    def settings(self, abouts: Iterable[str | None]) -> set[str]:
        """Return the parameters that successful rows are about."""
        return {self._usual if one is None else one[1:] for one in abouts}

    def starts(self, rows: Iterable[Row]) -> dict[object, object]:
        """Return when the runs began of recordings that have several, by run.

        And by recording and run, since another program may give an id twice; of recordings of
        one content the first stands for all, and is not told here.
        """
        runs: dict[int, set[object]] = {}
        for row in rows:
            runs.setdefault(row[RECORDING], set()).add(row[RUN])
        several = [run for own in runs.values() if len(own) > 1 for run in own]
        found: dict[object, object] = {}
        for begin in range(0, len(several), LOOKUP):
            some = several[begin : begin + LOOKUP]
            sql = _STARTS.format(", ".join("?" * len(some)))
            for recording, run, start in self.store.connection().execute(sql, some):
                found[recording, run] = found[run] = start
        return found

    def rows(self, query: Any) -> Any:
        """Return the rows of a query as they come."""
        return self.store.stream(*query.bind(self.store.database).sql())


def _twins(store: Store) -> Any:
    """Return the recordings whose content others have too, with the first of them, or None.

    Two rows of one content count once.
    """
    hashed = ProcessedFile.content_hash
    some = pw.fn.COUNT(pw.SQL("*")) > 1
    is_known, key = hashed.is_null(is_null=False), hash_key(hashed)
    # An index alone answers this; mostly there are none, and no join is needed. It is asked for
    # ids: before 3.41 SQLite would read the row for a key that it gives out.
    every = ProcessedFile.select(pw.SQL("1")).where(is_known).group_by(key).having(some)
    if store.connection().execute(*every.limit(1).sql()).fetchone() is None:
        return None
    alike = ProcessedFile.select(pw.fn.MIN(ProcessedFile.id)).where(is_known)
    alike = alike.group_by(key).having(some)
    keys = ProcessedFile.select(key).where(ProcessedFile.id.in_(alike))
    twice = ProcessedFile.select(hashed).where(is_known, key.in_(keys))
    twice = twice.group_by(hashed).having(some)
    if store.connection().execute(*twice.limit(1).sql()).fetchone() is None:
        return None
    twin, first = ProcessedFile.alias(), pw.fn.MIN(ProcessedFile.id)
    known = ProcessedFile.select(hashed.alias("content"), first.alias("first")).group_by(hashed)
    known = known.where(ProcessedFile.recording.is_null(), hashed.in_(twice)).alias("known")
    query = twin.select(twin.id, known.c.first.alias("first"))
    query = query.join_from(twin, known, on=known.c.content == twin.content_hash)
    return query.where(twin.recording.is_null()).alias("twins")


def conditions(store: Store, runs: Runs) -> list[Any]:
    """Return what holds for the runs; a speaker's are those of their stems."""
    part = ProcessedFile.alias()

    def of_speaker(speaker: int) -> pw.Expression:
        """Say that a row is the speaker's, or a failure of a recording with a stem of theirs."""
        theirs = part.select(part.recording).where(part.speaker == speaker)
        nobody = SPEAKER.is_null() & ~_RUN.success
        of_mixture = nobody & pw.fn.COALESCE(Own.recording, Own.id).in_(theirs)
        return pw.Expression(speaker == SPEAKER, pw.OP.OR, of_mixture)

    return runs.conditions(store, of_speaker)


def paths_of(store: Store, recordings: Iterable[int]) -> dict[int, Any]:
    """Return the paths of recordings in order, as they are stored, or their names."""
    left, found = iter(recordings), dict[int, Any]()
    while some := list(islice(left, LOOKUP)):
        is_dense = some[-1] - some[0] < 2 * len(some)  # then more rows cost less than more text
        which = (
            f"BETWEEN {some[0]} AND {some[-1]}" if is_dense else f"IN ({', '.join(map(str, some))})"
        )
        found.update(store.connection().execute(_PATHS.format(which)).fetchmany(2 * LOOKUP))
    return found


def names_of_speakers(store: Store) -> dict[Any, str]:
    """Return the names of all speakers by id; those that are not unique with their id."""
    query = Speaker.select(Speaker.id, Speaker.name)
    names: dict[Any, str] = dict(store.connection().execute(*query.sql()).fetchall())
    often = Counter(names.values())
    return {key: f"{name} (id {key})" if often[name] > 1 else name for key, name in names.items()}
