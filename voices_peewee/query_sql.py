"""Pieces of SQL that Peewee does not write by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import peewee as pw

from voices_peewee.errors import QueryError
from voices_peewee.store import Store

_FOLD: Final = "voices_fold"


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


def plain(value: object) -> pw.Value:
    """Return a parameter that no field converts."""
    return pw.Value(value, converter=False)


def equals(node: pw.ColumnBase, value: object) -> pw.ColumnBase:
    """Return what is true where a node has a value, which no field converts."""
    return pw.Expression(node, pw.OP.EQ, plain(value))


def contains(store: Store, node: pw.ColumnBase, text: str) -> pw.ColumnBase:
    """Return what is true where a node holds a text, in whichever letter case.

    SQLite's LIKE knows the case of a–z only, and is fast; other letters take a function.
    """
    if text.isascii():
        pattern = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        escaped = pw.NodeList((plain(f"%{pattern}%"), pw.SQL("ESCAPE '\\'")))
        return pw.Expression(node, pw.OP.ILIKE, escaped)
    _register(store, _FOLD, 1, _fold)
    folded: Any = getattr(pw.fn, _FOLD)(node)
    return pw.fn.INSTR(folded, plain(_fold(text))) > 0


def _fold(value: object) -> object:
    return value.casefold() if isinstance(value, str) else value


def _register(store: Store, name: str, arity: int, function: Callable[..., object]) -> None:
    """Give this thread's connection a function, once: SQLite refuses it to a busy one."""
    connection = store.connection()
    present = connection.execute("SELECT 1 FROM pragma_function_list WHERE name = ?", (name,))
    if present.fetchone() is None:
        connection.create_function(name, arity, function, deterministic=True)


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
        pw.fn.json_type(field, plain(path)),
        pw.SQL("<> 'object' AND"),
        condition,
    )
    return pw.fn.EXISTS(pw.NodeList(elements))
