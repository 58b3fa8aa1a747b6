"""``check``: what is wrong with a database, and what to do about it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.cli_tools import run

from voices_peewee import DatabaseManager, ProcessedFile, Speaker, errors
from voices_peewee.upkeep.check import Finding

RESTORE = "restore a backup with 'voices restore'"
MIGRATE = "write a migration with 'voices create-migration NAME', or " + RESTORE
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
    assert run("--db", made, "check") == (0, "", "nothing is wrong\n")
    assert run("--db", made, "check", "--json") == (0, "[]\n", "nothing is wrong\n")


HARM: list[tuple[str, tuple[str, ...], list[Finding]]] = [
    (
        "foreign keys",
        ("PRAGMA foreign_keys=0", "DELETE FROM processed_files"),
        [
            Finding(
                "foreign keys",
                "1 row of 'processing_history' refers to a missing row of 'processed_files' (id 1)",
                f"delete or correct it, or {RESTORE}",
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
                "7 rows of 'processed_files' refer to missing rows of 'speakers' "
                "(ids 2, 3, 4, 5, 6, …)",
                f"delete or correct them, or {RESTORE}",
            )
        ],
    ),
    (
        "an index is gone",
        ("DROP INDEX speakers_name",),
        [
            Finding(
                "drift",
                "table 'speakers' lacks index 'speakers_name' "
                '(CREATE INDEX "speakers_name" ON "speakers" ("name"))',
                MIGRATE,
            )
        ],
    ),
    (
        "a column too many",
        ("ALTER TABLE speakers ADD COLUMN age INTEGER",),
        [
            Finding(
                "drift",
                "table 'speakers' has column 'age' (INTEGER NULL), which the models lack",
                MIGRATE,
            )
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
            for name in ("001_initial", "002_views")
        ],
    ),
    (
        "missing view",
        ("DROP VIEW v_runs",),
        [Finding("drift", "view 'v_runs' is missing", REMAKE)],
    ),
    (
        "another view",
        ("DROP VIEW v_runs", "CREATE VIEW v_runs AS SELECT 1 AS id"),
        [Finding("drift", "view 'v_runs' is another one", REMAKE)],
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
def test_the_command_says_what_to_do(made: Path) -> None:
    """The command prints each finding with its advice and exits 1; --json has the same."""
    damage(made, "DELETE FROM schema_migrations WHERE name = '001_initial'")
    assert run("--db", made, "check") == (
        1,
        "migrations: migration '001_initial' is pending\n    run 'voices run-migrations'\n",
        "1 finding\n",
    )
    outcome = run("--db", made, "check", "--json")
    assert (outcome.code, outcome.err) == (1, "1 finding\n")
    assert json.loads(outcome.out) == [
        {
            "kind": "migrations",
            "what": "migration '001_initial' is pending",
            "advice": "run 'voices run-migrations'",
        }
    ]


@pytest.mark.sqlite("harms the file through sqlite3; a server's findings are in test_postgres")
def test_a_damaged_page_is_found(path: Path) -> None:
    """Many faults of one page are cut off and counted."""
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
    assert len([one for one in found if one.kind == "integrity"]) == 21
    assert found[20].what.startswith("and ")


def _gone(path: Path) -> None:
    path.unlink()


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _other(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "what", "advice"),
    [
        (_gone, "is gone", "put it back, or forget it with its runs: voices delete-file 1"),
        (
            _longer,
            "has changed (7 bytes, not 6)",
            "put the old one back, or record the new one with 'voices add-files'",
        ),
        (
            _other,
            "has changed (other content)",
            "put the old one back, or record the new one with 'voices add-files'",
        ),
    ],
)
def test_missing_and_changed_audio(
    tmp_path: Path, path: Path, harm: Callable[[Path], None], what: str, advice: str
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
        harm(audio)
        assert db.check() == []
        key = db.get_all(ProcessedFile)[-1].id
        assert db.check(files=True) == [
            Finding(
                "files",
                f"the recording {str(audio)!r} of file {key} {what}",
                advice.replace("delete-file 1", f"delete-file {key}"),
            )
        ]


def test_missing_outputs(made: Path) -> None:
    """With --files an output that is gone is found; a source that never was there is not."""
    assert DatabaseManager(made).check(files=True) == [
        Finding(
            "files",
            "the output '/nowhere/ada.wav' of file 1 is gone",
            "put it back, or forget it: voices update-file 1 --processed-path ''",
        )
    ]


def test_files_are_looked_at_in_pages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files there are, each is looked at once."""
    monkeypatch.setattr("voices_peewee.upkeep.check._PAGE", 3)
    with DatabaseManager(path).initialize() as db:
        db.add_all(
            ProcessedFile(
                filename="a", original_path=f"/a/{n // 2}", processed_path=f"/b/{n}", file_size=1
            )
            for n in range(20)
        )
        found = db.check(files=True)
    assert sorted(one.what.split("'")[1] for one in found) == sorted(
        [f"/a/{n}" for n in range(10)] + [f"/b/{n}" for n in range(20)]
    )


@pytest.mark.sqlite("harms the file through sqlite3; a server's findings are in test_postgres")
def test_the_database_itself_is_left_alone(path: Path) -> None:
    """A row that names the database as its recording does not take its locks away."""
    with DatabaseManager(path).initialize() as db:
        db.add(ProcessedFile(filename="a", original_path=str(path), file_size=1))
        assert db.check(files=True) == []


@pytest.mark.sqlite("harms the file through sqlite3; a server's findings are in test_postgres")
def test_check_needs_a_database(path: Path) -> None:
    """Without a database there is nothing to check, and none is made."""
    with pytest.raises(errors.DatabaseMissingError):
        DatabaseManager(path).check()
    assert not path.exists()
