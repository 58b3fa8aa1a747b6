"""What the TAB key completes beside commands and options: fields, and what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from voices_peewee.cli.common import opened_late, without_drivers

Complete = Callable[[click.Context, click.Parameter, str], list[str]]

NOUNS: Final = ("speakers", "files", "history", "performance")
_METRICS: Final = ("si_snri", "sdri")
_COSTS: Final = ("real_time_factor", "processing_time", "cpu_usage", "memory_usage")
_MOST: Final = 200  # names of one kind
_PATIENCE: Final = 0.2  # s
_VALUES: Final = {
    "status": ("failed", "success", "unfinished"),
    "kind": ("recording", "stem", "voice"),
}
_RECORDED: Final = {
    "speaker": "speakers",
    "model": "models",
    **dict.fromkeys(("operation_type", "operation", "op"), "operations"),
    **dict.fromkeys(("tag", "tags", "speaker.tag", "run.tag"), "tags"),
    **dict.fromkeys(("file_format", "format"), "formats"),
}
_AGAINST: Final = ("duration", "sample_rate", "channels", "file_size")


def one_of(*names: str) -> Complete:
    """Return what completes words that are known beforehand."""
    return lambda _, __, start: [name for name in names if name.startswith(start)]


def _complete(
    ctx: click.Context, _: click.Parameter, start: str, *, kind: str, names: Iterable[str] = ()
) -> list[str]:
    """Complete speakers, models, … of the record, and names known beforehand."""
    return [*dict.fromkeys([*_begin(names, start), *_recorded(ctx, kind, start)])]


speakers = partial(_complete, kind="speakers")
models = partial(_complete, kind="models")
operations = partial(_complete, kind="operations")
tags = partial(_complete, kind="tags")
metrics = partial(_complete, kind="metrics", names=(*_METRICS, *_COSTS))
against = partial(_complete, kind="metrics", names=(*_AGAINST, *_METRICS, *_COSTS))


def _recorded(ctx: click.Context, kind: str, start: str) -> list[str]:
    """Return what the record has of a kind; nothing where it is missing, locked or no record."""
    given, root = ctx.find_object(dict) or {}, ctx.find_root().params
    target = given.get("database") or root.get("db")
    options = {"database": target, "migrations_dir": root.get("migrations_dir")}
    try:
        with opened_late({**options, "timeout": _PATIENCE}) as manager:
            from voices_peewee.search.recorded import recorded

            return [*_begin(recorded(manager.store, kind), start)][:_MOST]
    except Exception:  # noqa: BLE001 - words about an error would stand in the user's command line
        return []


def _begin(names: Iterable[str], start: str) -> Iterator[str]:
    return (name for name in names if name.startswith(start))


def query_words(ctx: click.Context, _: click.Parameter, start: str) -> list[str]:
    """Complete a query word: its field, or behind the colon its value."""
    sign, word = ("^", start[1:]) if start.startswith("^") else ("", start)
    field, colon, values = word.partition(":")
    if not colon:
        return [f"{sign}{name}:" for name in _fields(ctx, field)]
    head, comma, value = values.rpartition(",")
    before = f"{sign}{field}:{head}{comma}"
    if field in _VALUES:
        return [before + name for name in _begin(_VALUES[field], value)]
    kind = _RECORDED.get(field)
    return [before + name for name in _recorded(ctx, kind, value)] if kind else []


def _fields(ctx: click.Context, start: str) -> list[str]:
    if start.startswith("metrics."):
        head, dot, key = start.partition(".")
        return [head + dot + name for name in _recorded(ctx, "metrics", key)]
    return sorted(_begin(_known(_noun(ctx)), start))


def _known(noun: str) -> Mapping[str, Any]:
    """Return the fields of a list by their names, as query words know them."""
    with without_drivers(None):
        from voices_peewee.search.columns import LISTS
    fields = LISTS[noun].fields if noun in LISTS else {}
    return {name: field for name, field in fields.items() if name != "since"}


def _noun(ctx: click.Context) -> str:
    """Return the list that a command is about; a question is about what was measured."""
    name = (ctx.info_name or "").removeprefix("list-")
    return {"pending": "files", "failures": "history"}.get(
        name, name if name in NOUNS else "performance"
    )


def columns(ctx: click.Context, _: click.Parameter, start: str) -> list[str]:
    """Complete the last of several columns; ``-`` before one is for an order."""
    fields = _known((ctx.info_name or "").removeprefix("list-"))
    return _listed([name for name, field in fields.items() if not field.hidden], start)


def groupings(_: click.Context, __: click.Parameter, start: str) -> list[str]:
    """Complete the last of several fields that make groups."""
    return _listed(_known("performance"), start)


def _listed(names: Iterable[str], start: str) -> list[str]:
    head, comma, last = start.rpartition(",")
    before = head + comma + "-" * last.startswith("-")
    return sorted(before + name for name in _begin(names, last.removeprefix("-")))


def migrations(ctx: click.Context, _: click.Parameter, start: str) -> list[str]:
    """Complete the name of a migration of the package, or of --migrations-dir."""
    from voices_peewee.errors import MigrationError
    from voices_peewee.migrations.history import names as names_in
    from voices_peewee.migrations.history import package_directory

    own = ctx.find_root().params.get("migrations_dir")
    try:
        names = names_in([package_directory(), *([Path(own)] if own else [])])
    except MigrationError:
        return []
    return [*_begin(names, start)]
