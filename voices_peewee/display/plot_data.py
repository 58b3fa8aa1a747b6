"""What a plot shows: the numbers of each kind, whatever draws them.

Rows are read one after the other and only in the columns that are drawn. All values count; of
many, those that are drawn as points are a sample, always the same for the same rows.
"""

from __future__ import annotations

import datetime as dt
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, Any, Final, TypeVar

from voices_peewee.display.plot_pictures import (
    Axis,
    Cloud,
    Distribution,
    Group,
    Line,
    Mark,
    Paired,
    Panel,
    Picture,
    Scatter,
    Trend,
)
from voices_peewee.display.plot_rows import Request, Rows, about
from voices_peewee.errors import PlotError, QueryError
from voices_peewee.questions.comparison import compare_pairs
from voices_peewee.questions.selection import Metric, find_metric, model_label, snapshot
from voices_peewee.questions.stats import mean, quantile, summary
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

if TYPE_CHECKING:
    from voices_peewee.database.store import Store

T = TypeVar("T")

MOST_MODELS: Final = 40  # more cannot be told apart
MOST_METRICS: Final = 4
_POINTS: Final = 4000  # in one picture
_LEAST_POINTS: Final = 100  # of one model
_MOST_STEPS: Final = 16
_LOG_FROM: Final = 1000.0  # largest to smallest value
_USUAL: Final = ("si_snri", "sdri")

_NAMES: Final = {
    "si_snri": "SI-SNRi",
    "sdri": "SDRi",
    "cpu_usage": "CPU",
    "memory_usage": "peak memory",
    "processing_time": "processing time",
    "real_time_factor": "real-time factor",
}
_UNITS: Final = {"cpu_usage": "% of one core", "real_time_factor": "×"}
_FILE: Final = {
    "duration": ("duration", "s"),
    "sample_rate": ("sample rate", "Hz"),
    "channels": ("channels", ""),
    "file_size": ("file size", "bytes"),
}
_DAY: Final = 86_400
_STEPS: Final = (
    ("hour", 3600),
    ("day", _DAY),
    ("week", 7 * _DAY),
    ("4 weeks", 28 * _DAY),
    ("12 weeks", 84 * _DAY),
    ("52 weeks", 364 * _DAY),
)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MONDAY: Final = 4 * _DAY  # the first one since 1970


def read(store: Store, kind: str, request: Request) -> Picture:
    """Read what a plot of a kind shows, as one state of the database.

    Raises:
        QueryError: The kind, a model, a metric or a column is unknown, or does not belong there.
        PlotError: There is nothing to draw.
    """
    if kind not in _KINDS:
        raise QueryError.unknown_field(kind, _KINDS, "plot")
    _check(kind, request)
    with snapshot(store):
        return _KINDS[kind](store, request)


def _check(kind: str, request: Request) -> None:
    if kind == "paired" and len(request.models) != 2:
        raise QueryError(f"a paired plot is of two models, not {len(request.models)}")
    if kind != "scatter" and request.against is not None:
        raise QueryError(f"a {kind} plot is not against a column; a scatter plot is")
    most = MOST_METRICS if kind == "distribution" else 1
    if request.metrics is not None and not 1 <= len(request.metrics) <= most:
        many = "1 metric" if most == 1 else f"1 to {most} metrics"
        raise QueryError(f"a {kind} plot takes {many}, not {len(request.metrics)}")


def _axis(metric: Metric, *, log: bool = False, directed: bool = True) -> Axis:
    name = _NAMES.get(metric.name, metric.name)
    unit = _UNITS.get(metric.name, metric.unit)
    better = metric.higher_is_better if directed else None
    return Axis(name, unit, better, log, given=metric.name not in _NAMES)


def _most_used(counts: Mapping[Any, int]) -> tuple[set[Any], tuple[str, ...]]:
    """Return the models to draw, those with the most values, and a note if that is not all."""
    order = sorted(counts, key=lambda key: (-counts[key], str(key)))
    if len(order) <= MOST_MODELS:
        return set(order), ()
    note = f"{MOST_MODELS} of {len(order):,} models drawn, those with the most values"
    return set(order[:MOST_MODELS]), (note,)


def _room(models: int) -> int:
    """Return how many points of each model are drawn."""
    return max(_LEAST_POINTS, _POINTS // max(models, 1))


def _sampled(drawn: int, n: int) -> tuple[str, ...]:
    return () if drawn == n else (f"{drawn:,} of {n:,} points drawn",)


# Distribution


def _distribution(store: Store, request: Request) -> Distribution:
    rows = Rows(store, request)
    names = request.metrics or _USUAL
    values = {metric: _values(rows.read([metric])) for metric in map(rows.metric, names)}
    empty = [metric.name for metric, found in values.items() if not found]
    if len(empty) == len(values) or (empty and request.metrics):
        raise rows.nothing(f"a value of {' or '.join(map(repr, empty))}")
    values = {metric: found for metric, found in values.items() if found}
    counts: dict[str, int] = {}
    for found in values.values():
        for model, numbers in found.items():
            counts[model] = max(counts.get(model, 0), len(numbers))
    kept, notes = _most_used(counts)
    room = _room(len(kept) * len(values))
    panels = tuple(
        Panel(
            _axis(metric), {model: _group(found[model], room) for model in found if model in kept}
        )
        for metric, found in values.items()
    )
    drawn = sum(len(group.points) for panel in panels for group in panel.groups.values())
    total = sum(group.n for panel in panels for group in panel.groups.values())
    return Distribution(
        _ranked(panels, kept), panels, about(request), (*notes, *_sampled(drawn, total))
    )


def _values(rows: Iterable[tuple[Any, ...]]) -> dict[str, array[float]]:
    """Return the values by model, eight bytes each."""
    found: dict[str, array[float]] = {}
    label = cache(model_label)
    for model_type, version, value in rows:
        model = label(model_type, version)
        if model not in found:
            found[model] = array("d")
        found[model].append(value)
    return found


def _group(numbers: array[float], room: int) -> Group:
    ordered = array("d", sorted(numbers))
    first, third = quantile(ordered, 0.25), quantile(ordered, 0.75)
    reach = 1.5 * (third - first)
    return Group(
        n=len(ordered),
        low=min(first, next(value for value in ordered if value >= first - reach)),
        lower_quartile=first,
        median=quantile(ordered, 0.5),
        upper_quartile=third,
        high=max(third, next(value for value in reversed(ordered) if value <= third + reach)),
        mean=mean(ordered) or 0.0,
        points=_spread(ordered, room),
    )


def _spread(ordered: Sequence[T], room: int) -> tuple[T, ...]:
    """Return so many of what is sorted, evenly by rank, the first and the last among them."""
    if len(ordered) <= room:
        return tuple(ordered)
    step = (len(ordered) - 1) / (room - 1)
    return tuple(ordered[round(number * step)] for number in range(room))


def _ranked(panels: Sequence[Panel], models: Iterable[str]) -> tuple[str, ...]:
    panel = panels[0]
    sign = -1 if panel.axis.higher_is_better else 1

    def rank(model: str) -> tuple[bool, float, str]:
        group = panel.groups.get(model)
        return group is None, 0.0 if group is None else sign * group.median, model

    return tuple(sorted(models, key=rank))


# Pairs


def _paired(store: Store, request: Request) -> Paired:
    (name,) = request.metrics or _USUAL[:1]
    comparison, pairs = compare_pairs(
        store,
        *request.models,
        metric=name,
        higher_is_better=request.higher_is_better,
        runs=request.runs,
    )
    if not pairs:
        raise PlotError(
            f"nothing to plot: no recording has a value of {name!r} "
            f"from both {comparison.a!r} and {comparison.b!r}"
        )
    metric = find_metric(store, name, higher_is_better=comparison.higher_is_better)
    sign = 1 if comparison.higher_is_better else -1
    ordered = sorted(pairs, key=lambda pair: (sign * pair.difference, pair.path))
    drawn = _spread(ordered, _POINTS)
    notes = _sampled(len(drawn), len(pairs))
    return Paired(_axis(metric), comparison, drawn, about(request), notes)


# Scatter


def _scatter(store: Store, request: Request) -> Scatter:
    rows = Rows(store, request)
    (name,) = request.metrics or _USUAL[:1]
    y = rows.metric(name)
    against = request.against or "duration"
    if against in _FILE:
        field = ProcessedFile._meta.fields[against]
        x = Axis(*_FILE[against])
        found = rows.read([y], field, ProcessingHistory.id, where=[field.is_null(is_null=False)])
    else:
        other = _column(store, against)
        x = _axis(other, directed=False)
        found = rows.read([y, other], ProcessingHistory.id)
    clouds, notes = _clouds(found)
    if not clouds:
        raise rows.nothing(f"a value of {name!r} and of {against!r}")
    xs = [point[0] for cloud in clouds for point in cloud.points]
    ys = [point[1] for cloud in clouds for point in cloud.points]
    return Scatter(
        replace(x, log=_wants_log(xs)),
        _axis(y, log=_wants_log(ys)),
        clouds,
        about(request),
        notes,
    )


def _column(store: Store, name: str) -> Metric:
    """Return the metric that another is drawn against; its direction does not matter."""
    try:
        return find_metric(store, name, higher_is_better=True)
    except QueryError as error:
        raise QueryError.unknown_field(name, {*error.known, *_FILE}, "column") from error


def _wants_log(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= _LOG_FROM


def _clouds(rows: Iterable[tuple[Any, ...]]) -> tuple[tuple[Cloud, ...], tuple[str, ...]]:
    """Return the points by model: where there are many, those of the smallest hash of their id."""
    counts: Counter[str] = Counter()
    heaps: dict[str, list[tuple[int, float, float]]] = {}
    label = cache(model_label)
    for model_type, version, y, x, row in rows:
        model = label(model_type, version)
        heap = heaps.setdefault(model, [])
        counts[model] += 1
        push = heappush if len(heap) < _POINTS else heappushpop
        push(heap, (-(row * _HASH & _MASK), x, y))
    kept, notes = _most_used(counts)
    room = _room(len(kept))
    clouds = []
    for model in sorted(kept):
        chosen = sorted(heaps[model], reverse=True)[:room]
        points = tuple(sorted((float(x), float(y)) for _, x, y in chosen))
        clouds.append(Cloud(model, counts[model], points))
    drawn, total = sum(len(cloud.points) for cloud in clouds), sum(cloud.n for cloud in clouds)
    return tuple(clouds), (*notes, *_sampled(drawn, total))


# Multiplying by 2**32 over the golden ratio spreads consecutive ids evenly.
_HASH: Final = 2_654_435_769
_MASK: Final = 0xFFFFFFFF


# Trend


def _trend(store: Store, request: Request) -> Trend:
    rows = Rows(store, request)
    (name,) = request.metrics or _USUAL[:1]
    metric = rows.metric(name)
    bounds = rows.bounds(metric)
    if bounds is None:
        raise rows.nothing(f"a value of {name!r}")
    step, seconds = _step(*bounds)
    sums = _sums(rows.read([metric], ProcessingHistory.start_time), seconds)
    kept, notes = _most_used(
        {key: sum(one.n for one in bins.values()) for key, bins in sums.items()}
    )
    lines = [
        Line(model, model_type, tuple(bins[start].mark(start) for start in sorted(bins)))
        for (model, model_type), bins in sums.items()
        if (model, model_type) in kept
    ]
    lines.sort(key=lambda line: (line.marks[0].time, line.model))
    return Trend(_axis(metric), step, seconds, tuple(lines), about(request), notes)


def _step(first: dt.datetime, last: dt.datetime) -> tuple[str, int]:
    span = (last - first).total_seconds()
    fine = [one for one in _STEPS if span <= _MOST_STEPS * one[1]]
    return fine[0] if fine else _STEPS[-1]


class _Sum:
    """Mean and squared deviations of values that come one by one, after Welford (1962)."""

    __slots__ = ("mean", "n", "squares")

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.n += 1
        before = value - self.mean
        self.mean += before / self.n
        self.squares += before * (value - self.mean)

    def mark(self, start: float) -> Mark:
        found = summary(self.n, self.mean, None, self.squares)
        time = _EPOCH + dt.timedelta(seconds=start)
        return Mark(time, self.n, self.mean, found.low, found.high)


def _sums(
    rows: Iterable[tuple[Any, ...]], seconds: int
) -> dict[tuple[str, str], dict[float, _Sum]]:
    """Return the sums by model label and model type, and by step."""
    sums: dict[tuple[str, str], dict[float, _Sum]] = {}
    label = cache(model_label)
    for model_type, version, value, start in rows:
        time = (start - _EPOCH).total_seconds() - _MONDAY
        bins = sums.setdefault((label(model_type, version), model_type or ""), {})
        begin = time - time % seconds + _MONDAY
        if begin not in bins:
            bins[begin] = _Sum()
        bins[begin].add(value)
    return sums


_KINDS: Final[dict[str, Callable[[Store, Request], Picture]]] = {
    "distribution": _distribution,
    "paired": _paired,
    "scatter": _scatter,
    "trend": _trend,
}
KINDS: Final = tuple(_KINDS)
