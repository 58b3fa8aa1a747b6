"""The recordings of each group of runs: what was measured of them, and what became of others."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, groupby, islice
from operator import itemgetter
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
from voices_peewee.search.columns import read_json
from voices_peewee.search.pages import read_single

if TYPE_CHECKING:
    from voices_peewee.questions.fields import Field
    from voices_peewee.questions.selection import Metric, Runs

Key = tuple[Any, ...]
_COSTS: Final = ("sdri", "real_time_factor", "memory_usage")
_KEY: Final = VALUE + 1 + len(_COSTS)  # where a row's group begins: the operation, and its fields
_AT_ONCE: Final = 1_000  # rows that are read, and of a group that are taken, together
_MOST_KEYS: Final = 50  # groups that are asked about one after the other
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
    parameters: set[Any] = field(default_factory=set)
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
        """Take the rows of recordings, by columns where these are alike, which they mostly are."""
        known = [row for row in rows if type(row[RECORDING]) is int]
        self.unread += len(rows) - len(known)
        if rows := known:
            self._take_known(rows, metric)

    def _take_known(self, rows: list[Row], metric: Metric) -> None:
        columns = list(zip(*rows, strict=True))
        taken = _alike(columns, metric)
        if taken is None:
            odd = {row[RECORDING] for row in rows if row[STATE] < DONE or _is_odd(row[VALUE])}
            self._take_each([row for row in rows if row[RECORDING] in odd], metric)
            rows = [row for row in rows if row[RECORDING] not in odd]
            columns = list(zip(*rows, strict=True))
            taken = _alike(columns, metric) if rows else None
        if taken is None:
            self._take_each(rows, metric)
        else:
            self._take_all(taken, columns)

    def _take_all(self, taken: list[Sequence[Any]], columns: list[tuple[Any, ...]]) -> None:
        recordings, values, *costs = taken
        self.recordings.extend(recordings)
        self.values.extend(values)
        self.states["done"] += len(recordings)
        self.stems += len(columns[VALUE]) - columns[VALUE].count(None)
        if len(self.parameters) < _MOST_SETTINGS:
            self.parameters.update(columns[PARAMETERS])
        for place, (total, count) in enumerate(costs):
            self.costs[place] += total
            self.counts[place] += count

    def _take_each(self, rows: list[Row], metric: Metric) -> None:
        for recording, run in in_runs(rows):
            values = [number for row in run if (number := finite(row[VALUE])) is not None]
            self.unread += sum(isinstance(row[VALUE], str | bytes) for row in run)
            stems = len(values) if metric.is_of_run and values else len(run)
            state = state_of(min(row[STATE] for row in run), len(values), stems)
            self.states[state] += 1
            if len(self.parameters) < _MOST_SETTINGS:
                self.parameters.add(run[0][PARAMETERS])
            if state == "partly_finite":
                self.partly.add(recording)
            if state in ("done", "partly_finite"):
                self.stems += len(values)
                self.recordings.append(recording)
                self.values.append(sum(values) / len(values))
                self._pay(run)

    def _pay(self, run: list[Row]) -> None:
        for place in range(len(_COSTS)):
            cost = [finite(row[VALUE + 1 + place]) for row in run]
            if known := [one for one in cost if one is not None]:
                self.costs[place] += sum(known) / len(known)
                self.counts[place] += 1

    def put_in_order(self) -> None:
        """Order the recordings, of which some were taken out of turn."""
        if self.states["done"] < sum(self.states.values()) or self.unread:
            order = sorted(range(len(self.recordings)), key=self.recordings.__getitem__)
            self.recordings = array("q", map(self.recordings.__getitem__, order))
            self.values = array("d", map(self.values.__getitem__, order))


def _is_odd(value: object) -> bool:
    return type(value) is not float or not -LARGEST <= value <= LARGEST


def _alike(columns: Sequence[tuple[Any, ...]], metric: Metric) -> list[Any] | None:
    """Return recordings, their values, and costs with their number, if each has one alike run.

    That is one that succeeded, with as many stems as the others have, each with a value.
    """
    recordings, values = columns[RECORDING], columns[VALUE]
    stems = len(recordings) // len({*recordings})
    once = recordings[::stems]
    if min(columns[STATE]) < DONE or (None in values and not metric.is_of_run):
        return None
    if len({*once}) < len(once) or (stems > 1 and not _is_one_run(columns, once, stems)):
        return None
    try:
        numbers = array("d", _means(values, stems))
        known = [
            [cost for cost in _means(column, stems) if cost is not None]
            for column in columns[VALUE + 1 : _KEY]
        ]
        costs = [(sum(each), len(each)) for each in known]
    except TypeError:  # one of a run's stems has none, or it is no number
        return None
    is_finite = min(numbers) >= -LARGEST and max(numbers) <= LARGEST
    return [once, numbers, *costs] if is_finite else None


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


def read_groups(
    source: Source,
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
    for key, rows in _parts(source, metric, fields, runs, only):
        if not isinstance(key[0], str):
            source.unread += len(rows)  # another program wrote an operation that is no text
        elif rows:
            groups.setdefault(key, Group(key)).take(rows, metric)
            asked[_about(key, about)].update(map(itemgetter(RECORDING), rows))
    for key, group in groups.items():
        group.put_in_order()
        source.unread += group.unread
        group.in_question = len(asked[_about(key, about)])
        group.parameters = source.settings(group.parameters)
    return _of_one_operation(groups)


def _parts(
    source: Source,
    metric: Metric,
    fields: Sequence[Field],
    runs: Runs,
    only: frozenset[int] | None,
) -> Iterator[tuple[Key, list[Row]]]:
    """Yield rows of a group, many at once, and never a part of a recording."""
    costs = [ModelPerformance._meta.fields[name] for name in _COSTS]
    columns = [ProcessingHistory.operation_type, *(one.expression for one in fields)]
    chosen = conditions(source.store, runs)
    keys = _few_keys(source, columns, chosen) if _are_in_index(fields, runs) else []
    for key in keys:  # an index finds each, and no row needs its key
        own = [
            column.is_null() if value is None else column == plain(value)
            for column, value in zip(columns, key, strict=True)
        ]
        rows = _ordered(source, source.stems(metric, costs, [*chosen, *own]), only)
        yield from ((key, part) for part in _whole(rows))
    if not keys:
        rows = _ordered(source, source.stems(metric, [*costs, *columns], chosen), only)
        speaker = next((n for n, one in enumerate(fields, _KEY + 1) if one.name == "speaker"), None)
        if speaker is not None:
            recordings = groupby(rows, itemgetter(RECORDING))
            rows = chain.from_iterable(_of_whom(list(own), speaker) for _, own in recordings)
        places = [n for n, one in enumerate(fields, _KEY + 1) if one.read is read_single]
        yield from _by_group(_with_numbers(rows, places) if places else rows)


def _with_numbers(rows: Iterator[Row], places: Sequence[int]) -> Iterator[Row]:
    """Make 1.0 and 1 one key, which compare alike; true is neither."""
    for row in rows:
        cells = list(row)
        for place in places:
            cells[place] = _one_number(cells[place])
        yield tuple(cells)


@lru_cache(maxsize=1024)
def _one_number(text: str | None) -> str | None:
    values = read_json(text)
    value = values[0] if isinstance(values, list) and values else None
    if isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0:
        return f"[{int(value)}]"
    return text


def _are_in_index(fields: Sequence[Field], runs: Runs) -> bool:
    return all(one.once for one in fields) and not runs.where and runs.speaker is None


def _few_keys(source: Source, columns: Sequence[Any], conditions: Sequence[Any]) -> list[Key]:
    query = ProcessingHistory.select(*columns).distinct().limit(_MOST_KEYS + 1)
    query = query.where(*conditions) if conditions else query
    keys: list[Key] = list(source.rows(query))
    return keys if len(keys) <= _MOST_KEYS else []


def _ordered(source: Source, query: Any, only: frozenset[int] | None) -> Iterator[Row]:
    # Sorted, not grouped: SQLite compares one integer, and keeps no aggregates.
    rows = iter(source.rows(query.order_by(pw.SQL("1"))))
    return rows if only is None else (row for row in rows if row[RECORDING] in only)


def _whole(rows: Iterator[Row]) -> Iterator[list[Row]]:
    rest: list[Row] = []
    while some := list(islice(rows, _AT_ONCE)):
        rest += some
        whole = bisect_left(rest, rest[-1][RECORDING], key=itemgetter(RECORDING))
        yield rest[:whole]
        rest = rest[whole:]
    yield rest


def _by_group(rows: Iterator[Row]) -> Iterator[tuple[Key, list[Row]]]:
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
