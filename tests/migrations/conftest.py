"""A new file, and a copy of the package's migrations to add to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import peewee as pw
import pytest
from support.migration_files import PACKAGE, open_database


@pytest.fixture
def database(path: Path) -> Iterator[pw.SqliteDatabase]:
    """A connection to a new and empty file."""
    database = open_database(path)
    with database.connection_context():
        yield database


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the package's migrations to add to."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "migrations"))
