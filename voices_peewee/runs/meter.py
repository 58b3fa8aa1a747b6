"""What a block of code costs.

Memory is the resident set of this process, in MB of 10^6 bytes. Linux keeps its high-water mark
and lets us reset it through ``/proc/self/clear_refs`` (proc(5)); elsewhere only the peak since
the process began is known, and a measurement says so.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from typing import Final

from voices_peewee.database.forks import at_fork
from voices_peewee.runs.metrics import Metrics

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


@dataclass(slots=True, eq=False)
class Meter:
    """Measures from its making until ``stop``; several may run at once, nested or in threads."""

    peak: int = 0
    gpu_peak: int = 0
    started: float = 0.0
    cpu: float = 0.0
    own_peak: bool = True

    def __post_init__(self) -> None:
        with _lock:
            # A reset hides what the meters that run already have seen: they take note first.
            memory = _peak_memory() if _running else 0
            gpu = _gpu_peak(reset=True)
            for meter in _running:
                meter.see(memory, gpu)
            self.own_peak = _reset_peak()
            _running.add(self)
        self.cpu = _cpu_seconds()
        self.started = time.perf_counter()

    def stop(self) -> Metrics:
        """Return what the block cost since the meter was made.

        ``processing_time`` in seconds, ``cpu_usage`` in percent of one core (this process and
        the children it waited for; None where no time passed), ``memory_usage`` the peak in MB;
        ``memory_scope`` is ``process`` where the peak is not the block's own, ``gpu_memory_mb``
        the peak that torch allocated on all devices.
        """
        wall = time.perf_counter() - self.started
        cpu = max(0.0, _cpu_seconds() - self.cpu)
        with _lock:
            _running.discard(self)
            self.see(_peak_memory(), _gpu_peak())
        usage = 100 * cpu / wall if wall > 0 else None
        cost = Metrics(
            {"processing_time": wall, "cpu_usage": usage, "memory_usage": self.peak / 1e6 or None}
        )
        if not self.own_peak:
            cost.additional["memory_scope"] = "process"
        if self.gpu_peak:
            cost.additional["gpu_memory_mb"] = self.gpu_peak / 1e6
        return cost

    def see(self, memory: int, gpu: int) -> None:
        """Take note of the present high-water marks (bytes)."""
        self.peak, self.gpu_peak = max(self.peak, memory), max(self.gpu_peak, gpu)


_lock = threading.Lock()
_running: set[Meter] = set()


def _after_fork() -> None:
    """Start a child without its parent's meters, and with a lock that nobody holds."""
    global _lock  # noqa: PLW0603 - a lock that was held at the fork is of no more use
    _lock = threading.Lock()
    _running.clear()


at_fork(after_in_child=_after_fork)


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
        handle = os.open(_STATUS, os.O_RDONLY)
        try:
            status = os.read(handle, 1 << 16)
        finally:
            os.close(handle)
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


def _gpu_peak(*, reset: bool = False) -> int:
    """Return the bytes that torch had allocated at its peak, added over the devices.

    Zero where the program does not use CUDA through torch; torch is never imported here.
    """
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    try:
        if not (cuda and cuda.is_available() and cuda.is_initialized()):
            return 0
        devices = range(cuda.device_count())
        peak = sum(int(cuda.max_memory_allocated(device)) for device in devices)
        for device in devices if reset else ():
            cuda.reset_peak_memory_stats(device)
    except Exception:  # noqa: BLE001 - torch's trouble with a driver must not end a run
        return 0
    return peak
