"""Compare a database's schema with the models', to the last constraint and index.

Triggers, virtual tables and other views are no part of the models and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import peewee as pw

from voices_peewee.database.sqlite import run_sql
from voices_peewee.migrations.table_sql import Check, TableText, collation, normal
from voices_peewee.schema.views import create_view


@dataclass(frozen=True)
class Drift:
    """One difference; ``expected`` and ``found`` are None where there is nothing."""

    table: str
    what: str
    expected: str | None
    found: str | None

    def __str__(self) -> str:
        if self.what == "view":
            return f"view {self.table!r} {'is missing' if self.found is None else 'is another one'}"
        if self.what == "table":
            return f"table {self.table!r} is missing"
        if self.expected is None:
            return f"table {self.table!r} has {self.what} ({self.found}), which the models lack"
        if self.found is None:
            return f"table {self.table!r} lacks {self.what} ({self.expected})"
        return f"table {self.table!r} has {self.what} as {self.found}, not {self.expected}"


@dataclass(frozen=True)
class Column:
    """A column, each part as text that can be compared; None where there is none."""

    type: str
    nullability: str
    default: str | None
    primary_key: str | None
    generated: str | None
    collation: str | None

    def __str__(self) -> str:
        default = self.default and f"DEFAULT {self.default}"
        key = self.primary_key and "PRIMARY KEY"
        return " ".join(filter(None, (self.type, self.nullability, default, key)))


@dataclass(frozen=True)
class Table:
    """A table; each mapping goes from a name to what can be compared."""

    columns: Mapping[str, Column]
    foreign_keys: Mapping[str, str]
    checks: Mapping[str, Check]
    indexes: Mapping[str, str]
    options: str = ""


def drift(
    database: pw.Database,
    models: Sequence[type[pw.Model]],
    *,
    views: Mapping[str, str] | None = None,
) -> list[Drift]:
    """Return how a database's tables differ from the models; the models are not rebound.

    Tables that no model has are left alone, as are other views than ``views`` (the name and
    the SELECT of each): they are an application's own.
    """
    present = read_schema(database)
    found: list[Drift] = []
    for name, table in model_schema(models).items():
        if name in present:
            found.extend(Drift(name, *parts) for parts in differences(table, present[name]))
        else:
            found.append(Drift(name, "table", "", None))
    return found + _view_differences(database, views or {})


def _view_differences(database: pw.Database, views: Mapping[str, str]) -> list[Drift]:
    rows = run_sql(database, "SELECT name, sql FROM sqlite_master WHERE type = 'view'")
    found: dict[str, str] = dict(rows)
    return [
        Drift(name, "view", select, found.get(name))
        for name, select in views.items()
        if normal(found.get(name, "")) != normal(create_view(name, select))
    ]


def model_schema(models: Sequence[type[pw.Model]]) -> dict[str, Table]:
    """Return the schema that the models make; of two models of one table the later counts."""
    memory = pw.SqliteDatabase(":memory:")
    with memory.connection_context():
        for model in {model._meta.table_name: model for model in models}.values():
            pw.SchemaManager(model, memory).create_all()
        return read_schema(memory)


def read_schema(database: pw.Database) -> dict[str, Table]:
    """Return a database's tables by name, without SQLite's own and virtual ones."""
    rows = run_sql(
        database,
        "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
        " AND name NOT GLOB 'sqlite_*' AND sql NOT LIKE 'CREATE VIRTUAL%'",
    )
    return {name: _table(database, name, TableText.parse(sql)) for name, sql in rows}


def _table(database: pw.Database, name: str, text: TableText) -> Table:
    return Table(
        columns=_columns(database, name, text.columns),
        foreign_keys=_foreign_keys(database, name),
        checks={check.name or normal(check.body): check for check in text.checks},
        indexes=_indexes(database, name),
        options=normal(text.tail),
    )


def _columns(
    database: pw.Database, table: str, definitions: Mapping[str, str]
) -> dict[str, Column]:
    rows = run_sql(
        database,
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)',
        table,
    )
    return {
        name: Column(
            type=kind.upper(),
            nullability="NOT NULL" if notnull else "NULL",
            default=default,
            primary_key=_primary_key(key, definitions[name]),
            generated=normal(definitions[name]) if hidden else None,
            collation=collation(definitions[name]),
        )
        for name, kind, notnull, default, key, hidden in rows
    }


def _primary_key(position: int, definition: str) -> str | None:
    if not position:
        return None
    return f"{position} AUTOINCREMENT" if "autoincrement" in normal(definition) else f"{position}"


def _foreign_keys(database: pw.Database, table: str) -> dict[str, str]:
    found: dict[int, list[tuple[str, ...]]] = {}
    query = (
        'SELECT id, "from", "table", "to", on_delete, on_update'
        " FROM pragma_foreign_key_list(?) ORDER BY id, seq"
    )
    for number, *parts in run_sql(database, query, table):
        found.setdefault(number, []).append(tuple(parts))
    return dict(map(_foreign_key, found.values()))


def _foreign_key(parts: list[tuple[str, ...]]) -> tuple[str, str]:
    columns, targets = (", ".join(str(part[place]) for part in parts) for place in (0, 2))
    _, parent, _, on_delete, on_update = parts[0]
    return columns, f"{parent} ({targets}) ON DELETE {on_delete} ON UPDATE {on_update}"


def _indexes(database: pw.Database, table: str) -> dict[str, str]:
    rows = run_sql(
        database,
        "SELECT list.name, master.sql, (SELECT group_concat(name, ', ') FROM"
        " (SELECT name FROM pragma_index_info(list.name) ORDER BY seqno))"
        " FROM pragma_index_list(?) AS list JOIN sqlite_master AS master"
        " ON master.name = list.name AND master.type = 'index' WHERE list.origin <> 'pk'",
        table,
    )
    return {
        (name if sql else f"UNIQUE ({columns})"): sql or f"UNIQUE ({columns})"
        for name, sql, columns in rows
    }


def differences(expected: Table, found: Table) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield what differs, as it is expected and as it is found."""
    yield from _column_differences(expected.columns, found.columns)
    yield from _compare("foreign key", expected.foreign_keys, found.foreign_keys)
    yield from _compare("CHECK", _bodies(expected), _bodies(found))
    yield from _compare("index", expected.indexes, found.indexes)
    if expected.options != found.options:
        yield "options", expected.options or None, found.options or None


def _bodies(table: Table) -> dict[str, str]:
    return {name: check.body for name, check in table.checks.items()}


def _compare(
    kind: str, expected: Mapping[str, str], found: Mapping[str, str]
) -> Iterator[tuple[str, str | None, str | None]]:
    for name in dict.fromkeys((*expected, *found)):
        one, other = expected.get(name), found.get(name)
        if one is None or other is None or normal(one) != normal(other):
            yield f"{kind} {name!r}", one, other


def _column_differences(
    expected: Mapping[str, Column], found: Mapping[str, Column]
) -> Iterator[tuple[str, str | None, str | None]]:
    for name in dict.fromkeys((*expected, *found)):
        one, other = expected.get(name), found.get(name)
        if one is None or other is None:
            yield f"column {name!r}", str(one) if one else None, str(other) if other else None
            continue
        for part in fields(Column):
            wanted, present = getattr(one, part.name), getattr(other, part.name)
            if normal(wanted or "") != normal(present or ""):
                yield f"the {part.name.replace('_', ' ')} of column {name!r}", wanted, present
