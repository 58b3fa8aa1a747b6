"""The command line as a whole: start-up, errors, exit status, pipes and signals."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from support.cli_tools import PROGRAM, Outcome, run, usage

from voices_peewee import __version__
from voices_peewee.cli import cli


@pytest.fixture(autouse=True)
def _buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs buffer their output, as they do where nobody asked for something else."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def commands() -> dict[str, click.Command]:
    """Return every command by its name."""
    context = click.Context(cli, info_name="voices")
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def loaded(*args: str) -> set[str]:
    """Return the packages that a command line loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *PROGRAM[1:], *args],
        capture_output=True,
        text=True,
        check=False,
    )
    names = re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE)
    return {name.partition(".")[0] for name in names} | {
        name for name in names if name.startswith("voices_peewee.")
    }


_COLLECTIONS = """
import atexit, gc
from voices_peewee.__main__ import main
count = lambda: sum(one["collections"] for one in gc.get_stats())
before = count()
atexit.register(lambda: print(count() - before <= 5, gc.get_freeze_count() > 0))
main()
"""


def test_a_short_command_looks_for_no_garbage() -> None:
    """A command is over before Python has looked for garbage often, and its end looks at none."""
    script = [sys.executable, "-c", _COLLECTIONS, "--db", ":memory:", "init"]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert done.stdout == ":memory:\nTrue True\n"


@pytest.mark.once
@pytest.mark.parametrize(
    "args",
    [("--version",), ("--help",), ("list-speakers", "-h"), ("list", "files", "-h"), ("nonsense",)],
    ids=" ".join,
)
def test_words_about_commands_load_no_database(args: tuple[str, ...]) -> None:
    """Version, help and a mistyped command load neither Peewee nor the models."""
    names = loaded(*args)
    assert names & {"peewee", "playhouse", "peewee_migrate", "sqlite3"} == set()
    assert "voices_peewee.db_manager" not in names


@pytest.mark.once
@pytest.mark.parametrize("module", ["voices_peewee", "voices_peewee.cli"])
def test_both_modules_are_the_program(module: str) -> None:
    """The package and its command line run as modules."""
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True)
    assert done.stdout.decode() == f"voices, version {__version__}\n"


@pytest.mark.parametrize("name", commands())
def test_help_of_every_command(name: str, tmp_path: Path) -> None:
    """Every command explains itself with -h and --help, shows an example and makes no file."""
    db = tmp_path / "none" / "x.db"
    short, long = (run("--db", db, name, flag) for flag in ("-h", "--help"))
    assert short == long
    assert (short.code, short.err) == (0, "")
    assert "\n\nExample:\n  voices " in short.out
    assert max(map(len, short.out.splitlines())) <= 80
    assert not db.parent.exists()


@pytest.mark.parametrize("name", commands())
def test_summaries_are_those_of_the_commands(name: str) -> None:
    """The list of commands says about each what its own help says first."""
    summaries = {each: text for _, names in cli.sections.values() for each, text in names.items()}
    assert (commands()[name].help or "").partition("\n")[0] == summaries[name]


def test_nothing_is_help() -> None:
    """Without a command the help is shown and nothing is done."""
    assert run() == (2, "", run("--help").out)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(
            ["lst-speakers"],
            "unknown command 'lst-speakers'; did you mean 'list-speakers' or 'delete-speaker' "
            "or 'add-speaker'?",
            id="near",
        ),
        pytest.param(
            ["\x1b[31mlist"],
            "unknown command '\\x1b[31mlist'; did you mean 'list' or 'listen'?",
            id="escape",
        ),
    ],
)
def test_usage_error(args: list[str], message: str) -> None:
    """A command line that makes no sense exits 2 and says what would."""
    assert run(*args) == (2, "", usage("voices", "[OPTIONS] COMMAND [ARGS]...", message))


LISTEN = usage("voices listen", "[OPTIONS] [A B]...", "{}")
OF_NOTHING = [
    ("add-files empty", 0, "no recordings found\n"),
    ("import empty.jsonl --dry-run", 0, "nothing would be imported\n"),
    ("import empty.jsonl", 0, "nothing to import\n"),
    ("listen --results", 0, "no votes yet; 'voices listen A B -o test.html' makes a test\n"),
    (
        "listen",
        2,
        LISTEN.format("name two models or more, or use --import, or --results"),
    ),
    ("listen a b", 2, LISTEN.format("a test needs --output, or --dry-run")),
    (
        "listen a b -o x.html --dry-run",
        2,
        LISTEN.format("--output and --dry-run exclude each other"),
    ),
    (
        "compare a b",
        2,
        usage("voices compare", "[OPTIONS] A B [C]...", "unknown model 'a'; no run names a model"),
    ),
    (
        "list -- speakers",
        2,
        usage("voices list", "[OPTIONS] NOUN", "'speakers' stands right after 'list'"),
    ),
]


@pytest.mark.parametrize(("line", "code", "said"), OF_NOTHING, ids=[one[0] for one in OF_NOTHING])
def test_what_there_is_nothing_of_is_said(
    path: Path | str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    code: int,
    said: str,
) -> None:
    """In an empty record a command says what it lacks, or what to give it."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    run("--db", path, "init")
    run("--db", path, "export", "-o", "empty.jsonl")
    assert run("--db", path, *line.split()) == (code, "", said)


READING = [
    "status",
    "list files",
    "backup",
    "run-migrations",
    "rollback-migration --yes",
    "add-files .",
    "pending x.wav --operation separation",
    "plot distribution -o plot.png",
]


@pytest.mark.parametrize("line", READING)
def test_no_command_but_init_creates_a_database(line: str, tmp_path: Path) -> None:
    """Where there is no database every command says so and creates nothing."""
    db = tmp_path / "none.db"
    message = f"Error: cannot use {str(db)!r}: there is no database; run 'voices init' to create it"
    assert run("--db", db, *line.split()) == (1, "", f"{message}\n")
    assert list(tmp_path.iterdir()) == []


def test_db_by_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VOICES_DB names the database."""
    monkeypatch.setenv("VOICES_DB", str(path))
    assert run("init") == (0, f"{path}\n", "3 migrations applied\n")


def test_db_after_the_command(path: Path, tmp_path: Path) -> None:
    """--db may stand after the command, and is the one that counts then."""
    other = tmp_path / "other.db"
    assert run("--db", other, "init", "--db", path) == (0, f"{path}\n", "3 migrations applied\n")
    assert not other.exists()


def test_unknown_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only errors that are meant for users are turned into a sentence."""
    monkeypatch.setattr(cli, "get_command", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("status")


@pytest.fixture
def crowd(path: Path) -> Path:
    """A database of 3,000 speakers."""
    from voices_peewee import DatabaseManager, Speaker

    with DatabaseManager(path).initialize() as manager:
        manager.add_all([Speaker(name=f"speaker {number:04d}") for number in range(3000)])
    return path


@pytest.mark.once
@pytest.mark.parametrize("line", ["list-speakers --all", "export speakers"])
def test_reader_that_goes_away(crowd: Path, line: str) -> None:
    """``| head -1`` ends a long list or an export silently, as SIGPIPE would."""
    line = shlex.join([*PROGRAM, "--db", str(crowd), *line.split()])
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -1; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True
    )
    assert (done.stdout.splitlines()[-1], done.stderr) == ("141", "")


@pytest.mark.once
@pytest.mark.parametrize(
    "line", ["list-speakers --json --all", "export speakers", "init", "--help"]
)
def test_full_disk_under_the_output(crowd: Path, line: str) -> None:
    """Output that cannot be written is an error, not a traceback."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "--db", str(crowd), *line.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    *said, error = done.stderr.splitlines()
    assert error == "Error: cannot write the output: no space left on device"
    assert said in ([], ["nothing to do"])


@pytest.mark.once
def test_a_closed_output_is_an_error(crowd: Path) -> None:
    """Where there is no standard output a command says so, and does nothing."""
    line = shlex.join([*PROGRAM, "--db", str(crowd), "add-speaker", "Ada"])
    done = subprocess.run(["bash", "-c", f"{line} >&-"], capture_output=True, text=True)
    said = "Error: cannot write the output: it is closed\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    assert json.loads(run("--db", crowd, "list-speakers", "name:Ada", "--json").out) == []


@pytest.mark.once
def test_a_closed_error_stream_does_no_harm(crowd: Path) -> None:
    """Where nobody hears the words, the data come all the same."""
    line = shlex.join([*PROGRAM, "--db", str(crowd), "list-speakers", "--limit", "1", "--csv"])
    done = subprocess.run(["bash", "-c", f"{line} 2>&-"], capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)


@pytest.mark.once
def test_a_lost_working_directory(tmp_path: Path) -> None:
    """In a folder that was deleted there is a sentence, also where peewee-migrate asks for it."""
    program = Path(sys.executable).with_name("voices")
    script = f"mkdir lost && cd lost && rmdir ../lost && {program} --db {{}} init"
    for db in ("x.db", tmp_path / "y.db"):
        done = subprocess.run(
            ["bash", "-c", script.format(db)], cwd=tmp_path, capture_output=True, text=True
        )
        said = "Error: the working directory is gone; change into one that is there\n"
        assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.once
def test_ctrl_c(path: Path) -> None:
    """Ctrl-C ends a command with one word and status 130."""
    assert run("--db", path, "init").code == 0
    waiting = (
        "import signal, sys, time\n"
        "from voices_peewee.records.speakers import SpeakerMethods\n"
        "def list_tags(self):\n    print('ready', flush=True); time.sleep(60)\n"
        "SpeakerMethods.list_tags = list_tags\n"
        f"sys.argv = ['voices', '--db', {str(path)!r}, 'list-tags']\n"
        "from voices_peewee.cli import main\nmain()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", waiting],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert Outcome(child.returncode, out, err) == (130, "", "\nAborted!\n")


@pytest.mark.once
def test_ctrl_c_while_modules_are_loaded(tmp_path: Path) -> None:
    """Ctrl-C before the command line is there ends the program with status 130, in silence."""
    text = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "click.py").write_text(text)
    program = [sys.executable, "-m", "voices_peewee", "status"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert Outcome(done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    """The script of each shell calls this program."""
    done = run("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert f"_VOICES_COMPLETE={shell}_complete" in done.out


def test_usage_errors_command_no_terminal() -> None:
    """What click says about a wrong command line repeats no control character of it."""
    done = run("add-speaker", "a", "\x1b]0;owned\x07")
    assert done.code == 2
    assert done.err.endswith("Error: Got unexpected extra argument (\\x1b]0;owned\\x07)\n")
