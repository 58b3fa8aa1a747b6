"""A small database and a folder for its backups."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.backups import make


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database in a folder of its own."""
    (tmp_path / "data").mkdir()
    return make(tmp_path / "data" / "voices.db")


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Return an empty folder for backups."""
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies"
