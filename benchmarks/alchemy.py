"""SQLAlchemy: the ORM with its unit of work."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, create_engine, event, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

from benchmarks.data import PRAGMAS, Record


class _UTC(TypeDecorator[dt.datetime]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: object) -> str | None:  # noqa: ARG002
        return None if value is None else value.isoformat(" ", "microseconds")

    def process_result_value(self, value: str | None, dialect: object) -> dt.datetime | None:  # noqa: ARG002
        return None if value is None else dt.datetime.fromisoformat(value)


class _Base(DeclarativeBase):
    type_annotation_map = {dt.datetime: _UTC, dict[str, Any]: JSON}  # noqa: RUF012


class _Speaker(_Base):
    __tablename__ = "speakers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class _File(_Base):
    __tablename__ = "processed_files"
    id: Mapped[int] = mapped_column(primary_key=True)
    filename: Mapped[str]
    original_path: Mapped[str | None]
    processed_path: Mapped[str | None]
    file_format: Mapped[str | None]
    duration: Mapped[float | None]
    sample_rate: Mapped[int | None]
    channels: Mapped[int | None]
    # "metadata" is taken in declarative classes.
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    speaker_id: Mapped[int | None] = mapped_column(ForeignKey("speakers.id"))
    file_size: Mapped[int | None]
    content_hash: Mapped[str | None]
    created_at: Mapped[dt.datetime]
    updated_at: Mapped[dt.datetime]


class _History(_Base):
    __tablename__ = "processing_history"
    id: Mapped[int] = mapped_column(primary_key=True)
    processed_file_id: Mapped[int] = mapped_column(ForeignKey("processed_files.id"))
    run_id: Mapped[str]
    operation_type: Mapped[str]
    model_type: Mapped[str | None]
    model_version: Mapped[str | None]
    parameters: Mapped[dict[str, Any]]
    start_time: Mapped[dt.datetime]
    end_time: Mapped[dt.datetime | None]
    success: Mapped[bool]
    error_message: Mapped[str | None]
    file: Mapped[_File] = relationship()


class _Performance(_Base):
    __tablename__ = "model_performance"
    id: Mapped[int] = mapped_column(primary_key=True)
    processing_history_id: Mapped[int] = mapped_column(ForeignKey("processing_history.id"))
    model_type: Mapped[str | None]
    model_version: Mapped[str | None]
    si_snri: Mapped[float | None]
    sdri: Mapped[float | None]
    cpu_usage: Mapped[float | None]
    memory_usage: Mapped[float | None]
    processing_time: Mapped[float | None]
    real_time_factor: Mapped[float | None]
    additional_metrics: Mapped[dict[str, Any]]
    created_at: Mapped[dt.datetime]
    run: Mapped[_History] = relationship()


def _values(record: Record) -> Record:
    values = dict(record)
    values["metadata_"] = values.pop("metadata")
    return values


def _engine(path: Path) -> Any:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    return engine


class AlchemyORM:
    """Mapped classes and a session."""

    name = "SQLAlchemy ORM"

    def open(self, path: Path) -> None:
        self.engine = _engine(path)
        self.session = Session(self.engine)

    def close(self) -> None:
        self.session.close()
        self.engine.dispose()

    def add_one_by_one(self, records: list[Record]) -> None:
        for record in records:
            self.session.add(_File(**_values(record)))
            self.session.commit()

    def record_runs(self, runs: list[tuple[Record, Record, Record]]) -> None:
        for file, history, performance in runs:
            run = _History(file=_File(**_values(file)), **history)
            self.session.add(_Performance(run=run, **performance))
            self.session.commit()

    def add_dicts(self, records: list[Record]) -> None:
        self.session.execute(insert(_File), [_values(record) for record in records])
        self.session.commit()

    def make_objects(self, records: list[Record]) -> list[_File]:
        return [_File(**_values(record)) for record in records]

    def add_objects(self, files: list[_File]) -> None:
        self.session.add_all(files)
        self.session.flush()
        self.session.commit()

    def _found(self, statement: Any) -> list[Any]:
        found = list(self.session.scalars(statement))
        self.session.expunge_all()  # the next reading is one, not a look into the identity map
        return found

    def read_all(self) -> list[Any]:
        return self._found(select(_File))

    def of_speaker(self, key: int) -> list[Any]:
        return self._found(select(_File).where(_File.speaker_id == key))

    def newest(self, count: int) -> list[Any]:
        return self._found(select(_File).order_by(_File.created_at.desc()).limit(count))

    def get_each(self, keys: list[int]) -> list[Any]:
        found = [self.session.get(_File, key) for key in keys]
        self.session.expunge_all()
        return found

    def facts(self, file: Any) -> Any:
        return file.id, file.filename, file.metadata_, file.created_at
