"""``status``: what a database is and holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory, Speaker


def test_unfinished_runs_are_counted(path: Path) -> None:
    """Each run that has not ended counts once, however many rows it has."""
    with DatabaseManager(path).initialize() as db:
        file = db.add(ProcessedFile(filename="a.wav"))
        for run_id in ("a", "b", "b", "c"):
            db.add(ProcessingHistory(processed_file=file, operation_type="x", run_id=run_id))
        ended = ProcessingHistory(processed_file=file, operation_type="x", run_id="d")
        ended.end_time = datetime.now(UTC)
        db.add(ended)
        assert db.status()["unfinished"] == 3


def test_kinds_of_files(path: Path) -> None:
    """Recordings, stems (outputs) and voices (a speaker's part without a file) count apart."""
    with DatabaseManager(path).initialize() as db:
        ada = db.add(Speaker(name="Ada"))
        first, _ = db.add_all(
            [
                ProcessedFile(filename="a.wav", original_path="/a.wav"),
                ProcessedFile(filename="b.wav", processed_path="/b/1.wav"),
            ]
        )
        for number in range(3):
            db.add(ProcessedFile(filename="s", processed_path=f"/s/{number}.wav", recording=first))
        db.add(ProcessedFile(filename="v", recording=first, speaker=ada))
        status = db.status()
        assert status["files"] == {"recordings": 2, "stems": 3, "voices": 1}
        assert status["rows"]["processed_files"] == 6


@pytest.mark.sqlite("the -wal file")
def test_the_wal_is_part_of_the_size(path: Path) -> None:
    """The size is that of the file and of what still stands in the WAL."""
    with DatabaseManager(path).initialize() as db:
        db.add_all(Speaker(name="x" * 1000) for _ in range(500))
        wal = path.with_name(path.name + "-wal").stat().st_size
        assert wal > 500_000
        assert db.status()["size"] == path.stat().st_size + wal


def test_an_empty_database(path: Path) -> None:
    """Without runs there is no last one, and every count is 0."""
    with DatabaseManager(path).initialize() as db:
        status = db.status()
    assert (status["last_run"], status["unfinished"]) == (None, 0)
    assert status["files"] == {"recordings": 0, "stems": 0, "voices": 0}
    assert set(status["rows"].values()) == {0}


@pytest.mark.sqlite("what another program may write into a column of SQLite")
def test_a_time_that_cannot_be_read(path: Path) -> None:
    """The start of the last run is shown as another program wrote it."""
    with DatabaseManager(path).initialize() as db:
        file = db.add(ProcessedFile(filename="a.wav"))
        db.add(ProcessingHistory(processed_file=file, operation_type="x"))
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE processing_history SET start_time = '5 May'")
        assert db.status()["last_run"] == "5 May"
