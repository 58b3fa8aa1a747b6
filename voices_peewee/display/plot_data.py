"""What a plot shows: the numbers, read as one state of the database, whatever draws them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any, Final, cast

import peewee as pw

from voices_peewee.errors import PlotError, QueryError
from voices_peewee.questions.comparison import Comparison, Pair, compare
from voices_peewee.questions.selection import (
    Metric,
    Model,
    Runs,
    find_metric,
    find_side,
    model_label,
)
from voices_peewee.schema import vocabulary
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory

if TYPE_CHECKING:
    from voices_peewee.database.store import Store

MOST_MODELS: Final = 40  # more cannot be told apart
MOST_METRICS: Final = 4
_USUAL: Final = ("si_snri", "sdri")
_FILE: Final = ("duration", "sample_rate", "channels", "file_size")
_LOG_FROM: Final = 1000.0  # largest to smallest value


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for: ``models`` as ``demucs:4.0`` or query words; none stands for all."""

    models: tuple[str | Model, ...] = ()
    metrics: tuple[str, ...] | None = None
    against: str | None = None
    higher_is_better: bool | None = None
    runs: Runs = field(default_factory=Runs)


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis measures; ``better`` says which way is good, and is empty where none is."""

    name: str
    unit: str = ""
    better: str = ""
    log: bool = False

    @property
    def label(self) -> str:
        """The name with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True, slots=True)
class Panel:
    """One metric of a distribution: its values by model."""

    axis: Axis
    values: dict[str, array[float]]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Metrics by model; ``order`` is that of the models in the record."""

    panels: tuple[Panel, ...]
    order: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same recordings."""

    axis: Axis
    comparison: Comparison
    pairs: Sequence[Pair]
    order: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scatter:
    """One number of each run against another, by model."""

    x: Axis
    y: Axis
    clouds: dict[str, tuple[array[float], array[float]]]
    order: tuple[str, ...]
    notes: tuple[str, ...] = ()


Picture = Distribution | Paired | Scatter


def read(store: Store, kind: str, request: Request) -> Picture:
    """Read what a plot of a kind shows.

    Raises:
        QueryError: The kind, a model, a metric or a column is unknown, or does not belong there.
        PlotError: There is nothing to draw.
    """
    if kind not in KINDS:
        raise QueryError.unknown_field(kind, KINDS, "plot")
    _check(kind, request)
    with store.snapshot():
        return KINDS[kind](store, request)


def _check(kind: str, request: Request) -> None:
    if kind == "paired" and len(request.models) != 2:
        raise QueryError(f"a paired plot is of two models, not {len(request.models)}")
    if kind != "scatter" and request.against is not None:
        raise QueryError(f"a {kind} plot is not against a column; a scatter plot is")
    most = MOST_METRICS if kind == "distribution" else 1
    if request.metrics is not None and not 1 <= len(request.metrics) <= most:
        many = "1 metric" if most == 1 else f"1 to {most} metrics"
        raise QueryError(f"a {kind} plot takes {many}, not {len(request.metrics)}")


def _distribution(store: Store, request: Request) -> Distribution:
    metrics = [_metric(store, request, name) for name in request.metrics or _USUAL]
    found = {metric: _values(store, request, metric) for metric in metrics}
    empty = [metric.name for metric, values in found.items() if not values]
    if len(empty) == len(metrics) or (empty and request.metrics):
        raise _nothing(f"a value of {' or '.join(map(repr, empty))}", request)
    panels = tuple(
        Panel(_metric_axis(metric), values) for metric, values in found.items() if values
    )
    kept, notes = _most_used([values for values in found.values() if values])
    for panel in panels:
        for model in panel.values.keys() - kept:
            del panel.values[model]
    return Distribution(panels, model_order(), notes)


def _paired(store: Store, request: Request) -> Paired:
    name = request.metrics[0] if request.metrics else _USUAL[0]
    how: dict[str, Any] = {"higher_is_better": request.higher_is_better, "runs": request.runs}
    comparison = cast("Comparison", compare(store, *request.models, metric=name, **how))
    if not comparison.pairs:
        which = f"{comparison.a} and {comparison.b}"
        raise PlotError(f"nothing to plot: {which} have no recording in common with a value")
    axis = _metric_axis(_metric(store, request, name))
    return Paired(axis, comparison, comparison.pairs, model_order())


def _scatter(store: Store, request: Request) -> Scatter:
    metric = _metric(store, request, request.metrics[0] if request.metrics else _USUAL[0])
    x_name = request.against or _FILE[0]
    against = None if x_name in _FILE else _metric(store, request, x_name)
    clouds: dict[str, tuple[array[float], array[float]]] = {}
    for model_type, version, y, x in _rows(store, request, metric, against or x_name, once=True):
        xs, ys = clouds.setdefault(model_label(model_type, version), (array("d"), array("d")))
        xs.append(x)
        ys.append(y)
    if not clouds:
        raise _nothing(f"both {metric.name!r} and {x_name!r}", request)
    kept, notes = _most_used([{model: xs for model, (xs, _) in clouds.items()}])
    clouds = {model: cloud for model, cloud in clouds.items() if model in kept}
    x_axis = _file_axis(x_name) if against is None else _metric_axis(against)
    x_axis = _scaled(x_axis, [xs for xs, _ in clouds.values()])
    y_axis = _scaled(_metric_axis(metric), [ys for _, ys in clouds.values()])
    return Scatter(x_axis, y_axis, clouds, model_order(), notes)


KINDS: Final[dict[str, Callable[[Store, Request], Picture]]] = {
    "distribution": _distribution,
    "paired": _paired,
    "scatter": _scatter,
}


def model_order() -> tuple[str, ...]:
    """Return the models in the order of their first runs, by which each has its colour."""
    run = ProcessingHistory
    columns = (run.model_type, run.model_version)
    query = run.select(*columns).group_by(*columns).order_by(pw.fn.MIN(run.id))
    return tuple(model_label(*key) for key in query.tuples().iterator())


def _metric(store: Store, request: Request, name: str) -> Metric:
    return find_metric(store, name, higher_is_better=request.higher_is_better)


def _metric_axis(metric: Metric) -> Axis:
    term = vocabulary.find_metric(metric.name)
    name, unit = (metric.name, metric.unit) if term is None else (term.title, term.unit)
    return Axis(name, unit, f"{'higher' if metric.higher_is_better else 'lower'} is better")


def _file_axis(name: str) -> Axis:
    term = vocabulary.COLUMNS[name]
    return Axis(f"{term.title} of the recording", term.unit)


def _scaled(axis: Axis, values: Sequence[array[float]]) -> Axis:
    """Make an axis logarithmic where its values differ by thousands."""
    low, high = min(map(min, values)), max(map(max, values))
    return Axis(axis.name, axis.unit, axis.better, low > 0 and high / low >= _LOG_FROM)


def _values(store: Store, request: Request, metric: Metric) -> dict[str, array[float]]:
    """Return the values by model; of what belongs to a run, one of each run."""
    found: dict[str, array[float]] = {}
    for model_type, version, value in _rows(store, request, metric, once=metric.is_of_run):
        found.setdefault(model_label(model_type, version), array("d")).append(value)
    return found


def _rows(
    store: Store, request: Request, metric: Metric, *against: Metric | str, once: bool
) -> Iterator[tuple[Any, ...]]:
    """Yield model type, version and the numbers of each successful measurement.

    Args:
        store: The open database.
        request: Which runs.
        metric: What was measured.
        against: Another metric, or a column of the recording.
        once: Whether the rows of a run are one, with the mean of their numbers.
    """
    run, file, measured = ProcessingHistory, ProcessedFile, ModelPerformance
    recording = file.alias()
    columns = [
        _plain(one) if isinstance(one, Metric) else getattr(recording, one)
        for one in (metric, *against)
    ]
    numbers = [pw.fn.AVG(column).coerce(False) if once else column for column in columns]
    query = run.select(run.model_type, run.model_version, *numbers).join_from(run, measured)
    query = query.join_from(run, file)
    if any(isinstance(one, str) for one in against):
        own = pw.fn.COALESCE(file.recording_id, file.id)
        query = query.join_from(file, recording, on=(recording.id == own))
    query = query.where(run.success, *_conditions(store, request, [metric, *against], columns))
    if once:
        query = query.group_by(run.run_id, run.model_type, run.model_version)
    for model_type, version, *values in query.tuples().iterator():
        yield model_type, version, *map(float, values)


def _conditions(
    store: Store, request: Request, which: Sequence[Metric | str], columns: Sequence[pw.Node]
) -> list[pw.Expression]:
    found = request.runs.conditions(store, ProcessingHistory)
    for one, column in zip(which, columns, strict=True):
        found.append(
            one.is_number if isinstance(one, Metric) else pw.Expression(column, pw.OP.IS_NOT, None)
        )
    sides = [find_side(store, model) for model in request.models]
    each = [reduce(and_, side.conditions(store, request.runs)) for side in sides]
    return [*found, reduce(or_, each)] if each else found


def _plain(metric: Metric) -> Any:
    """Return a metric's value without the conversion of the JSON column that it is read from."""
    value = metric.value
    return value.coerce(False) if isinstance(value, pw.Function) else value


def _most_used(found: Sequence[dict[str, array[float]]]) -> tuple[set[str], tuple[str, ...]]:
    """Return the models to draw, those with the most values, and a note if that is not all."""
    counts: dict[str, int] = {}
    for values in found:
        for model, numbers in values.items():
            counts[model] = max(counts.get(model, 0), len(numbers))
    order = sorted(counts, key=lambda model: (-counts[model], model))
    if len(order) <= MOST_MODELS:
        return set(order), ()
    note = f"{MOST_MODELS} of {len(order):,} models drawn, those with the most values"
    return set(order[:MOST_MODELS]), (note,)


def _nothing(what: str, request: Request) -> PlotError:
    which = " that was asked for" if request.models or request.runs != Runs() else ""
    return PlotError(f"nothing to plot: no successful run{which} has {what}")
