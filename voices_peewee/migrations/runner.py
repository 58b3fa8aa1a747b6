"""Which migrations there are, which are applied, and applying and rolling them back safely.

Nothing here loads peewee-migrate before something is to be done. A run is one transaction
that holds the only write lock; foreign keys are off outside of it and checked before it ends,
because a table rebuild with foreign keys on empties the child tables.
"""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import peewee as pw

from voices_peewee.database.sqlite import run_sql
from voices_peewee.errors import DatabaseBusyError, DatabaseNewerError, MigrationError
from voices_peewee.migrations.files import NAME, is_installed
from voices_peewee.migrations.files import names as names
from voices_peewee.migrations.files import package_directory as package_directory
from voices_peewee.migrations.files import paths as find

if TYPE_CHECKING:
    from voices_peewee.migrations.router import SafeRouter

HISTORY_TABLE: Final = "schema_migrations"

_IS_THERE: Final = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?"

_WORDS: Final = re.compile(r"[a-z0-9_]+")
_PAUSE: Final = 0.02  # s between two attempts at a lock

T = TypeVar("T")


@dataclass(frozen=True)
class MigrationState:
    """One migration: applied, pending, or unknown (applied, but its file is not here)."""

    name: str
    state: Literal["applied", "pending", "unknown"]
    applied_at: dt.datetime | None
    path: Path | None


def applied(database: pw.Database) -> list[str]:
    """Return the names of the applied migrations, oldest first, with one SELECT."""
    return [name for (name,) in _recorded(database, "name")]


def _recorded(database: pw.Database, columns: str) -> list[Any]:
    # On a server a statement that fails would end the transaction, and to_regclass() would
    # remember what was there before another process migrated.
    sql = f'SELECT {columns} FROM "{HISTORY_TABLE}" ORDER BY id'  # noqa: S608
    if not isinstance(database, pw.SqliteDatabase):
        return run_sql(database, sql) if run_sql(database, _IS_THERE, HISTORY_TABLE) else []
    try:
        rows: list[Any] = database.connection().execute(sql).fetchall()
    except sqlite3.OperationalError as error:
        if str(error) == f"no such table: {HISTORY_TABLE}":
            return []
        raise pw.OperationalError(error, *error.args) from error
    return rows


def _history(database: pw.Database) -> dict[str, dt.datetime | None]:
    rows = _recorded(database, "name, migrated_at")
    return {name: _time(migrated_at) for name, migrated_at in rows}


def _time(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    time = dt.datetime.fromisoformat(text)
    return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)


def pending(database: pw.Database, directories: Sequence[Path]) -> list[str]:
    """Return the names that are still to be applied, in order.

    Raises:
        DatabaseNewerError: The database has migrations that no directory has.
        MigrationError: As ``names`` does.
    """
    known, done = names(directories), applied(database)
    if known == done:
        return []
    if unknown := [name for name in done if name not in known]:
        raise DatabaseNewerError(_label(database), unknown)
    return [name for name in known if name not in done]


def status(database: pw.Database, directories: Sequence[Path]) -> list[MigrationState]:
    """Return every migration's state, the unknown ones last; nothing is written.

    Raises:
        MigrationError: As ``names`` does.
    """
    paths, done = find(directories), _history(database)
    known = [
        MigrationState(name, "applied" if name in done else "pending", done.get(name), path)
        for name, path in paths.items()
    ]
    return known + [
        MigrationState(name, "unknown", time, None)
        for name, time in done.items()
        if name not in paths
    ]


def upgrade(
    database: pw.Database,
    directories: Sequence[Path],
    *,
    to: str | None = None,
    before: Callable[[list[str]], None] | None = None,
) -> list[str]:
    """Apply the pending migrations, up to and with ``to``, as one transaction; return their names.

    ``before`` is called with the names once the lock is held and before the first change,
    unless the database is new.

    Raises:
        MigrationError: A migration failed, ``to`` is unknown, or as ``names`` does.
        DatabaseNewerError: The database has migrations that no directory has.
        DatabaseBusyError: Another program kept the lock for longer than the timeout.
    """
    paths = find(directories)
    wanted = list(paths) if to is None else list(paths)[: _position(to, paths) + 1]

    def missing() -> list[str]:
        return [name for name in pending(database, directories) if name in wanted]

    _require_known(database)
    with _translated(database):
        if not _patiently(database, missing):
            return []
        with _locked(database):
            todo = missing()  # another process may have applied them while this one waited
            if before and todo and applied(database):
                before(todo)
            if todo:
                _apply(database, paths, todo)
    return todo


def rollback(
    database: pw.Database,
    directories: Sequence[Path],
    *,
    steps: int = 1,
    to: str | None = None,
    before: Callable[[list[str]], None] | None = None,
) -> list[str]:
    """Undo the newest migrations, or all after ``to``, as one transaction; return their names.

    Undoing all leaves no history table. ``before`` is called with the names once the lock is
    held and before the first change.

    Raises:
        ValueError: ``steps`` is less than 1.
        MigrationError: A rollback failed or is missing, ``to`` is not applied, or as ``names``.
        DatabaseNewerError: The database has migrations that no directory has.
        DatabaseBusyError: Another program kept the lock for longer than the timeout.
    """
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps}")
    paths = find(directories)
    _require_known(database)
    with _translated(database):
        if to is None and not _patiently(database, lambda: applied(database)):
            return []
        with _locked(database):
            todo = _newest(database, directories, steps=steps, to=to)
            if before and todo:
                before(todo)
            if todo:
                _revert(database, paths, todo)
    return todo


def create(
    name: str,
    models: Sequence[type[pw.Model]],
    directories: Sequence[Path],
    *,
    empty: bool = False,
) -> tuple[Path, list[str]]:
    """Write the difference between models and migrations as the next file of a directory.

    Nothing but memory is migrated to find the difference, and the file is tried there. No table
    is dropped, nor a column of a table that another directory made.

    Args:
        name: Lower-case letters, digits and ``_``.
        models: What the schema shall be.
        directories: All migrations that apply, in order; the last one gets the file, and is
            made where it is missing.
        empty: Write a file to fill in, without looking; so is a file where nothing differs.

    Returns:
        The file, and sentences on what has to be written by hand.

    Raises:
        MigrationError: The directory is an installed package's, the name is not valid or taken,
            the file cannot be written, or as ``names``.
    """
    directory = directories[-1]
    if is_installed(directory):
        raise MigrationError(
            "the package's own migrations are written in its checkout; for yours run "
            f"'voices --migrations-dir migrations create-migration {name}', and name that "
            "folder in VOICES_MIGRATIONS_DIR for every other command"
        )
    if not _WORDS.fullmatch(name):
        raise MigrationError(
            f"{name!r} is not a migration's name; use lower-case letters, digits and '_'"
        )
    _make_directory(directory)
    paths = find(directories)
    own = [int(known[:3]) for known, path in paths.items() if path.parent == directory]
    path = directory / f"{max(own, default=0) + 1:03}_{name}.py"
    if path.stem in paths or not NAME.fullmatch(path.name):
        raise MigrationError(f"cannot name a migration {path.stem!r}; choose another name")
    with _current_directory():
        from voices_peewee.migrations import writer
    return path, writer.write(path, models, paths, history_table=HISTORY_TABLE, empty=empty)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MigrationError(f"cannot make {str(directory)!r}: {error.strerror}") from error


def _newest(
    database: pw.Database, directories: Sequence[Path], *, steps: int, to: str | None
) -> list[str]:
    pending(database, directories)  # refuses a database that is newer than these directories
    done = applied(database)
    keep = len(done) - steps if to is None else _position(to, done, "applied migration") + 1
    return done[max(keep, 0) :][::-1]


def _position(name: str, known: Sequence[str] | dict[str, Path], what: str = "migration") -> int:
    listed = list(known)
    if name in listed:
        return listed.index(name)
    from difflib import get_close_matches  # late: a slow import that only errors need

    near = get_close_matches(name, listed, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?" if near else "see 'voices list-migrations'"
    )
    raise MigrationError(f"there is no {what} {name!r}; {hint}")


def _apply(database: pw.Database, paths: dict[str, Path], todo: list[str]) -> None:
    with _checked(database):
        _router(database, paths).run(todo[-1])


def _revert(database: pw.Database, paths: dict[str, Path], todo: list[str]) -> None:
    with _checked(database):
        for _ in todo:
            _router(database, paths).rollback()  # type: ignore[no-untyped-call]
        if not applied(database):
            run_sql(database, f'DROP TABLE "{HISTORY_TABLE}"')


def _router(database: pw.Database, paths: dict[str, Path]) -> SafeRouter:
    with _current_directory():
        from voices_peewee.migrations.router import SafeRouter
    return SafeRouter(database, paths, HISTORY_TABLE)


@contextmanager
def _current_directory() -> Iterator[None]:
    """Say what is missing when peewee-migrate asks for the current directory on its import."""
    try:
        yield
    except FileNotFoundError as error:
        raise MigrationError(
            "the current directory does not exist any more; change to another one"
        ) from error


def _require_known(database: pw.Database) -> None:
    if not isinstance(database, pw.SqliteDatabase | pw.PostgresqlDatabase):
        raise MigrationError(
            f"cannot migrate {database.database!r}: it is neither SQLite nor PostgreSQL"
        )


def _label(database: pw.Database) -> str:
    """Return the database's name for messages."""
    return str(getattr(database, "label", database.database))


@contextmanager
def _translated(database: pw.Database) -> Iterator[None]:
    try:
        yield
    except pw.OperationalError as error:
        if not _is_busy(error):
            raise
        raise DatabaseBusyError(_label(database), _timeout(database)) from error


def _timeout(database: pw.Database) -> float:
    return float(getattr(database, "timeout", 0.0))


def _is_busy(error: pw.OperationalError) -> bool:
    return str(error) == "database is locked"


def _patiently(database: pw.Database, action: Callable[[], T]) -> T:
    """Repeat what SQLite refuses at once, without waiting, while a new WAL file is made."""
    deadline = time.monotonic() + _timeout(database)
    while True:
        try:
            return action()
        except pw.OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)


@contextmanager
def _locked(database: pw.Database) -> Iterator[None]:
    """Hold the only write lock, foreign keys off, in one transaction."""
    if database.in_transaction():
        raise MigrationError("cannot migrate inside a transaction; leave it first")
    if not isinstance(database, pw.SqliteDatabase):
        with database.atomic():
            run_sql(database, "SELECT pg_advisory_xact_lock(hashtextextended(?, 7))", HISTORY_TABLE)
            yield
        return
    foreign_keys = database.pragma("foreign_keys")
    database.pragma("foreign_keys", 0)
    try:
        with ExitStack() as stack:
            _patiently(database, lambda: stack.enter_context(database.atomic("IMMEDIATE")))
            yield
    finally:
        database.pragma("legacy_alter_table", 0)  # a rebuild that failed leaves it on
        database.pragma("foreign_keys", foreign_keys)


@contextmanager
def _checked(database: pw.Database) -> Iterator[None]:
    """Refuse faults that were not there before; a server refuses them by itself."""
    if not isinstance(database, pw.SqliteDatabase):
        yield
        return
    before = _faults(database)
    yield
    for fault in _faults(database) - before:
        raise MigrationError(f"the migrations leave {fault}; the database is as it was")


def _faults(database: pw.SqliteDatabase) -> Counter[str]:
    """Count rows that point nowhere, and find a view or trigger that does not compile."""
    return Counter([*_orphans(database), *_broken(database)])


def _orphans(database: pw.SqliteDatabase) -> list[str]:
    try:
        rows = run_sql(database, "PRAGMA foreign_key_check")
    except pw.OperationalError as error:
        return [f"a {error}"]
    return [
        f"rows of {child!r} that point to nothing in {parent!r}" for child, _, parent, _ in rows
    ]


def _broken(database: pw.SqliteDatabase) -> list[str]:
    """Rename a table, which makes SQLite compile every view and trigger."""
    run_sql(database, 'CREATE TABLE "voices_probe" (x)')
    try:
        run_sql(database, 'ALTER TABLE "voices_probe" RENAME TO "voices_probe_2"')
    except pw.OperationalError as error:
        run_sql(database, 'DROP TABLE "voices_probe"')
        return [f"an {error}"]
    run_sql(database, 'DROP TABLE "voices_probe_2"')
    return []
