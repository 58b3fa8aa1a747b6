"""What pictures and reports say: axes, models and their order, and which runs are meant."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import peewee as pw

from voices_peewee.questions.leaderboard import Leaderboard
from voices_peewee.questions.selection import Metric, Model, Runs, model_label
from voices_peewee.schema import vocabulary
from voices_peewee.schema.models import ProcessingHistory


class Axis(NamedTuple):
    """What an axis measures; ``better`` says which way is good, and is empty where none is."""

    name: str
    unit: str = ""
    better: str = ""

    @property
    def label(self) -> str:
        """The name with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def metric_axis(metric: Metric | str) -> Axis:
    """Return the axis of a metric, with its direction, or of a column of the recording."""
    if isinstance(metric, str):
        column = vocabulary.COLUMNS[metric]
        return Axis(f"{column.title} of the recording", column.unit)
    term = vocabulary.find_metric(metric.name)
    name = metric.name if term is None else term.title
    return Axis(name, metric.unit, f"{'higher' if metric.higher_is_better else 'lower'} is better")


def model_order() -> list[str]:
    """Return the models in the order of their first runs, which gives them their colours."""
    run = ProcessingHistory
    columns, first = (run.model_type, run.model_version), pw.fn.MIN(run.id)
    # By the operation too, since there is an index on the three.
    query = run.select(*columns).group_by(run.operation_type, *columns).order_by(first)
    return [*dict.fromkeys(model_label(*key) for key in query.tuples().iterator())]


def measured(board: Leaderboard) -> dict[str, Model]:
    """Return the models of a leaderboard that have a value, by their labels, the best first."""
    rows = [
        row
        for row in board
        # What another program wrote as bytes is no name to ask for.
        if row.n and row.model_type and bytes not in map(type, (row.model_type, row.model_version))
    ]
    often = Counter(row.model_type for row in rows)
    # Without a version: the only runs of that name, or those of the name that have none.
    return {
        row.labels[0]: (
            str(row.model_type),
            row.model_version or ("" if often[row.model_type] > 1 else None),
        )
        for row in rows
    }


def narrowed(runs: Runs) -> dict[str, str]:
    """Return in words which runs are meant; nothing for all."""
    asked = {
        "operation": runs.operation_type,
        "speaker": getattr(runs.speaker, "name", runs.speaker),
        "since": runs.since,
        "before": runs.until,
        "only": runs.where if isinstance(runs.where, str) else " ".join(runs.where),
    }
    return {word: str(value) for word, value in asked.items() if value}
