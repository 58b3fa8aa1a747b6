"""What a block of code costs, which process runs it, and in which surroundings.

Memory is the resident set of this process, in MB of 10^6 bytes. Linux keeps its high-water mark
and lets us reset it through ``/proc/self/clear_refs`` (proc(5)); elsewhere only the peak since
the process began is known, and a measurement says so.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from voices_peewee._version import __version__
from voices_peewee.schema.fields import utc_now

_STATUS: Final = "/proc/self/status"
_CLEAR_REFS: Final = "/proc/self/clear_refs"
_RESET_PEAK: Final = b"5"
_GIT_TIMEOUT: Final = 2.0
_GIT_FRESH: Final = 30.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a block cost.

    ``processing_time`` in seconds, ``cpu_usage`` in percent of one core (this process and the
    children it waited for; None where no time passed), ``memory_usage`` the peak in MB,
    ``additional`` the rest: ``memory_scope`` is ``process`` where the peak is not the block's
    own, ``gpu_memory_mb`` is the peak that torch allocated on all devices.
    """

    processing_time: float
    cpu_usage: float | None
    memory_usage: float
    additional: dict[str, Any]


@dataclass(slots=True, eq=False)
class Meter:
    """Measures from its making until ``stop``; several may run at once, nested or in threads."""

    peak: int = 0
    gpu_peak: int = 0
    started: float = 0.0
    cpu: float = 0.0
    own_peak: bool = True
    additional: dict[str, Any] = field(default_factory=dict)

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

    def stop(self) -> Measured:
        """Return what was measured since the meter was made."""
        wall = time.perf_counter() - self.started
        cpu = max(0.0, _cpu_seconds() - self.cpu)
        with _lock:
            _running.discard(self)
            self.see(_peak_memory(), _gpu_peak())
        if not self.own_peak:
            self.additional["memory_scope"] = "process"
        if self.gpu_peak:
            self.additional["gpu_memory_mb"] = self.gpu_peak / 1e6
        usage = 100 * cpu / wall if wall > 0 else None
        return Measured(wall, usage, self.peak / 1e6, self.additional)

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
    process_facts.cache_clear()


os.register_at_fork(after_in_child=_after_fork)


def _reset_peak() -> bool:
    """Set the high-water mark to the present size; say whether the system lets us."""
    try:
        handle = os.open(_CLEAR_REFS, os.O_WRONLY | os.O_CLOEXEC)
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
        handle = os.open(_STATUS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.read(handle, 1 << 16)
        finally:
            os.close(handle)
        return int(status.partition(b"VmHWM:")[2].split(None, 1)[0]) * 1024
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of the children that it waited for.

    ``os.times`` counts in hundredths of a second, too coarse for a short block.
    """
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


# Which process this is


@cache
def process_facts() -> dict[str, Any]:
    """Return what tells this process from every other one.

    On Linux ``started`` is in seconds after the boot that ``boot`` names, so that neither a
    process id that is used again nor a clock that is set can deceive; ``namespace`` tells
    containers apart that share a host name. Elsewhere ``first_used`` is the time of the first
    run in this process.
    """
    pid = os.getpid()
    facts: dict[str, Any] = {"host": os.uname().nodename, "pid": pid}
    started = _started(pid)
    if started is None:
        return {**facts, "first_used": utc_now().isoformat()}
    return {**facts, "started": started, "boot": _boot(), "namespace": _namespace()}


def is_here(process: dict[str, Any]) -> bool:
    """Whether a process of these facts belongs to this host, where this process can see it."""
    mine = process_facts()
    return all(process.get(fact) == mine.get(fact) for fact in ("host", "namespace"))


def is_alive(process: dict[str, Any]) -> bool:
    """Whether a process that ``is_here`` still runs; true where that cannot be told."""
    pid = process.get("pid")
    if process.get("boot") != process_facts().get("boot"):
        return False
    if type(pid) is not int or not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    started = _started(pid)
    return started is None or process.get("started", started) == started


def _started(pid: int) -> float | None:
    """Return when a process began, in seconds after boot; -1 for one that only lacks burial."""
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if words[0] in (b"Z", b"X"):
        return -1.0
    return int(words[19]) / os.sysconf("SC_CLK_TCK")


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None


def _namespace() -> int | None:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None


# In which surroundings


def environment() -> dict[str, Any]:
    """Return Python, host, platform, this package's version and the working directory's commit.

    ``git`` holds ``commit`` and ``dirty`` (whether tracked files differ from it); it is missing
    where there is no repository, no commit or no git.
    """
    git = _git()
    return {**_fixed_environment(), **({"git": git} if git else {})}


@cache
def _fixed_environment() -> dict[str, Any]:
    import platform

    return {
        "python": platform.python_version(),
        "host": os.uname().nodename,
        "platform": platform.platform(),
        "voices_peewee": __version__,
    }


_git_seen: dict[str, tuple[float, dict[str, Any] | None]] = {}


def _git() -> dict[str, Any] | None:
    """Return the commit at work; what was seen less than half a minute ago is believed."""
    try:
        directory = str(Path.cwd())
    except OSError:
        return None
    now = time.monotonic()
    when, facts = _git_seen.get(directory, (-math.inf, None))
    if now - when >= _GIT_FRESH:
        facts = _ask_git(directory)
        _git_seen[directory] = (now, facts)
    return facts


def _ask_git(directory: str) -> dict[str, Any] | None:
    import shutil
    import subprocess

    git = shutil.which("git")
    if git is None:
        return None
    # A repository's own configuration must not make us run its fsmonitor program.
    words = [git, "-c", "core.fsmonitor=false", "status"]
    words += ["--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules"]
    try:
        answer = subprocess.run(  # noqa: S603 - fixed words, no shell
            words,
            cwd=directory,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.splitlines()
    commit = next((line.split()[2] for line in lines if line.startswith(b"# branch.oid ")), b"")
    if len(commit) < 40:  # "(initial)": nothing was committed yet
        return None
    return {
        "commit": commit.decode("ascii"),
        "dirty": any(not line.startswith(b"#") for line in lines),
    }
