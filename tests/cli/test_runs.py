"""The commands for runs: what is left, what failed, and one run whole."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from support.cli_tools import PROGRAM, Outcome, run, terminal, usage

from voices_peewee import DatabaseManager, ProcessingHistory

START = "2024-05-06T14:03:05+00:00"
SETTINGS = ["--operation", "separation", "--model", "demucs:4.0", "--param", "shifts=2"]


@pytest.fixture
def night(path: Path) -> Path:
    """A database after a night: one run succeeded, three failed, one never ended."""
    shared = {
        "operation_type": "separation",
        "start_time": START,
        "model_type": "demucs",
        "model_version": "4.0",
        "parameters": {"shifts": 2},
        "processing_time": 9.5,
    }
    memory = "RuntimeError: out of memory \x1b[31m\nTraceback:\n  line 1"
    with DatabaseManager(path).initialize() as db:
        db.record_run("/mix/a.wav", metrics={"si_snri": 12.5}, **shared)
        for name, error in (("b", memory), ("c", memory), ("d", "OSError: no room")):
            db.record_run(f"/mix/{name}.wav", success=False, error_message=error, **shared)
        gone = ProcessingHistory(
            processed_file=1, operation_type="separation", start_time=START, model_type="x"
        )
        db.add(gone)
    return path


def pending(db: Path, *args: str | Path) -> Outcome:
    return run("--db", db, "pending", *args, *SETTINGS)


def test_pending(night: Path) -> None:
    """What has no successful run is printed as it was given, one a line."""
    expected = (0, "/mix/b.wav\nnew.wav\n", "2 files pending\n")
    assert pending(night, "/mix/a.wav", "/mix/b.wav", "new.wav") == expected
    assert pending(night, "/mix/a.wav") == (0, "", "0 files pending\n")


def test_pending_with_reasons(night: Path) -> None:
    """JSON says why each is left."""
    done = pending(night, "/mix/a.wav", "/mix/b.wav", "new.wav", "--json")
    assert json.loads(done.out) == [
        {"path": "/mix/b.wav", "reason": "failed"},
        {"path": "new.wav", "reason": "never run"},
    ]
    assert pending(night, "/mix/a.wav", "--json").out == "[]\n"


@pytest.mark.once
def test_pending_reads_more_paths_than_fit_a_command_line(night: Path) -> None:
    """Paths come from the standard input in the place of ``-``."""
    names = [b"%d\xff\n.wav" % number for number in range(5000)]
    done = subprocess.run(
        [*PROGRAM, "--db", str(night), "pending", "first.wav", "-", "last.wav", "-0", *SETTINGS],
        input=b"\0".join(names),
        capture_output=True,
    )
    assert done.stdout.split(b"\0") == [b"first.wav", *names, b"last.wav", b""]
    assert done.stderr == b"5,002 files pending\n"


@pytest.mark.once
def test_pending_reads_a_list_from_windows(night: Path) -> None:
    """A byte order mark and carriage returns do not make names of their own."""
    done = subprocess.run(
        [*PROGRAM, "--db", str(night), "pending", "-", *SETTINGS],
        input=b"\xef\xbb\xbf/mix/a.wav\r\n/mix/new.wav\r\n\r\n",
        capture_output=True,
    )
    assert (done.stdout, done.stderr) == (b"/mix/new.wav\n", b"1 file pending\n")


def test_pending_of_a_folder(night: Path, tmp_path: Path) -> None:
    """A folder stands for the recordings in it; that runs wrote there what is left out is said."""
    folder = tmp_path / "new"
    folder.mkdir()
    with DatabaseManager(night) as db, db.track("/mix/a.wav", "denoising") as run_:
        (folder / "out.wav").touch()
        run_.output(folder / "out.wav")
    (folder / "1.wav").touch()
    (folder / "notes.txt").touch()
    note = f"note: outputs of runs in '{folder}' left out: 1; name them to have them\n"
    assert pending(night, folder) == (0, f"{folder / '1.wav'}\n", f"{note}1 file pending\n")


def test_pending_with_query_words(night: Path) -> None:
    """--where narrows down to recordings that match, and says what the record does not know."""
    done = pending(night, "/mix/b.wav", "new.wav", "--where", "b.wav")
    left_out = "1 file not in the record, so that --where left out\n"
    assert done == (0, "/mix/b.wav\n", f"1 file pending\n{left_out}")


@pytest.mark.once
def test_pending_on_a_terminal_commands_nothing(night: Path) -> None:
    """A terminal sees control characters of a path spelled out."""
    assert terminal("--db", night, "pending", "\x1b[31m.wav", "--operation", "x") == (
        0,
        "\\x1b[31m.wav\n1 file pending\n",
    )


def test_counts_that_say_rows_count_rows(path: Path) -> None:
    """A run with two outputs is two rows of the list, and one run where runs are counted."""
    with DatabaseManager(path).initialize() as db:
        for number in range(4):
            db.record_run(
                f"/mix/{number}.wav",
                "separation",
                start_time=START,
                success=False,
                outputs=[{"path": f"/out/{number}{stem}.wav"} for stem in "ab"],
            )
    assert run("--db", path, "list-history", "--failed").err == "8 rows\n"
    assert run("--db", path, "list-files", "status:failed", "^status:success").err == "4 files\n"
    deleted = run("--db", path, "delete-file", "/mix/0.wav", "--yes").err
    assert deleted.endswith("'0.wav' with 1 run and 2 measurements\n")


def test_failures(night: Path) -> None:
    """Failed runs are grouped by their error, the most frequent first, with an example."""
    assert run("--db", night, "failures") == (
        0,
        (
            "runs  error                                 models      newest UTC        example\n"
            "   2  RuntimeError: out of memory \\x1b[31m  demucs:4.0  2024-05-06 14:03        2\n"
            "   1  OSError: no room                      demucs:4.0  2024-05-06 14:03        4\n"
        ),
        "2 errors\n",
    )


def test_cured_failures_are_shown_on_demand(night: Path) -> None:
    """What a later run made good is said, and shown with --cured or --all."""
    with DatabaseManager(night) as db:
        again = {"model_type": "demucs", "model_version": "4.0", "parameters": {"shifts": 2}}
        later = START.replace("2024", "2025")
        db.record_run("/mix/d.wav", "separation", start_time=later, **again)
    done = run("--db", night, "failures")
    cured = "1 run made good by a later one (--cured to see)\n"
    assert ("OSError" in done.out, done.err) == (False, f"1 error\n{cured}")
    for option in ("--cured", "--all"):
        done = run("--db", night, "failures", option)
        assert ("OSError" in done.out, done.err) == (True, "2 errors\n")


def test_show_run(night: Path) -> None:
    """A run is shown whole, its traceback harmless; JSON has it exactly."""
    done = run("--db", night, "show-run", "2")
    assert (done.code, done.err, "\x1b" in done.out) == (0, "", False)
    assert "RuntimeError: out of memory \\x1b[31m\n" in done.out
    found = json.loads(run("--db", night, "show-run", "2", "--json").out)
    assert (found["status"], found["model_type"], found["start_time"], found["error"]) == (
        "failed",
        "demucs",
        START,
        "RuntimeError: out of memory \x1b[31m\nTraceback:\n  line 1",
    )
    by_name = run("--db", night, "show-run", found["run_id"][:12], "--json")
    assert json.loads(by_name.out) == found


def test_close_unfinished(night: Path) -> None:
    """A run of a process that nobody knows is closed by its age only."""
    assert run("--db", night, "close-unfinished") == (0, "", "0 runs closed\n")
    assert run("--db", night, "list-history", "--unfinished").err == "1 row\n"
    args = ["close-unfinished", "--older-than"]
    assert run("--db", night, *args, "1000w") == (0, "", "0 runs closed\n")
    assert run("--db", night, *args, "1d12h") == (0, "", "1 run closed\n")
    assert run("--db", night, "list-history", "--unfinished").err == "0 rows\n"


@pytest.mark.parametrize("text", ["2", "-1d"])
def test_age_that_cannot_be_read(night: Path, text: str) -> None:
    """An age needs a unit."""
    takes = "it takes a duration with its unit, as 90m, 36h or 2d"
    message = f"Invalid value for '--older-than': {text!r} cannot be read; {takes}"
    expected = usage("voices close-unfinished", "[OPTIONS]", message)
    assert run("--db", night, "close-unfinished", "--older-than", text) == (2, "", expected)


def test_update_run(night: Path) -> None:
    """Tags are added and removed, the note is set and, with an empty one, removed."""
    done = run("--db", night, *["update-run", "2", "--note", "odd", "--tag", "a", "--tag", "b"])
    assert (done.code, done.out, done.err[: len("updated run 2, ")]) == (0, "", "updated run 2, ")
    run("--db", night, *["update-run", "2", "--remove-tag", "a", "--tag", "c"])
    shown = json.loads(run("--db", night, "show-run", "2", "--json").out)
    assert (shown["note"], shown["tags"]) == ("odd", ["b", "c"])
    done = run("--db", night, "update-run", "2", "--remove-tag", "none")
    assert (done.code, done.err.endswith(" has no tag 'none'\n"), "updated" in done.err) == (
        0,
        True,
        False,
    )
    run("--db", night, "update-run", "2", "--note", "")
    assert json.loads(run("--db", night, "show-run", "2", "--json").out)["note"] is None
    done = run("--db", night, "update-run", "2")
    sentence = "Error: nothing to change; give --note, --tag or --remove-tag\n"
    assert (done.code, done.err.endswith(sentence)) == (2, True)


def test_delete_run(night: Path, tmp_path: Path) -> None:
    """What goes is said, and written first where that is asked for."""
    before = len(json.loads(run("--db", night, "list-history", "--all", "--json").out))
    gone = str(tmp_path / "gone.jsonl")
    done = run("--db", night, "delete-run", "2", "--yes", "--export-to", gone)
    told, deleted = done.err.splitlines()
    assert (done.code, done.out, told) == (0, "", f"what goes is in {gone!r}")
    assert re.fullmatch(
        r"deleted run 2, \w+ of '[^']+' with \d outputs? and \d measurements?",
        deleted,
    )
    assert len(json.loads(run("--db", night, "list-history", "--all", "--json").out)) < before
    assert run("--db", night, "import", gone).code == 0
    assert len(json.loads(run("--db", night, "list-history", "--all", "--json").out)) == before


def test_delete_run_that_goes_on(path: Path) -> None:
    """That a run has not ended is said before it goes."""
    with DatabaseManager(path).initialize() as db:
        db.track("/mix/a.wav", "separation").__enter__()
    done = run("--db", path, "delete-run", "1", "--yes")
    assert done.code == 0
    assert done.err.splitlines() == [
        "it has not ended: what it still tells will be refused",
        "deleted run 1, separation of 'a.wav' with 0 outputs and 0 measurements",
    ]
