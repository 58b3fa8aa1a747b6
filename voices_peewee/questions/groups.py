"""The recordings of each group of runs: what was measured of them, and what became of others."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from voices_peewee.questions.counted import (
    DONE,
    PARAMETERS,
    RECORDING,
    RUN,
    STATE,
    VALUE,
    Row,
    Source,
    check_operations,
    conditions,
    coverage,
    finite,
    in_runs,
    state_of,
)
from voices_peewee.questions.selection import LARGEST
from voices_peewee.schema.models import ModelPerformance, ProcessingHistory

if TYPE_CHECKING:
    from voices_peewee.database.store import Store
    from voices_peewee.questions.fields import Field
    from voices_peewee.questions.selection import Metric, Runs

Key = tuple[Any, ...]
_COSTS: Final = ("sdri", "real_time_factor", "memory_usage")
_KEY: Final = VALUE + 1 + len(_COSTS)  # where a row's group begins: the operation, and its fields
_AT_ONCE: Final = 10_000  # rows that are read, and of a group that are taken, together
_MOST_SETTINGS: Final = 1_000  # of one group, that are looked at for what differs


@dataclass(slots=True)
class Group:
    """The recordings of a group that have a value, in order, and what became of the others.

    ``unread`` counts values that are no numbers.
    """

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
    unread: int = 0

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

    def take(self, rows: list[Row], metric: Metric) -> None:
        """Take the rows of recordings: column by column where each has one run, that succeeded."""
        columns = list(zip(*rows, strict=True))
        try:
            taken = _alike(columns, metric)
        except TypeError:  # a value is None, or no number
            taken = None
        if taken is None:
            self._take_each(rows, metric)
            return
        self.states["done"] += len(taken[0])
        self._add(taken, columns[PARAMETERS], len(rows) - columns[VALUE].count(None))

    def _add(self, columns: Sequence[Sequence[Any]], parameters: Any, stems: int) -> None:
        recordings, values, *costs = columns
        self.recordings.extend(recordings)
        self.values.extend(values)
        self.stems += stems
        if len(self.parameters) < _MOST_SETTINGS:
            self.parameters.update(parameters)
        for place, each in enumerate(costs):
            known = [cost for cost in each if cost is not None]
            self.costs[place] += sum(known)
            self.counts[place] += len(known)

    def _take_each(self, rows: list[Row], metric: Metric) -> None:
        measured = []
        for recording, run in in_runs(rows):
            values = [row[VALUE] for row in run]
            known = [number for value in values if (number := finite(value)) is not None]
            self.unread += sum(isinstance(value, str | bytes) for value in values)
            stems = len(known) if metric.is_of_run and known else len(run)
            state = state_of(min(row[STATE] for row in run), len(known), stems)
            self.states[state] += 1
            if len(self.parameters) < _MOST_SETTINGS:
                self.parameters.add(run[0][PARAMETERS])
            if state == "partly_finite":
                self.partly.add(recording)
            if state in ("done", "partly_finite"):
                self.stems += len(known)
                costs = zip(*(row[VALUE + 1 : _KEY] for row in run), strict=True)
                measured.append((recording, sum(known) / len(known), *map(_mean, costs)))
        if measured:
            self._add(list(zip(*measured, strict=True)), (), 0)


def _mean(values: Sequence[object]) -> float | None:
    known = [number for value in values if (number := finite(value)) is not None]
    return sum(known) / len(known) if known else None


def _alike(columns: Sequence[tuple[Any, ...]], metric: Metric) -> list[Sequence[Any]] | None:
    """Return the recordings, their values and costs, where all have as many stems of one run.

    Raises:
        TypeError: A stem has none where others have one, or it is no number.
    """
    recordings = columns[RECORDING]
    once = recordings[:: (stems := len(recordings) // len({*recordings}))]
    if min(columns[STATE]) < DONE or (None in columns[VALUE] and not metric.is_of_run):
        return None
    if stems > 1 and not (
        all(recordings[place::stems] == once for place in range(stems))
        and len({*zip(recordings, columns[RUN], strict=True)}) == len(once)
    ):
        return None
    if len({*once}) != len(once):
        return None
    values, *costs = (_means(column, stems) for column in columns[VALUE:_KEY])
    numbers = array("d", values)
    if not -LARGEST <= min(numbers) <= max(numbers) <= LARGEST:
        return None
    return [once, numbers, *costs]


def _means(values: tuple[Any, ...], stems: int) -> Sequence[Any]:
    """Return the means of so many stems each; what none of them has is None."""
    if stems == 1:
        return values
    parts = [values[place::stems] for place in range(stems)]
    known = [part for part in parts if part.count(None) < len(part)]
    if not known:
        return parts[0]
    return [sum(each) / len(known) for each in zip(*known, strict=True)]


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
    groups: dict[Key, Group] = {}
    about = [place for place, one in enumerate(fields, 1) if one.of_recording]
    asked: defaultdict[Key, set[int]] = defaultdict(set)
    for key, rows in _by_group(_rows(store, metric, fields, runs, only)):
        if rows:
            groups.setdefault(key, Group(key)).take(rows, metric)
        asked[_about(key, about)].update([row[RECORDING] for row in rows])
    for key, group in groups.items():
        group.in_question = len(asked[_about(key, about)])
    return _of_one_operation(groups)


def _by_group(rows: Iterator[Row]) -> Iterator[tuple[Key, list[Row]]]:
    """Yield rows of a group, many at once, and never a part of a recording."""
    waiting: defaultdict[Key, list[Row]] = defaultdict(list)
    while some := list(islice(rows, _AT_ONCE)):
        for row in some:
            waiting[row[_KEY:]].append(row)
        for key, taken in waiting.items():
            if len(taken) >= _AT_ONCE:
                whole = bisect_left(taken, taken[-1][RECORDING], key=itemgetter(RECORDING))
                yield key, taken[:whole]
                del taken[:whole]
    yield from waiting.items()


def _rows(
    store: Store,
    metric: Metric,
    fields: Sequence[Field],
    runs: Runs,
    only: frozenset[int] | None,
) -> Iterator[Row]:
    source = Source(store, fields, with_speakers=runs.speaker is not None)
    costs = [ModelPerformance._meta.fields[name] for name in _COSTS]
    keys = [ProcessingHistory.operation_type, *(one.expression for one in fields)]
    rows = source.stems(metric, [*costs, *keys], conditions(store, runs))
    if only is not None:
        rows = (row for row in rows if row[RECORDING] in only)
    speaker = next((n for n, one in enumerate(fields, _KEY + 1) if one.name == "speaker"), None)
    if speaker is None:
        return rows
    recordings = groupby(rows, itemgetter(RECORDING))
    return chain.from_iterable(_of_whom(list(found), speaker) for _, found in recordings)


def _of_whom(rows: list[Row], place: int) -> Iterator[Row]:
    """Give what failed, which hangs on the recording, to the speakers of its stems."""
    speakers = {row[place] for row in rows} - {None}
    for row in rows:
        if row[place] is not None or row[STATE] == DONE or not speakers:
            yield row
        else:
            yield from ((*row[:place], one, *row[place + 1 :]) for one in speakers)


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
