"""``to_dataframe``: whatever holds rows, as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import peewee as pw

from voices_peewee.database.query import no_full_collection, query_frame
from voices_peewee.database.store import Store
from voices_peewee.errors import QueryError
from voices_peewee.schema.models import MODELS, BaseModel
from voices_peewee.search.columns import LISTS
from voices_peewee.search.pages import Page, Question

if TYPE_CHECKING:
    import pandas as pd


class Tabular(Protocol):
    """A result that can make a DataFrame of itself."""

    def to_dataframe(self) -> pd.DataFrame:
        """Return a pandas DataFrame."""


Source = str | type[BaseModel] | pw.BaseModelSelect | Tabular

_MODELS: Final[dict[str, type[BaseModel]]] = {
    name: model for model in MODELS for name in (model.__name__, model._meta.table_name)
}


def to_dataframe(store: Store, source: Source, expand: bool | Sequence[str]) -> pd.DataFrame:
    """Return a DataFrame as ``DatabaseManager.to_dataframe`` does."""
    model = _MODELS.get(source) if isinstance(source, str) else source
    with store.answering(), no_full_collection():
        if isinstance(model, type) and issubclass(model, BaseModel):
            source = store.query(model).order_by(model._meta.primary_key)
        if isinstance(source, pw.BaseModelSelect):
            return query_frame(source, store.database, expand=expand)
        result: Any = _listed(store, source) if isinstance(source, str) else source
        if not callable(getattr(result, "to_dataframe", None)):
            no_rows = "a DataFrame is made of a query, a name or a result, not of"
            raise TypeError(f"{no_rows} {result!r}")
        found: pd.DataFrame = result.to_dataframe(**({"expand": expand} if expand else {}))
        return found


def _listed(store: Store, noun: str) -> Page:
    if noun not in LISTS:
        raise QueryError.unknown_field(noun, {*LISTS, *_MODELS}, "list or table")
    return Question(store, noun).page(LISTS[noun].whole, None, None, 0)
