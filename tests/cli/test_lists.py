"""Lists: their options, their forms, and what stored text can do to a terminal (nothing)."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli_tools import PROGRAM, Outcome, run, terminal, usage

from voices_peewee import (
    DatabaseManager,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)

START = dt.datetime(2026, 11, 22, 14, 3, 5, 123456, dt.UTC)


@pytest.fixture
def studio(path: Path) -> Path:
    """A database with two speakers, three files, three runs and two measurements."""
    with DatabaseManager(path).initialize() as db:
        ada = Speaker(name="Ada", tags=["female", "studio"], description="Reads", created_at=START)
        bob = Speaker(name="Bob", tags=["studio"], created_at=START)
        files = [
            ProcessedFile(
                filename=name,
                original_path=f"/audio/{name}",
                file_format="wav",
                duration=seconds,
                sample_rate=16000,
                channels=1,
                file_size=size,
                speaker=speaker,
                metadata={"room": number},
                created_at=START + dt.timedelta(days=number),
                updated_at=START,
            )
            for number, (name, seconds, size, speaker) in enumerate(
                [
                    ("a.wav", 62.5, 2_000_044, ada),
                    ("b.wav", 0.25, 8_044, bob),
                    ("c.wav", 4000, 1, None),
                ]
            )
        ]
        runs = [
            ProcessingHistory(
                processed_file=file,
                run_id=f"run{number}",
                operation_type="separation",
                model_type="demucs",
                model_version="4.0",
                parameters={"shifts": number},
                start_time=START,
                end_time=None if number == 2 else START + dt.timedelta(seconds=9),
                success=number == 0,
                error_message="OSError: no such file\nTraceback …" if number == 1 else None,
            )
            for number, file in enumerate(files)
        ]
        measured = ModelPerformance(
            processing_history=runs[0],
            model_type="demucs",
            model_version="4.0",
            si_snri=12.3456789,
            sdri=0.1,
            processing_time=9.0,
            real_time_factor=0.144,
            memory_usage=512.5,
            additional_metrics={"pesq": 2.7},
            created_at=START,
        )
        db.add_all([ada, bob, *files, *runs, measured])
    return path


def listed(path: Path, *args: str) -> Outcome:
    return run("--db", path, *args)


SPEAKERS = """\
id  name  tags            files  description
 1  Ada   female, studio      1  Reads
 2  Bob   studio              1
"""


def test_table(studio: Path) -> None:
    """A table is plain and aligned in a pipe; how many rows there are is on stderr."""
    assert listed(studio, "list-speakers") == (0, SPEAKERS, "2 speakers\n")


def test_units(studio: Path) -> None:
    """A table has units in its headings, and durations and sizes that people can read."""
    columns = "id,duration,sample_rate,file_size,created_at"
    assert listed(studio, "list-files", "--columns", columns, "--sort", "id") == (
        0,
        (
            "id   duration  rate Hz    size  added UTC\n"
            " 1     1:02.5    16000  2.0 MB  2026-11-22 14:03\n"
            " 2   0:00.250    16000  8.0 kB  2026-11-23 14:03\n"
            " 3  1:06:40.0    16000     1 B  2026-11-24 14:03\n"
        ),
        "3 files\n",
    )


JSON = """\
[
{"id": 1, "duration": 62.5, "speaker": "Ada", "metadata": {"room": 0}, \
"created_at": "2026-11-22T14:03:05.123456+00:00"},
{"id": 3, "duration": 4000.0, "speaker": null, "metadata": {"room": 2}, \
"created_at": "2026-11-24T14:03:05.123456+00:00"}
]
"""
CSV = """\
id,duration,speaker,metadata,created_at
1,62.5,Ada,"{""room"": 0}",2026-11-22T14:03:05.123456+00:00
3,4000.0,,"{""room"": 2}",2026-11-24T14:03:05.123456+00:00
"""


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("--json", JSON),
        ("--jsonl", JSON[2:-3].replace("},\n", "}\n") + "\n"),
        ("--csv", CSV),
    ],
    ids=["json", "jsonl", "csv"],
)
def test_exact_forms(studio: Path, style: str, text: str) -> None:
    """JSON and CSV hold exact numbers, UTC times and the columns' names, and nothing else."""
    args = ["--columns", "id,duration,speaker,metadata,created_at", "--sort", "id", "^b.wav"]
    assert listed(studio, "list-files", *args, style) == (0, text, "")


@pytest.mark.parametrize(
    ("style", "text"),
    [("", ""), ("--json", "[]\n"), ("--jsonl", ""), ("--csv", "id,name\n")],
    ids=lambda value: value.strip("-\n") or "nothing",
)
def test_nothing(studio: Path, style: str, text: str) -> None:
    """JSON of nothing is [], CSV of nothing its heading; a table says so on stderr."""
    words = "0 speakers\n" if not style else ""
    args = ["list-speakers", "nobody", "--columns", "id,name", *style.split()]
    assert listed(studio, *args) == (0, text, words)


@pytest.mark.parametrize("style", ["", "--csv"])
@pytest.mark.parametrize(
    ("args", "ids", "words"),
    [
        pytest.param(["--limit", "1"], [1], "1 of 3 shown (--all for the rest)\n", id="limit"),
        pytest.param(
            ["--limit", "1", "--offset", "1"], [2], "1 of 3 shown (--all for the rest)\n", id="page"
        ),
        pytest.param(["--offset", "1"], [2, 3], "2 of 3 shown (--all for the rest)\n", id="offset"),
        pytest.param(["--limit", "1", "--all"], [1, 2, 3], None, id="all"),
    ],
)
def test_what_is_cut_off_is_said(
    studio: Path, style: str, args: list[str], ids: list[int], words: str | None
) -> None:
    """Whatever the form, stderr says when there is more."""
    done = listed(studio, "list-files", "--sort", "id", "--columns", "id", *style.split(), *args)
    assert [int(digit) for digit in done.out if digit.isdigit()] == ids
    assert done.err == (words or ("3 files\n" if not style else ""))


@pytest.mark.parametrize(
    ("args", "ids"),
    [
        (["list-speakers", "--tag", "female", "--tag", "studio"], [1]),
        (["list-speakers", "--sort", "-name"], [2, 1]),
        (["list-files", "--speaker", "Ada", "--speaker", "id:2"], [2, 1]),
        (["list-files", "--failed"], [2]),
        (["list-files", "--tag", "studio", "b.wav"], [2]),
        (["list-files", "--model", "demucs:4.0", "--operation", "separation"], [3, 2, 1]),
        (["list-files", "--since", "2026-11-23"], [3, 2]),
        (["list-files", "--until", "2026-11-23"], [2, 1]),
        (["list-history", "--unfinished"], [3]),
        (["list-history", "--failed", "--success"], [2, 1]),
        (["list-performance", "--speaker", "Bob"], []),
    ],
)
def test_filters(studio: Path, args: list[str], ids: list[int]) -> None:
    """Every filter narrows its list down."""
    done = listed(studio, *args, "--columns", "id", "--jsonl")
    assert ([json.loads(line)["id"] for line in done.out.splitlines()], done.err) == (ids, "")


@pytest.mark.parametrize("noun", ["files", "tags"])
def test_list_noun_is_list_dash_noun(studio: Path, noun: str) -> None:
    """``list NOUN`` and ``list-NOUN`` are the same."""
    assert listed(studio, "list", noun, "--json") == listed(studio, f"list-{noun}", "--json")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["list-tags", "--columns", "x"], "unknown column 'x'; use speakers, tag"),
        (["list-tags", "tga:x"], "unknown field 'tga'; did you mean 'tag'?"),
        (
            ["list-tags", "speakers:two"],
            "speakers 'two' cannot be read; it takes a whole number, as 3 or 2..8",
        ),
        (["list-tags", "speakers:3..2"], "speakers '3..2' ends before it begins"),
    ],
)
def test_wrong_words(studio: Path, args: list[str], message: str) -> None:
    """A list that makes no sense exits 2 and names what is near."""
    expected = usage(f"voices {args[0]}", "[OPTIONS] [QUERY]...", message)
    assert listed(studio, *args) == (2, "", expected)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        pytest.param([], "tag     speakers\nfemale         1\nstudio         2\n", id="all"),
        pytest.param(
            ["--sort", "-speakers"],
            "tag     speakers\nstudio         2\nfemale         1\n",
            id="sort",
        ),
        pytest.param(["STUD"], "tag     speakers\nstudio         2\n", id="word"),
        pytest.param(["^stud"], "tag     speakers\nfemale         1\n", id="not"),
        pytest.param(["speakers:1,3"], "tag     speakers\nfemale         1\n", id="field"),
        pytest.param(["speakers:2.."], "tag     speakers\nstudio         2\n", id="range"),
        pytest.param(["tag:male"], "", id="whole tag"),
        pytest.param(["^tag:studio", '"female"'], "tag     speakers\nfemale         1\n", id="and"),
        pytest.param(
            ["--sort", "tag, speakers"],
            "tag     speakers\nfemale         1\nstudio         2\n",
            id="blank behind a comma",
        ),
        pytest.param(["--", "--json", "--csv"], "", id="words, no forms"),
        pytest.param(["--columns", "tag", "--limit", "1"], "tag\nfemale\n", id="page"),
        pytest.param(["--csv"], "tag,speakers\nfemale,1\nstudio,2\n", id="csv"),
    ],
)
def test_lists_of_other_things(studio: Path, args: list[str], text: str) -> None:
    """Lists that are no tables of the database take the same options."""
    assert listed(studio, "list-tags", *args)[:2] == (0, text)


EVIL = "\x1b[31mred\x07\r\n\u202eevil\u2028\x9b2J\x7f"


@pytest.fixture
def evil(path: Path) -> Path:
    """A database whose texts would do things to a terminal or a spreadsheet."""
    with DatabaseManager(path).initialize() as db:
        db.add(Speaker(name=EVIL, tags=[EVIL], description="=1+1"))
        db.add(ProcessedFile(filename=b"\xffa\x1b.wav".decode(errors="surrogateescape")))
    return path


def test_json_gives_stored_text_back(evil: Path) -> None:
    """JSON escapes what it must and loses nothing."""
    (speaker,) = json.loads(listed(evil, "list-speakers", "--json").out)
    assert (speaker["name"], speaker["tags"]) == (EVIL, [EVIL])
    (file,) = json.loads(listed(evil, "list-files", "--json").out)
    assert file["filename"] == "\udcffa\x1b.wav"


def test_letters_stay_readable(path: Path) -> None:
    """JSON and tables keep letters of every script as they are."""
    run("--db", path, "init")
    run("--db", path, "add-speaker", "Zoë 声 ه‌م")
    assert '"name": "Zoë 声 ه‌م"' in listed(path, "list-speakers", "--json").out
    assert " Zoë 声 ه‌م" in listed(path, "list-speakers").out


def test_formulas_do_not_reach_a_spreadsheet(path: Path) -> None:
    """CSV quotes text that a spreadsheet would run, unless it is asked for as stored."""
    names = ["=1+1", "@SUM(A1)", "\tx", "\n=1", "＝1", "-1", "+1.5e3", EVIL]
    with DatabaseManager(path).initialize() as db:
        db.add_all([Speaker(name=name) for name in names])
    args = ["list-speakers", "--csv", "--columns", "name", "--sort", "id"]
    safe = list(csv.reader(io.StringIO(listed(path, *args).out)))[1:]
    assert [name for (name,) in safe] == [
        "'=1+1",
        "'@SUM(A1)",
        "'\tx",
        "'\n=1",
        "'＝1",
        "-1",
        "+1.5e3",
        "\\x1b[31mred\\x07\\r\n\\u202eevil\\u2028\\x9b2J\\x7f",
    ]
    done = subprocess.run([*PROGRAM, "--db", str(path), *args, "--raw"], capture_output=True)
    raw = list(csv.reader(io.StringIO(done.stdout.decode(), newline="")))[1:]
    assert [name for (name,) in raw] == names


@pytest.mark.once
def test_raw_csv_gives_the_bytes_of_a_name_back(evil: Path) -> None:
    """A file name that is no text comes out as the bytes that it is."""
    done = subprocess.run(
        [*PROGRAM, "--db", str(evil), "list-files", "--csv", "--raw", "--columns", "filename"],
        capture_output=True,
    )
    assert (done.stdout, done.stderr) == (b"filename\n\xffa\x1b.wav\n", b"")


@pytest.mark.once
@pytest.mark.parametrize(
    ("style", "line"),
    [("", "Zo\\xeb"), ("--json", '{"name": "Zo\\u00eb"}')],
)
def test_output_that_is_not_utf8(path: Path, style: str, line: str) -> None:
    """An output that lacks a letter gets it spelled out."""
    run("--db", path, "init")
    run("--db", path, "add-speaker", "Zoë")
    args = ["--db", str(path), "list-speakers", "--columns", "name", *style.split()]
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", *PROGRAM[1:], *args],
        capture_output=True,
        text=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    assert (done.returncode, line in done.stdout.splitlines()) == (0, True)


@pytest.mark.once
def test_terminal_of_80_columns(studio: Path) -> None:
    """A table on a terminal has a bold heading, fits, and keeps numbers and times whole."""
    assert terminal("--db", studio, "list-history") == (
        0,
        (
            "\x1b[1mid  file   speaker  operation  model      status     started UTC       error"
            "\x1b[0m\n"
            " 3  c.wav           separati…  demucs:4…  unfinish…  2026-11-22 14:03\n"
            " 2  b.wav  Bob      separati…  demucs:4…  failed     2026-11-22 14:03  OSError:…\n"
            " 1  a.wav  Ada      separati…  demucs:4…  success    2026-11-22 14:03\n"
            "3 rows\n"
        ),
    )


@pytest.mark.once
@pytest.mark.parametrize("noun", ["speakers", "files", "history", "performance"])
def test_terminal_of_40_columns(studio: Path, noun: str) -> None:
    """What even narrow texts leave no room for goes from the right, and is named."""
    code, seen = terminal("--db", studio, "list", noun, "--sort", "id", columns=40)
    lines = seen.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert (code, max(map(len, lines)) <= 40) == (0, True), seen
    words = " ".join(line.strip() for line in lines)
    said = re.search(r"no room for [\w, ]+; --json has all", words) is not None
    assert said is (noun != "speakers")


@pytest.mark.once
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_it_is_not_wanted(studio: Path, name: str, value: str) -> None:
    """NO_COLOR and a dumb terminal are respected; see https://no-color.org."""
    seen = terminal("--db", studio, "list-speakers", env={name: value})
    assert seen == (0, f"{SPEAKERS}2 speakers\n")
