"""Drift: every way in which a table can differ from its model is found and said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peewee as pw
import pytest

from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.drift import Drift, drift
from voices_peewee.schema import models

pytestmark = pytest.mark.sqlite("reads the SQL that SQLite keeps; on a server see test_postgres")


class Parent(pw.Model):
    """A table that others refer to."""


class Child(pw.Model):
    """A table with something of everything."""

    name = pw.TextField(index=True)
    size = pw.IntegerField(null=True, constraints=[pw.Default(7)])
    parent = pw.ForeignKeyField(Parent, on_delete="CASCADE", backref="children")

    class Meta:
        constraints = (pw.Check("name <> 'A  b'", name="ck_name"), pw.Check("size > 0"))


Child.add_index(Child.size.desc(), where=pw.SQL("name <> 'A'"), name="child_size")

TABLE = (
    'CREATE TABLE "child" ("id" INTEGER NOT NULL PRIMARY KEY, "name" TEXT NOT NULL, '
    '"size" INTEGER DEFAULT 7, "parent_id" INTEGER NOT NULL, '
    'FOREIGN KEY ("parent_id") REFERENCES "parent" ("id") ON DELETE CASCADE, '
    "CONSTRAINT \"ck_name\" CHECK (name <> 'A  b'), CHECK (size > 0))"
)
INDEXES = (
    'CREATE INDEX "child_name" ON "child" ("name")',
    'CREATE INDEX "child_parent_id" ON "child" ("parent_id")',
    "CREATE INDEX child_size ON child (size DESC) WHERE name <> 'A'",
)


@pytest.fixture
def database() -> Iterator[pw.SqliteDatabase]:
    database = pw.SqliteDatabase(":memory:")
    with database.connection_context():
        yield database


def build(database: pw.SqliteDatabase, *statements: str) -> None:
    for statement in ('CREATE TABLE "parent" ("id" INTEGER NOT NULL PRIMARY KEY)', *statements):
        database.execute_sql(statement)


SAME = {
    "as peewee writes it": TABLE,
    "spelled otherwise": (
        "create table [child] (-- a comment\n id integer primary key not null, `name` text not "
        "null constraint ck_name check ( NAME<>'A  b' ), \"parent_id\" integer not null "
        "references parent(id) on delete cascade, size integer default 7 check(size>0))"
    ),
}


@pytest.mark.parametrize("spelling", SAME)
def test_the_same_schema_has_no_drift(database: pw.SqliteDatabase, spelling: str) -> None:
    """Order, case, quotes, blanks, comments and the place of a constraint do not matter."""
    build(database, SAME[spelling], *INDEXES)
    assert drift(database, [Parent, Child]) == []


# What is replaced in the right table, by what, and the sentence that follows.
DRIFTS: dict[str, tuple[str, str, str]] = {
    "more columns": (
        ' "parent_id" INTEGER NOT NULL,',
        ' "id_2" INTEGER, "parent_id" INTEGER NOT NULL,',
        "table 'child' has column 'id_2' (INTEGER NULL), which the models lack",
    ),
    "type": (
        '"size" INTEGER',
        '"size" TEXT',
        "table 'child' has column 'size' as TEXT NULL DEFAULT 7, not INTEGER NULL DEFAULT 7",
    ),
    "collation": (
        '"name" TEXT',
        '"name" TEXT COLLATE NOCASE',
        "table 'child' has options (collate nocase), which the models lack",
    ),
    "no foreign key": (
        'FOREIGN KEY ("parent_id") REFERENCES "parent" ("id") ON DELETE CASCADE, ',
        "",
        (
            "table 'child' lacks foreign key 'parent_id' (parent (id) ON DELETE CASCADE ON UPDATE"
            " NO ACTION)"
        ),
    ),
    "foreign key action": (
        "ON DELETE CASCADE",
        "ON DELETE SET NULL ON UPDATE CASCADE",
        (
            "table 'child' has foreign key 'parent_id' as parent (id) ON DELETE SET NULL ON "
            "UPDATE CASCADE, not parent (id) ON DELETE CASCADE ON UPDATE NO ACTION"
        ),
    ),
    "check": (
        "'A  b'",
        "'A b'",
        "table 'child' has CHECK 'ck_name' as name <> 'A b', not name <> 'A  b'",
    ),
    "no check": (
        ", CHECK (size > 0)",
        "",
        "table 'child' lacks CHECK 'size > 0' (size > 0)",
    ),
    "unique index": (
        'INDEX "child_name"',
        'UNIQUE INDEX "child_name"',
        (
            "table 'child' has index 'child_name' as CREATE UNIQUE INDEX \"child_name\" ON "
            '"child" ("name"), not CREATE INDEX "child_name" ON "child" ("name")'
        ),
    ),
    "unique constraint": (
        "CHECK (size > 0)",
        "CHECK (size > 0), UNIQUE (name, size)",
        (
            "table 'child' has index 'UNIQUE (name, size)' (UNIQUE (name, size)), which the "
            "models lack"
        ),
    ),
}


@pytest.mark.parametrize("case", DRIFTS)
def test_a_drift_is_found_and_said(database: pw.SqliteDatabase, case: str) -> None:
    """Each difference gives its own sentence and no other."""
    old, new, sentence = DRIFTS[case]
    statements = [statement.replace(old, new) for statement in (TABLE, *INDEXES)]
    assert statements != [TABLE, *INDEXES]
    build(database, *filter(None, statements))
    assert [str(found) for found in drift(database, [Parent, Child])] == [sentence]


def test_a_missing_column_is_a_drift(database: pw.SqliteDatabase) -> None:
    """A column that is not there is said with all that it should be."""
    build(database, 'CREATE TABLE "child" ("id" INTEGER NOT NULL PRIMARY KEY)')
    assert [str(found) for found in drift(database, [Child])][:2] == [
        "table 'child' lacks column 'name' (TEXT NOT NULL)",
        "table 'child' lacks column 'size' (INTEGER NULL DEFAULT 7)",
    ]


def test_a_missing_table_is_a_drift(database: pw.SqliteDatabase) -> None:
    """A table that is not there is one difference."""
    build(database)
    found = drift(database, [Parent, Child])
    assert found == [Drift("child", "table", "", None)]
    assert str(found[0]) == "table 'child' is missing"


def test_what_is_not_the_models_is_left_alone(database: pw.SqliteDatabase) -> None:
    """Other tables, virtual tables, views and triggers are an application's own."""
    build(database, TABLE, *INDEXES, "CREATE TABLE notes (x)", "CREATE VIEW v AS SELECT 1")
    database.execute_sql("CREATE VIRTUAL TABLE words USING fts5 (text)")
    database.execute_sql("CREATE TRIGGER t AFTER INSERT ON child BEGIN SELECT 1; END")
    assert drift(database, [Parent, Child]) == []


def test_the_models_are_not_rebound(database: pw.SqliteDatabase) -> None:
    """Comparing uses a schema in memory and leaves the models on their proxy."""
    before: Any = models.Speaker._meta.database
    migrations.upgrade(database, [migrations.package_directory()])
    assert drift(database, models.MODELS) == []
    assert models.Speaker._meta.database is before
    assert models.database_proxy.obj is None
