"""What the words of a command line mean: values, durations, times and models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from voices_peewee.rendering.plain import printable


def assignments(texts: Sequence[str], option: str) -> dict[str, object]:
    """Read ``KEY=VALUE`` texts; a value is JSON where it can be read so, else text.

    A number that JSON would write otherwise, such as the version 4.10, stays text.
    """
    values: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(printable(f"{option} takes KEY=VALUE, not {text!r}"))
        values[key] = _json_or_text(value)
    return values


def _json_or_text(text: str) -> object:
    import json

    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return text if is_number and json.dumps(value) != text else value


def _no_number(name: str) -> float:
    raise ValueError(name)  # NaN and Infinity are no JSON


def duration(text: str | None, option: str) -> float | None:
    """Read a duration such as 90m, 36h or 2d, in seconds."""
    if text is None:
        return None
    from voices_peewee.search.words import number

    try:
        has_unit = not text[-1:].isdigit()  # seconds, or days? it has to be said
        return number("seconds", text if has_unit else "")
    except ValueError as error:
        raise _unreadable(option, text, "a duration with its unit, as 90m, 36h or 2d") from error


def _unreadable(option: str, text: str, expected: str) -> click.UsageError:
    return click.UsageError(printable(f"{option} {text!r} cannot be read; it takes {expected}"))


def time_bounds(since: str | None, until: str | None) -> dict[str, Any]:
    """Read ``--since`` and ``--until`` as the lists do: what they name is included."""
    start, end = _bound("--since", since, 0), _bound("--until", until, 1)
    if start is not None and end is not None and start >= end:
        raise click.UsageError(printable(f"--until {until!r} lies before --since {since!r}"))
    return {"since": start, "until": end}


def _bound(option: str, text: str | None, end: int) -> Any:
    if text is None:
        return None
    import datetime as dt

    from voices_peewee.search.words import EXPECTED, Span, times

    try:
        return times(Span(*((text, None), (None, text))[end]), dt.datetime.now(dt.UTC))[end]
    except ValueError as error:
        raise _unreadable(option, text, EXPECTED["time"]) from error


def split_model(text: str | None) -> dict[str, Any]:
    """Split ``demucs:4.0`` at its last colon into the arguments ``model_type, model_version``."""
    if text is None:
        return {}
    model, colon, version = text.rpartition(":")
    return {"model_type": model, "model_version": version} if colon else {"model_type": version}


def roots(texts: Sequence[str]) -> dict[str, str]:
    """Read the ``OLD=NEW`` texts of ``--path-map``."""
    found: dict[str, str] = {}
    for text in texts:
        old, _, new = text.partition("=")
        if not old or not new:
            raise click.UsageError(printable(f"--path-map takes OLD=NEW, not {text!r}"))
        found[old] = new
    return found
