"""Restoring: a verified backup takes the place of what is there, which is saved first."""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import peewee as pw
import pytest
from support.backups import (
    KNOWN,
    await_line,
    contents,
    ended,
    execute,
    finish,
    integrity,
    listing,
    make,
    other_application,
    references_broken,
    speakers,
    start,
    truncated,
)

from voices_peewee import DatabaseManager, Speaker
from voices_peewee.database.transactions import Translated
from voices_peewee.errors import (
    BackupError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseNewerError,
    InvalidValueError,
    MigrationError,
    VoicesError,
)
from voices_peewee.upkeep.backup import list_backups, snapshot, verify
from voices_peewee.upkeep.restore import restore

pytestmark = pytest.mark.sqlite("a server is restored by its own tools")


def test_restore(database: Path) -> None:
    """Restoring brings the backup's state back and first saves what it replaces."""
    made = snapshot(database)
    execute(database, "UPDATE speakers SET name = 'New'", "CREATE TABLE later (x)")
    seen: list[tuple[int, int]] = []
    present, restored = restore(
        made.path, database, directories=KNOWN, progress=lambda *now: seen.append(now)
    )
    assert present is not None
    assert (restored, verify(present.path)) == (made, present)
    assert list_backups(database) == [present, made]
    assert speakers(present.path) == ["New"] * 3
    assert speakers(database) == ["Ada", "Bob", "Cleo"]
    assert execute(database, "SELECT count(*) FROM sqlite_master WHERE name = 'later'") == [(0,)]
    assert (integrity(database), execute(database, "PRAGMA journal_mode")) == ("ok", [("wal",)])
    assert (seen[-1], seen) == ((made.size, made.size), sorted(seen))
    assert len(listing(database.parent)) == 5
    restore(present.path, database, directories=KNOWN)
    assert speakers(database) == ["New"] * 3


def test_restore_where_nothing_is(database: Path, copies: Path) -> None:
    """A restore creates a missing database, in WAL mode and for its owner only."""
    made = snapshot(database, copies / "a.db")
    assert restore(made.path, copies / "new.db", directories=KNOWN) == (None, made)
    assert listing(copies) == ["a.db", "a.db.sha256", "new.db"]
    assert stat.S_IMODE((copies / "new.db").stat().st_mode) == 0o600
    assert speakers(copies / "new.db") == ["Ada", "Bob", "Cleo"]
    assert execute(copies / "new.db", "PRAGMA journal_mode") == [("wal",)]


def test_pages_of_another_size(database: Path, copies: Path) -> None:
    """A backup with pages of another size is refused, and says where it can be restored."""
    made = snapshot(database, copies / "a.db")
    other = make(copies / "other.db", page_size=8192)
    with pytest.raises(DatabaseError) as caught:
        restore(made.path, other, directories=KNOWN)
    assert str(caught.value) == (
        f"cannot use '{other}': its pages have 8192 bytes and those of the backup 4096; "
        "restore to a path where nothing is"
    )
    restore(made.path, copies / "new.db", directories=KNOWN)
    assert speakers(copies / "new.db") == ["Ada", "Bob", "Cleo"]


def test_a_newer_backup(database: Path, copies: Path) -> None:
    """A backup with migrations that this code does not know is refused."""
    execute(database, "INSERT INTO schema_migrations (name) VALUES ('002_views'), ('009_x')")
    made = snapshot(database, copies / "a.db")
    before = contents(database.parent)
    with pytest.raises(DatabaseNewerError) as caught:
        restore(made.path, database, directories=KNOWN)
    assert str(caught.value) == (
        f"'{made.path}' is newer than this program (unknown: 009_x); "
        "upgrade voices-peewee, or name the directory of the missing migrations"
    )
    assert contents(database.parent) == before


TRIGGER = """CREATE TRIGGER evil AFTER INSERT ON speakers
 BEGIN DELETE FROM processed_files; END"""


@pytest.mark.parametrize(
    ("sql", "what"),
    [(TRIGGER, "trigger 'evil'"), ("CREATE VIEW v_runs AS SELECT 1", "view 'v_runs'")],
    ids=["trigger", "view"],
)
def test_what_somebody_else_made(database: Path, copies: Path, sql: str, what: str) -> None:
    """A trigger or view of somebody else is refused, but not one that is there already."""
    copy = snapshot(database, copies / "copy.db").path
    (copies / "copy.db.sha256").unlink()
    execute(copy, sql)
    for target in (database, copies / "new.db"):
        with pytest.raises(BackupError) as caught:
            restore(copy, target, directories=KNOWN)
        assert str(caught.value) == (
            f"backup '{copy}': its {what} is neither the package's nor of your migrations; "
            "drop it in a copy of the backup"
        )
    assert listing(database.parent) == ["voices.db"]
    execute(database, sql.replace("\n", "  "))
    restore(copy, database, directories=KNOWN)


def test_triggers_of_ones_own_migrations(path: Path, tmp_path: Path) -> None:
    """What the package's and an application's migrations make is restored anywhere."""
    own = tmp_path / "own"
    own.mkdir()
    code = "def migrate(migrator, database, *, fake=False):\n    migrator.sql({!r})\n"
    (own / "101_trigger.py").write_text(code.format(TRIGGER.replace("evil", "mine")))
    with DatabaseManager(path, migrations_dir=own).initialize() as db:
        db.add(Speaker(name="Ada"))
        saved = db.backup_database(tmp_path / "saved.db")
    db = DatabaseManager(tmp_path / "new.db", migrations_dir=own)
    assert db.restore(saved).saved is None
    assert [one.name for one in db.get_all(Speaker)] == ["Ada"]
    db.close()
    with pytest.raises(DatabaseNewerError):
        DatabaseManager(tmp_path / "other.db").restore(saved)


@pytest.mark.parametrize("is_new", [False, True], ids=["live", "new"])
def test_a_backup_whose_upgrade_fails_replaces_nothing(
    path: Path, tmp_path: Path, *, is_new: bool
) -> None:
    """An older backup is upgraded before it is put in place, or all is as it was."""
    with DatabaseManager(path).initialize() as db:
        db.add(Speaker(name="Ada"))
        saved = db.backup_database(tmp_path / "saved.db")
        db.add(Speaker(name="Bob"))
    own, target = tmp_path / "own", tmp_path / "new.db" if is_new else path
    own.mkdir()
    code = "def migrate(migrator, database, *, fake=False):\n    migrator.sql({!r})\n"
    (own / "101_own.py").write_text(code.format("DROP TABLE absent"))
    before = contents(tmp_path)
    with pytest.raises(MigrationError) as caught:
        DatabaseManager(target, migrations_dir=own).restore(saved)
    said = "migration '101_own' failed: no such table: absent; the database is as it was"
    assert (str(caught.value), contents(tmp_path)) == (said, before)
    (own / "101_own.py").write_text(code.format("CREATE TABLE own (x)"))
    db = DatabaseManager(target, migrations_dir=own)
    db.restore(saved)
    assert [one.name for one in db.get_all(Speaker)] == ["Ada"]
    assert (db.table_exists("own"), db.check()) == (True, [])
    db.close()
    assert [name for name in listing(tmp_path) if "partial" in name] == []


def test_what_sqlite_says_of_an_upgrade_is_a_sentence(path: Path, tmp_path: Path) -> None:
    """Also outside of a migration, whether a backup is restored or the database is upgraded."""
    with DatabaseManager(path).initialize() as db:
        db.execute_raw_query("CREATE TABLE voices_probe (x)", write=True)
        saved = db.backup_database(tmp_path / "saved.db")
    own = tmp_path / "own"
    own.mkdir()
    code = "def migrate(migrator, database, *, fake=False):\n    migrator.sql('SELECT 1')\n"
    (own / "101_own.py").write_text(code)
    db = DatabaseManager(path, migrations_dir=own)
    for call in (partial(db.restore, saved), partial(db.run_migrations, backup=False)):
        with pytest.raises(VoicesError) as caught:
            call()
        said = f'cannot use {str(path)!r}: table "voices_probe" already exists'
        assert str(caught.value) == said
    db.close()


def test_what_sqlite_undid_by_itself_is_told_by_its_reason() -> None:
    """A full disk may end a transaction; that it cannot be rolled back then is not the reason."""
    database = pw.SqliteDatabase(":memory:")
    database.execute_sql("CREATE TABLE t (x UNIQUE)")
    twice = "INSERT OR ROLLBACK INTO t VALUES (1), (1)"
    with pytest.raises(InvalidValueError) as caught, Translated("it"), database.atomic():
        database.execute_sql(twice)
    assert str(caught.value) == "t.x must be unique"
    database.close()


# Another thread forks while the copy is upgraded.
FORKING = """
from tests_of_forks import at_work

def migrate(migrator, database, *, fake=False):
    database.execute_sql("CREATE TABLE own (x)")
    at_work()
"""


def test_a_fork_while_an_older_backup_is_upgraded(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child of another thread does not undo what is under way in the copy of the backup."""
    with DatabaseManager(path).initialize() as db:
        saved = db.backup_database(tmp_path / "saved.db")
    own, upgrading, forked = tmp_path / "own", threading.Event(), threading.Event()
    own.mkdir()
    (own / "101_own.py").write_text(FORKING)

    def at_work() -> None:
        upgrading.set()
        assert forked.wait(30)

    shared = types.ModuleType("tests_of_forks")
    shared.at_work = at_work  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_of_forks", shared)
    db = DatabaseManager(path, migrations_dir=own)
    with ThreadPoolExecutor(1) as pool:
        restored = pool.submit(db.restore, saved)
        assert upgrading.wait(30)
        if (child := os.fork()) == 0:
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
        forked.set()
        restored.result()
    assert (db.table_exists("own"), db.check()) == (True, [])
    db.close()


# Kills the program when a file has its name and has not lost the hidden one yet.
KILL = """
import os, signal, sys
from voices_peewee import DatabaseManager
from voices_peewee.upkeep import whole_files

def kill(folder):
    if os.path.exists(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

whole_files._sync_folder = kill
db = DatabaseManager(sys.argv[3 if sys.argv[1] == "restore" else 2])
db.restore(sys.argv[2]) if sys.argv[1] == "restore" else db.backup_database(sys.argv[3])
"""


@pytest.mark.parametrize("method", ["restore", "backup"])
def test_a_kill_between_two_names(path: Path, copies: Path, method: str) -> None:
    """What a killed program had just placed can be used; the next file there ends its hidden name.

    Looking removes nothing.
    """
    with DatabaseManager(path).initialize() as db:
        db.add(Speaker(name="Ada"))
        saved, new = db.backup_database(copies / "saved.db"), copies / "new.db"
    source = saved if method == "restore" else path
    command = [sys.executable, "-c", KILL, method, str(source), str(new)]
    done = subprocess.run(command, check=False)
    assert (done.returncode, new.stat().st_nlink) == (-signal.SIGKILL, 2)
    with DatabaseManager(new).connect() as db:
        assert [one.name for one in db.get_all(Speaker)] == ["Ada"]
        assert (new.stat().st_nlink, len([*copies.glob(".*")])) == (2, 1)
        db.export(copies / "out.jsonl")
    assert (new.stat().st_nlink, [*copies.glob(".*")]) == (1, [])


def test_a_hidden_name_of_another_file_stays(database: Path) -> None:
    """Neither another file's hidden name goes, nor that under which a file is opened itself."""
    other = database.with_name(f".voices-01234567-1-{'0' * 16}.partial")
    other.write_text("half")
    second = database.with_name("second.db")
    second.hardlink_to(database)
    with pytest.raises(DatabaseError, match="hard link"):
        DatabaseManager(database).connect()
    assert other.read_text() == "half"
    other.unlink()
    second.rename(other)
    with pytest.raises(DatabaseError, match="hard link"):
        DatabaseManager(other).connect()
    assert other.samefile(database)


AWAY = "; move it away with its -wal, and restore again"
REFERENCE = "a row of 'processed_files' refers to a missing row of 'speakers'"


@pytest.mark.parametrize(
    ("make_it", "name", "reason"),
    [
        (
            lambda _: None,
            "no/voices.db",
            "it cannot be read or written (no such file or directory)",
        ),
        (
            lambda folder: (folder / "voices.db-wal").write_bytes(b"old"),
            "voices.db",
            "'voices.db-wal' is there without it; move that away first",
        ),
        (
            lambda folder: truncated(folder / "voices.db"),
            "voices.db",
            f"it cannot be backed up first (database disk image is malformed){AWAY}",
        ),
        (
            lambda folder: references_broken(folder / "voices.db"),
            "voices.db",
            f"it cannot be backed up first ({REFERENCE}){AWAY}",
        ),
        (
            lambda folder: other_application(folder / "voices.db"),
            "voices.db",
            "it is a database of another application (bookmarks)",
        ),
    ],
    ids=["no folder", "left-over wal", "truncated", "broken references", "another application"],
)
def test_what_cannot_be_replaced(
    database: Path, copies: Path, make_it: Callable[[Path], object], name: str, reason: str
) -> None:
    """A place that cannot be restored to is refused with what to do, and left as it is."""
    made = snapshot(database)
    make_it(copies)
    before = contents(copies)
    with pytest.raises(VoicesError) as caught:
        restore(made.path, copies / name, directories=KNOWN)
    reason = reason.format(folder=copies)
    assert str(caught.value) == f"cannot use '{copies / name}': {reason}"
    assert {name: contents(copies).get(name) for name in before} == before


def test_the_database_is_no_backup_of_itself(database: Path, copies: Path) -> None:
    """A database is not restored from itself, whatever its name."""
    (copies / "soft.db").symlink_to(database)
    with pytest.raises(BackupError) as caught:
        restore(copies / "soft.db", database, directories=KNOWN)
    assert str(caught.value) == f"backup '{copies}/soft.db': it is the database itself"


def test_inside_a_transaction(path: Path) -> None:
    """Inside ``atomic()`` a restore is refused for what it is, and the block can go on."""
    with DatabaseManager(path).initialize() as db:
        saved = db.backup_database()
        with db.atomic():
            db.add(Speaker(name="Ada"))
            with pytest.raises(DatabaseError) as caught:
                db.restore(saved)
        assert str(caught.value) == (
            f"cannot use '{path}': a restore is no part of a transaction; "
            "leave the block of atomic() first"
        )
        assert [one.name for one in db.get_all(Speaker)] == ["Ada"]
        db.restore(saved)
        assert db.get_all(Speaker) == []


@pytest.mark.once
def test_restore_waits(database: Path) -> None:
    """A restore waits for another program's transaction, and no longer than the timeout."""
    made = snapshot(database)
    code = """
    import sqlite3
    live = sqlite3.connect(argv[0], isolation_level=None)
    live.execute("BEGIN IMMEDIATE")
    live.execute("UPDATE speakers SET name = 'Theirs'")
    print("locked", flush=True)
    sys.stdin.readline()
    live.execute("COMMIT")
    """
    holder = start(code, database)
    with ended(holder):
        assert await_line(holder) == "locked\n"
        with pytest.raises(DatabaseBusyError) as caught:
            restore(made.path, database, directories=KNOWN, timeout=0.5)
        assert str(caught.value) == (
            f"cannot use '{database}': another program held its lock for more than 0.5 s; "
            "end that program or raise the timeout"
        )
        assert list_backups(database) == [made]
        call = "print(restore.restore(argv[0], argv[1], directories=KNOWN)[0].path)"
        waiting = start(call, made.path, database)
        with ended(waiting):
            time.sleep(0.7)
            assert waiting.poll() is None
            assert finish(holder)[0] == 0
            code_, out, err = finish(waiting)
    assert (code_, err) == (0, "")
    assert speakers(Path(out.strip())) == ["Theirs"] * 3
    assert speakers(database) == ["Ada", "Bob", "Cleo"]


WRITER = """
import sqlite3
live = sqlite3.connect(argv[0], timeout=30, isolation_level=None)
for number in range(10**9):
    live.execute("INSERT INTO speakers (name) VALUES (?)", (f"row {number}",))
    print(number, flush=True)
"""
READER = """
import sqlite3
live = sqlite3.connect(argv[0], timeout=30, isolation_level=None)
for number in range(10**9):
    assert live.execute("SELECT count(*) FROM processed_files").fetchone() in [(4,), (3000,)]
    assert live.execute("PRAGMA quick_check").fetchone() == ("ok",)
    if number == 3:
        print("running", flush=True)
"""


@pytest.mark.once
def test_while_others_work(tmp_path: Path) -> None:
    """Open programs read and write through a restore; no acknowledged row falls between."""
    path = make(tmp_path / "voices.db", files=3000)
    made = snapshot(make(tmp_path / "old.db"), tmp_path)
    reader, writer = start(READER, path), start(WRITER, path)
    with ended(reader, writer):
        assert (await_line(reader), await_line(writer)) == ("running\n", "0\n")
        saved, heard = [], ["0"]
        for _ in range(3):
            heard += [await_line(writer) for _ in range(5)]  # it writes between and meanwhile
            present, _ = restore(made.path, path, directories=KNOWN)
            assert present is not None
            saved.append(present.path)
        assert (reader.poll(), writer.poll()) == (None, None)
        time.sleep(0.2)
        assert (reader.poll(), writer.poll()) == (None, None)
        writer.terminate()
        _, out, err = finish(writer)
        reader.terminate()
        assert (err, finish(reader)[2]) == ("", "")
    acknowledged = {f"row {line.strip()}" for line in [*heard, *out.split()]}
    kept = {name for one in (*saved, path) for name in speakers(one)}
    assert len(acknowledged) > 10
    assert acknowledged - kept == set()
    assert (integrity(path), execute(path, "PRAGMA journal_mode")) == ("ok", [("wal",)])


def test_a_cancelled_restore(database: Path) -> None:
    """What progress raises ends a restore, and the database stays as it was."""
    made = snapshot(database)
    execute(database, "UPDATE speakers SET name = 'Present'")

    def fail(_done: int, _total: int) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match=r"^no$"):
        restore(made.path, database, directories=KNOWN, progress=fail)
    assert (speakers(database), integrity(database)) == (["Present"] * 3, "ok")
