"""Inputs for the tests of imports."""

from __future__ import annotations

import io
import json
from typing import Any

from voices_peewee import DatabaseManager


def export(db: DatabaseManager) -> str:
    """Return a database as JSON lines, with the counts at the end."""
    stream = io.BytesIO()
    db.export(stream)
    return stream.getvalue().decode()


def lines(rows: list[dict[str, Any]]) -> str:
    """Return records as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)
