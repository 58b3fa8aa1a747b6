"""Which process records a run, and whether it still lives."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from voices_peewee.database.forks import at_fork
from voices_peewee.schema.fields import utc_now


@cache
def process_facts() -> dict[str, Any]:
    """Return what tells this process from every other one.

    On Linux ``started`` is in seconds after the boot that ``boot`` names, so that neither a
    process id that is used again nor a clock that is set can deceive; ``namespace`` tells
    containers apart that share a host name. Elsewhere ``first_used`` is the time of the first
    run in this process.
    """
    pid = os.getpid()
    facts: dict[str, Any] = {"host": platform.node(), "pid": pid}
    started = _started(pid)
    if started is None:
        return {**facts, "first_used": utc_now().isoformat()}
    facts |= {"started": started, "boot": None, "namespace": None}
    with suppress(OSError):  # some containers hide them
        facts["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        facts["namespace"] = Path("/proc/self/ns/pid").stat().st_ino
    return facts


at_fork(after_in_child=process_facts.cache_clear)


def is_here(process: Mapping[str, Any], *, since_boot: bool = False) -> bool:
    """Whether a process of these facts belongs to this host, where this process can see it."""
    mine, facts = process_facts(), ("host", "namespace", "boot")[: 2 + since_boot]
    return all(process.get(fact) == mine.get(fact) for fact in facts)


def is_alive(process: Mapping[str, Any]) -> bool:
    """Whether a process that ``is_here`` still runs; true where that cannot be told."""
    pid = process.get("pid")
    if process.get("boot") != process_facts().get("boot"):
        return False
    if type(pid) is not int or not 0 < pid < 1 << 31:
        return False
    if os.name != "posix":
        return True  # there os.kill would end it
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
