"""Inputs for the tests of imports: a database written as an export writes it."""

from __future__ import annotations

import json
from typing import Any

from voices_peewee import MODELS, DatabaseManager


def records(db: DatabaseManager) -> list[dict[str, Any]]:
    """Return every row with its table and its columns."""
    return [
        {
            "table": model._meta.table_name,
            **{
                field.column_name: _plain(row.__data__[field.name])
                for field in model._meta.sorted_fields
            },
        }
        for model in MODELS
        for row in db.get_all(model)
    ]


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def export(db: DatabaseManager) -> str:
    """Return a database as JSON lines, with the counts at the end."""
    rows = records(db)
    counts = {model._meta.table_name: 0 for model in MODELS}
    for row in rows:
        counts[row["table"]] += 1
    return lines([*rows, {"table": "end", "rows": counts}])


def lines(rows: list[dict[str, Any]]) -> str:
    """Return records as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)
