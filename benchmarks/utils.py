"""sqlite-utils: dicts in and out, JSON and times as text."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import sqlite_utils

from benchmarks.data import Record, connect


class SqliteUtils:
    """``insert``, ``insert_all``, ``rows`` and ``get``."""

    name = "sqlite-utils"

    def open(self, path: Path) -> None:
        self.connection = connect(path)
        self.connection.isolation_level = "DEFERRED"
        self.db = sqlite_utils.Database(self.connection)

    def close(self) -> None:
        self.connection.close()

    def add_one_by_one(self, records: list[Record]) -> None:
        table = self.db["processed_files"]
        for record in records:
            table.insert(record)

    def add_dicts(self, records: list[Record]) -> None:
        self.db["processed_files"].insert_all(records, batch_size=1000)

    def read_all(self) -> list[Any]:
        return list(self.db["processed_files"].rows)

    def of_speaker(self, key: int) -> list[Any]:
        return list(self.db["processed_files"].rows_where("speaker_id = ?", [key]))

    def newest(self, count: int) -> list[Any]:
        table = self.db["processed_files"]
        return list(table.rows_where(order_by="created_at desc", limit=count))

    def get_each(self, keys: list[int]) -> list[Any]:
        table = self.db["processed_files"]
        return [table.get(key) for key in keys]

    def facts(self, row: Any) -> Any:
        created = dt.datetime.fromisoformat(row["created_at"])
        return row["id"], row["filename"], json.loads(row["metadata"]), created
