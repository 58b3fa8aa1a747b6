"""Closing the runs whose process died."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from voices_peewee.database.store import Store
from voices_peewee.errors import InvalidValueError
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
_NO_AGE: Final = "older_than must be a time of 0 seconds or more, not {!r}"


def close_unfinished(store: Store, *, older_than: dt.timedelta | float | None = None) -> int:
    """Mark runs whose process died as failed, with the error ``interrupted``; return how many."""
    limit = None if older_than is None else utc_now() - _age(older_than)
    with store.writing():
        connection = store.connection()
        runs: dict[str, list[_Sign]] = {}
        for row in connection.execute(_UNFINISHED):
            sign = _Sign.of(row)
            runs.setdefault(sign.run_id, []).append(sign)
        dead = [signs for signs in runs.values() if _is_dead(signs, limit)]
        for signs in dead:
            end = ProcessingHistory.end_time.db_value(max(sign.time for sign in signs))
            values = [(end, INTERRUPTED, sign.history_id) for sign in signs]
            connection.executemany(_CLOSE, values)
    return len(dead)


@dataclass(frozen=True, slots=True)
class _Sign:
    """When an unfinished history row was last heard of, and from which process."""

    history_id: int
    run_id: str
    process: dict[str, Any]
    time: dt.datetime

    @classmethod
    def of(cls, row: tuple[int, str, str | None, str, str | None]) -> _Sign:
        history_id, run_id, process, *times = row
        facts = json.loads(process or "{}")
        heard = (ProcessingHistory.start_time.python_value(text) for text in times)
        time = max(moment for moment in heard if moment is not None)
        return cls(history_id, run_id, facts if isinstance(facts, dict) else {}, time)


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
        age = (
            older_than if isinstance(older_than, dt.timedelta) else dt.timedelta(seconds=older_than)
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidValueError(_NO_AGE.format(older_than)) from error
    if not dt.timedelta(0) <= age <= _MAX_AGE:
        raise InvalidValueError(_NO_AGE.format(older_than))
    return age
