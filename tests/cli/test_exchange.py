"""The command ``export``, and what deletions write first."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli_tools import PROGRAM, Outcome, program, run, terminal, usage

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)

ROWS = "2 rows of speakers, 1 row of processed_files, 2 rows of processing_history"
ALL = f"exported {ROWS}, 1 row of model_performance\n"


@pytest.fixture
def studio(path: Path) -> Path:
    """A database with Ada's file, two runs of it and one measurement, and Zoë."""
    with DatabaseManager(path).initialize() as db:
        file = ProcessedFile(filename="a.wav", speaker=Speaker(name="Ada"))
        runs = [ProcessingHistory(processed_file=file, operation_type="x") for _ in range(2)]
        db.add_all([ModelPerformance(processing_history=runs[0]), runs[1]])
        db.add(Speaker(name="Zoë"))
    return path


def rows(text: str) -> list[tuple[str, int | None]]:
    """Return the table and the id of each line."""
    return [(row["table"], row.get("id")) for row in map(json.loads, text.splitlines())]


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir() if not one.name.startswith("voices.db"))


def test_to_the_standard_output(studio: Path) -> None:
    """Data go to stdout and the counts to stderr."""
    code, out, err = run("--db", studio, "export")
    assert (code, err) == (0, ALL)
    assert rows(out) == [
        ("speakers", 1),
        ("speakers", 2),
        ("processed_files", 1),
        ("processing_history", 1),
        ("processing_history", 2),
        ("model_performance", 1),
        ("end", None),
    ]
    code, out, err = run("--db", studio, "export", "files", "--format", "csv")
    assert (code, err) == (0, "exported 1 row of processed_files\n")
    assert [row[1] for row in csv.reader(io.StringIO(out))] == ["filename", "a.wav"]


@pytest.mark.once
def test_the_standard_output_is_always_utf8(studio: Path) -> None:
    """An export is the same bytes whatever a terminal's encoding is."""
    args = ["-X", "utf8=0", *PROGRAM[1:], "--db", str(studio), "export", "speakers"]
    done = subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    assert (done.returncode, "Zoë".encode() in done.stdout) == (0, True)


def test_to_a_file(studio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of what was written is on stdout, for scripts; a file that is there is kept."""
    monkeypatch.chdir(tmp_path)
    args = ["--db", studio, "export", "files", "--format", "csv", "-o", "out.txt"]
    written = (0, f"{tmp_path / 'out.txt'}\n", "exported 1 row of processed_files\n")
    assert run(*args) == written
    message = "it is there already; choose another name or overwrite it (--overwrite)"
    taken = str(tmp_path / "out.txt")
    assert run(*args) == (1, "", f"Error: export {taken!r}: {message}\n")
    assert run(*args, "--overwrite") == written


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("export speaker", "[OPTIONS] [TABLE]..."),
        ("import x.csv --table speaker", "[OPTIONS] FILE..."),
    ],
    ids=["export", "import"],
)
def test_a_table_that_is_none(studio: Path, command: str, words: str) -> None:
    """A wrong table is an error of usage that names the near ones."""
    message = "unknown table 'speaker'; did you mean 'speakers'?"
    name, *rest = command.split()
    expected = usage(f"voices {name}", words, message)
    assert run("--db", studio, name, *rest) == (2, "", expected)


@pytest.mark.once
def test_no_bar_where_the_data_go(studio: Path) -> None:
    """On a terminal the data are shown without a bar between them."""
    code, seen = terminal("--db", studio, "export", "speakers")
    assert (code, seen.count("\n"), "\x1b" in seen) == (0, 3, False)


@pytest.mark.once
def test_bar(studio: Path, tmp_path: Path) -> None:
    """Where a file is written a terminal shows how far it is, and what was written."""
    code, seen = terminal("--db", studio, "export", "-o", tmp_path / "out.jsonl", columns=120)
    assert (code, "Exporting" in seen, "100%" in seen) == (0, True, True)
    assert seen.endswith(f"{tmp_path / 'out.jsonl'}\n{ALL}")


def interrupted(studio: Path, folder: Path, by: signal.Signals) -> Outcome:
    """Send a signal to an export into a folder once its file is begun."""
    waiting = (
        "import signal, sys, time\nfrom voices_peewee.exchange.tables import Table\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def batches(*_, **__):\n"
        "    yield []\n    print('ready', flush=True); time.sleep(60)\n"
        "Table.batches = batches\n"
        "from voices_peewee.cli import main\nmain()\n"
    )
    folder.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", waiting, "--db", studio, "export", "-o", folder / "out.jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    assert len(names(folder)) == 1
    child.send_signal(by)
    return Outcome(child.wait(timeout=30), *child.communicate())


@pytest.mark.once
def test_ctrl_c(studio: Path, tmp_path: Path) -> None:
    """Ctrl-C leaves no part of a file."""
    ended = interrupted(studio, tmp_path / "out", signal.SIGINT)
    assert ended == (130, "", "\nAborted!\n")
    assert names(tmp_path / "out") == []


@pytest.mark.once
def test_kill_9(studio: Path, tmp_path: Path) -> None:
    """What a killed export leaves has no file's name, and the next export takes it away."""
    folder = tmp_path / "out"
    assert interrupted(studio, folder, signal.SIGKILL) == (-signal.SIGKILL, "", "")
    (left,) = names(folder)
    assert left.startswith(".")
    assert run("--db", studio, "export", "-o", folder / "out.jsonl").code == 0
    assert names(folder) == ["out.jsonl"]


def test_from_one_program_to_the_next(studio: Path, tmp_path: Path) -> None:
    """The standard input is read as it comes; a file of its own holds the same bytes."""
    text = run("--db", studio, "export").out
    copy = tmp_path / "copy.db"
    assert run("--db", copy, "init").code == 0
    done = program("--db", str(copy), "import", "-", input=text)
    told = "speakers: 2 added\nprocessed_files: 1 added\nprocessing_history: 2 added\n"
    told += "model_performance: 1 added\n6 records imported\n"
    assert done == Outcome(0, "", told)
    assert run("--db", copy, "export").out == text


def test_the_command_tells_what_happened(studio: Path, tmp_path: Path) -> None:
    """Notes, conflicts and counts stand on stderr; a dry run says what would be."""
    csv = tmp_path / "people.csv"
    csv.write_text("name,tags,age\nAda,,5\nEve,,6\n")
    note = "note: column 'age' of speakers is left out: "
    note += "speakers have no JSON object to keep it in\n"
    counts = "speakers: 1 added, 1 same\n"
    dry = run("--db", studio, "import", csv, "--dry-run")
    assert dry == Outcome(0, "", f"{note}{counts}1 record would be imported\n")
    done = run("--db", studio, "import", csv)
    assert done == Outcome(0, "", f"{note}{counts}1 record imported\n")
    csv.write_text("id,filename,file_format\n1,a.wav,wav\n")
    assert run("--db", studio, "import", csv).err == (
        "processed_files: 1 updated\n1 record imported\n"
    )
    csv.write_text("id,filename,file_format\n1,a.wav,flac\n")
    said = f"conflict: '{csv}', line 2: processed_files 1 keeps its file_format 'wav' "
    said += "(there 'flac')\nprocessed_files: 1 in conflict\nnothing to import\n"
    assert run("--db", studio, "import", csv) == Outcome(0, "", said)


def test_every_bad_record_is_told(studio: Path, tmp_path: Path) -> None:
    """All lines to mend are named at once, and nothing is imported."""
    file = tmp_path / "files.csv"
    rows = "".join(f"{number}.wav,long\n" for number in range(23))
    file.write_text(f"filename,duration\n{rows}good.wav,1\n")
    first = f"'{file}', line 2, column 'duration': 'long' is not a finite number"
    told = [f"bad: {first.replace('line 2', f'line {number + 3}')}\n" for number in range(20)]
    end = f"… and 2 more bad\nError: {first}; and 22 more bad records\n"
    assert run("--db", studio, "import", file) == Outcome(1, "", "".join(told) + end)
    assert "1 row of processed_files" in run("--db", studio, "export").err


DELETED = [
    ("delete-speaker", "Ada", "1 'Ada'; 1 file stays, without a speaker"),
    ("delete-file", "1", "1 'a.wav' with 2 runs and 1 measurement"),
]


@pytest.mark.parametrize(("command", "key", "what"), DELETED)
def test_a_deletion_and_its_undo(
    studio: Path, tmp_path: Path, command: str, key: str, what: str
) -> None:
    """What goes is on disk before it is deleted, and importing that file brings it back."""
    target = tmp_path / "gone.jsonl"
    done = run("--db", studio, command, key, "--yes", "--export-to", target)
    kind = command.removeprefix("delete-")
    assert done == (0, "", f"what goes is in {str(target)!r}\ndeleted {kind} {what}\n")
    assert run("--db", studio, "import", target).code == 0
    code, _, err = run("--db", studio, "export", "-o", tmp_path / "all.jsonl")
    assert (code, err) == (0, ALL)
    row = next(
        line for line in map(json.loads, target.read_text().splitlines()) if "filename" in line
    )
    assert (row["filename"], row["speaker_id"]) == ("a.wav", 1)


@pytest.mark.once
@pytest.mark.parametrize(
    ("command", "question"),
    [
        (
            "delete-speaker id:1",
            "Delete speaker 1 'Ada'? 1 file stays, without a speaker. [y/N]: ",
        ),
        ("delete-file 1", "Delete file 1 'a.wav' with 2 runs and 1 measurement? [y/N]: "),
    ],
)
def test_the_question_says_what_goes(
    studio: Path, tmp_path: Path, command: str, question: str
) -> None:
    """Who is asked reads what will be lost; after a no nothing was written or deleted."""
    target = tmp_path / "gone.jsonl"
    before = run("--db", studio, "export").out
    code, seen = terminal("--db", studio, *command.split(), "--export-to", target, typed="n\n")
    assert (code, seen) == (1, f"{question}n\nAborted!\n")
    assert names(tmp_path) == []
    assert run("--db", studio, "export").out == before


def test_import_results(path: Path, tmp_path: Path) -> None:
    """Counts, notes and conflicts go to stderr; bad rows are told and change nothing."""
    scores = tmp_path / "versa.jsonl"
    scores.write_text('{"key": "a_s1.wav", "pesq": 1.7, "stoi": NaN}\n')
    args = ["import-results", str(scores), "--model", "demucs:4.0"]
    with DatabaseManager(path).initialize():
        pass
    reason = "no output of demucs:4.0 and no recording is called 'a_s1.wav'; "
    reason += "name the manifest that has it"
    assert run("--db", path, *args) == Outcome(1, "", f"Error: '{scores}', line 1: {reason}\n")
    with DatabaseManager(path) as db:
        db.record_run("/d/a.wav", "voice_separation", start_time="2026-11-01T20:00:00Z")
    note = "note: 1 without a value: stoi is nan\n"
    told = "versa: 1 run of voice_enhancement added\n"
    other = run("--db", path, *args, "--operation", "voice_enhancement")
    assert other == Outcome(0, "", f"{note}{told}")
    told = "versa: 1 run of voice_separation added\n"
    assert run("--db", path, *args) == Outcome(0, "", f"{note}{told}")
    assert run("--db", path, *args) == Outcome(0, "", f"{note}versa: 1 run unchanged\n")
    scores.write_text('{"key": "a_s1.wav", "pesq": 1.9}\n')
    conflict = f"conflict: '{scores}', line 1: pesq is 1.9, and 1.7 here, which is kept\n"
    assert run("--db", path, *args) == Outcome(0, "", f"{conflict}versa: 1 run unchanged\n")
    assert run("--db", path, "import-results", str(scores)).code == 2
