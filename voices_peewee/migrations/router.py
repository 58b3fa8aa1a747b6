"""peewee-migrate's Router, made safe for databases that hold rows.

Imported late, because peewee-migrate is slow to load. Only ``runner`` may use it on a database
of somebody: it holds the lock, keeps foreign keys off and makes the whole of it one transaction.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import peewee as pw
from peewee_migrate import migrator as stock
from peewee_migrate.router import Router
from playhouse.migrate import operation

from voices_peewee.database.results import run_sql
from voices_peewee.errors import MigrationError

_Step = Callable[..., object]
F = TypeVar("F", bound=Callable[..., object])


class SafeRouter(Router):
    """Apply and roll back the migrations of several directories as one ordered list.

    The stock Router replays what is applied with peewee patched for the whole process, keeps
    one history model for all databases, and drops the triggers of a table that it rebuilds.
    Make a new one for each step back: it holds the models as the applied migrations left them.
    """

    database: pw.Database

    def __init__(
        self, database: pw.Database, paths: Mapping[str, Path], history_table: str
    ) -> None:
        super().__init__(
            database, Path(), migrate_table=history_table, migrator_class=_SafeMigrator
        )
        self.paths = paths
        self.on_step: Callable[[int, int], None] | None = None

    @property
    def todo(self) -> list[str]:
        """The names of all migrations, in the order in which they apply."""
        return list(self.paths)

    @cached_property
    def model(self) -> Any:
        """The history of this database alone."""

        class History(pw.Model):
            name = pw.CharField(unique=True)
            migrated_at = pw.DateTimeField(default=_now)

            class Meta:
                database = self.database
                table_name = self.migrate_table
                legacy_table_names = False

        History.create_table(safe=True)
        return History

    def read(self, name: str) -> tuple[_Step, _Step]:
        """Return the two functions of a migration file."""
        path = self.paths[name]
        code = compile(path.read_text("utf-8"), str(path), "exec", dont_inherit=True)
        scope: dict[str, Any] = {"__name__": f"migration_{name}", "__file__": str(path)}
        exec(code, scope)  # noqa: S102 - a migration is code
        migrate, rollback = (
            scope.get(function) or _missing(name, function) for function in ("migrate", "rollback")
        )
        return migrate, rollback

    def run_one(
        self,
        name: str,
        migrator: stock.Migrator,
        *,
        fake: bool = True,
        downgrade: bool = False,
        force: bool = False,  # noqa: ARG002 - only applying as fake knows it
    ) -> str:
        """Apply, roll back or only replay one migration."""
        with _explained(f"rollback of {name!r}" if downgrade else f"migration {name!r}"):
            if fake:
                self.read(name)[0](migrator, self.database, fake=True)
                migrator.__ops__ = []
                return name
            triggers = self._triggers()
            migrator.on_step = self.on_step  # type: ignore[attr-defined] # it is a _SafeMigrator
            super().run_one(name, migrator, fake=False, downgrade=downgrade)
            self._restore(triggers, self.paths[name].read_text("utf-8"))
        return name

    def _triggers(self) -> dict[str, tuple[str, str]]:
        if not isinstance(self.database, pw.SqliteDatabase):
            return {}  # a server changes a table without building it anew
        query = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
        return {name: (table, sql) for name, table, sql in run_sql(self.database, query)}

    def _restore(self, triggers: Mapping[str, tuple[str, str]], source: str) -> None:
        """Put back the triggers that fell with a table or view that was made anew.

        A migration that wants a trigger gone, or writes it anew, says its name.
        """
        present, views = self._triggers(), [view.name for view in self.database.get_views()]
        tables = {one.lower() for one in [*self.database.get_tables(), *views]}
        for name, (table, sql) in triggers.items():
            named = re.search(rf"\b{re.escape(name)}\b", source)
            if name not in present and table.lower() in tables and not named:
                run_sql(self.database, sql)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(sep=" ", timespec="microseconds")


def _missing(name: str, function: str) -> _Step:
    def refuse(*_: object, **__: object) -> None:
        raise MigrationError(f"migration {name!r} has no {function} function")

    return refuse


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn whatever a migration file raises into one sentence."""
    try:
        yield
    except MigrationError:
        raise
    except Exception as error:
        name = "" if isinstance(error, pw.DatabaseError) else type(error).__name__
        reason = ": ".join(filter(None, [name, str(error)]))
        raise MigrationError(f"{what} failed: {reason}; the database is as it was") from error


@contextmanager
def plain_indexes(models: Sequence[type[pw.Model]]) -> Iterator[None]:
    """Put aside the indexes for which peewee-migrate has no words: those of ``Model.add_index``."""
    special: list[tuple[Any, list[pw.Node]]] = []
    try:
        for meta in (model._meta for model in models):
            special.append((meta, [one for one in meta.indexes if isinstance(one, pw.Node)]))
            meta.indexes = [one for one in meta.indexes if not isinstance(one, pw.Node)]
        yield
    finally:
        for meta, indexes in special:
            meta.indexes += indexes


def _operation(function: F) -> F:
    return cast("F", operation(function))


# What the rebuild's reading of CREATE TABLE would lose without a word.
_UNREADABLE: Final = re.compile(r"'[^']*\s{2}[^']*'|\)\s*(?:STRICT|WITHOUT\s+ROWID)\W*$", re.I)


class _SqliteOperations(stock.SqliteMigrator):
    """Rebuild tables under views, and refuse those that a rebuild would change."""

    @_operation
    def _update_column(self, table: str, column: str, change: Callable[..., Any]) -> object:
        found = self._get_create_table(table)
        if found is not None and _UNREADABLE.search(found[1]):
            raise ValueError(f"table {table!r} can only be rebuilt by hand, in SQL")
        rebuild = super()._update_column(table, column, change)
        # Without it SQLite compiles every view while the table is gone.
        setting = "PRAGMA legacy_alter_table = "
        return [pw.SQL(f"{setting}1"), rebuild, pw.SQL(f"{setting}0")]


class _PostgresOperations(stock.PostgresqlMigrator):
    """Overlook what only a rebuild of SQLite needs."""

    @_operation
    def drop_column(self, table: str, column: str, **options: Any) -> Any:
        options.pop("legacy", None)
        return super().drop_column(table, column, **options)


class _SafeMigrator(stock.Migrator):
    """peewee-migrate's words, without what loses values or fails on this package's models."""

    def __init__(self, database: pw.Database) -> None:
        super().__init__(database)
        on_file = isinstance(database, pw.SqliteDatabase)
        self.__migrator__ = (_SqliteOperations if on_file else _PostgresOperations)(database)

    on_step: Callable[[int, int], None] | None = None

    def __call__(self) -> None:
        """Do all steps of a migration; tell after each how many of them are done."""
        if tell := self.on_step:
            steps, self.__ops__, total = self.__ops__, [], len(self.__ops__)
            for done, step in enumerate(steps, 1):
                self.__ops__ += [step, lambda done=done: tell(done, total)]
        super().__call__()  # type: ignore[no-untyped-call]

    def add_default(self, model: Any, name: str, default: Any) -> Any:
        """Refuse: the stock one writes the default over every row's value."""
        raise NotImplementedError(
            f"add_default would overwrite {name!r} of every row; "
            "use migrator.sql('UPDATE … WHERE … IS NULL')"
        )

    def drop_index(self, model: Any, *columns: str) -> Any:
        """Drop the index of these fields, also beside a ``Model.add_index``."""
        with plain_indexes([self.__get_model__(model)]):
            return super().drop_index(model, *columns)

    def __del_field__(self, model: type[pw.Model], field: pw.Field) -> None:
        # Two foreign keys to one table share one backref name, which the first one took away.
        with suppress(AttributeError):
            super().__del_field__(model, field)
