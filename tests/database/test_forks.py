"""Threads and forks: no connection on both sides of a fork, and nothing lost on either.

Each test runs a program of its own, since a fork copies all threads' locks of its process.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.sqlite(
    "locks that SQLite counts in a process; a server's forks are in test_postgres_faults"
)

PRELUDE = """
import multiprocessing, os, signal, sqlite3, subprocess, sys, threading, time, traceback, warnings
from concurrent.futures import ProcessPoolExecutor
from voices_peewee import (DatabaseManager, ProcessedFile, Speaker, errors)

warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: this process is multi-threaded
path = sys.argv[1]

def add(name):
    db.add(Speaker(name=name))

def child(work, *args):
    pid = os.fork()
    if pid:
        return pid
    try:
        work(*args)
        os._exit(0)
    except errors.VoicesError as error:
        print(error, flush=True)
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(2)

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def names():
    return sorted(one.name for one in db.get_all(Speaker))

def another_program(name):
    code = "import sys; from voices_peewee import *; db = DatabaseManager(sys.argv[1]).connect(); "
    code += "db.create_speaker(sys.argv[2]); db.close()"
    subprocess.run([sys.executable, "-c", code, path, name], check=True)

class Signal:
    def __init__(self):
        self.ends = os.pipe()
    def send(self):
        os.write(self.ends[1], b"x")
    def wait(self):
        os.read(self.ends[0], 1)
"""

REFUSED = (
    "cannot use '{path}': it was opened before the fork, in a process with other threads: "
    "open it in the child, or start workers with spawn\n"
)

CASES: dict[str, tuple[str, str]] = {
    "the parent closes first": (
        """
        add("parent")
        ready, go = Signal(), Signal()
        def work():
            add("child 1"); ready.send(); go.wait(); add("child 2"); db.close()
        pid = child(work)
        ready.wait(); db.close(); another_program("another"); go.send()
        print(ended(pid)); db.connect(); print(names())
        """,
        "0\n['another', 'child 1', 'child 2', 'parent']\n",
    ),
    "the parent ends first": (
        """
        add("parent")
        ready, go, over = Signal(), Signal(), Signal()
        def work():
            add("child 1"); ready.send(); go.wait(); add("child 2"); db.close(); over.send()
        if os.fork() == 0:
            pid = child(work); ready.wait(); os._exit(0)
        os.wait(); db.close(); another_program("another"); go.send()
        over.wait(); db.connect(); print(names())
        """,
        "['another', 'child 1', 'child 2', 'parent']\n",
    ),
    "the parent closes, and others write, before the child has begun": (
        """
        from voices_peewee.database import forks
        left = forks._left
        forks._left = lambda one: time.sleep(0.3) or left(one)
        add("parent")
        def work():
            add("child"); db.close()
        pid = child(work); db.close(); db.connect(); add("parent again")
        print(ended(pid)); print(names())
        """,
        "0\n['child', 'parent', 'parent again']\n",
    ),
    "the child closes first": (
        """
        def work():
            add("child"); db.close()
        print(ended(child(work))); another_program("another"); add("parent"); print(names())
        """,
        "0\n['another', 'child', 'parent']\n",
    ),
    "a child of a child": (
        """
        def inner():
            add("inner"); db.close()
        def outer():
            add("outer"); assert ended(child(inner)) == 0; add("outer again")
        add("parent"); print(ended(child(outer))); add("parent again"); print(names())
        """,
        "0\n['inner', 'outer', 'outer again', 'parent', 'parent again']\n",
    ),
    "inside a transaction": (
        """
        ready, go = Signal(), Signal()
        def work():
            print(names(), flush=True); ready.send(); go.wait(); add("child")
        with db.atomic():
            add("parent"); pid = child(work); ready.wait(); add("parent again")
        go.send(); print(ended(pid), names())
        """,
        "[]\n0 ['child', 'parent', 'parent again']\n",
    ),
    "a child leaves its parent's transaction": (
        """
        ready = Signal()
        try:
            with db.atomic():
                add("parent")
                pid = os.fork()
                if pid == 0:
                    sys.exit(7)
        finally:
            if pid == 0:
                os._exit(sys.exc_info()[1].code)
        print(ended(pid), names())
        """,
        "7 ['parent']\n",
    ),
    "another thread is in a transaction": (
        """
        inside, go = threading.Event(), threading.Event()
        def write():
            with db.atomic():
                add("thread"); inside.set(); go.wait(); add("thread again")
        thread = threading.Thread(target=write); thread.start(); inside.wait()
        print(ended(child(add, "child")))
        go.set(); thread.join(); print(names()); print(ended(child(add, "child")))
        """,
        f"{REFUSED}1\n['thread', 'thread again']\n0\n",
    ),
    "another thread imports": (
        """
        from importlib.abc import MetaPathFinder
        begun = threading.Event()
        class Slow(MetaPathFinder):
            def find_spec(self, name, *_):
                if name == "voices_peewee.exchange.export":
                    begun.set(); time.sleep(0.5)
        sys.meta_path.insert(0, Slow())
        def export(name):
            try:
                db.export(f"{path}.{name}.jsonl")
            except errors.DatabaseError:
                pass
        def work():
            signal.alarm(20); export("child")
        thread = threading.Thread(target=export, args=("thread",)); thread.start(); begun.wait()
        print(ended(child(work))); thread.join()
        """,
        "0\n",
    ),
    "another thread closes its connection": (
        """
        closed, go = threading.Event(), threading.Event()
        def close():
            db.get_all(Speaker)
            connection = db.database.connection()
            sqlite3.Connection.close(connection)  # where the package's own waits for the disk
            closed.set(); go.wait()
        thread = threading.Thread(target=close); thread.start(); closed.wait()
        print(ended(child(add, "child"))); go.set(); thread.join()
        """,
        f"{REFUSED}1\n",
    ),
    "what makes the values of add_many forks": (
        """
        def rows():
            for number in range(3):
                print(ended(child(names)))
                yield {"name": str(number)}
        print(db.add_many(Speaker, rows()), names())
        """,
        "0\n" + f"{REFUSED}1\n" * 2 + "3 ['0', '1', '2']\n",
    ),
    "more than a thousand files are open": (
        """
        import resource
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, most))
        files = [os.dup(1) for _ in range(1100)]
        print(ended(child(add, "child"))); add("parent"); print(names())
        """,
        "0\n['child', 'parent']\n",
    ),
    "an in-memory database": (
        """
        db.close(); memory = db; db = DatabaseManager(":memory:").initialize()
        add("parent"); print(ended(child(add, "child"))); print(names()); db.close(); db = memory
        """,
        (
            "cannot use ':memory:': an in-memory database is seen only by the thread and process "
            "that opened it; use a file\n1\n['parent']\n"
        ),
    ),
    "a process pool": (
        """
        add("parent")
        for method in ("fork", "spawn", "forkserver"):
            context = multiprocessing.get_context(method)
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                list(pool.map(pooled, [db] * 6, [f"{method} {n}" for n in range(6)]))
        print(len(names()))
        """,
        "19\n",
    ),
}


def run(path: Path, body: str, *args: str) -> str:
    """Run a test's program; return what it printed."""
    lines = [line[8:] for line in body.splitlines()]
    program = [
        PRELUDE,
        "def pooled(db, name): db.create_speaker(name)",
        "if __name__ == '__main__':",
        "    db = DatabaseManager(path).initialize()",
        *(f"    {line}" for line in lines),
        "    db.close()",
    ]
    script = path.with_name("program.py")
    script.write_text("\n".join(program))
    done = subprocess.run(
        [sys.executable, "-u", script, path, *args], capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stderr) == (0, "")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return done.stdout


@pytest.mark.parametrize("case", CASES)
def test_forks(path: Path, case: str) -> None:
    """Whatever forks, and whoever closes first: every row is there and nobody waits for ever."""
    body, expected = CASES[case]
    assert run(path, body) == expected.replace("{path}", str(path))


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.soak)])
def test_forks_among_busy_threads(path: Path, count: int) -> None:
    """Whoever forks among threads that read and write harms none, and each child is told."""
    body = """
        stop, written = threading.Event(), []
        db.add_many(Speaker, [{"name": f"old {number}"} for number in range(500)])
        def read():
            while not stop.is_set():
                db.get_all(Speaker)
        def write():
            while not stop.is_set():
                add("thread"); written.append(1)
        threads = [threading.Thread(target=one) for one in (read, read, read, write)]
        for one in threads: one.start()
        while not written: time.sleep(0.01)
        def work():
            try:
                names()
            except errors.DatabaseError:
                os._exit(3)
        codes = {ended(child(work)) for number in range(int(sys.argv[2]))}
        stop.set()
        for one in threads: one.join()
        print(codes, names().count("thread") == len(written))
        """
    assert run(path, body, str(count)) == "{3} True\n"


def test_forks_leak_no_descriptors(path: Path) -> None:
    """A parent and the last of many children have as many open files as at first."""
    body = """
        def open_files():
            return len(os.listdir("/proc/self/fd"))
        add("parent"); before = open_files()
        def work():
            add("child"); assert open_files() <= before, open_files()
        codes = {ended(child(work)) for _ in range(50)}
        print(codes, len(names()), open_files() - before)
        """
    assert run(path, body) == "{0} 51 0\n"


def test_sixteen_threads_write_and_read(path: Path) -> None:
    """Sixteen threads of one manager write in every way at once; nothing is lost."""
    body = """
        def write(number):
            for count in range(10):
                add(f"{number}-{count}")
                db.add_all(Speaker(name=f"{number}-{count}-{place}") for place in range(3))
                with db.atomic():
                    add(f"{number}-{count}-x"); db.get_all(Speaker)
                with db.track(f"/{number}-{count}.wav", "separation") as run:
                    run.output(f"/{number}-{count}.out.wav", si_snri=1.0)
        threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
        for one in threads: one.start()
        for one in threads: one.join()
        print(len(set(names())), db.status()["rows"]["model_performance"])
        """
    assert run(path, body) == "800 160\n"


def test_a_thread_does_not_wait_for_ever(path: Path) -> None:
    """A thread that writes while another keeps a transaction open is told so in time."""
    body = """
        db.close(); db = DatabaseManager(path, timeout=0.2).connect()
        def write():
            try:
                add("second")
            except errors.DatabaseError as error:
                print(error)
        thread = threading.Thread(target=write)
        with db.atomic():
            add("first"); thread.start(); thread.join()
        print(names())
        """
    assert run(path, body) == (
        f"cannot use {str(path)!r}: another program held its lock for more than 0.2 s; "
        "end that program or raise the timeout\n['first']\n"
    )


def test_a_close_waits_for_no_thread_and_ends_none(path: Path) -> None:
    """Threads that are inside a call as another one closes end it; the next one is refused."""
    body = """
        kept, said = [], set()
        def until_closed(call):
            try:
                while True:
                    call()
            except errors.NotConnectedError:
                said.add("not connected")
            except AttributeError as error:  # Peewee's, where close() came before a query
                said.add("not connected" if "Proxy" in str(error) else str(error))
        def write():
            kept.append(add("x"))
        def read():
            db.get_all(Speaker)
        for _ in range(5):
            works = (write, write, read, read)
            threads = [threading.Thread(target=until_closed, args=(one,)) for one in works]
            for one in threads: one.start()
            time.sleep(0.2); db.close()
            for one in threads: one.join(60)
            db.connect()
        print(said, len(names()) == len(kept), len(os.listdir("/proc/self/fd")) < 30)
        """
    assert run(path, body) == "{'not connected'} True True\n"


def test_forks_amid_backups_and_writes(path: Path) -> None:
    """In whichever order a process forks, writes and backs up, it keeps its locks."""
    body = """
        import random
        draw = random.Random(1)
        def fork():
            assert ended(child(lambda: add("child"))) == 0
        works = {
            "add": lambda: add("mine"),
            "create": lambda: Speaker.create(name="mine"),
            "backup": lambda: db.backup_database(f"{path}.{draw.random()}"),
            "export": lambda: db.export(f"{path}.{draw.random()}.jsonl"),
            "session": lambda: db.close_session(),
            "fork": fork,
        }
        done = [draw.choice(sorted(works)) for _ in range(150)]
        for name in done: works[name]()
        print(len(names()) == sum(map(done.count, ("add", "create", "fork"))))
        """
    assert run(path, body) == "True\n"
