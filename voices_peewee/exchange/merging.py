"""Records into tables that may have rows already: the same is not doubled, ids are remapped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

import peewee as pw

from voices_peewee.database.mapper import binder, mapper, stored
from voices_peewee.database.store import Store
from voices_peewee.errors import InputError, InvalidValueError
from voices_peewee.exchange.matching import Ids, Matcher, conflict, differences, news_of
from voices_peewee.exchange.reading import Input, left_in_spool, open_inputs
from voices_peewee.exchange.sources import Source
from voices_peewee.exchange.tables import TABLES
from voices_peewee.exchange.texts import Refused, clause
from voices_peewee.exchange.values import Typed, Typer
from voices_peewee.records.sources import rows_where
from voices_peewee.schema.models import BaseModel, ProcessedFile

Progress = Callable[[int, int], None]

_BATCH: Final = 1000
_KEPT: Final = 1000  # sentences of each kind; an input may have millions


@dataclass
class Counts:
    """How many records of one table were added, were the same, and so on.

    ``conflicts`` are records of rows that are here with other values: ours were kept.
    """

    added: int = 0
    same: int = 0
    updated: int = 0
    conflicts: int = 0


@dataclass
class Imported:
    """What an import did.

    Args:
        tables: The counts of each table.
        is_dry_run: Whether nothing was written.
        conflicts: What was different here, in sentences; the first thousand.
        notes: What was assumed or left out.
    """

    tables: dict[str, Counts] = field(default_factory=lambda: {name: Counts() for name in TABLES})
    is_dry_run: bool = False
    conflicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """How many rows were added or updated."""
        return sum(counts.added + counts.updated for counts in self.tables.values())

    def note(self, sentence: str) -> None:
        """Keep a sentence, once."""
        if sentence not in self.notes and len(self.notes) < _KEPT:
            self.notes.append(sentence)


class _TakenBackError(Exception):
    """Ends the transaction of a dry run."""


def import_records(
    store: Store,
    source: Input,
    *,
    table: str | None = None,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> Imported:
    """Import records in one transaction; see ``ExchangeMethods.import_records``."""
    report = Imported(is_dry_run=dry_run)
    for sentence in left_in_spool(source, store):
        report.note(sentence)
    with ExitStack() as opened:
        sources = open_inputs(source, table, store, opened)
        # What a dry run takes back is the transaction, or its part of the one around it.
        with suppress(_TakenBackError), _writing(store):
            _read_all(store, sources, report, on_progress)
            if dry_run:
                raise _TakenBackError
    kept = [one.kept for one in sources if one.kept]
    differs = any(counts.conflicts for counts in report.tables.values())
    if kept and not (dry_run or differs or store.database.in_transaction()):
        for path in kept:
            path.unlink(missing_ok=True)
        report.note(f"kept runs that are in the record now, their files removed: {len(kept)}")
    return report


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    """Begin one transaction, whose pages need not stay in memory until it ends.

    SQLite hears of the setting outside of transactions only; inside the caller's they stay.
    """
    if store.server is not None:
        with store.writing():
            store.engine.lock("imports")  # two of the same would both find it new
            yield
        return
    connection = store.connection()
    (before,) = connection.execute("PRAGMA cache_spill").fetchone()
    try:
        connection.execute("PRAGMA cache_spill = on")
        with store.writing():
            yield
    finally:
        connection.execute(f"PRAGMA cache_spill = {before}")


def _read_all(
    store: Store, sources: Sequence[Source], report: Imported, tell: Progress | None
) -> None:
    """Import all sources.

    Raises:
        InputError: A record is bad, or an input.
    """
    refused = Refused()  # where a record is bad, the rest is read to tell all that is wrong
    for group in _groups(sources):
        scope = _Scope(store, report, refused, group)
        for source in group:
            try:
                for _ in scope.read(source):
                    if tell is not None:
                        pairs = [one.progress() for one in sources]
                        tell(sum(done for done, _ in pairs), sum(size for _, size in pairs))
            except OSError as error:
                raise source.error(clause(error)) from error
    refused.end()


def _groups(sources: Sequence[Source]) -> list[list[Source]]:
    """Return which sources share their ids, parents first.

    A database or a whole export stands for itself; files of one table each belong together.
    """
    order = {table: place for place, table in enumerate(TABLES)}
    parts = [source for source in sources if not source.tables]
    whole = [[source] for source in sources if source.tables]
    return [*whole, sorted(parts, key=lambda one: order.get(one.table, -1))]


class _Scope:
    """Sources whose ids mean the same, on their way into the database.

    A reference to a table that they have leads to a record of theirs; to another table, to a
    row of the database.
    """

    def __init__(
        self, store: Store, report: Imported, refused: Refused, group: Sequence[Source]
    ) -> None:
        self._store, self._report, self._refused = store, report, refused
        self._own = set(chain(*((*one.tables, one.table) for one in group)))
        self._foreign = set[str]()
        self._tables: dict[str, _Table] = {}
        self._ids = {name: Ids() for name in TABLES}
        self._missed: set[tuple[str, str]] = set()  # what refers to these is not told as well
        self._ended = set[int]()  # history rows of runs whose end was told here

    def read(self, source: Source) -> Iterator[None]:
        """Write a source in batches of one table, recordings or what belongs to some."""
        typers = {name: Typer(model, source, self._report.note) for name, model in TABLES.items()}
        batch: list[Typed] = []
        names: set[tuple[object, ...]] = set()  # a list may name a file twice
        present = ("", False)
        for row in source.rows(self._refused):
            try:
                typed = typers[row.table].read(row)
            except InputError as error:
                self._refuse(row.table, row.values.get("id"), error)
                continue
            kind = (row.table, typed.data.get("recording") is not None)
            name = _name(typed)
            if kind != present or len(batch) >= _BATCH or name in names:
                self._write(present[0], batch)
                yield
                batch, names, present = [], set(), kind
            batch.append(typed)
            names |= {name} if name else set()
        self._write(present[0], batch)
        for note in source.notes:
            self._report.note(note)
        yield

    def _refuse(self, table: str, key: object, error: InputError) -> None:
        self._refused.keep(error)
        self._missed.add((table, str(key)))

    def _write(self, table: str, batch: list[Typed]) -> None:
        if not batch:
            return
        if table == ProcessedFile._meta.table_name:  # a run may record the same at this moment
            self._store.engine.lock("sources")
        place = self._table(table, batch[0])
        batch = self._linked(place, self._named(place, batch))
        if place.matcher is not None:
            found = list(zip(batch, place.matcher.match(batch), strict=True))
            for typed, row in found:
                if row is not None:
                    self._merge(place, typed, row)
            batch = [typed for typed, row in found if row is None]
        self._add(place, batch)

    def _merge(self, place: _Table, typed: Typed, row: BaseModel) -> None:
        """Fill in what a row lacks, and tell where the two differ."""
        counts = self._report.tables[place.name]
        self._remember(place, typed, row.id)
        different = differences(typed, row)
        if news := news_of(typed, row, different, self._ended):
            place.model.update(news).where(place.model.id == row.id).execute()
            counts.updated += 1
        if "end_time" in news:
            self._ended.add(row.id)
        if left := [name for name in different if name not in news]:
            counts.conflicts += 1
            if len(self._report.conflicts) < _KEPT:
                self._report.conflicts.append(conflict(typed, row, left))
        counts.same += not different

    def _table(self, table: str, first: Typed) -> _Table:
        """Return the state of a table, made when its first record comes."""
        if table in self._foreign:
            raise first.error(
                f"{table} come after the records that refer to them; they must come first"
            )
        self._own.add(table)
        if table not in self._tables:
            has_ids = first.key is not None
            self._tables[table] = _Table(self._store, TABLES[table], has_ids=has_ids)
        return self._tables[table]

    def _named(self, place: _Table, batch: Sequence[Typed]) -> Iterator[Typed]:
        """Yield the records that may be told from each other by their ids."""
        ids, now = self._ids[place.name], set[int]()
        for typed in batch:
            reason = "it is missing" if typed.key is None and place.has_ids else ""
            if typed.key is not None and (typed.key in now or ids.get(typed.key)):
                reason = f"there are two records with the id {typed.key}"
            if reason:
                self._refuse(place.name, typed.key, typed.error(reason, "id"))
            else:
                now.add(typed.key or 0)
                yield typed

    def _linked(self, place: _Table, batch: Iterable[Typed]) -> list[Typed]:
        """Put our ids in the place of the input's; leave out what refers to nothing."""
        batch = list(batch)
        for link in place.model._meta.refs:
            parent = link.rel_model._meta.table_name
            is_ours = parent not in self._own or (parent == place.name and not place.has_ids)
            if is_ours:
                self._look_up(place.name, link, parent, batch)
            where = "here" if is_ours else "in the input before it"
            batch = [typed for typed in batch if self._link(place.name, typed, link, where)]
        return batch

    def _link(self, table: str, typed: Typed, link: pw.ForeignKeyField, where: str) -> bool:
        parent, key = link.rel_model._meta.table_name, typed.data[link.name]
        ours = None if key is None else self._ids[parent].get(key)
        if key is None or ours is not None:
            typed.data[link.name] = ours
            return True
        if (parent, str(key)) in self._missed:  # the reason is told already
            self._missed.add((table, str(typed.key)))
        else:
            reason = f"{parent} has no id {key} {where}"
            self._refuse(table, typed.key, typed.error(reason, link.column_name))
        return False

    def _look_up(
        self, table: str, link: pw.ForeignKeyField, parent: str, batch: list[Typed]
    ) -> None:
        """Take ids for those of this database, where the input does not hold what they refer to."""
        ids = self._ids[parent]
        told = {typed.data[link.name] for typed in batch} - {None}
        if not (wanted := {key for key in told if ids.get(key) is None}):
            return
        self._foreign |= {parent} - {table}
        self._report.note(
            f"{link.column_name} is an id of this database's {parent}: the input has none"
        )
        for row in rows_where(self._store, TABLES[parent], "id", sorted(wanted)):
            ids.add(row.id, row.id)

    def _remember(self, place: _Table, typed: Typed, ours: int) -> None:
        if typed.key is not None:
            self._ids[place.name].add(typed.key, ours)

    def _add(self, place: _Table, batch: Sequence[Typed]) -> None:
        """Insert records; where the database refuses some, it tells which of one at a time."""
        try:
            keys = place.insert(batch) if batch else ()
        except InvalidValueError as error:
            for typed in batch if len(batch) > 1 else ():
                self._add(place, [typed])
            if len(batch) == 1:
                self._refuse(place.name, batch[0].key, batch[0].error(str(error)))
            return
        self._report.tables[place.name].added += len(batch)
        for typed, key in zip(batch, keys, strict=True):
            self._remember(place, typed, key)


class _Table:
    """A table as the import found it: an empty one takes the ids of the input.

    Where the first record has an id, all must: the others would take its like from them.
    """

    def __init__(self, store: Store, model: type[BaseModel], *, has_ids: bool) -> None:
        self.model, self.name, self._store = model, model._meta.table_name, store
        self._binders = [binder(field) for field in model._meta.sorted_fields]
        self.has_ids = has_ids
        self._keeps = has_ids and not self._last() and self._keep_others_out()
        last, is_by_name = self._last(), model is ProcessedFile and not has_ids
        is_needed = last or is_by_name
        self.matcher = Matcher(store, model, last, is_by_name=is_by_name) if is_needed else None

    def _last(self) -> int:
        return self.model.select(pw.fn.MAX(self.model.id)).scalar() or 0

    def _keep_others_out(self) -> bool:
        """Keep others from adding rows to an empty table; on a file nobody else writes now.

        Whoever may not move a server's sequence takes new ids.
        """
        if self._store.server is None:
            return True
        connection = self._store.connection()
        (may_count,) = connection.execute(_MAY_COUNT, (f'"{self.name}"',)).fetchone()
        if may_count:
            connection.execute(f'LOCK TABLE "{self.name}" IN SHARE ROW EXCLUSIVE MODE')
        return bool(may_count) and not self._last()

    def insert(self, batch: Sequence[Typed]) -> Sequence[int]:
        """Insert records, all or none; an empty table takes their ids, others give them.

        Raises:
            InvalidValueError: A value breaks a rule.
        """
        connection, rows = self._store.connection(), mapper(self.model)
        keys = [typed.key for typed in batch if typed.key is not None]
        if not self._keeps:
            keys = list(rows.new_ids(connection, len(batch)))
        with self._store.writing():
            connection.executemany(
                rows.insert_id_sql,
                (
                    stored(self._binders, {**typed.data, **typed.assumed, "id": key})
                    for typed, key in zip(batch, keys, strict=True)
                ),
            )
            if self._keeps:
                rows.note_ids(connection)
        return keys


_MAY_COUNT: Final = "SELECT has_sequence_privilege(pg_get_serial_sequence(?, 'id'), 'UPDATE')"


def _name(typed: Typed) -> tuple[object, ...] | None:
    """Return what tells a file without an id from others; None of other records."""
    if typed.key is not None or "original_path" not in typed.data:
        return None
    names = ("original_path", "processed_path", "filename", "speaker")
    return tuple(typed.data[name] for name in names)
