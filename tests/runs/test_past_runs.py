"""Runs that happened elsewhere: ``record_run`` and ``record_runs``."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import math
import time
import warnings
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.run_rows import files, histories, performances
from support.wav_files import digest, write_wav

from voices_peewee import (
    DatabaseManager,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
    errors,
)
from voices_peewee.runs.metrics import MetricWarning
from voices_peewee.runs.run import OutputWarning

START = dt.datetime(2026, 11, 1, 20, 0, tzinfo=dt.UTC)


def columns(row: Any, *without: str) -> dict[str, Any]:
    return {name: value for name, value in row.__data__.items() if name not in without}


@pytest.mark.parametrize(("hours", "seen"), [(-1, b"old"), (1, b"new")], ids=["before", "after"])
def test_a_run_has_the_hash_of_what_it_saw(
    db: DatabaseManager, tmp_path: Path, hours: int, seen: bytes
) -> None:
    """A known file that changed before a run began is read anew; one that did later is not."""
    mix = tmp_path / "mix.wav"
    mix.write_bytes(b"old")
    db.record_run(mix, "sep", start_time=START)
    mix.write_bytes(b"new")
    start = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
    recorded = db.record_run(mix, "sep", start_time=start)
    assert recorded.source_hash == hashlib.sha256(seen).hexdigest()


@pytest.mark.usefixtures("no_slack")
def test_what_is_put_at_a_path_after_a_run_is_not_what_it_saw(
    db: DatabaseManager, tmp_path: Path
) -> None:
    """A recording that was read after a run began, and then swapped for an older file, is not read.

    A run that began later has the hash of the other file.
    """
    for value, name in enumerate(("one", "two")):
        write_wav(tmp_path / name / "x.wav", value=value)
    mix = tmp_path / "one" / "x.wav"
    time.sleep(0.1)
    start = dt.datetime.now(dt.UTC)
    time.sleep(0.1)
    db.add_audio(mix)
    (tmp_path / "one").rename(tmp_path / "old")
    (tmp_path / "two").rename(tmp_path / "one")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    runs = [db.record_run(mix, "sep", start_time=began) for began in (start, later)]
    assert [run.source_hash for run in runs] == [digest(tmp_path / "old" / "x.wav"), digest(mix)]


def test_a_run_is_recorded_with_its_outputs(db: DatabaseManager, tmp_path: Path) -> None:
    """Times, outcome, settings, outputs and metrics are in the rows that ``track`` would write."""
    mix = write_wav(tmp_path / "mix.wav", 4000)
    ada = db.create_speaker("Ada")
    recorded = db.record_run(
        mix,
        "voice_separation",
        start_time=START,
        processing_time=2.0,
        speaker=ada,
        model_type="demucs",
        model_version="4.0",
        parameters={"shifts": 2},
        outputs=[
            {"path": tmp_path / "1.wav", "si_snri": 12.5, "pesq": 2},
            tmp_path / "2.wav",
            {"path": tmp_path / "3.wav", "speaker": Speaker(name="Bob"), "cpu_usage": 50},
        ],
        metrics={"memory_usage": 100, "epochs": 3},
        run_id="night-1",
    )
    digest = hashlib.sha256(mix.read_bytes()).hexdigest()
    shared = {
        "run_id": "night-1",
        "operation_type": "voice_separation",
        "model_type": "demucs",
        "model_version": "4.0",
        "parameters": {"shifts": 2},
        "start_time": START,
        "end_time": START + dt.timedelta(seconds=2),
        "success": True,
        "error_message": None,
        "source_hash": digest,
        "process": None,
        **dict.fromkeys(("environment", "model_hash", "tags", "note")),
    }
    rows = histories(db)
    assert recorded == rows[0]
    assert [columns(row) for row in rows] == [
        {"id": number, "processed_file": number + 1, **shared} for number in (1, 2, 3)
    ]
    stored = [(file.processed_path, file.speaker_id, file.duration) for file in files(db)]
    assert stored == [
        (None, None, 0.5),
        (str(tmp_path / "1.wav"), ada.id, None),
        (str(tmp_path / "2.wav"), ada.id, None),
        (str(tmp_path / "3.wav"), 2, None),
    ]
    measured: dict[str, Any] = {
        "model_type": "demucs",
        "model_version": "4.0",
        "si_snri": None,
        "sdri": None,
        "cpu_usage": None,
        "memory_usage": 100.0,
        "processing_time": 2.0,
        "real_time_factor": 4.0,
        "additional_metrics": {"epochs": 3, "run": ["epochs", "memory_usage"]},
    }
    assert [columns(row, "created_at") for row in performances(db)] == [
        {
            "id": 1,
            "processing_history": 1,
            **measured,
            "si_snri": 12.5,
            "additional_metrics": {"pesq": 2, **measured["additional_metrics"]},
        },
        {"id": 2, "processing_history": 2, **measured},
        {"id": 3, "processing_history": 3, **measured, "cpu_usage": 50.0},
    ]


@pytest.mark.parametrize(
    ("given", "end", "seconds"),
    [
        ({}, START, None),
        ({"processing_time": 1.5}, START + dt.timedelta(seconds=1.5), 1.5),
        ({"end_time": "2026-11-01T21:00:03+01:00"}, START + dt.timedelta(seconds=3), 3.0),
        (
            {"end_time": START + dt.timedelta(seconds=3), "processing_time": 2},
            START + dt.timedelta(seconds=3),
            2.0,
        ),
    ],
    ids=["neither", "processing time", "end", "both"],
)
def test_end_and_processing_time_follow_from_each_other(
    db: DatabaseManager, given: dict[str, Any], end: dt.datetime, seconds: float | None
) -> None:
    """A recorded run is over; what was not told about its length follows from the rest."""
    row = db.record_run("/a.wav", "x", start_time=START.isoformat(), **given)
    assert (row.start_time, row.end_time) == (START, end)
    assert histories(db)[0].end_time == end
    assert performances(db)[0].processing_time == seconds


def test_a_failure_is_recorded(db: DatabaseManager) -> None:
    """A run that failed elsewhere has its message, in a form that any database holds."""
    message = "no caf\udce9"
    db.record_run("/a.wav", "x", start_time=START, success=False, error_message=message)
    (row,) = histories(db)
    assert (row.status, row.error_message) == ("failed", "no caf\\udce9")


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({}, "success"),
        ({"error_message": ""}, "success"),
        ({"error_message": "OSError: x"}, "failed"),
        ({"error_message": "a warning", "success": True}, "success"),
        ({"success": np.False_}, "failed"),
    ],
    ids=str,
)
def test_a_run_with_an_error_has_failed(
    db: DatabaseManager, told: dict[str, Any], status: str
) -> None:
    """Where nothing else is said, a run succeeded that has no error."""
    db.record_runs([{**RUN, **told}])
    assert histories(db)[0].status == status


def test_sources_are_files_paths_and_urls(db: DatabaseManager, tmp_path: Path) -> None:
    """What is there is read once, what is not there is recorded by its name."""
    mix = write_wav(tmp_path / "mix.wav", 800)
    known = db.add(ProcessedFile(filename="live"))
    new = ProcessedFile(filename="new", original_path=str(tmp_path / "new.wav"))
    for source in (mix, str(mix), "https://example.org/a.wav", "/none.wav", known, new):
        db.record_run(source, "x", start_time=START)
    assert [row.processed_file_id for row in histories(db)] == [2, 2, 3, 4, 1, 5]
    assert [(file.filename, file.duration) for file in files(db)] == [
        ("live", None),
        ("mix.wav", 0.1),
        ("a.wav", None),
        ("none.wav", None),
        ("new", None),
    ]


def test_a_known_file_is_not_read(db: DatabaseManager, tmp_path: Path) -> None:
    """A run that happened elsewhere says nothing about what the file is now."""
    mix = write_wav(tmp_path / "mix.wav", 800)
    before = db.add_audio(mix)
    write_wav(mix, 1600)
    row = db.record_run(mix, "x", start_time=START)
    assert row.source_hash == before.content_hash
    assert files(db)[0].duration == 0.1


def test_what_is_not_finite_is_named_once(db: DatabaseManager) -> None:
    """One warning names the metrics of all runs that were not finite."""
    runs = [
        {
            "source": "/a.wav",
            "operation_type": "x",
            "start_time": START,
            "metrics": {"si_snri": math.nan},
            "outputs": [{"path": "/1.wav", "pesq": math.inf}],
        }
    ] * 2
    with pytest.warns(MetricWarning) as caught:
        assert db.record_runs(runs) == 2
    assert [(str(one.message), one.filename) for one in caught] == [
        ("recorded without a value: si_snri is nan, pesq is inf", __file__)
    ]
    told = [(row.si_snri, row.additional_metrics) for row in performances(db)]
    assert (
        told == [(None, {"run": ["si_snri"], "nonfinite": {"si_snri": "nan", "pesq": "inf"}})] * 2
    )


def test_what_a_dataframe_has_no_value_for_was_not_told(db: DatabaseManager) -> None:
    """Rows of a DataFrame have NaN where others have a note, an end or a speaker."""
    told = ("source", "operation_type", "start_time")
    nothing = dict.fromkeys({*signature(db.record_run).parameters} - {*told}, math.nan)
    assert db.record_runs([RUN, {**nothing, **RUN}]) == 2
    first, second = (row.__data__ | {"id": 0, "run_id": ""} for row in histories(db))
    assert first == second


@pytest.mark.parametrize("nothing", [math.nan, pd.NA, pd.NaT], ids=repr)
def test_an_output_without_a_speaker_in_a_dataframe(db: DatabaseManager, nothing: Any) -> None:
    """The same in the rows of outputs, of which not all have a path or a speaker."""
    ada = db.create_speaker("Ada")
    outputs = [{"path": "/1", "speaker": nothing}, {"path": nothing, "speaker": "Ada"}]
    assert db.record_runs([{**RUN, "outputs": outputs}]) == 1
    first, second = (row.processed_file for row in histories(db))
    assert (first.processed_path, first.speaker_id) == ("/1", None)
    assert (second.processed_path, second.speaker_id) == (None, ada.id)


@pytest.mark.parametrize("of", [np.array, pd.Series])
def test_outputs_are_a_column(db: DatabaseManager, of: Any) -> None:
    """An array's or a column's; of a DataFrame its names would be taken for files."""
    assert db.record_runs([{**RUN, "outputs": of(["/1", "/2"])}, {**RUN, "outputs": of([])}]) == 2
    paths = [row.processed_file.processed_path for row in histories(db)]
    assert paths == ["/1", "/2", None]
    with pytest.raises(errors.InvalidValueError) as caught:
        db.record_run(**RUN, outputs=pd.DataFrame({"path": ["/3"]}))
    assert str(caught.value) == "outputs must be a list of paths or mappings, not path 0 /3"


ZONE_HINT = "use datetime.now(timezone.utc) or .astimezone()"
RUN = {"source": "/a.wav", "operation_type": "x", "start_time": START}
TWICE = {"path": "/1", "pesq": 2}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"model": "demucs"},
            "unknown key 'model'; did you mean 'model_file' or 'model_type' or 'model_version'?",
        ),
        ({"source": ""}, "a recorded run needs source"),
        ({"operation_type": None}, "a recorded run needs operation_type"),
        ({"start_time": None}, "a recorded run needs start_time"),
        ({"start_time": "noon"}, "start_time 'noon' is not an ISO 8601 time"),
        (
            {"start_time": "0001-01-01T00:00:00+14:00"},
            "start_time '0001-01-01T00:00:00+14:00' is in no year that UTC has",
        ),
        (
            {"start_time": dt.datetime(2026, 1, 1)},  # noqa: DTZ001 - what is to be refused
            f"start_time '2026-01-01 00:00:00' has no time zone; {ZONE_HINT}",
        ),
        (
            {"end_time": START - dt.timedelta(seconds=1)},
            "end_time must not lie before start_time",
        ),
        (
            {"processing_time": -1},
            "processing_time must be a number of seconds, 0 or more, not -1",
        ),
        ({"processing_time": 1e12}, "the run would end after the year 9999"),
        ({"parameters": "shifts"}, "parameters must be a mapping, not 'shifts'"),
        ({"metrics": [1]}, "metrics must be a mapping, not [1]"),
        ({"metrics": {"sdri": "x"}}, "sdri must be one number, not 'x'"),
        ({"outputs": "/1.wav"}, "outputs must be a list of paths or mappings, not '/1.wav'"),
        ({"outputs": 3}, "outputs must be a list of paths or mappings, not 3"),
        ({"outputs": [{"pesq": 1}]}, "an output needs a path or a speaker: {'pesq': 1}"),
        ({"outputs": [{"path": "/1", "sdri": 1e9}]}, "sdri must be a finite number of dB, not 1e9"),
        (
            {"outputs": [{"path": "/1", "pesq": 1}, {"path": "/1", "pesq": 2}]},
            f"an output is told twice, and not alike; without a path it is its speaker's: {TWICE}",
        ),
        ({"success": "False"}, "success must be true or false, not 'False'"),
        ({"run_id": 7}, "run_id must be a text, not 7"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_one_wrong_run_keeps_all_out(
    db: DatabaseManager, wrong: dict[str, Any], message: str
) -> None:
    """Nothing is written, and the message says which run is wrong and how."""
    with pytest.raises(errors.InvalidValueError) as caught:
        db.record_runs([RUN, {**RUN, **wrong}])
    assert str(caught.value) == f"run 2: {message.replace('1e9', '1000000000.0')}"
    assert files(db) == histories(db) == performances(db) == []


def test_an_output_that_is_told_twice_alike_is_one(db: DatabaseManager) -> None:
    """What a join of tables doubles is no second value."""
    db.record_runs([{**RUN, "outputs": [TWICE, {**TWICE, "sdri": 3}]}])
    (row,) = performances(db)
    assert (row.additional_metrics, row.sdri) == ({"pesq": 2}, 3)


def test_what_is_no_description_is_refused(db: DatabaseManager) -> None:
    """A run must be a mapping, and its source a path or a file."""
    with pytest.raises(errors.InvalidValueError) as caught:
        db.record_runs(["/a.wav"])  # type: ignore[list-item]
    assert str(caught.value) == "run 1: a run is described by a mapping, not '/a.wav'"
    with pytest.raises(TypeError) as wrong:
        db.record_runs([{**RUN, "source": 3}])
    assert str(wrong.value) == "a source is a path or a ProcessedFile, not 3"
    with pytest.raises(errors.NotFoundError) as gone:
        db.record_runs([{**RUN, "source": ProcessedFile(id=9, filename="a")}])
    assert str(gone.value) == "no file 9; see 'voices list-files'"
    with pytest.raises(errors.NotFoundError) as nobody:
        db.record_runs([RUN, {**RUN, "speaker": "Nobody"}])
    assert str(nobody.value) == "no speaker 'Nobody'; see 'voices list-speakers'"
    assert files(db) == histories(db) == []


def test_a_run_is_not_recorded_twice(db: DatabaseManager) -> None:
    """A run id that is taken, in the database or among the new runs, keeps all out."""
    db.record_run("/a.wav", "x", start_time=START, run_id="one")
    for ids, taken in ((["two", "one"], "one"), (["two", "two"], "two")):
        with pytest.raises(errors.InvalidValueError) as caught:
            db.record_runs({**RUN, "run_id": run_id} for run_id in ids)
        assert str(caught.value) == f"there is a run {taken!r} already"
    assert [row.run_id for row in histories(db)] == ["one"]


def test_each_recording_has_a_moment_of_its_own(db: DatabaseManager) -> None:
    """Of those that are recorded at once no two have one microsecond: a merge goes by it."""
    run = {"operation_type": "sep", "start_time": "2026-11-01T12:00:00Z"}
    db.record_runs({**run, "source": f"/m/{number}.wav"} for number in range(1000))
    assert len({file.created_at for file in db.get_all(ProcessedFile)}) == 1000


def test_no_runs_are_fine(db: DatabaseManager) -> None:
    """Recording nothing writes nothing."""
    assert db.record_runs(iter(())) == 0
    assert histories(db) == []


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_questions_do_not_grow_with_the_runs(db: DatabaseManager, tmp_path: Path) -> None:
    """Many runs of known recordings take a fixed number of questions, and one transaction."""
    db.create_speaker("Ada")
    runs = [{**RUN, "source": f"/{n}.wav", "speaker": "Ada"} for n in range(100)]
    db.record_runs(runs)
    statements: list[str] = []
    db.store.connection().set_trace_callback(statements.append)
    db.record_runs(runs)
    db.store.connection().set_trace_callback(None)
    verbs = [verb for verb, _ in itertools.groupby(text.split()[0] for text in statements)]
    assert verbs == ["SELECT", "BEGIN", "SELECT", "INSERT", "COMMIT"]
    assert sum(text.startswith("SELECT") for text in statements) < 12


# The same as ``track``

OUTPUTS = st.lists(
    st.tuples(st.sampled_from(["1", "2", "3"]), st.sampled_from([None, 1, 2])),
    max_size=3,
    unique_by=lambda output: output[0],
)
NIGHT = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([None, 1, 2]), OUTPUTS),
    min_size=1,
    max_size=6,
)
Night = list[tuple[str, int | None, list[tuple[str, int | None]]]]


def rows_below(db: DatabaseManager, folder: str) -> list[Any]:
    """Return the runs of sources below a folder with their files, told without ids, and how many
    files there are.
    """
    sources = [f"{folder}/{name}" for name in "ab"]
    query = db.query(ProcessedFile).where(ProcessedFile.original_path.in_(sources))
    mine = {file.id: file for file in query.order_by(ProcessedFile.id)}
    order = list(mine)
    column = ProcessingHistory.processed_file
    found: list[Any] = [len(mine)]
    for row in db.query(ProcessingHistory).where(column.in_(order)).order_by(ProcessingHistory.id):
        file = mine[row.processed_file_id]
        paths = (str(file.original_path), file.processed_path or "")
        names = (path.removeprefix(folder) for path in paths)
        found.append((*names, file.speaker_id, file.kind))
    return found


def track_all(db: DatabaseManager, folder: str, night: Night) -> None:
    for source, speaker, outputs in night:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutputWarning)
            with db.track(f"{folder}/{source}", "x", speaker=speaker) as run:
                for path, whose in outputs:
                    run.output(f"{folder}/out/{path}", speaker=whose)


def described(folder: str, night: Night) -> Iterator[dict[str, Any]]:
    for source, speaker, outputs in night:
        yield {
            "source": f"{folder}/{source}",
            "operation_type": "x",
            "start_time": START,
            "speaker": speaker,
            "outputs": [
                {"path": f"{folder}/out/{path}", "speaker": whose} for path, whose in outputs
            ],
        }


def test_recorded_runs_are_filed_as_tracked_ones(db: DatabaseManager) -> None:
    """Any night gives the same rows, whether tracked, recorded one by one, or all at once."""
    db.add_all([Speaker(name="Ada"), Speaker(name="Bob")])
    numbers = itertools.count()

    @settings(deadline=None, max_examples=30)
    @given(first=NIGHT, second=NIGHT, known=st.sampled_from([None, 1]))
    def check(first: Night, second: Night, known: int | None) -> None:
        tracked, single, many, mixed = (f"/{next(numbers)}" for _ in range(4))
        for folder in (tracked, single, many, mixed):
            db.add(ProcessedFile(filename="a", original_path=f"{folder}/a", speaker=known))
        for night in (first, second):
            track_all(db, tracked, night)
            db.record_runs(described(many, night))
            for run in described(single, night):
                db.record_run(**run)
        track_all(db, mixed, first)
        db.record_runs(described(mixed, second))
        wanted = rows_below(db, tracked)
        for folder in (single, many, mixed):
            assert rows_below(db, folder) == wanted

    check()


@pytest.mark.parametrize("speaker", [["Ada"], {"Ada"}, {"name": "Ada"}, 1.5], ids=repr)
def test_what_names_no_speaker_is_one_sentence(db: DatabaseManager, speaker: object) -> None:
    """A speaker that is no name, id or object is refused alike by one run and by many."""
    told = {"source": "a.wav", "operation_type": "separation", "start_time": "2026-01-01T00Z"}
    for wrong in ({"speaker": speaker}, {"outputs": [{"speaker": speaker}]}):
        for record in (lambda run: db.record_run(**run), lambda run: db.record_runs([told, run])):
            with pytest.raises(errors.NotFoundError) as caught:
                record({**told, **wrong})
            assert str(caught.value) == f"no speaker {speaker!r}; see 'voices list-speakers'"
    assert db.get_all(ProcessedFile) == []
