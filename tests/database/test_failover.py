"""A primary that dies, a network that falls apart: a team loses and doubles nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest
from support.claim_worker import sources
from support.crowds import begun, ended, require_each_once

from voices_peewee import DatabaseManager, ProcessingHistory, Speaker

postgres_server = pytest.importorskip("support.postgres_server", exc_type=ImportError)
proxy = pytest.importorskip("support.proxy", exc_type=ImportError)
pytestmark = [pytest.mark.postgresql, pytest.mark.once, pytest.mark.soak]

Pair = tuple[object, object, str]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary, a standby that has each commit before it is acknowledged, and a record."""
    primary = postgres_server.Server(careful=True)
    name = primary.create()
    with DatabaseManager(primary.url(name)).initialize():
        pass
    standby = postgres_server.Server(careful=True, standby_of=primary)
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.execute("SELECT pg_reload_conf()")
    yield primary, standby, name
    standby.remove()
    primary.remove()


def fail_over(primary: postgres_server.Server, standby: postgres_server.Server) -> None:
    """Kill the primary, and promote the standby a while later, as a watchdog would."""
    primary.kill()
    time.sleep(3)
    standby.execute("SELECT pg_promote()")


def test_a_failover_gives_each_recording_once(pair: Pair) -> None:
    """Eight workers share a list; the primary dies, the standby takes over: each is done once."""
    primary, standby, name = pair
    crowd = begun(primary.both(standby, name), 8, 300, 0.1)
    time.sleep(3)
    fail_over(primary, standby)
    given = Counter(ended(crowd))
    assert set(given) == set(sources(300))
    assert all(times == 1 for path, times in given.items() if not path.endswith("49.wav"))
    require_each_once(standby.url(name), 300)


WRITER = Path(__file__).parents[1] / "support" / "load_worker.py"
IMPORTER = """
import sys, time
from voices_peewee import DatabaseManager
with DatabaseManager(sys.argv[1], timeout=60) as db:
    end, number = time.monotonic() + float(sys.argv[3]), 0
    while time.monotonic() < end:
        name = f"import-{sys.argv[2]}-{number}"
        paths = [f"/{name}-{one}" for one in range(50)]
        rows = [{"filename": path[1:], "original_path": path} for path in paths]
        try:
            db.import_records(rows)
        except Exception as error:  # a transaction that the server's death undid is done again
            if "away" not in str(error):
                raise
            continue
        print(name, flush=True)
        number += 1
"""
READER = """
import sys, time
from voices_peewee import DatabaseManager, errors
with DatabaseManager(sys.argv[1], timeout=60) as db:
    end, seen = time.monotonic() + float(sys.argv[2]), 0
    while time.monotonic() < end:
        try:
            count = db.status()["rows"]["processing_history"]
        except errors.ServerAwayError:
            continue
        assert count >= seen, (count, seen)
        seen = count
        time.sleep(0.2)
"""


def test_a_team_loses_and_doubles_nothing(pair: Pair, tmp_path: Path) -> None:
    """Sixteen writers, two importers and a reader; one partition and one failover among them.

    ``VOICES_SOAK`` is how long (s), ten minutes without it.
    """
    seconds = float(os.environ.get("VOICES_SOAK", "600"))
    primary, standby, name = pair
    network = proxy.Proxy(primary.sockets)
    url = primary.both(standby, name)
    # Two of the writers come by a network that falls apart for a while.
    far = network.url(name)
    with ExitStack() as files:

        def opened(name: str) -> IO[bytes]:
            return files.enter_context((tmp_path / name).open("wb"))

        programs = [
            subprocess.Popen(
                [sys.executable, WRITER, far if number < 2 else url, str(number), str(seconds)],
                stdin=subprocess.PIPE,
                stdout=opened(f"told-{number}"),
                stderr=opened(f"errors-{number}"),
            )
            for number in range(16)
        ]
        for one in programs:
            files.enter_context(one.stdin).write(b"go\n")
            one.stdin.flush()
        words = [[IMPORTER, url, str(number), str(seconds)] for number in range(2)]
        programs += [
            subprocess.Popen([sys.executable, "-c", *args], stdout=opened(f"in-{place}"))
            for place, args in enumerate([*words, [READER, url, str(seconds)]])
        ]
    time.sleep(seconds / 4)
    network.cut()
    threading.Timer(min(20, seconds / 8), network.mend).start()
    time.sleep(seconds / 4)
    fail_over(primary, standby)
    network.lead_to(standby.sockets)
    codes = [one.wait(600) for one in programs]
    network.close()
    assert codes == [0] * 19, [path.read_text()[-2000:] for path in tmp_path.glob("errors-*")]
    told = sum(
        len((tmp_path / f"told-{number}").read_text().splitlines()) - 1 for number in range(16)
    )
    with DatabaseManager(standby.url(name)) as db:
        spool = tmp_path / "home" / ".voices" / "spool"
        if spool.exists():
            db.import_records(spool)
        runs = db.query(ProcessingHistory).all()
        assert {row.status for row in runs} == {"success"}
        assert len({row.run_id for row in runs}) == len(runs) == told
        rows = db.status()["rows"]
        assert rows["model_performance"] == told
        imported = [
            line for place in range(2) for line in (tmp_path / f"in-{place}").read_text().split()
        ]
        paths = Counter(
            path
            for (path,) in db.store.connection().execute(
                "SELECT original_path FROM processed_files WHERE recording_id IS NULL"
            )
        )
        assert max(paths.values()) == 1
        lost = [one for one in imported if f"/{one}-0" not in paths or f"/{one}-49" not in paths]
        assert lost == []
        assert db.query(Speaker).count() == 0
