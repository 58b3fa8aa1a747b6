"""How a batch that is under way gets on, looked at again and again for little."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.questions.pending import pending
from voices_peewee.records.sources import LOOKUP
from voices_peewee.rendering.plain import locate
from voices_peewee.runs.claims import claimed
from voices_peewee.runs.process import is_alive, is_here
from voices_peewee.runs.settings import digest
from voices_peewee.schema.fields import plain_name
from voices_peewee.schema.models import ProcessingHistory

MOST_PATIENT: Final = 86_400  # s between two looks
# A look may take this part of the time between two looks.
_SHARE: Final = 0.1
_OPEN: Final = """SELECT history.run_id, recording.original_path, history.process,
 history.operation_type, history.model_type, history.model_version
 FROM processing_history AS history
 JOIN processed_files AS file ON file.id = history.processed_file_id
 JOIN processed_files AS recording ON recording.id = coalesce(file.recording_id, file.id)
 WHERE history.end_time IS NULL AND NOT history.success"""
_NEW: Final = "SELECT DISTINCT run_id FROM processing_history WHERE id > ?"
_HAS: Final = "SELECT 1 FROM processing_history WHERE operation_type = ? LIMIT 1"
_OPERATIONS: Final = "SELECT DISTINCT operation_type FROM processing_history"
_LAST: Final = "SELECT coalesce(max(id), 0) FROM processing_history"
_OUTCOMES: Final = """SELECT run_id, min(CASE WHEN success THEN 1 ELSE 0 END)
 FROM processing_history WHERE run_id IN ({}) GROUP BY run_id"""


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


class _Open(NamedTuple):
    """A history row without an end, as it is stored."""

    run_id: str
    path: str | None
    process: str | None
    operation: str
    model: str | None
    version: str | None

    def worker(self) -> str | None:
        """Return the process that has the run, None for one that is dead."""
        facts = ProcessingHistory.process.python_value(self.process)
        if not isinstance(facts, dict) or not facts:
            return "unknown"
        if is_here(facts) and not is_alive(facts):
            return None
        return _name(facts)


def _name(facts: Mapping[str, Any]) -> str:
    return f"{facts.get('host', 'unknown')}:{facts.get('pid', '?')}"


def _require_operation(store: Store, operation: str, claims: bool) -> None:
    """Refuse an operation that a record of others does not know: it would be waited for in vain."""
    with store.reading():
        connection = store.connection()
        if claims or connection.execute(_HAS, (operation,)).fetchone():
            return
        known = [str(row[0]) for row in connection.execute(_OPERATIONS).fetchall()]
    if known:
        raise QueryError.unknown_field(operation, known, "operation")


def watch(
    store: Store,
    sources: Iterable[str] | None,
    *,
    interval: float,
    parameters: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Progress]:
    """Yield how far it is at once and after each interval, until nothing is left.

    Raises:
        QueryError: The record has runs, but none of the operation.
    """
    look: _Runs | _Sources
    if sources is None:
        look = _Runs(store, **settings)
    else:
        look = _Sources(store, sources, parameters=parameters, **settings)
    if operation := settings.get("operation_type"):
        _require_operation(store, str(plain_name(operation)), look.has_claims())
    return _looks(look, interval)


def _looks(look: _Runs | _Sources, interval: float) -> Iterator[Progress]:
    begun, before, calm = time.monotonic(), None, 0
    while True:
        start = time.monotonic()
        done, failed, running, waiting = look.counts()
        before = done + failed if before is None else before
        rate = _rate(done + failed - before, start - begun)
        workers = Counter(running)
        died = workers.pop(None, 0)
        left = waiting + workers.total()
        seconds = None if rate is None else 3600 * left / rate
        named = {str(worker): count for worker, count in workers.most_common()}
        yield Progress(done, failed, named, died, waiting, rate, seconds)
        calm = 0 if left else calm + 1
        if calm > look.patience:
            return
        time.sleep(max(interval, (time.monotonic() - start) / _SHARE))


def _rate(ended: int, seconds: float) -> float | None:
    return 3600 * ended / seconds if ended > 0 and seconds > 0 else None


class _Sources:
    """Counts recordings; what is done is not asked for again."""

    patience = 0

    def __init__(
        self,
        store: Store,
        sources: Iterable[str],
        **settings: Any,
    ) -> None:
        self._left = list(dict.fromkeys(map(locate, sources)))
        self._total = len(self._left)
        self._store, self._settings = store, settings

    def has_claims(self) -> bool:
        """Whether somebody is about to begin, or works on something."""
        return bool(claimed(self._store, digest(self._settings)))

    def counts(self) -> tuple[int, int, Sequence[str | None], int]:
        """Return how many are done, failed, by whom run (None: by the dead), and waiting."""
        look = pending(self._store, self._left, exact=False, where=(), **self._settings)
        reasons = dict(look.with_reasons())
        self._left = list(reasons)
        counts = Counter(reasons.values())
        failed, died = counts["failed"], counts["unfinished"]
        running: list[str | None] = [*map(_name, look.workers.values()), *[None] * died]
        waiting = len(self._left) - failed - len(running)
        return self._total - len(self._left), failed, running, waiting


class _Runs:
    """Counts the runs that end while they are watched; only what is new is read."""

    def __init__(
        self,
        store: Store,
        *,
        operation_type: str | None = None,
        model_type: str | None = None,
        model_version: str | None = None,
    ) -> None:
        self._store = store
        self._wanted = (operation_type, model_type, model_version)
        self._seen: set[str] = set()
        self._outcomes: dict[str, bool] = {}
        with store.reading():
            self._last: int = store.connection().execute(_LAST).fetchone()[0]

    def has_claims(self) -> bool:
        """Whether somebody is about to begin; it is not known of which settings."""
        return False

    @property
    def patience(self) -> int:
        """How many looks may find nothing: between two runs of a batch nothing runs."""
        return 1 if self._outcomes else 0

    def counts(self) -> tuple[int, int, Sequence[str | None], int]:
        """Return how many have ended well and otherwise, and who runs the others."""
        with self._store.reading():
            connection = self._store.connection()
            new = connection.execute(_NEW, (self._last,)).fetchall()
            self._last = connection.execute(_LAST).fetchone()[0]
        workers = {row.run_id: row.worker() for row in _open(self._store) if self._has(row)}
        watched = self._seen | {row[0] for row in new}
        self._end(watched - workers.keys() - self._outcomes.keys())
        self._seen = set(workers)
        done = sum(self._outcomes.values())
        return done, len(self._outcomes) - done, list(workers.values()), 0

    def _has(self, row: _Open) -> bool:
        return all(want in (None, have) for want, have in zip(self._wanted, row[3:], strict=True))

    def _end(self, run_ids: Iterable[str]) -> None:
        """Note how runs ended that are unfinished no more."""
        rest = iter(run_ids)
        while some := list(islice(rest, LOOKUP)):
            sql = _OUTCOMES.format(", ".join("?" * len(some)))
            with self._store.reading():
                rows = self._store.connection().execute(sql, some).fetchall()
            self._outcomes.update((run_id, bool(success)) for run_id, success in rows)


def _open(store: Store) -> list[_Open]:
    """Return the runs without an end, of which an index knows."""
    with store.reading():
        return [_Open(*row) for row in store.connection().execute(_OPEN).fetchall()]
