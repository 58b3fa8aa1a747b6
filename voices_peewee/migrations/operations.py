"""peewee-migrate's operations, made safe for SQLite tables that hold rows.

The words are peewee-migrate's own. On SQLite every change that ALTER TABLE lacks is one
rebuild of the table, which keeps constraints, indexes, triggers, views and rows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import peewee as pw
from peewee_migrate import migrator as stock
from playhouse.migrate import make_index_name, operation

from voices_peewee.database.sqlite import run_sql
from voices_peewee.migrations.table_sql import (
    TableText,
    has_computed_default,
    mentions,
    quoted,
    with_null,
)

Edit = Callable[[TableText], TableText]
_Change = Callable[[str, str], str | None]
F = TypeVar("F", bound=Callable[..., object])


def rebuild(database: pw.SqliteDatabase, table: str, edit: Edit) -> None:
    """Replace a table by one of another form that holds the same rows.

    Foreign keys must be off, or dropping the old table empties its child tables.

    Raises:
        ValueError: There is no such table.
    """
    query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    if not (found := run_sql(database, query, table)):
        raise ValueError(f"there is no table {table!r}")
    old = TableText.parse(found[0][0])
    new = edit(old)
    stored = _stored_columns(database, table)
    kept = ", ".join(quoted(name) for name in new.columns if name in stored)
    dependents = _dependents(database, table, old.columns.keys() - new.columns.keys())
    temporary, final = f"{table}__new", quoted(table)
    run_sql(database, new.sql(temporary))
    copy = f"INSERT INTO {quoted(temporary)} ({kept}) SELECT {kept} FROM {final}"  # noqa: S608 - names
    run_sql(database, copy)
    run_sql(database, f"DROP TABLE {final}")
    _rename(database, temporary, table)
    for statement in dependents:
        run_sql(database, statement)


def _stored_columns(database: pw.Database, table: str) -> set[str]:
    """Name the columns that hold values; generated ones do not."""
    rows = run_sql(database, "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", table)
    return {name for (name,) in rows}


def _dependents(database: pw.SqliteDatabase, table: str, gone: set[str]) -> list[str]:
    """Return the SQL of the indexes and triggers that go down with a table and shall return."""
    query = (
        "SELECT type, sql FROM sqlite_master"
        " WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL"
    )
    return [
        sql
        for kind, sql in run_sql(database, query, table)
        if kind == "trigger" or not any(mentions(sql, name) for name in gone)
    ]


def _rename(database: pw.SqliteDatabase, old: str, new: str) -> None:
    """Rename without a look at views and triggers, which cannot compile at this moment."""
    legacy = database.pragma("legacy_alter_table")
    database.pragma("legacy_alter_table", 1)
    try:
        run_sql(database, f"ALTER TABLE {quoted(old)} RENAME TO {quoted(new)}")
    finally:
        database.pragma("legacy_alter_table", legacy)


def _operation(function: F) -> F:
    """Delay a method until the migration runs, as playhouse does."""
    return cast("F", operation(function))


class SqliteOperations(stock.SqliteMigrator):
    """peewee-migrate's SQLite operations with one rebuild that keeps what they would lose."""

    @_operation
    def _update_column(self, table: str, column: str, change: _Change) -> object:
        def edit(text: TableText) -> TableText:
            if column not in text.columns:
                raise ValueError(f"table {table!r} has no column {column!r}")
            definition = change(column, text.columns[column])
            kept = text if definition else text.without_foreign_key(column)
            return kept.with_column(column, definition)

        rebuild(self.database, table, edit)
        return []

    @_operation
    def alter_add_column(
        self,
        table: str,
        column_name: str,
        field: pw.Field,
        allow_not_null: bool = False,
        **options: Any,
    ) -> Any:
        """Add a column; one with a computed default by a rebuild."""
        definition = self._text(field.ddl(self.make_context()))
        if not has_computed_default(definition) or isinstance(field, pw.ForeignKeyField):
            return super().alter_add_column(table, column_name, field, allow_not_null, **options)
        rebuild(self.database, table, lambda text: text.with_new_column(definition))
        return []

    @_operation
    def drop_column(self, table: str, column: str, **_: object) -> object:
        """Drop a column with its indexes and its foreign key."""
        return self._update_column(table, column, lambda _name, _definition: None)

    @_operation
    def add_not_null(self, table: str, column: str, **_: object) -> object:
        """Refuse NULL in a column from now on."""
        return self._update_column(table, column, lambda _, text: f"{with_null(text)} NOT NULL")

    @_operation
    def drop_not_null(self, table: str, column: str, **_: object) -> object:
        """Allow NULL in a column from now on."""
        return self._update_column(table, column, lambda _, text: with_null(text))

    @_operation
    def change_column(self, table: str, column: str, field: pw.Field) -> object:
        """Give a column a field's type, constraints and foreign key."""
        definition = self._text(field.ddl(self.make_context()))

        def edit(text: TableText) -> TableText:
            text = text.without_foreign_key(column).with_column(column, definition)
            if isinstance(field, pw.ForeignKeyField):
                return text.with_constraint(self._text(field.foreign_key_constraint()))
            return text

        rebuild(self.database, table, edit)
        return []

    @_operation
    def add_constraint(self, table: str, name: str, constraint: pw.Node) -> object:
        """Add a named CHECK."""
        definition = f"CONSTRAINT {quoted(name)} {self._text(constraint)}"
        rebuild(self.database, table, lambda text: text.with_constraint(definition))
        return []

    @_operation
    def drop_constraint(self, table: str, name: str) -> object:
        """Drop a named CHECK."""

        def edit(text: TableText) -> TableText:
            if name not in {check.name for check in text.checks}:
                raise ValueError(f"table {table!r} has no CHECK {name!r}")
            return text.without_check(name)

        rebuild(self.database, table, edit)
        return []

    @_operation
    def fill_nulls(self, table: str, column: str, field: pw.Field) -> object:
        """Write a field's default where a column holds NULL."""
        return _filled(table, column, field)

    def _text(self, node: pw.Node) -> str:
        """Return a node's SQL as it stands in CREATE TABLE, without the table's name."""
        context = self.database.get_sql_context(scope=pw.SCOPE_VALUES)
        return str(context.sql(node).query()[0])


class PostgresOperations(stock.PostgresqlMigrator):
    """peewee-migrate's PostgreSQL operations."""

    @_operation
    def fill_nulls(self, table: str, column: str, field: pw.Field) -> object:
        """Write a field's default where a column holds NULL."""
        return _filled(table, column, field)


def _filled(table: str, column: str, field: pw.Field) -> pw.NodeList:
    default = field.default() if callable(field.default) else field.default
    assignment = pw.Expression(pw.Entity(column), "=", field.db_value(default), flat=True)
    return pw.NodeList(
        (
            *(pw.SQL("UPDATE"), pw.Entity(table), pw.SQL("SET"), assignment),
            *(pw.SQL("WHERE"), pw.Entity(column), pw.SQL("IS NULL")),
        )
    )


class SafeMigrator(stock.Migrator):
    """peewee-migrate's Migrator with what it gets wrong put right."""

    def __init__(self, database: pw.Database) -> None:
        super().__init__(database)
        if isinstance(database, pw.SqliteDatabase):
            self.__migrator__ = SqliteOperations(database)
        else:
            self.__migrator__ = PostgresOperations(database)

    def change_fields(self, model: Any, **fields: pw.Field) -> Any:
        """Give columns new fields: type, NULL, foreign key, unique."""
        model = self.__get_model__(model)
        meta = model._meta
        for name, field in fields.items():
            old = meta.fields[name]
            self.__del_field__(model, old)
            meta.add_field(name, field)
            if field.column_name != old.column_name:
                rename = (meta.table_name, old.column_name, field.column_name)
                self.__ops__.append(self.__migrator__.rename_column(*rename))
            change = self.__migrator__.change_column(meta.table_name, field.column_name, field)
            self.__ops__.append(change)
            self._follow_unique(meta.table_name, old, field)
        return model

    def _follow_unique(self, table: str, old: pw.Field, new: pw.Field) -> None:
        if new.unique and not old.unique:
            self.__ops__.append(self.__migrator__.add_index(table, (new.column_name,), True))
        elif old.unique and not new.unique:
            index = make_index_name(table, [old.column_name])
            self.__ops__.append(self.__migrator__.drop_index(table, index))

    def drop_index(self, model: Any, *columns: str) -> Any:
        """Drop the index of these fields; the stock one fails beside a ``Model.add_index``."""
        meta = self.__get_model__(model)._meta
        special = [index for index in meta.indexes if isinstance(index, pw.Node)]
        meta.indexes = [index for index in meta.indexes if not isinstance(index, pw.Node)]
        changed = super().drop_index(model, *columns)
        meta.indexes.extend(special)
        return changed

    def add_default(self, model: Any, name: str, default: Any) -> Any:
        """Write a default into the rows that hold NULL; the stock one overwrites every row."""
        model = self.__get_model__(model)
        field = model._meta.fields[name]
        field.default = default
        fill = self.__migrator__.fill_nulls(model._meta.table_name, field.column_name, field)
        self.__ops__.append(fill)
        return model

    def __del_field__(self, model: type[pw.Model], field: pw.Field) -> None:
        # Two foreign keys to one table share one backref name, which the first one took away.
        with suppress(AttributeError):
            super().__del_field__(model, field)
