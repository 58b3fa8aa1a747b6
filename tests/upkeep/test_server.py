"""A server is backed up and restored by its own tools, which are named."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli_tools import run, terminal

from voices_peewee import DatabaseManager, ProcessedFile, Speaker
from voices_peewee.errors import ServerBackupError

postgres_server = pytest.importorskip("support.postgres_server", exc_type=ImportError)
pytestmark = pytest.mark.postgresql

URL = "postgresql://voices@localhost:5555/voices"
BACKUP = "pg_dump --format=custom --no-owner --file=voices.dump"
RESTORE = "pg_restore --clean --if-exists --single-transaction --no-owner"


@pytest.fixture
def url(
    server: postgres_server.Server, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    monkeypatch.setenv("PATH", str(server.bin), prepend=":")
    name = server.create(migrated)
    yield server.url(name)
    server.drop(name)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, URL),
        (URL.replace("@", ":se%2Fcret@"), URL),
        (f"{URL}?password=secret&sslmode=disable", f"{URL}?sslmode=disable"),
    ],
    ids=["plain", "password", "options"],
)
def test_commands_name_the_tool(url: str, shown: str, tmp_path: Path) -> None:
    """The commands exit 1 with the call to use, which holds no password."""
    for args, call in (
        (["backup"], f"pg_dump --format=custom --no-owner --file=voices.dump --dbname='{shown}'"),
        (
            ["restore", tmp_path / "a.dump", "--yes"],
            f"{RESTORE} --dbname='{shown}' '{tmp_path}/a.dump'",
        ),
        (
            ["list-backups"],
            f"pg_dump --format=custom --no-owner --file=voices.dump --dbname='{shown}'",
        ),
    ):
        done = run("--db", url, *args)
        assert (done.code, done.out) == (1, "")
        assert done.err.endswith(f"a server has its own tools for that; run: {call}\n")
        assert "cret" not in done.err


def test_the_tools_do_it(url: str, tmp_path: Path) -> None:
    """What the sentences say backs a server up and restores it, also under open connections."""
    with DatabaseManager(url) as db:
        db.create_speaker("Ada", tags=["a"])
        with pytest.raises(ServerBackupError) as caught:
            db.backup_database()
        subprocess.run(shlex.split(caught.value.command), cwd=tmp_path, check=True)
        db.create_speaker("Bob")
        db.close_session()
        with pytest.raises(ServerBackupError) as caught:
            db.restore(tmp_path / "voices.dump")
        subprocess.run(shlex.split(caught.value.command), cwd=tmp_path, check=True)
        assert [(one.name, one.tags) for one in db.get_all(Speaker)] == [("Ada", ["a"])]
        assert db.create_speaker("Eve").id == 2
        assert db.check() == []


def test_an_upgrade_wants_a_yes(url: str, tmp_path: Path) -> None:
    """A populated server is upgraded with --no-backup or a terminal's yes, and not otherwise."""
    own = tmp_path / "own"
    own.mkdir()
    args = ["--db", url, "--migrations-dir", own]
    code = "def migrate(migrator, database, *, fake=False): ...\n"
    (own / "101_first.py").write_text(code)
    done = run(*args, "init")
    assert done.code == 1
    assert (
        "own tools for that, after which --no-backup (backup=False) goes on; run: pg_" in done.err
    )
    assert run(*args, "init", "--no-backup").code == 0
    (own / "102_second.py").write_text(code)
    assert run(*args, "run-migrations").code == 1
    code_, seen = terminal(*args, "run-migrations", typed="y\n", columns=300)
    assert code_ == 0
    assert "Is that done, so that it can go on? [y/N]: y" in seen
    (own / "103_third.py").write_text(code)
    assert terminal(*args, "init", typed="n\n", columns=300)[0] == 1


def test_values_that_cannot_be_read(url: str) -> None:
    """Times that Python has not, and JSON of another shape, are named with their places."""
    with DatabaseManager(url) as db:
        for number in range(4):
            db.add(Speaker(name=f"speaker {number}", tags=["x", "y"]))
        db.add(ProcessedFile(filename="a.wav", metadata={"room": "hall"}))
        assert db.check() == []
        for sql in (
            "UPDATE speakers SET created_at = 'infinity' WHERE id = 1",
            "UPDATE speakers SET created_at = '0044-03-15 00:00:00+00 BC' WHERE id = 2",
            "UPDATE speakers SET created_at = '12026-01-01 00:00:00+00' WHERE id = 3",
            "UPDATE speakers SET tags = '{}' WHERE id = 1",
            """UPDATE speakers SET tags = '["x", 1]' WHERE id = 4""",
            "UPDATE processed_files SET metadata = '[]'",
        ):
            db.execute_raw_query(sql, write=True)
        assert len(db.get_all(Speaker)) == 4
        found = [(one.kind, one.what, one.advice) for one in db.check()]
    no_time = "is no time as this package writes it"
    assert found == [
        ("value", f"column {column!r} in table {table!r} ({which}", "correct it in SQL")
        for table, column, which in (
            ("speakers", "tags", "2 rows: 1, 4) is no JSON array of texts"),
            ("speakers", "created_at", f"3 rows: 1, 2, 3) {no_time}"),
            ("processed_files", "metadata", "id 1) is no JSON object"),
        )
    ]
