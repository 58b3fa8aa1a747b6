"""The file rows of many runs: found and claimed in memory, written together."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any

from peewee import fn

from voices_peewee.database.query import mapper
from voices_peewee.database.store import Store
from voices_peewee.errors import NotFoundError
from voices_peewee.records.sources import FACTS, LOOKUP, facts_of, rows_by_path
from voices_peewee.runs.metrics import Metrics
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import ProcessedFile, ProcessingHistory


@dataclass(slots=True)
class Output:
    """One output of a run, with its own metrics."""

    path: str
    speaker_id: int | None
    metrics: Metrics


@dataclass(slots=True)
class Plan:
    """A run that was checked and is to be written; ``rows`` are its files and own metrics."""

    source: str | ProcessedFile
    speaker_id: int | None
    history: dict[str, Any]
    has_own_id: bool
    metrics: Metrics
    measured: Metrics
    outputs: dict[str, Output]
    rows: list[tuple[ProcessedFile, Metrics]] = field(default_factory=list)


class Files:
    """The file rows of many runs, found and claimed in memory while the write lock is held.

    Run for run it does what ``sources`` and ``Run.output`` do with single rows.
    """

    def __init__(self, store: Store, plans: list[Plan], facts: dict[str, dict[str, Any]]) -> None:
        self._store, self._facts = store, facts
        self._by_id: dict[int, ProcessedFile] = {}
        self._free: dict[str | None, list[ProcessedFile]] = {}
        self._claimed: dict[tuple[str | None, int | None], list[ProcessedFile]] = {}
        self._added: list[ProcessedFile] = []
        self._changed: dict[int, ProcessedFile] = {}
        named = [plan.source for plan in plans if isinstance(plan.source, ProcessedFile)]
        for given in named:
            if not given.id:
                store.insert(given)
        paths = {plan.source for plan in plans if isinstance(plan.source, str)}
        paths |= {given.original_path for given in named if given.original_path}
        for rows in rows_by_path(store, paths).values():
            for row in rows:
                self._sort_in(row)
        for given in named:
            if given.id not in self._by_id:
                self._sort_in(_present(store, given))
        self._used = self._ids_with_runs()
        self._next_id = 1 + (ProcessedFile.select(fn.MAX(ProcessedFile.id)).scalar() or 0)

    def rows_of(self, plan: Plan) -> Iterator[tuple[ProcessedFile, Metrics]]:
        """Yield the file row and the own metrics of each history row of a run."""
        source, is_kept = self._source(plan)
        inherited = source.speaker_id if plan.speaker_id is None else plan.speaker_id
        if not plan.outputs:
            self._used.add(source.id)
            yield source, Metrics()
        for position, output in enumerate(plan.outputs.values()):
            whose = output.speaker_id or inherited
            if position == 0 and self._may_claim(source, output.path, is_kept=is_kept):
                self._claim(source, output.path, whose)
                yield source, output.metrics
            else:
                facts = {name: source.__data__[name] for name in FACTS}
                yield self._add(facts, output.path, whose), output.metrics

    def write(self) -> None:
        """Write the new rows and the changed ones."""
        connection, now = self._store.connection(), utc_now()
        mapper(ProcessedFile).insert_objects(connection, self._added)
        mine = {row.id for row in self._added}
        for row in (row for row in self._changed.values() if row.id not in mine):
            changes = {
                "processed_path": row.processed_path,
                "speaker": row.speaker_id,
                "updated_at": now,
            }
            ProcessedFile.update(changes).where(ProcessedFile.id == row.id).execute()

    def _ids_with_runs(self) -> set[int]:
        """Return the ids of the recordings' own rows that earlier runs use."""
        free = iter([row.id for rows in self._free.values() for row in rows])
        used: set[int] = set()
        column = ProcessingHistory.processed_file
        while some := list(islice(free, LOOKUP)):
            query = ProcessingHistory.select(column).where(column.in_(some)).distinct()
            found = self._store.connection().execute(*query.sql())
            used.update(file_id for (file_id,) in found)
        return used

    def _source(self, plan: Plan) -> tuple[ProcessedFile, bool]:
        """Return the row that stands for a run's source, and whether its speaker was known."""
        if isinstance(plan.source, ProcessedFile):
            row = self._by_id[plan.source.id]
        elif (found := self._find(plan.source, plan.speaker_id)) is not None:
            row = found
        else:
            return self._add(self._facts_of(plan.source), None, plan.speaker_id), False
        is_known = row.speaker_id is not None
        if not is_known and plan.speaker_id is not None:
            self._change(row, row.processed_path, plan.speaker_id)
        return row, is_known

    def _facts_of(self, path: str) -> dict[str, Any]:
        if path not in self._facts:  # its row was deleted since we looked
            self._facts[path] = facts_of(path)
        return self._facts[path]

    def _find(self, path: str, speaker: int | None) -> ProcessedFile | None:
        """Choose as ``_RUN_ROW`` in ``sources`` does."""
        for row in reversed(self._free.get(path, ())):
            if speaker is None or row.speaker_id in (None, speaker):
                return row
        rows = self._claimed.get((path, speaker), [])
        return rows[-1] if rows else None

    def _may_claim(self, row: ProcessedFile, path: str, *, is_kept: bool) -> bool:
        return row.processed_path == path or (
            row.processed_path is None and row.id not in self._used and not is_kept
        )

    def _claim(self, row: ProcessedFile, path: str, speaker: int | None) -> None:
        self._change(row, path, speaker or row.speaker_id)

    def _change(self, row: ProcessedFile, path: str | None, speaker: int | None) -> None:
        self._home(row).remove(row)
        row.processed_path, row.speaker_id = path, speaker
        self._sort_in(row)
        self._changed[row.id] = row

    def _add(
        self, facts: Mapping[str, Any], path: str | None, speaker: int | None
    ) -> ProcessedFile:
        row = ProcessedFile(**facts, processed_path=path, speaker=speaker)
        row.id, self._next_id = self._next_id, self._next_id + 1
        self._added.append(row)
        self._sort_in(row)
        return row

    def _sort_in(self, row: ProcessedFile) -> None:
        self._by_id[row.id] = row
        insort(self._home(row), row, key=attrgetter("id"))

    def _home(self, row: ProcessedFile) -> list[ProcessedFile]:
        """Return the list of the rows of the same source that are like this one, by id."""
        path = row.original_path
        if row.processed_path is None:
            return self._free.setdefault(path, [])
        return self._claimed.setdefault((path, row.speaker_id), [])


def _present(store: Store, given: ProcessedFile) -> ProcessedFile:
    row = store.get(ProcessedFile, given.id)
    if row is None:
        raise NotFoundError("file", given.id)
    return row
