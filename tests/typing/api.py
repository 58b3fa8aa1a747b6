"""The public face as type checkers see it: ``mypy`` reads this file, nothing runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

from voices_peewee import DatabaseManager, ProcessedFile, Speaker
from voices_peewee.database.query import Query
from voices_peewee.database.results import ResultList
from voices_peewee.questions.comparison import Comparison
from voices_peewee.questions.leaderboard import Leaderboard
from voices_peewee.runs.run import Run


def records(db: DatabaseManager) -> None:
    assert_type(db.initialize(), DatabaseManager)
    assert_type(db.connect(), DatabaseManager)
    speaker = db.add(Speaker(name="Ada"))
    assert_type(speaker, Speaker)
    assert_type(db.add_all([speaker]), list[Speaker])
    assert_type(db.get_by_id(Speaker, 1), Speaker | None)
    assert_type(db.get_all(Speaker), ResultList[Speaker])
    assert_type(db.query(ProcessedFile), Query[ProcessedFile])
    assert_type(db.create_speaker("Ada"), Speaker)
    assert_type(db.get_file("mix.wav"), ProcessedFile)
    assert_type(db.add_audio("mix.wav"), ProcessedFile)
    assert_type(db.execute_raw_query("SELECT 1"), list[dict[str, Any]])


def runs_and_questions(db: DatabaseManager) -> None:
    with db.track("mix.wav", "voice_separation", parameters={"shifts": 2}) as run:
        assert_type(run, Run)
        assert_type(run.run_id, str)
        with run.timing() as nothing:
            assert_type(nothing, None)
    assert_type(next(db.pending([Path("mix.wav")], "voice_separation", claim=True)), Path)
    assert_type(db.leaderboard(), Leaderboard)
    assert_type(db.compare("demucs:4.0", "svoice:1.2"), Comparison)
    assert_type(db.backup_database(), Path)
    assert_type(db.status(), dict[str, Any])
