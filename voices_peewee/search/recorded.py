"""The names that a record has of a kind, for the TAB key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

from voices_peewee.database.store import Store
from voices_peewee.schema.models import ModelPerformance, ProcessedFile, ProcessingHistory, Speaker
from voices_peewee.search.columns import LISTS, read_json

_NEWEST: Final = 500  # rows whose JSON is looked into
_MODEL: Final = LISTS["history"].columns["model"].expression
_COLUMNS: Final[dict[str, tuple[Any, ...]]] = {
    "speakers": (Speaker.name,),
    "formats": (ProcessedFile.file_format,),
    "operations": (ProcessingHistory.operation_type,),
    "models": (ProcessingHistory.model_type, _MODEL),
}
_IN_JSON: Final[dict[str, Any]] = {
    "tags": Speaker.tags,
    "metrics": ModelPerformance.additional_metrics,
}


def recorded(store: Store, kind: str) -> Iterable[str]:
    """Return the names of speakers, models, … in order; tags and metrics are the newest."""
    with store.reading():
        if kind in _IN_JSON:
            names = set(_in_json(_IN_JSON[kind]))
        else:
            expressions = _COLUMNS[kind]
            query = expressions[0].model.select(*expressions).distinct().tuples()
            names = set(chain.from_iterable(query.iterator(store.database)))
    return sorted(name for name in names if isinstance(name, str))


def _in_json(field: Any) -> Iterator[object]:
    """Yield the texts of JSON arrays, or the keys of objects."""
    newest = field.model.select(field.coerce(False)).order_by(field.model.id.desc())
    for (text,) in newest.limit(_NEWEST).tuples():
        value = read_json(text)
        yield from value if isinstance(value, dict | list) else ()
