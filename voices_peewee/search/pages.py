"""Pages of what the database holds, as query words, an order and columns ask for it."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import peewee as pw

from voices_peewee.database.dialects import ByEngine
from voices_peewee.database.query import mapper, no_full_collection
from voices_peewee.database.results import ResultList
from voices_peewee.database.store import SpeakerKey, Store
from voices_peewee.errors import InvalidValueError, QueryError
from voices_peewee.rendering.plain import Row, read_rows
from voices_peewee.rendering.table import ROWS, cut_note, html_table
from voices_peewee.schema.exact import short
from voices_peewee.schema.fields import plain_name
from voices_peewee.schema.models import BaseModel
from voices_peewee.search import words as grammar
from voices_peewee.search.columns import Column, Listing, find, find_listing, may_be_null, read_json
from voices_peewee.search.conditions import Conditions, join
from voices_peewee.search.json_keys import json_order, json_value
from voices_peewee.search.words import Match, Value, When, Words, texts

if TYPE_CHECKING:
    import pandas as pd

Statement = tuple[str, Sequence[Any]]
Sort = str | Sequence[str] | None
_SHAPES: Final = 500
_written: Final[dict[tuple[Any, ...], Statement]] = {}  # by their shapes, without a condition
_IDS: Final = "\0ids"  # in such a statement: what finds the ids of a page
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

        return frame(self.columns, self._batches(), expand=expand)

    def _repr_html_(self) -> str:
        first = list(islice(chain.from_iterable(self._batches()), ROWS))
        return html_table(self.columns, first, note=cut_note(len(first), self.total))


def count_of(name: str, value: Any) -> int:
    """Return a count that a method is given."""
    with suppress(TypeError):
        if not isinstance(value, bool) and (count := operator.index(value)) >= 0:
            return count
    raise InvalidValueError(f"{name} must be a whole number of 0 or more, not {short(value)}")


def matching(store: Store, noun: str, words: Words) -> Any:
    """Return a select of the ids of the rows that match, to be used inside another query."""
    question = Question(store, noun, words)
    return question.matching([question.listing.model.id])


class Question:
    """What is asked of a list: words, a text that is searched for, and filters."""

    def __init__(
        self, store: Store, noun: str, words: Words = (), search: str | None = None, **filters: Any
    ) -> None:
        self.store, self.listing = store, find_listing(noun)
        terms = [*grammar.parse(words), *_filters_to_words(store, **filters)]
        conditions = Conditions(self.listing, dt.datetime.now(dt.UTC))
        terms += [grammar.text_term(text) for text in texts([search] if search else [])]
        self.condition = conditions.all_of(terms)
        self.sources = conditions.sources

    def page(
        self, columns: Sequence[str] | None, sort: Sort, limit: int | None, offset: int
    ) -> Page:
        """Return a page; one of more than a thousand rows is read as it is asked for."""
        names = texts(columns) if columns else self.listing.defaults
        chosen = [_column(self.listing, name) for name in names]
        statement = self._statement(chosen, sort, limit, offset)
        if limit is None or limit > _BATCH:
            return Page(chosen, lambda: _batches(self.store, statement, chosen), self.count)
        kept = list(chain.from_iterable(_batches(self.store, statement, chosen)))
        is_last = len(kept) < limit and (kept or not offset)
        count = (lambda: offset + len(kept)) if is_last else self.count
        return Page(chosen, lambda: [kept], count)

    def objects(self, sort: Sort, limit: int | None, offset: int) -> ResultList[BaseModel]:
        """Return what matches as model objects."""
        model, statement = self.listing.model, self._statement((), sort, limit, offset)
        with self.store.reading(), no_full_collection():
            rows = self.store.connection().execute(*statement)
            return ResultList.of(mapper(model).build(rows), model)

    def _statement(
        self, columns: Sequence[Column], sort: Sort, limit: int | None, offset: int
    ) -> Statement:
        """Return the statement of a page: its ids are found and sorted before its rows are read.

        Without columns it is of those of the model. Peewee writes once what has no condition.
        """
        self.store.require_place()
        offset = count_of("offset", offset)
        limit = None if limit is None else count_of("limit", limit)
        order = sort if sort is None or isinstance(sort, str) else tuple(texts(sort))
        names = tuple(column.name for column in columns)
        shape = (type(self.store.database), self.listing.model, order)
        found = columns if limit is None else [_column(self.listing, "id")]
        key = (*shape, names if limit is None else "id", limit, offset)
        query = partial(self._found, found, order, limit, offset)
        sql, given = _once(key, query) if self.condition is None else query().sql()
        if limit is None:
            return sql, given
        around, values = _once((*shape, names), partial(self._rows, columns, order))
        place = values.index(_IDS)
        return around.replace(_IDS, sql), [*values[:place], *given, *values[place + 1 :]]

    def _found(self, columns: Sequence[Column], sort: Sort, limit: int | None, offset: int) -> Any:
        expressions, sources, order = self._parts(columns, sort)
        query = self.matching(expressions, sources).order_by(*order)
        return query.limit(limit).offset(offset or None)

    def _rows(self, columns: Sequence[Column], sort: Sort) -> Any:
        model, (expressions, sources, order) = self.listing.model, self._parts(columns, sort)
        rows = join(model.select(*expressions), self.listing, sources)
        return rows.where(model.id.in_(pw.SQL(f"({_IDS})", (_IDS,)))).order_by(*order)

    def _parts(self, columns: Sequence[Column], sort: Sort) -> tuple[Any, set[Any], list[Any]]:
        """Return what is selected, the tables that it and the order need, and the order."""
        keys = list(_sort_keys(self.listing, sort or self.listing.sort))
        sources = _sources([*columns, *(column for column, _ in keys)])
        expressions = [column.expression for column in columns]
        fields = self.listing.model._meta.sorted_fields
        return expressions or fields, sources, list(_order(self.listing, keys))

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


def _once(key: tuple[Any, ...], query: Callable[[], pw.Select]) -> Statement:
    """Return a statement that Peewee has written before, or writes now."""
    if (found := _written.get(key)) is None:
        found = query().sql()
        if len(_written) < _SHAPES:
            _written[key] = found
    return found


def _sources(columns: Iterable[Column]) -> set[Any]:
    return {source for column in columns for source in column.sources}


def _filters_to_words(
    store: Store,
    *,
    speaker: SpeakerKey | Sequence[SpeakerKey] | None = None,
    tag: str | Sequence[str] = (),
    model: str | Sequence[str] = (),
    operation: str | Sequence[str] = (),
    since: When | None = None,
    until: When | None = None,
    success: bool = False,
    failed: bool = False,
    unfinished: bool = False,
) -> list[grammar.Term]:
    """Return the terms that filters stand for: of several any fits, but all tags must be there."""
    flags = {"success": success, "failed": failed, "unfinished": unfinished}
    any_of = {
        "model": texts(map(plain_name, _each(model))),
        "operation": texts(map(plain_name, _each(operation))),
        "speaker": [f"id:{store.speaker(key).id}" for key in _each(speaker)],
        "status": [state for state, wanted in flags.items() if wanted],
    }
    terms: list[grammar.Term] = [Match("tag", (Value(text),)) for text in texts(_each(tag))]
    terms += [Match(name, tuple(map(Value, some))) for name, some in any_of.items() if some]
    if since or until:
        terms.append(Match("since", (Value(f"{_when(since)}..{_when(until)}"),)))
    return terms


def _each(given: Any) -> Sequence[Any]:
    """Return several as they are, one as the only one, and none as none."""
    if given is None:
        return ()
    is_one = isinstance(given, str) or not isinstance(given, Iterable)
    return (given,) if is_one else tuple(given)


def _when(time: When | None) -> str:
    if isinstance(time, dt.datetime):
        if time.utcoffset() is None:
            raise QueryError(f"{str(time)!r} has no time zone; use .astimezone()")
        return time.isoformat(timespec="microseconds")
    return time.isoformat() if isinstance(time, dt.date) else time or ""


def _column(listing: Listing, name: str) -> Column:
    """Return a column by name; keys after a JSON column's name lead into it."""
    shown = {word: column for word, column in listing.fields.items() if not column.hidden}
    head, keys = (name, ()) if name in listing.fields else grammar.field_path(name) or (name, ())
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
        nullable=True,
    )


def read_single(text: object) -> object:
    """Return the value of a JSON array of one, as ``json_value`` gives it."""
    value = read_json(text)
    return value[0] if isinstance(value, list) else value


def _sort_keys(listing: Listing, sort: str | Sequence[str]) -> Iterator[tuple[Column, bool]]:
    """Yield the columns to sort by, each with whether it descends."""
    for name in sort.split(",") if isinstance(sort, str) else texts(sort):
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
    nulls = "LAST" if may_be_null else None
    if not down:
        return pw.Asc(node, nulls=nulls)
    return ByEngine(pw.Desc(node), pw.Desc(node, nulls=nulls)) if may_be_null else pw.Desc(node)


def _batches(store: Store, statement: Statement, columns: Sequence[Column]) -> Iterator[list[Row]]:
    """Yield the rows of a query with Python's values, without holding more than a batch."""
    with store.reading():
        cursor = store.stream(*statement)
        while batch := cursor.fetchmany(_BATCH):
            yield list(read_rows(batch, columns))
