"""Compare a database's schema with the models', to the last constraint and index.

Triggers, virtual tables, and tables and views that nobody asks for are an application's own
and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import peewee as pw

from voices_peewee.migrations import server_schema
from voices_peewee.migrations.sqlite_schema import (
    Parts,
    made_views,
    model_parts,
    normal,
    read_parts,
    read_views,
)


@dataclass(frozen=True)
class Drift:
    """One difference; ``expected`` and ``found`` are None where there is nothing."""

    table: str
    what: str
    expected: str | None
    found: str | None

    def __str__(self) -> str:
        if self.what == "view":
            return f"view {self.table!r} {'is missing' if self.found is None else 'is another one'}"
        if self.what == "table":
            return f"table {self.table!r} is missing"
        if self.expected is None:
            return f"table {self.table!r} has {self.what} ({self.found}), which the models lack"
        if self.found is None:
            return f"table {self.table!r} lacks {self.what} ({self.expected})"
        return f"table {self.table!r} has {self.what} as {self.found}, not {self.expected}"


def drift(
    database: pw.Database,
    models: Sequence[type[pw.Model]],
    *,
    views: Mapping[str, str] | None = None,
) -> list[Drift]:
    """Return how a database differs from the models; nothing is changed, nor are they rebound.

    Args:
        database: The open database.
        models: What the tables shall be.
        views: The SELECT of each view that shall be there.
    """
    if not isinstance(database, pw.SqliteDatabase):
        with server_schema.side_by_side(database, models) as (expected, present, spell):
            found = list(differences(expected, present))
            # A view can be made where its columns are there.
            return found or list(view_differences(*spell(views or {})))
    return [
        *differences(model_parts(models), read_parts(database)),
        *view_differences(made_views(views or {}), read_views(database)),
    ]


def differences(expected: Parts, present: Parts) -> Iterator[Drift]:
    """Yield what differs in the expected tables."""
    wanted, here = ({table for table, _ in parts} for parts in (expected, present))
    for table in sorted(wanted - here):
        yield Drift(table, "table", "", None)
    for table, what in {**expected, **present}:
        one, other = expected.get((table, what)), present.get((table, what))
        if table in wanted & here and normal(one or "") != normal(other or ""):
            yield Drift(table, what, one, other)


def view_differences(expected: Mapping[str, str], present: Mapping[str, str]) -> Iterator[Drift]:
    """Yield the expected views that are not there or are others."""
    for name, definition in expected.items():
        if normal(present.get(name, "")) != normal(definition):
            yield Drift(name, "view", definition, present.get(name))
