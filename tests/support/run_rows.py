"""Runs for the tests of questions, written row by row, so that a test can say all about them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from voices_peewee import DatabaseManager, ModelPerformance, ProcessedFile, ProcessingHistory
from voices_peewee.schema.models import Speaker

START = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)
COLUMNS = {
    "si_snri",
    "sdri",
    "cpu_usage",
    "memory_usage",
    "processing_time",
    "real_time_factor",
}


def add_run(
    db: DatabaseManager,
    path: str | None = "/mix/1.wav",
    model: str | None = "demucs:4.0",
    *,
    hours: float = 0.0,
    status: str = "success",
    speaker: Speaker | None = None,
    file: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    **metrics: Any,
) -> ProcessingHistory:
    """Write a file row, a history row and, where there are metrics, a performance row."""
    model_type, _, version = (
        (model or "").rpartition(":") if ":" in (model or "") else (model, "", "")
    )
    start = START + dt.timedelta(hours=hours)
    row = db.add(
        ProcessingHistory(
            **{
                "processed_file": ProcessedFile(
                    **{
                        "filename": "1.wav",
                        "original_path": path,
                        "file_format": "wav",
                        "speaker": speaker,
                        **(file or {}),
                    }
                ),
                "operation_type": "voice_separation",
                "model_type": model_type or None,
                "model_version": version or None,
                "start_time": start,
                "end_time": None if status == "unfinished" else start + dt.timedelta(seconds=2),
                "success": status == "success",
                "error_message": "ValueError: no" if status == "failed" else None,
                **(run or {}),
            }
        )
    )
    if metrics:
        columns = {name: metrics.pop(name) for name in COLUMNS & metrics.keys()}
        db.add(
            ModelPerformance(
                processing_history=row,
                model_type=row.model_type,
                model_version=row.model_version,
                additional_metrics=metrics,
                **columns,
            )
        )
    return row


def files(db: DatabaseManager) -> list[ProcessedFile]:
    return db.query(ProcessedFile).order_by(ProcessedFile.id).all()


def histories(db: DatabaseManager) -> list[ProcessingHistory]:
    return db.query(ProcessingHistory).order_by(ProcessingHistory.id).all()


def performances(db: DatabaseManager) -> list[ModelPerformance]:
    return db.query(ModelPerformance).order_by(ModelPerformance.processing_history).all()
