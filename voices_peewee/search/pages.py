"""Pages of what the database holds, as query words, an order and columns ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import peewee as pw

from voices_peewee.database.dialects import ByEngine
from voices_peewee.database.query import mapper, no_full_collection
from voices_peewee.database.results import ResultList
from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.rendering.table import ROWS, cut_note, html_table
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import BaseModel
from voices_peewee.search.columns import (
    LISTS,
    Column,
    Listing,
    find_listing,
    may_be_null,
    read_json,
)
from voices_peewee.search.conditions import Conditions, find, join
from voices_peewee.search.json_keys import json_order, json_value
from voices_peewee.search.words import Term, Words, field_path, filters_to_words, parse, text_term

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LISTS", "Column", "Page", "find_listing", "matching", "records", "select"]

Row = tuple[object, ...]
_BATCH: Final = 1000  # rows that are fetched at once, and kept where no more are asked for


class Page:
    """Some rows of a list: ``columns`` say what they hold, ``rows`` can be read once.

    Rows are read as they are asked for; ``total`` counts all that match, when it is asked for.
    What a notebook shows and a DataFrame holds is the whole page, read or not.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        batches: Callable[[], Iterable[Sequence[Row]]],
        count: Callable[[], int],
    ) -> None:
        self.columns = tuple(columns)
        self._batches = batches
        self._count = count
        self.rows: Iterator[Row] = chain.from_iterable(batches())

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def total(self) -> int:
        """How many rows match, shown or not."""
        return self._count()

    def __iter__(self) -> Iterator[Row]:
        return self.rows

    def dicts(self) -> Iterator[dict[str, object]]:
        """Yield each row as a mapping of column names to values."""
        return (dict(zip(self.names, row, strict=True)) for row in self.rows)

    def to_dataframe(self, *, expand: bool | Sequence[str] = False) -> pd.DataFrame:
        """Return a pandas DataFrame of the page; see ``DatabaseManager.to_dataframe``.

        Args:
            expand: Whether the keys of JSON columns become columns; or which columns' keys.

        Raises:
            MissingExtraError: pandas is not installed.
            QueryError: A column of ``expand`` is unknown or holds no JSON.
        """
        from voices_peewee.rendering.frames import frame

        read_already = [replace(column, read=None) for column in self.columns]
        return frame(read_already, self._batches(), expand=expand)

    def _repr_html_(self) -> str:
        first = list(islice(chain.from_iterable(self._batches()), ROWS))
        return html_table(self.columns, first, note=cut_note(len(first), self.total))


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
    **filters: Any,
) -> Page:
    """Return a page of a list; the arguments are those of ``DatabaseManager.list_rows``.

    A page of more than a thousand rows is read from the database as it is asked for.
    """
    listing = find_listing(noun)
    chosen = [_column(listing, name) for name in columns or listing.defaults]
    question = _Question(store, listing, _terms(store, words, search, filters))
    sources = {source for column in chosen for source in column.sources}
    expressions = [column.expression for column in chosen]
    query = question.page(expressions, sources, sort or listing.sort, limit, offset)
    if limit is None or limit > _BATCH:
        return Page(chosen, lambda: _batches(store, query, chosen), question.count)
    kept = list(chain.from_iterable(_batches(store, query, chosen)))
    is_last = len(kept) < limit and (kept or not offset)
    count = (lambda: offset + len(kept)) if is_last else question.count
    return Page(chosen, lambda: [kept], count)


def records(
    store: Store,
    noun: str,
    words: Words = (),
    *,
    search: str | None = None,
    sort: str | Sequence[str] | None = None,
    limit: int | None = None,
    offset: int = 0,
    **filters: Any,
) -> ResultList[BaseModel]:
    """Return what matches as model objects; the arguments are those of ``select``."""
    listing = find_listing(noun)
    question = _Question(store, listing, _terms(store, words, search, filters))
    fields = listing.model._meta.sorted_fields
    query = question.page(fields, (), sort or listing.sort, limit, offset)
    with store.reading(), no_full_collection:
        rows = store.connection().execute(*query.sql())
        return ResultList.of(mapper(listing.model).build(rows), listing.model)


def matching(store: Store, noun: str, words: Words) -> Any:
    """Return a select of the ids of the rows that match, to be used inside another query."""
    listing = find_listing(noun)
    return _Question(store, listing, parse(words)).matching([listing.model.id])


class _Question:
    """What a page and its count have in common."""

    def __init__(self, store: Store, listing: Listing, terms: Sequence[Term]) -> None:
        self.store, self.listing = store, listing
        conditions = Conditions(listing, utc_now())
        self.condition = conditions.all_of(terms)
        self.sources = conditions.sources

    def page(
        self,
        expressions: Sequence[Any],
        sources: Iterable[Any],
        sort: str | Sequence[str],
        limit: int | None,
        offset: int,
    ) -> Any:
        """Return the query of a page: its ids are found and sorted before its rows are read."""
        if offset < 0 or (limit or 0) < 0:
            raise ValueError(f"limit {limit} and offset {offset} must not be negative")
        keys = list(_sort_keys(self.listing, sort))
        order = list(_order(self.listing, keys))
        order_sources = {source for column, _ in keys for source in column.sources}
        if limit is None:
            query = self.matching(expressions, {*sources, *order_sources})
            return query.order_by(*order).offset(offset or None)
        key = self.listing.model.id
        ids = self.matching([key], order_sources).order_by(*order)
        rows = self.listing.model.select(*expressions)
        rows = join(rows, self.listing, {*sources, *order_sources})
        return rows.where(key.in_(ids.limit(limit).offset(offset or None))).order_by(*order)

    def count(self) -> int:
        """Count what matches."""
        query = self.matching([pw.fn.COUNT(pw.SQL("*"))])
        with self.store.reading():
            found: int = self.store.connection().execute(*query.sql()).fetchone()[0]
        return found

    def matching(self, expressions: Sequence[Any], sources: Iterable[Any] = ()) -> Any:
        """Return the query of all that match."""
        query = self.listing.model.select(*expressions)
        query = join(query, self.listing, {*sources, *self.sources}, filtered=self.sources)
        return query if self.condition is None else query.where(self.condition)


def _terms(store: Store, words: Words, search: str | None, filters: Any) -> list[Term]:
    terms = [*parse(words), *filters_to_words(store, **filters)]
    return [*terms, text_term(search)] if search else terms


def _column(listing: Listing, name: str) -> Column:
    """Return a column by name; keys after a JSON column's name lead into it."""
    shown = {word: column for word, column in listing.fields.items() if not column.hidden}
    head, keys = field_path(name) or (name, ())
    if head in listing.fields and head not in shown:
        raise QueryError(f"{head} can be asked for in a query, but is no column of this list")
    field = find(shown, head, "column")
    if not keys:
        return field
    if field.kind != "json":
        raise QueryError(f"{head} has no keys; keys lead into JSON columns")
    return replace(
        field,
        name=name,
        kind="other",  # only the values tell
        title=keys[-1] or name,
        expression=json_value(field.expression, keys),
        order=(json_order(field.expression, keys),),
        read=read_single,
    )


def read_single(text: object) -> object:
    """Return the value of a JSON array of one, as ``json_value`` gives it."""
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
            yield _ordered(node, down, may_be_null=bool(column.sources) or may_be_null(node))
    if not any(column.name == "id" for column, _ in keys):
        yield listing.model.id.desc() if down else listing.model.id.asc()


def _ordered(node: Any, down: bool, *, may_be_null: bool) -> pw.ColumnBase:
    # SQLite has NULL below everything: nothing needs to be said when descending, and nothing
    # may be said where an index shall serve. PostgreSQL has it above everything.
    if down:
        return ByEngine(pw.Desc(node), pw.Desc(node, nulls="LAST" if may_be_null else None))
    return pw.Asc(node, nulls="LAST" if may_be_null else None)


def _batches(store: Store, query: Any, columns: Sequence[Column]) -> Iterator[list[Row]]:
    """Yield the rows of a query with Python's values, without holding more than a batch."""
    readers = [(place, column.read) for place, column in enumerate(columns) if column.read]
    with store.reading():
        cursor = store.stream(*query.sql())
        while batch := cursor.fetchmany(_BATCH):
            yield [_read(row, readers) for row in batch]


def _read(row: Row, readers: Sequence[tuple[int, Callable[[Any], object]]]) -> Row:
    values = list(row)
    for place, read in readers:
        if values[place] is not None:
            values[place] = read(values[place])
    return tuple(values)
