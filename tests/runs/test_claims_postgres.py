"""Sharing what is left on a server: many workers, deaths among them, and the server's own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from support.claim_worker import sources
from support.crowds import begun, ended, killed, require_each_once

from voices_peewee import DatabaseManager

postgres_server = pytest.importorskip("support.postgres_server", exc_type=ImportError)
pytestmark = [pytest.mark.postgresql, pytest.mark.once]


@pytest.fixture(scope="module")
def own() -> Iterator[postgres_server.Server]:
    """A server that these tests may kill; it keeps its promises."""
    server = postgres_server.Server(careful=True)
    yield server
    server.remove()


@pytest.fixture
def url(own: postgres_server.Server) -> Iterator[str]:
    own.start()
    name = own.create()
    with DatabaseManager(own.url(name)).initialize():
        pass
    yield own.url(name)
    own.start()
    own.drop(name)


CROWDS = [
    pytest.param(4, 2000, id="4", marks=pytest.mark.soak),
    pytest.param(16, 2000, id="16", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("workers", "count"), CROWDS)
def test_many_workers_do_each_once(url: str, workers: int, count: int) -> None:
    """Workers on a server are given each recording once, half of them killed or not."""
    crowd = begun(url, workers, count, 0.02)
    killed(crowd[: workers // 2], after=5)
    given = Counter(ended(crowd[workers // 2 :]))
    require_each_once(url, count)
    assert all(times == 1 for path, times in given.items() if not path.endswith("49.wav"))


@pytest.mark.parametrize(
    ("workers", "count"), [(3, 90), pytest.param(8, 1000, marks=pytest.mark.soak)]
)
def test_claims_outlast_the_death_of_the_server(
    own: postgres_server.Server, url: str, workers: int, count: int
) -> None:
    """A server that is killed and started again under workers: each recording is done once."""
    crowd = begun(url, workers, count, 0.05)
    for _ in range(2):
        time.sleep(1)
        own.kill()
        time.sleep(0.3)
        own.start()
    given = Counter(ended(crowd))
    assert set(given) == set(sources(count))
    assert all(times == 1 for path, times in given.items() if not path.endswith("49.wav"))
    require_each_once(url, count)
