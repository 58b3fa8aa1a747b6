"""Read the schema of a server's database, and the models' beside it, as PostgreSQL spells both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import peewee as pw

from voices_peewee.database.results import run_sql

Parts = dict[tuple[str, str], str]  # (table, part) to its definition

_COLUMNS: Final = """SELECT table_name, 'column ' || quote_literal(column_name),
 concat_ws(' ', upper(data_type), 'COLLATE ' || quote_ident(collation_name),
  CASE is_nullable WHEN 'NO' THEN 'NOT NULL' END, 'DEFAULT ' || column_default)
 FROM information_schema.columns WHERE table_schema = PLACE"""
_CONSTRAINTS: Final = """SELECT conrelid::regclass::text, CASE contype WHEN 'c' THEN 'CHECK '
  WHEN 'f' THEN 'foreign key ' ELSE 'constraint ' END || quote_literal(conname),
 pg_get_constraintdef(oid)
 FROM pg_constraint
 WHERE connamespace = quote_ident(PLACE)::regnamespace AND contype IN ('c', 'f', 'u')"""
_INDEXES: Final = """SELECT tablename, 'index ' || quote_literal(indexname), indexdef
 FROM pg_indexes WHERE schemaname = PLACE"""
_VIEWS: Final = "SELECT viewname FROM pg_views WHERE schemaname = current_schema()"
_HERE: Final = "current_schema()"
_TEMPORARY: Final = "(SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema())"


def side_by_side(database: pw.Database, models: Sequence[type[pw.Model]]) -> tuple[Parts, Parts]:
    """Return the models' schema, and the database's.

    The models' tables are made as temporary ones, looked at, and undone.
    """
    present = _read(database, _HERE)
    with database.atomic() as transaction:
        try:
            for model in models:
                schema: Any = pw.SchemaManager(model, database)
                schema.create_table(safe=False, temporary=True)
                schema.create_indexes(safe=False)
            return _read(database, _TEMPORARY), present
        finally:
            transaction.rollback()


def views(database: pw.Database) -> set[str]:
    """Return the names of the database's views."""
    return {name for (name,) in run_sql(database, _VIEWS)}


def _read(database: pw.Database, place: str) -> Parts:
    return {
        (table.rpartition(".")[2], what): _plain(definition)
        for query in (_COLUMNS, _CONSTRAINTS, _INDEXES)
        for table, what, definition in run_sql(database, query.replace("PLACE", place))
    }


def _plain(definition: str) -> str:
    """Leave out the schema, which is another one for temporary tables."""
    text = re.sub(r"nextval\('.*?'::regclass\)", "nextval", definition)
    return re.sub(r'(\bON |REFERENCES )(?:\w+|"[^"]+")\.', r"\1", text)
