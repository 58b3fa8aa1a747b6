"""Triggers and views that are neither the package's nor an application's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import peewee as pw

from voices_peewee.migrations import runner as migrations
from voices_peewee.schema.views import VIEWS, create_view

_OBJECTS: Final = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type IN (?, ?)"


class SchemaObject(NamedTuple):
    """A trigger or view: ``table`` is what a trigger is on, ``sql`` how it was made."""

    kind: str
    name: str
    table: str
    sql: str


def objects(connection: sqlite3.Connection) -> set[SchemaObject]:
    """Return the triggers and views of a database."""
    rows = connection.execute(_OBJECTS, ("trigger", "view"))
    return {_object(*row) for row in rows}


def _object(kind: str, name: str, table: str, sql: str) -> SchemaObject:
    return SchemaObject(kind, name, table, " ".join(sql.split()))


def without_known(
    found: set[SchemaObject], directories: Sequence[Path], applied: Sequence[str]
) -> set[SchemaObject]:
    """Leave out what the migrations make.

    Args:
        found: The triggers and views of a database.
        directories: Where the migrations are.
        applied: The names of those that the database has.

    Raises:
        MigrationError: The migrations cannot be read, or fail on an empty database.
    """
    ours = {_object("view", name, name, create_view(name, sql)) for name, sql in VIEWS.items()}
    if not (left := found - ours) or not applied:
        return left
    memory = pw.SqliteDatabase(":memory:")
    with memory.connection_context():
        migrations.upgrade(memory, directories, to=applied[-1])
        return left - objects(memory.connection())
