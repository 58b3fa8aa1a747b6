"""Read the schema of an SQLite database as parts that can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import peewee as pw

from voices_peewee.database.sqlite import run_sql
from voices_peewee.schema.views import create_view

Parts = dict[tuple[str, str], str]  # (table, part) to its definition


def model_parts(models: Sequence[type[pw.Model]]) -> Parts:
    """Return the schema that the models make; of two models of one table the later counts."""
    memory = pw.SqliteDatabase(":memory:")
    with memory.connection_context():
        for model in {model._meta.table_name: model for model in models}.values():
            pw.SchemaManager(model, memory).create_all()
        return read_parts(memory)


def read_parts(database: pw.Database) -> Parts:
    """Return the parts of every table of an SQLite database but SQLite's own and virtual ones."""
    tables = run_sql(
        database,
        "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
        " AND name NOT GLOB 'sqlite_*' AND sql NOT LIKE 'CREATE VIRTUAL%'",
    )
    return {
        (table, what): definition
        for table, sql in tables
        for query in (_COLUMNS, _KEYS, _INDEXES)
        for what, definition in [*run_sql(database, query, table), *_from_text(sql)]
    }


def read_views(database: pw.Database) -> dict[str, str]:
    """Return the statement of every view by its name."""
    return dict(run_sql(database, "SELECT name, sql FROM sqlite_master WHERE type = 'view'"))


def made_views(views: Mapping[str, str]) -> dict[str, str]:
    """Return the statement that makes each view."""
    return {name: create_view(name, select) for name, select in views.items()}


_COLUMNS: Final = """SELECT 'column ''' || name || '''', definition
 FROM (SELECT name, upper(type) || CASE WHEN "notnull" THEN ' NOT NULL' ELSE ' NULL' END
  || coalesce(' DEFAULT ' || dflt_value, '') || CASE WHEN pk THEN ' PRIMARY KEY' ELSE '' END
  || CASE WHEN hidden THEN ' GENERATED' ELSE '' END AS definition FROM pragma_table_xinfo(?))"""
_KEYS: Final = """SELECT 'foreign key ''' || group_concat("from", ', ') || '''',
 max("table") || ' (' || group_concat("to", ', ') || ') ON DELETE ' || max(on_delete)
  || ' ON UPDATE ' || max(on_update)
 FROM (SELECT * FROM pragma_foreign_key_list(?) ORDER BY id, seq) GROUP BY id"""
_INDEXES: Final = """SELECT 'index ''' || CASE WHEN master.sql IS NULL
  THEN 'UNIQUE (' || columns || ')' ELSE name END || '''',
  coalesce(master.sql, 'UNIQUE (' || columns || ')')
 FROM (SELECT name, origin, (SELECT group_concat(name, ', ') FROM
   (SELECT name FROM pragma_index_info(list.name) ORDER BY seqno)) AS columns
  FROM pragma_index_list(?) AS list) JOIN sqlite_master AS master USING (name)
 WHERE origin <> 'pk' AND master.type = 'index'"""


# What no pragma tells is read from the CREATE TABLE that SQLite keeps.


class _Token(NamedTuple):
    plain: str
    start: int
    end: int


_TOKEN: Final = re.compile(
    r"""(?:--[^\n]*|/\*.*?\*/|\s)+ | '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\]
    | \w+ | .""",
    re.X | re.S,
)
_OPTIONS: Final = re.compile(r"\b(?:autoincrement|strict|without rowid|collate \w+)\b")


def _tokens(sql: str) -> list[_Token]:
    found = (match for match in _TOKEN.finditer(sql) if not match[0].startswith(_BLANKS))
    return [
        _Token(text if text[0] == "'" else text.strip('"`[]').lower() or text, *match.span())
        for match in found
        if (text := match[0])
    ]


_BLANKS: Final = (" ", "\t", "\n", "\r", "--", "/*")


def normal(sql: str) -> str:
    """Return SQL as SQLite compares it: without blanks, quotes of names, and case of words."""
    return " ".join(token.plain for token in _tokens(sql))


def _from_text(sql: str) -> Iterator[tuple[str, str]]:
    tokens = _tokens(sql)
    for place, token in enumerate(tokens):
        if token.plain == "check" and tokens[place + 1].plain == "(":
            last = _closing(tokens, place + 1)
            body = sql[tokens[place + 1].end : last.start].strip()
            named = tokens[place - 2].plain == "constraint"
            yield f"CHECK {tokens[place - 1].plain if named else normal(body)!r}", body
    words = " ".join(token.plain for token in tokens if sql[token.start] not in "'\"`[")
    if options := sorted(_OPTIONS.findall(words)):
        yield "options", ", ".join(options)


def _closing(tokens: Sequence[_Token], opening: int) -> _Token:
    depth = 0
    for token in tokens[opening:]:
        depth += (token.plain == "(") - (token.plain == ")")
        if depth == 0:
            return token
    raise ValueError("unbalanced parentheses")
