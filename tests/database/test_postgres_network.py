"""What lies between: a network that loses answers or falls apart, a pooler, a standby."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.databases import Databases

from voices_peewee import DatabaseManager, ProcessingHistory, Speaker, errors
from voices_peewee.runs.spool import SpoolWarning

psycopg = pytest.importorskip("psycopg", exc_type=ImportError)
postgres_server = pytest.importorskip("support.postgres_server", exc_type=ImportError)
pooler = pytest.importorskip("support.pooler", exc_type=ImportError)
proxy = pytest.importorskip("support.proxy", exc_type=ImportError)
pytestmark = [pytest.mark.postgresql, pytest.mark.once]


@pytest.fixture
def network(server: postgres_server.Server) -> Iterator[proxy.Proxy]:
    between = proxy.Proxy(server.sockets)
    yield between
    between.close()


def test_a_commit_whose_answer_was_lost_is_written_once(network: proxy.Proxy, url: str) -> None:
    """Where the answer to a commit of a run is lost, what it wrote is there once."""
    with DatabaseManager(network.url(Databases.name(url)), timeout=20) as db:
        network.lose = b"COMMIT"
        with db.track("/in.wav", "separation") as run:
            network.lose = b"INSERT INTO"  # one statement is its own transaction
            run.output("/1.wav", si_snri=1.5)
            network.lose = b"COMMIT"
            run.output("/2.wav", si_snri=2.5)
            network.lose = b"COMMIT"
        network.lose = b"INSERT INTO"
        with db.track("/in.wav", "enhancement"):
            network.lose = b"INSERT INTO"
        assert network.lost == 6
        told = [
            (row.operation_type, row.status, row.processed_file.processed_path)
            for row in db.query(ProcessingHistory).order_by(ProcessingHistory.id).all()
        ]
        assert sorted(told, key=str) == [
            ("enhancement", "success", None),
            ("separation", "success", "/1.wav"),
            ("separation", "success", "/2.wav"),
        ]
        rows = db.status()["rows"]
        assert (rows["processed_files"], rows["model_performance"]) == (3, 3)


def test_who_lost_the_answer_to_a_commit_is_told_so(network: proxy.Proxy, url: str) -> None:
    """What else was committed as the server went away is not repeated, and the error says it."""
    with DatabaseManager(network.url(Databases.name(url)), timeout=20) as db:
        network.lose = b"COMMIT"
        with pytest.raises(errors.ServerAwayError) as caught, db.atomic():
            db.create_speaker("Ada")
        assert "(it went away in a commit: look whether that was done: " in str(caught.value)
        assert [one.name for one in db.get_all(Speaker)] == ["Ada"]


def test_a_partition_is_bounded(network: proxy.Proxy, url: str, tmp_path: Path) -> None:
    """A network that drops everything costs a read and the end of a run the timeout, no more."""
    with DatabaseManager(network.url(Databases.name(url)), timeout=4) as db:
        tracker = db.track("/in.wav", "separation")
        run = tracker.__enter__()
        run.output("/out.wav", si_snri=1.5)
        network.cut()
        begun = time.monotonic()
        with pytest.raises(errors.ServerAwayError):
            db.get_all(Speaker)
        assert time.monotonic() - begun < 10
        with pytest.warns(SpoolWarning):
            tracker.__exit__(None, None, None)
        assert time.monotonic() - begun < 20
        network.mend()
        db.import_records(tmp_path / "home" / ".voices" / "spool")
        assert [one.status for one in db.query(ProcessingHistory).all()] == ["success"]


@pytest.fixture
def pooled(server: postgres_server.Server, url: str) -> Iterator[str]:
    """The URL through PgBouncer in transaction mode, with no hint that it is there."""
    if not os.access(pooler.PROGRAM, os.X_OK):
        pytest.skip("no PgBouncer here (Debian: apt install pgbouncer)")
    between = pooler.Pooler(server)
    yield between.url(Databases.name(url))
    between.remove()


def test_behind_a_pooler_nothing_is_told(pooled: str) -> None:
    """Six threads on two connections record run after run through PgBouncer, without a hint."""
    failed: list[Exception] = []

    def work(number: int) -> None:
        try:
            for count in range(12):
                with db.track(f"/{number}/{count}.wav", "separation", model_type="demucs") as run:
                    run.output(f"/out/{number}/{count}.wav", si_snri=count)
                assert db.get_by_id(ProcessingHistory, run.id) is not None
                db.add(Speaker(name=f"{number}-{count}"))
        except Exception as error:  # noqa: BLE001 - all are told below
            failed.append(error)

    with DatabaseManager(pooled) as db:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert {one.status for one in db.query(ProcessingHistory).all()} == {"success"}
        rows = db.status()["rows"]
        assert (rows["model_performance"], rows["speakers"]) == (72, 72)
        assert len(list(db.list_rows("speakers", limit=None))) == 72


def test_behind_a_pooler_a_lock_is_waited_for_as_long_as_asked(pooled: str, url: str) -> None:
    """The timeout holds through PgBouncer, and is nobody else's afterwards."""
    with psycopg.connect(url) as other, DatabaseManager(pooled, timeout=1) as db:
        db.create_speaker("Ada")
        other.execute("LOCK TABLE speakers")
        begun = time.monotonic()
        with pytest.raises(errors.DatabaseBusyError):
            db.add(Speaker(name="Bob"))
        assert time.monotonic() - begun < 10
        other.rollback()
        with psycopg.connect(pooled, autocommit=True) as stranger:
            for _ in range(4):
                assert stranger.execute("SHOW lock_timeout").fetchone() == ("0",)


@pytest.fixture
def standby(server: postgres_server.Server) -> Iterator[postgres_server.Server]:
    running = postgres_server.Server(standby_of=server)
    yield running
    running.remove()


def test_a_standby_is_read_and_checked(
    standby: postgres_server.Server, url: str, server: postgres_server.Server
) -> None:
    """A hot standby answers and is checked, and a write says what to do."""
    name = Databases.name(url)
    deadline = time.monotonic() + 30
    while standby.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'") == []:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with DatabaseManager(standby.url(name)) as db:
        assert db.get_all(Speaker) == []
        assert db.check() == []
        with pytest.raises(errors.DatabaseError) as caught:
            db.create_speaker("Ada")
        assert str(caught.value) == (
            f"cannot use '{standby.url(name)}': cannot execute INSERT in a read-only transaction; "
            "of a standby and its primary name both: "
            "postgresql://a,b/NAME?target_session_attrs=read-write"
        )
