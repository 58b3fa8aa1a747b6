"""The commands for migrations."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli_tools import run, terminal
from support.databases import other_program

from voices_peewee.migrations.history import names, package_directory

MIGRATION = """
import peewee as pw


def migrate(migrator, database, *, fake=False):
    migrator.add_fields("speakers", language=pw.CharField(null=True))


def rollback(migrator, database, *, fake=False):
    migrator.remove_fields("speakers", "language")
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An application's own migrations: one that adds a column."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "101_language.py").write_text(MIGRATION)
    return folder


@pytest.fixture
def populated(path: Path) -> Path:
    """A database with one speaker."""
    assert run("--db", path, "init").code == 0
    assert run("--db", path, "add-speaker", "Ada").code == 0
    return path


def columns(place: Path | str, table: str = "speakers") -> list[str]:
    """Return the columns that another program sees."""
    with other_program(place) as connection:
        told = connection.execute(f"SELECT * FROM {table}").description
    return [column[0] for column in told]


@pytest.mark.sqlite("a backup is a file beside the database; on a server see test_postgres_backup")
def test_life_of_a_migration(populated: Path, own: Path) -> None:
    """A pending migration is refused, found, applied and undone; data is backed up before."""
    args = ["--db", populated, "--migrations-dir", own]
    lacks = (
        f"Error: {str(populated)!r} lacks 1 migration (101_language); "
        f"run 'voices --migrations-dir {own} run-migrations'\n"
    )
    assert run(*args, "list-speakers") == (1, "", lacks)
    assert "language" not in columns(populated)

    done = run(*args, "run-migrations")
    (backup,) = populated.parent.glob("voices_backup_*.db")
    assert done == (
        0,
        "101_language\n",
        f"backed up first to {str(backup)!r}\n1 migration applied\n",
    )
    assert "language" in columns(populated)
    assert run(*args, "run-migrations") == (0, "", "0 migrations applied\n")

    newer = (
        f"Error: {str(populated)!r} is newer than this program (unknown: 101_language); "
        "upgrade voices-peewee, or name the directory of the missing migrations\n"
    )
    assert run("--db", populated, "list-speakers") == (1, "", newer)

    done = run(*args, "rollback-migration", "--yes", "--no-backup")
    assert done == (0, "101_language\n", "1 migration undone\n")
    assert "language" not in columns(populated)


def test_migrations_dir_by_environment(
    populated: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VOICES_MIGRATIONS_DIR names an application's own migrations."""
    monkeypatch.setenv("VOICES_MIGRATIONS_DIR", str(own))
    done = run("--db", populated, "run-migrations", "--no-backup")
    assert done == (0, "101_language\n", "1 migration applied\n")


def test_list_migrations(populated: Path, own: Path) -> None:
    """The list says of each migration if it is applied, pending or unknown."""
    args = [
        "--db",
        populated,
        "--migrations-dir",
        own,
        "list-migrations",
        "--columns",
        "name,state",
    ]
    packaged = "".join(
        f"{name}  applied\n" for name in ("001_initial   ", "002_views     ", "003_recordings")
    )
    shown = f"name            state\n{packaged}101_language    pending\n"
    assert run(*args) == (0, shown, "4 migrations\n")
    shown = "name,state\n101_language,pending\n"
    assert run(*args, "state:pending", "--csv") == (0, shown, "")
    assert run(*args, "applied_at:", "--csv") == (0, shown, "")
    for key in ("applied_at", "-applied_at"):  # what is empty comes last
        assert run(*args, "--sort", key, "--csv").out.splitlines()[-1] == "101_language,pending"
    run(*args[:4], "run-migrations", "--no-backup")
    shown = f"name            state\n{packaged}101_language    unknown\n"
    assert run(*args[:2], *args[4:]) == (0, shown, "4 migrations\n")


def test_run_to_and_steps_back(populated: Path, own: Path) -> None:
    """--to stops at a migration, and --steps says how many are undone."""
    (own / "102_accent.py").write_text(MIGRATION.replace("language", "accent"))
    args = ["--db", populated, "--migrations-dir", own]
    done = run(*args, "run-migrations", "--to", "101_language", "--no-backup")
    assert done == (0, "101_language\n", "1 migration applied\n")
    run(*args, "run-migrations", "--no-backup")
    done = run(*args, "rollback-migration", "--steps", "2", "--yes", "--no-backup")
    assert done == (0, "102_accent\n101_language\n", "2 migrations undone\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(
            ["run-migrations", "--to", "001_initail"],
            "there is no migration '001_initail'; see 'voices list-migrations'",
            id="to",
        ),
    ],
)
def test_refusals(populated: Path, own: Path, args: list[str], message: str) -> None:
    """What cannot be done is said in one sentence."""
    assert run("--db", populated, "--migrations-dir", own, *args) == (1, "", f"Error: {message}\n")


@pytest.mark.once
def test_rollback_asks(populated: Path) -> None:
    """A rollback loses data, so it asks first."""
    seen = terminal("--db", populated, "rollback-migration", typed="n\n", columns=200)
    question = (
        f"Undo the newest 1 migration of {str(populated)!r}? Their columns and rows are lost."
    )
    assert seen == (1, f"{question} [y/N]: n\nAborted!\n")
    assert columns(populated)


def test_create_migration_without_a_difference(tmp_path: Path, own: Path) -> None:
    """Where nothing differs that is said; on request nobody looks. Neither needs a database."""
    args = ["--db", tmp_path / "none.db", "--migrations-dir", own, "create-migration"]
    (own / "101_language.py").unlink()
    same = "models and migrations do not differ; the file is empty\n"
    assert run(*args, "nothing") == (0, f"{own / '001_nothing.py'}\n", same)
    assert run(*args, "fill_in", "--empty") == (0, f"{own / '002_fill_in.py'}\n", "")
    assert not (tmp_path / "none.db").exists()


@pytest.mark.once
@pytest.mark.sqlite("pw_migrate opens the file by itself")
def test_pw_migrate_works_on_the_same_file(populated: Path, tmp_path: Path) -> None:
    """Who knows peewee-migrate's own command can list, apply and undo plain migrations with it."""
    folder = Path(shutil.copytree(package_directory(), tmp_path / "all"))
    (folder / "101_tongue.py").write_text(MIGRATION.replace("language", "tongue"))

    def pw_migrate(command: str) -> str:
        place = ["--directory", str(folder), "--migratetable", "schema_migrations"]
        args = [command, "--database", f"sqlite:///{populated}", *place]
        done = subprocess.run(
            [sys.executable, "-m", "peewee_migrate", *args],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    packaged = "".join(f"- [x] {name}\n" for name in names([package_directory()]))
    assert f"{packaged}- [ ] 101_tongue\n" in pw_migrate("list")
    assert "- [x] 101_tongue\n" in pw_migrate("migrate")
    assert columns(populated)[-1] == "tongue"
    unknown = run("--db", populated, "list-migrations", "state:unknown", "--columns", "name")
    assert unknown.out == "name\n101_tongue\n"
    pw_migrate("rollback")
    assert run("--db", populated, "list-speakers", "--columns", "name").out == "name\nAda\n"
    assert columns(populated)[-1] != "tongue"
