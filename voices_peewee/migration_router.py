"""Run migration files with peewee-migrate; imported late, because peewee-migrate is slow to load.

Only ``voices_peewee.migrations`` may use this: it holds the lock, keeps foreign keys off
and makes the whole of it one transaction.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import peewee as pw
from peewee_migrate.migrator import Migrator
from peewee_migrate.router import BaseRouter

from voices_peewee.errors import MigrationError

Step = Callable[..., object]


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(sep=" ", timespec="microseconds")


class SafeRouter(BaseRouter):
    """Replay, apply and revert the migrations of several directories as one ordered list.

    It differs from peewee-migrate's own routers in that it keeps its history model to itself,
    replays without patching peewee for the whole process, and creates no folder.
    Use a new one for each step: after a failure the old one holds stale operations.
    """

    def __init__(self, database: pw.Database, paths: Mapping[str, Path], table: str) -> None:
        super().__init__(database, migrate_table=table)
        self.paths = paths

    @cached_property
    def model(self) -> type[pw.Model]:
        """The history table's model, bound to this router's database alone."""

        class History(pw.Model):
            name = pw.CharField(unique=True)
            migrated_at = pw.DateTimeField(default=_now)

            class Meta:
                database = self.database
                table_name = self.migrate_table
                legacy_table_names = False

        History.create_table(safe=True)
        return History

    @property
    def todo(self) -> list[str]:
        """Every migration's name, in order."""
        return list(self.paths)

    def read(self, name: str) -> tuple[Step | None, Step | None]:
        """Return a file's migrate and rollback functions."""
        path = self.paths[name]
        scope: dict[str, Step] = {}
        scope.update(__name__=f"migration_{name}", __file__=str(path))  # type: ignore[arg-type]
        exec(compile(path.read_text("utf-8"), str(path), "exec", dont_inherit=True), scope)
        return scope.get("migrate"), scope.get("rollback")

    def run_one(
        self,
        name: str,
        migrator: Migrator,
        *,
        fake: bool = True,
        downgrade: bool = False,
        force: bool = False,
    ) -> str:
        """Apply a migration, revert it, or only follow what it does to the models (fake)."""
        verb = "rollback of" if downgrade else "migration"
        try:
            self._run(name, migrator, fake=fake, downgrade=downgrade)
        except MigrationError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, pw.DatabaseError) else _spell(error)
            raise MigrationError(
                f"{verb} {name!r} failed: {reason}; the database is as it was"
            ) from error
        return name

    def _run(self, name: str, migrator: Migrator, *, fake: bool, downgrade: bool) -> None:
        step = self.read(name)[downgrade]
        if step is None:
            function = "rollback" if downgrade else "migrate"
            raise MigrationError(f"migration {name!r} has no {function} function")
        step(migrator, self.database, fake=fake)
        if fake:
            migrator.__ops__ = []
            return
        migrator()
        if downgrade:
            self.model.delete().where(self.model.name == name).execute()
        else:
            self.model.create(name=name)

    def apply(self, name: str) -> None:
        """Apply one migration and record it."""
        self.run_one(name, self.migrator, fake=False)

    def revert(self, name: str) -> None:
        """Undo one migration and forget it."""
        self.run_one(name, self.migrator, fake=False, downgrade=True)


def _spell(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
