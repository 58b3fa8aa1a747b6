"""A transaction on a server that costs few statements and few waits.

It begins when it must: what is read before anything is written needs no transaction, and
statements that were added go as one, which is a transaction by itself where it is all there is.
So is what follows a lock: to the server, all that is sent in one pipeline is one transaction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, suppress
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import peewee as pw
import psycopg

# peewee-stubs lack it.
peewee_errors: Final = vars(pw)["__exception_wrapper__"]

_PIECE: Final = re.compile(
    r"""(?P<kept>'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | ::)
    | (?P<place>\?) | :(?P<name>[A-Za-z_]\w*) | (?P<percent>%)""",
    re.DOTALL | re.VERBOSE,
)


@lru_cache(maxsize=256)
def for_psycopg(sql: str) -> str:
    """Return a statement with ``?`` and ``:name`` as psycopg writes them."""

    def replace(match: re.Match[str]) -> str:
        if match["place"]:
            return "%s"
        if match["name"]:
            return f"%({match['name']})s"
        return match.group().replace("%", "%%")

    return _PIECE.sub(replace, sql)


def spelled(sql: Any, values: Any) -> Any:
    """Return a statement as psycopg reads it; what Peewee compiled is spelled so already."""
    return for_psycopg(sql) if values and "?" in sql and "%s" not in sql else sql


def locking(count: int, *, is_shared: bool = True) -> str:
    """Return what takes so many locks, and before them a shared one."""
    calls = ["pg_advisory_xact_lock_shared(hashtextextended(?, 7))"] if is_shared else []
    return ", ".join([*calls, *["pg_advisory_xact_lock(hashtextextended(?, 7))"] * count])


class Later:
    """What an added statement returns, if it is the last of those that go along."""

    cursor: Any = None

    def __init__(self, together: Together) -> None:
        self._together = together

    def __getattr__(self, name: str) -> Any:
        if self.cursor is None:
            self._together.begin()
        return getattr(self.cursor, name)


class Together:
    """The statements of one transaction, as ``sqlite.Steps`` has them."""

    gives_ids = True
    is_part = False

    def __init__(self, connection: Any) -> None:
        self._connection, self.has_begun, self._is_open = connection, False, False
        self._added: dict[str, tuple[Sequence[Any], Later]] = {}
        self._pipeline = ExitStack()
        self.execute = connection.execute  # which begins

    def ask(self, sql: str, values: Sequence[Any], lock: str | None = None) -> Any:
        """Run a SELECT, outside of the transaction where nothing was written yet.

        With a lock it is a part of the transaction, and may not see what was written by whom it
        waited for: only the next statement does.
        """
        if self._added:
            self.begin()
        if lock is not None:
            self._open()
            sql = f"SELECT asked.* FROM (SELECT {locking(1)}) AS locks, ({sql}) AS asked"  # noqa: S608
            values = ["sources", lock, *values]
        return self._send(sql, values)

    def lock(self, sql: str, values: Sequence[Any]) -> None:
        """Take locks that last to the end; what is asked then sees what others did before."""
        self._open()
        self._send(sql, values)

    def add(self, sql: str, values: Sequence[Any]) -> Later:
        """Take a statement that may go as one with those before and after it.

        The parts see the database as it was before all of them. The same one twice goes apart:
        the texts are few, and each is prepared.
        """
        if sql in self._added:
            self.begin()
        self._added[sql] = values, (later := Later(self))
        return later

    def begin(self) -> None:
        """Begin on the server, unless that is done, and send what was added."""
        if not self.has_begun:
            self.has_begun = True
            self._open()
            self._send("BEGIN")
        self._send_added()

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._pipeline.enter_context(self._connection.pipeline())

    def end(self) -> None:
        """Send what is left, and wait for the answers that nobody has read."""
        self._send_added()
        with peewee_errors:
            self._pipeline.close()

    def undo(self) -> None:
        """Forget what was not sent, and whatever the server says of the rest."""
        self._added.clear()
        with suppress(Exception), peewee_errors:  # an interrupted pipeline fails in ways of its own
            self._pipeline.close()

    def _send_added(self) -> None:
        if self._added:
            parts, self._added = self._added, {}
            values = [*chain.from_iterable(values for values, _ in parts.values())]
            *_, (_, last) = parts.values()
            last.cursor = self._send(_fused(tuple(parts)), values)

    def _send(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Run a statement, prepared; for the first time both go as one."""
        connection, known = self._connection, self._connection.known
        cursor = psycopg.Cursor(connection)  # connection.cursor() would begin
        form = (sql, *map(type, values))  # what psycopg prepares by
        is_new = not self._is_open and form not in known
        known.add(form)
        with peewee_errors, connection.pipeline() if is_new else nullcontext():
            return cursor.execute(spelled(sql, values), values or None, prepare=True)


@lru_cache(maxsize=64)
def _fused(parts: tuple[str, ...]) -> str:
    """Return one statement that does what several do, and returns what the last one does."""
    *others, last = (spelled(part, True) for part in parts)
    before = [f"part_{place} AS ({part})" for place, part in enumerate(others)]
    return f"WITH {', '.join(before)} {last}" if before else last
