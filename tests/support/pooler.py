"""PgBouncer in transaction mode before a server of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from support.postgres_server import Server

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
_SETTINGS = """[databases]
* = host={server} user=voices
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = options
logfile = {folder}/log
"""


class Pooler:
    """Two connections to a server, shared by all who come."""

    def __init__(self, server: Server) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="voices-pool-"))
        settings = self.folder / "pgbouncer.ini"
        settings.write_text(_SETTINGS.format(server=server.sockets, folder=self.folder))
        user: dict[str, object] = {}
        if os.getuid() == 0:
            shutil.chown(self.folder, "nobody")
            user = {"user": "nobody", "extra_groups": []}
        self._process = subprocess.Popen(
            [PROGRAM, "-q", str(settings)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **user,
        )
        self._await()

    def _await(self) -> None:
        deadline = time.monotonic() + 30
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
        """Return the URL of a database behind it."""
        return f"postgresql://voices@/{name}?host={self.folder}&port=6432"

    def remove(self) -> None:
        """End it and remove its folder."""
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
