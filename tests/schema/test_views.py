"""The named SQL views: what they show, and that they outlive changes of the tables below."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databases import other_program
from support.run_rows import START, add_run

from voices_peewee import DatabaseManager, ProcessingHistory, Speaker

TIME = "2026-01-01 00:00:00.000000+00:00"


def rows(path: Path | str, sql: str) -> list[dict[str, object]]:
    """Read as another program does; JSON and times are texts on every engine."""
    with other_program(path) as connection:
        cursor = connection.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, map(plain, row), strict=True)) for row in cursor]


def plain(value: object) -> object:
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"))
    return value.isoformat(" ", "microseconds") if isinstance(value, dt.datetime) else value


def test_v_runs(db: DatabaseManager, path: Path) -> None:
    """A row of v_runs is a history row with its file, speaker, status and error's first line."""
    ada = db.add(Speaker(name="Ada"))
    add_run(db, speaker=ada, run={"run_id": "a", "parameters": {"shifts": 2}})
    error = "  \nValueError: no\nTraceback (most recent call last):\n"
    add_run(db, status="failed", run={"run_id": "b", "error_message": error})
    add_run(db, status="unfinished", run={"run_id": "c"})
    shared = {
        "filename": "1.wav",
        "original_path": "/mix/1.wav",
        "processed_path": None,
        "operation_type": "voice_separation",
        "model_type": "demucs",
        "model_version": "4.0",
        "start_time": "2026-11-01 12:00:00.000000+00:00",
    }
    end = "2026-11-01 12:00:02.000000+00:00"
    found = [
        (1, "a", ada.id, "Ada", '{"shifts":2}', "success", end, None),
        (2, "b", None, None, "{}", "failed", end, "ValueError: no"),
        (3, "c", None, None, "{}", "unfinished", None, None),
    ]
    assert rows(path, "SELECT * FROM v_runs ORDER BY id") == [
        {
            **shared,
            "id": number,
            "run_id": run_id,
            "processed_file_id": number,
            "speaker_id": speaker_id,
            "speaker": speaker,
            "parameters": parameters,
            "status": status,
            "end_time": end_time,
            "error": message,
            **dict.fromkeys(("tags", "note", "model_hash", "environment")),
        }
        for number, run_id, speaker_id, speaker, parameters, status, end_time, message in found
    ]


def test_v_performance(db: DatabaseManager, path: Path) -> None:
    """A row of v_performance is a measurement with its run, file and speaker."""
    ada = db.add(Speaker(name="Ada"))
    metrics = {
        "si_snri": 12.5,
        "sdri": 13.0,
        "cpu_usage": 90.0,
        "memory_usage": 500.0,
        "processing_time": 2.0,
        "real_time_factor": 0.5,
    }
    add_run(db, speaker=ada, file={"duration": 4.0}, run={"run_id": "a"}, **metrics, pesq=2.5)
    (found,) = rows(path, "SELECT * FROM v_performance")
    assert str(found.pop("created_at")).endswith("+00:00")
    assert found == {
        **metrics,
        "id": 1,
        "processing_history_id": 1,
        "run_id": "a",
        "processed_file_id": 1,
        "filename": "1.wav",
        "original_path": "/mix/1.wav",
        "processed_path": None,
        "speaker_id": 1,
        "speaker": "Ada",
        "operation_type": "voice_separation",
        "model_type": "demucs",
        "model_version": "4.0",
        "status": "success",
        "start_time": START.isoformat(" ", "microseconds"),
        "duration": 4.0,
        "additional_metrics": '{"pesq":2.5}',
    }


RUNS = st.lists(
    st.tuples(
        st.sampled_from(["demucs:4.0", "demucs:3.0", "svoice", None]),
        st.sampled_from(["success", "success", "failed", "unfinished"]),
        st.sampled_from(["a", "b", "c"]),
        st.none() | st.floats(-30, 30),
        st.none() | st.floats(0, 2),
    ),
    max_size=12,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=RUNS)
def test_v_leaderboard_counts_measurements(
    db: DatabaseManager,
    path: Path,
    runs: list[tuple[str | None, str, str, float | None, float | None]],
) -> None:
    """A model's row has all its successful measurements, their means, and its failed runs."""
    for run in db.query(ProcessingHistory):
        db.delete(run)
    wanted: dict[str | None, tuple[list[tuple[float, float | None]], set[str]]] = {}
    for model, status, run_id, value, cost in runs:
        costs = {"sdri": cost, "real_time_factor": cost, "memory_usage": cost}
        add_run(db, model=model, status=status, run={"run_id": run_id}, si_snri=value, **costs)
        measured, failed = wanted.get(model, ([], set()))
        if status == "success" and value is not None:
            wanted[model] = ([*measured, (value, cost)], failed)
        elif status == "failed":
            wanted[model] = (measured, failed | {run_id})
    shown = rows(path, "SELECT * FROM v_leaderboard")
    assert {name(row): (row["measurements"], row["failed_runs"]) for row in shown} == {
        model: (len(measured), len(failed)) for model, (measured, failed) in wanted.items()
    }
    for row in shown:
        measured, _ = wanted[name(row)]
        means = {"mean_si_snri": [value for value, _ in measured]}
        for column in ("mean_sdri", "mean_real_time_factor", "mean_memory_usage"):
            means[column] = [cost for _, cost in measured if cost is not None]
        assert {column: row[column] for column in means} == {
            column: pytest.approx(sum(values) / len(values), abs=1e-9) if values else None
            for column, values in means.items()
        }


def name(row: dict[str, object]) -> str | None:
    parts = (row["model_type"], row["model_version"])
    return ":".join(str(part) for part in parts if part is not None) or None


@pytest.mark.sqlite("rebuilds of SQLite's tables; a server's are in test_postgres")
def test_a_database_without_the_views_is_upgraded(path: Path) -> None:
    """A populated database of the first migration is backed up, gets the views, and loses none."""
    first = DatabaseManager(path)
    first.run_migrations(to="001_initial")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO speakers (name, tags, created_at, updated_at)"
            f" VALUES ('Ada', '[]', '{TIME}', '{TIME}')"
        )
        connection.commit()
    with DatabaseManager(path).initialize() as db:
        saved = db.upgrade_backup
        assert [speaker.name for speaker in db.get_all(Speaker)] == ["Ada"]
        assert db.check() == []
    assert saved is not None
    query = "SELECT name FROM sqlite_master WHERE type = 'view'"
    assert rows(saved, query) == []
    assert {row["name"] for row in rows(path, query)} == {
        "v_runs",
        "v_performance",
        "v_leaderboard",
    }
