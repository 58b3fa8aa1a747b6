"""``to_dataframe``: whatever holds rows, as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.schema.models import MODELS, BaseModel
from voices_peewee.search import pages as listing

if TYPE_CHECKING:
    import pandas as pd


class Tabular(Protocol):
    """A result that can make a DataFrame of itself."""

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame."""


_MODELS: Final[dict[str, type[BaseModel]]] = {
    **{model.__name__: model for model in MODELS},
    **{model._meta.table_name: model for model in MODELS},
}


def to_dataframe(
    store: Store,
    source: str | type[BaseModel] | pw.BaseModelSelect | Tabular,
    *,
    expand: bool | Sequence[str] = False,
) -> pd.DataFrame:
    """Return a pandas DataFrame of a list, a table, a query or a result.

    Whole numbers are int64, or Int64 where a value may be missing; other numbers float64; yes
    or no bool or boolean; texts string; times datetime64[us, UTC]; values of JSON columns are
    Python's. An empty answer has the same columns and dtypes; of an expression, such as a
    count, and of JSON keys only the values tell the dtype.

    Args:
        store: The open database.
        source: A list's name (speakers, files, history, performance: what ``list_rows`` shows
            with ``whole=True``), a model or its table's name (such as processed_files: the
            columns as they are), a query, or a result that has ``to_dataframe``.
        expand: Whether the keys of JSON objects become columns, ``parameters.shifts``; or the
            names of the columns whose keys do. What is no object stays in its column.

    Raises:
        MissingExtraError: pandas is not installed.
        QueryError: A name is unknown, or a column of ``expand`` holds no JSON.
        TypeError: The source holds no rows.
    """
    from voices_peewee.rendering.frames import query_frame

    model = _model(source)
    with store.reading():
        if model is not None:
            query = store.query(model).order_by(model._meta.primary_key)
            return query_frame(query, store.database, expand=expand)
        if isinstance(source, pw.BaseModelSelect):
            return query_frame(source, store.database, expand=expand)
        result = _listed(store, source) if isinstance(source, str) else source
        return _own_frame(result, expand)


def _model(source: object) -> type[BaseModel] | None:
    if isinstance(source, type) and issubclass(source, BaseModel):
        return source
    return _MODELS.get(source) if isinstance(source, str) else None


def _listed(store: Store, noun: str) -> listing.Page:
    known = {*listing.LISTS, *_MODELS}
    if noun not in listing.LISTS:
        raise QueryError.unknown_field(noun, known, "list or table")
    return listing.select(store, noun, limit=None, columns=listing.find_listing(noun).whole)


def _own_frame(result: Any, expand: bool | Sequence[str]) -> pd.DataFrame:
    if not callable(getattr(result, "to_dataframe", None)):
        raise TypeError(f"a DataFrame is made of a query, a name or a result, not of {result!r}")
    found: pd.DataFrame = result.to_dataframe(expand=expand) if expand else result.to_dataframe()
    return found
