"""Backups: taken while others write, verified, kept, and put back."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from voices_peewee._version import __version__
from voices_peewee.errors import (
    BackupError,
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseFullError,
    DatabaseMissingError,
    DatabaseNewerError,
    InvalidValueError,
    NotVoicesError,
    VoicesError,
)
from voices_peewee.upkeep import backup
from voices_peewee.upkeep import copying as backup_copy
from voices_peewee.upkeep import places as backup_place
from voices_peewee.upkeep import restoring as backup_restore
from voices_peewee.upkeep.backup import Backup, list_backups, restore, snapshot, verify

pytestmark = pytest.mark.sqlite(
    "the copies, digests and locks of one file; on a server see test_postgres_backup"
)

ROOT = Path(backup.__file__).parents[2]
KNOWN = ["001_initial", "002_language"]
SCHEMA = """
CREATE TABLE schema_migrations (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE speakers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE processed_files (
    id INTEGER PRIMARY KEY, filename TEXT, speaker_id INTEGER REFERENCES speakers (id)
);
CREATE INDEX processed_files_filename ON processed_files (filename);
INSERT INTO schema_migrations (name) VALUES ('001_initial');
INSERT INTO speakers (name) VALUES ('Ada'), ('Bob'), ('Cleo');
"""


def make(path: Path, *, files: int = 4, page_size: int = 4096, mode: str = "wal") -> Path:
    """Create a small database in the manner of Voices."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.executescript(SCHEMA)
        rows = [(f"{n:06}-{'x' * 900}.wav", 1 + n % 3) for n in range(files)]
        connection.executemany(
            "INSERT INTO processed_files (filename, speaker_id) VALUES (?, ?)", rows
        )
        connection.commit()
    return path


def execute(path: Path, sql: str) -> list[tuple[object, ...]]:
    """Run one statement in a connection of its own."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        rows = connection.execute(sql).fetchall()
        connection.commit()
    return rows


def speakers(path: Path) -> list[object]:
    """Return the names of all speakers."""
    return [name for (name,) in execute(path, "SELECT name FROM speakers ORDER BY id")]


def listing(folder: Path) -> list[str]:
    """Return the names of all files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def integrity(path: Path) -> object:
    """Return SQLite's own verdict."""
    return execute(path, "PRAGMA integrity_check")[0][0]


def start(code: str, *args: object, wrap: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Run Python code, in which ``argv`` holds the arguments, in another process."""
    head = "import sys\nfrom pathlib import Path\n"
    head += "from voices_peewee import backup, backup_copy, errors\n"
    head += "argv = [Path(word) for word in sys.argv[1:]]\n"
    return subprocess.Popen(
        [*wrap, sys.executable, "-c", head + textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process; return its exit code and both streams."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def await_line(process: subprocess.Popen[str]) -> str:
    """Read the next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline()


@contextmanager
def ended(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """End the processes whatever happens."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database in a folder of its own."""
    (tmp_path / "data").mkdir()
    return make(tmp_path / "data" / "voices.db")


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Return an empty folder for backups."""
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies"


# Snapshots


def test_facts(database: Path, copies: Path) -> None:
    """A backup is the database and its facts, in two files for their owner only."""
    before = datetime.now(UTC)
    made = snapshot(database, copies / "a.db")

    data = (copies / "a.db").read_bytes()
    assert made == Backup(
        path=copies / "a.db",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        created=made.created,
        source=str(database),
        migrations=("001_initial",),
        rows={"processed_files": 4, "schema_migrations": 1, "speakers": 3},
        version=__version__,
    )
    assert before <= made.created <= datetime.now(UTC)
    assert made.created.tzinfo is UTC
    assert made.has_facts
    assert (copies / "a.db.json").read_text("utf-8") == textwrap.dedent(
        f"""\
        {{
          "format": "voices-backup",
          "file": "a.db",
          "size": {len(data)},
          "sha256": "{made.sha256}",
          "created": "{made.created.isoformat(timespec="microseconds")}",
          "source": "{database}",
          "migrations": [
            "001_initial"
          ],
          "rows": {{
            "processed_files": 4,
            "schema_migrations": 1,
            "speakers": 3
          }},
          "version": "{__version__}"
        }}
        """
    )
    assert listing(copies) == ["a.db", "a.db.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in copies.iterdir()} == {0o600}
    assert speakers(copies / "a.db") == ["Ada", "Bob", "Cleo"]
    assert execute(copies / "a.db", "PRAGMA journal_mode") == [("delete",)]


def test_source_is_untouched(database: Path, copies: Path) -> None:
    """A backup changes no byte of the database and leaves nothing beside it."""
    before = contents(database.parent)
    snapshot(database, copies)
    assert contents(database.parent) == before


def test_wal_is_included(database: Path, copies: Path) -> None:
    """What stands only in the -wal file is in the backup."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO speakers (name) VALUES ('Dora')")
        connection.commit()
        made = snapshot(database, copies)
    assert speakers(made.path) == ["Ada", "Bob", "Cleo", "Dora"]


def test_dated_names(database: Path) -> None:
    """Without a target the local time names the backup, with a number within one second."""
    names = []
    while not any(name.endswith("_2.db") for name in names) and len(names) < 20:
        names.append(snapshot(database).path.name)
    assert all(re.fullmatch(r"voices_backup_\d{8}_\d{6}(_[2-9])?\.db", name) for name in names)
    assert names[-1] == names[-2].replace(".db", "_2.db")
    local = datetime.strptime(names[0][14:29], "%Y%m%d_%H%M%S").astimezone()
    assert abs(datetime.now(UTC) - local) < timedelta(minutes=5)
    expected = [name + end for name in names for end in ("", ".json")]
    assert listing(database.parent) == sorted([*expected, "voices.db"])


@pytest.mark.parametrize("linked", [False, True], ids=["folder", "link-to-folder"])
def test_folder_as_target(database: Path, copies: Path, linked: bool) -> None:
    """A folder as target receives a dated backup."""
    target = copies
    if linked:
        target = copies.parent / "link"
        target.symlink_to(copies)
    made = snapshot(database, target)
    assert made.path.parent == copies
    assert listing(copies) == [made.path.name, f"{made.path.name}.json"]


def test_linked_database(database: Path, tmp_path: Path) -> None:
    """A database reached through a link is named and accompanied at its real place."""
    (tmp_path / "link.db").symlink_to(database)
    made = snapshot(tmp_path / "link.db")
    assert (made.source, made.path.parent) == (str(database), database.parent)
    assert list_backups(tmp_path / "link.db") == [made]


@pytest.mark.parametrize(
    "name", ["a?b#c%20 d.db", "Stimmen ü.db", "-x.db", os.fsdecode(b"\xff.db")]
)
def test_strange_names(tmp_path: Path, name: str) -> None:
    """Any file name works, for the database and for the backup."""
    (tmp_path / "x").mkdir()
    made = snapshot(make(tmp_path / name), tmp_path / "x" / name)
    assert verify(tmp_path / "x" / name) == made
    assert listing(tmp_path / "x") == sorted([name, f"{name}.json"])


def test_strange_tables(database: Path, copies: Path) -> None:
    """Tables with quotes in their names and virtual tables do not stop a backup."""
    execute(database, 'CREATE TABLE "a""b c" (x)')
    execute(database, "CREATE VIRTUAL TABLE words USING fts5(word)")
    rows = snapshot(database, copies).rows
    assert (rows['a"b c'], "words" in rows, rows["words_content"]) == (0, False, 0)


def test_progress(tmp_path: Path, copies: Path) -> None:
    """Progress is told in bytes, rises, and ends at the size of the backup."""
    seen: list[tuple[int, int]] = []
    made = snapshot(
        make(tmp_path / "v.db", files=9000), copies, progress=lambda *now: seen.append(now)
    )
    assert len(seen) == 5
    assert seen == sorted(seen)
    assert seen[0] == (4 << 20, made.size)
    assert seen[-1] == (made.size, made.size)


@pytest.mark.parametrize("error", [RuntimeError("no"), OSError(errno.ENOSPC, "mine")], ids=repr)
def test_progress_cancels(database: Path, copies: Path, error: Exception) -> None:
    """What progress raises comes out as it is, and no file is left."""

    def fail(_done: int, _total: int) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        snapshot(database, copies, progress=fail)
    assert caught.value is error
    assert listing(copies) == []


def test_overwrite(database: Path, copies: Path) -> None:
    """With ``overwrite`` the new backup and its facts replace the old ones."""
    snapshot(database, copies / "a.db")
    execute(database, "INSERT INTO speakers (name) VALUES ('Dora')")
    made = snapshot(database, copies / "a.db", overwrite=True)
    assert verify(copies / "a.db") == made
    assert made.rows["speakers"] == 4
    assert listing(copies) == ["a.db", "a.db.json"]


def test_overwrite_of_nothing(database: Path, copies: Path) -> None:
    """With ``overwrite`` a free name is as good."""
    made = snapshot(database, copies / "a.db", overwrite=True)
    assert verify(copies / "a.db") == made
    assert listing(copies) == ["a.db", "a.db.json"]


def test_overwrite_of_a_link(database: Path, copies: Path, tmp_path: Path) -> None:
    """Overwriting a link replaces the link, not what it points to."""
    (tmp_path / "precious").write_text("mine")
    (copies / "a.db").symlink_to(tmp_path / "precious")
    snapshot(database, copies / "a.db", overwrite=True)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (copies / "a.db").is_symlink()
    verify(copies / "a.db")


def test_without_links(database: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without hard links, such as a USB stick's, takes backups as well."""

    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    made = snapshot(database, copies / "a.db")
    assert verify(copies / "a.db") == made
    assert listing(copies) == ["a.db", "a.db.json"]
    (copies / "other").touch()
    assert not backup_place.link(copies / "other", copies / "a.db")
    assert verify(copies / "a.db") == made


# What cannot be backed up


def truncated(path: Path) -> None:
    """Cut a database in half."""
    make(path, files=50)
    os.truncate(path, path.stat().st_size // 2)


def foreign_keys_broken(path: Path) -> None:
    """Make a row that refers to nothing."""
    make(path)
    execute(path, "DELETE FROM speakers WHERE id = 3")


def foreign_keys_mismatched(path: Path) -> None:
    """Make a table that SQLite cannot check."""
    make(path)
    execute(path, "CREATE TABLE x (y REFERENCES speakers (name))")


def index_broken(path: Path) -> None:
    """Make a page of the database nonsense."""
    make(path, files=50)
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096)


def schema_broken(path: Path) -> None:
    """Make the first page nonsense, behind its header."""
    make(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3996)


def schema_not_utf8(path: Path) -> None:
    """Make a letter of the schema a byte that no text has."""
    make(path)
    path.write_bytes(path.read_bytes().replace(b"CREATE INDEX", b"CREATE INDE\xac"))


def other_application(path: Path) -> None:
    """Make a database of another application."""
    execute(path, "CREATE TABLE bookmarks (url)")


def other_migrations(path: Path) -> None:
    """Make a database of another application that happens to have such a table."""
    execute(path, "CREATE TABLE schema_migrations (version)")


def loop(path: Path) -> None:
    """Make a link to itself."""
    path.symlink_to(path)


USE = "cannot use '{path}': "
SOURCES: dict[str, tuple[Callable[[Path], object], type[VoicesError], str]] = {
    "missing": (
        lambda _: None,
        DatabaseMissingError,
        USE + "there is no database; run 'voices init' to create it",
    ),
    "directory": (Path.mkdir, NotVoicesError, USE + "it is a directory"),
    "fifo": (os.mkfifo, NotVoicesError, USE + "it is not a regular file"),
    "empty": (Path.touch, NotVoicesError, USE + "the file is empty"),
    "loop": (
        loop,
        DatabaseError,
        USE + "it cannot be read (too many levels of symbolic links)",
    ),
    "text": (
        lambda path: path.write_text("id,name\n" * 1000),
        NotVoicesError,
        USE + "it is not an SQLite database",
    ),
    "other-application": (
        other_application,
        NotVoicesError,
        USE + "it is not a Voices database (no table 'schema_migrations')",
    ),
    "other-migrations": (
        other_migrations,
        NotVoicesError,
        USE + "it is not a Voices database (no table 'schema_migrations')",
    ),
    "truncated": (
        truncated,
        DatabaseDamagedError,
        USE + "the file is damaged (database disk image is malformed); restore a backup",
    ),
    "schema-not-utf8": (
        schema_not_utf8,
        DatabaseDamagedError,
        USE + "the file is damaged (a name in it is not UTF-8); restore a backup",
    ),
    "foreign-key-mismatch": (
        foreign_keys_mismatched,
        DatabaseError,
        USE + """SQLite reports 'foreign key mismatch - "x" referencing "speakers"'""",
    ),
    "foreign-keys": (
        foreign_keys_broken,
        DatabaseDamagedError,
        USE + "the file is damaged (a row of 'processed_files' refers to a missing row of "
        "'speakers'); restore a backup",
    ),
}


@pytest.mark.parametrize(("make_it", "kind", "message"), SOURCES.values(), ids=SOURCES)
def test_refused_sources(
    tmp_path: Path,
    copies: Path,
    make_it: Callable[[Path], object],
    kind: type[VoicesError],
    message: str,
) -> None:
    """What is not a sound Voices database is refused in one sentence and left as it is."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "voices.db"
    make_it(path)
    before = contents(path.parent)
    with pytest.raises(VoicesError) as caught:
        snapshot(path, copies)
    assert (type(caught.value), str(caught.value)) == (kind, message.format(path=path))
    assert contents(path.parent) == before
    assert listing(copies) == []


def test_locked_source(database: Path, copies: Path) -> None:
    """An exclusive lock of another program ends the waiting at the timeout."""
    execute(database, "PRAGMA journal_mode=DELETE")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseBusyError) as caught:
            snapshot(database, copies, timeout=0.1)
    assert str(caught.value) == (
        f"cannot use '{database}': another program held its lock for more than 0.1 s; "
        "end that program or raise the timeout"
    )
    assert listing(copies) == []


@pytest.mark.parametrize("keep", [0, -1])
def test_keep_nothing(database: Path, copies: Path, keep: int) -> None:
    """Keeping no backup at all is refused before one is made."""
    with pytest.raises(InvalidValueError) as caught:
        snapshot(database, copies, keep=keep)
    assert str(caught.value) == f"keep must be 1 or more backups, not {keep}"
    assert listing(copies) == []


# Targets that are refused

TARGETS: dict[str, tuple[Callable[[Path, Path], object], bool, str]] = {
    "file": (
        lambda path, _: path.write_text("mine"),
        False,
        "there is a file 'a.db' already; choose another name",
    ),
    "facts": (
        lambda path, _: path.with_name("a.db.json").write_text("mine"),
        False,
        "there is a file 'a.db.json' already; choose another name",
    ),
    "link": (
        lambda path, _: path.symlink_to("nowhere"),
        False,
        "there is a file 'a.db' already; choose another name",
    ),
    "database-by-link": (
        lambda path, database: path.symlink_to(database),
        True,
        "it is the database itself",
    ),
    "database-by-hard-link": (
        lambda path, database: path.hardlink_to(database),
        True,
        "it is the database itself",
    ),
    "left-over-wal": (
        lambda path, _: path.with_name("a.db-wal").write_text("old"),
        False,
        "'a.db-wal' beside it would be read as part of it; choose another name",
    ),
    "fifo": (lambda path, _: os.mkfifo(path), True, "it is not a regular file"),
}


@pytest.mark.parametrize(("make_it", "overwrite", "reason"), TARGETS.values(), ids=TARGETS)
def test_refused_targets(
    database: Path,
    copies: Path,
    make_it: Callable[[Path, Path], object],
    overwrite: bool,
    reason: str,
) -> None:
    """A target that is taken or would do harm is refused and left as it is."""
    target = copies / "a.db"
    make_it(target, database)
    before, names = hashlib.sha256(database.read_bytes()).digest(), listing(copies)
    with pytest.raises(BackupError) as caught:
        snapshot(database, target, overwrite=overwrite)
    assert str(caught.value) == f"backup '{target}': {reason}"
    assert listing(copies) == names
    assert hashlib.sha256(database.read_bytes()).digest() == before


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_names_of_the_database(database: Path, suffix: str) -> None:
    """A backup never takes a name that SQLite would read as part of the database."""
    target = Path(f"{database}{suffix}")
    with pytest.raises(BackupError) as caught:
        snapshot(database, target)
    assert str(caught.value) == f"backup '{target}': the name belongs to the database"
    assert listing(database.parent) == ["voices.db"]


def test_no_folder(database: Path, copies: Path) -> None:
    """A folder that is not there is named, and not made."""
    with pytest.raises(BackupError) as caught:
        snapshot(database, copies / "no" / "a.db")
    assert str(caught.value) == f"backup '{copies}/no/a.db': there is no folder '{copies}/no'"
    assert listing(copies) == []


def test_too_long_a_name(database: Path, copies: Path) -> None:
    """A name that the file system refuses is refused in one sentence."""
    target = copies / ("a" * 250)
    with pytest.raises(BackupError) as caught:
        snapshot(database, target)
    assert str(caught.value) == (
        f"backup '{target}': it cannot be read or written (file name too long)"
    )


# Permissions and space

REPORT = """
try:
    {call}
except errors.VoicesError as error:
    print(type(error).__name__, error, sep=": ")
"""
UNPRIVILEGED = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if not os.geteuid() else ()
needs_permissions = pytest.mark.skipif(
    bool(UNPRIVILEGED) and shutil.which("setpriv") is None,
    reason="root is refused nothing, and setpriv is not there",
)


def report(call: str, *args: Path) -> str:
    """Return what a call raises in a process that permissions hold for."""
    code, out, err = finish(start(REPORT.format(call=call), *args, wrap=UNPRIVILEGED))
    assert (code, err) == (0, "")
    return out


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    """Change the permissions of a path for a while."""
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


@needs_permissions
@pytest.mark.parametrize("bits", [0o555, 0o333, 0o000], ids=["no-write", "no-read", "nothing"])
def test_refusing_folder(database: Path, copies: Path, bits: int) -> None:
    """A folder that cannot be read and written is refused in one sentence."""
    with mode(copies, bits):
        told = report("backup.snapshot(argv[0], argv[1] / 'a.db')", database, copies)
    assert told == (
        f"BackupError: backup '{copies}/a.db': it cannot be read or written (permission denied)\n"
    )
    assert listing(copies) == []


@needs_permissions
def test_unreadable_database(database: Path, copies: Path) -> None:
    """A database that may not be read is refused in one sentence."""
    with mode(database, 0o000):
        told = report("backup.snapshot(argv[0], argv[1])", database, copies)
    assert told == (
        f"DatabaseReadOnlyError: cannot use '{database}': it is read-only; "
        "check the permissions of the file and its folder\n"
    )
    assert listing(copies) == []


@needs_permissions
def test_unreachable_database(database: Path, copies: Path) -> None:
    """A database in a closed folder is refused in one sentence."""
    with mode(database.parent, 0o000):
        told = report("backup.snapshot(argv[0], argv[1])", database, copies)
    assert told == (
        f"DatabaseReadOnlyError: cannot use '{database}': it is read-only; "
        "check the permissions of the file and its folder\n"
    )


@needs_permissions
def test_read_only_database(database: Path, copies: Path) -> None:
    """A database that may be read but not written is backed up, and is not replaced."""
    execute(database, "PRAGMA journal_mode=DELETE")
    with mode(database, 0o444):
        told = report("print(backup.snapshot(argv[0], argv[1] / 'a.db').rows)", database, copies)
        assert told == "{'processed_files': 4, 'schema_migrations': 1, 'speakers': 3}\n"
        call = "backup.restore(argv[1] / 'a.db', argv[0], known_migrations=['001_initial'])"
        assert report(call, database, copies) == (
            f"DatabaseReadOnlyError: cannot use '{database}': it is read-only; "
            "check the permissions of the file and its folder\n"
        )
    assert listing(database.parent) == ["voices.db"]


@needs_permissions
@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("verify(argv[1] / 'a.db')", "it cannot be read or written (permission denied)"),
        ("list_backups(argv[1])", "the folder cannot be read (permission denied)"),
    ],
    ids=["verify", "list"],
)
def test_closed_backups(database: Path, copies: Path, call: str, reason: str) -> None:
    """A closed folder of backups is named in one sentence."""
    snapshot(database, copies / "a.db")
    with mode(copies, 0o000):
        told = report(f"backup.{call}", database, copies)
    path = copies / "a.db" if "verify" in call else copies
    assert told == f"BackupError: backup '{path}': {reason}\n"


def can_mount() -> bool:
    """Tell whether this process has the capability CAP_SYS_ADMIN, number 21."""
    status = Path("/proc/self/status")
    found = re.search(r"^CapEff:\s*(\w+)$", status.read_text(), re.M) if status.exists() else None
    return bool(found and int(found[1], 16) >> 21 & 1 and shutil.which("mount"))


needs_mount = pytest.mark.skipif(not can_mount(), reason="this process may not mount a small disk")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MB."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    subprocess.run(words, check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@needs_mount
def test_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """A full disk is named, and nothing of the backup stays on it."""
    big = make(tmp_path / "voices.db", files=3000)
    with pytest.raises(DatabaseFullError) as caught:
        snapshot(big, small_disk / "a.db")
    assert str(caught.value) == (
        f"cannot use '{small_disk}/a.db': the disk is full; nothing of this change was written"
    )
    assert listing(small_disk) == []


@needs_mount
def test_restore_on_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """A restore that finds no room leaves the database as it was."""
    small = make(small_disk / "voices.db")
    made = snapshot(make(tmp_path / "big.db", files=3000), tmp_path / "a.db")
    execute(small, "UPDATE speakers SET name = 'Old'")
    with pytest.raises(DatabaseFullError) as caught:
        restore(made.path, small, known_migrations=KNOWN)
    assert str(caught.value) == (
        f"cannot use '{small}': the disk is full; nothing of this change was written"
    )
    assert (speakers(small), integrity(small)) == (["Old"] * 3, "ok")
    with pytest.raises(DatabaseFullError):
        restore(made.path, small_disk / "new.db", known_migrations=KNOWN)
    assert not [name for name in listing(small_disk) if "partial" in name or "new" in name]


def test_file_size_limit(tmp_path: Path, copies: Path) -> None:
    """A limit that SQLite only calls an I/O error is told as what it is."""
    big = make(tmp_path / "voices.db", files=3000)
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    call = "backup.snapshot(argv[0], argv[1] / 'a.db')"
    process = start(limited + REPORT.format(call=call), big, copies)
    assert finish(process) == (
        0,
        (
            f"DatabaseFullError: cannot use '{copies}/a.db': the disk is full; "
            "nothing of this change was written\n"
        ),
        "",
    )
    assert listing(copies) == []


# While others write, and when killed

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


SLOW = """
import time
backup_copy._STEP_BYTES = 65536
def tick(done, total):
    print(done, total, flush=True)
    time.sleep(0.02)
"""


def slow_snapshot(source: Path, target: Path) -> subprocess.Popen[str]:
    """Start a backup that is stopped best in the middle; return after its third step."""
    code = SLOW + "backup.snapshot(argv[0], argv[1], progress=tick)"
    process = start(code, source, target)
    for _ in range(3):
        done, total = map(int, await_line(process).split())
    assert done < total / 2
    return process


def test_ctrl_c(tmp_path: Path, copies: Path) -> None:
    """Ctrl-C in the middle of a backup leaves no file."""
    path = make(tmp_path / "voices.db", files=3000)
    process = slow_snapshot(path, copies)
    with ended(process):
        (partial,) = listing(copies)
        assert re.fullmatch(
            rf"\.voices_backup_\d+_\d+\.db\.partial-{process.pid}-[0-9a-f]{{8}}-[0-9a-f]{{8}}",
            partial,
        )
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
    assert (code, err.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")
    assert listing(copies) == []
    assert listing(tmp_path) == ["copies", "voices.db"]


@pytest.mark.once
def test_kill_9(tmp_path: Path, copies: Path) -> None:
    """What a killed backup leaves is recognisable, no backup, and removed by the next one."""
    path = make(tmp_path / "voices.db", files=3000)
    dead, alive = slow_snapshot(path, copies / "dead.db"), slow_snapshot(path, copies / "alive.db")
    strangers = [
        ".dead.db.partial-1",
        f".x.partial-{os.getppid()}-{backup_place._MACHINE}-01234567",
        f".x.partial-{dead.pid}-{'0' * 8}-01234567",
        f"x.partial-{dead.pid}-{backup_place._MACHINE}-01234567",
    ]
    left = [
        f".x.db.partial-{dead.pid}-{backup_place._MACHINE}-01234567{end}"
        for end in (".json", "-wal", "-shm", "-journal")
    ]
    old = f".y.partial-1-{'0' * 8}-01234567"
    with ended(dead, alive):
        dead.kill()
        finish(dead)
        for name in (*strangers, *left, old):
            (copies / name).touch()
        os.utime(copies / old, (0, 0))
        assert list_backups(copies) == []
        (living,) = copies.glob(".alive.db.partial-*")
        assert len(list(copies.glob(f".dead.db.partial-{dead.pid}-*"))) == 1
        snapshot(path, copies / "new.db")
        assert listing(copies) == sorted([*strangers, living.name, "new.db", "new.db.json"])
        assert finish(alive)[0] == 0
    assert verify(copies / "alive.db").rows["processed_files"] == 3000


MEETING = """
import time
replace, waits = Path.replace, [float(str(word)) for word in argv[2:]]
def slow(self, target):
    time.sleep(waits.pop(0))
    return replace(self, target)
Path.replace = slow
def meet(done, total):
    if done == total:
        print("ready", flush=True)
        sys.stdin.readline()
"""


@pytest.mark.once
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_two_at_once(database: Path, copies: Path, overwrite: bool) -> None:
    """Of two backups to one name one wins; told to overwrite, both do and facts stay true."""
    call = f"backup.snapshot(argv[0], argv[1], progress=meet, overwrite={overwrite})"
    target, other = copies / "a.db", make(database.with_name("other.db"), files=9)
    for _ in range(3):
        code = MEETING + REPORT.format(call=call)
        # Unlocked, the first would place its facts after the second placed both files.
        pair = [start(code, database, target, 0, 0.6), start(code, other, target, 0.3, 0)]
        with ended(*pair):
            assert [await_line(process) for process in pair] == ["ready\n"] * 2
            for process in pair:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            told = sorted(finish(process) for process in pair)
        loser = (
            f"BackupError: backup '{target}': there is a file 'a.db' already; choose another name\n"
        )
        facts = loser.replace("'a.db'", "'a.db.json'")
        assert told[0] == (0, "", "")
        assert told[1] in ([(0, "", "")] if overwrite else [(0, loser, ""), (0, facts, "")])
        verify(target)
        assert listing(copies) == ["a.db", "a.db.json"]
        for path in copies.iterdir():
            path.unlink()


CRASH = """
import os
steps = int(str(argv[2]))
def crashing(act):
    def step(*args):
        global steps
        if not steps:
            os._exit(9)
        steps -= 1
        return act(*args)
    return step
Path.replace, Path.hardlink_to = crashing(Path.replace), crashing(Path.hardlink_to)
"""


@pytest.mark.parametrize("steps", [0, 1])
def test_crash_while_placing(database: Path, copies: Path, steps: int) -> None:
    """A crash between the two files leaves no backup that lacks its facts."""
    process = start(CRASH + "backup.snapshot(argv[0], argv[1])", database, copies, steps)
    assert finish(process) == (9, "", "")
    assert [path.suffix for path in copies.glob("voices*")] == [".json"] * steps
    assert list_backups(copies) == []
    made = snapshot(database, copies)
    assert (list_backups(copies), verify(made.path)) == ([made], made)
    assert not list(copies.glob(".*"))


@pytest.mark.parametrize("steps", [0, 1])
def test_crash_while_overwriting(database: Path, copies: Path, steps: int) -> None:
    """A crash between the two files leaves a sound backup, the old one or the new one."""
    target = copies / "a.db"
    snapshot(database, target)
    execute(database, "DELETE FROM processed_files")
    code = CRASH + "backup.snapshot(argv[0], argv[1], overwrite=True)"
    assert finish(start(code, database, target, steps)) == (9, "", "")
    assert verify(target).rows["processed_files"] == (4, 0)[steps]
    assert not verify(target).has_facts


def test_name_taken_meanwhile(database: Path, copies: Path) -> None:
    """A file that appears under the target's name during the copy is not replaced."""
    target = copies / "a.db"
    with pytest.raises(BackupError) as caught:
        snapshot(database, target, progress=lambda *_: target.write_text("mine") and None)
    assert str(caught.value) == (
        f"backup '{target}': there is a file 'a.db' already; choose another name"
    )
    assert contents(copies) == {"a.db": b"mine"}


def test_dated_name_taken_meanwhile(database: Path, copies: Path) -> None:
    """A dated backup takes the next number when its name is taken during the copy."""

    def take(_done: int, _total: int) -> None:
        (partial,) = copies.glob(".*")
        (copies / partial.name[1:].partition(".partial")[0]).write_text("mine")

    made = snapshot(database, copies, progress=take)
    assert made.path.name.endswith("_2.db")
    assert verify(made.path) == made
    first = made.path.name.replace("_2.db", ".db")
    assert listing(copies) == sorted([first, made.path.name, f"{made.path.name}.json"])


def test_copy_that_differs(database: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy with other rows than the database had is not placed."""
    counts = iter(range(100))
    monkeypatch.setattr(backup_copy, "_count", lambda *_: next(counts))
    with pytest.raises(BackupError) as caught:
        snapshot(database, copies / "a.db")
    assert str(caught.value) == (
        f"backup '{copies}/a.db': the copy differs from the database; try again"
    )
    assert listing(copies) == []


# Keeping and listing


def test_keep(database: Path, copies: Path) -> None:
    """Only the newest backups of this database stay, and everything else is left alone."""
    other = snapshot(make(database.with_name("other.db")), copies / "other.db")
    made = [snapshot(database, copies / f"{number}.db") for number in range(7)]
    (copies / "0.db.json").rename(copies / "stray.db.json")
    made[1].path.rename(copies / "renamed.db")
    (copies / "1.db.json").rename(copies / "renamed.db.json")
    with made[2].path.open("ab") as file:
        file.write(b"grown")
    made[3].path.rename(copies / "elsewhere")
    made[3].path.symlink_to("elsewhere")
    (copies / "notes.txt").write_text("mine")

    last = snapshot(database, copies / "last.db", keep=2)
    both = [name + end for name in ("2.db", "3.db", "6.db", "last.db") for end in ("", ".json")]
    rest = ["0.db", "stray.db.json", "renamed.db", "renamed.db.json", "elsewhere", "notes.txt"]
    assert listing(copies) == sorted([*both, *rest, "other.db", "other.db.json"])
    assert [verify(one.path) for one in (other, made[6], last)] == [other, made[6], last]


def test_keep_one(database: Path, copies: Path) -> None:
    """The new backup stays even when the clock was turned back."""
    made = snapshot(database, copies / "a.db")
    (copies / "a.db.json").write_text(
        replace(made, created=datetime(2999, 1, 1, tzinfo=UTC)).to_json()
    )
    snapshot(database, copies / "b.db", keep=1)
    assert listing(copies) == ["b.db", "b.db.json"]


def test_keep_what_cannot_be_removed(
    database: Path,
    copies: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An older backup that refuses to go is named in a warning; the new one is made."""
    snapshot(database, copies / "a.db")
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.name == "a.db":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with caplog.at_level(logging.WARNING):
        made = snapshot(database, copies / "b.db", keep=1)
    assert verify(copies / "b.db") == made
    assert caplog.messages == [
        f"the older backup '{copies}/a.db' cannot be removed (operation not permitted)"
    ]
    assert listing(copies) == ["a.db", "a.db.json", "b.db", "b.db.json"]


def test_failed_backup_removes_nothing(database: Path, copies: Path) -> None:
    """Older backups stay when the new one fails."""
    made = snapshot(database, copies / "a.db")
    execute(database, "DELETE FROM speakers WHERE id = 3")
    with pytest.raises(DatabaseDamagedError):
        snapshot(database, copies / "b.db", keep=1)
    assert list_backups(copies) == [made]


def test_list(database: Path, copies: Path) -> None:
    """A folder lists all its backups, a database those of it beside it; newest first."""
    beside = [snapshot(database), snapshot(database)]
    other = snapshot(make(copies / "other.db"), database.parent)
    away = snapshot(database, copies)
    assert list_backups(database) == beside[::-1]
    assert list_backups(database.parent) == [other, *beside[::-1]]
    assert list_backups(copies) == [away]
    database.unlink()
    assert list_backups(database) == beside[::-1]


def test_list_of_nothing(copies: Path) -> None:
    """A folder without backups lists none; one that is not there is named."""
    assert list_backups(copies) == []
    with pytest.raises(BackupError) as caught:
        list_backups(copies / "no" / "voices.db")
    assert str(caught.value) == (
        f"backup '{copies}/no': the folder cannot be read (no such file or directory)"
    )


def test_list_skips(database: Path, copies: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Broken facts are skipped with a warning that names the backup, others' JSON silently."""
    made = snapshot(database, copies / "a.db")
    (copies / "a.wav").touch()
    (copies / "a.wav.json").write_text("[1]")
    (copies / "gone.db.json").write_text("{")
    for name, text in (("b.db", "{"), ("c.db", '{"format": "voices-backup"}')):
        (copies / name).touch()
        (copies / f"{name}.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert list_backups(copies) == [made]
    assert caplog.messages == [
        (
            f"'{copies}/b.db' is not listed: its facts cannot be read "
            "(Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"
        ),
        (
            f"'{copies}/c.db' is not listed: its facts cannot be read "
            "(a fact is missing or of the wrong kind: 'file')"
        ),
    ]


def test_renamed_backup_is_listed(database: Path, copies: Path) -> None:
    """A backup that was renamed with its facts is listed and verified under its new name."""
    made = snapshot(database, copies / "a.db")
    made.path.rename(copies / "b.db")
    (copies / "a.db.json").rename(copies / "b.db.json")
    moved = replace(made, path=copies / "b.db")
    assert (list_backups(copies), verify(copies / "b.db")) == ([moved], moved)


# Verifying


def test_verify_changes_nothing(database: Path, copies: Path) -> None:
    """A backup verifies to what was made, and no byte or file changes."""
    made = snapshot(database, copies / "a.db")
    before = contents(copies)
    assert verify(copies / "a.db") == made
    assert verify(copies / "a.db", full=False) == made
    assert contents(copies) == before


def test_verify_without_facts(database: Path, copies: Path) -> None:
    """A backup without facts is checked in itself, and says that nothing vouches for it."""
    made = snapshot(database, copies / "a.db")
    (copies / "a.db.json").unlink()
    os.utime(copies / "a.db", (1e9, 1e9))
    found = verify(copies / "a.db")
    assert found == replace(
        made, created=datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC), source="", version=""
    )
    assert not found.has_facts


def test_verify_through_a_link(database: Path, copies: Path) -> None:
    """A link to a backup is verified against the facts of what it points to."""
    made = snapshot(database, copies / "a.db")
    (copies / "latest").symlink_to("a.db")
    assert verify(copies / "latest") == replace(made, path=copies / "latest")


def test_verify_of_a_wal_file(database: Path) -> None:
    """A closed database in WAL mode is verified without making files beside it."""
    before = contents(database.parent)
    assert verify(database).rows == {"processed_files": 4, "schema_migrations": 1, "speakers": 3}
    assert contents(database.parent) == before


def flip(path: Path, offset: int) -> None:
    """Change one byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x55]))


def change_facts(path: Path, **facts: object) -> None:
    """Change what the facts file says."""
    beside = path.with_name(f"{path.name}.json")
    beside.write_text(json.dumps(json.loads(beside.read_text()) | facts))


def without_facts(damage: Callable[[Path], object]) -> Callable[[Path], object]:
    """Damage a backup whose facts are gone."""

    def act(path: Path) -> None:
        path.with_name(f"{path.name}.json").unlink()
        damage(path)

    return act


def anew(create: Callable[[Path], object]) -> Callable[[Path], object]:
    """Create something else in place of the backup and its facts."""

    def act(path: Path) -> None:
        path.unlink()
        path.with_name(f"{path.name}.json").unlink()
        create(path)

    return act


CHANGED = "its digest is not that of its facts 'a.db.json'; it was changed"
STRANGER = "it is not a Voices database (no table 'schema_migrations')"
MALFORMED = "it is damaged (database disk image is malformed)"
IN_USE = "beside it says that it is in use as a database; close the program that uses it"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (anew(lambda _: None), "there is no such file"),
    "dangling-link": (anew(lambda path: path.symlink_to("no")), "there is no such file"),
    "link-loop": (
        anew(loop),
        "it cannot be read or written (too many levels of symbolic links)",
    ),
    "directory": (anew(Path.mkdir), "it is a directory"),
    "fifo": (anew(os.mkfifo), "it is not a regular file"),
    "empty": (lambda path: os.truncate(path, 0), "the file is empty"),
    "text": (anew(lambda path: path.write_text("hello")), "it is not an SQLite database"),
    "flipped-magic": (lambda path: flip(path, 3), "it is not an SQLite database"),
    "flipped-header": (lambda path: flip(path, 60), CHANGED),
    "flipped-page": (lambda path: flip(path, 3 * 4096 + 3000), CHANGED),
    "truncated": (lambda path: os.truncate(path, 8192), CHANGED),
    "grown": (lambda path: os.truncate(path, 1 << 20), CHANGED),
    "another-digest": (lambda path: change_facts(path, sha256="0" * 64), CHANGED),
    "truncated-without-facts": (without_facts(lambda path: os.truncate(path, 8192)), MALFORMED),
    "broken-page": (
        anew(index_broken),
        "it is damaged (Page 6: btreeInitPage() returns error code 11)",
    ),
    "schema-not-utf8": (
        anew(schema_not_utf8),
        "it is damaged (a name in it is not UTF-8)",
    ),
    "broken-format": (
        without_facts(lambda path: flip(path, 16)),
        "it is damaged (file is not a database)",
    ),
    "foreign-keys": (
        anew(foreign_keys_broken),
        "it is damaged (a row of 'processed_files' refers to a missing row of 'speakers')",
    ),
    "other-application": (anew(other_application), STRANGER),
    "other-migrations": (anew(other_migrations), STRANGER),
    "in-use": (lambda path: Path(f"{path}-wal").touch(), f"'a.db-wal' {IN_USE}"),
    "hot-journal": (lambda path: Path(f"{path}-journal").touch(), f"'a.db-journal' {IN_USE}"),
    "other-rows": (
        lambda path: change_facts(path, rows={"speakers": 3, "schema_migrations": 1}),
        "its table 'processed_files' has 4 rows, its facts say 0",
    ),
    "other-schema": (
        lambda path: change_facts(path, migrations=[]),
        "its migrations are not those of its facts",
    ),
    "facts-not-json": (
        lambda path: path.with_name("a.db.json").write_text("{"),
        (
            "its facts 'a.db.json' cannot be read (Expecting property name enclosed in double "
            "quotes: line 1 column 2 (char 1)); remove them to go without"
        ),
    ),
    "facts-of-something-else": (
        lambda path: path.with_name("a.db.json").write_text("[]"),
        (
            "its facts 'a.db.json' cannot be read (not the facts of a backup); "
            "remove them to go without"
        ),
    ),
    "facts-incomplete": (
        lambda path: change_facts(path, sha256=None),
        (
            "its facts 'a.db.json' cannot be read (a fact is missing or of the wrong kind: "
            "None is not text); remove them to go without"
        ),
    ),
    "facts-of-another-folder": (
        lambda path: change_facts(path, file="../../etc/passwd"),
        (
            "its facts 'a.db.json' cannot be read (it names a file of another folder); "
            "remove them to go without"
        ),
    ),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_refused_backups(
    database: Path, copies: Path, damage: Callable[[Path], object], reason: str
) -> None:
    """Each damage has its sentence; neither verifying nor restoring changes a byte."""
    path = snapshot(database, copies / "a.db").path
    damage(path)
    before, live = contents(copies), contents(database.parent)
    for attempt in (
        lambda: verify(path),
        lambda: restore(path, database, known_migrations=KNOWN),
        lambda: restore(path, copies / "new.db", known_migrations=KNOWN),
    ):
        with pytest.raises(BackupError) as caught:
            attempt()
        told = re.sub(r"Tree \d+ page", "Page", str(caught.value))  # as newer SQLites say
        assert told == f"backup '{path}': {reason}"
    assert (contents(copies), contents(database.parent)) == (before, live)


def test_full_check(database: Path, copies: Path) -> None:
    """Only the full check compares an index with its table."""
    path = snapshot(database, copies / "a.db").path
    (copies / "a.db.json").unlink()
    data = path.read_bytes()
    first = data.index(b"000002-")
    flip(path, data.index(b"000002-", first + 1) + 5)
    verify(path, full=False)
    with pytest.raises(BackupError) as caught:
        verify(path)
    assert str(caught.value) == (
        f"backup '{path}': it is damaged (row 3 missing from index processed_files_filename)"
    )


def test_every_byte_counts(database: Path, copies: Path) -> None:
    """Whichever byte is flipped, the backup is refused."""
    path = snapshot(database, copies / "a.db").path
    data, chance = path.read_bytes(), random.Random(5)
    for _ in range(100):
        flip(path, chance.randrange(len(data)))
        with pytest.raises(BackupError):
            verify(path)
        path.write_bytes(data)
    verify(path)


def test_ctrl_c_in_a_check(tmp_path: Path, copies: Path) -> None:
    """Ctrl-C ends a long check at once and as Ctrl-C."""
    path = make(tmp_path / "voices.db")
    execute(
        path,
        "CREATE VIEW endless AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x FROM n)"
        " SELECT x FROM n",
    )
    code = """
    backup_copy._COUNT = 'SELECT count(*) FROM endless WHERE "{}" IS NOT NULL'
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


# Restoring


def test_restore(database: Path) -> None:
    """Restoring brings the backup's state back and first saves what it replaces."""
    made = snapshot(database)
    execute(database, "UPDATE speakers SET name = 'New'")
    execute(database, "CREATE TABLE later (x)")
    seen: list[tuple[int, int]] = []
    present, restored = restore(
        made.path, database, known_migrations=KNOWN, progress=lambda *now: seen.append(now)
    )
    assert present is not None
    assert restored == made
    assert verify(present.path) == present
    assert list_backups(database) == [present, made]
    assert speakers(present.path) == ["New"] * 3
    assert speakers(database) == ["Ada", "Bob", "Cleo"]
    assert execute(database, "SELECT count(*) FROM sqlite_master WHERE name = 'later'") == [(0,)]
    assert (integrity(database), execute(database, "PRAGMA journal_mode")) == ("ok", [("wal",)])
    assert seen[-1] == (made.size, made.size)
    assert seen == sorted(seen)
    assert len(listing(database.parent)) == 5


def test_restore_of_what_was_saved(database: Path) -> None:
    """A restore is undone by restoring the backup that it made."""
    made = snapshot(database)
    execute(database, "UPDATE speakers SET name = 'New'")
    present, _ = restore(made.path, database, known_migrations=KNOWN)
    assert present is not None
    restore(present.path, database, known_migrations=KNOWN)
    assert speakers(database) == ["New"] * 3


def test_restore_where_nothing_is(database: Path, copies: Path) -> None:
    """A restore creates a missing database, in WAL mode and for its owner only."""
    made = snapshot(database, copies / "a.db")
    assert restore(made.path, copies / "new.db", known_migrations=KNOWN) == (None, made)
    assert listing(copies) == ["a.db", "a.db.json", "new.db"]
    assert stat.S_IMODE((copies / "new.db").stat().st_mode) == 0o600
    assert speakers(copies / "new.db") == ["Ada", "Bob", "Cleo"]
    assert execute(copies / "new.db", "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("page_size", [512, 8192, 65536])
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_restore_with_another_page_size(
    database: Path, copies: Path, page_size: int, journal: str
) -> None:
    """A database keeps its page size and WAL mode whatever those of the backup are."""
    made = snapshot(database, copies / "a.db")
    other = make(copies / "other.db", files=1, page_size=page_size, mode=journal)
    present, _ = restore(made.path, other, known_migrations=KNOWN)
    assert present is not None
    assert (present.rows["processed_files"], integrity(other)) == (1, "ok")
    assert execute(other, "SELECT count(*) FROM processed_files") == [(4,)]
    assert execute(other, "PRAGMA page_size") == [(page_size,)]
    assert execute(other, "PRAGMA journal_mode") == [("wal",)]
    assert not [name for name in listing(copies) if "partial" in name]


def test_restore_of_a_newer_backup(database: Path, copies: Path) -> None:
    """A backup with migrations that this code does not know is refused."""
    execute(database, "INSERT INTO schema_migrations (name) VALUES ('002_language'), ('003_x')")
    made = snapshot(database, copies / "a.db")
    before = contents(database.parent)
    with pytest.raises(DatabaseNewerError) as caught:
        restore(made.path, database, known_migrations=KNOWN)
    assert str(caught.value) == (
        f"'{made.path}' is newer than this program (unknown: 003_x); "
        "upgrade voices-peewee, or name the directory of the missing migrations"
    )
    assert contents(database.parent) == before


@pytest.mark.parametrize("linked", [False, True], ids=["same", "link"])
def test_restore_onto_itself(database: Path, linked: bool) -> None:
    """A database is not restored from itself."""
    path = database.with_name("link.db") if linked else database
    if linked:
        path.symlink_to(database)
    before = contents(database.parent)
    with pytest.raises(BackupError) as caught:
        restore(path, database, known_migrations=KNOWN)
    assert str(caught.value) == f"backup '{path}': it is the database itself"
    assert contents(database.parent) == before


STRANGERS = {
    key: SOURCES[key]
    for key in SOURCES
    if SOURCES[key][1] is not DatabaseDamagedError
    and key not in ("missing", "foreign-key-mismatch")
}


@pytest.mark.parametrize(("make_it", "kind", "message"), STRANGERS.values(), ids=STRANGERS)
def test_restore_over_a_stranger(
    database: Path,
    copies: Path,
    make_it: Callable[[Path], object],
    kind: type[VoicesError],
    message: str,
) -> None:
    """A restore never replaces what is not a Voices database."""
    made = snapshot(database)
    path = copies / "voices.db"
    make_it(path)
    before = contents(copies)
    with pytest.raises(VoicesError) as caught:
        restore(made.path, path, known_migrations=KNOWN)
    assert (type(caught.value), str(caught.value)) == (kind, message.format(path=path))
    assert contents(copies) == before
    assert listing(copies) == ["voices.db"]


def test_restore_without_a_folder(database: Path, copies: Path) -> None:
    """A folder that is not there is named, and not made."""
    made = snapshot(database, copies / "a.db")
    with pytest.raises(DatabaseError) as caught:
        restore(made.path, copies / "no" / "voices.db", known_migrations=KNOWN)
    assert str(caught.value) == (
        f"cannot use '{copies}/no/voices.db': there is no folder '{copies}/no'"
    )


def test_restore_beside_a_wal(database: Path, copies: Path) -> None:
    """A -wal file without its database is not mixed into the restored one."""
    made = snapshot(database, copies / "a.db")
    (copies / "voices.db-wal").write_bytes(b"old")
    with pytest.raises(DatabaseError) as caught:
        restore(made.path, copies / "voices.db", known_migrations=KNOWN)
    assert str(caught.value) == (
        f"cannot use '{copies}/voices.db': 'voices.db-wal' is there without it; "
        "move that away first"
    )
    assert listing(copies) == ["a.db", "a.db.json", "voices.db-wal"]


@needs_permissions
def test_restore_into_a_refusing_folder(database: Path, copies: Path) -> None:
    """A folder that cannot be written is named in one sentence."""
    made = snapshot(database)
    with mode(copies, 0o555):
        call = "backup.restore(argv[0], argv[1], known_migrations=['001_initial'])"
        told = report(call, made.path, copies / "new.db")
    assert told == (
        f"DatabaseError: cannot use '{copies}/new.db': "
        "it cannot be read or written (permission denied)\n"
    )
    assert listing(copies) == []


def test_restore_without_wal(database: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system cannot do WAL, as some of a network cannot, a restore is refused."""
    made = snapshot(database, copies / "a.db")
    execute(database, "PRAGMA journal_mode=DELETE")
    before = contents(database.parent)
    monkeypatch.setattr(
        backup_restore,
        "open_database",
        lambda path, timeout=0.0: backup_copy._connect(
            f"{path.as_uri()}?mode=rw&nolock=1", timeout
        ),
    )
    with pytest.raises(DatabaseError) as caught:
        restore(made.path, database, known_migrations=KNOWN)
    assert str(caught.value) == (
        f"cannot use '{database}': it cannot be put into WAL mode, which restoring needs"
    )
    assert contents(database.parent) == before


def test_restore_where_one_appears(database: Path, copies: Path) -> None:
    """A database that another program creates meanwhile is not replaced."""
    made = snapshot(database, copies / "a.db")
    target = copies / "voices.db"
    with pytest.raises(DatabaseError) as caught:
        restore(
            made.path,
            target,
            known_migrations=KNOWN,
            progress=lambda *_: target.write_text("theirs") and None,
        )
    assert str(caught.value) == (
        f"cannot use '{target}': another program just created it; restore again"
    )
    assert target.read_text() == "theirs"
    assert listing(copies) == ["a.db", "a.db.json", "voices.db"]


DAMAGED = {
    "truncated": truncated,
    "broken-page": index_broken,
    "broken-schema": schema_broken,
    "schema-not-utf8": schema_not_utf8,
    "foreign-keys": foreign_keys_broken,
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_restore_over_damage(
    database: Path, copies: Path, damage: Callable[[Path], object]
) -> None:
    """A damaged database is put aside as it is, and the backup takes its place."""
    made = snapshot(database)
    path = copies / "voices.db"
    damage(path)
    before = path.read_bytes()
    present, _ = restore(made.path, path, known_migrations=KNOWN)
    assert present is not None
    data = present.path.read_bytes()
    assert re.fullmatch(r"voices_damaged_\d{8}_\d{6}\.db", present.path.name)
    assert data[100:] == before[100 : len(data)]
    assert present == Backup(
        path=present.path,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        created=present.created,
        source=str(path),
        migrations=(),
        rows={},
        version="",
    )
    assert (integrity(path), speakers(path)) == ("ok", ["Ada", "Bob", "Cleo"])
    assert listing(copies) == ["voices.db", present.path.name]


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
            restore(made.path, database, known_migrations=KNOWN, timeout=0.5)
        assert str(caught.value) == (
            f"cannot use '{database}': another program held its lock for more than 0.5 s; "
            "end that program or raise the timeout"
        )
        assert list_backups(database) == [made]
        call = "print(backup.restore(argv[0], argv[1], known_migrations=['001_initial'])[0].path)"
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


def test_restore_while_others_work(tmp_path: Path) -> None:
    """Open programs read and write through a restore; no acknowledged row falls between."""
    path = make(tmp_path / "voices.db", files=3000)
    made = snapshot(make(tmp_path / "old.db"), tmp_path)
    reader, writer = start(READER, path), start(WRITER, path)
    with ended(reader, writer):
        assert (await_line(reader), await_line(writer)) == ("running\n", "0\n")
        saved = []
        for _ in range(3):
            present, _ = restore(made.path, path, known_migrations=KNOWN)
            assert present is not None
            saved.append(present.path)
        assert (reader.poll(), writer.poll()) == (None, None)
        time.sleep(0.2)
        assert (reader.poll(), writer.poll()) == (None, None)
        writer.terminate()
        _, out, err = finish(writer)
        reader.terminate()
        assert (err, finish(reader)[2]) == ("", "")
    acknowledged = {f"row {line}" for line in ["0", *out.split()]}
    kept = {name for one in (*saved, path) for name in speakers(one)}
    assert len(acknowledged) > 10
    assert acknowledged - kept == set()
    assert (integrity(path), execute(path, "PRAGMA journal_mode")) == ("ok", [("wal",)])


@pytest.mark.once
def test_kill_9_while_restoring(tmp_path: Path) -> None:
    """A restore that is killed at any step leaves the database as it was."""
    path = make(tmp_path / "voices.db", files=500)
    made = snapshot(make(tmp_path / "old.db", files=1000), tmp_path / "made.db")
    execute(path, "UPDATE speakers SET name = 'Present'")
    code = (
        SLOW + "backup.restore(argv[0], argv[1], known_migrations=['001_initial'], progress=tick)"
    )
    chance = random.Random(9)
    for round_ in range(10):
        process = start(code, made.path, path)
        with ended(process):
            for _ in range(chance.randint(1, 15)):
                done, total = map(int, await_line(process).split())
            assert done < total
            process.kill()
            finish(process)
        assert (speakers(path), integrity(path)) == (["Present"] * 3, "ok")
        assert execute(path, "SELECT count(*) FROM processed_files") == [(500,)]
        saved = list_backups(path)[0]
        assert verify(saved.path).rows["processed_files"] == 500
        assert len(list_backups(path)) == round_ + 1
    restore(made.path, path, known_migrations=KNOWN)
    assert execute(path, "SELECT count(*) FROM processed_files") == [(1000,)]


def test_cancelled_restore(database: Path) -> None:
    """What progress raises ends a restore, and the database stays as it was."""
    made = snapshot(database)
    execute(database, "UPDATE speakers SET name = 'Present'")

    def fail(_done: int, _total: int) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match=r"^no$"):
        restore(made.path, database, known_migrations=KNOWN, progress=fail)
    assert (speakers(database), integrity(database)) == (["Present"] * 3, "ok")
