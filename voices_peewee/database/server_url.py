"""Which database is meant: a path, ``:memory:`` or the URL of a server, shown without password."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voices_peewee.errors import DatabaseError, MissingExtraError

if TYPE_CHECKING:
    from voices_peewee.database.postgres import Server

MEMORY: Final = ":memory:"
SCHEMES: Final = ("postgresql", "postgres")
HIDDEN: Final = "***"

_LIBPQ: Final = "postgresql://"  # the scheme that every libpq knows
_SECRETS: Final = ("password", "sslpassword", "passwd")
_QUERY: Final = re.compile(r"(?<=[?&])(?P<name>[^=&?]*)=[^&]*")
_OPTIONS: Final = ("max_connections", "prepare_threshold")


def is_server(name: str) -> bool:
    """Whether a name is the URL of a server that this package can use."""
    return name.partition("://")[0].lower() in SCHEMES and "://" in name


@contextmanager
def without_drivers(name: str | None) -> Iterator[None]:
    """Let Peewee, imported inside for a file, load no server's driver, which takes 80 ms."""
    is_needed = "peewee" in sys.modules or is_server(name or "")
    hidden = {"psycopg", "psycopg2"}.difference(sys.modules) if not is_needed else set()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None refuses the import
    try:
        yield
    finally:
        for driver in hidden:
            del sys.modules[driver]


def as_server(path: str | os.PathLike[str]) -> str | None:
    """Return what may be shown of a server's URL that stands where a file should; else None."""
    scheme, colon, rest = os.fspath(path).partition(":")  # a Path has lost a "/"
    if not colon or scheme.lower() not in SCHEMES or not rest.startswith("/"):
        return None
    return masked(f"{scheme}://{rest.lstrip('/')}")


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


def split_options(url: str) -> tuple[str, dict[str, int]]:
    """Take our own options out of a URL; return the rest, which libpq reads, and them."""
    place, mark, query = url.partition("://")[2].partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    own = {name: int(value) for name, _, value in pairs if name in _OPTIONS}
    rest = "&".join("".join(pair) for pair in pairs if pair[0] not in _OPTIONS)
    return f"{_LIBPQ}{place}{mark if rest else ''}{rest}", own


def default_path() -> str:
    """Return ``$VOICES_DB``, else ``~/.voices/voices.db``."""
    return os.environ.get("VOICES_DB") or str(Path("~/.voices/voices.db").expanduser())


def resolve(target: str | os.PathLike[str] | None) -> str:
    """Return the absolute path of a database, ``:memory:``, or the URL of a server as it is."""
    name = os.fspath(target) if target is not None else default_path()
    if name == MEMORY or is_server(name):
        return name
    if name.startswith("sqlite:///"):
        name = name.removeprefix("sqlite:///")
    elif "://" in name or as_server(name):
        scheme = name.partition(":")[0]
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise DatabaseError(f"{scheme}://…", f"use the path of a file, or one of {known}")
    if not name or "\0" in name:
        raise DatabaseError(name, "a path must be a text without NUL, and not empty")
    return os.path.abspath(Path(name).expanduser())


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
        return postgres.open_server(url, timeout=timeout)
    except ValueError:
        # Not ``from error``: libpq repeats the URL, and with it the password.
        raise DatabaseError(masked(url), _UNREADABLE) from None
