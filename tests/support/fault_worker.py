"""A program that works on databases until it is killed; ``Workers`` is how the tests run it.

It reads one JSON object a line: ``work`` names a function below, the rest are its arguments.
For each it forks a child, which acknowledges in a file what the package has acknowledged to
it. The answers are the child's process id and, when it has ended, its status.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from voices_peewee import DatabaseManager, ProcessedFile, Speaker
from voices_peewee.exchange import merging as importing

BATCH = 20


def add(db: DatabaseManager, say: Callable[[object], None], *, until: float = 60) -> None:
    """Add speakers one by one."""
    for number in _numbers(until):
        say(db.add(Speaker(name=f"single {number}")).id)


def add_all(db: DatabaseManager, say: Callable[[object], None], *, until: float = 60) -> None:
    """Add speakers in batches, each with a file of its own."""
    for number in _numbers(until):
        name = f"batch {os.getpid()} {number}"
        db.add_all(
            ProcessedFile(filename=f"{place}.wav", speaker=Speaker(name=name))
            for place in range(BATCH)
        )
        say(name)


def track(db: DatabaseManager, say: Callable[[object], None], *, until: float = 60) -> None:
    """Record runs with two outputs each."""
    for number in _numbers(until):
        source = f"/mix/{os.getpid()}-{number}.wav"
        with db.track(source, "separation", model_type="demucs") as run:
            say(["begun", run.run_id, 1])
            for voice in (1, 2):
                run.output(f"{source}.{voice}.wav", si_snri=float(voice))
                say(["told", run.run_id, voice])
        say(["ended", run.run_id, 2])


def read(db: DatabaseManager, say: Callable[[object], None], *, until: float) -> None:
    """Read everything, in transactions of about a second."""
    seen = 0
    for _ in _numbers(until):
        connection = db.database.connection()
        connection.execute("BEGIN")
        count = connection.execute("SELECT count(*) FROM speakers").fetchone()[0]
        time.sleep(1)
        again = len(db.get_all(Speaker))
        connection.execute("COMMIT")
        if not seen <= count == again:
            raise SystemExit(f"a reader saw {seen}, {count} and {again} speakers")
        seen = count
    say(seen)


def backup(db: DatabaseManager, say: Callable[[object], None], *, until: float = 60) -> None:
    """Make backups."""
    for _ in _numbers(until):
        say(str(db.backup_database()))


def restore(
    db: DatabaseManager, say: Callable[[object], None], *, backups: list[str], until: float = 60
) -> None:
    """Restore one backup after the other."""
    for number in _numbers(until):
        say("begun")
        db.restore(backups[number % len(backups)])
        say(backups[number % len(backups)])


def bring_in(
    db: DatabaseManager, say: Callable[[object], None], *, source: str, files: int
) -> None:
    """Import one file after the other, each of which has rows of its own."""
    importing.import_records(db.store, [], dry_run=True)  # loads and compiles all that is needed
    for number in range(files):
        db.import_records(source.format(number))
        say(number)


def migrate(db: DatabaseManager, say: Callable[[object], None], *, directory: str) -> None:
    """Apply an application's migrations; the manager given is that of the present code."""
    db.close()
    upgraded = DatabaseManager(db.path, migrations_dir=directory)
    say(upgraded.run_migrations(backup=False))
    upgraded.close()


WORK: dict[str, Callable[..., None]] = {
    one.__name__: one for one in (add, add_all, track, read, backup, restore, bring_in, migrate)
}


def _numbers(until: float) -> Iterator[int]:
    end, number = time.monotonic() + until, 0
    while time.monotonic() < end:
        yield number
        number += 1


def _child(task: dict[str, Any]) -> None:
    acks = os.open(task.pop("acks"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def say(value: object) -> None:
        os.write(acks, json.dumps(value).encode() + b"\n")

    work = WORK[task.pop("work")]
    db = DatabaseManager(task.pop("db")).connect()
    say("ready")
    work(db, say, **task)
    db.close()


def _status(task: dict[str, Any]) -> int:
    """Do the work; the child must not return into its parent's code, whatever happens."""
    try:
        _child(task)
    except BaseException:  # noqa: BLE001 - see above
        traceback.print_exc()
        return 1
    return 0


def _answer(**facts: int) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fork a child for each line of the standard input."""
    children: set[int] = set()
    while True:
        if select.select([sys.stdin], [], [], 0.005)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            child = os.fork()
            if child == 0:
                os._exit(_status(json.loads(line)))
            children.add(child)
            _answer(started=child)
        for child in list(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                children.remove(child)
                code = os.waitstatus_to_exitcode(status)
                _answer(ended=child, code=code)


class Workers:
    """The program above, seen from a test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._codes: dict[int, int] = {}
        self._program = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, work: str, db: Path, **arguments: object) -> Worker:
        """Begin a piece of work."""
        self._count += 1
        acks = self._folder / f"acks-{self._count}"
        task = {"work": work, "db": str(db), "acks": str(acks), **arguments}
        print(json.dumps(task), file=self._program.stdin, flush=True)
        while "started" not in (answer := self._answer()):
            pass
        return Worker(self, answer["started"], acks)

    def _answer(self) -> dict[str, int]:
        answer: dict[str, int] = json.loads(self._program.stdout.readline())
        if "ended" in answer:
            self._codes[answer["ended"]] = answer["code"]
        return answer

    def code(self, process: int) -> int:
        """Wait for the end of a piece of work; return its exit status."""
        while process not in self._codes:
            self._answer()
        return self._codes[process]

    def close(self) -> None:
        """End the program."""
        self._program.stdin.close()
        self._program.stdout.close()
        self._program.wait(120)


class Worker:
    """One piece of work under way."""

    def __init__(self, workers: Workers, process: int, acks: Path) -> None:
        self._workers, self.process, self._acks = workers, process, acks

    def acks(self) -> list[Any]:
        """Return what was acknowledged so far, after ``ready``."""
        text = self._acks.read_text() if self._acks.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"][1:]

    def await_ready(self) -> None:
        """Wait until the work begins."""
        deadline = time.monotonic() + 120
        while not self._acks.exists() or not self._acks.stat().st_size:
            assert time.monotonic() < deadline, "the worker did not begin"
            time.sleep(0.001)

    def kill(self) -> list[Any]:
        """End it with SIGKILL; return what it had acknowledged."""
        with suppress(ProcessLookupError):  # it may have done all that there was to do
            os.kill(self.process, 9)
        self._workers.code(self.process)
        return self.acks()

    def wait(self) -> list[Any]:
        """Wait for its end, which must be a good one; return what it acknowledged."""
        assert self._workers.code(self.process) == 0
        return self.acks()


@contextmanager
def workers(folder: Path) -> Iterator[Workers]:
    """Run the program."""
    running = Workers(folder)
    try:
        yield running
    finally:
        running.close()


if __name__ == "__main__":
    main()
