"""``DatabaseManager``: the one door to a Voices database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self, TypeVar

from voices_peewee.database.query import Query
from voices_peewee.database.results import ResultList
from voices_peewee.display.methods import DisplayMethods
from voices_peewee.errors import NotFoundError
from voices_peewee.exchange.methods import ExchangeMethods
from voices_peewee.lifecycle import Lifecycle
from voices_peewee.questions.methods import QuestionMethods
from voices_peewee.records.methods import RecordMethods
from voices_peewee.runs.methods import RunMethods
from voices_peewee.schema.models import BaseModel
from voices_peewee.search.methods import SearchMethods
from voices_peewee.upkeep.methods import UpkeepMethods

M = TypeVar("M", bound=BaseModel)


class DatabaseManager(
    Lifecycle,
    RecordMethods,
    RunMethods,
    SearchMethods,
    QuestionMethods,
    ExchangeMethods,
    DisplayMethods,
    UpkeepMethods,
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

    def atomic(self) -> AbstractContextManager[Self]:
        """Make everything that is written inside one transaction."""
        return self.store.writing(self)

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
        run = self.store.write_raw if write else self.store.read_raw
        return run(sql, params)

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
