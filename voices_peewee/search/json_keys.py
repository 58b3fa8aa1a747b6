"""Keys that lead into a JSON column, as SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import peewee as pw

from voices_peewee.database.dialects import ByEngine, elements, in_order, inner, nodes, plain
from voices_peewee.errors import QueryError

ELEMENT: Final = pw.SQL("je.value")


def element_number() -> pw.ColumnBase:
    """Return the element as a number, which jsonb has to be turned into."""
    return ByEngine(ELEMENT, pw.SQL("je.number"))


def json_path(keys: Sequence[str]) -> str:
    """Return the path to what the keys lead to."""
    for key in keys:
        if '"' in key:
            raise QueryError(f"the key {key!r} holds a quote, which a query cannot ask for")
    # Keys are stored with their other letters escaped, and compared as they are stored.
    return "$" + "".join(f".{json.dumps(key)}" for key in keys)


def readable(field: Any) -> Any:
    """Return a field of SQLite without what is no JSON, which would end the whole query."""
    return nodes("CASE WHEN json_valid(", field, ") THEN", field, "END")


def json_value(field: Any, keys: Sequence[str]) -> pw.ColumnBase:
    """Return what the keys lead to as a JSON array of one, which keeps its type."""
    path = plain(json_path(keys))
    postgres = nodes("jsonb_build_array(", inner(field, keys), ")")
    return ByEngine(pw.fn.json_extract(readable(field), path, path), postgres)


def json_order(field: Any, keys: Sequence[str]) -> pw.ColumnBase:
    """Return what the keys lead to as SQL compares it: numbers before texts."""
    sqlite = pw.fn.json_extract(readable(field), plain(json_path(keys)))
    return ByEngine(sqlite, in_order(inner(field, keys)))


def some_element(field: Any, keys: Sequence[str], condition: Any) -> pw.ColumnBase:
    """Return what is true where a scalar, or an element of a list, fits a condition.

    The condition names its columns je.type, ``ELEMENT`` and ``element_number()``.
    """
    path, read = plain(json_path(keys)), readable(field)
    sqlite = nodes(
        *("SELECT 1 FROM", pw.fn.json_each(read, path), "AS je WHERE", condition),
        *("AND", pw.fn.json_type(read, path), "<> 'object'"),
    )
    postgres = nodes("SELECT 1 FROM", elements(inner(field, keys), "je"), "WHERE", condition)
    return pw.fn.EXISTS(ByEngine(sqlite, postgres))
