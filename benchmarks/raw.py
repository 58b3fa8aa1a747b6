"""Raw sqlite3: as tuples, and as plain objects with parsed JSON and times, the honest limit."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data import (
    Record,
    connect,
    file_record,
    history_record,
    insert_sql,
    performance_record,
)

_COLUMNS = ["id", *file_record(0)]
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM processed_files"
_INSERT = insert_sql("processed_files", file_record(0))
_INSERT_ID = insert_sql("processed_files", {"id": 0, **file_record(0)})
_INSERT_HISTORY = insert_sql("processing_history", {"processed_file_id": 0, **history_record(0)})
_INSERT_PERFORMANCE = insert_sql(
    "model_performance", {"processing_history_id": 0, **performance_record(0)}
)


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
        record["file_size"],
        record["content_hash"],
        record["created_at"].isoformat(" ", "microseconds"),
        record["updated_at"].isoformat(" ", "microseconds"),
    )


class RawTuples:
    """sqlite3 as it comes: tuples in and out."""

    name = "raw sqlite3"

    def open(self, path: Path) -> None:
        self.connection = connect(path)

    def close(self) -> None:
        self.connection.close()

    def add_one_by_one(self, records: list[Record]) -> None:
        execute = self.connection.execute
        for record in records:
            execute(_INSERT, _file_values(record))

    def record_runs(self, runs: list[tuple[Record, Record, Record]]) -> None:
        execute = self.connection.execute
        for file, history, performance in runs:
            execute("BEGIN IMMEDIATE")
            key = execute(_INSERT, _file_values(file)).lastrowid
            history_values = (
                key,
                history["run_id"],
                history["operation_type"],
                history["model_type"],
                history["model_version"],
                json.dumps(history["parameters"]),
                history["start_time"].isoformat(" ", "microseconds"),
                history["end_time"].isoformat(" ", "microseconds"),
                history["success"],
                history["error_message"],
            )
            key = execute(_INSERT_HISTORY, history_values).lastrowid
            performance_values = (
                key,
                performance["model_type"],
                performance["model_version"],
                performance["si_snri"],
                performance["sdri"],
                performance["cpu_usage"],
                performance["memory_usage"],
                performance["processing_time"],
                performance["real_time_factor"],
                json.dumps(performance["additional_metrics"]),
                performance["created_at"].isoformat(" ", "microseconds"),
            )
            execute(_INSERT_PERFORMANCE, performance_values)
            execute("COMMIT")

    def add_dicts(self, records: list[Record]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(_INSERT, map(_file_values, records))
        self.connection.execute("COMMIT")

    def read_all(self) -> list[Any]:
        return self.connection.execute(_SELECT).fetchall()

    def of_speaker(self, key: int) -> list[Any]:
        return self.connection.execute(f"{_SELECT} WHERE speaker_id = ?", (key,)).fetchall()

    def newest(self, count: int) -> list[Any]:
        sql = f"{_SELECT} ORDER BY created_at DESC LIMIT ?"
        return self.connection.execute(sql, (count,)).fetchall()

    def get_each(self, keys: list[int]) -> list[Any]:
        sql = f"{_SELECT} WHERE id = ?"
        return [self.connection.execute(sql, (key,)).fetchone() for key in keys]

    def is_current(self, times: int) -> list[Any]:
        execute = self.connection.execute
        return [execute("PRAGMA user_version").fetchone() for _ in range(times)]

    def facts(self, row: Any) -> Any:
        """Return what the answers of all contestants are compared by."""
        return row[0], row[1], json.loads(row[8]), dt.datetime.fromisoformat(row[12])


@dataclass
class PlainFile:
    """What a careful programmer without a library would write."""

    id: int | None
    filename: str
    original_path: str | None
    processed_path: str | None
    file_format: str | None
    duration: float | None
    sample_rate: int | None
    channels: int | None
    metadata: Record
    speaker_id: int | None
    file_size: int | None
    content_hash: str | None
    created_at: dt.datetime
    updated_at: dt.datetime


class RawObjects(RawTuples):
    """sqlite3 that also builds one plain object a row."""

    name = "raw objects"
    add_one_by_one = record_runs = add_dicts = is_current = None  # type: ignore[assignment]

    def make_objects(self, records: list[Record]) -> list[PlainFile]:
        return [PlainFile(None, **record) for record in records]

    def add_objects(self, files: list[PlainFile]) -> None:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        last = execute("SELECT max(id) FROM processed_files").fetchone()[0] or 0
        self.connection.executemany(_INSERT_ID, self._numbered(files, last))
        execute("COMMIT")

    def _numbered(self, files: list[PlainFile], last: int) -> Iterator[tuple[Any, ...]]:
        for key, file in enumerate(files, last + 1):
            file.id = key
            yield (
                key,
                file.filename,
                file.original_path,
                file.processed_path,
                file.file_format,
                file.duration,
                file.sample_rate,
                file.channels,
                json.dumps(file.metadata),
                file.speaker_id,
                file.file_size,
                file.content_hash,
                file.created_at.isoformat(" ", "microseconds"),
                file.updated_at.isoformat(" ", "microseconds"),
            )

    def _build(self, row: tuple[Any, ...]) -> PlainFile:
        parse = dt.datetime.fromisoformat
        return PlainFile(*row[:8], json.loads(row[8]), *row[9:12], parse(row[12]), parse(row[13]))

    def read_all(self) -> list[Any]:
        return [self._build(row) for row in self.connection.execute(_SELECT)]

    def of_speaker(self, key: int) -> list[Any]:
        sql = f"{_SELECT} WHERE speaker_id = ?"
        return [self._build(row) for row in self.connection.execute(sql, (key,))]

    def newest(self, count: int) -> list[Any]:
        sql = f"{_SELECT} ORDER BY created_at DESC LIMIT ?"
        return [self._build(row) for row in self.connection.execute(sql, (count,))]

    def get_each(self, keys: list[int]) -> list[Any]:
        sql = f"{_SELECT} WHERE id = ?"
        return [self._build(self.connection.execute(sql, (key,)).fetchone()) for key in keys]

    def facts(self, file: Any) -> Any:
        return file.id, file.filename, file.metadata, file.created_at
