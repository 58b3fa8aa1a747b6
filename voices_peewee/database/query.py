"""``Query``: Peewee's select, whose plain results take the short way from rows to objects."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import peewee as pw

from voices_peewee.database.mapper import Mapper, mapper
from voices_peewee.database.results import ResultList, no_full_collection, run_query
from voices_peewee.errors import QueryError
from voices_peewee.schema.models import BaseModel

__all__ = ["Mapper", "Query", "mapper", "no_full_collection"]

M = TypeVar("M", bound=BaseModel)

_BATCH: Final = 200

if TYPE_CHECKING:
    import pandas as pd

    class _Select(pw.ModelSelect[M]):
        _is_default: bool
        _limit: int | None
        _row_type: str | None

        def _get_model_cursor_wrapper(self, cursor: Any) -> pw.CursorWrapper: ...
else:

    class _Select(pw.ModelSelect, Generic[M]):
        pass


class Query(_Select[M]):
    """Peewee's select, with ``filter_by``, ``all`` and ``first`` besides."""

    def filter_by(self, **values: Any) -> Query[M]:
        """Keep the rows whose fields equal the values; None matches empty."""
        query = self
        for name, value in values.items():
            field = self.model._meta.combined.get(name)
            if field is None:
                raise QueryError.unknown_field(name, self.model._meta.combined)
            query = query.where(field.is_null() if value is None else field == value)
        return query

    def all(self) -> ResultList[M]:
        """Run the query and return every row as a list."""
        return ResultList.of(self.clone(), self.model)

    def to_dataframe(self, *, expand: bool | Sequence[str] = False) -> pd.DataFrame:
        """Run the query and return a pandas DataFrame; see ``DatabaseManager.to_dataframe``."""
        return query_frame(self, self.model._meta.database, expand=expand)

    def iterator(self, database: pw.Database | pw.DatabaseProxy | None = None) -> Iterator[M]:
        """Run the query and yield its rows without keeping them."""
        connection = (database or self.model._meta.database).connection()
        # A server's driver would hold all rows at once; others are read as they are asked for.
        if self._is_default and self._row_type is None and hasattr(connection, "stream"):
            rows = self._get_model_cursor_wrapper(connection.stream(*self.clone().sql()))
            return iter(rows.iterator())
        return super(Query, self.clone()).iterator(database)

    def __sql_selection__(self, ctx: Any, is_subquery: bool = False) -> Any:
        columns = mapper(self.model).columns_sql if self._is_default and not is_subquery else ""
        if columns and ctx.alias_manager[self.model._meta.table] == "t1":
            return ctx.literal(columns)
        return super().__sql_selection__(ctx, is_subquery)

    def _get_model_cursor_wrapper(self, cursor: Any) -> Any:
        # A join of a default select adds no columns, so that its rows are plain ones too.
        if self._is_default:
            return _Rows(cursor, mapper(self.model).build)
        return super()._get_model_cursor_wrapper(cursor)


def query_frame(
    query: Any, database: pw.Database, *, expand: bool | Sequence[str] = False
) -> pd.DataFrame:
    """Return a pandas DataFrame of what a model's select finds; see ``Query.to_dataframe``."""
    from voices_peewee.rendering.frames import frame, load_pandas

    load_pandas()
    with no_full_collection():
        columns, rows = run_query(query, database)
        return frame(columns, iter([rows]), expand=expand)


class _Rows(pw.CursorWrapper):
    """Peewee's cache of the rows of a query, filled by a mapper."""

    def __init__(self, cursor: Any, build: Callable[[Iterable[Any]], Iterator[Any]]) -> None:
        super().__init__(cursor)
        self.build = build

    def __iter__(self) -> Iterator[Any]:
        index = 0
        while index < self.count or self._fetch(_BATCH):
            yield self.row_cache[index]
            index += 1

    def iterator(self) -> Generator[Any, None, None]:
        while rows := self.cursor.fetchmany(_BATCH):
            yield from self.build(rows)
        self.populated = True

    def fill_cache(self, n: int | None = 0) -> None:
        # Peewee asks for nothing in particular, 0 or None, when it wants all.
        self._fetch(n - self.count if n else None)

    def _fetch(self, size: int | None) -> bool:
        """Fetch so many more rows, or the rest; return whether there were any."""
        if self.populated or (size is not None and size <= 0):
            return False
        with no_full_collection():
            rows = self.cursor if size is None else self.cursor.fetchmany(size)
            self.row_cache.extend(self.build(rows))
        found = len(self.row_cache) - self.count
        self.count += found
        self.populated = size is None or found < size
        return found > 0
