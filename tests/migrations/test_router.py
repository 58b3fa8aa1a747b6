"""Rebuilds keep every row, view and trigger, and what loses values is refused."""

from __future__ import annotations

import textwrap
from pathlib import Path

import peewee as pw
import pytest
from support.migration_files import dump, fill, rows, schema, write

from voices_peewee.errors import MigrationError
from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.drift import drift
from voices_peewee.schema.models import MODELS

pytestmark = pytest.mark.sqlite("rebuilds of SQLite's tables; a server's are in test_postgres")


REBUILDS = {
    "speakers": ("name=pw.CharField(max_length=99)", "created_at"),
    "processed_files": ("content_hash=pw.CharField(null=True, index=True)", "filename"),
    "processing_history": ("run_id=pw.CharField(max_length=40)", "operation_type"),
}


@pytest.mark.parametrize("table", REBUILDS)
@pytest.mark.parametrize("operation", ["add not null", "change type", "drop not null"])
def test_a_rebuild_keeps_every_row(
    database: pw.SqliteDatabase, directory: Path, table: str, operation: str
) -> None:
    """Rebuilding a parent table loses no row and no reference of its child tables."""
    change, required = REBUILDS[table]
    body = {
        "add not null": f'migrator.add_fields("{table}", extra=pw.IntegerField(default=7))',
        "change type": f'migrator.change_fields("{table}", {change})',
        "drop not null": f'migrator.drop_not_null("{table}", "{required}")',
    }[operation]
    migrations.upgrade(database, [directory])
    fill(database)
    before = rows(database)
    write(directory, "102_rebuild", body)
    assert migrations.upgrade(database, [directory]) == ["102_rebuild"]
    assert rows(database) == before
    assert len(drift(database, MODELS)) == 1
    assert database.pragma("foreign_keys") == 1
    assert database.execute_sql("PRAGMA foreign_key_check").fetchall() == []


def test_add_default_is_refused(database: pw.SqliteDatabase, directory: Path, path: Path) -> None:
    """The stock ``add_default`` would write over every value; it says what to use instead."""
    migrations.upgrade(database, [directory])
    fill(database)
    before = dump(path)
    write(directory, "102_d", 'migrator.add_default("speakers", "description", "unknown")')
    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [directory])
    assert str(caught.value) == (
        "migration '102_d' failed: NotImplementedError: add_default would overwrite 'description' "
        "of every row; use migrator.sql('UPDATE … WHERE … IS NULL'); the database is as it was"
    )
    assert dump(path) == before


@pytest.mark.parametrize(
    "table",
    ["CREATE TABLE odd (a TEXT NOT NULL) STRICT", "CREATE TABLE odd (a TEXT DEFAULT 'x  y')"],
    ids=["strict", "blanks in a literal"],
)
def test_a_table_that_a_rebuild_would_change_is_refused(
    database: pw.SqliteDatabase, tmp_path: Path, table: str
) -> None:
    """What the rebuild would lose without a word is refused in one sentence."""
    model = """
        @migrator.create_model
        class Odd(pw.Model):
            a = pw.TextField()
        migrator.__ops__.clear()
    """
    own = tmp_path / "own"
    write(own, "001_odd", f"{textwrap.dedent(model)}migrator.sql({table!r})")
    write(own, "002_step", 'migrator.drop_not_null("odd", "a")')
    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [own])
    assert str(caught.value) == (
        "migration '002_step' failed: ValueError: table 'odd' can only be rebuilt by hand, in SQL; "
        "the database is as it was"
    )


def test_an_index_is_dropped_beside_a_partial_one(
    database: pw.SqliteDatabase, directory: Path
) -> None:
    """A plain index of a table that also has partial indexes can be dropped and put back."""
    write(
        directory,
        "102_index",
        'migrator.drop_index("processing_history", "run_id")',
        'migrator.add_index("processing_history", "run_id")',
    )
    migrations.upgrade(database, [directory])
    assert [one.what for one in drift(database, MODELS)] == ["index 'processing_history_run_id'"]
    migrations.rollback(database, [directory])
    assert drift(database, MODELS) == []


def test_a_table_is_renamed_with_its_references(
    database: pw.SqliteDatabase, directory: Path
) -> None:
    """After a rename the children point to the new name, and rows still refer."""
    migrations.upgrade(database, [directory])
    fill(database)
    write(
        directory,
        "102_rename",
        'migrator.rename_table("speakers", "voices")',
        'migrator.rename_table("voices", "speakers")',
    )
    migrations.upgrade(database, [directory])
    found = database.execute_sql("SELECT speaker FROM v_runs ORDER BY id").fetchall()
    assert found == [("Ada",), ("Bob",)]
    migrations.rollback(database, [directory])
    assert drift(database, MODELS) == []


def test_views_and_triggers_survive_a_rebuild(database: pw.SqliteDatabase, directory: Path) -> None:
    """A view over a rebuilt table, a trigger on it and one that writes to it stay and work."""
    objects = """
        migrator.sql("CREATE VIEW v_names AS SELECT name FROM speakers")
        migrator.sql("CREATE TABLE log (text TEXT)")
        migrator.sql("CREATE TRIGGER t_on AFTER INSERT ON speakers BEGIN "
                     "INSERT INTO log VALUES (new.name); END")
        migrator.sql("CREATE TRIGGER t_to AFTER INSERT ON processed_files BEGIN "
                     "UPDATE speakers SET description = new.filename; END")
    """
    write(directory, "102_objects", objects)
    migrations.upgrade(database, [directory])
    before = {row for row in schema(database) if row[0] in ("view", "trigger")}
    write(directory, "103_rebuild", 'migrator.drop_not_null("speakers", "created_at")')
    migrations.upgrade(database, [directory])
    fill(database)
    assert {row for row in schema(database) if row[0] in ("view", "trigger")} == before
    assert database.execute_sql("SELECT * FROM v_names").fetchall() == [("Ada",), ("Bob",)]
    assert database.execute_sql("SELECT * FROM log").fetchall() == [("Ada",), ("Bob",)]
    found = database.execute_sql("SELECT DISTINCT description FROM speakers").fetchall()
    assert found == [("b.wav",)]


REBUILD_IN_SQL = """
    migrator.sql("CREATE TABLE log_2 (text TEXT NOT NULL)")
    migrator.sql("DROP TABLE log")
    migrator.sql("ALTER TABLE log_2 RENAME TO log")
"""


@pytest.mark.parametrize(
    ("table", "extra", "left"),
    [
        ("log", "", ["t_log"]),
        ("LOG", "", ["t_log"]),
        ("log", 'migrator.sql("DROP TRIGGER IF EXISTS t_log")', []),
    ],
    ids=["unnamed", "capitals", "named"],
)
def test_a_trigger_that_falls_in_sql_returns(
    database: pw.SqliteDatabase, directory: Path, table: str, extra: str, left: list[str]
) -> None:
    """A trigger lost with a table rebuilt in SQL returns, unless the migration names it."""
    objects = f"""
        migrator.sql("CREATE TABLE log (text TEXT)")
        migrator.sql("CREATE TRIGGER t_log AFTER INSERT ON {table} BEGIN SELECT 1; END")
    """
    write(directory, "102_objects", objects)
    migrations.upgrade(database, [directory])
    write(directory, "103_rebuild", textwrap.dedent(REBUILD_IN_SQL) + extra)
    migrations.upgrade(database, [directory])
    found = database.execute_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    assert [name for (name,) in found] == left


def test_a_trigger_on_a_view_that_is_made_anew_returns(
    database: pw.SqliteDatabase, directory: Path
) -> None:
    """A trigger on a view falls with it, and returns with a new one of that name."""
    view = 'migrator.sql("CREATE VIEW seen AS SELECT 1 AS x")\n'
    trigger = 'migrator.sql("CREATE TRIGGER t INSTEAD OF INSERT ON seen BEGIN SELECT 1; END")'
    write(directory, "102_objects", view + trigger)
    migrations.upgrade(database, [directory])
    write(directory, "103_again", 'migrator.sql("DROP VIEW seen")\n' + view)
    migrations.upgrade(database, [directory])
    assert ("trigger", "t") in {row[:2] for row in schema(database)}


def test_a_migration_without_functions_is_refused(
    database: pw.SqliteDatabase, directory: Path
) -> None:
    """A file without the function that is needed is named; nothing is applied or undone."""
    (directory / "102_empty.py").touch()
    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [directory])
    assert str(caught.value) == "migration '102_empty' has no migrate function"
    assert migrations.applied(database) == []


AS_IT_WAS = "the database is as it was"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, "migration '102_b' has no rollback function"),
        ("1 / 0", "rollback of '102_b' failed: ZeroDivisionError: division by zero; " + AS_IT_WAS),
    ],
    ids=["missing", "failing"],
)
def test_a_rollback_that_cannot_be(
    database: pw.SqliteDatabase, directory: Path, path: Path, body: str | None, message: str
) -> None:
    """When one of two rollbacks is missing or fails, none is done."""
    write(directory, "102_b", "pass", body)
    create = 'migrator.add_fields("speakers", x=pw.IntegerField(default=1))'
    write(directory, "103_c", create, 'migrator.remove_fields("speakers", "x")')
    migrations.upgrade(database, [directory])
    fill_after = dump(path)
    with pytest.raises(MigrationError) as caught:
        migrations.rollback(database, [directory], steps=2)
    assert str(caught.value) == message
    assert dump(path) == fill_after
