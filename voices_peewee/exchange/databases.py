"""Records from another database: a Voices file, or one of the original SQLAlchemy module."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from voices_peewee.database.sqlite import VoicesSqlite
from voices_peewee.database.wording import Translated
from voices_peewee.errors import DatabaseNewerError, NotVoicesError
from voices_peewee.exchange.sources import Refuse, Row, Source
from voices_peewee.exchange.tables import TABLES
from voices_peewee.migrations import runner as migrations

# What tells the original's tables from another application's of the same names.
_REQUIRED: Final = {
    "speakers": {"id", "name"},
    "processed_files": {"id", "filename"},
    "processing_history": {"id", "processed_file_id", "operation_type"},
    "model_performance": {"id", "processing_history_id"},
}
_MODE_AT: Final = 18  # in a file's header: 2 is WAL
_NAMES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"


class Database(Source):
    """Another database, opened read-only: not a byte of it is changed.

    An older one is copied, and the copy brought up to date. The original module has a table
    ``schema_migrations`` of its own, with ``version``, ``applied_at`` and ``description``.

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
    is_database = True

    def __init__(self, path: str, *, known: Sequence[str], timeout: float) -> None:
        super().__init__(path, "speakers", tuple(TABLES))
        self._path, self._timeout = os.path.realpath(path), timeout
        self._before, self._done, self._total = self._facts(), 0, 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        with Translated(self.label, timeout):
            self._connection = _connect(self._path, timeout)
        try:
            with Translated(self.label, timeout):
                self._columns = self._look(known)
        except BaseException:
            self.close()
            raise

    def _look(self, known: Sequence[str]) -> dict[str, list[str]]:
        """Return the columns of our tables; everything is read as of this moment."""
        self._connection.execute("BEGIN")
        columns = self._tables()
        is_ours = "name" in columns.get(migrations.HISTORY_TABLE, ())
        if is_ours:
            self._bring_up_to_date(known)
            columns = self._tables()
        self.is_original = not is_ours
        missing = [name for name, marks in _REQUIRED.items() if marks - {*columns.get(name, ())}]
        if self.is_original and missing:
            self._refuse_stranger([*columns])
        found = {name: columns[name] for name in TABLES if name in columns}
        for name in found:
            (count,) = self._connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()  # noqa: S608
            self._total += count
        return found

    def _tables(self) -> dict[str, list[str]]:
        """Return the columns of each table, in small letters: SQLite tells no others apart."""
        execute = self._connection.execute
        return {
            name.lower(): [row[1].lower() for row in execute(f'PRAGMA table_info("{name}")')]
            for (name,) in execute(_NAMES).fetchall()
        }

    def _bring_up_to_date(self, known: Sequence[str]) -> None:
        sql = f'SELECT name FROM "{migrations.HISTORY_TABLE}"'  # noqa: S608
        applied = [str(name) for (name,) in self._connection.execute(sql)]
        if unknown := [name for name in applied if name not in known]:
            raise DatabaseNewerError(self.label, unknown)
        ours = migrations.names([migrations.package_directory()])
        if {*ours} <= {*applied}:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="voices-import-")
        path = os.path.join(self._folder.name, "voices.db")  # noqa: PTH118
        with closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)
            marks = ", ".join("?" * len(ours))
            sql = f'DELETE FROM "{migrations.HISTORY_TABLE}" WHERE name NOT IN ({marks})'  # noqa: S608
            copy.execute(sql, ours)
            copy.commit()
        self._connection.close()
        database = VoicesSqlite(path, timeout=self._timeout)
        try:
            migrations.upgrade(database, [migrations.package_directory()])
        finally:
            database.close_all()
        self._connection = _connect(path, self._timeout)
        self._connection.execute("BEGIN")

    def _refuse_stranger(self, names: Sequence[str]) -> None:
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        what = f"of another application ({shown})" if names else "without tables"
        raise NotVoicesError(self.label, f"it is a database {what}")

    def rows(self, refuse: Refuse) -> Iterator[Row]:  # noqa: ARG002 - there are no broken lines
        """Yield the records by table and id, recordings before their stems.

        Raises:
            InputError: The file changed meanwhile.
        """
        with Translated(self.label, self._timeout):
            for table, columns in self._columns.items():
                order = "recording_id IS NOT NULL, id" if "recording_id" in columns else "id"
                chosen = ", ".join(f'"{name}"' for name in columns)
                at = columns.index("id")
                sql = f'SELECT {chosen} FROM "{table}" ORDER BY {order}'  # noqa: S608
                for values in self._connection.execute(sql):
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
        """Close the database, and remove the copy of an older one."""
        self._connection.close()
        if self._folder is not None:
            self._folder.cleanup()


def _is_still(path: str) -> bool:
    """Whether a file in WAL mode lies alone: opening it would put a -wal and a -shm beside it."""
    with open(path, "rb") as file:  # noqa: PTH123
        file.seek(_MODE_AT)
        is_wal = file.read(1) == b"\x02"
    return is_wal and not os.path.lexists(f"{path}-wal")


def _connect(path: str, timeout: float) -> sqlite3.Connection:
    uri = f"{Path(path).as_uri()}?mode=ro{'&immutable=1' if _is_still(path) else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
    # Bytes that are no UTF-8 are told with the row and column where they stand.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return connection
