"""What every test shares: a database, and the proof that it was left unbound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from voices_peewee import DatabaseManager
from voices_peewee.models import database_proxy

# No deadline: a busy machine is no failure. CI tries the same examples every time, people new ones.
settings.register_profile("voices", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("voices")


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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "voices.db"


@pytest.fixture
def db(path: Path) -> Iterator[DatabaseManager]:
    """An initialized, empty database."""
    with DatabaseManager(path).initialize() as manager:
        yield manager
