"""Raw sqlite3 on the specification's own columns: what the schema costs, and not only the Python.

An index on each foreign key and on ``created_at``, no CHECKs, and none of the columns that this
package adds. The same records go in, less what there is no column for.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from benchmarks.data import MANY_PAGES, Record, connect, insert_sql, performance_record
from benchmarks.raw import PlainFile, RawObjects, RawTuples

_FILE: Final = (
    *("filename", "original_path", "processed_path", "file_format", "duration", "sample_rate"),
    *("channels", "metadata", "speaker_id", "created_at", "updated_at"),
)
_HISTORY: Final = (
    *("processed_file_id", "operation_type", "model_type", "model_version", "parameters"),
    *("start_time", "end_time", "success", "error_message"),
)
_PERFORMANCE: Final = ("processing_history_id", *performance_record(0))
TABLES: Final = {
    "speakers": ("name", "description", "tags", "created_at", "updated_at"),
    "processed_files": _FILE,
    "processing_history": _HISTORY,
    "model_performance": _PERFORMANCE,
}
_REFERENCES: Final = {
    "speaker_id": "INTEGER REFERENCES speakers ON DELETE SET NULL",
    "processed_file_id": "INTEGER NOT NULL REFERENCES processed_files ON DELETE CASCADE",
    "processing_history_id": "INTEGER NOT NULL REFERENCES processing_history ON DELETE CASCADE",
}
_INDEXED: Final = (*_REFERENCES, "created_at")
_INSERT: Final = insert_sql("processed_files", dict.fromkeys(_FILE))
_INSERT_ID: Final = insert_sql("processed_files", dict.fromkeys(("id", *_FILE)))
_INSERT_HISTORY: Final = insert_sql("processing_history", dict.fromkeys(_HISTORY))
_INSERT_PERFORMANCE: Final = insert_sql("model_performance", dict.fromkeys(_PERFORMANCE))


def create(path: Path, source: Path, filled: Collection[str] = TABLES) -> Path:
    """Make the lean schema, with what another database holds in some tables."""
    with closing(connect(path)) as connection:
        for table, columns in TABLES.items():
            kinds = ", ".join(f"{name} {_REFERENCES.get(name, '')}" for name in columns)
            connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {kinds})")
            for name in {*columns} & {*_INDEXED}:  # before the rows, as a record in use grows
                connection.execute(f"CREATE INDEX {table}_{name} ON {table} ({name})")
        connection.execute(MANY_PAGES)
        connection.execute("ATTACH ? AS source", (str(source),))
        connection.execute("BEGIN")
        for table in filled:
            names = ", ".join(("id", *TABLES[table]))
            sql = f"INSERT INTO {table} ({names}) SELECT {names} FROM source.{table} ORDER BY id"
            connection.execute(sql)
        connection.execute("COMMIT")
        connection.execute("DETACH source")
        connection.execute("ANALYZE")
    return path


def _file_values(record: Record) -> tuple[Any, ...]:
    return (
        record["filename"],
        record["original_path"],
        record["processed_path"],
        record["file_format"],
        record["duration"],
        record["sample_rate"],
        record["channels"],
        json.dumps(record["metadata"]),
        record["speaker_id"],
        record["created_at"].isoformat(" ", "microseconds"),
        record["updated_at"].isoformat(" ", "microseconds"),
    )


class _Lean:
    """Opens a lean database beside the one that is named, made when it is not there."""

    connection: sqlite3.Connection

    def open(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.lean")
        if not self.path.exists():
            create(self.path, path, ("speakers", "processed_files"))
        self.connection = connect(self.path)


class LeanTuples(_Lean, RawTuples):
    """sqlite3 as it comes, on the lean schema."""

    name = "lean sqlite3"
    read_all = of_speaker = newest = get_each = is_current = None  # type: ignore[assignment]

    def add_one_by_one(self, records: list[Record]) -> None:
        execute = self.connection.execute
        for record in records:
            execute(_INSERT, _file_values(record))

    def record_runs(self, runs: list[tuple[Record, Record, Record]]) -> None:
        execute = self.connection.execute
        for file, history, performance in runs:
            execute("BEGIN IMMEDIATE")
            key = execute(_INSERT, _file_values(file)).lastrowid
            key = execute(_INSERT_HISTORY, (key, *_plain(history, _HISTORY[1:]))).lastrowid
            execute(_INSERT_PERFORMANCE, (key, *_plain(performance, _PERFORMANCE[1:])))
            execute("COMMIT")

    def add_dicts(self, records: list[Record]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(_INSERT, map(_file_values, records))
        self.connection.execute("COMMIT")


_JSON: Final = frozenset({"parameters", "additional_metrics"})
_TIMES: Final = frozenset({"start_time", "end_time", "created_at"})


def _plain(record: Record, names: tuple[str, ...]) -> list[Any]:
    return [
        json.dumps(record[name])
        if name in _JSON
        else record[name].isoformat(" ", "microseconds")
        if name in _TIMES
        else record[name]
        for name in names
    ]


class LeanObjects(_Lean, RawObjects):
    """sqlite3 that also builds one plain object a row, on the lean schema."""

    name = "lean objects"
    read_all = of_speaker = None  # type: ignore[assignment]
    _SELECT = f"SELECT id, {', '.join(_FILE)} FROM processed_files"

    def add_objects(self, files: list[PlainFile]) -> None:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        last = execute("SELECT max(id) FROM processed_files").fetchone()[0] or 0
        self.connection.executemany(
            _INSERT_ID, ((row[0], *row[1:10], *row[12:]) for row in self._numbered(files, last))
        )
        execute("COMMIT")

    def _build(self, row: tuple[Any, ...]) -> PlainFile:
        return super()._build((*row[:10], None, None, *row[10:]))

    def newest(self, count: int) -> list[Any]:
        sql = f"{self._SELECT} ORDER BY created_at DESC LIMIT ?"
        return [self._build(row) for row in self.connection.execute(sql, (count,))]

    def get_each(self, keys: list[int]) -> list[Any]:
        sql = f"{self._SELECT} WHERE id = ?"
        return [self._build(self.connection.execute(sql, (key,)).fetchone()) for key in keys]
