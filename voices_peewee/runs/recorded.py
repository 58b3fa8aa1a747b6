"""Runs that are in the record: found by what people call them, tagged, noted, deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol, cast

import peewee as pw

from voices_peewee.database.store import Store, as_id, plain
from voices_peewee.errors import AmbiguousNameError, NotFoundError
from voices_peewee.runs.settings import plain_note
from voices_peewee.schema.fields import clean_tags
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory

KEEP: Final[Any] = object()
_SHORTEST_PREFIX: Final = 6


class HasRunId(Protocol):
    """A run that is recorded, a row of its history, or what ``show_run`` returns."""

    @property
    def run_id(self) -> str:
        """What all rows of the run share."""


RunKey = int | str | HasRunId


def find_run_id(store: Store, key: RunKey) -> str:
    """Return the run_id of an id, a run_id or its beginning (six characters), or an object.

    Raises:
        NotFoundError: There is no such run.
        AmbiguousNameError: Several runs begin like that.
    """
    if not isinstance(key := plain(key), int | str):
        if not hasattr(key, "run_id"):
            raise NotFoundError("run", key)
        key = str(key.run_id)
    run, number = ProcessingHistory, as_id(key)
    with store.reading():
        if number is not None:
            named = run.select(run.run_id).where(run.id == number).scalar()
            if named is not None:
                return str(named)
        if not isinstance(key, str) or not key:
            raise NotFoundError("run", key)
        matching = _named(key)
    if len(matching) > 1 and key not in matching:
        raise AmbiguousNameError("run", key, sorted(matching.values()))
    if not matching:
        raise NotFoundError("run", key)
    return key if key in matching else next(iter(matching))


def _named(key: str) -> dict[str, int]:
    """Return the runs that are called so, or, where that is long enough, begin like that."""
    run = ProcessingHistory
    query = run.select(run.run_id, pw.fn.MIN(run.id)).group_by(run.run_id)
    # No text that begins with the prefix sorts after the prefix with the last character.
    last = key + chr(0x10FFFF) if len(key) >= _SHORTEST_PREFIX else key
    query = query.where(run.run_id.between(key, last))
    return dict(cast("list[tuple[str, int]]", list(query.tuples())))


def update_run(store: Store, key: RunKey, *, note: Any = KEEP, tags: Any = KEEP) -> str:
    """Change the note, the tags or both in every row of a run; return its run_id."""
    changes: dict[str, Any] = {}
    if note is not KEEP:
        changes["note"] = plain_note(note)
    if tags is not KEEP:
        changes["tags"] = clean_tags(tags) or None
    with store.writing():
        run_id = find_run_id(store, key)
        if changes:
            query = ProcessingHistory.update(**changes)
            query.where(ProcessingHistory.run_id == run_id).execute()
    return run_id


def drop_run(store: Store, run_id: str) -> None:
    """Delete a run's rows, with the stems and voices that no other run has."""
    run, file = ProcessingHistory, ProcessedFile
    with store.writing():
        of_run = run.select(run.processed_file).where(run.run_id == run_id)
        rows: Iterable[Any] = of_run.tuples()
        parts = [key for (key,) in rows]
        store.engine.hold(parts)
        run.delete().where(run.run_id == run_id).execute()
        others = run.select(run.id).where(run.processed_file == file.id)
        is_left = file.recording.is_null(is_null=False) & ~pw.fn.EXISTS(others)
        file.delete().where(file.id.in_(parts), is_left).execute()
