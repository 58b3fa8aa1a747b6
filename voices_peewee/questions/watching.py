"""How a batch that is under way gets on, looked at again and again for little."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.errors import AudioError, QueryError
from voices_peewee.questions.pending import pending
from voices_peewee.questions.selection import Runs, operations
from voices_peewee.records.audio_files import is_gone
from voices_peewee.records.sources import recordings_by_path
from voices_peewee.rendering.plain import locate
from voices_peewee.runs.claims import claimed
from voices_peewee.runs.process import is_alive, is_here
from voices_peewee.runs.settings import digest
from voices_peewee.schema.fields import plain_name
from voices_peewee.schema.models import ProcessingHistory

MOST_PATIENT: Final = 86_400  # s between two looks
_CALLER: Final = 5  # how many calls up the user's line stands
# A look may take this part of the time between two looks.
_SHARE: Final = 0.1


class UnknownModelWarning(UserWarning):
    """A batch is watched that a model does of which there is no run yet."""


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
        AudioError: A recording is neither there nor in the record, nor claimed.
    """
    look: _Runs | _Sources
    if sources is None:
        look = _Runs(store, **settings)
    else:
        look = _Sources(store, sources, parameters=parameters, **settings)
    if operation := settings.get("operation_type"):
        _require_operation(store, str(plain_name(operation)), look)
    if isinstance(look, _Sources):
        look.require_known()
    if settings.get("model_type") and not (isinstance(look, _Sources) and look.has_claims()):
        _warn_of_model(store, settings["model_type"], settings.get("model_version"))
    return _looks(look, interval)


def _warn_of_model(store: Store, model: str, version: str | None) -> None:
    """Say that a record of others has no run by the model: it may begin, or be misspelt."""
    run, name = ProcessingHistory, str(plain_name(model))
    with store.reading():
        if version is None:
            query = run.select(run.model_type).distinct().where(run.model_type.is_null(False))
        else:
            query = run.select(run.model_type, run.model_version).distinct()
            name += f":{plain_name(version)}"
        rows = store.connection().execute(*query.sql()).fetchall()
    known = {":".join(filter(None, row)) for row in rows} - {""}
    if known and name not in known:
        error = QueryError.unknown_field(name, known, "model")
        warnings.warn(f"no such run so far: {error}", UnknownModelWarning, stacklevel=_CALLER)


def _require_operation(store: Store, operation: str, look: _Runs | _Sources) -> None:
    """Refuse an operation that a record of others does not know: it would be waited for in vain."""
    with store.reading():
        known = operations(store)
    if known and operation not in known and not (isinstance(look, _Sources) and look.has_claims()):
        raise QueryError.unknown_field(operation, map(str, known), "operation")


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

    def __init__(self, store: Store, sources: Iterable[str], **settings: Any) -> None:
        self._left = list(dict.fromkeys(map(locate, sources)))
        self._total = len(self._left)
        self._store, self._settings = store, settings

    def has_claims(self) -> bool:
        """Whether somebody is about to begin, or works on something."""
        return bool(claimed(self._store, digest(self._settings)))

    def require_known(self) -> None:
        """Refuse a path at which nothing is, and that nobody works on: it would wait for ever."""
        gone = list(filter(is_gone, self._left))
        claims = claimed(self._store, digest(self._settings)) if gone else ()
        known = {*recordings_by_path(self._store, gone), *claims}
        if strange := next((path for path in gone if path not in known), None):
            raise AudioError(strange, "there is no such file, and the record knows none there")

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
    """Counts the runs that go on when it begins, and those that begin meanwhile."""

    patience = 0

    def __init__(self, store: Store, **wanted: Any) -> None:
        run = ProcessingHistory
        self._store = store
        self._wanted = Runs(**wanted).conditions(store)
        with store.reading():
            last = run.select(pw.fn.COALESCE(pw.fn.MAX(run.id), 0)).scalar()
            is_open = run.end_time.is_null() & ~run.success
            going_on = [row.run_id for row in run.select(run.run_id).where(is_open)]
        self._watched = (run.id > last) | (run.run_id << going_on)

    def counts(self) -> tuple[int, int, Sequence[str | None], int]:
        """Return how many have ended well and otherwise, and who runs the others."""
        run = ProcessingHistory
        has_ended = pw.Case(None, [(run.end_time.is_null() & ~run.success, 0)], 1)
        query = run.select(
            pw.fn.MIN(has_ended),
            pw.fn.MIN(pw.Case(None, [(run.success, 1)], 0)),
            pw.fn.MAX(run.process.cast("TEXT")),
        )
        query = query.where(self._watched, *self._wanted).group_by(run.run_id)
        with self._store.reading():
            rows = self._store.connection().execute(*query.sql()).fetchall()
        ended = [success for has_ended, success, _ in rows if has_ended]
        # Between two runs of a batch nothing runs.
        self.patience = 1 if ended else 0
        workers = [_worker(process) for has_ended, _, process in rows if not has_ended]
        return sum(ended), len(ended) - sum(ended), workers, 0


def _worker(stored: str | None) -> str | None:
    """Return the process that has a run, None for one that is dead."""
    facts = ProcessingHistory.process.python_value(stored)
    if not isinstance(facts, dict) or not facts:
        return "unknown"
    return None if is_here(facts) and not is_alive(facts) else _name(facts)


def _name(facts: Mapping[str, Any]) -> str:
    return f"{facts.get('host', 'unknown')}:{facts.get('pid', '?')}"
