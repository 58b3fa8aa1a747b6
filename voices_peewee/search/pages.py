"""Pages of what the database holds, as query words, an order and columns ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import peewee as pw

from voices_peewee.database.dialects import ByEngine
from voices_peewee.database.query import mapper, no_full_collection
from voices_peewee.database.results import Batches, ResultList, Spec, python_rows
from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.rendering.table import ROWS, cut_note, html_table
from voices_peewee.schema.fields import utc_now
from voices_peewee.schema.models import BaseModel
from voices_peewee.search.columns import LISTS, Column, Listing, Model, find_listing, read_json
from voices_peewee.search.conditions import Conditions, find, join
from voices_peewee.search.filters import filters_to_words
from voices_peewee.search.sql import json_order, json_value, unindexed
from voices_peewee.search.words import (
    And,
    Or,
    Term,
    field_path,
    parse,
    text_term,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LISTS",
    "Column",
    "Page",
    "filters_to_words",
    "find_listing",
    "matching",
    "records",
    "select",
]

Words = str | Sequence[str | Term]
T = TypeVar("T")

_GLANCE: Final = 2000  # rows that are looked at before anything is sorted
_BATCH: Final = 1000  # rows that are fetched at once, and kept where no more are asked for


class Page:
    """Some rows of a list: ``columns`` say what they hold, ``rows`` can be read once.

    Rows are read as they are asked for; ``total`` counts all that match, when it is asked for.
    What a notebook shows and a DataFrame holds is the whole page, read or not.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Iterator[tuple[object, ...]],
        count: Callable[[], int],
        again: Callable[[], Batches],
        *,
        is_stored: bool = False,
    ) -> None:
        self.columns = tuple(columns)
        self.rows = rows
        self._count = count
        self._again = again
        self._specs = [_spec(column) for column in columns]
        if not is_stored:
            self._specs = [replace(spec, read=None) for spec in self._specs]

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

    def to_dataframe(self, *, expand: bool | Sequence[str] = False) -> pd.DataFrame:
        """Return a pandas DataFrame of the page; see ``DatabaseManager.to_dataframe``.

        Args:
            expand: Whether the keys of JSON columns become columns; or which columns' keys.

        Raises:
            MissingExtraError: pandas is not installed.
            QueryError: A column of ``expand`` is unknown or holds no JSON.
        """
        from voices_peewee.rendering.frames import frame

        return frame(self._specs, self._again(), expand=expand)

    def _repr_html_(self) -> str:
        first = list(islice(python_rows(self._specs, self._again()), ROWS))
        return html_table(self.columns, first, note=cut_note(len(first), self.total))


_KINDS: Final = {
    **dict.fromkeys(("integer", "hertz", "bytes"), "integer"),
    **dict.fromkeys(("number", "decibel", "seconds", "percent", "megabytes"), "float"),
    **dict.fromkeys(("json", "tags"), "json"),
}


def _spec(column: Column) -> Spec:
    """Return what a column of a list is in a table; of a key in JSON, only its values tell."""
    kind = "other" if column.read is _only else _KINDS.get(column.kind, column.kind)
    nullable = column.source is not None or _may_be_null(column.expression)
    return Spec(column.name, kind, nullable, column.read)


def select(
    store: Store,
    noun: str,
    words: Words = (),
    *,
    filters: Sequence[Term] = (),
    search: str | None = None,
    sort: str | Sequence[str] | None = None,
    limit: int | None = 50,
    offset: int = 0,
    columns: Sequence[str] | None = None,
) -> Page:
    """Return a page of a list.

    Args:
        words: Query words: one string, or one item a word; items may be terms as well.
        filters: Terms that must be true besides, as ``filters_to_words`` gives them.
        search: A text that a name or path must hold.
        sort: Columns, ``-`` before one that descends; what is empty comes last. Text is sorted
            by code point: capitals come first.
        limit: How many rows at most; None for all.
        offset: How many to leave out first.
        columns: Names of columns; a JSON column's keys follow it: ``parameters.shifts``.

    Raises:
        QueryError: A list, field or column is unknown, or a value cannot be read.
        NotFoundError: A filter names a speaker that is not there.
        AmbiguousNameError: A filter names a speaker whose name others have.
        ValueError: ``limit`` or ``offset`` is negative.
    """
    listing = find_listing(noun)
    chosen = [_column(listing, name) for name in columns or listing.defaults]
    question = _Question(store, listing, _tree(words, filters, search), sort)
    expressions = [column.expression for column in chosen]
    sources = {column.source for column in chosen}
    readers = [(place, column.read) for place, column in enumerate(chosen) if column.read]
    queries = question.pages(expressions, sources, limit, offset)
    if limit is None or limit > _BATCH:
        query = next(queries)
        return Page(
            chosen,
            _read(store, query, readers),
            question.count,
            lambda: _batches(store, query),
            is_stored=True,
        )
    kept = _first_full((list(_read(store, query, readers)) for query in queries), limit)
    known = len(kept) < limit and (kept or not offset)
    count = (lambda: offset + len(kept)) if known else question.count
    return Page(chosen, iter(kept), count, lambda: iter([kept]))


def records(
    store: Store,
    noun: str,
    words: Words = (),
    *,
    filters: Sequence[Term] = (),
    search: str | None = None,
    sort: str | Sequence[str] | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> ResultList[BaseModel]:
    """Return what matches as model objects; the arguments are those of ``select``.

    Raises:
        QueryError: A list, field or column is unknown, or a value cannot be read.
        NotFoundError: A filter names a speaker that is not there.
        AmbiguousNameError: A filter names a speaker whose name others have.
        ValueError: ``limit`` or ``offset`` is negative.
    """
    listing = find_listing(noun)
    question = _Question(store, listing, _tree(words, filters, search), sort)
    fields = listing.model._meta.sorted_fields
    queries = question.pages(fields, (), limit, offset)
    found = _first_full((_objects(store, listing.model, query) for query in queries), limit)
    return ResultList.of(found, listing.model)


def matching(store: Store, noun: str, words: Words) -> Any:
    """Return a select of the ids of the rows that match, to be used inside another query.

    Args:
        noun: ``speakers``, ``files``, ``history`` or ``performance``.
        words: Query words: one string, or one item a word.

    Raises:
        QueryError: The list or a field is unknown, or a value cannot be read.
    """
    listing = find_listing(noun)
    key = listing.model.id
    return _Question(store, listing, _tree(words, (), None), "id")._matching([key], ())


def _objects(store: Store, model: Model, query: Any) -> list[BaseModel]:
    with store.reading(), no_full_collection:
        return list(mapper(model).build(store.connection().execute(*query.sql())))


def _first_full(attempts: Iterable[list[T]], limit: int | None) -> list[T]:
    """Return the first page that is full, or the last."""
    found: list[T] = []
    for found in attempts:
        if len(found) == limit:
            break
    return found


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
        query = self._matching(expressions, {*sources, *self.order_sources})
        return query.order_by(*self.order).limit(limit).offset(offset or None)

    def pages(
        self,
        expressions: Sequence[Any],
        sources: Iterable[Model | None],
        limit: int | None,
        offset: int,
    ) -> Iterator[Any]:
        """Yield queries of a page; a later one is needed where an earlier one gives too few.

        Where SQLite would sort, it sorts ids alone, and reads the rows of the page by them.
        Where an index has the order that is asked for, the rows at its beginning are looked at
        first: a page of what is common is there, and none of the rest has to be sorted.

        Raises:
            ValueError: ``limit`` or ``offset`` is negative.
        """
        if offset < 0 or (limit or 0) < 0:
            raise ValueError(f"limit {limit} and offset {offset} must not be negative")
        whole = self.page(expressions, sources, limit, offset)
        if limit is None or limit > _BATCH or not self._sorts(whole):
            yield whole
            return
        key = self.listing.model.id
        rows = self._query(expressions, {*sources, *self.order_sources}).order_by(*self.order)
        if self.has_index and limit + offset <= _GLANCE:
            yield rows.where(key.in_(self._glance(limit, offset)))
        yield rows.where(key.in_(self.page([key], (), limit, offset)))

    def _glance(self, limit: int, offset: int) -> Any:
        """Return the query of the ids that match among the first rows of the order."""
        key = self.listing.model.id
        first = self.listing.model.select(key).order_by(*self.order).limit(_GLANCE)
        query = self._query([key], {*self.sources, *self.order_sources}).where(key.in_(first))
        condition, _ = self._conditions(few=True)
        if condition is not None:
            query = query.where(unindexed(condition))
        return query.order_by(*self.order).limit(limit).offset(offset)

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
        query = self._matching([pw.fn.COUNT(pw.SQL("*"))], ())
        with self.store.reading():
            found: int = self.store.connection().execute(*query.sql()).fetchone()[0]
        return found

    def _conditions(self, *, few: bool) -> tuple[pw.ColumnBase | None, set[Model]]:
        conditions = Conditions(self.store, self.listing, self.now, few=few)
        with self.store.reading():
            return conditions.tree(self.tree), conditions.sources

    def _query(self, expressions: Sequence[Any], sources: Iterable[Model | None]) -> Any:
        return join(self.listing.model.select(*expressions), self.listing, sources)

    def _matching(self, expressions: Sequence[Any], sources: Iterable[Model | None]) -> Any:
        needed = {*sources, *self.sources}
        query = self.listing.model.select(*expressions)
        query = join(query, self.listing, needed, filtered=self.sources)
        return query if self.condition is None else query.where(self.condition)


def _tree(words: Words, filters: Sequence[Term], search: str | None) -> Or:
    """Parse the words; what is no word goes with every group of them."""
    others = list(filters)
    if isinstance(words, str):
        tree = parse(words)
    else:
        tree = parse([word for word in words if isinstance(word, str)])
        others += [word for word in words if not isinstance(word, str)]
    if search:
        others.append(text_term(search))
    return Or(tuple(And((*group.terms, *others)) for group in tree.groups))


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
    # may be said where an index shall serve. PostgreSQL has it above everything.
    if down:
        return ByEngine(pw.Desc(node), pw.Desc(node, nulls="LAST" if may_be_null else None))
    return pw.Asc(node, nulls="LAST" if may_be_null else None)


def _read(
    store: Store, query: Any, readers: Sequence[tuple[int, Callable[[Any], object]]]
) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a query with Python's values, without holding more than a batch."""
    for batch in _batches(store, query):
        for row in batch:
            values = list(row)
            for place, read in readers:
                if values[place] is not None:
                    values[place] = read(values[place])
            yield tuple(values)


def _batches(store: Store, query: Any) -> Batches:
    """Yield the rows of a query as they are stored."""
    with store.reading():
        cursor = store.stream(*query.sql())
        while batch := cursor.fetchmany(_BATCH):
            yield batch
