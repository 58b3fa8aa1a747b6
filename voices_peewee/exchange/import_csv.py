"""Records from CSV with a header: all values are text."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import chain
from typing import BinaryIO, Final

from voices_peewee.exchange.import_json import LONGEST
from voices_peewee.exchange.import_source import Refuse, Row, Source, done, table_like

# A list's CSV puts an apostrophe before what a spreadsheet would take for a formula.
_PROTECTED: Final = re.compile(r"'[=+\-@\t\r\n＝＋－＠]")


class Csv(Source):
    """A header and one record a line, separated by commas, semicolons or tabs."""

    is_text = True

    def __init__(self, label: str, stream: BinaryIO, *, table: str | None, size: int = 0) -> None:
        self._stream, self._size = stream, size
        super().__init__(label, table or "")
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        # Bytes that are no UTF-8 are told with their column; in a path they are as they are.
        self._text = TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
        lines = self._lines()
        try:
            head = list(_head(lines))
            self._reader = csv.reader(
                chain(head, lines), delimiter=_delimiter("".join(head)), strict=True
            )
            self._columns = [name.strip() for name in next(filter(None, self._reader), [])]
        except csv.Error as error:
            raise self.error(f"its header is not valid CSV ({error})") from error
        self._check_header()
        try:
            self.table = self.table or table_like(self._columns)
        except ValueError as error:
            raise self.error(str(error)) from error

    def _lines(self) -> Iterator[str]:
        while line := self._text.readline(LONGEST):
            if len(line) == LONGEST:
                raise self.error(f"it has a line of more than {LONGEST >> 20} MB")
            yield line

    def _check_header(self) -> None:
        if re.search("[\udc80-\udcff]", "".join(self._columns)):
            raise self.error("it is not UTF-8 text")
        if not any(self._columns):
            raise self.error("it has no header" if self._columns else "it is empty")
        twice = [name for name, count in Counter(self._columns).items() if count > 1 or not name]
        if twice:
            wrong = f"names {twice[0]!r} twice" if twice[0] else "has a column without a name"
            raise self.error(f"its header {wrong}")

    def rows(self, refuse: Refuse) -> Iterator[Row]:
        """Yield the records in order.

        Raises:
            InputError: The text is not valid CSV.
        """
        columns, width, reader = self._columns, len(self._columns), self._reader
        number = reader.line_num + 1
        try:
            for values in reader:
                if not any(values):  # spreadsheets write a line of nothing but commas
                    pass
                elif len(values) == width:
                    record = {
                        name: None
                        if not value
                        else value[1:]
                        if value[0] == "'" and _PROTECTED.match(value)
                        else value
                        for name, value in zip(columns, values, strict=True)
                    }
                    yield Row(self.table, number, record)
                else:
                    reason = f"the header has {width} columns, and this record has {len(values)}"
                    refuse(self.error(reason, number))
                number = reader.line_num + 1
        except csv.Error as error:
            raise self.error(f"it is not valid CSV ({error})", number) from error

    def progress(self) -> tuple[int, int]:
        """Return the bytes done and in all."""
        return done(self._stream, self._size), self._size

    def close(self) -> None:
        """Close the file; the standard input stays open."""
        self._text.detach()
        if self._size:
            self._stream.close()


def _head(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines up to and with the header's first."""
    for line in lines:
        yield line
        if line.strip():
            return


def _delimiter(header: str) -> str:
    """Return what stands between the names of a header."""
    return max(",;\t", key=header.count)
