"""Plain Peewee, as its documentation teaches it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import peewee as pw

from benchmarks.data import Record

_database = pw.SqliteDatabase(None, lock_type="IMMEDIATE")


class _UTCField(pw.DateTimeField):
    def db_value(self, value: Any) -> Any:
        return value and value.isoformat(" ", "microseconds")

    def python_value(self, value: Any) -> Any:
        return value and dt.datetime.fromisoformat(value)


class _Model(pw.Model):
    class Meta:
        database = _database


class _Speaker(_Model):
    name = pw.TextField()

    class Meta:
        table_name = "speakers"


class _File(_Model):
    filename = pw.TextField()
    original_path = pw.TextField(null=True)
    processed_path = pw.TextField(null=True)
    file_format = pw.TextField(null=True)
    duration = pw.DoubleField(null=True)
    sample_rate = pw.IntegerField(null=True)
    channels = pw.IntegerField(null=True)
    metadata = pw.JSONField(default=dict)
    speaker = pw.ForeignKeyField(_Speaker, null=True)
    file_size = pw.BigIntegerField(null=True)
    content_hash = pw.TextField(null=True)
    created_at = _UTCField()
    updated_at = _UTCField()

    class Meta:
        table_name = "processed_files"


class _History(_Model):
    processed_file = pw.ForeignKeyField(_File)
    run_id = pw.TextField()
    operation_type = pw.TextField()
    model_type = pw.TextField(null=True)
    model_version = pw.TextField(null=True)
    parameters = pw.JSONField(default=dict)
    start_time = _UTCField()
    end_time = _UTCField(null=True)
    success = pw.BooleanField(default=False)
    error_message = pw.TextField(null=True)

    class Meta:
        table_name = "processing_history"


class _Performance(_Model):
    processing_history = pw.ForeignKeyField(_History)
    model_type = pw.TextField(null=True)
    model_version = pw.TextField(null=True)
    si_snri = pw.DoubleField(null=True)
    sdri = pw.DoubleField(null=True)
    cpu_usage = pw.DoubleField(null=True)
    memory_usage = pw.DoubleField(null=True)
    processing_time = pw.DoubleField(null=True)
    real_time_factor = pw.DoubleField(null=True)
    additional_metrics = pw.JSONField(default=dict)
    created_at = _UTCField()

    class Meta:
        table_name = "model_performance"


class PeeweeAsTaught:
    """``create``, ``insert_many``, ``select`` and ``get_by_id``."""

    name = "Peewee as taught"

    def open(self, path: Path) -> None:
        pragmas = {"journal_mode": "wal", "synchronous": "normal", "foreign_keys": 1}
        _database.init(str(path), pragmas=pragmas, timeout=60)
        _database.connect()

    def close(self) -> None:
        _database.close()

    def add_one_by_one(self, records: list[Record]) -> None:
        for record in records:
            _File.create(**record)

    def record_runs(self, runs: list[tuple[Record, Record, Record]]) -> None:
        for file, history, performance in runs:
            with _database.atomic():
                saved = _File.create(**file)
                run = _History.create(processed_file=saved, **history)
                _Performance.create(processing_history=run, **performance)

    def add_dicts(self, records: list[Record]) -> None:
        with _database.atomic():
            for batch in pw.chunked(records, 1000):
                _File.insert_many(batch).execute()

    def make_objects(self, records: list[Record]) -> list[_File]:
        return [_File(**record) for record in records]

    def add_objects(self, files: list[_File]) -> None:
        with _database.atomic():  # bulk_create does not give ids back with SQLite
            for file in files:
                file.save()

    def read_all(self) -> list[Any]:
        return list(_File.select())

    def of_speaker(self, key: int) -> list[Any]:
        return list(_File.select().where(_File.speaker == key))

    def newest(self, count: int) -> list[Any]:
        return list(_File.select().order_by(_File.created_at.desc()).limit(count))

    def get_each(self, keys: list[int]) -> list[Any]:
        return [_File.get_by_id(key) for key in keys]

    def iterate(self) -> int:
        return sum(1 for _ in _File.select().iterator())

    def facts(self, file: Any) -> Any:
        return file.id, file.filename, file.metadata, file.created_at
