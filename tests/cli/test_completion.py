"""The TAB key: what it completes from the record, in each shell, and what it never does."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete, split_arg_string
from support.cli_tools import program, run

from voices_peewee import DatabaseManager
from voices_peewee.cli import cli
from voices_peewee.cli.completion import FIELDS
from voices_peewee.search.columns import LISTS

pytestmark = [
    pytest.mark.once,
    pytest.mark.sqlite("the program of a server is the same but for its patience"),
]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of two models, two speakers and a metric of its own."""
    path = tmp_path_factory.mktemp("tab") / "voices.db"
    with DatabaseManager(path).initialize() as db:
        db.create_speaker("John Doe", tags=["studio"])
        db.create_speaker("Ada")
        for model, version in (("demucs", "4.0"), ("demucs", "4.1"), ("svoice", None)):
            settings = {"model_type": model, "model_version": version, "tags": ["sweep"]}
            with db.track("/mix/1.wav", "voice_separation", **settings) as one:
                one.output(f"/stems/{model}{version}.wav", si_snri=1.5, pesq_wb=2.5)
    return path


def environment(path: Path, **settings: str) -> dict[str, str]:
    return {**os.environ, "VOICES_DB": str(path), "_VOICES_COMPLETE": "bash_complete", **settings}


def tab(path: Path, line: str) -> list[str]:
    """Return what a word can become, as click is told of it."""
    *args, last = split_arg_string(f"{line}.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOICES_DB", str(path))
        shell = ShellComplete(cli, {}, "voices", "_VOICES_COMPLETE")
        return [item.value for item in shell.get_completions(args[1:], last[:-1])]


def silent(path: Path, line: str) -> list[str]:
    """Return what the program itself writes for bash; it says nothing else."""
    done = program(env=environment(path, COMP_LINE=line, COMP_WORDBREAKS=""))
    assert (done.code, done.err) == (0, "")
    return done.out.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("voices list-sp", ["list-speakers"]),
        ("voices list hi", ["history"]),
        ("voices list-files --off", ["--offset"]),
        ("voices completion b", ["bash"]),
        ("voices list-history --model d", ["demucs", "demucs:4.0", "demucs:4.1"]),
        ("voices compare demucs:4.0 demucs:", ["demucs:4.0", "demucs:4.1"]),
        ("voices leaderboard --metric p", ["processing_time", "pesq_wb"]),
        ("voices list-files --speaker J", ["John Doe"]),
        ("voices update-speaker A", ["Ada"]),
        ("voices pending x.wav --operation v", ["voice_separation"]),
        ("voices list-speakers --tag s", ["studio", "sweep"]),
        ("voices update-run 1 --remove-tag s", ["studio", "sweep"]),
        ("voices plot ", ["distribution", "paired", "ranks", "scatter"]),
        ("voices report --baseline s", ["svoice"]),
        ("voices report status:f", ["status:failed"]),
        ("voices run-migrations --to 001", ["001_initial"]),
        ("voices list-history stat", ["status:"]),
        ("voices list-history status:f", ["status:failed"]),
        ("voices list history ^status:failed,u", ["^status:failed,unfinished"]),
        ("voices list-files kind:st", ["kind:stem"]),
        ("voices list-history model:demucs,s", ["model:demucs,svoice"]),
        ("voices list-performance metrics.pe", ["metrics.pesq_wb:"]),
        ("voices list-files --columns id,dur", ["id,duration"]),
        ("voices leaderboard --by model,par", ["model,parameters", "model,params"]),
        ("voices export perf", ["performance"]),
        ("voices list-history --model nothing", []),
    ],
)
def test_what_is_recorded_is_completed(record: Path, line: str, found: list[str]) -> None:
    """Fields and their values, models, metrics, speakers, operations, tags, kinds, migrations."""
    assert tab(record, line) == found


@pytest.mark.parametrize(
    "line",
    [
        *("add-files ", "add-files --manifest ", "pending ", "pending x --model-file "),
        *("import ", "import-results ", "import-results --manifest ", "status --watch "),
        *("update-file ", "delete-file 1 --export-to ", "listen --import ", "report -o "),
    ],
)
def test_paths_are_completed_by_the_shell(record: Path, line: str) -> None:
    """Where a file belongs, the shell is told to look for files."""
    words = environment(record, COMP_LINE=f"voices {line}mi", COMP_WORDBREAKS="")
    assert program(env=words) == (0, "file,mi\n", "")


@pytest.mark.parametrize("noun", LISTS)
def test_fields_are_those_of_the_lists(noun: str) -> None:
    """The fields that TAB knows without Peewee are those of the lists, to the last word."""
    assert sorted(FIELDS[noun].split()) == sorted(LISTS[noun].fields.keys() - {"since"})


@pytest.mark.parametrize("noun", LISTS)
def test_columns_are_those_of_the_lists(record: Path, noun: str) -> None:
    """--columns completes what a list can show, and nothing that it refuses."""
    fields = LISTS[noun].fields
    shown = [name for name, column in fields.items() if not column.hidden and name != "since"]
    assert tab(record, f"voices list-{noun} --columns ") == sorted(shown)


def test_a_database_after_the_command_is_asked(record: Path, tmp_path: Path) -> None:
    """--db is what it is for every command, before and after its name."""
    for line in (
        f"voices --db {record} list-history --model sv",
        f"voices list-history --db {record} --model sv",
    ):
        assert tab(tmp_path / "none.db", line) == ["svoice"]


def test_a_missing_record_completes_nothing_and_is_not_made(tmp_path: Path) -> None:
    """Without a database there is nothing to complete, nothing said, and no file."""
    assert silent(tmp_path / "none.db", "voices list-history --model d") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no database at all\n" * 100], ids=["empty", "text"])
def test_what_is_no_record_completes_nothing(tmp_path: Path, content: bytes) -> None:
    """A file that is something else is left alone, without a word."""
    (tmp_path / "notes.db").write_bytes(content)
    assert silent(tmp_path / "notes.db", "voices list-files --speaker A") == []
    assert (tmp_path / "notes.db").read_bytes() == content


def test_a_locked_record_completes_nothing_at_once(record: Path, tmp_path: Path) -> None:
    """Where another program holds the file for itself, TAB neither waits nor complains."""
    path = tmp_path / "locked.db"
    shutil.copy(record, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE speakers SET description = 'x'")
        assert silent(path, "voices list-history --model d") == []


def test_a_glimpse_loads_no_peewee_and_leaves_nothing_beside_the_file(record: Path) -> None:
    """A key press costs no start of Peewee, and a reader writes no file."""
    before = sorted(record.parent.iterdir())
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "voices_peewee"],
        env=environment(record, COMP_LINE="voices list-files model:de", COMP_WORDBREAKS=""),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "plain,model:demucs\nplain,model:demucs:4.0\nplain,model:demucs:4.1\n"
    assert "peewee\n" not in done.stderr.replace("voices_peewee", "")
    assert sorted(record.parent.iterdir()) == before


def test_many_models_are_bounded(tmp_path: Path) -> None:
    """A record of thousands of models completes some of them, and soon."""
    path = tmp_path / "many.db"
    with DatabaseManager(path).initialize() as db:
        file = db.execute_raw_query(
            "INSERT INTO processed_files (filename, metadata, created_at, updated_at) "
            "VALUES ('a', '{}', '2026-01-01', '2026-01-01') RETURNING id",
            write=True,
        )[0]["id"]
        db.execute_raw_query(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
            "INSERT INTO processing_history (processed_file_id, run_id, operation_type, "
            "model_type, parameters, start_time, success) SELECT ?, 'r' || i, 'op', "
            "'model' || i, '{}', '2026-01-01', 1 FROM n",
            [file],
            write=True,
        )
    assert 0 < len(tab(path, "voices list-history --model mod")) <= 200
    assert tab(path, "voices list-history --model model4999") == ["model4999"]


BASH = """
{script}
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
COMP_LINE={line}; COMP_POINT=${{#COMP_LINE}}
_voices_completion voices 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
SHELL_CASES = [
    ("voices list-history --model demucs:4", ["4.0", "4.1"], ["demucs:4.0", "demucs:4.1"]),
    ("voices list-history --model=demucs:4", ["4.0", "4.1"], ["--model=demucs:4.0"]),
    ("voices list-files --speaker Jo", ["John\\ Doe"], ["John Doe"]),
    ("voices list-history model:demucs,sv", ["demucs,svoice"], ["model:demucs,svoice"]),
    ("voices list-history status:", ["failed", "success", "unfinished"], ["status:failed"]),
]


@pytest.fixture
def shell_environment(record: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which ``voices`` is this program."""
    tool = tmp_path / "voices"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m voices_peewee "$@"\n')
    tool.chmod(0o755)
    return {
        **os.environ,
        "VOICES_DB": str(record),
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.mark.parametrize(("line", "found"), [case[:2] for case in SHELL_CASES])
def test_bash_gets_words_as_it_inserts_them(
    shell_environment: dict[str, str], line: str, found: list[str]
) -> None:
    """In bash a word with a colon, ``=``, comma or space comes out whole on the command line."""
    script = BASH.format(script=run("completion", "bash").out, line=f"'{line}'")
    done = subprocess.run(
        ["bash", "-c", script], env=shell_environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split("\n")[:-1], done.stderr) == (0, found, "")


def test_bash_leaves_quotes_alone(shell_environment: dict[str, str]) -> None:
    """Inside quotes bash breaks no word and needs no backslash."""
    line = shlex_quoted('voices list-files "speaker:Jo')
    script = BASH.format(script=run("completion", "bash").out, line=line)
    done = subprocess.run(
        ["bash", "-c", script], env=shell_environment, capture_output=True, text=True
    )
    assert done.stdout == "speaker:John Doe\n"


def shlex_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here")
@pytest.mark.parametrize(
    ("line", "found"), [(case[0], case[2]) for case in SHELL_CASES if "=" not in case[0]]
)
def test_fish_gets_whole_words(
    shell_environment: dict[str, str], line: str, found: list[str], tmp_path: Path
) -> None:
    """In fish a word with a colon, a comma or a space comes whole."""
    (tmp_path / "voices.fish").write_text(run("completion", "fish").out)
    script = f"source {tmp_path}/voices.fish; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], env=shell_environment, capture_output=True, text=True
    )
    assert set(found) <= set(done.stdout.splitlines())


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_gets_whole_words(shell_environment: dict[str, str]) -> None:
    """In zsh the function of the script hands models over to compadd."""
    script = (
        f"compdef() {{ }}\n{run('completion', 'zsh').out}\n"
        "compadd() { print -l -- $completions }\n"
        "words=(voices list-history --model demucs:4); CURRENT=4\n_voices_completion"
    )
    done = subprocess.run(
        ["zsh", "-f", "-c", script], env=shell_environment, capture_output=True, text=True
    )
    assert done.stdout == "demucs:4.0\ndemucs:4.1\n"
