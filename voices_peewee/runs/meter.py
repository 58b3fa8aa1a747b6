"""What a block of code costs.

Memory is the resident set of this process, in MB of 10^6 bytes. Linux keeps its high-water mark
and lets us reset it through ``/proc/self/clear_refs`` (proc(5)); elsewhere only the peak since
the process began is known, and a measurement says so.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from io import FileIO
from types import TracebackType
from typing import Any, Final

from voices_peewee.database.forks import at_fork
from voices_peewee.runs.metrics import MEMORY_SCOPE, TIMED, Metrics

try:
    import resource
except ImportError:  # Windows
    warnings.warn(
        "this system does not tell the peak memory of a run, nor the CPU time of its child "
        "processes: both are left out",
        stacklevel=2,
    )

_HAS_RESOURCE: Final = "resource" in globals()
_STATUS: Final = "/proc/self/status"
_CLEAR_REFS: Final = "/proc/self/clear_refs"
_RESET_PEAK: Final = b"5"
_PATIENCE: Final = 1.0  # s that one waits for a lock that is held for some 0.1 ms
_ONE_AT_A_TIME: Final = (
    "this run is being timed already: its timing() blocks may neither nest nor overlap in threads"
)


class Meter:
    """Measures from its making until ``stop``; several may run at once, nested or in threads."""

    def __init__(self) -> None:
        self._peak = 0
        with _locked():
            # A reset hides what the meters that run already have seen: they take note first.
            _take_note()
            self._own_peak = _reset_peak()
            _running[id(self)] = self
        self._cpu, self._started = _cpu_seconds(), time.perf_counter()

    def stop(self) -> Metrics:
        """Return what the block cost since the meter was made.

        ``processing_time`` in seconds, ``cpu_usage`` in percent of one core (this process and
        the children it waited for; None where no time passed), ``memory_usage`` the peak in MB;
        ``memory_scope`` is ``process`` where the peak is not the block's own.
        """
        wall = time.perf_counter() - self._started
        cpu = max(0.0, _cpu_seconds() - self._cpu)
        with _locked():
            _running[id(self)] = self  # a fork may have taken it out
            _take_note()
            _running.pop(id(self), None)
        usage = 100 * cpu / wall if wall > 0 else None
        memory = self._peak / 1e6 or None
        return Metrics(
            {"processing_time": wall, "cpu_usage": usage, "memory_usage": memory},
            {} if self._own_peak else {MEMORY_SCOPE: "process"},
        )

    def see(self, memory: int) -> None:
        """Take note of the present high-water mark (bytes)."""
        self._peak = max(self._peak, memory)


class Timing:
    """The parts of a run that are timed: ``with run.timing():``, as often as there are parts.

    Where torch has used a device, its queue is waited for at both ends, since a call of a model
    returns before the device has done the work.
    """

    def __init__(self, require_open: Callable[[], None]) -> None:
        self._require_open = require_open
        self._part = threading.Lock()  # held while a part goes on
        self._began: list[tuple[float, float]] = []  # of that part, so that it counts once
        self._wall = self._cpu = 0.0
        self._is_used = False

    def __enter__(self) -> None:
        self._require_open()
        if not self._part.acquire(blocking=False):
            raise RuntimeError(_ONE_AT_A_TIME)
        try:
            _synchronize()
            self._began.append((_cpu_seconds(), time.perf_counter()))
        except BaseException:
            self._part.release()
            raise

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            _synchronize()
        except Exception:
            if error is None:
                raise  # work that failed on the device is a failure of the block
        finally:
            self._count()
            self._part.release()

    def _count(self) -> None:
        """Add the part that goes on, if any."""
        with contextlib.suppress(IndexError):
            cpu, started = self._began.pop()
            self._wall += time.perf_counter() - started
            self._cpu += max(0.0, _cpu_seconds() - cpu)
            self._is_used = True

    def narrow(self, cost: Metrics) -> None:
        """Put the time of the parts in place of the block's, where there were any."""
        self._count()  # of a thread that the block did not wait for
        if self._is_used:
            cost.columns["processing_time"] = self._wall
            cost.columns["cpu_usage"] = 100 * self._cpu / self._wall if self._wall > 0 else None
            cost.additional[TIMED] = True


_lock = threading.Lock()
_running: weakref.WeakValueDictionary[int, Meter] = weakref.WeakValueDictionary()


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Keep other threads out; a lock that an interrupt kept from being released is replaced."""
    global _lock  # noqa: PLW0603 - as above
    lock = _lock
    if not lock.acquire(timeout=_PATIENCE):
        _lock = lock = threading.Lock()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _after_fork() -> None:
    """Start a child without its parent's meters, and with a lock that nobody holds."""
    global _lock  # noqa: PLW0603 - a lock that was held at the fork is of no more use
    _lock = threading.Lock()
    _running.clear()


at_fork(after_in_child=_after_fork)


def _take_note() -> None:
    """Let the meters that run see the present high-water mark."""
    memory = _peak_memory() if _running else 0
    for known in _running.valuerefs():  # a copy: another thread may change it after all
        if meter := known():
            meter.see(memory)


def _reset_peak() -> bool:
    """Set the high-water mark to the present size; say whether the system lets us."""
    try:
        handle = os.open(_CLEAR_REFS, os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(handle, _RESET_PEAK)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _peak_memory() -> int:
    """Return the high-water mark of the resident set in bytes."""
    try:
        with FileIO(_STATUS) as file:
            status = file.read(1 << 16)
        return int(status.partition(b"VmHWM:")[2].split(None, 1)[0]) * 1024
    except (OSError, IndexError):
        if not _HAS_RESOURCE:
            return 0
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of the children that it waited for.

    ``os.times`` counts in hundredths of a second, too coarse for a short block.
    """
    if not _HAS_RESOURCE:
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _synchronize() -> None:
    """Wait until the devices that torch uses have done what they were given."""
    if cuda := _cuda_in_use():
        cuda.synchronize()
        for device in range(cuda.device_count()):
            # A device that holds nothing would be set up by waiting for it.
            if device != cuda.current_device() and cuda.memory_reserved(device):
                cuda.synchronize(device)
    torch: Any = sys.modules.get("torch")
    if (mps := getattr(torch, "mps", None)) and torch.backends.mps.is_available():
        mps.synchronize()


def _cuda_in_use() -> Any:
    """Return ``torch.cuda`` where the program uses it, else None; torch is never imported here."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    try:
        return cuda if cuda and cuda.is_available() and cuda.is_initialized() else None
    except Exception:  # noqa: BLE001 - as above
        return None
