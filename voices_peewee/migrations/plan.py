"""Turn the difference between two schemas into the lines of a migration's function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import peewee as pw
from peewee import sort_models  # type: ignore[attr-defined]  # the stubs lack it
from playhouse.migrate import make_index_name

from voices_peewee.errors import MigrationError
from voices_peewee.migrations.code import (
    Code,
    call,
    check_code,
    constraint_sql,
    default_code,
    empty_code,
    field_code,
    model_code,
    plain_indexes,
    string,
)
from voices_peewee.migrations.drift import Table, read_schema
from voices_peewee.migrations.table_sql import Check, checks, column_list, mentions, normal, quoted

Schema = Mapping[str, Table]
Models = Mapping[str, type[pw.Model]]
Names = Mapping[tuple[str, str], str]  # (table, column) to the field's name
Steps = Iterator[Code | str]  # calls, and notes as text

_INDENT: Final = "    "


def plan(before: Schema, after: Schema, *, models: Models, names: Names, undo: bool) -> list[str]:
    """Return the lines that lead from one schema to another.

    Args:
        models: The models that make ``after``, by table.
        names: The fields' names, as the migrator knows them at that point.
        undo: The lines are for a rollback: what is lost needs no word, what returns is empty.

    Raises:
        MigrationError: A difference has no words.
    """
    lines: list[str] = []
    for model in sort_models([models[name] for name in after if name not in before]):
        lines += ["", *(f"{_INDENT}{line}".rstrip() for line in model_code(model)), ""]
    for name in after:
        present = before.get(name) or _created(models[name])
        lines += _written(
            _TableChange(name, present, after[name], models[name], names, undo).steps()
        )
    for name in _children_first({name: before[name] for name in before if name not in after}):
        lines += [] if undo else [f"{_INDENT}# Note: the rows of {name!r} are lost."]
        lines += _written([call("migrator.remove_model", string(name))])
    # No two empty lines in a row, and none at the end.
    return [line for line, after in pairwise([*lines, ""]) if line or after]


def _children_first(tables: Schema) -> Iterator[str]:
    """Yield the tables so that none is dropped while another one refers to it."""
    left = dict(tables)
    while left:
        parents = {
            key.partition(" (")[0]
            for name, table in left.items()
            for key in table.foreign_keys.values()
            if key.partition(" (")[0] != name
        }
        name = next((name for name in left if name not in parents), next(iter(left)))
        del left[name]
        yield name


def _written(steps: Iterable[Code | str]) -> list[str]:
    lines: list[str] = []
    for step in steps:
        lines += [f"{_INDENT}# Note: {step}"] if isinstance(step, str) else step.lines(_INDENT)
    return lines


def _created(model: type[pw.Model]) -> Table:
    """Return the table that ``model_code`` makes."""
    memory, meta = pw.SqliteDatabase(":memory:"), model._meta
    flagged = [((field.name,), field.unique) for field in meta.sorted_fields if _indexed(field)]
    with memory.connection_context():
        pw.SchemaManager(model, memory).create_table()
        for fields, unique in (*flagged, *plain_indexes(meta)):
            parts = [meta.fields[name] for name in fields]
            memory.execute(pw.ModelIndex(model, parts, unique=unique))
        return read_schema(memory)[meta.table_name]


def _indexed(field: Any) -> bool:
    return bool((field.index or field.unique) and not field.primary_key)


@dataclass
class _TableChange:
    """What leads from one form of a table to another."""

    table: str
    before: Table
    after: Table
    model: type[pw.Model]
    names: Names
    undo: bool

    def steps(self) -> Steps:
        """Yield calls and notes in an order that works."""
        self._refuse()
        yield from self._drop_checks()
        yield from self._drop_indexes()
        yield from self._remove_fields()
        yield from self._add_fields()
        yield from self._change_fields()
        yield from self._add_checks()
        yield from self._add_indexes()

    # What differs

    @cached_property
    def _gone(self) -> list[str]:
        return [name for name in self.before.columns if name not in self.after.columns]

    @cached_property
    def _new(self) -> list[str]:
        return [name for name in self.after.columns if name not in self.before.columns]

    @cached_property
    def _kept(self) -> list[str]:
        return [name for name in self.after.columns if name in self.before.columns]

    @cached_property
    def _changed(self) -> list[str]:
        """The columns that need a new definition, not only NOT NULL more or less."""
        return [name for name in self._kept if _form(self.before, name) != _form(self.after, name)]

    def _refuse(self) -> None:
        """Refuse what no operation can do."""
        for name in dict.fromkeys((*self.before.columns, *self.after.columns)):
            if _fixed(self.before, name) != _fixed(self.after, name):
                raise self._refusal(f"the key or the generated column {name!r}")
        if self.before.options != self.after.options:
            raise self._refusal("its options")
        for key, _ in _wide_keys(self.before) ^ _wide_keys(self.after):
            raise self._refusal(f"the foreign key of {key}")
        for name in self.before.indexes.keys() ^ self.after.indexes.keys():
            if name.startswith("UNIQUE ("):
                raise self._refusal(f"the constraint {name}; use a unique index")

    def _refusal(self, what: str) -> MigrationError:
        return MigrationError(
            f"cannot write a change of table {self.table!r}: {what}; "
            "write it by hand in a migration made with --empty"
        )

    def _name(self, column: str) -> str:
        """Return the name that the migrator has for a column's field."""
        if (self.table, column) not in self.names:
            raise self._refusal(f"column {column!r} was made in SQL, which the migrator cannot see")
        return self.names[self.table, column]

    def _call(self, operation: str, *items: Code | str, **options: Code | str) -> Code:
        return call(f"migrator.{operation}", string(self.table), *items, **options)

    # Columns

    def _remove_fields(self) -> Steps:
        if not self._gone:
            return
        names = [self._name(column) for column in self._gone]
        if not self.undo:
            yield f"the values of {', '.join(map(repr, names))} are lost."
            yield from self._guess_renames()
        yield self._call("remove_fields", *map(string, names))

    def _guess_renames(self) -> Steps:
        for old in self._gone:
            for new in self._new:
                if self.before.columns[old].type == self.after.columns[new].type:
                    one, other = string(self._name(old)), string(self._name(new))
                    yield f"to rename instead: {self._call('rename_field', one, other)}"

    def _add_fields(self) -> Steps:
        for column in self._new:
            field, name = self.model._meta.columns[column], self._name(column)
            required = self.after.columns[column].nullability == "NOT NULL"
            stated = self.after.columns[column].default is not None
            options: dict[str, Code | str] = (
                {"allow_not_null": "True"} if required and stated else {}
            )
            default = None
            if required and not stated:
                default = default_code(field)
                yield from self._default_notes(field, name)
                default = default or empty_code(field)
            code = field_code(field, name, default=default, indexed=self._implies_index(column))
            yield self._call("add_fields", **options, **{name: code})

    def _default_notes(self, field: Any, name: str) -> Steps:
        """Say what the rows that are there will hold; refuse where nobody can know."""
        if self.undo:
            yield f"the values of {name!r} were lost; every row gets this one."
        elif default_code(field) is None:
            raise MigrationError(
                f"cannot add {name!r} to table {self.table!r}: it is NOT NULL and has no "
                "default for the rows that are there; give it one, or null=True"
            )
        elif callable(field.default) and field.default not in (list, dict):
            yield f"every row that is there gets this one value of {name!r}."

    def _change_fields(self) -> Steps:
        for column in self._kept:
            before, after = self.before.columns[column], self.after.columns[column]
            eased = (before.nullability, after.nullability) == ("NOT NULL", "NULL")
            tightened = (before.nullability, after.nullability) == ("NULL", "NOT NULL")
            if tightened:
                yield f"fails while a row holds NULL in {self._name(column)!r}; fill those first."
            if column in self._changed:
                yield self._change_field(column)
            elif tightened or eased:
                operation = "add_not_null" if tightened else "drop_not_null"
                yield self._call(operation, string(self._name(column)))

    def _change_field(self, column: str) -> Code:
        field, name = self.model._meta.columns[column], self._name(column)
        return self._call("change_fields", **{name: field_code(field, name)})

    # CHECKs

    def _drop_checks(self) -> Steps:
        for key, check in self.before.checks.items():
            if _same_check(check, self.after.checks.get(key)):
                continue
            if check.column not in self._gone and check.column not in self._changed:
                yield self._call("drop_constraints", string(self._check_name(check)))

    def _add_checks(self) -> Steps:
        said = {key for column in (*self._new, *self._changed) for key in self._own_checks(column)}
        for key, check in self.after.checks.items():
            present = self.before.checks.get(key)
            fell = present is not None and present.column in self._changed
            if (fell or not _same_check(check, present)) and key not in said:
                name = string(self._check_name(check))
                yield self._call("add_constraint", name, check_code(check, named=False))

    def _own_checks(self, column: str) -> Iterator[str]:
        """Yield the keys of the CHECKs that a column's field brings along."""
        for node in self.model._meta.columns[column].constraints or ():
            for check in checks(constraint_sql(node)):
                yield check.name or normal(check.body)

    def _check_name(self, check: Check) -> str:
        if check.name is None:
            raise self._refusal(f"CHECK ({check.body}) has no name; give it one with name=")
        return check.name

    # Indexes

    def _drop_indexes(self) -> Steps:
        for name, sql in self.before.indexes.items():
            falls = any(mentions(sql, column) for column in self._gone)
            if not falls and normal(sql) != normal(self.after.indexes.get(name, "")):
                fields = self._plain_fields(name, sql)
                if fields is None:
                    yield call("migrator.sql", string(f"DROP INDEX {quoted(name)}"))
                else:
                    yield self._call("drop_index", *map(string, fields))

    def _add_indexes(self) -> Steps:
        for name, sql in self.after.indexes.items():
            kept = normal(sql) == normal(self.before.indexes.get(name, ""))
            if not kept and name not in self._implied:
                fields = self._plain_fields(name, sql)
                if fields is None:
                    yield call("migrator.sql", string(sql))
                else:
                    unique = {"unique": "True"} if normal(sql).startswith("create unique") else {}
                    yield self._call("add_index", *map(string, fields), **unique)

    @cached_property
    def _implied(self) -> set[str]:
        """The indexes that come with a new field, or with one that becomes unique."""
        unique = [name for name in self._changed if self.model._meta.columns[name].unique]
        return {
            make_index_name(self.table, [column])
            for column in (*self._new, *unique)
            if self._implies_index(column)
        }

    def _implies_index(self, column: str) -> bool:
        field = self.model._meta.columns[column]
        name = make_index_name(self.table, [column])
        usual = _index_sql(self.table, [column], unique=field.unique)
        return _indexed(field) and normal(self.after.indexes.get(name, "")) == normal(usual)

    def _plain_fields(self, name: str, sql: str) -> list[str] | None:
        """Return the fields of an index that peewee-migrate's own words can say."""
        columns = column_list(sql)
        if name != make_index_name(self.table, columns):
            return None
        unique = normal(sql).startswith("create unique")
        if normal(sql) != normal(_index_sql(self.table, columns, unique=unique)):
            return None
        return [self._name(column) for column in columns]


def _form(table: Table, name: str) -> tuple[object, ...]:
    """Return what only a new definition of the column can change."""
    column = table.columns[name]
    unnamed = {
        key for key, check in table.checks.items() if not check.name and check.column == name
    }
    texts = (column.type, column.default or "", column.collation or "")
    return (*map(normal, texts), normal(table.foreign_keys.get(name, "")), unnamed)


def _fixed(table: Table, name: str) -> tuple[str | None, str | None]:
    """Return what no operation can change."""
    column = table.columns.get(name)
    return (column.primary_key, column.generated) if column else (None, None)


def _wide_keys(table: Table) -> set[tuple[str, str]]:
    return {(key, sql) for key, sql in table.foreign_keys.items() if "," in key}


def _same_check(one: Check, other: Check | None) -> bool:
    return other is not None and normal(one.body) == normal(other.body)


def _index_sql(table: str, columns: Iterable[str], *, unique: bool) -> str:
    names = list(columns)
    listed = ", ".join(map(quoted, names))
    kind = "UNIQUE INDEX" if unique else "INDEX"
    return f"CREATE {kind} {quoted(make_index_name(table, names))} ON {quoted(table)} ({listed})"
