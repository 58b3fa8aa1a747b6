"""Show a database in the browser, read-only, with Datasette (the extra ``web``).

Nothing imports this module before it is needed.
"""

from __future__ import annotations

import ipaddress
import signal
import socket
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import peewee as pw

from voices_peewee.database.files import MEMORY, lies_still
from voices_peewee.display import web_pages
from voices_peewee.errors import DatabaseError, MissingExtraError, ServeError

try:
    import uvicorn
    from datasette.app import Datasette
    from datasette.database import Database, QueryInterrupted
    from jinja2 import ChoiceLoader, DictLoader
except ImportError as error:
    raise MissingExtraError("showing a database in the browser", "web") from error

if TYPE_CHECKING:
    from voices_peewee.database.store import Store

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_NAME: Final = "voices"
_SETTINGS: Final = {
    "allow_download": False,
    "default_cache_ttl": 0,  # others write: a page loaded again shows the new rows
    "default_page_size": 50,
    "facet_time_limit_ms": 500,
    "sql_time_limit_ms": 20_000,
    "suggest_facets": False,  # it tries every column, which takes seconds at a million rows
    "truncate_cells_html": 200,
}


def serve(
    store: Store,
    *,
    host: str = "127.0.0.1",
    port: int = 8001,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Show the database in the browser until SIGINT (Ctrl-C) or SIGTERM, read-only.

    Other programs, and other threads of this one, may go on writing.

    Args:
        store: The open database.
        host: The address to listen on. Whoever reaches it can read all of the database.
        port: The port; 0 takes a free one.
        on_ready: Called with the URL once it can be opened.

    Raises:
        DatabaseError: The database is in memory or no SQLite file.
        ServeError: The address cannot be listened on.
    """
    path = _path(store)
    listener = _listen(host, port)
    address = listener.getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    try:
        datasette = _datasette(path)
        app: Application = datasette.app()
        if _is_loopback(address[0]):
            app = _local_only(app)
        # 1 s is enough for answers under way: queries are limited, and nothing is written.
        config = uvicorn.Config(
            app, log_config=None, log_level="error", lifespan="on", timeout_graceful_shutdown=1
        )
        url = f"http://{shown}:{address[1]}/"
        _run(uvicorn.Server(config), listener, lambda: on_ready(url) if on_ready else None)
        _close(datasette)
    finally:
        listener.close()


def is_open_to_others(host: str) -> bool:
    """Tell whether other machines may reach a server on this address."""
    return host != "localhost" and not _is_loopback(host)


def _path(store: Store) -> Path:
    if not isinstance(store.database, pw.SqliteDatabase):
        raise DatabaseError(
            store.label,
            "Datasette shows SQLite files; make one with 'voices export --output copy.db', then "
            "'voices --db copy.db serve'",
        )
    if store.label == MEMORY:
        raise DatabaseError(store.label, "an in-memory database has no file to show")
    return Path(store.label)


# What Datasette shows


class _ReadOnly(Database):  # type: ignore[misc]  # Datasette has no types
    """The database file; each connection refuses to write, and any name of the file will do."""

    def connect(self, write: bool = False) -> sqlite3.Connection:
        """Open another connection for reading."""
        if write:
            raise sqlite3.OperationalError("attempt to write a readonly database")
        try:
            connection = self._connect("mode=ro")
        except sqlite3.OperationalError as error:
            if not lies_still(str(self.path), error):
                raise
            connection = self._connect("immutable=1")
        self._all_file_connections.append(connection)
        return connection

    def _connect(self, how: str) -> sqlite3.Connection:
        uri = f"{self.path.as_uri()}?{how}"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=30)
        try:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("PRAGMA schema_version")  # the first look at the file
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    async def execute(self, *args: Any, **options: Any) -> Any:
        """Run a query; the page says what is wrong with it, and not stderr too."""
        return await super().execute(*args, **{**options, "log_sql_errors": False})


def _datasette(path: Path) -> Datasette:
    from datasette import handle_exception  # not before datasette.app, whose plugin it is

    path = path.absolute()
    # With rich it prints each bad request, with its variables, to stdout; a full pipe stops all.
    handle_exception.rich = None
    datasette = Datasette(metadata=web_pages.metadata(path.name), settings=_SETTINGS)
    datasette.remove_database("_memory")  # comes where no files are named
    database = _ReadOnly(datasette, path=path)
    datasette.add_database(database, name=_NAME)
    environment = datasette.jinja_env
    pages = DictLoader(web_pages.PAGES)
    environment.loader = ChoiceLoader([pages, environment.loader])

    async def counts() -> list[tuple[str, str, str]]:
        found = web_pages.COUNTS.items()
        return [(name, page, await _count(database, sql)) for name, (page, sql) in found]

    environment.globals.update(
        voices_counts=counts,
        voices_queries=web_pages.QUERIES,
        voices_tables=web_pages.TABLES,
    )
    return datasette


async def _count(database: _ReadOnly, sql: str) -> str:
    try:
        return f"{(await database.execute(sql)).single_value():,}"
    except QueryInterrupted:
        return "very many"


def _close(datasette: Datasette) -> None:
    if datasette.executor is not None:
        datasette.executor.shutdown()
    for database in datasette.databases.values():
        database.close()


# Serving


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, UnicodeError, OverflowError) as error:
        raise ServeError(host, port, _reason(error)) from error


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition(" (while attempting")[0].lower()  # Python adds the address again


def _run(server: uvicorn.Server, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve in a thread of its own, where uvicorn leaves the signals alone."""
    with _ended_by_signals(server), ThreadPoolExecutor(1, "voices-serve") as pool:
        served = pool.submit(server.run, [listener])
        try:
            ready()
            served.result()
        finally:
            server.should_exit = True


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """End the server at SIGINT and SIGTERM; only the main thread can."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _local_only(app: Application) -> Application:
    """Refuse pages of other names, with which a web site could read through the browser.

    Its name, once it points to 127.0.0.1, makes the browser believe that this is the site.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_local(dict(scope["headers"]).get(b"host", b"")):
            await _refuse(send)
        else:
            await app(scope, receive, send)

    return guarded


def _is_local(host: bytes) -> bool:
    name = host.decode("latin-1").lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    return name == "localhost" or _is_loopback(name)


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    body = b"This page answers to localhost and 127.0.0.1 only.\n"
    await send({"type": "http.response.body", "body": body})
