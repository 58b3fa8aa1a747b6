"""Rows of recordings in groups: the same answer whichever way they are read."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from voices_peewee import DatabaseManager
from voices_peewee.questions import groups

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def run(model: str, recording: int, hour: int, *values: float) -> dict[str, object]:
    """A run whose stems have these values; without any it failed."""
    outputs = [
        {"path": f"/{model}/{recording}_{hour}_{n}", "si_snri": v} for n, v in enumerate(values)
    ]
    return {
        "source": f"/mix/{recording}.wav",
        "operation_type": "separation",
        "model_type": model,
        "start_time": START + dt.timedelta(hours=hour),
        "success": bool(values),
        "outputs": outputs,
    }


@pytest.mark.parametrize("last", [(5.0,), (5.0, 6.0)], ids=["one stem", "two stems"])
def test_runs_are_told_apart_whatever_the_newest_is_like(
    path: Path, last: tuple[float, ...]
) -> None:
    """The latest success counts, with all its stems, where the newest run has one stem or two."""
    runs = [run("a", n, 0, 1.0, 3.0) for n in range(4)]
    runs += [
        run("a", 1, 2, 7.0, 9.0),
        run("a", 1, 1, 4.0, 4.0),
        run("a", 2, 3),
        run("b", 9, 0, *last),
    ]
    with DatabaseManager(path).initialize() as db:
        db.record_runs(runs)
        found = {row.model_type: row for row in db.leaderboard()}
    assert found["a"].mean == pytest.approx((2 + 8 + 2 + 2) / 4)
    assert (found["a"].n, found["a"].stems) == (4, 8)
    assert found["b"].mean == pytest.approx(sum(last) / len(last))


@pytest.mark.parametrize("most", [0, 1, 50])
def test_groups_are_alike_one_by_one_and_together(
    path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Few groups are asked about one after the other, many together, to the same answer."""
    runs = [run(model, n, n, n + len(model)) for model in ("a", "bb", "ccc") for n in range(5)]
    with DatabaseManager(path).initialize() as db:
        db.record_runs(runs)
        monkeypatch.setattr(groups, "_MOST_KEYS", most)
        found = [(row.model_type, row.n, row.mean) for row in db.leaderboard()]
        assert found == [("ccc", 5, 5.0), ("bb", 5, 4.0), ("a", 5, 3.0)]
        (one,) = db.leaderboard(model_type="bb")
    assert (one.n, one.mean) == (5, 4.0)
