"""One SQL statement of the user's, with its rows as dicts; read-only unless asked otherwise."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from voices_peewee.database.dialects import for_psycopg
from voices_peewee.database.wording import is_refused_write
from voices_peewee.errors import DatabaseError, QueryError

if TYPE_CHECKING:
    from voices_peewee.database.postgres import Server
    from voices_peewee.database.store import Store

Params = Sequence[Any] | Mapping[str, Any]
Rows = list[dict[str, Any]]

_READING: Final = ("select", "with", "values", "explain")
_WRITES: Final = "this statement would change the database; pass write=True to allow it"
_OTHERS: Final = "only SELECT, WITH, VALUES and EXPLAIN run without write=True"


def read(store: Store, sql: str, params: Params) -> Rows:
    """Return the rows of a statement that cannot change the database.

    Raises:
        QueryError: It would change it, or is not of a kind that only reads.
        DatabaseError: It is wrong.
    """
    if not sql.lstrip().lower().startswith(_READING):
        raise QueryError(_OTHERS)
    if store.server is not None:
        return _read_on_server(store, store.server, sql, params)
    with store.reading():
        connection = store.connection()
        connection.execute("PRAGMA query_only = 1")
        try:
            return _rows(connection, sql, params)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY:
                raise QueryError(_WRITES) from error
            raise
        finally:
            connection.execute("PRAGMA query_only = 0")


def write(store: Store, sql: str, params: Params) -> Rows:
    """Run a statement in a transaction and return its rows.

    Raises:
        DatabaseError: It is wrong.
    """
    with store.writing():
        return _rows(store.connection(), _spelled(store, sql, params), params)


def _spelled(store: Store, sql: str, params: Params) -> str:
    """Return a statement as its driver reads it; without values there is nothing to spell."""
    return sql if store.server is None or not params else for_psycopg(sql)


def _read_on_server(store: Store, server: Server, sql: str, params: Params) -> Rows:
    try:
        with store.reading(), server.read_only():
            rows: Rows = store.connection().dicts(_spelled(store, sql, params), params)
            return rows
    except DatabaseError as error:
        if is_refused_write(error.__cause__):
            raise QueryError(_WRITES) from error
        raise


def _rows(connection: Any, sql: str, params: Params) -> Rows:
    cursor = connection.execute(sql, params)
    if cursor.description is None:
        return []
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
