"""The commands for questions: the leaderboard and the comparison."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli_tools import PROGRAM, run, terminal, usage
from support.measured import measure

from voices_peewee import DatabaseManager

SINCE = "2024-05-06T14:03:05+00:00"


@pytest.fixture
def results(path: Path) -> Path:
    """A database in which svoice is better than demucs by 1 dB on each of three recordings."""
    with DatabaseManager(path).initialize() as db:
        ada = db.create_speaker("Ada")
        db.record_runs(
            {
                "source": f"/mix/{number}.wav",
                "operation_type": "separation",
                "start_time": SINCE,
                "model_type": model,
                "model_version": version,
                "speaker": ada if number == 0 else None,
                "metrics": {"si_snri": mean + number, "pesq": 2.5, "odd": -mean},
            }
            for model, version, mean in (("demucs", "4.0", 10.0), ("svoice", None, 11.0))
            for number in range(3)
        )
        failed = {"operation_type": "separation", "start_time": SINCE, "success": False}
        db.record_run("/mix/9.wav", model_type="svoice", error_message="OSError: x", **failed)
    return path


def test_leaderboard(results: Path) -> None:
    """Models are ranked with spread, failures and a bar; what nobody measured is left out."""
    assert run("--db", results, "leaderboard") == (
        0,
        (
            "model                 n  same  failed  not run   mean  ±95 %  median    SD\n"
            "svoice      ████████  3  a          1           12.00   2.48   12.00  1.00\n"
            "demucs:4.0  ███████   3  a                   1  11.00   2.48   11.00  1.00\n"
        ),
        (
            "si_snri (dB) by model, highest mean first\n"
            "groups that share a letter cannot be told apart (Holm, common recordings)\n"
        ),
    )


def test_leaderboard_across(results: Path) -> None:
    """Two groupings as a table, as text, JSON and Markdown."""
    asked = ("--db", results, "leaderboard", "--pivot", "speaker,model")
    assert run(*asked) == (
        0,
        "speaker  svoice  demucs:4.0\n-         12.50       11.50\nAda       11.00       10.00\n",
        "si_snri (dB) by speaker, model, highest mean first\n",
    )
    assert json.loads(run(*asked, "--json").out)[1] == {
        "speaker": "Ada",
        "svoice": 11.0,
        "demucs:4.0": 10.0,
    }
    assert run(*asked, "--md").out.startswith("| speaker | svoice | demucs:4.0 |\n| --- |")


def test_groupings_add_up(results: Path) -> None:
    """``--by`` given twice is one list with a comma."""
    asked = ("--db", results, "leaderboard", "--md", "--by")
    twice = run(*asked, "model", "--by", "speaker")
    assert twice == run(*asked, "model,speaker")
    assert twice.out.startswith("| model | speaker |")


@pytest.mark.parametrize(
    ("args", "models"),
    [
        (["--model", "demucs:4.0"], ["demucs"]),
        (["--speaker", "Ada"], ["svoice", "demucs"]),
        (["--operation", "other"], []),
        (["--until", "2024-05-06", "--limit", "1"], ["svoice"]),
        (["model:svoice", "--where", "path:/mix/0"], ["svoice"]),
        (["--metric", "odd", "--lower-is-better"], ["svoice", "demucs"]),
        (["--metric", "odd", "--higher-is-better"], ["demucs", "svoice"]),
    ],
    ids=lambda value: " ".join(value) or "all",
)
def test_leaderboard_as_json(results: Path, args: list[str], models: list[str]) -> None:
    """JSON has the exact numbers, and stderr the notes; filters and directions are passed on."""
    done = run("--db", results, "leaderboard", "--json", *args)
    notes = run("--db", results, "leaderboard", *args).err.splitlines(keepends=True)[1:]
    assert (done.code, done.err) == (0, "".join(notes).replace("no runs\n", ""))
    rows = json.loads(done.out)
    assert [row["model_type"] for row in rows] == models
    for row in rows:
        assert {"model_version", "n", "coverage", "mean", "median", "stdev", "low"} <= set(row)


def test_leaderboard_of_nothing(path: Path) -> None:
    """Nothing to rank is said."""
    run("--db", path, "init")
    said = "si_snri (dB) by model, highest mean first\nno runs\n"
    assert run("--db", path, "leaderboard") == (0, "", said)
    assert run("--db", path, "leaderboard", "--json") == (0, "[]\n", "")
    said = "si_snri (dB) by speaker, model, highest mean first\nno runs\n"
    assert run("--db", path, "leaderboard", "--pivot", "speaker,model") == (0, "", said)
    assert run("--db", path, "leaderboard", "--md").out.splitlines()[-1] == "- no runs"
    assert "; no runs}" in run("--db", path, "leaderboard", "--latex").out


def test_leaderboard_of_low_values(results: Path) -> None:
    """Bars of values below zero begin at the lowest."""
    done = run("--db", results, "leaderboard", "--metric", "odd", "--lower-is-better")
    assert [line.count("█") for line in done.out.splitlines()] == [0, 0, 1]
    assert done.err.splitlines()[0] == "odd by model, lowest mean first"


@pytest.mark.once
def test_bar_without_unicode(results: Path) -> None:
    """An output that lacks block letters gets a bar of number signs."""
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", *PROGRAM[1:], "--db", str(results), "leaderboard"],
        capture_output=True,
        text=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    assert "demucs:4.0  #######" in done.stdout


@pytest.mark.once
@pytest.mark.parametrize("columns", [80, 40])
def test_leaderboard_fits_a_terminal(path: Path, columns: int) -> None:
    """Names of models are whole at any width; bar, SD and median go before them."""
    with DatabaseManager(path).initialize() as db:
        db.record_runs(
            {
                "source": f"/mix/{number}.wav",
                "operation_type": "separation",
                "start_time": SINCE,
                "processing_time": 3.5,
                "model_type": "a model with a long name",
                "model_version": f"2024-05-{number % 2}",
                "metrics": {
                    "si_snri": -10.0 * number,
                    "sdri": -10.0,
                    "memory_usage": 12_345.6,
                    "real_time_factor": 0.123456,
                },
            }
            for number in range(4)
        )
    code, seen = terminal("--db", path, "leaderboard", columns=columns)
    lines = seen.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    said = ("si_snri (dB) by", "measured on", "groups that share", "no room for")
    table = [line for line in lines if not line.startswith(said)]
    assert code == 0
    assert max(map(len, table)) <= columns, seen
    for version in (0, 1):
        assert f"a model with a long name:2024-05-{version}" in seen
    headings = {word for line in table for word in line.split()}
    assert {"n", "mean"} <= headings
    assert not {"SD", "median"} & headings
    assert any(line.startswith("no room for ") and "SD" in line for line in lines)


@pytest.mark.once
@pytest.mark.parametrize("columns", [80, 40])
def test_comparison_fits_a_terminal(results: Path, columns: int) -> None:
    """No line of a comparison is wider than the terminal, and no word of it is lost."""
    asked = ("--db", results, "compare", "demucs:4.0", "svoice")
    code, seen = terminal(*asked, columns=columns)
    assert code == 0
    assert max(map(len, seen.splitlines())) <= columns, seen
    assert seen.split() == run(*asked).out.split()


@pytest.mark.once
def test_the_table_of_several_models_fits_a_terminal(results: Path) -> None:
    """A row of the table stays one line; what it has no room for is in the pairs below it."""
    with DatabaseManager(results).connect() as db:
        measure(db, "other:1", [1.0, 2.0], operation_type="separation")
    asked = ("--db", results, "compare", "demucs:4.0", "svoice", "other")
    code, seen = terminal(*asked, columns=40)
    lines = seen.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert code == 0
    assert max(map(len, lines)) <= 40, seen
    rows = [line for line in lines if line.split()[:2] in (["demucs:4.0", "a"], ["svoice", "a"])]
    assert len(rows) == 2, seen
    assert "demucs:4.0 and svoice: identical" in seen


def test_compare(results: Path) -> None:
    """A comparison says who is better, by how much, how sure that is, and where."""
    done = run("--db", results, "compare", "demucs:4.0", "svoice")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[4] == (
        "identical differences: B - A = +1.00 dB in each of 3 recordings, which is no certainty"
    )
    found = json.loads(run("--db", results, "compare", "demucs:4.0", "svoice", "--json").out)
    assert (found["n"], found["mean_difference"], found["better"]) == (3, 1.0, None)


@pytest.mark.parametrize("style", ["--md", "--latex"])
def test_a_table_for_papers(results: Path, style: str) -> None:
    """The leaderboard and the comparison of two and of three models."""
    with DatabaseManager(results).connect() as db:
        measure(db, "other:1", [1.0, 2.0], operation_type="separation")
    for words in (
        ["leaderboard"],
        ["compare", "demucs", "svoice"],
        ["compare", "demucs", "svoice", "other"],
    ):
        done = run("--db", results, *words, style)
        assert (done.code, done.err) == (0, "")
        assert {"--md": "| ---", "--latex": "\\toprule"}[style] in done.out


NO_DIRECTION = (
    "it is not known whether a high 'odd' is good; say --higher-is-better or --lower-is-better"
)


@pytest.mark.parametrize(
    ("line", "arguments", "message"),
    [
        (
            "leaderboard --by speakr",
            "[OPTIONS] [QUERY]...",
            "unknown field 'speakr'; did you mean 'speaker' or 'speaker_id' or 'speaker.tag'?",
        ),
        (
            "compare demucs svois",
            "[OPTIONS] A B [C]...",
            "unknown model 'svois'; did you mean 'svoice'?",
        ),
        (  # the option, where Python has an argument
            "leaderboard --metric odd",
            "[OPTIONS] [QUERY]...",
            NO_DIRECTION,
        ),
        (
            "compare demucs svoice --unit speaker --where 1.wav",
            "[OPTIONS] A B [C]...",
            "no stem has a speaker; count recordings: --unit recording",
        ),
        ("compare demucs svoice --cluster speaker", "[OPTIONS] A B [C]...", "use --unit speaker"),
    ],
    ids=["field", "model", "direction", "unit", "cluster"],
)
def test_questions_that_make_no_sense(
    results: Path, line: str, arguments: str, message: str
) -> None:
    """What is not known is named as the shell spells it, with what is near, and exits 2."""
    expected = usage(f"voices {line.split()[0]}", arguments, message)
    assert run("--db", results, *line.split()) == (2, "", expected)


@pytest.mark.parametrize("option", ["--model", "--operation", "--speaker"])
def test_of_two_names_none_is_left_out_silently(results: Path, option: str) -> None:
    """What takes one model, operation or speaker refuses a second."""
    message = f"Invalid value for '{option}': it takes one, not 2"
    expected = usage("voices leaderboard", "[OPTIONS] [QUERY]...", message)
    assert run("--db", results, "leaderboard", option, "a", option, "b") == (2, "", expected)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("leaderboard --md --json", "--json and --md are several forms; name one"),
        ("list-files --csv --jsonl --all", "--jsonl and --csv are several forms; name one"),
    ],
)
def test_of_two_forms_none_is_left_out_silently(results: Path, line: str, message: str) -> None:
    """What is written in one form refuses a second, in whichever order."""
    expected = usage(f"voices {line.split()[0]}", "[OPTIONS] [QUERY]...", message)
    assert run("--db", results, *line.split()) == (2, "", expected)


@pytest.mark.parametrize(
    ("command", "words", "option"),
    [
        ("pending a.wav", "[OPTIONS] PATH...", "--operation"),
        ("import-results a.csv", "[OPTIONS] PATH...", "--model"),
    ],
)
def test_a_name_that_is_needed_is_asked_for(
    results: Path, command: str, words: str, option: str
) -> None:
    """Without the operation or model that a command needs it says which option has it."""
    said = usage(f"voices {command.split()[0]}", words, f"Missing option '{option}'.")
    assert run("--db", results, *command.split()) == (2, "", said)
