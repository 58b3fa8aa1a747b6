"""Other databases come in: of this package, older or newer, and of the original module."""

from __future__ import annotations

import datetime as dt
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.databases import stored
from support.import_rows import export
from support.run_rows import add_run

from voices_peewee import DatabaseManager, ModelPerformance, ProcessedFile, ProcessingHistory
from voices_peewee.errors import DatabaseNewerError, InputError, NotVoicesError
from voices_peewee.exchange import databases
from voices_peewee.schema.models import Speaker

# What the original module and SQLAlchemy 2 write on SQLite: enums by name, naive times, JSON as
# text, no foreign keys enforced, and a table of its own migrations.
ORIGINAL = """
CREATE TABLE schema_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, version VARCHAR(255)
  NOT NULL UNIQUE, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, description TEXT);
INSERT INTO schema_migrations (version, description) VALUES ('001', 'Initial schema');
CREATE TABLE speakers (id INTEGER NOT NULL, name VARCHAR(255) NOT NULL, description TEXT,
  tags JSON, created_at DATETIME, updated_at DATETIME, PRIMARY KEY (id));
CREATE TABLE processed_files (id INTEGER NOT NULL, filename VARCHAR(255) NOT NULL,
  original_path VARCHAR(512) NOT NULL, processed_path VARCHAR(512), file_format VARCHAR(10),
  duration FLOAT, sample_rate INTEGER, channels INTEGER, metadata JSON, speaker_id INTEGER,
  created_at DATETIME, updated_at DATETIME, PRIMARY KEY (id),
  FOREIGN KEY(speaker_id) REFERENCES speakers (id));
CREATE TABLE processing_history (id INTEGER NOT NULL, processed_file_id INTEGER NOT NULL,
  operation_type VARCHAR(16) NOT NULL, model_type VARCHAR(6), model_version VARCHAR(50),
  parameters JSON, start_time DATETIME, end_time DATETIME, success BOOLEAN, error_message TEXT,
  PRIMARY KEY (id), FOREIGN KEY(processed_file_id) REFERENCES processed_files (id));
CREATE TABLE model_performance (id INTEGER NOT NULL, processing_history_id INTEGER NOT NULL,
  model_type VARCHAR(6) NOT NULL, model_version VARCHAR(50), si_snri FLOAT, sdri FLOAT,
  cpu_usage FLOAT, memory_usage FLOAT, processing_time FLOAT, real_time_factor FLOAT,
  additional_metrics JSON, PRIMARY KEY (id),
  FOREIGN KEY(processing_history_id) REFERENCES processing_history (id));
INSERT INTO speakers VALUES
  (1,'John Doe','Male speaker','["studio", "male"]','2024-05-06 14:03:05.000000',NULL),
  (5,'Zoë',NULL,'null','2024-05-06 14:03:05.250000','2024-05-07 09:00:00.000000');
INSERT INTO processed_files VALUES
  (2,'mix.wav','/data/mix.wav','/out/zoë.wav','wav',12.5,16000,2,'{"room": "hall"}',5,
   '2024-05-06 14:04:00.000000','2024-05-06 14:04:00.000000');
INSERT INTO processing_history VALUES
  (3,2,'VOICE_SEPARATION','DEMUCS','4.0','{"shifts": 2}','2024-05-06 14:05:00.000000',
   '2024-05-06 14:05:09.500000',1,NULL),
  (4,2,'NOISE_REDUCTION',NULL,NULL,NULL,'2024-05-06 14:06:00.000000',NULL,0,'killed');
INSERT INTO model_performance VALUES
  (1,3,'DEMUCS','4.0',12.25,12.5,85.0,2048.0,9.5,0.76,'{"pesq": 2.7}');
"""


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A file of the original module."""
    path = tmp_path / "voice_separation.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(ORIGINAL)
    return path


def test_a_file_of_the_original_module(db: DatabaseManager, original: Path) -> None:
    """Everything arrives: names of enums become models, naive times UTC, JSON values."""
    done = db.import_records(original)
    assert {table: counts.added for table, counts in done.tables.items()} == {
        "speakers": 2,
        "processed_files": 1,
        "environments": 0,
        "processing_history": 2,
        "model_performance": 1,
        "listening_tests": 0,
        "listening_votes": 0,
    }
    assert done.notes == [
        "created_at of speakers has no time zone; it is taken as UTC",
        "updated_at of speakers has no time zone; it is taken as UTC",
        "created_at of processed_files has no time zone; it is taken as UTC",
        "updated_at of processed_files has no time zone; it is taken as UTC",
        "VOICE_SEPARATION is written voice_separation",
        "DEMUCS is written demucs",
        "start_time of processing_history has no time zone; it is taken as UTC",
        "end_time of processing_history has no time zone; it is taken as UTC",
        "NOISE_REDUCTION is written noise_reduction",
    ]
    john, zoe = db.get_all(Speaker)
    assert (john.id, john.tags, zoe.id, zoe.tags) == (1, ["studio", "male"], 5, [])
    assert john.created_at == dt.datetime(2024, 5, 6, 14, 3, 5, tzinfo=dt.UTC)
    (file,) = db.get_all(ProcessedFile)
    assert (file.metadata, file.speaker, file.content_hash) == ({"room": "hall"}, zoe, None)
    first, second = db.get_all(ProcessingHistory)
    assert (first.model_type, first.success, first.parameters) == ("demucs", True, {"shifts": 2})
    assert (second.status, second.parameters, second.run_id) != (first.run_id, {}, None)
    assert first.model_performance.additional_metrics == {"pesq": 2.7}
    assert db.check() == []


def test_a_file_of_the_original_module_twice(
    db: DatabaseManager, original: Path, path: Path
) -> None:
    """Its rows have no run ids, and are known again all the same."""
    db.import_records(original)
    before = stored(path)
    again = db.import_records(original)
    assert [counts.same for counts in again.tables.values()] == [2, 1, 0, 2, 1, 0, 0]
    assert (again.changed, again.conflicts) == (0, [])
    assert stored(path) == before


def test_the_last_measurement_of_a_run_of_the_original_module(
    db: DatabaseManager, original: Path
) -> None:
    """Of several measurements of one run the last is taken, and a note says which are not."""
    with closing(sqlite3.connect(original)) as connection, connection:
        for key, si_snri in ((2, 13.5), (7, 11.0)):
            connection.execute(
                "INSERT INTO model_performance (id, processing_history_id, model_type, si_snri)"
                " VALUES (?, 3, 'DEMUCS', ?)",
                (key, si_snri),
            )
    for added in (1, 0):
        done = db.import_records(original)
        assert done.tables["model_performance"].added == added
        assert done.notes[-1] == "a run has one measurement, its last; left out: [1, 2]"
        assert done.conflicts == []
    (measured,) = db.get_all(ModelPerformance)
    assert (measured.id, measured.si_snri, measured.sdri) == (7, 11.0, None)


def test_tags_that_are_one_text_in_the_original_module(db: DatabaseManager, original: Path) -> None:
    """Its column of JSON takes a text, too, which is read as that of a CSV is."""
    with closing(sqlite3.connect(original)) as connection, connection:
        connection.execute("UPDATE speakers SET tags = ?", (r'"studio, Zo\u00eb"',))
    db.import_records(original)
    assert [one.tags for one in db.get_all(Speaker)] == [["studio", "Zoë"]] * 2


def test_what_is_not_finite_in_the_original_module(db: DatabaseManager, original: Path) -> None:
    """NaN and infinity, as a silent estimate has them, are kept as a run here keeps them."""
    with closing(sqlite3.connect(original)) as connection, connection:
        connection.execute(
            "UPDATE model_performance SET si_snri = -9e999,"
            ' additional_metrics = \'{"pesq": NaN, "stoi": 0.5}\''
        )
    done = db.import_records(original)
    kept = "values that are NaN or infinite are kept in additional_metrics.nonfinite"
    assert done.notes.count(kept) == 1
    (measured,) = db.get_all(ModelPerformance)
    assert (measured.si_snri, measured.sdri) == (None, 12.5)
    assert measured.additional_metrics == {
        "stoi": 0.5,
        "nonfinite": {"pesq": "nan", "si_snri": "-inf"},
    }
    again = db.import_records(original)
    assert (again.changed, again.conflicts, db.check()) == (0, [], [])


def test_what_is_not_finite_inside_json_of_the_original_module(
    db: DatabaseManager, original: Path
) -> None:
    """In metadata, parameters and lists of measurements they are texts, as they are of a run."""
    measured = '{"si_snri": NaN, "of": [1, -Infinity]}'
    with closing(sqlite3.connect(original)) as connection, connection:
        connection.execute("UPDATE processed_files SET metadata = '{\"snr\": NaN}'")
        connection.execute("UPDATE processing_history SET parameters = '{\"most\": Infinity}'")
        set_both = "UPDATE model_performance SET si_snri = NULL, additional_metrics = ?"
        connection.execute(set_both, (measured,))
    notes = db.import_records(original).notes
    for column in ("metadata", "parameters"):
        assert f"NaN and infinity inside {column} are kept as texts" in notes
    assert db.get_all(ProcessedFile)[0].metadata == {"snr": "nan"}
    assert db.get_all(ProcessingHistory)[0].parameters == {"most": "inf"}
    kept = {"of": [1, "-inf"], "nonfinite": {"si_snri": "nan"}}
    assert db.get_all(ModelPerformance)[0].additional_metrics == kept
    again = db.import_records(original)
    assert (again.changed, again.conflicts, db.check()) == (0, [], [])


def test_a_measurement_of_no_run_of_the_original_module(
    db: DatabaseManager, original: Path
) -> None:
    """What says of no run that it was measured is told, however many such rows there are."""
    with closing(sqlite3.connect(original)) as connection, connection:
        connection.executescript(
            "CREATE TABLE m AS SELECT * FROM model_performance; DROP TABLE model_performance;"
            "ALTER TABLE m RENAME TO model_performance; UPDATE model_performance SET"
            " processing_history_id = NULL; INSERT INTO model_performance (id) VALUES (2)"
        )
    with pytest.raises(InputError) as caught:
        db.import_records(original)
    assert list(map(str, caught.value.problems)) == [
        f"'{original}', id {key}, column 'processing_history_id': it is missing" for key in (1, 2)
    ]


def test_an_empty_version_of_the_original_module(db: DatabaseManager, original: Path) -> None:
    """A version that is empty there and none here makes no run another one."""
    with closing(sqlite3.connect(original)) as connection, connection:
        connection.execute("UPDATE processing_history SET model_version = '', model_type = ''")
        connection.execute("UPDATE model_performance SET model_version = '', model_type = ''")
    db.import_records(original)
    again = db.import_records(original)
    assert (again.changed, again.conflicts) == (0, [])
    assert [(run.model_type, run.model_version) for run in db.get_all(ProcessingHistory)] == [
        (None, None),
        (None, None),
    ]


def test_columns_that_are_missing_are_fine(db: DatabaseManager, original: Path) -> None:
    """A file with fewer columns, or with names in capitals, gives what it has."""
    with closing(sqlite3.connect(original)) as connection:
        connection.executescript(
            "ALTER TABLE speakers DROP COLUMN tags; ALTER TABLE speakers DROP COLUMN created_at;"
            "ALTER TABLE processing_history DROP COLUMN parameters;"
            "ALTER TABLE speakers RENAME COLUMN id TO ID; ALTER TABLE speakers RENAME TO Speakers_;"
            "ALTER TABLE Speakers_ RENAME TO Speakers"
        )
    db.import_records(original)
    assert db.import_records(original).changed == 0
    assert [(one.id, one.tags) for one in db.get_all(Speaker)] == [(1, []), (5, [])]


def test_orphans_of_the_original_module(db: DatabaseManager, original: Path) -> None:
    """It did not enforce references: what refers to nothing is refused, and told once."""
    with closing(sqlite3.connect(original)) as connection:
        connection.executescript("DELETE FROM speakers WHERE id = 5")
    with pytest.raises(InputError) as caught:
        db.import_records(original)
    assert str(caught.value) == (
        f"'{original}', id 2, column 'speaker_id': speakers has no id 5 in the input before it"
    )


def test_an_older_database(tmp_path: Path, db: DatabaseManager) -> None:
    """A database with pending migrations is refused with what to do, and stays as it is."""
    other = tmp_path / "other" / "older.db"
    db.close()
    with DatabaseManager(other).initialize() as older:
        add_run(older, speaker=older.create_speaker("Ada"), si_snri=1.0)
        older.rollback_migration()
    before = digests(other.parent)
    with db, pytest.raises(InputError) as caught:
        db.import_records(other)
    assert str(caught.value) == (
        f"cannot import '{other}': it is older; "
        "upgrade it or a copy with 'voices --db FILE run-migrations' first"
    )
    assert digests(other.parent) == before


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.endswith("-shm")  # the index of a WAL, in which every reader signs in
    }


@pytest.mark.parametrize("mode", ["at rest", "with a WAL", "rollback journal"])
def test_not_a_byte_of_the_other_database_is_changed(tmp_path: Path, path: Path, mode: str) -> None:
    """The other database is only read: its files are the same afterwards, and none was added."""
    other = tmp_path / "other" / "voices.db"
    with DatabaseManager(other).initialize() as db:
        add_run(db, speaker=db.create_speaker("Ada"), si_snri=1.0)
        text = export(db)
    with closing(sqlite3.connect(other)) as connection:
        if mode == "rollback journal":
            connection.execute("PRAGMA journal_mode = delete").fetchall()
        if mode == "with a WAL":
            connection.execute("UPDATE speakers SET description = 'in the WAL'")
            connection.commit()
            text = text.replace('"description": null', '"description": "in the WAL"', 1)
        before = digests(other.parent)
        with DatabaseManager(path).initialize() as db:
            db.import_records(other)
            assert export(db) == text
        assert digests(other.parent) == before


def test_a_newer_database_is_refused(tmp_path: Path, path: Path) -> None:
    """What a later version wrote is not guessed at."""
    other = tmp_path / "newer.db"
    with DatabaseManager(other).initialize() as newer:
        newer.execute_raw_query(
            "INSERT INTO schema_migrations (name, migrated_at) VALUES ('099_future', '2030-01-01')",
            write=True,
        )
    with DatabaseManager(path).initialize() as db, pytest.raises(DatabaseNewerError) as caught:
        db.import_records(other)
    assert str(caught.value) == (
        f"'{other}' is newer than this program (unknown: 099_future); "
        "upgrade voices-peewee, or name the directory of the missing migrations"
    )


STRANGERS = {
    "CREATE TABLE users (id); CREATE TABLE speakers (id, name)": (
        "it is a database of another application (speakers, users)"
    ),
    "VACUUM": "it is a database without tables",
}


@pytest.mark.parametrize(("sql", "reason"), STRANGERS.items(), ids=["few", "empty"])
def test_a_stranger_is_refused(tmp_path: Path, db: DatabaseManager, sql: str, reason: str) -> None:
    """A database of another application is refused in one sentence, and not changed."""
    stranger = tmp_path / "other" / "stranger.db"
    stranger.parent.mkdir()
    with closing(sqlite3.connect(stranger)) as connection:
        connection.executescript(sql)
    before = digests(stranger.parent)
    with pytest.raises(NotVoicesError) as caught:
        db.import_records(stranger)
    assert str(caught.value) == f"cannot use '{stranger}': {reason}"
    assert digests(stranger.parent) == before


def test_a_database_that_another_program_closes_meanwhile(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who had it open and closes it, which takes its WAL away, has not changed it."""
    connect = databases._connect
    other = tmp_path / "other.db"
    with DatabaseManager(other).initialize() as db:
        db.create_speaker("Ada")
    with DatabaseManager(path).initialize() as db, closing(sqlite3.connect(other)) as connection:
        connection.execute("SELECT count(*) FROM speakers").fetchall()
        assert Path(f"{other}-wal").exists()
        monkeypatch.setattr(
            databases, "_connect", lambda *told: connection.close() or connect(*told)
        )
        done = db.import_records(other)
        assert done.tables["speakers"].added == 1


def test_a_database_that_changes_meanwhile(tmp_path: Path, path: Path) -> None:
    """A file that is read as it lies, and is written to meanwhile, is not imported."""
    other = tmp_path / "other.db"
    with DatabaseManager(other).initialize() as db:
        db.create_speaker("Ada")
    with DatabaseManager(path).initialize() as db:

        def write(*_: int) -> None:
            with closing(sqlite3.connect(other)) as connection:
                connection.execute("UPDATE speakers SET name = 'Bob'")
                connection.commit()

        # The first reading ends before the change, the second does not.
        with pytest.raises(InputError) as caught:
            db.import_records([str(other), str(other)], on_progress=write)
        assert str(caught.value) == (
            f"cannot import '{other}': it changed while it was read; try again"
        )
        assert db.get_all(Speaker) == []


@pytest.mark.sqlite("makes the record that is spoilt")
def test_a_record_without_one_of_its_tables_is_refused(tmp_path: Path, db: DatabaseManager) -> None:
    """Its rows would stay behind without a word."""
    other = tmp_path / "other.db"
    db.create_speaker("Ada")
    db.backup_database(other)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("ALTER TABLE speakers RENAME TO people")
        connection.execute("CREATE VIEW speakers AS SELECT * FROM people")
    with pytest.raises(NotVoicesError) as caught:
        db.import_records(other)
    assert str(caught.value) == (
        f"cannot use {str(other)!r}: its table 'speakers' is gone, or is a view"
    )
