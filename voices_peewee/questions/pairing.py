"""The recordings that two models both processed: two queries and a dict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import peewee as pw

from voices_peewee.questions.selection import LARGEST, Metric, Model, Runs, runs_of
from voices_peewee.questions.stats import mean
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory

if TYPE_CHECKING:
    from voices_peewee.database.store import Store

Key = tuple[str | int, int | None]


class Match(NamedTuple):
    """What both models measured of one recording, or of one speaker's voice in it."""

    key: Key
    a: float
    b: float
    difference: float


def pair_up(
    store: Store, metric: Metric, models: Sequence[Model], runs: Runs
) -> tuple[list[Match], dict[str, Any]]:
    """Return the pairs, in the order of their paths, and how many recordings make none."""
    a, b = (_latest(store, metric, model, runs) for model in models)
    both = _ordered([key for key in a if key in b])
    pairs = [
        Match(key, value_a, value_b, value_b - value_a)
        for key in both
        if (value_a := a[key]) is not None and (value_b := b[key]) is not None
    ]
    excluded = {
        "only_a": len(a) - len(both),
        "only_b": len(b) - len(both),
        "left_out": len(both) - len(pairs),
    }
    return pairs, excluded


def _latest(store: Store, metric: Metric, model: Model, runs: Runs) -> dict[Key, float | None]:
    """Return what the latest successful run of each recording and speaker measured."""
    rows = _measured(store, metric, model, runs)
    values = {row[:2]: row[2] for row in rows}
    if len(values) < len(rows):
        run = ProcessingHistory
        rows = _measured(store, metric, model, runs, run.run_id, run.start_time, run.id)
        return {key: mean(_finite(found)) for key, found in _of_latest_run(rows)}
    if metric.column:  # whose CHECK keeps what is not finite out
        return values
    return {key: mean(_finite([value])) for key, value in values.items()}


def _measured(
    store: Store, metric: Metric, model: Model, runs: Runs, *more: pw.Field
) -> list[tuple[Any, ...]]:
    """Return recording, speaker, value and the columns asked for of each successful row."""
    file, run = ProcessedFile, ProcessingHistory
    # A server has no column that holds a text here and a number there.
    mixed = store.server is None
    place = (
        [pw.fn.COALESCE(file.original_path, file.id)] if mixed else [file.original_path, file.id]
    )
    query = run.select(*place, file.speaker, metric.value, *more).join_from(run, file)
    query = query.join_from(run, ModelPerformance, pw.JOIN.LEFT_OUTER)
    query = query.where(run.success, *runs_of(store, model, runs), *runs.conditions(store, run))
    found: list[tuple[Any, ...]] = store.connection().execute(*query.sql()).fetchall()
    return found if mixed else [(row[1] if row[0] is None else row[0], *row[2:]) for row in found]


def _of_latest_run(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Key, list[Any]]]:
    """Yield the values of the latest run of each recording and speaker."""
    found: dict[Key, tuple[str, str, int, list[Any]]] = {}
    for place, speaker, value, run_id, start, row in rows:
        key = (place, speaker)
        latest = found.get(key)
        if latest is None or (latest[0] != run_id and latest[1:3] < (start, row)):
            latest = found[key] = (run_id, start, row, [])
        if latest[0] == run_id:
            latest[3].append(value)
    return ((key, latest[3]) for key, latest in found.items())


def _finite(values: Iterable[object]) -> list[float]:
    return [v for v in values if isinstance(v, int | float) and -LARGEST <= v <= LARGEST]


def _ordered(keys: list[Key]) -> list[Key]:
    try:
        return sorted(keys)  # fast; fails where numbers stand beside paths or None
    except TypeError:
        return sorted(keys, key=lambda key: (str(key[0]), key[1] or 0))
