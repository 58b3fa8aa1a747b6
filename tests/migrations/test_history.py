"""Which migrations there are, in which order, and which are applied in each database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import peewee as pw
import pytest
from support.migration_files import INITIAL, PACKAGE, PACKAGED, dump, open_database, write

from voices_peewee import DatabaseManager
from voices_peewee.errors import DatabaseNewerError, MigrationError
from voices_peewee.migrations import runner as migrations

pytestmark = pytest.mark.sqlite("rebuilds of SQLite's tables; a server's are in test_postgres")


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


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """A name that another program wrote, and that is not UTF-8, is one that nobody knows."""
    path = tmp_path / "voices.db"
    with DatabaseManager(path).initialize() as db:
        sql = "INSERT INTO schema_migrations VALUES (99, CAST(x'ff41' AS TEXT), '2026-01-01')"
        db.execute_raw_query(sql, write=True)
    with pytest.raises(DatabaseNewerError) as caught:
        DatabaseManager(path).connect()
    assert str(caught.value) == (
        f"{str(path)!r} is newer than this program (unknown: \udcffA); "
        "upgrade voices-peewee, or name the directory of the missing migrations"
    )


def test_names_are_ordered_by_directory_then_number(tmp_path: Path) -> None:
    """The package's migrations come before an application's, each in the order of numbers."""
    own = tmp_path / "own"
    for name in ("010_c", "002_b", "001_a"):
        write(own, name, "pass")
    for name in ("__init__", "conf", "2_x", "1000_x", "004.with.dot"):
        (own / f"{name}.py").touch()  # none of peewee-migrate's names
    assert migrations.names([PACKAGE, own, PACKAGE]) == [
        *migrations.names([PACKAGE]),
        *("001_a", "002_b", "010_c"),
    ]


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("two", "migration '001_a' is in both '{0}/one' and '{0}/two'; rename one of them"),
        ("missing", "there is no migrations directory '{0}/missing'"),
    ],
)
def test_folders_that_cannot_be(tmp_path: Path, folder: str, sentence: str) -> None:
    """A name is recorded once, so it can only be one migration's; and no folder is made."""
    write(tmp_path / "one", "001_a", "pass")
    write(tmp_path / "two", "001_a", "pass")
    with pytest.raises(MigrationError) as caught:
        migrations.names([tmp_path / "one", tmp_path / folder])
    assert str(caught.value) == sentence.format(tmp_path)
    assert not (tmp_path / "missing").exists()


def test_a_name_that_is_no_text_is_an_unknown_migration(
    database: pw.SqliteDatabase, directory: Path, path: Path
) -> None:
    """Bytes that another program wrote as a name are told as they are."""
    migrations.upgrade(database, [directory])
    database.execute_sql("UPDATE schema_migrations SET name = x'00ff' WHERE id = 1")
    with pytest.raises(DatabaseNewerError) as caught:
        migrations.pending(database, [directory])
    assert str(caught.value) == (
        f"{str(path)!r} is newer than this program (unknown: b'\\x00\\xff'); "
        "upgrade voices-peewee, or name the directory of the missing migrations"
    )
