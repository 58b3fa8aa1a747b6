"""Small databases in the manner of Voices, and processes that back them up and restore them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from voices_peewee.migrations.runner import names, package_directory

KNOWN = [package_directory()]
SCHEMA = """
CREATE TABLE schema_migrations (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE speakers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE processed_files (
    id INTEGER PRIMARY KEY, filename TEXT, speaker_id INTEGER REFERENCES speakers (id)
);
CREATE INDEX processed_files_filename ON processed_files (filename);
INSERT INTO speakers (name) VALUES ('Ada'), ('Bob'), ('Cleo');
"""
HEAD = """
import sys
from pathlib import Path
from voices_peewee import errors
from voices_peewee.upkeep import backup, restore
from support.backups import KNOWN
argv = [Path(word) for word in sys.argv[1:]]
"""


def make(path: Path, *, files: int = 4, page_size: int = 4096) -> Path:
    """Create a small database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("PRAGMA journal_mode=wal")
        connection.executescript(SCHEMA)
        applied = [(name,) for name in names(KNOWN)]
        connection.executemany("INSERT INTO schema_migrations (name) VALUES (?)", applied)
        rows = [(f"{n:06}-{'x' * 900}.wav", 1 + n % 3) for n in range(files)]
        connection.executemany(
            "INSERT INTO processed_files (filename, speaker_id) VALUES (?, ?)", rows
        )
        connection.commit()
    return path


def execute(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Run statements in a connection of their own; return the rows of the last one."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        for sql in statements:
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


def start(code: str, *args: object) -> subprocess.Popen[str]:
    """Run Python code, in which ``argv`` holds the arguments, in another process."""
    tests = str(Path(__file__).parents[1])
    path = f"import sys\nsys.path.insert(0, {tests!r})\n"
    return subprocess.Popen(
        [sys.executable, "-c", path + HEAD + textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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


def truncated(path: Path) -> None:
    """Cut a database in half."""
    make(path, files=50)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def page_broken(path: Path) -> None:
    """Make a page of the database nonsense."""
    make(path, files=50)
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096)


def references_broken(path: Path) -> None:
    """Make a row that refers to nothing."""
    make(path)
    execute(path, "DELETE FROM speakers WHERE id = 3")


def other_application(path: Path) -> None:
    """Make a database of another application."""
    execute(path, "CREATE TABLE bookmarks (url)")
