"""Where paths of another machine are here."""

from __future__ import annotations

import os
from collections.abc import Mapping

from voices_peewee.errors import InvalidValueError

Roots = Mapping[str, str | os.PathLike[str]]


class PathMap:
    """Moves paths from the folders they were in to those they are in now.

    Args:
        roots: New folders by old ones; the longest old one that a path lies in counts.

    Raises:
        InvalidValueError: A folder is empty or no text.
    """

    def __init__(self, roots: Roots | None) -> None:
        self._roots: dict[str, str] = {}
        for old, new in (roots or {}).items():
            if not isinstance(old, str) or not old or not isinstance(new, str | os.PathLike):
                raise InvalidValueError(f"a path map has folders OLD: NEW, not {old!r}: {new!r}")
            if not (target := os.fspath(new)):
                raise InvalidValueError(f"a path map has folders OLD: NEW, not {old!r}: {new!r}")
            place = target if "://" in target else os.path.abspath(target)
            self._roots[old.rstrip("/") or "/"] = place.rstrip("/")

    def __call__(self, path: str) -> str:
        """Return where a path is now; one that lies in no old folder stays."""
        for old in sorted(self._roots, key=len, reverse=True):
            inner = path[len(old.rstrip("/")) :]
            if path.startswith(old) and inner[:1] in ("", "/"):
                return self._roots[old] + inner
        return path
