"""How a file on its way in is known again among many."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wav_files import digest, write_wav

from voices_peewee import DatabaseManager, ProcessedFile
from voices_peewee.records.sources import elsewhere


@pytest.mark.sqlite("the plan of a query as SQLite tells it")
def test_no_table_is_read_whole_for_a_file_that_is_added(
    db: DatabaseManager, tmp_path: Path
) -> None:
    """A file's path, its content and whose output it is are looked up in indexes."""
    connection, seen = db.store.connection(), list[str]()
    connection.set_trace_callback(seen.append)
    list(db.add_audio_files([write_wav(tmp_path / "a.wav").parent], on_error=print))
    with db.track(write_wav(tmp_path / "b.wav"), "voice_separation"):
        pass
    connection.set_trace_callback(None)
    asked = [sql for sql in seen if sql.startswith("SELECT") and "processed_files" in sql]
    plans = [step for sql in asked for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    indexes = [step.split("INDEX processed_files_")[1].split()[0] for step in plans if "t1" in step]
    assert {*indexes} == {"original_path", "processed_path", "content_hash"}


@pytest.mark.sqlite("the plan of a query as SQLite tells it")
def test_a_deletion_finds_the_outputs_by_their_index(db: DatabaseManager) -> None:
    """What a recording takes along is found in the index of outputs, which holds nothing else."""
    run = db.store.connection().execute
    plan = [step for *_, step in run("EXPLAIN QUERY PLAN DELETE FROM processed_files WHERE id = 1")]
    key = "SEARCH processed_files USING COVERING INDEX processed_files_recording_id"
    assert f"{key} (recording_id=?)" in plan


def test_eight_digits_do_not_make_one_content_of_two(db: DatabaseManager, tmp_path: Path) -> None:
    """A recording whose hash only begins as a file's is another one."""
    wav = write_wav(tmp_path / "a.wav")
    gone = str(tmp_path / "gone.wav")
    facts = {str(wav): {"content_hash": digest(wav), "file_size": wav.stat().st_size}}
    row = db.add(
        ProcessedFile(filename="a", original_path=gone, content_hash=digest(wav)[:8] + "0" * 56)
    )
    assert elsewhere(db.store, facts) == {}
    row.content_hash = digest(wav)
    row.save()
    assert elsewhere(db.store, facts) == {str(wav): row}
