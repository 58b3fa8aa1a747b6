"""Lists and facts on the standard output: lists and their forms."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from voices_peewee.cli.common import plural, say, write
from voices_peewee.errors import QueryError
from voices_peewee.rendering.plain import printable, speaks_unicode, wrapped

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.rendering.plain import Column
    from voices_peewee.search.words import Term

R = TypeVar("R")
Row = Sequence[object]


def write_rows(
    style: str, columns: Sequence[Column], rows: Iterable[Row], *, raw: bool = False
) -> int:
    """Write rows as they come, as table, json, jsonl or csv; return how many there were."""
    count = 0

    def counted() -> Iterator[Row]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    names = [column.name for column in columns]
    if style == "table":
        from voices_peewee.rendering.plain import table_lines

        missing, lines = table_lines(columns, counted())
        write(lines)
        if missing:
            say(f"no room for {', '.join(missing)}; --json has all")
    elif style == "csv":
        from voices_peewee.rendering.json_csv import csv_lines

        ascii_only = not speaks_unicode(sys.stdout)
        write(csv_lines(names, counted(), raw=raw, ascii_only=ascii_only))
    else:
        objects = (_dump(dict(zip(names, row, strict=True))) for row in counted())
        write(_json_array(objects) if style == "json" else (f"{line}\n" for line in objects))
    return count


def write_text(text: str) -> None:
    """Write lines for people, without anything that could command a terminal."""
    lines = map(printable, text.split("\n"))
    write(f"{part}\n" for line in lines for part in wrapped(line, sys.stdout))


def write_json(value: object) -> None:
    """Write one value as JSON that a person can read too."""
    write([_dump(value, indent=2), "\n"])


def _json_array(objects: Iterable[str]) -> Iterator[str]:
    before = "[\n"
    for line in objects:
        yield before + line
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _dump(value: object, indent: int | None = None) -> str:
    from voices_peewee.rendering.json_csv import json_text

    return json_text(value, ascii_only=not speaks_unicode(sys.stdout), indent=indent)


class View(NamedTuple):
    """What of a list is asked for, and in which form."""

    words: tuple[str, ...]
    sort: str | None
    limit: int | None
    offset: int
    columns: tuple[str, ...] | None
    style: str
    raw: bool

    def show_rows(self, manager: DatabaseManager, noun: str, one: str, **filters: Any) -> None:
        """Show a list of the database, one row of which is a ``one``."""
        page = manager.list_rows(
            noun,
            self.words,
            sort=self.sort,
            limit=self.limit,
            offset=self.offset,
            columns=self.columns,
            whole=self.style != "table",
            **filters,
        )
        self._write(page.columns, page.rows, lambda: page.total, one)

    def show_records(
        self,
        noun: str,
        columns: Sequence[Column],
        records: Iterable[Sequence[object]],
        *,
        default: int | None = None,
    ) -> None:
        """Show what is not a table of the database, as the options say."""
        from voices_peewee.search.words import parse

        terms = parse(self.words)
        chosen = [row for row in records if all(_says(columns, row, term) for term in terms)]
        for key in reversed(_names(self.sort or "")):
            index, down = _position(key.removeprefix("-"), columns, "column"), key[0] == "-"
            chosen.sort(
                key=lambda row: ((row[index] is None) is not down, row[index]), reverse=down
            )
        shown = self.columns or [column.name for column in columns][:default]
        places = [_position(name, columns, "column") for name in shown]
        end = None if self.limit is None else self.offset + self.limit
        rows = [[record[place] for place in places] for record in chosen[self.offset : end]]
        self._write([columns[place] for place in places], rows, lambda: len(chosen), noun)

    def _write(
        self,
        columns: Sequence[Column],
        rows: Iterable[Sequence[object]],
        count: Callable[[], int],
        noun: str,
    ) -> None:
        """Write rows to stdout, and how many of all they are to stderr."""
        shown = write_rows(self.style, columns, rows, raw=self.raw)
        total = shown if self.limit is None and not self.offset else count()
        if shown < total:
            say(f"{shown:,} of {total:,} shown (--all for the rest)")
        elif self.style == "table":
            say(plural(total, noun))


def takes_view(function: Callable[..., R]) -> Callable[..., R]:
    """Let a command take the options of a list as one ``view``."""

    @wraps(function)
    def with_view(*args: Any, everything: bool, **kwargs: Any) -> R:
        asked = {name: kwargs.pop(name) for name in View.__annotations__}
        asked["style"] = asked["style"] or "table"
        if everything:
            asked["limit"] = None
        if asked["columns"] is not None:
            asked["columns"] = _names(asked["columns"])
        return function(*args, view=View(**asked), **kwargs)

    return with_view


def _names(text: str) -> tuple[str, ...]:
    """Return the names that stand between commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def _says(columns: Sequence[Column], row: Row, term: Term) -> bool:
    """Whether a row holds a text, or for ``field:value`` has that value."""
    from voices_peewee.search.words import Not, Text, fits, readable

    if isinstance(term, Not):
        return not _says(columns, row, term.term)
    if isinstance(term, Text):
        return any(term.text.lower() in str(value).lower() for value in row)
    place, now = _position(term.name, columns, "field"), dt.datetime.now(dt.UTC)
    kind = {"count": "integer"}.get(columns[place].kind, columns[place].kind)
    for value in term.values:
        with readable(term.name, value, kind):
            if fits(kind, row[place], value, now):
                return True
    return False


def _position(name: str, columns: Sequence[Column], what: str) -> int:
    names = [column.name for column in columns]
    if name not in names:
        raise QueryError.unknown_field(name, names, what)
    return names.index(name)
