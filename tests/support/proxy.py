"""A network between a client and a server's socket, which loses what it is told to lose."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Proxy:
    """Passes on what comes; ``lose`` names what is passed on and never answered.

    While ``is_cut`` nothing is passed on either way, and nobody is told.
    """

    def __init__(self, sockets: Path) -> None:
        self.lead_to(sockets)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.lose: bytes | None = None
        self.lost = 0
        self._open = threading.Event()
        self._open.set()
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, name: str) -> str:
        """Return the URL of a database behind it."""
        return (
            f"postgresql://voices@127.0.0.1:{self.port}/{name}?sslmode=disable&gssencmode=disable"
        )

    def lead_to(self, sockets: Path) -> None:
        """Let new connections lead to another server, as a name does that moves along."""
        self._server = str(sockets / ".s.PGSQL.5432")

    def cut(self) -> None:
        """Drop what is sent from now on, as a network does that fell apart."""
        self._open.clear()

    def mend(self) -> None:
        """Pass on again."""
        self._open.set()

    def close(self) -> None:
        """Take no more connections."""
        self.mend()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._server)
                except OSError:  # the server is away: so is whoever stands before it
                    client.close()
                    server.close()
                    continue
                threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            ends = (client, server, threading.Event())
            asking = threading.Thread(target=self._until_closed, args=(self._ask, *ends))
            asking.start()
            self._until_closed(self._answer, *ends)
            asking.join()

    @staticmethod
    def _until_closed(
        way: Callable[[socket.socket, socket.socket, threading.Event], None],
        client: socket.socket,
        server: socket.socket,
        is_lost: threading.Event,
    ) -> None:
        with suppress(OSError):
            way(client, server, is_lost)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _ask(self, client: socket.socket, server: socket.socket, is_lost: threading.Event) -> None:
        while data := client.recv(1 << 16):
            self._open.wait()
            if self.lose is not None and self.lose in data:
                self.lose = None
                self.lost += 1
                is_lost.set()
            server.sendall(data)

    def _answer(
        self, client: socket.socket, server: socket.socket, is_lost: threading.Event
    ) -> None:
        while data := server.recv(1 << 16):
            self._open.wait()
            if is_lost.is_set():
                return
            client.sendall(data)
