"""The third migration: an older record's recordings, stems and voices get rows of their own."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from support.databases import ON_SERVER, ask, other_program

from voices_peewee import DatabaseManager, ProcessedFile
from voices_peewee.schema.models import ProcessingHistory

MIGRATIONS = "voices_peewee.migrations"
BEFORE, LAST = "002_views", "003_recordings"

# id, path, output, speaker, metadata: as runs left them that took rows over.
FILES: list[tuple[int, str, str | None, int | None, dict[str, Any]]] = [
    (1, "/mix/1.wav", "/out/1a.wav", 1, {"room": "hall", "take": 1}),
    (2, "/mix/1.wav", "/out/1b.wav", 2, {"room": "studio", "snr": 5.0}),
    (3, "/mix/2.wav", None, None, {}),
    (4, "/mix/2.wav", "/out/2.wav", 1, {}),
    (5, "/mix/2.wav", None, 1, {}),
    (6, "/mix/2.wav", None, None, {}),
    (7, "/mix/3.wav", "/out/3.wav", 1, {}),  # alone, by a run
    (8, "/spec/1.wav", "/spec/out.wav", 1, {}),  # alone, by the specification
    (9, "/mix/4.wav", None, 1, {}),  # its rows disagree about the speaker
    (10, "/mix/4.wav", "/out/4.wav", 2, {}),
    (11, "/mix/5.wav", None, 2, {"x": [True, None, 0.1]}),
    (12, "/mix/5.wav", "/out/5.wav", 2, {}),
]
# The history rows' files, one run each; that of the specification knows no process.
RUNS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 6]


@pytest.fixture
def older(path: Path | str) -> DatabaseManager:
    """A database of the second migration, filled as the code of then did."""
    db = DatabaseManager(path)
    db.run_migrations(to=BEFORE)
    when = "2026-01-{:02} 00:00:00.000000+00:00"
    with other_program(path) as connection:

        def write(sql: str, *values: Any) -> None:
            connection.execute(sql.replace("?", "%s") if ON_SERVER else sql, values)

        for name in ("Ada", "Jose\N{COMBINING ACUTE ACCENT}"):
            sql = "INSERT INTO speakers (name, tags, created_at, updated_at) VALUES (?, '[]', ?, ?)"
            write(sql, name, when.format(1), when.format(1))
        for key, path, output, speaker, metadata in FILES:
            write(
                "INSERT INTO processed_files (id, filename, original_path, processed_path,"
                " duration, metadata, speaker_id, file_size, content_hash, created_at, updated_at)"
                " VALUES (?, 'f', ?, ?, 2.5, ?, ?, 9, ?, ?, ?)",
                *(key, path, output, json.dumps(metadata), speaker, f"hash {path}"),
                *(when.format(key), when.format(key)),
            )
        for key, file in enumerate(RUNS, 1):
            write(
                "INSERT INTO processing_history (id, processed_file_id, run_id, operation_type,"
                " model_type, parameters, start_time, end_time, success, process)"
                " VALUES (?, ?, ?, 'separation', ?, '{}', ?, ?, ?, ?)",
                *(key, file, f"run {key}", f"model {key % 2}", when.format(key), when.format(key)),
                *(True, None if file == 8 else '{"pid": 1}'),
            )
            write(
                "INSERT INTO model_performance (id, processing_history_id, model_type, si_snri,"
                " additional_metrics, created_at) VALUES (?, ?, ?, ?, '{}', ?)",
                *(key, key, f"model {key % 2}", float(key), when.format(key)),
            )
        if ON_SERVER:
            write("SELECT setval(pg_get_serial_sequence('processed_files', 'id'), 12)")
        connection.commit()
    return db


HISTORY = """SELECT id, run_id, operation_type, model_type, CAST(parameters AS text), start_time,
 end_time, success, CAST(process AS text) FROM processing_history ORDER BY id"""
MEASURED = (
    "SELECT id, processing_history_id, model_type, si_snri FROM model_performance ORDER BY id"
)
OF_SPEAKERS = """SELECT file.speaker_id, history.model_type, history.id
 FROM processing_history AS history JOIN processed_files AS file
 ON file.id = history.processed_file_id ORDER BY history.id"""


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, MIGRATIONS)
    return caplog


def test_an_older_record_gets_its_recordings(
    older: DatabaseManager, told: pytest.LogCaptureFixture
) -> None:
    """Each path has one recording, with facts, metadata and the speaker on which all agree."""
    older.run_migrations(to=LAST, backup=False)
    with older.initialize() as db:
        rows = db.query(ProcessedFile).order_by(ProcessedFile.id).all()
        assert [(row.id, row.kind, row.recording_id, row.speaker_id) for row in rows] == [
            (1, "stem", 13, 1),
            (2, "stem", 13, 2),
            (3, "recording", None, None),
            (4, "stem", 3, 1),
            (5, "voice", 3, 1),
            (7, "stem", 14, 1),
            (8, "recording", None, 1),
            (9, "recording", None, None),
            (10, "stem", 9, 2),
            (11, "recording", None, 2),
            (12, "stem", 11, 2),
            (13, "recording", None, None),
            (14, "recording", None, 1),
            (15, "voice", 9, 1),
        ]
        recording = db.get_file("/mix/1.wav")
        assert recording.metadata == {"room": "hall", "take": 1, "snr": 5.0}
        assert (recording.content_hash, recording.duration) == ("hash /mix/1.wav", 2.5)
        assert recording.created_at == rows[0].created_at
        assert db.get_file("/mix/5.wav").metadata == {"x": [True, None, 0.1]}
        assert {(row.content_hash, row.file_size) for row in rows if row.kind != "recording"} == {
            (None, None)
        }
        files = [
            row.processed_file_id
            for row in db.query(ProcessingHistory).order_by(ProcessingHistory.id)
        ]
        assert files == [1, 2, 3, 4, 5, 3, 7, 8, 15, 10, 11, 12, 3]
        assert db.get_speaker("Jos\N{LATIN SMALL LETTER E WITH ACUTE}").id == 2
    ((_, _, message),) = told.record_tuples
    assert message == (
        "003_recordings: 6 outputs and 2 voices belong to recordings now; "
        "2 rows of recordings were added, 1 doubles went"
    )


def test_a_recording_keeps_what_is_known_of_it(older: DatabaseManager, path: Path | str) -> None:
    """Facts that one of its rows has, and the speaker that somebody gave it, are not lost."""
    with other_program(path) as connection:
        for change in (
            "UPDATE processed_files SET content_hash = NULL, file_size = NULL WHERE id IN (11, 12)",
            "UPDATE processed_files SET duration = NULL, sample_rate = 8000 WHERE id IN (3, 12)",
            "UPDATE processing_history SET processed_file_id = 10 WHERE processed_file_id = 9",
        ):
            connection.execute(change)
        connection.commit()
    older.run_migrations(to=LAST, backup=False)
    with older.initialize() as db:
        told = [db.get_file(f"/mix/{number}.wav") for number in (2, 5, 4)]
    assert [(file.duration, file.sample_rate, file.speaker_id) for file in told] == [
        (2.5, 8000, None),
        (2.5, 8000, 2),
        (2.5, None, 1),
    ]


QUOTED = {
    'a "b"': True,
    'c"d': {"x": [1, None]},
    '"': [1, "1"],
    'n"': None,
    't"': '{"x": 1}',
    'r"': 0.1,
    'f"': False,
    'i"': 1,
    "back\\slash": True,
    "dot.ted": False,
}


def test_metadata_keep_their_types_under_any_key(older: DatabaseManager, path: Path | str) -> None:
    """Truths, objects and texts that look like them stay so, also under a key with a quote."""
    with other_program(path) as connection:
        mark = "%s" if ON_SERVER else "?"
        sql = f"UPDATE processed_files SET metadata = {mark} WHERE id = 2"
        connection.execute(sql, (json.dumps(QUOTED),))
        connection.commit()
    older.run_migrations(to=LAST, backup=False)
    with older.initialize() as db:
        merged = db.get_file("/mix/1.wav").metadata
    assert json.dumps(merged, sort_keys=True) == json.dumps(
        QUOTED | {"room": "hall", "take": 1}, sort_keys=True
    )


def test_every_run_and_measurement_stays(older: DatabaseManager, path: Path | str) -> None:
    """Nothing but the file of a history row changes, and its speaker stays; back and forth too."""
    before = [ask(path, sql) for sql in (HISTORY, MEASURED, OF_SPEAKERS)]
    for _ in range(2):
        older.run_migrations(to=LAST, backup=False)
        assert [ask(path, sql) for sql in (HISTORY, MEASURED, OF_SPEAKERS)] == before
        count = len(ask(path, "SELECT id FROM processed_files"))
        older.rollback_migration(backup=False)
        assert [ask(path, sql) for sql in (HISTORY, MEASURED, OF_SPEAKERS)] == before
        assert len(ask(path, "SELECT id FROM processed_files")) == count == 14


def test_rolling_back_says_what_stays(
    older: DatabaseManager, told: pytest.LogCaptureFixture
) -> None:
    """The rows stay, without what says whose they are, and that is told."""
    older.run_migrations(to=LAST, backup=False)
    told.clear()
    older.rollback_migration(backup=False)
    (message,) = (text for name, _, text in told.record_tuples if name == MIGRATIONS)
    assert message == (
        "003_recordings: 8 outputs and voices stay, "
        "but no longer say whose recording they belong to"
    )


def test_a_record_without_runs_is_left_alone(
    path: Path | str, told: pytest.LogCaptureFixture
) -> None:
    """Where no run took a row over, nothing changes and nothing is told."""
    empty = DatabaseManager(path)
    empty.run_migrations(to=BEFORE)
    empty.run_migrations(to=LAST, backup=False)
    empty.close()
    assert told.record_tuples == []
