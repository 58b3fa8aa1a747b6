"""Sharing what is left: no two workers are given the same, and nothing is left behind."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from support import claim_worker
from support.claim_worker import SETTINGS, sources
from support.cli_tools import run as run_command
from support.crowds import begun, ended, killed, require_each_once
from support.shown import shown

from voices_peewee import DatabaseManager, ProcessedFile, ProcessingHistory
from voices_peewee.errors import DatabaseError, InvalidValueError
from voices_peewee.models import Claim
from voices_peewee.runs.process import process_facts
from voices_peewee.runs.settings import digest
from voices_peewee.schema.fields import utc_now

KEY = {"operation_type": "separation"}
HERE = process_facts()
DEAD = {**HERE, "pid": 2**22 + 1}
ELSEWHERE = {**HERE, "host": "elsewhere"}
REBOOTED = {**HERE, "boot": "another"}


def claiming(db: DatabaseManager, names: Any = 3, **options: Any) -> Any:
    """Return an iterator that claims what is left of some recordings."""
    names = sources(names) if isinstance(names, int) else names
    return db.pending(names, "separation", claim=True, **{**SETTINGS, **options})


def left(db: DatabaseManager, names: Any = 3) -> dict[Any, str]:
    names = sources(names) if isinstance(names, int) else names
    return dict(db.pending(names, "separation", **SETTINGS).with_reasons())


def claims(db: DatabaseManager) -> list[str]:
    return [claim.source for claim in db.query(Claim).order_by(Claim.id)]


def work(db: DatabaseManager, path: str) -> None:
    with db.track(path, "separation", **SETTINGS):
        pass


def work_in_vain(db: DatabaseManager, path: str) -> None:
    with suppress(RuntimeError), db.track(path, "separation", **SETTINGS):
        raise RuntimeError(path)


FIRST, SECOND, THIRD = sources(3)


def test_no_two_are_given_the_same(db: DatabaseManager) -> None:
    """Two iterations share the sources, roughly in order, each step one claim."""
    one, other = claiming(db, 4), claiming(db, 4)
    given = [next(one), next(other), next(one)]
    assert sorted(given) == sorted(claims(db)) == sources(3)
    assert [*other] == sources(4)[3:]


def test_a_claim_says_who_and_until_when(db: DatabaseManager) -> None:
    """A claim names source, process, its time and its end."""
    next(claiming(db, lease=60))
    (claim,) = db.query(Claim)
    assert (claim.source, claim.process) == (FIRST, HERE)
    assert claim.expires_at - claim.claimed_at == dt.timedelta(seconds=60)
    assert abs(claim.claimed_at - utc_now()) < dt.timedelta(seconds=60)


def test_to_look_claims_nothing_and_uses_nothing_up(db: DatabaseManager) -> None:
    """A notebook, a frame and reasons leave all of it to come, unclaimed."""
    found = claiming(db)
    assert shown(found).rows[1] == [FIRST, "never run"]
    assert len(found.to_dataframe()) == 3
    assert list(found.with_reasons()) == [(name, "never run") for name in sources(3)]
    assert claims(db) == []
    assert (next(found), found.reason, claims(db)) == (FIRST, "never run", [FIRST])


def test_a_run_of_these_settings_ends_its_claim(db: DatabaseManager) -> None:
    """The claim goes as the run of that source and those settings ends, and with no other run."""
    found = claiming(db)
    path = next(found)
    with db.track(path, "separation", **{**SETTINGS, "parameters": {"shifts": 3}}):
        pass
    assert claims(db) == [path]
    with db.track(path, "separation", **SETTINGS):
        assert claims(db) == [path]
    assert claims(db) == []
    assert list(left(db)) == [SECOND, THIRD]


def test_a_file_without_a_path_is_claimed_too(db: DatabaseManager) -> None:
    """A recording without a path is claimed by its id."""
    stream = db.add(ProcessedFile(filename="stream"))
    found = claiming(db, [stream])
    assert next(found) is stream
    assert claims(db) == [f"file:{stream.id}"]
    assert list(claiming(db, [stream])) == []
    with db.track(stream, "separation", **SETTINGS):
        pass
    assert (claims(db), left(db, [stream])) == ([], {})


@pytest.mark.parametrize("how", ["close", "break", "raise", "end"])
def test_what_no_run_began_with_is_given_back(db: DatabaseManager, how: str) -> None:
    """A loop that is left, ends or is closed keeps nothing that no run has begun with."""
    if how == "close":
        found = claiming(db)
        next(found)
        found.close()
    elif how == "end":
        assert list(claiming(db)) == sources(3)
    else:
        try:
            for _ in claiming(db):
                assert claims(db) == [FIRST]
                if how == "break":
                    break
                raise RuntimeError  # noqa: TRY301 - the loop is the test
        except RuntimeError:
            pass
    assert claims(db) == []
    assert next(claiming(db)) == FIRST


def test_the_last_batch_is_claimed_while_it_is_worked_on(db: DatabaseManager) -> None:
    """A list that is at its end takes nothing back from who gathers some before their runs."""

    def batches() -> Iterator[list[str]]:
        found = claiming(db)
        while batch := list(islice(found, 2)):
            yield batch

    done = []
    for batch in batches():
        done += batch
        for path in batch:
            assert list(claiming(db, batch)) == []
            work(db, path)
    assert (done, claims(db)) == (sources(3), [])


def test_the_claim_of_a_single_source_outlasts_its_iterator(db: DatabaseManager) -> None:
    """``next(db.pending(…))`` keeps the source until its run ends."""
    path = next(claiming(db))
    assert next(claiming(db)) == SECOND
    work(db, path)
    assert claims(db) == [SECOND]


def test_what_was_given_back_meanwhile_is_given_at_the_end(db: DatabaseManager) -> None:
    """What somebody else had, and gave back without a run, is handed out after the others."""
    one, other = claiming(db), claiming(db)
    assert [next(one), next(other)] == [FIRST, SECOND]
    one.close()
    assert list(other) == [THIRD, FIRST]


def test_a_run_that_goes_on_keeps_its_claim(db: DatabaseManager) -> None:
    """Closing an iteration leaves the claims that runs have begun with to these."""
    found = claiming(db)
    with db.track(next(found), "separation", **SETTINGS):
        found.close()
        assert claims(db) == [FIRST]
    assert claims(db) == []


def test_what_failed_since_the_beginning_is_not_given_again(db: DatabaseManager) -> None:
    """A recording that fails is tried once in an iteration, whoever tried it, and later again."""
    work_in_vain(db, FIRST)
    one, other = claiming(db), claiming(db)
    assert (next(one), one.reason) == (FIRST, "failed")
    assert next(other) == SECOND
    work_in_vain(db, FIRST)
    work_in_vain(db, SECOND)
    assert [*one] == [THIRD]
    one.close()
    assert [*other] == [THIRD]  # the other gave it back
    other.close()
    assert left(db) == {FIRST: "failed", SECOND: "failed", THIRD: "never run"}
    assert next(claiming(db)) == FIRST


def test_a_failure_far_ahead_is_not_given_again_either(db: DatabaseManager) -> None:
    """What another fails at meanwhile is left, though this one has not looked so far yet."""
    names = sources(1100)
    with db.track(names[1000], "separation", **SETTINGS) as run:
        found = claiming(db, 1100)
        assert next(found) == FIRST
        work_in_vain(db, names[900])
        work(db, names[901])
        run.finish(ValueError("x"))
    assert set(names) - {*found} == {FIRST, *names[900:902], names[1000]}


def test_a_run_that_goes_on_is_not_given_out(db: DatabaseManager) -> None:
    """A living run counts as being worked on without a claim, and looking says so."""
    with db.track(FIRST, "separation", **SETTINGS):
        look = db.pending(sources(3), "separation", **SETTINGS)
        reasons = dict(look.with_reasons())
        assert list(claiming(db)) == [SECOND, THIRD]
    assert reasons[FIRST] == "being worked on"
    assert look.workers == {FIRST: HERE}


def test_the_shell_says_what_is_being_worked_on(path: Path, db: DatabaseManager) -> None:
    """``voices pending`` counts what is being worked on."""
    next(claiming(db))
    done = run_command(
        *("--db", path, "pending", FIRST, SECOND, "--operation", "separation"),
        *("--model", "demucs:4.0", "--param", "shifts=2"),
    )
    said = "2 files pending, 1 of them being worked on\n"
    assert done == (0, f"{FIRST}\n{SECOND}\n", said)


def claim_of(db: DatabaseManager, path: str, process: dict[str, Any], hours: float) -> None:
    """Take a process's place: make its claim, which began an hour ago."""
    next(claiming(db, [path]))
    now = utc_now()
    times = {
        "claimed_at": now - dt.timedelta(hours=1),
        "expires_at": now + dt.timedelta(hours=hours),
    }
    Claim.update(process=process, **times).where(Claim.source == path).execute()


@pytest.mark.parametrize(
    ("process", "hours", "is_free"),
    [
        (DEAD, 23, True),
        (ELSEWHERE, 23, False),
        (ELSEWHERE, -0.5, True),
        (REBOOTED, 23, False),
        ({}, 23, True),
    ],
    ids=["dead", "elsewhere", "over", "rebooted", "nobody"],
)
def test_the_claims_of_the_dead_are_free(
    path: Path, process: dict[str, Any], hours: float, is_free: bool
) -> None:
    """A dead process's claim is free at once on its host; elsewhere it is when its lease ends."""
    with DatabaseManager(path).initialize() as db:
        claim_of(db, FIRST, process, hours)
        expected = "never run" if is_free else "being worked on"
        assert left(db)[FIRST] == expected
    program = "import sys; from voices_peewee import DatabaseManager as D\n"
    program += "from support.claim_worker import SETTINGS, sources\n"
    program += "with D(sys.argv[1]) as db:\n for one in db.pending(sources(3), 'separation',"
    program += " claim=True, **SETTINGS): print(one)"
    folder = Path(claim_worker.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert (done.stdout.split(), done.stderr) == (sources(3)[not is_free :], "")
    with DatabaseManager(path) as db:
        assert claims(db) == ([] if is_free else [FIRST])


@pytest.mark.parametrize(
    ("process", "hours", "reason"),
    [
        (DEAD, 0, "unfinished"),
        (HERE, 100, "being worked on"),
        (ELSEWHERE, 1, "being worked on"),
        (ELSEWHERE, 25, "unfinished"),
        (None, 0, "unfinished"),
    ],
    ids=["dead", "here", "elsewhere", "long ago", "nobody"],
)
def test_a_run_of_another_host_is_believed_for_the_lease(
    db: DatabaseManager, process: dict[str, Any] | None, hours: float, reason: str
) -> None:
    """An unfinished run counts while its process lives; where nobody can see it, for the lease."""
    file = db.add(ProcessedFile(filename="a.wav", original_path=FIRST))
    start = utc_now() - dt.timedelta(hours=hours)
    names = {"operation_type": "separation", **SETTINGS}
    db.add(ProcessingHistory(processed_file=file, start_time=start, process=process, **names))
    assert left(db)[FIRST] == reason
    assert (FIRST in list(claiming(db))) == (reason == "unfinished")


@pytest.mark.sqlite("a server keeps what is no JSON out")
@pytest.mark.parametrize("text", ["{'pid': 1}", "[1]", "null"])
def test_a_process_that_another_program_wrote_works_on_nothing(
    db: DatabaseManager, text: str
) -> None:
    """What cannot be read as a process holds nobody up, in a run and in a claim."""
    next(claiming(db))
    for path in (FIRST, SECOND):
        file = db.add(ProcessedFile(filename="a.wav", original_path=path))
        db.add(ProcessingHistory(processed_file=file, operation_type="separation", **SETTINGS))
    for table in ("claims", "processing_history"):
        db.execute_raw_query(f"UPDATE {table} SET process = ?", (text,), write=True)
    assert left(db) == {FIRST: "unfinished", SECOND: "unfinished", THIRD: "never run"}


def test_the_runs_of_the_dead_are_closed_with_their_claims(db: DatabaseManager) -> None:
    """``close_unfinished`` frees what a process had claimed that died, before a reboot too."""
    claim_of(db, FIRST, REBOOTED, 23)
    claim_of(db, SECOND, ELSEWHERE, 23)
    db.close_unfinished()
    assert claims(db) == [SECOND]


@pytest.mark.parametrize("when", ["asked", "iterated"])
def test_a_claim_is_no_part_of_a_transaction(db: DatabaseManager, when: str) -> None:
    """Inside ``atomic()`` nothing is claimed: it would be undone, or seen by nobody."""
    found = claiming(db)
    with pytest.raises(DatabaseError) as caught, db.atomic():
        claiming(db) if when == "asked" else next(found)
    assert str(caught.value) == (
        f"cannot use {db.path!r}: a claim is a transaction of its own; "
        "ask for the next source outside of atomic()"
    )
    assert next(found) == FIRST


@pytest.mark.parametrize("lease", [0, -1, float("nan"), dt.timedelta(0), "1", 1e12], ids=repr)
def test_a_lease_is_a_time(db: DatabaseManager, lease: Any) -> None:
    """A lease that is no time is one sentence."""
    with pytest.raises(InvalidValueError) as caught:
        claiming(db, lease=lease)
    message = f"a lease is of more than 0 s and at most ten years, not {lease!r}"
    assert str(caught.value) == message


def test_threads_share_too(db: DatabaseManager) -> None:
    """Threads of one process are workers like any others."""
    given: list[str] = []

    def loop() -> None:
        for path in claiming(db, 60):
            given.append(path)
            work(db, path)
        db.close_session()

    threads = [threading.Thread(target=loop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == sources(60)


def test_a_forked_child_leaves_its_parents_claims_alone(db: DatabaseManager) -> None:
    """A child that ends an iteration it was born with gives nothing of its parent's back."""
    found = claiming(db)
    path = next(found)
    child = os.fork()
    if child == 0:
        try:
            found.close()
            os._exit(0 if next(found) == SECOND else 1)
        except BaseException:  # noqa: BLE001 - a child must not go on as a test
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert claims(db) == [path, SECOND]
    assert list(found) == [SECOND, THIRD]  # the child is dead


@pytest.mark.sqlite("counts statements through sqlite3")
def test_the_next_of_many_costs_little(db: DatabaseManager) -> None:
    """What a step costs does not grow with the sources, the steps before it or others' claims."""
    found = claiming(db, 20_000)
    next(found)
    counts = []
    for _ in range(3):
        steps: list[str] = []
        db.store.connection().set_trace_callback(steps.append)
        next(found)
        counts.append(len(steps))
        db.store.connection().set_trace_callback(None)
        begun = time.process_time()
        for _ in range(300):
            next(found)
        counts.append(time.process_time() - begun < 3)
    assert counts == [5, True] * 3


def test_threads_may_share_one_list(db: DatabaseManager) -> None:
    """Threads that go on with one iterator are given each source once, and all of them."""
    found = claiming(db, 100)

    def work() -> list[str]:
        given = []
        for path in found:
            with db.track(path, "separation", **SETTINGS):
                given.append(path)
        return given

    with ThreadPoolExecutor(8) as pool:
        given = [one for future in [pool.submit(work) for _ in range(8)] for one in future.result()]
    assert len(given) == len(set(given)) == 100


CROWDS = [
    pytest.param(4, 120, id="few"),
    pytest.param(4, 2000, id="4", marks=pytest.mark.soak),
    pytest.param(16, 2000, id="16", marks=pytest.mark.soak),
]


@pytest.fixture
def place(path: Path | str) -> Path | str:
    with DatabaseManager(path).initialize():
        pass
    return path


@pytest.mark.once
@pytest.mark.parametrize(("workers", "count"), CROWDS)
def test_many_workers_do_each_once(place: Path | str, workers: int, count: int) -> None:
    """Workers that begin together are given each recording once, and all of them."""
    given = Counter(ended(begun(place, workers, count, 0)))
    assert set(given) == set(sources(count))
    assert all(times == 1 for path, times in given.items() if not path.endswith("49.wav"))
    require_each_once(place, count)


@pytest.mark.once
@pytest.mark.parametrize(("workers", "count"), CROWDS)
def test_what_killed_workers_left_is_done_once(place: Path | str, workers: int, count: int) -> None:
    """Half are killed, then all: who is left and who comes after do each recording once."""
    crowd = begun(place, workers, count, 0.02)
    killed(crowd[: workers // 2], after=3)
    killed(crowd[workers // 2 :], after=8)
    crowd = begun(place, workers, count, 0)
    killed(crowd[: workers // 2], after=1)
    ended(crowd[workers // 2 :])
    ended(begun(place, 1, count, 0))  # the others may have been through before the last was killed
    require_each_once(place, count)


@pytest.mark.sqlite("a server's columns take nothing else than theirs")
@pytest.mark.parametrize("change", ["source = x'00ff'", "expires_at = '05/05/2026 10:00'"])
def test_a_claim_that_another_program_spoilt_is_none(db: DatabaseManager, change: str) -> None:
    """Its source is handed out as if nobody had claimed it, and the others are not disturbed."""
    work(db, sources(3)[0])
    told = {"process": ELSEWHERE, "settings": digest({**KEY, **SETTINGS})}
    for source in sources(3)[1:]:
        times = {"claimed_at": utc_now(), "expires_at": utc_now() + dt.timedelta(days=1)}
        db.add(Claim(source=source, **told, **times))
    spoilt, other = sources(3)[1:]
    db.execute_raw_query(f"UPDATE claims SET {change} WHERE source = ?", [spoilt], write=True)
    assert left(db) == {spoilt: "never run", other: "being worked on"}
    assert list(claiming(db)) == [spoilt]
