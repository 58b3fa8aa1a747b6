"""Migrations for tests: files to write, rows to keep, and what a database then is."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import peewee as pw

from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.drift import normal

PACKAGE = migrations.package_directory()


INITIAL = "001_initial"


PACKAGED = migrations.names([PACKAGE])


def open_database(path: Path, timeout: float = 30) -> pw.SqliteDatabase:
    return pw.SqliteDatabase(
        path,
        pragmas={"foreign_keys": 1, "journal_mode": "wal"},
        timeout=timeout,
        lock_type="IMMEDIATE",
    )


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
    rows = database.execute_sql(query).fetchall()
    return {(kind, name, normal(sql)) for kind, name, sql in rows if sql}


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
