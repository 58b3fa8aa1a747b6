"""A PostgreSQL server of the tests' own: in a temporary folder, on a socket, for one session."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

import psycopg

_ROOT: Final = 0
_SHARED: Final = Path("/dev", "shm")
_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "200",
    "unix_socket_permissions": "0777",
    "log_min_messages": "fatal",
    "autovacuum": "off",
}
_CARELESS: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def binaries() -> Path | None:
    """Return the folder of the server's programs, the newest version first; None for none."""
    places = [Path(path) for path in os.environ.get("VOICES_PG_BIN", "").split(os.pathsep) if path]
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(versions, key=lambda path: float(path.parent.name), reverse=True)
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve().parent)
    return next((place for place in places if (place / "initdb").exists()), None)


def _memory() -> str | None:
    """Return a folder in memory, where there is one: each test has a database of its own."""
    return str(_SHARED) if os.access(_SHARED, os.W_OK) else None


def _rows(connection: psycopg.Connection, sql: str) -> list[tuple[object, ...]]:
    cursor = connection.execute(sql)
    return [] if cursor.description is None else cursor.fetchall()


class Server:
    """A server that can be stopped, killed and started again; ``url`` leads to a database."""

    def __init__(self, *, careful: bool = False, standby_of: Server | None = None) -> None:
        self.bin = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="voices-pg-", dir=_memory()))
        self.data, self.sockets = self.folder / "data", self.folder / "s"
        self.settings = _SETTINGS if careful else {**_SETTINGS, **_CARELESS}
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: psycopg.Connection | None = None
        self._numbers = count(1)
        for folder in (self.data, self.sockets):
            folder.mkdir()
            if os.getuid() == _ROOT:
                shutil.chown(folder, "nobody")
        self.folder.chmod(0o755)
        self.data.chmod(0o700)
        if standby_of is not None:
            copy = ("pg_basebackup", "-D", self.data, "-h", standby_of.sockets, "-U", "voices")
            self._run(*copy, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
            self.start()
            return
        # Not the C locale: the order of texts must not depend on it.
        self._run(
            *("initdb", "-D", self.data, "-U", "voices", "-A", "trust", "--encoding=UTF8"),
            *("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", "--no-sync"),
        )
        self.start()

    def _as_user(self) -> dict[str, object]:
        # A server refuses to run as root.
        return {"user": "nobody", "extra_groups": []} if os.getuid() == _ROOT else {}

    def _run(self, program: str, *args: str | Path) -> None:
        command = [str(self.bin / program), *map(str, args)]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self._as_user())

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        options = [
            part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")
        ]
        command = [self.bin / "postgres", "-D", self.data, "-k", self.sockets, *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                list(map(str, command)), stdout=log, stderr=log, cwd="/", **self._as_user()
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://voices@/{name}?host={self.sockets}"

    def both(self, other: Server, name: str) -> str:
        """Return the URL of a database that is wherever one of two servers takes writes."""
        places = f"{self.sockets},{other.sockets}"
        return f"postgresql://voices@/{name}?host={places}&target_session_attrs=read-write"

    def create(self, template: str | None = None, *, name: str | None = None) -> str:
        """Create a database, empty or a copy of another, and return its name."""
        name = name or f"v{next(self._numbers)}"
        source = "" if template is None else f" TEMPLATE {template}"
        self.execute(f"CREATE DATABASE {name}{source} STRATEGY FILE_COPY")
        return name

    def drop(self, name: str) -> None:
        """Drop a database and end whoever uses it."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the server's owner and return its rows."""
        if database != "postgres":
            with psycopg.connect(self.url(database), autocommit=True) as connection:
                return _rows(connection, sql)
        if self._owner is None or self._owner.closed:
            self._owner = psycopg.connect(self.url(database), autocommit=True)
        return _rows(self._owner, sql)

    def _leave(self) -> None:
        if self._owner is not None:
            self._owner.close()

    def kill(self) -> None:
        """End the server as a power cut would: SIGKILL to all of its processes."""
        self._leave()
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True
        ).stdout.split()
        for pid in (self._process.pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the server stand still: its sockets take what is sent, and nobody answers."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop the server at once, its clients with it."""
        self._leave()
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)  # "fast": it ends the clients' connections
        self._process.wait(60)

    def remove(self) -> None:
        """Stop the server and remove its folder."""
        self._leave()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # "immediate": nothing is kept
            self._process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)
