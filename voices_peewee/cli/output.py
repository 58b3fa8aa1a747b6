"""Lists and facts on the standard output: the options of every list, and its forms."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from voices_peewee.cli import completion
from voices_peewee.cli.common import plural, say, write
from voices_peewee.cli.values import assignments, model_parts, with_words
from voices_peewee.errors import QueryError
from voices_peewee.rendering.plain import printable, speaks_unicode, wrapped

if TYPE_CHECKING:
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.rendering.plain import Column

F = TypeVar("F", bound=Callable[..., Any])
Row = Sequence[object]

_SHOWN: Final = 50


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
        known = {column.name: index for index, column in enumerate(columns)}
        chosen = [
            record for record in records if all(_says(record, word, known) for word in self.words)
        ]
        for key in reversed(self.sort.split(",") if self.sort else []):
            index = _position(key.removeprefix("-"), known, "column")
            chosen.sort(key=lambda row: _order(row[index]), reverse=key.startswith("-"))
        shown = self.columns or list(known)[:default]
        places = [_position(name, known, "column") for name in shown]
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


def _says(record: Sequence[object], word: str, known: dict[str, int]) -> bool:
    """Whether a record holds a word, or for ``field:value`` has that value."""
    name, colon, values = word.removeprefix("^").partition(":")
    if colon:
        value = record[_position(name, known, "field")]
        found = str(value).lower() in values.lower().split(",")
    else:
        found = any(name.lower() in str(value).lower() for value in record)
    return found is not word.startswith("^")


def _position(name: str, known: dict[str, int], what: str) -> int:
    if name not in known:
        raise QueryError.unknown_field(name, known, what)
    return known[name]


def _order(value: object) -> tuple[bool, Any]:
    return (value is not None, value)


def options(*each: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that gives a command several options."""

    def decorate(function: F) -> F:
        for option in reversed(each):
            function = option(function)
        return function

    return decorate


class _Once(click.Option):
    """An option for one name: of two, click would keep the second without a word."""

    def __init__(self, *args: Any, default: str | None = None, **kwargs: Any) -> None:
        kwargs |= {"multiple": True, "default": default and (default,)}
        super().__init__(*args, **kwargs)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the one name, or None."""
        names = super().type_cast_value(ctx, value)
        if len(names) > 1:
            raise click.BadParameter(f"it takes one, not {len(names)}", ctx, self)
        if self.required and not names:
            raise click.MissingParameter(ctx=ctx, param=self)
        return names[0] if names else None


_named_option = partial(click.option, cls=_Once)
_SEVERAL: Final = {"cls": click.Option, "multiple": True}
speaker_option = partial(
    _named_option, "--speaker", metavar="SPEAKER", shell_complete=completion.speakers
)
tag_option = partial(
    click.option, "--tag", metavar="TAG", multiple=True, shell_complete=completion.tags
)
model_option = partial(_named_option, "--model", metavar="MODEL", shell_complete=completion.models)
one_model_option = partial(model_option, callback=model_parts, expose_value=False)
operation_option = partial(
    _named_option, "--operation", metavar="OP", shell_complete=completion.operations
)
output_option = partial(
    click.option, "--output", "-o", type=click.Path(path_type=Path), metavar="FILE"
)
direction_option = click.option(
    "--higher-is-better/--lower-is-better",
    default=None,
    help="The direction of a metric where it is not known.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
param_option = click.option(
    "--param",
    "parameters",
    metavar="KEY=VALUE",
    multiple=True,
    callback=assignments,
    help="One parameter; may be given several times.",
)
words_argument = partial(
    click.argument,
    "words",
    nargs=-1,
    metavar="[QUERY]...",
    shell_complete=completion.query_words,
)
where_words_argument = words_argument(callback=with_words, expose_value=False)


def list_options(function: F) -> F:
    """Give a command the options of every list; it gets them as ``view``."""

    @wraps(function)
    def with_view(*args: Any, everything: bool, style: str | None, **kwargs: Any) -> Any:
        kwargs |= {"style": style or "table"} | ({"limit": None} if everything else {})
        view = View(**{name: kwargs.pop(name) for name in View.__annotations__})
        return function(*args, view=view, **kwargs)

    return options(*_OPTIONS)(with_view)  # type: ignore[return-value] # the view is made of the options


def _names(_: object, __: object, columns: str | None) -> tuple[str, ...] | None:
    if columns is None:
        return None
    return tuple(name.strip() for name in columns.split(",") if name.strip())


since_options = options(
    click.option("--since", metavar="TIME", help="From this time on: 2026-11, yesterday, -7d."),
    click.option("--until", metavar="TIME", help="Up to and with this time."),
)

where_option = click.option(
    "--where",
    metavar="QUERY",
    multiple=True,
    callback=with_words,
    shell_complete=completion.query_words,
    help="A query word, as the lists take them; may be given several times.",
)


run_options = options(
    operation_option("operation_type", help="Only this operation."),
    speaker_option(help="Only recordings of this speaker: a name, or id:3."),
    since_options,
    where_option,
)

filter_options = options(
    speaker_option(**_SEVERAL, help="Of this speaker: a name, or id:3."),
    tag_option(help="Of speakers with this tag."),
    model_option(**_SEVERAL, help="Of this model: demucs, or demucs:4.0."),
    operation_option(**_SEVERAL, help="Of this operation: voice_separation."),
    since_options,
)

state_options = options(
    click.option("--failed", is_flag=True, help="Only what failed."),
    click.option("--unfinished", is_flag=True, help="Only what goes on, or whose process died."),
    click.option("--success", is_flag=True, help="Only what succeeded."),
)

_OPTIONS: Final = (
    words_argument(),
    click.option(
        "--sort",
        metavar="FIELDS",
        shell_complete=completion.columns,
        help="Order, such as 'name,-id'; '-' descends.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(min=0),
        default=_SHOWN,
        show_default=True,
        metavar="N",
        help="How many to show.",
    ),
    click.option(
        "--offset", type=click.IntRange(min=0), default=0, metavar="N", help="How many to skip."
    ),
    click.option("--all", "everything", is_flag=True, help="Show all."),
    click.option(
        "--columns",
        metavar="NAMES",
        callback=_names,
        shell_complete=completion.columns,
        help="What to show, such as 'id,name'.",
    ),
    click.option("--json", "style", flag_value="json", help="A JSON array."),
    click.option("--jsonl", "style", flag_value="jsonl", help="A JSON object a line."),
    click.option("--csv", "style", flag_value="csv", help="CSV with a heading."),
    click.option("--raw", is_flag=True, help="CSV texts as stored, formulas and all."),
)
