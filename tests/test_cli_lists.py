"""Lists: their options, their forms, and what stored text can do to a terminal (nothing)."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import PROGRAM, Outcome, program, run, terminal, usage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)

START = dt.datetime(2026, 11, 22, 14, 3, 5, 123456, dt.UTC)


@pytest.fixture
def studio(path: Path) -> Path:
    """A database with two speakers, three files, three runs and two measurements."""
    with DatabaseManager(path).initialize() as db:
        ada = Speaker(name="Ada", tags=["female", "studio"], description="Reads", created_at=START)
        bob = Speaker(name="Bob", tags=["studio"], created_at=START)
        files = [
            ProcessedFile(
                filename=name,
                original_path=f"/audio/{name}",
                file_format="wav",
                duration=seconds,
                sample_rate=16000,
                channels=1,
                file_size=size,
                speaker=speaker,
                metadata={"room": number},
                created_at=START + dt.timedelta(days=number),
                updated_at=START,
            )
            for number, (name, seconds, size, speaker) in enumerate(
                [("a.wav", 62.5, 2_000_044, ada), ("b.wav", 0.25, 8_044, bob), ("c.wav", 4000, 1, None)]
            )
        ]
        runs = [
            ProcessingHistory(
                processed_file=file,
                run_id=f"run{number}",
                operation_type="separation",
                model_type="demucs",
                model_version="4.0",
                parameters={"shifts": number},
                start_time=START,
                end_time=None if number == 2 else START + dt.timedelta(seconds=9),
                success=number == 0,
                error_message="OSError: no such file\nTraceback …" if number == 1 else None,
            )
            for number, file in enumerate(files)
        ]
        measured = ModelPerformance(
            processing_history=runs[0],
            model_type="demucs",
            model_version="4.0",
            si_snri=12.3456789,
            sdri=0.1,
            processing_time=9.0,
            real_time_factor=0.144,
            memory_usage=512.5,
            additional_metrics={"pesq": 2.7},
            created_at=START,
        )
        db.add_all([ada, bob, *files, *runs, measured])
    return path


def listed(path: Path, *args: str) -> Outcome:
    return run("--db", path, *args)
