"""Compare a database's schema with the models', to the last constraint and index.

The models' schema is made in memory, and both are read in the same way; a server spells what it
keeps in its own way, so there only names are compared. Triggers, virtual tables, and tables and
views that nobody asks for are an application's own and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import peewee as pw

from voices_peewee.database.results import run_sql

Parts = dict[tuple[str, str], str]  # (table, part) to its definition


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


def drift(database: pw.Database, models: Sequence[type[pw.Model]]) -> list[Drift]:
    """Return how a database differs from the models; nothing is changed, nor are they rebound."""
    expected, present = _in_memory(models), read_parts(database)
    if not isinstance(database, pw.SqliteDatabase):
        present = {part: expected.get(part, present[part]) for part in present}
    return list(differences(expected, present))


def _in_memory(models: Sequence[type[pw.Model]]) -> Parts:
    memory = pw.SqliteDatabase(":memory:")
    with memory.connection_context():
        for model in {model._meta.table_name: model for model in models}.values():
            pw.SchemaManager(model, memory).create_all()
        return read_parts(memory)


def differences(expected: Parts, present: Parts) -> Iterator[Drift]:
    """Yield what differs in the expected tables."""
    wanted, here = ({table for table, _ in parts} for parts in (expected, present))
    for table in sorted(wanted - here):
        yield Drift(table, "table", "", None)
    for table, what in {**expected, **present}:
        one, other = expected.get((table, what)), present.get((table, what))
        if table in wanted & here and normal(one or "") != normal(other or ""):
            yield Drift(table, what, one, other)


def view_differences(expected: Mapping[str, str], database: pw.Database) -> Iterator[Drift]:
    """Yield the expected views that a database lacks, or has as others."""
    present = {view.name: view.sql for view in database.get_views()}
    is_file = isinstance(database, pw.SqliteDatabase)  # a server spells a view in its own way
    for name, definition in expected.items():
        found = present.get(name)
        if found is None or (is_file and normal(found) != normal(definition)):
            yield Drift(name, "view", definition, found)


_TABLES: Final = """SELECT name, sql FROM sqlite_master WHERE type = 'table'
 AND name NOT GLOB 'sqlite_*' AND sql NOT LIKE 'CREATE VIRTUAL%'"""
# Not from information_schema, which shows constraints to the owner alone.
_CONSTRAINTS: Final = """SELECT CASE contype WHEN 'c' THEN 'CHECK ' || quote_literal(conname)
  ELSE 'foreign key ' || quote_literal(attname) END, pg_get_constraintdef(pg_constraint.oid)
 FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
 WHERE contype IN ('c', 'f') AND conrelid = to_regclass(quote_ident(?))"""


def read_parts(database: pw.Database) -> Parts:
    """Return the parts of every table but SQLite's own and virtual ones."""
    is_file = isinstance(database, pw.SqliteDatabase)
    tables = run_sql(database, _TABLES) if is_file else [(t, "") for t in database.get_tables()]
    return {
        (table, what): definition
        for table, sql in tables
        for what, definition in [
            *_columns_and_indexes(database, table),
            *(_from_text(sql) if is_file else run_sql(database, _CONSTRAINTS, table)),
            *(_keys(database, table) if is_file else ()),
        ]
    }


def _columns_and_indexes(database: pw.Database, table: str) -> Iterator[tuple[str, str]]:
    for column in database.get_columns(table):
        null = "NULL" if column.null else "NOT NULL"
        default = "" if column.default is None else f" DEFAULT {column.default}"
        key = " PRIMARY KEY" * column.primary_key
        yield f"column {column.name!r}", f"{column.data_type.upper()} {null}{default}{key}"
    for index in database.get_indexes(table):
        unnamed = f"UNIQUE ({', '.join(map(str, index.columns))})"
        if index.name != f"{table}_pkey":  # a server's, of which the column tells
            yield f"index {(index.name if index.sql else unnamed)!r}", index.sql or unnamed


def _keys(database: pw.Database, table: str) -> Iterator[tuple[str, str]]:
    for key in database.get_foreign_keys(table):
        actions = f"ON DELETE {key.on_delete} ON UPDATE {key.on_update}"
        yield f"foreign key {key.column!r}", f"{key.dest_table} ({key.dest_column}) {actions}"


# Comments and texts, names and numbers, operators; quotes of names and blanks say nothing.
_WORD: Final = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\w+|[<>=!|]+|[^\s\"`\[\]]", re.S)
_OPTIONS: Final = re.compile(
    r"\b(?:autoincrement|strict|without rowid|collate \w+|on conflict \w+|deferrable|as(?= \())\b"
)


def _words(sql: str) -> list[re.Match[str]]:
    return [word for word in _WORD.finditer(sql) if not word[0].startswith(("--", "/*"))]


def normal(sql: str) -> str:
    """Return SQL as SQLite compares it: without blanks, quotes of names, and case of words."""
    return " ".join(word[0] if word[0][0] == "'" else word[0].lower() for word in _words(sql))


def _from_text(sql: str) -> Iterator[tuple[str, str]]:
    """Yield what no pragma tells from the CREATE TABLE that SQLite keeps."""
    words = _words(sql)
    plain = [word[0].lower() for word in words]
    for place, word in enumerate(plain[:-1]):
        if word == "check" and plain[place + 1] == "(":
            body = _enclosed(sql, words[place + 1 :])
            named = plain[place - 2] == "constraint"
            yield f"CHECK {plain[place - 1] if named else normal(body)!r}", body
    if options := sorted(_OPTIONS.findall(normal(sql))):
        yield "options", ", ".join(options)


def _enclosed(sql: str, words: Sequence[re.Match[str]]) -> str:
    """Return what stands between the first parenthesis and the one that closes it."""
    depth = 0
    for word in words:
        depth += (word[0] == "(") - (word[0] == ")")
        if depth == 0:
            return sql[words[0].end() : word.start()].strip()
    raise ValueError("unbalanced parentheses")
