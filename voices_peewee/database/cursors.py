"""A cursor that also reads text that is not UTF-8, which only another program can have written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

_AHEAD: Final = 1000  # rows


class Cursor(sqlite3.Cursor):
    """A cursor that one text that is not UTF-8 does not end.

    Such a text keeps its bytes as lone surrogates (PEP 383), as names of files do. Decoding in
    Python takes longer, so that a connection does it from the first such text on only; the
    statement still stands at that row.
    """

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        try:
            return super().fetchone()
        except sqlite3.OperationalError as error:
            self._decode_all(error)
            return super().fetchone()

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """Return up to so many rows."""
        rows: list[Any] = []
        following = super().__next__
        while True:
            try:  # an error leaves what was read before it in the list
                rows.extend(islice(iter(following, None), (size or 1) - len(rows)))
            except sqlite3.OperationalError as error:
                self._decode_all(error)
            else:
                return rows

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override] # not the cursor itself
        while rows := self.fetchmany(_AHEAD):
            yield from rows

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self)

    def _decode_all(self, error: sqlite3.OperationalError) -> None:
        if not str(error).startswith("Could not decode"):
            raise error
        self.connection.text_factory = _decoded


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
