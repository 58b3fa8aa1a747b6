"""Applying and rolling back: what holds for every migration, also a bad or interrupted one."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import peewee as pw
import pytest

from voices_peewee.errors import DatabaseBusyError, DatabaseNewerError, MigrationError
from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.drift import drift
from voices_peewee.schema.models import MODELS
from voices_peewee.schema.views import VIEWS, create_view

pytestmark = pytest.mark.sqlite(
    "rebuilds of SQLite's tables; a server's migrations are in test_postgres"
)

PACKAGE = migrations.package_directory()
INITIAL = "001_initial"
PACKAGED = migrations.names([PACKAGE])
AS_IT_WAS = "the database is as it was"


def open_database(path: Path, timeout: float = 30) -> pw.SqliteDatabase:
    return pw.SqliteDatabase(
        path,
        pragmas={"foreign_keys": 1, "journal_mode": "wal"},
        timeout=timeout,
        lock_type="IMMEDIATE",
    )


@pytest.fixture
def database(path: Path) -> Iterator[pw.SqliteDatabase]:
    """A connection to a new and empty file."""
    database = open_database(path)
    with database.connection_context():
        yield database


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the package's migrations to add to."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "migrations"))


def write(directory: Path, name: str, migrate: str, rollback: str | None = "pass") -> None:
    """Write a migration of these bodies; None leaves the rollback function out."""
    directory.mkdir(exist_ok=True)
    text = "import os, signal, time\nimport peewee as pw\n"
    for function, body in (("migrate", migrate), ("rollback", rollback)):
        if body is not None:
            head = f"def {function}(migrator, database, *, fake=False):\n"
            text += head + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"
    (directory / f"{name}.py").write_text(text, "utf-8")


ROWS = """
    INSERT INTO speakers (id, name, description, tags, created_at, updated_at) VALUES
        (1, 'Ada', 'alto', '["a"]', '2026-01-01', '2026-01-01'),
        (2, 'Bob', NULL, '[]', '2026-01-01', '2026-01-01');
    INSERT INTO processed_files
        (id, filename, original_path, processed_path, file_format, duration, sample_rate, channels,
         metadata, speaker_id, file_size, content_hash, created_at, updated_at) VALUES
        (1, 'a.wav', '/a.wav', NULL, 'wav', 1.5, 8000, 1, '{}', 1, 10, 'x', '2026', '2026'),
        (2, 'b.wav', '/b.wav', NULL, 'wav', 2.5, 8000, 2, '{}', 2, 20, 'y', '2026', '2026');
    INSERT INTO processing_history
        (id, processed_file_id, run_id, operation_type, parameters, start_time, success)
        VALUES (1, 1, 'r', 'separate', '{}', '2026', 1), (2, 2, 'r', 'separate', '{}', '2026', 0);
    INSERT INTO model_performance
        (id, processing_history_id, si_snri, additional_metrics, created_at)
        VALUES (1, 1, 12.5, '{}', '2026'), (2, 2, 9.5, '{}', '2026');
"""
COLUMNS = {
    "speakers": "id, name, description, tags",
    "processed_files": "id, filename, duration, channels, speaker_id, created_at",
    "processing_history": "id, processed_file_id, run_id, success",
    "model_performance": "id, processing_history_id, si_snri",
}


def fill(database: pw.SqliteDatabase) -> None:
    """Put rows into every table."""
    database.connection().executescript(ROWS)


def rows(database: pw.SqliteDatabase) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of every table."""
    return {
        table: database.execute_sql(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()
        for table, columns in COLUMNS.items()
    }


def dump(path: Path) -> list[str]:
    """Return the whole file as SQL, read by another connection."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def schema(database: pw.SqliteDatabase) -> set[tuple[str, str, str]]:
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%schema_migrations%'"
    return {row for row in database.execute_sql(query).fetchall() if row[2]}


def python(code: str, *arguments: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start another Python that sees this package."""
    root = str(Path(migrations.__file__).parents[2])
    head = f"import sys; sys.path.insert(0, {root!r})\n"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", head + textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )


def test_the_package_directory_holds_the_first_migration() -> None:
    """The package finds its own migrations."""
    assert migrations.names([PACKAGE])[0] == INITIAL
    assert (PACKAGE / "001_initial.py").is_file()


def test_names_are_ordered_by_directory_then_number(tmp_path: Path) -> None:
    """The package's migrations come before an application's, each in the order of numbers."""
    own = tmp_path / "own"
    for name in ("010_c", "002_b", "001_a"):
        write(own, name, "pass")
    (own / "__init__.py").touch()
    (own / "conf.py").touch()
    assert migrations.names([PACKAGE, own, PACKAGE]) == [
        *migrations.names([PACKAGE]),
        *("001_a", "002_b", "010_c"),
    ]


@pytest.mark.parametrize("name", ["1000_x.py", "2_x.py", "004.with.dot.py", "005_a.b.py", "006.py"])
def test_a_name_that_would_be_ignored_is_refused(tmp_path: Path, name: str) -> None:
    """A file that looks like a migration and would never run is an error, not silence."""
    (tmp_path / name).touch()
    with pytest.raises(MigrationError) as caught:
        migrations.names([tmp_path])
    assert str(caught.value) == (
        f"{str(tmp_path / name)!r} would never be applied; name it like "
        "'002_add_language.py', with three digits and no further dot"
    )


def test_one_number_twice_is_refused(tmp_path: Path) -> None:
    """Two files of one number have no order."""
    write(tmp_path, "103_a", "pass")
    write(tmp_path, "103_b", "pass")
    with pytest.raises(MigrationError) as caught:
        migrations.names([tmp_path])
    assert str(caught.value) == (
        f"migrations '103_a' and '103_b' in {str(tmp_path)!r} have the same number; "
        "renumber one of them"
    )


def test_one_name_in_two_directories_is_refused(tmp_path: Path) -> None:
    """A name is recorded once, so it can only be one migration's."""
    write(tmp_path / "one", "001_a", "pass")
    write(tmp_path / "two", "001_a", "pass")
    with pytest.raises(MigrationError) as caught:
        migrations.names([tmp_path / "one", tmp_path / "two"])
    assert str(caught.value) == (
        f"migration '001_a' is in both {str(tmp_path / 'one')!r} and {str(tmp_path / 'two')!r}; "
        "rename one of them"
    )


def test_a_missing_directory_is_refused_and_not_made(tmp_path: Path) -> None:
    """Reading migrations never creates a folder."""
    missing = tmp_path / "missing"
    with pytest.raises(MigrationError) as caught:
        migrations.names([missing])
    assert str(caught.value) == f"there is no migrations directory {str(missing)!r}"
    assert not missing.exists()


def test_migrations_make_the_models_schema(database: pw.SqliteDatabase) -> None:
    """The sum of the migrations is the models' schema, to the last constraint and index."""
    migrations.upgrade(database, [PACKAGE])
    assert drift(database, MODELS, views=VIEWS) == []
    models = pw.SqliteDatabase(":memory:")
    with models.connection_context():
        for model in MODELS:
            pw.SchemaManager(model, models).create_all()
        for name, select in VIEWS.items():
            models.execute_sql(create_view(name, select))
        assert {row[:2] for row in schema(database)} == {row[:2] for row in schema(models)}


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


def test_rollback_of_everything_leaves_an_empty_database(database: pw.SqliteDatabase) -> None:
    """Back to the beginning, not even the history table stays; and forth again works."""
    names = migrations.upgrade(database, [PACKAGE])
    fill(database)
    assert migrations.rollback(database, [PACKAGE], steps=99) == names[::-1]
    assert database.execute_sql("SELECT * FROM sqlite_master").fetchall() == []
    assert migrations.rollback(database, [PACKAGE]) == []
    assert migrations.upgrade(database, [PACKAGE]) == names
    assert drift(database, MODELS) == []


def test_status_tells_applied_pending_and_unknown(
    database: pw.SqliteDatabase, directory: Path, path: Path
) -> None:
    """The status names each migration's state, time and file, also on a read-only connection."""
    begin = dt.datetime.now(dt.UTC)
    write(directory, "102_b", "pass")
    migrations.upgrade(database, [directory])
    (directory / "102_b.py").unlink()
    write(directory, "103_c", "pass")
    before = dump(path)
    reader = pw.SqliteDatabase(f"file:{path}?mode=ro", uri=True)
    with reader.connection_context():
        found = {state.name: state for state in migrations.status(reader, [directory])}
    assert [(state.name, state.state, state.path) for state in found.values()] == [
        *((name, "applied", directory / f"{name}.py") for name in PACKAGED),
        ("103_c", "pending", directory / "103_c.py"),
        ("102_b", "unknown", None),
    ]
    assert found["103_c"].applied_at is None
    for name in (INITIAL, "102_b"):
        time = found[name].applied_at
        assert time is not None
        assert begin <= time <= dt.datetime.now(dt.UTC)
    assert dump(path) == before


def test_status_of_a_new_database_writes_nothing(database: pw.SqliteDatabase, path: Path) -> None:
    """Asking for the state of an empty file leaves it empty."""
    state = migrations.MigrationState(INITIAL, "pending", None, PACKAGE / "001_initial.py")
    assert migrations.status(database, [PACKAGE])[0] == state
    assert migrations.applied(database) == []
    assert migrations.pending(database, [PACKAGE]) == migrations.names([PACKAGE])
    assert dump(path) == ["BEGIN TRANSACTION;", "COMMIT;"]


def test_a_time_without_a_zone_is_read_as_utc(database: pw.SqliteDatabase) -> None:
    """History that another program wrote has a time zone, too."""
    migrations.upgrade(database, [PACKAGE])
    database.execute_sql("UPDATE schema_migrations SET migrated_at = '2026-01-02 03:04:05'")
    found = migrations.status(database, [PACKAGE])[0].applied_at
    assert found == dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def test_being_up_to_date_is_one_select(database: pw.SqliteDatabase) -> None:
    """The check on every connect is one SELECT."""
    migrations.upgrade(database, [PACKAGE])
    seen: list[str] = []
    database.connection().set_trace_callback(seen.append)
    assert migrations.pending(database, [PACKAGE]) == []
    assert seen == ['SELECT name FROM "schema_migrations" ORDER BY id']


def test_names_follow_a_directory_that_changes(directory: Path) -> None:
    """A migration that is added or removed is seen, also where the names were known."""
    changes: list[tuple[Callable[[], object], list[str]]] = [
        (lambda: write(directory, "102_a", "pass"), [*PACKAGED, "102_a"]),
        (lambda: write(directory, "103_b", "pass"), [*PACKAGED, "102_a", "103_b"]),
        ((directory / "102_a.py").unlink, [*PACKAGED, "103_b"]),
    ]
    for minutes, (change, found) in enumerate(changes):
        change()
        long_ago = time.time() - 3600 + 60 * minutes
        os.utime(directory, (long_ago, long_ago))
        assert migrations.names([directory]) == migrations.names([directory]) == found


def test_upgrade_up_to_a_name(database: pw.SqliteDatabase, directory: Path) -> None:
    """``to`` is the last migration that is applied."""
    for name in ("102_b", "103_c"):
        write(directory, name, "pass")
    assert migrations.upgrade(database, [directory], to="102_b") == [*PACKAGED, "102_b"]
    assert migrations.upgrade(database, [directory], to=INITIAL) == []
    assert migrations.pending(database, [directory]) == ["103_c"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("102_ad_language", "did you mean '102_add_language'?"),
        ("zzz", "see 'voices list-migrations'"),
    ],
    ids=["near", "far"],
)
def test_upgrade_to_an_unknown_name(
    database: pw.SqliteDatabase, directory: Path, name: str, hint: str
) -> None:
    """A name that does not exist is refused with the near ones."""
    write(directory, "102_add_language", "pass")
    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [directory], to=name)
    assert str(caught.value) == f"there is no migration {name!r}; {hint}"
    assert migrations.applied(database) == []


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
    assert migrations.rollback(database, directories, to=names[-3]) == ["102_colour", "001_notes"]
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


def test_two_databases_keep_their_own_history(tmp_path: Path) -> None:
    """A second database in the same process gets its own history."""
    one, two = (open_database(tmp_path / name) for name in ("one.db", "two.db"))
    with one.connection_context(), two.connection_context():
        migrations.upgrade(one, [PACKAGE])
        assert migrations.applied(two) == []
        migrations.upgrade(two, [PACKAGE])
        migrations.rollback(one, [PACKAGE], steps=99)
        assert migrations.applied(one) == []
        assert migrations.applied(two) == migrations.names([PACKAGE])


@pytest.mark.parametrize("call", [migrations.pending, migrations.upgrade, migrations.rollback])
def test_a_newer_database_is_refused(
    database: pw.SqliteDatabase, directory: Path, path: Path, call: Callable[..., object]
) -> None:
    """Code that does not know what a database holds leaves it alone."""
    write(directory, "102_b", "pass")
    write(directory, "103_c", "pass")
    migrations.upgrade(database, [directory])
    before = dump(path)
    with pytest.raises(DatabaseNewerError) as caught:
        call(database, [PACKAGE])
    assert str(caught.value) == (
        f"{str(path)!r} is newer than this program (unknown: 102_b, 103_c); "
        "upgrade voices-peewee, or name the directory of the missing migrations"
    )
    assert dump(path) == before


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


def test_the_stock_router_would_lose_rows(database: pw.SqliteDatabase, directory: Path) -> None:
    """The tests of rebuilds would notice: peewee-migrate's own Router empties the child tables."""
    from peewee_migrate.router import Router

    write(
        directory,
        "102_extra",
        'migrator.add_fields("processed_files", extra=pw.IntegerField(default=7))',
    )
    (directory / "002_views.py").unlink()  # over a view it cannot rebuild a table at all
    router = Router(database, directory, migrate_table="schema_migrations")
    router.run(INITIAL)
    fill(database)
    Router(database, directory, migrate_table="schema_migrations").run()
    assert rows(database)["processing_history"] == []
    assert rows(database)["model_performance"] == []


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
    ("extra", "left"),
    [("", ["t_log"]), ('migrator.sql("DROP TRIGGER IF EXISTS t_log")', [])],
    ids=["unnamed", "named"],
)
def test_a_trigger_that_falls_in_sql_returns(
    database: pw.SqliteDatabase, directory: Path, extra: str, left: list[str]
) -> None:
    """A trigger lost with a table rebuilt in SQL returns, unless the migration names it."""
    objects = """
        migrator.sql("CREATE TABLE log (text TEXT)")
        migrator.sql("CREATE TRIGGER t_log AFTER INSERT ON log BEGIN SELECT 1; END")
    """
    write(directory, "102_objects", objects)
    migrations.upgrade(database, [directory])
    write(directory, "103_rebuild", textwrap.dedent(REBUILD_IN_SQL) + extra)
    migrations.upgrade(database, [directory])
    found = database.execute_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    assert [name for (name,) in found] == left


FAULTS = {
    "error": ('migrator.sql("UPDATE nowhere SET x = 1")', "no such table: nowhere"),
    "value": ("raise ValueError('no colour')", "ValueError: no colour"),
    "silent": ("raise RuntimeError", "RuntimeError"),
    "late": ("migrator.run(lambda: 1 / 0)", "ZeroDivisionError: division by zero"),
    "syntax": ("if", "SyntaxError: invalid syntax (103_bad.py, line 4)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_leaves_the_file_as_it_was(
    database: pw.SqliteDatabase, directory: Path, path: Path, fault: str
) -> None:
    """When the second of two migrations fails, neither is applied, and the next try works."""
    body, reason = FAULTS[fault]
    migrations.upgrade(database, [directory])
    fill(database)
    before = dump(path)
    write(directory, "102_good", 'migrator.add_fields("speakers", x=pw.IntegerField(default=1))')
    change = 'migrator.drop_not_null("processed_files", "filename")\n'
    write(directory, "103_bad", body if fault == "syntax" else change + body)
    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [directory])
    assert str(caught.value) == (f"migration '103_bad' failed: {reason}; the database is as it was")
    assert caught.value.__cause__ is not None
    assert dump(path) == before
    assert database.pragma("foreign_keys") == 1
    assert not database.in_transaction()
    write(directory, "103_bad", "pass")
    assert migrations.upgrade(database, [directory]) == ["102_good", "103_bad"]


def test_an_interrupt_leaves_the_file_as_it_was(
    database: pw.SqliteDatabase, directory: Path, path: Path
) -> None:
    """Ctrl-C in the middle of a migration undoes all of it."""
    migrations.upgrade(database, [directory])
    fill(database)
    before = dump(path)
    body = """
        migrator.drop_not_null("speakers", "created_at")
        migrator.run(lambda: os.kill(os.getpid(), signal.SIGINT))
        migrator.run(lambda: time.sleep(10))
    """
    write(directory, "102_slow", body)
    with pytest.raises(KeyboardInterrupt):
        migrations.upgrade(database, [directory])
    assert dump(path) == before
    assert database.pragma("foreign_keys") == 1


WORKER = """
    import time
    from pathlib import Path
    import peewee as pw
    from voices_peewee.migrations import runner as migrations
    database = pw.SqliteDatabase(sys.argv[1], timeout=30, lock_type="IMMEDIATE",
                                 pragmas={"foreign_keys": 1, "journal_mode": "wal"})
    for attempt in range(100):  # the engine's part: a new WAL file is refused at once
        try:
            database.connect(reuse_if_open=True)
            break
        except pw.OperationalError:
            time.sleep(0.05)
    print(migrations.upgrade(database, [Path(sys.argv[2])]))
    database.close()
"""


def test_a_kill_leaves_the_file_as_it_was(
    database: pw.SqliteDatabase, directory: Path, path: Path, tmp_path: Path
) -> None:
    """A process that is killed in the middle of a migration leaves nothing of it."""
    migrations.upgrade(database, [directory])
    fill(database)
    before = dump(path)
    marker = tmp_path / "marker"
    body = f"""
        migrator.drop_not_null("processed_files", "filename")
        migrator.sql("DELETE FROM speakers")
        migrator.run(lambda: open({str(marker)!r}, "w").close())
        migrator.run(lambda: time.sleep(60))
    """
    write(directory, "102_slow", body)
    with python(WORKER, path, directory) as process:
        while not marker.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert dump(path) == before
    write(directory, "102_slow", "pass")
    assert migrations.upgrade(database, [directory]) == ["102_slow"]
    assert database.execute_sql("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_many_processes_migrate_one_new_file(path: Path) -> None:
    """Of eight processes at once one applies the migrations, and all succeed."""
    workers = [python(WORKER, path, PACKAGE) for _ in range(8)]
    outputs = [worker.communicate() for worker in workers]
    names = migrations.names([PACKAGE])
    assert sorted(outputs) == sorted([(f"{names}\n", "")] + [("[]\n", "")] * 7)
    database = open_database(path)
    with database.connection_context():
        assert migrations.applied(database) == names
        assert drift(database, MODELS) == []


def test_a_lock_that_is_not_given_up(
    database: pw.SqliteDatabase, directory: Path, path: Path
) -> None:
    """A lock that outlasts the timeout is named as such, and nothing is changed."""
    migrations.upgrade(database, [PACKAGE])
    write(directory, "102_b", "pass")
    impatient = open_database(path, timeout=0.1)
    with impatient.connection_context(), database.atomic("IMMEDIATE"):
        for call in (migrations.upgrade, migrations.rollback):
            with pytest.raises(DatabaseBusyError) as caught:
                call(impatient, [directory])
            assert str(caught.value) == (
                f"cannot use {str(path)!r}: another program held its lock for more than 0.1 s; "
                "end that program or raise the timeout"
            )
            assert impatient.pragma("foreign_keys") == 1
    assert migrations.upgrade(impatient, [directory]) == ["102_b"]
    impatient.close()


def test_other_errors_of_sqlite_stay_themselves(path: Path, directory: Path) -> None:
    """What is neither a lock nor a migration's fault is the caller's to translate."""
    writer = open_database(path)
    with writer.connection_context():
        migrations.upgrade(writer, [PACKAGE])
    write(directory, "102_b", "pass")
    reader = pw.SqliteDatabase(f"file:{path}?mode=ro", uri=True)
    message = r"^attempt to write a readonly database$"
    with reader.connection_context(), pytest.raises(pw.OperationalError, match=message):
        migrations.upgrade(reader, [directory])


def test_rows_that_point_to_nothing_are_refused(
    database: pw.SqliteDatabase, directory: Path, path: Path
) -> None:
    """A migration that orphans rows is undone."""
    migrations.upgrade(database, [directory])
    fill(database)
    before = dump(path)
    write(directory, "102_orphans", 'migrator.sql("DELETE FROM speakers WHERE id = 1")')
    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [directory])
    assert str(caught.value) == (
        "the migrations leave rows of 'processed_files' that point to nothing in 'speakers'; "
        "the database is as it was"
    )
    assert dump(path) == before


def test_orphans_from_before_do_not_stop_a_migration(
    database: pw.SqliteDatabase, directory: Path
) -> None:
    """A migration is not blamed for rows that pointed to nothing before it."""
    migrations.upgrade(database, [directory])
    database.pragma("foreign_keys", 0)
    fill(database)
    database.execute_sql("DELETE FROM speakers WHERE id = 1")
    write(directory, "102_b", 'migrator.add_fields("speakers", x=pw.IntegerField(default=1))')
    assert migrations.upgrade(database, [directory]) == ["102_b"]


BROKEN = {
    "view": (
        'migrator.sql("CREATE VIEW v AS SELECT description FROM speakers")',
        "an error in view v: no such column: description",
    ),
    "trigger": (
        'migrator.sql("CREATE TRIGGER t DELETE ON speakers BEGIN SELECT old.description; END")',
        "an error in trigger t: no such column: old.description",
    ),
    "reference": (
        """
        migrator.sql("CREATE TABLE c (x REFERENCES speakers (description))")
        migrator.sql("CREATE UNIQUE INDEX u ON speakers (description)")
        """,
        'a foreign key mismatch - "c" referencing "speakers"',
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_no_longer_compiles_is_refused(
    database: pw.SqliteDatabase, directory: Path, path: Path, kind: str
) -> None:
    """A migration that takes away what a view, trigger or reference needs is undone."""
    body, reason = BROKEN[kind]
    write(directory, "102_object", body)
    migrations.upgrade(database, [directory])
    before = dump(path)
    forth = 'migrator.remove_fields("speakers", "description", legacy=True)'
    write(directory, "103_drop", forth)
    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [directory])
    assert str(caught.value) == f"the migrations leave {reason}; the database is as it was"
    assert dump(path) == before


def test_a_transaction_around_is_refused(database: pw.SqliteDatabase) -> None:
    """Foreign keys cannot be switched off inside a transaction, so an upgrade refuses it."""
    with database.atomic(), pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [PACKAGE])
    assert str(caught.value) == "cannot migrate inside a transaction; leave it first"


def test_another_kind_of_database_is_refused() -> None:
    """Only SQLite and PostgreSQL are migrated."""
    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(pw.MySQLDatabase("voices"), [PACKAGE])
    assert str(caught.value) == "cannot migrate 'voices': it is neither SQLite nor PostgreSQL"


def test_a_migration_without_functions_is_refused(
    database: pw.SqliteDatabase, directory: Path
) -> None:
    """A file without the function that is needed is named; nothing is applied or undone."""
    (directory / "102_empty.py").touch()
    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [directory])
    assert str(caught.value) == "migration '102_empty' has no migrate function"
    assert migrations.applied(database) == []


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
    """Without its backup nothing is migrated."""

    def before(names: list[str]) -> None:
        raise OSError("disk full")

    migrations.upgrade(database, [PACKAGE])
    done = migrations.applied(database)
    write(directory, "102_b", "pass")
    with pytest.raises(OSError, match=r"^disk full$"):
        migrations.upgrade(database, [directory], before=before)
    with pytest.raises(OSError, match=r"^disk full$"):
        migrations.rollback(database, [PACKAGE], before=before)
    assert migrations.applied(database) == done
    assert database.pragma("foreign_keys") == 1


def test_rollback_by_steps_and_to_a_name(database: pw.SqliteDatabase, directory: Path) -> None:
    """Rolling back goes newest first, by number or down to a name that stays."""
    for name in ("102_b", "103_c", "104_d"):
        write(directory, name, "pass")
    migrations.upgrade(database, [directory])
    assert migrations.rollback(database, [directory]) == ["104_d"]
    assert migrations.rollback(database, [directory], to="103_c") == []
    assert migrations.rollback(database, [directory], to=PACKAGED[-1]) == ["103_c", "102_b"]
    assert migrations.applied(database) == PACKAGED


def test_rollback_to_what_is_not_applied(database: pw.SqliteDatabase, directory: Path) -> None:
    """Rolling back to a migration that is not applied is refused."""
    write(directory, "102_b", "pass")
    migrations.upgrade(database, [PACKAGE])
    with pytest.raises(MigrationError) as caught:
        migrations.rollback(database, [directory], to="102_b")
    assert str(caught.value) == (
        "there is no applied migration '102_b'; see 'voices list-migrations'"
    )


def test_rollback_of_less_than_one(database: pw.SqliteDatabase) -> None:
    """No steps are a programmer's mistake."""
    with pytest.raises(ValueError, match=r"^steps must be 1 or more, not 0$"):
        migrations.rollback(database, [PACKAGE], steps=0)


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


def test_a_deleted_current_directory_is_named(path: Path, tmp_path: Path) -> None:
    """peewee-migrate asks for the current directory; without one there is a sentence."""
    gone = tmp_path / "gone"
    gone.mkdir()
    code = """
        import os
        import peewee as pw
        from voices_peewee import (errors)
        from voices_peewee.migrations import runner as migrations
        os.rmdir(os.getcwd())
        database = pw.SqliteDatabase(sys.argv[1])
        try:
            migrations.upgrade(database, [migrations.package_directory()])
        except errors.MigrationError as error:
            print(error)
        database.close()
    """
    with python(code, path, cwd=gone) as process:
        sentence = "the current directory does not exist any more; change to another one\n"
        assert process.communicate() == (sentence, "")
