"""The options that commands share, and how their words are read: values, durations, models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from voices_peewee.cli import completion
from voices_peewee.cli.common import say
from voices_peewee.cli.output import takes_view

F = TypeVar("F", bound=Callable[..., Any])


def several(*each: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that gives a command several options."""

    def decorate(function: F) -> F:
        for option in reversed(each):
            function = option(function)
        return function

    return decorate


def assignments(_: object, __: object, texts: Sequence[str]) -> dict[str, object]:
    """Read ``KEY=VALUE`` texts; a value is JSON where it can be read so, else text.

    A number that JSON would write otherwise, such as the version 4.10, stays text, with a note.
    """
    found: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE")
        found[key] = _json_or_text(key, value)
    return found


def roots(_: object, __: object, texts: Sequence[str]) -> dict[str, str]:
    """Read the ``OLD=NEW`` texts of ``--path-map``."""
    found: dict[str, str] = {}
    for old, new in map(_folders, texts):
        if found.setdefault(old, new) != new:
            raise click.BadParameter(f"{old!r} is mapped to {found[old]!r} and to {new!r}")
    return found


def _folders(text: str) -> tuple[str, str]:
    """Part the two folders of a text, which may be called ``snr=5``."""
    old, equals, new = text.partition("=")
    if "=" in new:
        old, equals, new = text.partition("=/")
        new = f"/{new}"
        if not equals or "=/" in new:
            raise click.BadParameter(f"{text!r} has several '='; name NEW by its path from / on")
    if not equals or not old:
        raise click.BadParameter(f"{text!r} is not OLD=NEW")
    return old, new


def joined(_: object, __: object, texts: Sequence[str]) -> str:
    """Read an option that may be given several times as one list with commas."""
    return ",".join(texts)


def _json_or_text(key: str, text: str) -> object:
    import json

    try:
        value = json.loads(text, parse_constant=str)  # NaN is no number of JSON
    except (ValueError, RecursionError):
        return text
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (number := json.dumps(value)) == text:
        return value
    if math.isfinite(value):
        say(f"note: {key}={text} is taken as text; the number is written {number}")
    return text


def duration(_: object, __: object, text: str | None) -> float | None:
    """Read a duration such as 90m, 36h or 2d, in seconds."""
    if text is None:
        return None
    from voices_peewee.search.words import number

    try:
        has_unit = not text[-1:].isdigit()  # seconds, or days? it has to be said
        return number("seconds", text if has_unit else "")
    except ValueError as error:
        expected = "a duration with its unit, as 90m, 36h or 2d"
        raise click.BadParameter(f"{text!r} cannot be read; it takes {expected}") from error


def only_one(_: object, __: object, names: tuple[str, ...]) -> str | None:
    """Return the one name that an option has, or None."""
    if len(names) > 1:
        raise click.BadParameter(f"it takes one, not {len(names)}")
    return names[0] if names else None


def model_parts(ctx: click.Context, param: object, names: tuple[str, ...]) -> None:
    """Split ``demucs:4.0`` at its last colon into ``model_type`` and ``model_version``."""
    model, colon, version = (only_one(ctx, param, names) or "").rpartition(":")
    parts = (model, version) if colon else (version or None, None)
    ctx.params |= dict(zip(("model_type", "model_version"), parts, strict=True))


def with_words(ctx: click.Context, _: object, words: tuple[str, ...]) -> tuple[str, ...]:
    """Put query words beside those that ``where`` has already."""
    words = (*ctx.params.get("where", ()), *words)
    ctx.params["where"] = words
    return words


# Of two names click would keep the second without a word.
_named = partial(click.option, multiple=True, callback=only_one)
speaker = partial(_named, "--speaker", metavar="SPEAKER", shell_complete=completion.speakers)
tag = partial(click.option, "--tag", metavar="TAG", multiple=True, shell_complete=completion.tags)
model = partial(_named, "--model", metavar="MODEL", shell_complete=completion.models)
one_model = partial(
    model,
    callback=model_parts,
    expose_value=False,
    help="Only this model: demucs, or demucs:4.0.",
)
operation = partial(_named, "--operation", metavar="OP", shell_complete=completion.operations)
output = partial(click.option, "--output", "-o", type=click.Path(path_type=Path), metavar="FILE")
direction = click.option(
    "--higher-is-better/--lower-is-better",
    default=None,
    help="The direction of a metric where it is not known.",
)
overwrite = click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
raw = click.option("--raw", is_flag=True, help="CSV texts as stored, formulas and all.")
param = click.option(
    "--param",
    "parameters",
    metavar="KEY=VALUE",
    multiple=True,
    callback=assignments,
    help="One parameter; may be given several times.",
)
words = partial(
    click.argument,
    "words",
    nargs=-1,
    metavar="[QUERY]...",
    shell_complete=completion.query_words,
)
where_words = words(callback=with_words, expose_value=False)
by = partial(
    click.option,
    "--by",
    multiple=True,
    callback=joined,
    metavar="FIELDS",
    shell_complete=completion.groupings,
)
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
no_backup = click.option(
    "--no-backup", is_flag=True, help="Do not back a populated database up first."
)
json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")

A_PATH = click.Path(readable=False)  # which the TAB key completes

export_to = click.option(
    "--export-to",
    metavar="PATH",
    type=A_PATH,
    help="First write what goes to a new file, as JSON lines.",
)

path_map = click.option(
    "--path-map",
    metavar="OLD=NEW",
    multiple=True,
    callback=roots,
    help="Folders that are elsewhere here; may be given several times.",
)

since = several(
    click.option("--since", metavar="TIME", help="From this time on: 2026-11, yesterday, -7d."),
    click.option("--until", metavar="TIME", help="Up to and with this time."),
)

where = click.option(
    "--where",
    metavar="QUERY",
    multiple=True,
    callback=with_words,
    shell_complete=completion.query_words,
    help="A query word, as the lists take them; may be given several times.",
)


runs = several(
    operation("operation_type", help="Only this operation."),
    speaker(help="Only recordings of this speaker: a name, or id:3."),
    since,
    where,
)

filters = several(
    speaker(callback=None, help="Of this speaker: a name, or id:3."),
    tag(help="Of speakers with this tag."),
    model(callback=None, help="Of this model: demucs, or demucs:4.0."),
    operation(callback=None, help="Of this operation: voice_separation."),
    since,
)

states = several(
    click.option("--failed", is_flag=True, help="Only what failed."),
    click.option("--unfinished", is_flag=True, help="Only what goes on, or whose process died."),
    click.option("--success", is_flag=True, help="Only what succeeded."),
)

metric = several(
    click.option(
        "--metric",
        default="si_snri",
        metavar="NAME",
        shell_complete=completion.metrics,
        help="[default: si_snri]",
    ),
    direction,
)
baseline = click.option(
    "--baseline",
    metavar="A",
    shell_complete=completion.models,
    help="Compare all others with this one, not every pair.",
)
styles = several(
    click.option("--json", "style", flag_value="json", help="JSON instead of text."),
    click.option("--md", "style", flag_value="md", help="Markdown, for a job summary."),
    click.option("--latex", "style", flag_value="latex", help="LaTeX with booktabs."),
)

lists = several(
    words(),
    click.option(
        "--sort",
        metavar="FIELDS",
        shell_complete=completion.columns,
        help="Order, such as 'name,-id'; '-' descends.",
    ),
    click.option(
        "--limit",
        type=click.IntRange(min=0),
        default=50,
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
        shell_complete=completion.columns,
        help="What to show, such as 'id,name'.",
    ),
    click.option("--json", "style", flag_value="json", help="A JSON array."),
    click.option("--jsonl", "style", flag_value="jsonl", help="A JSON object a line."),
    click.option("--csv", "style", flag_value="csv", help="CSV with a heading."),
    raw,
    takes_view,
)
