"""The recordings of each group of runs, or side of a comparison, and what became of others."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import compress, groupby, islice
from operator import itemgetter, lt
from typing import TYPE_CHECKING, Any, Final

import peewee as pw

from voices_peewee.database.dialects import plain
from voices_peewee.questions.counted import (
    DONE,
    PARAMETERS,
    RECORDING,
    RUN,
    STATE,
    VALUE,
    WHOSE,
    Row,
    Source,
    check_operations,
    conditions,
    coverage,
    finite,
    in_runs,
    state_of,
)
from voices_peewee.questions.fields import Field, read_key
from voices_peewee.questions.selection import LARGEST
from voices_peewee.schema.models import ModelPerformance, ProcessingHistory

if TYPE_CHECKING:
    from voices_peewee.questions.selection import Metric, Runs, Side

Key = tuple[Any, ...]
Stem = tuple[int | None, float | None]  # whose voice it is, and what a run measured of it
_COSTS: Final = ("sdri", "real_time_factor", "memory_usage")
_AT_ONCE: Final = 5_000  # rows that are read, and of a group that are taken, together
_MOST_KEYS: Final = 50  # groups that are asked about one after the other
_MOST_SETTINGS: Final = 1_000  # of one group, that are looked at for what differs


@dataclass(slots=True)
class Group:
    """The recordings of a group that have a value, in order, column by column.

    ``stems`` counts the finite ones of each, ``costs`` has NaN for what was not measured. Of a
    side of a comparison ``whose`` has the speaker of a recording of one stem, ``several`` the
    stems of the others. ``others`` has the state of the recordings that are not done, ``unread``
    counts values that are no numbers.
    """

    key: Key
    recordings: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    stems: array[int] = field(default_factory=lambda: array("q"))
    costs: tuple[array[float], ...] = ()
    whose: list[int | None] = field(default_factory=list)
    several: dict[int, Sequence[Stem]] = field(default_factory=dict)
    others: dict[int, str] = field(default_factory=dict)
    parameters: set[Any] = field(default_factory=set)
    operation: str = ""
    coverage: dict[str, int] = field(default_factory=dict)
    unread: int = 0

    @property
    def places(self) -> range:
        """Where in a row its costs stand."""
        return range(WHOSE + 1, WHOSE + 1 + len(self.costs))

    @property
    def partly(self) -> set[int]:
        """The recordings of which some stems have no value."""
        return {one for one, state in self.others.items() if state == "partly_finite"}

    @property
    def states(self) -> dict[str, int]:
        """How many recordings are in which state."""
        return {**Counter(self.others.values()), "done": len(self.recordings) - len(self.partly)}

    def each(self) -> Iterator[Sequence[Stem]]:
        """Yield the stems of each recording of a side."""
        for one in zip(self.recordings, self.whose, self.values, strict=True):
            yield self.several.get(one[0]) or (one[1:],)

    def mean_costs(self) -> tuple[float | None, float | None, float | None]:
        """Return the mean SDRi, real-time factor and memory of the recordings with a value."""
        sdri, factor, memory = map(_mean_of_known, self.costs)
        return sdri, factor, memory

    def kept(self, recordings: Collection[int]) -> Group:
        """Return what it has of some recordings; what became of the others stays."""
        chosen = list(map(recordings.__contains__, self.recordings))
        return self if all(chosen) else self._picked(lambda column: compress(column, chosen))

    def in_order(self) -> Group:
        """Return it with its recordings in order, of which some were taken out of turn."""
        if all(map(lt, self.recordings, islice(self.recordings, 1, None))):
            return self
        return self._of(sorted(range(len(self.recordings)), key=self.recordings.__getitem__))

    def _of(self, places: Sequence[int]) -> Group:
        return self._picked(lambda column: map(column.__getitem__, places))

    def _picked(self, pick: Callable[[Sequence[Any]], Iterable[Any]]) -> Group:
        def columns(*some: array[Any]) -> Iterator[array[Any]]:
            return (array(one.typecode, pick(one)) for one in some)

        recordings, values, stems, *costs = columns(
            self.recordings, self.values, self.stems, *self.costs
        )
        whose = list(pick(self.whose)) if self.whose else []
        several = {one: self.several[one] for one in recordings if one in self.several}
        found = replace(self, recordings=recordings, values=values, stems=stems, whose=whose)
        return replace(found, costs=tuple(costs), several=several)


@dataclass(frozen=True, slots=True)
class _Taker:
    """Puts rows into groups; ``is_side`` keeps the stems, so that these can be matched.

    What a metric says of the whole run is nobody's, and each of its speakers' ``by_speaker``.
    """

    metric: Metric
    is_side: bool
    by_speaker: bool

    def take(self, group: Group, rows: list[Row]) -> None:
        """Take the rows of recordings, by columns where these are alike, which they mostly are."""
        if self._take_alike(group, rows):
            return
        odd = {row[RECORDING] for row in rows if row[STATE] < DONE or _is_odd(row[VALUE])}
        self._take_each(group, [row for row in rows if row[RECORDING] in odd])
        rows = [row for row in rows if row[RECORDING] not in odd]
        if rows and not self._take_alike(group, rows):
            self._take_each(group, rows)

    def _take_alike(self, group: Group, rows: list[Row]) -> bool:
        """Take recordings that have one alike run each; return whether they have.

        That is one that succeeded, with as many stems as the others have, each with a value.
        """
        columns = list(zip(*rows, strict=True))
        recordings, values, is_of_run = columns[RECORDING], columns[VALUE], self.metric.is_of_run
        if min(columns[STATE]) < DONE or (None in values and not is_of_run):
            return False
        stems = len(recordings) // len({*recordings})
        once = recordings[::stems]
        if len({*once}) < len(once) or (stems > 1 and not _is_one_run(columns, once, stems)):
            return False
        if is_of_run and stems > 1 and self.by_speaker:
            return False
        try:
            numbers = array("d", _means(values, stems))
            costs = [_or_nan(_means(columns[place], stems)) for place in group.places]
        except TypeError:  # one of a run's stems has none, or it is no number
            return False
        if min(numbers) < -LARGEST or max(numbers) > LARGEST:
            return False
        group.recordings.extend(once)
        group.values.extend(numbers)
        group.stems.extend(array("q", [1 if is_of_run else stems]) * len(once))
        for own, column in zip(group.costs, costs, strict=True):
            own.extend(column)
        self._keep_stems(group, columns, once)
        if len(group.parameters) < _MOST_SETTINGS:
            group.parameters.update(columns[PARAMETERS])
        return True

    def _keep_stems(
        self, group: Group, columns: list[tuple[Any, ...]], once: tuple[int, ...]
    ) -> None:
        stems, whose = len(columns[RECORDING]) // len(once), columns[WHOSE]
        is_nobodys = self.metric.is_of_run and not self.by_speaker
        if self.is_side:
            group.whose.extend([None] * len(once) if stems > 1 or is_nobodys else whose)
        if self.is_side and stems > 1 and not is_nobodys:
            pairs = tuple(zip(whose, columns[VALUE], strict=True))
            parts = (pairs[place::stems] for place in range(stems))
            group.several.update(zip(once, zip(*parts, strict=True), strict=True))

    def _take_each(self, group: Group, rows: list[Row]) -> None:
        for recording, run in in_runs(rows):
            stems = [(row[WHOSE], finite(row[VALUE])) for row in run]
            group.unread += sum(isinstance(row[VALUE], str | bytes) for row in run)
            if self.metric.is_of_run:
                stems = _of_run(stems, by_speaker=self.by_speaker)
            known = [value for _, value in stems if value is not None]
            success = min(row[STATE] for row in run)
            state = state_of(success, len(known), len(stems))
            if state != "done":
                group.others[recording] = state
            if success == DONE and len(group.parameters) < _MOST_SETTINGS:
                group.parameters.add(run[0][PARAMETERS])
            if success == DONE and known:
                self._take_run(group, run, stems, known)

    def _take_run(
        self, group: Group, run: list[Row], stems: list[Stem], known: list[float]
    ) -> None:
        recording = run[0][RECORDING]
        group.recordings.append(recording)
        group.values.append(sum(known) / len(known))
        group.stems.append(len(known))
        for place, own in zip(group.places, group.costs, strict=True):
            cost = [number for row in run if (number := finite(row[place])) is not None]
            own.append(sum(cost) / len(cost) if cost else math.nan)
        if self.is_side:
            group.whose.append(stems[0][0] if len(stems) == 1 else None)
        if self.is_side and len(stems) > 1:
            group.several[recording] = stems


def _of_run(stems: Sequence[Stem], *, by_speaker: bool) -> list[Stem]:
    """Return what a run measured as a whole: once, or once for each of its speakers."""
    known = [value for _, value in stems if value is not None]
    value = sum(known) / len(known) if known else None  # outputs may have their own
    whose = dict.fromkeys(speaker for speaker, _ in stems) if by_speaker else (None,)
    return [] if value is None else [(speaker, value) for speaker in whose]


def _is_odd(value: object) -> bool:
    return type(value) is not float or not -LARGEST <= value <= LARGEST


def _mean_of_known(costs: array[float]) -> float | None:
    total, count = sum(costs), len(costs)
    if math.isnan(total):
        known = [cost for cost in costs if cost == cost]
        total, count = sum(known), len(known)
    return total / count if count else None


def _or_nan(costs: Sequence[Any]) -> array[float]:
    try:
        return array("d", costs)
    except TypeError:
        return array("d", [math.nan if cost is None else cost for cost in costs])


def _is_one_run(columns: Sequence[tuple[Any, ...]], once: tuple[int, ...], stems: int) -> bool:
    recordings, runs = columns[RECORDING], columns[RUN]
    return all(recordings[place::stems] == once for place in range(1, stems)) and all(
        runs[place::stems] == runs[::stems] for place in range(1, stems)
    )


def _means(values: tuple[Any, ...], stems: int) -> Sequence[Any]:
    """Return the means of so many stems each; what none of them has is None."""
    if stems == 1:
        return values
    parts = [values[place::stems] for place in range(stems)]
    known = [part for part in parts if part.count(None) < len(part)]
    if not known:
        return parts[0]
    return [sum(each) / len(known) for each in zip(*known, strict=True)]


def read_side(source: Source, metric: Metric, side: Side, runs: Runs, *, by_speaker: bool) -> Group:
    """Return the runs of a side of a comparison that count."""
    found = read_groups(source, metric, (), runs, side, by_speaker=by_speaker)
    return found[0] if found else Group(())


def read_groups(
    source: Source,
    metric: Metric,
    fields: Sequence[Field],
    runs: Runs,
    side: Side | None = None,
    *,
    by_speaker: bool = False,
    as_sides: bool = False,
) -> list[Group]:
    """Return the groups of runs, or the one of a side, which has no fields.

    Groups ``as_sides`` are both: their stems can be matched, and have costs.

    Raises:
        QueryError: A group has runs of several operations.
        NotFoundError: There is no such speaker.
        AmbiguousNameError: Several speakers have that name.
        InvalidValueError: A time cannot be read, or has no time zone.
    """
    groups: dict[Key, Group] = {}
    taker = _Taker(metric, as_sides or side is not None, by_speaker)
    costs = _COSTS if side is None else ()
    for key, rows in _parts(source, metric, fields, runs, side, costs):
        if not isinstance(key[0], str):
            source.unread += len(rows)  # another program wrote an operation that is no text
        elif rows:
            if key not in groups:
                groups[key] = Group(key, costs=tuple(array("d") for _ in costs))
            taker.take(groups[key], rows)
    # Recordings are comparable by the operation, and by what is known of them.
    about = itemgetter(0, *(place for place, one in enumerate(fields, 1) if one.of_recording))
    asked: defaultdict[Any, set[int]] = defaultdict(set)
    for key, group in groups.items():
        source.unread += group.unread
        groups[key] = group = group.in_order()
        group.parameters = source.settings(group.parameters)
        asked[about(key)].update(group.recordings, group.others)
    for key, group in groups.items():
        group.coverage = coverage(group.states, len(asked[about(key)]))
    return _of_one_operation(groups, "a group" if side is None else side.label)


def _parts(
    source: Source,
    metric: Metric,
    fields: Sequence[Field],
    runs: Runs,
    side: Side | None,
    names: Sequence[str],
) -> Iterator[tuple[Key, list[Row]]]:
    """Yield rows of a group, many at once, and never a part of a recording."""
    costs = [ModelPerformance._meta.fields[name] for name in names]
    columns = [ProcessingHistory.operation_type, *(one.expression for one in fields)]
    chosen = conditions(source.store, runs)
    chosen += [] if side is None else side.conditions(source.store, runs)
    is_in_index = all(one.once for one in fields) and runs.speaker is None
    is_in_index = is_in_index and not runs.where and not (side and side.words)
    keys = _few_keys(source, columns, chosen) if is_in_index else []
    for key in keys:  # an index finds each, and no row needs its key
        own = [
            column.is_null() if value is None else column == plain(value)
            for column, value in zip(columns, key, strict=True)
        ]
        query = source.stems(metric, costs, [*chosen, *own])
        yield from ((key, rows) for rows in _whole(source, query))
    if not keys:
        rows = _whole(source, source.stems(metric, [*costs, *columns], chosen))
        yield from _by_group(rows, fields, WHOSE + 1 + len(costs))


def _of_whom(rows: list[Row], place: int) -> Iterator[Row]:
    """Give what failed, which hangs on the recording, to the speakers of its stems."""
    speakers = {row[place] for row in rows} - {None}
    for row in rows:
        if row[place] is not None or row[STATE] == DONE or not speakers:
            yield row
        else:
            yield from ((*row[:place], one, *row[place + 1 :]) for one in speakers)


def _few_keys(source: Source, columns: Sequence[Any], conditions: Sequence[Any]) -> list[Key]:
    query = ProcessingHistory.select(*columns).distinct().limit(_MOST_KEYS + 1)
    query = query.where(*conditions) if conditions else query
    keys: list[Key] = list(source.rows(query))
    return keys if len(keys) <= _MOST_KEYS else []


def _whole(source: Source, query: Any) -> Iterator[list[Row]]:
    """Yield the rows of whole recordings."""
    rest: list[Row] = []
    # Sorted, not grouped: SQLite compares one integer, and keeps no aggregates.
    cursor = source.rows(query.order_by(pw.SQL("1")))
    while some := cursor.fetchmany(_AT_ONCE):
        if type(some[-1][RECORDING]) is not int:  # another program's sort behind the others
            known = [row for row in some if type(row[RECORDING]) is int]
            source.unread += len(some) - len(known)
            some = known
        rest += some
        whole = bisect_left(rest, rest[-1][RECORDING], key=itemgetter(RECORDING)) if rest else 0
        yield rest[:whole]
        rest = rest[whole:]
    yield rest


def _by_group(
    parts: Iterator[list[Row]], fields: Sequence[Field], key_at: int
) -> Iterator[tuple[Key, list[Row]]]:
    waiting: defaultdict[Key, list[Row]] = defaultdict(list)
    speaker = next((key_at + n for n, one in enumerate(fields, 1) if one.name == "speaker"), None)

    @cache
    def key_of(operation: object, *values: Any) -> Key:
        return operation, *read_key(fields, values)

    for rows in parts:
        if speaker is not None:
            recordings = groupby(rows, itemgetter(RECORDING))
            rows = [row for _, own in recordings for row in _of_whom([*own], speaker)]
        for row in rows:
            waiting[key_of(*row[key_at:])].append(row)
        for key in [key for key, own in waiting.items() if len(own) >= _AT_ONCE]:
            yield key, waiting.pop(key)
    yield from waiting.items()


def _of_one_operation(groups: Mapping[Key, Group], what: str) -> list[Group]:
    """Return groups that are of one operation each, which then is no part of their keys."""
    found: dict[Key, Group] = {}
    for (operation, *rest), group in groups.items():
        group.key, group.operation = tuple(rest), operation
        other = found.setdefault(group.key, group)
        check_operations({operation, other.operation}, what)
    return list(found.values())
