"""Records from another database: a Voices file, or one of the original SQLAlchemy module."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from math import isfinite
from pathlib import Path
from typing import Any, Final

from voices_peewee.database.store import Store
from voices_peewee.database.transactions import Translated
from voices_peewee.errors import DatabaseNewerError, NotVoicesError
from voices_peewee.exchange.sources import Row, Source
from voices_peewee.exchange.tables import TABLES
from voices_peewee.exchange.texts import Refused
from voices_peewee.exchange.values import EXTRAS
from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.history import HISTORY_TABLE
from voices_peewee.runs.metrics import NONFINITE
from voices_peewee.schema.exact import short
from voices_peewee.schema.fields import dump_json

# The tables that the original module has too.
_ORIGINAL: Final = ("speakers", "processed_files", "processing_history", "model_performance")
_MODE_AT: Final = 18  # in a file's header: 2 is WAL
_COLUMNS: Final = "SELECT * FROM pragma_table_info(?)"
_OLDER: Final = "it is older; upgrade it or a copy with 'voices --db FILE run-migrations' first"
# Of several measurements of one run the original module's last; one of no run is told as such.
_LAST: Final = (
    "id IN (SELECT max(id) FROM model_performance GROUP BY ifnull(processing_history_id, -id))"
)
_KEPT: Final = "values that are NaN or infinite are kept in additional_metrics.nonfinite"
_NAMES: Final = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"


class Database(Source):
    """Another database, opened read-only: not a byte of it is changed.

    The original module has a table ``schema_migrations`` of its own, with ``version``,
    ``applied_at`` and ``description``.

    Args:
        path: The file.
        store: The database that the records go to.

    Raises:
        NotVoicesError: It belongs to another application.
        DatabaseNewerError: It has migrations that are not known.
        InputError: It lacks migrations.
    """

    is_text = True
    is_database = True

    def __init__(self, path: str, store: Store) -> None:
        super().__init__(path, "speakers", TABLES)
        self._path, self._timeout = os.path.realpath(path), store.timeout
        self._before, self._done = self._facts(), 0
        with Translated(self.label, self._timeout), ExitStack() as opened:
            uri = f"{Path(self._path).as_uri()}?mode=ro{'&immutable=1' if self._before else ''}"
            self._connection = opened.enter_context(closing(_connect(uri, self._timeout)))
            self._connection.execute("BEGIN")  # everything is read as of this moment
            columns = self._tables()
            self.is_original = "name" not in columns.get(HISTORY_TABLE, ())
            if self.is_original:
                self._require_original(columns)
            else:
                self._require_ours(store)
                if gone := [name for name in TABLES if name not in columns]:
                    raise NotVoicesError(self.label, f"its table {gone[0]!r} is gone, or is a view")
            self._columns = {name: columns[name] for name in TABLES if name in columns}
            counts = [f'SELECT count(*) AS n FROM "{name}"' for name in self._columns]  # noqa: S608
            sql = f"SELECT sum(n) FROM ({' UNION ALL '.join(counts)})"  # noqa: S608
            self._total = self._connection.execute(sql).fetchone()[0]
            self._opened = opened.pop_all()

    def _tables(self) -> dict[str, list[str]]:
        """Return the tables with the columns of ours, in small letters, as SQLite compares them."""
        execute, ours = self._connection.execute, {*TABLES, HISTORY_TABLE}
        return {
            name.lower(): [row[1].lower() for row in execute(_COLUMNS, (name,))]
            if name.lower() in ours
            else []
            for (name,) in execute(_NAMES).fetchall()
        }

    def _require_original(self, columns: dict[str, list[str]]) -> None:
        if all("id" in columns.get(name, ()) for name in _ORIGINAL):
            return
        shown = ", ".join([*columns][:3]) + (", …" if len(columns) > 3 else "")
        what = f"of another application ({shown})" if columns else "without tables"
        raise NotVoicesError(self.label, f"it is a database {what}")

    def _require_ours(self, store: Store) -> None:
        ours = migrations.names([migrations.package_directory()])
        sql = f'SELECT name FROM "{HISTORY_TABLE}"'  # noqa: S608
        applied = [str(name) for (name,) in self._connection.execute(sql)]
        known = {*ours, *migrations.applied(store.database)}
        if unknown := [name for name in applied if name not in known]:
            raise DatabaseNewerError(self.label, unknown)
        if not {*ours} <= {*applied}:
            raise self.error(_OLDER)

    def rows(self, refused: Refused) -> Iterator[Row]:  # noqa: ARG002 - there are no broken lines
        """Yield the records by table and id, recordings before their stems.

        Raises:
            InputError: The file changed meanwhile.
        """
        with Translated(self.label, self._timeout):
            for table, columns in self._columns.items():
                order = "recording_id IS NOT NULL, id" if "recording_id" in columns else "id"
                chosen, at = ", ".join(f'"{name}"' for name in columns), columns.index("id")
                which = self._which(table, columns)
                sql = f'SELECT {chosen} FROM "{table}" WHERE {which} ORDER BY {order}'  # noqa: S608
                for values in self._connection.execute(sql):
                    self._done += 1
                    row = dict(zip(columns, values, strict=True))
                    if self.is_original:
                        self._keep_nonfinite(table, row)
                    yield Row(table, f"id {values[at]}", row)
        if self._before and self._facts() != self._before:
            raise self.error("it changed while it was read; try again")

    def _which(self, table: str, columns: list[str]) -> str:
        """Return the condition of the rows that are taken, and note which are left out."""
        if (
            table != "model_performance"
            or not self.is_original
            or "processing_history_id" not in columns
        ):
            return "TRUE"
        sql = f"SELECT id FROM model_performance WHERE NOT {_LAST} ORDER BY id"  # noqa: S608
        if older := [key for (key,) in self._connection.execute(sql)]:
            self.notes.append(f"a run has one measurement, its last; left out: {short(older)}")
        return _LAST

    def _keep_nonfinite(self, table: str, row: dict[str, Any]) -> None:
        """Put NaN and infinity, which the original module writes, where a run here keeps them."""
        column, told, odd = EXTRAS.get(table, ""), None, dict[str, str]()
        with suppress(ValueError, TypeError, RecursionError):  # what is no JSON is told by its type
            told = json.loads(row.get(column) or "{}")
        if not isinstance(told, dict):
            return
        if table == "model_performance" and NONFINITE not in told:
            both = (*told.items(), *row.items())
            odd = {name: str(one) for name, one in both if _is_odd(one)}
            row |= {name: None for name, one in row.items() if _is_odd(one)}
        if odd or re.search("NaN|Infinity", str(row.get(column))):
            told = {name: one for name, one in told.items() if name not in odd}
            row[column] = dump_json(told | ({NONFINITE: odd} if odd else {}))
            note = _KEPT if odd else f"NaN and infinity inside {column} are kept as texts"
            self.notes += [] if note in self.notes else [note]

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
        self._opened.close()


def _is_odd(value: object) -> bool:
    return isinstance(value, float) and not isfinite(value)


def _is_still(path: str) -> bool:
    """Whether a file in WAL mode lies alone: opening it would put a -wal and a -shm beside it."""
    with open(path, "rb") as file:
        file.seek(_MODE_AT)
        is_wal = file.read(1) == b"\x02"
    return is_wal and not os.path.lexists(f"{path}-wal")


def _connect(uri: str, timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
    # Bytes that are no UTF-8 are told with the row and column where they stand.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return connection
