"""Records from another database: a Voices file, or one of the original SQLAlchemy module."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from voices_peewee.database.forks import Connection
from voices_peewee.database.wording import Translated
from voices_peewee.errors import DatabaseNewerError, NotVoicesError
from voices_peewee.exchange.import_source import TABLES, Refuse, Row, Source
from voices_peewee.migrations.runner import HISTORY_TABLE

# What tells the original's tables from another application's of the same names.
_REQUIRED: Final = {
    "speakers": {"id", "name"},
    "processed_files": {"id", "filename"},
    "processing_history": {"id", "processed_file_id", "operation_type"},
    "model_performance": {"id", "processing_history_id"},
}
_MODE_AT: Final = 18  # in a file's header: 2 is WAL


class Database(Source):
    """Another database, opened read-only: not a byte of it is changed.

    Args:
        path: The file.
        known: The names of the migrations that this code knows.
        timeout: How long to wait for another program's lock (s).

    Raises:
        NotVoicesError: It belongs to another application.
        DatabaseNewerError: It has migrations that are not known.
    """

    unit = "id"
    is_text = True

    def __init__(self, path: str, *, known: Sequence[str], timeout: float) -> None:
        super().__init__(path, "speakers", tuple(TABLES))
        self._path, self._timeout = os.path.realpath(path), timeout
        self._before, self._done, self._total = self._facts(), 0, 0
        with self._reading():
            self._connection = _connect(self._path, timeout)
            try:
                self._columns = self._look(known)
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with Translated(self.label, self._timeout):
            yield

    def _look(self, known: Sequence[str]) -> dict[str, list[str]]:
        """Return the columns of our tables; everything is read as of this moment."""
        execute = self._connection.execute
        execute("BEGIN")
        names = [name for (name,) in execute(_TABLES)]
        if HISTORY_TABLE in names:
            applied = [name for (name,) in execute(f'SELECT name FROM "{HISTORY_TABLE}"')]  # noqa: S608
            if unknown := [str(name) for name in applied if name not in known]:
                raise DatabaseNewerError(self.label, unknown)
        self.is_original = HISTORY_TABLE not in names
        found = {
            table: [row[1] for row in execute(f'PRAGMA table_info("{table}")')]
            for table in TABLES
            if table in names
        }
        missing = [
            table for table, marks in _REQUIRED.items() if not marks <= {*found.get(table, ())}
        ]
        if self.is_original and missing:
            self._refuse_stranger(names)
        for table in found:
            self._total += execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608
        return found

    def _refuse_stranger(self, names: Sequence[str]) -> None:
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        what = f"of another application ({shown})" if names else "without tables"
        raise NotVoicesError(self.label, f"it is a database {what}")

    def rows(self, refuse: Refuse) -> Iterator[Row]:  # noqa: ARG002 - there are no broken lines
        """Yield the records by table and id.

        Raises:
            InputError: The file changed meanwhile.
        """
        with self._reading():
            for table, columns in self._columns.items():
                chosen = ", ".join(f'"{name}"' for name in columns)
                cursor = self._connection.execute(f'SELECT {chosen} FROM "{table}" ORDER BY id')  # noqa: S608
                at = columns.index("id")
                for values in cursor:
                    self._done += 1
                    yield Row(table, values[at], dict(zip(columns, values, strict=True)))
        if self._facts() != self._before:
            raise self.error("it changed while it was read; try again")

    def _facts(self) -> tuple[int, int] | None:
        """Return what changes where another program writes to a file that is read as it lies."""
        if not _is_still(self._path):
            return None
        status = Path(self._path).stat()
        return status.st_size, status.st_mtime_ns

    def progress(self) -> tuple[int, int]:
        """Return the bytes done and in all, as the rows tell."""
        size = Path(self._path).stat().st_size
        return size * self._done // max(1, self._total), size

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


_TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"


def _is_still(path: str) -> bool:
    """Whether a file in WAL mode lies alone: opening it would put a -wal and a -shm beside it."""
    with open(path, "rb") as file:  # noqa: PTH123
        file.seek(_MODE_AT)
        is_wal = file.read(1) == b"\x02"
    return is_wal and not os.path.lexists(f"{path}-wal")


def _connect(path: str, timeout: float) -> Connection:
    uri = f"{Path(path).as_uri()}?mode=ro{'&immutable=1' if _is_still(path) else ''}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout, isolation_level=None, factory=Connection
    )
    # Bytes that are no UTF-8 are told with the row and column where they stand.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return connection
