"""``DatabaseManager``: the one door to a Voices database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from voices_peewee.errors import NotFoundError, QueryError
from voices_peewee.lifecycle import Lifecycle
from voices_peewee.models import BaseModel
from voices_peewee.rows import Query
from voices_peewee.speakers import SpeakerMethods
from voices_peewee.store import Store

M = TypeVar("M", bound=BaseModel)


class DatabaseManager(Lifecycle, SpeakerMethods):
    """Opens one database, keeps it up to date and reads and writes its records.

    The models are bound to one database at a time, in the whole process. A manager may be
    used by many threads; each gets its own connection. A forked child uses it as it is; a
    pickled copy connects by itself when it is first used.

    Args:
        database: A path, ``":memory:"`` or a Peewee ``SqliteDatabase``; None means
            ``$VOICES_DB``, else ``~/.voices/voices.db``.
        timeout: How long to wait for another program's lock, in seconds.
        migrations_dir: An application's own migrations, applied after the package's.

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

    def delete(self, instance: BaseModel) -> None:
        """Delete a record. A speaker's files stay; a file's runs and their measurements go along.

        Raises:
            NotFoundError: The record is not in the database.
        """
        self.store.delete(instance)

    def get_by_id(self, model: type[M], key: int) -> M | None:
        """Return the record with an id, or None when there is none."""
        return self.store.get(model, key)

    def get_all(self, model: type[M]) -> list[M]:
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
            QueryError: The statement changes the database and ``write`` is false.
            DatabaseError: The statement is wrong.
        """
        store = self.store
        if not write:
            return _read_only_rows(store, sql, params)
        with store.writing():
            return _rows(store.connection(), sql, params)

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
        return self._snapshot(path, progress=progress, keep=keep, overwrite=overwrite).path


_READING: Final = ("select", "with", "values", "explain")
_WRITES: Final = "this statement would change the database; pass write=True to allow it"


def _read_only_rows(
    store: Store, sql: str, params: Sequence[Any] | Mapping[str, Any]
) -> list[dict[str, Any]]:
    if not sql.lstrip().lower().startswith(_READING):
        raise QueryError(_WRITES)
    with store.reading():
        connection = store.connection()
        connection.execute("PRAGMA query_only = 1")
        try:
            return _rows(connection, sql, params)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY:
                raise QueryError(_WRITES) from error
            raise
        finally:
            connection.execute("PRAGMA query_only = 0")


def _rows(
    connection: Any, sql: str, params: Sequence[Any] | Mapping[str, Any]
) -> list[dict[str, Any]]:
    cursor = connection.execute(sql, params)
    if cursor.description is None:
        return []
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
