"""Places for the tests' databases, on whichever engine they run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from postgres_server import Server

ON_SERVER: Final = os.environ.get("VOICES_TEST_ENGINE", "sqlite") != "sqlite"
# PostgreSQL has no room for the character NUL, in texts and in JSON.
NO_ROOM_FOR: Final = "\0" if ON_SERVER else ""


class Databases:
    """Makes places for databases on the engine under test, and copies of closed ones."""

    def __init__(self, server: Server | None) -> None:
        self.server = server

    def new(self, folder: Path, name: str = "voices", *, like: str | None = None) -> Path | str:
        """Return where a database can be made: a path, or the URL of an empty database."""
        if self.server is None:
            return folder / f"{name}.db"
        return self.server.url(self.server.create(like))

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
