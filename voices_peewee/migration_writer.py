"""Write the difference between models and migrations as a migration file.

Both schemas are made in memory and compared; the file is run there, forth and back, before
it is placed. It is loaded late, with peewee-migrate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import peewee as pw
from playhouse.migrate import make_index_name

from voices_peewee.drift import Column, Table, differences, drift, model_schema, read_schema
from voices_peewee.errors import MigrationError
from voices_peewee.migration_code import (
    Code,
    call,
    check_code,
    constraint_sql,
    default_code,
    field_code,
    model_code,
    plain_indexes,
    string,
)
from voices_peewee.migration_router import SafeRouter
from voices_peewee.table_sql import checks, mentions, normal, quoted, tokens

Schema = Mapping[str, Table]
Models = Mapping[str, type[pw.Model]]

_HISTORY: Final = "schema_migrations"


def write(
    path: Path, models: Sequence[type[pw.Model]], paths: Mapping[str, Path], *, empty: bool
) -> None:
    """Write the migration ``path`` that follows after ``paths`` and leads to the models.

    Raises:
        MigrationError: The difference cannot be written, or the file cannot.
    """
    text = _empty(path) if empty else _text(path, models, paths)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise MigrationError(f"cannot write {str(path)!r}: {error.strerror}") from error


def _text(path: Path, models: Sequence[type[pw.Model]], paths: Mapping[str, Path]) -> str:
    memory = pw.SqliteDatabase(":memory:")
    with memory.connection_context():
        present, own = _replay(memory, paths, path.parent)
        before = read_schema(memory)
    after = model_schema(models)
    gone = own - after.keys() if own & after.keys() else set()
    before = {name: table for name, table in before.items() if name in after or name in gone}
    wanted = {model._meta.table_name: model for model in models}
    names = {**_field_names(wanted), **_field_names(present)}
    forth = list(_Plan(before, after, wanted, names, undo=False).lines())
    back = list(_Plan(after, before, present, names, undo=True).lines())
    if not forth:
        return _empty(path)
    text = _file(path, forth, back)
    _prove(text, path, models, paths, before)
    return text
