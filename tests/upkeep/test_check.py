"""``check``: what is wrong with a database, and what to do about it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.databases import ON_SERVER

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.upkeep.check import Finding

RESTORE = "restore a backup with 'voices restore'"
RULE = "breaks a rule"
PART = "the recording of a stem or voice is none itself"
REMAKE = "write a migration with 'voices create-migration NAME --empty', or " + RESTORE


def damage(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def made(path: Path) -> Path:
    """A database with a speaker, a file and a run, closed."""
    with DatabaseManager(path).initialize() as db:
        db.add(Speaker(name="Ada"))
        with db.track("/nowhere/mix.wav", "separation") as run_:
            run_.output("/nowhere/ada.wav", si_snri=1.0)
    return path


@pytest.mark.sqlite("harms the file through sqlite3; a server's findings are in test_postgres")
def test_nothing_is_wrong(made: Path) -> None:
    """A sound database has no findings, connected or not, and is not changed."""
    before = made.read_bytes()
    assert DatabaseManager(made).check() == []
    with DatabaseManager(made) as db:
        assert db.check() == []
    assert made.read_bytes() == before


HARM: list[tuple[str, tuple[str, ...], list[Finding]]] = [
    (
        "foreign keys",
        ("PRAGMA foreign_keys=0", "DELETE FROM processed_files"),
        [
            Finding(
                "foreign keys",
                "table 'processing_history' refers to missing rows of 'processed_files' (id 1)",
                f"delete or correct what refers to them, or {RESTORE}",
            )
        ],
    ),
    (
        "many foreign keys",
        (
            "PRAGMA foreign_keys=0",
            """WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 7)
             INSERT INTO processed_files (filename, metadata, speaker_id, created_at, updated_at)
             SELECT 'a', '{}', 99, created_at, updated_at FROM n JOIN speakers""",
        ),
        [
            Finding(
                "foreign keys",
                "table 'processed_files' refers to missing rows of 'speakers' "
                "(7 rows: 3, 4, 5, 6, 7, …)",
                f"delete or correct what refers to them, or {RESTORE}",
            )
        ],
    ),
    (
        "an index of one's own",
        ("CREATE INDEX mine ON speakers (description)",),
        [
            Finding(
                "note",
                "table 'speakers' has index 'mine' (CREATE INDEX mine ON speakers (description)), "
                "which the models lack",
                "it is yours, and costs some room and time with each row that is written",
            )
        ],
    ),
    (
        "a generated column of one's own",
        ("ALTER TABLE speakers ADD COLUMN low TEXT AS (lower(name))",),
        [
            Finding(
                "drift",
                "table 'speakers' has options (as), which the models lack",
                f"write a migration with 'voices create-migration NAME', or {RESTORE}",
            )
        ],
    ),
    (
        "a trigger on our tables",
        ("CREATE TRIGGER evil AFTER INSERT ON speakers BEGIN DELETE FROM processed_files; END",),
        [
            Finding(
                "trigger",
                "trigger 'evil' changes what is written to table 'speakers', "
                "and no migration made it",
                "look at it, and drop it or write it into a migration of --migrations-dir",
            )
        ],
    ),
    (
        "a trigger on our tables in capitals",
        ("CREATE TRIGGER t AFTER INSERT ON SPEAKERS BEGIN DELETE FROM processed_files; END",),
        [
            Finding(
                "trigger",
                "trigger 't' changes what is written to table 'SPEAKERS', and no migration made it",
                "look at it, and drop it or write it into a migration of --migrations-dir",
            )
        ],
    ),
    (
        "a trigger on the table of the migrations",
        ("CREATE TRIGGER t AFTER INSERT ON schema_migrations BEGIN DELETE FROM speakers; END",),
        [
            Finding(
                "trigger",
                "trigger 't' changes what is written to table 'schema_migrations', "
                "and no migration made it",
                "look at it, and drop it or write it into a migration of --migrations-dir",
            )
        ],
    ),
    (
        "a view and a trigger beside ours",
        (
            "CREATE VIEW mine AS SELECT name FROM speakers",
            "CREATE TABLE notes (text)",
            "CREATE TRIGGER noted AFTER INSERT ON notes BEGIN SELECT 1; END",
        ),
        [
            Finding(
                "note", "trigger 'noted' on table 'notes' is not of the package", "it may stay"
            ),
            Finding("note", "view 'mine' is not of the package", "it may stay"),
        ],
    ),
    (
        "unknown migration",
        ("INSERT INTO schema_migrations (name, migrated_at) VALUES ('999_later', '2030-01-01')",),
        [
            Finding(
                "migrations",
                "migration '999_later' is unknown",
                "upgrade voices-peewee, or name the directory that has it: --migrations-dir",
            )
        ],
    ),
    (
        "pending migration",
        ("DELETE FROM schema_migrations",),
        [
            Finding("migrations", f"migration {name!r} is pending", "run 'voices run-migrations'")
            for name in ("001_initial", "002_views", "003_recordings")
        ],
    ),
    (
        "another view",
        ("DROP VIEW v_runs", "CREATE VIEW v_runs AS SELECT 1 AS id"),
        [
            Finding("drift", "view 'v_runs' is another one", REMAKE),
            Finding("note", "view 'v_runs' is not of the package", "it may stay"),
        ],
    ),
]


@pytest.mark.sqlite("harms the file through sqlite3; a server's findings are in test_postgres")
@pytest.mark.parametrize(
    ("statements", "findings"), [one[1:] for one in HARM], ids=[one[0] for one in HARM]
)
def test_what_is_wrong(made: Path, statements: tuple[str, ...], findings: list[Finding]) -> None:
    """Each fault is found, also in a database that cannot be connected to."""
    damage(made, *statements)
    before = made.read_bytes()
    assert DatabaseManager(made).check() == findings
    assert made.read_bytes() == before


@pytest.mark.sqlite("harms the file through sqlite3; a server's findings are in test_postgres")
def test_a_damaged_page_is_found(path: Path) -> None:
    """The many faults of one page are cut off."""
    with DatabaseManager(path).initialize() as db:
        db.add_all(Speaker(name=f"{number:05}") for number in range(3000))
    damage(
        path,
        "PRAGMA writable_schema=1",
        "UPDATE sqlite_master SET rootpage = 3 WHERE name = 'speakers_name'",
    )
    found = DatabaseManager(path).check()
    assert {one.kind for one in found} <= {"integrity", "drift"}
    assert found[0].advice == RESTORE
    assert len([one for one in found if one.kind == "integrity"]) == 20


RENEW = "put the old one back, or record the new one with 'voices add-files'"
LOST = "put it back, map it (--path-map), or forget it with its runs: voices delete-file {key}"


@pytest.mark.parametrize(
    ("content", "what", "advice"),
    [
        (None, "is gone", LOST),
        (b"sounds!", "has changed (7 bytes, not 6)", RENEW),
        (b"noises", "has changed (other content)", RENEW),
    ],
    ids=["gone", "longer", "other"],
)
def test_missing_and_changed_audio(
    tmp_path: Path, path: Path, content: bytes | None, what: str, advice: str
) -> None:
    """With --files a recording that is gone or has changed is found, once for all its rows."""
    audio = tmp_path / "mix.wav"
    audio.write_bytes(b"sounds")
    with DatabaseManager(path).initialize() as db:
        for number in range(2):
            stem = tmp_path / f"stem {number}.wav"
            stem.touch()
            with db.track(audio, "separation") as run_:
                run_.output(stem)
        reported: list[tuple[int, int]] = []
        assert db.check(files=True, on_progress=lambda *done: reported.append(done)) == []
        assert reported == [(6, 6)]
        audio.unlink()
        if content is not None:
            audio.write_bytes(content)
        assert db.check() == []
        key = db.get_file(str(audio)).id
        sentence = f"the recording {str(audio)!r} of file {key} {what}"
        assert db.check(files=True) == [Finding("files", sentence, advice.format(key=key))]


def test_missing_outputs(made: Path) -> None:
    """With --files an output that is gone is found; a source that never was there is not."""
    assert DatabaseManager(made).check(files=True) == [
        Finding(
            "files",
            "the output '/nowhere/ada.wav' of file 2 is gone",
            "put it back, map it (--path-map), or forget it: "
            "voices update-file 2 --processed-path ''",
        )
    ]


def test_files_are_looked_at_in_pages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files there are, each is looked at once."""
    monkeypatch.setattr("voices_peewee.upkeep.check._PAGE", 3)
    with DatabaseManager(path).initialize() as db:
        db.add_all(
            ProcessedFile(
                filename="a", original_path=f"/a/{n}", processed_path=f"/b/{n}", file_size=1
            )
            for n in range(20)
        )
        found = db.check(files=True)
    assert sorted(one.what.split("'")[1] for one in found) == sorted(
        [f"/{folder}/{n}" for folder in "ab" for n in range(20)]
    )


@pytest.mark.sqlite("harms the file through sqlite3; a server's findings are in test_postgres")
def test_the_database_itself_is_left_alone(path: Path) -> None:
    """A row that names the database as its recording does not take its locks away."""
    with DatabaseManager(path).initialize() as db:
        db.add(ProcessedFile(filename="a", original_path=str(path), file_size=1))
        assert db.check(files=True) == []


@pytest.mark.sqlite("what another program may write into a column of SQLite")
def test_a_path_that_is_no_text_is_not_given_to_stems(made: Path) -> None:
    """--fix gives stems the path of a recording, but neither bytes nor a stem's."""
    damage(made, "UPDATE processed_files SET original_path = x'00ff' WHERE recording_id IS NULL")
    damage(
        made,
        """INSERT INTO processed_files (filename, metadata, created_at, updated_at, original_path,
         recording_id) SELECT 'x', '{}', created_at, created_at, '/x.wav', 2 FROM speakers""",
    )
    for _ in range(2):
        assert [one.what for one in DatabaseManager(made).check(fix=True)] == [
            "column 'original_path' in table 'processed_files' (id 1) is no text",
            f"column 'recording_id' in table 'processed_files' (id 3) {RULE}: {PART}",
        ]
        with closing(sqlite3.connect(made)) as connection:
            paths = connection.execute(
                "SELECT original_path FROM processed_files ORDER BY id"
            ).fetchall()
        assert paths == [(b"\x00\xff",), ("/nowhere/mix.wav",), ("/x.wav",)]


def test_a_model_that_was_renamed_in_one_table(db: DatabaseManager) -> None:
    """Questions go by the run's model: a measurement that names another one is found."""
    with db.track("/nowhere/mix.wav", "separation", model_type="demucs") as run_:
        run_.log(si_snri=1.0)
    assert db.check() == []
    db.update(db.get_all(ProcessingHistory)[0], model_type="svoice")
    what = "1 rows of 'model_performance' name another model than their runs"
    advice = "give both tables the same model_type and model_version"
    assert db.check() == [Finding("value", what, advice)]
    db.update(db.get_all(ProcessingHistory)[0], model_type=None)
    assert db.check() == [Finding("value", what, advice)]


@pytest.mark.sqlite("harms the file through sqlite3; a server's findings are in test_postgres")
def test_a_table_that_was_made_anew(made: Path) -> None:
    """A table that a program wrote anew without its rules, as pandas does, is found as such."""
    table = "processed_files"
    damage(
        made,
        "PRAGMA foreign_keys=0",
        "PRAGMA legacy_alter_table=1",
        f"CREATE TABLE other AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE other RENAME TO {table}",
    )
    found = DatabaseManager(made).check(files=True)
    what = f"table {table!r} has column 'id' as INT NULL, not INTEGER NOT NULL PRIMARY KEY"
    assert what in {one.what for one in found}
    assert {one.kind for one in found} <= {"drift", "foreign keys", "files"}
    assert DatabaseManager(made).check(fix=True)[0] == found[0]


TIME = "is no time as this package writes it"
CORRECT = f"correct it in SQL, or {RESTORE}"
FIX = "it sorts wrongly; write it as this package does with 'voices check --fix'"


VALUES: list[tuple[str, str, str, str, str]] = [
    ("speakers", "tags", "'{}'", "is no JSON array of texts", CORRECT),
    ("speakers", "tags", "'[1, 2]'", "is no JSON array of texts", CORRECT),
    ("speakers", "name", "CAST(x'ff41' AS TEXT)", "is no text in UTF-8", CORRECT),
    ("processed_files", "metadata", "'[]'", "is no JSON object", CORRECT),
    ("processed_files", "metadata", "x'7b7d'", "is no JSON object", CORRECT),
    ("speakers", "created_at", "12345", TIME, CORRECT),
    ("speakers", "created_at", "'0000-01-01 00:00:00.000000+00:00'", TIME, CORRECT),
    ("speakers", "updated_at", "'2026-02-31 01:00:00.000000+00:00'", TIME, CORRECT),
    ("processed_files", "channels", "1.5", "is no integer", CORRECT),
    ("processed_files", "read_at", "'2026-01-01T01:00:00Z'", TIME, FIX),
    ("processing_history", "start_time", "'05/05/2026 10:00'", TIME, CORRECT),
    ("processing_history", "start_time", "'2026-01-01 01:00:00'", TIME, FIX),
    ("processing_history", "success", "'false'", "is neither 0 nor 1", CORRECT),
    ("model_performance", "si_snri", "'12 dB'", "is no number", CORRECT),
    ("processed_files", "recording_id", "id", f"{RULE}: {PART}", CORRECT),
    ("processed_files", "channels", "0", f"{RULE}: channels must lie between 1 and 1024", CORRECT),
    ("speakers", "name", "' '", f"{RULE}: a speaker needs a name", CORRECT),
    (
        *("processing_history", "end_time", "'1999-01-01 00:00:00.000000+00:00'"),
        *(f"{RULE}: end_time must not lie before start_time", CORRECT),
    ),
]


@pytest.mark.sqlite("what another program may write into a column of SQLite")
@pytest.mark.parametrize(
    ("table", "column", "value", "what", "advice"),
    VALUES,
    ids=[f"{one[1]} {one[2]}" for one in VALUES],
)
def test_values_that_cannot_be_read(
    made: Path, table: str, column: str, value: str, what: str, advice: str
) -> None:
    """A value that another program wrote and that cannot be read is named with its place."""
    damage(made, "PRAGMA ignore_check_constraints=1", f"UPDATE {table} SET {column} = {value}")
    found = [one for one in DatabaseManager(made).check() if one.kind == "value"]
    assert [(one.what.partition(" (")[0], one.advice) for one in found] == [
        (f"column {column!r} in table {table!r}", advice)
    ]
    assert found[0].what.endswith(f") {what}")


@pytest.mark.parametrize("day", ["0001-01-01", "2026-05-05", "9999-12-31"])
def test_the_last_moment_of_a_day_is_a_time(db: DatabaseManager, day: str) -> None:
    """A time that rounds to the next day is one as this package writes it."""
    db.add(Speaker(name="Ada", created_at=f"{day}T23:59:59.999999Z"))
    assert db.check(fix=True) == []


@pytest.mark.sqlite("what another program may write into a column of SQLite")
def test_times_are_mended(made: Path) -> None:
    """--fix backs up, then writes times with T, Z, an offset or no zone as ours; others stay."""
    spelled = {
        "2026-05-05T10:00:00Z": "2026-05-05 10:00:00.000000+00:00",
        "2026-05-05 10:00:00": "2026-05-05 10:00:00.000000+00:00",
        "2026-05-05T12:00:00.5+02:00": "2026-05-05 10:00:00.500000+00:00",
        "05/05/2026 10:00": "05/05/2026 10:00",
    }
    with closing(sqlite3.connect(made)) as connection, connection:
        connection.executemany(
            "INSERT INTO speakers (name, tags, created_at, updated_at) VALUES ('x', '[]', ?, ?)",
            [(time, time) for time in spelled],
        )
        connection.execute(
            "UPDATE processing_history"
            " SET start_time = '2026-05-05T10:00:00Z', end_time = '2026-05-05T10:00:01Z'"
        )
    db = DatabaseManager(made)
    assert sum(one.mendable for one in db.check()) == 8
    assert db.upgrade_backup is None
    (left, more) = db.check(fix=True)
    assert (left.mendable, more.mendable) == (0, 0)
    assert left.what == f"column 'created_at' in table 'speakers' (id 5) {TIME}"
    with closing(sqlite3.connect(made)) as connection:
        times = connection.execute("SELECT created_at, updated_at FROM speakers WHERE id > 1")
        assert times.fetchall() == [(time, time) for time in spelled.values()]
        assert connection.execute(
            "SELECT DISTINCT start_time, end_time FROM processing_history"
        ).fetchall() == [("2026-05-05 10:00:00.000000+00:00", "2026-05-05 10:00:01.000000+00:00")]
    assert db.upgrade_backup is not None
    assert sum(one.mendable for one in DatabaseManager(db.upgrade_backup).check()) == 8


@pytest.mark.sqlite("what another program may write into a column of SQLite")
def test_nothing_to_mend(made: Path) -> None:
    """Where nothing is to be mended, --fix writes nothing and makes no backup."""
    db = DatabaseManager(made)
    assert db.check(fix=True) == []
    assert db.upgrade_backup is None
    assert [path.name for path in made.parent.glob("*.db")] == [made.name]


def test_stems_have_their_recordings_path(db: DatabaseManager) -> None:
    """A changed path of a recording is that of its stems; where SQL changed it, check mends it."""
    with db.track("/x/1.wav", "separation", model_type="m") as run:
        run.output("/o/1.wav", si_snri=1)
    db.update(db.get_file("/x/1.wav"), original_path="/y/1.wav")
    assert list(db.pending(["/y/1.wav", "/x/1.wav"], "separation", model_type="m")) == ["/x/1.wav"]
    assert db.check() == []
    sql = "UPDATE processed_files SET original_path = '/z/1.wav' WHERE recording_id IS NULL"
    db.execute_raw_query(sql, write=True)
    (finding,) = db.check()
    assert finding.what == "1 rows of 'processed_files' have another path than their recordings"
    if not ON_SERVER:
        assert finding.advice == "give them that of their recordings, with 'voices check --fix'"
        assert db.check(fix=True) == []
        assert list(db.pending(["/z/1.wav"], "separation", model_type="m")) == []
