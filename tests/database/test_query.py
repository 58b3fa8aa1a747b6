"""Rows and model objects: what the short way gives is what stock Peewee gives."""

from __future__ import annotations

import datetime as dt
import gc
import os
import pickle
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import peewee as pw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databases import NO_ROOM_FOR, ON_SERVER

from voices_peewee import (
    MODELS,
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
    errors,
)
from voices_peewee.database.query import no_full_collection
from voices_peewee.models import ListeningTest
from voices_peewee.schema.fields import JSONField, PathField, TagsField, UTCDateTimeField

hypothesis = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

characters = st.characters(exclude_categories=["Cs"], exclude_characters=NO_ROOM_FOR)
texts = st.text(characters, max_size=20)
names = texts.map(lambda text: f"a{text}")
paths = st.one_of(
    names,
    st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name).map(os.fsdecode),
    st.just(Path("/data/é.wav")),
)
zones = st.integers(-14 * 60, 14 * 60).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
times = st.datetimes(
    dt.datetime.fromisoformat("0002-01-01"),
    dt.datetime.fromisoformat("9998-12-31"),
    timezones=st.just(dt.UTC) | zones,
)
# A server stores JSON's numbers as decimals: from 1e16 on a float comes back as an integer.
json_numbers = st.floats(-1e15, 1e15) if ON_SERVER else st.floats()
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | json_numbers | texts | st.just(Path("/a")) | times,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, documents, max_size=3)


def ordered(values: dict[str, Any]) -> dict[str, Any]:
    """Put the end of a run after its start."""
    start, end = values.get("start_time"), values.get("end_time")
    if end is None:
        return values
    start = start or dt.datetime(2, 1, 1, tzinfo=dt.UTC)
    return values | {"start_time": min(start, end), "end_time": max(start, end)}


OF_NAME = {
    **dict.fromkeys(("name", "operation_type"), names),
    **dict.fromkeys(("si_snri", "sdri"), st.floats(-1e6, 1e6)),
    "cpu_usage": st.floats(0, 1e9),
    "sample_rate": st.integers(1, 10**7),
    "channels": st.integers(1, 1024) | st.just("2"),
    "created_at": times | times.map(dt.datetime.isoformat),
    "success": st.booleans() | st.integers(0, 1),
    "position": st.integers(1, 99),
    "kind": st.sampled_from(["pair", "repeat", "right", "wrong"]),
    "choice": st.sampled_from(["a", "b"]),
    **dict.fromkeys(("environment", "recording"), st.none()),
}
OF_TYPE: dict[type[pw.Field], st.SearchStrategy[Any]] = {
    TagsField: st.lists(texts, max_size=3),
    JSONField: objects,
    UTCDateTimeField: times,
    PathField: paths,
    pw.TextField: texts,
    pw.ForeignKeyField: st.just(1),
    pw.IntegerField: st.integers(0, (1 << 63) - 1),
    pw.DoubleField: st.floats(0, 1e12) | st.integers(0, 10**12),
}


def value_of(field: pw.Field) -> st.SearchStrategy[Any]:
    """Return what may be given to a field."""
    if (value := OF_NAME.get(field.name)) is None:
        value = next(value for kind, value in OF_TYPE.items() if isinstance(field, kind))
    return st.none() | value if field.null else value


def values_of(model: type[pw.Model]) -> st.SearchStrategy[dict[str, Any]]:
    """Return the values of a row; what may be left out sometimes is."""
    fields = {field: value_of(field) for field in model._meta.sorted_fields[1:]}
    free = {field for field in fields if field.null or field.default is not None}
    needed = {field.name: value for field, value in fields.items() if field not in free}
    optional = {field.name: value for field, value in fields.items() if field in free}
    return st.fixed_dictionaries(needed, optional=optional).map(ordered)


every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


@pytest.fixture
def parents(db: DatabaseManager) -> DatabaseManager:
    """A database with one speaker, file, run and test, all with id 1, to be referred to."""
    speaker = db.add(Speaker(name="Ada"))
    file = db.add(ProcessedFile(filename="a.wav", speaker=speaker))
    db.add(ProcessingHistory(processed_file=file, operation_type="separation"))
    db.add(ListeningTest(name="the first", question="which"))
    return db


@pytest.fixture
def files(db: DatabaseManager) -> DatabaseManager:
    """A database with 3 speakers and 9 files; every third file has no speaker."""
    speakers = db.add_all([Speaker(name=name) for name in ("Ada", "Bob", "Cy")])
    for number in range(9):
        speaker = speakers[number // 3] if number % 3 else None
        db.add(ProcessedFile(filename=f"{number}.wav", duration=number, speaker=speaker))
    return db


def anatomy(instance: Any) -> Any:
    """Return all that a model object consists of, with the type of each value."""
    if not isinstance(instance, pw.Model):
        return instance
    data = {
        name: (type(value), repr(value) if isinstance(value, float) else value)
        for name, value in instance.__data__.items()
    }
    related = {name: anatomy(one) for name, one in instance.__rel__.items()}
    others = {name: value for name, value in instance.__dict__.items() if "__" not in name}
    return type(instance), list(data), data, related, others


def stored_rows(db: DatabaseManager, model: type[pw.Model]) -> list[dict[str, Any]]:
    """Return the columns of the newest row as SQLite holds them, with their storage classes."""
    columns = [column for column in model._meta.columns if column != "id"]
    shown = ", ".join(f"{name}, typeof({name}) AS {name}_type" for name in columns)
    table = model._meta.table_name
    return db.execute_raw_query(f"SELECT {shown} FROM {table} ORDER BY id DESC LIMIT 1")


def remove_newest(db: DatabaseManager, model: type[pw.Model]) -> None:
    table = model._meta.table_name
    sql = f"DELETE FROM {table} WHERE id = (SELECT max(id) FROM {table})"
    db.execute_raw_query(sql, write=True)


@every_model
@hypothesis
@given(data=st.data())
def test_reading_gives_what_peewee_gives(
    parents: DatabaseManager, model: type[pw.Model], data: st.DataObject
) -> None:
    """However a row is read, the object is Peewee's to the last field, type and dirty mark."""
    key = model.create(**data.draw(values_of(model))).id
    stock = model.get_by_id(key)
    query = parents.query(model).where(model.id == key)
    read = [
        parents.get_by_id(model, key),
        *query.all(),
        *query,
        *query.iterator(),
        query[0],
        query.first(),
        query.get(),
        parents.get_all(model)[-1],
    ]
    model.delete_by_id(key)

    assert [anatomy(one) for one in read] == [anatomy(stock)] * 8
    assert all(one == stock and hash(one) == hash(stock) for one in read)
    assert anatomy(pickle.loads(pickle.dumps(read[0]))) == anatomy(stock)  # noqa: S301 - our own


@pytest.mark.sqlite("what SQLite says of a stored value's type")
@every_model
@hypothesis
@given(data=st.data())
def test_writing_stores_what_peewee_stores(
    parents: DatabaseManager, model: type[pw.Model], data: st.DataObject
) -> None:
    """A record written alone, in bulk or as a mapping is stored byte for byte as by Peewee."""
    values = model(**data.draw(values_of(model))).__data__
    ways: list[Callable[[], Any]] = [
        lambda: model(**values).save(),
        lambda: parents.add(model(**values)),
        lambda: parents.add_all([model(**values)]),
        lambda: parents.add_many(model, [values]),
    ]
    stored = []
    for way in ways:
        way()
        stored.append(stored_rows(parents, model))
        remove_newest(parents, model)
    assert stored == [stored[0]] * 4


@pytest.mark.sqlite("what another program may write into a column of SQLite")
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("metadata", "{bad"),
        ("metadata", ' {"a": 1} '),
        ("metadata", '{"a": 1} x'),
        ("metadata", "null"),
        ("metadata", '"text"'),
        ("metadata", b"{}"),
        ("created_at", "2026-01-02 03:04:05"),
        ("created_at", "2026-01-02T03:04:05.5+02:00"),
        ("filename", "caf\u00e9.wav"),
        ("filename", "a\U0010fc80.wav"),
    ],
    ids=str,
)
def test_what_another_program_wrote_reads_as_with_peewee(
    files: DatabaseManager, column: str, value: object
) -> None:
    """Odd values of other programs come back as Peewee hands them out."""
    sql = f"UPDATE processed_files SET {column} = ? WHERE id = 2"
    files.execute_raw_query(sql, [value], write=True)
    read = [files.get_by_id(ProcessedFile, 2), files.query(ProcessedFile).all()[1]]
    assert [anatomy(one) for one in read] == [anatomy(ProcessedFile.get_by_id(2))] * 2


Select = Callable[[Any], Any]
subquery = Speaker.select(Speaker.id).where(Speaker.name != "Bob")
SELECTS: dict[str, Select] = {
    "plain": lambda q: q,
    "where in": lambda q: q.where(ProcessedFile.speaker.in_(subquery)),
    "order, limit, offset": lambda q: q.order_by(-ProcessedFile.duration).limit(3).offset(2),
    "distinct": lambda q: q.distinct(),
    "group by": lambda q: q.group_by(
        ProcessedFile.id if ON_SERVER else ProcessedFile.speaker
    ).order_by(ProcessedFile.id),
    "join of a join": lambda q: (
        q.left_outer_join(ProcessingHistory)
        .left_outer_join(ModelPerformance)
        .order_by(ProcessedFile.id)
    ),
    "outer join": lambda q: q.left_outer_join(Speaker).order_by(Speaker.name, ProcessedFile.id),
    "select of both": lambda q: q.select(ProcessedFile, Speaker).join(Speaker),
    "select with more": lambda q: q.select_extend((ProcessedFile.duration * 2).alias("double")),
    "aggregate": lambda q: q.select(pw.fn.max(ProcessedFile.duration).alias("longest")),
    "dicts": lambda q: q.dicts(),
    "union": lambda q: q.where(ProcessedFile.id < 3) | q.where(ProcessedFile.id > 7),
    "inside a subquery": lambda q: ProcessedFile.select().where(ProcessedFile.id.in_(q.limit(4))),
    "from a subquery": lambda q: q.from_(q.where(ProcessedFile.id > 4).alias("t1")),
    "related": lambda q: q.with_related(ProcessedFile.speaker),
}
USES: dict[str, Select] = {
    "list": list,
    "iterate twice": lambda q: [*q, *q],
    "iterate side by side": lambda q: list(zip(q, q, strict=True)),
    "iterator": lambda q: list(q.clone().iterator()) if not q._load_tree else [],
    "first item": lambda q: q[0],
    "some items, then all": lambda q: [q[1:2], q[:1], list(q)],
    "exists": lambda q: q.exists(),
}


def parts(answer: Any) -> Any:
    """Return the anatomy of all that an answer holds."""
    if isinstance(answer, list) or type(answer) is tuple:
        return [parts(one) for one in answer]
    return anatomy(answer)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("select", SELECTS.values(), ids=SELECTS)
def test_a_query_answers_as_peewee_answers(
    files: DatabaseManager, select: Select, use: Select
) -> None:
    """Whatever is built on a query has the text and the answer of the same on Peewee's select."""
    ours, stock = select(files.query(ProcessedFile)), select(ProcessedFile.select())
    assert ours.sql() == stock.sql()
    assert parts(use(ours)) == parts(use(stock))


def test_all_runs_the_query_again(files: DatabaseManager) -> None:
    """all() sees what was written since; iterating again keeps Peewee's cached rows."""
    query = files.query(Speaker)
    cached = list(query)
    files.create_speaker("Di")
    assert [speaker.name for speaker in query.all()] == ["Ada", "Bob", "Cy", "Di"]
    assert list(query) == cached
    assert [speaker.name for speaker in query.iterator()] == ["Ada", "Bob", "Cy", "Di"]
    assert [speaker.name for speaker in query.iterator()] == ["Ada", "Bob", "Cy", "Di"]


def test_filter_by_keeps_equal_values(files: DatabaseManager) -> None:
    """filter_by takes fields and id names, joins conditions with and, and None means empty."""
    query = files.query(ProcessedFile)

    def found(**values: object) -> list[int]:
        return [file.id for file in query.filter_by(**values).all()]

    assert found(speaker_id=2) == [5, 6]
    assert found(speaker=2, duration=5.0) == [6]
    assert found(speaker=None) == [1, 4, 7]


def test_a_loaded_object_lives_as_peewees_does(files: DatabaseManager) -> None:
    """Loaded objects track changes, save only these, and follow foreign keys both ways."""
    file = files.query(ProcessedFile).filter_by(filename="4.wav").all()[0]
    assert not file.is_dirty()
    assert file.speaker == Speaker.get_by_id(2)
    assert [one.filename for one in file.speaker.processed_files] == ["4.wav", "5.wav"]

    file.duration = 40.5
    file.speaker_id = 3
    assert file.dirty_field_names == ["duration", "speaker"]
    assert file.save(only=file.dirty_fields) == 1
    assert not file.is_dirty()

    fresh = ProcessedFile.get_by_id(5)
    assert (fresh.duration, fresh.speaker.name) == (40.5, "Cy")
    assert file.delete_instance() == 1
    assert files.get_by_id(ProcessedFile, 5) is None


def test_loaded_objects_share_nothing(files: DatabaseManager) -> None:
    """Two objects of one row, and their empty JSON values, are independent."""
    one, other = (files.get_by_id(Speaker, 1) for _ in range(2))
    assert one is not None
    assert other is not None
    one.tags.append("x")
    one.name = "Eve"
    assert (other.tags, other.name, other._dirty) == ([], "Ada", set())


def test_many_rows_come_in_order_and_once(db: DatabaseManager) -> None:
    """Results longer than a batch are complete, in order, however they are read."""
    assert db.add_many(Speaker, ({"name": f"{number:04d}"} for number in range(1001))) == 1001
    names = [f"{number:04d}" for number in range(1001)]
    query = db.query(Speaker).order_by(Speaker.name)
    assert [speaker.name for speaker in query.iterator()] == names
    assert [speaker.name for speaker in query] == names
    assert [speaker.name for speaker in query.all()] == names
    lazy = query.clone()
    assert [lazy[0].name, lazy[700].name, len(lazy)] == ["0000", "0700", 1001]


def test_iterating_takes_constant_memory(db: DatabaseManager) -> None:
    """iterator() holds some hundred rows at a time, not the result."""
    db.add_many(Speaker, ({"name": "x" * 1000} for _ in range(5000)))
    tracemalloc.start()
    try:
        count = sum(1 for _ in db.query(Speaker).iterator())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 5000
    assert peak < 2_000_000  # bytes; the whole result takes more than 10 MB


def test_bulk_mappings_may_differ_in_their_keys(files: DatabaseManager) -> None:
    """Mappings with other keys, ids, id names and objects are stored as they say."""
    ada = files.get_by_id(Speaker, 1)
    rows = [
        {"filename": "a"},
        {"filename": "b", "speaker": ada, "metadata": {"k": [1]}},
        {"filename": "c", "speaker_id": 2, "duration": 1},
        {"duration": 2, "speaker_id": None, "filename": "d"},
        {"id": 50, "filename": "e"},
        {"id": None, "filename": "f"},
        {"filename": "g", "speaker": None, "speaker_id": 3},
    ]
    assert files.add_many(ProcessedFile, iter(rows)) == 7
    shown = ProcessedFile.select().where(ProcessedFile.id > 9).order_by(ProcessedFile.filename)
    assert [
        (one.id, one.filename, one.speaker_id, one.duration, one.metadata) for one in shown
    ] == [
        (10, "a", None, None, {}),
        (11, "b", 1, None, {"k": [1]}),
        (12, "c", 2, 1.0, {}),
        (13, "d", None, 2.0, {}),
        (50, "e", None, None, {}),
        (51, "f", None, None, {}),
        (52, "g", None, None, {}),
    ]
    times = {one.created_at.tzinfo for one in shown}
    assert times == {dt.UTC}


def test_bulk_mappings_get_their_own_defaults(parents: DatabaseManager) -> None:
    """Every row gets a default of its own; an explicit None is kept."""
    rows = [{"processed_file": 1, "operation_type": "x"} for _ in range(3)]
    parents.add_many(ProcessingHistory, [*rows, {**rows[0], "process": None}])
    added = parents.get_all(ProcessingHistory)[1:]
    assert len({one.run_id for one in added}) == 4
    assert [(one.parameters, one.success, one.process) for one in added] == [({}, False, None)] * 4
    with pytest.raises(errors.InvalidValueError) as caught:
        parents.add_many(Speaker, [{"name": "Bob", "tags": None}])
    assert str(caught.value) == "speakers.tags must not be empty"


class NoBool:
    """Cannot be true or false."""

    def __bool__(self) -> bool:
        raise TypeError("neither true nor false")

    def __repr__(self) -> str:
        return "NoBool()"


def test_a_value_that_cannot_be_converted_is_named(parents: DatabaseManager) -> None:
    """A value that its column cannot take is named, and nothing is written."""
    values = {"processed_file": 1, "operation_type": "x", "success": NoBool()}
    with pytest.raises(errors.InvalidValueError) as caught:
        parents.add_many(ProcessingHistory, [values])
    assert str(caught.value) == "success must be true or false, not NoBool()"
    assert ProcessingHistory.select().count() == 1


def test_an_error_of_the_callers_own_rows_comes_through(db: DatabaseManager) -> None:
    """What the caller's generator raises reaches the caller, and nothing is written."""

    def rows() -> Iterator[dict[str, str]]:
        yield {"name": "Ada"}
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        db.add_many(Speaker, rows())
    assert db.get_all(Speaker) == []


def test_rows_may_be_read_while_they_are_added(files: DatabaseManager) -> None:
    """The mappings of a bulk may come from a query on the same database."""
    names = (
        {"name": f"{one.name} 2"} for one in files.query(Speaker).where(Speaker.id < 4).iterator()
    )
    assert files.add_many(Speaker, names) == 3
    assert [one.name for one in files.get_all(Speaker)][3:] == ["Ada 2", "Bob 2", "Cy 2"]


def test_the_garbage_collector_is_left_as_it_was() -> None:
    """Full collections are held off in the block, also for threads, and no longer than that."""
    usual = gc.get_threshold()
    with pytest.raises(KeyError):
        hold_off_and_fail()
    assert gc.get_threshold() == usual

    def hold_off(_: int) -> None:
        for _ in range(1000):
            with no_full_collection():
                pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold_off, range(4)))
    assert gc.get_threshold() == usual


def hold_off_and_fail() -> None:
    never = 2**31 - 1 if sys.version_info < (3, 14) else 0  # 3.14 makes none but small steps
    held_off = (*gc.get_threshold()[:2], never)
    with no_full_collection():
        with no_full_collection():
            assert gc.get_threshold() == held_off
        assert gc.get_threshold() == held_off
        raise KeyError


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_collects_again() -> None:
    """A child that was forked in a block leaves it as its parent does, and collects as usual."""
    usual = gc.get_threshold()
    try:
        with no_full_collection():
            child = os.fork()
    finally:
        if not child:
            os._exit(sys.exc_info() != (None, None, None) or gc.get_threshold() != usual)
    assert os.waitpid(child, 0)[1] == 0
