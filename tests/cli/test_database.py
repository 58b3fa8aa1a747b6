"""The commands for the database as a whole."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from support.cli_tools import PROGRAM, run, terminal, usage

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory, Speaker, __version__

BACKUP = re.compile(r"/voices_backup_\d{8}_\d{6}\.db\n")


@pytest.fixture
def studio(path: Path) -> Path:
    """A database with a speaker, a file and an unfinished run."""
    with DatabaseManager(path).initialize() as db:
        file = ProcessedFile(filename="a.wav")
        unfinished = ProcessingHistory(
            processed_file=file, operation_type="x", start_time="2026-11-22T14:03:05+00:00"
        )
        db.add_all([Speaker(name="Ada"), file, unfinished])
    return path


def test_init(path: Path) -> None:
    """The database is created once; its path is on stdout."""
    assert run("--db", path, "init") == (0, f"{path}\n", "3 migrations applied\n")
    assert run("--db", path, "init") == (0, f"{path}\n", "nothing to do\n")


@pytest.mark.sqlite("the facts of a file; a server's are in test_postgres")
def test_status(studio: Path) -> None:
    """The status says what and how much is there, in units."""
    done = run("--db", studio, "status")
    assert (done.code, done.err) == (0, "")
    lines = dict(re.split(r" {2,}", line, maxsplit=1) for line in done.out.splitlines())
    assert lines.pop("size").endswith(" kB")
    assert lines == {
        "database": str(studio),
        "sqlite": sqlite3.sqlite_version,
        "version": __version__,
        "schema": "up to date (003_recordings)",
        "last run UTC": "2026-11-22 14:03",
        "unfinished": "1",
        "speakers": "1",
        "processed files": "1",
        "environments": "0",
        "processing history": "1",
        "model performance": "0",
        "listening tests": "0",
        "listening votes": "0",
        "recordings": "1",
        "stems": "0",
        "voices": "0",
    }


@pytest.mark.sqlite("the facts of a file; a server's are in test_postgres")
def test_status_as_json(studio: Path) -> None:
    """The status is exact in JSON."""
    done = run("--db", studio, "status", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {
        "database": str(studio),
        "size": studio.stat().st_size,
        "sqlite": sqlite3.sqlite_version,
        "voices": __version__,
        "migrations": ["001_initial", "002_views", "003_recordings"],
        "rows": {
            "speakers": 1,
            "processed_files": 1,
            "environments": 0,
            "processing_history": 1,
            "model_performance": 0,
            "listening_tests": 0,
            "listening_votes": 0,
        },
        "files": {"recordings": 1, "stems": 0, "voices": 0},
        "last_run": "2026-11-22T14:03:05+00:00",
        "unfinished": 1,
    }


@pytest.mark.once
def test_name_of_a_database_that_is_no_text(tmp_path: Path) -> None:
    """A path that is no text comes out as the bytes that it is."""
    db = os.fsencode(tmp_path) + b"/\xff.db"
    done = subprocess.run([*map(str.encode, [*PROGRAM, "--db"]), db, b"init"], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, db + b"\n", b"3 migrations applied\n")


def test_check(studio: Path) -> None:
    """A sound database passes; JSON of nothing is []."""
    assert run("--db", studio, "check") == (0, "", "nothing is wrong\n")
    assert run("--db", studio, "check", "--json") == (0, "[]\n", "nothing is wrong\n")


@pytest.mark.sqlite("harms the file through sqlite3; a server's findings are in test_postgres")
def test_check_finds(studio: Path) -> None:
    """A finding says what to do and makes the exit status 1; a note of one's own does not."""
    with closing(sqlite3.connect(studio)) as connection, connection:
        connection.execute("CREATE INDEX mine ON speakers (description)")
    done = run("--db", studio, "check")
    assert (done.code, done.err) == (0, "nothing is wrong, 1 note\n")
    assert done.out.startswith("note: table 'speakers' has index 'mine' (CREATE INDEX mine ")
    with closing(sqlite3.connect(studio)) as connection, connection:
        connection.execute("DROP INDEX mine")
        connection.execute("DROP INDEX processing_history_unfinished")
    done = run("--db", studio, "check")
    assert (done.code, done.err) == (1, "1 finding\n")
    (finding,) = json.loads(run("--db", studio, "check", "--json").out)
    assert done.out == f"{finding['kind']}: {finding['what']}\n    {finding['advice']}\n"
    assert "processing_history_unfinished" in finding["what"]


@pytest.mark.sqlite("what another program may write into a column of SQLite")
def test_check_mends(studio: Path) -> None:
    """--fix needs a yes, says where the backup is, and how many times were mended."""
    with closing(sqlite3.connect(studio)) as connection, connection:
        connection.execute("UPDATE speakers SET created_at = '2026-05-05T10:00:00Z'")
    message = "this needs a confirmation; use --yes where nobody can be asked"
    assert run("--db", studio, "check", "--fix").err == usage("voices check", "[OPTIONS]", message)
    done = run("--db", studio, "check", "--fix", "--yes")
    (saved,) = studio.parent.glob("voices_backup_*.db")
    said = f"backed up first to {str(saved)!r}\n1 value mended\nnothing is wrong\n"
    assert done == (0, "", said)
    assert run("--db", studio, "check", "--fix") == (0, "", "nothing is wrong\n")


@pytest.mark.sqlite("a backup is a file beside the database; on a server see test_server")
def test_backup(studio: Path, tmp_path: Path) -> None:
    """A backup's path is on stdout; it is a database that lists the same."""
    copy = tmp_path / "copy.db"
    assert run("--db", studio, "backup", "--backup-path", copy) == (0, f"{copy}\n", "")
    listed = run("--db", studio, "list-speakers", "--json")
    assert run("--db", copy, "list-speakers", "--json") == listed
    assert BACKUP.fullmatch(run("--db", studio, "backup").out.removeprefix(str(studio.parent)))


@pytest.mark.sqlite("a backup is a file beside the database; on a server see test_server")
def test_backups_are_listed_and_kept(studio: Path) -> None:
    """--keep leaves the newest; the list says when, how large and where."""
    paths = [run("--db", studio, "backup", "--keep", "2").out.strip() for _ in range(3)]
    done = run("--db", studio, "list-backups", "--json", "--columns", "path,records,source")
    assert json.loads(done.out) == [
        {"path": path, "records": 3, "source": str(studio)} for path in reversed(paths[1:])
    ]
    year = json.loads(run("--db", studio, "list-backups", "--json").out)[0]["created"][:4]
    words = {
        f"created:{year}": 2,
        f"^created:{year}": 0,
        "created:-1h..": 2,
        "created:..-1h": 0,
        "size:1k..": 2,
        f"path:{Path(paths[2]).name.upper()},nowhere": 1,
        "migrations:001_initial": 2,
        "migrations:": 0,
    }
    for word, count in words.items():
        told = "1 backup\n" if count == 1 else f"{count} backups\n"
        assert run("--db", studio, "list-backups", word).err == told
    done = run("--db", studio, "list", "backups")
    assert (done.out.splitlines()[0].split(), done.err) == (
        ["created", "UTC", "size", "records", "path", "sha256"],
        "2 backups\n",
    )


@pytest.mark.once
@pytest.mark.sqlite("a backup is a file beside the database; on a server see test_server")
def test_backup_on_a_terminal(studio: Path, tmp_path: Path) -> None:
    """A terminal sees a bar on stderr, which ends before the path."""
    copy = tmp_path / "copy.db"
    code, seen = terminal("--db", studio, "backup", "--backup-path", copy, columns=200)
    assert code == 0
    assert "Backing up" in seen
    assert seen.splitlines()[-1].endswith(str(copy))


@pytest.mark.sqlite("a backup is a file beside the database; on a server see test_server")
def test_verify_and_restore(studio: Path, tmp_path: Path) -> None:
    """A verified backup takes the place of what is there, which is saved first."""
    copy = tmp_path / "copy.db"
    run("--db", studio, "backup", "--backup-path", copy)
    done = run("--db", studio, "verify-backup", copy)
    facts = re.escape(f"{str(copy)!r} is sound: 3 records, ") + r"[\d.]+ kB, of [\d: -]{16} UTC\n"
    assert (done.code, done.out) == (0, "")
    assert re.fullmatch(facts, done.err)
    run("--db", studio, "add-speaker", "Bob")

    done = run("--db", studio, "restore", copy, "--yes")
    (saved,) = studio.parent.glob("voices_backup_*.db")
    assert (done.code, done.out) == (0, "")
    said = re.escape(f"what was there is in {str(saved)!r}\n") + r"restored 3 records, .* UTC\n"
    assert re.fullmatch(said, done.err)
    names = [
        run("--db", db, "list-speakers", "--csv", "--columns", "name").out for db in (studio, saved)
    ]
    assert names == ["name\nAda\n", "name\nAda\nBob\n"]


@pytest.mark.once
@pytest.mark.sqlite("a backup is a file beside the database; on a server see test_server")
def test_restore_asks(studio: Path, tmp_path: Path) -> None:
    """Replacing what is there needs a yes."""
    copy = tmp_path / "copy.db"
    run("--db", studio, "backup", "--backup-path", copy)
    run("--db", studio, "add-speaker", "Bob")
    code, seen = terminal("--db", studio, "restore", copy, typed="n\n", columns=200)
    assert code == 1
    assert seen.startswith(f"Replace {str(studio)!r} by {str(copy)!r} (3 records, ")
    assert seen.endswith(" UTC)? [y/N]: n\nAborted!\n")
    assert "Bob" in run("--db", studio, "list-speakers").out


@pytest.mark.sqlite("a backup is a file beside the database; on a server see test_server")
def test_a_slash_makes_a_folder(studio: Path, tmp_path: Path) -> None:
    """A name that ends with a slash is a folder, which is made; a file of that name is refused."""
    done = run("--db", studio, "backup", "--backup-path", f"{tmp_path}/backups/")
    assert BACKUP.fullmatch(done.out.removeprefix(f"{tmp_path}/backups"))
    assert (tmp_path / "backups").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    refused = run("--db", studio, "backup", "--backup-path", f"{tmp_path}/file/")
    assert refused.code == 1
    assert refused.err.startswith(f"Error: backup '{tmp_path}/file': ")
