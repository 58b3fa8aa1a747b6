"""The groups of a leaderboard: what the measurements and failures of each come to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import peewee as pw

from voices_peewee.questions.selection import Metric, Runs
from voices_peewee.questions.stats import Summary, mean, summarize, summary
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory

if TYPE_CHECKING:
    from voices_peewee.database.store import Store

Key = tuple[str | None, ...]
Costs = tuple[float | None, float | None, float | None]

# What the covering index model_performance_leaderboard holds beside the models.
COVERED: Final = (
    "si_snri",
    "sdri",
    "real_time_factor",
    "memory_usage",
    "processing_time",
)


# Any groups: the database joins, filters and sorts


def by_any(
    store: Store, metric: Metric, fields: tuple[str, ...], runs: Runs
) -> Iterator[tuple[Key, Summary, Costs]]:
    """Yield each group, from rows that arrive sorted by group and value."""
    keys = _keys(fields, ModelPerformance)
    costs = (
        ModelPerformance.sdri,
        ModelPerformance.real_time_factor,
        ModelPerformance.memory_usage,
    )
    query = ProcessingHistory.select(metric.value, *costs, *keys)
    if _needs_file(fields, runs):
        query = query.join_from(ProcessingHistory, ProcessedFile)
    # CROSS keeps SQLite from starting at the index of values: then each run and file is looked
    # up far from the one before, which takes four times as long.
    query = query.join_from(ProcessingHistory, ModelPerformance, pw.JOIN.CROSS).where(
        ModelPerformance.processing_history == ProcessingHistory.id,
        ProcessingHistory.success,
        metric.is_number,
        *runs.conditions(store, ModelPerformance),
    )
    cursor = store.connection().execute(*query.order_by(*keys, metric.value).sql())
    for key, rows in groupby(cursor, key=lambda row: row[4:]):
        values, *others = zip(*(row[:4] for row in rows), strict=True)
        sdri, factor, memory = ([x for x in column if x is not None] for column in others)
        yield key, summarize(values), (mean(sdri), mean(factor), mean(memory))


def failed_runs(store: Store, fields: tuple[str, ...], runs: Runs) -> dict[Key, int]:
    """Return how many runs of each group failed."""
    keys = _keys(fields, ProcessingHistory)
    count = pw.fn.COUNT(ProcessingHistory.run_id.distinct())
    query = ProcessingHistory.select(count, *keys)
    if _needs_file(fields, runs):
        query = query.join(ProcessedFile)
    query = query.where(
        ~ProcessingHistory.success,
        ProcessingHistory.end_time.is_null(is_null=False),
        *runs.conditions(store, ProcessingHistory),
    )
    cursor = store.connection().execute(*query.group_by(*keys).sql())
    return {key: count for count, *key in cursor for key in [tuple(key)]}


def _keys(fields: Iterable[str], model: type[pw.Model]) -> list[pw.Node]:
    expressions: dict[str, pw.Node] = {
        "model_type": model._meta.fields["model_type"],
        "model_version": model._meta.fields["model_version"],
        "speaker": ProcessedFile.speaker,
        "operation_type": ProcessingHistory.operation_type,
        "file": pw.fn.COALESCE(ProcessedFile.original_path, ProcessedFile.filename),
        "file_format": ProcessedFile.file_format,
    }
    return [expressions[name] for name in fields]


def _needs_file(fields: Iterable[str], runs: Runs) -> bool:
    return runs.speaker is not None or not {"speaker", "file", "file_format"}.isdisjoint(fields)


# Models alone: a covering index holds their groups, and the SI-SNRi of each in order


def by_model(
    store: Store, metric: Metric, fields: tuple[str, ...], runs: Runs
) -> Iterator[tuple[Key, Summary, Costs]]:
    """Yield each group of a metric that has a column, without a join and mostly without a sort."""
    refused = _refused(store, metric, fields)
    for place in _places(store, fields, runs):
        key = tuple(place[name] for name in fields)
        group = _Group(store, metric.name, place, refused.get(key, []))
        yield key, *group.summarize()


def _refused(store: Store, metric: Metric, fields: tuple[str, ...]) -> dict[Key, list[int]]:
    """Return, by group, the history rows that have a value but no success: mostly none."""
    query = (
        ProcessingHistory.select(ProcessingHistory.id, *_keys(fields, ModelPerformance))
        .join(ModelPerformance)
        .where(~ProcessingHistory.success, metric.is_number)
    )
    refused: dict[Key, list[int]] = {}
    for row, *key in store.connection().execute(*query.sql()):
        refused.setdefault(tuple(key), []).append(row)
    return refused


def _places(store: Store, fields: tuple[str, ...], runs: Runs) -> Iterator[dict[str, str | None]]:
    """Yield what chooses each group: a model type and, where it matters, a version."""
    for model_type in _distinct(store, "model_type", {}, runs.model_type):
        place = {"model_type": model_type}
        if "model_version" in fields or runs.model_version is not None:
            for version in _distinct(store, "model_version", place, runs.model_version):
                yield place | {"model_version": version}
        else:
            yield place


def _distinct(
    store: Store, column: str, place: dict[str, str | None], only: str | None
) -> Iterator[str | None]:
    """Yield a column's values by jumping through the index, or the one that is asked for."""
    if only is not None:
        yield only
        return
    connection, where = store.connection(), _where(place)
    sql = _HAS.replace("WHERE ", where).replace("COLUMN", column)
    for value in (None, ""):
        if connection.execute(sql, (*place.values(), value)).fetchone():
            yield value
    sql, value = _NEXT.replace("WHERE ", where).replace("COLUMN", column), ""
    while (value := connection.execute(sql, (*place.values(), value)).fetchone()[0]) is not None:
        yield value


_HAS: Final = "SELECT 1 FROM model_performance WHERE COLUMN IS ? LIMIT 1"
_NEXT: Final = "SELECT min(COLUMN) FROM model_performance WHERE COLUMN > ?"


def _where(place: dict[str, str | None]) -> str:
    return "".join(["WHERE ", *(f"{column} IS ? AND " for column in place)])


class _Group:
    """The values of one metric in one group of models."""

    def __init__(
        self, store: Store, metric: str, place: dict[str, str | None], refused: list[int]
    ) -> None:
        self._connection = store.connection()
        self._metric = metric
        self._where = _where(place)
        self._parameters: tuple[str | None, ...] = (*place.values(),)
        if refused:
            self._where += "processing_history_id NOT IN (SELECT value FROM json_each(?)) AND "
            self._parameters += (json.dumps(refused),)

    def summarize(self) -> tuple[Summary, Costs]:
        """Return the summary and the mean costs."""
        n, total, squares, *costs = self._fetch(_SUMS)[0]
        if not n:
            return Summary(0), (None, None, None)
        center, deviation = total / n, squares - total * total / n
        if deviation * _SAFE < squares:
            # The sums are far larger than the spread: measure from one of the values instead.
            origin = self._fetch(_FIRST)[0][0]
            total, squares = self._fetch(_SHIFTED, origin, origin, origin)[0]
            center, deviation = origin + total / n, squares - total * total / n
        middle = self._fetch(_MIDDLE, after=(2 - n % 2, (n - 1) // 2))
        median = math.fsum(value for (value,) in middle) / len(middle)
        return summary(n, center, median, deviation), (costs[0], costs[1], costs[2])

    def _fetch(self, sql: str, *before: float, after: tuple[int, ...] = ()) -> list[Any]:
        sql = sql.replace("WHERE ", self._where).replace("METRIC", self._metric)
        found: list[Any] = self._connection.execute(
            sql, (*before, *self._parameters, *after)
        ).fetchall()
        return found


# How much larger than the spread the sums may be: so many times it costs as many digits.
_SAFE: Final = 100.0
_SUMS: Final = """
SELECT count(*), sum(METRIC), sum(METRIC * METRIC),
       avg(sdri), avg(real_time_factor), avg(memory_usage)
FROM model_performance WHERE METRIC IS NOT NULL
"""
_FIRST: Final = "SELECT METRIC FROM model_performance WHERE METRIC IS NOT NULL LIMIT 1"
_SHIFTED: Final = """
SELECT sum(METRIC - ?), sum((METRIC - ?) * (METRIC - ?))
FROM model_performance WHERE METRIC IS NOT NULL
"""
_MIDDLE: Final = """
SELECT METRIC FROM model_performance WHERE METRIC IS NOT NULL
ORDER BY METRIC LIMIT ? OFFSET ?
"""
