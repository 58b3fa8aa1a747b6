"""The same records for every contestant, and the databases that they start from."""

from __future__ import annotations

import datetime as dt
import json
import random
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from voices_peewee import DatabaseManager

SPEAKERS: Final = 100
MODELS: Final = [("demucs", "4.0"), ("svoice", "1.2"), ("sepformer", "2.1"), ("convtasnet", "1.0")]
START: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

Record = dict[str, Any]


def file_record(number: int) -> Record:
    """Return the values of one processed file; every tenth was not written yet."""
    name = f"mix_{number:07d}"
    created = START + dt.timedelta(seconds=number, microseconds=number % 997)
    return {
        "filename": f"{name}.wav",
        "original_path": f"/data/mixtures/session_{number // 1000:04d}/{name}.wav",
        "processed_path": None if number % 10 == 0 else f"/data/stems/{name}_s1.wav",
        "file_format": ("wav", "flac")[number % 2],
        "duration": 1 + number % 3000 / 100,
        "sample_rate": (8000, 16000, 44100)[number % 3],
        "channels": 1 + number % 2,
        "metadata": {"split": "test", "noise": ["wham", "dns"], "snr": number % 20 - 5},
        "speaker_id": number % SPEAKERS + 1,
        "file_size": 64_000 + number,
        "content_hash": sha256(name.encode()).hexdigest(),
        "created_at": created,
        "updated_at": created,
    }


def history_record(number: int) -> Record:
    """Return the values of one finished operation; one in a hundred failed."""
    model, version = MODELS[number % len(MODELS)]
    start = START + dt.timedelta(seconds=number)
    failed = number % 100 == 99
    return {
        "run_id": f"{number:032x}",
        "operation_type": "voice_separation",
        "model_type": model,
        "model_version": version,
        "parameters": {"shifts": 2, "overlap": 0.25},
        "start_time": start,
        "end_time": start + dt.timedelta(seconds=3),
        "success": not failed,
        "error_message": "RuntimeError: out of memory" if failed else None,
    }


def performance_record(number: int) -> Record:
    """Return the values of one measurement; that of a failed run has no quality."""
    model, version = MODELS[number % len(MODELS)]
    noise = random.Random(number)
    failed = number % 100 == 99
    return {
        "model_type": model,
        "model_version": version,
        "si_snri": None if failed else 8 + number % len(MODELS) + noise.gauss(0, 2),
        "sdri": None if failed else 9 + number % len(MODELS) + noise.gauss(0, 2),
        "cpu_usage": 95.0,
        "memory_usage": 900 + number % 50,
        "processing_time": 3.0,
        "real_time_factor": 0.75,
        "additional_metrics": {"pesq": 2.7},
        "created_at": START + dt.timedelta(seconds=number),
    }


def speaker_record(number: int) -> Record:
    """Return the values of one speaker."""
    tags = [f"tag{number % 7}", "studio"]
    return {"name": f"Speaker {number:03d}", "tags": tags, "created_at": START, "updated_at": START}


def stored(record: Record) -> list[Any]:
    """Return a record's values as raw sqlite3 stores them."""
    return [_stored(value) for value in record.values()]


def _stored(value: object) -> object:
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, dt.datetime):
        return value.isoformat(" ", "microseconds")
    return value


def insert_sql(table: str, record: Record) -> str:
    """Return the INSERT of a record's columns."""
    return f"INSERT INTO {table} ({', '.join(record)}) VALUES ({', '.join('?' * len(record))})"


def connect(path: Path) -> sqlite3.Connection:
    """Open a database with the durability that every contestant has."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


MANY_PAGES: Final = "PRAGMA cache_size = -200000"  # kB, so that a million rows are soon there
PRAGMAS: Final = ("journal_mode = wal", "synchronous = normal", "foreign_keys = 1")


def of_size(folder: Path, rows: int) -> Path:
    """Return a database of so many files, and as many runs, which is made once."""
    return create(folder / f"rows_{rows}.db", files=rows, runs=rows)


def create(path: Path, *, files: int = 0, runs: int = 0) -> Path:
    """Make a database with the package's schema, speakers, files, and runs on these files."""
    if path.exists():
        return path
    making = path.with_suffix(".part")
    DatabaseManager(making).initialize().close()
    connection = connect(making)
    connection.execute(MANY_PAGES)
    connection.execute("BEGIN")
    _fill(connection, "speakers", (speaker_record(number) for number in range(SPEAKERS)))
    _fill(connection, "processed_files", (file_record(number) for number in range(files)))
    # Every model has separated each of the first recordings.
    of_file = (
        {"processed_file_id": n // len(MODELS) + 1, **history_record(n)} for n in range(runs)
    )
    _fill(connection, "processing_history", of_file)
    of_run = ({"processing_history_id": n + 1, **performance_record(n)} for n in range(runs))
    _fill(connection, "model_performance", of_run)
    connection.execute("COMMIT")
    connection.execute("ANALYZE")
    connection.execute("PRAGMA journal_mode = delete")
    connection.close()
    return making.rename(path)


def _fill(connection: sqlite3.Connection, table: str, records: Iterator[Record]) -> None:
    first = next(records, None)
    if first is not None:
        sql = insert_sql(table, first)
        connection.execute(sql, stored(first))
        connection.executemany(sql, map(stored, records))
