"""One SQL statement of the user's, with its rows as dicts; read-only unless asked otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from voices_peewee.database.sqlite import as_dicts
from voices_peewee.errors import DatabaseError, QueryError

if TYPE_CHECKING:
    from voices_peewee.database.store import Store

Params = Sequence[Any] | Mapping[str, Any]
Rows = list[dict[str, Any]]

# What may be explained is what may be run: EXPLAIN alone lets a PRAGMA take effect.
_READING: Final = re.compile(
    r"\s*(explain(\s*\([^)]*\)|\s+(query|plan|analyze|verbose)\b)*\s+)?(select|with|values)\b",
    re.IGNORECASE,
)
_WRITES: Final = "this statement would change the database; pass write=True to allow it"
_OTHERS: Final = "only SELECT, WITH, VALUES and EXPLAIN of these run without write=True"


def read(store: Store, sql: str, params: Params) -> Rows:
    """Return the rows of a statement that can change neither the database nor the connection."""
    if not _READING.match(sql):
        raise QueryError(_OTHERS)
    try:
        with store.reading():
            rows: Rows = store.engine.read_raw(sql, params)
            return rows
    except DatabaseError as error:
        if store.engine.is_refused_write(error.__cause__):
            raise QueryError(_WRITES) from error
        raise


def write(store: Store, sql: str, params: Params) -> Rows:
    """Run a statement in a transaction and return its rows."""
    with store.writing():
        return as_dicts(store.engine.execute_raw(sql, params))
