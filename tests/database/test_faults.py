"""Disks that are full, files that may not be written, locks that others hold, wrong files."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import peewee as pw
import pytest
from support.cli_tools import run

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
    errors,
)
from voices_peewee.database.sqlite import is_open_here
from voices_peewee.records.audio_files import content_hash
from voices_peewee.schema.fields import utc_now

pytestmark = pytest.mark.sqlite(
    "damage, full disks and locks of one file; on a server see test_postgres_faults"
)

PRELUDE = """
import ctypes, os, resource, sys
from pathlib import Path
from click.testing import CliRunner
from voices_peewee import (DatabaseManager, ProcessedFile, Speaker, errors)
from voices_peewee.cli import cli

path = Path(sys.argv[1])

def voices(*args):
    result = CliRunner().invoke(cli, ["--db", str(path), *args], prog_name="voices")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    print(args[0], result.exit_code, result.stderr.strip().replace(str(path), "PATH"))

def attempt(name, action):
    try:
        action()
        print(name, "ok")
    except errors.VoicesError as error:
        print(name, str(error).replace(str(path), "PATH"))

def obey_permissions():
    # Without capabilities even root is held to the permissions of files.
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0

def many(size):
    return [Speaker(name="y" * size) for _ in range(1000)]

def tracked(db):
    for number in range(100):
        with db.track("/mix.wav", "separation", parameters={"long": "x" * 50_000}) as run:
            run.output(f"/out{number}.wav", si_snri=1.0)

def forever(db):
    while True:
        db.add(Speaker(name="x" * 5000))
"""

FULL = "cannot use 'PATH': the disk is full; nothing of this change was written"
FULL_ELSEWHERE = (
    "cannot use 'PATH': the disk is full (that of temporary files; set SQLITE_TMPDIR to a folder "
    "on another); nothing of this change was written"
)
READ_ONLY = (
    "Error: cannot use 'PATH': it is read-only; check the permissions of the file and its folder"
)


def program(path: Path, body: str) -> str:
    """Run a program of its own on a database; return what it printed."""
    lines = [line[8:] for line in body.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + "\n".join(lines), path],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def small(path: Path) -> Path:
    """Make a database of two speakers and a file."""
    with DatabaseManager(path).initialize() as db:
        db.add_all([Speaker(name="Ada"), ProcessedFile(filename="a", speaker=Speaker(name="Bob"))])
    return path


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def state(folder: Path) -> dict[str, str]:
    """Return the names and the digests of all files of a folder."""
    return {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest()
        for one in folder.iterdir()
        if one.is_file()
    }


def mounted(folder: Path) -> bool:
    """Mount a file system of 2 MB; only root can."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    if not mounted(folder):
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(disk: Path) -> None:
    """Every way to write says that the disk is full, and writes all or nothing; reading goes on."""
    path = small(disk / "voices.db")
    body = """
        db = DatabaseManager(path).connect()
        attempt("add_all", lambda: db.add_all(many(5000)))
        print(len(db.get_all(Speaker)))
        attempt("tracked", lambda: tracked(db))
        attempt("add", lambda: forever(db))
        count = len(db.get_all(Speaker))
        try:
            db.backup_database()
        except errors.DatabaseFullError:
            print("backup: full")
        print(sorted(one.name for one in path.parent.iterdir()))
        print(len(db.get_all(Speaker)) == count)
        db.close()
        filler = os.open(path.with_name("filler"), os.O_CREAT | os.O_WRONLY)
        for size in (4096, 1):
            try:
                while True:
                    os.write(filler, b"x" * size)
            except OSError:
                pass
        voices("list-speakers", "--limit", "1")
        voices("add-speaker", "z" * 5000)
        path.with_name("filler").unlink()
        """
    printed = program(path, body).splitlines()
    listed = printed.pop(-2)
    assert printed == [
        f"add_all {FULL}",
        "2",
        f"tracked {FULL}",
        f"add {FULL}",
        "backup: full",
        "['voices.db', 'voices.db-shm', 'voices.db-wal']",
        "True",
        f"add-speaker 1 Error: {FULL}",
    ]
    assert listed.startswith("list-speakers 0 1 of ")
    assert sound(path)


def test_no_room_for_temporary_files(
    disk: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /tmp is full, and not the record's disk, the sentence says so."""
    small(path)
    monkeypatch.setenv("SQLITE_TMPDIR", str(disk))
    body = """
        DatabaseManager(path).connect().add_all(many(30000))
        voices("list-speakers", "--sort", "description,-name", "--all", "--csv")
        """
    assert program(path, body) == f"list-speakers 1 Error: {FULL_ELSEWHERE}\n"


def test_a_block_does_not_go_on_after_it_was_undone(db: DatabaseManager) -> None:
    """Where an error undid a transaction, the rest of its block is not written without it."""
    undone = (
        f"cannot use {db.path!r}: an earlier error undid this transaction; "
        "leave its block and do it all again"
    )
    pages = db.execute_raw_query("PRAGMA page_count", write=True)[0]["page_count"]

    def write(rest: Callable[[], object]) -> str:
        with db.atomic():
            db.add(Speaker(name="first"))
            with pytest.raises(errors.DatabaseFullError):
                db.add(Speaker(name="x" * 1_000_000))
            with pytest.raises(errors.DatabaseError) as caught:
                rest()
        return str(caught.value)

    db.database.pragma("max_page_count", pages + 5)
    for rest in (
        lambda: db.add(Speaker(name="rest")),
        lambda: db.add_all([Speaker(name="rest")]),
        lambda: Speaker.create(name="rest"),
    ):
        with pytest.raises(errors.DatabaseError) as caught:
            assert write(rest) == undone
        assert str(caught.value) == undone
    assert db.get_all(Speaker) == []
    db.database.pragma("max_page_count", 1 << 30)
    assert db.add(Speaker(name="again")).id == 1


def test_a_file_size_limit(path: Path) -> None:
    """Where the system refuses a larger file, nothing is half written and reading goes on."""
    small(path)
    body = """
        db = DatabaseManager(path).connect()
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        attempt("add_all", lambda: db.add_all(many(5000)))
        attempt("forever", lambda: forever(db))
        attempt("tracked", lambda: tracked(db))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        print(len(db.query(Speaker).where(Speaker.name.startswith("y")).all()))
        attempt("again", lambda: db.add_all(many(5000)))
        db.close()
        """
    refused = "cannot use 'PATH': disk I/O error; check the disk, and your quota on it"
    assert program(path, body) == (
        f"add_all {refused}\nforever {refused}\ntracked {refused}\n0\nagain ok\n"
    )
    assert sound(path)


@pytest.mark.parametrize(
    ("file_mode", "folder_mode"),
    [(0o444, 0o555), (0o644, 0o555)],
    ids=["file and folder", "folder"],
)
def test_read_only_folder(tmp_path: Path, file_mode: int, folder_mode: int) -> None:
    """In a read-only folder everything can be read, and writing says what to check."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = small(folder / "voices.db")
    before = state(folder)
    path.chmod(file_mode)
    folder.chmod(folder_mode)
    body = """
        obey_permissions()
        for command in ("list-speakers", "list-files", "list-tags", "check", "list-migrations"):
            voices(command)
        voices("add-speaker", "Eve")
        voices("status")
        """
    assert program(path, body) == (
        "list-speakers 0 2 speakers\nlist-files 0 1 file\nlist-tags 0 0 tags\n"
        "check 0 nothing is wrong\nlist-migrations 0 3 migrations\n"
        f"add-speaker 1 {READ_ONLY}\nstatus 0 \n"
    )
    assert state(folder) == before
    folder.chmod(0o755)


def test_read_only_file_system(disk: Path) -> None:
    """On a disk that is mounted read-only everything can be read too, by root as well."""
    path = small(disk / "voices.db")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    body = """
        for command in ("list-speakers", "export", "check"):
            voices(command)
        copy = path.parents[1] / "copy.db"  # on another disk
        voices("backup", "--backup-path", str(copy))
        voices("verify-backup", str(copy))
        voices("add-speaker", "Eve")
        """
    exported = "exported 2 rows of speakers, 1 row of processed_files"
    printed = program(path, body).splitlines(keepends=True)
    assert printed.pop(4).startswith("verify-backup 0 ")
    assert "".join(printed) == (
        f"list-speakers 0 2 speakers\nexport 0 {exported}\ncheck 0 nothing is wrong\nbackup 0 \n"
        f"add-speaker 1 {READ_ONLY}\n"
    )


def test_a_wal_in_a_read_only_folder(tmp_path: Path) -> None:
    """Rows are never shown without what a WAL holds that cannot be read there."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = small(tmp_path / "voices.db")
    with DatabaseManager(path).connect() as db:
        db.add(Speaker(name="Eve"))
        for name in ("voices.db", "voices.db-wal"):
            shutil.copy(tmp_path / name, folder / name)
    folder.chmod(0o555)
    body = """
        obey_permissions()
        voices("list-speakers")
        """
    assert program(folder / "voices.db", body) == (
        "list-speakers 1 Error: cannot use 'PATH': unable to open database file; "
        "check the permissions of its folder, and how many files are open\n"
    )
    folder.chmod(0o755)
    assert run("--db", folder / "voices.db", "list-speakers", "--columns", "name").err == (
        "3 speakers\n"
    )


def test_read_only_file(path: Path) -> None:
    """A read-only file in a folder that can be written is read, and not changed."""
    small(path)
    before = path.read_bytes()
    path.chmod(0o444)
    body = """
        obey_permissions()
        voices("list-speakers")
        voices("add-speaker", "Eve")
        voices("delete-speaker", "Ada", "--yes")
        """
    assert program(path, body) == (
        f"list-speakers 0 2 speakers\nadd-speaker 1 {READ_ONLY}\ndelete-speaker 1 {READ_ONLY}\n"
    )
    assert path.read_bytes() == before


def test_no_permission(tmp_path: Path) -> None:
    """A file or folder that may not be entered, read or written is named, in one sentence."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = small(folder / "voices.db")
    body = """
        obey_permissions()
        os.chmod(path, 0)
        for command in ("status", "init", "check"):
            voices(command)
        os.chmod(path, 0o600)
        os.chmod(path.parent, 0)
        for command in ("status", "init", "check"):
            voices(command)
        os.chmod(path.parent, 0o500)
        attempt("new", lambda: DatabaseManager(path.with_name("new.db")).initialize())
        attempt("new", lambda: DatabaseManager(path.with_name("new") / "new.db").initialize())
        """
    denied = "1 Error: cannot use 'PATH': permission denied\n"
    new = f"new cannot use '{folder}/new{{}}': permission denied\n"
    assert program(path, body) == (
        f"status {denied}init {denied}check {denied}" * 2
        + new.format(".db")
        + new.format("/new.db")
    )
    folder.chmod(0o755)


@contextmanager
def locked(path: Path, statement: str) -> Iterator[None]:
    """Let another program hold a lock."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        f"c.execute({statement!r}); c.execute('SELECT count(*) FROM speakers').fetchone()\n"
        "c.execute('BEGIN EXCLUSIVE'); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        try:
            yield
        finally:
            other.stdin.close()


BUSY = (
    "cannot use '{}': another program held its lock for more than {} s; "
    "end that program or raise the timeout"
)


@pytest.mark.parametrize(
    "act",
    [
        lambda db: db.add(Speaker(name="x")),
        lambda db: db.add_all([Speaker(name="x")]),
        lambda db: db.track("/a.wav", "separation").__enter__(),
        lambda db: db.update(db.get_speaker("Ada"), name="Eve"),
    ],
    ids=["add", "add_all", "track", "update"],
)
def test_a_lock_of_another_program(path: Path, act: Callable[[DatabaseManager], object]) -> None:
    """A write waits for as long as it was told, and says which file is locked; reading goes on."""
    small(path)
    with locked(path, "SELECT 1"), DatabaseManager(path, timeout=0.3).connect() as db:
        assert len(db.get_all(Speaker)) == 2
        with pytest.raises(errors.DatabaseBusyError) as caught:
            act(db)
    assert str(caught.value) == BUSY.format(path, "0.3")


def test_an_exclusive_lock_of_another_program(path: Path) -> None:
    """Where another program lets nobody read, opening waits for as long as it was told."""
    small(path)
    with locked(path, "PRAGMA locking_mode=EXCLUSIVE"):
        outcome = run("--db", path, "--timeout", "0.3", "status")
    assert outcome == (1, "", f"Error: {BUSY.format(path, '0.3')}\n")
    assert run("--db", path, "list-speakers", "--csv", "--columns", "name").code == 0


def test_a_lock_that_is_given_back_in_time(path: Path) -> None:
    """A write that waits goes on when the other program lets go."""
    small(path)
    with DatabaseManager(path, timeout=30).connect() as db:
        with locked(path, "SELECT 1"):
            thread = threading.Thread(target=lambda: db.add(Speaker(name="Eve")))
            thread.start()
            thread.join(0.3)
            waited = thread.is_alive()
        thread.join()
        assert waited
        assert [one.name for one in db.get_all(Speaker)] == ["Ada", "Bob", "Eve"]


def _replaced(path: Path) -> None:
    copy = Path(shutil.copy(path, path.with_name("copy.db")))
    copy.replace(path)


def _moved(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


@pytest.mark.parametrize("harm", [Path.unlink, _moved, _replaced])
def test_a_file_that_goes_away_while_open(path: Path, harm: Callable[[Path], None]) -> None:
    """Nothing is written to a file that nobody will find again."""
    small(path)
    with DatabaseManager(path).connect() as db:
        db.execute_raw_query("SELECT 1")
        harm(path)
        for act in (
            lambda: db.add(Speaker(name="Eve")),
            lambda: db.add_all([Speaker(name="Eve")]),
            lambda: db.track("/a.wav", "separation").__enter__(),
            lambda: Speaker.create(name="Eve"),
            lambda: Speaker.update(name="Eve").execute(),
            lambda: Speaker.delete().execute(),
        ):
            with pytest.raises(errors.DatabaseError) as caught:
                act()
            assert str(caught.value) == WENT.format(path)
    for left in path.parent.glob("*.db"):
        assert sound(left)


WENT = (
    "cannot use '{}': the file was removed or replaced while it was open; "
    "close it and connect again"
)


def test_nothing_is_answered_from_a_file_that_was_replaced(path: Path) -> None:
    """A notebook is told that a newer record, as rsync brings it, is not the one it has open."""
    small(path)
    with DatabaseManager(path).connect() as db:
        db.get_all(Speaker)
        _replaced(path)
        for act in (
            db.leaderboard,
            db.failures,
            db.status,
            lambda: db.compare("a", "b"),
            lambda: db.list_rows("files"),
            lambda: list(db.pending([path.with_name("a.wav")], "separation")),
            lambda: db.export(path.with_name("all.jsonl")),
            lambda: db.to_dataframe("speakers"),
            lambda: db.history(1),
            lambda: db.show_run(1),
            db.list_tags,
            lambda: db.search_speakers("Ada"),
            lambda: db.get_speaker_files(1),
            lambda: db.execute_raw_query("SELECT * FROM speakers"),
            db.check,
            DatabaseManager(path).connect,
        ):
            with pytest.raises(errors.DatabaseError) as caught:
                act()
            assert str(caught.value) == WENT.format(path)
    with DatabaseManager(path).connect() as db:
        assert [one.name for one in db.get_all(Speaker)] == ["Ada", "Bob"]


def test_a_record_that_was_removed_is_not_connected_to_again(path: Path) -> None:
    """A notebook's cell that removes the record and makes it anew is not shown the old rows."""
    small(path)
    with DatabaseManager(path).connect():
        for one in path.parent.glob(f"{path.name}*"):
            one.unlink()
        for act in (DatabaseManager(path).connect, DatabaseManager(path).initialize):
            with pytest.raises(errors.DatabaseError) as caught:
                act()
            assert str(caught.value) == WENT.format(path)
    with DatabaseManager(path).initialize() as db:
        assert db.get_all(Speaker) == []


@pytest.mark.parametrize("harm", [Path.unlink, _moved, _replaced])
def test_no_thread_opens_what_took_the_place_of_an_open_file(
    path: Path, harm: Callable[[Path], None]
) -> None:
    """The WAL of the old file is not read as a new one's, and no empty file appears."""
    small(path)
    refused: list[str] = []

    def attempt(act: Callable[[], object]) -> None:
        with pytest.raises(errors.DatabaseError) as caught:
            act()
        refused.append(str(caught.value))

    with DatabaseManager(path).connect() as db:
        db.add(Speaker(name="Eve"))
        harm(path)
        there = path.exists()
        thread = threading.Thread(target=attempt, args=[lambda: db.get_all(Speaker)])
        thread.start()
        thread.join()
        if there:
            attempt(db.backup_database)
    assert refused == [WENT.format(path)] * len(refused)
    assert path.exists() == there


def test_a_record_that_goes_away_after_its_end_is_no_traceback(path: Path) -> None:
    """A program that holds a run and moves the closed record away ends without a word."""
    program = """import os, sys
from voices_peewee import DatabaseManager
db = DatabaseManager(sys.argv[1]).initialize()
with db.track("/a.wav", "separation") as run:
    pass
db.close()
os.rename(sys.argv[1], sys.argv[1] + ".moved")
"""
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux says what was moved")
@pytest.mark.parametrize("ends", ["db.close()", ""], ids=["closed", "not"])
@pytest.mark.parametrize(
    ("harm", "left"),
    [
        ("path.rename(moved)", {"moved.db": ["Ada", "Bob", "Eve"]}),
        (
            "path.rename(moved); other.rename(path)",
            {"moved.db": ["Ada", "Bob", "Eve"], "": ["Zoe"]},
        ),
        ("other.rename(path)", {"": ["Zoe"]}),
        (
            "path.rename(moved); use(moved); path.touch()",
            {"moved.db": ["Ada", "Bob", "Dan"]},
        ),
    ],
    ids=["moved", "moved and another in its place", "replaced", "moved and used"],
)
def test_a_moved_file_takes_its_rows_along(
    path: Path, harm: str, left: dict[str, list[str]], ends: str
) -> None:
    """What was acknowledged goes with the file that was open, and into no other."""
    small(path)
    with DatabaseManager(path.with_name("other.db")).initialize() as db:
        db.add(Speaker(name="Zoe"))
    body = f"""
        import subprocess, time
        moved, other = path.with_name("moved.db"), path.with_name("other.db")
        def use(name):
            words = ["-m", "voices_peewee", "--db", str(name), "add-speaker", "Dan"]
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
        db = DatabaseManager(path).connect()
        db.add(Speaker(name="Eve"))
        time.sleep(0.05)  # clocks of file systems are coarse
        {harm}
        {ends}
        """
    assert program(path, body) == ""
    for name, speakers in left.items():
        place = path.with_name(name or path.name)
        with DatabaseManager(place).connect() as db:
            assert [one.name for one in db.get_all(Speaker)] == speakers
        assert sound(place)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_sidecar_that_goes_away_while_open(path: Path, suffix: str) -> None:
    """Without the -wal or -shm of the others, nothing is written; what was acknowledged is kept."""
    small(path)
    with DatabaseManager(path).connect() as db:
        db.add(Speaker(name="Eve"))
        Path(f"{path}{suffix}").unlink()
        for act in (lambda: db.add(Speaker(name="Dan")), lambda: Speaker.create(name="Dan")):
            with pytest.raises(errors.DatabaseError) as caught:
                act()
            assert str(caught.value) == BARED.format(path)
    with DatabaseManager(path).connect() as db:
        assert [one.name for one in db.get_all(Speaker)] == ["Ada", "Bob", "Eve"]


BARED = "cannot use '{}': its -wal or -shm was removed while it was open; start this program anew"


@pytest.mark.parametrize("suffixes", [("-wal", "-shm"), ("-shm",)])
@pytest.mark.parametrize("ends", ["db.close()\nrefused(db.connect)", ""], ids=["closed", "not"])
def test_new_sidecars_of_others_keep_their_rows(
    path: Path, suffixes: tuple[str, ...], ends: str
) -> None:
    """Who had only read as others made -wal or -shm anew neither writes nor takes their rows."""
    small(path)
    program = """
        import sys
        from pathlib import Path
        from subprocess import run
        from voices_peewee import DatabaseManager, Speaker, errors
        path = sys.argv[1]
        def refused(act):
            try:
                act()
            except errors.DatabaseError as error:
                print(error)
        db = DatabaseManager(path).connect()
        db.get_all(Speaker)
        for suffix in sys.argv[2:]:
            Path(f"{path}{suffix}").unlink()
        words = ["-m", "voices_peewee", "--db", path, "add-speaker", "Eve"]
        run([sys.executable, *words], check=True, capture_output=True)
        refused(lambda: db.add(Speaker(name="Dan")))
        refused(lambda: db.backup_database(f"{path}.copy"))
        """
    code = textwrap.dedent(program) + ends
    done = subprocess.run(
        [sys.executable, "-c", code, path, *suffixes], capture_output=True, text=True, timeout=60
    )
    said = f"{BARED.format(path)}\n" * (3 if ends else 2)
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 0)
    with DatabaseManager(path).connect() as db:
        assert [one.name for one in db.get_all(Speaker)] == ["Ada", "Bob", "Eve"]


def test_a_file_with_two_names_is_refused(path: Path) -> None:
    """A hard link is refused under either name, since each would have a WAL of its own."""
    small(path)
    second = path.with_name("second.db")
    second.hardlink_to(path)
    for name in (path, second):
        with pytest.raises(errors.DatabaseError) as caught:
            DatabaseManager(name).connect()
        assert str(caught.value) == (
            f"cannot use {str(name)!r}: the file has a second name (a hard link), under which "
            "others would write past it; remove that name, or copy the file and use the copy"
        )


def test_a_file_that_is_a_mount_is_refused(tmp_path: Path) -> None:
    """A single file that is mounted somewhere is refused there."""
    path, second = small(tmp_path / "voices.db"), tmp_path / "a b.db"
    second.touch()
    command = ["mount", "--bind", str(path), str(second)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file can be mounted by root only")
    try:
        outcome = run("--db", second, "status")
    finally:
        subprocess.run(["umount", str(second)], check=True)
    sentence = (
        f"Error: cannot use {str(second)!r}: the file is a mount of its own, beside which its -wal "
        "is lost to others; mount its folder\n"
    )
    assert outcome == (1, "", sentence)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_an_open_database_is_no_recording(path: Path, tmp_path: Path, suffix: str) -> None:
    """What is open as a database is not read as a file, whatever name it goes by."""
    link = tmp_path / "link.wav"
    link.symlink_to(f"{path}{suffix}")
    with DatabaseManager(path).initialize() as db:
        db.add(Speaker(name="Ada"))
        with pytest.raises(errors.AudioError) as caught:
            content_hash(link)
        assert is_open_here(link)
    assert str(caught.value) == (
        f"cannot read {str(link)!r}: it is a database that this program has open"
    )
    assert not is_open_here(path)


def test_a_database_of_the_callers_is_no_recording(path: Path, tmp_path: Path) -> None:
    """What a Peewee database of one's own has open is not read as a file either."""
    small(path)
    link = tmp_path / "link.wav"
    link.symlink_to(path)
    with DatabaseManager(pw.SqliteDatabase(path)).connect():
        with pytest.raises(errors.AudioError) as caught:
            content_hash(link)
        assert is_open_here(f"{path}-wal")
    assert str(caught.value) == (
        f"cannot read {str(link)!r}: it is a database that this program has open"
    )
    assert not is_open_here(path)


READERS = {
    "model file": lambda db, place, _: db.record_run(
        "a.wav", "test", start_time=utc_now(), model_file=place
    ),
    "pending": lambda db, place, _: db.pending(["a.wav"], "test", model_file=place),
    "import": lambda db, place, _: db.import_records(place),
    "results": lambda db, place, _: db.import_results(place, model="demucs"),
    "manifest": lambda db, place, _: db.add_manifest(place),
    "votes": lambda db, place, _: db.import_votes(place),
    "audio": lambda db, place, _: db.add_audio(place),
    "verify": lambda db, place, _: db.verify_backup(place),
    "check": lambda db, _, __: db.check(files=True),
    "player": lambda db, place, _: db.player(place),
    "report": lambda db, _, tmp_path: db.report(tmp_path / "a.html"),
}


@pytest.mark.parametrize("name", READERS)
def test_no_method_reads_an_open_database(path: Path, tmp_path: Path, name: str) -> None:
    """Whatever method is given the open database as a file, its locks stay with this process."""
    link = tmp_path / "link.wav"
    link.symlink_to(path)
    with DatabaseManager(path).initialize() as db:
        for place in (link, path):
            file = db.add(ProcessedFile(filename="a", original_path=place, file_size=1))
            run = db.add(ProcessingHistory(processed_file=file, operation_type="x", success=True))
            db.add(ModelPerformance(processing_history=run, model_type="demucs", si_snri=1.0))
            with suppress(errors.VoicesError):
                READERS[name](db, place, tmp_path)
        # Who closes a file as the last one removes its WAL.
        look = f"import sqlite3; sqlite3.connect({str(path)!r}).execute('SELECT * FROM speakers')"
        subprocess.run([sys.executable, "-W", "ignore", "-c", look], check=True, timeout=60)
        assert Path(f"{path}-wal").exists()


def test_a_record_on_a_full_disk_can_be_read(disk: Path) -> None:
    """Where no room is left for a -shm, a record that nobody has open is read, and not written."""
    path = small(disk / "voices.db")
    fill(disk)
    body = """
        voices("list-speakers")
        voices("backup", "--backup-path", str(path.parents[1] / "copy.db"))  # on another disk
        voices("add-speaker", "Eve")
        """
    said = f"list-speakers 0 2 speakers\nbackup 0 \nadd-speaker 1 Error: {FULL}\n"
    assert program(path, body) == said


def test_an_older_backup_on_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """Where the copy of it that is to be upgraded has no room, one sentence says so."""
    path, own = small(disk / "voices.db"), tmp_path / "own"
    with DatabaseManager(small(tmp_path / "older.db")) as db:
        saved = db.backup_database(tmp_path / "saved.db")
    own.mkdir()
    (own / "101_own.py").write_text("def migrate(*_, **__): pass\n")
    fill(disk)
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - 100_000)
    with pytest.raises(errors.DatabaseFullError) as caught:
        DatabaseManager(path, migrations_dir=own).restore(saved)
    assert str(caught.value) == FULL.replace("PATH", str(path))
    assert [one.name for one in disk.glob(".*")] == []


def fill(disk: Path) -> None:
    """Leave no byte of a disk free."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        for size in (4096, 1):
            with suppress(OSError):
                while filler.write(b"x" * size):
                    pass


def test_a_wal_on_a_full_disk_says_that_it_is_full(disk: Path) -> None:
    """Where a killed program left a WAL, and no room is for a -shm, the sentence says why."""
    path = disk / "voices.db"
    killed = """
        DatabaseManager(path).initialize().add(Speaker(name="Ada"))
        path.with_name("voices.db-shm").unlink(); os._exit(0)
        """
    program(path, killed)
    fill(disk)
    body = """
        voices("list-speakers")
        path.with_name("filler").unlink()
        voices("list-speakers")
        """
    assert program(path, body) == f"list-speakers 1 Error: {FULL}\nlist-speakers 0 1 speaker\n"


@pytest.mark.parametrize("suffix", ["html", "png"])
def test_no_page_takes_the_place_of_an_open_database(tmp_path: Path, suffix: str) -> None:
    """A record that is called like a page is not replaced by one."""
    path = small(tmp_path / f"record.{suffix}")
    with DatabaseManager(path).connect() as db:
        with db.track("/a.wav", "separation", model_type="demucs") as run:
            run.log(si_snri=1.0)
        write = db.report if suffix == "html" else partial(db.plot, "distribution")
        with pytest.raises(errors.ExportError) as caught:
            write(path=path, overwrite=True)
        assert str(caught.value) == f"export {str(path)!r}: it belongs to the database"
        db.add(Speaker(name="Eve"))


def test_a_file_of_the_original_module_says_how_to_import_it(path: Path) -> None:
    """A record of the original module is not opened, and the sentence has the two commands."""
    names = ("speakers", "processed_files", "processing_history", "model_performance")
    with closing(sqlite3.connect(path)) as other:
        for name in names:
            other.execute(f"CREATE TABLE {name} (id INTEGER)")
        other.execute(
            "CREATE TABLE schema_migrations (id INTEGER, version TEXT, applied_at TEXT,"
            " description TEXT)"
        )
    sentence = (
        f"Error: cannot use {str(path)!r}: it is a record of the original module; run "
        f"'voices --db NEW init' and 'voices --db NEW import {path}'\n"
    )
    for command in (["init"], ["status"]):
        assert run("--db", path, *command) == (1, "", sentence)


def _text(path: Path) -> None:
    path.write_text("these are not the rows that you are looking for\n" * 100)


def _stranger(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE songs (id INTEGER)")


def _pages(path: Path) -> bytearray:
    with DatabaseManager(path).initialize() as db:
        db.add_all(Speaker(name=f"{number:05}" * 10) for number in range(2000))
    return bytearray(path.read_bytes())


def _truncated(path: Path) -> None:
    path.write_bytes(_pages(path)[: 5 * 4096 + 100])


def _flipped(first: int, last: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = _pages(path)
        for place in range(first, last):
            content[place] ^= 0xFF
        path.write_bytes(content)

    return flip


def _root_of(path: Path, name: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        root: int = connection.execute(query, (name,)).fetchone()[0]
    return root


def _page_of(name: str) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = _pages(path)
        start = (_root_of(path, name) - 1) * 4096
        content[start : start + 200] = bytes(byte ^ 0xFF for byte in content[start : start + 200])
        path.write_bytes(content)

    return flip


def _wal_alone(path: Path) -> None:
    path.with_name(path.name + "-wal").write_bytes(b"what was written last")


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere.db"))


MISSING = "there is no database; run 'voices init' to create it"
DAMAGED = (
    "the file is damaged (database disk image is malformed); restore a backup with 'voices restore'"
)
NOT_SQLITE = "it is not an SQLite database"

STRANGE = "it is a database of another application (songs)"
WAL_ALONE = "'voices.db-wal' is there without it; move that away first"
NO_FILE = "it is not a file"

# What opening says and, where it differs, what creating says; "" where that makes one.
WRONG: dict[str, tuple[Callable[[Path], None], str, str | None]] = {
    "nothing": (lambda _: None, MISSING, ""),
    "text": (_text, NOT_SQLITE, None),
    "empty": (Path.touch, MISSING, ""),
    "another application's": (_stranger, STRANGE, None),
    "truncated": (_truncated, DAMAGED, None),
    "flipped magic": (_flipped(0, 16), NOT_SQLITE, None),
    "flipped header": (_flipped(16, 100), NOT_SQLITE, None),
    "flipped schema page": (_flipped(100, 300), DAMAGED, None),
    "WAL without a database": (_wal_alone, MISSING, WAL_ALONE),
    "dangling symlink": (_dangling, MISSING, ""),
    "folder": (Path.mkdir, NO_FILE, None),
    "pipe": (os.mkfifo, NO_FILE, None),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_are_not_what_they_seem(path: Path, name: str) -> None:
    """One sentence for each, from the shell and from Python; not a byte and no file is changed."""
    make, opened, created = WRONG[name]
    make(path)
    before = state(path.parent)
    outcome = run("--db", path, "status")
    assert outcome == (1, "", f"Error: cannot use {str(path)!r}: {opened}\n")
    assert state(path.parent) == before
    if created != "":
        with pytest.raises(errors.DatabaseError) as caught:
            DatabaseManager(path).initialize()
        assert str(caught.value) == f"cannot use {str(path)!r}: {created or opened}"
        assert state(path.parent) == before


@pytest.mark.parametrize("page", ["speakers", "speakers_name"], ids=["table", "index"])
def test_flipped_pages_are_found(path: Path, page: str) -> None:
    """A page that only some questions meet is found by check, which changes nothing."""
    _page_of(page)(path)
    before = state(path.parent)
    outcome = run("--db", path, "check")
    assert (outcome.code, outcome.out[:11]) == (1, "integrity: ")
    assert outcome.err.endswith("findings\n") or outcome.err == "1 finding\n"
    assert state(path.parent) == before
    if page == "speakers":
        outcome = run("--db", path, "list-speakers", "--sort", "id")
        assert outcome == (1, "", f"Error: cannot use {str(path)!r}: {DAMAGED}\n")
    assert state(path.parent)[path.name] == before[path.name]


def test_a_symlink_is_followed(path: Path) -> None:
    """A symlink is the database that it leads to, with one WAL for both names."""
    small(path)
    link = path.with_name("link.db")
    link.symlink_to(path)
    with DatabaseManager(link).connect() as db:
        db.add(Speaker(name="Eve"))
        assert (Path(f"{path}-wal").exists(), Path(f"{link}-wal").exists()) == (True, False)
        wal = Path(f"{path}-wal").stat().st_size
        assert db.status()["size"] == path.stat().st_size + wal
    assert run("--db", path, "list-speakers", "--columns", "name", "--csv").out == (
        "name\nAda\nBob\nEve\n"
    )


def test_a_dangling_symlink_is_created_where_it_leads(path: Path) -> None:
    """A new database behind a symlink is for its owner only, like any other."""
    real = path.with_name("real.db")
    path.symlink_to(real)
    DatabaseManager(path).initialize().close()
    assert (path.is_symlink(), real.stat().st_mode & 0o777) == (True, 0o600)


@pytest.mark.parametrize("command", [["backup"], ["restore", "x.db", "--yes"], ["list-speakers"]])
def test_memory_for_a_command_that_needs_a_file(tmp_path: Path, command: list[str]) -> None:
    """An in-memory database is refused in one sentence, and no file of that name appears."""
    outcome = run("--db", ":memory:", *command)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert outcome.err.startswith("Error: ")
    assert not Path(":memory:").exists()


def test_looking_takes_no_lock_away(path: Path) -> None:
    """A second look at an open database leaves the first connection's locks in place."""
    small(path)
    another = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT 1 FROM speakers')"
    with DatabaseManager(path).connect() as db:
        db.add(Speaker(name="Eve"))
        DatabaseManager(path).migration_status()
        DatabaseManager(path).check()
        subprocess.run([sys.executable, "-c", another, path], check=True)
        assert Path(f"{path}-wal").exists()


def test_reading_does_not_change_a_backup(path: Path) -> None:
    """A look into a backup with the shell leaves its digest as it was."""
    small(path)
    with DatabaseManager(path).connect() as db:
        saved = db.backup_database(path.with_name("saved.db"))
    for command in ("status", "list-speakers", "check"):
        assert run("--db", saved, command).code == 0
    assert run("--db", path, "verify-backup", saved).code == 0
