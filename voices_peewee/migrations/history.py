"""Which migrations there are, and which are applied; peewee-migrate is not loaded for it."""

from __future__ import annotations

import datetime as dt
import os
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import peewee as pw

from voices_peewee.database.results import run_sql
from voices_peewee.errors import DatabaseNewerError, MigrationError
from voices_peewee.schema.fields import UTCDateTimeField

HISTORY_TABLE: Final = "schema_migrations"
_IS_THERE: Final = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?"
NAME: Final = re.compile(r"[0-9]{3}_[^.]+\.py")


@cache
def package_directory() -> Path:
    """Return the directory of this package's own migrations, which may be inside a zip file."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migration_files"  # in a checkout they stand beside the package
    if package.is_dir():
        return installed if installed.is_dir() else package.parent / "migrations"
    from importlib import resources  # late: it takes 4 ms, which an installed package shall not pay

    zipped: Any = resources.files("voices_peewee") / "migration_files"
    return zipped  # type: ignore[no-any-return] # it has what is asked of a Path here


def is_installed(directory: Path) -> bool:
    """Whether a directory is the package's own and no checkout's."""
    own = package_directory()
    is_own = os.path.realpath(str(directory)) == os.path.realpath(str(own))
    return is_own and not (own.parent / "setup.cfg").is_file()


def names(directories: Sequence[Path]) -> list[str]:
    """Return the migrations' names in the order in which they apply."""
    # The package's own do not change under a program that has loaded its models.
    if list(directories) == [package_directory()]:
        return list(_own_names())
    return list(paths(directories))


@cache
def _own_names() -> tuple[str, ...]:
    return tuple(paths([package_directory()]))


forget: Final = _own_names.cache_clear  # once a file was written


def paths(directories: Sequence[Path]) -> dict[str, Path]:
    """Return the migrations' files by their names, in order; refuse what could not apply."""
    found: dict[str, Path] = {}
    for directory in dict.fromkeys(directories):
        for path in _files(directory):
            if path.stem in found:
                first = str(found[path.stem].parent)
                raise MigrationError(
                    f"migration {path.stem!r} is in both {first!r} and {str(directory)!r}; "
                    "rename one of them"
                )
            found[path.stem] = path
    return found


def _files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        raise MigrationError(f"there is no migrations directory {str(directory)!r}")
    migrations = (path for path in directory.iterdir() if NAME.fullmatch(path.name))
    return sorted(migrations, key=lambda path: path.name)


@dataclass(frozen=True)
class MigrationState:
    """One migration: applied, pending, or unknown (applied, but its file is not here)."""

    name: str
    state: Literal["applied", "pending", "unknown"]
    applied_at: dt.datetime | None
    path: Path | None


def applied(database: pw.Database) -> list[str]:
    """Return the names of the applied migrations, oldest first, with one SELECT."""
    return [str(name) for (name,) in _recorded(database, "name")]


def pending(database: pw.Database, directories: Sequence[Path]) -> list[str]:
    """Return the names that are still to be applied, in order; refuse a newer database."""
    known, done = names(directories), applied(database)
    if known == done:
        return []
    if unknown := [name for name in done if name not in known]:
        raise DatabaseNewerError(label(database), unknown)
    return [name for name in known if name not in done]


def status(database: pw.Database, directories: Sequence[Path]) -> list[MigrationState]:
    """Return every migration's state, the unknown ones last; nothing is written."""
    files = paths(directories)
    time_of = UTCDateTimeField().python_value
    done = {str(name): time_of(text) for name, text in _recorded(database, "name, migrated_at")}
    known = [
        MigrationState(name, "applied" if name in done else "pending", done.get(name), path)
        for name, path in files.items()
    ]
    unknown = [name for name in done if name not in files]
    return [*known, *(MigrationState(name, "unknown", done[name], None) for name in unknown)]


def label(database: pw.Database) -> str:
    """Return the database's name for messages."""
    return str(getattr(database, "label", database.database))


def _recorded(database: pw.Database, columns: str) -> list[Any]:
    # On a server a statement that fails would end the transaction, and to_regclass() would
    # remember what was there before another process migrated.
    sql = f'SELECT {columns} FROM "{HISTORY_TABLE}" ORDER BY id'  # noqa: S608
    if not isinstance(database, pw.SqliteDatabase):
        return run_sql(database, sql) if run_sql(database, _IS_THERE, HISTORY_TABLE) else []
    connection: Any = database.connection()
    try:
        # The driver's own cursor: every connect() asks, and ours takes a fifth longer.
        rows: list[Any] = sqlite3.Connection.execute(connection, sql).fetchall()
    except sqlite3.OperationalError as error:
        if str(error) == f"no such table: {HISTORY_TABLE}":
            return []
        if str(error).startswith("Could not decode"):  # ours keeps such bytes
            return list(connection.execute(sql))
        raise pw.OperationalError(error, *error.args) from error
    return rows
