"""PostgreSQL as an engine: connections, their pool, threads, forks and a server that went away.

Only ``engine.open_server`` imports this: it loads psycopg. What a connection returns is what
SQLite returns (times and JSON as text, numbers as float), so that nothing above needs to know.
"""

from __future__ import annotations

import itertools
import os
import re
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

import peewee as pw
import psycopg
import psycopg.sql
from playhouse.cockroachdb import CockroachDatabase
from playhouse.pool import MaxConnectionsExceeded, PooledDatabase
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from voices_peewee.database.dialects import for_psycopg
from voices_peewee.database.forks import forks
from voices_peewee.database.server_url import masked, split_options
from voices_peewee.errors import DatabaseError

# peewee-stubs lack these.
_peewee_errors: Final = vars(pw)["__exception_wrapper__"]
_AnyJSON: Any = vars(pw)["BaseJSONMethods"]
_PeeweesJSON: Any = vars(pw)["PostgresqlJSONMethods"]

_IDLE: Final = TransactionStatus.IDLE
_PAUSE: Final = 0.05  # s before a second attempt to connect; then twice as long each time
_LONGEST_PAUSE: Final = 1.0
_BATCH: Final = 1000  # sets of values that are sent at once
_CONNECT: Final = 10  # s that one attempt may take
_APPLICATION: Final = "voices"
# What a role, a database or the environment may have set otherwise: values go as they are.
_SESSION: Final = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
}
_AWAY: Final = ("refused", "no such file", "timeout", "timed out", "reset by peer", "unreachable")
_STARTING: Final = ("starting up", "shutting down", "recovery mode", "not yet accepting")


_NOT_UTF8: Final = (
    "its encoding is {}; make one with \"CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'\""
)
_NO_PORT: Final = "a port is a number"


class _Text(Loader):
    """JSON as the text that it is."""

    def load(self, data: Any) -> str:
        return bytes(data).decode()


class _Float(Loader):
    """A sum or an average, which PostgreSQL computes as numeric, as a float."""

    def load(self, data: Any) -> float:
        return float(bytes(data))


class _Time(Loader):
    """A time as SQLite holds it: text in UTC at fixed width, so that text order is time order."""

    def load(self, data: Any) -> str:
        text = bytes(data).decode()
        if not text.endswith("+00"):
            return text
        body, _, fraction = text[:-3].partition(".")
        return f"{body}.{fraction:0<6}+00:00"


class Written(NamedTuple):
    """What a statement with many sets of values did."""

    rowcount: int


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is used as one of sqlite3 is."""

    process = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.streams: list[str] = []

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.pgconn.transaction_status != _IDLE

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Run a statement, its values as ``?`` or as ``%s``."""
        if params and "?" in query and "%s" not in query:
            query = for_psycopg(query)
        with _peewee_errors:
            return super().execute(query, params or None, **options)

    def executemany(self, query: str, rows: Iterable[Any]) -> Written:
        """Run a statement with many sets of values; what makes the values may read meanwhile."""
        cursor, rest, count = self.cursor(), iter(rows), 0
        sql = for_psycopg(query) if "%s" not in query else query
        while batch := list(itertools.islice(rest, _BATCH)):
            with _peewee_errors:
                cursor.executemany(sql, batch)
            count += cursor.rowcount
        return Written(count)

    def dicts(self, query: str, params: Any = None) -> list[dict[str, Any]]:
        """Return the rows of one statement; without values, ``execute`` takes several at once."""
        with _peewee_errors:
            return list(self.cursor(row_factory=dict_row).stream(query, params or None))

    def stream(self, query: str, params: Any = None) -> Any:
        """Run a SELECT whose rows stay on the server until they are fetched.

        Where nothing is prepared, the next statement outside a transaction may reach another
        session of the server (PgBouncer's transaction mode): all rows are fetched at once.
        """
        if self.prepare_threshold is None and not self.in_transaction:
            return self.execute(query, params)
        cursor = _Stream(self, f"voices_{os.urandom(6).hex()}", withhold=not self.in_transaction)
        with _peewee_errors:
            cursor.execute(query, params or None)
        return cursor

    def close_streams(self) -> None:
        """Let the server forget the rows of streams that nobody reads any more."""
        while self.streams and self.pgconn.transaction_status == _IDLE:
            name = psycopg.sql.Identifier(self.streams.pop())
            self.execute(psycopg.sql.SQL("CLOSE {}").format(name))

    def is_lost(self) -> bool:
        """Whether an idle connection was closed by the server; costs no round trip."""
        if self.closed:
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

    def __del__(self, *_: object) -> None:
        if self._withhold and isinstance(self._conn, Connection):
            self._conn.streams.append(self.name)


class _Adapter(pw.Psycopg3Adapter):
    """Makes connections of ours from what libpq knows: URL, environment, ~/.pgpass, services."""

    def connect(self, db: Any, **_: Any) -> Connection:
        connection = Connection.connect(db.conninfo, autocommit=True, **db.options)
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise DatabaseError(db.label, _NOT_UTF8.format(encoding))
        types, info = psycopg.adapters.types, connection.adapters
        for name, loader in (("jsonb", _Text), ("json", _Text), ("timestamptz", _Time)):
            info.register_loader(types[name].oid, loader)
        info.register_loader(types["numeric"].oid, _Float)
        settings = {**_SESSION, "lock_timeout": str(int(1000 * db.timeout))}
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        connection.execute(f"SELECT {calls}", [*itertools.chain(*settings.items())])
        connection.process = os.getpid()
        db.made[id(connection)] = connection
        return connection


class _JSONMethods(_PeeweesJSON):  # type: ignore[misc] # peewee-stubs lack it
    """Peewee's JSON operations, for JSON that arrives as text."""

    def make_value_reader(self, loads: Callable[[str], Any]) -> Callable[[Any], Any]:
        reader: Callable[[Any], Any] = _AnyJSON.make_value_reader(self, loads)
        return reader


class _Closer:
    """Gives a connection back to the pool when the thread ends that holds this."""

    def __init__(self, database: Any, connection: Connection) -> None:
        self.database, self.connection = weakref.ref(database), connection
        self.process = os.getpid()
        self.is_done = False

    def __del__(self) -> None:
        database = self.database()
        if self.is_done or database is None or os.getpid() != self.process:
            return
        with suppress(Exception):  # the interpreter may be ending
            database.give_back(self.connection)


class Server(PooledDatabase):  # type: ignore[misc] # playhouse has no types
    """What PostgreSQL and CockroachDB share; each thread has a connection of its own.

    A thread's connection goes back to the pool when the thread ends or closes it. One that
    the server has closed is replaced before it is used. A forked child leaves its parent's
    alone and opens its own.
    """

    json_methods = _JSONMethods
    psycopg3_adapter = _Adapter

    def __init__(self, url: str, *, timeout: float) -> None:
        self.label, self.timeout = masked(url), timeout
        rest, own = split_options(url)
        parts: dict[str, Any] = conninfo_to_dict(rest)
        if not re.fullmatch(r"[0-9,]*", str(parts.get("port") or "")):
            raise ValueError(_NO_PORT)  # libpq would show it: it may be the end of a password
        self.conninfo = rest
        self.options: dict[str, Any] = {
            # To psycopg 0 would mean "at once", and None "never".
            "prepare_threshold": own.get("prepare_threshold", 5) or None,
            "client_encoding": "UTF8",
        }
        if not parts.get("connect_timeout"):
            self.options["connect_timeout"] = max(1, min(_CONNECT, int(timeout)))
        if not parts.get("application_name"):
            self.options["application_name"] = _APPLICATION
        self.made: weakref.WeakValueDictionary[int, Connection] = weakref.WeakValueDictionary()
        self._was_connected = False
        self._state: Any
        super().__init__(
            self.label,
            max_connections=own.get("max_connections", 0),
            timeout=timeout,
            field_types={"DATETIME": "TIMESTAMPTZ", "TEXT": self.text_type},
            prefer_psycopg3=True,
        )
        forks.databases.add(self)

    text_type = "TEXT"

    # Connecting

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Connect the calling thread; wait for a server that is starting or was there before."""
        deadline, pause = time.monotonic() + self.timeout, _PAUSE
        while True:
            try:
                found: bool = super().connect(reuse_if_open)
            except MaxConnectionsExceeded as error:
                raise DatabaseError(
                    self.label,
                    f"all {self._max_connections} connections of this process are in use; "
                    "close some, or raise max_connections",
                ) from error
            except pw.OperationalError as error:
                left = deadline - time.monotonic()
                if left < 0 or not self._may_return(error):
                    raise
            else:
                self._was_connected = True
                return found
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _may_return(self, error: Exception) -> bool:
        message = str(error).lower()
        known = (*_STARTING, *(_AWAY if self._was_connected else ()))
        return any(word in message for word in known)

    def _connect(self) -> Any:
        connection = super()._connect()
        self._state.closer = _Closer(self, connection)
        return connection

    def _close(self, conn: Any, close_conn: bool = False) -> None:
        closer = getattr(self._state, "closer", None)
        if closer is not None and closer.connection is conn:
            closer.is_done = True
        super()._close(conn, close_conn=close_conn)

    def give_back(self, connection: Connection) -> None:
        """Return the connection of a thread that has ended; undo what it did not commit."""
        super()._close(connection, close_conn=connection.closed)

    def _is_closed(self, conn: Any) -> bool:
        return bool(conn.is_lost())

    def connection(self) -> Any:
        """Return this thread's connection: a new one where the server closed the last."""
        self._drop_lost()
        return super().connection()

    def cursor(self, named_cursor: Any = None) -> Any:
        """Return a cursor of this thread's connection."""
        self._drop_lost()
        return super().cursor(named_cursor)

    def _drop_lost(self) -> None:
        state = self._state
        if not state.closed and not state.transactions and state.conn.is_lost():
            connection = state.conn
            state.reset()
            self._close(connection, close_conn=True)
        elif not state.closed and state.conn.streams:
            state.conn.close_streams()

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement, its values as ``?`` or as ``%s``."""
        if params and "?" in sql and "%s" not in sql:
            sql = for_psycopg(sql)
        return super().execute_sql(sql, params or None)

    # Transactions

    def in_own_transaction(self) -> bool:
        """Whether the calling thread's connection is inside a transaction."""
        return not self.is_closed() and bool(self._state.conn.in_transaction)

    def rollback(self) -> None:
        """Roll back, unless the connection is gone: its error is the one to be seen."""
        if not self.is_closed() and not self._state.conn.closed:
            with suppress(pw.OperationalError):
                super().rollback()

    def pop_transaction(self) -> Any:
        """Leave a transaction; a forked child may leave one that its parent began."""
        return self._state.transactions.pop() if self._state.transactions else None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every read inside see one state of the database."""
        connection = self.connection()
        if connection.in_transaction:
            yield
            return
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            if not connection.closed:
                connection.execute("ROLLBACK")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Refuse every write inside."""
        connection = self.connection()
        begin, end = ("SAVEPOINT voices_reading", "ROLLBACK TO voices_reading")
        if not connection.in_transaction:
            begin, end = "BEGIN", "ROLLBACK"
        connection.execute(begin)
        try:
            connection.execute("SET LOCAL transaction_read_only = on")
            yield
        finally:
            if not connection.closed:
                connection.execute(end)

    def lock(self, *keys: str, shared: str | None = None) -> None:
        """Keep others who lock the same keys out until the transaction ends.

        Args:
            keys: What is locked; always in the same order, so that two cannot wait for each other.
            shared: What is locked before, together with others who do the same.
        """
        calls = ["pg_advisory_xact_lock_shared(hashtextextended(%s, 7))"] if shared else []
        calls += ["pg_advisory_xact_lock(hashtextextended(%s, 7))"] * len(keys)
        values = [*([shared] if shared else []), *sorted(keys)]
        self.connection().execute(f"SELECT {', '.join(calls)}", values)

    # Closing and forking

    @property
    def connections(self) -> list[Connection]:
        """The open connections of all threads; those that wait in the pool are not among them."""
        with self._pool_lock:
            used = [one.connection for one in self._in_use.values()]
        return [one for one in used if not one.closed]

    def close_all(self) -> None:
        """Close the connections of all threads; undo what was not committed."""
        made = list(self.made.values())
        self.dispose()
        for connection in made:
            connection.close()

    def forget(self) -> None:
        """Begin anew in a forked child, which leaves its parent's connections alone."""
        for connection in list(self.made.values()):
            connection.abandon()
        self.made = weakref.WeakValueDictionary()
        self._state = pw._ConnectionLocal()  # noqa: SLF001 - Peewee has no public way
        self._lock = threading.Lock()
        self._pool_lock = threading.RLock()
        self._pool_available = threading.Condition(self._pool_lock)
        self._connections: list[Any] = []
        self._in_use: dict[int, Any] = {}

    # What the server is

    def facts(self) -> Mapping[str, Any]:
        """Return the server's version and the size of the database (bytes)."""
        row = self.connection().execute(_FACTS).fetchone()
        return {"version": row[0], "size": row[1]}


_FACTS: Final = """SELECT current_setting('server_version'),
 pg_database_size(current_database())"""


class VoicesPostgres(Server, pw.PostgresqlDatabase):
    """A PostgreSQL database. Texts compare by their bytes, as in SQLite, whatever the locale."""

    text_type = 'TEXT COLLATE "C"'


class VoicesCockroach(Server, CockroachDatabase):  # type: ignore[misc] # see Server
    """A CockroachDB database, through Peewee's class; not tested against a server."""

    def lock(self, *keys: str, shared: str | None = None) -> None:
        """Do nothing: CockroachDB's transactions are serializable and it lacks these locks."""


def open_server(url: str, *, timeout: float) -> Server:
    """Return the database of a URL, not connected yet.

    Raises:
        ValueError: libpq cannot read the URL.
    """
    kind = VoicesCockroach if url.lower().startswith("cockroachdb") else VoicesPostgres
    try:
        return kind(url, timeout=timeout)
    except psycopg.ProgrammingError as error:
        raise ValueError(str(error).strip()) from error
