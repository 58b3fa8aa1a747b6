"""Numbers and text: what is stored is what was given, through every way in and out, or refused."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from voices_peewee import DatabaseManager, ProcessingHistory

pytestmark = pytest.mark.sqlite("imports into files that are made for each example")
DIGITS = "0.1000000000000000055511151231257827"
UNITS = ("W", "D", "h", "m", "s", "ms", "us", "ns")


@dataclasses.dataclass
class Settings:
    """What people keep a model's settings in."""

    shifts: int
    name: str


LIKE_NUMBERS = [
    "007",
    "1e5",
    "7254e10",
    "12e34567",
    "4.10",
    "nan",
    "-inf",
    "True",
    "null",
    "１２",
    "",
]


def _seconds(unit: str) -> float:
    # Not pandas' total_seconds(), which knew no nanoseconds before pandas 3.
    return float(np.timedelta64(3, unit) / np.timedelta64(1, "s"))


def _moment(unit: str) -> np.datetime64:
    return np.datetime64("2026-05-05T10:00", "m").astype(f"datetime64[{unit}]")


CASES: dict[str, tuple[Any, Any]] = {
    **{
        f"timedelta64 {unit}": (
            np.timedelta64(3, unit),
            _seconds(unit),
        )
        for unit in UNITS
    },
    **{f"datetime64 {unit}": (_moment(unit), str(_moment(unit))) for unit in UNITS},
    **{f"text {text!r}": (text, text) for text in LIKE_NUMBERS},
    "masked": (np.ma.masked, None),
    "masked mean": (np.ma.masked_invalid([np.nan]).mean(), None),
    "NA": (pd.NA, None),
    "NaT": (pd.NaT, None),
    "column": (pd.Series([1, 2]), [1, 2]),
    "row": (pd.Series(["Ada", 0.5], index=["name", "lr"]), {"name": "Ada", "lr": 0.5}),
    "rows of one name": (pd.Series([1, 2], index=["a", "a"]), [1, 2]),
    "longdouble": (np.longdouble("0.5"), 0.5),
    "Decimal": (Decimal("0.5"), 0.5),
    "Decimal of many digits": (
        Decimal("0.1000000000000000055511151231257827"),
        "0.1000000000000000055511151231257827",
    ),
    "dataclass": (Settings(2, "4.10"), {"shifts": 2, "name": "4.10"}),
    "float32": (np.float32(0.1), float(np.float32(0.1))),
    "largest integer": (2**63 - 1, 2**63 - 1),
    "beyond 64 bits": (2**70, 2**70),
}


def recorded(db: DatabaseManager, **parameters: Any) -> list[Any]:
    """Return the parameters of a run that was tracked, and of one that was recorded afterwards."""
    with db.track("/mix/a.wav", "separation", parameters=parameters):
        pass
    start = "2026-01-01T00:00:00Z"
    db.record_run("/mix/b.wav", "separation", start_time=start, parameters=parameters)
    return stored(db)


def stored(db: DatabaseManager) -> list[Any]:
    return [run.parameters for run in db.query(ProcessingHistory).order_by(ProcessingHistory.id)]


def through(db: DatabaseManager, folder: Path) -> list[list[Any]]:
    """Return the parameters after JSON lines and after CSV, in records that had none."""
    lines = folder / "all.jsonl"
    db.export(lines, overwrite=True)
    tables = ("processed_files", "environments", "processing_history")
    for table in tables:
        db.export(folder / f"{table}.csv", table, overwrite=True)
    db.close()
    found = []
    for name, sources in (
        ("lines", [lines]),
        ("tables", [folder / f"{one}.csv" for one in tables]),
    ):
        other = folder / f"{name}.db"
        other.unlink(missing_ok=True)
        with DatabaseManager(other).initialize() as copy:
            for source in sources:
                kind = source.stem if source.stem in tables else None
                copy.import_records(source, table=kind)
            found.append(stored(copy))
    return found


def test_a_value_goes_through_every_way(db: DatabaseManager, tmp_path: Path) -> None:
    """track, record_run, JSON lines and CSV keep one and the same value of the same type."""
    values = {name: value for name, (value, _) in CASES.items()}
    kept = {name: value for name, (_, value) in CASES.items()}
    first = recorded(db, v=values, inside=[values])
    assert first == [{"v": kept, "inside": [kept]}] * 2
    assert [type(value) for value in first[0]["v"].values()] == [*map(type, kept.values())]
    assert through(db, tmp_path) == [first, first]
