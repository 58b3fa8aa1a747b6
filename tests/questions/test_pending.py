"""What is left to do."""

from __future__ import annotations

import datetime as dt
import os
import resource
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databases import NO_ROOM_FOR, ON_SERVER
from support.run_rows import add_run
from support.shown import shown

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory
from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.records.audio_files import content_hash
from voices_peewee.runs.process import process_facts

OTHER = "other version or parameters"


def left(db: DatabaseManager, *sources: Any, **settings: Any) -> dict[Any, str]:
    """Return the sources that are pending for demucs:4.0 with their reasons."""
    wanted = {"model_type": "demucs", "model_version": "4.0", **settings}
    return dict(db.pending(sources, "voice_separation", **wanted).with_reasons())


def reason(db: DatabaseManager, source: Any = "/mix/1.wav", **settings: Any) -> str | None:
    return left(db, source, **settings).get(source)


def plan(db: DatabaseManager, statement: str) -> list[str]:
    return [row["detail"] for row in db.execute_raw_query(f"EXPLAIN QUERY PLAN {statement}")]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "mix.wav"
    path.write_bytes(b"first")
    _age(path)
    return path


def _age(path: Path) -> None:
    """Wait until a run that begins now is surely younger than the file."""
    os.utime(path, (time.time() - 60,) * 2)


def processed(db: DatabaseManager, path: Path, **run: Any) -> ProcessingHistory:
    """Write a successful run of a file as it is, which began ``hours`` from now."""
    start = dt.datetime.now(dt.UTC) + dt.timedelta(hours=run.pop("hours", 0))
    times = {"start_time": start, "end_time": start}
    return add_run(db, str(path), run={**times, "source_hash": content_hash(path), **run})


def test_sources_come_in_order_with_their_reasons(db: DatabaseManager) -> None:
    """Each source without a successful run of these settings comes with what its runs came to."""
    add_run(db, "/mix/done.wav")
    add_run(db, "/mix/failed.wav", status="failed")
    add_run(db, "/mix/unfinished.wav", status="unfinished")
    add_run(db, "/mix/version.wav", "demucs:4.1")
    add_run(db, "/mix/unversioned.wav", "demucs")
    add_run(db, "/mix/parameters.wav", run={"parameters": {"shifts": 2}})
    add_run(db, "/mix/model.wav", "svoice:4.0")
    add_run(db, "/mix/operation.wav", run={"operation_type": "denoising"})
    expected: dict[str, str | None] = {
        "new": "never run",
        "operation": "never run",
        "unfinished": "unfinished",
        "done": None,
        "failed": "failed",
        "version": OTHER,
        "unversioned": OTHER,
        "parameters": OTHER,
        "model": "never run",
    }
    found = left(db, *(f"/mix/{name}.wav" for name in expected))
    reasons = [(f"/mix/{name}.wav", why) for name, why in expected.items() if why is not None]
    assert list(found.items()) == reasons


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (["failed", "unfinished"], "unfinished"),
        (["unfinished", "failed"], "failed"),
        (["failed", "success"], None),
        (["failed", "other"], "failed"),
        (["other", "other"], OTHER),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_the_latest_run_of_these_settings_decides(
    db: DatabaseManager, runs: list[str], expected: str | None
) -> None:
    """One success is enough; else the latest run says why, and others only where there is none."""
    for hours, status in reversed(list(enumerate(runs))):
        if status == "other":
            add_run(db, model="demucs:3", hours=hours)
        else:
            add_run(db, hours=hours, status=status)
    assert reason(db) == expected


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["success", "unfinished"], "unfinished"),
        (["success", "failed"], "failed"),
        (["success", "success"], None),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_a_run_is_done_when_all_its_stems_are(
    db: DatabaseManager, statuses: list[str], expected: str | None
) -> None:
    """A run that was killed between two outputs is not a success."""
    for status in statuses:
        add_run(db, status=status, run={"run_id": "one"})
    assert reason(db) == expected


def test_no_model_and_no_version_are_settings_too(db: DatabaseManager) -> None:
    """None asks for runs that name no model or no version, not for any."""
    add_run(db, "/mix/bare.wav", None)
    add_run(db, "/mix/model.wav", "demucs")
    add_run(db, "/mix/both.wav", "demucs:4.0")
    sources = ("/mix/bare.wav", "/mix/model.wav", "/mix/both.wav")
    bare = left(db, *sources, model_type=None, model_version=None)
    assert bare == {"/mix/model.wav": "never run", "/mix/both.wav": "never run"}
    unversioned = left(db, *sources, model_version=None)
    assert unversioned == {"/mix/bare.wav": "never run", "/mix/both.wav": OTHER}


def test_sources_come_as_they_were_given(
    db: DatabaseManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts, paths, URLs and files come back themselves, a recording no more than once."""
    monkeypatch.chdir(tmp_path)
    row = db.add(ProcessedFile(filename="a.wav", original_path=str(tmp_path / "a.wav")))
    unnamed = db.add(ProcessedFile(filename="stream"))
    sources = ["a.wav", Path("b.wav"), "./b.wav", row, "https://host/c.wav", unnamed, unnamed]
    found = list(db.pending(sources, "voice_separation"))
    assert [sources.index(one) for one in found] == [0, 1, 4, 5]
    assert all(any(one is source for source in sources) for one in found)


def test_sources_are_found_however_they_are_named(
    db: DatabaseManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is found by a relative path, a path object, a URL, a file row and strange bytes."""
    monkeypatch.chdir(tmp_path)
    strange = os.fsdecode(b"caf\xe9.wav")
    rows = [
        add_run(db, name).processed_file
        for name in (str(tmp_path / "a.wav"), str(tmp_path / strange), "s3://bucket//b.wav")
    ]
    unnamed = add_run(db, None).processed_file
    sources = ["a.wav", Path("a.wav"), strange, "s3://bucket//b.wav", *rows, unnamed]
    assert left(db, *sources) == {}
    assert left(db, "s3://bucket/b.wav") == {"s3://bucket/b.wav": "never run"}


def test_a_stem_is_given_by_its_path(db: DatabaseManager) -> None:
    """A stem's row stands for its recording, of which only one would be handed out."""
    add_run(db, "/mix/1.wav")
    with db.track("/mix/1.wav", "separation") as run:
        stem = run.output("/stem.wav")
    with pytest.raises(InvalidValueError) as caught:
        list(db.pending([stem], "denoising"))
    assert str(caught.value) == (
        "'/stem.wav' is a stem: give its path to have it processed, or its recording"
    )
    assert list(db.pending([stem.processed_path], "denoising")) == ["/stem.wav"]


def test_the_iterator_tells_the_reason_of_the_last_source(db: DatabaseManager) -> None:
    """A loop over sources may ask for the reason, and go on with pairs."""
    add_run(db, "/mix/b.wav", status="failed")
    sources = ["/mix/a.wav", "/mix/b.wav", "/mix/c.wav"]
    found = db.pending(sources, "voice_separation", model_type="demucs", model_version="4.0")
    assert found.reason is None
    assert (next(found), found.reason) == ("/mix/a.wav", "never run")
    assert (next(found), found.reason) == ("/mix/b.wav", "failed")
    assert list(found.with_reasons()) == [("/mix/c.wav", "never run")]


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_sources_are_taken_as_they_are_asked_for(db: DatabaseManager) -> None:
    """An endless iterator of sources is taken one by one."""
    for number in range(50):
        add_run(db, f"/mix/{number}.wav", status="success" if number % 2 else "failed")
    taken: list[int] = []

    def sources() -> Iterator[str]:
        for number in count():
            taken.append(number)
            yield f"/mix/{number}.wav"

    statements: list[str] = []
    connection = db.store.connection()
    connection.set_trace_callback(statements.append)
    found = db.pending(sources(), "voice_separation", model_type="demucs", model_version="4.0")
    assert (taken, statements) == ([], [])
    assert next(found) == "/mix/0.wav"
    assert taken == [0]
    assert [next(found) for _ in range(19)] == [f"/mix/{number}.wav" for number in range(2, 40, 2)]
    connection.set_trace_callback(None)
    assert taken == list(range(39))
    assert len(statements) == 1 + 39 + 20  # claims; what is seen of each, and what failed


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_few_sources_are_looked_up(db: DatabaseManager) -> None:
    """What a list of sources costs does not grow with the runs of other sources."""
    for number in range(50):
        add_run(db, f"/mix/{number}.wav")
    nameless = db.add(ProcessedFile(filename="stream"))
    db.add(ProcessingHistory(processed_file=nameless, operation_type="voice_separation"))
    statements: list[str] = []
    connection = db.store.connection()
    connection.set_trace_callback(statements.append)
    sources = ["/mix/7.wav", "/mix/new.wav", nameless]
    found = db.pending(sources, "voice_separation", model_type="demucs", model_version="4.0")
    assert list(found) == ["/mix/new.wav", nameless]
    connection.set_trace_callback(None)
    runs = "SEARCH run USING INDEX processing_history_processed_file_id (processed_file_id=?)"
    assert [plan(db, statement) for statement in statements] == [
        ["SCAN claims"],
        ["SEARCH file USING COVERING INDEX processed_files_original_path (original_path=?)", runs],
        ["SEARCH file USING INTEGER PRIMARY KEY (rowid=?)", runs],
    ]


@pytest.mark.sqlite("counts statements through sqlite3")
def test_what_is_done_is_judged_by_the_database(db: DatabaseManager) -> None:
    """A list is looked at 500 at a time, in one query where parameters are written as seen."""
    for number in range(3):
        parameters = {"a": 1, "b": 2} if number else {"b": 2.0, "a": 1}
        add_run(db, f"/mix/{number}.wav", run={"parameters": parameters})
    sources = [f"/mix/{number % 3}.wav" for number in range(1500)]
    statements: list[str] = []
    db.store.connection().set_trace_callback(statements.append)
    assert left(db, *sources, parameters={"a": 1, "b": 2}) == {}
    db.store.connection().set_trace_callback(None)
    assert len(statements) == 1 + 2 + 2  # claims, the first 500, the others


@pytest.mark.parametrize(
    ("stored", "asked", "same"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 10**30}, {"a": 1e30}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": None}, {}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": -0.0}, {"a": 0}, True),
        ({"a": float("nan")}, {"a": float("nan")}, True),
        ({"a": Path("/x")}, {"a": "/x"}, True),
        ({"a": 1, "environment": {"host": "x"}}, {"a": 1}, True),
        ({}, None, True),
    ],
)
def test_parameters_compare_as_json_values(
    db: DatabaseManager, stored: dict[str, Any], asked: dict[str, Any] | None, same: bool
) -> None:
    """Order of keys, kind of number and environment make no difference; all else does."""
    add_run(db, run={"parameters": stored})
    assert reason(db, parameters=asked) == (None if same else OTHER)


# A server stores numbers as decimals: large floats come back as other integers.
json_floats = st.floats(-1e15, 1e15) if ON_SERVER else st.floats()
json_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=NO_ROOM_FOR))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | json_floats | json_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(json_texts, inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parameters=st.dictionaries(json_texts, json_values, max_size=4))
def test_what_was_stored_is_found_again(db: DatabaseManager, parameters: dict[str, Any]) -> None:
    """Whatever JSON the parameters are, a run with them is a run with them."""
    row = add_run(db, run={"parameters": parameters})
    reordered = dict(reversed(parameters.items()))
    found = reason(db, parameters=reordered)
    db.delete(row.processed_file)
    assert found is None


def test_a_file_that_changed_is_pending_again(db: DatabaseManager, recording: Path) -> None:
    """Another size, or the same size with other bytes, is another recording to process."""
    processed(db, recording)
    assert reason(db, recording) is None
    recording.write_bytes(b"second")
    assert reason(db, recording) == "content changed"
    recording.write_bytes(b"other")
    assert reason(db, recording) == "content changed"
    recording.write_bytes(b"first")
    assert reason(db, recording) is None


def test_a_file_that_took_the_place_of_another_is_pending(
    db: DatabaseManager, recording: Path, tmp_path: Path
) -> None:
    """A file of the same size and an old time is noticed by when it came there."""
    processed(db, recording)
    other = tmp_path / "other.wav"
    other.write_bytes(b"other")
    os.utime(other, (1, 1))
    other.rename(recording)
    assert reason(db, recording) == "content changed"


def test_only_exact_reads_a_file_that_seems_unchanged(db: DatabaseManager, recording: Path) -> None:
    """Where size and times say that a file is older than the run, only ``exact`` reads it."""
    processed(db, recording, hours=1)
    recording.write_bytes(b"other")
    assert reason(db, recording) is None
    assert reason(db, recording, exact=True) == "content changed"
    recording.write_bytes(b"first")
    assert reason(db, recording, exact=True) is None


def test_a_run_on_the_new_content_settles_it(db: DatabaseManager, recording: Path) -> None:
    """After a change, a run on what is there now is enough, and so is one on what came back."""
    first = processed(db, recording)
    recording.write_bytes(b"other")
    _age(recording)
    second = processed(db, recording)
    assert first.source_hash != second.source_hash
    assert reason(db, recording) is None
    recording.write_bytes(b"first")
    assert reason(db, recording) is None
    recording.write_bytes(b"third")
    assert reason(db, recording) == "content changed"


def test_a_failure_after_a_change_is_the_reason(db: DatabaseManager, recording: Path) -> None:
    """The latest run of these settings says why, also where an older one saw other content."""
    processed(db, recording)
    recording.write_bytes(b"second")
    processed(db, recording, success=False, hours=1)
    assert reason(db, recording) == "failed"


@pytest.mark.parametrize("place", ["gone", "folder", "loop", "without a hash"])
def test_what_cannot_be_compared_has_not_changed(
    db: DatabaseManager, recording: Path, place: str
) -> None:
    """What is gone, something else now, or was never hashed is not said to have changed."""
    processed(db, recording, **({"source_hash": None} if place == "without a hash" else {}))
    recording.unlink()
    if place == "without a hash":
        recording.write_bytes(b"other")
    elif place == "folder":
        recording.mkdir()
    elif place == "loop":
        recording.symlink_to(recording)
    assert reason(db, recording) is None
    assert reason(db, recording, exact=True) is None


def test_a_file_that_cannot_be_read_has_not_changed(db: DatabaseManager, recording: Path) -> None:
    """Where reading fails, nobody can tell that the content changed."""
    processed(db, recording)
    assert reason(db, recording) is None  # and its modules are there, which take files too
    recording.write_bytes(b"other")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # nothing more can be opened
    try:
        found = reason(db, recording)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found is None
    assert reason(db, recording) == "content changed"


def test_a_tracked_run_is_not_pending(db: DatabaseManager, recording: Path) -> None:
    """What ``track`` records is found: a success, a failure, and a change of the file."""
    settings: dict[str, Any] = {"model_version": 4.0, "parameters": {"shifts": 2}}
    settings["model_type"] = "demucs"

    def run() -> str | None:
        return reason(db, recording, **settings)

    assert run() == "never run"
    with pytest.raises(ZeroDivisionError), db.track(recording, "voice_separation", **settings):
        raise ZeroDivisionError
    assert run() == "failed"
    with db.track(recording, "voice_separation", **settings) as tracked:
        assert run() == "being worked on"
        tracked.output(recording.with_name("a.wav"), si_snri=9.0)
        tracked.output(recording.with_name("b.wav"), si_snri=9.0)
    assert run() is None
    recording.write_bytes(b"other")
    assert run() == "content changed"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"operation_type": " "}, InvalidValueError, "a run needs an operation_type"),
        ({"operation_type": None}, InvalidValueError, "a run needs an operation_type"),
        ({"parameters": [1]}, InvalidValueError, "parameters must be a mapping, not [1]"),
    ],
    ids=["blank", "operation", "parameters"],
)
def test_what_cannot_be_asked(
    db: DatabaseManager, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Wrong settings are refused at once, before anything is iterated."""
    with pytest.raises(error) as caught:
        db.pending([], **{"operation_type": "voice_separation", **arguments})
    assert str(caught.value) == message


def test_a_source_is_a_path_or_a_file(db: DatabaseManager) -> None:
    """Anything else is a programmer's mistake, and so is one source in the place of many."""
    with pytest.raises(TypeError, match=r"^a source is a path or a ProcessedFile, not 3$"):
        list(db.pending([3], "voice_separation"))
    with pytest.raises(InvalidValueError, match=r"^a path must not be empty$"):
        list(db.pending([""], "voice_separation"))
    one: Any
    for one in ("mix.wav", Path("mix.wav"), b"mix.wav", ProcessedFile()):
        with pytest.raises(TypeError) as caught:
            db.pending(one, "voice_separation")
        assert str(caught.value) == f"sources must be a list of paths or files, not {one!r}"


def test_a_folder_and_a_pattern_are_no_files(db: DatabaseManager, tmp_path: Path) -> None:
    """A folder, and a pattern that matched nothing, are refused instead of being pending."""
    with pytest.raises(InvalidValueError) as caught:
        left(db, str(tmp_path))
    assert str(caught.value) == f"{str(tmp_path)!r} is a folder; name the files in it"
    for pattern in ("mix/*.wav", "mix/00?.wav", "mix/[ab].wav"):
        with pytest.raises(InvalidValueError) as caught:
            left(db, pattern)
        assert str(caught.value) == f"no file matches {pattern!r}"
    real = tmp_path / "take [2].wav"
    real.touch()
    assert left(db, real, "https://host/a?b=*") == {
        real: "never run",
        "https://host/a?b=*": "never run",
    }


def test_a_list_in_utf_16_is_refused(db: DatabaseManager) -> None:
    """A path with a NUL is no file's: it is not one that was never run."""
    with pytest.raises(InvalidValueError) as caught:
        list(db.pending(["/\0m\0i\0x\0"], "separation"))
    assert str(caught.value) == (
        r"no file can be called '/\x00m\x00i\x00x\x00': "
        "it has a NUL, as lists in UTF-16 have, and those for -0"
    )


@pytest.mark.sqlite("a server keeps what is no JSON out")
def test_what_another_program_wrote_is_another_setting(
    db: DatabaseManager, recording: Path
) -> None:
    """Parameters that are no JSON are other parameters; a time that is none has the file read."""
    row = processed(db, recording)
    query = "UPDATE processing_history SET parameters = ?"
    db.execute_raw_query("UPDATE processing_history SET start_time = '05/05/2026'", write=True)
    assert reason(db, recording) is None
    recording.write_bytes(b"other")
    assert reason(db, recording) == "content changed"
    db.execute_raw_query(query, ("{'s': 0}",), write=True)
    assert (row.id, reason(db, recording)) == (1, OTHER)


@pytest.mark.sqlite("a server keeps what is no text out")
@pytest.mark.parametrize("start", [5, 2.5, b"\xff", "garbage"])
def test_a_start_that_is_no_time_stops_no_other_source(
    db: DatabaseManager, recording: Path, start: object
) -> None:
    """Of several runs, those count whose start another program has not written over."""
    for path in (recording, recording.with_name("other.wav")):
        path.write_bytes(b"first")
        _age(path)
        for _ in range(2):
            processed(db, path, success=path == recording)
    strange = "UPDATE processing_history SET start_time = ?, end_time = ? WHERE id IN (1, 3)"
    db.execute_raw_query(strange, (start, start), write=True)
    assert left(db, recording, path, "/mix/3.wav") == {path: "failed", "/mix/3.wav": "never run"}


def test_a_hash_that_one_row_of_a_run_has_counts(db: DatabaseManager, recording: Path) -> None:
    """A hash that another program took from a run's second row does not make the file unknown."""
    for _ in range(2):
        processed(db, recording, run_id="one")
    removed = "UPDATE processing_history SET source_hash = NULL WHERE id = 2"
    db.execute_raw_query(removed, write=True)
    recording.write_bytes(b"other")
    assert reason(db, recording) == "content changed"


def test_a_run_that_begins_at_the_end_of_time_is_worked_on(db: DatabaseManager) -> None:
    """A lease that is longer than there are dates stops no list."""
    times = {"start_time": "9999-12-31T23:59:59Z", "end_time": None}
    add_run(db, run={**times, "success": False, "process": process_facts()})
    assert reason(db) == "being worked on"


def test_words_about_a_path_of_several_rows(db: DatabaseManager) -> None:
    """Of rows of one path, as the original module has them, that counts which runs hang on."""
    rooms = ("hall", "lab", "attic")
    for output, room in zip(("/o/1.wav", None, None), rooms, strict=True):
        file = {"filename": "1.wav", "original_path": "/1.wav", "processed_path": output}
        db.add(ProcessedFile(**file, metadata={"room": room}))
    with db.track("/1.wav", "voice_separation"):
        pass
    hung = db.search("history")[0].processed_file.metadata["room"]
    words = (f"metadata.room:{room}" for room in rooms)
    found = [list(db.pending(["/1.wav"], "other", where=word)) for word in words]
    assert (hung, found) == ("lab", [[], ["/1.wav"], []])


def test_query_words_choose_sources(db: DatabaseManager) -> None:
    """``where`` takes words about recordings; what the record does not know is counted."""
    for name, room in (("a", "hall"), ("b", "booth")):
        file = {"metadata": {"room": room}, "filename": f"{name}.wav"}
        add_run(db, f"/mix/{name}.wav", "other", file=file)
    nameless = db.add(ProcessedFile(filename="stream", metadata={"room": "hall"}))
    sources = ["/mix/a.wav", "/mix/b.wav", nameless, "/mix/new.wav", "/mix/*.wav"]
    found = db.pending(sources, "voice_separation", where="metadata.room:hall")
    assert (list(found), found.unknown) == (["/mix/a.wav", nameless], 2)


@pytest.mark.parametrize("word", ["status:failed", "^model:demucs", "si_snri:10.."])
def test_words_about_runs_are_refused(db: DatabaseManager, word: str) -> None:
    """Which runs count is said by the settings; a word about runs is refused at once."""
    name = word.removeprefix("^").partition(":")[0]
    with pytest.raises(QueryError) as caught:
        db.pending([], "voice_separation", where=word)
    assert str(caught.value) == f"{name!r} is about runs; pending takes words about recordings"


def test_pending_shows_and_goes_on(db: DatabaseManager) -> None:
    """What is left shows with its reasons in a notebook and a frame, and all of it is to come."""
    paths = [f"/mix/{number}.wav" for number in range(30)]
    left = db.pending(paths, "voice_separation")
    assert next(left) == "/mix/0.wav"
    page = shown(left)
    assert page.rows[:2] == [["pending", "reason"], ["/mix/1.wav", "never run"]]
    assert page.words == ["the first 20 sources; there are more"]
    frame = left.to_dataframe()
    assert frame.to_dict("list") == {"source": paths[1:], "reason": ["never run"] * 29}
    assert {str(dtype) for dtype in frame.dtypes} == {"string"}
    assert left.reason == "never run"
    assert list(left) == paths[1:]
    assert shown(left).words == ["0 sources"]
