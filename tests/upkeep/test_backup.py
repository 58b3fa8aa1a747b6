"""Backups: taken while others write, verified, listed and kept."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.backups import (
    KNOWN,
    await_line,
    contents,
    ended,
    execute,
    finish,
    listing,
    make,
    other_application,
    page_broken,
    references_broken,
    speakers,
    start,
)

from voices_peewee import DatabaseManager
from voices_peewee.errors import (
    BackupError,
    DatabaseDamagedError,
    InvalidValueError,
)
from voices_peewee.migrations.runner import names
from voices_peewee.upkeep.backup import Backup, list_backups, snapshot, verify

pytestmark = pytest.mark.sqlite("a server is backed up by its own tools")


def test_a_backup_is_the_database_and_its_digest(database: Path, copies: Path) -> None:
    """A backup is one SQLite file and a line that sha256sum reads, for their owner only."""
    before = datetime.now(UTC)
    made = snapshot(database, copies / "a.db")
    data = (copies / "a.db").read_bytes()
    assert made == Backup(
        path=copies / "a.db",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        created=made.created,
        source=str(database),
        migrations=tuple(names(KNOWN)),
        rows={"processed_files": 4, "schema_migrations": len(names(KNOWN)), "speakers": 3},
    )
    assert before <= made.created <= datetime.now(UTC)
    assert (copies / "a.db.sha256").read_text() == (
        f"# voices backup of {database}\n{made.sha256}  a.db\n"
    )
    assert listing(copies) == ["a.db", "a.db.sha256"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in copies.iterdir()} == {0o600}
    assert speakers(copies / "a.db") == ["Ada", "Bob", "Cleo"]
    assert execute(copies / "a.db", "PRAGMA journal_mode") == [("delete",)]


@pytest.mark.parametrize("name", ["a.db", "Stimmen ü.db"])
def test_sha256sum_checks_a_backup(database: Path, copies: Path, name: str) -> None:
    """The system's own tool confirms the digest, whatever the backup is called."""
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    snapshot(database, copies / name)
    words = ["sha256sum", "--check", "--strict", "--status", f"{name}.sha256"]
    assert subprocess.run(words, cwd=copies, check=False).returncode == 0
    with (copies / name).open("ab") as file:
        file.write(b"x")
    assert subprocess.run(words, cwd=copies, check=False).returncode == 1


def test_dated_names(database: Path) -> None:
    """Without a target the local time names the backup, with a number within one second."""
    names: list[str] = []
    while not any(name.endswith("_2.db") for name in names) and len(names) < 20:
        names.append(snapshot(database).path.name)
    assert all(re.fullmatch(r"voices_backup_\d{8}_\d{6}(_[2-9])?\.db", name) for name in names)
    assert names[-1] == names[-2].replace(".db", "_2.db")
    local = datetime.strptime(names[0][14:29], "%Y%m%d_%H%M%S").astimezone()
    assert abs(datetime.now(UTC) - local) < timedelta(minutes=5)
    expected = [name + end for name in names for end in ("", ".sha256")]
    assert listing(database.parent) == sorted([*expected, "voices.db"])


def test_progress(tmp_path: Path, copies: Path) -> None:
    """Progress is told in bytes, rises, and ends at the size of the backup."""
    seen: list[tuple[int, int]] = []
    made = snapshot(
        make(tmp_path / "v.db", files=9000), copies, progress=lambda *now: seen.append(now)
    )
    assert len(seen) == 5
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ((4 << 20, made.size), (made.size, made.size))


def test_progress_cancels(database: Path, copies: Path) -> None:
    """What progress raises comes out as it is, and no file is left."""

    def fail(_done: int, _total: int) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match=r"^no$"):
        snapshot(database, copies, progress=fail)
    assert listing(copies) == []


TARGETS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "file": (
        lambda path: path.write_text("mine"),
        "a.db",
        "there is a file 'a.db' already; choose another name",
    ),
    "digest": (
        lambda path: path.with_name("a.db.sha256").write_text("mine"),
        "a.db",
        "there is a file 'a.db.sha256' already; choose another name",
    ),
    "left-over-wal": (
        lambda path: path.with_name("a.db-wal").write_text("old"),
        "a.db",
        "'a.db-wal' beside it would be read as part of it; choose another name",
    ),
    "the database's": (lambda _: None, "../data/voices.db-wal", "the name belongs to the database"),
    "no folder": (
        lambda _: None,
        "no/a.db",
        "it cannot be read or written (no such file or directory)",
    ),
}


@pytest.mark.parametrize(("make_it", "name", "reason"), TARGETS.values(), ids=TARGETS)
def test_refused_targets(
    database: Path, copies: Path, make_it: Callable[[Path], object], name: str, reason: str
) -> None:
    """A target that is taken, would do harm or cannot be is refused and left as it is."""
    target = copies / name
    make_it(target)
    names = listing(copies), listing(database.parent)
    with pytest.raises(BackupError) as caught:
        snapshot(database, target)
    assert str(caught.value) == f"backup '{target.resolve()}': {reason}"
    assert (listing(copies), listing(database.parent)) == names


COUNTERS = """
import sqlite3
live = sqlite3.connect(argv[0], timeout=30, isolation_level=None)
for number in range(1, 10**9):
    live.execute("BEGIN IMMEDIATE")
    live.execute("UPDATE counters SET x = ? WHERE id = 1", (number,))
    live.execute("UPDATE counters SET x = ? WHERE id = 2", (number,))
    live.execute("INSERT INTO speakers (name) VALUES ('more')")
    live.execute("COMMIT")
    if number == 10:
        print("running", flush=True)
"""


def test_consistent_while_written(tmp_path: Path, copies: Path) -> None:
    """A backup taken while another program writes holds no half of a transaction."""
    path = make(tmp_path / "voices.db", files=3000)
    execute(path, "CREATE TABLE counters AS SELECT id, 0 AS x FROM speakers WHERE id < 3")
    writer = start(COUNTERS, path)
    with ended(writer):
        assert await_line(writer) == "running\n"
        made = [snapshot(path, copies / f"{number}.db") for number in range(5)]
        assert writer.poll() is None
    values = [execute(one.path, "SELECT x FROM counters ORDER BY id") for one in made]
    assert all(first == second for first, second in values)
    assert len({first for first, _ in values}) == 5
    assert [verify(one.path) for one in made] == made


def test_keep(database: Path, copies: Path) -> None:
    """Only the newest backups of this database stay, and everything else is left alone."""
    other = snapshot(make(database.with_name("other.db")), copies / "other.db")
    made = [snapshot(database, copies / f"{number}.db") for number in range(6)]
    (copies / "0.db.sha256").unlink()
    with made[1].path.open("ab") as file:
        file.write(b"grown")
    made[2].path.rename(copies / "elsewhere")
    made[2].path.symlink_to("elsewhere")
    (copies / "notes.txt").write_text("mine")

    last = snapshot(database, copies / "last.db", keep=2)
    assert [path for path in map(str, (3, 4, 5, 0)) if (copies / f"{path}.db").exists()] == ["0"]
    assert {"1.db", "2.db", "elsewhere", "notes.txt", "other.db"} < set(listing(copies))
    assert [verify(one.path) for one in (other, last)] == [other, last]
    os.utime(last.path, (4e9, 4e9))  # the clock was turned back
    assert snapshot(database, copies / "new.db", keep=1).path.exists()
    assert not last.path.exists()
    with pytest.raises(InvalidValueError) as caught:
        snapshot(database, copies, keep=0)
    assert str(caught.value) == "keep must be 1 or more backups, not 0"


def test_another_record_at_the_same_path_keeps_its_backups(tmp_path: Path, copies: Path) -> None:
    """Two hosts whose records have one path, as in a home, may back up into one folder."""
    database = tmp_path / "voices.db"
    DatabaseManager(database).initialize().close()
    theirs = snapshot(database, copies / "theirs.db")
    database.unlink()
    DatabaseManager(database).initialize().close()
    for name in ("ours.db", "new.db"):
        snapshot(database, copies / name, keep=1)
    assert listing(copies) == ["new.db", "new.db.sha256", "theirs.db", "theirs.db.sha256"]
    assert verify(theirs.path) == theirs


def test_a_moved_database_has_its_backups(database: Path) -> None:
    """What lies beside a database whose folder was moved is listed, and counts for keep."""
    made = [snapshot(database) for _ in range(2)]
    moved = Path(database.parent.rename(database.parent.with_name("moved")), database.name)
    found = list_backups(moved)
    assert [one.source for one in found] == [str(database)] * 2
    assert [one.path.name for one in found] == [one.path.name for one in made[::-1]]
    last = snapshot(moved, keep=2)
    assert list_backups(moved) == [last, found[0]]


def test_a_copy_elsewhere_keeps_its_backups(database: Path, copies: Path) -> None:
    """In a folder of several hosts a path that is not there may be another host's copy."""
    other = copies / "other" / database.name
    other.parent.mkdir()
    shutil.copy(database, other)
    theirs = snapshot(other, copies / "theirs.db")
    shutil.rmtree(other.parent)
    snapshot(database, copies / "ours.db", keep=1)
    assert verify(theirs.path).path == theirs.path


def test_a_failed_backup_removes_nothing(database: Path, copies: Path) -> None:
    """Older backups stay when the new one fails."""
    made = snapshot(database)
    execute(database, "DELETE FROM speakers WHERE id = 3")
    with pytest.raises(DatabaseDamagedError):
        snapshot(database, copies / "b.db", keep=1)
    assert list_backups(database) == [made]


def test_no_backup_goes_for_one_that_restore_refuses(database: Path, copies: Path) -> None:
    """Of an index that lacks a row only the whole check knows, which restore makes as well."""
    made = snapshot(database)
    index_broken(database)
    with pytest.raises(DatabaseDamagedError) as caught:
        snapshot(database, copies / "b.db", keep=1)
    assert str(caught.value) == (
        f"cannot use '{database}': the file is damaged (row 3 missing from index"
        " processed_files_filename); restore a backup with 'voices restore'"
    )
    assert (list_backups(database), listing(copies)) == ([made], [])


def test_list(database: Path, copies: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Listed are the backups of the database that lie beside it and can be read; newest first."""
    beside = [snapshot(database), snapshot(database)]
    snapshot(make(copies / "other.db"), database.parent)
    snapshot(database, copies)
    (database.parent / "model.bin").touch()
    (database.parent / "model.bin.sha256").write_text(f"{'0' * 64}  model.bin\n")
    (database.parent / "gone.db.sha256").write_text("gone")
    assert list_backups(database) == beside[::-1]
    beside[0].path.write_bytes(b"no database")
    with caplog.at_level(logging.WARNING):
        assert list_backups(database) == beside[1:]
    (told,) = caplog.messages
    assert told.startswith(f"'{beside[0].path}' is not listed: it cannot be read (")
    with pytest.raises(BackupError) as caught:
        list_backups(copies / "no" / "voices.db")
    assert str(caught.value) == (
        f"backup '{copies}/no': it cannot be read or written (no such file or directory)"
    )


def test_a_backup_is_verified(database: Path, copies: Path) -> None:
    """A backup verifies to what was made, also by a link, and no byte or file changes."""
    made = snapshot(database, copies / "a.db")
    (copies / "latest").symlink_to("a.db")
    before = contents(copies)
    assert verify(copies / "a.db") == made
    assert verify(copies / "latest") == replace(made, path=copies / "latest")
    assert contents(copies) == before


def test_a_backup_without_its_digest(database: Path, copies: Path) -> None:
    """A backup alone is checked in itself; a line of sha256sum vouches for it again."""
    made = snapshot(database, copies / "a.db")
    (copies / "a.db.sha256").unlink()
    assert verify(copies / "a.db") == replace(made, source="")
    (copies / "a.db.sha256").write_text(f"{made.sha256} *a.db\n")
    assert verify(copies / "a.db") == replace(made, source="")
    (copies / "a.db.sha256").write_text(f"{'0' * 64}  a.db\n")
    with pytest.raises(BackupError):
        verify(copies / "a.db")


def flip(path: Path, offset: int) -> None:
    """Change one byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x55]))


def anew(create: Callable[[Path], object]) -> Callable[[Path], object]:
    """Create something else in place of the backup and its digest."""

    def act(path: Path) -> None:
        path.unlink()
        path.with_name(f"{path.name}.sha256").unlink()
        create(path)

    return act


def alone(damage: Callable[[Path], object]) -> Callable[[Path], object]:
    """Damage a backup whose digest is gone."""

    def act(path: Path) -> None:
        path.with_name(f"{path.name}.sha256").unlink()
        damage(path)

    return act


def index_broken(path: Path) -> None:
    data = path.read_bytes()
    flip(path, data.index(b"000002-", data.index(b"000002-") + 1) + 5)


CHANGED = "its digest is not that of 'a.db.sha256'; it was changed"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (
        anew(lambda _: None),
        "it cannot be read or written (no such file or directory)",
    ),
    "directory": (anew(Path.mkdir), "it is not a file"),
    "flipped-page": (lambda path: flip(path, 3 * 4096 + 3000), CHANGED),
    "broken-digest": (lambda path: path.with_name("a.db.sha256").write_text("?"), CHANGED),
    "truncated-alone": (
        alone(lambda path: os.truncate(path, 8192)),
        "it is damaged (database disk image is malformed)",
    ),
    "broken-page": (
        anew(page_broken),
        "it is damaged (Page 6: btreeInitPage() returns error code 11)",
    ),
    "index": (
        alone(index_broken),
        "it is damaged (row 3 missing from index processed_files_filename)",
    ),
    "references": (
        anew(references_broken),
        "it is damaged (a row of 'processed_files' refers to a missing row of 'speakers')",
    ),
    "other-application": (
        anew(other_application),
        "it has no migrations of Voices; see 'voices import'",
    ),
    "in-use": (
        lambda path: Path(f"{path}-wal").touch(),
        "'a.db-wal' beside it says that it is in use as a database; close the program that uses it",
    ),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_refused_backups(
    database: Path, copies: Path, damage: Callable[[Path], object], reason: str
) -> None:
    """Each damage has its sentence, and verifying changes no byte."""
    path = snapshot(database, copies / "a.db").path
    damage(path)
    before = contents(copies)
    with pytest.raises(BackupError) as caught:
        verify(path)
    told = re.sub(r"Tree \d+ page", "Page", str(caught.value))  # as newer SQLites say
    assert told == f"backup '{path}': {reason}"
    assert contents(copies) == before


def test_an_open_database_is_no_backup(path: Path, copies: Path) -> None:
    """A file that this process has open, under whatever name, is never read as a backup."""
    with DatabaseManager(path).initialize() as db:
        (copies / "soft.db").symlink_to(path)
        for name in (path, copies / "soft.db"):
            with pytest.raises(BackupError) as caught:
                db.verify_backup(name)
            assert str(caught.value) == f"backup '{name}': it is the database itself"


def test_a_programs_last_word(tmp_path: Path) -> None:
    """A backup is made as a program ends, too, when no thread can be started any more."""
    code = """
    import atexit
    from voices_peewee import DatabaseManager
    db = DatabaseManager(argv[0]).initialize()
    atexit.register(lambda: print(db.backup_database()))
    """
    process = start(code, tmp_path / "voices.db")
    with ended(process):
        code_, out, err = finish(process)
    assert (code_, Path(out.strip()).is_file(), err) == (0, True, "")


def test_ctrl_c_in_a_check(tmp_path: Path) -> None:
    """Ctrl-C ends a long check at once and as Ctrl-C."""
    path = make(tmp_path / "voices.db")
    execute(
        path,
        "CREATE VIEW endless AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x FROM n)"
        " SELECT x FROM n",
    )
    code = """
    backup._COUNT = 'SELECT count(*) FROM endless WHERE "{}" IS NOT NULL'
    print("running", flush=True)
    backup.verify(argv[0])
    """
    process = start(code, path)
    with ended(process):
        await_line(process)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        code_, _, err = finish(process)
    assert (code_, err.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")
