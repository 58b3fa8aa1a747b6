"""A connection to PostgreSQL that is used as one of sqlite3 is.

What it returns is what SQLite returns (times and JSON as text, numbers as float), so that
nothing above needs to know.
"""

from __future__ import annotations

import itertools
import math
import os
import select
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Final

import peewee as pw
import psycopg
import psycopg.sql
from psycopg.adapt import Loader
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.numeric import FloatLoader
from psycopg.types.string import TextLoader

from voices_peewee.database.postgres_together import Together, peewee_errors, spelled
from voices_peewee.errors import DatabaseError

# peewee-stubs lack these.
_AnyJSON: Any = vars(pw)["BaseJSONMethods"]
_PeeweesJSON: Any = vars(pw)["PostgresqlJSONMethods"]

_IDLE: Final = TransactionStatus.IDLE
_BATCH: Final = 1000  # sets of values that are sent at once
# What a role, a database or the environment may have set otherwise: values go as they are.
_SESSION: Final = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "jit": "off",  # it takes 0.2 s for a question that then finds a row by its index
}
# A pooler tells a client of a process of its own; what is set in its session is everyone's.
_SET_UP: Final = f"""SELECT {", ".join(["set_config(%s, %s, false)"] * len(_SESSION))},
 CASE pg_backend_pid() WHEN %s THEN set_config('lock_timeout', %s, false) END"""
_SILENT: Final = "it has not answered for {:g} s"
_NOT_UTF8: Final = (
    "its encoding is {}; make one with \"CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'\""
)


class _Time(Loader):
    """A time as SQLite holds it: text in UTC at fixed width, so that text order is time order."""

    def load(self, data: Any) -> str:
        text = bytes(data).decode()
        if not text.endswith("+00"):
            return text
        body, _, fraction = text[:-3].partition(".")
        return f"{body}.{fraction:0<6}+00:00"


# A sum or an average, which PostgreSQL computes as numeric, is a float; JSON is its text.
_LOADERS: Final[dict[str, Any]] = {
    "jsonb": TextLoader,
    "json": TextLoader,
    "timestamptz": _Time,
    "numeric": FloatLoader,
}


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is used as one of sqlite3 is."""

    process = 0
    lock_timeout = ""  # to be set in each transaction, where a pooler gives the session to all
    patience = math.inf  # s without a word until somebody else asks whether the server is there

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.streams: list[str] = []
        self.known = set[tuple[object, ...]]()  # what ``together`` has sent before
        self.together: Together | None = None  # the transaction that goes on
        self._is_waiting = False

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """Wait for the server; one that says nothing may be frozen."""
        before, self._is_waiting = self._is_waiting, True
        try:
            return super().wait(self._watched(gen), *args, **options)
        finally:
            self._is_waiting = before

    def _watched(self, gen: Any) -> Any:
        """Run what psycopg waits with; where nothing comes for long, look whether it can."""
        ready, silent_since = None, 0.0
        while True:
            try:
                wanted = gen.send(ready)
            except StopIteration as done:
                return done.value
            ready = yield wanted
            if ready:
                silent_since = 0.0
            elif not silent_since:
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > self.patience:
                self._require_answer()
                silent_since = 0.0

    def _require_answer(self) -> None:
        """Raise where a second connection is not answered either; else a long statement goes on."""
        facts = self.info
        parts: dict[str, Any] = {**facts.get_parameters(), "host": facts.host, "port": facts.port}
        parts |= {"password": facts.password, "target_session_attrs": "any"}
        parts |= {"connect_timeout": max(2, int(self.patience))}
        try:
            psycopg.connect(**parts).close()
        except psycopg.OperationalError as error:
            if "FATAL" not in str(error):  # that is an answer: it may have no room for a second
                self.pgconn.finish()
                raise psycopg.OperationalError(_SILENT.format(2 * self.patience)) from None

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        if self._is_cut_off():
            return False
        return self.pgconn.transaction_status not in (_IDLE, TransactionStatus.UNKNOWN)

    def _is_cut_off(self) -> bool:
        """Whether an interrupt left an answer, or psycopg's pipeline, that nobody reads."""
        if self._is_waiting or self.together is not None:
            return False
        is_active = self.pgconn.transaction_status == TransactionStatus.ACTIVE
        return is_active or self.pgconn.pipeline_status != PipelineStatus.OFF

    def cursor(self, *args: Any, **options: Any) -> Any:
        """Return a cursor; where a transaction was to begin, it begins."""
        if self.together is not None:
            self.together.begin()
        return super().cursor(*args, **options)

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Run a statement, its values as ``?`` or as ``%s``."""
        with peewee_errors:
            return super().execute(spelled(query, params), params or None, **options)

    def executemany(self, query: str, rows: Iterable[Any]) -> SimpleNamespace:
        """Run a statement with many sets of values; what makes the values may read meanwhile."""
        cursor, rest, count, sql = self.cursor(), iter(rows), 0, spelled(query, True)
        while batch := list(itertools.islice(rest, _BATCH)):
            with peewee_errors:
                cursor.executemany(sql, batch)
            count += cursor.rowcount
        return SimpleNamespace(rowcount=count)

    def dicts(self, query: str, params: Any = None) -> list[dict[str, Any]]:
        """Return the rows of one statement; without values, ``execute`` takes several at once."""
        with peewee_errors:
            return list(self.cursor(row_factory=dict_row).stream(query, params or None))

    def stream(self, query: str, params: Any = None) -> Any:
        """Run a SELECT whose rows stay on the server until they are fetched.

        Where nothing is prepared, the next statement outside a transaction may reach another
        session of the server (PgBouncer's transaction mode): all rows are fetched at once.
        """
        if self.prepare_threshold is None and not self.in_transaction:
            return self.execute(query, params)
        cursor = _Stream(self, f"voices_{os.urandom(6).hex()}", withhold=not self.in_transaction)
        with peewee_errors:
            cursor.execute(query, params or None)
        return cursor

    def end(self, statement: str) -> None:
        """End a transaction; close the connection where an interrupt left an answer half read."""
        if self.closed:
            return
        if self.pgconn.transaction_status in (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN):
            self.close()
        else:
            self.execute(statement)

    def forget_prepared(self) -> None:
        """Prepare anew: the server skips what was sent behind a statement that it refuses.

        psycopg takes some of that for prepared all the same.
        """
        self.known.clear()
        if self.closed or self.prepare_threshold is None:
            return
        if self.pgconn.transaction_status != _IDLE:
            self.close()
            return
        self._prepared.clear()  # psycopg 3.2 does not see by itself what comes next
        try:
            self.execute("DEALLOCATE ALL", prepare=False)
        except pw.PeeweeException:
            self.close()

    def close_streams(self) -> None:
        """Let the server forget the rows of streams that nobody reads any more."""
        while self.streams and self.pgconn.transaction_status == _IDLE:
            name = psycopg.sql.Identifier(self.streams.pop())
            self.execute(psycopg.sql.SQL("CLOSE {}").format(name))

    def is_lost(self) -> bool:
        """Whether an idle connection was closed by the server, or cut off; costs no round trip."""
        if self.closed or self._is_cut_off():
            return True
        if self.pgconn.transaction_status != _IDLE:
            return self.pgconn.transaction_status == TransactionStatus.UNKNOWN
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN | select.POLLHUP)
        if not poll.poll(0):
            return False
        try:  # a notice, or the server's last words
            super().execute("SELECT 1")
        except psycopg.OperationalError:
            return True
        return False

    def __del__(self, *_: object) -> None:
        if self.process == os.getpid():  # the thread has ended: what it did not commit is undone
            self.pgconn.finish()

    def abandon(self) -> None:
        """Forget a parent's connection in a forked child: what is sent goes nowhere."""
        with suppress(psycopg.Error, OSError):
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self.pgconn.socket)
            os.close(nowhere)


class _Stream(psycopg.ServerCursor[tuple[Any, ...]]):
    """Rows that stay on the server.

    One that is dropped is closed when its connection is next used: here may be any thread, in
    the middle of anything.
    """

    _withhold = False  # until it is made; an interrupt may come before

    def __del__(self, *_: object) -> None:
        if self._withhold and isinstance(self._conn, Connection):
            self._conn.streams.append(self.name)


class Adapter(pw.Psycopg3Adapter):
    """Makes connections of ours from what libpq knows: URL, environment, ~/.pgpass, services."""

    def connect(self, db: Any, **_: Any) -> Connection:
        """Connect as a ``Server`` says, and make the session one of ours."""
        connection = Connection.connect(db.conninfo, autocommit=True, **db.options)
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise DatabaseError(db.label, _NOT_UTF8.format(encoding))
        for name, loader in _LOADERS.items():
            connection.adapters.register_loader(name, loader)
        pid, wait = connection.info.backend_pid, str(int(1000 * db.timeout))
        values = [*itertools.chain(*_SESSION.items()), pid, wait]
        if connection.execute(_SET_UP, values).fetchone()[-1] is None:
            connection.lock_timeout, connection.prepare_threshold = wait, None
        connection.process, connection.patience = os.getpid(), db.timeout / 2
        db.made[id(connection)] = connection
        return connection


class JSONMethods(_PeeweesJSON):  # type: ignore[misc] # peewee-stubs lack it
    """Peewee's JSON operations, for JSON that arrives as text."""

    def make_value_reader(self, loads: Callable[[str], Any]) -> Callable[[Any], Any]:
        """Return what reads a stored value."""
        reader: Callable[[Any], Any] = _AnyJSON.make_value_reader(self, loads)
        return reader
