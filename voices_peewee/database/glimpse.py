"""A glimpse of a record for the TAB key: a few values at once, or nothing.

Peewee is not loaded for a file: that alone takes longer than a key press may. Every query is a
seek in an index, or reads a bounded number of rows.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final

from voices_peewee.database.files import MEMORY, is_server, resolve
from voices_peewee.database.server_url import open_server

Ask = Callable[..., list[tuple[Any, ...]]]

MOST: Final = 200  # values of one kind
_NEWEST: Final = 500  # rows whose JSON is looked into
_PATIENCE: Final = 0.05  # s
_SERVER_PATIENCE: Final = 1.0  # s
_STEPS: Final = 1000  # of SQLite's machine between two looks at the clock
_RUNS: Final = "processing_history"


def recorded(ask: Ask, kind: str, start: str) -> Iterator[str]:
    """Yield texts of a kind that begin with ``start``: tags and metrics of what was added last."""
    if kind == "speakers":
        yield from _distinct(ask, "speakers", "name", start)
    elif kind == "operations":
        yield from _distinct(ask, _RUNS, "operation_type", start)
    elif kind == "models":
        yield from _models(ask, start)
    elif kind == "tags":
        yield from _in_json(ask, "speakers", "tags", start)
        yield from _in_json(ask, _RUNS, "tags", start)
    else:
        yield from _in_json(ask, "model_performance", "additional_metrics", start)


def _models(ask: Ask, start: str) -> Iterator[str]:
    """Yield models, each without and with its versions."""
    head, colon, _ = start.partition(":")
    for operation in _distinct(ask, _RUNS, "operation_type", ""):
        run = {"operation_type": operation}
        for model in _distinct(ask, _RUNS, "model_type", head, **run):
            versions = _distinct(ask, _RUNS, "model_version", "", model_type=model, **run)
            named = (f"{model}:{version}" for version in versions)
            names = named if colon else chain([model], named)
            yield from (name for name in names if name.startswith(start))


def _distinct(ask: Ask, table: str, column: str, start: str, **fixed: str) -> Iterator[str]:
    """Yield the different values of an indexed column: each is one seek behind the last."""
    where = "".join(f"{name} = ? AND " for name in fixed)
    last, sign = start, ">="
    for _ in range(MOST):
        sql = f"SELECT min({column}) FROM {table} WHERE {where}{column} {sign} ?"  # noqa: S608
        last = ask(sql, [*fixed.values(), last])[0][0]
        if not isinstance(last, str) or not last.startswith(start):
            return
        yield last
        sign = ">"


def _in_json(ask: Ask, table: str, column: str, start: str) -> Iterator[str]:
    """Yield the texts of JSON arrays, or the keys of objects."""
    import json  # only tags and metrics need it

    sql = f"SELECT DISTINCT {column} FROM (SELECT {column} FROM {table}"  # noqa: S608
    found: set[str] = set()
    for (text,) in ask(f"{sql} ORDER BY id DESC LIMIT {_NEWEST}) AS newest"):
        with suppress(ValueError, TypeError):
            found.update(name for name in json.loads(text) if isinstance(name, str))
    yield from sorted(name for name in found if name.startswith(start))[:MOST]


@contextmanager
def glimpse(target: str | None) -> Iterator[Ask]:
    """Open a record for a moment, to read; whatever hinders that is raised."""
    name = resolve(target)
    if is_server(name):
        server = open_server(name, _SERVER_PATIENCE)
        try:
            server.connect()
            yield lambda *query: server.connection().execute(*query).fetchall()
        finally:
            server.close_all()
    elif name != MEMORY:
        with closing(_connect(name)) as connection:
            yield lambda *query: connection.execute(*query).fetchall()


def _connect(path: str) -> sqlite3.Connection:
    """Connect to a file so that nothing is made beside it, and every query ends soon."""
    is_still = not os.path.lexists(f"{os.path.realpath(path)}-wal")
    uri = f"{Path(path).as_uri()}?mode=ro{'&immutable=1' if is_still else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=0)
    deadline = time.monotonic() + _PATIENCE
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    return connection
