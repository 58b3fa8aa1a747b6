"""A run whose server is away at its end: kept in a file that ``voices import`` takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from voices_peewee.errors import DatabaseError
from voices_peewee.schema.fields import JSONField, UTCDateTimeField, dump_json
from voices_peewee.schema.models import BaseModel

Record = tuple[type[BaseModel], Mapping[str, Any]]


class SpoolWarning(UserWarning):
    """The server is away; what it should have recorded is kept elsewhere."""


def folder() -> Path:
    """Return where runs are kept: ``~/.voices/spool``."""
    return Path("~/.voices/spool").expanduser()


def keep(name: str, records: Iterable[Record]) -> Path:
    """Write records, parents first, as JSON lines in a new file; return its path.

    The file is readable for its owner only, and on the disk when this returns.

    Raises:
        DatabaseError: The file cannot be written.
    """
    path = folder() / f"{name}.jsonl"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            _write(file, records)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DatabaseError(path, (error.strerror or str(error)).lower()) from error
    return path


def _write(file: Any, records: Iterable[Record]) -> None:
    counts: dict[str, int] = {}
    for model, data in records:
        table = str(model._meta.table_name)
        counts[table] = counts.get(table, 0) + 1
        file.write(json.dumps({"table": table, **_columns(model, data)}) + "\n")
    file.write(json.dumps({"table": "end", "rows": counts}) + "\n")


def _columns(model: type[BaseModel], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a row by the names of its columns, as an export spells them."""
    found = {}
    for field in model._meta.sorted_fields:
        value = data.get(field.name)
        if value is not None and isinstance(field, UTCDateTimeField):
            value = field.db_value(value)
        elif value is not None and isinstance(field, JSONField):
            value = json.loads(dump_json(value))
        found[str(field.column_name)] = value
    return found
