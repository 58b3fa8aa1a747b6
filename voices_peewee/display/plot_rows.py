"""Which rows a plot is of, read one after the other and only in the columns that are drawn."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING, Any

import peewee as pw

from voices_peewee.errors import PlotError
from voices_peewee.questions.selection import Metric, Model, Runs, find_metric, find_model, runs_of
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory

if TYPE_CHECKING:
    from voices_peewee.database.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for: ``models`` as ``demucs:4.0``; none stands for all."""

    models: tuple[str | Model, ...] = ()
    metrics: tuple[str, ...] | None = None
    against: str | None = None
    higher_is_better: bool | None = None
    runs: Runs = field(default_factory=Runs)


class Rows:
    """The measurements of successful runs that a request is about."""

    def __init__(self, store: Store, request: Request) -> None:
        self._store, self._request = store, request
        found = [find_model(store, model) for model in request.models]
        each = [reduce(and_, runs_of(store, model, request.runs)) for model in found]
        self._conditions = request.runs.conditions(store, ProcessingHistory)
        if each:
            self._conditions.append(reduce(or_, each))
        self.is_filtered = bool(self._conditions)

    def metric(self, name: str) -> Metric:
        """Return the metric of a name, in the direction of the request."""
        return find_metric(self._store, name, higher_is_better=self._request.higher_is_better)

    def read(
        self, metrics: Sequence[Metric], *columns: pw.Node, where: Sequence[pw.Expression] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Yield model type, version, the metrics and the columns of each row.

        Conditions on the file are in ``where``; without any, its table is not read.
        """
        run = ProcessingHistory
        values = [_plain(metric) for metric in metrics]
        query = self._query(metrics, where)
        query = query.select(run.model_type, run.model_version, *values, *columns)
        found: Iterator[tuple[Any, ...]] = query.tuples().iterator()
        return found

    def bounds(self, metric: Metric) -> tuple[dt.datetime, dt.datetime] | None:
        """Return when the first and the last of the runs started."""
        start = ProcessingHistory.start_time
        query = self._query([metric], ()).select(pw.fn.MIN(start), pw.fn.MAX(start))
        first, last = map(start.python_value, next(query.tuples().iterator()))
        return None if first is None or last is None else (first, last)

    def _query(
        self, metrics: Sequence[Metric], where: Sequence[pw.Expression]
    ) -> pw.ModelSelect[ProcessingHistory]:
        run, file, measured = ProcessingHistory, ProcessedFile, ModelPerformance
        # CROSS keeps SQLite from starting at an index of values: see analysis.
        query = run.select()
        if where or self._request.runs.speaker is not None:
            query = query.join_from(run, file)
        return query.join_from(run, measured, pw.JOIN.CROSS).where(
            measured.processing_history == run.id,
            run.success,
            *(metric.is_number for metric in metrics),
            *self._conditions,
            *where,
        )

    def nothing(self, what: str) -> PlotError:
        """Return the error that nothing of ``what`` is there."""
        which = " that was asked for" if self.is_filtered else ""
        return PlotError(f"nothing to plot: no successful run{which} has {what}")


def _plain(metric: Metric) -> pw.Node:
    """Return a metric's value without the conversion of the JSON column that it is read from."""
    value = metric.value
    return value.coerce(False) if isinstance(value, pw.Function) else value


def about(request: Request) -> str:
    """Return in words which runs are drawn; empty for all."""
    runs = request.runs
    speaker = getattr(runs.speaker, "name", runs.speaker)
    said = {"": runs.operation_type, "speaker ": speaker, "since ": runs.since}
    said["before "] = runs.until
    return ", ".join(f"{word}{_said(value)}" for word, value in said.items() if value is not None)


def _said(value: object) -> str:
    if isinstance(value, dt.datetime):
        text = f"{value.astimezone(dt.UTC):%Y-%m-%d %H:%M}"
        return text.removesuffix(" 00:00")
    return str(value)
