"""What every test shares: a database, and the proof that it was left unbound."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from voices_peewee import DatabaseManager
from voices_peewee.schema.models import database_proxy

if TYPE_CHECKING:
    from support.databases import Databases
    from support.postgres_server import Server

# No deadline: a busy machine is no failure. CI tries the same examples every time, people new ones.
settings.register_profile("voices", deadline=None, max_examples=50, derandomize="CI" in os.environ)
settings.load_profile("voices")

ENGINES = ("sqlite", "postgresql")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine", choices=ENGINES, default="sqlite", help="the engine of the tests' databases"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell the tests' modules, and the programs that they start, which engine it is.

    A shell that starts the tests in the background leaves Ctrl-C ignored, in programs too. Each
    test has a home of its own, in which Matplotlib would look for the fonts anew each time.
    """
    os.environ.setdefault("MPLCONFIGDIR", str(config.cache.mkdir("matplotlib")))
    os.environ["VOICES_TEST_ENGINE"] = str(config.getoption("--engine"))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a server where there is none, and on one what is about SQLite.

    A test that asks for no place of a database is the same on every engine: a server goes without.
    """
    lacking = pytest.mark.skip(reason="no PostgreSQL server is installed (apt install postgresql)")
    on_server = config.getoption("--engine") != "sqlite"
    kept, same = [], []
    for item in items:
        marker = item.get_closest_marker("sqlite")
        is_postgresql = item.get_closest_marker("postgresql") is not None
        if marker is not None and on_server:
            item.add_marker(pytest.mark.skip(reason=f"SQLite only: {marker.args[0]}"))
        if is_postgresql and not _has_server():
            item.add_marker(lacking)
        is_same = on_server and not is_postgresql and "databases" not in item.fixturenames
        (same if is_same else kept).append(item)
    config.hook.pytest_deselected(items=same)
    items[:] = kept


def _has_server() -> bool:
    try:
        from support.postgres_server import binaries
    except ImportError:
        return False
    return binaries() is not None


@pytest.fixture
def no_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are believed as soon as the clock has moved on."""
    for module in ("records.audio_files", "questions.outcomes"):
        monkeypatch.setattr(f"voices_peewee.{module}.CLOCK_SLACK", 0.0)


@pytest.fixture(autouse=True)
def _unbound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Every test begins and ends with unbound models and never sees the user's own database."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VOICES_DB", raising=False)
    assert database_proxy.obj is None
    yield
    left = database_proxy.obj
    database_proxy.initialize(None)
    assert left is None, "a test left the models bound"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server for the session; a test that needs one is skipped without."""
    postgres_server = pytest.importorskip("support.postgres_server", exc_type=ImportError)
    if not _has_server():
        pytest.skip("no PostgreSQL server is installed (Debian: apt install postgresql)")
    running = postgres_server.Server()
    yield running
    running.remove()


@pytest.fixture(scope="session")
def migrated(server: Server) -> str:
    """The name of a migrated database on the server that others are copied from."""
    name = server.create()
    with DatabaseManager(server.url(name)).initialize():
        pass
    return name


@pytest.fixture
def url(server: Server, migrated: str) -> Iterator[str]:
    """The URL of a migrated database of the test's own."""
    name = server.create(migrated)
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """The name of the engine that the tests run on."""
    return str(request.config.getoption("--engine"))


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Databases:
    """What makes databases on the engine under test."""
    from support.databases import Databases  # late: it asks which engine that is

    on_server = request.config.getoption("--engine") != "sqlite"
    return Databases(request.getfixturevalue("server") if on_server else None)


@pytest.fixture(scope="session")
def blank(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Path | str:
    """A closed, empty database that others are copied from."""
    place = databases.new(tmp_path_factory.mktemp("migrated"))
    with DatabaseManager(place).initialize():
        pass
    return place


@pytest.fixture
def path(
    databases: Databases, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Path | str]:
    """Where a database can be made: a path, or the URL of an empty database."""
    # A test that wants a database made gets a copy of one that is: see ``db``.
    ready = "db" in request.fixturenames
    place = databases.new(tmp_path, like=request.getfixturevalue("blank") if ready else None)
    yield place
    databases.remove(place)


@pytest.fixture
def other_path(databases: Databases, tmp_path: Path) -> Iterator[Path | str]:
    """Where a second database can be made."""
    place = databases.new(tmp_path, "other")
    yield place
    databases.remove(place)


@pytest.fixture
def db(path: Path) -> Iterator[DatabaseManager]:
    """An initialized, empty database."""
    with DatabaseManager(path).initialize() as manager:
        yield manager
