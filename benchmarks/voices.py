"""This package, used as its README says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.data import Record
from voices_peewee import DatabaseManager, ModelPerformance, ProcessedFile, ProcessingHistory
from voices_peewee.migrations import runner as migrations


class Voices:
    """``DatabaseManager`` and its models."""

    name = "voices_peewee"

    def open(self, path: Path) -> None:
        self.db = DatabaseManager(path).connect()

    def close(self) -> None:
        self.db.close()

    def add_one_by_one(self, records: list[Record]) -> None:
        for record in records:
            self.db.add(ProcessedFile(**record))

    def record_runs(self, runs: list[tuple[Record, Record, Record]]) -> None:
        db = self.db
        for file, history, performance in runs:
            with db.atomic():
                saved = db.add(ProcessedFile(**file))
                run = db.add(ProcessingHistory(processed_file=saved, **history))
                db.add(ModelPerformance(processing_history=run, **performance))

    def add_dicts(self, records: list[Record]) -> None:
        self.db.add_many(ProcessedFile, records)

    def make_objects(self, records: list[Record]) -> list[ProcessedFile]:
        return [ProcessedFile(**record) for record in records]

    def add_objects(self, files: list[ProcessedFile]) -> None:
        self.db.add_all(files)

    def read_all(self) -> list[Any]:
        return self.db.get_all(ProcessedFile)

    def of_speaker(self, key: int) -> list[Any]:
        return self.db.query(ProcessedFile).filter_by(speaker_id=key).all()

    def newest(self, count: int) -> list[Any]:
        newest_first = ProcessedFile.created_at.desc()
        return self.db.query(ProcessedFile).order_by(newest_first).limit(count).all()

    def get_each(self, keys: list[int]) -> list[Any]:
        get = self.db.get_by_id
        return [get(ProcessedFile, key) for key in keys]

    def is_current(self, times: int) -> list[Any]:
        database, directories = self.db.database, [migrations.package_directory()]
        return [migrations.pending(database, directories) for _ in range(times)]

    def facts(self, file: Any) -> Any:
        return file.id, file.filename, file.metadata, file.created_at
