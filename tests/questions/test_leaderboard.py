"""The leaderboard, against an independent computation."""

from __future__ import annotations

import copy
import math
import random
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databases import Databases
from support.run_rows import START, add_run

from voices_peewee import DatabaseManager, ModelPerformance, ProcessingHistory, Speaker
from voices_peewee.errors import InvalidValueError, NotFoundError, QueryError
from voices_peewee.questions.leaderboard import Leaderboard, LeaderboardRow

MODELS = ["demucs:4.0", "demucs:4.1", "svoice:1.2", "sepformer", None]
NAMES = "cpu_usage, memory_usage, pesq, processing_time, real_time_factor, sdri, si_snri"
COSTS = ("sdri", "real_time_factor", "memory_usage")
BY = ("model_type", "model_version")


@pytest.fixture(scope="module")
def template(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path | str, list[dict[str, Any]]]:
    """A database of 240 runs of all kinds, and what is in it, as plain dicts."""
    path = databases.new(tmp_path_factory.mktemp("template"))
    generator = random.Random(11)
    with DatabaseManager(path).initialize() as db, db.atomic():
        speakers = [db.add(Speaker(name=name)) for name in ("Ada", "Bob")] + [None]
        records = [_fill(db, generator, number, speakers) for number in range(240)]
    return path, records


@pytest.fixture
def filled(template: tuple[Path | str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What is in the database, which is a copy of the template."""
    return template[1]


@pytest.fixture
def db(
    databases: Databases, request: pytest.FixtureRequest, path: Path | str
) -> Iterator[DatabaseManager]:
    """An initialized database: a copy of the template where the test asks for what is in it."""
    if "filled" in request.fixturenames:
        databases.copy(request.getfixturevalue("template")[0], path)
    with DatabaseManager(path).initialize() as manager:
        yield manager


def _fill(
    db: DatabaseManager, generator: random.Random, number: int, speakers: list[Speaker | None]
) -> dict[str, Any]:
    model, speaker = generator.choice(MODELS), generator.choice(speakers)
    status = generator.choice(["success"] * 4 + ["failed", "unfinished"])
    values: dict[str, Any] = {
        "si_snri": generator.gauss(10, 3),
        "sdri": generator.gauss(11, 3),
        "processing_time": generator.expovariate(0.1),
        "real_time_factor": generator.random(),
        "memory_usage": generator.uniform(500, 900),
        "cpu_usage": generator.uniform(50, 400),
        "pesq": generator.choice([2, 2.5, "nan", None, generator.random()]),
    }
    for name in generator.sample(sorted(values), 2):
        del values[name]
    path, operation = f"/mix/{number % 7}.wav", generator.choice(["separation", "denoising"])
    run = add_run(
        db,
        path,
        model,
        hours=number,
        status=status,
        speaker=speaker,
        file={"file_format": generator.choice(["wav", "flac"])},
        run={"operation_type": operation},
        **values,
    )
    return {
        **dict.fromkeys(("si_snri", "sdri", "cpu_usage", "processing_time", "pesq", *COSTS)),
        **values,
        "status": status,
        "model_type": run.model_type,
        "model_version": run.model_version,
        "speaker": speaker and speaker.name,
        "operation_type": operation,
        "file": path,
        "file_format": run.processed_file.file_format,
    }


def expected(records: list[dict[str, Any]], metric: str, by: tuple[str, ...]) -> dict[Any, Any]:
    """Return the numbers of each group as NumPy and SciPy see them."""
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        groups[tuple(record[name] for name in by)].append(record)
    found = {}
    for key, group in groups.items():
        failures = sum(one["status"] == "failed" for one in group)
        done = [one for one in group if one["status"] == "success"]
        counted = [one for one in done if isinstance(one[metric], int | float)]
        if counted or failures:
            found[key] = (len(counted), failures, *_numbers(counted, metric))
    return found


def _numbers(records: list[dict[str, Any]], metric: str) -> list[float | None]:
    values = np.array([one[metric] for one in records], dtype=float)
    numbers: list[float | None] = [None] * 5
    if len(values):
        numbers[:2] = [values.mean(), np.median(values)]
    if len(values) > 1:
        margin = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
        numbers[2:] = [values.std(ddof=1), values.mean() - margin, values.mean() + margin]
    for name in COSTS:
        present = [one[name] for one in records if one[name] is not None]
        numbers.append(np.mean(present) if present else None)
    return numbers


def known(value: float | None) -> bool:
    return value is not None


def numbers_of(row: LeaderboardRow) -> tuple[Any, ...]:
    return (
        *(row.n, row.failures, row.mean, row.median, row.stdev, row.low, row.high),
        *(row.sdri, row.real_time_factor, row.memory_usage),
    )


@pytest.mark.parametrize("metric", ["si_snri", "processing_time", "cpu_usage", "pesq"])
@pytest.mark.parametrize(
    "by",
    [
        ("model_type", "model_version"),
        ("model_version", "model_type"),
        ("model_type",),
        ("model_version",),
        ("speaker",),
        ("file", "model_type"),
        ("operation_type", "file_format", "speaker"),
    ],
    ids="+".join,
)
def test_numbers_agree_with_scipy(
    db: DatabaseManager, filled: list[dict[str, Any]], metric: str, by: tuple[str, ...]
) -> None:
    """Every group of every kind has the numbers that NumPy and SciPy give."""
    board = db.leaderboard(metric, by=by)
    wanted = expected(filled, metric, by)
    assert {row.key for row in board} == wanted.keys()
    for row in board:
        assert [*map(known, numbers_of(row))] == [*map(known, wanted[row.key])]
        found = [one for one in numbers_of(row) if one is not None]
        assert found == pytest.approx([one for one in wanted[row.key] if one is not None], rel=1e-9)


@pytest.mark.parametrize(
    ("filters", "keep"),
    [
        ({"operation_type": "denoising"}, lambda one: one["operation_type"] == "denoising"),
        ({"model_type": "demucs"}, lambda one: one["model_type"] == "demucs"),
        ({"model_version": "4.1"}, lambda one: one["model_version"] == "4.1"),
        ({"speaker": "Bob"}, lambda one: one["speaker"] == "Bob"),
        ({"model_type": "demucs", "speaker": "Ada"}, lambda one: one["speaker"] == "Ada"),
    ],
    ids=["operation", "type", "version", "speaker", "type and speaker"],
)
@pytest.mark.parametrize("by", [BY, ("model_type",)], ids="+".join)
def test_filters_choose_runs(
    db: DatabaseManager,
    filled: list[dict[str, Any]],
    filters: dict[str, str],
    keep: Any,
    by: tuple[str, ...],
) -> None:
    """A filter leaves the runs that it names, failures included."""
    wanted = expected([one for one in filled if keep(one)], "si_snri", by)
    if "model_type" in filters:
        wanted = {key: value for key, value in wanted.items() if key[0] == "demucs"}
    board = db.leaderboard(by=by, **filters)
    assert {row.key: numbers_of(row)[:2] for row in board} == {
        key: value[:2] for key, value in wanted.items()
    }


def test_since_and_until_bound_the_start(db: DatabaseManager) -> None:
    """A run that started at ``since`` counts, one that started at ``until`` does not."""
    for hours in range(4):
        add_run(db, hours=hours, si_snri=float(hours))
    board = db.leaderboard(since="2026-11-01T13:00:00Z", until=START.replace(hour=15))
    assert [(row.n, row.mean) for row in board] == [(2, 1.5)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.floats(-9e5, 9e5), st.lists(st.floats(-1e-3, 1e-3), min_size=2, max_size=12))
def test_a_small_spread_far_from_zero_keeps_its_digits(
    db: DatabaseManager, offset: float, distances: list[float]
) -> None:
    """Values that hardly differ have the deviation that exact sums give."""
    with db.atomic():
        ProcessingHistory.delete().execute()
        for distance in distances:
            add_run(db, si_snri=offset + distance)
    measured = [offset + distance for distance in distances]
    (fast,), (general,) = db.leaderboard(), db.leaderboard(since="2000-01-01T00:00:00Z")
    center = math.fsum(measured) / len(measured)
    stdev = math.sqrt(math.fsum((x - center) ** 2 for x in measured) / (len(measured) - 1))
    rounding = 4 * math.ulp(abs(offset) + 1)
    assert (fast.mean, fast.stdev) == pytest.approx((center, stdev), rel=1e-9, abs=rounding)
    assert (general.mean, general.stdev) == pytest.approx((center, stdev), rel=1e-9, abs=rounding)


def test_equal_values_have_no_deviation(db: DatabaseManager) -> None:
    """A value that is not a round binary number has exactly no spread when it is repeated."""
    for _ in range(7):
        add_run(db, si_snri=12.3)
    (row,) = db.leaderboard()
    assert (row.n, row.stdev, row.low, row.high) == (7, 0.0, row.mean, row.mean)
    assert row.mean == pytest.approx(12.3, rel=1e-15)


def test_one_measurement_has_no_spread(db: DatabaseManager) -> None:
    """What one value does not tell is None, also in dicts."""
    add_run(db, si_snri=9.5, memory_usage=700.0)
    assert db.leaderboard().to_dicts() == [
        {
            "model_type": "demucs",
            "model_version": "4.0",
            "n": 1,
            "failures": 0,
            "mean": 9.5,
            "median": 9.5,
            "stdev": None,
            "low": None,
            "high": None,
            "sdri": None,
            "real_time_factor": None,
            "memory_usage": 700.0,
        }
    ]


def test_nothing_makes_an_empty_leaderboard(db: DatabaseManager) -> None:
    """A database without runs has a leaderboard without rows."""
    board = db.leaderboard()
    assert board == Leaderboard((), "si_snri", "dB", True, BY)
    assert str(board) == "si_snri (dB) by model_type, model_version, highest mean first\nno runs"


def test_models_that_only_failed_come_last(db: DatabaseManager) -> None:
    """A model without any measurement is listed after all others, with its failures."""
    add_run(db, model="svoice:1.2", status="failed", processing_time=1.0)
    add_run(db, model="svoice:1.2", status="failed")
    add_run(db, model="demucs:4.0", si_snri=-5.0)
    add_run(db, model="quiet:1", processing_time=2.0)
    board = db.leaderboard()
    assert [(row.key, row.n, row.failures) for row in board] == [
        (("demucs", "4.0"), 1, 0),
        (("svoice", "1.2"), 0, 2),
    ]


def test_a_failed_run_counts_once(db: DatabaseManager) -> None:
    """The stems of a failed run are one failure, and what it had measured does not count."""
    for _ in range(3):
        add_run(db, status="failed", run={"run_id": "one"}, si_snri=50.0)
    add_run(db, status="failed", run={"run_id": "two"})
    add_run(db, status="unfinished", si_snri=60.0)
    add_run(db, si_snri=10.0)
    assert [(row.n, row.failures, row.mean) for row in db.leaderboard()] == [(1, 2, 10.0)]


@pytest.mark.parametrize(
    ("metric", "higher_is_better", "first"),
    [
        ("si_snri", None, "large"),
        ("si_snri", False, "small"),
        ("processing_time", None, "small"),
        ("pesq", None, "large"),
        ("test.wer", None, "small"),
        ("charm", True, "large"),
        ("charm", False, "small"),
    ],
)
def test_the_best_comes_first(
    db: DatabaseManager, metric: str, higher_is_better: bool | None, first: str
) -> None:
    """The direction of a metric is known, or given."""
    for name, value in (("large", 3.0), ("small", 1.0)):
        metrics = {"si_snri": value, "processing_time": value, "pesq": value, "charm": value}
        add_run(db, model=f"{name}:1", **metrics, test={"wer": value})
    board = db.leaderboard(metric, higher_is_better=higher_is_better)
    assert board[0].key == (first, "1")
    assert board.higher_is_better is (first == "large")


def test_equal_means_come_in_the_order_of_names(db: DatabaseManager) -> None:
    """Rows of equal means are sorted by name, those without one last."""
    for model in (None, "b:1", "a", "a:2"):
        add_run(db, model=model, si_snri=1.0)
    assert [row.key for row in db.leaderboard()] == [
        ("a", "2"),
        ("a", None),
        ("b", "1"),
        (None, None),
    ]


def test_empty_names_are_names(db: DatabaseManager) -> None:
    """A model of another program's making may have an empty type or version."""
    for name, version in (("", ""), ("", "1"), ("a", "")):
        add_run(db, run={"model_type": name, "model_version": version}, si_snri=1.0)
    assert [row.key for row in db.leaderboard()] == [("", ""), ("", "1"), ("a", "")]


def test_a_leaderboard_is_a_sequence(db: DatabaseManager) -> None:
    """A slice is a leaderboard, and a limit is one too."""
    for number in range(4):
        add_run(db, model=f"m:{number}", si_snri=float(number))
    board = db.leaderboard()
    assert board[1:3] == Leaderboard(board.rows[1:3], "si_snri", "dB", True, BY)
    assert db.leaderboard(limit=2) == board[:2]
    assert [row.key[1] for row in reversed(board)] == ["0", "1", "2", "3"]


def test_groups_are_attributes_of_a_row(db: DatabaseManager) -> None:
    """A row knows the fields that it is by, and says so of the others."""
    add_run(db, speaker=Speaker(name="Ada"), si_snri=1.0)
    (row,) = db.leaderboard(by=("speaker", "model_type"))
    assert (row.speaker, row.model_type) == ("Ada", "demucs")
    assert copy.deepcopy(row) == row
    with pytest.raises(AttributeError, match=r"^this leaderboard row has no 'model_version'$"):
        str(row.model_version)


def test_speakers_of_one_name_are_told_apart(db: DatabaseManager) -> None:
    """Speakers are named; where a name is not unique, with their id."""
    speakers = [db.add(Speaker(name=name)) for name in ("Ada", "Bob", "Ada")]
    for number, speaker in enumerate([*speakers, None]):
        add_run(db, speaker=speaker, si_snri=float(-number))
    assert [row.key for row in db.leaderboard(by="speaker")] == [
        ("Ada (id 1)",),
        ("Bob",),
        ("Ada (id 3)",),
        (None,),
    ]


def test_files_are_named_as_python_knows_them(db: DatabaseManager) -> None:
    """A recording whose name is not UTF-8 keeps its bytes; one without a path has its name."""
    add_run(db, "/mix/caf\udce9.wav", si_snri=2.0)
    add_run(db, None, file={"filename": "recorded.wav"}, si_snri=1.0)
    board = db.leaderboard(by="file")
    assert [row.key for row in board] == [("/mix/caf\udce9.wav",), ("recorded.wav",)]
    str(board).encode()


def test_the_text_is_a_table(db: DatabaseManager) -> None:
    """The text names the question and holds the numbers, in at most 80 columns."""
    for value in (10.0, 12.0, 14.5):
        add_run(db, si_snri=value, sdri=value + 1, real_time_factor=0.0125, memory_usage=812.4)
    add_run(db, model="a_model_with_a_name_that_no_table_has_room_for:2026.11", si_snri=1.0)
    add_run(db, model="svoice:1.2", status="failed")
    assert str(db.leaderboard()) == (
        "si_snri (dB) by model_type, model_version, highest mean first\n"
        "                      n  failed   mean  ±95 %  median  stdev   SDRi     RTF   MB\n"
        "demucs:4.0            3       0  12.17   5.60   12.00   2.25  13.17  0.0125  812\n"
        "a_model_w…or:2026.11  1       0   1.00      -    1.00      -      -       -    -\n"
        "svoice:1.2            0       1      -      -       -      -      -       -    -"
    )
    assert repr(db.leaderboard()) == str(db.leaderboard())


def test_the_text_of_small_numbers(db: DatabaseManager) -> None:
    """What is no dB has four digits, in the text and in a notebook."""
    for factor in (0.003, 0.005, 0.0021):
        add_run(db, si_snri=9.0, real_time_factor=factor)
    assert str(db.leaderboard()).endswith("-  0.003367   -")
    board = db.leaderboard("real_time_factor")
    assert str(board).splitlines()[1:] == [
        "            n  failed      mean     ±95 %  median     stdev  SDRi       RTF  MB",
        "demucs:4.0  3       0  0.003367  0.003687   0.003  0.001484     -  0.003367   -",
    ]
    assert ">0.003367</td>" in board._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "model"}, "unknown field 'model'; did you mean 'model_type' or 'model_version'?"),
        (
            {"by": ()},
            (
                "a leaderboard is by one field or more: use model_type, model_version, speaker, "
                "operation_type, file, file_format"
            ),
        ),
        ({"metric": "psq"}, "unknown metric 'psq'; did you mean 'pesq'?"),
        ({"metric": "x'; --"}, f'unknown metric "x\'; --"; use charm, {NAMES}'),
        (
            {"metric": 'x"y'},
            "the key 'x\"y' holds a quote, which a query cannot ask for",
        ),
        ({"metric": "words"}, f"unknown metric 'words'; use charm, {NAMES}"),
        (
            {"metric": "charm"},
            (
                "it is not known whether a high 'charm' is good; "
                "say higher_is_better=True or False, in the shell --higher-is-better or "
                "--lower-is-better"
            ),
        ),
    ],
    ids=["field", "no field", "near", "hostile", "quote", "text", "direction"],
)
def test_what_cannot_be_asked(db: DatabaseManager, arguments: dict[str, Any], message: str) -> None:
    """A question that makes no sense gets one sentence."""
    add_run(db, pesq=2.0, charm=1.0, words="three", nonfinite={"stoi": "nan"})
    with pytest.raises(QueryError) as caught:
        db.leaderboard(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "name", ["PESQ (wb)", "δ", "a.b", "", "it's", "pesq.wb.mean", "[0]", "$", "a\\b"]
)
def test_any_name_of_a_metric(db: DatabaseManager, name: str) -> None:
    """What was logged under any name can be asked for by it; dots lead into objects or not."""
    with db.track("mix.wav", "separation", model_type="demucs") as run:
        run.log(**{name: 2.5, "other": {"a": {"b": 1.5}}})
    assert db.leaderboard(name, higher_is_better=True)[0].mean == 2.5
    assert db.leaderboard("other.a.b", higher_is_better=True)[0].mean == 1.5
    assert db.compare("demucs", "demucs", metric=name, higher_is_better=True).mean_a == 2.5


def test_unknown_speakers_and_times_are_refused(db: DatabaseManager) -> None:
    """A filter that nothing answers to is an error, not an empty answer."""
    with pytest.raises(NotFoundError, match=r"^no speaker 'Eve'; see 'voices list-speakers'$"):
        db.leaderboard(speaker="Eve")
    with pytest.raises(InvalidValueError, match=r"^start_time 'noon' is not an ISO 8601 time$"):
        db.leaderboard(since="noon")


def statements(db: DatabaseManager, ask: Any) -> list[str]:
    """Return the SQL that is run while something is asked."""
    seen: list[str] = []
    connection = db.store.connection()
    connection.set_trace_callback(seen.append)
    try:
        ask()
    finally:
        connection.set_trace_callback(None)
    return [sql for sql in seen if sql.lstrip().upper().startswith("SELECT")]


@pytest.mark.sqlite("the plan of a query as SQLite tells it")
def test_the_default_leaderboard_reads_only_the_covering_index(
    db: DatabaseManager, filled: list[dict[str, Any]]
) -> None:
    """Every statement reads the index of measurements, or the one of what did not succeed."""
    steps = {
        row["detail"]
        for sql in statements(db, db.leaderboard)
        for row in db.execute_raw_query(f"EXPLAIN QUERY PLAN {sql}")
    }
    covering = "SEARCH model_performance USING COVERING INDEX model_performance_leaderboard"
    assert steps == {
        f"{covering} (model_type=?)",
        f"{covering} (model_type>?)",
        f"{covering} (model_type=? AND model_version=?)",
        f"{covering} (model_type=? AND model_version>?)",
        f"{covering} (model_type=? AND model_version=? AND si_snri>?)",
        # what failed with a value, of each group
        "LIST SUBQUERY 1",
        "SCAN json_each VIRTUAL TABLE INDEX 1:",
        # what failed, which is little
        "SCAN t1 USING INDEX processing_history_not_success",
        "SEARCH t2 USING INDEX model_performance_processing_history_id (processing_history_id=?)",
        "USE TEMP B-TREE FOR GROUP BY",
        "USE TEMP B-TREE FOR count(DISTINCT)",
    }


@pytest.mark.sqlite("breaks in through sqlite3's trace callback")
def test_one_leaderboard_sees_one_state(db: DatabaseManager, path: Path) -> None:
    """What another program deletes while a leaderboard is made is still in it."""
    for number in range(5):
        add_run(db, si_snri=float(number))

    def interfere(sql: str) -> None:
        if "count(*)" in sql:
            with closing(sqlite3.connect(path)) as other, other:
                other.execute("DELETE FROM model_performance")

    connection = db.store.connection()
    connection.set_trace_callback(interfere)
    (row,) = db.leaderboard()
    connection.set_trace_callback(None)
    assert (row.n, row.mean, row.median) == (5, 2.0, 2.0)
    assert ModelPerformance.select().count() == 0


def test_a_leaderboard_inside_a_transaction_sees_what_it_wrote(db: DatabaseManager) -> None:
    """Asking inside a transaction neither ends it nor overlooks its rows."""
    with db.atomic(), db.store.database.atomic() as inner:
        add_run(db, si_snri=1.0)
        assert [row.n for row in db.leaderboard()] == [1]
        inner.rollback()
    assert len(db.leaderboard()) == 0
