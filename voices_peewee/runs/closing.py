"""Closing the runs whose process died."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from voices_peewee.database.store import Store
from voices_peewee.errors import InvalidValueError
from voices_peewee.runs.claims import clear
from voices_peewee.runs.process import is_alive, is_here
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import ProcessingHistory

INTERRUPTED: Final = "interrupted"

_UNFINISHED: Final = """SELECT history.id, history.run_id, history.process, history.start_time,
 max(performance.created_at)
 FROM processing_history AS history
 LEFT JOIN model_performance AS performance ON performance.processing_history_id = history.id
 WHERE history.end_time IS NULL AND NOT history.success GROUP BY history.id"""
_CLOSE: Final = """UPDATE processing_history SET end_time = ?, error_message = ?
 WHERE id = ? AND end_time IS NULL AND NOT success"""
_MAX_AGE: Final = dt.timedelta(days=365_000)


class _Sign(NamedTuple):
    """When an unfinished history row was last heard of, and from which process."""

    history_id: int
    process: dict[str, Any]
    time: dt.datetime


def close_unfinished(store: Store, *, older_than: dt.timedelta | float | None = None) -> int:
    """Mark runs whose process died as failed, with the error ``interrupted``; return how many."""
    limit = None if older_than is None else utc_now() - _age(older_than)
    field, runs = ProcessingHistory.start_time, dict[str, list[_Sign]]()
    with store.writing():
        connection = store.connection()
        for key, run_id, process, *heard in connection.execute(_UNFINISHED):
            facts = ProcessingHistory.process.python_value(process)
            times = [time for time in map(field.python_value, heard) if _is_time(time)]
            if times:  # else another program wrote them, and nobody knows how old it is
                sign = _Sign(key, facts if isinstance(facts, dict) else {}, max(times))
                runs.setdefault(run_id, []).append(sign)
        dead = [signs for signs in runs.values() if _is_dead(signs, limit)]
        for signs in dead:
            end = field.db_value(max(sign.time for sign in signs))
            connection.executemany(_CLOSE, [(end, INTERRUPTED, sign.history_id) for sign in signs])
        clear(store, lambda process: bool(process) and is_here(process) and not is_alive(process))
    return len(dead)


def _is_time(value: object) -> bool:
    return isinstance(value, dt.datetime)


def _is_dead(signs: Sequence[_Sign], limit: dt.datetime | None) -> bool:
    """Whether a run is to be closed: its process is dead, or out of sight and silent too long."""
    process = signs[0].process
    if limit is not None and max(sign.time for sign in signs) >= limit:
        return False
    if process and is_here(process):
        return not is_alive(process)
    return limit is not None


def _age(older_than: dt.timedelta | float) -> dt.timedelta:
    try:
        age = older_than if isinstance(older_than, dt.timedelta) else dt.timedelta(0, older_than)
        if dt.timedelta(0) <= age <= _MAX_AGE:
            return age
    except (TypeError, ValueError, OverflowError):
        pass
    raise InvalidValueError(f"older_than must be a time of 0 seconds or more, not {older_than!r}")
