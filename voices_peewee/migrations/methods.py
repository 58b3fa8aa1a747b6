"""The manager's methods for migrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import peewee as pw

from voices_peewee.database.store import Store
from voices_peewee.migrations import runner as migrations
from voices_peewee.schema.models import MODELS


class CanMigrate(Protocol):
    """What migrations rely on: where they are, and opening the database as it is."""

    directories: Sequence[Path]  # where the migrations are: the package's, then an application's

    def as_it_is(self) -> AbstractContextManager[Store]:
        """Give the open database, or open it for a look, whatever its migrations are."""

    def back_up_first(self, _: list[str]) -> None:
        """Back up before a change of many rows."""

    def _migrating(self, *, create: bool) -> AbstractContextManager[Store]:
        """Open for a change of schema; afterwards bind if the database is up to date."""


class MigrationMethods(CanMigrate):
    """The manager's methods for migrations."""

    migration_notes: Sequence[str] = ()
    """What the last migration that was created leaves to be written by hand."""

    def run_migrations(
        self,
        *,
        to: str | None = None,
        backup: bool = True,
        create: bool = True,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """Apply the pending migrations, connect and return the names that were applied.

        Args:
            to: The last migration to apply; None applies all. Only a database that is up
                to date stays connected.
            backup: Back a populated database up first.
            create: Create the database when there is none.
            on_progress: Called with how many steps of a migration are done, and how many it has.

        Raises:
            DatabaseMissingError: There is no database and ``create`` is false.
            NotVoicesError: The file is something else.
            MigrationError: A migration failed; the database is as it was.
            DatabaseNewerError: The database is newer than this code.
            AlreadyConnectedError: The models are bound to another database.
        """
        with self._migrating(create=create) as store:
            if to is None and not migrations.pending(store.database, self.directories):
                return []
            before = self.back_up_first if backup else None
            return migrations.upgrade(
                store.database, self.directories, to=to, before=before, on_progress=on_progress
            )

    def rollback_migration(self, *, steps: int = 1, backup: bool = True) -> list[str]:
        """Roll the newest migrations back, disconnect and return their names.

        Args:
            steps: How many.
            backup: Back a populated database up first.

        Raises:
            DatabaseMissingError: There is no database.
            MigrationError: A migration cannot be rolled back; the database is as it was.
        """
        with self._migrating(create=False) as store:
            before = self.back_up_first if backup else None
            return migrations.rollback(store.database, self.directories, steps=steps, before=before)

    def migration_status(self) -> list[migrations.MigrationState]:
        """Return every migration with its state; reads only.

        Raises:
            DatabaseMissingError: There is no database.
            NotVoicesError: The file is something else.
        """
        with self.as_it_is() as store, store.reading():
            return migrations.status(store.database, self.directories)

    def create_migration(
        self,
        name: str,
        *,
        models: Sequence[type[pw.Model]] | None = None,
        empty: bool = False,
    ) -> Path:
        """Write the difference between models and migrations as a new migration file.

        What has to be written by hand stands in the file and in ``migration_notes``. No table
        is dropped. The folder of ``migrations_dir`` is made where it is missing.

        Args:
            name: Lower-case words joined by ``_``.
            models: What the schema shall be beside this package's own models, which a model of
                the same table replaces.
            empty: Write an empty file to fill in, without looking for a difference.

        Raises:
            MigrationError: The name is not valid, the file cannot be written, or would be
                written into the installed package.
        """
        both: list[type[pw.Model]] = [*MODELS, *(models or ())]
        wanted = {model._meta.table_name: model for model in both}
        path, self.migration_notes = migrations.create(
            name, list(wanted.values()), self.directories, empty=empty
        )
        return path
