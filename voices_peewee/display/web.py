"""Show a database in the browser, read-only, with Datasette (the extra ``web``).

Nothing imports this module before it is needed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import peewee as pw

from voices_peewee.database.files import MEMORY, lies_still
from voices_peewee.display.web_metadata import TABLES, metadata
from voices_peewee.errors import DatabaseError, MissingExtraError, ServeError
from voices_peewee.rendering.plain import KINDS, cell
from voices_peewee.schema.vocabulary import COLUMNS

try:
    import uvicorn
    from datasette import hookimpl
    from datasette.app import Datasette
    from datasette.database import Database
    from datasette.plugins import pm
    from datasette.utils.asgi import NotFound, Response
except ImportError as error:
    raise MissingExtraError("showing a database in the browser", "web") from error

if TYPE_CHECKING:
    from voices_peewee.database.store import Store

Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Any, Any, Send], Awaitable[None]]

_NAME: Final = "voices"
_LONGEST: Final = 500_000  # bytes of a value
_SETTINGS: Final = {
    "allow_download": False,
    "default_cache_ttl": 0,  # others write: a page loaded again shows the new rows
    "default_page_size": 50,
    "facet_time_limit_ms": 500,
    "sql_time_limit_ms": 20_000,
    "suggest_facets": False,  # it tries every column, which takes seconds at a million rows
    "truncate_cells_html": 200,
}
_UNITED: Final = ("decibel", "seconds", "hertz", "bytes", "percent", "megabytes", "number")


def serve(
    store: Store, *, host: str, port: int, on_ready: Callable[[str], None] | None = None
) -> None:
    """Show the database as ``DatabaseManager.serve`` does."""
    path = _path(store)
    with _listen(host, port) as listener:
        address, port, *_ = listener.getsockname()
        datasette = _datasette(store, path)
        app: Application = datasette.app()
        if _is_loopback(address):
            app = _local_only(app)
        # 1 s is enough for answers under way: queries are limited, and nothing is written.
        config = uvicorn.Config(
            app, log_config=None, log_level="error", lifespan="on", timeout_graceful_shutdown=1
        )
        with _ended_by_signals():
            if on_ready is not None:  # who comes before the server answers waits in the socket
                shown = f"[{address}]" if ":" in address else address
                on_ready(f"http://{shown}:{port}/{_NAME}")
            uvicorn.Server(config).run([listener])
        datasette.executor.shutdown()
        datasette.databases[_NAME].close()


def is_open_to_others(host: str) -> bool:
    """Tell whether other machines may reach a server on this address."""
    return host != "localhost" and not _is_loopback(host)


def _path(store: Store) -> Path:
    if not isinstance(store.database, pw.SqliteDatabase):
        raise DatabaseError(store.label, "Datasette shows SQLite files, and this is a server")
    if store.label == MEMORY:
        raise DatabaseError(store.label, "an in-memory database has no file to show")
    return Path(store.label).absolute()


class _ReadOnly(Database):  # type: ignore[misc]  # Datasette has no types
    """The database file; no connection can write, and any name of the file will do."""

    def __init__(self, datasette: Datasette, store: Store, path: Path) -> None:
        super().__init__(datasette, path=str(path))
        self.store = store

    def connect(self, write: bool = False) -> sqlite3.Connection:
        """Open another connection for reading."""
        if write:
            raise sqlite3.OperationalError("attempt to write a readonly database")
        try:
            connection = self._connect("mode=ro")
        except sqlite3.OperationalError as error:
            if not lies_still(self.path, error):
                raise
            connection = self._connect("immutable=1")
        self._all_file_connections.append(connection)
        return connection

    def _connect(self, how: str) -> sqlite3.Connection:
        uri = f"{Path(self.path).as_uri()}?{how}"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=30)
        try:
            connection.execute("PRAGMA schema_version")  # the first look at the file
        except sqlite3.Error:
            connection.close()
            raise
        # The time limit is looked at between steps, so that no single value may take long.
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        return connection

    async def execute(self, *args: Any, **options: Any) -> Any:
        """Run a query; the page says what is wrong with it, and not stderr too."""
        return await super().execute(*args, **{**options, "log_sql_errors": False})


@hookimpl  # type: ignore[untyped-decorator]
def render_cell(value: Any, column: str, database: str, datasette: Any) -> str | None:
    """Return a number with its unit, in the digits that a list has: Datasette's hook.

    None leaves a value to Datasette.
    """
    term = COLUMNS.get(re.sub("^(mean|min|max)_", "", column))
    if term is None or not isinstance(datasette.databases.get(database), _ReadOnly):
        return None
    if term.kind == "time" and isinstance(value, str):
        return value.removesuffix("+00:00")  # the page says that times are UTC
    if term.kind not in _UNITED or not isinstance(value, int | float):
        return None
    return f"{cell(term.kind, value)} {KINDS[term.kind].unit}".strip()


@hookimpl  # type: ignore[untyped-decorator]
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    """Return the page of the report, which the pages link to: Datasette's hook."""
    return [("^/-/report$", _report)]


async def _report(datasette: Any) -> Any:
    """Answer with the report of the record as it is now."""
    shown = datasette.databases.get(_NAME)
    if not isinstance(shown, _ReadOnly):
        raise NotFound("there is no record here")
    return Response.html(await asyncio.to_thread(_page, shown.store))


def _page(store: Store) -> str:
    from voices_peewee.display.report import Asked, report_page

    try:
        return report_page(store, Asked(audio=False), Path())
    finally:
        store.database.close()  # this thread's


def _datasette(store: Store, path: Path) -> Datasette:
    from datasette import handle_exception  # not before datasette.app, whose plugin it is

    # With rich it prints each bad request, with its variables, to stdout; a full pipe stops all.
    handle_exception.rich = None
    datasette = Datasette(
        metadata=metadata(path.name, _columns(store)),
        settings=_SETTINGS,
        static_mounts=[("voices-static", str(Path(__file__).with_name("static")))],
    )
    datasette.remove_database("_memory")  # comes where no files are named
    datasette.add_database(_ReadOnly(datasette, store, path), name=_NAME)
    return datasette


def _columns(store: Store) -> dict[str, list[str]]:
    with store.reading():
        get = store.database.get_columns
        return {table: [column.name for column in get(table)] for table in TABLES}


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        # Python adds the address again.
        raise ServeError(host, port, reason.partition(" (while")[0].lower()) from error


pm.register(sys.modules[__name__])


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave quietly at SIGINT and SIGTERM, which uvicorn raises again once it has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ends = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in ends}
    try:
        with suppress(KeyboardInterrupt):
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

    async def guarded(scope: Any, receive: Any, send: Send) -> None:
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
