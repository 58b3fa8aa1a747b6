"""Pieces of SQL that Peewee does not write by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from unicodedata import normalize

import peewee as pw

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


def plain(value: object) -> pw.Value:
    """Return a parameter that no field converts."""
    return pw.Value(value, converter=False)


def equals(node: pw.ColumnBase, value: object) -> pw.ColumnBase:
    """Return what is true where a node has a value, which no field converts."""
    return pw.Expression(node, pw.OP.EQ, plain(value))


def contains(node: pw.ColumnBase, text: str) -> pw.ColumnBase:
    """Return what is true where a node holds a text, in whichever letter case.

    SQLite's LIKE knows the case of a–z only; a GLOB that spells both cases of each letter
    serves the rest. An accented letter is found composed and decomposed, as some file systems
    store it.
    """
    if text.isascii():
        pattern = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        escaped = pw.NodeList((plain(f"%{pattern}%"), pw.SQL("ESCAPE '\\'")))
        return pw.Expression(node, pw.OP.ILIKE, escaped)
    forms = dict.fromkeys((text, normalize("NFC", text), normalize("NFD", text)))
    return either([_globbed(node, form) for form in forms])


def _globbed(node: pw.ColumnBase, text: str) -> pw.ColumnBase:
    pattern = "".join(map(_both_cases, text))
    return pw.NodeList((node, pw.SQL("GLOB"), plain(f"*{pattern}*")), parens=True)


def _both_cases(letter: str) -> str:
    """Return a GLOB that fits a letter in either case; GLOB's own signs stand for themselves."""
    forms = {letter, letter.lower(), letter.upper(), letter.title()}
    forms = {form for form in forms if len(form) == 1}
    return f"[{''.join(sorted(forms))}]" if len(forms) > 1 or letter in "*?[" else letter


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
    return pw.fn.json_extract(field, path, path)


def json_order(field: pw.ColumnBase, keys: Sequence[str]) -> pw.ColumnBase:
    """Return what the keys lead to as SQL compares it: numbers before texts."""
    return pw.fn.json_extract(field, plain(json_path(keys)))


def json_missing(field: pw.ColumnBase, keys: Sequence[str]) -> pw.ColumnBase:
    """Return what is true where the keys lead to nothing or to null."""
    return pw.fn.coalesce(pw.fn.json_type(field, plain(json_path(keys))), "null") == "null"


def some_element(
    field: pw.ColumnBase, keys: Sequence[str], condition: pw.ColumnBase
) -> pw.ColumnBase:
    """Return what is true where a scalar, or an element of a list, fits a condition.

    The condition names its columns je.type and je.value.
    """
    path = json_path(keys)
    elements = (
        pw.SQL("SELECT 1 FROM"),
        pw.fn.json_each(field, plain(path)),
        pw.SQL("AS je WHERE"),
        condition,
        pw.SQL("AND"),
        pw.fn.json_type(field, plain(path)),
        pw.SQL("<> 'object'"),
    )
    return pw.fn.EXISTS(pw.NodeList(elements))
