"""Backups of a server's database: whole, verified, restored under the eyes of others."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli_tools import run
from support.databases import Databases

from voices_peewee import DatabaseManager, Speaker, errors

postgres_server = pytest.importorskip("support.postgres_server", exc_type=ImportError)
pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.once,
    pytest.mark.skipif(postgres_server.binaries() is None, reason="no PostgreSQL server here"),
]
NO_PROGRAM = (
    "pg_dump is not on PATH; install PostgreSQL's client programs, of the server's version or "
    "newer (Debian: apt install postgresql-client)"
)


@pytest.fixture
def url(
    server: postgres_server.Server, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    monkeypatch.setenv("PATH", str(server.bin), prepend=":")
    name = server.create(migrated)
    yield server.url(name)
    server.drop(name)


def test_a_backup_is_restored_into_the_live_database(url: str, tmp_path: Path) -> None:
    """What was changed since is undone, ids go on, and other connections see it at once."""
    with DatabaseManager(url) as db:
        db.create_speaker("Ada", tags=["a"])
        path = db.backup_database(tmp_path / "ada.dump")
        assert path == tmp_path / "ada.dump"
        assert path.stat().st_mode & 0o777 == 0o600
        found = db.verify_backup(path)
        assert (found.rows["speakers"], found.migrations[0]) == (1, "001_initial")
        assert [one.path for one in db.list_backups(tmp_path)] == [path]
        db.create_speaker("Bob")
        db.delete(db.get_speaker("Ada"))
        done = db.restore(path)
        assert done.restored == found
        assert done.saved is not None
        assert done.saved.path.parent == tmp_path / "home" / ".voices"
        assert db.list_backups() == [done.saved]
        assert [(one.name, one.tags) for one in db.get_all(Speaker)] == [("Ada", ["a"])]
        assert db.create_speaker("Eve").id == 2
        assert db.check() == []
        db.restore(done.saved.path)
        assert [one.name for one in db.get_all(Speaker)] == ["Bob"]


def test_a_backup_is_restored_into_an_empty_database(
    server: postgres_server.Server, url: str, tmp_path: Path
) -> None:
    """A dump makes a database of an empty one."""
    with DatabaseManager(url) as db:
        db.create_speaker("Ada")
        path = db.backup_database(tmp_path)
    name = server.create()
    other = DatabaseManager(server.url(name))
    assert other.restore(path).saved is None
    assert [one.name for one in other.get_all(Speaker)] == ["Ada"]
    other.close()
    server.drop(name)


def test_a_backup_is_one_moment_while_others_write(url: str, tmp_path: Path) -> None:
    """The rows that the facts count are the rows that are restored, whoever writes meanwhile."""
    with DatabaseManager(url) as db:
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                db.add(Speaker(name="x"))

        writer = threading.Thread(target=write)
        writer.start()
        path = db.backup_database(tmp_path / "x.dump")
        stop.set()
        writer.join()
        counted = db.verify_backup(path).rows["speakers"]
        db.restore(path)
        assert db.status()["rows"]["speakers"] == counted


def test_an_upgrade_saves_what_is_there(url: str, tmp_path: Path) -> None:
    """An upgrade of a populated database says where its backup is, and that one is sound."""
    (tmp_path / "101_nothing.py").write_text("def migrate(migrator, database, *, fake=False): ...")
    assert run("--db", url, "add-speaker", "Ada").code == 0
    done = run("--db", url, "--migrations-dir", tmp_path, "init")
    (backup,) = (tmp_path / "home" / ".voices").glob("*.dump")
    assert done == (0, f"{url}\n", f"backed up first to '{backup}'\n1 migration applied\n")
    assert run("--db", url, "verify-backup", backup).code == 0


def test_a_changed_backup_is_refused(url: str, tmp_path: Path) -> None:
    """A dump whose bytes are not those of its facts is not restored, and nothing is changed."""
    with DatabaseManager(url) as db:
        db.create_speaker("Ada")
        path = db.backup_database(tmp_path / "x.dump")
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        with pytest.raises(errors.BackupError) as caught:
            db.restore(path)
        assert str(caught.value) == (
            f"backup '{path}': its digest is not that of its facts 'x.dump.json'; it was changed"
        )
        (tmp_path / "x.dump.json").unlink()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(errors.BackupError) as caught:
            db.restore(path)
        assert str(caught.value).startswith(f"backup '{path}': pg_restore failed (")
        assert [one.name for one in db.get_all(Speaker)] == ["Ada"]


def test_a_restore_that_fails_changes_nothing(
    server: postgres_server.Server, url: str, tmp_path: Path
) -> None:
    """A dump that cannot be put back, here for want of a type, leaves what was there."""
    with DatabaseManager(url) as db:
        db.execute_raw_query("CREATE TYPE mood AS ENUM ('good')", write=True)
        db.execute_raw_query("CREATE TABLE moods (mood mood)", write=True)
        path = db.backup_database(tmp_path / "x.dump")
        db.create_speaker("Ada")
        with pytest.raises(errors.BackupError) as caught:
            db.restore(path)  # the type is there already
        assert str(caught.value).startswith(f"backup '{path}': it could not be restored (")
        assert 'type "mood" already exists' in str(caught.value)
        assert [one.name for one in db.get_all(Speaker)] == ["Ada"]


def test_a_backup_is_of_its_schema_alone(
    server: postgres_server.Server, url: str, tmp_path: Path
) -> None:
    """Two teams' schemas in one database are backed up and restored apart from each other."""
    server.execute("CREATE SCHEMA team", Databases.name(url))
    team = f"{url}&options=-csearch_path%3Dteam"
    with DatabaseManager(team).initialize() as db:
        db.create_speaker("Ada")
        path = db.backup_database(tmp_path / "team.dump")
        db.create_speaker("Bob")
    with DatabaseManager(url) as db:
        db.create_speaker("Eve")
        whole = db.backup_database(tmp_path / "public.dump")
        with pytest.raises(errors.BackupError) as caught:
            db.restore(path)
        assert str(caught.value) == (
            f"backup '{path}': it is of the schema 'team', and the first of the search_path is "
            "'public'"
        )
        db.restore(whole)
        assert [one.name for one in db.get_all(Speaker)] == ["Eve"]
    with DatabaseManager(team) as db:
        assert [one.name for one in db.get_all(Speaker)] == ["Ada", "Bob"]
        db.restore(path)
        assert [one.name for one in db.get_all(Speaker)] == ["Ada"]


def test_another_applications_dump_is_refused(
    server: postgres_server.Server, url: str, tmp_path: Path
) -> None:
    """A dump without a record is no backup, and does not take the place of one."""
    name, path = server.create(), tmp_path / "songs.dump"
    server.execute("CREATE TABLE songs (id int)", name)
    command = ["pg_dump", "--format=custom", f"--file={path}", server.url(name)]
    subprocess.run(command, check=True)
    server.drop(name)
    with DatabaseManager(url) as db:
        db.create_speaker("Ada")
        for call in (db.verify_backup, db.restore):
            with pytest.raises(errors.BackupError) as caught:
                call(path)
            assert str(caught.value) == f"backup '{path}': it is a dump of another application"
        assert [one.name for one in db.get_all(Speaker)] == ["Ada"]


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (lambda _: None, "there is no such file"),
    (lambda path: path.write_text("hello"), "it is not a dump of pg_dump's custom format"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED, ids=["missing", "text"])
def test_what_is_no_backup_is_refused(
    url: str, tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    """Each thing that is no dump has its sentence."""
    make(tmp_path / "x.dump")
    with DatabaseManager(url) as db, pytest.raises(errors.BackupError) as caught:
        db.verify_backup(tmp_path / "x.dump")
    assert str(caught.value) == f"backup '{tmp_path / 'x.dump'}': {reason}"


def test_a_newer_backup_is_refused(url: str, tmp_path: Path) -> None:
    """A dump with a migration that is not known here is not restored."""
    with DatabaseManager(url) as db:
        db.execute_raw_query(
            "INSERT INTO schema_migrations (name, migrated_at) VALUES ('999_new', now())",
            write=True,
        )
        path = db.backup_database(tmp_path / "x.dump")
        with pytest.raises(errors.DatabaseNewerError):
            db.restore(path)


def test_without_pg_dump_the_sentence_says_how_to_get_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where PostgreSQL's programs are not on PATH, one sentence says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with DatabaseManager(url) as db, pytest.raises(errors.BackupError) as caught:
        db.backup_database(tmp_path / "x.dump")
    assert str(caught.value) == f"backup '{tmp_path / 'x.dump'}': {NO_PROGRAM}"
    assert list(tmp_path.glob("*.dump*")) == []


def test_no_password_is_on_a_command_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pg_dump is given the password by its environment; nothing shows it."""
    seen: list[tuple[list[str], dict[str, str]]] = []
    original = subprocess.run

    def note(command: list[str], **options: object) -> object:
        seen.append((command, dict(options.get("env") or {})))  # type: ignore[call-overload]
        return original(command, **options)

    monkeypatch.setattr(subprocess, "run", note)
    secret = url.replace("voices@", "voices:s3cret@")
    with DatabaseManager(secret) as db:
        path = db.backup_database(tmp_path / "x.dump")
        assert "s3cret" not in repr(db) + str(db.status())
    (command, environment), _ = seen
    assert not any("s3cret" in word for word in command)
    assert environment["PGPASSWORD"] == "s3cret"
    assert "s3cret" not in (tmp_path / "x.dump.json").read_text()
    assert json.loads((tmp_path / "x.dump.json").read_text())["source"].startswith(
        "postgresql://voices:***@"
    )
    assert path.exists()


def test_the_command_line_backs_up_and_restores(url: str, tmp_path: Path) -> None:
    """backup, list-backups, verify-backup and restore work with a server."""
    path = tmp_path / "x.dump"
    assert run("--db", url, "add-speaker", "Ada").code == 0
    assert run("--db", url, "backup", "--backup-path", path) == (0, f"{path}\n", "")
    assert run("--db", url, "verify-backup", path).err.startswith(f"'{path}' is sound: 1 record, ")
    assert run("--db", url, "delete-speaker", "Ada", "--yes").code == 0
    done = run("--db", url, "restore", path, "--yes")
    assert (done.code, done.out) == (0, "")
    assert run("--db", url, "list-speakers", "--csv", "--columns", "name").out == "name\nAda\n"
    listed = run("--db", url, "list-backups", "--csv", "--columns", "source")
    assert listed.out == f"source\n{url}\n"
