"""What one run was, and what was ever done to a recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.run_rows import add_run

from questions.test_failures import TRACE, fail
from voices_peewee import DatabaseManager, ProcessedFile, Speaker
from voices_peewee.errors import AmbiguousNameError, NotFoundError


@pytest.fixture
def run_id(db: DatabaseManager) -> str:
    """A successful run with two stems."""
    ada = db.add(Speaker(name="Ada"))
    run = {
        "run_id": "abcdef" + "0" * 26,
        "parameters": {"shifts": 2, "environment": {"host": "lab", "dirty": False}},
        "process": {"pid": 7},
        "source_hash": "c" * 64,
    }
    for hours, (name, speaker) in enumerate([("a", ada), ("b", None)]):
        add_run(
            db,
            file={"processed_path": f"/stems/{name}.wav"},
            speaker=speaker,
            hours=hours / 3600,
            run=run,
            si_snri=9.25 - hours,
            metric_impl="mir_eval 0.8",
            input_si_snr=-1.5,
        )
    return str(run["run_id"])


def test_a_run_is_shown_whole(db: DatabaseManager, run_id: str) -> None:
    """All rows of a run, with its settings and surroundings, as plain data."""
    found = db.show_run(run_id).to_dict()
    assert json.loads(json.dumps(found, default=str)) == {
        "run_id": run_id,
        "status": "success",
        "operation_type": "voice_separation",
        "model_type": "demucs",
        "model_version": "4.0",
        "original_path": "/mix/1.wav",
        "start_time": "2026-11-01 12:00:00+00:00",
        "end_time": "2026-11-01 12:00:03+00:00",
        "seconds": 3.0,
        "parameters": {"shifts": 2},
        "model_hash": None,
        "tags": [],
        "note": None,
        "environment": {"host": "lab", "dirty": False},
        "process": {"pid": 7},
        "source_hash": "c" * 64,
        "error": None,
        "rows": [
            {
                "history_id": number,
                "file_id": number,
                "processed_path": f"/stems/{name}.wav",
                "speaker": speaker,
                "status": "success",
                "metrics": {
                    "si_snri": si_snri,
                    "input_si_snr": -1.5,
                    "metric_impl": "mir_eval 0.8",
                },
            }
            for number, name, speaker, si_snri in ((1, "a", "Ada", 9.25), (2, "b", None, 8.25))
        ],
    }


def test_the_text_of_a_run_is_for_people(db: DatabaseManager, run_id: str) -> None:
    """The text says all of it, a fact a line, results before what machine it was."""
    assert str(db.show_run(run_id)) == (
        "run: abcdef00000000000000000000000000\n"
        "status: success\n"
        "operation: voice_separation\n"
        "model: demucs:4.0\n"
        "recording: /mix/1.wav\n"
        "started: 2026-11-01 12:00:00 UTC\n"
        "ended: 2026-11-01 12:00:03 UTC\n"
        "parameter shifts: 2\n"
        "\n"
        "1: /stems/a.wav (Ada)\n"
        "  si_snri: 9.25\n"
        "  metric_impl: mir_eval 0.8\n"
        "  input_si_snr: -1.5\n"
        "\n"
        "2: /stems/b.wav\n"
        "  si_snri: 8.25\n"
        "  metric_impl: mir_eval 0.8\n"
        "  input_si_snr: -1.5\n"
        "\n"
        "environment host: lab\n"
        "environment dirty: false\n"
        "process pid: 7"
    )


def test_a_failed_run_shows_its_traceback(db: DatabaseManager) -> None:
    """The traceback comes last, and nothing in it can move a terminal's cursor."""
    fail(db, f"{TRACE}\x1b[31m", "/mix/\udce9\n.wav", run={"run_id": "one"})
    found = db.show_run(1)
    assert (found.status, found.error) == ("failed", f"{TRACE}\x1b[31m")
    assert str(found) == (
        "run: one\n"
        "status: failed\n"
        "operation: voice_separation\n"
        "model: demucs:4.0\n"
        "recording: /mix/\\udce9\\n.wav\n"
        "started: 2026-11-01 12:00:00 UTC\n"
        "ended: 2026-11-01 12:00:02 UTC\n"
        "\n"
        "1: (no output)\n"
        "\n"
        "RuntimeError: CUDA out of memory\n"
        "\n"
        "Traceback (most recent call last):\n"
        "  …\\x1b[31m"
    )


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["success", "success"], "success"),
        (["success", "failed"], "failed"),
        (["failed", "unfinished"], "unfinished"),
    ],
    ids=["success", "failed", "unfinished"],
)
def test_a_run_is_as_good_as_its_worst_stem(
    db: DatabaseManager, statuses: list[str], status: str
) -> None:
    """A run succeeded when all its rows did, and has ended when all of them have."""
    for one in statuses:
        add_run(db, status=one, run={"run_id": "one"})
    found = db.show_run(1)
    assert (found.status, found.end_time is None) == (status, status == "unfinished")
    assert "ended: -\n" in str(found) or status != "unfinished"


def test_a_run_is_found_by_ids_and_prefixes(db: DatabaseManager, run_id: str) -> None:
    """Any row's id, as number or text, the run's name, and its beginning lead to the run."""
    other = add_run(db, run={"run_id": "abcdef1"})
    short = add_run(db, run={"run_id": "abcdef"})
    digits = add_run(db, run={"run_id": "123456789"})
    for key in (1, "1", 2, run_id, run_id[:10]):
        assert db.show_run(key).run_id == run_id
    for key in (str(other.id), "abcdef1"):
        assert db.show_run(key).run_id == "abcdef1"
    assert db.show_run("abcdef").rows[0].history_id == short.id
    assert db.show_run("1234567").rows[0].history_id == digits.id
    db.delete(short)
    with pytest.raises(AmbiguousNameError) as caught:
        db.show_run("abcdef")
    assert str(caught.value) == "2 runs are named 'abcdef' (ids 1, 3); use an id"


@pytest.mark.parametrize("key", [99, "99", "abcde", "abcdeg", "9" * 30])
def test_there_is_no_such_run(db: DatabaseManager, run_id: str, key: int | str) -> None:
    """An id, a text too short and a text that no run begins with are refused."""
    with pytest.raises(NotFoundError) as caught:
        db.show_run(key)
    assert str(caught.value) == f"no run {key!r}; see 'voices list-history'"


def test_a_tracked_run_can_be_shown(db: DatabaseManager, tmp_path: Path) -> None:
    """What ``track`` recorded is all there: environment, process, stems and their metrics."""
    source = tmp_path / "mix.wav"
    source.write_bytes(b"not audio")
    with db.track(source, "voice_separation", parameters={"a": 1}) as run:
        run.log(input_si_snr=-2.0)
        for name in ("a", "b"):
            run.output(tmp_path / f"{name}.wav", si_snri=9.0)
    found = db.show_run(run.run_id)
    assert (found.status, found.original_path, found.parameters) == (
        "success",
        str(source),
        {"a": 1},
    )
    assert found.environment is not None
    assert found.process is not None
    assert [row.metrics["si_snri"] for row in found.rows] == [9.0, 9.0]
    assert found.rows[0].metrics["input_si_snr"] == -2.0


def test_history_is_all_that_was_done_to_a_recording(
    db: DatabaseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of every run of a recording, oldest first, whatever names it."""
    rows = [
        add_run(db, hours=hours, model=model, status=status).id
        for hours, model, status in (
            (3, "demucs:4.0", "success"),
            (1, "svoice:1.2", "failed"),
            (2, "demucs:4.0", "unfinished"),
            (1, "svoice:1.2", "success"),
        )
    ]
    add_run(db, "/mix/2.wav")
    expected = [rows[1], rows[3], rows[2], rows[0]]
    monkeypatch.chdir("/")
    file = db.get_by_id(ProcessedFile, 3)
    assert file is not None
    for key in (2, "2", "/mix/1.wav", "mix/1.wav", Path("/mix/1.wav"), file):
        assert [row.id for row in db.history(key)] == expected


@pytest.mark.sqlite(
    "counts statements through sqlite3; a server's round trips are in test_postgres"
)
def test_history_needs_no_further_queries(db: DatabaseManager) -> None:
    """Files, speakers and measurements come along, however many rows there are."""
    ada = db.add(Speaker(name="Ada"))
    for number in range(5):
        add_run(db, speaker=ada if number else None, hours=number, si_snri=float(number))
    add_run(db, hours=9)
    seen: list[str] = []
    connection = db.store.connection()
    connection.set_trace_callback(seen.append)
    found = [
        (
            row.processed_file.original_path,
            row.processed_file.speaker and row.processed_file.speaker.name,
            row.model_performance and row.model_performance.si_snri,
        )
        for row in db.history("/mix/1.wav")
    ]
    connection.set_trace_callback(None)
    assert found == [
        ("/mix/1.wav", "Ada" if number in range(1, 5) else None, number)
        for number in (0.0, 1.0, 2.0, 3.0, 4.0, None)
    ]
    assert len(seen) == 3


def test_history_of_any_recording(db: DatabaseManager) -> None:
    """Also of one without runs, without a path, and with a name that is not UTF-8."""
    row = db.add(ProcessedFile(filename="a.wav", original_path="/mix/a.wav"))
    nameless, _, strange = (add_run(db, path) for path in (None, None, "/mix/caf\udce9.wav"))
    assert db.history(row) == db.history("/mix/a.wav") == []
    assert db.history(nameless.processed_file) == [nameless]
    assert db.history("/mix/caf\udce9.wav") == [strange]


@pytest.mark.sqlite("a server keeps such values out")
def test_what_another_program_wrote_is_shown_as_it_stands(db: DatabaseManager) -> None:
    """A time that is none, and bytes where text should be, are shown as they are stored."""
    add_run(db)
    change = "UPDATE processing_history SET start_time = '05/05/2026', note = x'ff', tags = x'ff'"
    db.execute_raw_query(change, write=True)
    details, (row,) = db.show_run(1), db.history(1)
    assert (details.start_time, details.seconds, row.start_time) == (
        "05/05/2026",
        None,
        "05/05/2026",
    )
    assert "started: 05/05/2026" in str(details)
    assert "note: b'\\xff'" in str(details)


@pytest.mark.parametrize("key", [7, "/mix/none.wav", "7"])
def test_there_is_no_such_file(
    db: DatabaseManager, monkeypatch: pytest.MonkeyPatch, key: int | str
) -> None:
    """A recording that is not in the database is refused."""
    monkeypatch.chdir("/")
    with pytest.raises(NotFoundError) as caught:
        db.history(key)
    assert str(caught.value) == f"no file {key!r}; see 'voices list-files'"
