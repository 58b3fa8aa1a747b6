"""DataFrames: which columns and dtypes, and that every value is what the objects have."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import peewee as pw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databases import NO_ROOM_FOR
from support.run_rows import START, add_run

from voices_peewee import (
    MODELS,
    DatabaseManager,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)
from voices_peewee.errors import MissingExtraError, QueryError
from voices_peewee.schema.fields import JSONField, UTCDateTimeField

TIME = "datetime64[us, UTC]"
ZONE = dt.timezone(dt.timedelta(hours=5, minutes=30))
KINDS: list[tuple[tuple[type[pw.Field], ...], str]] = [
    ((pw.BooleanField,), "bool"),
    ((pw.IntegerField, pw.ForeignKeyField), "int64"),
    ((pw.FloatField,), "float64"),
    ((UTCDateTimeField,), TIME),
    ((JSONField,), "object"),
    ((pw.TextField,), "string"),
]


def of_table(model: type[pw.Model]) -> dict[str, str]:
    """Return the dtypes of a table's columns, by the kinds of its fields."""
    found = {}
    for column in model._meta.sorted_fields:
        dtype = next(dtype for kinds, dtype in KINDS if isinstance(column, kinds))
        found[column.column_name] = "Int64" if column.null and dtype == "int64" else dtype
    return found


DTYPES = {model._meta.table_name: of_table(model) for model in MODELS}
FILE_DTYPES = DTYPES["processed_files"]


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


def plain(value: object) -> object:
    """Return a cell as Python would have it."""
    if isinstance(value, dict | list | tuple):
        return value
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime().astimezone(dt.UTC)
    return value.item() if hasattr(value, "item") else value


def cells(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    return [tuple(map(plain, row)) for row in frame.itertuples(index=False, name=None)]


def values(rows: list[Any], names: dict[str, str]) -> list[tuple[object, ...]]:
    return [tuple(getattr(row, name) for name in names) for row in rows]


@pytest.fixture
def filled(db: DatabaseManager) -> DatabaseManager:
    """Rows of every model, full and empty, names that are not UTF-8 and times of another zone."""
    ada = db.create_speaker("Ada", "a voice", ["studio", "female"])
    db.create_speaker("Élodie")
    name = os.fsdecode(b"caf\xe9 1.wav")
    whole = {"duration": 2.5, "sample_rate": 8000, "channels": 2, "file_size": 2**40}
    add_run(
        db,
        f"/mix/{name}",
        speaker=ada,
        file={**whole, "filename": name, "metadata": {"room": "hall", "shots": [1, 2]}},
        run={
            "start_time": dt.datetime(2026, 11, 1, 12, 0, 0, 1, ZONE),
            "end_time": dt.datetime(2026, 11, 1, 12, 0, 3, 999_999, ZONE),
            "parameters": {"deep": {"x": [1]}, "name": "a", "shifts": 2, "overlap": 0.25},
            "process": {"host": "here"},
        },
        si_snri=10.5,
        processing_time=3.5,
        pesq=2.5,
        nonfinite={"wer": "nan"},
    )
    add_run(db, None, None, status="unfinished", run={"parameters": {"shifts": 4}})
    add_run(db, "/mix/2.wav", "demucs:4.1", status="failed", hours=-24 * 365 * 500, sdri=1.0)
    return db


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.table_name)
def test_tables_have_their_dtypes_and_values(
    filled: DatabaseManager, model: type[pw.Model]
) -> None:
    """However a table is asked for, full or empty, its columns, dtypes and values are the same."""
    name, query = model._meta.table_name, filled.query(model).order_by(model.id)
    every = filled.get_all(model)
    for frame in (
        filled.to_dataframe(name),
        filled.to_dataframe(model),
        query.to_dataframe(),
        every.to_dataframe(),
    ):
        assert dtypes(frame) == DTYPES[name]
        assert list(frame.index) == list(range(len(frame)))
        assert cells(frame) == values(every, DTYPES[name])
    for none in (query.where(model.id < 0), every[:0]):
        assert dtypes(none.to_dataframe(expand=True)) == DTYPES[name]
        assert len(none.to_dataframe()) == 0


@pytest.mark.parametrize("noun", ["speakers", "files", "history", "performance"])
def test_lists_are_whole(filled: DatabaseManager, noun: str) -> None:
    """A list's name gives every row with the columns and values of ``list_rows(whole=True)``."""
    if noun == "speakers":  # a table's name too, but a list says how many files
        assert "files" not in filled.to_dataframe(noun)
    page = filled.list_rows(noun, whole=True, limit=None)
    frame = page.to_dataframe()
    assert list(frame) == list(page.names)
    assert cells(frame) == list(page)
    if noun != "speakers":
        pd.testing.assert_frame_equal(frame, filled.to_dataframe(noun))


def test_pages_say_by_column_what_they_hold(filled: DatabaseManager) -> None:
    """A page's dtypes are those of its columns, read or not, short or long, empty or full."""
    expected = {
        "id": "int64",
        "file": "string",
        "channels": "Int64",
        "success": "bool",
        "start_time": TIME,
        "si_snri": "float64",
        "parameters.shifts": "Int64",
    }
    for limit in (None, 3):
        page = filled.list_rows("history", columns=[*expected], limit=limit)
        next(page.rows)
        assert dtypes(page.to_dataframe()) == dtypes(page.to_dataframe()) == expected
    none = filled.list_rows("history", "model:none", columns=[*expected])
    assert dtypes(none.to_dataframe()) == expected | {"parameters.shifts": "object"}


def test_joins_and_expressions(filled: DatabaseManager) -> None:
    """A query's columns have their names, and what an outer join leaves empty stays empty."""
    query = (
        filled.query(Speaker)
        .select(Speaker.name.alias("who"), ProcessedFile.id, ProcessedFile.created_at)
        .select_extend(Speaker.id, ProcessedFile.metadata, Speaker.id)
        .join(ProcessedFile, pw.JOIN.LEFT_OUTER)
        .order_by(Speaker.id)
    )
    frame = filled.to_dataframe(query)
    assert dtypes(frame) == {
        "who": "string",
        "id": "Int64",
        "created_at": TIME,
        "speakers.id": "int64",
        "metadata": "object",
        "speakers.id_2": "int64",
    }
    created = filled.get_by_id(ProcessedFile, 1).created_at
    metadata = {"room": "hall", "shots": [1, 2]}
    assert cells(frame) == [
        ("Ada", 1, created, 1, metadata, 1),
        ("Élodie", None, None, 2, None, 2),
    ]


def test_aggregates_are_told_by_their_values(filled: DatabaseManager) -> None:
    """Counts, means and latest times have the dtypes of their values, and object without any."""
    run, fn = ProcessingHistory, pw.fn
    query = run.select(
        run.model_type,
        fn.COUNT(run.id).alias("n"),
        fn.AVG(run.id).alias("mean"),
        fn.MAX(run.start_time).alias("newest"),
        fn.MAX(run.error_message).alias("error"),
    ).group_by(run.model_type)
    query = query.order_by(run.model_type.asc(nulls="last"))
    frame = filled.to_dataframe(query)
    assert dtypes(frame) == {
        "model_type": "string",
        "n": "Int64",
        "mean": "float64",
        "newest": TIME,
        "error": "string",
    }
    newest = dt.datetime(2026, 11, 1, 6, 30, 0, 1, dt.UTC)
    assert cells(frame) == [
        ("demucs", 2, 2.0, newest, "ValueError: no"),
        (None, 1, 2.0, START, None),
    ]
    none = filled.to_dataframe(query.where(run.id < 0))
    assert dtypes(none) == dict.fromkeys(["n", "mean", "newest", "error"], "object") | {
        "model_type": "string"
    }


def test_keys_become_columns(filled: DatabaseManager) -> None:
    """``expand`` puts the keys where their column was, with a dtype that the values tell."""
    frame = filled.to_dataframe("processing_history", expand=True)
    expected: dict[str, str] = {}
    for name, dtype in DTYPES["processing_history"].items():
        if name == "parameters":
            expected |= {"parameters.deep": "object", "parameters.name": "string"}
            expected |= {"parameters.shifts": "Int64", "parameters.overlap": "float64"}
        else:
            expected |= {"process.host": "string"} if name == "process" else {name: dtype}
    assert list(dtypes(frame).items()) == list(expected.items())
    chosen = [name for name in frame if name.startswith("parameters.")]
    assert cells(frame[chosen]) == [
        ({"x": [1]}, "a", 2, 0.25),
        (None, None, 4, None),
        (None, None, None, None),
    ]


def test_only_the_columns_that_are_named_are_expanded(filled: DatabaseManager) -> None:
    """``expand`` takes names of columns; what is no object, or is there already, stays."""
    frame = filled.to_dataframe("files", expand=["metadata"])
    names = [name for name in frame if name.startswith("metadata")]
    assert names == ["metadata.room", "metadata.shots"]
    page = filled.list_rows("history", columns=["parameters.shifts", "parameters"], sort="id")
    frame = page.to_dataframe(expand=True)
    assert list(frame) == [f"parameters.{key}" for key in ("shifts", "deep", "name", "overlap")]
    assert list(frame["parameters.shifts"].dropna()) == [2, 4]
    wrong = "UPDATE processing_history SET parameters = '[1, 2]' WHERE id = 2"
    filled.execute_raw_query(wrong, write=True)
    frame = filled.to_dataframe("processing_history", expand="parameters")
    assert list(frame["parameters"])[1] == [1, 2]
    assert list(frame["parameters.shifts"].dropna()) == [2]


FOUND = [
    ([True, None], "boolean"),
    ([1, None], "Int64"),
    ([1, 2.5], "float64"),
    ([True, 1], "object"),
    ([2**70, 1], "object"),
    (["nan", None], "string"),
    ([[1, 2], [3, 4]], "object"),
    ([None, None], "object"),
    ([1, "a"], "object"),
]


def test_values_tell_the_dtype_of_a_key(db: DatabaseManager) -> None:
    """Whole numbers, numbers, yes or no and texts have their dtype; what is mixed is object."""
    for place in range(2):
        keys = {f"key{number}": found[place] for number, (found, _) in enumerate(FOUND)}
        db.add(ProcessedFile(filename="a", metadata=keys))
    frame = db.to_dataframe("processed_files", expand=True)
    for number, (found, dtype) in enumerate(FOUND):
        name = f"metadata.key{number}"
        assert (found, str(frame[name].dtype)) == (found, dtype)
        assert cells(frame[[name]]) == [(value,) for value in found]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=NO_ROOM_FOR))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "filename": TEXT.filter(bool),
                "duration": st.none() | st.floats(0, 1e12),
                "sample_rate": st.none() | st.integers(1, 10_000_000),
                "file_size": st.none() | st.integers(0, 2**63 - 1),
                "metadata": st.dictionaries(TEXT, JSON),
                "created_at": st.datetimes(
                    timezones=st.sampled_from([dt.UTC, ZONE]),
                    min_value=dt.datetime(3, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
                ),
            }
        ),
        max_size=5,
    )
)
def test_values_are_those_of_the_objects(db: DatabaseManager, rows: list[dict[str, Any]]) -> None:
    """Whatever is stored, each cell is what the model's object has."""
    db.query(ProcessedFile)
    ProcessedFile.delete().execute()
    db.add_all([ProcessedFile(**row) for row in rows])
    frame = db.to_dataframe("processed_files")
    assert dtypes(frame) == FILE_DTYPES
    objects = db.query(ProcessedFile).order_by(ProcessedFile.id).all()
    assert repr(cells(frame)) == repr(values(objects, FILE_DTYPES))


@pytest.mark.sqlite("what another program may write into a column of SQLite")
def test_what_has_no_right_type_stays_as_it_is(db: DatabaseManager, path: Path) -> None:
    """A column with a value that its kind does not allow is object, and has the value."""
    for number in range(3):
        add_run(db, f"/mix/{number}.wav")
    wrong = {"channels": "two", "created_at": "soon", "duration": "x", "metadata": "no json"}
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA ignore_check_constraints = 1")
        for name, value in wrong.items():
            other.execute(f"UPDATE processed_files SET {name} = ? WHERE id = 1", [value])
        other.execute("UPDATE processed_files SET updated_at = '2026-11-01 12:00' WHERE id = 2")
    frame = db.to_dataframe("processed_files")
    assert dtypes(frame) == FILE_DTYPES | dict.fromkeys(wrong, "object")
    assert frame.loc[0, [*wrong]].to_dict() == wrong
    assert plain(frame.loc[1, "created_at"]) == db.get_by_id(ProcessedFile, 2).created_at
    assert plain(frame.loc[1, "updated_at"]) == START


def test_what_makes_no_frame(db: DatabaseManager) -> None:
    """An unknown name is an error that names the near ones; what holds no rows is refused."""
    no_rows = "a DataFrame is made of a query, a name or a result, not of "
    for source, expand, kind, said in (
        ("fils", False, QueryError, "unknown list or table 'fils'; did you mean 'files'?"),
        ("files", ["metdta"], QueryError, "unknown column 'metdta'; did you mean 'metadata'?"),
        ("files", "duration", QueryError, "duration has no keys to expand; only JSON columns have"),
        ([1], False, TypeError, f"{no_rows}[1]"),
        (None, False, TypeError, f"{no_rows}None"),
    ):
        with pytest.raises(kind) as caught:
            db.to_dataframe(source, expand=expand)
        assert str(caught.value) == said


def test_without_pandas_one_sentence_says_what_to_install(
    filled: DatabaseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way to a DataFrame names the command that installs pandas, and uses nothing up."""
    page = filled.list_rows("files")
    monkeypatch.setitem(sys.modules, "pandas", None)
    for make in (
        lambda: filled.to_dataframe("files"),
        filled.query(Speaker).to_dataframe,
        filled.get_all(Speaker).to_dataframe,
        page.to_dataframe,
    ):
        with pytest.raises(MissingExtraError) as caught:
            make()
        assert str(caught.value) == (
            "a DataFrame needs an extra; run: pip install 'voices-peewee[notebook]'"
        )
    assert len(list(page)) == 3
