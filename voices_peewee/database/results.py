"""What a query, a model or a list of objects holds, as named columns with a kind each.

A kind is one of: integer, float, boolean, text, path, time, json, other. A column says by its
field what it holds, so that the answer does not depend on the values or on the driver.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, SupportsIndex, TypeVar, overload

import peewee as pw

from voices_peewee.database.forks import at_fork
from voices_peewee.database.mapper import kind_of, reader
from voices_peewee.rendering.plain import Row, read_rows
from voices_peewee.rendering.table import ROWS, Column, cut_note, html_table
from voices_peewee.schema.models import BaseModel
from voices_peewee.schema.vocabulary import describe

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


@cache
def model_specs(model: type[BaseModel]) -> tuple[Column, ...]:
    """Return the columns of a model, as Python has their values."""
    return tuple(
        Column(field.column_name, kind_of(field), nullable=bool(field.null))
        for field in model._meta.sorted_fields
    )


def run_query(query: Any, database: pw.Database) -> tuple[list[Column], list[Row]]:
    """Run a model's select; return its columns and its rows."""
    rows = query.clone().tuples().execute(database)
    rows.initialize()
    described = zip(rows.columns, rows.fields, rows.converters, rows.select, strict=True)
    columns = _unique(_query_spec(query.model, *column) for column in described)
    return columns, list(read_rows(rows.cursor, columns))


def _query_spec(
    model: type[pw.Model], name: str, field: pw.Field | None, read: Any, node: Any
) -> tuple[Column, str]:
    """Return a column of a query, and a longer name for it."""
    if field is None or read is None:
        return Column(name, "other", read=read), name
    # An outer join leaves empty what another table never has empty.
    may_be_empty = bool(field.null) or field.model is not model
    name = name if node.is_alias() else field.column_name
    spec = Column(name, kind_of(field), nullable=may_be_empty, read=reader(field))
    return spec, f"{field.model._meta.table_name}.{name}"


def _unique(specs: Iterable[tuple[Column, str]]) -> list[Column]:
    """Give a name that is there already its table's before it, or else a number behind it."""
    found: dict[str, Column] = {}
    for spec, longer in specs:
        name = spec.name if spec.name not in found else longer
        number = 2
        while name in found:
            name, number = f"{longer}_{number}", number + 1
        found[name] = replace(spec, name=name)
    return list(found.values())


def as_dicts(cursor: Any) -> list[dict[str, Any]]:
    """Return the rows of a cursor by the names of their columns."""
    if cursor.description is None:
        return []
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def run_sql(database: pw.Database, sql: str, *params: object) -> list[Any]:
    """Execute one statement and return its rows."""
    cursor: Any = database.execute_sql(sql, params)
    return list(cursor) if cursor.description else []


class ResultList(list[T], Generic[T]):
    """A list of results that notebooks show as a table; equal to a list of the same items."""

    def __init__(self, items: Iterable[T], specs: Sequence[Column], shown: Sequence[str]) -> None:
        super().__init__(items)
        self._specs, self._shown = tuple(specs), tuple(shown)

    @classmethod
    def of(cls, items: Iterable[T], model: type[BaseModel]) -> ResultList[T]:
        """Return a list of a model's objects."""
        return cls(items, model_specs(model), model.glance())

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> ResultList[T]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> T | ResultList[T]:
        found: Any = super().__getitem__(index)
        return type(self)(found, self._specs, self._shown) if isinstance(index, slice) else found

    def to_dataframe(self, *, expand: bool | Sequence[str] = False) -> pd.DataFrame:
        """Return a pandas DataFrame, a row each; see ``DatabaseManager.to_dataframe``."""
        from voices_peewee.rendering.frames import frame

        names = [spec.name for spec in self._specs]
        rows = [tuple(getattr(item, name) for name in names) for item in self]
        return frame(self._specs, iter([rows]), expand=expand)

    def _repr_html_(self) -> str:
        first = self[:ROWS]
        return html_table(
            [describe(name) for name in self._shown],
            [[getattr(item, name) for name in self._shown] for item in first],
            note=cut_note(len(first), len(self)),
        )


class no_full_collection:  # noqa: N801 - a block, as suppress is one
    """Hold off the garbage collector's full collections: they walk a growing result over and over.

    Young objects are collected as ever: many small collections in the processor's cache take
    less time than none and one of everything at the end. Where threads are inside at once, at
    worst one of them is not spared. A block that an interrupt keeps from ending ends with its
    object.
    """

    _is_ours = False

    def __enter__(self) -> None:
        usual = gc.get_threshold()
        if usual[2] != _NEVER:
            self._is_ours, _usual[:] = True, usual
            gc.set_threshold(*usual[:2], _NEVER)

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            self._is_ours = False
            gc.set_threshold(*_usual)

    def __del__(self) -> None:
        self.__exit__()


def collect_again() -> None:
    """Collect as usual, after an interrupt or in a child; other threads inside are not spared."""
    if gc.get_threshold()[2] == _NEVER:
        gc.set_threshold(*_usual)


_NEVER: Final = 2**31 - 1
_usual: Final = [*gc.get_threshold()]
at_fork(after_in_child=collect_again)
