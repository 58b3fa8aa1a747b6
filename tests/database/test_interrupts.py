"""Interrupts (Ctrl-C in a notebook that goes on): whatever one strikes, the record goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.databases import ask
from support.interrupts import (
    interrupted_at,
    require_a_childs_write,
    require_working,
    status_of,
)

from voices_peewee import DatabaseManager, ProcessedFile, Speaker
from voices_peewee.database.forks import forks
from voices_peewee.database.results import collect_again
from voices_peewee.errors import DatabaseError

pytestmark = [
    # Python itself drops an exception that strikes inside a destructor, with this warning.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.sqlite("psycopg's own steps are not proof against an interrupt at any call"),
]

SECONDS = [2, pytest.param(60, marks=pytest.mark.soak)]
STEP = [7, pytest.param(1, marks=pytest.mark.soak)]

ACTS: dict[str, Callable[[DatabaseManager], object]] = {
    "add": lambda db: db.add(Speaker(name="new")),
    "add_all": lambda db: db.add_all([Speaker(name="new"), Speaker(name="new")]),
    "add_many": lambda db: db.add_many(Speaker, [{"name": "new"}]),
    "update": lambda db: db.update(db.get_by_id(Speaker, 1), description="new"),
    "add_tags": lambda db: db.add_tags(1, ["new"]),
    "get_all": lambda db: db.get_all(Speaker),
    "execute_raw_query": lambda db: db.execute_raw_query("SELECT name FROM speakers"),
    "raw write": lambda db: db.execute_raw_query(
        "UPDATE speakers SET description = 'new' WHERE id = 1", write=True
    ),
}


@pytest.mark.parametrize("step", STEP)
@pytest.mark.parametrize("name", ACTS)
def test_an_interrupt_at_a_call_or_return_is_harmless(
    path: Path, db: DatabaseManager, name: str, step: int
) -> None:
    """Wherever a method is interrupted, the manager, its threads and a later child write on."""
    db.create_speaker("Ada")
    act = ACTS[name]
    act(db)  # what is compiled and imported once
    place = 1
    while interrupted_at(place, lambda: act(db)):
        require_working(db, path)
        place += step
    assert place > step
    require_a_childs_write(db)


def test_an_interrupt_where_a_connection_is_closed_is_harmless(
    path: Path, db: DatabaseManager
) -> None:
    """A connection that was closed, and of which Peewee has not heard, is replaced by a new one."""
    db.create_speaker("Ada")
    place = 1
    while interrupted_at(place, db.close_session):
        require_working(db, path)
        place += 1
    assert place > 20


def test_an_interrupted_backup_leaves_no_connection_open(db: DatabaseManager) -> None:
    """What a backup has opened is closed, wherever it is interrupted."""
    db.create_speaker("Ada")
    place = 1
    while interrupted_at(place, db.backup_database, within="upkeep/backup.py"):
        own = [one for one in forks.open_connections() if one.thread == threading.get_ident()]
        assert len(own) == 1
        place += 1
    assert place > 40


def test_an_interrupt_during_a_fork_is_harmless(path: Path, db: DatabaseManager) -> None:
    """Wherever our part of a fork is interrupted, parent, thread and a later child write on."""

    def fork() -> None:
        if (child := os.fork()) == 0:
            os._exit(0)
        assert status_of(child) == 0

    def fork_inside() -> None:
        with db.atomic():
            db.create_speaker("in the block")
            fork()

    db.create_speaker("Ada")
    for act in (fork, fork_inside):
        place = 1
        while interrupted_at(place, act, within="forks.py"):
            require_working(db, path)
            place += 1
        assert place > 5
        require_a_childs_write(db)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seconds", SECONDS)
def test_interrupts_by_a_real_timer_are_harmless(
    path: Path, db: DatabaseManager, seconds: float
) -> None:
    """KeyboardInterrupt at any moment loses nothing that was acknowledged and locks nobody out."""

    def strike(*_: object) -> None:
        raise KeyboardInterrupt

    def work() -> None:  # a function: Python 3.13 lets one by that strikes a loop's jump in a try
        nonlocal acknowledged
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + (time.monotonic() % 0.003))
        while time.monotonic() < end:  # Python drops an interrupt that strikes a __del__
            db.add_all([Speaker(name="timed"), Speaker(name="other")])
            acknowledged += 1
            db.execute_raw_query("SELECT count(*) FROM speakers")
        signal.setitimer(signal.ITIMER_REAL, 0)  # here, where a late one is caught

    db.create_speaker("Ada")
    before, acknowledged = signal.signal(signal.SIGALRM, strike), 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            try:
                work()
            except KeyboardInterrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        collect_again()  # where one interrupt struck what mends another
    assert ask(path, "SELECT count(*) FROM speakers WHERE name = 'timed'")[0][0] >= acknowledged
    require_working(db, path)
    require_a_childs_write(db)


def test_an_asyncio_task_keeps_out_of_anothers_transaction(path: Path, db: DatabaseManager) -> None:
    """While one task awaits inside atomic(), another of its thread may not write into it."""

    async def slow() -> None:
        with db.atomic():
            db.add(Speaker(name="slow"))
            await asyncio.sleep(0.05)
            db.add(Speaker(name="slow too"))

    async def quick(write: Callable[[], object]) -> None:
        await asyncio.sleep(0.01)
        write()

    def in_a_block() -> None:
        with db.atomic():
            db.add(Speaker(name="quick"))

    async def both(write: Callable[[], object]) -> list[BaseException | None]:
        return await asyncio.gather(slow(), quick(write), return_exceptions=True)

    for number, write in enumerate((in_a_block, lambda: db.add(Speaker(name="quick"))), 1):
        first, second = asyncio.run(both(write))
        assert first is None
        assert str(second) == (
            f"cannot use {str(path)!r}: another asyncio task of this thread is inside atomic(); "
            "await nothing there, or use threads"
        )
        names = [speaker.name for speaker in db.get_all(Speaker)]
        assert names == ["slow", "slow too"] * number
    db.add(Speaker(name="afterwards"))


def test_an_interrupt_where_a_users_block_ends_keeps_later_rows(
    path: Path, db: DatabaseManager
) -> None:
    """A transaction that outlives its block is undone before the next call of the manager."""
    place = 1

    def work() -> None:
        with db.atomic():
            db.add(Speaker(name="in the block"))

    work()
    while interrupted_at(place, work):
        healed = db.add(Speaker(name="healed")).id
        assert ask(path, f"SELECT count(*) FROM speakers WHERE id = {healed}") == [(1,)]
        place += 1
    assert place > 10


class _Ringing:
    """A value during whose storing a signal arrives."""

    def __fspath__(self) -> str:
        signal.raise_signal(signal.SIGUSR1)
        return "x"


def test_a_signal_handler_does_not_add_amid_many(path: Path, db: DatabaseManager) -> None:
    """A handler that adds a row while many are added is told so, and nothing is written by half."""
    before = signal.signal(signal.SIGUSR1, lambda *_: db.add(Speaker(name="handler")))
    many = [ProcessedFile(filename="a"), ProcessedFile(filename="b", metadata={"x": _Ringing()})]
    try:
        with pytest.raises(DatabaseError) as caught:
            db.add_all([Speaker(name="one"), *many])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert str(caught.value) == (
        f"cannot use {str(path)!r}: a signal handler may not write into a transaction that it "
        "interrupted; have it set a flag"
    )
    assert (db.get_all(Speaker), db.get_all(ProcessedFile)) == ([], [])
    require_working(db, path)
