"""Where SQLite and PostgreSQL differ in SQL: both forms side by side, chosen when it is written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import peewee as pw

_POSTGRES_PARAMETER: Final = "%s"


class ByEngine(pw.ColumnBase):
    """An expression with a form for each engine."""

    def __init__(self, sqlite: Any, postgres: Any) -> None:
        self.sqlite, self.postgres = sqlite, postgres

    def __sql__(self, ctx: Any) -> Any:
        is_postgres = ctx.state.param == _POSTGRES_PARAMETER
        return ctx.sql(self.postgres if is_postgres else self.sqlite)


plain: Final = partial(pw.Value, converter=False)  # a parameter that no field converts


def nodes(*parts: Any) -> pw.NodeList:
    """Return pieces of SQL in a row; a text is SQL, not a value."""
    return pw.NodeList(tuple(pw.SQL(part) if isinstance(part, str) else part for part in parts))


def inner(field: Any, keys: Sequence[str]) -> Any:
    """Return what the keys lead to in jsonb; keys never count the elements of a list."""
    parts: list[Any] = ["(", field]
    for key in keys:
        parts += ["-> CAST(", plain(key), "AS text)"]
    return nodes(*parts, ")") if keys else field


def as_number(value: Any) -> pw.NodeList:
    """Return the number that jsonb is, as double precision; NULL for anything else.

    As in SQLite, true and false are 1 and 0.
    """
    return nodes(
        *("CASE jsonb_typeof(", value, ") WHEN 'number' THEN CASE WHEN abs(CAST("),
        *(value, "AS numeric)) < 1.7976931348623158e308 THEN CAST(", value),
        *("AS double precision) END WHEN 'boolean' THEN CAST(CAST(", value),
        "AS boolean) AS integer) END",
    )


def in_order(value: Any) -> pw.NodeList:
    """Return a sort key for jsonb: numbers before texts, and text by its bytes.

    As in SQLite, 1, 1.0 and true are equal.
    """
    return nodes(
        *("CASE WHEN coalesce(jsonb_typeof(", value, "), 'null') = 'null' THEN NULL"),
        *("WHEN jsonb_typeof(", value, ") IN ('number', 'boolean')"),
        *("THEN ROW(0,", as_number(value), ", CAST(NULL AS bytea)) ELSE"),
        *("ROW(1, CAST(NULL AS double precision), convert_to(", value, "#>> '{}', 'UTF8')) END"),
    )


def elements(value: Any, alias: str) -> pw.NodeList:
    """Return a source of rows: the elements of a list, or a scalar alone; none of an object.

    Its columns are ``type`` as in SQLite's json_each, ``value`` (a text, else NULL) and
    ``number``.
    """
    one = nodes("element.value")
    listed = nodes(
        *("CASE WHEN", value, "IS NULL OR jsonb_typeof(", value, ") = 'object' THEN '[]'::jsonb"),
        *("WHEN jsonb_typeof(", value, ") = 'array' THEN", value),
        *("ELSE jsonb_build_array(", value, ") END"),
    )
    return nodes(
        "(SELECT CASE jsonb_typeof(element.value) WHEN 'string' THEN 'text'",
        "WHEN 'number' THEN 'real' WHEN 'boolean' THEN element.value #>> '{}'",
        "ELSE jsonb_typeof(element.value) END AS type,",
        "CASE jsonb_typeof(element.value) WHEN 'string' THEN element.value #>> '{}' END",
        *('COLLATE "C" AS value,', as_number(one), "AS number FROM jsonb_array_elements("),
        *(listed, f") AS element) AS {alias}"),
    )
