"""What failed, and what the failures have in common."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from support.run_rows import START, add_run
from support.shown import shown

from voices_peewee import DatabaseManager, ProcessedFile, Speaker
from voices_peewee.errors import InvalidValueError, NotFoundError, QueryError
from voices_peewee.questions.failures import Failure
from voices_peewee.search.words import EXPECTED

HOUR = dt.timedelta(hours=1)
TRACE = "RuntimeError: CUDA out of memory\n\nTraceback (most recent call last):\n  …"


def fail(db: DatabaseManager, message: str | None, path: str = "/mix/1.wav", **run: Any) -> int:
    settings = {"error_message": message, **run.pop("run", {})}
    return add_run(db, path, status="failed", run=settings, **run).id


def test_failures_are_grouped_by_their_first_line(db: DatabaseManager) -> None:
    """Runs that ended alike are one line; of equally frequent ones the newest comes first."""
    for hours, model in enumerate(["demucs:4.0", "svoice:1.2", "svoice:1.2"]):
        fail(db, f"{TRACE}{hours}", f"/mix/{hours}.wav", hours=hours, model=model)
    fail(db, "OSError: no room", hours=8)
    newest = fail(db, "interrupted", hours=9, run={"run_id": "a" * 32})
    add_run(db, status="unfinished")
    add_run(db)
    memory, interrupted, older = db.failures()
    assert memory == Failure(
        error="RuntimeError: CUDA out of memory",
        error_type="RuntimeError",
        message="CUDA out of memory",
        count=3,
        models=("svoice:1.2", "demucs:4.0"),
        newest=START + dt.timedelta(hours=2),
        run_id=memory.run_id,
        history_id=3,
        path="/mix/2.wav",
    )
    assert interrupted == Failure(
        error="interrupted",
        error_type="interrupted",
        message="",
        count=1,
        models=("demucs:4.0",),
        newest=START + dt.timedelta(hours=9),
        run_id="a" * 32,
        history_id=newest,
        path="/mix/1.wav",
    )
    assert older.error == "OSError: no room"


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("ValueError: a\nb", "ValueError: a"),
        ("\n\n  KeyError: 'x'  \nmore", "KeyError: 'x'"),
        (None, "(no error message)"),
        ("ValueError: é\r\nmore", "ValueError: é"),
    ],
)
def test_the_first_line_of_an_error(db: DatabaseManager, message: str | None, error: str) -> None:
    """Blank lines before it and spaces around it do not make another error."""
    fail(db, message)
    assert [one.error for one in db.failures()] == [error]


@pytest.mark.parametrize(
    ("filters", "errors"),
    [
        ({"since": START + dt.timedelta(hours=2)}, ["C: 1"]),
        ({"since": START + HOUR, "until": START + 2 * HOUR}, ["B: 1"]),
        ({"since": "2026-11-01T13", "until": "2026-11-01T13"}, ["B: 1"]),
        ({"since": "2026-11-01T13:00:00Z", "until": "2026-11-01T14:00:00Z"}, ["C: 1", "B: 1"]),
        ({"until": dt.date(2026, 11, 1)}, ["C: 1", "B: 1", "A: 1"]),
        ({"model_type": "svoice"}, ["B: 1"]),
        ({"model_version": "4.0"}, ["C: 1", "A: 1"]),
        ({"operation_type": "denoising"}, ["C: 1"]),
        ({"speaker": "Ada"}, ["A: 1"]),
    ],
    ids=["since", "between", "hour", "with", "day", "type", "version", "operation", "speaker"],
)
def test_filters_choose_failures(
    db: DatabaseManager, filters: dict[str, Any], errors: list[str]
) -> None:
    """Only the runs that the filters name are grouped."""
    fail(db, "A: 1", speaker=Speaker(name="Ada"))
    fail(db, "B: 1", hours=1, model="svoice:1.2")
    fail(db, "C: 1", hours=2, run={"operation_type": "denoising"})
    assert [one.error for one in db.failures(**filters)] == errors


def test_times_are_said_as_in_a_query(db: DatabaseManager) -> None:
    """Since and until take yesterday, -7d and 2026-11 too, and a text includes what it names."""
    fail(db, "old: 1")
    with suppress(ValueError), db.track("/mix/2.wav", "voice_separation", model_type="svoice"):
        raise ValueError(1)
    assert [one.error for one in db.failures(since="yesterday")] == ["ValueError: 1"]
    assert [one.error for one in db.failures(since="-1h", until="now")] == ["ValueError: 1"]
    assert [one.error for one in db.failures(until="2026-11-01")] == ["old: 1"]
    assert not db.failures(until=f"{START.year - 1}")
    assert len(db.leaderboard("processing_time", since="-1h").rows) == 1


def test_filters_that_cannot_be(db: DatabaseManager) -> None:
    """An unknown speaker and a time without a zone are refused."""
    with pytest.raises(NotFoundError, match=r"^no speaker 'Eve'; see 'voices list-speakers'$"):
        db.failures(speaker="Eve")
    message = (
        r"^start_time '2026-11-01 12:00:00' has no time zone; "
        r"use datetime.now\(timezone.utc\) or .astimezone\(\)$"
    )
    with pytest.raises(InvalidValueError, match=message):
        db.failures(since=START.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("period", "sentence"),
    [
        ({"since": "tomorrow"}, f"since 'tomorrow' cannot be read; it takes {EXPECTED['time']}"),
        ({"until": 5}, f"until 5 cannot be read; it takes {EXPECTED['time']}"),
        ({"since": "2026-02", "until": "2026-01"}, "the end lies before the beginning"),
        ({"since": START + HOUR, "until": START}, "the end lies before the beginning"),
    ],
    ids=["word", "number", "words", "times"],
)
def test_a_period_that_cannot_be_is_refused(
    db: DatabaseManager, period: dict[str, Any], sentence: str
) -> None:
    """A time that is none, and a period that ends before it begins, get one sentence."""
    for question in (db.failures, db.leaderboard, partial(db.compare, "a", "b")):
        with pytest.raises(QueryError) as caught:
            question(**period)
        assert str(caught.value) == sentence


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_failures_read_only_what_failed(db: DatabaseManager) -> None:
    """The failures of a night are found without reading all that succeeded."""
    fail(db, TRACE)
    seen: list[str] = []
    connection = db.store.connection()
    connection.set_trace_callback(seen.append)
    db.failures(since=START)
    connection.set_trace_callback(None)
    (statement,) = seen
    plan = [row["detail"] for row in db.execute_raw_query(f"EXPLAIN QUERY PLAN {statement}")]
    assert plan[0] == "SEARCH t1 USING INDEX processing_history_failed (start_time>?)"
    assert (
        "SEARCH t2 USING INDEX processing_history_processed_file_id (processed_file_id=?)" in plan
    )
    assert not [step for step in plan if step.startswith("SCAN")]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("OSError: no room, 12 of 4096.5 MB left", "OSError: no room, 7 of 1e3 MB left"),
        ("RuntimeError: <Model at 0x7f00ab>", "RuntimeError: <Model at 0x5e11cd>"),
        ("FileNotFoundError: [Errno 2] '/a/b c.wav'", "FileNotFoundError: [Errno 2] '/x y/d.wav'"),
        ("ValueError: stems/one/ada.wav is silent", "ValueError: stems/two/bob.wav is silent"),
        ("ValueError: cannot read 'ada.flac'", "ValueError: cannot read 'bob and eve.flac'"),
        ("HTTPError: 502 of https://host/a?b=1", "HTTPError: 503 of https://other/c"),
    ],
    ids=["numbers", "addresses", "quoted paths", "paths", "names", "URLs"],
)
def test_errors_that_differ_in_names_and_numbers_are_one(
    db: DatabaseManager, first: str, second: str
) -> None:
    """What differs by a file's name, a number or an address is one failure, the newest shown."""
    fail(db, first)
    fail(db, second, "/mix/2.wav", hours=1)
    assert [(one.error, one.count) for one in db.failures()] == [(second, 2)]


def test_the_recording_s_own_name_is_put_aside(db: DatabaseManager) -> None:
    """A name without slash or quotes is put aside where it is the recording's own."""
    for name in ("Ada in the hall.wav", "Bob.wav"):
        fail(db, f"ValueError: {name} is silent", f"/mix/{name}", file={"filename": name})
    fail(db, "ValueError: all is silent", "/mix/3.wav")
    assert [one.count for one in db.failures()] == [2, 1]


def test_a_run_counts_once_whatever_its_stems_say(db: DatabaseManager) -> None:
    """A run whose rows failed in different ways is one failure, by its first row."""
    for message in ("ValueError: first", "OSError: second"):
        fail(db, message, run={"run_id": "one"})
    assert [(one.error, one.count) for one in db.failures()] == [("ValueError: first", 1)]


CURES: dict[str, tuple[dict[str, Any], bool]] = {
    "same settings": ({"hours": 1}, True),
    "another environment": (
        {"hours": 1, "run": {"parameters": {"a": 1, "environment": {"host": "x"}, "b": 2}}},
        True,
    ),
    "1 and 1.0, in another order": ({"hours": 1, "run": {"parameters": {"b": 2.0, "a": 1}}}, True),
    "a text": ({"hours": 1, "run": {"parameters": {"a": "1", "b": 2}}}, False),
    "no model": ({"hours": 1, "model": None}, False),
    "before": ({"hours": -1}, False),
    "another model": ({"hours": 1, "model": "svoice:1.2"}, False),
    "another version": ({"hours": 1, "model": "demucs:4.1"}, False),
    "other parameters": ({"hours": 1, "run": {"parameters": {"a": 1}}}, False),
    "another operation": ({"hours": 1, "run": {"operation_type": "denoising"}}, False),
    "another recording": ({"hours": 1, "path": "/mix/2.wav"}, False),
    "unfinished": ({"hours": 1, "status": "unfinished"}, False),
}


@pytest.mark.parametrize("case", CURES)
def test_what_a_later_run_made_good_is_left_out(db: DatabaseManager, case: str) -> None:
    """A failed run is over when a later one of the same settings succeeded; all brings it back."""
    later, cured = CURES[case]
    settings = {"parameters": {"a": 1, "b": 2}}
    failed = add_run(db, status="failed", run=settings)
    recording = failed.processed_file
    path = later.pop("path", recording.original_path)
    file = {"recording": recording.id} if path == recording.original_path else {}
    add_run(db, path, file=file, **{**later, "run": {**settings, **later.get("run", {})}})
    found = db.failures()
    assert ([one.count for one in found], found.cured) == (([], 1) if cured else ([1], 0))
    assert ([one.count for one in db.failures(all=True)], db.failures(all=True).cured) == ([1], 0)


def test_a_run_with_a_failed_stem_makes_nothing_good(db: DatabaseManager) -> None:
    """Only a run that succeeded as a whole is a cure."""
    recording = add_run(db, status="failed").processed_file
    for status in ("success", "failed"):
        file = {"recording": recording.id}
        add_run(db, hours=1, status=status, file=file, run={"run_id": "later"})
    assert db.failures().cured == 0
    assert sum(one.count for one in db.failures()) == 2


@pytest.mark.sqlite("a server keeps such values out")
def test_what_another_program_wrote_is_no_traceback(db: DatabaseManager) -> None:
    """Parameters that are no JSON are the same as themselves only; a time that is none is None."""
    row = add_run(db, status="failed")
    change = "UPDATE processing_history SET parameters = ?, start_time = '05/05/2026'"
    db.execute_raw_query(change, ("{'s': 0}",), write=True)
    add_run(db, hours=1, file={"recording": row.processed_file_id})
    assert [(one.count, one.newest) for one in db.failures()] == [(1, None)]
    assert db.failures().to_dataframe()["newest"].isna().all()


OWNERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "the row's own": ({"own": "Ada", "recording": "Bob"}, ["Ada"]),
    "the recording's": ({"recording": "Bob", "references": ["Ada"]}, ["Bob"]),
    "the references'": ({"references": ["Ada", "Eve"], "stem": "Bob"}, ["Ada", "Eve"]),
    "the stems' of other runs": ({"stem": "Bob"}, ["Bob"]),
    "nobody's": ({}, []),
}


@pytest.mark.parametrize("case", OWNERS)
def test_whose_a_failure_is(db: DatabaseManager, case: str) -> None:
    """A failure belongs to the run's speakers, else the recording's, the references' or stems'."""
    given, owners = OWNERS[case]
    speakers = {name: db.create_speaker(name) for name in ("Ada", "Bob", "Eve")}
    references = {name: f"/ref/{name}.wav" for name in given.get("references", ())}
    recording = db.add(
        ProcessedFile(
            filename="mix.wav",
            original_path="/mix.wav",
            speaker=speakers.get(given.get("recording", "")),
            metadata={"references": references} if references else {},
        )
    )
    voice = {"recording": recording.id}
    fail(db, "ValueError: no", "/mix.wav", speaker=speakers.get(given.get("own", "")), file=voice)
    if "stem" in given:
        stem = {**voice, "processed_path": "/stem.wav"}
        add_run(db, "/mix.wav", "svoice:1", speaker=speakers[given["stem"]], file=stem)
    assert [name for name in speakers if db.failures(speaker=name)] == owners
    assert db.failures(speaker="Eve").without_speaker == (0 if owners else 1)


def test_query_words_narrow_failures(db: DatabaseManager) -> None:
    """``where`` takes the words of the list of runs; an unknown field is named."""
    fail(db, "A: 1", run={"parameters": {"shifts": 2}})
    fail(db, "B: 1", "/hall/2.wav", hours=1)
    assert [one.error for one in db.failures(where="parameters.shifts:2")] == ["A: 1"]
    assert [one.error for one in db.failures(where=["hall"])] == ["B: 1"]
    with pytest.raises(QueryError, match=r"^unknown .*field 'shits'"):
        db.failures(where="shits:2")


def test_failures_as_a_table(db: DatabaseManager) -> None:
    """A notebook shows what failed and how often; a frame has every column, even when empty."""
    none = db.failures().to_dataframe()
    fail(db, TRACE, model="demucs <b>:1")
    found = db.failures()
    page = shown(found)
    row = dict(zip(*page.rows, strict=True))
    assert "RuntimeError: CUDA out of memory" in row.values()
    assert page.words == ["1 row"]
    frame = found.to_dataframe()
    assert list(frame) == list(none)
    assert frame.dtypes.equals(none.dtypes)
    assert frame.loc[0, ["error", "count", "history_id"]].tolist() == [found[0].error, 1, 1]
    assert frame.loc[0, "newest"] == START


def test_a_blob_in_an_error_takes_no_time(db: DatabaseManager) -> None:
    """A dumped tensor or file in an error does not hold the question up."""
    for number in range(2):
        with suppress(ValueError), db.track(f"/{number}.wav", "separation"):
            raise ValueError("x" * 200_000)
    (failure,) = db.failures()
    assert failure.count == 2
