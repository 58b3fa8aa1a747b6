"""How a statement is spelled for psycopg, and its errors for Peewee."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import peewee as pw

# peewee-stubs lack it.
peewee_errors: Final = vars(pw)["__exception_wrapper__"]

_PIECE: Final = re.compile(
    r"""(?P<kept>'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | ::)
    | (?P<place>\?) | :(?P<name>[A-Za-z_]\w*) | (?P<percent>%)""",
    re.DOTALL | re.VERBOSE,
)


@lru_cache(maxsize=256)
def for_psycopg(sql: str) -> str:
    """Return a statement with ``?`` and ``:name`` as psycopg writes them."""

    def replace(match: re.Match[str]) -> str:
        if match["place"]:
            return "%s"
        if match["name"]:
            return f"%({match['name']})s"
        return match.group().replace("%", "%%")

    return _PIECE.sub(replace, sql)
