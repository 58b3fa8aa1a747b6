"""How a batch that is under way gets on, looked at again and again for little."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.errors import AudioError
from voices_peewee.questions.pending import pending
from voices_peewee.questions.selection import Runs
from voices_peewee.records.audio_files import is_gone
from voices_peewee.records.sources import recordings_by_path
from voices_peewee.rendering.plain import locate
from voices_peewee.runs.claims import claimed
from voices_peewee.runs.process import is_alive, is_here
from voices_peewee.runs.settings import digest
from voices_peewee.schema.models import ProcessingHistory

_PAUSE: Final = 2.0  # s between two looks
# Done, failed, how many each process has (None: the dead), and waiting.
Counts = tuple[int, int, Counter[str | None], int]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is: numbers of recordings, or of runs where no recordings were named.

    ``running`` names the processes at work (host:pid) with how many each has; ``died`` counts
    those whose process is gone. ``waiting`` are neither done nor failed nor taken. ``rate`` is
    what was done or failed an hour since the watch began, ``seconds_left`` what that means for
    the rest; both are None while nothing tells.
    """

    done: int
    failed: int
    running: Mapping[str, int]
    died: int
    waiting: int
    rate: float | None
    seconds_left: float | None

    @property
    def left(self) -> int:
        """How many are still to come, or being worked on."""
        return self.waiting + sum(self.running.values())


def watch(store: Store, sources: Iterable[str] | None, **settings: Any) -> Iterator[Progress]:
    """Yield how far it is at once and every two seconds, until nothing is left.

    Raises:
        AudioError: A recording is neither there nor in the record, nor claimed.
    """
    if sources is None:
        settings.pop("parameters", None)
    counts = _of_runs(store, settings) if sources is None else _of(store, sources, settings)
    begun, before, calm = time.monotonic(), None, 0
    while True:
        done, failed, workers, waiting = next(counts)
        ended, died = done + failed, workers.pop(None, 0)
        before = ended if before is None else before
        spent = time.monotonic() - begun
        rate = 3600 * (ended - before) / spent if ended > before else None
        running = {str(worker): count for worker, count in workers.most_common()}
        left = waiting + workers.total()
        seconds = 3600 * left / rate if rate else None
        yield Progress(done, failed, running, died, waiting, rate, seconds)
        calm = 0 if left else calm + 1
        if calm > (sources is None and ended > 0):  # between two runs of a batch nothing runs
            return
        time.sleep(_PAUSE)


def _of(store: Store, sources: Iterable[str], settings: Mapping[str, Any]) -> Iterator[Counts]:
    """Count recordings; what is done is not asked for again."""
    left = list(dict.fromkeys(map(locate, sources)))
    total = len(left)
    _require_known(store, left, settings)
    while True:
        look = pending(store, left, exact=False, where=(), **settings)
        reasons = dict(look.with_reasons())
        left, whys = list(reasons), Counter(reasons.values())
        workers: Counter[str | None] = Counter(map(_name, look.workers.values()))
        workers[None] = whys["unfinished"]
        failed = whys["failed"]
        yield total - len(left), failed, workers, len(left) - failed - workers.total()


def _require_known(store: Store, paths: Iterable[str], settings: Mapping[str, Any]) -> None:
    """Refuse a path at which nothing is, and that nobody works on: it would wait for ever."""
    gone = list(filter(is_gone, paths))
    claims = claimed(store, digest(settings)) if gone else ()
    known = {*recordings_by_path(store, gone), *claims}
    if strange := next((path for path in gone if path not in known), None):
        raise AudioError(strange, "there is no such file, and the record knows none there")


def _of_runs(store: Store, wanted: Mapping[str, Any]) -> Iterator[Counts]:
    """Count the runs that go on when it begins, and those that begin meanwhile."""
    run = ProcessingHistory
    is_open = run.end_time.is_null() & ~run.success
    with store.reading():
        last = run.select(pw.fn.COALESCE(pw.fn.MAX(run.id), 0)).scalar()
        going_on = [row.run_id for row in run.select(run.run_id).where(is_open)]
    query = run.select(
        pw.fn.MIN(pw.Case(None, [(is_open, 0)], 1)),
        pw.fn.MIN(pw.Case(None, [(run.success, 1)], 0)),
        pw.fn.MAX(run.process.cast("TEXT")),
    )
    query = query.where(
        (run.id > last) | (run.run_id << going_on), *Runs(**wanted).conditions(store)
    )
    while True:
        with store.reading():
            rows = store.connection().execute(*query.group_by(run.run_id).sql()).fetchall()
        ended = [success for has_ended, success, _ in rows if has_ended]
        workers = Counter(_worker(process) for has_ended, _, process in rows if not has_ended)
        yield sum(ended), len(ended) - sum(ended), workers, 0


def _worker(stored: str | None) -> str | None:
    """Return the process that has a run, None for one that is dead."""
    facts = ProcessingHistory.process.python_value(stored)
    if not isinstance(facts, dict) or not facts:
        return "unknown"
    return None if is_here(facts) and not is_alive(facts) else _name(facts)


def _name(facts: Mapping[str, Any]) -> str:
    return f"{facts.get('host', 'unknown')}:{facts.get('pid', '?')}"
