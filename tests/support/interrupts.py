"""Interrupts at any call or return, and what must work afterwards."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from support.databases import ask
from voices_peewee import DatabaseManager


class Interrupted(BaseException):
    """An interrupt that no code expects."""


COLLECTED = gc.get_threshold()


def interrupted_at(place: int, act: Callable[[], object], *, within: str = "") -> bool:
    """Run an act with an interrupt at one call or return of Python code; whether it was struck.

    Where ``within`` names a file, only its own calls and returns are struck. What is dropped
    half done may warn meanwhile: Python's own hook tells it, since pytest's would be struck too.
    """
    left = place
    hook, sys.unraisablehook = sys.unraisablehook, sys.__unraisablehook__

    def strike(frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal left
        if event in ("call", "return") and frame.f_code.co_filename.endswith(within):
            left -= 1
            if left == 0:
                sys.setprofile(None)
                raise Interrupted

    with suppress(Interrupted):
        try:
            sys.setprofile(strike)
            act()
        finally:
            sys.setprofile(None)
            sys.unraisablehook = hook
    return left <= 0


def require_working(db: DatabaseManager, place: Path | str) -> None:
    """The same manager writes, another thread writes, another connection sees both, a child too."""
    mine = db.create_speaker("mine").id
    theirs: list[int] = []
    thread = threading.Thread(target=lambda: theirs.append(db.create_speaker("theirs").id))
    thread.start()
    thread.join(20)
    assert theirs, "another thread cannot write"
    seen = ask(place, f"SELECT count(*) FROM speakers WHERE id IN ({mine}, {theirs[0]})")
    assert seen == [(2,)]
    db.execute_raw_query("DELETE FROM speakers WHERE id > 1", write=True)
    assert gc.get_threshold() == COLLECTED, "full collections are held off for good"


def require_a_childs_write(db: DatabaseManager) -> None:
    """A child that is forked later writes."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            db.create_speaker("child")
            status = 0
        finally:
            os._exit(status)
    assert status_of(child) == 0


def status_of(child: int, patience: float = 120) -> int:
    """Wait for a forked child; one that hangs is killed, and fails a test instead of hanging it."""
    deadline = time.monotonic() + patience
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
