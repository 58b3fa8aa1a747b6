"""The URL of a server: shown without its password, read and opened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from voices_peewee.errors import DatabaseError, MissingExtraError

if TYPE_CHECKING:
    from voices_peewee.database.postgres import Server

HIDDEN: Final = "***"

_SECRETS: Final = ("password", "sslpassword", "passwd")
_QUERY: Final = re.compile(r"(?<=[?&])(?P<name>[^=&?]*)=[^&]*")


def masked(url: str) -> str:
    """Return a URL as it may be shown: every password in it is replaced by ``***``."""
    scheme, _, rest = url.partition("://")
    # A password may hold "?" and "/": the query begins behind a place, with a name.
    query = re.search(r"[/@].*?(\?[\w%]+=)", rest, re.DOTALL)
    end = query.start(1) if query else len(rest)
    user, at, host = rest[:end].rpartition("@")
    if ":" in user:
        user = f"{user.partition(':')[0]}:{HIDDEN}"
    return f"{scheme}://{_QUERY.sub(_hide, user + at + host + rest[end:])}"


def _hide(option: re.Match[str]) -> str:
    from urllib.parse import unquote  # 2 ms, which a file shall not pay

    name = unquote(option["name"]).lower()
    return f"{option['name']}={HIDDEN}" if name in _SECRETS else option[0]


_UNREADABLE: Final = (
    "the URL cannot be read; in a password, write '%' as %25, '/' as %2F, '?' as %3F and '@' as %40"
)


def open_server(url: str, timeout: float) -> Server:
    """Return the database of a server's URL, not connected yet."""
    try:
        from voices_peewee.database import postgres
    except ImportError as error:
        raise MissingExtraError("a database on a server", "postgres") from error
    try:
        return postgres.Server(url, timeout=timeout)
    except postgres.UNREADABLE:
        # Not ``from error``: libpq repeats the URL, and with it the password.
        raise DatabaseError(masked(url), _UNREADABLE) from None
