"""Records into tables that may have rows already: the same is not doubled, ids are remapped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.errors import InputError, InvalidValueError
from voices_peewee.exchange.import_match import LOOKUP, Matcher, differences
from voices_peewee.exchange.import_report import Imported
from voices_peewee.exchange.import_source import TABLES
from voices_peewee.exchange.import_values import Typed
from voices_peewee.schema.models import CHECKS, BaseModel, ProcessedFile, ProcessingHistory

Skip = Callable[[InputError, str], None]


class Scope:
    """One group of sources, whose ids mean the same, on its way into the database.

    A reference to a table that the group has leads to a record of the group; to another
    table, to a row of the database.

    Args:
        store: The open database, in a transaction.
        tables: The tables that the group is known to have.
        report: Where it is counted.
        skip: Is told of each bad record, and may raise.
    """

    def __init__(self, store: Store, tables: Iterable[str], report: Imported, skip: Skip) -> None:
        self._store, self._report, self._skip = store, report, skip
        self._own, self._foreign = set(tables), set[str]()
        self._tables: dict[str, _Table] = {}
        self._ids: dict[str, dict[int, int]] = {name: {} for name in TABLES}

    def write(self, table: str, batch: list[Typed]) -> None:
        """Match and insert records of one table.

        Raises:
            InputError: One is bad, and ``skip`` raised.
        """
        place = self._table(table, batch[0])
        model, counts = place.model, self._report.tables[table]
        batch = self._linked(model, self._named(place, batch))
        if place.matcher is None:
            self._add(place, batch)
            return
        fresh: list[Typed] = []
        for typed, row, is_one in place.matcher.match(batch):
            if row is None:
                fresh.append(typed)
                continue
            self._remember(table, typed, row.id)
            different = differences(typed, row)
            if news := _news(typed, row, different, is_one=is_one):
                model.update(news).where(model.id == row.id).execute()
                counts.updated += 1
            if left := [name for name in different if name not in news]:
                self._report.conflict(table, _conflict(typed, row, left))
            if not different:
                counts.same += 1
        self._add(place, fresh)

    def _table(self, table: str, first: Typed) -> _Table:
        """Return the state of a table, made when its first record comes."""
        if table in self._foreign:
            reason = f"{table} come after the records that refer to them; they must come first"
            raise first.source.error(reason, first.number)
        self._own.add(table)
        if table not in self._tables:
            self._tables[table] = _Table(self._store, TABLES[table], has_ids=first.key is not None)
        return self._tables[table]

    def _named(self, place: _Table, batch: list[Typed]) -> list[Typed]:
        """Return the records that may be told from each other by their ids."""
        seen, fine = self._ids[place.name], []
        now: set[int] = set()
        for typed in batch:
            key = typed.key
            if key is None:
                if place.has_ids:
                    self._skip(typed.source.error("it is missing", typed.number, "id"), place.name)
                    continue
            elif key in seen or key in now:
                reason = f"there are two records with the id {key}"
                self._skip(typed.source.error(reason, typed.number, "id"), place.name)
                continue
            else:
                now.add(key)
            fine.append(typed)
        return fine

    def _linked(self, model: type[BaseModel], batch: list[Typed]) -> list[Typed]:
        """Put our ids in the place of the input's; leave out what refers to nothing."""
        for field in model._meta.refs:
            parent = field.rel_model._meta.table_name
            ids = self._ids[parent]
            if parent not in self._own:
                self._look_up(field, parent, batch)
            linked = []
            for typed in batch:
                key = typed.data[field.name]
                if key is not None:
                    ours = ids.get(key)
                    if ours is None:
                        self._skip(
                            self._dangling(typed, field, parent, key), model._meta.table_name
                        )
                        continue
                    typed.data[field.name] = ours
                linked.append(typed)
            batch = linked
        return batch

    def _look_up(self, field: pw.ForeignKeyField, parent: str, batch: list[Typed]) -> None:
        """Take ids for those of this database, where the input does not hold what they refer to."""
        ids = self._ids[parent]
        wanted = {typed.data[field.name] for typed in batch} - {None} - ids.keys()
        if not wanted:
            return
        self._foreign.add(parent)
        self._report.note(
            f"{field.column_name} is an id of this database's {parent}: the input has none"
        )
        left, key = iter(wanted), TABLES[parent].id
        while some := list(islice(left, LOOKUP)):
            rows = TABLES[parent].select(key).where(key.in_(some)).tuples()
            ids.update((found, found) for (found,) in rows.iterator())

    def _dangling(
        self, typed: Typed, field: pw.ForeignKeyField, parent: str, key: int
    ) -> InputError:
        where = "here" if parent in self._foreign else "in the input, or was skipped"
        reason = f"{parent} has no id {key} {where}"
        return typed.source.error(reason, typed.number, field.column_name)

    def _remember(self, table: str, typed: Typed, ours: int) -> None:
        if typed.key is not None:
            self._ids[table][typed.key] = ours

    def _add(self, place: _Table, batch: Sequence[Typed]) -> None:
        """Insert records; where the database refuses one, find it by halves."""
        if not batch:
            return
        for typed in batch:
            place.number(typed)
        try:
            insert(self._store, place.model, [typed.data for typed in batch])
        except InvalidValueError as error:
            if len(batch) == 1:
                self._skip(_refused(batch[0], place.name, error), place.name)
                return
            middle = len(batch) // 2
            self._add(place, batch[:middle])
            self._add(place, batch[middle:])
            return
        self._report.tables[place.name].added += len(batch)
        ids = self._ids[place.name]
        for typed in batch:
            if typed.key is not None:
                ids[typed.key] = typed.data["id"]


class _Table:
    """A table as the import found it: an empty one takes the ids of the input.

    Where the first record has an id, all must: the others would take its like from them.
    """

    def __init__(self, store: Store, model: type[BaseModel], *, has_ids: bool) -> None:
        self.model, self.name = model, model._meta.table_name
        last = model.select(pw.fn.MAX(model.id)).scalar() or 0
        self.matcher = Matcher(store, model, last) if last else None
        self.has_ids, self._keeps = has_ids, has_ids and not last
        self._next = last + 1

    def number(self, typed: Typed) -> None:
        """Give a record its id."""
        if not self._keeps:
            typed.data["id"], self._next = self._next, self._next + 1


def insert(store: Store, model: type[BaseModel], rows: list[dict[str, Any]]) -> None:
    """Insert rows with the ids that they have, all or none.

    Raises:
        InvalidValueError: A value breaks a rule.
    """
    store.insert_dicts(model, rows)


def _news(
    typed: Typed, row: BaseModel, different: Sequence[str], *, is_one: bool
) -> dict[str, Any]:
    """Return what to write to a row: what it lacks, or all of a run that has ended elsewhere."""
    theirs, ours = typed.data, row.__data__
    if isinstance(row, ProcessingHistory):
        has_ended_there = row.end_time is None and theirs["end_time"] is not None
        return {name: theirs[name] for name in different} if has_ended_there else {}
    news = {name: theirs[name] for name in different if ours[name] in (None, {}, [])}
    if news and isinstance(row, ProcessedFile) and is_one:
        news["updated_at"] = max(theirs["updated_at"], row.updated_at)
    return news


def _conflict(typed: Typed, row: BaseModel, different: Sequence[str]) -> str:
    where = typed.source.error("", typed.number)
    told = ", ".join(
        f"{name} {_short(row.__data__[name])} (there {_short(typed.data[name])})"
        for name in different[:_TOLD]
    )
    more = f" and {len(different) - _TOLD} more" if len(different) > _TOLD else ""
    table = type(row)._meta.table_name
    return f"{where.source!r}, {where.place}: {table} {row.id} keeps its {told}{more}"


_TOLD: Final = 3


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _refused(typed: Typed, table: str, error: InvalidValueError) -> InputError:
    """Say where the value stands that the database refused."""
    reason = str(error)
    column = next(
        (
            name.removeprefix(f"ck_{table}_")
            for name, (_, sentence) in CHECKS.items()
            if sentence == reason and name.startswith(f"ck_{table}_")
        ),
        "",
    )
    if reason.startswith(f"{table}.") and reason.endswith(" must be unique"):
        column = reason.removeprefix(f"{table}.").removesuffix(" must be unique")
        reason = "another record has the same"
    return typed.source.error(reason, typed.number, column)
