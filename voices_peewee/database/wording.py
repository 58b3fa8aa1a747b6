"""The errors of Peewee and SQLite, in this package's words."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import Final, TypeGuard

import peewee as pw

from voices_peewee.errors import (
    DanglingError,
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

_REPORTED: Final = (
    *(pw.DatabaseError, pw.InterfaceError),
    *(sqlite3.Error, OverflowError, UnicodeError),
)


def is_reported(error: object) -> TypeGuard[Exception]:
    """Whether an error comes from Peewee or a driver, and is not ours already."""
    if isinstance(error, VoicesError):
        return False
    return isinstance(error, _REPORTED) or _is_of_server(error)


def _is_of_server(error: object) -> bool:
    return type(error).__module__.startswith("psycopg")


def translation(
    error: Exception, database: object, timeout: float, *, target: object = None
) -> VoicesError:
    """Return what an error of a database means; ``target`` is the copy that was being written."""
    while "cannot rollback" in _message(error) and isinstance(error.__context__, Exception):
        error = error.__context__  # SQLite had undone all by itself, of which this tells
    cause = _cause(error)
    if isinstance(cause, VoicesError):
        return cause
    if _is_of_server(cause):
        from voices_peewee.database.postgres_wording import (
            explain,  # late: SQLite needs none of it
        )

        return explain(cause, database, timeout)
    if isinstance(error, pw.IntegrityError | sqlite3.IntegrityError):
        message = _message(error)
        if message.startswith("FOREIGN KEY"):
            return DanglingError()
        return InvalidValueError(_constraint_sentence(message))
    if isinstance(error, UnicodeError):
        return InvalidValueError(f"a text holds what UTF-8 cannot: {error}")
    if isinstance(error, OverflowError):
        return InvalidValueError("an integer does not fit into 64 bits")
    if "closed database" in _message(error) or "closed cursor" in _message(error):
        return NotConnectedError(database)
    return _meaning(code_of(error), _message(error), database, timeout, target or database)


def _meaning(
    code: int, message: str, database: object, timeout: float, target: object
) -> VoicesError:
    """Return what a primary result code of SQLite means."""
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseBusyError(database, timeout)
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY if _room(database) < _SHM:
            return DatabaseFullError(target)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return DatabaseReadOnlyError(database)
        case sqlite3.SQLITE_FULL:
            return DatabaseFullError(target, _TEMPORARY if _room(target) > _MUCH else "")
        case sqlite3.SQLITE_NOTADB:
            return NotVoicesError(database, "it is not an SQLite database")
        case sqlite3.SQLITE_CORRUPT:
            return DatabaseDamagedError(database, message)
        case sqlite3.SQLITE_TOOBIG:
            return InvalidValueError("a value is larger than the database can hold")
        case sqlite3.SQLITE_CANTOPEN:
            return DatabaseError(database, message + _CANNOT_OPEN)
        case sqlite3.SQLITE_IOERR:  # which SQLite says of a quota, too
            return DatabaseError(database, message + _CANNOT_WRITE)
    return DatabaseError(database, message)


def _room(path: object) -> float:
    """Return how many bytes have room beside a file."""
    import shutil  # late: only where something is wrong

    with suppress(OSError, ValueError):
        return shutil.disk_usage(os.path.split(str(path))[0]).free
    return _MUCH


_SHM: Final = 1 << 15  # bytes, without which no WAL is read
_MUCH: Final = 1 << 24  # bytes: a file with so much room beside it is not what has none
_TEMPORARY: Final = " (that of temporary files; set SQLITE_TMPDIR to a folder on another)"
_CANNOT_WRITE: Final = "; check the disk, and your quota on it"
_CANNOT_OPEN: Final = "; check the permissions of its folder, and how many files are open"


def _cause(error: BaseException) -> BaseException | None:
    """Return what Peewee wrapped, which may be wrapped twice; it goes by names, also for ours."""
    cause: BaseException | None = error
    while isinstance(cause, pw.PeeweeException) and not isinstance(cause, VoicesError):
        cause = getattr(cause, "orig", None)
    return cause


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
    return message
