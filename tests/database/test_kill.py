"""Killed at any moment, and many programs at once: nothing acknowledged is lost."""

from __future__ import annotations

import json
import logging
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.fault_worker import BATCH, Workers, workers

from voices_peewee import DatabaseManager, ProcessedFile, Speaker
from voices_peewee.database.sqlite import WAL_LIMIT
from voices_peewee.upkeep.backup import list_backups, verify

pytestmark = pytest.mark.once

MIGRATION = """
import peewee as pw

def migrate(migrator, database, **kwargs):
    migrator.sql("CREATE TABLE own (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    for _ in range(20):
        migrator.sql("INSERT INTO own (name) SELECT name FROM speakers")
    migrator.sql("UPDATE speakers SET description = 'migrated'")

def rollback(migrator, database, **kwargs):
    migrator.sql("DROP TABLE own")
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Workers]:
    folder = tmp_path / "acks"
    folder.mkdir()
    with workers(folder) as program:
        yield program


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of 2,000 speakers with a file each, at rest."""
    path = tmp_path_factory.mktemp("template") / "voices.db"
    with DatabaseManager(path).initialize() as db:
        db.add_all(
            ProcessedFile(filename=f"{number}.wav", speaker=Speaker(name=f"old {number}"))
            for number in range(2000)
        )
    return path


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def assert_sound(path: Path) -> None:
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "PRAGMA foreign_key_check") == []


def check_add(path: Path, acks: list[Any]) -> None:
    """Every speaker that was acknowledged is there, and at most one more."""
    sql = "SELECT id FROM speakers WHERE name LIKE 'single %' ORDER BY id"
    found = [key for (key,) in rows(path, sql)]
    assert found[: len(acks)] == acks
    assert len(found) - len(acks) in (0, 1)


def check_add_all(path: Path, acks: list[Any]) -> None:
    """Every batch is there whole or not at all."""
    sql = (
        "SELECT speakers.name, count(*) FROM speakers JOIN processed_files AS file"
        " ON file.speaker_id = speakers.id WHERE name LIKE 'batch %' GROUP BY speakers.name"
    )
    found = dict(rows(path, sql))
    assert set(found.values()) <= {BATCH}
    assert set(acks) <= set(found)
    assert len(found) - len(acks) in (0, 1)


def check_track(path: Path, acks: list[Any]) -> None:
    """A run has every output that was told, and an end if it was left."""
    for state, run_id, outputs in acks:
        sql = f"SELECT end_time, success FROM processing_history WHERE run_id = '{run_id}'"
        found = rows(path, sql)
        assert len(found) >= outputs
        if state == "ended":
            assert len(found) == 2
            assert all(end and success for end, success in found)


def check_migrate(path: Path, acks: list[Any]) -> None:
    """The migration is there whole or not at all, and can still be applied."""
    tables = {name for (name,) in rows(path, "SELECT name FROM sqlite_master")}
    names = {name for (name,) in rows(path, "SELECT name FROM schema_migrations")}
    changed = rows(path, "SELECT count(description) FROM speakers")
    is_applied = "own" in tables
    assert ("001_own" in names, changed) == (is_applied, [(2000 if is_applied else 0,)])
    assert is_applied or not acks
    directory = path.parent / "own"
    with DatabaseManager(path, migrations_dir=directory).initialize(backup=False):
        assert rows(path, "SELECT count(*) FROM own") == [(40000,)]


def check_backup(path: Path, acks: list[Any]) -> None:
    """Every backup that is listed is sound; those that were acknowledged are listed."""
    listed = list_backups(path)
    assert set(acks) <= {str(one.path) for one in listed}
    for one in listed:
        assert verify(one.path).rows["speakers"] == 2000
    names = {one.path.name for one in listed}
    assert {file.name for file in path.parent.glob("voices_backup_*.db")} == names


def check_restore(path: Path, acks: list[Any]) -> None:
    """The database is one of the backups, whole; what was there before each is backed up."""
    assert rows(path, "SELECT count(*), count(DISTINCT name) FROM speakers") in (
        [(2000, 2000)],
        [(5, 5)],
    )
    if acks and acks[-1] != "begun":
        wanted = 5 if acks[-1].endswith("five.db") else 2000
        assert rows(path, "SELECT count(*) FROM speakers") == [(wanted,)]


FILES, ROWS = 8, 300


def check_bring_in(path: Path, acks: list[Any]) -> None:
    """Every file is there whole or not at all, and what is left can be imported."""
    sql = "SELECT description, count(*) FROM speakers WHERE name LIKE 'in %' GROUP BY description"
    found = {int(file): count for file, count in rows(path, sql)}
    assert set(found.values()) <= {ROWS}
    assert sorted(found) == list(range(len(found)))
    assert len(found) - len(acks) in (0, 1)
    owned = "SELECT count(*) FROM processed_files WHERE original_path LIKE '/in/%'"
    assert rows(path, owned) == [(ROWS * len(found),)]
    with DatabaseManager(path) as db:
        done = db.import_records([path.parent / f"{number}.jsonl" for number in range(FILES)])
    assert done.tables["speakers"].same == ROWS * len(found)
    assert done.tables["speakers"].added == ROWS * (FILES - len(found))


CHECKS: dict[str, Callable[[Path, list[Any]], None]] = {
    "add": check_add,
    "add_all": check_add_all,
    "track": check_track,
    "migrate": check_migrate,
    "backup": check_backup,
    "restore": check_restore,
    "bring_in": check_bring_in,
}


def input_of(number: int) -> str:
    """Return an export of speakers with a file each."""
    speakers = [
        {"table": "speakers", "id": row, "name": f"in {number} {row}", "description": f"{number}"}
        for row in range(1, ROWS + 1)
    ]
    files = [
        {"table": "processed_files", "original_path": f"/in/{number}/{row}", "speaker_id": row}
        for row in range(1, ROWS + 1)
    ]
    end = {"table": "end", "rows": {"speakers": ROWS, "processed_files": ROWS}}
    return "".join(json.dumps(row) + "\n" for row in [*speakers, *files, end])


def arguments(work: str, path: Path, template: Path) -> dict[str, object]:
    """Prepare what a piece of work needs beside its database."""
    if work == "migrate":
        directory = path.parent / "own"
        directory.mkdir()
        (directory / "001_own.py").write_text(MIGRATION)
        return {"directory": str(directory)}
    if work == "bring_in":
        for number in range(FILES):
            (path.parent / f"{number}.jsonl").write_text(input_of(number))
        return {"source": str(path.parent / "{}.jsonl"), "files": FILES}
    if work == "restore":
        five = path.parent / "five.db"
        with DatabaseManager(path.parent / "small.db").initialize() as small:
            small.add_all(Speaker(name=f"five {number}") for number in range(5))
            small.backup_database(five)
        with DatabaseManager(path) as db:
            whole = db.backup_database(path.parent / "whole.db")
        return {"backups": [str(five), str(whole)]}
    return {}


ROUNDS = [
    *(pytest.param(work, 5, id=f"{work}-5") for work in CHECKS),
    *(pytest.param(work, 60, marks=pytest.mark.soak, id=f"{work}-60") for work in CHECKS),
    pytest.param("bring_in", 200, marks=pytest.mark.soak, id="bring_in-200"),
]


@pytest.mark.parametrize(("work", "rounds"), ROUNDS)
def test_kill_at_any_moment(
    tmp_path: Path, running: Workers, template: Path, work: str, rounds: int
) -> None:
    """After kill -9 the file is sound, what was acknowledged is there, and nothing by halves."""
    moments = random.Random(f"{work} {rounds}")
    for number in range(rounds):
        folder = tmp_path / f"{work}-{number}"
        folder.mkdir()
        path = Path(shutil.copy(template, folder / "voices.db"))
        worker = running.start(work, path, **arguments(work, path, template))
        worker.await_ready()
        time.sleep(moments.uniform(0, 0.25))
        acks = worker.kill()
        assert_sound(path)
        CHECKS[work](path, acks)
        shutil.rmtree(folder)


@pytest.mark.sqlite("the -wal file")
def test_the_wal_is_emptied_among_readers_that_overlap(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where some reader is always there, the WAL still does not grow for ever."""
    monkeypatch.setattr("voices_peewee.database.sqlite.WAL_LIMIT", 1 << 20)
    stop, wal, largest = threading.Event(), Path(f"{path}-wal"), 0

    def read() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            while not stop.is_set():
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM speakers").fetchone()
                time.sleep(0.05)
                connection.execute("COMMIT")

    with DatabaseManager(path).initialize() as db:
        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for _ in range(300):
            db.add(Speaker(name="x" * 100_000))
            largest = max(largest, wal.stat().st_size)
        stop.set()
        for reader in readers:
            reader.join()
    assert largest < 5 << 20  # of 30 MB that were written


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_many_programs_at_once(
    tmp_path: Path,
    running: Workers,
    template: Path,
    seconds: int,
) -> None:
    """Writers, a long reader, backups and a migration meet no error, and nothing is lost."""
    path = Path(shutil.copy(template, tmp_path / "voices.db"))
    work = {
        name: running.start(name, path, until=seconds)
        for name in ("add", "add_all", "track", "read", "backup")
    }
    for worker in work.values():
        worker.await_ready()
    migration = running.start("migrate", path, **arguments("migrate", path, template))
    largest, wal = 0, Path(f"{path}-wal")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        largest = max(largest, wal.stat().st_size if wal.exists() else 0)
        time.sleep(0.05)
    acks = {name: worker.wait() for name, worker in work.items()}
    assert migration.wait() == [["001_own"]]

    assert_sound(path)
    check_add(path, acks["add"])
    check_add_all(path, acks["add_all"])
    check_track(path, acks["track"])
    assert all(verify(Path(one)) for one in acks["backup"])
    assert min(map(len, acks.values())) > 0
    assert largest < 4 * WAL_LIMIT
    counts = {name: len(one) for name, one in acks.items()}
    logging.getLogger(__name__).info("%s; WAL at most %d bytes", counts, largest)
