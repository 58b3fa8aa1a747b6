"""The URL of a database server, and how it is shown: never with its password."""

from __future__ import annotations

import re
from typing import Final

SCHEMES: Final = ("postgresql", "postgres", "cockroachdb")
HIDDEN: Final = "***"

_LIBPQ: Final = "postgresql://"  # the scheme that every libpq knows
_SECRETS: Final = ("password", "sslpassword", "passwd")
_OPTIONS: Final = ("max_connections", "prepare_threshold")


def is_server(name: str) -> bool:
    """Whether a name is the URL of a server that this package can use."""
    return name.partition("://")[0].lower() in SCHEMES and "://" in name


def masked(url: str) -> str:
    """Return a URL as it may be shown: every password in it is replaced by ``***``."""
    scheme, _, rest = url.partition("://")
    place, mark, query = rest.partition("?")
    user, at, host = place.rpartition("@")
    if ":" in user:
        user = f"{user.partition(':')[0]}:{HIDDEN}"
    query = re.sub(rf"(?i)(^|&)({'|'.join(_SECRETS)})=[^&]*", rf"\1\2={HIDDEN}", query)
    return f"{scheme}://{user}{at}{host}{mark}{query}"


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
