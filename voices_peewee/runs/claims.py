"""Who works on what: a source that one worker was given is given to no other.

A claim is a row of a source and a digest of settings. It ends with the run of that source and
those settings, when the iteration that made it is closed without one, or with its process. Its
lease counts only where nobody can see whether the process lives.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from voices_peewee.database.forks import at_fork
from voices_peewee.database.store import Store
from voices_peewee.errors import DatabaseError, InvalidValueError
from voices_peewee.runs.process import is_alive, is_here, process_facts
from voices_peewee.runs.settings import digest
from voices_peewee.schema.fields import dump_json, utc_now
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

Source = str | int  # a recording's path, or the id of one that has none

DAY: Final = dt.timedelta(days=1)
_LONGEST: Final = dt.timedelta(days=3650)
_MANY: Final = 1000  # claims that are looked through for those of the dead
_INSIDE: Final = "a claim is a transaction of its own; ask for the next source outside of atomic()"

_COLUMNS: Final = "SELECT source, settings, process, claimed_at, expires_at FROM claims"
_OF_SETTINGS: Final = f"{_COLUMNS} WHERE settings = ?"
_OLDEST: Final = f"{_COLUMNS} ORDER BY id LIMIT {_MANY}"
# In the place of that of a dead process, where there is one.
_CLAIM: Final = """INSERT INTO claims (source, settings, process, claimed_at, expires_at)
 VALUES (?, ?, ?, ?, ?) ON CONFLICT (source, settings) DO UPDATE SET process = excluded.process,
 claimed_at = excluded.claimed_at, expires_at = excluded.expires_at"""
_END: Final = "DELETE FROM claims WHERE source = ? AND settings = ? AND claimed_at = ?"

INTERRUPTED: Final = "interrupted"

_UNFINISHED: Final = """SELECT history.id, history.run_id, history.process, history.start_time,
 max(performance.created_at)
 FROM processing_history AS history
 LEFT JOIN model_performance AS performance ON performance.processing_history_id = history.id
 WHERE history.end_time IS NULL AND NOT history.success GROUP BY history.id"""
_CLOSE: Final = """UPDATE processing_history SET end_time = ?, error_message = ?
 WHERE id = ? AND end_time IS NULL AND NOT success"""
_MAX_AGE: Final = dt.timedelta(days=365_000)


class Claimed(NamedTuple):
    """A claim, as it is stored."""

    source: str
    settings: str
    process: str
    claimed_at: str
    expires_at: str

    def worker(self, label: str) -> dict[str, Any] | None:
        """Return the process that works on the source, None where nobody does any more."""
        process = facts_of(self.process)
        is_mine = process == process_facts()
        if is_mine and (label, self.source, self.settings) not in _held:
            return None  # its iteration went away without a word
        until = _time.python_value(self.expires_at)
        is_time = isinstance(until, dt.datetime)  # else another program wrote it
        return process if is_time and is_working(process, until) else None

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells the claim from earlier and later ones."""
        return self.source, self.settings, self.claimed_at


_time: Final = ProcessingHistory.start_time


class Held:
    """A claim that this process made; once a run ``has_begun`` with it, that run ends it.

    ``place`` is where it stands among those of this process.
    """

    def __init__(self, store: Store, claimed: Claimed) -> None:
        self.claimed, self.has_begun = claimed, False
        self.place = (store.label, claimed.source, claimed.settings)

    def end(self, steps: Any) -> None:
        """Delete the claim."""
        steps.add(_END, self.claimed.key)


# By the record's label, the source and the settings; an iteration and a run meet here.
_held: Final[dict[tuple[str, str, str], Held]] = {}
at_fork(after_in_child=_held.clear)  # a child has no part in its parent's claims


def facts_of(text: str | None) -> dict[str, Any]:
    """Return a process as it is stored; nothing where another program wrote what is none."""
    try:
        facts = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def is_working(process: Mapping[str, Any], until: dt.datetime) -> bool:
    """Whether a process lives; where that cannot be seen from here, whether its time is left."""
    if process and is_here(process, since_boot=True):
        return is_alive(process)
    return bool(process) and until > utc_now()


def lease_of(lease: dt.timedelta | float) -> dt.timedelta:
    """Return a lease that was given as a timedelta or in seconds.

    Raises:
        InvalidValueError: It is not more than nothing, or longer than ten years.
    """
    rule = "a lease is of more than 0 s and at most ten years"
    return _length(lease, dt.timedelta.resolution, _LONGEST, rule)


def _length(
    told: dt.timedelta | float, least: dt.timedelta, longest: dt.timedelta, rule: str
) -> dt.timedelta:
    """Return a time that was given as a timedelta or in seconds."""
    with suppress(TypeError, ValueError, OverflowError):
        length = told if isinstance(told, dt.timedelta) else dt.timedelta(seconds=told)
        if least <= length <= longest and not isinstance(told, bool):
            return length
    raise InvalidValueError(f"{rule}, not {told!r}")


def require_no_transaction(store: Store) -> None:
    """Refuse to claim where it would be undone, or seen by nobody, until a block ends."""
    if store.database.in_transaction():
        raise DatabaseError(store.label, _INSIDE)


def claimed(
    store: Store, settings: str, sources: Sequence[Source] | None = None
) -> dict[Source, Claimed]:
    """Return the claims of the living with these settings: all, or of at most 500 sources."""
    sql, values = _OF_SETTINGS, [settings]
    if sources is not None:
        sql += f" AND source IN ({', '.join('?' * len(sources))})"
        values += map(_stored, sources)
    claims = store.retrying(_read, store, sql, values)
    return {_source(claim.source): claim for claim in claims if claim.worker(store.label)}


def begin(store: Store, recording: ProcessedFile, settings: Mapping[str, Any]) -> Held | None:
    """Return the claim of this process that a run begins with; it lasts until the run ends."""
    if not _held:
        return None
    path = recording.original_path
    source = _stored(recording.id if path is None else str(path))
    for asked in (settings, {**settings, "model_hash": None}):  # pending may not name the weights
        if held := _held.get((store.label, source, digest(asked))):
            held.has_begun = True
            return held
    return None


def forget(held: Held | None) -> None:
    """Take note that a run has ended its claim."""
    if held is not None:
        _held.pop(held.place, None)


class Claims:
    """The claims that one iteration makes."""

    def __init__(self, store: Store, settings: str, lease: dt.timedelta) -> None:
        self._store, self.settings, self._lease = store, settings, lease
        self._mine: list[Held] = []
        self._process = os.getpid()

    @contextmanager
    def taking(self, made: Sequence[Held]) -> Iterator[None]:
        """Keep others from claiming while one source is chosen and added, in one transaction.

        What an earlier attempt ``made`` counts no more: a server went away, and it may be there.
        """
        for held in made:
            _held.pop(held.place, None)
        with self._store.writing():
            self._store.engine.lock(f"claims {self.settings}")
            yield

    def add(self, source: Source) -> Held:
        """Claim a source that nobody works on."""
        now, process = utc_now(), dump_json(process_facts())
        times = [str(_time.db_value(time)) for time in (now, now + self._lease)]
        held = Held(self._store, Claimed(_stored(source), self.settings, process, *times))
        _held[held.place] = held  # before it is written: an interrupt may come in between
        self._mine.append(held)
        self._store.connection().execute(_CLAIM, held.claimed)
        return held

    def close(self, *, is_asked: bool = True) -> None:
        """Give back what no run has begun with.

        A database that was closed is left alone, and so is, where nobody asked (the iteration
        was dropped), one in the middle of a transaction: this process sees the source free.
        """
        if os.getpid() != self._process or not self._mine:
            return
        mine, store, self._mine = self._mine, self._store, []
        idle = [one for one in mine if not one.has_begun and _held.get(one.place) is one]
        for held in idle:
            del _held[held.place]
        if not idle or store.database.is_closed():
            return
        if is_asked:
            store.retrying(self._delete, idle)
        elif not store.database.in_transaction():
            self._delete(idle)

    def _delete(self, idle: Sequence[Held]) -> None:
        with self._store.writing():
            self._store.connection().executemany(_END, [held.claimed.key for held in idle])


def _read(store: Store, sql: str, values: Sequence[object] = ()) -> Iterator[Claimed]:
    rows = store.connection().execute(sql, values).fetchall()
    return (Claimed(*row) for row in rows)


def _stored(source: Source) -> str:
    text = f"file:{source}" if isinstance(source, int) else source
    return str(ProcessedFile.original_path.db_value(text))


def _source(stored: str) -> Source:
    number = str(stored).removeprefix("file:")
    if number != stored and number.isdigit():
        return int(number)
    return str(ProcessedFile.original_path.python_value(stored))


def close_unfinished(store: Store, *, older_than: dt.timedelta | float | None = None) -> int:
    """Mark runs whose process died as failed, with the error ``interrupted``; return how many."""
    limit = None
    if older_than is not None:
        rule = "older_than must be a time of 0 seconds or more"
        limit = utc_now() - _length(older_than, dt.timedelta(0), _MAX_AGE, rule)
    runs: dict[str, list[tuple[int, dict[str, Any], dt.datetime]]] = {}
    with store.writing():
        connection = store.connection()
        for key, run_id, process, *heard in connection.execute(_UNFINISHED):
            read = map(_time.python_value, heard)
            times = [time for time in read if isinstance(time, dt.datetime)]
            if times:  # else another program wrote them, and nobody knows how old it is
                runs.setdefault(run_id, []).append((key, facts_of(process), max(times)))
        closed = 0
        for signs in runs.values():
            last = max(time for *_, time in signs)
            if _is_dead(signs[0][1], last, limit):
                end = (_time.db_value(last), INTERRUPTED)
                connection.executemany(_CLOSE, [(*end, key) for key, *_ in signs])
                closed += 1
        claims = _read(store, _OLDEST)
        over = [one.key for one in claims if not one.worker(store.label) or _is_gone(one.process)]
        connection.executemany(_END, over)
    return closed


def _is_gone(stored: str) -> bool:
    """Whether a process is seen to have died, before a reboot too."""
    process = facts_of(stored)
    return bool(process) and is_here(process) and not is_alive(process)


def _is_dead(process: Mapping[str, Any], last: dt.datetime, limit: dt.datetime | None) -> bool:
    """Whether a run is to be closed: its process is dead, or out of sight and silent too long."""
    if limit is not None and last >= limit:
        return False
    if process and is_here(process):
        return not is_alive(process)
    return limit is not None
