"""The URL of a database server, and how it is shown: never with its password."""

from __future__ import annotations

import os
import re
from typing import Final

SCHEMES: Final = ("postgresql", "postgres", "cockroachdb")
HIDDEN: Final = "***"

_LIBPQ: Final = "postgresql://"  # the scheme that every libpq knows
_SECRETS: Final = ("password", "sslpassword", "passwd")
_QUERY: Final = re.compile(r"(?<=[?&])(?P<name>[^=&?]*)=[^&]*")
_OPTIONS: Final = ("max_connections", "prepare_threshold")


def is_server(name: str) -> bool:
    """Whether a name is the URL of a server that this package can use."""
    return name.partition("://")[0].lower() in SCHEMES and "://" in name


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
    """Take this package's own options out of a URL; return the rest, which libpq reads, and them.

    Raises:
        ValueError: An option is no number.
    """
    place, mark, query = url.partition("://")[2].partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    own = {name: int(value) for name, _, value in pairs if name in _OPTIONS}
    rest = "&".join("".join(pair) for pair in pairs if pair[0] not in _OPTIONS)
    return f"{_LIBPQ}{place}{mark if rest else ''}{rest}", own
