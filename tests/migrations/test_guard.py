"""A bad, interrupted, killed or crowded migration leaves the file as it was."""

from __future__ import annotations

from pathlib import Path

import peewee as pw
import pytest
from support.migration_files import PACKAGE, dump, fill, open_database, python, write

from voices_peewee import DatabaseManager
from voices_peewee.errors import DatabaseBusyError, MigrationError
from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.drift import drift
from voices_peewee.schema.models import MODELS

pytestmark = pytest.mark.sqlite("rebuilds of SQLite's tables; a server's are in test_postgres")


FAULTS = {
    "error": ('migrator.sql("UPDATE nowhere SET x = 1")', "no such table: nowhere"),
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
    from voices_peewee import (DatabaseManager)
    print(DatabaseManager(sys.argv[1]).run_migrations())
"""


@pytest.mark.once
def test_many_processes_migrate_one_new_file(path: Path) -> None:
    """Of eight processes at once one applies the migrations, and all succeed."""
    workers = [python(WORKER, path) for _ in range(8)]
    outputs = [worker.communicate() for worker in workers]
    names = migrations.names([PACKAGE])
    assert sorted(outputs) == sorted([(f"{names}\n", "")] + [("[]\n", "")] * 7)
    database = open_database(path)
    with database.connection_context():
        assert migrations.applied(database) == names
        assert drift(database, MODELS) == []


def test_a_lock_that_is_not_given_up(
    database: pw.SqliteDatabase, tmp_path: Path, path: Path
) -> None:
    """A lock that outlasts the timeout is named as such, and nothing is changed."""
    migrations.upgrade(database, [PACKAGE])
    write(tmp_path / "own", "001_b", "pass")
    impatient = DatabaseManager(path, timeout=0.1, migrations_dir=tmp_path / "own")
    with database.atomic("IMMEDIATE"):
        for call in (impatient.run_migrations, impatient.rollback_migration):
            with pytest.raises(DatabaseBusyError) as caught:
                call(backup=False)
            assert str(caught.value) == (
                f"cannot use {str(path)!r}: another program held its lock for more than 0.1 s; "
                "end that program or raise the timeout"
            )
    assert impatient.run_migrations(backup=False) == ["001_b"]
    impatient.close()


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


DROP = 'migrator.remove_fields("speakers", "description", legacy=True)'
BROKEN = {
    "rows": (
        "pass",
        'migrator.sql("DELETE FROM speakers WHERE id = 1")',
        "rows of 'processed_files' that point to nothing in 'speakers'",
    ),
    "view": (
        'migrator.sql("CREATE VIEW v AS SELECT description FROM speakers")',
        DROP,
        "an error in view v: no such column: description",
    ),
    "trigger": (
        'migrator.sql("CREATE TRIGGER t DELETE ON speakers BEGIN SELECT old.description; END")',
        DROP,
        "an error in trigger t: no such column: old.description",
    ),
    "reference": (
        """
        migrator.sql("CREATE TABLE c (x REFERENCES speakers (description))")
        migrator.sql("CREATE UNIQUE INDEX u ON speakers (description)")
        """,
        DROP,
        'a foreign key mismatch - "c" referencing "speakers"',
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_no_longer_refers_or_compiles_is_refused(
    database: pw.SqliteDatabase, directory: Path, path: Path, kind: str
) -> None:
    """A migration that orphans rows, or takes away what a view or trigger needs, is undone."""
    before, change, reason = BROKEN[kind]
    write(directory, "102_object", before)
    migrations.upgrade(database, [directory])
    fill(database)
    there = dump(path)
    write(directory, "103_change", change)
    with pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [directory])
    assert str(caught.value) == f"the migrations leave {reason}; the database is as it was"
    assert dump(path) == there


def test_a_transaction_around_is_refused(database: pw.SqliteDatabase) -> None:
    """Foreign keys cannot be switched off inside a transaction, so an upgrade refuses it."""
    with database.atomic(), pytest.raises(MigrationError) as caught:
        migrations.upgrade(database, [PACKAGE])
    assert str(caught.value) == "cannot migrate inside a transaction; leave it first"
