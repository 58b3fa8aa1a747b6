"""Write peewee fields, models and constraints as the Python source of a migration."""

from __future__ import annotations

import ast
import datetime as dt
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

import peewee as pw

from voices_peewee.migrations.table_sql import Check, checks

_WIDTH: Final = 100
_INDENT: Final = "    "


@dataclass(frozen=True)
class Code:
    """An expression: ``opening``, items and ``closing`` on one line, or an item a line."""

    opening: str
    items: tuple[Code | str, ...] = ()
    closing: str = ")"
    lone: str = ""  # what follows a single item on one line: the comma of a tuple

    def __str__(self) -> str:
        lone = self.lone if len(self.items) == 1 else ""
        return f"{self.opening}{', '.join(map(str, self.items))}{lone}{self.closing}"

    def named(self, name: str) -> Code:
        """Return ``name=`` this."""
        return replace(self, opening=f"{name}={self.opening}")

    def lines(self, indent: str, end: str = "") -> list[str]:
        """Return the source as the formatter of this project writes it."""
        if len(flat := f"{indent}{self}{end}") <= _WIDTH:
            return [flat]
        inner = indent + _INDENT
        body = [line for item in self.items for line in _item_lines(item, inner)]
        return [f"{indent}{self.opening}", *body, f"{indent}{self.closing}{end}"]


def _item_lines(item: Code | str, indent: str) -> list[str]:
    if isinstance(item, Code):
        return item.lines(indent, ",")
    if len(indent) + len(item) < _WIDTH or item[0] not in "\"'":
        return [f"{indent}{item},"]
    return _wrapped(item, indent)


def _wrapped(literal: str, indent: str) -> list[str]:
    """Cut a long text at its blanks into adjoining literals."""
    pieces: list[str] = []
    for word in re.split(r"(?= )", ast.literal_eval(literal)):
        if pieces and len(indent) + len(string(pieces[-1] + word)) < _WIDTH:
            pieces[-1] += word
        else:
            pieces.append(word)
    return [f"{indent}{string(piece)}" for piece in pieces[:-1]] + [
        f"{indent}{string(pieces[-1])},"
    ]


def call(function: str, *items: Code | str, **options: Code | str) -> Code:
    """Return a call."""
    named = (
        item.named(key) if isinstance(item, Code) else f"{key}={item}"
        for key, item in options.items()
    )
    return Code(f"{function}(", (*items, *named))


def string(value: str) -> str:
    """Return a text as a literal, in the quotes that need the fewer escapes."""
    literal = repr(value)
    if literal[0] == '"' or value.count('"') > value.count("'"):
        return literal
    body = literal[1:-1].replace("\\'", "'").replace('"', '\\"')
    return f'"{body}"'


def constraint_sql(node: pw.Node) -> str:
    """Return the SQL of a constraint."""
    context = pw.SqliteDatabase(None).get_sql_context(scope=pw.SCOPE_VALUES)
    return str(context.sql(node).query()[0])


def constraint_code(node: pw.Node) -> Code:
    """Return a constraint as peewee's own words."""
    sql = constraint_sql(node)
    found = list(checks(sql))
    if len(found) == 1 and found[0].end - found[0].start == len(sql):
        return check_code(found[0])
    return call("pw.SQL", string(sql))


def check_code(check: Check, *, named: bool = True) -> Code:
    """Return a CHECK."""
    options = {"name": string(check.name)} if named and check.name else {}
    return call("pw.Check", string(check.body), **options)


def field_code(field: Any, name: str, *, default: str | None = None, indexed: bool = True) -> Code:
    """Return a field as one of peewee's own classes, without ``name =``.

    Args:
        default: The source of the value for the rows that are there already.
        indexed: Keep what makes an index on this field.
    """
    kind = next(cls for cls in type(field).__mro__ if cls.__module__ == "peewee")
    options = {**_kind_options(field), **_common_options(field, name, indexed=indexed)}
    if default is not None:
        options["default"] = default
    if field.constraints:
        options["constraints"] = Code("[", tuple(map(constraint_code, field.constraints)), "]")
    return call(f"pw.{kind.__name__}", *_target(field), **options)


def _target(field: Any) -> Iterable[str]:
    if not isinstance(field, pw.ForeignKeyField):
        return []
    if field.rel_model is field.model:
        return ['"self"']
    return [f"migrator.orm[{string(field.rel_model._meta.table_name)}]"]


def _kind_options(field: Any) -> dict[str, Code | str]:
    """Return what only this kind of field has."""
    options: dict[str, Code | str] = {}
    if isinstance(field, pw.CharField) and field.max_length != 255:
        options["max_length"] = str(field.max_length)
    if isinstance(field, pw.DecimalField):
        options["max_digits"] = str(field.max_digits)
        options["decimal_places"] = str(field.decimal_places)
    if isinstance(field, pw.ForeignKeyField):
        if not field.rel_field.primary_key:
            options["field"] = string(field.rel_field.name)
        for key in ("on_delete", "on_update", "deferrable", "constraint_name"):
            if value := getattr(field, key):
                options[key] = string(value)
    return options


def _common_options(field: Any, name: str, *, indexed: bool) -> dict[str, Code | str]:
    foreign = isinstance(field, pw.ForeignKeyField)
    own_name = f"{name}_id" if foreign and not name.endswith("_id") else name
    index, unique = field.index and indexed, field.unique and indexed
    said = {
        "column_name": string(field.column_name) if field.column_name != own_name else None,
        "primary_key": "True" if field.primary_key and not _is_auto(field) else None,
        "null": "True" if field.null else None,
        "index": str(bool(index)) if bool(index) != foreign and not unique else None,
        "unique": "True" if unique else None,
        "collation": string(field.collation) if field.collation else None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _is_auto(field: Any) -> bool:
    return isinstance(field, pw.AutoField | pw.BigAutoField)


def default_code(field: Any) -> str | None:
    """Return the source of a field's default; None where there is none."""
    default = field.default
    if default is None:
        return None
    if default in (list, dict, str, int, float, bool):
        return str(default.__name__)
    value = default() if callable(default) else default
    if not isinstance(field, pw.JSONField):
        value = field.db_value(value)
    if isinstance(value, dt.date | dt.time | Decimal | uuid.UUID):
        value = str(value)
    return _literal(value)


def _literal(value: object) -> str:
    if isinstance(value, dict):
        items = (f"{_literal(key)}: {_literal(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return string(value) if isinstance(value, str) else repr(value)


def empty_code(field: Any) -> str:
    """Return the source of the value that says least, for a column that must hold one."""
    if isinstance(field, pw.JSONField):
        return "dict"
    if isinstance(field, pw.DateTimeField):
        return string("1970-01-01 00:00:00.000000+00:00")
    if isinstance(field, pw.TextField | pw.CharField):
        return string("")
    return "0"


def model_code(model: type[pw.Model]) -> list[str]:
    """Return the lines that create a model's table with the indexes that Meta can say."""
    lines = ["@migrator.create_model", f"class {model.__name__}(pw.Model):"]
    for field in model._meta.sorted_fields:
        if not (field.name == "id" and type(field) is pw.AutoField):
            lines += _assignment(field.name, field_code(field, field.name), _INDENT)
    if len(lines) > 2:
        lines.append("")
    return [*lines, f"{_INDENT}class Meta:", *_meta_lines(model._meta, _INDENT * 2)]


def _meta_lines(meta: Any, indent: str) -> list[str]:
    said: dict[str, Code | str] = {"table_name": string(meta.table_name)}
    if not meta.legacy_table_names:
        said["legacy_table_names"] = "False"
    if isinstance(meta.primary_key, pw.CompositeKey):
        said["primary_key"] = call("pw.CompositeKey", *map(string, meta.primary_key.field_names))
    elif meta.primary_key is False:
        said["primary_key"] = "False"
    for key in ("strict_tables", "without_rowid"):
        if getattr(meta, key):
            said[key] = "True"
    if indexes := plain_indexes(meta):
        said["indexes"] = _tuple(_index_code(*index) for index in indexes)
    if meta.constraints:
        said["constraints"] = _tuple(map(constraint_code, meta.constraints))
    return [line for key, code in said.items() for line in _assignment(key, code, indent)]


def _assignment(name: str, code: Code | str, indent: str) -> list[str]:
    if isinstance(code, str):
        return [f"{indent}{name} = {code}"]
    return replace(code, opening=f"{name} = {code.opening}").lines(indent)


def _index_code(fields: tuple[str, ...], unique: bool) -> Code:
    return _tuple((_tuple(map(string, fields)), str(unique)))


def _tuple(items: Iterable[Code | str]) -> Code:
    return Code("(", tuple(items), lone=",")


def plain_indexes(meta: Any) -> list[tuple[tuple[str, ...], bool]]:
    """Return the indexes of a Meta that name fields only: the fields, and whether unique."""
    found = []
    for index in meta.indexes:
        if isinstance(index, list | tuple) and all(isinstance(part, str) for part in index[0]):
            fields = [meta.combined[part] for part in index[0]]
            if len(fields) > 1 or not (fields[0].index or fields[0].unique):
                found.append((tuple(field.name for field in fields), bool(index[1])))
    return found
