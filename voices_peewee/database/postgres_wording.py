"""What PostgreSQL's errors mean, in this package's words, never with a password."""

from __future__ import annotations

import re
from typing import Any, Final

import psycopg

from voices_peewee.errors import (
    DanglingError,
    DatabaseBusyError,
    DatabaseError,
    DatabaseFullError,
    InvalidValueError,
    ServerAwayError,
    VoicesError,
)
from voices_peewee.schema.models import CHECKS

_WAITED: Final = ("55P03", "40P01", "40001")
NO_ID: Final = "23502"  # for another process added the same row: see ``Mapper.insert``
_FULL: Final = "53100"
_AWAY: Final = ("08000", "08001", "08003", "08004", "08006", "25P03", "57P01", "57P02", "57P03")
_NO_ROOM: Final = "close some, or put PgBouncer before the server"
_CERTIFICATE: Final = "see sslmode, sslcert and sslrootcert in libpq's manual"
_POOLED: Final = "a pooler gave the connection to others; let it give whole sessions"
# What to do, behind the server's own words.
_ADVICE: Final = {
    "25006": "of a standby and its primary name both: postgresql://a,b/NAME?"
    "target_session_attrs=read-write",
    "42501": "ask for the role that may do this",
    "3F000": "make the schema, or name one that is there: ?options=-csearch_path%3DNAME",
    "53300": _NO_ROOM,
    "26000": _POOLED,
    "42P05": _POOLED,
}
_SIGNS: Final = {
    "too many clients": _NO_ROOM,
    "connection slots are reserved": _NO_ROOM,
    "too many connections": _NO_ROOM,
    "certificate": _CERTIFICATE,
    "unknown ca": _CERTIFICATE,
    "does not support ssl": "see sslmode in libpq's manual",
    "name or service not known": "is the host's name right?",
    "could not translate host name": "is the host's name right?",
    "failed to resolve host": "is the host's name right?",
}


def explain(error: Any, database: object, timeout: float) -> VoicesError:
    """Return our error for one of psycopg's."""
    state = getattr(error, "sqlstate", None) or ""
    if state in _WAITED or (state == NO_ID and error.diag.column_name == "id"):
        return DatabaseBusyError(database, timeout)
    if state == "23503":
        return DanglingError()
    if state.startswith("23"):
        return InvalidValueError(_constraint_sentence(error, state))
    if state == _FULL:
        return DatabaseFullError(database, f" ({first_line(error)})")
    if state in _ADVICE:
        return DatabaseError(database, f"{first_line(error)}; {_ADVICE[state]}")
    if isinstance(error, psycopg.DataError) or state.startswith("54"):  # too long for an index
        return InvalidValueError(f"a value does not fit its column ({first_line(error)})")
    return _about_the_server(error, database, state)


def _about_the_server(error: Any, database: object, state: str) -> VoicesError:
    words = str(error).lower()
    if state == "3D000" or re.search(r'database ".*" does not exist', words):
        return DatabaseError(database, "the server has no such database; create it with 'createdb'")
    is_refused = "password" in words or "authentication" in words or state.startswith("28")
    if is_refused and "certificate" not in words:
        return DatabaseError(
            database, "the server refuses the user or the password; see PGPASSWORD and ~/.pgpass"
        )
    if advice := next((advice for sign, advice in _SIGNS.items() if sign in words), None):
        return DatabaseError(database, f"{first_line(error)}; {advice}")
    # What the server did not say itself is about the connection.
    if state in _AWAY or (not state and isinstance(error, psycopg.OperationalError)):
        return ServerAwayError(database, first_line(error))
    return DatabaseError(database, first_line(error))


def first_line(error: Any) -> str:
    """Return the server's own sentence without what follows it."""
    diagnosis = getattr(error, "diag", None)
    text = getattr(diagnosis, "message_primary", None) or str(error).strip()
    return str(text.partition("\n")[0].strip().removeprefix("connection is bad: "))


def _constraint_sentence(error: Any, state: str) -> str:
    """Say in words which rule a value broke."""
    told = error.diag
    if told.constraint_name in CHECKS:
        return CHECKS[told.constraint_name][1]
    if state == "23502":
        return f"{told.table_name}.{told.column_name} must not be empty"
    if state == "23505":
        found = re.search(r"\((.*?)\)=", told.message_detail or "")
        columns = (found[1] if found else str(told.constraint_name)).split(", ")
        return ", ".join(f"{told.table_name}.{column}" for column in columns) + " must be unique"
    return first_line(error)
