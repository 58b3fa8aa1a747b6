"""PostgreSQL as an engine: the connections of threads, forks and a server that went away.

Only ``server_url.open_server`` imports this: it loads psycopg. ``Server`` has what
``sqlite.SqliteEngine`` has.
"""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import peewee as pw
import psycopg
from psycopg.conninfo import conninfo_to_dict

from voices_peewee.database.forks import forks
from voices_peewee.database.postgres_connection import Adapter, Connection, JSONMethods
from voices_peewee.database.postgres_together import Together, for_psycopg, locking, spelled
from voices_peewee.database.postgres_wording import NO_ID, first_line
from voices_peewee.database.server_url import masked
from voices_peewee.errors import QueryError, ServerAwayError

_PAUSE: Final = 0.05  # s before a second attempt to connect; then twice as long each time
_LONGEST_PAUSE: Final = 1.0
_CONNECT: Final = 10  # s that one attempt may take
_APPLICATION: Final = "voices"
_AWAY: Final = (
    *("session is read-only", "server is in hot standby mode"),  # until one is promoted
    *("refused", "no such file", "timeout", "timed out", "reset by peer", "unreachable"),
)
_STARTING: Final = ("starting up", "shutting down", "recovery mode", "not yet accepting")


_TOGETHER: Final = "together"
_READ_ONLY: Final = "25006"
# Also: a race, a deadlock, a lock, a cancelled statement, a full disk, too many connections.
_PASSING: Final = (_READ_ONLY, NO_ID, "40001", "40P01", "55P03", "57014", "53100", "53300")
_IN_COMMIT: Final = "it went away in a commit: look whether that was done"
_HOLD: Final = "SELECT id FROM processed_files WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_UNLOCK: Final = "SELECT pg_advisory_unlock_all()"  # what a SELECT locked outlasts a ROLLBACK
UNREADABLE: Final = (ValueError, psycopg.ProgrammingError)  # is a URL
_NO_PORT: Final = "a port is a number"
_NUL: Final = "the query contains a null character"


class Server(pw.PostgresqlDatabase):
    """A PostgreSQL database; each thread has a connection of its own.

    Texts compare by their bytes, as in SQLite, whatever the locale. A thread's connection is
    closed when the thread ends or closes it. One that the server has closed is replaced before
    it is used. A forked child leaves its parent's alone and opens its own.
    """

    json_methods = JSONMethods
    psycopg3_adapter = Adapter
    together = (_TOGETHER,)

    def __init__(self, url: str, *, timeout: float) -> None:
        self.label, self.timeout = masked(url), timeout
        # Every libpq knows this scheme, and few another.
        self.conninfo = f"postgresql://{url.partition('://')[2]}"
        parts: dict[str, Any] = conninfo_to_dict(self.conninfo)
        if not re.fullmatch(r"[0-9,]*", str(parts.get("port") or "")):
            raise ValueError(_NO_PORT)  # libpq would show it: it may be the end of a password
        usual = {name: value for name, value in _usual(timeout).items() if not parts.get(name)}
        self.options: dict[str, Any] = {"client_encoding": "UTF8", **usual}
        self.made: weakref.WeakValueDictionary[int, Connection] = weakref.WeakValueDictionary()
        self._was_connected = False
        self._state: Any
        super().__init__(
            self.label,
            field_types={"DATETIME": "TIMESTAMPTZ", "TEXT": 'TEXT COLLATE "C"'},
            prefer_psycopg3=True,
        )
        forks.databases.add(self)

    @property
    def place(self) -> str:
        """What all who use this record call it: hosts, ports, database and schema."""
        usual = {one.keyword: one.val for one in psycopg.pq.Conninfo.get_defaults() if one.val}
        given = {name.decode(): value.decode() for name, value in usual.items()}
        parts = {**given, **conninfo_to_dict(self.conninfo)}
        schema = re.search(r"search_path\s*=\s*(\S+)", str(parts.get("options", "")))
        own = parts.get("hostaddr") or parts.get("host") or "localhost"
        name = f"{own}:{parts.get('port', '')}/{parts.get('dbname') or parts.get('user', '')}"
        name = f"service {parts['service']} {name}" if parts.get("service") else name
        return f"{name}, schema {schema[1]}" if schema else name

    def connect(self, reuse_if_open: bool = False) -> bool:
        """Connect the calling thread; wait for a server that is starting or was there before."""
        deadline, pause = time.monotonic() + self.timeout, _PAUSE
        while True:
            try:
                found: bool = super().connect(reuse_if_open)
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

    def connection(self) -> Any:
        """Return this thread's connection: a new one where the server closed the last."""
        self._drop_lost()
        return super().connection()  # type: ignore[no-untyped-call] # the stubs

    def cursor(self, named_cursor: Any = None) -> Any:
        """Return a cursor of this thread's connection."""
        self._drop_lost()
        return super().cursor(named_cursor)  # type: ignore[no-untyped-call] # the stubs

    def _drop_lost(self) -> None:
        state = self._state
        if not state.closed and not state.transactions and state.conn.is_lost():
            connection = state.conn
            state.reset()
            connection.close()
        elif not state.closed and state.conn.streams:
            state.conn.close_streams()

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement, its values as ``?`` or as ``%s``."""
        return super().execute_sql(spelled(sql, params), params or None)  # type: ignore[no-untyped-call]

    def in_own_transaction(self) -> bool:
        """Whether the calling thread's connection is inside a transaction."""
        return not self.is_closed() and bool(self._state.conn.in_transaction)

    def begin(self, isolation_level: Any = None) -> None:
        """Begin a transaction; one of ``together`` begins when it must."""
        connection = self.connection()
        if isolation_level == _TOGETHER:
            connection.together = Together(connection)
        if not connection.together:
            super().begin(isolation_level)
        if wait := connection.lock_timeout:
            connection.execute(f"SET LOCAL lock_timeout = {wait}")

    def commit(self) -> None:
        """Commit; what was sent together may be refused only now."""
        connection = self._state.conn
        together: Together | None = connection.together
        try:
            if together is None or together.has_begun:
                super().commit()
            if together is not None:
                together.end()
            connection.together = None
        except pw.OperationalError as error:
            if not connection.closed:
                raise
            raise ServerAwayError(
                self.label, f"{_IN_COMMIT}: {first_line(error.args[-1])}"
            ) from error

    def rollback(self) -> None:
        """Roll back, unless the connection is gone: its error is the one to be seen."""
        if self.is_closed():
            return
        connection = self._state.conn
        together, connection.together = connection.together, None
        if together is not None:
            together.undo()
        if connection.in_transaction:
            with suppress(pw.OperationalError, pw.InternalError):
                super().rollback()
        if together is not None:
            connection.forget_prepared()

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
            # A ROLLBACK would make psycopg throw every prepared statement away.
            connection.end("COMMIT")

    def prepare(self) -> None:
        """Do nothing: the server says itself what it cannot keep."""

    def stream(self, sql: str, parameters: Any) -> Any:
        """Return a cursor for many rows, which stay on the server until they are fetched."""
        return self.connection().stream(sql, parameters)

    def execute_raw(self, sql: str, parameters: Any) -> Any:
        """Run a statement of the user's; return its cursor."""
        return self.connection().execute(_of_user(sql, parameters), parameters)

    def read_raw(self, sql: str, parameters: Any) -> list[dict[str, Any]]:
        """Return the rows of a user's statement; what it changes is refused or rolled back."""
        connection = self.connection()
        begin, end = ("SAVEPOINT voices_reading", "ROLLBACK TO voices_reading")
        if not connection.in_transaction:
            begin, end = "BEGIN", "ROLLBACK"
        connection.execute(begin)
        try:
            connection.execute("SET LOCAL transaction_read_only = on")
            rows: list[dict[str, Any]] = connection.dicts(_of_user(sql, parameters), parameters)
            return rows
        finally:
            connection.end(f"{end}; {_UNLOCK}")

    def may_pass(self, error: BaseException) -> bool:
        """Whether a refusal may pass; a connection that would go on refusing is closed."""
        state = _state_of(error.__cause__)
        if state == _READ_ONLY and not self.is_closed():
            self._state.conn.close()  # after a switchover: a new one finds the new primary
        return isinstance(error, ServerAwayError) or state in _PASSING

    @staticmethod
    def is_refused_write(error: BaseException | None) -> bool:
        """Whether an error is that of a write in a transaction that may only read."""
        return _state_of(error) == _READ_ONLY

    def lock(self, *keys: str, shared: str | None = None) -> None:
        """Keep others who lock the same keys out until the transaction ends.

        Args:
            keys: What is locked; always in the same order, so that two cannot wait for each other.
            shared: What is locked before, together with others who do the same.
        """
        calls = locking(len(keys), is_shared=shared is not None)
        values = [*([shared] if shared else []), *sorted(keys)]
        connection = self.connection()
        take = connection.together.lock if connection.together else connection.execute
        take(f"SELECT {calls}", values)

    def hold(self, files: Sequence[int]) -> None:
        """Keep others from hanging anything on files until the transaction ends.

        What is asked then sees what hangs on them; who waits meanwhile may find them gone.
        """
        self.connection().execute(_HOLD, (list(files),))

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
        self._state = pw._ConnectionLocal()
        self._lock = threading.Lock()

    @property
    def adds_alone(self) -> bool:
        """Whether a row may be added without a transaction: not where it would wait for ever."""
        return not self.connection().lock_timeout

    def facts(self) -> Mapping[str, Any]:
        """Return the server's version and the size of the database (bytes)."""
        row = self.connection().execute(_FACTS).fetchone()
        return {"version": row[0], "size": row[1]}


def _state_of(error: BaseException | None) -> str | None:
    """Return the SQLSTATE behind an error."""
    state: str | None = getattr(getattr(error, "orig", error), "sqlstate", None)
    return state


_FACTS: Final = """SELECT current_setting('server_version'),
 pg_database_size(current_database())"""


def _usual(timeout: float) -> dict[str, Any]:
    """Return what a URL may say otherwise; a partition without a word ends with the timeout (s)."""
    seconds = max(1, int(timeout))
    return {
        "application_name": _APPLICATION,
        "connect_timeout": min(_CONNECT, seconds),
        "tcp_user_timeout": 1000 * seconds,  # ms
        "keepalives_idle": max(1, seconds // 2),
        "keepalives_interval": max(1, seconds // 6),
        "keepalives_count": 3,
    }


def _of_user(sql: str, parameters: Any) -> str:
    """Return a user's statement as psycopg reads it; without values there is nothing to spell."""
    if "\0" in sql:  # where it would end without a word
        raise QueryError(_NUL)
    return for_psycopg(sql) if parameters else sql
