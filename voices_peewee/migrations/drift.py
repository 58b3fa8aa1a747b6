"""Compare a database's schema with the models', to the last constraint and index.

The models' schema is made beside it, in memory or as temporary tables, and both are read in the
same way. Triggers, virtual tables, and tables and views that nobody asks for are an
application's own and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import peewee as pw

from voices_peewee.database.results import run_sql
from voices_peewee.migrations import server_schema
from voices_peewee.schema.views import create_view

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


def drift(
    database: pw.Database,
    models: Sequence[type[pw.Model]],
    *,
    views: Mapping[str, str] | None = None,
) -> list[Drift]:
    """Return how a database differs from the models; nothing is changed, nor are they rebound."""
    if not isinstance(database, pw.SqliteDatabase):
        expected, present = server_schema.side_by_side(database, models)
        there = server_schema.views(database)
        lost = [name for name in views or {} if name not in there]
        return [*differences(expected, present), *(Drift(name, "view", "", None) for name in lost)]
    memory = pw.SqliteDatabase(":memory:")
    with memory.connection_context():
        for model in {model._meta.table_name: model for model in models}.values():
            pw.SchemaManager(model, memory).create_all()
        expected = read_parts(memory)
    made = {name: create_view(name, select) for name, select in (views or {}).items()}
    return [
        *differences(expected, read_parts(database)),
        *view_differences(made, read_views(database)),
    ]


def differences(expected: Parts, present: Parts) -> Iterator[Drift]:
    """Yield what differs in the expected tables."""
    wanted, here = ({table for table, _ in parts} for parts in (expected, present))
    for table in sorted(wanted - here):
        yield Drift(table, "table", "", None)
    for table, what in {**expected, **present}:
        one, other = expected.get((table, what)), present.get((table, what))
        if table in wanted & here and normal(one or "") != normal(other or ""):
            yield Drift(table, what, one, other)


def view_differences(expected: Mapping[str, str], present: Mapping[str, str]) -> Iterator[Drift]:
    """Yield the expected views that are not there or are others."""
    for name, definition in expected.items():
        if normal(present.get(name, "")) != normal(definition):
            yield Drift(name, "view", definition, present.get(name))


_TABLES: Final = """SELECT name, sql FROM sqlite_master WHERE type = 'table'
 AND name NOT GLOB 'sqlite_*' AND sql NOT LIKE 'CREATE VIRTUAL%'"""
_COLUMNS: Final = """SELECT 'column ''' || name || '''', upper(type)
 || CASE WHEN "notnull" THEN ' NOT NULL' ELSE ' NULL' END
 || coalesce(' DEFAULT ' || dflt_value, '') || CASE WHEN pk THEN ' PRIMARY KEY' ELSE '' END
 || CASE WHEN hidden THEN ' GENERATED' ELSE '' END FROM pragma_table_xinfo(?)"""
_KEYS: Final = """SELECT 'foreign key ''' || group_concat("from", ', ') || '''',
 max("table") || ' (' || group_concat("to", ', ') || ') ON DELETE ' || max(on_delete)
  || ' ON UPDATE ' || max(on_update)
 FROM (SELECT * FROM pragma_foreign_key_list(?) ORDER BY id, seq) GROUP BY id"""
_INDEXES: Final = """SELECT 'index ''' || CASE WHEN sql IS NULL
  THEN 'UNIQUE (' || columns || ')' ELSE name END || '''',
 coalesce(sql, 'UNIQUE (' || columns || ')')
 FROM (SELECT name, origin, (SELECT group_concat(name, ', ') FROM
   (SELECT name FROM pragma_index_info(list.name) ORDER BY seqno)) AS columns
  FROM pragma_index_list(?) AS list) JOIN sqlite_master USING (name)
 WHERE origin <> 'pk' AND type = 'index'"""


def read_parts(database: pw.Database) -> Parts:
    """Return the parts of every table of an SQLite database but SQLite's own and virtual ones."""
    return {
        (table, what): definition
        for table, sql in run_sql(database, _TABLES)
        for query in (_COLUMNS, _KEYS, _INDEXES)
        for what, definition in [*run_sql(database, query, table), *_from_text(sql)]
    }


def read_views(database: pw.Database) -> dict[str, str]:
    """Return the statement of every view by its name."""
    return dict(run_sql(database, "SELECT name, sql FROM sqlite_master WHERE type = 'view'"))


# Comments and texts, names and numbers, operators; quotes of names and blanks say nothing.
_WORD: Final = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\w+|[<>=!|]+|[^\s\"`\[\]]", re.S)
_OPTIONS: Final = re.compile(r"\b(?:autoincrement|strict|without rowid|collate \w+)\b")


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
