"""Pages of what the database holds, as query words, an order and columns ask for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import peewee as pw

from voices_peewee.columns import LISTS, Column, Listing, Model, read_json
from voices_peewee.conditions import Conditions, find, join
from voices_peewee.errors import QueryError
from voices_peewee.models import BaseModel, Speaker, utc_now
from voices_peewee.query_sql import json_order, json_value
from voices_peewee.query_words import (
    And,
    Exactly,
    Match,
    Or,
    Span,
    Term,
    Value,
    field_path,
    parse,
    text_term,
)
from voices_peewee.rows import collection_paused, mapper
from voices_peewee.store import Store

__all__ = ["LISTS", "Column", "Listing", "Page", "filters_to_words", "records", "select"]

Words = str | Sequence[str | Term]
When = str | dt.datetime | dt.date

_GLANCE: Final = 2000  # rows that are looked at before anything is sorted
_BATCH: Final = 1000  # rows that are fetched at once, and kept where no more are asked for


class Page:
    """Some rows of a list: ``columns`` say what they hold, ``rows`` can be read once.

    Rows are read as they are asked for; ``total`` counts all that match, when it is asked for.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Iterator[tuple[object, ...]],
        count: Callable[[], int],
    ) -> None:
        self.columns = tuple(columns)
        self.rows = rows
        self._count = count

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def total(self) -> int:
        """How many rows match, shown or not."""
        return self._count()

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        return self.rows

    def dicts(self) -> Iterator[dict[str, object]]:
        """Yield each row as a mapping of column names to values."""
        names = self.names
        return (dict(zip(names, row, strict=True)) for row in self.rows)


def select(
    store: Store,
    noun: str,
    words: Words = (),
    *,
    search: str | None = None,
    sort: str | Sequence[str] | None = None,
    limit: int | None = 50,
    offset: int = 0,
    columns: Sequence[str] | None = None,
) -> Page:
    """Return a page of a list.

    Args:
        words: Query words: one string, or one item a word; items may be terms as well.
        search: A text that a name or path must hold.
        sort: Columns, ``-`` before one that descends; what is empty comes last.
        limit: How many rows at most; None for all.
        offset: How many to leave out first.
        columns: Names of columns; a JSON column's keys follow it: ``parameters.shifts``.

    Raises:
        QueryError: A list, field or column is unknown, or a value cannot be read.
        NotFoundError: A filter names a speaker that is not there.
        AmbiguousNameError: A filter names a speaker whose name others have.
    """
    listing = find_listing(noun)
    chosen = [_column(listing, name) for name in columns or listing.defaults]
    question = _Question(store, listing, _tree(words, search), sort)
    expressions = [column.expression for column in chosen]
    sources = {column.source for column in chosen}
    readers = [(place, column.read) for place, column in enumerate(chosen) if column.read]
    if limit is None or limit > _BATCH:
        query = question.page(expressions, sources, limit, offset)
        return Page(chosen, _read(store, query, readers), question.count)
    kept: list[tuple[object, ...]] = []
    for query in question.short_page(expressions, sources, limit, offset):
        kept = list(_read(store, query, readers))
        if len(kept) == limit:
            break
    known = len(kept) < limit and (kept or not offset)
    return Page(chosen, iter(kept), (lambda: offset + len(kept)) if known else question.count)


def records(
    store: Store,
    noun: str,
    words: Words = (),
    *,
    search: str | None = None,
    sort: str | Sequence[str] | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[BaseModel]:
    """Return what matches as model objects; the arguments are those of ``select``.

    Raises:
        QueryError: A list, field or column is unknown, or a value cannot be read.
        NotFoundError: A filter names a speaker that is not there.
        AmbiguousNameError: A filter names a speaker whose name others have.
    """
    listing = find_listing(noun)
    question = _Question(store, listing, _tree(words, search), sort)
    build = mapper(listing.model).build
    fields = listing.model._meta.sorted_fields
    if limit is None or limit > _BATCH:
        queries: Iterable[Any] = (question.page(fields, (), limit, offset),)
    else:
        queries = question.short_page(fields, (), limit, offset)
    found: list[BaseModel] = []
    for query in queries:
        with store.reading(), collection_paused():
            found = list(build(store.connection().execute(*query.sql())))
        if len(found) == limit:
            break
    return found


def filters_to_words(
    noun: str,
    *,
    speaker: int | str | Speaker | Sequence[int | str | Speaker] | None = None,
    tag: str | Sequence[str] = (),
    model: str | Sequence[str] | None = None,
    operation: str | Sequence[str] | None = None,
    file_format: str | Sequence[str] | None = None,
    since: When | None = None,
    until: When | None = None,
    success: bool = False,
    failed: bool = False,
    unfinished: bool = False,
) -> list[Term]:
    """Return the terms that filters stand for; a value may hold any character.

    Args:
        speaker: Ids, names or objects, of which any fits; a name is meant as a whole.
        tag: Tags that must all be there.
        model: Models, or models with versions (``demucs:4.0``), of which any fits.
        operation: Operations of which any fits.
        file_format: Formats of which any fits.
        since: The first time; see ``query_values.times`` for what a text may say.
        until: The last time; a day or month is meant to its end.
        success, failed, unfinished: The states of which any fits.

    Raises:
        QueryError: The list is unknown.
    """
    listing = find_listing(noun)
    terms: list[Term] = [Match("tag", (Exactly(one),)) for one in _each(tag)]
    for field, given in (("model", model), ("operation", operation), ("format", file_format)):
        if given is not None:
            terms.append(Match(field, tuple(Exactly(one) for one in _each(given))))
    if speaker is not None:
        terms.append(Match("speaker", tuple(map(_speaker, _each(speaker)))))
    if since is not None or until is not None:
        terms.append(Match(listing.since, (Span(_when(since), _when(until)),)))
    flags = {"success": success, "failed": failed, "unfinished": unfinished}
    if states := tuple(Exactly(state) for state, wanted in flags.items() if wanted):
        terms.append(Match("status", states))
    return terms


def find_listing(noun: str) -> Listing:
    """Return the list of a noun.

    Raises:
        QueryError: There is none.
    """
    if noun not in LISTS:
        raise QueryError.unknown_field(noun, LISTS, "list")
    return LISTS[noun]


class _Question:
    """What a page and its count have in common."""

    def __init__(
        self, store: Store, listing: Listing, tree: Or, sort: str | Sequence[str] | None
    ) -> None:
        self.store, self.listing = store, listing
        keys = list(_sort_keys(listing, sort or listing.sort))
        self.order = list(_order(listing, keys))
        self.order_sources = {column.source for column, _ in keys}
        self.has_index = len(keys) == 1 and _is_indexed(*keys[0])
        self.tree, self.now = tree, utc_now()
        self.condition, self.sources = self._conditions(few=False)

    def page(
        self,
        expressions: Sequence[Any],
        sources: Iterable[Model | None],
        limit: int | None,
        offset: int,
    ) -> Any:
        """Return the query of a page."""
        needed = {*sources, *self.order_sources, *self.sources}
        query = self._where(self._query(expressions, needed))
        return query.order_by(*self.order).limit(limit).offset(offset or None)

    def short_page(
        self, expressions: Sequence[Any], sources: Iterable[Model | None], limit: int, offset: int
    ) -> Iterator[Any]:
        """Yield queries of a page; a later one is needed where an earlier one gives too few.

        Where SQLite would sort, it sorts ids alone, and reads the rows of the page by them.
        Where an index has the order that is asked for, the rows at its beginning are looked at
        first: a page of what is common is there, and none of the rest has to be sorted.
        """
        whole = self.page(expressions, sources, limit, offset)
        if not self._sorts(whole):
            yield whole
            return
        key = self.listing.model.id
        rows = self._query(expressions, {*sources, *self.order_sources}).order_by(*self.order)
        if self.has_index and limit + offset <= _GLANCE:
            first = self.listing.model.select(key).order_by(*self.order).limit(_GLANCE)
            found = self._query([key], {*self.sources, *self.order_sources})
            found = found.where(key.in_(first), self._conditions(few=True)[0])
            yield rows.where(key.in_(found.order_by(*self.order).limit(limit).offset(offset)))
        yield rows.where(key.in_(self.page([key], (), limit, offset)))

    def _sorts(self, query: Any) -> bool:
        """Whether SQLite sorts what it finds; other databases plan by what they hold."""
        if not isinstance(self.store.database, pw.SqliteDatabase):
            return False
        sql, parameters = query.sql()
        with self.store.reading():
            plan = self.store.connection().execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
            return any("TEMP B-TREE" in step for *_, step in plan)

    def count(self) -> int:
        """Count what matches."""
        query = self._where(self._query([pw.fn.COUNT(pw.SQL("*"))], self.sources))
        with self.store.reading():
            found: int = self.store.connection().execute(*query.sql()).fetchone()[0]
        return found

    def _conditions(self, *, few: bool) -> tuple[pw.ColumnBase | None, set[Model]]:
        conditions = Conditions(self.store, self.listing, self.now, few=few)
        with self.store.reading():
            return conditions.tree(self.tree), conditions.sources

    def _query(self, expressions: Sequence[Any], sources: Iterable[Model | None]) -> Any:
        needed = {source for source in sources if source} - {self.listing.model}
        return join(self.listing.model.select(*expressions), self.listing, needed)

    def _where(self, query: Any) -> Any:
        return query if self.condition is None else query.where(self.condition)


def _tree(words: Words, search: str | None) -> Or:
    """Parse the words; what is no word goes with every group of them."""
    if isinstance(words, str):
        tree, others = parse(words), []
    else:
        tree = parse([word for word in words if isinstance(word, str)])
        others = [word for word in words if not isinstance(word, str)]
    if search:
        others.append(text_term(search))
    return Or(tuple(And((*group.terms, *others)) for group in tree.groups))


def _column(listing: Listing, name: str) -> Column:
    """Return a column by name; keys after a JSON column's name lead into it."""
    shown = {word: column for word, column in listing.fields.items() if not column.hidden}
    head, keys = field_path(name) or (name, ())
    field = find(shown, head, "column")
    if not keys:
        return field
    if field.kind != "json":
        raise QueryError(f"{head} has no keys; keys lead into JSON columns")
    return replace(
        field,
        name=name,
        title=keys[-1] or name,
        expression=json_value(field.expression, keys),
        order=(json_order(field.expression, keys),),
        read=_only,
    )


def _only(text: object) -> object:
    value = read_json(text)
    return value[0] if isinstance(value, list) else value


def _sort_keys(listing: Listing, sort: str | Sequence[str]) -> Iterator[tuple[Column, bool]]:
    """Yield the columns to sort by, each with whether it descends."""
    for name in sort.split(",") if isinstance(sort, str) else sort:
        if name.strip():
            yield _column(listing, name.strip().removeprefix("-")), name.strip().startswith("-")


def _order(listing: Listing, keys: Sequence[tuple[Column, bool]]) -> Iterator[pw.ColumnBase]:
    """Yield the order: empty ones last, and the id at the end, so that pages do not overlap."""
    down = False
    for column, down in keys:
        for node in column.order or (column.expression,):
            yield _ordered(node, down, may_be_null=column.source is not None or _may_be_null(node))
    if not any(column.name == "id" for column, _ in keys):
        yield listing.model.id.desc() if down else listing.model.id.asc()


def _is_indexed(column: Column, down: bool) -> bool:
    """Whether an index of the list's own table has the order."""
    field = column.expression
    if column.source is not None or not isinstance(field, pw.Field):
        return False
    return (down or not field.null) and bool(field.primary_key or field.index)


def _may_be_null(node: pw.ColumnBase) -> bool:
    return not isinstance(node, pw.Field) or bool(node.null)


def _ordered(node: Any, down: bool, *, may_be_null: bool) -> pw.ColumnBase:
    # SQLite has NULL below everything: nothing needs to be said when descending, and nothing
    # may be said where an index shall serve.
    if down:
        return pw.Desc(node)
    return pw.Asc(node, nulls="LAST" if may_be_null else None)


def _read(
    store: Store, query: Any, readers: Sequence[tuple[int, Callable[[Any], object]]]
) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a query with Python's values, without holding more than a batch."""
    with store.reading():
        cursor = store.connection().execute(*query.sql())
        while batch := cursor.fetchmany(_BATCH):
            for row in batch:
                values = list(row)
                for place, read in readers:
                    if values[place] is not None:
                        values[place] = read(values[place])
                yield tuple(values)


def _each(given: Any) -> tuple[Any, ...]:
    return (given,) if isinstance(given, str | int | Speaker) else tuple(given)


def _speaker(key: int | str | Speaker) -> Value | Exactly:
    if isinstance(key, str):
        return Exactly(key)
    return Value(str(key.id if isinstance(key, Speaker) else key))


def _when(time: When | None) -> str | None:
    if isinstance(time, dt.datetime):
        return time.isoformat(timespec="microseconds")
    return time.isoformat() if isinstance(time, dt.date) else time
