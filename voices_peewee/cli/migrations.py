"""Commands for migrations."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import click

from voices_peewee.cli import completion, options
from voices_peewee.cli.common import (
    backed_up,
    command,
    confirm,
    pass_manager,
    plural,
    progress_bar,
    say,
    say_backup,
    write,
    write_path,
)
from voices_peewee.cli.output import View
from voices_peewee.rendering.table import Column

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager

_COLUMNS: Final = (
    Column("name"),
    Column("state"),
    Column("applied_at", "time", "applied"),
    Column("path", "path"),
)


@command(example="voices --migrations-dir own create-migration add_language")
@click.argument("name")
@click.option("--empty", is_flag=True, help="Write an empty file to fill in.")
@pass_manager
def create_migration(manager: DatabaseManager, name: str, *, empty: bool) -> None:
    """Write what the models have and the migrations lack.

    NAME is lower-case words joined by '_'. The new file goes to --migrations-dir, or in a
    checkout to the package's own migrations; its path is printed, and what it leaves to be
    written by hand is said. For an application's own models there is
    DatabaseManager.create_migration(NAME, models=[...]).
    """
    write_path(manager.create_migration(name, empty=empty))
    say(*manager.migration_notes)


@command(example="voices run-migrations")
@click.option(
    "--to",
    metavar="NAME",
    shell_complete=completion.migrations,
    help="The last migration to apply.",
)
@options.no_backup
@pass_manager
def run_migrations(manager: DatabaseManager, to: str | None, *, no_backup: bool) -> None:
    """Apply the pending migrations.

    All are applied or none. Prints their names.
    """
    with closing(manager):
        with progress_bar("Migrating") as progress:
            options = {"to": to, "create": False, "on_progress": progress}
            applied = backed_up(manager.run_migrations, backup=not no_backup, **options)
        _print_names(manager, applied, "applied")


@command(example="voices rollback-migration --steps 1 --yes")
@click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", default=1, help="How many.  [default: 1]"
)
@options.no_backup
@options.yes
@pass_manager
def rollback_migration(manager: DatabaseManager, steps: int, *, no_backup: bool, yes: bool) -> None:
    """Undo the newest migrations, with the data they hold.

    Prints their names.
    """
    what = f"the newest {plural(steps, 'migration')} of {manager.path!r}"
    with closing(manager):
        confirm(f"Undo {what}? Their columns and rows are lost.", yes=yes)
        undone = backed_up(manager.rollback_migration, backup=not no_backup, steps=steps)
        _print_names(manager, undone, "undone")


@command(example="voices list-migrations state:pending")
@options.lists
@pass_manager
def list_migrations(manager: DatabaseManager, view: View) -> None:
    """List the migrations: applied, pending or unknown."""
    rows = [
        (one.name, one.state, one.applied_at, None if one.path is None else str(one.path))
        for one in manager.migration_status()
    ]
    view.show_records("migration", _COLUMNS, rows, default=3)


def _print_names(manager: DatabaseManager, names: list[str], state: str) -> None:
    say_backup(manager)
    write(f"{name}\n" for name in names)
    say(f"{plural(len(names), 'migration')} {state}")
