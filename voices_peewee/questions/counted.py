"""The runs that count: for each recording the latest successful one, else the latest."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import peewee as pw

from voices_peewee.errors import QueryError
from voices_peewee.questions.fields import SPEAKER, Field, Own
from voices_peewee.questions.selection import Metric, Runs
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.search.columns import read_json

if TYPE_CHECKING:
    from voices_peewee.database.store import Store

Key = tuple[Any, ...]
STATES: Final = ("done", "partly_finite", "not_finite", "failed", "unfinished", "not_run")
_COSTS: Final = ("sdri", "real_time_factor", "memory_usage")
_MOST_SETTINGS: Final = 1_000  # of one group, that are looked at for what differs
_RUN, _MEASURED = ProcessingHistory, ModelPerformance
SUCCESS: Final = pw.Case(None, [(_RUN.success, 1)], 0)


def coverage(states: Mapping[str, int], in_question: int) -> dict[str, int]:
    """Return how many of the recordings in question are in which state."""
    found = {state: states.get(state, 0) for state in STATES}
    found["not_run"] = in_question - sum(found.values())
    return {"in_question": in_question, **found}


def state_of(*, success: Any, ended: Any, finite: int, stems: int) -> str:
    """Return what became of a recording in a run."""
    if not success:
        return "failed" if ended else "unfinished"
    if not finite:
        return "not_finite"
    return "done" if finite == stems else "partly_finite"


def differing(settings: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the parameters that differ between settings, which are JSON texts."""
    read = [value for value in map(read_json, settings) if isinstance(value, dict)]
    # What older records have of the machine there is no setting.
    names = {name for parameters in read for name in parameters} - {"environment"}
    missing = object()
    return tuple(
        name
        for name in sorted(names)
        if any(one.get(name, missing) != read[0].get(name, missing) for one in read)
    )


class Source:
    """The joins of a question, and what of a row tells its recording."""

    def __init__(
        self, store: Store, fields: Sequence[Field] = (), *, with_speakers: bool = True
    ) -> None:
        self.store = store
        self.recording: Any = pw.fn.COALESCE(Own.recording, Own.id)
        self._twins = _twins(store)
        if self._twins is not None:
            self.recording = pw.fn.COALESCE(self._twins.c.first, self.recording)
        self._sources = [field.source for field in fields if field.source is not None]
        self._of_recordings = any(field.of_recording for field in fields)
        self._with_speakers = with_speakers

    def select(self, columns: Sequence[Any], conditions: Sequence[Any]) -> Any:
        """Return the query of columns, where conditions hold."""
        query = _RUN.select(*columns).join_from(_RUN, Own, on=_RUN.processed_file == Own.id)
        own, left = pw.fn.COALESCE(Own.recording, Own.id), pw.JOIN.LEFT_OUTER
        if self._of_recordings:
            query = query.join_from(Own, ProcessedFile, on=ProcessedFile.id == own)
        elif self._with_speakers:  # a stem may have its recording's; most rows need no look-up
            query = query.join_from(Own, ProcessedFile, left, on=ProcessedFile.id == Own.recording)
        if self._sources:
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

    def rows(self, query: Any) -> Any:
        """Return the rows of a query as they come."""
        return self.store.stream(*query.bind(self.store.database).sql())


def _twins(store: Store) -> Any:
    """Return the recordings whose content others have too, with the first of them, or None.

    Two rows of one content count once.
    """
    hashed = ProcessedFile.content_hash
    some = pw.fn.COUNT(pw.SQL("*")) > 1
    # An index alone answers this; mostly there are none, and no join is needed.
    twice = ProcessedFile.select(hashed).where(hashed.is_null(is_null=False))
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
        return pw.Expression(speaker == SPEAKER, pw.OP.OR, nobody & Own.id.in_(theirs))

    return runs.conditions(store, _RUN, of_speaker)


def _finite(metric: Metric) -> Any:
    return metric.value if metric.column else pw.Case(None, [(metric.is_number, metric.value)])


@dataclass(slots=True)
class Group:
    """The recordings of a group that have a value, in order, and what became of the others."""

    key: Key
    recordings: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    stems: int = 0
    states: Counter[str] = field(default_factory=Counter)
    partly: set[int] = field(default_factory=set)
    costs: list[float] = field(default_factory=lambda: [0.0] * len(_COSTS))
    counts: list[int] = field(default_factory=lambda: [0] * len(_COSTS))
    parameters: set[str] = field(default_factory=set)
    operation: str = ""
    in_question: int = 0

    @property
    def coverage(self) -> dict[str, int]:
        """How many of the recordings in question are in which state."""
        return coverage(self.states, self.in_question)

    def mean_costs(self) -> tuple[float | None, float | None, float | None]:
        """Return the mean SDRi, real-time factor and memory of the recordings with a value."""
        sdri, factor, memory = (
            total / count if count else None
            for total, count in zip(self.costs, self.counts, strict=True)
        )
        return sdri, factor, memory

    def take(self, rows: list[tuple[Any, ...]], metric: Metric) -> None:
        """Take runs that count, column by column: a row each recording."""
        columns = list(zip(*rows, strict=True))
        success, stems, finite = columns[1], columns[6], columns[7]
        if len(self.parameters) < _MOST_SETTINGS:
            self.parameters.update(columns[5])
        if not all(success) or (stems != finite and not metric.is_of_run) or not all(finite):
            self._note_states(rows, metric)
            rows = [row for row in rows if row[1] and row[7]]
            if not rows:
                return
            columns = list(zip(*rows, strict=True))
        else:
            self.states["done"] += len(rows)
        self.recordings.extend(columns[0])
        self.values.extend(columns[8])
        self.stems += sum(columns[7])
        for place, costs in enumerate(columns[9:_WIDTH]):
            known = [cost for cost in costs if cost is not None]
            self.costs[place] += sum(known)
            self.counts[place] += len(known)

    def _note_states(self, rows: list[tuple[Any, ...]], metric: Metric) -> None:
        for row in rows:
            finite = row[6] if metric.is_of_run and row[7] else row[7]
            state = state_of(success=row[1], ended=row[4], finite=finite, stems=row[6])
            self.states[state] += 1
            if state == "partly_finite":
                self.partly.add(row[0])


# A run of a recording as it comes: 0 recording, 1 success, 2 start, 3 run_id (1 to 3: the
# greater, the more it counts), 4 whether it ended, 5 parameters, 6 stems, 7 finite ones, 8 value,
# 9 to 11 costs; then the key of the group: the operation, and its fields.
_WIDTH: Final = 12
RANK: Final = slice(1, 4)
_AT_ONCE: Final = 2_000  # rows of a group that are taken together


def read_groups(
    store: Store,
    metric: Metric,
    fields: Sequence[Field],
    runs: Runs,
    only: frozenset[int] | None = None,
) -> list[Group]:
    """Return the groups of runs; ``only`` keeps to some recordings.

    Raises:
        QueryError: A group has runs of several operations.
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: A time cannot be read, or has no time zone.
    """
    source = Source(store, fields, with_speakers=runs.speaker is not None)
    rows = source.rows(_by_run(source, metric, fields, conditions(store, runs)))
    about = [place for place, one in enumerate(fields, 1) if one.of_recording]
    speaker = next((place for place, one in enumerate(fields, 1) if one.name == "speaker"), None)
    groups: dict[Key, Group] = {}
    waiting: defaultdict[Key, list[tuple[Any, ...]]] = defaultdict(list)
    asked: Counter[tuple[Key, ...]] = Counter()  # recordings by the groups that they are in
    for recording, found in groupby(rows, itemgetter(0)):
        if only is not None and recording not in only:
            continue
        latest = _latest(found)
        if speaker is not None:
            latest = _of_whom(latest, speaker)
        for key, row in latest.items():
            taken = waiting[key]
            taken.append(row)
            if len(taken) == _AT_ONCE:
                groups.setdefault(key, Group(key)).take(taken, metric)
                taken.clear()
        asked[tuple(latest)] += 1
    in_question: Counter[Key] = Counter()
    for keys, count in asked.items():
        in_question.update(dict.fromkeys({_about(key, about) for key in keys}, count))
    for key, taken in waiting.items():
        group = groups.setdefault(key, Group(key))
        if taken:
            group.take(taken, metric)
        group.in_question = in_question[_about(key, about)]
    return _of_one_operation(groups)


def _about(key: Key, places: Sequence[int]) -> Key:
    """Return what makes recordings comparable: the operation, and what is known of them."""
    return (key[0], *[key[place] for place in places]) if places else key[:1]


def _of_one_operation(groups: Mapping[Key, Group]) -> list[Group]:
    """Return groups that are of one operation each, which then is no part of their keys."""
    found: dict[Key, Group] = {}
    for (operation, *rest), group in groups.items():
        group.key = tuple(rest)
        other = found.setdefault(group.key, group)
        if other is not group:
            check_operations({operation, other.operation}, "a group")
        group.operation = operation
    return list(found.values())


def _by_run(source: Source, metric: Metric, fields: Sequence[Field], conditions: Any) -> Any:
    """Return the query of a row for each run of each recording, a recording after the other."""
    least, average, count = pw.fn.MIN, pw.fn.AVG, pw.fn.COUNT
    value = _finite(metric)
    columns = [
        source.recording.alias("recording"),
        least(SUCCESS),
        pw.fn.MAX(_RUN.start_time),
        _RUN.run_id,
        count(_RUN.end_time),
        least(_RUN.parameters.cast("TEXT")),
        count(pw.SQL("*")),
        count(value),
        average(value),
        *(average(_MEASURED._meta.fields[name]) for name in _COSTS),
    ]
    keys = [least(_RUN.operation_type)]
    keys += [least(one.expression) if one.once else one.expression for one in fields]
    query = source.select([*columns, *keys], conditions)
    # By their places: a server takes two expressions with parameters for different ones.
    first = len(columns) + len(keys) - len(fields) + 1
    several = [pw.SQL(str(n)) for n, one in enumerate(fields, first) if not one.once]
    # The order that the groups come in by themselves: SQLite sorts once.
    order = (source.recording, _RUN.run_id, *several)
    return query.group_by(*order).order_by(*order)


def _latest(rows: Iterable[tuple[Any, ...]]) -> dict[Key, tuple[Any, ...]]:
    """Return the run of each group that counts for a recording."""
    latest: dict[Key, tuple[Any, ...]] = {}
    for row in rows:
        key = row[_WIDTH:]
        known = latest.setdefault(key, row)
        if known is not row and known[RANK] < row[RANK]:
            latest[key] = row
    return latest


def _of_whom(latest: dict[Key, tuple[Any, ...]], place: int) -> dict[Key, tuple[Any, ...]]:
    """Give what failed, which hangs on the recording, to the speakers of its stems."""
    speakers = {key[place] for key in latest} - {None}
    found = dict(latest)
    for key, row in latest.items():
        if key[place] is None and not row[1] and speakers:
            del found[key]
            for speaker in speakers:
                found.setdefault((*key[:place], speaker, *key[place + 1 :]), row)
    return found


def check_operations(operations: set[str], what: str) -> None:
    """Refuse to take runs of several operations for one.

    Raises:
        QueryError: There are several.
    """
    if len(operations) > 1:
        names = ", ".join(sorted(operations))
        raise QueryError(
            f"{what} has runs of several operations ({names}); "
            "say which by operation_type, in the shell by --operation"
        )


def names_of_speakers(store: Store) -> dict[Any, str]:
    """Return the names of all speakers by id; those that are not unique with their id."""
    query = Speaker.select(Speaker.id, Speaker.name)
    names: dict[Any, str] = dict(store.connection().execute(*query.sql()).fetchall())
    often = Counter(names.values())
    return {key: f"{name} (id {key})" if often[name] > 1 else name for key, name in names.items()}
