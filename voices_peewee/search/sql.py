"""Pieces of SQL that Peewee does not write by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final
from unicodedata import normalize

import peewee as pw

from voices_peewee.database.dialects import ByEngine, elements, in_order, inner, nodes, plain
from voices_peewee.errors import QueryError


def both(nodes: Sequence[pw.ColumnBase]) -> pw.ColumnBase:
    """Return what is true where all of the nodes are."""
    return _balanced(pw.OP.AND, nodes)


def either(nodes: Sequence[pw.ColumnBase]) -> pw.ColumnBase:
    """Return what is true where any of the nodes is."""
    return _balanced(pw.OP.OR, nodes)


def _balanced(operator: str, nodes: Sequence[pw.ColumnBase]) -> pw.ColumnBase:
    """Join nodes as a balanced tree: SQLite refuses expressions deeper than 1,000."""
    if len(nodes) == 1:
        return nodes[0]
    middle = len(nodes) // 2
    return pw.Expression(
        _balanced(operator, nodes[:middle]), operator, _balanced(operator, nodes[middle:])
    )


def negated(node: pw.ColumnBase) -> pw.ColumnBase:
    """Return what is true where a node is false or NULL: what is empty is "not x"."""
    return pw.NodeList((pw.NodeList((node,), parens=True), pw.SQL("IS NOT TRUE")), parens=True)


def unindexed(node: pw.ColumnBase) -> pw.ColumnBase:
    """Return a condition that SQLite does not look up in an index."""
    return pw.NodeList((pw.SQL("+"), pw.NodeList((node,), parens=True)))


def equals(node: pw.ColumnBase, value: object) -> pw.ColumnBase:
    """Return what is true where a node has a value, which no field converts."""
    return pw.Expression(node, pw.OP.EQ, plain(value))


def contains(node: pw.ColumnBase, text: str) -> pw.ColumnBase:
    """Return what is true where a node holds a text, in whichever letter case.

    SQLite's LIKE, and PostgreSQL's for our columns, know the case of a–z only; a pattern that
    spells both cases of each letter serves the rest. An accented letter is found composed and
    decomposed, as some file systems store it.
    """
    if text.isascii():
        pattern = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        escaped = pw.NodeList((plain(f"%{pattern}%"), pw.SQL("ESCAPE '\\'")))
        return pw.Expression(node, pw.OP.ILIKE, escaped)
    forms = dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text)))
    return either([_globbed(node, form) for form in forms])


def _globbed(node: pw.ColumnBase, text: str) -> pw.ColumnBase:
    cases = list(map(_both_cases, text))
    glob = "".join(f"[{one}]" if len(one) > 1 or one in "*?[" else one for one in cases)
    regex = "".join(f"[{one}]" if len(one) > 1 else re.escape(one) for one in cases)
    sqlite = pw.NodeList((node, pw.SQL("GLOB"), plain(f"*{glob}*")), parens=True)
    return ByEngine(sqlite, pw.NodeList((node, pw.SQL("~"), plain(regex)), parens=True))


def _both_cases(letter: str) -> str:
    """Return the forms of a letter in either case."""
    forms = {letter, letter.lower(), letter.upper(), letter.title()}
    return "".join(sorted(form for form in forms if len(form) == 1))


def json_path(keys: Sequence[str]) -> str:
    """Return the path to what the keys lead to.

    Raises:
        QueryError: A key holds a double quote, which paths cannot spell.
    """
    for key in keys:
        if '"' in key:
            raise QueryError(f"the key {key!r} holds a quote, which a query cannot ask for")
    # Keys are stored with their other letters escaped, and compared as they are stored.
    return "$" + "".join(f".{json.dumps(key)}" for key in keys)


def json_value(field: pw.ColumnBase, keys: Sequence[str]) -> pw.ColumnBase:
    """Return what the keys lead to as a JSON array of one, which keeps its type."""
    path = plain(json_path(keys))
    postgres = nodes("jsonb_build_array(", inner(field, keys), ")")
    return ByEngine(pw.fn.json_extract(field, path, path), postgres)


def json_order(field: pw.ColumnBase, keys: Sequence[str]) -> pw.ColumnBase:
    """Return what the keys lead to as SQL compares it: numbers before texts."""
    sqlite = pw.fn.json_extract(field, plain(json_path(keys)))
    return ByEngine(sqlite, in_order(inner(field, keys)))


def json_missing(field: pw.ColumnBase, keys: Sequence[str]) -> pw.ColumnBase:
    """Return what is true where the keys lead to nothing or to null."""
    kind = ByEngine(
        pw.fn.json_type(field, plain(json_path(keys))),
        nodes("jsonb_typeof(", inner(field, keys), ")"),
    )
    return nodes("coalesce(", kind, ", 'null') = 'null'")


def some_element(
    field: pw.ColumnBase, keys: Sequence[str], condition: pw.ColumnBase
) -> pw.ColumnBase:
    """Return what is true where a scalar, or an element of a list, fits a condition.

    The condition names its columns je.type, ``ELEMENT`` and ``ELEMENT_NUMBER``.
    """
    path = json_path(keys)
    sqlite = nodes(
        *("SELECT 1 FROM", pw.fn.json_each(field, plain(path)), "AS je WHERE", condition),
        *("AND", pw.fn.json_type(field, plain(path)), "<> 'object'"),
    )
    postgres = nodes("SELECT 1 FROM", elements(inner(field, keys), "je"), "WHERE", condition)
    return pw.fn.EXISTS(ByEngine(sqlite, postgres))


ELEMENT: Final = pw.SQL("je.value")
ELEMENT_NUMBER: Final = ByEngine(ELEMENT, pw.SQL("je.number"))
