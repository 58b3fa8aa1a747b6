"""Compare the schema of a server's database with the models', as PostgreSQL itself spells both."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import peewee as pw

from voices_peewee.database.sqlite import run_sql
from voices_peewee.migrations.drift import Drift

Parts = dict[tuple[str, str], str]  # by table and part

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


def drift(
    database: pw.Database,
    models: Sequence[type[pw.Model]],
    *,
    views: Mapping[str, str] | None = None,
) -> list[Drift]:
    """Return how a database's tables differ from the models; nothing is changed.

    The models' tables are made as temporary ones, looked at, and undone. Tables that no model
    has are left alone, as are other views than ``views`` (the name and the SELECT of each).
    """
    present = _read(database, _HERE)
    known = dict(run_sql(database, _VIEWS.replace("PLACE", _HERE)))
    with _undone(database):
        for model in models:
            schema: Any = pw.SchemaManager(model, database)
            schema.create_table(safe=False, temporary=True)
            schema.create_indexes(safe=False)
        expected = _read(database, _TEMPORARY)
        found = list(_differences(expected, present))
        if not found:
            found = list(_view_differences(database, views or {}, known))
    return found


def _view_differences(
    database: pw.Database, views: Mapping[str, str], present: Mapping[str, str]
) -> Iterator[Drift]:
    """Compare views where all tables are as they should be: their columns are there then."""
    for name, select in views.items():
        select = select.replace("instr(", "strpos(").replace("char(", "chr(")
        run_sql(database, f"CREATE TEMPORARY VIEW {name} AS {select}")
    first = dict(run_sql(database, _VIEWS.replace("PLACE", _TEMPORARY)))
    # A view that went through pg_dump is spelled as one that was made from its own spelling.
    for name, definition in first.items():
        run_sql(database, f"CREATE OR REPLACE TEMPORARY VIEW {name} AS {definition}")
    second = dict(run_sql(database, _VIEWS.replace("PLACE", _TEMPORARY)))
    for name, definition in first.items():
        found = present.get(name)
        if found is None or _bare(found) not in {_bare(definition), _bare(second[name])}:
            yield Drift(name, "view", definition, found)


def _bare(definition: str) -> str:
    """Leave out the schemas of tables; those of columns are aliases."""
    return re.sub(r"((?:FROM|JOIN) \(*)(?:\w+|\"[^\"]+\")\.", r"\1", definition)


def _differences(expected: Parts, present: Parts) -> Iterator[Drift]:
    wanted, here = ({table for table, _ in parts} for parts in (expected, present))
    for table in sorted(wanted - here):
        yield Drift(table, "table", "", None)
    for place in sorted(expected.keys() | present.keys()):
        table, what = place
        one, other = expected.get(place), present.get(place)
        if table in wanted & here and one != other:
            yield Drift(table, what, one, other)


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
