"""``DatabaseManager``: the one door to a Voices database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

import peewee as pw

from voices_peewee._version import __version__
from voices_peewee.database.files import MEMORY
from voices_peewee.database.query import Query
from voices_peewee.database.results import ResultList
from voices_peewee.database.server_url import as_server
from voices_peewee.database.store import Store
from voices_peewee.display.methods import DisplayMethods
from voices_peewee.errors import BackupError, DatabaseError, NotFoundError, VoicesError
from voices_peewee.exchange.methods import ExchangeMethods
from voices_peewee.lifecycle import Lifecycle
from voices_peewee.questions.methods import QuestionMethods
from voices_peewee.records.methods import RecordMethods
from voices_peewee.runs.methods import RunMethods
from voices_peewee.schema.models import (
    MODELS,
    BaseModel,
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)
from voices_peewee.search.methods import SearchMethods

if TYPE_CHECKING:
    from voices_peewee.upkeep.backup import Backup

M = TypeVar("M", bound=BaseModel)


class Restored(NamedTuple):
    """What a restore did: the backup of the state before (None: there was none), and its source."""

    saved: Backup | None
    restored: Backup


class DatabaseManager(
    Lifecycle,
    RecordMethods,
    RunMethods,
    SearchMethods,
    QuestionMethods,
    ExchangeMethods,
    DisplayMethods,
):
    """Opens one database, keeps it up to date and reads and writes its records.

    The models are bound to one database at a time, in the whole process. A manager may be
    used by many threads; each gets its own connection. A forked child uses it as it is; a
    pickled copy connects by itself when it is first used.

    Args:
        database: A path, ``":memory:"`` or a Peewee ``SqliteDatabase``; None means
            ``$VOICES_DB``, else ``~/.voices/voices.db``.
        timeout: How long to wait for another program's lock, in seconds.
        migrations_dir: An application's own migrations, applied after the package's.

    Raises:
        DatabaseError: The database is not one that can be named.
        InvalidValueError: The timeout is negative, or more than 1,000,000 s.

    Example:
        >>> with DatabaseManager(":memory:").initialize() as db:
        ...     db.create_speaker("Ada").name
        'Ada'
    """

    # Records

    def add(self, instance: M) -> M:
        """Write a new record, with the unsaved records that it refers to, and return it.

        Raises:
            InvalidValueError: A value breaks a rule of the schema.
        """
        return self.store.insert(instance)

    def add_all(self, instances: Iterable[M]) -> list[M]:
        """Write many new records, of one model or several, in one transaction; return them.

        Raises:
            InvalidValueError: A value breaks a rule of the schema; nothing was written.
        """
        return self.store.insert_all(instances)

    def add_many(self, model: type[BaseModel], rows: Iterable[Mapping[str, Any]]) -> int:
        """Write many records given as mappings in one transaction; return how many.

        Raises:
            InvalidValueError: A key is no field, or a value breaks a rule; nothing was written.
        """
        return self.store.insert_dicts(model, rows)

    def update(self, instance: M, **changes: Any) -> M:
        """Set the values given, write what changed in a record and return it.

        JSON fields are always written, since a change inside one cannot be seen.

        Raises:
            NotFoundError: The record is not in the database.
            InvalidValueError: A name is no field, or a value breaks a rule.
        """
        return self.store.update(instance, changes)

    def get_by_id(self, model: type[M], key: int) -> M | None:
        """Return the record with an id, or None when there is none."""
        return self.store.get(model, key)

    def get_all(self, model: type[M]) -> ResultList[M]:
        """Return every record of a model, by id."""
        store = self.store
        with store.reading():
            return store.query(model).order_by(model.id).all()

    def query(self, model: type[M]) -> Query[M]:
        """Return Peewee's select for a model, with ``filter_by``, ``all`` and ``first`` besides."""
        return self.store.query(model)

    @contextmanager
    def atomic(self) -> Iterator[Self]:
        """Make everything that is written inside one transaction."""
        with self.store.writing():
            yield self

    # The database itself

    def execute_raw_query(
        self,
        sql: str,
        params: Sequence[Any] | Mapping[str, Any] = (),
        *,
        write: bool = False,
    ) -> list[dict[str, Any]]:
        """Run one SQL statement and return its rows as dicts.

        Args:
            sql: The statement, with ``?`` or ``:name`` for values.
            params: The values.
            write: Allow a statement that changes the database.

        Raises:
            QueryError: ``write`` is false, and the statement changes the database or does not
                begin with SELECT, WITH, VALUES or EXPLAIN.
            DatabaseError: The statement is wrong.
        """
        from voices_peewee.database import raw_query

        run = raw_query.write if write else raw_query.read
        return run(self.store, sql, params)

    def table_exists(self, name: str) -> bool:
        """Whether the database has a table of that name."""
        store = self.store
        with store.reading():
            return bool(store.database.table_exists(name))

    def get_table_columns(self, name: str) -> list[str]:
        """Return the names of a table's columns, in order.

        Raises:
            NotFoundError: There is no such table.
        """
        if not self.table_exists(name):
            raise NotFoundError("table", name)
        return [column.name for column in self.store.database.get_columns(name)]

    def backup_database(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        keep: int | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write a verified copy of the database, consistent while others write; return its path.

        Args:
            path: A file or a folder; None means ``voices_backup_YYYYmmdd_HHMMSS.db`` beside
                the database.
            progress: Called with the bytes done and the bytes in all.
            keep: Afterwards keep only so many of the backups made of this database there.
            overwrite: Replace a file that is there.

        Raises:
            BackupError: The target is there already, or the copy did not verify.
            DatabaseMissingError: There is no database.
        """
        target = None if path is None else _backup_path(path)
        return self._snapshot(target, progress=progress, keep=keep, overwrite=overwrite).path

    def list_backups(self, folder: str | os.PathLike[str] | None = None) -> list[Backup]:
        """Return the backups made of this database, newest first.

        Args:
            folder: Where to look; None means beside the database.
        """
        from voices_peewee.upkeep import backup

        if self._url is not None and folder is None:
            from voices_peewee.upkeep import postgres_backup as server_backup

            place = server_backup.default_folder()
            found = backup.list_backups(place) if place.is_dir() else []
            return [one for one in found if one.source == self.path]
        return backup.list_backups(Path(self.path if folder is None else os.path.abspath(folder)))

    def verify_backup(self, path: str | os.PathLike[str]) -> Backup:
        """Check a backup against its digest and facts, and every page of it; return its facts.

        Raises:
            BackupError: It is missing, damaged, changed or no Voices database.
        """
        if self._url is not None:
            from voices_peewee.upkeep import postgres_backup as server_backup

            return server_backup.verify(_backup_path(path))
        from voices_peewee.upkeep import backup

        return backup.verify(_backup_path(path))

    def restore(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Restored:
        """Put a backup in the place of the database's content and bring it up to date.

        The present state is backed up first. Other programs that have the database open keep
        working, and see the restored content.

        Raises:
            BackupError: The backup is missing, damaged, changed or no Voices database.
            DatabaseNewerError: The backup is newer than this code.
            DatabaseBusyError: Another program kept the database locked.
        """
        from voices_peewee.upkeep import backup

        if self.path == MEMORY:
            raise DatabaseError(self.path, "an in-memory database cannot be restored")
        if self._url is not None:
            return self._restore_on_server(_backup_path(path))
        saved, restored = backup.restore(
            _backup_path(path),
            Path(self.path),
            known_migrations=self.migration_names(),
            progress=progress,
            timeout=self.timeout,
        )
        self.run_migrations(backup=False)
        return Restored(saved, restored)

    def _restore_on_server(self, path: Path) -> Restored:
        from voices_peewee.upkeep import postgres_backup as server_backup

        names = self.migration_names()
        with self._opened(create=True) as store, store.reading():
            done = server_backup.restore(store.on_server, path, known_migrations=names)
        self.run_migrations(backup=False)
        return Restored(*done)

    def status(self) -> dict[str, Any]:
        """Return what the database is and holds: path, size (bytes), versions, counts, times."""
        store = self.store
        with store.reading():
            counts = {model._meta.table_name: model.select().count() for model in MODELS}
            last = store.query(ProcessingHistory).order_by(ProcessingHistory.start_time.desc())
            newest = last.first()
            unfinished = last.where(pw.SQL("end_time IS NULL")).count()
            engine = _engine_facts(store, self.path)
        return {
            "database": self.path,
            **engine,
            "voices": __version__,
            "migrations": [state.name for state in self.migration_status()],
            "rows": counts,
            "last_run": None if newest is None else newest.start_time,
            "unfinished": unfinished,
        }

    def _repr_html_(self) -> str:
        from voices_peewee.rendering import html as html_text

        name = f"{type(self).__name__} {self.path}"
        if not self.is_connected:
            note = "not connected; call connect() or initialize()"
            return html_text.facts({}, title=name, note=note)
        try:
            with self.store.reading():
                counts = {word: model.select().count() for word, model in _COUNTED.items()}
        except VoicesError as error:
            return html_text.facts({}, title=name, note=str(error))
        return html_text.facts({word: f"{count:,}" for word, count in counts.items()}, title=name)


_COUNTED: Final = {
    "speakers": Speaker,
    "files": ProcessedFile,
    "history rows": ProcessingHistory,
    "measurements": ModelPerformance,
}


def _engine_facts(store: Store, path: str) -> dict[str, Any]:
    """Return the size (bytes) and the engine with its version."""
    if store.server is not None:
        facts = store.server.facts()
        return {"size": facts["size"], "postgresql": facts["version"]}
    size = None if path == MEMORY else Path(path).stat().st_size
    return {"size": size, "sqlite": sqlite3.sqlite_version}


def _backup_path(path: str | os.PathLike[str]) -> Path:
    if "\0" in os.fspath(path):
        raise BackupError(path, "a path must be a text without NUL")
    if server := as_server(path):
        raise BackupError(server, "a backup is a file, not a server")
    return Path(os.path.abspath(path))
