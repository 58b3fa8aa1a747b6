"""Apply, roll back and create migrations.

Nothing here loads peewee-migrate before something is to be done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import peewee as pw

from voices_peewee.database.results import run_sql
from voices_peewee.errors import MigrationError
from voices_peewee.migrations.guard import checked, locked
from voices_peewee.migrations.history import HISTORY_TABLE as HISTORY_TABLE
from voices_peewee.migrations.history import NAME, forget, is_installed
from voices_peewee.migrations.history import MigrationState as MigrationState
from voices_peewee.migrations.history import applied as applied
from voices_peewee.migrations.history import names as names
from voices_peewee.migrations.history import package_directory as package_directory
from voices_peewee.migrations.history import paths as find
from voices_peewee.migrations.history import pending as pending
from voices_peewee.migrations.history import status as status

if TYPE_CHECKING:
    from voices_peewee.migrations.router import SafeRouter

_WORDS: Final = re.compile(r"[a-z0-9_]+")


def upgrade(
    database: pw.Database,
    directories: Sequence[Path],
    *,
    to: str | None = None,
    before: Callable[[list[str]], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Apply the pending migrations, up to and with ``to``, as one transaction; return their names.

    ``before`` is called with the names once the lock is held and before the first change,
    unless the database is new; ``on_progress`` with the steps of a migration that are done, and
    how many it has.
    """
    paths = find(directories)
    wanted = list(paths) if to is None else list(paths)[: _position(to, paths) + 1]

    def missing() -> list[str]:
        return [name for name in pending(database, directories) if name in wanted]

    if not missing():
        return []
    with locked(database):
        todo = missing()  # another process may have applied them while this one waited
        if before and todo and applied(database):
            before(todo)
        if todo:
            with checked(database):
                router = _router(database, paths)
                router.on_step = on_progress
                router.run(todo[-1])
    return todo


def rollback(
    database: pw.Database,
    directories: Sequence[Path],
    *,
    steps: int = 1,
    before: Callable[[list[str]], None] | None = None,
) -> list[str]:
    """Undo the newest migrations as one transaction; return their names.

    Undoing all leaves no history table. ``before`` is called as by ``upgrade``.
    """
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps}")
    paths = find(directories)
    if not applied(database):
        return []
    with locked(database):
        pending(database, directories)  # refuses a database that is newer than these directories
        todo = applied(database)[-steps:][::-1]
        if before and todo:
            before(todo)
        with checked(database):
            for _ in todo:
                _router(database, paths).rollback()  # type: ignore[no-untyped-call]
            if todo and not applied(database):
                run_sql(database, f'DROP TABLE "{HISTORY_TABLE}"')
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

    The last of the directories gets the file. Returned are its path, and sentences on what has
    to be written by hand.
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
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MigrationError(f"cannot make {str(directory)!r}: {error.strerror}") from error
    paths = find(directories)
    own = [int(known[:3]) for known, path in paths.items() if path.parent == directory]
    path = directory / f"{max(own, default=0) + 1:03}_{name}.py"
    if path.stem in paths or not NAME.fullmatch(path.name):
        raise MigrationError(f"cannot name a migration {path.stem!r}; choose another name")
    from voices_peewee.migrations import writer

    notes = writer.write(path, models, paths, history_table=HISTORY_TABLE, empty=empty)
    forget()
    return path, notes


def _position(name: str, known: dict[str, Path]) -> int:
    if name in known:
        return list(known).index(name)
    raise MigrationError(f"there is no migration {name!r}; see 'voices list-migrations'")


def _router(database: pw.Database, paths: dict[str, Path]) -> SafeRouter:
    from voices_peewee.migrations.router import SafeRouter

    return SafeRouter(database, paths, HISTORY_TABLE)
