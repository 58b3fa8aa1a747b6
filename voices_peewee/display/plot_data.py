"""What a plot shows: the numbers, read as one state of the database, whatever draws them."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import peewee as pw

from voices_peewee.errors import PlotError, QueryError
from voices_peewee.questions.comparison import Comparison, compare
from voices_peewee.questions.comparisons import Comparisons
from voices_peewee.questions.leaderboard import leaderboard
from voices_peewee.questions.ranks import Ranks
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
_MOST_RANKED: Final = 20
_MOST_METRICS: Final = {"distribution": 4, "paired": 1, "ranks": 1, "scatter": 1}
_USUAL: Final = ("si_snri", "sdri")
_FILE: Final = ("duration", "sample_rate", "channels", "file_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for: ``models`` as ``demucs:4.0`` or query words; none stands for all."""

    models: tuple[str | Model, ...] = ()
    metrics: tuple[str, ...] | None = None
    against: str | None = None
    higher_is_better: bool | None = None
    runs: Runs = field(default_factory=Runs)


class Axis(NamedTuple):
    """What an axis measures; ``better`` says which way is good, and is empty where none is."""

    name: str
    unit: str = ""
    better: str = ""

    @property
    def label(self) -> str:
        """The name with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


class Distribution(NamedTuple):
    """Metrics by model: an axis for each, and the values of each model."""

    axes: list[Axis]
    values: list[dict[str, array[float]]]


class Paired(NamedTuple):
    """Two models on the same recordings."""

    axis: Axis
    comparison: Comparison


class Scatter(NamedTuple):
    """One number of each run against another, by model."""

    x: Axis
    y: Axis
    clouds: dict[str, tuple[array[float], array[float]]]


class Ranked(NamedTuple):
    """The mean ranks of models by a metric."""

    axis: Axis
    ranks: Ranks


Picture = Distribution | Paired | Scatter | Ranked


def read(store: Store, kind: str, request: Request) -> tuple[Picture, list[str]]:
    """Read what a plot of a kind shows, and the models in the order of their first runs.

    Raises:
        QueryError: The kind, a model, a metric or a column is unknown, or does not belong there.
        PlotError: There is nothing to draw, or too much.
    """
    if kind not in _MOST_METRICS:
        raise QueryError.unknown_field(kind, _MOST_METRICS, "plot")
    _check(kind, request)
    make: dict[str, Callable[..., Picture]] = {"distribution": _distribution}
    make |= {"paired": _paired, "scatter": _scatter, "ranks": _ranks}
    with store.snapshot():
        metrics = [_metric(store, request, name) for name in request.metrics or _USUAL]
        return make[kind](store, request, metrics), model_order()


def _check(kind: str, request: Request) -> None:
    if kind == "paired" and len(request.models) != 2:
        raise QueryError(f"a paired plot is of two models, not {len(request.models)}")
    if kind == "ranks" and len(request.models) == 1:
        raise QueryError("a ranks plot is of two models or more, or of all where none is named")
    if kind != "scatter" and request.against is not None:
        raise QueryError(f"a {kind} plot is not against a column; a scatter plot is")
    most = _MOST_METRICS[kind]
    if request.metrics is not None and not 1 <= len(request.metrics) <= most:
        many = "1 metric" if most == 1 else f"1 to {most} metrics"
        raise QueryError(f"a {kind} plot takes {many}, not {len(request.metrics)}")


def _distribution(store: Store, request: Request, metrics: list[Metric]) -> Distribution:
    found = [(metric, _values(store, request, metric)) for metric in metrics]
    empty = [metric.name for metric, values in found if not values]
    if len(empty) == len(found) or (empty and request.metrics):
        raise _nothing(f"a value of {' or '.join(map(repr, empty))}", request)
    found = [(metric, values) for metric, values in found if values]
    _refuse_too_many({model for _, values in found for model in values})
    return Distribution(
        [metric_axis(metric) for metric, _ in found], [values for _, values in found]
    )


def _values(store: Store, request: Request, metric: Metric) -> dict[str, array[float]]:
    """Return the values by model; of what belongs to a run, one of each run."""
    found: dict[str, array[float]] = {}
    for model, value in _rows(store, request, metric, once=metric.is_of_run):
        found.setdefault(model, array("d")).append(value)
    return found


def _paired(store: Store, request: Request, metrics: list[Metric]) -> Paired:
    how: dict[str, Any] = {"higher_is_better": request.higher_is_better, "runs": request.runs}
    found: Any = compare(store, *request.models, metric=metrics[0].name, **how)
    if not found.pairs:
        which = f"{found.a} and {found.b}"
        raise PlotError(f"nothing to plot: {which} have no recording in common with a value")
    return Paired(metric_axis(metrics[0]), found)


def _ranks(store: Store, request: Request, metrics: list[Metric]) -> Ranked:
    how: dict[str, Any] = {"higher_is_better": request.higher_is_better, "runs": request.runs}
    models = request.models or _measured(store, metrics[0], **how)
    if len(models) > _MOST_RANKED:
        raise PlotError(
            f"{len(models):,} models are too many for ranks; name those to draw, "
            f"{_MOST_RANKED} at most"
        )
    if len(models) < 2:
        raise PlotError(
            f"nothing to plot: ranks need two models with a value of {metrics[0].name!r}, "
            f"not {len(models)}"
        )
    found = compare(store, *models, metric=metrics[0].name, **how)
    if isinstance(found, Comparison):
        pairs = {(found.a, found.b): found}
        found = Comparisons.of((found.a, found.b), pairs, has_baseline=False)
    if not found.ranks.n:
        raise PlotError(
            f"nothing to plot: no recording has a value from all of {', '.join(found.models)}; "
            "name models that share some"
        )
    return Ranked(metric_axis(metrics[0]), found.ranks)


def _measured(store: Store, metric: Metric, **how: Any) -> tuple[Model, ...]:
    """Return the models that have a value."""
    rows = [row for row in leaderboard(store, metric.name, **how) if row.n and row.model_type]
    often = Counter(row.model_type for row in rows)
    # Without a version: the only runs of that name, or those of the name that have none.
    return tuple(
        (row.model_type, row.model_version or ("" if often[row.model_type] > 1 else None))
        for row in rows
    )


def _scatter(store: Store, request: Request, metrics: list[Metric]) -> Scatter:
    metric, name = metrics[0], request.against or _FILE[0]
    against = name if name in _FILE else _metric(store, request, name)
    clouds: dict[str, tuple[array[float], array[float]]] = {}
    for model, y, x in _rows(store, request, metric, against, once=True):
        xs, ys = clouds.setdefault(model, (array("d"), array("d")))
        xs.append(x)
        ys.append(y)
    if not clouds:
        raise _nothing(f"both {metric.name!r} and {name!r}", request)
    _refuse_too_many(clouds)
    x_axis = metric_axis(against) if isinstance(against, Metric) else _file_axis(name)
    return Scatter(x_axis, metric_axis(metric), dict(sorted(clouds.items())))


def model_order() -> list[str]:
    """Return the models in the order of their first runs, which gives them their colours."""
    run = ProcessingHistory
    columns = (run.model_type, run.model_version)
    query = run.select(*columns).group_by(*columns).order_by(pw.fn.MIN(run.id))
    return [model_label(*key) for key in query.tuples().iterator()]


def _metric(store: Store, request: Request, name: str) -> Metric:
    return find_metric(store, name, higher_is_better=request.higher_is_better)


def metric_axis(metric: Metric) -> Axis:
    """Return the axis of a metric: what people call it, its unit and its direction."""
    term = vocabulary.find_metric(metric.name)
    name = metric.name if term is None else term.title
    return Axis(name, metric.unit, f"{'higher' if metric.higher_is_better else 'lower'} is better")


def _file_axis(name: str) -> Axis:
    term = vocabulary.COLUMNS[name]
    return Axis(f"{term.title} of the recording", term.unit)


def _rows(
    store: Store, request: Request, *measured: Metric | str, once: bool
) -> Iterator[tuple[Any, ...]]:
    """Yield the model and the numbers of each successful measurement.

    Args:
        store: The open database.
        request: Which runs.
        measured: Metrics, or columns of the recording.
        once: Whether the rows of a run are one, with the mean of their numbers.
    """
    run, file, recording = ProcessingHistory, ProcessedFile, ProcessedFile.alias()
    columns = [
        _plain(one) if isinstance(one, Metric) else getattr(recording, one) for one in measured
    ]
    numbers = [pw.fn.AVG(column).coerce(False) if once else column for column in columns]
    query = run.select(run.model_type, run.model_version, *numbers)
    query = query.join_from(run, ModelPerformance).join_from(run, file)
    own = pw.fn.COALESCE(file.recording_id, file.id)
    # An outer join, because SQLite leaves one out that no column is read from.
    query = query.join_from(file, recording, pw.JOIN.LEFT_OUTER, on=(recording.id == own))
    known = [
        one.is_number if isinstance(one, Metric) else pw.Expression(column, pw.OP.IS_NOT, None)
        for one, column in zip(measured, columns, strict=True)
    ]
    query = query.where(run.success, *known, *_conditions(store, request))
    if once:
        query = query.group_by(run.run_id, run.model_type, run.model_version)
    for model_type, version, *values in query.tuples().iterator():
        yield model_label(model_type, version), *map(float, values)


def _conditions(store: Store, request: Request) -> list[pw.Expression]:
    found = request.runs.conditions(store)
    sides = [find_side(store, model) for model in request.models]
    each = [reduce(and_, side.conditions(store, request.runs)) for side in sides]
    return [*found, reduce(or_, each)] if each else found


def _plain(metric: Metric) -> Any:
    """Return a metric's value without the conversion of the JSON column that it is read from."""
    value = metric.value
    return value.coerce(False) if isinstance(value, pw.Function) else value


def _refuse_too_many(models: set[str] | dict[str, Any]) -> None:
    if len(models) > MOST_MODELS:
        raise PlotError(
            f"{len(models):,} models cannot be told apart; name those to draw, "
            f"{MOST_MODELS} at most"
        )


def _nothing(what: str, request: Request) -> PlotError:
    which = " that was asked for" if request.models or request.runs != Runs() else ""
    return PlotError(f"nothing to plot: no successful run{which} has {what}")
