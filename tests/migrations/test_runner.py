"""Applying and rolling back: what holds for every migration."""

from __future__ import annotations

from pathlib import Path

import peewee as pw
import pytest
from support.migration_files import PACKAGE, PACKAGED, fill, open_database, python, schema, write

from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.drift import drift
from voices_peewee.schema.models import MODELS

pytestmark = pytest.mark.sqlite("rebuilds of SQLite's tables; a server's are in test_postgres")


def test_migrations_make_the_models_schema(database: pw.SqliteDatabase) -> None:
    """The sum of the migrations is the models' schema, to the last constraint and index."""
    migrations.upgrade(database, [PACKAGE])
    assert drift(database, MODELS) == []
    models = pw.SqliteDatabase(":memory:")
    with models.connection_context():
        for model in MODELS:
            pw.SchemaManager(model, models).create_all()
        views = {("view", name) for name in ("v_runs", "v_performance", "v_leaderboard")}
        assert {row[:2] for row in schema(database)} == {row[:2] for row in schema(models)} | views


def test_every_migration_goes_forth_and_back(database: pw.SqliteDatabase) -> None:
    """Each migration of the package undoes exactly what it did, alone and on the way."""
    before: list[set[tuple[str, str, str]]] = []
    for name in migrations.names([PACKAGE]):
        before.append(schema(database))
        assert migrations.upgrade(database, [PACKAGE], to=name) == [name]
    while before:
        migrations.rollback(database, [PACKAGE])
        assert schema(database) == before.pop()


def test_applying_twice_changes_nothing(database: pw.SqliteDatabase, path: Path) -> None:
    """An upgrade of what is up to date writes not one byte."""
    assert migrations.upgrade(database, [PACKAGE]) == migrations.names([PACKAGE])
    fill(database)
    files = [path, path.with_name(f"{path.name}-wal")]
    before = [file.read_bytes() for file in files]
    assert migrations.upgrade(database, [PACKAGE]) == []
    assert [file.read_bytes() for file in files] == before


def test_an_upgrade_says_how_far_it_is(database: pw.SqliteDatabase) -> None:
    """After each step of a migration is told how many are done, and how many it has."""
    told: list[tuple[int, int]] = []
    done = migrations.upgrade(
        database, [PACKAGE], on_progress=lambda step, total: told.append((step, total))
    )
    ends = [total for step, total in told if step == total]
    assert len(ends) == len(done)
    assert told == [(step, total) for total in ends for step in range(1, total + 1)]


def test_rollback_of_everything_leaves_an_empty_database(database: pw.SqliteDatabase) -> None:
    """Back to the beginning, not even the history table stays; and forth again works."""
    names = migrations.upgrade(database, [PACKAGE])
    fill(database)
    assert migrations.rollback(database, [PACKAGE], steps=99) == names[::-1]
    assert database.execute_sql("SELECT * FROM sqlite_master").fetchall() == []
    assert migrations.rollback(database, [PACKAGE]) == []
    assert migrations.upgrade(database, [PACKAGE]) == names
    assert drift(database, MODELS) == []


def test_an_application_adds_its_own(database: pw.SqliteDatabase, tmp_path: Path) -> None:
    """An application's migrations come after the package's, see its tables and leave first."""
    own = tmp_path / "own"
    body = """
        @migrator.create_model
        class Note(pw.Model):
            text = pw.TextField()
            speaker = pw.ForeignKeyField(migrator.orm["speakers"], on_delete="CASCADE")
            class Meta:
                table_name = "notes"
    """
    write(own, "001_notes", body, 'migrator.remove_model("notes")')
    write(own, "102_colour", 'migrator.add_fields("speakers", colour=pw.TextField(null=True))')
    directories = [PACKAGE, own]
    names = migrations.upgrade(database, directories)
    assert names == [*migrations.names([PACKAGE]), "001_notes", "102_colour"]
    database.execute_sql(
        "INSERT INTO speakers (name, tags, created_at, updated_at, colour)"
        " VALUES ('Ada', '[]', '2026', '2026', 'blue')"
    )
    database.execute_sql("INSERT INTO notes (text, speaker_id) VALUES ('x', 1)")
    assert migrations.rollback(database, directories, steps=2) == ["102_colour", "001_notes"]
    assert "notes" not in database.get_tables()


def test_a_later_migration_of_the_package_follows_an_application(
    database: pw.SqliteDatabase, directory: Path, tmp_path: Path
) -> None:
    """A new release's migration is applied although an application's came before it."""
    own = tmp_path / "own"
    write(own, "001_x", 'migrator.add_fields("speakers", x=pw.TextField(null=True))')
    migrations.upgrade(database, [directory, own])
    write(
        directory,
        "102_y",
        'migrator.add_fields("speakers", y=pw.TextField(null=True))',
        'migrator.remove_fields("speakers", "y")',
    )
    assert migrations.upgrade(database, [directory, own]) == ["102_y"]
    assert migrations.applied(database) == [*PACKAGED, "001_x", "102_y"]
    assert migrations.rollback(database, [directory, own]) == ["102_y"]


def test_before_is_called_inside_the_lock(
    database: pw.SqliteDatabase, directory: Path, path: Path
) -> None:
    """The hook sees the unchanged file through another connection while nobody can write."""
    seen: list[tuple[list[str], list[str]]] = []

    def before(names: list[str]) -> None:
        other = open_database(path, timeout=0)
        with other.connection_context():
            with pytest.raises(pw.OperationalError, match=r"^database is locked$"):
                other.execute_sql("DELETE FROM speakers")
            seen.append((names, migrations.applied(other)))

    migrations.upgrade(database, [PACKAGE], before=before)
    assert seen == []  # a new database has nothing to back up
    done = migrations.applied(database)
    write(directory, "102_b", "pass")
    write(directory, "103_c", "pass")
    migrations.upgrade(database, [directory], before=before)
    migrations.upgrade(database, [directory], before=before)
    migrations.rollback(database, [directory], steps=2, before=before)
    assert seen == [(["102_b", "103_c"], done), (["103_c", "102_b"], [*done, "102_b", "103_c"])]


def test_a_failing_hook_stops_the_upgrade(database: pw.SqliteDatabase, directory: Path) -> None:
    """Without its backup nothing is migrated, nor rolled back."""

    def before(names: list[str]) -> None:
        raise OSError("disk full")

    migrations.upgrade(database, [PACKAGE])
    write(directory, "102_b", "pass")
    for call in (migrations.upgrade, migrations.rollback):
        with pytest.raises(OSError, match=r"^disk full$"):
            call(database, [directory], before=before)
    assert migrations.applied(database) == PACKAGED
    assert database.pragma("foreign_keys") == 1


def test_rollback_of_less_than_one(database: pw.SqliteDatabase) -> None:
    """No steps are a programmer's mistake."""
    with pytest.raises(ValueError, match=r"^steps must be 1 or more, not 0$"):
        migrations.rollback(database, [PACKAGE], steps=0)


def test_peewee_migrate_is_loaded_late(path: Path) -> None:
    """Importing migrations and finding nothing pending leave peewee_migrate unloaded."""
    database = open_database(path)
    with database.connection_context():
        migrations.upgrade(database, [PACKAGE])
    code = """
        from pathlib import Path
        import peewee as pw
        import voices_peewee.migrations.runner as migrations
        database = pw.SqliteDatabase(sys.argv[1])
        print(migrations.upgrade(database, [migrations.package_directory()]))
        database.close()
        print([name for name in sys.modules if name.startswith("peewee_migrate")])
    """
    with python(code, path) as process:
        assert process.communicate() == ("[]\n[]\n", "")
