"""Show a database in the browser, read-only, with Datasette (the extra ``web``).

Nothing imports this module before it is needed.
"""

from __future__ import annotations

import asyncio
import html
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import peewee as pw

from voices_peewee.database.files import MEMORY, lies_still
from voices_peewee.errors import DatabaseError, MissingExtraError, ServeError, VoicesError
from voices_peewee.questions.selection import Runs
from voices_peewee.rendering.plain import KINDS, cell, printable
from voices_peewee.schema.exact import short
from voices_peewee.schema.models import ProcessingHistory
from voices_peewee.schema.vocabulary import COLUMNS

try:
    import uvicorn
    from datasette import hookimpl
    from datasette.app import Datasette
    from datasette.database import Database
    from datasette.plugins import pm
    from datasette.utils.asgi import Response
except ImportError as error:
    raise MissingExtraError("showing a database in the browser", "web") from error

from voices_peewee.database.store import Store

_NAME: Final = "voices"
_HOST: Final = "127.0.0.1"  # which no other machine reaches
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


def _table(description: str, *facets: str, sort_desc: str = "id", **more: Any) -> dict[str, Any]:
    return {"description": description, "facets": [*facets], "sort_desc": sort_desc, **more}


_MODEL: Final = ("model_type", "model_version")
# Facets count rows within a time limit: these columns have an index or few rows.
TABLES: Final[dict[str, dict[str, Any]]] = {
    "speakers": _table("A voice.", label_column="name"),
    "processed_files": _table(
        "A recording, one output (stem) made from it, or one voice in it.",
        *("file_format", "speaker_id"),
        label_column="filename",
    ),
    "processing_history": _table(
        "One operation on one file; a run has a row for each output.",
        *("operation_type", "model_type"),
        label_column="operation_type",
    ),
    "environments": _table("Where runs were made: Python, host, git commit, torch, Slurm job."),
    "claims": _table("Who works on which recording.", hidden=True),
    "model_performance": _table("What one row of the history measured.", *_MODEL),
    "listening_tests": _table("A blind listening test.", label_column="name"),
    "listening_votes": _table("A listener's vote on two stems."),
    "v_runs": _table(
        "The history with file, speaker and status; a run has a row an output.",
        *("status", "operation_type", "model_type"),
        sort_desc="start_time",
    ),
    "v_performance": _table("Every measurement with its file, speaker, model and status.", *_MODEL),
    "v_leaderboard": _table(
        "Measurements and failed runs of models: the highest mean SI-SNRi first.",
        sort_desc="mean_si_snri",
    ),
}


def serve(store: Store, *, port: int, on_ready: Callable[[str], None] | None = None) -> None:
    """Show the database as ``DatabaseManager.serve`` does."""
    path, hooks = _path(store), _Hooks(store)
    with _listen(port) as listener:
        pm.register(hooks)
        try:
            datasette = _datasette(store, path)
            # 1 s is enough for answers under way: queries are limited, and nothing is written.
            config = uvicorn.Config(
                _guarded(datasette.app(), store),
                log_config=None,
                log_level="error",
                lifespan="on",
                timeout_graceful_shutdown=1,
            )
            if on_ready is not None:  # who comes before the server answers waits in the socket
                on_ready(f"http://{_HOST}:{listener.getsockname()[1]}/{_NAME}")
            _Server(config).run([listener])
        finally:
            pm.unregister(hooks)
    datasette.executor.shutdown()
    datasette.databases[_NAME].close()


class _Server(uvicorn.Server):
    """Ends quietly at SIGINT and SIGTERM, which uvicorn's own raises again."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """Leave the loop."""
        self.should_exit = True


def _path(store: Store) -> Path:
    if not isinstance(store.database, pw.SqliteDatabase):
        raise DatabaseError(store.label, "Datasette shows SQLite files, and this is a server")
    if store.label == MEMORY:
        raise DatabaseError(store.label, "an in-memory database has no file to show")
    return Path(store.label).absolute()


class _ReadOnly(Database):  # type: ignore[misc]  # Datasette has no types
    """The database file; no connection can write, and any name of the file will do."""

    def connect(self, write: bool = False) -> sqlite3.Connection:  # noqa: ARG002 - never
        """Open another connection for reading."""
        connection = self._connect("mode=ro")
        try:
            connection.execute("PRAGMA schema_version")  # the first look at the file
        except sqlite3.OperationalError as error:
            connection.close()
            if not lies_still(self.path, error):
                raise
            connection = self._connect("immutable=1")
        self._all_file_connections.append(connection)
        return connection

    def _connect(self, how: str) -> sqlite3.Connection:
        uri = f"{Path(self.path).as_uri()}?{how}"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=30)
        # The time limit is looked at between steps, so that no single value may take long.
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        return connection

    async def execute(self, *args: Any, **options: Any) -> Any:
        """Run a query; the page says what is wrong with it, and not stderr too."""
        return await super().execute(*args, **{**options, "log_sql_errors": False})


class _Hooks:
    """What Datasette is told besides its metadata: units, and the page of the report."""

    __name__ = "voices"  # Datasette lists its plugins

    def __init__(self, store: Store) -> None:
        self.store = store

    @hookimpl  # type: ignore[untyped-decorator]
    def render_cell(self, value: Any, column: str) -> str | None:
        """Return a number with its unit, in the digits that a list has, and bytes as they stand."""
        if isinstance(value, bytes):
            return short(value)  # Datasette would link to them, which ends the page of a view
        term = COLUMNS.get(re.sub("^(mean|min|max)_", "", column))
        if term is not None and term.kind == "time" and isinstance(value, str):
            return value.removesuffix("+00:00")  # the page says that times are UTC
        if term is None or not KINDS[term.kind].right or not isinstance(value, int | float):
            return None
        return f"{cell(term.kind, value)} {KINDS[term.kind].unit}".strip()

    @hookimpl  # type: ignore[untyped-decorator]
    def register_routes(self) -> list[tuple[str, Callable[..., Any]]]:
        """Return the page of the report, which the pages link to."""
        return [("^/-/report$", self._answer)]

    async def _answer(self, request: Any) -> Any:
        return Response.html(*await asyncio.to_thread(self._page, request.args))

    def _page(self, args: Any) -> tuple[str, int]:
        """Return the report of ``?operation=`` and ``?metric=`` as it is now.

        Where it cannot be made, the page says why and links to the report of each operation.
        """
        metric, runs = args.get("metric") or "si_snri", Runs(operation_type=args.get("operation"))
        try:
            from voices_peewee.display.report import Asked, report_page

            asked = Asked(audio=False, metric=metric, runs=runs)
            return report_page(self.store, asked, Path()), 200
        except VoicesError as error:
            return f"<p>{html.escape(str(error))}</p>{''.join(self._links())}", 400
        finally:
            self.store.database.close()  # this thread's

    def _links(self) -> Iterator[str]:
        operation = ProcessingHistory.operation_type
        query = ProcessingHistory.select(operation).distinct().order_by(operation)
        for name in [row.operation_type for row in query]:
            way = f"/-/report?{urlencode({'operation': name})}"
            yield f'<p><a href="{html.escape(way)}">{html.escape(printable(name))}</a></p>'


def _datasette(store: Store, path: Path) -> Datasette:
    from datasette import handle_exception  # not before datasette.app, whose plugin it is

    # With rich it prints each bad request, with its variables, to stdout; a full pipe stops all.
    handle_exception.rich = None
    with store.reading():
        tables = {name: _described(store, name) for name in TABLES}
    about = {
        "title": f"Voices: {path.name}",
        "description": "The record of voice-separation work, read-only. Times are UTC.",
        "about": "the report",
        "about_url": "/-/report",
    }
    own = {
        "title": path.name,
        "description": "Tables hold the record; views (v_...) show it with names.",
        "tables": tables,
    }
    datasette = Datasette(metadata={**about, "databases": {_NAME: own}}, settings=_SETTINGS)
    datasette.remove_database("_memory")  # comes where no files are named
    datasette.add_database(_ReadOnly(datasette, path=str(path)), name=_NAME)
    return datasette


def _described(store: Store, table: str) -> dict[str, Any]:
    """Return what Datasette says of a table or a view and of its columns."""
    names = [column.name for column in store.database.get_columns(table)]
    about = {name: COLUMNS[name].about for name in names if name in COLUMNS}
    return {**TABLES[table], "columns": about}


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((_HOST, port), backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        # Python adds the address again.
        raise ServeError(_HOST, port, reason.partition(" (while")[0].lower()) from error


def _guarded(app: Any, store: Store) -> Any:
    """Refuse pages of other names or of a replaced file, and leave Datasette room for its pages.

    A web site's name, once it points to 127.0.0.1, makes the browser believe that this is the
    site. Two queries of somebody's own run at once: the third thread is for the pages.
    """
    turns = asyncio.Semaphore(2)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if refusal := _refusal(scope, store):
            await refusal.asgi_send(send)
            return
        asked = scope.get("query_string", b"")
        async with turns if b"sql=" in asked or b"_where=" in asked else nullcontext():
            await app(scope, receive, send)

    return answer


def _refusal(scope: Any, store: Store) -> Response | None:
    if scope["type"] != "http":
        return None
    if not _names_us(dict(scope["headers"]).get(b"host", b"")):
        said = "This page answers to localhost and 127.0.0.1 only.\n"
        return Response.text(said, status=421)
    try:
        store.require_place()
    except DatabaseError as error:
        return Response.text(f"{error}; start 'voices serve' anew\n", status=503)
    return None


def _names_us(host: bytes) -> bool:
    try:
        return urlsplit(f"//{host.decode('latin-1')}").hostname in (_HOST, "localhost")
    except ValueError:
        return False
