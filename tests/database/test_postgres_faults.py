"""A server that stops, dies or is not there: what is said, what is kept, what goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.cli_tools import run as run_command
from support.databases import Databases
from support.interrupts import status_of

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory, Speaker, errors
from voices_peewee.runs.spool import SpoolWarning

postgres_server = pytest.importorskip("support.postgres_server", exc_type=ImportError)
pytestmark = [pytest.mark.postgresql, pytest.mark.once]


@pytest.fixture(scope="module")
def own() -> Iterator[postgres_server.Server]:
    """A server that these tests may stop and kill; it keeps its promises."""
    server = postgres_server.Server(careful=True)
    yield server
    server.remove()


@pytest.fixture
def url(own: postgres_server.Server) -> Iterator[str]:
    own.start()
    name = own.create()
    yield own.url(name)
    own.start()
    own.drop(name)


def test_a_server_that_is_away_is_one_sentence(
    own: postgres_server.Server, url: str, tmp_path: Path
) -> None:
    """No server at the address: one sentence at once, that names the address."""
    own.stop()
    begun = time.monotonic()
    with pytest.raises(errors.ServerAwayError) as caught:
        DatabaseManager(url, timeout=30).connect()
    assert time.monotonic() - begun < 15
    said = str(caught.value)
    assert said.startswith(f"cannot use '{url}': the server is away (")
    assert said.endswith("); is it running, and is the address right?")
    assert "\n" not in said


def test_a_restarted_server_is_found_again(own: postgres_server.Server, url: str) -> None:
    """Between two calls the server may be restarted; the next call does not see it."""
    with DatabaseManager(url).initialize() as db:
        db.create_speaker("Ada")
        own.stop()
        own.start()
        assert [one.name for one in db.get_all(Speaker)] == ["Ada"]
        own.kill()
        own.start()
        db.create_speaker("Bob")
        with db.atomic():
            db.create_speaker("Eve")
        assert db.status()["rows"]["speakers"] == 3


def test_a_call_waits_for_a_server_that_comes_back(own: postgres_server.Server, url: str) -> None:
    """Whoever knew the server waits for it, within the timeout."""
    with DatabaseManager(url, timeout=30).initialize() as db:
        own.stop()
        later = threading.Timer(1.0, own.start)
        later.start()
        db.create_speaker("Ada")
        later.join()
        assert db.status()["rows"]["speakers"] == 1


def test_the_wait_for_a_server_is_bounded(own: postgres_server.Server, url: str) -> None:
    """A server that does not come back is one sentence after the timeout."""
    with DatabaseManager(url, timeout=1).initialize() as db:
        own.stop()
        begun = time.monotonic()
        with pytest.raises(errors.ServerAwayError):
            db.create_speaker("Ada")
        assert time.monotonic() - begun < 10
        own.start()
        assert db.create_speaker("Bob").id == 1


def test_a_server_that_dies_inside_a_transaction(own: postgres_server.Server, url: str) -> None:
    """A transaction whose server died is undone, says so, and the next one works."""
    with DatabaseManager(url).initialize() as db:
        with pytest.raises(errors.ServerAwayError), db.atomic():  # noqa: PT012 - the block is the test
            db.create_speaker("Ada")
            own.kill()
            own.start()
            db.create_speaker("Bob")
        with db.atomic():
            db.create_speaker("Eve")
        assert [one.name for one in db.get_all(Speaker)] == ["Eve"]


def test_a_run_outlasts_a_restart(own: postgres_server.Server, url: str) -> None:
    """A server that is restarted while a run goes on, and at its end, costs nothing."""
    with DatabaseManager(url).initialize() as db:
        with db.track("/in.wav", "separation") as run:
            own.kill()
            own.start()
            run.output("/out.wav", si_snri=1.5)
            own.stop()
            later = threading.Timer(0.5, own.start)
            later.start()
        later.join()
        (row,) = db.query(ProcessingHistory).all()
        assert (row.status, row.processed_file.processed_path) == ("success", "/out.wav")
        assert row.model_performance is not None
        assert row.model_performance.si_snri == 1.5


def test_a_run_whose_server_is_gone_is_kept_in_a_file(
    own: postgres_server.Server, url: str, tmp_path: Path
) -> None:
    """What a run did while its server was away is in a file, whole, and a warning names it."""
    with DatabaseManager(url, timeout=0.5).initialize() as db:
        ada = db.create_speaker("Ada")
        tracker = db.track("/in.wav", "separation", model_type="demucs")
        with pytest.warns(SpoolWarning) as warned, tracker as run:  # noqa: PT031 - the block is the test
            run.output("/1.wav", si_snri=1.5)
            own.stop()
            run.log(pesq=2.5)
            file = run.output("/2.wav", si_snri=2.5)
            assert (file.id, file.processed_path) == (None, "/2.wav")
        own.start()
        (begun,) = db.query(ProcessingHistory).all()
        assert begun.status == "unfinished"
    first, second = (str(one.message) for one in warned)
    assert first.endswith("; the output is written when the run ends")
    (path,) = (tmp_path / "home" / ".voices" / "spool").iterdir()
    assert second.endswith(f"; the run is kept in '{path}': 'voices import' adds it")
    assert path.stat().st_mode & 0o777 == 0o600
    *lines, end = map(json.loads, path.read_text().splitlines())
    files = [line for line in lines if line["table"] == "processed_files"]
    assert [line.get("processed_path") for line in files] == [None, "/1.wav", "/2.wav"]
    runs = [line for line in lines if line["table"] == "processing_history"]
    assert [(one["run_id"], one["success"], one["model_type"]) for one in runs] == [
        (begun.run_id, True, "demucs")
    ] * 2
    measured = [line for line in lines if line["table"] == "model_performance"]
    assert [one["si_snri"] for one in measured] == [1.5, 2.5]
    assert measured[0]["additional_metrics"]["pesq"] == 2.5
    assert end == {
        "table": "end",
        "rows": {
            "environments": 1,
            "processed_files": 3,
            "processing_history": 2,
            "model_performance": 2,
        },
        "server": f"{own.sockets}:5432/{Databases.name(url)}",
    }
    assert ada.id == 1
    assert run_command("--db", url, "import", path).code == 0
    assert run_command("--db", url, "import", path).err.endswith("nothing to import\n")
    with DatabaseManager(url) as db:
        rows = db.query(ProcessingHistory).order_by(ProcessingHistory.id).all()
        told = [(row.run_id, row.status, row.processed_file.processed_path) for row in rows]
    assert told == [(begun.run_id, "success", f"/{number}.wav") for number in (1, 2)]


@pytest.fixture
def small(own: postgres_server.Server, tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MB on which the server has a tablespace."""
    disk = Path(tempfile.mkdtemp(prefix="voices-full-"))
    if (
        os.getuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-osize=48m", "voices", disk]).returncode
    ):
        pytest.skip("a small disk for the server needs root, who may mount")
    own.start()
    (disk / "space").mkdir()
    shutil.chown(disk / "space", "nobody")
    own.execute(f"CREATE TABLESPACE small LOCATION '{disk}/space'")
    yield disk
    own.start()
    own.execute("DROP TABLESPACE small")
    subprocess.run(["umount", "-l", disk], check=True)  # the checkpointer may have it open yet
    disk.rmdir()


def test_a_full_disk_on_the_server_loses_no_run(
    own: postgres_server.Server, small: Path, tmp_path: Path
) -> None:
    """What a full disk refuses is said in the server's words and kept; the rest is there."""
    own.execute("CREATE DATABASE full_one TABLESPACE small STRATEGY FILE_COPY")
    with DatabaseManager(own.url("full_one"), timeout=0.3).initialize() as db:
        with db.track("/before.wav", "separation"):
            pass
        trackers = [db.track(f"/{number}.wav", "separation") for number in range(4)]
        runs = [tracker.__enter__() for tracker in trackers]
        with suppress(OSError), (small / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        for run in runs:
            run.log(noise=os.urandom(100_000).hex())
        for tracker in trackers:
            with pytest.warns(SpoolWarning, match="the disk is full .*No space left on device"):
                tracker.__exit__(None, None, None)
        (small / "filler").unlink()
        assert db.query(ProcessingHistory).filter_by(success=True).count() == 1
        spool = tmp_path / "home" / ".voices" / "spool"
        assert run_command("--db", own.url("full_one"), "import", spool).code == 0
        assert db.query(ProcessingHistory).filter_by(success=True).count() == 5
    own.drop("full_one")


def test_a_run_waits_for_the_timeout_and_no_longer(own: postgres_server.Server, url: str) -> None:
    """An output and an end wait once each for a server that does not come back."""

    def work() -> None:
        with db.track("/in.wav", "separation") as run:
            own.stop()
            times.append(time.monotonic())
            run.output("/out.wav")
        times.append(time.monotonic())

    times: list[float] = []
    with DatabaseManager(url, timeout=0.8).initialize() as db, pytest.warns(SpoolWarning):
        work()
    begun, ended = times
    assert 1.6 <= ended - begun < 3


def test_the_users_error_is_kept_with_the_run(
    own: postgres_server.Server, url: str, tmp_path: Path
) -> None:
    """An exception in the block leaves it, and is in the file."""

    def work() -> None:
        with db.track("/in.wav", "separation"):
            own.stop()
            _ = 1 / 0

    db = DatabaseManager(url, timeout=0.5).initialize()
    with db, pytest.warns(SpoolWarning), pytest.raises(ZeroDivisionError):
        work()
    (path,) = (tmp_path / "home" / ".voices" / "spool").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    (run,) = [line for line in lines if line["table"] == "processing_history"]
    assert run["error_message"].startswith("ZeroDivisionError: division by zero\n")
    assert run["success"] is False


def test_a_run_is_not_begun_without_a_server(own: postgres_server.Server, url: str) -> None:
    """A run that cannot be recorded is an error before the work begins."""
    with DatabaseManager(url, timeout=0.5).initialize() as db:
        own.stop()
        with pytest.raises(errors.ServerAwayError), db.track("/in.wav", "separation"):
            pytest.fail("the block was entered")


def test_a_frozen_server_is_one_sentence(own: postgres_server.Server, url: str) -> None:
    """A server that takes what is sent and never answers is one sentence after the timeout."""
    with DatabaseManager(url, timeout=4).initialize() as db:
        db.create_speaker("Ada")
        begun = time.monotonic()
        with own.frozen(), pytest.raises(errors.ServerAwayError) as caught:
            db.get_all(Speaker)
        assert time.monotonic() - begun < 10
        assert str(caught.value) == (
            f"cannot use '{url}': the server is away (it has not answered for 4 s); "
            "is it running, and is the address right?"
        )
        assert [one.name for one in db.get_all(Speaker)] == ["Ada"]


def test_a_run_whose_server_freezes_is_kept(
    own: postgres_server.Server, url: str, tmp_path: Path
) -> None:
    """An output and an end wait for a frozen server as for one that is gone; the run is kept."""

    def work() -> None:
        with own.frozen(), db.track("/in.wav", "separation") as run:
            pytest.fail(f"{run} began on a frozen server")

    with DatabaseManager(url, timeout=4).initialize() as db:
        tracker = db.track("/in.wav", "separation")
        run = tracker.__enter__()
        begun = time.monotonic()
        with own.frozen(), pytest.warns(SpoolWarning):  # noqa: PT031 - both are frozen
            run.output("/out.wav", si_snri=1.5)
            tracker.__exit__(None, None, None)
        assert time.monotonic() - begun < 20
        with pytest.raises(errors.ServerAwayError):
            work()
        db.import_records(tmp_path / "home" / ".voices" / "spool")
        (row,) = db.query(ProcessingHistory).all()
        assert (row.run_id, row.status) == (run.run_id, "success")
        assert row.processed_file.processed_path == "/out.wav"


def test_a_long_statement_is_no_frozen_server(own: postgres_server.Server, url: str) -> None:
    """A statement may take longer than the timeout where the server answers others."""
    with DatabaseManager(url, timeout=1).initialize() as db:
        assert db.execute_raw_query("SELECT 1 AS n FROM pg_sleep(3)") == [{"n": 1}]


LOAD_WORKER = Path(__file__).parents[1] / "support" / "load_worker.py"
WRITER = """
import sys
from voices_peewee import (DatabaseManager, Speaker, errors)
with DatabaseManager(sys.argv[1], timeout=20) as db:
    number = 0
    print("ready", flush=True)
    while True:
        name = f"{sys.argv[2]}-{number}"
        try:
            db.add(Speaker(name=name))
        except errors.ServerAwayError:
            pass
        else:
            print(name, flush=True)
        number += 1
"""


def test_every_acknowledged_row_outlasts_a_kill(own: postgres_server.Server, url: str) -> None:
    """A server killed with SIGKILL in the middle of writing has every row it acknowledged."""
    with DatabaseManager(url).initialize():
        pass
    command = [sys.executable, "-c", WRITER, url]
    writers = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    acknowledged: list[str] = []
    readers = [
        threading.Thread(target=lambda out=one.stdout: acknowledged.extend(map(str.strip, out)))
        for one in writers
    ]
    for reader in readers:
        reader.start()
    for more in (200, 200, 50):
        own.start()
        enough = len(acknowledged) + more
        # A writer that has not connected yet would not outlast the kill.
        while len(acknowledged) < enough or acknowledged.count("ready") < len(writers):
            assert {one.poll() for one in writers} == {None}
            time.sleep(0.01)
        own.kill()
    for one, reader in zip(writers, readers, strict=True):
        one.kill()
        one.wait()
        reader.join()
        one.stdout.close()
    own.start()
    told = {name for name in acknowledged if name != "ready"}
    with DatabaseManager(url) as db:
        assert told - {one.name for one in db.get_all(Speaker)} == set()


LOADS = [
    pytest.param(2, 2, 1, id="2 writers"),
    pytest.param(16, 60, 4, marks=pytest.mark.soak, id="16 writers"),
]


def writing(url: str, count: int, seconds: int) -> list[subprocess.Popen[str]]:
    """Start writers that track runs for so long."""
    with DatabaseManager(url).initialize():
        pass
    command = [sys.executable, "-W", "error", LOAD_WORKER, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [
        subprocess.Popen([*command, str(number), str(seconds)], **pipes) for number in range(count)
    ]
    for one in writers:
        assert one.stdout.readline() == "ready\n"
        one.stdin.write("go\n")
        one.stdin.flush()
    return writers


def require_all(db: DatabaseManager, writers: list[subprocess.Popen[str]]) -> None:
    """Each run that the writers were told of is there, once."""
    told = [len(one.communicate(timeout=300)[0].splitlines()) for one in writers]
    assert {one.returncode for one in writers} == {0}
    assert min(told) > 0
    with db:
        runs = db.query(ProcessingHistory).all()
        assert {row.status for row in runs} == {"success"}
        assert len({row.run_id for row in runs}) == len(runs) == sum(told)
        assert db.status()["rows"]["model_performance"] == sum(told)


@pytest.mark.parametrize(("count", "seconds", "kills"), LOADS)
def test_tracked_runs_of_many_writers_outlast_kills(
    own: postgres_server.Server, url: str, count: int, seconds: int, kills: int
) -> None:
    """Writers wait for a server that is killed under them; each run they were told of is there."""
    writers = writing(url, count, seconds)
    for _ in range(kills):
        time.sleep(seconds / (kills + 1))
        own.kill()
        own.start()
    require_all(DatabaseManager(url), writers)


SLOW = """
import peewee as pw

def migrate(migrator, database, *, fake=False):
    for table in ("processed_files", "processing_history", "model_performance"):
        migrator.add_fields(table, room=pw.TextField(null=True))
        migrator.sql("SELECT pg_sleep(0.5)")
"""


def test_an_upgrade_beside_writers_loses_nothing(url: str, tmp_path: Path) -> None:
    """Writers go on through an upgrade that changes their tables: they wait, and lose no run."""
    (tmp_path / "001_room.py").write_text(SLOW)
    writers = writing(url, 3, 4)
    time.sleep(1)
    upgraded = DatabaseManager(url, migrations_dir=tmp_path)
    assert upgraded.run_migrations(backup=False) == ["001_room"]
    assert {one.poll() for one in writers} == {None}  # they went on until here, and after
    require_all(upgraded, writers)


def test_a_forked_child_has_its_own_connection(own: postgres_server.Server, url: str) -> None:
    """Parent and child write on, and neither closes or disturbs the other's session."""
    with DatabaseManager(url).initialize() as db, db.atomic():
        db.create_speaker("before")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                db.add(ProcessedFile(filename="child"))
                db.close()
                status = 0
            finally:
                os._exit(status)
        assert status_of(child) == 0
        db.create_speaker("after")
    with DatabaseManager(url) as db:
        assert [one.name for one in db.get_all(Speaker)] == ["before", "after"]
        assert [one.filename for one in db.get_all(ProcessedFile)] == ["child"]
