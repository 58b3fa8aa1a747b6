"""Any record comes back from JSON lines as it was, and from CSV what that can show."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databases import stored

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1, microseconds=1)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
numbers = st.none() | st.floats(-1e6, 1e6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, json_values, max_size=3)
times = st.integers(-(2**35), 2**37).map(lambda number: START + number * SECOND)
hostile = st.sampled_from(
    ["=1+1", "'-5", "''+", "-5", "-x", "1e5", "NaN", "null", "\U0010fc80", "@", "\r", "a\r\nb\n"]
)


def records(text: st.SearchStrategy[str], path: st.SearchStrategy[str]) -> Any:
    """Return a strategy for one row of each table, and each kind of file."""
    name = text.filter(str.strip)
    return st.fixed_dictionaries(
        {
            "speaker": st.fixed_dictionaries(
                {"name": name, "tags": st.lists(text, max_size=3), "created_at": times}
            ),
            "file": st.fixed_dictionaries(
                {"filename": path, "metadata": objects, "duration": st.none() | st.floats(0, 1e12)}
            ),
            "run": st.fixed_dictionaries(
                {
                    "operation_type": name,
                    "model_type": st.none() | text,
                    "parameters": objects,
                    "error_message": st.none() | text,
                }
            ),
            "measured": st.fixed_dictionaries({"si_snri": numbers, "additional_metrics": objects}),
        }
    )


def add_studio(db: DatabaseManager, values: dict[str, Any]) -> None:
    """Write a recording, its stem and a voice, and a run of the stem."""
    ada = db.add(Speaker(**values["speaker"]))
    recording = db.add(ProcessedFile(**values["file"], original_path="/mix.wav"))
    stem = db.add(ProcessedFile(**values["file"], processed_path="/s.wav", recording=recording))
    db.add(ProcessedFile(**values["file"], speaker=ada, recording=recording))
    run = db.add(ProcessingHistory(processed_file=stem, **values["run"]))
    db.add(ModelPerformance(processing_history=run, **values["measured"]))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two empty databases that are copied for each example."""
    folder = tmp_path_factory.mktemp("round")
    with DatabaseManager(folder / "blank.db").initialize():
        pass
    return [folder / name for name in ("blank.db", "a.db", "b.db")]


def round_trip(places: list[Path], values: dict[str, Any], form: str) -> None:
    blank, one, two = places
    for place in (one, two):
        shutil.copy(blank, place)
    tables = ["speakers", "files", "history", "performance"] if form == "csv" else [None]
    files = [blank.with_name(f"{table}.{form}") for table in tables]
    with DatabaseManager(one) as db:
        add_studio(db, values)
        for table, file in zip(tables, files, strict=True):
            db.export(file, table, overwrite=True)
    with DatabaseManager(two) as db:
        done = db.import_records(files)
        assert (done.notes, done.conflicts) == ([], [])
        assert db.import_records(files).changed == 0
    assert stored(two) == stored(one)


paths = st.binary(min_size=1, max_size=9).filter(lambda name: b"\0" not in name).map(os.fsdecode)


# In CSV an empty text is nothing.
FORMS = {"jsonl": texts | hostile, "csv": (texts | hostile).filter(bool)}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_row_makes_the_round_trip(places: list[Path], form: str, data: st.DataObject) -> None:
    """Whatever a database can hold is the same after export and import, and is known again."""
    round_trip(places, data.draw(records(FORMS[form], paths | hostile)), form)


@pytest.mark.parametrize("name", ["\U0010fc80.wav", "\U0010fcff\udcff", "\udcf4\udc8f.wav"])
def test_names_of_private_use_characters(db: DatabaseManager, name: str) -> None:
    """A name with the characters that stand for bytes is neither another name nor bytes."""
    db.add(ProcessedFile(filename=name))
    assert [row.filename for row in db.get_all(ProcessedFile)] == [name]
