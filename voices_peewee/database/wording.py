"""The errors of Peewee and SQLite, in this package's words."""

from __future__ import annotations

import sqlite3
from typing import Final

import peewee as pw

from voices_peewee.errors import (
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    DatabaseFullError,
    DatabaseReadOnlyError,
    InvalidValueError,
    NotConnectedError,
    NotVoicesError,
    VoicesError,
)
from voices_peewee.schema.models import CHECKS


class Translated:
    """Turns the errors of Peewee and sqlite3 inside a ``with`` block into ours.

    Raises:
        DatabaseBusyError: A lock was held for longer than ``timeout`` (s).
        DatabaseReadOnlyError: The file or folder cannot be written.
        DatabaseFullError: The disk is full.
        DatabaseDamagedError: The file is broken.
        NotConnectedError: The connection was closed.
        InvalidValueError: A constraint refused a value.
        DatabaseError: Anything else that the database reports.
    """

    __slots__ = ("database", "timeout")

    def __init__(self, database: object, timeout: float = 30.0) -> None:
        self.database, self.timeout = database, timeout

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        if error is None or isinstance(error, VoicesError):
            return
        if (ours := _server_error(error, self.database, self.timeout)) is not None:
            raise ours from error
        if isinstance(error, pw.IntegrityError | sqlite3.IntegrityError):
            raise InvalidValueError(_constraint_sentence(_message(error))) from error
        if isinstance(error, UnicodeError):
            raise InvalidValueError(f"a text holds what UTF-8 cannot: {error}") from error
        if isinstance(error, _REPORTED):
            raise _translate(error, self.database, self.timeout) from error


_ADVICE: Final = {
    sqlite3.SQLITE_CANTOPEN: "; check the permissions of its folder, and how many files are open",
}
_REPORTED: Final = (pw.DatabaseError, pw.InterfaceError, sqlite3.Error, OverflowError)


def _translate(error: Exception, database: object, timeout: float) -> VoicesError:
    if (ours := _own(error) or _server_error(error, database, timeout)) is not None:
        return ours
    if isinstance(error, OverflowError):
        return InvalidValueError("an integer does not fit into 64 bits")
    if "closed database" in _message(error):
        return NotConnectedError(database)
    match code := code_of(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseBusyError(database, timeout)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return DatabaseReadOnlyError(database)
        case sqlite3.SQLITE_FULL:
            return DatabaseFullError(database)
        case sqlite3.SQLITE_NOTADB:
            return NotVoicesError(database, "it is not an SQLite database")
        case sqlite3.SQLITE_CORRUPT:
            return DatabaseDamagedError(database, _message(error))
        case sqlite3.SQLITE_TOOBIG:
            return InvalidValueError("a value is larger than the database can hold")
    return DatabaseError(database, _message(error) + _ADVICE.get(code, ""))


def _server_error(error: BaseException, database: object, timeout: float) -> VoicesError | None:
    """Return what an error of a server means; None where it is none."""
    cause: object = error
    while isinstance(cause, pw.PeeweeException):  # Peewee wraps what it has wrapped already
        cause = getattr(cause, "orig", None)
    if not type(cause).__module__.startswith("psycopg"):
        return None
    from voices_peewee.database.postgres_errors import explain  # late: SQLite needs none of it

    return explain(cause, database, timeout)


def is_refused_write(error: BaseException | None) -> bool:
    """Whether a server refused to write in a transaction that may only read."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) == "25006"


def _own(error: object) -> VoicesError | None:
    """Return the error of ours that Peewee wrapped: it goes by names, and one is the same."""
    while isinstance(error, pw.PeeweeException):
        error = getattr(error, "orig", None)
    return error if isinstance(error, VoicesError) else None


def _message(error: Exception) -> str:
    """Return the driver's words: Peewee puts the driver's error before them."""
    return str(error.args[-1] if error.args else error).strip().partition("\n")[0]


def code_of(error: BaseException) -> int:
    """Return SQLite's primary result code behind an error, or -1."""
    cause: BaseException | None = error
    while cause is not None:
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None:
            return int(code) & 0xFF
        cause = cause.__cause__ or cause.__context__
    return -1


def _constraint_sentence(message: str) -> str:
    """Say in words which rule a value broke."""
    kind, _, name = message.partition(" constraint failed: ")
    if name in CHECKS:
        return CHECKS[name][1]
    if kind == "NOT NULL":
        return f"{name} must not be empty"
    if kind == "UNIQUE":
        return f"{name} must be unique"
    if message.startswith("FOREIGN KEY"):
        return "a record refers to another that does not exist"
    return message
