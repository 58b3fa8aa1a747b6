"""A manager's life: opening, binding the models, coming up to date and closing."""

from __future__ import annotations

import inspect
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import peewee as pw

from voices_peewee.database.files import (
    MEMORY,
    is_server,
    refuse_tables,
    require_voices,
    resolve,
)
from voices_peewee.database.forks import at_fork
from voices_peewee.database.query import mapper
from voices_peewee.database.server_url import masked, open_server
from voices_peewee.database.sqlite import VoicesSqlite
from voices_peewee.database.store import Store
from voices_peewee.database.transactions import settling
from voices_peewee.errors import (
    AlreadyConnectedError,
    DatabaseError,
    InvalidValueError,
    NotConnectedError,
    PendingMigrationsError,
    ServerBackupError,
)
from voices_peewee.migrations import runner as migrations
from voices_peewee.migrations.methods import MigrationMethods
from voices_peewee.schema.models import database_proxy

Target = str | os.PathLike[str] | pw.Database | None

_LONGEST_WAIT: Final = 1_000_000  # s; more milliseconds than SQLite counts make it wait not at all


class Lifecycle(MigrationMethods):
    """Opens one database, keeps it up to date, binds the models to it and closes it."""

    def __init__(
        self,
        database: Target = None,
        *,
        timeout: float = 30.0,
        migrations_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if not 0 <= timeout <= _LONGEST_WAIT:
            raise InvalidValueError(
                f"timeout must lie between 0 and {_LONGEST_WAIT:,} seconds, not {timeout:g}"
            )
        self.timeout = timeout
        self._given: pw.SqliteDatabase | None = None
        if isinstance(database, pw.SqliteDatabase):
            self._given, self.path = database, str(database.database)
        elif isinstance(database, pw.Database):
            kind = type(database).__name__
            raise DatabaseError(kind, "give the URL of a server, not a Peewee database")
        else:
            self.path = resolve(database)
        self._url: str | None = None
        if is_server(self.path):
            self._url, self.path = self.path, masked(self.path)
        own = [] if migrations_dir is None else [Path(os.path.abspath(migrations_dir))]
        self.directories = [migrations.package_directory(), *own]
        self._store: Store | None = None
        self._reconnect = False

    def __init_subclass__(cls) -> None:
        """Let every public method leave no transaction open, wherever an interrupt strikes."""
        super().__init_subclass__()
        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__):  # inspect.getattr_static takes a millisecond for all
            found |= vars(base)
        for name, method in found.items():
            if not name.startswith("_") and inspect.isfunction(method):
                setattr(cls, name, settling(method))

    def connect(self) -> Self:
        """Open the database and bind the models; do nothing when that is done already.

        Raises:
            DatabaseMissingError: There is no database at the path.
            NotVoicesError: The file is something else.
            PendingMigrationsError: The database is older than this code.
            DatabaseNewerError: The database is newer than this code.
            AlreadyConnectedError: The models are bound to another database.
        """
        with _binding:
            if self.is_connected or self._share():
                return self
            store = self._open(create=False)
            try:
                self._require_current(store)
            except BaseException:
                store.close()
                raise
            self._bind(store)
        return self

    def initialize(self, *, backup: bool = True) -> Self:
        """Create the database where there is none, bring it up to date and connect.

        Args:
            backup: Back a populated database up before an upgrade.

        Raises:
            NotVoicesError: The file is something else.
            MigrationError: A migration failed; the database is as it was.
            DatabaseNewerError: The database is newer than this code.
            AlreadyConnectedError: The models are bound to another database.
        """
        self.run_migrations(backup=backup)
        return self

    def create_tables(self) -> Self:
        """Create the tables through the migrations; the same as ``initialize``."""
        return self.initialize()

    def close(self) -> None:
        """Close the connections of every thread and unbind the models; closing twice is fine.

        A database that another manager of this process uses too stays open for that one.
        """
        with _binding:
            self._reconnect, self._store = False, None
            if self in _users:
                _users.discard(self)
                _close_unused()

    def close_session(self) -> None:
        """Close the calling thread's connection; the next call opens a new one."""
        if self._store is None or self.path == MEMORY:
            return  # an in-memory database is gone with its only connection
        if not self._store.database.is_closed():
            self._store.database.close()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_connected(self) -> bool:
        """Whether the database is open."""
        return self._store is not None

    @property
    def session(self) -> Self:
        """The manager itself, for code that was written against a session's ``query``."""
        return self

    @property
    def store(self) -> Store:
        """The open database.

        Raises:
            NotConnectedError: The manager is not connected.
        """
        if self._store is None:
            if not self._reconnect:
                raise NotConnectedError(self.path)
            self.connect()
        return self._store  # type: ignore[return-value] # connect() has set it

    @property
    def database(self) -> pw.Database:
        """The open Peewee database.

        Raises:
            NotConnectedError: The manager is not connected.
        """
        return self.store.database

    def back_up_first(self, _: list[str]) -> None:
        """Back up before a change of many rows; its own reader is not stopped by our lock."""
        from voices_peewee.upkeep.methods import snapshot

        if self.path == MEMORY:
            return
        try:
            self.upgrade_backup = snapshot(self.path, timeout=self.timeout).path
        except ServerBackupError as error:
            hint = "--no-backup (backup=False) goes on"
            raise ServerBackupError(self.path, error.command, hint) from error

    upgrade_backup: Path | None = None
    """Where the last upgrade of a populated database saved it first."""

    def _open(self, *, create: bool) -> Store:
        if self._given is not None:
            self._given.pragma("foreign_keys", 1, permanent=True)
            return Store(self._given, self.path, self.timeout)
        url, timeout = self._url, self.timeout
        if url is None and self.path != MEMORY:
            require_voices(self.path, migrations.HISTORY_TABLE, timeout, create=create)
        database = open_server(url, timeout) if url else VoicesSqlite(self.path, timeout=timeout)
        store = Store(database, self.path, timeout)
        try:
            with store.reading():
                database.connect()
                tables = database.get_tables() if url else [migrations.HISTORY_TABLE]
            if migrations.HISTORY_TABLE not in tables:
                refuse_tables(self.path, tables, is_new=create)
        except BaseException:
            store.close()
            raise
        return store

    @contextmanager
    def as_it_is(self) -> Iterator[Store]:
        """Give the open database, or open it for a look, whatever its migrations are."""
        store = self._store or self._open(create=False)
        try:
            yield store
        finally:
            if store is not self._store:
                store.close()

    @contextmanager
    def _migrating(self, *, create: bool) -> Iterator[Store]:
        """Open for a change of schema; afterwards bind if the database is up to date."""
        with _binding:
            if self._store is None:
                self._share()
            store = self._store or self._open(create=create)
            try:
                with store.reading():
                    yield store
                    current = not migrations.pending(store.database, self.directories)
            except BaseException:
                if self._store is None:
                    store.close()
                raise
            if current and self._store is None:
                self._bind(store)
            elif not current:
                self.close() if self._store else store.close()

    def _require_current(self, store: Store) -> None:
        with store.reading():
            pending = migrations.pending(store.database, self.directories)
        if pending and self.path == MEMORY:
            raise DatabaseError(self.path, "an in-memory database starts empty; call initialize()")
        if pending:
            raise PendingMigrationsError(self.path, pending, *self.directories[1:])

    def _share(self) -> bool:
        """Use the store that another manager has open on the same database."""
        _close_unused()
        if _bound is None:
            return False
        if _bound.label != self.path or self._given not in (None, _bound.database):
            raise AlreadyConnectedError(self.path, _bound.label)
        _bound.require_place(or_gone=False)
        self._bind(_bound)
        return True

    def _bind(self, store: Store) -> None:
        global _bound  # noqa: PLW0603 - the binding is process-wide by Peewee's design
        _bound = store
        _users.add(self)
        if database_proxy.obj is not store.database:
            database_proxy.initialize(store.database)
            mapper.cache_clear()  # statements are compiled for an engine
        self._store = store

    def __getstate__(self) -> dict[str, Any]:
        if self._given is not None or self.path == MEMORY:
            raise DatabaseError(
                self.path, "only a manager of a database file can go to another process"
            )
        state = {**self.__dict__, "_store": None}
        state["_reconnect"] = self.is_connected or self._reconnect
        return state

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else "closed"
        return f"<{type(self).__name__} {self.path!r} {state}>"


_binding = threading.RLock()
_bound: Store | None = None  # what the models are bound to, and the managers that use it
_users: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


def _begin_anew() -> None:
    """Forget in a forked child the thread that held the lock, which is not there."""
    global _binding  # noqa: PLW0603 - a lock cannot be opened by who does not hold it
    _binding = threading.RLock()


at_fork(after_in_child=_begin_anew)


def _close_unused() -> None:
    """Unbind and close when no manager is left: all were closed, or thrown away open."""
    global _bound
    if _bound is not None and not _users:
        store, _bound = _bound, None
        database_proxy.initialize(None)
        store.close()
