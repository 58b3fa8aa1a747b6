"""Metric values: numbers of every kind, bounds, and what is not finite."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.databases import ON_SERVER

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    errors,
)
from voices_peewee.errors import InvalidValueError
from voices_peewee.runs.metrics import TAKEN, Metrics, MetricWarning
from voices_peewee.runs.rows import RunRows


class Tensor:
    """Stands for a zero-dimensional tensor: all that is asked of one is ``item``."""

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value


UNITS = [("h", 3_600), ("s", 1), ("ns", 1e-9)]


@pytest.mark.parametrize(
    "value",
    [
        12.5,
        np.float32(12.5),
        np.longdouble(12.5),
        np.array(12.5),
        np.array([12.5]),
        Tensor(12.5),
        Decimal("12.5"),
        Fraction(25, 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_number_is_a_number(value: object) -> None:
    """Python, NumPy and tensor numbers give the same column and the same JSON."""
    row = Metrics.of({"si_snri": value, "pesq": value}).row()
    assert row == {"si_snri": 12.5, "additional_metrics": {"pesq": 12.5}}
    assert type(row["si_snri"]) is float
    assert json.dumps(row["additional_metrics"]) == '{"pesq": 12.5}'


def test_a_column_may_be_spelled_as_its_heading() -> None:
    """What tables call a column is that column, so that it is ranked; other names stay."""
    row = Metrics.of({"SI-SNRi": 12, "RTF": 0.5, "CPU": "x", "time": "8:15"}).row()
    others = {"CPU": "x", "time": "8:15"}
    assert row == {"si_snri": 12.0, "real_time_factor": 0.5, "additional_metrics": others}


GIVEN_TWICE = "the metric 'si_snri' is given twice; give one value"


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ([{"SI-SNRi": 12, "si_snri": 13}], GIVEN_TWICE),
        ([{"si_snri": 12}, {"si_snri": 12}], GIVEN_TWICE),
        ([{"si_snri": math.nan}, {"SI-SNRi": 13}], GIVEN_TWICE),
        ([{"pesq": 2}, {"pesq": 3}], "the metric 'pesq' is given twice; give one value"),
        ([{"timed": 1}], "a metric cannot be named 'timed': that name is taken"),
        ([{"memory_scope": 1}], "a metric cannot be named 'memory_scope': that name is taken"),
        ([{1: 2}], "a metric cannot be named 1: a name is a text"),
        ([[1]], "metrics must be a mapping, not [1]"),
        (["pesq"], "metrics must be a mapping, not 'pesq'"),
    ],
    ids=["spellings", "twice", "nan", "other", "timed", "scope", "number", "list", "text"],
)
def test_metrics_that_cannot_be_told(told: list[Any], sentence: str) -> None:
    """Two values of one metric, a name that says something else and what is none are refused."""
    with pytest.raises(InvalidValueError) as caught:
        Metrics.of(*told)
    assert str(caught.value) == sentence


def test_metrics_are_refused_wherever_they_are_given(db: DatabaseManager) -> None:
    """The log, an output and a run from elsewhere say the same of two spellings."""
    both: dict[str, Any] = {"SI-SNRi": 12, "si_snri": 13}
    began = {"start_time": "2026-11-01T12:00:00Z"}
    with db.track("a.wav", "separation") as run:
        for tell in (
            lambda: run.log(both),
            lambda: run.log({"SI-SNRi": 12}, si_snri=13),
            lambda: run.output("/o.wav", **both),
            lambda: db.record_run("b.wav", "separation", **began, metrics=both),
            lambda: db.record_run("b.wav", "separation", **began, outputs=[{"path": "o", **both}]),
        ):
            with pytest.raises(InvalidValueError) as caught:
                tell()
            assert str(caught.value) == GIVEN_TWICE
    assert [row.si_snri for row in db.get_all(ModelPerformance)] == [None]


@pytest.mark.parametrize("value", [7, np.int16(7), np.array(7)], ids=["int", "int16", "array"])
def test_whole_numbers_stay_whole_in_json(value: object) -> None:
    """A count is not turned into a fraction, but a column holds a float."""
    row = Metrics.of({"sdri": value, "errors": value}).row()
    assert row == {"sdri": 7.0, "additional_metrics": {"errors": 7}}
    assert type(row["sdri"]) is float
    assert type(row["additional_metrics"]["errors"]) is int


def test_other_metrics_are_any_json_value() -> None:
    """Texts, lists, arrays and truth values go to additional_metrics, as they are now."""
    per_channel = [1.0, 2.0]
    metrics = Metrics.of(
        {
            "metric_impl": "fast_bss_eval 0.1.4",
            "per_channel": per_channel,
            "spectrum": np.array([1, 2]),
            "clipped": np.bool_(True),
            "pesq": None,
        }
    )
    per_channel.append(3.0)
    assert metrics.row() == {
        "additional_metrics": {
            "metric_impl": "fast_bss_eval 0.1.4",
            "per_channel": [1.0, 2.0],
            "spectrum": [1, 2],
            "clipped": True,
            "pesq": None,
        }
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (np.longdouble("-inf"), "-inf"),
        (Decimal("sNaN"), "nan"),
        (Decimal("-Infinity"), "-inf"),
    ],
    ids=lambda value: f"{type(value).__name__} {value}",
)
def test_what_is_not_finite_is_named(value: object, text: str) -> None:
    """A column is empty, an additional metric is left out, and both are named with a warning."""
    metrics = Metrics.of({"si_snri": value, "pesq": value, "stoi": 0.9})
    nonfinite = {"si_snri": text, "pesq": text}
    assert metrics.row() == {
        "si_snri": None,
        "additional_metrics": {"stoi": 0.9, "nonfinite": nonfinite},
    }
    with pytest.warns(MetricWarning) as caught:
        metrics.warn(stacklevel=1)
    assert [str(each.message) for each in caught] == [
        f"recorded without a value: si_snri is {text}, pesq is {text}"
    ]
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"si_snri": np.zeros(2)}, "si_snri must be one number, not array([0., 0.])"),
        ({"si_snri": "12.4"}, "si_snri must be one number, not '12.4'"),
        ({"sdri": True}, "sdri must be one number, not True"),
        (
            {"sdri": "x" * 99},
            f"sdri must be one number, not '{'x' * 56}...",
        ),
        ({"si_snri": 1e7}, "si_snri must be a finite number of dB, not 10000000.0"),
        ({"cpu_usage": -1}, "cpu_usage must be a percentage, 0 or more, not -1"),
        ({"memory_usage": -1.5}, "memory_usage must be a number of MB, 0 or more, not -1.5"),
        (
            {"processing_time": 10**5000},
            "processing_time must be a number of seconds, 0 or more, not a very large integer",
        ),
        ({"real_time_factor": -1}, "real_time_factor must be a number, 0 or more, not -1"),
        (
            {"pesq": object},
            "cannot store this value as JSON: no JSON form for type <class 'object'>",
        ),
        ({"nonfinite": 1}, "a metric cannot be named 'nonfinite': that name is taken"),
        ({"run": 1}, "a metric cannot be named 'run': that name is taken"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_no_metric_is_refused(values: dict[str, Any], message: str) -> None:
    """Each refusal says what the value was and what it must be."""
    with pytest.raises(errors.InvalidValueError) as caught:
        Metrics.of({"stoi": 1, **values})
    assert str(caught.value) == message


def test_a_later_value_replaces_an_earlier_one() -> None:
    """A metric that was NaN and is told again is no longer named as not finite, and back."""
    metrics = Metrics.of({"si_snri": math.nan, "pesq": 2, "stoi": math.inf})
    metrics.update(Metrics.of({"si_snri": 3, "pesq": math.nan, "stoi": 0.5}))
    assert metrics.row() == {
        "si_snri": 3.0,
        "additional_metrics": {"stoi": 0.5, "nonfinite": {"pesq": "nan"}},
    }


@pytest.mark.parametrize(
    ("own", "of_run", "expected"),
    [
        ({}, {"si_snri": 9}, {"si_snri": 9.0, "additional_metrics": {"run": ["si_snri"]}}),
        ({"si_snri": 8}, {}, {"si_snri": 8.0}),
        (
            {"si_snri": 8},
            {"si_snri": 9, "pesq": math.nan},
            {
                "si_snri": 8.0,
                "additional_metrics": {"run": ["pesq"], "nonfinite": {"pesq": "nan"}},
            },
        ),
        ({"processing_time": 1}, {}, {"processing_time": 1.0, "real_time_factor": 0.25}),
        (
            {},
            {"processing_time": math.nan},
            {
                "processing_time": None,
                "real_time_factor": None,
                "additional_metrics": {
                    "run": ["processing_time"],
                    "nonfinite": {"processing_time": "nan"},
                },
            },
        ),
    ],
)
def test_an_outputs_metrics_come_before_the_runs(
    own: dict[str, Any], of_run: dict[str, Any], expected: dict[str, Any]
) -> None:
    """The run's metrics and cost fill every row, named; none replaces an output's own."""
    measured = Metrics.of({"processing_time": 2, "cpu_usage": 10})
    settings = {"model_type": "demucs", "model_version": None}
    run = RunRows(settings, None, Metrics.of(of_run))
    run.recording = ProcessedFile(duration=4.0)
    row = run.measures(7, Metrics.of(own), measured)
    default = {
        "processing_time": 2.0,
        "cpu_usage": 10.0,
        "real_time_factor": 0.5,
        "additional_metrics": {},
    }
    wanted = {**default, **expected}
    if wanted["real_time_factor"] is None:
        del wanted["real_time_factor"]
    assert row == {"processing_history": 7, **settings, "created_at": row["created_at"], **wanted}


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("si_snri", np.ma.masked_invalid([np.nan]).mean(), None),
        ("si_snri", np.ma.array(3.0, mask=True), None),
        ("si_snri", pd.NA, None),
        *(("processing_time", np.timedelta64(1500, unit), 1500 * factor) for unit, factor in UNITS),
        ("processing_time", np.timedelta64("NaT", "ns"), None),
        ("processing_time", dt.timedelta(seconds=2), 2.0),
    ],
    ids=str,
)
def test_a_number_is_stored_as_it_is_meant(name: str, value: Any, stored: float | None) -> None:
    """What is masked or missing has no value, and a length of time counts in seconds."""
    metrics = Metrics.of({name: value})
    assert metrics.columns[name] == (None if stored is None else pytest.approx(stored, rel=1e-12))
    assert metrics.nonfinite == ({name: "nan"} if stored is None else {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("processing_time", np.timedelta64(3, "M")),
        ("si_snri", np.timedelta64(3, "s")),
        ("si_snri", dt.timedelta(seconds=3)),
    ],
    ids=str,
)
def test_what_is_no_number_of_the_unit_is_refused(name: str, value: Any) -> None:
    """A length of time that has no seconds, or is asked for in dB, is an error of one sentence."""
    with pytest.raises(errors.InvalidValueError) as caught:
        Metrics.of({name: value})
    assert str(caught.value) == f"{name} must be one number, not {value!r}"


# On a server, floats from 1e16 on come back as integers.
LARGEST = 1e15 if ON_SERVER else None
NUMBERS = st.floats(LARGEST and -LARGEST, LARGEST, allow_nan=False, allow_infinity=False)
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
NAMES = st.text(CHARACTERS, min_size=1).filter(
    lambda name: name not in TAKEN and name in Metrics.of({name: 1}).additional
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(CHARACTERS),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(CHARACTERS), inner),
    max_leaves=8,
)


def test_metrics_come_back_as_they_were_told(db: DatabaseManager) -> None:
    """Every number within bounds and every JSON value survives the database."""
    file = db.add(ProcessedFile(filename="a"))

    @settings(deadline=None)
    @given(
        column=st.floats(-1e6, 1e6) | st.integers(-1_000_000, 1_000_000),
        additional=st.dictionaries(NAMES, VALUES, max_size=4),
    )
    def check(column: float, additional: dict[str, Any]) -> None:
        history = db.add(ProcessingHistory(processed_file=file, operation_type="x"))
        row = Metrics.of({"si_snri": column, **additional}).row()
        added = db.add(ModelPerformance(processing_history=history, **row))
        found = db.get_by_id(ModelPerformance, added.id)
        assert found is not None
        assert (found.si_snri, found.additional_metrics) == (float(column), additional)

    check()


def test_keys_that_are_one_in_json_are_refused(db: DatabaseManager) -> None:
    """Parameters of which JSON would keep one of two are refused before the run."""
    with pytest.raises(InvalidValueError) as caught, db.track("/a", "x", parameters={1: 2, "1": 3}):
        pass
    assert str(caught.value) == "two keys are '1' in JSON, whose keys are texts"
    assert db.get_all(ProcessedFile) == []


UNFIT = {
    "NUL": ({"x": "a\0"}, "'x'"),
    "half a pair": ({"x": [{"k": "\udcff"}]}, "'x'"),
    "a key": ({"x": {"a\0": 2}}, "'x'"),
    "a name": ({"a\0": 1}, r"'a\x00'"),
}


@pytest.mark.parametrize(("told", "name"), UNFIT.values(), ids=UNFIT)
def test_a_text_that_one_engine_cannot_keep_is_refused_where_it_is_told(
    db: DatabaseManager, told: dict[str, object], name: str
) -> None:
    """NUL and half a surrogate pair in a metric are refused at once; the run goes on and ends."""
    said = (
        f"the metric {name} has the character NUL or half a surrogate pair, which cannot be stored"
    )
    with db.track("/a", "x") as run:
        for act in (run.log, lambda told: run.output("/o", **told)):
            with pytest.raises(InvalidValueError) as caught:
                act(told)
            assert str(caught.value) == said
        run.log(si_snri=5)
    (row,) = db.query(ModelPerformance).all()
    assert (row.si_snri, row.processing_history.status) == (5, "success")


def test_an_integer_of_too_many_digits_is_refused_where_it_is_told(db: DatabaseManager) -> None:
    """An integer that Python itself would not write as JSON does not take the end of the run."""
    with db.track("/a", "x") as run:
        with pytest.raises(InvalidValueError) as caught:
            run.log(x=-(10**5000))
        assert str(caught.value) == "the metric 'x' is an integer of too many digits"
    assert db.status()["unfinished"] == 0
