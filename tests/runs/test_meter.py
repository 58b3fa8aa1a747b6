"""What a block costs, which process it was, and in which surroundings."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from voices_peewee import DatabaseManager, ModelPerformance, ProcessingHistory, __version__
from voices_peewee.runs import meter, process
from voices_peewee.runs.meter import Meter
from voices_peewee.runs.process import environment, is_alive, is_here, process_facts

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def burn(seconds: float) -> None:
    """Use up CPU time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


# Cost

MEMORY = """
import json, sys, threading
from voices_peewee.runs.meter import Meter
MB = 1_000_000

def block(size):
    held = bytearray(size * MB)
    held[::4096] = b"x" * len(held[::4096])

def within(size):
    meter = Meter()
    block(size)
    return meter.stop().columns["memory_usage"]

small = within(1)
large = within(200)
again = within(1)
outer = Meter()
block(100)
inner = within(1)
between = within(50)
whole = outer.stop().columns["memory_usage"]
early = Meter()
late = Meter()
block(60)
first = early.stop().columns["memory_usage"]
thread = threading.Thread(target=within, args=(1,))
thread.start()
thread.join()
second = late.stop().columns["memory_usage"]
print(json.dumps({name: value - small for name, value in {
    "large": large, "again": again, "inner": inner, "between": between, "whole": whole,
    "first": first, "second": second}.items()}))
"""


@LINUX
def test_memory_is_the_peak_of_the_block() -> None:
    """A block's peak is its own: neither an earlier one's nor lost to a meter inside it."""
    words = [sys.executable, "-c", MEMORY]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=env)
    assert done.stderr == ""
    rise = json.loads(done.stdout)
    expected = {"large": 200, "again": 0, "inner": 0, "between": 50, "whole": 100}
    expected |= {"first": 60, "second": 60}
    assert {name: round(value / 10) * 10 for name, value in rise.items()} == expected


def test_a_run_has_the_memory_and_cpu_of_its_block(db: DatabaseManager) -> None:
    """What a tracked block uses is in its row: 200 MB of memory, and its seconds of CPU."""
    with db.track("/small", "x"):
        pass
    with db.track("/large", "x"):
        held = bytearray(200_000_000)
        held[::4096] = b"x" * len(held[::4096])
        burn(0.2)
    small, large = db.query(ModelPerformance).order_by(ModelPerformance.id).all()
    assert large.memory_usage is not None
    assert small.memory_usage is not None
    assert large.memory_usage - small.memory_usage > 190
    assert large.cpu_usage is not None
    assert large.processing_time is not None
    assert large.cpu_usage / 100 * large.processing_time >= 0.2
    assert large.additional_metrics == {}


def test_cpu_of_children_counts_once_they_were_waited_for() -> None:
    """The time of a child process belongs to the block that waits for it."""
    code = "import time\nwhile time.process_time() < 0.3: pass"
    meter = Meter()
    subprocess.run([sys.executable, "-c", code], check=True)
    measured = meter.stop().columns
    assert measured["cpu_usage"] is not None
    assert measured["cpu_usage"] / 100 * measured["processing_time"] >= 0.3


def test_sleeping_is_no_work() -> None:
    """Waiting takes time but no CPU."""
    meter = Meter()
    time.sleep(0.2)
    measured = meter.stop().columns
    assert measured["processing_time"] >= 0.2
    assert measured["cpu_usage"] is not None
    assert measured["cpu_usage"] < 50


def test_the_process_peak_is_marked_where_a_block_has_none(
    db: DatabaseManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the high-water mark cannot be reset, the row says whose peak it is."""
    monkeypatch.setattr(meter, "_CLEAR_REFS", str(tmp_path / "none"))
    with db.track("/mix.wav", "x"):
        pass
    monkeypatch.setattr(meter, "_STATUS", str(tmp_path / "none"))
    with db.track("/mix.wav", "x"):
        pass
    one, two = db.query(ModelPerformance).order_by(ModelPerformance.id).all()
    for row in (one, two):
        assert row.additional_metrics == {"memory_scope": "process"}
        assert row.memory_usage is not None
        assert 5 < row.memory_usage < 100_000


class Cuda:
    """Stands for ``torch.cuda`` with two devices: the allocator's counters."""

    def __init__(self) -> None:
        self.peak = [0, 0]
        self.broken = self.initialized = False

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        if self.broken:
            raise RuntimeError("CUDA driver error")
        return self.initialized

    def device_count(self) -> int:
        return 2

    def max_memory_allocated(self, device: int) -> int:
        return self.peak[device]

    def reset_peak_memory_stats(self, device: int) -> None:
        self.peak[device] = 0

    def allocate(self, device: int, megabytes: int) -> None:
        self.initialized = True
        self.peak[device] = max(self.peak[device], megabytes * 1_000_000)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """A program that has imported torch."""
    stand_in = Cuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=stand_in))
    return stand_in


def test_gpu_memory_is_measured_where_torch_is_used(db: DatabaseManager, cuda: Cuda) -> None:
    """The peak over all devices is the block's own, and an inner run's reset hides nothing."""
    with db.track("/a", "x"):
        pass
    with db.track("/b", "x"):
        cuda.allocate(0, 300)
        cuda.allocate(1, 200)
        with db.track("/c", "x"):
            cuda.allocate(0, 100)
    with db.track("/d", "x"):
        cuda.broken = True
    rows = db.query(ModelPerformance).order_by(ModelPerformance.processing_history).all()
    assert [row.additional_metrics for row in rows] == [
        {},
        {"gpu_memory_mb": 500.0},
        {"gpu_memory_mb": 100.0},
        {},
    ]


def test_torch_is_never_imported() -> None:
    """Measuring asks for torch only where the program has it."""
    code = "import sys, peewee; before = {*sys.modules}; "  # Peewee may load a driver
    code += "from voices_peewee.runs.meter import Meter; Meter().stop(); "
    code += "print([name for name in ('torch', 'subprocess', 'numpy') "
    code += "if name in {*sys.modules} - before])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# Which process


@LINUX
def test_a_process_is_told_from_every_other() -> None:
    """Host, id, start, boot and namespace are those that the system tells."""
    facts = process_facts()
    assert list(facts) == ["host", "pid", "started", "boot", "namespace"]
    assert (facts["host"], facts["pid"]) == (platform.node(), os.getpid())
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 < facts["started"] <= uptime
    assert (is_here(facts), is_alive(facts)) == (True, True)


@LINUX
def test_another_users_process_is_alive() -> None:
    """The first process of the system lives, whoever owns it."""
    facts = {**process_facts(), "pid": 1}
    del facts["started"]
    assert is_alive(facts)


def test_without_proc_the_first_use_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux, a process is known by its id and a process that is there lives."""
    monkeypatch.setattr(process, "_started", lambda *_: None)
    process_facts.cache_clear()
    try:
        facts = process_facts()
        assert list(facts) == ["host", "pid", "first_used"]
        assert (is_here(facts), is_alive(facts)) == (True, True)
        assert not is_alive({**facts, "pid": (1 << 31) - 1})
    finally:
        process_facts.cache_clear()


# Surroundings


def git(folder: Path, *words: str) -> None:
    names = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *names, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty git repository as the working directory."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    process._git_seen.clear()
    git(tmp_path, "init", "-q")
    yield tmp_path
    process._git_seen.clear()


def fresh() -> dict[str, Any]:
    process._git_seen.clear()
    return environment()


def test_the_environment_names_commit_and_versions(repository: Path) -> None:
    """The commit appears with the first one, and is dirty when a tracked file differs."""
    fixed = {
        "python": platform.python_version(),
        "host": platform.node(),
        "platform": platform.platform(),
        "voices_peewee": __version__,
    }
    assert fresh() == fixed
    (repository / "a.py").write_text("1")
    git(repository, "add", "a.py")
    git(repository, "commit", "-q", "-m", "one")
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    commit = head.stdout.strip()
    (repository / "untracked.txt").write_text("1")
    assert fresh() == {**fixed, "git": {"commit": commit, "dirty": False}}
    (repository / "a.py").write_text("2")
    assert environment()["git"]["dirty"] is False  # seen a moment ago
    assert fresh() == {**fixed, "git": {"commit": commit, "dirty": True}}


@pytest.mark.parametrize("lack", ["repository", "git", "directory"])
def test_without_git_the_environment_lacks_a_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    """No repository, no git program or no working directory is no error."""
    (repository / "a.py").write_text("1")
    git(repository, "add", "a.py")
    git(repository, "commit", "-q", "-m", "one")
    if lack == "git":
        monkeypatch.setenv("PATH", str(repository))
    else:
        folder = repository.with_name(f"{repository.name}-elsewhere")
        folder.mkdir()
        monkeypatch.chdir(folder)
        if lack == "directory":
            folder.rmdir()
    assert "git" not in fresh()
    os.chdir(repository)


def test_a_run_records_its_environment_when_asked(db: DatabaseManager) -> None:
    """``environment=True`` adds to the parameters; without it they are as given."""
    for asked in (True, False):
        with db.track("/a", "x", parameters={"n": 1}, environment=asked) as run:
            pass
    one, two = db.query(ProcessingHistory).order_by(ProcessingHistory.id).all()
    assert one.parameters == {"n": 1, "environment": environment()}
    assert two.parameters == run.parameters == {"n": 1}
