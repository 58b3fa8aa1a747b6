"""Run migration files with peewee-migrate; imported late, because peewee-migrate is slow to load.

Only ``voices_peewee.migrations`` may use this: it holds the lock, keeps foreign keys off
and makes the whole of it one transaction.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import peewee as pw

from voices_peewee.database.sqlite import run_sql
from voices_peewee.errors import MigrationError
from voices_peewee.migrations.operations import SafeMigrator

_Step = Callable[..., object]


class SafeRouter:
    """Apply and revert the migrations of several directories as one ordered list.

    It stands in the place of peewee-migrate's Router, which replays what is applied with
    peewee patched for the whole process, keeps one history model for all databases, and
    switches foreign keys off too late. Make a new one for each step back: it holds the
    models as the applied migrations left them.
    """

    def __init__(
        self, database: pw.Database, paths: Mapping[str, Path], history_table: str
    ) -> None:
        self.database, self.paths, self.history_table = database, paths, history_table
        self._history = _history_model(database, history_table)

    @cached_property
    def migrator(self) -> SafeMigrator:
        """The operations, with the models as the applied migrations left them."""
        migrator = SafeMigrator(self.database)
        self._history.create_table(safe=True)
        for row in self._history.select().order_by(self._history.id):
            with _explained(f"migration {row.name!r}"):
                self._step(row.name, "migrate")(migrator, self.database, fake=True)
            migrator.__ops__ = []
        return migrator

    def apply(self, name: str) -> None:
        """Apply one migration and record it.

        Raises:
            MigrationError: It failed, or has no migrate function.
        """
        migrator = self.migrator
        with _explained(f"migration {name!r}"):
            self._run(name, self._step(name, "migrate"), migrator)
            self._history.create(name=name)

    def revert(self, name: str) -> None:
        """Undo one migration and forget it.

        Raises:
            MigrationError: It failed, or has no rollback function.
        """
        migrator = self.migrator
        with _explained(f"rollback of {name!r}"):
            self._run(name, self._step(name, "rollback"), migrator)
            self._history.delete().where(self._history.name == name).execute()

    def _step(self, name: str, function: str) -> _Step:
        """Return a function of a migration file."""
        path = self.paths[name]
        code = compile(path.read_text("utf-8"), str(path), "exec", dont_inherit=True)
        scope: dict[str, Any] = {"__name__": f"migration_{name}", "__file__": str(path)}
        exec(code, scope)  # noqa: S102 - a migration is code
        if function not in scope:
            raise MigrationError(f"migration {name!r} has no {function} function")
        step: _Step = scope[function]
        return step

    def _run(self, name: str, step: _Step, migrator: SafeMigrator) -> None:
        triggers = self._triggers()
        step(migrator, self.database, fake=False)
        migrator()
        self._restore(triggers, self.paths[name].read_text("utf-8"))

    def _triggers(self) -> dict[str, tuple[str, str]]:
        if not isinstance(self.database, pw.SqliteDatabase):
            return {}  # a server changes a table without building it anew
        query = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
        return {name: (table, sql) for name, table, sql in run_sql(self.database, query)}

    def _restore(self, triggers: Mapping[str, tuple[str, str]], source: str) -> None:
        """Put back the triggers that fell with a table that was rebuilt in SQL.

        A migration that wants a trigger gone, or writes it anew, says its name.
        """
        present, tables = self._triggers(), self.database.get_tables()
        for name, (table, sql) in triggers.items():
            named = re.search(rf"\b{re.escape(name)}\b", source)
            if name not in present and table in tables and not named:
                run_sql(self.database, sql)


def _history_model(database: pw.Database, table: str) -> Any:
    """Return a model of the history for this database alone."""

    class History(pw.Model):
        name = pw.CharField(unique=True)
        migrated_at = pw.DateTimeField(default=_now)

        class Meta:
            table_name = table
            legacy_table_names = False

    History._meta.set_database(database)
    return History


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(sep=" ", timespec="microseconds")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn whatever a migration file raises into one sentence."""
    try:
        yield
    except MigrationError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, pw.DatabaseError) else _spelled(error)
        raise MigrationError(f"{what} failed: {reason}; the database is as it was") from error


def _spelled(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
