"""A glimpse of a record for the TAB key: a few values at once, or nothing.

Peewee is not loaded for a file: that alone takes longer than a key press may. Every query is a
seek in an index, or reads a bounded number of rows.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
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


class Glimpse:
    """What an open record tells; each method yields texts that begin with ``start``."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def speakers(self, start: str) -> Iterator[str]:
        """Yield the names of speakers."""
        return self._distinct("speakers", "name", start)

    def operations(self, start: str) -> Iterator[str]:
        """Yield the operations of runs."""
        return self._distinct(_RUNS, "operation_type", start)

    def models(self, start: str) -> Iterator[str]:
        """Yield models, each without and with its versions."""
        head, colon, _ = start.partition(":")
        seen: set[str] = set()
        for operation in self.operations(""):
            run = {"operation_type": operation}
            for model in self._distinct(_RUNS, "model_type", head, **run):
                versions = self._distinct(_RUNS, "model_version", "", model_type=model, **run)
                named = (f"{model}:{version}" for version in versions)
                for name in named if colon else chain([model], named):
                    if name.startswith(start) and name not in seen:
                        seen.add(name)
                        yield name

    def tags(self, start: str) -> Iterator[str]:
        """Yield the tags of the speakers that were added last."""
        return self._in_json("speakers", "tags", start)

    def metrics(self, start: str) -> Iterator[str]:
        """Yield the names of what was measured last, beside the columns."""
        return self._in_json("model_performance", "additional_metrics", start)

    def _distinct(self, table: str, column: str, start: str, **fixed: str) -> Iterator[str]:
        """Yield the different values of an indexed column: each is one seek behind the last."""
        where = "".join(f"{name} = ? AND " for name in fixed)
        last, sign = start, ">="
        for _ in range(MOST):
            sql = f"SELECT min({column}) FROM {table} WHERE {where}{column} {sign} ?"  # noqa: S608
            last = self._ask(sql, [*fixed.values(), last])[0][0]
            if not isinstance(last, str) or not last.startswith(start):
                return
            yield last
            sign = ">"

    def _in_json(self, table: str, column: str, start: str) -> Iterator[str]:
        sql = f"SELECT {column} FROM {table} ORDER BY id DESC LIMIT {_NEWEST}"  # noqa: S608
        values = {text for (text,) in self._ask(sql) if isinstance(text, str)}
        names = {name for text in values for name in _names(text)}
        yield from sorted(name for name in names if name.startswith(start))[:MOST]


_RUNS: Final = "processing_history"


def _names(text: str) -> Iterator[str]:
    """Yield the texts of a JSON array, or the keys of an object."""
    import json  # only tags and metrics need it

    try:
        value = json.loads(text)
    except ValueError:
        return
    if isinstance(value, dict | list):
        yield from (name for name in value if isinstance(name, str))


@contextmanager
def glimpse(target: str | None) -> Iterator[Glimpse]:
    """Open a record for a moment, to read; whatever hinders that is raised."""
    name = resolve(target)
    if is_server(name):
        server = open_server(name, _SERVER_PATIENCE)
        try:
            server.connect()
            yield Glimpse(lambda *query: server.connection().execute(*query).fetchall())
        finally:
            server.close_all()
    elif name != MEMORY:
        with closing(_connect(name)) as connection:
            yield Glimpse(lambda *query: connection.execute(*query).fetchall())


def _connect(path: str) -> sqlite3.Connection:
    """Connect to a file so that nothing is made beside it, and every query ends soon."""
    is_still = not os.path.lexists(f"{os.path.realpath(path)}-wal")
    uri = f"{Path(path).as_uri()}?mode=ro{'&immutable=1' if is_still else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=0)
    deadline = time.monotonic() + _PATIENCE
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    return connection
