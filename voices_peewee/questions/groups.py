"""The recordings of each group of runs, or side of a comparison, and what became of others."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import compress, groupby, repeat
from operator import itemgetter
from typing import Any, Final

from voices_peewee.database.dialects import plain
from voices_peewee.errors import QueryError
from voices_peewee.questions.counted import (
    ABOUT,
    NOT_DONE,
    OWN,
    RECORDING,
    Row,
    Source,
    conditions,
    coverage,
)
from voices_peewee.questions.fields import SPEAKER, Field, read_key
from voices_peewee.questions.selection import Metric, Runs, Side, operations
from voices_peewee.questions.taking import Taker
from voices_peewee.schema.models import ModelPerformance, ProcessingHistory

Key = tuple[Any, ...]
Stem = tuple[int | None, float | None]  # whose voice it is, and what a run measured of it
_COSTS: Final = ("sdri", "real_time_factor", "memory_usage")
# Rows that are read, and of a group taken, together: so few that none is looked at as garbage.
_AT_ONCE: Final = 500
_MOST_KEYS: Final = 50  # groups that are asked about one after the other


@dataclass(slots=True)
class Group:
    """The recordings of a group that have a value, in order, column by column.

    ``stems`` counts the finite ones of each, ``costs`` has NaN for what was not measured. Of a
    side of a comparison ``whose`` has the speaker of a recording of one stem, ``several`` the
    stems of the others. ``parameters`` are those of the runs that count, ``successful`` also
    of those in whose place a later one does. ``others`` has the state of the recordings that
    are not done, ``failed_since`` counts those on which a run failed after the success that
    counts, ``unread`` values that are no numbers; ``is_mixed`` tells that some were taken out
    of turn.
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
    successful: set[Any] = field(default_factory=set)
    operation: str = ""
    coverage: dict[str, int] = field(default_factory=dict)
    failed_since: int = 0
    unread: int = 0
    is_mixed: bool = False

    @property
    def places(self) -> range:
        """Where in a row its costs stand."""
        return range(OWN, OWN + len(self.costs))

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
        """Return it with its recordings in order, where some were taken out of turn."""
        if not self.is_mixed:
            return self
        places = sorted(range(len(self.recordings)), key=self.recordings.__getitem__)
        return self._picked(lambda column: map(column.__getitem__, places))

    def _picked(self, pick: Callable[[Sequence[Any]], Iterable[Any]]) -> Group:
        def columns(*some: array[Any]) -> Iterator[array[Any]]:
            return (array(one.typecode, pick(one)) for one in some)

        recordings, values, stems, *costs = columns(
            self.recordings, self.values, self.stems, *self.costs
        )
        whose = list(pick(self.whose)) if self.whose else []
        several = {one: self.several[one] for one in self.several.keys() & recordings}
        found = replace(self, recordings=recordings, values=values, stems=stems, whose=whose)
        return replace(found, costs=tuple(costs), several=several)


def _mean_of_known(costs: Sequence[float]) -> float | None:
    total = sum(costs)
    if math.isnan(total):
        return _mean_of_known([cost for cost in costs if cost == cost])
    return total / len(costs) if costs else None


def read_side(source: Source, metric: Metric, side: Side, runs: Runs, *, by_speaker: bool) -> Group:
    """Return the runs of a side of a comparison that count."""
    taker = Taker(source, metric, is_side=True, by_speaker=by_speaker)
    found = _of_one_operation(_taken(taker, (), runs, side), side.label)
    return found[0] if found else Group(())


def read_groups(
    source: Source, metric: Metric, fields: Sequence[Field], runs: Runs, *, as_sides: bool = False
) -> list[Group]:
    """Return the groups of runs, with their coverage; ``as_sides`` their stems can be matched."""
    groups = _taken(Taker(source, metric, as_sides, by_speaker=False), fields, runs)
    # Recordings are comparable by the operation, and by what is known of them.
    about = itemgetter(0, *(place for place, one in enumerate(fields, 1) if one.of_recording))
    asked: defaultdict[Any, set[int]] = defaultdict(set)
    for key, group in groups.items():
        _share_recordings(group, groups.values())
        asked[about(key)].update(group.recordings, group.others)
    for key, group in groups.items():
        group.coverage = coverage(group.states, len(asked[about(key)]))
    return _of_one_operation(groups, "a group")


def _taken(
    taker: Taker, fields: Sequence[Field], runs: Runs, side: Side | None = None
) -> dict[Key, Group]:
    """Return the groups by their keys, which begin with the operation; a side has no costs."""
    source, groups = taker.source, dict[Key, Group]()
    costs = _COSTS if side is None else ()
    for key, rows in _parts(taker, fields, runs, side, costs):
        if not isinstance(key[0], str):
            source.unread += len(rows)  # another program wrote an operation that is no text
        elif rows:
            if key not in groups:
                groups[key] = Group(key, costs=tuple(array("d") for _ in costs))
            taker.take(groups[key], rows)
    for key, group in groups.items():
        source.unread += group.unread
        groups[key] = group.in_order()
        groups[key].successful = source.settings(group.parameters | group.successful)
        groups[key].parameters = source.settings(group.parameters)
    return groups


def _parts(
    taker: Taker, fields: Sequence[Field], runs: Runs, side: Side | None, names: Sequence[str]
) -> Iterator[tuple[Key, list[Row]]]:
    """Yield rows of a group, many at once, and never a part of a recording."""
    source, metric = taker.source, taker.metric
    costs = [ModelPerformance._meta.fields[name] for name in names]
    whose = [SPEAKER] if taker.is_side else []
    columns = [ProcessingHistory.operation_type, *(one.expression for one in fields)]
    chosen = conditions(source.store, runs)
    chosen += [] if side is None else side.conditions(source.store, runs)
    is_few = all(one.once for one in fields) and runs.speaker is None
    is_few = is_few and not runs.where and not (side and side.words)
    keys = _few_keys(source, columns, chosen) if is_few else []
    for key in keys:  # an index finds each, and no row needs its key
        own = [
            column.is_null() if value is None else column == plain(value)
            for column, value in zip(columns, key, strict=True)
        ]
        rows = _whole(source, source.stems(metric, [*costs, *whose], [*chosen, *own]))
        yield from zip(repeat(key), rows)
    if not keys:
        rows = _whole(source, source.stems(metric, [*costs, *columns, *whose], chosen))
        yield from _by_group(rows, fields, OWN + len(costs))


def _of_whom(rows: list[Row], place: int) -> Iterator[Row]:
    """Give what failed, which hangs on the recording, to the speakers of its stems."""
    speakers = {row[place] for row in rows} - {None}
    for row in rows:
        if row[place] is not None or row[ABOUT] not in NOT_DONE or not speakers:
            yield row
        else:
            yield from ((*row[:place], one, *row[place + 1 :]) for one in speakers)


def _few_keys(source: Source, columns: Sequence[Any], conditions: Sequence[Any]) -> list[Key]:
    if len(columns) == 1 and len(names := operations(source.store)) == 1:
        return [(names[0],)]
    query = ProcessingHistory.select(*columns).distinct().limit(_MOST_KEYS + 1)
    query = query.where(*conditions) if conditions else query
    keys: list[Key] = list(source.rows(query))
    return keys if len(keys) <= _MOST_KEYS else []


def _whole(source: Source, query: Any) -> Iterator[list[Row]]:
    """Yield the rows of whole recordings."""
    rest: list[Row] = []
    cursor = source.rows(query)
    while some := cursor.fetchmany(_AT_ONCE):
        if {*map(type, map(itemgetter(RECORDING), some))} - {int}:  # another program's
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
    places = (key_at + n for n, one in enumerate(fields, 1) if one.expression is SPEAKER)
    speaker = next(places, None)

    @cache
    def key_of(operation: object, *values: Any) -> Key:
        return operation, *read_key(fields, values)

    def told(rows: list[Row], place: int) -> list[Row]:
        recordings = groupby(rows, itemgetter(RECORDING))
        return [row for _, own in recordings for row in _of_whom([*own], place)]

    keys = slice(key_at, key_at + 1 + len(fields))
    waiting: defaultdict[Key, list[Row]] = defaultdict(list)
    for rows in parts if speaker is None else (told(rows, speaker) for rows in parts):
        full = set[Key]()
        for row in rows:
            own = waiting[key := key_of(*row[keys])]
            own.append(row)
            if len(own) >= _AT_ONCE:
                full.add(key)
        for key in full:
            yield key, waiting.pop(key)
    yield from waiting.items()


def _share_recordings(group: Group, others: Iterable[Group]) -> None:
    """Let a group have the recordings of another one that has the same; that is half of it."""
    same = (one.recordings for one in others if one.recordings == group.recordings)
    group.recordings = next(same, group.recordings)


def _of_one_operation(groups: Mapping[Key, Group], what: str) -> list[Group]:
    """Return groups that are of one operation each, which then is no part of their keys."""
    found: dict[Key, Group] = {}
    for (operation, *rest), group in groups.items():
        group.key, group.operation = tuple(rest), operation
        other = found.setdefault(group.key, group)
        if operation != other.operation:
            names = ", ".join(sorted((operation, other.operation)))
            raise QueryError(
                f"{what} has runs of several operations ({names}); say which by operation_type",
                cli="say which by --operation",
            )
    return list(found.values())
