"""What a block costs, which process it was, and in which surroundings."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from support.wav_files import write_wav

from voices_peewee import DatabaseManager, ModelPerformance, ProcessingHistory
from voices_peewee.runs import meter, process
from voices_peewee.runs.meter import Meter
from voices_peewee.runs.process import is_alive, is_here, process_facts

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
    """Stands for ``torch.cuda`` with two devices."""

    def __init__(self) -> None:
        self.reserved = [0, 0]
        self.initialized = self.fails = False
        self.waits: list[int] = []
        self.queued = 0.0

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return self.initialized

    def device_count(self) -> int:
        return 2

    def memory_reserved(self, device: int) -> int:
        return self.reserved[device]

    def current_device(self) -> int:
        return 0

    def synchronize(self, device: int | None = None) -> None:
        self.waits.append(0 if device is None else device)
        if self.fails:
            raise RuntimeError("device-side assert triggered")
        time.sleep(self.queued)  # until the work that was queued is done
        self.queued = 0.0

    def allocate(self, device: int, size: int) -> None:
        self.initialized = True
        self.reserved[device] += size


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """A program that has imported torch."""
    stand_in = Cuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=stand_in))
    return stand_in


def test_torch_is_never_imported() -> None:
    """Measuring asks for torch only where the program has it."""
    code = "import sys, peewee; before = {*sys.modules}; "  # Peewee may load a driver
    code += "from voices_peewee.runs.meter import Meter; Meter().stop(); "
    code += "print([name for name in ('torch', 'subprocess', 'numpy') "
    code += "if name in {*sys.modules} - before])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# Timed parts


def fail_after(call: Callable[[], object], error: Exception) -> NoReturn:
    """Do something in a block, then raise."""
    call()
    raise error


def the_performance(db: DatabaseManager) -> ModelPerformance:
    (row,) = db.query(ModelPerformance).all()
    return row


def test_timing_counts_its_parts_and_nothing_else(db: DatabaseManager, tmp_path: Path) -> None:
    """Time, CPU and real-time factor are those of the timed parts, memory is the block's."""
    mixture = write_wav(tmp_path / "mix.wav", 16000)
    before = time.perf_counter()
    with db.track(mixture, "x") as run:
        burn(0.5)  # loads the model
        held = bytearray(200_000_000)
        held[::4096] = b"x" * len(held[::4096])
        del held
        for _ in range(2):
            with run.timing():
                time.sleep(0.1)
        time.sleep(0.5)  # scores
    whole = time.perf_counter() - before
    row = the_performance(db)
    assert row.processing_time is not None
    assert 0.2 <= row.processing_time <= whole - 1
    assert row.real_time_factor == row.processing_time / 2
    assert row.cpu_usage is not None
    assert row.cpu_usage < 50
    assert row.memory_usage is not None
    assert row.memory_usage > 200
    assert row.additional_metrics == {"timed": True}


def test_cpu_of_timed_parts_is_theirs(db: DatabaseManager) -> None:
    """CPU time that is used inside counts, what is used outside does not."""
    with db.track("/mix.wav", "x") as run:
        burn(0.5)
        with run.timing():
            burn(0.2)
    row = the_performance(db)
    assert row.cpu_usage is not None
    assert row.processing_time is not None
    assert 0.2 <= row.cpu_usage / 100 * row.processing_time < 0.45


def test_every_output_of_a_timed_run_says_so(db: DatabaseManager) -> None:
    """What was measured of the parts stands in each row of the run, logged values before it."""
    with db.track("/mix.wav", "x") as run:
        with run.timing():
            time.sleep(0.05)
        run.output("/a.wav")
        run.output("/b.wav")
        run.log(cpu_usage=7)
    one, two = db.query(ModelPerformance).all()
    assert one.processing_time == two.processing_time
    assert one.cpu_usage == two.cpu_usage == 7
    assert one.additional_metrics == two.additional_metrics == {"timed": True, "run": ["cpu_usage"]}


def test_a_part_that_fails_counts(db: DatabaseManager) -> None:
    """The exception goes on as it was, and the time until then is the run's."""
    error = RuntimeError("CUDA out of memory")
    with pytest.raises(RuntimeError) as raised, db.track("/mix.wav", "x") as run, run.timing():
        fail_after(lambda: time.sleep(0.1), error)
    assert raised.value is error
    row = the_performance(db)
    assert row.processing_time is not None
    assert row.processing_time >= 0.1
    assert row.additional_metrics == {"timed": True}
    assert row.processing_history.success is False


NOT_TWICE = (
    "this run is being timed already: its timing() blocks may neither nest nor overlap in threads"
)


def test_timed_parts_do_not_nest(db: DatabaseManager) -> None:
    """A part inside a part is refused with a sentence, and the outer one still counts once."""
    before = time.perf_counter()
    with db.track("/mix.wav", "x") as run:
        with run.timing():
            with pytest.raises(RuntimeError, match=f"^{re.escape(NOT_TWICE)}$"), run.timing():
                pass
            time.sleep(0.1)
        time.sleep(0.3)
        with run.timing():
            time.sleep(0.1)
    whole = time.perf_counter() - before
    seconds = the_performance(db).processing_time
    assert seconds is not None
    assert 0.2 <= seconds <= whole - 0.3


def test_two_threads_do_not_time_one_run_at_once(db: DatabaseManager) -> None:
    """While one thread is inside, another is refused; afterwards it may."""
    with db.track("/mix.wav", "x") as run, ThreadPoolExecutor(1) as other:

        def part() -> None:
            with run.timing():
                pass

        with run.timing(), pytest.raises(RuntimeError, match=f"^{re.escape(NOT_TWICE)}$"):
            other.submit(part).result()
        other.submit(part).result()


def test_two_runs_are_timed_at_once(db: DatabaseManager) -> None:
    """A nested run has its own parts: those of another run do not stand in its way."""
    with db.track("/a.wav", "x") as outer, outer.timing():
        time.sleep(0.1)
        with db.track("/b.wav", "x") as inner, inner.timing():
            time.sleep(0.1)
    seconds = {
        row.processing_history.processed_file.filename: row.processing_time
        for row in db.query(ModelPerformance).all()
    }
    assert 0.1 <= seconds["b.wav"] < seconds["a.wav"] - 0.09


def test_a_run_that_is_over_is_not_timed(db: DatabaseManager) -> None:
    """Entering after the end of the run is refused, as logging is."""
    with db.track("/mix.wav", "x") as run:
        pass
    with pytest.raises(RuntimeError, match=rf"^run {run.id} is over$"), run.timing():
        pass


def test_a_part_that_outlasts_its_run_counts_until_the_end(db: DatabaseManager) -> None:
    """A thread that the block does not wait for counts as far as the run goes, and does no harm."""
    entered, ended = threading.Event(), threading.Event()
    with db.track("/mix.wav", "x") as run:

        def part() -> None:
            with run.timing():
                entered.set()
                ended.wait(30)

        thread = threading.Thread(target=part)
        thread.start()
        entered.wait(30)
        time.sleep(0.1)
    ended.set()
    thread.join()
    row = the_performance(db)
    assert row.processing_time is not None
    assert row.processing_time >= 0.1
    assert row.additional_metrics == {"timed": True}


def test_timing_waits_for_the_devices(db: DatabaseManager, cuda: Cuda) -> None:
    """Work that is queued before a part is not its, work that is queued inside is."""
    before = time.perf_counter()
    with db.track("/mix.wav", "x") as run:
        with run.timing():
            pass
        assert cuda.waits == []  # the program has not used CUDA
        cuda.allocate(0, 1)
        cuda.queued = 0.3
        with run.timing():
            cuda.queued = 0.1
        assert cuda.waits == [0, 0]
        cuda.allocate(1, 1)
        with run.timing():
            pass
        assert cuda.waits == [0, 0, 0, 1, 0, 1]
    whole = time.perf_counter() - before
    seconds = the_performance(db).processing_time
    assert seconds is not None
    assert 0.1 <= seconds <= whole - 0.3


def test_timing_waits_for_metal(db: DatabaseManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch has an MPS device, its queue is waited for at both ends."""
    waits: list[str] = []
    torch = SimpleNamespace(
        mps=SimpleNamespace(synchronize=lambda: waits.append("mps")),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True)),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    with db.track("/mix.wav", "x") as run, run.timing():
        assert waits == ["mps"]
    assert waits == ["mps", "mps"]


def test_work_that_failed_on_the_device_fails_the_run(db: DatabaseManager, cuda: Cuda) -> None:
    """What the device says at the end of a part is raised, but never in place of an exception."""
    cuda.allocate(0, 1)

    def separate(error: Exception | None) -> None:
        cuda.fails = False
        with db.track("/mix.wav", "x") as run, run.timing():
            cuda.fails = True
            if error is not None:
                raise error

    with pytest.raises(RuntimeError, match=r"^device-side assert triggered$"):
        separate(None)
    with pytest.raises(ValueError, match=r"^bad mixture$"):
        separate(ValueError("bad mixture"))
    rows = db.query(ProcessingHistory).order_by(ProcessingHistory.id).all()
    said = [(row.error_message or "").splitlines()[0] for row in rows]
    assert said == ["RuntimeError: device-side assert triggered", "ValueError: bad mixture"]


def test_a_device_that_fails_before_a_part_leaves_it_free(db: DatabaseManager, cuda: Cuda) -> None:
    """A part that could not begin is not in the way of the next."""
    cuda.allocate(0, 1)
    with db.track("/mix.wav", "x") as run:
        cuda.fails = True
        with pytest.raises(RuntimeError, match=r"^device-side assert triggered$"), run.timing():
            pass
        cuda.fails = False
        with run.timing():
            pass


# Which process


def test_a_lock_that_an_interrupt_left_held_keeps_nobody_out() -> None:
    """Meters of every thread go on after a while, and the next ones at once."""
    meter._lock.acquire()
    before = time.monotonic()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(lambda: Meter().stop()).result(20)
    patient = time.monotonic()
    Meter().stop()
    assert patient - before < 5
    assert time.monotonic() - patient < 0.5


def test_a_meter_that_is_never_stopped_is_forgotten() -> None:
    """A run that an interrupt ended without a measurement leaves no meter behind."""
    before = len(meter._running)
    begun = Meter()
    assert len(meter._running) == before + 1
    del begun
    assert len(meter._running) == before


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
