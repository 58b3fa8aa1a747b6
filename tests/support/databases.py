"""Places for the tests' databases, on whichever engine they run."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voices_peewee import MODELS

if TYPE_CHECKING:
    from support.postgres_server import Server

ON_SERVER: Final = os.environ.get("VOICES_TEST_ENGINE", "sqlite") != "sqlite"
# PostgreSQL has no room for the character NUL, in texts and in JSON.
NO_ROOM_FOR: Final = "\0" if ON_SERVER else ""


def other_program(place: Path | str) -> closing[Any]:
    """Connect as another program does, which knows nothing of this package."""
    if "://" not in str(place):
        return closing(sqlite3.connect(place))
    import psycopg  # late: the tests of SQLite go without

    return closing(psycopg.connect(str(place), autocommit=True))


def ask(place: Path | str, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows that another program gets."""
    with other_program(place) as connection:
        return list(connection.execute(sql))


def stored(place: Path | str) -> list[tuple[Any, ...]]:
    """Return every row as the engine itself gives it, behind its table's name."""
    names = [model._meta.table_name for model in MODELS]
    return [
        (name, *row) for name in names for row in ask(place, f"SELECT * FROM {name} ORDER BY id")
    ]


class Databases:
    """Makes places for databases on the engine under test, and copies of closed ones."""

    def __init__(self, server: Server | None) -> None:
        self.server = server

    def new(
        self, folder: Path, name: str = "voices", *, like: Path | str | None = None
    ) -> Path | str:
        """Return where a database can be made, or was made like a closed one: a path or a URL."""
        if self.server is not None:
            return self.server.url(self.server.create(None if like is None else self.name(like)))
        place = folder / f"{name}.db"
        if like is not None:
            shutil.copy(like, place)
        return place

    def copy(self, source: Path | str, place: Path | str) -> None:
        """Make a copy of a closed database at a place."""
        if self.server is None:
            shutil.copyfile(source, place)
        else:
            self.server.drop(self.name(place))
            self.server.create(self.name(source), name=self.name(place))

    def remove(self, place: Path | str) -> None:
        """Remove what a server holds; files go with their folder."""
        if self.server is not None:
            self.server.drop(self.name(place))

    @staticmethod
    def name(url: Path | str) -> str:
        """Return the name of a server's database."""
        return str(url).partition("?")[0].rpartition("/")[2]
