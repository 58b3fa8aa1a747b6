"""Read the schema of a server's database, and the models' beside it, as PostgreSQL spells both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import peewee as pw

from voices_peewee.database.sqlite import run_sql

Parts = dict[tuple[str, str], str]  # (table, part) to its definition
Views = Mapping[str, str]

_COLUMNS: Final = """SELECT class.relname, 'column ' || quote_literal(att.attname),
 concat_ws(' ', upper(format_type(att.atttypid, att.atttypmod)),
  'COLLATE ' || quote_ident(coll.collname), CASE WHEN att.attnotnull THEN 'NOT NULL' END,
  'DEFAULT ' || pg_get_expr(def.adbin, def.adrelid))
 FROM pg_class AS class JOIN pg_attribute AS att ON att.attrelid = class.oid
 LEFT JOIN pg_attrdef AS def ON def.adrelid = class.oid AND def.adnum = att.attnum
 LEFT JOIN pg_type AS type ON type.oid = att.atttypid
 LEFT JOIN pg_collation AS coll
  ON coll.oid = att.attcollation AND att.attcollation <> type.typcollation
 WHERE class.relnamespace = PLACE AND class.relkind IN ('r', 'p') AND att.attnum > 0
  AND NOT att.attisdropped"""
_CONSTRAINTS: Final = """SELECT class.relname, CASE contype WHEN 'c' THEN 'CHECK '
  WHEN 'f' THEN 'foreign key ' WHEN 'p' THEN 'primary key ' ELSE 'constraint ' END
  || quote_literal(conname), pg_get_constraintdef(con.oid)
 FROM pg_constraint AS con JOIN pg_class AS class ON class.oid = con.conrelid
 WHERE class.relnamespace = PLACE AND contype <> 'n'"""
_INDEXES: Final = """SELECT class.relname, 'index ' || quote_literal(own.relname),
 pg_get_indexdef(own.oid)
 FROM pg_index AS ind JOIN pg_class AS class ON class.oid = ind.indrelid
 JOIN pg_class AS own ON own.oid = ind.indexrelid
 WHERE class.relnamespace = PLACE AND NOT ind.indisprimary"""
_VIEWS: Final = """SELECT relname, pg_get_viewdef(oid) FROM pg_class
 WHERE relnamespace = PLACE AND relkind = 'v'"""
_HERE: Final = "current_schema()::regnamespace"
_TEMPORARY: Final = "pg_my_temp_schema()"


@contextmanager
def side_by_side(
    database: pw.Database, models: Sequence[type[pw.Model]]
) -> Iterator[tuple[Parts, Parts, Callable[[Views], tuple[Views, Views]]]]:
    """Give the models' schema, the database's, and what spells their views.

    The models' tables are made as temporary ones, looked at, and undone.
    """
    present = _read(database, _HERE)
    views = dict(run_sql(database, _VIEWS.replace("PLACE", _HERE)))
    with _undone(database):
        for model in models:
            schema: Any = pw.SchemaManager(model, database)
            schema.create_table(safe=False, temporary=True)
            schema.create_indexes(safe=False)
        yield _read(database, _TEMPORARY), present, lambda wanted: _spelled(database, wanted, views)


def _spelled(database: pw.Database, wanted: Views, present: Views) -> tuple[Views, Views]:
    """Return both kinds of views as the server spells them, without schemas."""
    for name, select in wanted.items():
        select = select.replace("instr(", "strpos(").replace("char(", "chr(")
        run_sql(database, f"CREATE TEMPORARY VIEW {name} AS {select}")
    temporary = _VIEWS.replace("PLACE", _TEMPORARY)
    expected, found = dict(run_sql(database, temporary)), dict(present)
    # A view that went through pg_dump is spelled as one that was made from its own spelling.
    for name, definition in expected.items():
        run_sql(database, f"CREATE OR REPLACE TEMPORARY VIEW {name} AS {definition}")
    for name, definition in run_sql(database, temporary):
        if _bare(found.get(name, "")) == _bare(definition):
            found[name] = expected[name]
    return _all_bare(expected), _all_bare(found)


def _all_bare(views: Views) -> Views:
    return {name: _bare(definition) for name, definition in views.items()}


def _bare(definition: str) -> str:
    """Leave out the schemas of tables; those of columns are aliases."""
    return re.sub(r"((?:FROM|JOIN) \(*)(?:\w+|\"[^\"]+\")\.", r"\1", definition)


def _read(database: pw.Database, place: str) -> Parts:
    found: Parts = {}
    for query in (_COLUMNS, _CONSTRAINTS, _INDEXES):
        for table, what, definition in run_sql(database, query.replace("PLACE", place)):
            found[table, what] = _plain(definition)
    return found


def _plain(definition: str) -> str:
    """Leave out the schema, which is another one for temporary tables."""
    text = re.sub(r"nextval\('.*?'::regclass\)", "nextval", definition)
    return re.sub(r'(\bON |REFERENCES )(?:\w+|"[^"]+")\.', r"\1", text)


@contextmanager
def _undone(database: pw.Database) -> Iterator[None]:
    with database.atomic() as transaction:
        try:
            yield
        finally:
            transaction.rollback()
