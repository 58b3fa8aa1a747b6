"""What the TAB key completes beside commands and options: names of fields, and of what is recorded.

The fields stand here, so that no key press loads Peewee; a test compares them with the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import click

from voices_peewee.schema.vocabulary import METRIC_COLUMNS

Complete = Callable[[click.Context, click.Parameter, str], list[str]]

_FILE: Final = (
    "filename file name speaker speaker_id kind recording_id recording file_format format "
    "duration length sample_rate rate channels file_size size original_path processed_path "
    "output content_hash hash metadata"
)
_RUN: Final = (
    "run_id run operation_type operation op model model_type model_version version status "
    "success start_time started end_time ended error error_message parameters params "
    "source_hash process model_hash note environment"
)
_MEASURED: Final = f"{' '.join(METRIC_COLUMNS)} rtf took cpu memory additional_metrics metrics"
_COLUMNS: Final = {
    "speakers": "id name description tags tag files created_at added updated_at changed",
    "files": f"id {_FILE} read_at read created_at added updated_at changed",
    "history": f"id file_id {_FILE} {_RUN} {_MEASURED} tag tags",
    "performance": f"id history_id {_FILE} {_RUN} {_MEASURED} created_at added tag tags",
}
_OF_A_RUN: Final = "path git slurm run.tag run.tags"
_ONLY_WORDS: Final = {  # which --columns and --sort do not know
    "speakers": "speaker",
    "files": f"{_OF_A_RUN} tag tags {_RUN} {_MEASURED}",
    **dict.fromkeys(("history", "performance"), f"{_OF_A_RUN} speaker.tag speaker.tags"),
}
FIELDS: Final = {noun: f"{names} {_ONLY_WORDS[noun]}" for noun, names in _COLUMNS.items()}
NOUNS: Final = tuple(FIELDS)
_VALUES: Final = {
    "status": ("failed", "success", "unfinished"),
    "kind": ("recording", "stem", "voice"),
}
_RECORDED: Final = {
    "speaker": "speakers",
    "model": "models",
    **dict.fromkeys(("operation_type", "operation", "op"), "operations"),
    **dict.fromkeys(("tag", "tags", "speaker.tag", "run.tag"), "tags"),
}
_AGAINST: Final = ("duration", "sample_rate", "channels", "file_size")


def one_of(*names: str) -> Complete:
    """Return what completes words that are known beforehand."""
    return lambda _, __, start: list(_begin(names, start))


def _either(
    kind: str, names: Iterable[str], ctx: click.Context, _: click.Parameter, start: str
) -> list[str]:
    """Complete names known beforehand, and what the record has of a kind."""
    return list(dict.fromkeys([*_begin(names, start), *_recorded(ctx, kind, start)]))


speakers = partial(_either, "speakers", ())
models = partial(_either, "models", ())
operations = partial(_either, "operations", ())
tags = partial(_either, "tags", ())
metrics = partial(_either, "metrics", METRIC_COLUMNS)
against = partial(_either, "metrics", (*_AGAINST, *METRIC_COLUMNS))


def _recorded(ctx: click.Context, kind: str, start: str) -> list[str]:
    """Return what the record has of a kind; nothing where it is missing, locked or no record."""
    from voices_peewee.database.glimpse import glimpse, recorded

    options = ctx.find_object(dict) or {}
    target = options.get("database") or ctx.find_root().params.get("db")
    found: list[str] = []
    # Words about an error would stand in the user's command line; what came before it counts.
    with suppress(Exception), glimpse(target) as ask:
        found.extend(recorded(ask, kind, start))
    return list(dict.fromkeys(found))


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
    return sorted(_begin(FIELDS[_noun(ctx)].split(), start))


def _noun(ctx: click.Context) -> str:
    """Return the list that a command is about; a question is about what was measured."""
    name = (ctx.info_name or "").removeprefix("list-")
    return {"pending": "files", "failures": "history"}.get(
        name, name if name in FIELDS else "performance"
    )


def columns(ctx: click.Context, _: click.Parameter, start: str) -> list[str]:
    """Complete the last of several columns; ``-`` before one is for an order."""
    noun = (ctx.info_name or "").removeprefix("list-")
    return _listed(_COLUMNS.get(noun, "").split(), start)


def groupings(_: click.Context, __: click.Parameter, start: str) -> list[str]:
    """Complete the last of several fields that make groups."""
    return _listed(FIELDS["performance"].split(), start)


def _listed(names: Iterable[str], start: str) -> list[str]:
    head, comma, last = start.rpartition(",")
    before = head + comma + "-" * last.startswith("-")
    return sorted(before + name for name in _begin(names, last.removeprefix("-")))


def migrations(ctx: click.Context, _: click.Parameter, start: str) -> list[str]:
    """Complete the name of a migration of the package, or of --migrations-dir."""
    package = Path(__file__).parents[1]
    installed = package / "migration_files"  # as migrations.history says, which loads Peewee
    packaged = installed if installed.is_dir() else package.parent / "migrations"
    folders = filter(None, (packaged, ctx.find_root().params.get("migrations_dir")))
    files = chain.from_iterable(Path(folder).glob("[0-9]*.py") for folder in folders)
    return sorted(_begin((file.stem for file in files), start))
