"""``voices status --watch``: what is said of a batch, when it ends, and what a look costs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.cli_tools import PROGRAM, run, terminal, usage
from support.wav_files import write_wav

from voices_peewee import DatabaseManager, ProcessingHistory
from voices_peewee.errors import InvalidValueError
from voices_peewee.runs.process import process_facts


@pytest.fixture(autouse=True)
def _record(path: Path) -> None:
    with DatabaseManager(path).initialize():
        pass


def mixtures(folder: Path, count: int) -> list[str]:
    """Make files that wait for a model."""
    return [str(write_wav(folder / f"{number}.wav")) for number in range(count)]


DEAD = {**process_facts(), "pid": 2**22 + 1}

WORKER = """
import sys, time
from voices_peewee import DatabaseManager
with DatabaseManager(sys.argv[1]) as db:
    for number, path in enumerate(sys.argv[2:]):
        try:
            with db.track(path, "separation", model_type="demucs", model_version="4.0"):
                if number == 0:
                    print("ready", flush=True)
                if number in (0, 2):
                    sys.stdin.readline()  # held until somebody lets it go on
                time.sleep(0.4)
                if number == 1:
                    raise ValueError("it broke")
        except ValueError:
            pass
"""


def begun(path: Path, names: list[str], *, is_held: bool = False) -> subprocess.Popen[str]:
    """Start a worker, the second run fails; it may be held in the first and the third."""
    command = [sys.executable, "-c", WORKER, path, *names]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    source = pipe if is_held else nothing
    worker = subprocess.Popen(list(map(str, command)), stdin=source, stdout=pipe, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def watching(path: Path, *words: str) -> tuple[subprocess.Popen[str], str]:
    """Start a watch; return it with the first line that it writes."""
    command = [*PROGRAM, "--db", str(path), "status", "--watch", *words]
    pipe = subprocess.PIPE
    watch = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    assert watch.stdout is not None
    return watch, watch.stdout.readline()


ASKED = ("--operation", "separation", "--model", "demucs:4.0")


def test_a_batch_is_watched_to_its_end(path: Path, tmp_path: Path) -> None:
    """Lines say what is done, failed, running by whom and waiting, and end when nothing is left."""
    names = mixtures(tmp_path, 4)
    worker = begun(path, names, is_held=True)
    watch, first = watching(path, *names, *ASKED)
    assert worker.stdin is not None
    assert watch.stdout is not None
    worker.stdin.write("go on\n")
    worker.stdin.flush()
    running = [next(line for line in watch.stdout if " left; " in line).rstrip("\n")]
    assert worker.communicate("go on\n", timeout=60)[0] == ""
    *more, last = watch.communicate(timeout=60)[0].splitlines()
    running += more
    assert watch.returncode == 0
    who = f"; {os.uname().nodename}:{worker.pid}"
    assert first == f"0 of 4 done, 0 failed, 1 running, 3 waiting{who}\n"
    assert re.fullmatch(r"3 of 4 done, 1 failed, [\d,]+ an hour", last)
    assert all(line.endswith(who) for line in running if "running" in line)
    assert re.search(r", \d waiting, [\d,]+ an hour, \d:\d\d:\d\d left; ", running[0])


def test_without_paths_the_runs_that_go_on_are_watched(path: Path) -> None:
    """Without PATHs the watch counts what ends meanwhile, and ends when nothing runs."""
    worker = begun(path, [f"/mix/{number}.wav" for number in range(9)], is_held=True)
    command = [*PROGRAM, "--db", str(path), "status", "--watch"]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    first = watch.stdout.readline()
    assert worker.communicate("go on\n", timeout=60)[0] == ""
    *_, last = watch.communicate(timeout=60)[0].splitlines()
    assert watch.returncode == 0
    assert first == f"0 of 1 done, 0 failed, 1 running; {os.uname().nodename}:{worker.pid}\n"
    assert re.fullmatch(r"8 of 9 done, 1 failed, [\d,]+ an hour", last)


def test_where_nothing_is_left_a_watch_ends_at_once(path: Path) -> None:
    """A batch that is done is one line."""
    with DatabaseManager(path) as db, db.track("/mix/1.wav", "separation"):
        pass
    done = run("--db", path, "status", "--watch", "/mix/1.wav", "--operation", "separation")
    assert done == (0, "1 of 1 done, 0 failed\n", "")
    assert run("--db", path, "status", "--watch") == (0, "0 of 0 done, 0 failed\n", "")


def test_the_dead_do_not_keep_a_watch_alive(path: Path) -> None:
    """A run whose process died is counted as that, and nobody waits for it."""
    with DatabaseManager(path) as db:
        with db.track("/mix/1.wav", "other"):
            pass
        file = db.get_file("/mix/1.wav")
        db.add(ProcessingHistory(processed_file=file, operation_type="separation", process=DEAD))
    done = run("--db", path, "status", "--watch", "/mix/1.wav", "--operation", "separation")
    assert done == (0, "0 of 1 done, 0 failed, 1 of dead processes\n", "")


def test_parameters_are_of_sources(db: DatabaseManager) -> None:
    """Settings are asked about with sources only: of runs that go on, all count."""
    with pytest.raises(InvalidValueError) as caught:
        db.watch(parameters={"shifts": 2})
    assert str(caught.value) == "parameters are asked about only with sources"


def test_a_file_that_is_nowhere_is_not_waited_for(path: Path) -> None:
    """A misspelt path is one sentence, however many runs the record has."""
    done = run("--db", path, "status", "--watch", "/mix/one.wav", "--operation", "separation")
    reason = "there is no such file, and the record knows none there"
    assert done == (1, "", f"Error: cannot read '/mix/one.wav': {reason}\n")


def test_what_is_claimed_or_run_with_these_parameters_is_running(path: Path) -> None:
    """A claimed recording counts as running; a run with other parameters does not."""
    words = ["--operation", "separation", "--param", "shifts=2", "--json"]
    names = ["/mix/1.wav", "/mix/2.wav", "/mix/3.wav"]
    settings = {"operation_type": "separation", "parameters": {"shifts": 2}}
    with DatabaseManager(path) as db:
        left = db.pending(names, **settings, claim=True)
        assert next(left) == "/mix/1.wav"
        with (
            db.track(names[1], "separation", parameters={"shifts": 1}),
            db.track(names[2], **settings),
        ):
            watch, first = watching(path, *names, *words)
            watch.kill()
            watch.communicate()
        left.close()
    look = json.loads(first)
    name = f"{os.uname().nodename}:{os.getpid()}"
    assert (look["done"], look["running"], look["waiting"]) == (0, {name: 2}, 1)


def test_json_is_an_object_a_look(path: Path) -> None:
    """For a program each look is a line of JSON."""
    done = run("--db", path, "status", "--watch", "--json")
    assert json.loads(done.out) == {
        **dict.fromkeys(("done", "failed", "died", "waiting"), 0),
        "running": {},
        "rate": None,
        "seconds_left": None,
    }


def test_a_terminal_has_one_line_that_moves(path: Path, tmp_path: Path) -> None:
    """On a terminal the line is written anew in its place, and fits."""
    names = mixtures(tmp_path, 2)
    worker = begun(path, names, is_held=True)
    assert worker.stdin is not None
    threading.Timer(5, worker.stdin.close).start()
    with worker:
        code, seen = terminal("--db", path, "status", "--watch", *names, *ASKED, columns=40)
    assert worker.returncode == 0
    assert code == 0
    assert seen.count("\n") == 1
    lines = seen.rstrip("\n").split("\r\x1b[K")[1:]
    assert len(lines) > 1
    assert max(map(len, lines)) < 40


def test_ctrl_c_ends_a_watch(path: Path, tmp_path: Path) -> None:
    """Ctrl-C ends it with one word and status 130, and nothing else is harmed."""
    child = subprocess.Popen(
        [*PROGRAM, "--db", str(path), "status", "--watch", *mixtures(tmp_path, 1), *ASKED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "0 of 1 done, 0 failed, 1 waiting\n"
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=30) == ("", "\nAborted!\n")
    assert child.returncode == 130


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--watch", "a.wav"], "--watch with PATHs needs --operation"),
        (["--watch", "--param", "a=1"], "--param needs PATHs"),
        (["a.wav"], "PATHs, --operation, --model and --param need --watch"),
    ],
    ids=["operation", "param", "watch"],
)
def test_words_that_make_no_sense(words: list[str], message: str) -> None:
    """What only a watch takes is refused without one, and the other way round."""
    expected = usage("voices status", "[OPTIONS] [PATH]...", message)
    assert run("status", *words) == (2, "", expected)
