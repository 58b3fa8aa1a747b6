"""The example does its work, is killed, and goes on where it was."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from voices_peewee import DatabaseManager, ModelPerformance, ProcessingHistory

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.once
def test_separation_is_killed_and_resumed(tmp_path: Path) -> None:
    """After SIGKILL halfway the same command does only what was pending, then compares."""
    database = tmp_path / "example.db"
    command = [
        sys.executable,
        str(ROOT / "examples" / "separate.py"),
        "--db",
        str(database),
        "--out",
        str(tmp_path / "stems"),
    ]
    with subprocess.Popen([*command, "--pause", "30"], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ica: mix_1.flac\n"
        while _done(database) < 2:
            assert first.poll() is None
        first.send_signal(signal.SIGKILL)

    second = subprocess.run(command, capture_output=True, text=True, check=True)
    third = subprocess.run(command, capture_output=True, text=True, check=True)

    lines = second.stdout.splitlines()
    assert lines[:7] == [
        "ica: mix_2.flac", "ica: mix_3.flac", "ica: mix_4.flac",
        "mask: mix_1.flac", "mask: mix_2.flac", "mask: mix_3.flac", "mask: mix_4.flac",
    ]  # fmt: skip
    assert third.stdout.splitlines() == lines[7:]
    with DatabaseManager(database).connect() as db:
        assert db.query(ProcessingHistory).where(ProcessingHistory.success).count() == 16
        best = {row.model_type: row.mean for row in db.leaderboard()}
        assert best["ica"] > best["mask"] > 0
        found = db.compare("mask:1.0", "ica:1.0")
        assert (found.n, found.stems) == (4, 8)  # a recording counts once
        assert found.wins + found.losses + found.ties == 4
        assert found.low > 0
        assert (
            db.query(ModelPerformance).where(ModelPerformance.real_time_factor.is_null()).count()
            == 0
        )
        report = (tmp_path / "stems" / "report.html").read_text("utf-8")
        assert "ica:1.0 has the highest mean SI-SNRi" in report
        players = re.findall('<audio [^>]*src="([^"]+)"', report)
        there = [(tmp_path / "stems" / unquote(player)).is_file() for player in players]
        assert (len(there), all(there)) == (28, True)
        timed = [row.additional_metrics["timed"] for row in db.query(ModelPerformance)]
        assert timed == [True] * len(timed)


@pytest.mark.once
def test_from_a_manifest_to_a_table_by_condition(tmp_path: Path) -> None:
    """Two processes share the work, scores come in, and again nothing is done twice."""
    database = tmp_path / "example.db"
    program = str(ROOT / "examples" / "evaluate.py")
    command = [sys.executable, program, "--db", str(database), "--out", str(tmp_path / "stems")]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)
    )
    assert (first.stderr, second.stdout) == ("", first.stdout)
    head, _, *rows = first.stdout.splitlines()[:6]
    assert head.startswith("| model | metadata.panning | n | stems | mean |")
    keys = [tuple(cell.strip() for cell in row.split("|")[1:5]) for row in rows]
    assert sorted(keys) == [
        ("ica:1.0", "narrow", "2", "4"),
        ("ica:1.0", "wide", "2", "4"),
        ("mask:1.0", "narrow", "2", "4"),
        ("mask:1.0", "wide", "2", "4"),
    ]
    with DatabaseManager(database).connect() as db:
        assert len({row.run_id for row in db.query(ProcessingHistory)}) == 8
        for row in db.query(ModelPerformance):
            assert row.additional_metrics["metric_impl"] == "fast_bss_eval; VERSA: sdr"
        assert db.get_file(ROOT / "examples/audio/mixtures/mix_2.flac").metadata == {
            "id": "mix_2",
            "panning": "narrow",
            "references": {
                name: str(ROOT / f"examples/audio/references/mix_2_{name}.flac")
                for name in ("ada", "bob")
            },
        }


def _done(database: Path) -> int:
    """Return how many rows of finished runs there are, as another program sees them."""
    if not database.exists():
        return 0
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(database, timeout=10)) as connection:
        try:
            sql = "SELECT count(*) FROM processing_history WHERE success"
            return int(connection.execute(sql).fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # the tables are not there yet
