"""The four models: what their columns take, keep and refuse."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import uuid
from collections import deque
from decimal import Decimal
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import peewee as pw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory, Speaker, errors
from voices_peewee.schema.fields import PathField, UTCDateTimeField
from voices_peewee.schema.models import CHECKS, BaseModel, ListeningTest
from voices_peewee.schema.vocabulary import COLUMNS, METRIC_COLUMNS


class Shift(enum.Enum):
    UP = "up"


@dataclasses.dataclass
class _Settings:
    rate: object
    inner: object = None


KINDS: dict[str, tuple[object, object]] = {
    "path": (PurePosixPath("/a/b.wav"), "/a/b.wav"),
    "enum": (Shift.UP, "up"),
    "date": (dt.date(2026, 11, 22), "2026-11-22"),
    "datetime": (dt.datetime(2026, 11, 22, tzinfo=dt.UTC), "2026-11-22T00:00:00+00:00"),
    "timedelta": (dt.timedelta(minutes=2), 120.0),
    "uuid": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "set": ({"b", "a"}, ["a", "b"]),
    "tuple": ((1, 2), [1, 2]),
    "float32": (np.float32(0.5), 0.5),
    "int64": (np.int64(7), 7),
    "bool_": (np.bool_(True), True),
    "array": (np.arange(3), [0, 1, 2]),
    "nan": (float("nan"), "nan"),
    "infinity": (float("-inf"), "-inf"),
    "numpy nan": (np.float64("nan"), "nan"),
    "nested": ({"x": [np.float64("inf"), Path("y")]}, {"x": ["inf", "y"]}),
    "enum key": ({Shift.UP: 1}, {"up": 1}),
    "number key": ({1: "a"}, {"1": "a"}),
    "masked": (np.ma.array([1, 2], mask=[0, 1]), [1, None]),
    "longdouble": (np.longdouble("0.1"), 0.1),
    "decimal": (Decimal("0.1"), 0.1),
    "long decimal": (Decimal("0.10000000000000000000000001"), "0.10000000000000000000000001"),
    "dataclass": (
        _Settings(np.int64(2), _Settings(Path("/a"))),
        {"rate": 2, "inner": {"rate": "/a", "inner": None}},
    ),
    "deque": (deque([1, (2, 3)]), [1, [2, 3]]),
    "mapping": (MappingProxyType({"a": MappingProxyType({1: 2})}), {"a": {"1": 2}}),
    "NA": (pd.NA, None),
    "NaT": (np.datetime64("NaT", "ns"), None),
    "milliseconds": (np.timedelta64(1500, "ms"), 1.5),
    "nanoseconds": (np.array([1500], "m8[ns]"), [1.5e-6]),
    "year": (np.datetime64("2026-11-01T12:30", "Y"), "2026"),
    "minutes": (np.datetime64("2026-11-01T12:30", "m"), "2026-11-01T12:30"),
}


@pytest.mark.parametrize(("value", "kept"), KINDS.values(), ids=KINDS)
def test_json_fields_take_what_people_put_in_parameters(
    db: DatabaseManager, value: object, kept: object
) -> None:
    """What Python, NumPy and pandas make is stored as the value that it stands for."""
    file = db.add(ProcessedFile(filename="a", metadata={"value": value}))
    found = db.get_by_id(ProcessedFile, file.id)
    assert found is not None
    assert found.metadata == {"value": kept}
    assert ProcessedFile.get_by_id(file.id).metadata == {"value": kept}


def test_names_may_be_enums(db: DatabaseManager) -> None:
    """An enum names an operation, a model and a version by its value, wherever one is asked for."""
    names = enum.Enum("names", {"TASK": "separation", "MODEL": "demucs", "VERSION": "4.0"})
    model = {"model_type": names.MODEL, "model_version": names.VERSION}
    with db.track("a.wav", names.TASK, **model) as run:
        run.log(si_snri=9)
    start = "2026-11-22T10:00Z"
    db.record_run("b.wav", names.TASK, start_time=start, metrics={"si_snri": 8}, **model)
    db.add(ProcessingHistory(processed_file=run.file, operation_type=names.TASK, **model))
    rows = db.query(ProcessingHistory).filter_by(**model).all()
    found = [(row.operation_type, row.model_type, row.model_version) for row in rows]
    assert found == [("separation", "demucs", "4.0")] * 3
    assert list(db.pending(["a.wav", "b.wav", "c.wav"], names.TASK, **model)) == ["c.wav"]
    assert [row.n for row in db.leaderboard(**model)] == [2]


REFUSED = "cannot store this value as JSON"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (b"\xff", "cannot store this value as JSON: no JSON form for bytes b'\\xff'"),
        (
            np.timedelta64(3, "M"),
            f"{REFUSED}: no seconds for timedelta64[M] {np.timedelta64(3, 'M')!r}",
        ),
        (
            np.longdouble("1e4000"),
            f"cannot store this value as JSON: the number {np.longdouble('1e4000')!r} is too large",
        ),
    ],
    ids=["bytes", "months", "longdouble"],
)
def test_json_fields_refuse_what_has_no_form(
    db: DatabaseManager, value: object, sentence: str
) -> None:
    """What JSON cannot hold is refused with its type and value, by Peewee's own way in too."""
    for write in (db.add, lambda file: file.save()):
        with pytest.raises(errors.InvalidValueError) as caught:
            write(ProcessedFile(filename="a", metadata={"value": value}))
        assert str(caught.value) == sentence


def test_a_time_that_is_missing_is_no_time(db: DatabaseManager) -> None:
    """pandas' NaT is refused as what it is, and counts as not given in a recorded run."""
    with pytest.raises(errors.InvalidValueError) as caught:
        db.add(ProcessedFile(filename="a", created_at=pd.NaT))
    assert str(caught.value) == "created_at NaT is not a datetime"
    start = "2026-11-22T10:00Z"
    run = db.record_run("/a", "x", start_time=start, end_time=pd.NaT, processing_time=1)
    assert run.end_time - run.start_time == dt.timedelta(seconds=1)
    with pytest.raises(errors.InvalidValueError, match=r"^a recorded run needs start_time$"):
        db.record_run("/a", "x", start_time=pd.NaT)


def test_json_that_refers_to_itself_is_refused(db: DatabaseManager) -> None:
    """A value that holds itself is an error, not an endless loop."""
    loop: dict[str, object] = {}
    loop["self"] = loop
    with pytest.raises(errors.InvalidValueError) as caught:
        db.add(ProcessedFile(filename="a", metadata=loop))
    assert str(caught.value) == "cannot store a JSON value that is nested too deeply"


def test_times_are_utc_at_fixed_width(db: DatabaseManager) -> None:
    """Times of any zone are stored in UTC, as text that sorts as time does, and come back aware."""
    zone = dt.timezone(dt.timedelta(hours=2))
    file = ProcessedFile(filename="a")
    start = dt.datetime(2026, 1, 1, 1, 30, tzinfo=zone)
    run = db.add(ProcessingHistory(processed_file=file, operation_type="x", start_time=start))
    (stored,) = db.execute_raw_query("SELECT start_time FROM processing_history")
    found = db.get_by_id(ProcessingHistory, run.id)
    assert stored == {"start_time": "2025-12-31 23:30:00.000000+00:00"}
    assert found is not None
    assert (found.start_time, found.start_time.tzinfo) == (start, dt.UTC)
    assert db.query(ProcessingHistory).where(ProcessingHistory.start_time == start).count() == 1


@given(st.datetimes(timezones=st.timezones()))
def test_times_keep_their_instant_and_their_order(time: dt.datetime) -> None:
    """Whatever the zone, a time comes back as the same instant to the microsecond."""
    field = UTCDateTimeField()
    try:
        utc = time.astimezone(dt.UTC)
    except OverflowError:
        return  # the first hours of year 1 and the last of 9999 have no UTC time
    assert field.python_value(field.db_value(time)) == utc


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("soon", "start_time 'soon' is not an ISO 8601 time"),
        (7, "start_time 7 is not a datetime"),
        (
            "2026-01-02 03:04",
            (
                "start_time '2026-01-02 03:04:00' has no time zone; "
                "use datetime.now(timezone.utc) or .astimezone()"
            ),
        ),
    ],
    ids=["no time", "no datetime", "naive"],
)
def test_sentences_about_times(db: DatabaseManager, value: object, sentence: str) -> None:
    """What is no time, or no certain one, is refused."""
    file = ProcessedFile(filename="a")
    with pytest.raises(errors.InvalidValueError) as caught:
        db.add(ProcessingHistory(processed_file=file, operation_type="x", start_time=value))
    assert str(caught.value) == sentence


@given(st.binary(min_size=1).map(lambda name: name.replace(b"\0", b"0")))
def test_names_that_are_not_utf8_come_back(name: bytes) -> None:
    """Any bytes that a file name can hold become text that UTF-8 can hold, and come back."""
    import os

    field = PathField()
    text = os.fsdecode(name)
    stored = field.db_value(text)
    assert isinstance(stored, str)
    stored.encode()
    assert field.python_value(stored) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(value=st.floats(allow_nan=False, allow_infinity=False, min_value=0, max_value=1e12))
def test_numbers_are_double_precision(db: DatabaseManager, value: float) -> None:
    """A number comes back to the bit."""
    file = db.add(ProcessedFile(filename="a", duration=value))
    found = db.get_by_id(ProcessedFile, file.id)
    assert found is not None
    assert found.duration == value


VOTE = """
INSERT INTO listening_votes
 (test_id, listener, session, trial, kind, position, choice, details, voted_at)
VALUES (1, 'Eve', 's', 't', '{}', 1, '{}', '{{}}', '2026-11-22 12:00:00.000000+00:00')
"""
NONSENSE = {
    "ck_speakers_name": "INSERT INTO speakers (name, tags, created_at, updated_at) "
    "VALUES (' ', '[]', '2026-01-01', '2026-01-01')",
    "ck_processed_files_filename": "UPDATE processed_files SET filename = ''",
    "ck_processed_files_duration": "UPDATE processed_files SET duration = -0.1",
    "ck_processed_files_sample_rate": "UPDATE processed_files SET sample_rate = -1",
    "ck_processed_files_channels": "UPDATE processed_files SET channels = 0",
    "ck_processed_files_file_size": "UPDATE processed_files SET file_size = -1",
    "ck_processing_history_operation_type": "UPDATE processing_history SET operation_type = ''",
    "ck_processing_history_end_time": "UPDATE processing_history SET end_time = '1999-01-01'",
    "ck_model_performance_si_snri": "UPDATE model_performance SET si_snri = 9e99",
    "ck_model_performance_sdri": "UPDATE model_performance SET sdri = -1e9",
    "ck_model_performance_cpu_usage": "UPDATE model_performance SET cpu_usage = -1",
    "ck_model_performance_memory_usage": "UPDATE model_performance SET memory_usage = -1",
    "ck_model_performance_processing_time": "UPDATE model_performance SET processing_time = -1",
    "ck_model_performance_real_time_factor": "UPDATE model_performance SET real_time_factor = -1",
    "ck_listening_votes_choice": VOTE.format("pair", "c"),
    "ck_listening_votes_kind": VOTE.format("odd", "a"),
}


def test_a_bound_has_a_sentence() -> None:
    """What a metric's column must be is said by its CHECK, which a run's block shows."""
    bounded = {name for name in METRIC_COLUMNS if COLUMNS[name].bounds is not None}
    assert bounded
    assert {f"ck_model_performance_{name}" for name in bounded} <= CHECKS.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_checks_keep_nonsense_out_whoever_writes(db: DatabaseManager, name: str) -> None:
    """Each named CHECK stops another program that writes nonsense with plain SQL."""
    from voices_peewee import ModelPerformance

    run = ProcessingHistory(processed_file=ProcessedFile(filename="a"), operation_type="x")
    db.add(ModelPerformance(processing_history=run))
    db.add(ListeningTest(name="t", question="which"))
    with pytest.raises(errors.InvalidValueError) as told:
        db.execute_raw_query(NONSENSE[name], write=True)
    assert str(told.value) == CHECKS[name][1]


def test_one_performance_row_for_each_history_row(db: DatabaseManager) -> None:
    """A second measurement of one history row is refused."""
    from voices_peewee import ModelPerformance

    run = ProcessingHistory(processed_file=ProcessedFile(filename="a"), operation_type="x")
    db.add(ModelPerformance(processing_history=run))
    with pytest.raises(errors.InvalidValueError) as caught:
        db.add(ModelPerformance(processing_history=run))
    assert str(caught.value) == "model_performance.processing_history_id must be unique"


def test_shown_models_say_what_they_are(db: DatabaseManager) -> None:
    """A model object shows its id and what one looks for."""
    assert repr(db.create_speaker("Ada", tags=["a"])) == (
        "<Speaker: id=1 name='Ada' description=None tags=['a']>"
    )


def test_peewee_itself_still_works(db: DatabaseManager) -> None:
    """Everything that Peewee can do is there: create, joins, aggregates, JSON paths."""
    ada = Speaker.create(name="Ada", tags=["a"])
    ProcessedFile.create(filename="a", speaker=ada, metadata={"room": {"size": 4}}, duration=2)
    ProcessedFile.create(filename="b", speaker=ada, metadata={"room": {"size": 9}}, duration=3)
    total = pw.fn.SUM(ProcessedFile.duration)
    query = Speaker.select(Speaker.name, total).join(ProcessedFile).group_by(Speaker.id).tuples()
    assert list(query) == [("Ada", 5.0)]
    big = ProcessedFile.metadata["room"]["size"].as_int() > 5
    assert [file.filename for file in ProcessedFile.select().where(big)] == ["b"]
    assert json.loads(json.dumps(ada.tags)) == ["a"]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("sample_rate", 8000.5, "sample_rate must be a whole number, not 8000.5"),
        ("sample_rate", "8000.5", "sample_rate must be a whole number, not '8000.5'"),
        ("channels", float("nan"), "channels must be a whole number, not nan"),
        ("file_size", [1], "file_size must be a whole number, not [1]"),
        ("speaker_id", 1.5, "speaker must be a Speaker or its id, not 1.5"),
        ("processed_file", "1", "processed_file must be a ProcessedFile or its id, not '1'"),
        ("file_format", ["wav"], "file_format must be a text, not ['wav']"),
        ("success", "False", "success must be true or false, not 'False'"),
        ("success", 2, "success must be true or false, not 2"),
        ("success", 0.5, "success must be true or false, not 0.5"),
        ("model_type", {"demucs"}, "model_type must be a text, not {'demucs'}"),
        ("file_format", float("nan"), "file_format must be a text, not nan"),
        ("filename", np.array([1]), "filename must be a text, not array([1])"),
        ("sample_rate", True, "sample_rate must be a whole number, not True"),
        ("speaker", "1", "speaker must be a Speaker or its id, not '1'"),
        ("sample_rate", np.bool_(True), "sample_rate must be a whole number, not np.True_"),
        ("sample_rate", np.ma.masked, "sample_rate must be a whole number, not masked"),
        ("duration", np.complex64(2 + 5j), "duration must be a number, not np.complex64(2+5j)"),
        ("duration", True, "duration must be a number, not True"),
        ("duration", np.bool_(False), "duration must be a number, not np.False_"),
        ("duration", "long", "duration must be a number, not 'long'"),
        ("duration", "1.5", 1.5),
        ("metadata", {1: "a", "1": "b"}, "two keys are '1' in JSON, whose keys are texts"),
        (
            "parameters",
            {"a": [{True: 1, "true": 2}]},
            "two keys are 'true' in JSON, whose keys are texts",
        ),
        ("metadata", ["hall"], "metadata must be a mapping, not ['hall']"),
        ("parameters", "shifts", "parameters must be a mapping, not 'shifts'"),
        ("tags", "studio", "tags must be a list of texts, not 'studio'"),
        ("tags", [1], "tags must be a list of texts, not [1]"),
        ("filename", np.int64(84), "84"),
        ("model_version", pd.NA, None),
        ("model_type", np.float32("nan"), None),
        ("sample_rate", 8000.0, 8000),
        ("sample_rate", np.float64(8000), 8000),
        ("sample_rate", "8000", 8000),
        ("success", np.bool_(True), True),
        ("model_version", 4.5, "4.5"),
    ],
    ids=repr,
)
def test_what_is_stored_is_what_was_given(
    db: DatabaseManager, column: str, value: object, expected: object
) -> None:
    """Nothing is cut to fit and no text is taken for true, whoever writes: one sentence says so."""
    file = db.add(ProcessedFile(filename="a.wav"))
    model = ProcessedFile if column in ProcessedFile._meta.combined else ProcessingHistory
    values = {"filename": "b.wav"} if model is ProcessedFile else {"operation_type": "separation"}
    values |= {} if model is ProcessedFile else {"processed_file": file}

    def changed() -> int:
        row = db.add(model(**values))
        setattr(row, column, value)
        return db.update(row).id

    asked = values | {column: value}
    ways = [
        lambda: db.add(model(**asked)).id,
        lambda: db.add_all([model(**asked)])[0].id,
        lambda: model.create(**asked).id,
        changed,
    ]
    for write in ways:
        if isinstance(expected, str) and " " in expected:
            with pytest.raises(errors.InvalidValueError) as caught:
                write()
            assert str(caught.value) == expected
        else:
            found = getattr(db.get_by_id(model, write()), column)
            assert (found, type(found)) == (expected, type(expected))


@pytest.mark.sqlite("a server keeps what is no JSON out")
def test_what_is_no_json_stays_where_another_value_changes(db: DatabaseManager) -> None:
    """A row whose tags another program spoilt can be changed; they stay as they were."""
    ada = db.create_speaker("Ada")
    db.execute_raw_query("UPDATE speakers SET tags = 'studio'", write=True)
    db.update(db.get_by_id(Speaker, ada.id), description="alto")
    (row,) = db.execute_raw_query("SELECT description, tags FROM speakers")
    assert row == {"description": "alto", "tags": "studio"}


def test_a_refused_change_is_none(db: DatabaseManager) -> None:
    """Where one of several changes cannot be, the object has none of them."""
    ada = db.create_speaker("Ada")
    with pytest.raises(errors.InvalidValueError) as caught:
        db.update(ada, name="Eve", id=2)
    assert (str(caught.value), ada.name) == ("a row keeps its id", "Ada")


def test_json_of_many_levels_is_stored(db: DatabaseManager) -> None:
    """What JSON can hold comes back, however many levels it has."""
    deep: dict[str, object] = {}
    for _ in range(600):
        deep = {"a": deep}
    file = db.add(ProcessedFile(filename="a.wav", metadata=deep))
    assert db.get_file(file.id).metadata == deep


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Speaker, {"name": "Ada", "tags": ["a"]}),
        (ProcessedFile, {"filename": "a.wav", "speaker_id": 3, "metadata": {"a": 1}}),
        (ProcessedFile, {"filename": "a.wav", "speaker": Speaker(id=4, name="Bob")}),
        (
            ProcessingHistory,
            {
                "operation_type": "x",
                "run_id": "r",
                "start_time": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
            },
        ),
    ],
    ids=["name", "id", "object", "defaults"],
)
def test_an_object_is_as_peewee_makes_it(model: type[BaseModel], values: dict[str, Any]) -> None:
    """The short way to an object leaves what Peewee's own leaves, defaults but times included."""
    mine, plain = model(**values), model(__no_default__=1)
    plain.__data__ = model._meta.get_default_dict()
    plain._dirty = set(plain.__data__)
    for name, value in values.items():
        setattr(plain, name, value)
    for made in (mine, plain):
        for name in {"created_at", "updated_at"} & set(made.__data__):
            assert made.__data__.pop(name).tzinfo is dt.UTC
    assert (mine.__data__, mine._dirty, mine.__rel__) == (
        plain.__data__,
        plain._dirty,
        plain.__rel__,
    )


def test_a_model_that_sets_values_in_its_own_way_does_so_when_it_is_made() -> None:
    """An application's ``__setattr__`` is called for each value."""

    class Loud(Speaker):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value.upper() if name == "description" else value)

    assert Loud(name="Ada", description="low").description == "LOW"
